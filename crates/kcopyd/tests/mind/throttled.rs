//! The throttle in the scheduler's hands, in simulated time.

use std::time::Duration;

use kcopyd::copy::throttle::{SharedThrottle, Throttle, ThrottleLimits};
use kcopyd::engine::simulated::Latency;

use super::*;

fn shared(limits: ThrottleLimits) -> SharedThrottle {
    SharedThrottle::new(Throttle::new(limits, Duration::ZERO))
}

fn steady(base_ns: u64) -> SimulatedOptions {
    SimulatedOptions {
        latency: Latency { base_ns, sector_ns: 0, jitter_ns: 0, ..Latency::default() },
        ..SimulatedOptions::default()
    }
}

/// Copies endlessly for ten simulated seconds; what was moved, what part of the time I/O was outstanding, how many requests.
fn ten_seconds(limits: ThrottleLimits, base_ns: u64) -> (u64, f64, usize) {
    let options = SimulatedOptions { latency: Latency { outlier_one_in: 0, ..steady(base_ns).latency }, ..steady(base_ns) };
    let mut calendar = Calendar::throttled(64, 8, options, Some(shared(limits)));
    let (source, to) = (block(1, 1 << 30), block(2, 1 << 30));
    calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
    while calendar.now() < Duration::from_secs(10) {
        calendar.turn();
    }
    let bytes = calendar.scheduler.counts().bytes;
    let log = calendar.engine.take_log();
    let (mut outstanding, mut since, mut busy_ns, mut requests) = (0, 0, 0, 0);
    for event in &log {
        match event.happened {
            Happened::Started => {
                since = if outstanding == 0 { event.at_ns } else { since };
                outstanding += 1;
                requests += 1;
            }
            Happened::Ended(_) => {
                outstanding -= 1;
                busy_ns += if outstanding == 0 { event.at_ns - since } else { 0 };
            }
        }
    }
    calendar.scheduler.abort(1);
    calendar.run();
    (bytes, busy_ns as f64 / 10e9, requests)
}

#[test]
fn p22_percent_is_the_share_of_time_with_io_outstanding() {
    for percent in [10, 25, 50, 75, 90] {
        for milliseconds in [1, 10, 24] {
            let limits = ThrottleLimits { percent: Some(percent), ..ThrottleLimits::default() };
            let (_, share, _) = ten_seconds(limits, milliseconds * 1_000_000);
            let off = (share * 100.0 - f64::from(percent)).abs();
            assert!(off <= 5.0, "{percent} % with requests of {milliseconds} ms came to {:.1} %", share * 100.0);
        }
    }
}

#[test]
fn p22_bytes_and_requests_per_second_within_five_percent() {
    for rate in [300_000, 5 << 20] {
        let limits = ThrottleLimits { bytes_per_second: Some(rate), ..ThrottleLimits::default() };
        let (bytes, ..) = ten_seconds(limits, 50_000);
        let off = bytes as f64 / (10.0 * rate as f64) - 1.0;
        assert!(off.abs() <= 0.05, "{rate} bytes/s came to {bytes} in ten seconds");
    }
    let limits = ThrottleLimits { requests_per_second: Some(400), ..ThrottleLimits::default() };
    let (.., requests) = ten_seconds(limits, 50_000);
    assert!((3800..=4200).contains(&requests), "400 requests/s came to {requests} in ten seconds");
}

#[test]
fn p22_two_clients_share_what_the_throttle_allows() {
    let throttle = shared(ThrottleLimits { bytes_per_second: Some(5 << 20), ..ThrottleLimits::default() });
    let (source, to) = (block(1, 1 << 30), block(2, 1 << 30));
    let mut both: Vec<Calendar> =
        (0..2).map(|_| Calendar::throttled(64, PIECE, steady(50_000), Some(throttle.clone()))).collect();
    both.iter_mut().for_each(|calendar| calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain()));
    while both.iter().any(|calendar| calendar.now() < Duration::from_secs(10)) {
        // Whichever is behind in time goes next, as two threads would.
        let behind = if both[0].now() <= both[1].now() { 0 } else { 1 };
        both[behind].turn();
    }
    let bytes: u64 = both.iter().map(|calendar| calendar.scheduler.counts().bytes).sum();
    let off = bytes as f64 / (10.0 * (5 << 20) as f64) - 1.0;
    assert!(off.abs() <= 0.05, "{bytes} bytes together");
    for mut calendar in both {
        calendar.scheduler.abort(1);
        calendar.run();
    }
}

#[test]
fn p23_a_throttled_client_delivers_completions_at_once_and_aborts_at_once() {
    let limits = ThrottleLimits { bytes_per_second: Some(4096), ..ThrottleLimits::default() };
    let mut calendar = Calendar::throttled(64, PIECE, steady(50_000), Some(shared(limits)));
    let (source, to) = (block(1, 1 << 20), block(2, 1 << 20));
    calendar.submit(1, Some(&at(&source, 0).count(8)), &[at(&to, 0)], plain());
    calendar.submit(2, Some(&at(&source, 0).count(800)), &[at(&to, 1000)], plain());
    let mut before = Duration::ZERO;
    while calendar.outcomes.is_empty() {
        before = calendar.now();
        calendar.turn();
    }
    assert!(before < Duration::from_millis(200), "the first job's completion was taken only after {before:?}");
    calendar.scheduler.abort(2);
    calendar.turn();
    calendar.run();
    assert!(calendar.now() < Duration::from_secs(3), "the abort took until {:?}", calendar.now());
}

#[test]
fn p22_requests_per_second_hold_for_many_jobs_at_once() {
    let limits = ThrottleLimits { requests_per_second: Some(100), ..ThrottleLimits::default() };
    let mut calendar = Calendar::throttled(4096, 8, steady(50_000), Some(shared(limits)));
    let (source, to) = (block(1, 1 << 20), block(2, 1 << 20));
    (0..2000).for_each(|token| {
        calendar.submit(token, Some(&at(&source, token * 8).count(8)), &[at(&to, token * 8)], plain());
    });
    while calendar.now() < Duration::from_secs(10) && calendar.turn() {}
    let requests = calendar.engine.started();
    assert!((950..=1050).contains(&requests), "100 requests/s came to {requests} in ten seconds");
    calendar.scheduler.abort_all();
    calendar.run();
}

#[test]
fn p32_a_client_that_broke_does_not_use_up_the_time_of_those_that_share_its_throttle() {
    let throttle = shared(ThrottleLimits { percent: Some(50), ..ThrottleLimits::default() });
    let (source, to) = (block(1, 4096), block(2, 4096));
    let copies = || {
        let mut calendar = Calendar::throttled(64, 64, steady(1_000_000), Some(throttle.clone()));
        calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
        calendar
    };
    let mut broken = copies();
    while broken.engine.steps() == 0 {
        assert!(broken.turn(), "the job is not over before it has begun");
    }
    // As a client's thread does after a panic: the engine is drained, and nobody settles what comes home.
    drop(broken);
    let mut other = copies();
    while other.now() < Duration::from_secs(10) && other.turn() {}
    assert!(other.outcome(1).is_success());
}
