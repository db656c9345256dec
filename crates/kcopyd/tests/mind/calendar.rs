//! The mind on simulated disks: one scheduler, one simulated engine, no thread and no clock. It stands where the client stands
//! otherwise and refuses to decide anything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kcopyd::copy::chain::DeviceIndex;
use kcopyd::copy::job::{Job, JobFlags, JobParts};
use kcopyd::copy::limits::SECTOR_BYTES;
use kcopyd::copy::outcome::Outcome;
use kcopyd::copy::request::{Endpoint, Plan, plan};
use kcopyd::copy::scheduler::Scheduler;
use kcopyd::copy::throttle::SharedThrottle;
use kcopyd::engine::arena::Arena;
use kcopyd::engine::simulated::{Simulated, SimulatedDisk, SimulatedOptions};
use kcopyd::engine::{Engine, Wait};

/// A region of a simulated disk: the whole disk from a sector on, unless a count is given.
#[derive(Clone)]
pub struct At {
    pub disk: Arc<SimulatedDisk>,
    pub sector: u64,
    pub count: Option<u64>,
}

pub fn at(disk: &Arc<SimulatedDisk>, sector: u64) -> At {
    At { disk: Arc::clone(disk), sector, count: None }
}

impl At {
    pub fn count(self, count: u64) -> At {
        At { count: Some(count), ..self }
    }
}

pub struct Calendar {
    pub scheduler: Scheduler,
    pub engine: Simulated,
    attached: HashMap<*const SimulatedDisk, DeviceIndex>,
    start: Instant,
    /// The outcomes, in the order in which they came.
    pub outcomes: Vec<(u64, Outcome)>,
    pub least_free_pages: u32,
    /// The longest piece of the jobs that are submitted from now on.
    pub piece_bytes_max: u64,
    /// How many of them may be under way.
    pub pieces_max: u32,
}

impl Calendar {
    pub fn new(pages: u32, sub_job_sectors: u64, options: SimulatedOptions) -> Self {
        Self::throttled(pages, sub_job_sectors, options, None)
    }

    pub fn throttled(pages: u32, sub_job_sectors: u64, options: SimulatedOptions, throttle: Option<SharedThrottle>) -> Self {
        let engine = Simulated::new(Arc::new(Arena::new(pages).expect("a small arena")), options);
        Calendar {
            scheduler: Scheduler::new(pages, sub_job_sectors, throttle),
            start: engine.now(),
            engine,
            attached: HashMap::new(),
            outcomes: Vec::new(),
            least_free_pages: pages,
            piece_bytes_max: u64::MAX,
            pieces_max: u32::MAX,
        }
    }

    fn attach(&mut self, disk: &Arc<SimulatedDisk>) -> DeviceIndex {
        let engine = &mut self.engine;
        *self.attached.entry(Arc::as_ptr(disk)).or_insert_with(|| engine.attach(disk).expect("it takes any disk"))
    }

    /// Submits a job; `None` as source asks for zeroes.
    pub fn submit(&mut self, token: u64, from: Option<&At>, to: &[At], flags: JobFlags) {
        let endpoint = |at: &At| Endpoint { geometry: at.disk.geometry(), sector: at.sector, count: at.count };
        let destinations: Vec<Endpoint> = to.iter().map(endpoint).collect();
        let plan = plan(from.map(endpoint).as_ref(), &destinations).expect("the test's request is right");
        let plan = Plan { piece_bytes_max: self.piece_bytes_max, pieces_max: self.pieces_max, ..plan };
        let alignment = |at: &At| at.disk.geometry().direct_alignment_bytes;
        let source = from.map(|from| (self.attach(&from.disk), alignment(from)));
        let destinations = to.iter().map(|to| (self.attach(&to.disk), alignment(to))).collect();
        let parts = JobParts { token, source, destinations, flags, progress: None };
        self.scheduler.submit(Box::new(Job::new(&plan, parts)));
    }

    pub fn now(&self) -> Duration {
        self.engine.now() - self.start
    }

    /// One turn of what the client's thread does; says whether anything is still to come.
    pub fn turn(&mut self) -> bool {
        let now = self.now();
        while let Some(chain) = self.scheduler.next_chain(now) {
            if let Err(chain) = self.engine.stage(chain) {
                self.scheduler.hand_back(&chain, now);
                break;
            }
        }
        self.least_free_pages = self.least_free_pages.min(self.scheduler.pool().free());
        self.take_outcomes();
        if self.scheduler.is_idle() {
            return false;
        }
        let mut completions = Vec::new();
        let throttled_for = self.scheduler.throttled_for();
        let wait = throttled_for.map_or(Wait::UntilWoken, |wait| Wait::Until(self.engine.now() + wait));
        self.engine.submit_and_wait(wait, &mut completions);
        let now = self.now();
        assert!(
            !completions.is_empty() || self.engine.steps() > 0 || throttled_for.is_some(),
            "a job is left, but nothing is in flight: it would hang"
        );
        completions.into_iter().for_each(|completion| self.scheduler.settle(completion, now));
        true
    }

    fn take_outcomes(&mut self) {
        while let Some(ended) = self.scheduler.take_outcome() {
            assert!(self.outcomes.iter().all(|(token, _)| *token != ended.token), "P1: job {} ended twice", ended.token);
            self.outcomes.push((ended.token, ended.outcome));
        }
    }

    /// Turns until every job is over.
    pub fn run(&mut self) {
        while self.turn() {}
    }

    /// What a job came to.
    pub fn outcome(&self, token: u64) -> &Outcome {
        let outcome = self.outcomes.iter().find(|(known, _)| *known == token);
        &outcome.unwrap_or_else(|| panic!("job {token} is not over")).1
    }
}

/// Runs one job to its end on a fresh calendar.
pub fn run_one(pages: u32, seed: u64, from: Option<&At>, to: &[At], flags: JobFlags) -> (Outcome, Calendar) {
    let mut calendar = Calendar::new(pages, 64, SimulatedOptions { seed, ..SimulatedOptions::default() });
    calendar.submit(1, from, to, flags);
    calendar.run();
    (calendar.outcome(1).clone(), calendar)
}

pub fn sectors(disk: &SimulatedDisk, sector: u64, count: u64) -> Vec<u8> {
    disk.contents(sector * SECTOR_BYTES..(sector + count) * SECTOR_BYTES)
}
