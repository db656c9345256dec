//! The simulator on itself: a taste of what `npm run sim` does at length, and that a run is a function of its seed.

use std::time::Duration;

use kcopyd_sim::{Doublecheck, Trace, campaign, run_caught, scenario};

#[test]
fn no_promise_is_broken_by_the_first_seeds() {
    let results = campaign(0, 20_000, 1, Doublecheck::No, Duration::MAX);
    assert!(results.broken.is_none(), "{:?}", results.broken);
    let figures = results.figures;
    assert!(figures.jobs >= 20_000 && figures.faults > 1000 && figures.aborted > 100, "{figures:?}");
    assert!(figures.read_errors > 100 && figures.write_errors > 100, "the faults reach the outcomes: {figures:?}");
}

#[test]
fn a_seed_is_one_run_and_another_seed_another() {
    let results = campaign(1_000_000, 2000, 1, Doublecheck::Yes, Duration::MAX);
    assert!(results.broken.is_none(), "{:?}", results.broken);
    let digest = |seed| run_caught(&scenario(seed), Trace::Off).digest;
    assert_ne!(digest(1), digest(2));
}

#[test]
fn what_is_written_down_does_not_change_the_run() {
    for seed in 0..50 {
        let (with, without) = (run_caught(&scenario(seed), Trace::Kept), run_caught(&scenario(seed), Trace::Off));
        assert_eq!((with.digest, with.figures), (without.digest, without.figures));
        assert!(!with.trace.is_empty() && without.trace.is_empty());
    }
}

/// Needs a planted bug: `cargo test -p kcopyd-sim --features canary`.
#[cfg(feature = "canary")]
#[test]
fn a_breach_is_shrunken_to_few_jobs() {
    use kcopyd::canary::{Canary, plant};
    use kcopyd_sim::scenario::When;

    plant(Some(Canary::StaleAfterBadRead));
    let found = (0..2000).map(scenario).find_map(|scenario| {
        let breach = run_caught(&scenario, Trace::Off).breach?;
        Some((scenario, breach))
    });
    let (scenario, breach) = found.expect("it is found");
    let small = kcopyd_sim::shrink(&scenario, &breach);
    assert!(small.jobs.iter().filter(|job| job.when != When::Never).count() <= 2);
    assert_eq!(run_caught(&small, Trace::Off).breach.map(|breach| breach.promise), Some(breach.promise));
    plant(None);
}
