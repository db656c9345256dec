//! The line of requests that wait for a worker, and who goes next. A device has only so many workers at once, so that one that
//! is stuck does not hold them all. It refuses to know threads and locks.

use std::collections::VecDeque;

use crate::copy::chain::DeviceIndex;

/// What waits for a worker. Its order is that of arrival, but for devices that have all the workers that they may have.
pub struct Line<T> {
    waiting: VecDeque<(DeviceIndex, T)>,
    share: Share,
}

/// How many workers each device has.
#[derive(Clone)]
struct Share {
    held_by: Vec<usize>,
    held: usize,
    workers_max: usize,
    per_device_max: usize,
}

impl Share {
    /// If there are few workers, a device has half of them at most; but a single one serves everybody.
    fn may_have_more(&self, device: DeviceIndex) -> bool {
        let most = self.per_device_max.min(self.workers_max / 2).max(1);
        self.held < self.workers_max && self.held_by.get(device.0 as usize).is_none_or(|&mine| mine < most)
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
    /// An empty line before so many workers, of which one device may have so many.
    pub fn new(workers_max: usize, per_device_max: usize) -> Line<T> {
        assert!(workers_max > 0 && per_device_max > 0, "requests need a worker");
        let share = Share { held_by: Vec::new(), held: 0, workers_max, per_device_max };
        Line { waiting: VecDeque::new(), share }
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
    fn p4_a_stuck_device_has_its_workers_and_no_more_and_so_have_the_next() {
        let mut line = Line::new(10, 4);
        let held: Vec<usize> = (0..4).map(|device| taken(&mut line, DeviceIndex(device), 100)).collect();
        assert_eq!(held, [4, 4, 2, 0]);
    }

    #[test]
    fn p4_a_request_behind_a_stuck_device_overtakes_what_may_not_go_and_nothing_else() {
        let mut line = Line::new(8, 4);
        assert_eq!(taken(&mut line, STUCK, 100), 4);
        line.push(DeviceIndex(1), 7);
        line.push(DeviceIndex(1), 8);
        assert_eq!(line.ready(), 2);
        assert_eq!(line.next(), Some((DeviceIndex(1), 7)));
        assert_eq!(line.next(), Some((DeviceIndex(1), 8)));
        assert_eq!((line.ready(), line.next()), (0, None));
        line.done(STUCK);
        assert_eq!((line.ready(), line.next()), (1, Some((STUCK, 4))));
    }

    #[test]
    fn p4_where_threads_are_few_a_device_has_half_of_them_and_a_single_one_serves_everybody_in_turn() {
        let mut few = Line::new(8, 4);
        few.limit(3);
        assert_eq!((taken(&mut few, STUCK, 2), taken(&mut few, DeviceIndex(1), 2)), (1, 1));
        let mut line = Line::new(1, 4);
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
