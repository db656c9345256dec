//! The canon: small jobs that between them go through every room of the mind. Small enough that everything that can happen to
//! them can be tried. It refuses to know what is tried.

use kcopyd::copy::job::{Flush, JobFlags, OnError, WriteOrder};

use crate::scenario::{DiskKind, DiskSpec, Health, JobSpec, Latency, Order, Place, Rates, Scenario, When, Zeroing};

const PLAIN: JobFlags = JobFlags { on_error: OnError::Stop, order: WriteOrder::Any, flush: Flush::No };
const IGNORING: JobFlags = JobFlags { on_error: OnError::Ignore, ..PLAIN };
const SEQUENTIAL: JobFlags = JobFlags { order: WriteOrder::Sequential, ..PLAIN };
const FLUSHED: JobFlags = JobFlags { flush: Flush::Yes, ..PLAIN };

/// A scenario with a name.
#[derive(Clone, Debug)]
pub struct Named {
    /// What is special about it.
    pub name: &'static str,
    /// What happens.
    pub scenario: Scenario,
}

/// A disk whose first 4,096 sectors can be written, and the 4,096 behind them read.
fn disk(kind: DiskKind) -> DiskSpec {
    let zeroing = Zeroing::Offered;
    DiskSpec { kind, bytes: 8192 * 512, window: 0..4096 * 512, zeroing, health: Health::Frail }
}

/// Copies from the first disk to one region on each of the others, in pieces of a page.
fn copies(name: &'static str, count: u64, flags: JobFlags, kinds: &[DiskKind]) -> Named {
    let mut disks = vec![disk(DiskKind::Block(512))];
    disks.extend(kinds.iter().map(|&kind| disk(kind)));
    let job = JobSpec {
        when: When::At(0),
        source: Some(Place { disk: 0, sector: 4096 }),
        count: Some(count),
        destinations: (1..disks.len()).map(|disk| Place { disk, sector: 8 }).collect(),
        flags,
        abort_after_ns: None,
        bad: Vec::new(),
        piece_bytes_max: None,
        watched: true,
    };
    let scenario = Scenario {
        seed: 1,
        unit_bytes: 512,
        pages: 16,
        sub_job_sectors: 8,
        steps_max: 256,
        latency: Latency { base_ns: 1000, jitter_ns: 0, outlier_one_in: 0, outlier_ns: 0, together_ns: 0 },
        order: Order::ByTime,
        rates: Rates::default(),
        strikes: Vec::new(),
        disks,
        probes: Vec::new(),
        jobs: vec![job],
        throttle: Vec::new(),
        heal_at_ns: 0,
        abort_all_at_ns: None,
        abort_first_before_turn: None,
        break_after_turn: None,
        close_at_ns: None,
        close_before_turn: None,
    };
    Named { name, scenario }
}

fn blocks(destinations: usize) -> Vec<DiskKind> {
    vec![DiskKind::Block(512); destinations]
}

/// The jobs to which every fault is done.
#[must_use]
pub fn canon() -> Vec<Named> {
    let mut canon = vec![
        copies("one sector to one destination", 1, PLAIN, &blocks(1)),
        copies("four pieces to one destination", 32, PLAIN, &blocks(1)),
        copies("two pieces to three destinations", 16, PLAIN, &blocks(3)),
        copies("two pieces to three destinations, errors ignored", 16, IGNORING, &blocks(3)),
        copies("four pieces in sequence", 32, SEQUENTIAL, &blocks(1)),
        copies(
            "two pieces in sequence to two destinations, flushed",
            16,
            JobFlags { flush: Flush::Yes, ..SEQUENTIAL },
            &blocks(2),
        ),
        copies("one piece to three destinations, flushed", 5, FLUSHED, &blocks(3)),
        copies("three pieces to two destinations, flushed", 24, FLUSHED, &blocks(2)),
        copies("two pieces of blocks of 4096", 16, PLAIN, &[DiskKind::Block(4096)]),
    ];
    let mut wide = copies(
        "two pieces of two pages, errors ignored, flushed",
        32,
        JobFlags { flush: Flush::Yes, ..IGNORING },
        &blocks(2),
    );
    wide.scenario.sub_job_sectors = 16;
    canon.push(wide);
    canon.extend([misaligned(), tail(), zeroes(), two_jobs(), chained()]);
    canon
}

/// A file's region that begins and ends within pages, and a second file that is off by another amount.
fn misaligned() -> Named {
    let mut named =
        copies("a region that is off the page in two files", 20, PLAIN, &[DiskKind::DirectFile, DiskKind::DirectFile]);
    named.scenario.jobs[0].destinations[0].sector = 3;
    named.scenario.jobs[0].destinations[1].sector = 13;
    named
}

/// A file's last bytes on a block device, padded.
fn tail() -> Named {
    let mut named =
        copies("a file's tail on a block device and in a file", 0, PLAIN, &[DiskKind::Block(4096), DiskKind::BufferedFile]);
    let source = &mut named.scenario.disks[0];
    (source.kind, source.bytes) = (DiskKind::BufferedFile, 8192 * 512 - 64);
    named.scenario.unit_bytes = 64;
    let job = &mut named.scenario.jobs[0];
    (job.source, job.count) = (Some(Place { disk: 0, sector: 8192 - 11 }), None);
    named
}

/// Zeroes, where one of the destinations has to be written to.
fn zeroes() -> Named {
    let mut named = copies("zeroes for two destinations, one of which refuses", 20, FLUSHED, &blocks(2));
    named.scenario.jobs[0].source = None;
    named.scenario.disks[1].zeroing = Zeroing::Refused;
    named
}

/// Two jobs that must share a pool of one page.
fn two_jobs() -> Named {
    let mut named = copies("two jobs of two pieces on one page", 16, PLAIN, &blocks(1));
    let mut second = named.scenario.jobs[0].clone();
    second.destinations[0].sector = 24;
    second.source = Some(Place { disk: 0, sector: 5000 });
    named.scenario.jobs.push(second);
    named.scenario.pages = 1;
    named
}

/// Three jobs, each submitted from the callback of the one before it: a close refuses those that have not come yet.
fn chained() -> Named {
    let mut named = copies("three jobs, each from the callback of the one before", 8, PLAIN, &blocks(1));
    for before in 0..2 {
        let mut next = named.scenario.jobs[before].clone();
        next.when = When::After(before);
        next.destinations[0].sector += 8;
        named.scenario.jobs.push(next);
    }
    named.scenario.pages = 1;
    named
}

/// The jobs whose requests end in every order: at most eight that can overtake each other.
#[must_use]
pub fn orders() -> Vec<Named> {
    let mut orders = vec![
        copies("one piece to eight destinations", 8, PLAIN, &blocks(8)),
        copies("four pieces to one destination", 32, PLAIN, &blocks(1)),
        copies("four pieces to one destination, errors ignored", 32, IGNORING, &blocks(1)),
        copies("four pieces in sequence", 32, SEQUENTIAL, &blocks(1)),
        copies("two pieces to three destinations", 16, PLAIN, &blocks(3)),
        copies("one piece to four destinations, flushed", 8, FLUSHED, &blocks(4)),
        copies("two pieces to two destinations, flushed", 16, FLUSHED, &blocks(2)),
        two_jobs(),
    ];
    let mut crowded = two_jobs();
    (crowded.name, crowded.scenario.pages) = ("two jobs of two pieces on two pages", 2);
    orders.push(crowded);
    orders
}
