//! How many requests each device has in the kernel, and which wait because its queue holds no more. What finds no room in a
//! queue is handed to a worker of the kernel's, which costs more than the wait. It refuses to know what a request does.

use std::collections::VecDeque;

use crate::copy::chain::DeviceIndex;
use crate::engine::in_flight::StepKey;

/// What a queue holds that does not say so.
const USUAL: u32 = 128;

/// The queues of the attached devices.
#[derive(Default)]
pub struct Queues {
    devices: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    requests_max: u32,
    in_kernel: u32,
    waiting: VecDeque<StepKey>,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.in_kernel < self.requests_max
    }
}

impl Queues {
    /// A device's queue, which holds so many requests, if it says so.
    pub fn open(&mut self, device: DeviceIndex, requests_max: Option<u32>) {
        let index = device.0 as usize;
        if self.devices.len() <= index {
            self.devices.resize_with(index + 1, Queue::default);
        }
        self.devices[index] = Queue { requests_max: requests_max.unwrap_or(USUAL).max(1), ..Queue::default() };
    }

    /// Whether a request may go to the kernel, and then it must; if not, it waits until `leave` names it.
    pub fn may_enter(&mut self, device: DeviceIndex, request: StepKey) -> bool {
        let queue = &mut self.devices[device.0 as usize];
        let has_room = queue.has_room();
        if !has_room {
            queue.waiting.push_back(request);
        }
        has_room
    }

    /// A request has gone to the kernel.
    pub fn enter(&mut self, device: DeviceIndex) {
        self.devices[device.0 as usize].in_kernel += 1;
    }

    /// A request has come back from the kernel: the one that may go now, and must, if there is room and one waits.
    pub fn leave(&mut self, device: DeviceIndex) -> Option<StepKey> {
        let queue = &mut self.devices[device.0 as usize];
        queue.in_kernel -= 1;
        if queue.has_room() { queue.waiting.pop_front() } else { None }
    }

    /// All that wait, because none of them will be started.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = StepKey> + '_ {
        self.devices.iter_mut().flat_map(|queue| queue.waiting.drain(..))
    }
}
