//! What the mind costs by itself: jobs, pages, pieces and completions, with hands that do nothing and say that everything
//! was done. Prints a line of JSON for each shape of job: `cargo run --release --example mind_only -- [sub-jobs]`.

use std::env;
use std::time::{Duration, Instant};

use kcopyd::copy::chain::{Chain, Completion, DeviceIndex, StepResult};
use kcopyd::copy::job::{Job, JobFlags, JobParts};
use kcopyd::copy::limits::{PAGES_DEFAULT, SECTOR_BYTES, SUB_JOB_SECTORS_DEFAULT};
use kcopyd::copy::region::{DeviceKind, Geometry, Identity, Unaligned};
use kcopyd::copy::request::{Endpoint, plan};
use kcopyd::copy::scheduler::Scheduler;

/// The same kind of job, over and over: so many sectors to so many destinations, so many jobs at a time.
struct Shape {
    name: &'static str,
    sectors: u64,
    destinations: usize,
    at_once: u64,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "large jobs, 1 destination", sectors: 1 << 25, destinations: 1, at_once: 1 },
    Shape { name: "large jobs, 3 destinations", sectors: 1 << 25, destinations: 3, at_once: 1 },
    Shape { name: "4 KiB jobs, 64 at once", sectors: 8, destinations: 1, at_once: 64 },
    Shape { name: "4 KiB jobs, 100000 at once", sectors: 8, destinations: 1, at_once: 100_000 },
];

fn main() {
    let wanted = env::args().nth(1).map_or(2_000_000, |text| text.parse().expect("a number of sub-jobs"));
    for shape in SHAPES {
        // The first round finds the memory that the second one uses.
        run(&shape, wanted / 10);
        let (sub_jobs, took) = run(&shape, wanted);
        let each = took.as_nanos() as f64 / sub_jobs as f64;
        println!(r#"{{"shape":"{}","subJobs":{sub_jobs},"nanosecondsPerSubJob":{each:.1}}}"#, shape.name);
    }
}

fn run(shape: &Shape, wanted: u64) -> (u64, Duration) {
    let mut scheduler = Scheduler::new(PAGES_DEFAULT, SUB_JOB_SECTORS_DEFAULT, None);
    let (mut token, mut in_flight) = (0, Vec::<Chain>::new());
    let begin = Instant::now();
    while token < shape.at_once {
        token += 1;
        scheduler.submit(job(token, shape));
    }
    loop {
        while let Some(chain) = scheduler.next_chain(Duration::ZERO) {
            in_flight.push(chain);
        }
        while let Some(ended) = scheduler.take_outcome() {
            assert!(ended.outcome.is_success(), "hands that do nothing never fail");
            if scheduler.counts().sub_jobs < wanted {
                token += 1;
                scheduler.submit(job(token, shape));
            }
        }
        if scheduler.is_idle() {
            return (scheduler.counts().sub_jobs, begin.elapsed());
        }
        for chain in in_flight.drain(..) {
            for (step, done) in (0_u8..).zip(&chain.steps) {
                let result = StepResult::Done(done.length_bytes);
                scheduler.settle(Completion { tag: chain.tag, step, result }, Duration::ZERO);
            }
        }
    }
}

fn job(token: u64, shape: &Shape) -> Box<Job> {
    let source = Endpoint { geometry: disk(0), sector: token % 1024 * 8, count: Some(shape.sectors) };
    let to = |index: usize| Endpoint { geometry: disk(1 + index as u64), sector: token % 999 * 8, count: None };
    let destinations: Vec<Endpoint> = (0..shape.destinations).map(to).collect();
    let plan = plan(Some(&source), &destinations).expect("the request is right");
    let parts = JobParts {
        token,
        source: Some((DeviceIndex(0), 512)),
        destinations: (1..=shape.destinations as u32).map(|index| (DeviceIndex(index), 512)).collect(),
        flags: JobFlags::default(),
        progress: None,
    };
    Box::new(Job::new(&plan, parts))
}

fn disk(number: u64) -> Geometry {
    Geometry {
        kind: DeviceKind::Block,
        identity: Identity { id: (0, number), start_bytes: 0 },
        bytes: SECTOR_BYTES << 40,
        logical_block_bytes: 512,
        direct_alignment_bytes: 512,
        unaligned: Unaligned::Refused,
    }
}
