//! The chains that an engine has taken and not yet finished. One bookkeeper for all engines: it says which steps may start,
//! names each step for its way through the kernel, and turns a step's end into completions. It refuses to do any I/O.

use smallvec::SmallVec;

use crate::copy::chain::{Chain, Completion, DeviceIndex, Operation, Step, StepResult};
use crate::copy::limits::CHAIN_STEPS_MAX;

/// Names one step of one taken chain: what an engine gives the kernel as user data. Never reused for another step within
/// 2^32 uses of its slot, so a stray answer is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepKey(pub u64);

impl StepKey {
    fn new(slot: u32, generation: u32, step: u8) -> Self {
        StepKey(u64::from(generation) << 32 | u64::from(slot) << 8 | u64::from(step))
    }

    fn parts(self) -> (usize, u32, u8) {
        ((self.0 >> 8 & 0xFF_FFFF) as usize, (self.0 >> 32) as u32, self.0 as u8)
    }
}

/// The names of some steps of a chain.
pub type Keys = SmallVec<[StepKey; 2]>;

/// Names a taken chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// How the steps after a chain's read are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The engine starts them when `finish` says so.
    AfterRead,
    /// All steps were handed to the kernel at once, linked; each comes home by itself.
    Linked,
}

/// What an engine has to do after a step has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Start these steps.
    Start(Keys),
    /// The answer belongs to no step in flight; it was not counted.
    Unknown,
}

struct Entry {
    chain: Option<Chain>,
    start: Start,
    generation: u32,
    outstanding: u8,
    open: u64,
    read_in_full: bool,
    /// Bit i: step i of a linked chain was not taken by the kernel.
    unlinked: u64,
}

/// The chains in an engine's hands.
pub struct InFlight {
    entries: Vec<Entry>,
    free: Vec<u32>,
    steps: u32,
    steps_max: u32,
}

impl InFlight {
    /// An empty book with room for so many steps.
    pub fn new(steps_max: u32) -> Self {
        InFlight { entries: Vec::new(), free: Vec::new(), steps: 0, steps_max }
    }

    /// Steps of chains that are not finished.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Takes a whole chain or hands it back. The first step, or all if the first is not a read, may start.
    pub fn take(&mut self, chain: Chain, start: Start) -> Result<Slot, Chain> {
        assert!((1..=CHAIN_STEPS_MAX).contains(&chain.steps.len()), "a chain of {} steps", chain.steps.len());
        let is_read = |step: &Step| step.operation == Operation::Read;
        assert!(!chain.steps[1..].iter().any(is_read), "a read stands only at the front of a chain");
        let steps = chain.steps.len() as u32;
        if self.steps + steps > self.steps_max && !canary!(TakesWithoutRoom) {
            return Err(chain);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                chain: None,
                start,
                generation: 0,
                outstanding: 0,
                open: 0,
                read_in_full: false,
                unlinked: 0,
            });
            self.entries.len() as u32 - 1
        });
        let entry = &mut self.entries[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.start = start;
        entry.read_in_full = false;
        entry.unlinked = 0;
        entry.outstanding = steps as u8;
        entry.open = (1 << steps) - 1;
        entry.chain = Some(chain);
        self.steps += steps;
        Ok(Slot(slot))
    }

    /// Chains that are not finished.
    pub fn chains(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether any chain that is not finished has a step on this device.
    pub fn uses(&self, device: DeviceIndex) -> bool {
        let chains = self.entries.iter().filter_map(|entry| entry.chain.as_ref());
        chains.flat_map(|chain| &chain.steps).any(|step| step.device == device)
    }

    /// Settles how the steps after a chain's read are started, before any step of the chain has been.
    pub fn set_start(&mut self, slot: Slot, start: Start) {
        self.entries[slot.0 as usize].start = start;
    }

    /// How the steps after a chain's read are started.
    pub fn start(&self, slot: Slot) -> Start {
        self.entries[slot.0 as usize].start
    }

    /// Whether a chain's read has come home in full.
    pub fn read_in_full(&self, slot: Slot) -> bool {
        self.entries[slot.0 as usize].read_in_full
    }

    /// The slot that a step is in.
    pub fn slot(key: StepKey) -> Slot {
        Slot(key.parts().0 as u32)
    }

    /// Which step of its chain a key names, from 0.
    pub fn position(key: StepKey) -> usize {
        usize::from(key.parts().2)
    }

    /// The chain in a slot.
    pub fn chain(&self, slot: Slot) -> &Chain {
        self.entries[slot.0 as usize].chain.as_ref().expect("a slot named by take or finish holds a chain")
    }

    /// The name of a chain's step.
    pub fn key(&self, slot: Slot, step: usize) -> StepKey {
        StepKey::new(slot.0, self.entries[slot.0 as usize].generation, step as u8)
    }

    /// The step of that name, if it is in flight.
    pub fn step(&self, key: StepKey) -> Option<&Step> {
        let (slot, generation, step) = key.parts();
        let entry = self.entries.get(slot)?;
        let known = entry.generation == generation && step < 64 && entry.open & 1 << step != 0;
        entry.chain.as_ref().filter(|_| known)?.steps.get(usize::from(step))
    }

    /// Whether a chain's other steps wait for its first.
    pub fn begins_with_read(chain: &Chain) -> bool {
        chain.steps[0].operation == Operation::Read
    }

    /// Whether a step waits for the one before it: a flush right behind a write, or behind a zeroing, which is one too.
    pub fn waits_for_write(chain: &Chain, step: usize) -> bool {
        let operation = |step: usize| chain.steps[step].operation;
        let writes = |operation| matches!(operation, Operation::Write | Operation::Zero);
        step > 0 && operation(step) == Operation::Flush && writes(operation(step - 1)) && !canary!(FlushDoesNotWait)
    }

    /// The steps of a chain that wait for nothing, if the engine starts each step by itself.
    pub fn first_steps(&self, slot: Slot) -> Keys {
        let chain = self.chain(slot);
        if Self::begins_with_read(chain) && !canary!(WritesDoNotWait) {
            return SmallVec::from_slice(&[self.key(slot, 0)]);
        }
        self.free_steps(slot, 0)
    }

    /// The steps from `first` on that wait for no write.
    fn free_steps(&self, slot: Slot, first: usize) -> Keys {
        let chain = self.chain(slot);
        let free = (first..chain.steps.len()).filter(|&step| !Self::waits_for_write(chain, step));
        free.map(|step| self.key(slot, step)).collect()
    }

    /// Whether a step is started by the engine when its turn comes, and not by a link in the kernel.
    pub fn is_by_itself(&self, key: StepKey) -> bool {
        let (slot, _, step) = key.parts();
        self.entries[slot].start == Start::AfterRead || self.entries[slot].unlinked & 1 << step != 0
    }

    /// A linked step was not taken by the kernel; the engine starts it when its turn comes.
    pub fn unlink(&mut self, key: StepKey) {
        let (slot, _, step) = key.parts();
        self.entries[slot].unlinked |= 1 << step;
    }

    /// Books a step's end, appends the completions that follow from it, and says what the engine must start now.
    pub fn finish(&mut self, key: StepKey, result: StepResult, completions: &mut Vec<Completion>) -> Next {
        let Some(step) = self.step(key) else { return Next::Unknown };
        let short = canary!(ShortReadIsFull) && matches!(result, StepResult::Done(_));
        let (operation, in_full) = (step.operation, short || result == StepResult::Done(step.length_bytes));
        let (slot, _, index) = key.parts();
        let reads = index == 0 && operation == Operation::Read;
        self.entries[slot].read_in_full |= reads && in_full;
        let waiting = self.steps_waiting_for(slot, usize::from(index));
        self.close(slot, index, result, completions);
        if in_full && reads && !waiting.is_empty() {
            return Next::Start(self.free_steps(Slot(slot as u32), 1));
        }
        if in_full && !waiting.is_empty() {
            return Next::Start(waiting);
        }
        for other in waiting.into_iter().skip(usize::from(canary!(CompletionIsLost))) {
            self.close(slot, other.parts().2, StepResult::NotAttempted, completions);
        }
        Next::Nothing
    }

    /// The steps that the engine, not a link in the kernel, holds back until this step has ended.
    fn steps_waiting_for(&self, slot: usize, index: usize) -> Keys {
        let entry = &self.entries[slot];
        let chain = entry.chain.as_ref().expect("a step in flight belongs to a chain");
        let name = |step: usize| self.key(Slot(slot as u32), step);
        if index == 0 && Self::begins_with_read(chain) {
            let by_engine = entry.start == Start::AfterRead;
            return if by_engine { (1..chain.steps.len()).map(name).collect() } else { Keys::new() };
        }
        let next = index + 1;
        let follows = next < chain.steps.len() && Self::waits_for_write(chain, next);
        let by_engine = entry.start == Start::AfterRead || entry.unlinked & 1 << next != 0;
        // A flush behind a write that was not attempted is not in flight any more.
        if follows && by_engine && entry.open & 1 << next != 0 { Keys::from_slice(&[name(next)]) } else { Keys::new() }
    }

    /// One step of a slot is over; with the last one the slot is free.
    fn close(&mut self, slot: usize, step: u8, result: StepResult, completions: &mut Vec<Completion>) {
        let entry = &mut self.entries[slot];
        let chain = entry.chain.as_ref().expect("only steps in flight are closed");
        let tag = chain.tag;
        let times = 1 + usize::from(canary!(CompletionTwice) && entry.outstanding == 3);
        completions.extend(std::iter::repeat_n(Completion { tag, step, result }, times));
        entry.open &= !(1 << step);
        entry.outstanding -= 1;
        self.steps -= 1;
        if entry.outstanding == 0 {
            entry.chain = None;
            self.free.push(slot as u32);
        }
    }
}
