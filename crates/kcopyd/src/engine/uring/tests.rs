//! What the contract's suite cannot see: the rungs of the ladder, that what should be used is used, queues that are full, and a
//! kernel that takes half a chain, has no memory, or may not be entered any more.

mod copying;
mod depth;
mod faults;
#[cfg(loom)]
mod orders;
mod refusals;
mod waiting;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use smallvec::SmallVec;
use tempfile::TempDir;

use super::*;
use crate::copy::chain::{BufferStart, ChainTag, Operation, Step, StepResult};
use crate::engine::device::{Access, DeviceOptions};

/// An engine, a directory for its files, and what it has to say.
struct Bench {
    engine: Uring,
    directory: TempDir,
}

impl Bench {
    fn new(options: UringOptions) -> Bench {
        let engine = Uring::new(Arc::new(Arena::new(1024).unwrap()), &options).unwrap();
        // Not /tmp: that may be a tmpfs, which has no direct I/O worth the name.
        let directory = TempDir::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        Bench { engine, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a file of these bytes and attaches it.
    fn file(&mut self, name: &str, bytes: &[u8], access: Access) -> DeviceIndex {
        fs::write(self.path(name), bytes).unwrap();
        let device = Device::open(&self.path(name), &DeviceOptions { access, ..DeviceOptions::default() }).unwrap();
        self.engine.attach(&Arc::new(device)).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn stage(&mut self, tag: u64, steps: &[Step]) {
        self.engine.stage(chain(tag, steps)).unwrap();
    }

    /// Runs until so many steps have come home, and sorts them.
    fn run(&mut self, steps: usize) -> Vec<Completion> {
        let mut completions = Vec::new();
        while completions.len() < steps {
            self.engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        }
        completions.sort_by_key(|completion| (completion.tag, completion.step));
        completions
    }

    fn results(&mut self, steps: usize) -> Vec<StepResult> {
        self.run(steps).into_iter().map(|completion| completion.result).collect()
    }
}

fn chain(tag: u64, steps: &[Step]) -> Chain {
    Chain { tag: ChainTag(tag), steps: SmallVec::from_slice(steps), blanks: SmallVec::new() }
}

fn transfer(operation: Operation, device: DeviceIndex, offset_bytes: u64, length_bytes: u32, page: u32) -> Step {
    Step { operation, device, offset_bytes, length_bytes, buffer: BufferStart { page, offset_bytes: 0 } }
}

fn read(device: DeviceIndex, offset_bytes: u64, length_bytes: u32, page: u32) -> Step {
    transfer(Operation::Read, device, offset_bytes, length_bytes, page)
}

fn write(device: DeviceIndex, offset_bytes: u64, length_bytes: u32, page: u32) -> Step {
    transfer(Operation::Write, device, offset_bytes, length_bytes, page)
}

fn flush(device: DeviceIndex) -> Step {
    transfer(Operation::Flush, device, 0, 0, 0)
}

fn options(chains: Chains) -> UringOptions {
    UringOptions { chains, ..UringOptions::default() }
}

/// Bytes that are different at every place.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(length).collect()
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ word >> 31
    }
}
