//! Everything that can happen to the canon: every single fault and every pair of them, faults that stay, every moment for an
//! abort, a close and a break-down, every order of completions. It refuses to be random.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kcopyd::engine::simulated::for_every_choice;

use crate::calendar::{Report, Trace};
use crate::canon::{Named, canon, orders};
use crate::caught::run_caught;
use crate::fault::{EAGAIN, EINTR, EIO, ENOSPC};
use crate::oracle::Breach;
use crate::scenario::{Effect, Order, Scenario};

/// What can become of a request.
const EFFECTS: [Effect; 8] = [
    Effect::Fail(EIO),
    Effect::Fail(ENOSPC),
    Effect::Fail(EINTR),
    Effect::Fail(EAGAIN),
    Effect::Short(0),
    Effect::Short(8),
    Effect::Short(32),
    Effect::Short(63),
];

/// What came of one job of the canon.
#[derive(Debug)]
pub struct Exhausted {
    /// The job's name, and what was done to it.
    pub name: String,
    /// How many runs that were.
    pub runs: u64,
    /// The first one that broke a promise.
    pub broken: Option<(Box<Scenario>, Breach)>,
}

/// Tries everything, on so many threads.
#[must_use]
pub fn exhaust(threads: usize) -> Vec<Exhausted> {
    let work: Vec<(Named, Kind)> =
        canon().into_iter().map(|named| (named, Kind::Faults)).chain(orders_and_faults()).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some((named, kind)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let exhausted = match kind {
                        Kind::Faults => faults(named),
                        Kind::Orders => every_order(named),
                    };
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(exhausted);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy)]
enum Kind {
    Faults,
    Orders,
}

fn orders_and_faults() -> impl Iterator<Item = (Named, Kind)> {
    orders().into_iter().map(|named| (named, Kind::Orders))
}

/// Counts runs, and keeps the first that breaks a promise.
struct Trial {
    runs: u64,
    broken: Option<(Box<Scenario>, Breach)>,
}

impl Trial {
    fn run(&mut self, scenario: &Scenario) -> Option<Report> {
        if self.broken.is_some() {
            return None;
        }
        self.runs += 1;
        let report = run_caught(scenario, Trace::Off);
        if let Some(breach) = &report.breach {
            self.broken = Some((Box::new(scenario.clone()), breach.clone()));
            return None;
        }
        Some(report)
    }

    /// A run that is aborted, closed, or breaks down, before every turn of this one.
    fn interrupted(&mut self, scenario: &Scenario, turns: u64) {
        for turn in 1..=turns + 1 {
            self.run(&Scenario { abort_first_before_turn: Some(turn), ..scenario.clone() });
            self.run(&Scenario { close_before_turn: Some(turn), ..scenario.clone() });
            self.run(&Scenario { break_after_turn: Some(turn), ..scenario.clone() });
        }
    }

    fn exhausted(self, name: String) -> Exhausted {
        Exhausted { name, runs: self.runs, broken: self.broken }
    }
}

fn faults(named: &Named) -> Exhausted {
    let mut trial = Trial { runs: 0, broken: None };
    let clean = &named.scenario;
    if let Some(report) = trial.run(clean) {
        trial.interrupted(clean, report.turns);
        // What a fault brings about may go wrong as well.
        let requests = report.requests + 4;
        for first in 0..requests {
            for effect in EFFECTS {
                let single = Scenario { strikes: vec![(first..first + 1, effect)], ..clean.clone() };
                let turns = trial.run(&single).map_or(0, |report| report.turns);
                trial.interrupted(&single, turns);
                let lasting = Scenario { strikes: vec![(first..u64::MAX, effect)], ..clean.clone() };
                let turns = trial.run(&lasting).map_or(0, |report| report.turns.min(60));
                trial.interrupted(&lasting, turns);
                for second in first + 1..requests {
                    for other in EFFECTS {
                        let strikes = vec![(first..first + 1, effect), (second..second + 1, other)];
                        trial.run(&Scenario { strikes, ..clean.clone() });
                    }
                }
            }
        }
    }
    trial.exhausted(format!("every fault, pair, abort, close and break-down: {}", named.name))
}

/// Every order, without a fault and with each single request failing for good or coming short.
fn every_order(named: &Named) -> Exhausted {
    let mut trial = Trial { runs: 0, broken: None };
    let requests = run_caught(&named.scenario, Trace::Off).requests;
    let none = std::iter::once(Vec::new());
    let effects = [Effect::Fail(EIO), Effect::Short(32)];
    let one = (0..requests).flat_map(|number| effects.map(|effect| vec![(number..number + 2, effect)]));
    // Eight destinations have 40,320 orders already.
    let strikes: Vec<_> = none.chain(one.filter(|_| named.scenario.jobs[0].destinations.len() < 8)).collect();
    for strikes in strikes {
        for_every_choice(|choices| {
            let order = Order::Chosen(choices.clone());
            trial.run(&Scenario { order, strikes: strikes.clone(), ..named.scenario.clone() });
        });
    }
    trial.exhausted(format!("every order of completions: {}", named.name))
}
