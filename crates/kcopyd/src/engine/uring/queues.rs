//! How many requests are in the ring for each queue beneath the devices, how much they move, and which wait because a queue holds no
//! more. What finds no room there is handed to a worker of the kernel's, which costs more than the wait. It refuses to start anything.

use std::collections::VecDeque;

use crate::copy::chain::{DeviceIndex, Operation, Step};
use crate::copy::region::DeviceKind;
use crate::engine::device;
use crate::engine::in_flight::StepKey;

/// What a queue holds that does not say so.
const USUAL: u32 = 128;

/// The queues of the attached devices. A disk and its partitions have the same. A file has one of its own, as long as that of the
/// disk: a file system that does not answer is not to stop who uses the disk without it (P4).
#[derive(Default)]
pub struct Queues {
    queues: Vec<Queue>,
    devices: Vec<Attached>,
    waiting: usize,
    pressure_bytes: u64,
}

#[derive(Clone, Copy, Default)]
struct Attached {
    queue: usize,
    /// So many bytes that are moved count as one.
    weight: u64,
}

/// A file that grows lets one write in at a time; what is read from the same disk meanwhile, all at once because several answers
/// were waited for together, holds that one up. So there a few answers are to be waited for and no more.
const FILE_WEIGHT: u64 = 8;

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
    pub fn attach(&mut self, device: DeviceIndex, kind: DeviceKind, beneath: Option<device::Queue>) {
        let disk = beneath.filter(|_| kind == DeviceKind::Block).map(|queue| queue.disk);
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
        if self.devices.len() <= place {
            self.devices.resize(place + 1, Attached::default());
        }
        let weight = if kind == DeviceKind::File { FILE_WEIGHT } else { 1 };
        self.devices[place] = Attached { queue: index, weight };
    }

    /// A device is detached, after the last request for it.
    pub fn detach(&mut self, device: DeviceIndex) {
        self.queue(device).devices -= 1;
    }

    fn queue(&mut self, device: DeviceIndex) -> &mut Queue {
        &mut self.queues[self.devices[device.0 as usize].queue]
    }

    /// Whether a request needs room in a queue. A flush may turn out to be no request at all; zeroing is work for one of the
    /// kernel's workers wherever there is room, and may take long.
    pub fn needs_room(step: &Step) -> bool {
        matches!(step.operation, Operation::Read | Operation::Write)
    }

    /// How much a transfer says for waiting for several answers at once.
    fn weighed(&self, step: &Step) -> u64 {
        u64::from(step.length_bytes) / self.devices[step.device.0 as usize].weight
    }

    /// How many bytes the requests in the ring move, those of files weighed.
    pub fn pressure_bytes(&self) -> u64 {
        self.pressure_bytes
    }

    /// Whether a request may go into the ring now; if not, it has joined those that wait. Nobody overtakes who waits (P4, P20).
    pub fn admit_or_keep(&mut self, step: &Step, request: StepKey) -> bool {
        if !Self::needs_room(step) {
            return true;
        }
        let queue = self.queue(step.device);
        let admitted = queue.has_room() && queue.waiting.is_empty();
        if !admitted {
            queue.waiting.push_back(request);
            self.waiting += 1;
        }
        admitted
    }

    /// A request goes into the ring.
    pub fn enter(&mut self, step: &Step) {
        if Self::needs_room(step) {
            self.pressure_bytes += self.weighed(step);
            self.queue(step.device).in_ring += 1;
        }
    }

    /// A request has come out of the ring.
    pub fn leave(&mut self, step: &Step) {
        if Self::needs_room(step) {
            self.pressure_bytes -= self.weighed(step);
            self.queue(step.device).in_ring -= 1;
        }
    }

    /// A request that had been admitted came out of the ring because the kernel did not take it: it is the next again.
    pub fn take_back(&mut self, step: &Step, request: StepKey) {
        self.leave(step);
        self.queue(step.device).waiting.push_front(request);
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
    use crate::copy::chain::BufferStart;

    fn beneath(disk: u64, requests_max: u32) -> Option<device::Queue> {
        Some(device::Queue { disk, request_bytes_max: 1 << 20, requests_max: Some(requests_max), rotational: false })
    }

    fn transfer(operation: Operation, device: DeviceIndex, length_bytes: u32) -> Step {
        Step { operation, device, offset_bytes: 0, length_bytes, buffer: BufferStart { page: 0, offset_bytes: 0 } }
    }

    fn page(device: DeviceIndex) -> Step {
        transfer(Operation::Read, device, 4096)
    }

    /// What becomes of requests that come now: those that go at once.
    fn come(queues: &mut Queues, device: DeviceIndex, requests: std::ops::Range<u64>) -> Vec<u64> {
        let mut goes = Vec::new();
        for request in requests {
            if queues.admit_or_keep(&page(device), StepKey(request)) {
                queues.enter(&page(device));
                goes.push(request);
            }
        }
        goes
    }

    /// Those that have waited and go now.
    fn go_on(queues: &mut Queues, device: DeviceIndex) -> Vec<u64> {
        let admitted = queues.admit_waiting();
        admitted.iter().for_each(|_| queues.enter(&page(device)));
        admitted.into_iter().map(|request| request.0).collect()
    }

    #[test]
    fn p4_who_waits_goes_in_the_order_of_coming_and_nobody_overtakes() {
        let mut queues = Queues::default();
        let device = DeviceIndex(0);
        queues.attach(device, DeviceKind::Block, beneath(7, 2));
        assert_eq!(come(&mut queues, device, 0..5), [0, 1]);
        assert!(!queues.has_admissible());
        queues.leave(&page(device));
        assert!(queues.has_admissible());
        assert!(come(&mut queues, device, 5..6).is_empty(), "there is room, but for somebody else");
        assert_eq!(go_on(&mut queues, device), [2]);
        queues.leave(&page(device));
        queues.leave(&page(device));
        assert_eq!(go_on(&mut queues, device), [3, 4]);
        queues.leave(&page(device));
        assert_eq!(go_on(&mut queues, device), [5]);
        queues.leave(&page(device));
        assert_eq!(come(&mut queues, device, 6..8), [6]);
    }

    #[test]
    fn what_the_kernel_did_not_take_is_the_next_again() {
        let mut queues = Queues::default();
        let device = DeviceIndex(3);
        queues.attach(device, DeviceKind::Block, beneath(7, 2));
        assert_eq!(come(&mut queues, device, 0..4), [0, 1]);
        queues.take_back(&page(device), StepKey(1));
        queues.take_back(&page(device), StepKey(0));
        assert_eq!(go_on(&mut queues, device), [0, 1]);
        assert_eq!(queues.give_up(), [StepKey(2), StepKey(3)]);
        assert_eq!(queues.give_up(), []);
    }

    #[test]
    fn devices_over_one_queue_share_its_room_and_the_others_have_their_own() {
        let mut queues = Queues::default();
        let [first, second, other, unknown] = [0, 1, 2, 3].map(DeviceIndex);
        queues.attach(first, DeviceKind::Block, beneath(7, 3));
        queues.attach(second, DeviceKind::Block, beneath(7, 3));
        queues.attach(other, DeviceKind::Block, beneath(8, 1));
        queues.attach(unknown, DeviceKind::Block, None);
        assert_eq!(come(&mut queues, first, 0..2), [0, 1]);
        assert_eq!(come(&mut queues, second, 2..5), [2]);
        assert_eq!(come(&mut queues, other, 5..7), [5]);
        assert_eq!(come(&mut queues, unknown, 100..300).len(), USUAL as usize);
        queues.leave(&page(first));
        assert_eq!(queues.admit_waiting(), [StepKey(3)]);
    }

    #[test]
    fn a_queue_ends_with_its_last_device_and_its_place_is_used_again() {
        let mut queues = Queues::default();
        let [first, second] = [0, 1].map(DeviceIndex);
        queues.attach(first, DeviceKind::Block, beneath(7, 1));
        queues.attach(second, DeviceKind::Block, beneath(7, 1));
        queues.detach(first);
        queues.attach(first, DeviceKind::Block, beneath(8, 2));
        assert_eq!(come(&mut queues, second, 0..2), [0]);
        assert_eq!(come(&mut queues, first, 2..5), [2, 3]);
        queues.leave(&page(second));
        assert_eq!(go_on(&mut queues, second), [1]);
        queues.leave(&page(second));
        queues.detach(second);
        queues.attach(second, DeviceKind::Block, beneath(7, 5));
        assert_eq!(come(&mut queues, second, 5..11), [5, 6, 7, 8, 9], "the queue is as it is now");
        assert_eq!(queues.queues.len(), 2);
    }

    #[test]
    fn a_queue_that_says_it_holds_nothing_takes_one_at_a_time() {
        let mut queues = Queues::default();
        queues.attach(DeviceIndex(0), DeviceKind::Block, beneath(7, 0));
        assert_eq!(come(&mut queues, DeviceIndex(0), 0..3), [0]);
    }

    #[test]
    fn p4_a_file_does_not_share_the_room_of_the_disk_beneath_it() {
        let mut queues = Queues::default();
        let [disk, file, other] = [0, 1, 2].map(DeviceIndex);
        queues.attach(disk, DeviceKind::Block, beneath(7, 2));
        queues.attach(file, DeviceKind::File, beneath(7, 2));
        queues.attach(other, DeviceKind::File, beneath(7, 2));
        assert_eq!(come(&mut queues, file, 0..9), [0, 1], "and these are never answered");
        assert_eq!(come(&mut queues, disk, 10..13), [10, 11]);
        assert_eq!(come(&mut queues, other, 20..23), [20, 21]);
    }

    #[test]
    fn what_is_moved_is_weighed_and_what_moves_nothing_is_not() {
        let mut queues = Queues::default();
        let [disk, file] = [0, 1].map(DeviceIndex);
        queues.attach(disk, DeviceKind::Block, beneath(7, 9));
        queues.attach(file, DeviceKind::File, beneath(7, 9));
        let steps = [
            transfer(Operation::Read, disk, 4096),
            transfer(Operation::Write, file, 4096),
            transfer(Operation::Zero, disk, 1 << 20),
            transfer(Operation::Flush, disk, 0),
        ];
        steps.iter().for_each(|step| queues.enter(step));
        assert_eq!(queues.queues[0].in_ring, 1, "neither zeroing nor a flush takes room");
        assert_eq!(queues.pressure_bytes(), 4096 + 4096 / FILE_WEIGHT);
        steps.iter().for_each(|step| queues.leave(step));
        assert_eq!(queues.pressure_bytes(), 0);
    }
}
