//! One engine with its world: stages chains, collects completions, and counts that each step has exactly one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcopyd::copy::chain::{BufferStart, Chain, ChainTag, Completion, DeviceIndex, Operation, Step, StepResult};
use kcopyd::engine::arena::Arena;
use kcopyd::engine::simulated::Random;
use kcopyd::engine::{Engine, Wait};

use crate::fixture::{DeviceOf, Fixture};

/// Bytes of a page.
pub const PAGE: u32 = 4096;

/// No step of these tests takes as long; without it a lost completion would hang a test instead of failing it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Results by (tag, step).
pub type Results = BTreeMap<(u64, u8), StepResult>;

/// An engine and its world.
pub struct Laboratory<F: Fixture> {
    /// Makes devices and shows their bytes.
    pub fixture: F,
    /// The engine under test.
    pub engine: F::Engine,
    expected: BTreeMap<(u64, u8), Operation>,
    results: Results,
}

impl<F: Fixture> Laboratory<F> {
    /// An engine on so many pages.
    pub fn new(pages: u32) -> Self {
        let fixture = F::new();
        let engine = fixture.engine(Arc::new(Arena::new(pages).expect("memory for a test")));
        Laboratory { fixture, engine, expected: BTreeMap::new(), results: BTreeMap::new() }
    }

    /// A device with these bytes, and its name for the engine.
    pub fn device(&mut self, bytes: &[u8]) -> (Arc<DeviceOf<F>>, DeviceIndex) {
        let device = self.fixture.device(bytes);
        let index = self.attach(&device);
        (device, index)
    }

    /// Makes a device known to the engine.
    pub fn attach(&mut self, device: &Arc<DeviceOf<F>>) -> DeviceIndex {
        self.engine.attach(device).expect("a device can be attached")
    }

    /// Stages a chain for which there is room.
    pub fn stage(&mut self, chain: Chain) {
        self.try_stage(chain).expect("there is room for this chain");
    }

    /// Stages a chain, and expects a completion for each of its steps if it was taken.
    pub fn try_stage(&mut self, chain: Chain) -> Result<(), Chain> {
        let operations: Vec<Operation> = chain.steps.iter().map(|step| step.operation).collect();
        let tag = chain.tag.0;
        self.engine.stage(chain)?;
        for (step, operation) in operations.into_iter().enumerate() {
            assert!(self.expected.insert((tag, step as u8), operation).is_none(), "a tag is used once");
        }
        Ok(())
    }

    /// One call of `submit_and_wait`. Every completion must be one that is expected and has not come yet.
    pub fn submit(&mut self, wait: Wait) {
        let earlier = Completion { tag: ChainTag(u64::MAX), step: 0, result: StepResult::NotAttempted };
        let mut completions = vec![earlier];
        self.engine.submit_and_wait(wait, &mut completions);
        assert_eq!(completions[0], earlier, "completions are appended");
        for Completion { tag, step, result } in completions.drain(..).skip(1) {
            assert!(self.expected.contains_key(&(tag.0, step)), "step {step} of chain {} was never staged", tag.0);
            assert!(self.results.insert((tag.0, step), result).is_none(), "step {step} of chain {} twice", tag.0);
        }
    }

    /// Submits and waits until every staged step has come home.
    pub fn settle(&mut self) -> Results {
        while self.results.len() < self.expected.len() {
            let before = self.results.len();
            self.submit(Wait::Until(Instant::now() + PATIENCE));
            assert!(self.results.len() > before, "no completion of {:?}", self.missing());
        }
        self.submit(Wait::No);
        self.results.clone()
    }

    /// Stages these chains as there is room, and waits for all of them.
    pub fn run(&mut self, chains: impl IntoIterator<Item = Chain>) -> Results {
        for chain in chains {
            let mut refused = self.try_stage(chain).err();
            while let Some(chain) = refused {
                let before = self.results.len();
                self.submit(Wait::Until(Instant::now() + PATIENCE));
                assert!(self.results.len() > before, "no completion of {:?}", self.missing());
                refused = self.try_stage(chain).err();
            }
        }
        self.settle()
    }

    /// The results of one chain, in order of its steps.
    pub fn results_of(&self, tag: u64) -> Vec<StepResult> {
        self.results.range((tag, 0)..=(tag, u8::MAX)).map(|(_, result)| *result).collect()
    }

    /// A device's bytes from the beginning.
    pub fn bytes(&self, device: &DeviceOf<F>, length: usize) -> Vec<u8> {
        self.fixture.bytes(device, 0..length as u64)
    }

    fn missing(&self) -> Vec<&(u64, u8)> {
        self.expected.keys().filter(|key| !self.results.contains_key(key)).collect()
    }
}

/// Bytes that follow from a number and look like no other's.
pub fn pattern(number: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(number);
    (0..length).map(|_| random.number() as u8).collect()
}

/// A chain.
pub fn chain(tag: u64, steps: impl IntoIterator<Item = Step>) -> Chain {
    Chain { tag: ChainTag(tag), steps: steps.into_iter().collect(), blanks: Default::default() }
}

/// A read into the beginning of a page.
pub fn read(device: DeviceIndex, offset_bytes: u64, length_bytes: u32, page: u32) -> Step {
    Step { operation: Operation::Read, device, offset_bytes, length_bytes, buffer: BufferStart { page, offset_bytes: 0 } }
}

/// A write from the beginning of a page.
pub fn write(device: DeviceIndex, offset_bytes: u64, length_bytes: u32, page: u32) -> Step {
    Step { operation: Operation::Write, ..read(device, offset_bytes, length_bytes, page) }
}

/// A flush.
pub fn flush(device: DeviceIndex) -> Step {
    Step { operation: Operation::Flush, ..read(device, 0, 0, 0) }
}
