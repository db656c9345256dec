//! The oracle: watches what the mind asks of the engine and what the engine and its disks answer, and says at once when a
//! promise is broken. It stands between the two, believes neither, and shares no code with them but the words they speak.

mod chains;
mod events;
mod failures;
mod model;
mod outcomes;
mod pages;
mod rate;
pub mod requests;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use kcopyd::copy::chain::Completion;
use kcopyd::copy::scheduler::Ended;
use kcopyd::copy::throttle::ThrottleLimits;

use crate::contents::Digest;
use crate::disk::Disk;
use crate::engine::Event;
use crate::scenario::{Party, Scenario};

use chains::ChainModel;
use model::{Course, JobModel};
pub use model::{JobEnd, Submitted};
use pages::PageBook;
use rate::RateModel;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which promise, by its number in the contract, or what else.
    pub promise: &'static str,
    /// How.
    pub text: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.promise, self.text)
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Jobs that ended.
    pub jobs: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Requests that did not do what they were asked to.
    pub faults: u64,
    /// Jobs that were aborted.
    pub aborted: u64,
    /// Jobs with a read error.
    pub read_errors: u64,
    /// Jobs with a write error.
    pub write_errors: u64,
}

impl Figures {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Figures) {
        self.jobs += other.jobs;
        self.requests += other.requests;
        self.faults += other.faults;
        self.aborted += other.aborted;
        self.read_errors += other.read_errors;
        self.write_errors += other.write_errors;
    }
}

/// Multiplies: keys here are short numbers that nobody chooses to collide.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

/// A map by numbers.
pub type NumberMap<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// Whose end a device of the engine is.
#[derive(Clone, Copy, Debug)]
struct Whose {
    token: u64,
    party: Party,
}

/// The oracle of one run.
pub struct Oracle {
    unit: u64,
    sub_job_bytes: u64,
    depth: u32,
    pages: PageBook,
    pages_total: u32,
    /// Whether the engine handed a chain back when it was asked last.
    no_room: bool,
    /// By token; a job that is over leaves its place empty.
    jobs: Vec<Option<Box<JobModel>>>,
    ended: Vec<bool>,
    active: u64,
    sequential_active: u64,
    ends: Vec<Option<Whose>>,
    chains: NumberMap<ChainModel>,
    steps: u32,
    rate: RateModel,
    /// Pieces begun by all jobs, and the last job whose first piece was.
    begun: u64,
    last_first_piece: u64,
    /// The most pieces that a job so far may have under way.
    most_at_once: u32,
    submitted: u64,
    breach: Option<Breach>,
    digest: Digest,
    figures: Figures,
}

impl Oracle {
    /// The oracle of a run.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        Oracle {
            unit: scenario.unit_bytes,
            sub_job_bytes: scenario.sub_job_sectors / 8 * 4096,
            depth: scenario.steps_max,
            pages: PageBook::new(scenario.pages),
            pages_total: scenario.pages,
            no_room: false,
            jobs: scenario.jobs.iter().map(|_| None).collect(),
            ended: vec![false; scenario.jobs.len()],
            active: 0,
            sequential_active: 0,
            ends: Vec::new(),
            chains: NumberMap::default(),
            steps: 0,
            rate: RateModel::default(),
            begun: 0,
            last_first_piece: 0,
            most_at_once: chains::PIECES_MAX,
            submitted: 0,
            breach: None,
            digest: Digest::default(),
            figures: Figures::default(),
        }
    }

    /// The first promise that was broken.
    #[must_use]
    pub fn breach(&self) -> Option<&Breach> {
        self.breach.as_ref()
    }

    /// Takes note of a breach from outside: what the calendar sees and the oracle cannot.
    pub fn accuse(&mut self, promise: &'static str, text: String) {
        self.breach.get_or_insert(Breach { promise, text });
    }

    /// What was seen.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// One number for everything that was seen.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// A job was given to the scheduler.
    pub fn submitted(&mut self, job: Submitted<'_>) {
        let token = job.token;
        let ends = job.source.iter().map(|end| (Party::Source, end.device));
        let numbered = job.destinations.iter().enumerate();
        let ends = ends.chain(numbered.map(|(index, (end, _))| (Party::Destination(index as u8), end.device)));
        for (party, device) in ends {
            let place = device.0 as usize;
            if self.ends.len() <= place {
                self.ends.resize(place + 1, None);
            }
            self.ends[place] = Some(Whose { token, party });
        }
        self.submitted += 1;
        let model = JobModel::new(job, self.begun, self.active, self.submitted);
        self.most_at_once = self.most_at_once.max(model.pieces_at_once(self.sub_job_bytes));
        self.active += 1;
        self.sequential_active += u64::from(model.sequential);
        self.digest.add(token);
        self.digest.add(model.length);
        self.jobs[token as usize] = Some(Box::new(model));
    }

    /// The caller has aborted a job.
    pub fn aborted(&mut self, token: u64) {
        if let Some(job) = &mut self.jobs[token as usize] {
            job.aborted_by_caller = true;
            job.course = Course::Aborted;
        }
    }

    /// The caller has aborted everything.
    pub fn aborted_all(&mut self) {
        (0..self.jobs.len() as u64).for_each(|token| self.aborted(token));
    }

    /// The throttle's limits from now on.
    pub fn throttled(&mut self, limits: ThrottleLimits, now_ns: u64) {
        let slack = (self.active + 1) * 8 * self.sub_job_bytes;
        self.rate.set(limits, now_ns, slack);
    }

    /// The engine told what happened.
    pub fn saw(&mut self, event: &Event, disks: &[Disk]) {
        if self.breach.is_none()
            && let Err(breach) = self.look_at(event, disks)
        {
            self.breach = Some(breach);
        }
    }

    /// A completion is about to be told to the scheduler.
    pub fn told(&mut self, completion: &Completion) {
        if self.breach.is_none()
            && let Err(breach) = self.settle(completion)
        {
            self.breach = Some(breach);
        }
    }

    /// The scheduler said what a job came to.
    pub fn ended(&mut self, ended: &Ended, pages_free: u32, disks: &[Disk]) {
        if self.breach.is_none()
            && let Err(breach) = self.look_at_end(ended, pages_free, disks)
        {
            self.breach = Some(breach);
        }
    }

    /// The turn's last chain is staged; `no_room` if the engine handed one back.
    pub fn all_staged(&mut self, pages_free: u32, no_room: bool) {
        self.no_room = no_room;
        let (used, taken) = (self.pages.of_pieces, self.pages_total - pages_free);
        if used > taken {
            self.accuse("P19", format!("{used} pages are used by chains in flight, but only {taken} are taken"));
        }
        // Between two rounds a piece may wait with its pages, sequential or in doubt; all others are in flight.
        let may_wait = || self.jobs.iter().flatten().any(|job| job.may_be_in_doubt());
        if used < taken && !no_room && self.sequential_active == 0 && !may_wait() {
            self.accuse("P19", format!("{taken} pages are taken, but only {used} are used by chains in flight"));
        }
    }

    /// Nothing is left to do: everything that was accepted must be over, and the pool whole.
    pub fn finished(&mut self, pages_free: u32) {
        if let Some(token) = self.jobs.iter().position(Option::is_some) {
            self.accuse("P1", format!("job {token} has never ended"));
        }
        if pages_free != self.pages_total {
            self.accuse("P19", format!("{pages_free} of {} pages are free at the end", self.pages_total));
        }
    }

    /// The client broke: what the scheduler calls unfinished must be what has not ended.
    pub fn broke(&mut self, mut unfinished: Vec<(u64, u64, usize)>) {
        unfinished.sort_unstable();
        let left = self.jobs.iter().flatten().map(|job| (job.token, job.length, job.destinations.len()));
        let left: Vec<_> = left.collect();
        if left != unfinished {
            self.accuse("P32", format!("unfinished are {left:?}, but {unfinished:?} would be failed"));
        }
    }
}

type Judged = Result<(), Breach>;

fn breach<T>(promise: &'static str, text: String) -> Result<T, Breach> {
    Err(Breach { promise, text })
}
