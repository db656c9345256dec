//! What a subject does: jobs as a function of the run's number and the job's, so that whoever looks at the bytes afterwards knows
//! what should be there without having been told. It does no I/O.

use std::ops::Range;

use fastrand::Rng;
use kcopyd::client::{Flush, JobFlags, WriteOrder};

pub const SECTOR: usize = 512;
/// Every job of a run has a slot of its own in every destination; the first and the last one belong to nobody.
pub const SLOT_SECTORS: u64 = 128;
/// How many jobs a subject keeps submitted.
pub const DEPTH: u64 = 8;

/// A job, in sectors.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Where it reads; none makes zeroes.
    pub source: Option<u64>,
    pub count: u64,
    /// Which destinations, and where.
    pub destinations: Vec<(usize, u64)>,
    pub flags: JobFlags,
}

impl Planned {
    /// The bytes that belong into every destination.
    pub fn bytes(&self, source: &[u8]) -> Vec<u8> {
        match self.source {
            Some(sector) => source[range(sector, self.count)].to_vec(),
            None => vec![0; self.count as usize * SECTOR],
        }
    }
}

/// The bytes of some sectors.
pub fn range(sector: u64, count: u64) -> Range<usize> {
    sector as usize * SECTOR..(sector + count) as usize * SECTOR
}

/// The sizes that a plan needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub source_sectors: u64,
    pub destination_sectors: u64,
    pub destinations: usize,
    /// Regions begin and end on multiples of this many sectors.
    pub unit_sectors: u64,
}

impl Sizes {
    /// How many jobs one run can have.
    pub fn jobs(&self) -> u64 {
        self.destination_sectors / SLOT_SECTORS - 2
    }
}

/// The nth job of a run.
pub fn planned(run: u64, job: u64, sizes: &Sizes) -> Planned {
    let jobs = sizes.jobs();
    assert!(job < jobs, "a run has {jobs} jobs");
    let mut rng = Rng::with_seed(run << 16 | job);
    let units = SLOT_SECTORS / sizes.unit_sectors;
    let count = rng.u64(1..=units);
    let place = rng.u64(0..=units - count);
    let slot = 1 + (job + run) % jobs;
    let sector = slot * SLOT_SECTORS + place * sizes.unit_sectors;
    let count = count * sizes.unit_sectors;
    let mut destinations: Vec<usize> = (0..sizes.destinations).collect();
    rng.shuffle(&mut destinations);
    destinations.truncate(rng.usize(1..=sizes.destinations));
    let source = rng.u64(0..=(sizes.source_sectors - count) / sizes.unit_sectors) * sizes.unit_sectors;
    let order = if rng.u8(0..4) == 0 { WriteOrder::Sequential } else { WriteOrder::Any };
    let flush = if rng.u8(0..4) == 0 { Flush::Yes } else { Flush::No };
    Planned {
        source: (rng.u8(0..8) > 0).then_some(source),
        count,
        destinations: destinations.into_iter().map(|destination| (destination, sector)).collect(),
        flags: JobFlags { order, flush, ..JobFlags::default() },
    }
}
