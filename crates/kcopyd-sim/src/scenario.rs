//! Everything that a run is made of, as plain data: the same scenario is the same run, and leaving a job out of it leaves the
//! others as they were, which is what makes a trace small. It refuses to know what will come of it.

use std::ops::Range;

use smallvec::SmallVec;

use kcopyd::copy::job::JobFlags;
use kcopyd::copy::limits::{PAGE_BYTES, SECTOR_BYTES};
use kcopyd::copy::region::{DeviceKind, Geometry, Identity, Unaligned};
use kcopyd::copy::request::Endpoint;
use kcopyd::copy::throttle::ThrottleLimits;
use kcopyd::engine::simulated::SharedChoices;

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Where it comes from; all that looks random while it runs follows from it, too.
    pub seed: u64,
    /// How many bytes one tag stands for: 512, or fewer where a run is to see what becomes of parts of a sector.
    pub unit_bytes: u64,
    /// Pages of the client's pool.
    pub pages: u32,
    /// The size of sub-jobs, in sectors.
    pub sub_job_sectors: u64,
    /// The engine's depth: steps staged or in flight at most.
    pub steps_max: u32,
    /// How long requests take.
    pub latency: Latency,
    /// In which order they end.
    pub order: Order,
    /// What goes wrong by chance, while anything goes wrong.
    pub rates: Rates,
    /// Requests that go wrong, by their numbers in the run.
    pub strikes: Vec<(Range<u64>, Effect)>,
    /// The disks.
    pub disks: Vec<DiskSpec>,
    /// Requests that are judged, but not carried out whatever the judgement.
    pub probes: Vec<Probe>,
    /// The jobs; a job's token is its place in this list.
    pub jobs: Vec<JobSpec>,
    /// What the throttle says from when on, in ascending order; with none there is no throttle.
    pub throttle: Vec<(u64, ThrottleLimits)>,
    /// From when on nothing goes wrong any more, except that a failed flush stays failed: the liveness phase.
    pub heal_at_ns: u64,
    /// When everything is aborted at once, if it is.
    pub abort_all_at_ns: Option<u64>,
    /// Before which turn of the client the first job is aborted, if it is.
    pub abort_first_before_turn: Option<u64>,
    /// After which turn the client breaks, if it does: no outcome comes any more, and its list of unfinished jobs must be right.
    pub break_after_turn: Option<u64>,
    /// When the client is closed, if it is before all is done: what comes later is refused, what was accepted comes to its end.
    pub close_at_ns: Option<u64>,
    /// Before which turn of the client it is closed, if it is.
    pub close_before_turn: Option<u64>,
}

/// A request that is judged only.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Its source; none asks for zeroes.
    pub source: Option<Endpoint>,
    /// Its destinations.
    pub destinations: Vec<Endpoint>,
}

/// How long a request takes: the sum of these, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Every request.
    pub base_ns: u64,
    /// Up to so much more, by chance.
    pub jitter_ns: u64,
    /// One request in so many takes `outlier_ns` more; 0 for none.
    pub outlier_one_in: u64,
    /// So much more for an outlier.
    pub outlier_ns: u64,
    /// What ends within this time comes home together.
    pub together_ns: u64,
}

/// In which order requests end.
#[derive(Clone, Debug)]
pub enum Order {
    /// As their latencies have it.
    ByTime,
    /// Each wait ends one request, which one is chosen.
    Chosen(SharedChoices),
}

/// How often what goes wrong by chance, in 65,536 requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// A read fails.
    pub read_fails: u32,
    /// A write fails; some of it may have landed.
    pub write_fails: u32,
    /// Anything but a flush moves less than it was asked to.
    pub short: u32,
    /// Anything but a flush moves nothing and says so.
    pub empty: u32,
    /// EINTR.
    pub interrupted: u32,
    /// EAGAIN.
    pub again: u32,
    /// It takes a tenth of a second longer.
    pub slow: u32,
    /// A flush fails, and the disk's flushes fail from then on.
    pub flush_fails: u32,
    /// Zeroing by the device fails.
    pub zero_fails: u32,
}

/// What becomes of a request that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails with this positive errno.
    Fail(i32),
    /// Only so many 64ths of it are moved, rounded down to units: always less than all.
    Short(u8),
}

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskKind {
    /// A block device with logical blocks of so many bytes.
    Block(u32),
    /// A regular file, opened direct and buffered.
    DirectFile,
    /// A regular file, opened buffered only.
    BufferedFile,
    /// A regular file, opened direct only.
    StrictFile,
}

/// A disk.
#[derive(Clone, Debug)]
pub struct DiskSpec {
    /// What it is.
    pub kind: DiskKind,
    /// Its size when the run begins.
    pub bytes: u64,
    /// Where jobs write, in bytes; the run keeps only this part in memory.
    pub window: Range<u64>,
    /// Whether it can make zeroes by itself.
    pub zeroing: Zeroing,
    /// Whether anything goes wrong with it by chance.
    pub health: Health,
}

/// Whether anything goes wrong with a disk by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Frail,
    /// Nothing does.
    Sound,
}

/// Whether a disk can make zeroes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroing {
    /// It can.
    Offered,
    /// It refuses with EOPNOTSUPP.
    Refused,
}

/// A place on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The disk's place in the scenario's list.
    pub disk: usize,
    /// The first sector.
    pub sector: u64,
}

/// A job, and what becomes of it.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// When it is submitted.
    pub when: When,
    /// What is read; zeroes if nothing is.
    pub source: Option<Place>,
    /// How many sectors; none for a source's "to its end".
    pub count: Option<u64>,
    /// Where it is written.
    pub destinations: SmallVec<[Place; 2]>,
    /// How.
    pub flags: JobFlags,
    /// How long after its submission it is aborted, if it is.
    pub abort_after_ns: Option<u64>,
    /// Places that are bad until the disks are healed.
    pub bad: Vec<BadPlace>,
    /// No piece of it is to be larger, in bytes, because a queue would split the requests.
    pub piece_bytes_max: Option<u64>,
    /// Whether somebody looks at its progress.
    pub watched: bool,
}

/// When a job is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this time.
    At(u64),
    /// From the callback of the job in this place of the list, or at the beginning if that job never is.
    After(usize),
    /// Not at all: it was left out to make a trace smaller.
    Never,
}

/// One of a job's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// The source.
    Source,
    /// The destination of this number.
    Destination(u8),
}

/// A part of a job's region that is bad: every request that touches it suffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPlace {
    /// On which end's disk.
    pub party: Party,
    /// Which sectors, counted from the region's beginning.
    pub sectors: Range<u64>,
    /// With which errno requests fail.
    pub errno: i32,
    /// What happens to the part before it.
    pub before: Before,
}

/// What happens to the part of a request that lies before a bad place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is moved, which is a short result; a request that begins in the bad place fails.
    Moved,
    /// It shares the request's failure.
    Lost,
}

impl DiskSpec {
    /// What the mind is told of the disk, of whatever size it is by now.
    #[must_use]
    pub fn geometry(&self, number: usize, bytes: u64) -> Geometry {
        let number = number as u64;
        let (kind, id) = match self.kind {
            DiskKind::Block(_) => (DeviceKind::Block, (0, number)),
            _ => (DeviceKind::File, (1 << 63, number)),
        };
        let (logical_block_bytes, direct_alignment_bytes) = match self.kind {
            DiskKind::Block(block) => (block, block),
            DiskKind::DirectFile | DiskKind::StrictFile => (SECTOR_BYTES as u32, PAGE_BYTES as u32),
            DiskKind::BufferedFile => (SECTOR_BYTES as u32, 1),
        };
        let unaligned = match self.kind {
            DiskKind::Block(_) | DiskKind::StrictFile => Unaligned::Refused,
            DiskKind::DirectFile | DiskKind::BufferedFile => Unaligned::Buffered,
        };
        let identity = Identity { id, start_bytes: 0 };
        Geometry { kind, identity, bytes, logical_block_bytes, direct_alignment_bytes, unaligned }
    }

    /// Requests to the disk must be multiples of this, or they fail with EINVAL.
    #[must_use]
    pub fn request_unit_bytes(&self) -> u64 {
        match self.kind {
            DiskKind::Block(block) => u64::from(block),
            DiskKind::StrictFile => PAGE_BYTES,
            DiskKind::DirectFile | DiskKind::BufferedFile => 1,
        }
    }
}
