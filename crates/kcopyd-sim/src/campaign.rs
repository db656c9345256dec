//! Many seeds on many threads. Each run is a function of its seed alone; here is only counted what comes of them.

use std::fs;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::calendar::Trace;
use crate::caught::run_caught;
use crate::oracle::{Breach, Figures};
use crate::swarm::scenario;

/// Whether every run is run twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doublecheck {
    /// It is, and both must be the same, event by event.
    Yes,
    /// It is not.
    No,
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct Results {
    /// How many seeds were run.
    pub seeds: u64,
    /// What was seen in all of them.
    pub figures: Figures,
    /// The lowest seed that broke a promise.
    pub broken: Option<(u64, Breach)>,
    /// How long it took.
    pub elapsed: Duration,
    /// Processor time, of all threads together.
    pub processor_time: Duration,
}

/// Runs the seeds from `first_seed` on, until so many jobs have ended, the time is over or a promise is broken.
#[must_use]
pub fn campaign(first_seed: u64, jobs: u64, threads: usize, doublecheck: Doublecheck, within: Duration) -> Results {
    let (next_seed, jobs_done, stop) = (AtomicU64::new(first_seed), AtomicU64::new(0), AtomicBool::new(false));
    let results = Mutex::new(Results::default());
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut own = Results::default();
                let in_time = || began.elapsed() < within;
                while jobs_done.load(Ordering::Relaxed) < jobs && in_time() && !stop.load(Ordering::Relaxed) {
                    let seed = next_seed.fetch_add(1, Ordering::Relaxed);
                    let done = one(seed, doublecheck, &mut own);
                    jobs_done.fetch_add(done, Ordering::Relaxed);
                    if own.broken.is_some() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                own.processor_time = processor_time_of_thread();
                results.lock().unwrap_or_else(PoisonError::into_inner).add(own);
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Results { elapsed: began.elapsed(), ..results }
}

/// Runs one seed; says how many jobs ended.
fn one(seed: u64, doublecheck: Doublecheck, results: &mut Results) -> u64 {
    let scenario = scenario(seed);
    let report = run_caught(&scenario, Trace::Off);
    let mut breach = report.breach;
    if doublecheck == Doublecheck::Yes && breach.is_none() {
        let again = run_caught(&scenario, Trace::Off);
        if again.digest != report.digest {
            let text = format!("the same seed gave {:#x} and then {:#x}", report.digest, again.digest);
            breach = Some(Breach { promise: "determinism", text });
        }
    }
    results.seeds += 1;
    results.figures.add(&report.figures);
    if let Some(breach) = breach
        && results.broken.is_none()
    {
        results.broken = Some((seed, breach));
    }
    report.figures.jobs
}

impl Results {
    fn add(&mut self, other: Results) {
        self.seeds += other.seeds;
        self.figures.add(&other.figures);
        self.processor_time += other.processor_time;
        let seed_of = |broken: &Option<(u64, Breach)>| broken.as_ref().map_or(u64::MAX, |(seed, _)| *seed);
        if seed_of(&other.broken) < seed_of(&self.broken) {
            self.broken = other.broken;
        }
    }
}

/// What the kernel has counted; nothing where it does not.
fn processor_time_of_thread() -> Duration {
    let counted = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = counted.as_deref().and_then(|text| text.split(' ').next()).and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}
