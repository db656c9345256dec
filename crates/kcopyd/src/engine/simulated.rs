//! The engine of the tests: disks in memory, simulated time, faults, every order of completions. The same seed and the same
//! calls give the same run. It refuses to know real time and threads, and to do any I/O.

mod choices;
mod disk;
mod fault;
mod options;
mod random;

use std::mem;
use std::ops::Range;
use std::slice;
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
pub struct Simulated {
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

impl Simulated {
    /// An engine on this memory.
    #[must_use]
    pub fn new(arena: Arc<Arena>, options: SimulatedOptions) -> Self {
        Simulated {
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
            self.book.first_steps(slot).into_iter().for_each(|key| self.start(key));
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
        if let Next::Start(keys) = self.book.finish(key, result, completions) {
            keys.into_iter().for_each(|key| self.start(key));
        }
    }

    fn perform(&self, step: &Step, verdict: &Verdict) -> StepResult {
        let disk = self.devices.get(step.device);
        let length = step.length_bytes as usize;
        match step.operation {
            Operation::Read => {
                let memory = self.arena.pointer(step.buffer, step.length_bytes);
                // SAFETY: the arena holds the whole buffer, and no other step in flight uses what this one fills: `stage`
                // has seen to that, and this engine has one thread.
                disk.read(step.offset_bytes, unsafe { slice::from_raw_parts_mut(memory, length) }, &verdict.end)
            }
            Operation::Write => {
                let memory = self.arena.pointer(step.buffer, step.length_bytes);
                // SAFETY: the arena holds the whole buffer, and no step in flight fills it: `stage` has seen to that.
                disk.write(step.offset_bytes, unsafe { slice::from_raw_parts(memory, length) }, &verdict.end)
            }
            Operation::Zero => disk.write(step.offset_bytes, &vec![0; length], &verdict.end),
            Operation::Flush => disk.flush(&verdict.end),
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
        let moves = |step: &&Step| matches!(step.operation, Operation::Read | Operation::Write);
        let uses = chain.steps.iter().filter(moves).map(|step| (range(step.buffer, step.length_bytes), step.operation));
        let blanks = chain.blanks.iter().map(|blank| (range(blank.buffer, blank.length_bytes), Operation::Read));
        for (new_range, new) in uses.chain(blanks) {
            for step in self.known.iter().filter_map(|(key, _, _)| self.book.step(*key)).filter(moves) {
                let filled = new == Operation::Read || step.operation == Operation::Read;
                let shared = intersect(&new_range, &range(step.buffer, step.length_bytes));
                assert!(!(shared && filled), "bytes {new_range:?} of the arena are used by {step:?}");
            }
        }
    }
}

fn intersect(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Engine for Simulated {
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

impl Drop for Simulated {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::chain::{Blank, BufferStart};

    const PAGE: u32 = 4096;

    fn engine(options: SimulatedOptions) -> Simulated {
        Simulated::new(Arc::new(Arena::new(64).unwrap()), options)
    }

    fn step(operation: Operation, device: DeviceIndex, page: u32) -> Step {
        let buffer = BufferStart { page, offset_bytes: 0 };
        Step { operation, device, offset_bytes: u64::from(page * PAGE), length_bytes: PAGE, buffer }
    }

    fn chain(tag: u64, steps: &[Step]) -> Chain {
        Chain { tag: ChainTag(tag), steps: steps.into(), blanks: Default::default() }
    }

    /// Copies 16 pages, one by one, and says in which order the writes came home.
    fn order_of(options: SimulatedOptions) -> (Vec<u64>, Vec<Event>) {
        let mut engine = engine(options);
        let from = engine.attach(&Arc::new(SimulatedDisk::block(1, 1 << 20, 512))).unwrap();
        let to = engine.attach(&Arc::new(SimulatedDisk::block(2, 1 << 20, 512))).unwrap();
        for page in 0..16 {
            engine
                .stage(chain(page.into(), &[step(Operation::Read, from, page), step(Operation::Write, to, page)]))
                .unwrap();
        }
        let mut completions = Vec::new();
        while engine.steps() > 0 {
            engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        }
        let writes = completions.iter().filter(|completion| completion.step == 1).map(|completion| completion.tag.0);
        (writes.collect(), engine.take_log())
    }

    #[test]
    fn the_same_seed_is_the_same_run_and_another_seed_another_order() {
        let run = |seed| order_of(SimulatedOptions { seed, ..SimulatedOptions::default() });
        assert_eq!(run(7), run(7));
        assert_ne!(run(7).0, run(8).0);
        assert_ne!(run(7).0, (0..16).collect::<Vec<_>>(), "requests overtake each other");
    }

    #[test]
    fn a_chosen_order_is_the_order() {
        let last_first: Vec<usize> = (0..16).rev().collect();
        let choices = SharedChoices::new(Choices::scripted([last_first.clone(), last_first].concat()));
        let (writes, _) = order_of(SimulatedOptions { order: Order::Chosen(choices), ..SimulatedOptions::default() });
        // The reads end last first, which starts the writes in that order; of these, too, the last one ends first.
        assert_eq!(writes, (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn every_order_of_three_writes_is_found() {
        let mut orders = std::collections::BTreeSet::new();
        let runs = for_every_choice(|choices| {
            let order = Order::Chosen(choices.clone());
            let mut engine = engine(SimulatedOptions { order, ..SimulatedOptions::default() });
            let to = engine.attach(&Arc::new(SimulatedDisk::block(2, 1 << 20, 512))).unwrap();
            engine.stage(chain(0, &[0, 1, 2].map(|page| step(Operation::Write, to, page)))).unwrap();
            let mut completions = Vec::new();
            (0..3).for_each(|_| engine.submit_and_wait(Wait::UntilWoken, &mut completions));
            orders.insert(completions.iter().map(|completion| completion.step).collect::<Vec<_>>());
        });
        assert_eq!((runs, orders.len()), (6, 6));
    }

    #[test]
    fn time_stands_still_until_somebody_waits() {
        let mut engine = engine(SimulatedOptions::default());
        let disk = Arc::new(SimulatedDisk::block(1, 1 << 20, 512));
        disk.inject(Fault::on(Operation::Read, Effect::Delay(3_600_000_000_000)));
        let device = engine.attach(&disk).unwrap();
        engine.stage(chain(1, &[step(Operation::Read, device, 0)])).unwrap();
        let mut completions = Vec::new();
        engine.submit_and_wait(Wait::No, &mut completions);
        engine.submit_and_wait(Wait::Until(engine.now() + Duration::from_secs(60)), &mut completions);
        assert_eq!((completions.len(), engine.now_ns() / 1_000_000_000), (0, 60));
        engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        assert_eq!((completions.len(), engine.now_ns() / 1_000_000_000), (1, 3600));
    }

    #[test]
    fn a_ring_ends_a_wait_before_time_moves_and_nothing_in_flight_is_no_wait() {
        let mut engine = engine(SimulatedOptions::default());
        engine.waker()();
        let (before, mut completions) = (engine.now_ns(), Vec::new());
        engine.submit_and_wait(Wait::Until(engine.now() + Duration::from_secs(60)), &mut completions);
        engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        assert!(engine.now_ns() - before < 1_000_000);
        engine.submit_and_wait(Wait::Until(engine.now() + Duration::from_secs(60)), &mut completions);
        assert!(engine.now_ns() - before > 60_000_000_000, "the ring was one");
    }

    #[test]
    fn the_struck_request_is_the_one_of_that_number() {
        let mut engine = engine(SimulatedOptions::default());
        let device = engine.attach(&Arc::new(SimulatedDisk::block(1, 1 << 20, 512))).unwrap();
        engine.strike(2, Effect::Fail(libc::EIO));
        engine.stage(chain(1, &[0, 1, 2, 3].map(|page| step(Operation::Write, device, page)))).unwrap();
        let mut completions = Vec::new();
        while engine.steps() > 0 {
            engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        }
        let failed = |completion: &&Completion| completion.result == StepResult::Failed(libc::EIO);
        assert_eq!(completions.iter().filter(failed).map(|completion| completion.step).collect::<Vec<_>>(), [2]);
    }

    #[test]
    #[should_panic(expected = "are used by")]
    fn a_page_that_is_being_written_from_cannot_be_filled() {
        let mut engine = engine(SimulatedOptions::default());
        let device = engine.attach(&Arc::new(SimulatedDisk::block(1, 1 << 20, 512))).unwrap();
        engine.stage(chain(1, &[step(Operation::Write, device, 5)])).unwrap();
        let mut blanking = chain(2, &[step(Operation::Write, device, 6)]);
        blanking.blanks.push(Blank { buffer: BufferStart { page: 5, offset_bytes: 4000 }, length_bytes: 1 });
        let _ = engine.stage(blanking);
    }
}
