//! Random jobs between devices that are source and destination of each other (all but the first, which is only read), many at
//! once, and a model of the bytes in memory. A job waits for those that it overlaps with, so that the order of submission says
//! what must be there in the end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fastrand::Rng;
use kcopyd::client::{Flush, JobFlags, WriteOrder};
use kcopyd::engine::device::{Access, Device};

use super::plan::{SECTOR, range};
use super::runner::{Place, Runner};
use super::target::{Target, open, unit_sectors};

const DEPTH: usize = 24;
const PAGES: u32 = 96;
const SUB_JOB_SECTORS: u64 = 64;
const COUNT_MAX: u64 = 384;
/// The device that is never written: its bytes are random.
const WELL: usize = 0;
/// After so many jobs the devices are compared with the model.
const COMPARED_EVERY: u64 = 10_000;

/// A region of the nth device.
type Part = (usize, u64);

struct Job {
    source: Option<Part>,
    destinations: Vec<Part>,
    count: u64,
}

impl Job {
    /// Whether one writes where the other reads or writes.
    fn conflicts(&self, other: &Job) -> bool {
        let meets =
            |a: &Part, a_count: u64, b: &Part, b_count: u64| a.0 == b.0 && a.1 < b.1 + b_count && b.1 < a.1 + a_count;
        let writes_into = |one: &Job, two: &Job| {
            let parts = || two.destinations.iter().chain(&two.source);
            one.destinations.iter().any(|to| parts().any(|part| meets(to, one.count, part, two.count)))
        };
        writes_into(self, other) || writes_into(other, self)
    }
}

struct World {
    rng: Rng,
    devices: Vec<Arc<Device>>,
    units: Vec<u64>,
    sectors: u64,
    model: Vec<Vec<u8>>,
    in_flight: HashMap<u64, Job>,
}

pub fn run(jobs: u64, seed: u64, engine: &str, targets: Vec<Target>) {
    let open = |target: &Target| open(&target.path, Access::ReadWrite).expect("the device can be opened");
    let devices: Vec<Arc<Device>> = targets.iter().map(open).collect();
    let units = devices.iter().map(|device| unit_sectors(std::slice::from_ref(device))).collect();
    let sectors = devices.iter().map(|device| device.geometry().bytes / 512).min().expect("there are devices");
    let model = targets.iter().map(Target::bytes).collect();
    let mut world = World { rng: Rng::with_seed(seed), devices, units, sectors, model, in_flight: HashMap::new() };
    let mut runner = Runner::new(engine, PAGES, SUB_JOB_SECTORS).expect("the client can be created");
    for token in 0..jobs {
        let job = world.random_job();
        while world.in_flight.len() >= DEPTH || world.in_flight.values().any(|other| other.conflicts(&job)) {
            world.wait_for_one(&mut runner);
        }
        world.submit(&runner, token, job);
        if token % COMPARED_EVERY == COMPARED_EVERY - 1 || token == jobs - 1 {
            while !world.in_flight.is_empty() {
                world.wait_for_one(&mut runner);
            }
            world.compare(&targets, token);
        }
    }
    runner.end();
    let sum = world.model.iter().flatten().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    println!(r#"{{"jobs":{jobs},"devices":{},"digest":"{sum:016x}"}}"#, targets.len());
}

impl World {
    fn random_job(&mut self) -> Job {
        loop {
            let mut devices: Vec<usize> = (0..self.devices.len()).collect();
            self.rng.shuffle(&mut devices);
            // Half of the copies bring new bytes, or in the end all would hold copies of a few sectors.
            let source = if self.rng.bool() { WELL } else { devices[0] };
            let source = (self.rng.u8(0..10) > 0).then_some(source);
            devices.retain(|device| *device != WELL);
            let number = self.rng.usize(1..=devices.len().min(3));
            // From the other end: the source may be a destination too, elsewhere on it.
            let to: Vec<usize> = devices.into_iter().rev().take(number).collect();
            let unit = to.iter().chain(&source).map(|&device| self.units[device]).max().unwrap_or(1);
            let most = if self.rng.u8(0..4) == 0 { COUNT_MAX } else { 24 };
            let count = self.rng.u64(1..=most / unit) * unit;
            let mut place = |device: usize| (device, self.rng.u64(0..=(self.sectors - count) / unit) * unit);
            let job = Job { source: source.map(&mut place), destinations: to.into_iter().map(place).collect(), count };
            let own = |to: &Part| job.source.is_some_and(|from| from.0 == to.0 && from.1.abs_diff(to.1) < count);
            if !job.destinations.iter().any(own) {
                return job;
            }
        }
    }

    fn submit(&mut self, runner: &Runner, token: u64, job: Job) {
        let bytes = match job.source {
            Some((device, sector)) => self.model[device][range(sector, job.count)].to_vec(),
            None => vec![0; job.count as usize * SECTOR],
        };
        for &(device, sector) in &job.destinations {
            self.model[device][range(sector, job.count)].copy_from_slice(&bytes);
        }
        let place = |(device, sector): Part| -> Place { (Arc::clone(&self.devices[device]), sector) };
        let order = if self.rng.u8(0..8) == 0 { WriteOrder::Sequential } else { WriteOrder::Any };
        let flush = if self.rng.u8(0..8) == 0 { Flush::Yes } else { Flush::No };
        let flags = JobFlags { order, flush, ..JobFlags::default() };
        let to = job.destinations.iter().copied().map(place).collect();
        runner.submit(token, job.source.map(place), job.count, to, flags).expect("nothing is broken");
        self.in_flight.insert(token, job);
    }

    fn wait_for_one(&mut self, runner: &mut Runner) {
        let finished = runner.next();
        assert!(finished.outcome.is_success(), "job {}: {:?}", finished.token, finished.outcome);
        assert!(self.in_flight.remove(&finished.token).is_some(), "P1: job {} ended twice", finished.token);
    }

    fn compare(&self, targets: &[Target], token: u64) {
        for (target, expected) in targets.iter().zip(&self.model) {
            // Else it would hardly matter who wrote what where.
            let different: HashSet<&[u8]> = expected.chunks(SECTOR).collect();
            let path = target.path.display();
            assert!(different.len() > expected.len() / SECTOR / 3, "only {} different sectors on {path}", different.len());
            let found = target.bytes();
            let differs = (0..expected.len()).find(|&byte| found.get(byte) != Some(&expected[byte]));
            assert!(differs.is_none(), "after job {token} {path} differs in sector {:?}", differs.map(|byte| byte / SECTOR));
        }
    }
}
