//! From a seed to a scenario. Every seed has a taste of its own: some have no faults, some nothing but; one page or a thousand;
//! one destination or thirty-two. It refuses to know what the mind does with any of it.

use std::ops::Range;

use smallvec::SmallVec;

use kcopyd::copy::job::{Flush, JobFlags, OnError, WriteOrder};
use kcopyd::copy::limits::{CHAIN_STEPS_MAX, ENGINE_STEPS_MAX};
use kcopyd::copy::throttle::ThrottleLimits;
use kcopyd::engine::simulated::Random;

use crate::fault::{EILSEQ, EIO, ENODATA, ENOSPC};
use crate::probes;
use crate::scenario::{
    BadPlace, Before, DiskKind, DiskSpec, Health, JobSpec, Latency, Order, Party, Place, Rates, Scenario, When, Zeroing,
};

/// The most sectors of one job.
const JOB_SECTORS_MAX: u64 = 8192;

/// Windows and sources begin below this sector: 2^39 sectors are 256 TiB.
const SECTOR_MAX: u64 = 1 << 39;

/// What all jobs of a seed have in common.
struct Taste {
    pieces_most: u64,
    destinations_most: u64,
    ignoring: u64,
    sequential: u64,
    flushing: u64,
    zeroing: u64,
    aborting: u64,
    bad: u64,
    watched: u64,
    chained: u64,
    window_ns: u64,
    sub_job_sectors: u64,
}

/// The scenario of a seed.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let random = &mut Random::new(seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1));
    let unit_bytes = *pick(random, &[512, 512, 512, 512, 512, 512, 64, 8]);
    // Where a tag is less than a sector there are more of them.
    let (pages, sub_job_sectors) = if unit_bytes == 512 { memory(random) } else { (1 + random.below(40) as u32, 8) };
    let latency = latency(random);
    let jobs = 8 + random.below(40);
    let taste = taste(random, sub_job_sectors, jobs * (latency.base_ns + latency.jitter_ns + 1000));
    let heal_at_ns = taste.window_ns + random.below(2 * taste.window_ns) + 1;
    let mut plots = plots(random, &taste);
    let mut jobs: Vec<JobSpec> =
        (0..jobs as usize).map(|index| job(random, &taste, &mut plots, index, heal_at_ns)).collect();
    let disks: Vec<DiskSpec> = plots.iter().map(|plot| plot.spec(random, unit_bytes)).collect();
    jobs.iter_mut().for_each(|job| place_source(random, job, &disks));
    let deepest = (CHAIN_STEPS_MAX as u64).min(2 * taste.destinations_most + 1);
    Scenario {
        seed,
        unit_bytes,
        pages,
        sub_job_sectors,
        steps_max: if random.one_in(3) {
            deepest + random.below(8)
        } else {
            deepest.max(1 + random.below(ENGINE_STEPS_MAX.into()))
        } as u32,
        latency,
        order: Order::ByTime,
        rates: rates(random),
        strikes: Vec::new(),
        throttle: throttle(random, &jobs, heal_at_ns),
        disks,
        probes: (0..3).map(|_| probes::probe(random)).collect(),
        jobs,
        heal_at_ns,
        abort_all_at_ns: random.one_in(32).then(|| random.below(2 * heal_at_ns)),
        abort_first_before_turn: None,
        break_after_turn: random.one_in(64).then(|| 1 + random.below(100)),
        close_at_ns: random.one_in(16).then(|| random.below(heal_at_ns)),
        close_before_turn: None,
    }
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len() as u64) as usize]
}

/// Small numbers often, large ones sometimes: up to 2^bits - 1.
fn skewed(random: &mut Random, bits: u64) -> u64 {
    let width = random.below(bits + 1);
    random.below(1 << width)
}

/// Pages and the size of sub-jobs: from a pool of one page to one of several chunks of the arena.
fn memory(random: &mut Random) -> (u32, u64) {
    let pages = match random.below(8) {
        0 => 1,
        1 => 2 + random.below(7),
        2..=4 => 8 + random.below(57),
        5 | 6 => 64 + random.below(449),
        _ => 500 + random.below(1100),
    };
    let most = pages.min(256);
    let sub_pages = match random.below(10) {
        0..=2 => 1,
        3..=6 => 1 + random.below(8),
        7 | 8 => 1 + random.below(32),
        _ => 1 + random.below(256),
    };
    let sub_pages = sub_pages.min(most);
    // What is not a multiple of a page is rounded down.
    let odd = if sub_pages < 256 && random.one_in(4) { random.below(8) } else { 0 };
    (pages as u32, sub_pages * 8 + odd)
}

fn latency(random: &mut Random) -> Latency {
    let (base_ns, jitter_ns) = (skewed(random, 17), skewed(random, 18));
    Latency {
        base_ns,
        jitter_ns,
        outlier_one_in: if random.one_in(2) { 500 } else { 0 },
        outlier_ns: random.below(100_000_000),
        together_ns: if random.one_in(2) { 0 } else { jitter_ns / 4 },
    }
}

fn taste(random: &mut Random, sub_job_sectors: u64, window_ns: u64) -> Taste {
    let mut often = |of: &[u64]| *pick(random, of);
    let destinations_most = match often(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4]) {
        0 => 1 + often(&[0, 0, 1]),
        1 => 3,
        2 => 4,
        3 => 8,
        _ => 32,
    };
    // Large pieces are few, or moving them would be all that is done.
    let few = (2048 / sub_job_sectors).max(2);
    // Of the others, one job in so many; 0 for none.
    Taste {
        pieces_most: often(&[1, 1, 1, 2, 2, 4, 4, 8, 8, 40]).min(few),
        destinations_most,
        ignoring: often(&[0, 2, 3, 8]),
        sequential: often(&[0, 0, 2, 5, 8]),
        flushing: often(&[0, 0, 2, 5]),
        zeroing: often(&[0, 6, 12, 2]),
        aborting: often(&[0, 0, 20, 4]),
        bad: often(&[0, 0, 8, 3]),
        watched: 10,
        chained: often(&[0, 0, 0, 1, 3]),
        window_ns: often(&[0, 0, 1, 1, 4]) * window_ns + 1,
        sub_job_sectors,
    }
}

/// Half of the kinds of fault, at rates of their own; a quarter of the seeds have none.
fn rates(random: &mut Random) -> Rates {
    if random.one_in(4) {
        return Rates::default();
    }
    let often = random.one_in(6);
    let mut rate = || {
        let rate = *pick(random, &[0, 0, 0, 0, 66, 66, 655, 6554]);
        if often { rate } else { rate.min(655) }
    };
    Rates {
        read_fails: rate(),
        write_fails: rate(),
        short: rate(),
        empty: rate(),
        interrupted: rate(),
        again: rate(),
        slow: rate().min(66),
        flush_fails: rate(),
        zero_fails: rate(),
    }
}

/// Where jobs may write on a disk, while that is being divided among them.
struct Plot {
    kind: DiskKind,
    start: u64,
    cursor: u64,
    /// Sectors behind the plot that can be read; none if the disk is written only.
    readable: u64,
}

fn plots(random: &mut Random, taste: &Taste) -> Vec<Plot> {
    let kinds: &[DiskKind] = match random.below(4) {
        0 => &[DiskKind::Block(512)],
        1 => &[DiskKind::Block(512), DiskKind::Block(512), DiskKind::Block(4096)],
        2 => &[DiskKind::DirectFile, DiskKind::BufferedFile],
        _ => {
            use DiskKind::{Block, BufferedFile, DirectFile, StrictFile};
            &[Block(512), Block(4096), DirectFile, DirectFile, BufferedFile, StrictFile]
        }
    };
    let disks = 2 + random.below(taste.destinations_most.min(6));
    let plot = |number: u64| {
        let start = if random.one_in(3) { random.below(64) } else { random.below(SECTOR_MAX) };
        // The first disk can always be read.
        let readable = if number == 0 || random.one_in(2) { JOB_SECTORS_MAX + random.below(1 << 20) } else { 0 };
        Plot { kind: *pick(random, kinds), start, cursor: start, readable }
    };
    (0..disks).map(plot).collect()
}

impl Plot {
    /// Sets aside a region of so many sectors, after a gap or right behind the one before it.
    fn take(&mut self, random: &mut Random, sectors: u64, unit: u64) -> u64 {
        let gap = *pick(random, &[0, 0, 1, 8]);
        let sector = (self.cursor + gap).next_multiple_of(unit);
        self.cursor = sector + sectors;
        sector
    }

    fn spec(&self, random: &mut Random, unit_bytes: u64) -> DiskSpec {
        let window = self.start * 512..(self.cursor + 8).next_multiple_of(8) * 512;
        let end = window.end / 512 + self.readable.next_multiple_of(8);
        let bytes = match self.kind {
            DiskKind::Block(_) => end * 512,
            // A file ends at any byte; one that is written only may be shorter than what is written to it.
            _ if self.readable > 0 => end * 512 - random.below(512 / unit_bytes) * unit_bytes,
            _ => random.below(end) * 512,
        };
        let zeroing = if random.one_in(3) { Zeroing::Refused } else { Zeroing::Offered };
        let health = if random.one_in(4) { Health::Sound } else { Health::Frail };
        DiskSpec { kind: self.kind, bytes, window, zeroing, health }
    }

    fn unit(&self) -> u64 {
        if matches!(self.kind, DiskKind::Block(4096) | DiskKind::StrictFile) { 8 } else { 1 }
    }
}

/// How many sectors: one, a piece, one more or less, some pieces and a bit.
fn sectors(random: &mut Random, taste: &Taste) -> u64 {
    let (piece, pieces) = (taste.sub_job_sectors / 8 * 8, 1 + random.below(taste.pieces_most));
    let sectors = match random.below(12) {
        0 => 0,
        1 => 1,
        2 => piece - 1,
        3 => piece + 1,
        4 | 5 => piece * pieces,
        6 => piece * pieces + 1,
        7 => piece * pieces - 1,
        _ => 1 + random.below(piece * pieces),
    };
    sectors.min(JOB_SECTORS_MAX)
}

/// A job, all but for where its source lies: that is known when all destinations have their place.
fn job(random: &mut Random, taste: &Taste, plots: &mut [Plot], index: usize, heal_at_ns: u64) -> JobSpec {
    let destinations = 1 + random.below(taste.destinations_most);
    let chosen: SmallVec<[usize; 4]> = (0..destinations).map(|_| random.below(plots.len() as u64) as usize).collect();
    let zeroing = random.one_in(taste.zeroing);
    let readable: SmallVec<[usize; 4]> = (0..plots.len()).filter(|&disk| plots[disk].readable > 0).collect();
    let source = (!zeroing).then(|| Place { disk: *pick(random, &readable), sector: 0 });
    let source_unit = source.map_or(1, |place| plots[place.disk].unit());
    let unit = chosen.iter().map(|&disk| plots[disk].unit()).max().unwrap_or(1).max(source_unit);
    // A file's last bytes may go to a block device, whatever their number.
    let at_end = source.is_some() && random.one_in(4);
    let (reserved, count) = match sectors(random, taste) {
        sectors if at_end && source_unit == 1 => (sectors.next_multiple_of(8), sectors),
        sectors => (sectors.next_multiple_of(unit), sectors.next_multiple_of(unit)),
    };
    let place = |disk: usize| {
        let unit = plots[disk].unit();
        Place { disk, sector: plots[disk].take(random, reserved, unit) }
    };
    let destinations: SmallVec<[Place; 2]> = chosen.into_iter().map(place).collect();
    let bad = if random.one_in(taste.bad) { bad_places(random, count, destinations.len(), zeroing) } else { Vec::new() };
    JobSpec {
        when: when(random, taste, index, heal_at_ns),
        source: source.map(|place| Place { sector: if at_end { u64::MAX } else { 0 }, ..place }),
        count: Some(count),
        destinations,
        flags: flags(random, taste),
        abort_after_ns: random.one_in(taste.aborting).then(|| skewed(random, 22)),
        bad,
        piece_bytes_max: random.one_in(8).then(|| random.below(32 * 4096)),
        watched: random.one_in(taste.watched),
    }
}

fn when(random: &mut Random, taste: &Taste, index: usize, heal_at_ns: u64) -> When {
    if index > 0 && random.one_in(taste.chained) {
        return When::After(index - 1 - random.below(index.min(4) as u64) as usize);
    }
    // The last ones come when all is well again.
    if random.one_in(8) {
        return When::At(heal_at_ns + random.below(taste.window_ns));
    }
    When::At(random.below(taste.window_ns))
}

fn flags(random: &mut Random, taste: &Taste) -> JobFlags {
    JobFlags {
        on_error: if random.one_in(taste.ignoring) { OnError::Ignore } else { OnError::Stop },
        order: if random.one_in(taste.sequential) { WriteOrder::Sequential } else { WriteOrder::Any },
        flush: if random.one_in(taste.flushing) { Flush::Yes } else { Flush::No },
    }
}

/// One to four bad places: each somewhere, or a page or so behind the one before it, like a scratch.
fn bad_places(random: &mut Random, count: u64, destinations: usize, zeroing: bool) -> Vec<BadPlace> {
    let mut places: Vec<BadPlace> = Vec::new();
    for _ in 0..1 + random.below(4) {
        let place = match places.last() {
            Some(last) if random.one_in(2) => {
                let start = last.sectors.end + random.below(24);
                BadPlace { sectors: start..start + 1 + random.below(8), ..last.clone() }
            }
            _ => bad_place(random, count, destinations, zeroing),
        };
        places.push(place);
    }
    places
}

fn bad_place(random: &mut Random, count: u64, destinations: usize, zeroing: bool) -> BadPlace {
    let source = !zeroing && random.one_in(2);
    let start = random.below(count + 1);
    // A few sectors, or all the rest: a full disk.
    let end = if random.one_in(4) { count + 8 } else { start + 1 + skewed(random, 5) };
    BadPlace {
        party: if source { Party::Source } else { Party::Destination(random.below(destinations as u64) as u8) },
        sectors: start..end,
        errno: *pick(random, if source { &[EIO, ENODATA, EILSEQ] } else { &[EIO, ENOSPC, ENOSPC] }),
        before: if random.one_in(2) { Before::Moved } else { Before::Lost },
    }
}

/// Puts a job's source somewhere behind its disk's plot: anywhere, at the very beginning, or at the end.
fn place_source(random: &mut Random, job: &mut JobSpec, disks: &[DiskSpec]) {
    let (Some(place), Some(count)) = (&mut job.source, job.count) else { return };
    let disk = &disks[place.disk];
    let unit = if matches!(disk.kind, DiskKind::Block(4096) | DiskKind::StrictFile) { 8 } else { 1 };
    let readable: Range<u64> = disk.window.end / 512..disk.bytes.div_ceil(512);
    let last = readable.end - count.min(readable.end - readable.start);
    if place.sector == u64::MAX {
        place.sector = last / unit * unit;
        if place.sector + count == readable.end && random.one_in(2) {
            job.count = None;
        }
        return;
    }
    let somewhere = readable.start + random.below(last - readable.start + 1);
    place.sector = if random.one_in(8) { readable.start } else { somewhere.next_multiple_of(unit).min(last / unit * unit) };
}

/// A twelfth of the seeds are throttled, by limits that change while jobs run and are lifted at last.
fn throttle(random: &mut Random, jobs: &[JobSpec], heal_at_ns: u64) -> Vec<(u64, ThrottleLimits)> {
    if !random.one_in(12) {
        return Vec::new();
    }
    let sectors: u64 = jobs.iter().map(|job| job.count.unwrap_or(64)).sum();
    let mut limits = || {
        // Such that everything takes between a millisecond and a second.
        let mut per_second = |amount: u64| (amount + 1) * (1 + skewed(random, 10));
        let (bytes, requests) = (per_second(sectors * 512), per_second(jobs.len() as u64 * 4));
        ThrottleLimits {
            percent: random.one_in(3).then(|| 1 + random.below(100) as u8),
            bytes_per_second: random.one_in(2).then_some(bytes),
            requests_per_second: random.one_in(2).then_some(requests),
        }
    };
    let first = (0, limits());
    let second = (1 + heal_at_ns / 2, limits());
    vec![first, second, (2 * heal_at_ns + 2, ThrottleLimits::default())]
}
