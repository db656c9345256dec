//! Zeroing of real block devices, by every way that an engine has: through the ring, aside from it, and by a worker thread.

// A test that unwraps fails with the line, and so does its helper.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::sync::Arc;

use kcopyd::copy::chain::{BufferStart, Chain, ChainTag, Completion, Operation, Step, StepResult};
use kcopyd::engine::arena::Arena;
use kcopyd::engine::device::{Access, Device, DeviceOptions};
use kcopyd::engine::threads::Threads;
use kcopyd::engine::uring::{Uring, UringOptions, Use};
use kcopyd::engine::{Engine, Wait};
use smallvec::SmallVec;
use support::LoopDevice;

const MIB: u64 = 1 << 20;

fn zero(device: kcopyd::copy::chain::DeviceIndex, offset_bytes: u64, length_bytes: u32) -> Chain {
    let step = Step { operation: Operation::Zero, device, offset_bytes, length_bytes, buffer: BufferStart::ZEROES };
    Chain { tag: ChainTag(1), steps: SmallVec::from_slice(&[step]), blanks: SmallVec::new() }
}

/// Zeroes the middle of a device of ones by this engine, twice at once, and looks at all of it.
fn zeroes_the_middle(engine: &mut dyn Engine<Device = Device>, sector_bytes: u32) {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = LoopDevice::new(directory.path(), 16 * MIB, sector_bytes) else { return };
    fs::write(disk.path(), vec![0xFF; 16 << 20]).unwrap();
    let options = DeviceOptions { access: Access::Write, ..DeviceOptions::default() };
    let device = Arc::new(Device::open(disk.path(), &options).unwrap());
    let index = engine.attach(&device).unwrap();
    engine.stage(zero(index, MIB, 2 << 20)).unwrap();
    engine.stage(zero(index, 4 * MIB, 4096)).unwrap();
    let mut completions: Vec<Completion> = Vec::new();
    while completions.len() < 2 {
        engine.submit_and_wait(Wait::UntilWoken, &mut completions);
    }
    let mut moved: Vec<_> = completions.iter().map(|completion| completion.result).collect();
    moved.sort_by_key(|result| format!("{result:?}"));
    assert_eq!(moved, [StepResult::Done(2 << 20), StepResult::Done(4096)]);
    engine.detach(index);
    drop(device);
    let held = fs::read(disk.path()).unwrap();
    let zeroes = |byte: u64| (MIB..3 * MIB).contains(&byte) || (4 * MIB..4 * MIB + 4096).contains(&byte);
    assert!(held.iter().enumerate().all(|(byte, &value)| (value == 0) == zeroes(byte as u64)));
}

fn arena() -> Arc<Arena> {
    Arc::new(Arena::new(8).unwrap())
}

#[test]
fn p6_a_block_device_is_zeroed_through_the_ring_and_aside_from_it() {
    for zero_range in [Use::IfGranted, Use::Never] {
        for sector_bytes in [512, 4096] {
            let options = UringOptions { zero_range, ..UringOptions::default() };
            let mut engine = match Uring::new(arena(), &options) {
                Ok(engine) => engine,
                Err(error) => return println!("skipped: {error}"),
            };
            zeroes_the_middle(&mut engine, sector_bytes);
            let counters = engine.counters();
            let aside = u64::from(zero_range == Use::Never);
            assert_eq!((counters.aside, counters.fallocate), (2 * aside, 2 - 2 * aside));
        }
    }
}

#[test]
fn p6_a_block_device_is_zeroed_by_a_worker_thread() {
    for sector_bytes in [512, 4096] {
        zeroes_the_middle(&mut Threads::new(arena(), "tested").unwrap(), sector_bytes);
    }
}

#[test]
fn dropping_the_ring_waits_for_what_is_done_aside() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = LoopDevice::new(directory.path(), 64 * MIB, 512) else { return };
    let options = UringOptions { zero_range: Use::Never, ..UringOptions::default() };
    let mut engine = match Uring::new(arena(), &options) {
        Ok(engine) => engine,
        Err(error) => return println!("skipped: {error}"),
    };
    fs::write(disk.path(), vec![0xFF; 64 << 20]).unwrap();
    let writing = DeviceOptions { access: Access::Write, ..DeviceOptions::default() };
    let device = Arc::new(Device::open(disk.path(), &writing).unwrap());
    let index = engine.attach(&device).unwrap();
    engine.stage(zero(index, 0, 64 << 20)).unwrap();
    engine.submit_and_wait(Wait::No, &mut Vec::new());
    drop(engine);
    assert_eq!(Arc::strong_count(&device), 1);
    drop(device);
    assert!(fs::read(disk.path()).unwrap().iter().all(|&byte| byte == 0), "it was waited for, not given up");
}
