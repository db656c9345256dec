//! The waker and the clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

fn engine() -> Uring {
    Uring::new(Arc::new(Arena::new(1).unwrap()), &UringOptions::default()).unwrap()
}

#[test]
fn a_ring_before_the_wait_ends_it_and_is_heard_once() {
    let mut engine = engine();
    let waker = engine.waker();
    waker();
    waker();
    engine.submit_and_wait(Wait::UntilWoken, &mut Vec::new());
    let deadline = Instant::now() + Duration::from_millis(20);
    engine.submit_and_wait(Wait::Until(deadline), &mut Vec::new());
    assert!(Instant::now() >= deadline);
}

#[test]
fn ringing_costs_no_system_call_while_the_engine_is_at_work() {
    let mut engine = engine();
    engine.submit_and_wait(Wait::No, &mut Vec::new());
    let submissions = engine.description().submissions;
    let waker = engine.waker();
    for _ in 0..1000 {
        waker();
        engine.submit_and_wait(Wait::UntilWoken, &mut Vec::new());
    }
    assert_eq!(engine.description().submissions, submissions, "the eventfd's read was never answered, so never armed again");
}

#[test]
fn a_ring_from_another_thread_ends_the_wait_and_none_is_lost() {
    let mut engine = engine();
    let waker = engine.waker();
    let (asked, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let ringer = thread::spawn({
        let (asked, answered) = (Arc::clone(&asked), Arc::clone(&answered));
        move || {
            for turn in 1..=20_000 {
                asked.store(turn, Ordering::Relaxed);
                waker();
                while answered.load(Ordering::Acquire) != turn {
                    std::hint::spin_loop();
                }
            }
        }
    });
    // What was stored before a ring is seen after it; without that, or if a ring were lost, this would not end.
    let started = Instant::now();
    while answered.load(Ordering::Relaxed) != 20_000 {
        engine.submit_and_wait(Wait::Until(started + Duration::from_secs(60)), &mut Vec::new());
        assert!(started.elapsed() < Duration::from_secs(60), "a ring was lost");
        answered.store(asked.load(Ordering::Relaxed), Ordering::Release);
    }
    ringer.join().unwrap();
}

#[test]
fn a_wait_with_a_deadline_ends_with_it_and_with_a_ring_also_where_enter_knows_no_timeout() {
    // The kernels that are meant have no deferred completions.
    for (newest, enter_knows_no_timeout) in [(Rung::NEWEST, false), (Rung::SubmitAll, true), (Rung::Plain, true)] {
        let mut engine =
            Uring::new(Arc::new(Arena::new(1).unwrap()), &UringOptions { newest, ..UringOptions::default() }).unwrap();
        engine.ring.faults.enter_knows_no_timeout = enter_knows_no_timeout;
        let deadline = Instant::now() + Duration::from_millis(30);
        engine.submit_and_wait(Wait::Until(deadline), &mut Vec::new());
        assert!(Instant::now() >= deadline);
        let waker = engine.waker();
        let ringer = thread::spawn(move || waker());
        let deadline = Instant::now() + Duration::from_secs(60);
        engine.submit_and_wait(Wait::Until(deadline), &mut Vec::new());
        assert!(Instant::now() < deadline);
        ringer.join().unwrap();
    }
}

#[test]
fn a_waker_may_be_rung_after_the_engine_has_gone() {
    let engine = engine();
    let waker = engine.waker();
    drop(engine);
    waker();
}
