//! Looks for every planted bug, seed after seed, until it is found: a simulator that never fails has to show that it can. It
//! knows the bugs by name only.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kcopyd::canary::{Canary, plant, plant_everywhere};

use crate::calendar::Trace;
use crate::caught::run_caught;
use crate::oracle::Breach;
use crate::swarm::scenario;

/// How a bug was found.
struct Found {
    canary: Canary,
    /// The number of seeds that it took, and what was broken then.
    after: Option<(u64, Breach)>,
}

/// Plants the bugs one by one and prints how many seeds each took; says whether every one was found within so many.
pub fn look_for_all(seeds: u64, threads: usize) -> bool {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(&canary) = Canary::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = look_for(canary, seeds);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|one| one.canary as usize);
    found.iter().for_each(print);
    let missed = found.iter().filter(|one| one.after.is_none()).count();
    println!("{} planted bugs, {} found within {seeds} seeds each", found.len(), found.len() - missed);
    missed == 0
}

/// Plants a bug for good, in every thread to come.
pub fn plant_by_name(name: &str) -> Result<(), String> {
    let named = Canary::ALL.iter().find(|canary| format!("{canary:?}") == name);
    plant_everywhere(*named.ok_or_else(|| format!("no canary is called {name}"))?);
    Ok(())
}

fn look_for(canary: Canary, seeds: u64) -> Found {
    plant(Some(canary));
    let broken = (0..seeds).find_map(|seed| run_caught(&scenario(seed), Trace::Off).breach.map(|breach| (seed + 1, breach)));
    plant(None);
    Found { canary, after: broken }
}

fn print(found: &Found) {
    let name = format!("{:?}", found.canary);
    match &found.after {
        Some((seeds, breach)) => {
            println!("{seeds:>6} seeds  {name:<26} {:<8} {}", breach.promise, found.canary.what());
        }
        None => println!("NOT FOUND     {name:<26} {:<8} {}", "", found.canary.what()),
    }
}
