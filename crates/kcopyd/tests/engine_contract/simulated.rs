//! The simulated engine's world: disks in memory that fail where told.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use kcopyd::copy::chain::Operation;
use kcopyd::copy::limits::SECTOR_BYTES;
use kcopyd::engine::arena::Arena;
use kcopyd::engine::simulated::{Effect, Fault, Simulated, SimulatedDisk, SimulatedOptions};

use crate::fixture::{Faulty, Fixture};

/// Every disk gets a number of its own, every engine a seed.
pub struct SimulatedDisks {
    next: Cell<u64>,
}

impl SimulatedDisks {
    fn number(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    fn faulty(&self, bytes: &[u8], operation: Operation, errno: i32) -> Faulty<SimulatedDisk> {
        let device = self.device(bytes);
        device.inject(Fault::on(operation, Effect::Fail(errno)));
        Faulty { device, errno }
    }
}

impl Fixture for SimulatedDisks {
    type Engine = Simulated;

    fn new() -> Self {
        SimulatedDisks { next: Cell::new(1) }
    }

    fn engine(&self, arena: Arc<Arena>) -> Simulated {
        Simulated::new(arena, SimulatedOptions { seed: self.number(), ..SimulatedOptions::default() })
    }

    fn device(&self, bytes: &[u8]) -> Arc<SimulatedDisk> {
        let disk = SimulatedDisk::file(self.number(), bytes.len() as u64);
        disk.set_contents(0, bytes);
        Arc::new(disk)
    }

    fn unreadable(&self, bytes: &[u8]) -> Faulty<SimulatedDisk> {
        self.faulty(bytes, Operation::Read, libc::EIO)
    }

    /// The fault's place is the whole disk, so that nothing of a failed write lands.
    fn unwritable(&self, bytes: &[u8]) -> Faulty<SimulatedDisk> {
        self.faulty(bytes, Operation::Write, libc::EIO)
    }

    fn unflushable(&self, bytes: &[u8]) -> Faulty<SimulatedDisk> {
        self.faulty(bytes, Operation::Flush, libc::EIO)
    }

    fn full(&self) -> (Faulty<SimulatedDisk>, u64) {
        let (device, full_at) = (self.device(&[]), 1 << 30);
        device
            .inject(Fault::on(Operation::Write, Effect::StopAt(libc::ENOSPC)).at_sectors(full_at / SECTOR_BYTES..u64::MAX));
        (Faulty { device, errno: libc::ENOSPC }, full_at)
    }

    fn bytes(&self, device: &SimulatedDisk, range: Range<u64>) -> Vec<u8> {
        device.contents(range)
    }
}
