//! An engine that moves tags between simulated disks in virtual time: the contract of `kcopyd::engine`, as fast as a simulation
//! of millions of jobs needs it. It tells what it did to whoever takes its events, and judges nothing.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcopyd::copy::chain::{BufferStart, Chain, Completion, DeviceIndex, Operation, Step, StepResult};
use kcopyd::copy::limits::PAGE_BYTES;
use kcopyd::engine::in_flight::{InFlight, Next, Slot, Start, StepKey};
use kcopyd::engine::simulated::Random;
use kcopyd::engine::{Description, Engine, Kind, Wait, Waker};
use kcopyd::error::Error;

use crate::contents::{RUBBISH, ZEROS};
use crate::disk::Disk;
use crate::fault::{Bad, EAGAIN, EINTR, EINVAL, End, Request, Verdict};
use crate::memory::Memory;
use crate::scenario::{Effect, Health, Latency, Order, Rates, Scenario};

/// How long a call of `submit_and_wait` takes, so that who only polls gets on too.
const CALL_NS: u64 = 100;

/// One end of a job: what this engine copies between. Each has its own sequence of chance, so that leaving out one job of a
/// run does not change what happens to the others.
#[derive(Debug)]
pub struct Endpoint {
    /// The disk's number.
    pub disk: usize,
    /// From which its chance follows.
    pub seed: u64,
    /// Its bad places.
    pub bad: Vec<Bad>,
}

struct Attached {
    endpoint: Arc<Endpoint>,
    random: Random,
}

/// Something that happened to a step.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When.
    pub at_ns: u64,
    /// The tag of its chain.
    pub tag: u64,
    /// Which step of the chain.
    pub index: u8,
    /// The step.
    pub step: Step,
    /// What happened.
    pub happened: Happened,
}

/// What can happen to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The request went to the disk.
    Started,
    /// The disk has answered.
    Ended(StepResult),
}

struct Running {
    due_ns: u64,
    number: u64,
    key: StepKey,
    end: End,
}

/// The engine.
pub struct TagEngine {
    unit_bytes: u64,
    memory: Memory,
    disks: Vec<Disk>,
    attached: Vec<Option<Attached>>,
    free: Vec<u32>,
    book: InFlight,
    staged: Vec<Slot>,
    running: Vec<Running>,
    order: Order,
    latency: Latency,
    rates: Rates,
    healed: bool,
    strikes: Vec<(Range<u64>, Effect)>,
    epoch: Instant,
    now_ns: u64,
    started: u64,
    events: Vec<Event>,
}

impl TagEngine {
    /// The engine of a run.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let units_per_page = PAGE_BYTES / scenario.unit_bytes;
        let disks = scenario.disks.iter().enumerate();
        TagEngine {
            unit_bytes: scenario.unit_bytes,
            memory: Memory::new((u64::from(scenario.pages) * units_per_page) as usize),
            disks: disks.map(|(number, spec)| Disk::new(number, spec, scenario.unit_bytes)).collect(),
            attached: Vec::new(),
            free: Vec::new(),
            book: InFlight::new(scenario.steps_max),
            staged: Vec::new(),
            running: Vec::new(),
            order: scenario.order.clone(),
            latency: scenario.latency,
            rates: scenario.rates,
            healed: false,
            strikes: scenario.strikes.clone(),
            // `Wait` speaks in instants, and there is no other way to have one. Nothing depends on which it is.
            epoch: Instant::now(),
            now_ns: 0,
            started: 0,
            events: Vec::new(),
        }
    }

    /// Virtual time in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Virtual time as an instant, to wait until.
    #[must_use]
    pub fn instant(&self, at_ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(at_ns)
    }

    /// Steps staged or in flight.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.book.steps()
    }

    /// The disks.
    #[must_use]
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// Requests that were started.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }

    /// From now on nothing goes wrong, except that a disk whose flush has failed goes on failing it.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// Exchanges what has happened since the last call for an empty list.
    pub fn take_events(&mut self, empty: &mut Vec<Event>) {
        mem::swap(&mut self.events, empty);
    }

    fn start_staged(&mut self) {
        for slot in mem::take(&mut self.staged) {
            self.book.first_steps(slot).into_iter().for_each(|key| self.start(key));
        }
    }

    fn start(&mut self, key: StepKey) {
        let Some(&step) = self.book.step(key) else { return };
        let verdict = self.judge(&step);
        let (latency, random) = (self.latency, &mut self.attached_to(step.device).random);
        let outlier_ns = if random.one_in(latency.outlier_one_in) { latency.outlier_ns } else { 0 };
        let taken_ns = 1 + latency.base_ns + random.below(latency.jitter_ns + 1) + outlier_ns;
        let due_ns = self.now_ns + taken_ns + verdict.delay_ns;
        self.running.push(Running { due_ns, number: self.started, key, end: verdict.end });
        self.started += 1;
        self.tell(key, step, Happened::Started);
    }

    fn attached_to(&mut self, device: DeviceIndex) -> &mut Attached {
        self.attached[device.0 as usize].as_mut().expect("a step's device is attached")
    }

    fn judge(&mut self, step: &Step) -> Verdict {
        let attached = self.attached[step.device.0 as usize].as_mut().expect("a step's device is attached");
        let disk = &self.disks[attached.endpoint.disk];
        let (length_bytes, whole) = (u64::from(step.length_bytes), Verdict { delay_ns: 0, end: End::Whole });
        let unit = disk.spec.request_unit_bytes();
        if !step.offset_bytes.is_multiple_of(unit) || !length_bytes.is_multiple_of(unit) {
            return Verdict { end: End::Failed(EINVAL), ..whole };
        }
        if let Some((_, effect)) = self.strikes.iter().find(|(numbers, _)| numbers.contains(&self.started)) {
            return Verdict { end: effect.end(length_bytes, self.unit_bytes), ..whole };
        }
        let (operation, offset_bytes, zeroing) = (step.operation, step.offset_bytes, disk.spec.zeroing);
        let rates = if self.healed || disk.spec.health == Health::Sound { Rates::default() } else { self.rates };
        let bad: &[Bad] = if self.healed { &[] } else { &attached.endpoint.bad };
        Request { operation, offset_bytes, length_bytes, bad, zeroing }.judge(&rates, self.unit_bytes, &mut attached.random)
    }

    fn tell(&mut self, key: StepKey, step: Step, happened: Happened) {
        let (tag, index) = (self.book.chain(InFlight::slot(key)).tag.0, InFlight::position(key) as u8);
        self.events.push(Event { at_ns: self.now_ns, tag, index, step, happened });
    }

    fn next_due(&self) -> Option<(usize, u64)> {
        let due = self.running.iter().enumerate().min_by_key(|(_, running)| (running.due_ns, running.number));
        due.map(|(index, running)| (index, running.due_ns))
    }

    fn end(&mut self, running: &Running, completions: &mut Vec<Completion>) {
        let Some(&step) = self.book.step(running.key) else { return };
        let result = self.perform(&step, running.end);
        self.tell(running.key, step, Happened::Ended(result));
        if let Next::Start(keys) = self.book.finish(running.key, result, completions) {
            keys.into_iter().for_each(|key| self.start(key));
        }
    }

    /// Only now, at its end, the tags of a request move, so that pages given away too early are seen.
    fn perform(&mut self, step: &Step, end: End) -> StepResult {
        let Attached { endpoint, random } = self.attached_to(step.device);
        let (disk, chance) = (endpoint.disk, if end == End::Whole { 0 } else { random.number() });
        if step.operation == Operation::Flush {
            return self.flush(disk, end);
        }
        let length_bytes = u64::from(step.length_bytes);
        let (moved_bytes, result) = match end {
            End::Whole => (length_bytes, StepResult::Done(step.length_bytes)),
            End::After(bytes) => (bytes, StepResult::Done(bytes as u32)),
            // Of a request that failed, some may have been moved all the same.
            End::Failed(errno) => {
                let units = (chance >> 1) % (length_bytes / self.unit_bytes + 1);
                (units * self.unit_bytes, StepResult::Failed(errno))
            }
        };
        let (units, all) = ((moved_bytes / self.unit_bytes) as usize, (length_bytes / self.unit_bytes) as usize);
        match step.operation {
            Operation::Read => {
                let first = self.place(step.buffer);
                self.disks[disk].load(step.offset_bytes, &mut self.memory[first..first + units]);
                if chance & 1 == 1 {
                    self.memory[first + units..first + all].fill(RUBBISH);
                }
            }
            Operation::Write if step.buffer.page != BufferStart::ZEROES.page => {
                let first = self.place(step.buffer);
                self.disks[disk].store(step.offset_bytes, &self.memory[first..first + units]);
            }
            _ => self.disks[disk].store_zeros(step.offset_bytes, units),
        }
        result
    }

    fn flush(&mut self, disk: usize, end: End) -> StepResult {
        match end {
            // An interruption is not the device's failure.
            End::Failed(errno) if matches!(errno, EINTR | EAGAIN) => StepResult::Failed(errno),
            End::Failed(errno) => StepResult::Failed(*self.disks[disk].flush_errno.get_or_insert(errno)),
            _ => self.disks[disk].flush_errno.map_or(StepResult::Done(0), StepResult::Failed),
        }
    }

    fn place(&self, buffer: BufferStart) -> usize {
        ((u64::from(buffer.page) * PAGE_BYTES + u64::from(buffer.offset_bytes)) / self.unit_bytes) as usize
    }

    fn nanoseconds(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn wait_by_time(&mut self, wait: Wait, completions: &mut Vec<Completion>) {
        let next_ns = self.next_due().map(|(_, due_ns)| due_ns + self.latency.together_ns);
        let until_ns = match wait {
            Wait::No => None,
            Wait::UntilWoken => next_ns,
            Wait::Until(deadline) => {
                let deadline_ns = self.nanoseconds(deadline);
                Some(next_ns.map_or(deadline_ns, |next_ns| deadline_ns.min(next_ns)))
            }
        };
        self.now_ns = self.now_ns.max(until_ns.unwrap_or(0));
        while let Some((index, due_ns)) = self.next_due()
            && due_ns <= self.now_ns
        {
            let running = self.running.swap_remove(index);
            self.end(&running, completions);
        }
    }
}

impl Engine for TagEngine {
    type Device = Endpoint;

    fn attach(&mut self, device: &Arc<Endpoint>) -> Result<DeviceIndex, Error> {
        let attached = Some(Attached { endpoint: Arc::clone(device), random: Random::new(device.seed) });
        Ok(DeviceIndex(match self.free.pop() {
            Some(index) => {
                self.attached[index as usize] = attached;
                index
            }
            None => {
                self.attached.push(attached);
                self.attached.len() as u32 - 1
            }
        }))
    }

    fn detach(&mut self, device: DeviceIndex) {
        let attached = self.attached[device.0 as usize].take();
        assert!(attached.is_some(), "a device is detached once");
        self.free.push(device.0);
    }

    fn stage(&mut self, chain: Chain) -> Result<(), Chain> {
        let slot = self.book.take(chain, Start::AfterRead)?;
        for blank in &self.book.chain(slot).blanks {
            let (first, units) = (self.place(blank.buffer), (u64::from(blank.length_bytes) / self.unit_bytes) as usize);
            self.memory[first..first + units].fill(ZEROS);
        }
        self.staged.push(slot);
        Ok(())
    }

    fn submit_and_wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) {
        self.now_ns += CALL_NS;
        self.start_staged();
        let Order::Chosen(choices) = &self.order else { return self.wait_by_time(wait, completions) };
        match (wait, self.running.len()) {
            (Wait::No, _) | (Wait::UntilWoken, 0) => {}
            (Wait::Until(deadline), 0) => self.now_ns = self.now_ns.max(self.nanoseconds(deadline)),
            (_, width) => {
                let running = self.running.remove(choices.choose(width));
                self.end(&running, completions);
            }
        }
    }

    fn waker(&self) -> Waker {
        // Nobody else is there who could ring.
        Arc::new(|| {})
    }

    fn description(&self) -> Description {
        Description { kind: Kind::Simulated, reason: "a run".into(), registered_buffers: false, submissions: 0 }
    }
}
