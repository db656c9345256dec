//! What is started when, and what an answer means: the way of a chain through the ring. It refuses to know how a ring is
//! made and how the thread waits.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use smallvec::SmallVec;

use super::files::Handle;
use super::queues::Queues;
use super::ring::{Patience, Waiting};
use super::steps::{self, Flushes, StartsByItself};
use super::waker::WAKE;
use super::{Health, Uring};
use crate::copy::chain::{Chain, Completion, Operation, Step, StepResult};
use crate::engine::in_flight::{InFlight, Next, Slot, Start, StepKey};

/// How long the engine sits out a kernel that has no memory for another request, before it asks again.
const STALL: Duration = Duration::from_millis(10);

/// How often in a row it asks again before what was not started has failed: a second.
const STALLS_MAX: u32 = 100;

/// What is to be started with the next submission.
#[derive(Default)]
pub struct Ready {
    /// Chains of which nothing has started.
    pub chains: Vec<Slot>,
    /// Steps that wait for nothing any more.
    pub steps: Vec<StepKey>,
    /// Writes of a linked chain that the kernel did not take although it took the chain's read: they wait for that.
    pub cut_off: Vec<StepKey>,
}

impl Ready {
    /// Whether nothing can be started.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.steps.is_empty()
    }
}

impl Uring {
    /// Puts all that is ready into the ring, as far as the devices' queues have room. Who has waited for room first; then steps:
    /// they finish chains and so give memory back; a chain begins by taking some. Where nothing is started any more, all of
    /// it comes home instead.
    pub(super) fn push_ready(&mut self, completions: &mut Vec<Completion>) {
        match self.health {
            Health::Working => {}
            Health::Draining => return self.fail_all(libc::ECANCELED, completions),
            Health::Broken(errno) => return self.fail_all(errno, completions),
        }
        for key in self.queues.admit_waiting() {
            self.request(key, Flags::empty(), completions);
        }
        for key in std::mem::take(&mut self.ready.steps) {
            self.start_step(key, completions);
        }
        for slot in std::mem::take(&mut self.ready.chains) {
            self.start_chain(slot, completions);
        }
        if let Some(entry) = self.wake.arm() {
            // SAFETY: the waker keeps the eight bytes and the eventfd while it is armed.
            unsafe { self.ring.push(&entry) };
        }
    }

    fn start_chain(&mut self, slot: Slot, completions: &mut Vec<Completion>) {
        let chain = self.book.chain(slot);
        let start = steps::start_for(self.chains, chain, self.flushes_of(chain), self.book.chains());
        self.book.set_start(slot, start);
        self.counters.linked += u64::from(start == Start::Linked);
        self.counters.fan_out += u64::from(start == Start::AfterRead);
        if start == Start::AfterRead {
            for key in self.book.first_steps(slot) {
                self.start_step(key, completions);
            }
            return;
        }
        for position in 0..self.book.chain(slot).steps.len() {
            let link = steps::link_of(self.book.chain(slot), position);
            self.request(self.book.key(slot, position), link, completions);
        }
    }

    fn flushes_of(&self, chain: &Chain) -> Flushes {
        let mut devices = chain.steps.iter().filter(|step| step.operation == Operation::Flush).map(|step| step.device);
        let one_request = |index| {
            let device = self.files.device(index);
            device.parent_directory().is_none() && device.flush_error().is_none()
        };
        if devices.all(one_request) { Flushes::AreOneRequest } else { Flushes::AreNot }
    }

    /// A step by itself waits until its device's queue has room. (The links of a chain cannot be held up one by one.)
    fn start_step(&mut self, key: StepKey, completions: &mut Vec<Completion>) {
        let step = self.book.step(key).expect("only steps in flight are started");
        if self.queues.admit_or_keep(step, key) {
            self.request(key, Flags::empty(), completions);
        }
    }

    fn request(&mut self, key: StepKey, link: Flags, completions: &mut Vec<Completion>) {
        let step = *self.book.step(key).expect("only steps in flight are started");
        if step.operation == Operation::Flush {
            return self.request_flush(key, completions);
        }
        let file = self.files.transfer(step.device, step.offset_bytes, step.length_bytes.into());
        if step.operation == Operation::Zero {
            return self.push(steps::zero(&step, file), key, Some(file));
        }
        let memory = self.buffers.memory(step.buffer, step.length_bytes);
        self.push(steps::transfer(&step, file, memory).flags(link), key, Some(file));
    }

    /// A flush of a device that has failed to flush before fails at once (P18).
    fn request_flush(&mut self, key: StepKey, completions: &mut Vec<Completion>) {
        let index = self.book.step(key).expect("only steps in flight are started").device;
        let device = self.files.device(index);
        if let Some(errno) = device.flush_error() {
            self.flush_answered(key, StepResult::Failed(errno), completions);
        } else if self.directories.contains(&key) {
            let directory = device.parent_directory().expect("a directory that was there is there");
            self.push(steps::flush_directory(directory.as_raw_fd()), key, None);
        } else {
            let file = self.files.flush(index);
            self.push(steps::flush(file), key, Some(file));
        }
    }

    fn push(&mut self, entry: Entry, key: StepKey, file: Option<Handle>) {
        self.counters.count(&entry, file);
        self.queues.enter(self.book.step(key).expect("only steps in flight are started"));
        // SAFETY: the step's pages belong to the engine until its last completion (rule 8), which follows its answer; and the
        // device is attached for as long as a step uses it.
        unsafe { self.ring.push(&entry.user_data(key.0)) };
    }

    /// Everything that is ready, or waits for room in a queue, comes home without having been started.
    fn fail_all(&mut self, errno: i32, completions: &mut Vec<Completion>) {
        self.ready.steps.extend(self.queues.give_up());
        self.fail_ready(errno, completions);
    }

    /// What is ready comes home without having been started.
    fn fail_ready(&mut self, errno: i32, completions: &mut Vec<Completion>) {
        for key in std::mem::take(&mut self.ready.steps) {
            self.finish(key, StepResult::Failed(errno), completions);
        }
        for slot in std::mem::take(&mut self.ready.chains) {
            // So that the steps behind a read come home with it.
            self.book.set_start(slot, Start::AfterRead);
            for key in self.book.first_steps(slot) {
                self.finish(key, StepResult::Failed(errno), completions);
            }
        }
    }

    /// Enters the kernel, and deals with what it refuses.
    pub(super) fn enter(&mut self, patience: Patience, completions: &mut Vec<Completion>) {
        let for_devices = Waiting::ForDevices { pressure_bytes: self.queues.pressure_bytes() };
        let waiting = if self.book.steps() == 0 { Waiting::Idle } else { for_devices };
        let entered = self.ring.enter(patience, waiting);
        self.take_back();
        match entered {
            Ok(()) => self.stalls = 0,
            Err(libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => self.stall(patience, completions),
            Err(errno) => self.health = Health::Broken(errno),
        }
    }

    /// The kernel has no memory for a request, or no room for its answer. An answer that comes home frees some; so wait for
    /// one, but not for long, for there may be none to come.
    fn stall(&mut self, patience: Patience, completions: &mut Vec<Completion>) {
        self.stalls += 1;
        if self.stalls > STALLS_MAX {
            self.stalls = 0;
            // Those that wait for a queue which is full have not been refused: they go on waiting.
            self.ready.steps.extend(self.queues.admit_waiting());
            self.fail_ready(libc::EAGAIN, completions);
        } else if patience == Patience::None {
            // The caller asked for no wait.
        } else if self.ring.in_kernel() == 0 {
            std::thread::sleep(STALL);
        } else {
            // If this is refused too, the next regular entry meets the same refusal and counts it.
            let _ = self.ring.enter(Patience::Until(Instant::now() + STALL), Waiting::ForDevices { pressure_bytes: 0 });
        }
    }

    /// Takes what the kernel has not taken out of the ring, to be started anew.
    fn take_back(&mut self) {
        let mut transfers: SmallVec<[(Step, StepKey); 8]> = SmallVec::new();
        for user_data in self.ring.take_back() {
            if user_data == WAKE {
                self.wake.disarm();
                continue;
            }
            let key = StepKey(user_data);
            let slot = InFlight::slot(key);
            let step = self.book.step(key).expect("only steps in flight are in the ring");
            if self.book.is_by_itself(key) && Queues::needs_room(step) {
                transfers.push((*step, key));
                continue;
            }
            self.queues.leave(step);
            if self.book.is_by_itself(key) {
                self.ready.steps.push(key);
            } else if InFlight::position(key) == 0 {
                self.ready.chains.push(slot);
            } else if self.ready.chains.last() != Some(&slot) {
                self.book.unlink(key);
                self.ready.cut_off.push(key);
            }
        }
        // Each goes to the front of its line: the youngest first, so that they stand there in their order.
        transfers.into_iter().rev().for_each(|(step, key)| self.queues.take_back(&step, key));
    }

    /// Collects the answers that are there.
    pub(super) fn reap(&mut self, completions: &mut Vec<Completion>) {
        while let Some((user_data, answer)) = self.ring.pop() {
            if user_data == WAKE {
                self.wake.disarm();
            } else {
                self.answered(StepKey(user_data), answer, completions);
            }
        }
    }

    fn answered(&mut self, key: StepKey, answer: i32, completions: &mut Vec<Completion>) {
        let Some(step) = self.book.step(key) else {
            self.counters.unknown += 1;
            return;
        };
        let (operation, length_bytes) = (step.operation, step.length_bytes);
        self.queues.leave(step);
        let slot = InFlight::slot(key);
        let behind = InFlight::position(key) > 0 && (operation == Operation::Flush || !self.book.read_in_full(slot));
        let linked = self.book.start(slot) == Start::Linked && behind;
        let result = steps::result_of(answer, if linked { StartsByItself::No } else { StartsByItself::Yes });
        match (operation, result) {
            (Operation::Flush, _) => self.flush_answered(key, result, completions),
            // The kernel zeroes all of a range or says why not.
            (Operation::Zero, StepResult::Done(_)) => self.finish(key, StepResult::Done(length_bytes), completions),
            _ => self.finish(key, result, completions),
        }
    }

    /// A flush that succeeded goes on with the directory of a file that we have made, as the same step. One that failed has
    /// failed for good, unless it was only put off.
    fn flush_answered(&mut self, key: StepKey, result: StepResult, completions: &mut Vec<Completion>) {
        let device = self.files.device(self.book.step(key).expect("the step was just found").device);
        match result {
            StepResult::Failed(libc::EINTR | libc::EAGAIN) => {}
            StepResult::Failed(errno) => device.note_flush_error(errno),
            _ if device.parent_directory().is_some() && !self.directories.contains(&key) => {
                self.directories.push(key);
                self.ready.steps.push(key);
                return;
            }
            _ => {}
        }
        self.finish(key, result, completions);
    }

    /// Books a step's end, and makes ready what waited for it.
    fn finish(&mut self, key: StepKey, result: StepResult, completions: &mut Vec<Completion>) {
        let slot = InFlight::slot(key);
        let step = self.book.step(key).expect("only steps in flight are finished");
        let opens = step.operation == Operation::Read;
        let goes_on = opens && result == StepResult::Done(step.length_bytes) && self.book.chain(slot).steps.len() > 1;
        self.directories.retain(|other| *other != key);
        if let Next::Start(keys) = self.book.finish(key, result, completions) {
            self.ready.steps.extend(keys);
        } else if opens && !self.ready.cut_off.is_empty() {
            self.rejoin(slot, completions);
        }
        self.unremarkable += usize::from(goes_on);
    }

    /// The read of a chain has come home that the kernel had not taken as a whole.
    fn rejoin(&mut self, slot: Slot, completions: &mut Vec<Completion>) {
        let (mine, others) =
            std::mem::take(&mut self.ready.cut_off).into_iter().partition(|key| InFlight::slot(*key) == slot);
        self.ready.cut_off = others;
        for key in mine {
            if self.book.read_in_full(slot) {
                // A flush is started when the write before it has ended.
                if !InFlight::waits_for_write(self.book.chain(slot), InFlight::position(key)) {
                    self.ready.steps.push(key);
                }
            } else {
                self.book.finish(key, StepResult::NotAttempted, completions);
            }
        }
    }
}
