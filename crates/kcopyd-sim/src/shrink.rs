//! From a scenario that breaks a promise to a small one that breaks the same: whatever can be left out is left out, one thing
//! after the other, until nothing more can. It refuses to know what the things mean.

use kcopyd::copy::job::{Flush, OnError, WriteOrder};

use crate::calendar::Trace;
use crate::caught::run_caught;
use crate::oracle::Breach;
use crate::scenario::{Health, JobSpec, Latency, Rates, Scenario, When, Zeroing};

/// How many runs a search may take.
const RUNS_MAX: u32 = 3000;

struct Search<'a> {
    smallest: Scenario,
    breach: &'a Breach,
    runs: u32,
}

/// The smallest scenario that was found to break the same promise.
#[must_use]
pub fn shrink(scenario: &Scenario, breach: &Breach) -> Scenario {
    let mut search = Search { smallest: scenario.clone(), breach, runs: 0 };
    loop {
        let runs_before = search.runs;
        let found = search.whole() | search.jobs() | search.parts_of_jobs() | search.disks();
        if !found || search.runs == runs_before || search.runs > RUNS_MAX {
            return search.smallest;
        }
    }
}

impl Search<'_> {
    /// Tries a smaller scenario, if it is one, and keeps it if it still breaks the promise.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario) -> bool) -> bool {
        let mut candidate = self.smallest.clone();
        if self.runs > RUNS_MAX || !change(&mut candidate) {
            return false;
        }
        self.runs += 1;
        let broken = run_caught(&candidate, Trace::Off).breach;
        let same = broken.is_some_and(|breach| breach.promise == self.breach.promise);
        if same {
            self.smallest = candidate;
        }
        same
    }

    /// What the scenario has as a whole.
    fn whole(&mut self) -> bool {
        let mut found = self.attempt(|scenario| take(&mut scenario.probes, Vec::new(), |probes| probes.is_empty()));
        found |= self.attempt(|scenario| take(&mut scenario.throttle, Vec::new(), |throttle| throttle.is_empty()));
        found |= self.attempt(|scenario| take(&mut scenario.abort_all_at_ns, None, Option::is_none));
        found |= self.attempt(|scenario| take(&mut scenario.break_after_turn, None, Option::is_none));
        found |= self.attempt(|scenario| take(&mut scenario.close_at_ns, None, Option::is_none));
        let even = Latency { base_ns: 1000, jitter_ns: 0, outlier_one_in: 0, outlier_ns: 0, together_ns: 0 };
        found |= self.attempt(|scenario| replace(&mut scenario.latency, even));
        found |= self.attempt(|scenario| replace(&mut scenario.steps_max, 256));
        let rates: [fn(&mut Rates) -> &mut u32; 9] = [
            |rates| &mut rates.read_fails,
            |rates| &mut rates.write_fails,
            |rates| &mut rates.short,
            |rates| &mut rates.empty,
            |rates| &mut rates.interrupted,
            |rates| &mut rates.again,
            |rates| &mut rates.slow,
            |rates| &mut rates.flush_fails,
            |rates| &mut rates.zero_fails,
        ];
        for rate in rates {
            found |= self.attempt(|scenario| replace(rate(&mut scenario.rates), 0));
        }
        found
    }

    /// Leaves jobs out: first half of them, then quarters, at last one by one.
    fn jobs(&mut self) -> bool {
        let (mut found, mut size) = (false, self.smallest.jobs.len() / 2);
        while size > 0 {
            let mut start = 0;
            while start < self.smallest.jobs.len() {
                found |= self.attempt(|scenario| {
                    let end = (start + size).min(scenario.jobs.len());
                    let jobs = &mut scenario.jobs[start..end];
                    let changes = jobs.iter().any(|job| job.when != When::Never);
                    jobs.iter_mut().for_each(|job| job.when = When::Never);
                    changes
                });
                start += size;
            }
            size /= 2;
        }
        found
    }

    fn parts_of_jobs(&mut self) -> bool {
        let changes: [fn(&mut JobSpec) -> bool; 10] = [
            |job| take(&mut job.piece_bytes_max, None, Option::is_none),
            |job| take(&mut job.abort_after_ns, None, Option::is_none),
            |job| take(&mut job.bad, Vec::new(), Vec::is_empty),
            |job| job.bad.len() > 1 && job.bad.pop().is_some(),
            |job| replace(&mut job.flags.on_error, OnError::Stop),
            |job| replace(&mut job.flags.order, WriteOrder::Any),
            |job| replace(&mut job.flags.flush, Flush::No),
            |job| replace(&mut job.watched, false),
            |job| job.destinations.len() > 1 && job.destinations.pop().is_some(),
            |job| replace(&mut job.when, When::At(0)),
        ];
        let mut found = false;
        for index in 0..self.smallest.jobs.len() {
            if self.smallest.jobs[index].when == When::Never {
                continue;
            }
            for change in changes {
                while self.attempt(|scenario| change(&mut scenario.jobs[index])) {
                    found = true;
                }
            }
        }
        found
    }

    fn disks(&mut self) -> bool {
        let mut found = false;
        for index in 0..self.smallest.disks.len() {
            found |= self.attempt(|scenario| replace(&mut scenario.disks[index].health, Health::Sound));
            found |= self.attempt(|scenario| replace(&mut scenario.disks[index].zeroing, Zeroing::Offered));
        }
        found
    }
}

/// Puts a value in place of another; says whether that changes anything.
fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changes = *place != value;
    *place = value;
    changes
}

/// Puts a value in place of what is not empty yet; says whether that changes anything.
fn take<T>(place: &mut T, value: T, is_empty: impl FnOnce(&T) -> bool) -> bool {
    let changes = !is_empty(place);
    *place = value;
    changes
}
