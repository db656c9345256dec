//! The line of requests that wait for a worker, and who goes next. A device never holds more workers than are left to the
//! others: one that is stuck holds half of them at most, a second one half of the rest. It refuses to know threads and locks.

use std::collections::VecDeque;

use crate::copy::chain::DeviceIndex;

/// What waits for a worker. Its order is that of arrival, but for devices that hold their share.
pub struct Line<T> {
    waiting: VecDeque<(DeviceIndex, T)>,
    share: Share,
}

/// How many workers each device holds.
#[derive(Clone)]
struct Share {
    held_by: Vec<usize>,
    held: usize,
    workers_max: usize,
}

impl Share {
    /// A device that holds none always may have one, so that a single worker, too, serves everybody.
    fn may_have_more(&self, device: DeviceIndex) -> bool {
        let left = self.workers_max.saturating_sub(self.held);
        let mine = self.held_by.get(device.0 as usize).copied().unwrap_or(0);
        left > 0 && (mine == 0 || mine < left)
    }

    fn take(&mut self, device: DeviceIndex) {
        let index = device.0 as usize;
        if self.held_by.len() <= index {
            self.held_by.resize(index + 1, 0);
        }
        self.held_by[index] += 1;
        self.held += 1;
    }

    fn give_back(&mut self, device: DeviceIndex) {
        self.held_by[device.0 as usize] -= 1;
        self.held -= 1;
    }
}

impl<T> Line<T> {
    /// An empty line before so many workers.
    pub fn new(workers_max: usize) -> Line<T> {
        assert!(workers_max > 0, "requests need a worker");
        Line { waiting: VecDeque::new(), share: Share { held_by: Vec::new(), held: 0, workers_max } }
    }

    /// At the end of the line.
    pub fn push(&mut self, device: DeviceIndex, request: T) {
        self.waiting.push_back((device, request));
    }

    /// The first whose device may have one more worker, which it then holds until `done`.
    pub fn next(&mut self) -> Option<(DeviceIndex, T)> {
        let position = self.waiting.iter().position(|(device, _)| self.share.may_have_more(*device))?;
        let (device, request) = self.waiting.remove(position)?;
        self.share.take(device);
        Some((device, request))
    }

    /// The device gives one worker back.
    pub fn done(&mut self, device: DeviceIndex) {
        self.share.give_back(device);
    }

    /// So many could go at once if each found a worker.
    pub fn ready(&self) -> usize {
        let mut share = self.share.clone();
        for (device, _) in &self.waiting {
            if share.may_have_more(*device) {
                share.take(*device);
            }
        }
        share.held - self.share.held
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The machine gives no more workers than these.
    pub fn limit(&mut self, workers_max: usize) {
        self.share.workers_max = workers_max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUCK: DeviceIndex = DeviceIndex(0);

    /// How many go of the requests for a device that nobody gives back.
    fn taken(line: &mut Line<u32>, device: DeviceIndex, requests: u32) -> usize {
        (0..requests).for_each(|request| line.push(device, request));
        std::iter::from_fn(|| line.next()).count()
    }

    #[test]
    fn a_stuck_device_leaves_as_many_workers_as_it_holds_and_so_does_the_next() {
        let mut line = Line::new(64);
        let held: Vec<usize> = (0..7).map(|device| taken(&mut line, DeviceIndex(device), 100)).collect();
        assert_eq!(held, [32, 16, 8, 4, 2, 1, 1]);
    }

    #[test]
    fn a_request_behind_a_stuck_device_overtakes_what_may_not_go_and_nothing_else() {
        let mut line = Line::new(8);
        assert_eq!(taken(&mut line, STUCK, 100), 4);
        line.push(DeviceIndex(1), 7);
        line.push(DeviceIndex(1), 8);
        assert_eq!(line.ready(), 2);
        assert_eq!(line.next(), Some((DeviceIndex(1), 7)));
        assert_eq!(line.next(), Some((DeviceIndex(1), 8)));
        line.done(STUCK);
        assert_eq!(line.next(), None, "it holds three, and three are left");
        line.done(DeviceIndex(1));
        assert_eq!(line.next(), Some((STUCK, 4)));
    }

    #[test]
    fn one_worker_serves_everybody_in_turn() {
        let mut line = Line::new(1);
        assert_eq!(taken(&mut line, STUCK, 2), 1);
        line.push(DeviceIndex(9), 9);
        assert_eq!((line.ready(), line.next()), (0, None));
        line.done(STUCK);
        assert_eq!((line.ready(), line.next()), (1, Some((STUCK, 1))));
        line.done(STUCK);
        assert_eq!(line.next(), Some((DeviceIndex(9), 9)));
        assert!(line.is_empty());
    }
}
