//! How many requests are in the ring for each queue beneath the devices, and which wait because it holds no more. What finds no room
//! in a queue is handed to a worker of the kernel's, which costs more than the wait. It refuses to know what a request does.

use std::collections::VecDeque;

use crate::copy::chain::DeviceIndex;
use crate::engine::device;
use crate::engine::in_flight::StepKey;

/// What a queue holds that does not say so.
const USUAL: u32 = 128;

/// The queues of the attached devices. Files of one file system, and partitions of one disk, have the same.
#[derive(Default)]
pub struct Queues {
    queues: Vec<Queue>,
    /// The queue of each device.
    of_device: Vec<usize>,
    waiting: usize,
}

#[derive(Default)]
struct Queue {
    disk: Option<u64>,
    devices: usize,
    requests_max: u32,
    in_ring: u32,
    waiting: VecDeque<StepKey>,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.in_ring < self.requests_max
    }
}

impl Queues {
    /// A device is attached, with this queue beneath it.
    pub fn attach(&mut self, device: DeviceIndex, beneath: Option<device::Queue>) {
        let disk = beneath.map(|queue| queue.disk);
        let shared = self.queues.iter().position(|queue| disk.is_some() && queue.disk == disk && queue.devices > 0);
        let index = shared.or_else(|| self.queues.iter().position(|queue| queue.devices == 0)).unwrap_or_else(|| {
            self.queues.push(Queue::default());
            self.queues.len() - 1
        });
        if shared.is_none() {
            let requests_max = beneath.and_then(|queue| queue.requests_max).unwrap_or(USUAL).max(1);
            self.queues[index] = Queue { disk, requests_max, ..Queue::default() };
        }
        self.queues[index].devices += 1;
        let place = device.0 as usize;
        if self.of_device.len() <= place {
            self.of_device.resize(place + 1, usize::MAX);
        }
        self.of_device[place] = index;
    }

    /// A device is detached, after the last request for it.
    pub fn detach(&mut self, device: DeviceIndex) {
        self.queue(device).devices -= 1;
    }

    fn queue(&mut self, device: DeviceIndex) -> &mut Queue {
        &mut self.queues[self.of_device[device.0 as usize]]
    }

    /// Whether a request may go into the ring now; if not, it has joined those that wait. Nobody overtakes who waits (P4, P20).
    pub fn admit_or_keep(&mut self, device: DeviceIndex, request: StepKey) -> bool {
        let queue = self.queue(device);
        let admitted = queue.has_room() && queue.waiting.is_empty();
        if !admitted {
            queue.waiting.push_back(request);
            self.waiting += 1;
        }
        admitted
    }

    /// A request goes into the ring.
    pub fn enter(&mut self, device: DeviceIndex) {
        self.queue(device).in_ring += 1;
    }

    /// A request has come out of the ring.
    pub fn leave(&mut self, device: DeviceIndex) {
        self.queue(device).in_ring -= 1;
    }

    /// A request that had been admitted came out of the ring because the kernel did not take it: it is the next again.
    pub fn take_back(&mut self, device: DeviceIndex, request: StepKey) {
        self.leave(device);
        self.queue(device).waiting.push_front(request);
        self.waiting += 1;
    }

    /// Whether somebody waits who may go.
    pub fn has_admissible(&self) -> bool {
        self.waiting > 0 && self.queues.iter().any(|queue| queue.has_room() && !queue.waiting.is_empty())
    }

    /// Those who have waited and may go now, the oldest first. They must go into the ring, or come home, before this is asked again.
    pub fn admit_waiting(&mut self) -> Vec<StepKey> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let mut admitted = Vec::new();
        for queue in &mut self.queues {
            let room = queue.requests_max.saturating_sub(queue.in_ring) as usize;
            let count = room.min(queue.waiting.len());
            admitted.extend(queue.waiting.drain(..count));
        }
        self.waiting -= admitted.len();
        admitted
    }

    /// All who wait, because none of them will be started.
    pub fn give_up(&mut self) -> Vec<StepKey> {
        self.waiting = 0;
        self.queues.iter_mut().flat_map(|queue| queue.waiting.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beneath(disk: u64, requests_max: u32) -> Option<device::Queue> {
        Some(device::Queue { disk, request_bytes_max: 1 << 20, requests_max: Some(requests_max), rotational: false })
    }

    /// What becomes of requests that come now: those that go at once.
    fn come(queues: &mut Queues, device: DeviceIndex, requests: std::ops::Range<u64>) -> Vec<u64> {
        let mut goes = Vec::new();
        for request in requests {
            if queues.admit_or_keep(device, StepKey(request)) {
                queues.enter(device);
                goes.push(request);
            }
        }
        goes
    }

    /// Those that have waited and go now.
    fn go_on(queues: &mut Queues, device: DeviceIndex) -> Vec<u64> {
        let admitted = queues.admit_waiting();
        admitted.iter().for_each(|_| queues.enter(device));
        admitted.into_iter().map(|request| request.0).collect()
    }

    #[test]
    fn p4_who_waits_goes_in_the_order_of_coming_and_nobody_overtakes() {
        let mut queues = Queues::default();
        let device = DeviceIndex(0);
        queues.attach(device, beneath(7, 2));
        assert_eq!(come(&mut queues, device, 0..5), [0, 1]);
        assert!(!queues.has_admissible());
        queues.leave(device);
        assert!(queues.has_admissible());
        assert!(come(&mut queues, device, 5..6).is_empty(), "there is room, but for somebody else");
        assert_eq!(go_on(&mut queues, device), [2]);
        queues.leave(device);
        queues.leave(device);
        assert_eq!(go_on(&mut queues, device), [3, 4]);
        queues.leave(device);
        assert_eq!(go_on(&mut queues, device), [5]);
        queues.leave(device);
        assert_eq!(come(&mut queues, device, 6..8), [6]);
    }

    #[test]
    fn what_the_kernel_did_not_take_is_the_next_again() {
        let mut queues = Queues::default();
        let device = DeviceIndex(3);
        queues.attach(device, beneath(7, 2));
        assert_eq!(come(&mut queues, device, 0..4), [0, 1]);
        queues.take_back(device, StepKey(1));
        queues.take_back(device, StepKey(0));
        assert_eq!(go_on(&mut queues, device), [0, 1]);
        assert_eq!(queues.give_up(), [StepKey(2), StepKey(3)]);
        assert_eq!(queues.give_up(), []);
    }

    #[test]
    fn devices_over_one_queue_share_its_room_and_the_others_have_their_own() {
        let mut queues = Queues::default();
        let [first, second, other, unknown] = [0, 1, 2, 3].map(DeviceIndex);
        queues.attach(first, beneath(7, 3));
        queues.attach(second, beneath(7, 3));
        queues.attach(other, beneath(8, 1));
        queues.attach(unknown, None);
        assert_eq!(come(&mut queues, first, 0..2), [0, 1]);
        assert_eq!(come(&mut queues, second, 2..5), [2]);
        assert_eq!(come(&mut queues, other, 5..7), [5]);
        assert_eq!(come(&mut queues, unknown, 100..300).len(), USUAL as usize);
        queues.leave(first);
        assert_eq!(queues.admit_waiting(), [StepKey(3)]);
    }

    #[test]
    fn a_queue_ends_with_its_last_device_and_its_place_is_used_again() {
        let mut queues = Queues::default();
        let [first, second] = [0, 1].map(DeviceIndex);
        queues.attach(first, beneath(7, 1));
        queues.attach(second, beneath(7, 1));
        queues.detach(first);
        queues.attach(first, beneath(8, 2));
        assert_eq!(come(&mut queues, second, 0..2), [0]);
        assert_eq!(come(&mut queues, first, 2..5), [2, 3]);
        queues.leave(second);
        assert_eq!(go_on(&mut queues, second), [1]);
        queues.leave(second);
        queues.detach(second);
        queues.attach(second, beneath(7, 5));
        assert_eq!(come(&mut queues, second, 5..11), [5, 6, 7, 8, 9], "the queue is as it is now");
        assert_eq!(queues.queues.len(), 2);
    }

    #[test]
    fn a_queue_that_says_it_holds_nothing_takes_one_at_a_time() {
        let mut queues = Queues::default();
        queues.attach(DeviceIndex(0), beneath(7, 0));
        assert_eq!(come(&mut queues, DeviceIndex(0), 0..3), [0]);
    }
}
