//! Zeroes: offloaded first, written where that is refused, destination by destination.

use std::time::Duration;

use kcopyd::copy::chain::StepResult;
use kcopyd::copy::throttle::{SharedThrottle, Throttle, ThrottleLimits};
use kcopyd::engine::simulated::Latency;

use super::*;

#[test]
fn p5_zeroes_are_offloaded_in_large_ranges_and_need_no_pages() {
    let disk = block(1, 1 << 18);
    let (outcome, mut calendar) = run_one(8, 1, None, &[at(&disk, 100).count(200_000)], plain());
    assert!(outcome.is_success());
    assert!(disk.contents(100 * 512..200_100 * 512).iter().all(|&byte| byte == 0));
    let steps: Vec<_> = calendar.engine.take_log().into_iter().map(|event| event.step.operation).collect();
    assert!(steps.iter().all(|&operation| operation == Operation::Zero));
    assert_eq!(steps.len(), 2 * 4, "200,000 sectors are 98 MiB: four ranges, each started and ended");
    assert_eq!(calendar.scheduler.counts().zeroed.offloaded_bytes, 200_000 * 512);
    assert_eq!(calendar.least_free_pages, 8);
}

#[test]
fn p6_zeroes_stay_within_their_regions() {
    let (first, second) = (block(1, 4096), file(2, 1 << 20));
    second.inject(Fault::on(Operation::Zero, Effect::Fail(EOPNOTSUPP)));
    let to = [at(&first, 100).count(1000), at(&second, 7).count(1000)];
    assert!(run_one(8, 1, None, &to, plain()).0.is_success());
    assert!(first.written_sectors().iter().all(|sector| (100..1100).contains(sector)));
    assert!(second.written_sectors().iter().all(|sector| (7..1007).contains(sector)));
    assert!(sectors(&second, 7, 1000).iter().all(|&byte| byte == 0));
}

#[test]
fn a_destination_that_refuses_the_offload_is_written_and_the_others_are_not() {
    for errno in [EOPNOTSUPP, EIO, EINVAL] {
        let (able, unable) = (block(1, 200_000), block(2, 200_000));
        unable.inject(Fault::on(Operation::Zero, Effect::Fail(errno)));
        let to = [at(&able, 0).count(200_000), at(&unable, 0).count(200_000)];
        let (outcome, mut calendar) = run_one(8, 1, None, &to, plain());
        assert!(outcome.is_success(), "{outcome:?}");
        assert!(unable.contents(0..200_000 * 512).iter().all(|&byte| byte == 0));
        let zeroed = calendar.scheduler.counts().zeroed;
        assert_eq!((zeroed.offloaded_bytes, zeroed.written_bytes), (200_000 * 512, 200_000 * 512));
        let writes = calendar.engine.take_log().into_iter().filter(|event| event.step.operation == Operation::Write);
        assert!(writes.into_iter().all(|event| event.step.length_bytes as u64 <= PIECE * 512 && event.step.device.0 == 1));
    }
}

#[test]
fn p12_a_range_that_can_be_zeroed_in_no_way_is_a_failure_named_zero() {
    let (good, bad) = (block(1, 2000), block(2, 2000));
    bad.inject(Fault::on(Operation::Zero, Effect::Fail(EOPNOTSUPP)));
    bad.inject(failing(Operation::Write, EIO, 1000));
    let to = [at(&good, 0).count(2000), at(&bad, 0).count(2000)];
    let (outcome, _) = run_one(8, 1, None, &to, ignoring());
    assert_eq!((outcome.read_errno, outcome.write_errors, complete(&outcome)), (0, 2, vec![true, false]));
    let places: Vec<_> = outcome.failures.iter().map(|failure| (failure.operation, failure.sector, failure.count)).collect();
    assert_eq!(places, [(FailedOperation::Zero, 1000, 8)]);
}

#[test]
fn p27_an_abort_of_zeroing_settles_with_the_ranges_in_flight() {
    let disk = block(1, 1 << 31);
    let mut calendar = Calendar::new(8, 8, SimulatedOptions::default());
    calendar.submit(1, None, &[at(&disk, 0).count(1 << 31)], plain());
    (0..5).for_each(|_| assert!(calendar.turn()));
    calendar.scheduler.abort(1);
    let started = calendar.engine.started();
    calendar.run();
    assert_eq!(calendar.engine.started(), started);
    assert_eq!(calendar.outcome(1).ending, Ending::Aborted);
}

#[test]
fn p20_a_copy_is_not_overtaken_by_zeroes_that_come_later_and_fill_the_engine() {
    let (source, to) = (block(1, 4096), block(2, 4096));
    let disks: Vec<_> = (0..32).map(|index| block(10 + index, 1 << 20)).collect();
    let mut calendar = Calendar::new(64, PIECE, SimulatedOptions { steps_max: 64, ..SimulatedOptions::default() });
    let wipe = |calendar: &mut Calendar, token: u64| {
        let wiped: Vec<At> = disks.iter().map(|disk| at(disk, token).count(1)).collect();
        calendar.submit(token, None, &wiped, plain());
    };
    (0..4).for_each(|token| wipe(&mut calendar, token));
    calendar.turn();
    calendar.submit(1000, Some(&at(&source, 0).count(8)), &[at(&to, 0)], plain());
    for token in 4.. {
        if calendar.outcomes.iter().any(|(token, _)| *token == 1000) {
            break;
        }
        assert!(token < 200, "{token} jobs were begun before the copy");
        wipe(&mut calendar, token);
        calendar.turn();
    }
    calendar.run();
}

#[test]
fn p15_sequential_zeroes_ascend_one_at_a_time() {
    for refused in [0, 1, u64::MAX] {
        let (first, second) = (block(1, 4000), block(2, 4000));
        second.inject(Fault::on(Operation::Zero, Effect::Fail(EOPNOTSUPP)).after(refused));
        // Pieces of 200 KiB, ten of them in the time that one takes.
        let limits = ThrottleLimits { bytes_per_second: Some(4_096_000), ..ThrottleLimits::default() };
        let latency = Latency { base_ns: 500_000_000, ..Latency::default() };
        let options = SimulatedOptions { latency, ..SimulatedOptions::default() };
        let throttle = SharedThrottle::new(Throttle::new(limits, Duration::ZERO));
        let mut calendar = Calendar::throttled(8, PIECE, options, Some(throttle));
        let to = [at(&first, 0).count(4000), at(&second, 0).count(4000)];
        calendar.submit(1, None, &to, sequential());
        calendar.run();
        assert!(calendar.outcome(1).is_success());
        let mut ended = [0, 0];
        for event in calendar.engine.take_log() {
            let (device, step) = (event.step.device.0 as usize, event.step);
            match event.happened {
                Happened::Started => assert_eq!(step.offset_bytes, ended[device], "the one before it has completed"),
                Happened::Ended(StepResult::Done(moved)) => ended[device] += u64::from(moved),
                Happened::Ended(_) => {}
            }
        }
        assert_eq!(ended, [4000 * 512; 2]);
    }
}
