//! The waker: a ring is never lost, and rings before a look are one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kcopyd::engine::{Engine, Wait};

use crate::fixture::Fixture;
use crate::laboratory::Laboratory;

/// Long enough that only a lost ring lets it pass.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait<F: Fixture>(laboratory: &mut Laboratory<F>, most: Duration) -> Duration {
    let before = Instant::now();
    laboratory.submit(Wait::Until(before + most));
    before.elapsed()
}

/// Who rings while nobody waits ends the next wait.
pub fn a_ring_before_the_wait_ends_it<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    laboratory.engine.waker()();
    assert!(wait(&mut laboratory, PATIENCE) < PATIENCE);
    laboratory.engine.waker()();
    laboratory.submit(Wait::UntilWoken);
}

/// A wait without a deadline ends when another thread rings.
pub fn a_ring_from_another_thread_ends_the_wait<F: Fixture>() {
    let mut laboratory = Laboratory::<F>::new(1);
    let waker = laboratory.engine.waker();
    let ringer = thread::spawn(move || waker());
    laboratory.submit(Wait::UntilWoken);
    ringer.join().expect("ringing does not panic");
}

/// The second of two waits after two rings finds nothing to end it.
pub fn two_rings_before_a_look_are_one<F: Fixture>() {
    let most = Duration::from_millis(30);
    let mut laboratory = Laboratory::<F>::new(1);
    let waker = laboratory.engine.waker();
    waker();
    waker();
    assert!(wait(&mut laboratory, PATIENCE) < PATIENCE);
    assert!(wait(&mut laboratory, most) >= most);
}

/// Four threads ring as fast as they can, each after having left a word: every word is seen.
pub fn no_ring_is_lost<F: Fixture>() {
    const RINGS: u64 = 5000;
    const RINGERS: u64 = 4;
    let mut laboratory = Laboratory::<F>::new(1);
    let words = Arc::new(AtomicU64::new(0));
    let ringers: Vec<_> = (0..RINGERS)
        .map(|_| {
            let (words, waker) = (Arc::clone(&words), laboratory.engine.waker());
            thread::spawn(move || {
                for _ in 0..RINGS {
                    words.fetch_add(1, Ordering::AcqRel);
                    waker();
                }
            })
        })
        .collect();
    while words.load(Ordering::Acquire) < RINGS * RINGERS {
        assert!(wait(&mut laboratory, PATIENCE) < PATIENCE, "{} words were left", words.load(Ordering::Acquire));
    }
    ringers.into_iter().for_each(|ringer| ringer.join().expect("ringing does not panic"));
}

/// A wait with nothing to wait for takes until its deadline, and not longer than makes sense.
pub fn a_wait_ends_at_its_deadline<F: Fixture>() {
    let most = Duration::from_millis(30);
    let mut laboratory = Laboratory::<F>::new(1);
    let taken = wait(&mut laboratory, most);
    assert!(taken >= most && taken < PATIENCE, "{taken:?}");
}
