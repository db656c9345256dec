//! The engine of the tests: disks in memory, simulated time, faults, every order of completions. The same seed and the same
//! calls give the same run. It refuses to know real time and threads, and to do any I/O.

mod choices;
mod disk;
mod fault;
mod options;
mod random;

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::copy::chain::{Chain, ChainTag, Completion, DeviceIndex, Operation, Step, StepResult};
use crate::copy::limits::SECTOR_BYTES;
use crate::engine::arena::Arena;
use crate::engine::attached::Attached;
use crate::engine::in_flight::{InFlight, Next, Slot, Start, StepKey};
use crate::engine::{Description, Engine, Kind, Wait, Waker};
use crate::error::Error;

pub use choices::{Choices, SharedChoices, for_every_choice};
pub use disk::{SimulatedDisk, Touched, pristine};
pub use fault::{Effect, Fault};
pub use options::{Latency, Log, Order, SimulatedOptions};
pub use random::Random;

use fault::Verdict;

/// How long a call of `submit_and_wait` itself takes, so that who only polls gets on too.
const CALL_NS: u64 = 1000;

/// Something that happened to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in simulated nanoseconds from the engine's beginning.
    pub at_ns: u64,
    /// Whose step it is.
    pub tag: ChainTag,
    /// Which step of the chain, from 0.
    pub index: u8,
    /// The step.
    pub step: Step,
    /// What happened to it.
    pub happened: Happened,
}

/// What can happen to a step. One that is not attempted does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The request went to the disk.
    Started,
    /// The disk has answered.
    Ended(StepResult),
}

struct Running {
    key: StepKey,
    due_ns: u64,
    verdict: Verdict,
}

/// Executes chains on simulated disks.
pub struct SimulatedEngine {
    arena: Arc<Arena>,
    devices: Attached<SimulatedDisk>,
    book: InFlight,
    staged: Vec<Slot>,
    running: Vec<Running>,
    known: Vec<(StepKey, ChainTag, u8)>,
    options: SimulatedOptions,
    random: Random,
    epoch: Instant,
    now_ns: u64,
    woken: Arc<AtomicBool>,
    log: Vec<Event>,
    started: u64,
    struck: Option<(u64, Effect)>,
    submissions: u64,
}

impl SimulatedEngine {
    /// An engine on this memory.
    #[must_use]
    pub fn new(arena: Arc<Arena>, options: SimulatedOptions) -> Self {
        SimulatedEngine {
            arena,
            devices: Attached::new(),
            book: InFlight::new(options.steps_max),
            staged: Vec::new(),
            running: Vec::new(),
            known: Vec::new(),
            random: Random::new(options.seed),
            options,
            // `Wait` speaks in instants, and there is no other way to have one. Nothing depends on which it is.
            epoch: Instant::now(),
            now_ns: 0,
            woken: Arc::new(AtomicBool::new(false)),
            log: Vec::new(),
            started: 0,
            struck: None,
            submissions: 0,
        }
    }

    /// Simulated time as an instant: what to give to whoever asks for `now`.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.now_ns)
    }

    /// Simulated time in nanoseconds since the engine's beginning.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// How many requests have been started.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Steps staged or in flight.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.book.steps()
    }

    /// The request with this number, counted from 0 over all disks, suffers an effect: to let every single request of a run
    /// go wrong, one run after the other.
    pub fn strike(&mut self, number: u64, effect: Effect) {
        self.struck = Some((number, effect));
    }

    /// What has happened since the log was last taken, in order.
    pub fn take_log(&mut self) -> Vec<Event> {
        mem::take(&mut self.log)
    }

    fn start_staged(&mut self) {
        self.submissions += u64::from(!self.staged.is_empty());
        for slot in mem::take(&mut self.staged) {
            let chain = self.book.chain(slot);
            let startable = if InFlight::begins_with_read(chain) { 1 } else { chain.steps.len() };
            (0..startable).for_each(|index| self.start(self.book.key(slot, index)));
        }
    }

    fn start(&mut self, key: StepKey) {
        let step = *self.book.step(key).expect("only a step in flight starts");
        let range = step.offset_bytes..step.offset_bytes + u64::from(step.length_bytes);
        let mut verdict = self.devices.get(step.device).judge(step.operation, &range);
        if let Some((number, effect)) = self.struck
            && number == self.started
        {
            verdict = Verdict::default();
            verdict.suffer(effect, &range, &range, &mut self.random);
        }
        self.started += 1;
        let due_ns = self.now_ns + self.latency_ns(&step) + verdict.delay_ns;
        self.running.push(Running { key, due_ns, verdict });
        self.write_down(key, step, Happened::Started);
    }

    fn latency_ns(&mut self, step: &Step) -> u64 {
        let latency = self.options.latency;
        let outlier = if self.random.one_in(latency.outlier_one_in) { latency.outlier_ns } else { 0 };
        let sectors = u64::from(step.length_bytes).div_ceil(SECTOR_BYTES);
        1 + latency.base_ns + sectors * latency.sector_ns + self.random.below(latency.jitter_ns + 1) + outlier
    }

    /// Lets requests end that are due by now, in the order in which they are due.
    fn end_due(&mut self, completions: &mut Vec<Completion>) {
        while let Some((index, due_ns)) = self.next_due()
            && due_ns <= self.now_ns
        {
            self.end(index, completions);
        }
    }

    /// The request that is due next: its place among the running, and when.
    fn next_due(&self) -> Option<(usize, u64)> {
        self.running.iter().map(|running| running.due_ns).enumerate().min_by_key(|(_, due_ns)| *due_ns)
    }

    /// Lets one request end: only now its bytes move, so that pages given away too early are seen.
    fn end(&mut self, index: usize, completions: &mut Vec<Completion>) {
        let Running { key, verdict, .. } = self.running.remove(index);
        let step = *self.book.step(key).expect("what runs is in flight");
        let result = self.perform(&step, &verdict);
        self.write_down(key, step, Happened::Ended(result));
        if let Next::StartOthers(slot) = self.book.finish(key, result, completions) {
            (1..self.book.chain(slot).steps.len()).for_each(|other| self.start(self.book.key(slot, other)));
        }
    }

    fn perform(&self, step: &Step, verdict: &Verdict) -> StepResult {
        let disk = self.devices.get(step.device);
        if step.operation == Operation::Flush {
            return disk.flush(&verdict.end);
        }
        let memory = self.arena.pointer(step.buffer, step.length_bytes);
        // SAFETY: the arena holds the whole buffer, its pages belong to this engine (rule 8), which has one thread.
        let buffer = unsafe { std::slice::from_raw_parts_mut(memory, step.length_bytes as usize) };
        match step.operation {
            Operation::Read => disk.read(step.offset_bytes, buffer, &verdict.end),
            _ => disk.write(step.offset_bytes, buffer, &verdict.end),
        }
    }

    fn write_down(&mut self, key: StepKey, step: Step, happened: Happened) {
        if self.options.log == Log::Kept {
            let (_, tag, index) = *self.known.iter().find(|known| known.0 == key).expect("every open step is known");
            self.log.push(Event { at_ns: self.now_ns, tag, index, step, happened });
        }
    }

    /// Moves time on to where the wait ends, and lets end what is due by then.
    fn wait_by_time(&mut self, wait: Wait, woken: bool, completions: &mut Vec<Completion>) {
        self.now_ns += CALL_NS;
        let next_ns = self.next_due().map(|(_, due_ns)| due_ns);
        let together_ns = self.random.below(self.options.latency.jitter_ns / 4 + 1);
        let until_ns = match wait {
            Wait::No => None,
            _ if woken => None,
            Wait::UntilWoken => next_ns.map(|next_ns| next_ns + together_ns),
            Wait::Until(deadline) => {
                let deadline_ns = self.nanoseconds(deadline);
                Some(next_ns.map_or(deadline_ns, |next_ns| deadline_ns.min(next_ns + together_ns)))
            }
        };
        self.now_ns = self.now_ns.max(until_ns.unwrap_or(0));
        self.end_due(completions);
    }

    /// Lets the chosen request end, if the wait is one.
    fn wait_by_choice(&mut self, choices: &SharedChoices, wait: Wait, woken: bool, completions: &mut Vec<Completion>) {
        self.now_ns += CALL_NS;
        match (wait, self.running.len()) {
            _ if woken => {}
            (Wait::No, _) | (Wait::UntilWoken, 0) => {}
            (Wait::Until(deadline), 0) => self.now_ns = self.now_ns.max(self.nanoseconds(deadline)),
            (_, width) => self.end(choices.choose(width), completions),
        }
    }

    fn nanoseconds(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// A range that a new chain fills must be used by nobody else, and what a new chain writes from, nobody may be filling:
    /// the other side of rule 8, which only a simulated engine can afford to check.
    fn assert_pages_are_free(&mut self, chain: &Chain) {
        self.known.retain(|(key, _, _)| self.book.step(*key).is_some());
        let range = |buffer, length_bytes: u32| {
            let first = self.arena.offset_bytes(buffer);
            first..first + length_bytes as usize
        };
        let uses = chain.steps.iter().map(|step| (range(step.buffer, step.length_bytes), step.operation));
        let blanks = chain.blanks.iter().map(|blank| (range(blank.buffer, blank.length_bytes), Operation::Read));
        for (new_range, new) in uses.chain(blanks) {
            for step in self.known.iter().filter_map(|(key, _, _)| self.book.step(*key)) {
                let shared = intersect(&new_range, &range(step.buffer, step.length_bytes));
                let filled = new == Operation::Read || step.operation == Operation::Read;
                let memory = new != Operation::Flush && step.operation != Operation::Flush;
                assert!(!(shared && filled && memory), "bytes {new_range:?} of the arena are used by {step:?}");
            }
        }
    }
}

fn intersect(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Engine for SimulatedEngine {
    type Device = SimulatedDisk;

    fn attach(&mut self, device: &Arc<SimulatedDisk>) -> Result<DeviceIndex, Error> {
        Ok(self.devices.insert(device))
    }

    fn detach(&mut self, device: DeviceIndex) {
        let is_used = self.known.iter().filter_map(|(key, _, _)| self.book.step(*key)).any(|step| step.device == device);
        assert!(!is_used, "a device is detached while a staged step uses it");
        self.devices.remove(device);
    }

    fn stage(&mut self, chain: Chain) -> Result<(), Chain> {
        self.assert_pages_are_free(&chain);
        let slot = self.book.take(chain, Start::AfterRead)?;
        let chain = self.book.chain(slot);
        for blank in &chain.blanks {
            // SAFETY: the chain's pages belong to this engine from now on, and none of its steps has been started.
            unsafe { self.arena.blank(blank) };
        }
        let keys = (0..chain.steps.len()).map(|index| (self.book.key(slot, index), chain.tag, index as u8));
        self.known.extend(keys);
        self.staged.push(slot);
        Ok(())
    }

    fn submit_and_wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) {
        self.start_staged();
        let woken = self.woken.swap(false, Ordering::AcqRel);
        match self.options.order.clone() {
            Order::ByTime => self.wait_by_time(wait, woken, completions),
            Order::Chosen(choices) => self.wait_by_choice(&choices, wait, woken, completions),
        }
    }

    fn waker(&self) -> Waker {
        let woken = Arc::clone(&self.woken);
        Arc::new(move || woken.store(true, Ordering::Release))
    }

    fn description(&self) -> Description {
        Description {
            kind: Kind::Simulated,
            reason: "a test asked for it".into(),
            registered_buffers: false,
            submissions: self.submissions,
        }
    }
}

impl Drop for SimulatedEngine {
    /// What was submitted still lands, as it does on a real machine; what waits for a read does not start any more.
    fn drop(&mut self) {
        if thread::panicking() {
            // A second panic here would hide the first.
            return;
        }
        while let Some((index, _)) = self.next_due() {
            let running = self.running.remove(index);
            if let Some(step) = self.book.step(running.key) {
                self.perform(step, &running.verdict);
            }
        }
    }
}
