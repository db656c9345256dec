//! The engine that runs everywhere: worker threads of its own with pread, pwrite and fdatasync. It is also the reference
//! for what the others must do. It refuses to repeat a call: what comes back short or interrupted goes home as it is.

mod line;
mod workers;

use std::mem;
use std::ptr;
use std::sync::Arc;

use crate::copy::chain::{Chain, Completion, DeviceIndex, Operation, StepResult};
use crate::copy::limits::{ENGINE_STEPS_MAX, WORKER_THREADS_MAX, WORKER_THREADS_PER_DEVICE_MAX};
use crate::engine::arena::Arena;
use crate::engine::attached::Attached;
use crate::engine::device::Device;
use crate::engine::in_flight::{InFlight, Next, Slot, Start, StepKey};
use crate::engine::{Description, Engine, Kind, Wait, Waker};
use crate::error::{Error, ErrorKind};

use workers::{Request, Workers};

/// Executes chains on worker threads.
pub struct Threads {
    // First, so that the workers have ended before the memory that they work on is given back (rule 9).
    workers: Workers,
    arena: Arc<Arena>,
    devices: Attached<Device>,
    book: InFlight,
    staged: Vec<Slot>,
    answers: Vec<(StepKey, StepResult)>,
    reason: Arc<str>,
    submissions: u64,
}

impl Threads {
    /// An engine on this memory. The reason says why it was chosen.
    ///
    /// # Errors
    /// `EngineUnavailable` if the machine gives not a single thread.
    pub fn new(arena: Arc<Arena>, reason: impl Into<Arc<str>>) -> Result<Self, Error> {
        let workers = Workers::start(WORKER_THREADS_MAX, WORKER_THREADS_PER_DEVICE_MAX).map_err(|error| {
            let refused = Error::new(ErrorKind::EngineUnavailable, format!("no worker thread can be started: {error}"));
            Error { errno: error.raw_os_error(), ..refused }
        })?;
        Ok(Threads {
            workers,
            arena,
            devices: Attached::new(),
            book: InFlight::new(ENGINE_STEPS_MAX),
            staged: Vec::new(),
            answers: Vec::new(),
            reason: reason.into(),
            submissions: 0,
        })
    }

    /// What a worker is to do for a step, and which device it waits in line for.
    fn request(&self, key: StepKey) -> (DeviceIndex, Request) {
        let step = self.book.step(key).expect("only steps in flight are started");
        let memory = match step.operation {
            // These move nothing; what their steps say of memory is not looked at.
            Operation::Zero | Operation::Flush => ptr::null_mut(),
            Operation::Read | Operation::Write => self.arena.pointer(step.buffer, step.length_bytes),
        };
        let request = Request {
            key,
            operation: step.operation,
            device: Arc::clone(self.devices.get(step.device)),
            offset_bytes: step.offset_bytes,
            memory,
            length_bytes: step.length_bytes,
        };
        (step.device, request)
    }

    /// Hands over what was staged: the read of a chain that begins with one, otherwise every step.
    fn submit(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        let mut requests = Vec::with_capacity(self.staged.len());
        for slot in mem::take(&mut self.staged) {
            requests.extend(self.book.first_steps(slot).into_iter().map(|key| self.request(key)));
        }
        self.workers.submit(requests.into_iter());
        self.submissions += 1;
    }

    /// Books the answers, and starts what waited for a read among them.
    fn book_answers(&mut self, completions: &mut Vec<Completion>) {
        let mut requests = Vec::new();
        let mut answers = mem::take(&mut self.answers);
        for (key, result) in answers.drain(..) {
            match self.book.finish(key, result, completions) {
                Next::Nothing => {}
                Next::Start(keys) => requests.extend(keys.into_iter().map(|key| self.request(key))),
                Next::Unknown => unreachable!("a worker answers each request once"),
            }
        }
        self.answers = answers;
        if !requests.is_empty() {
            self.workers.submit(requests.into_iter());
        }
    }
}

impl Engine for Threads {
    type Device = Device;

    fn attach(&mut self, device: &Arc<Device>) -> Result<DeviceIndex, Error> {
        Ok(self.devices.insert(device))
    }

    fn detach(&mut self, device: DeviceIndex) {
        self.devices.remove(device);
    }

    fn stage(&mut self, chain: Chain) -> Result<(), Chain> {
        let slot = self.book.take(chain, Start::AfterRead)?;
        for blank in &self.book.chain(slot).blanks {
            // SAFETY: the chain's pages belong to this engine from now on, and none of its steps has been started.
            unsafe { self.arena.blank(blank) };
        }
        self.staged.push(slot);
        Ok(())
    }

    fn submit_and_wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) {
        self.submit();
        self.workers.collect(wait, &mut self.answers);
        self.book_answers(completions);
    }

    fn waker(&self) -> Waker {
        self.workers.waker()
    }

    fn description(&self) -> Description {
        Description {
            kind: Kind::Threads,
            reason: self.reason.clone(),
            registered_buffers: false,
            submissions: self.submissions,
        }
    }
}
