//! What the mind promises, tried on simulated disks: the promises that the scheduler, the jobs and the sub-jobs keep.

mod calendar;
mod throttled;
mod zeroes;

use std::sync::Arc;

use calendar::{At, Calendar, at, run_one, sectors};
use kcopyd::copy::chain::Operation;
use kcopyd::copy::job::{Flush, JobFlags, OnError, WriteOrder};
use kcopyd::copy::limits::SUB_JOBS_PER_JOB;
use kcopyd::copy::outcome::{DestinationState, Ending, FailedOperation, Outcome};
use kcopyd::engine::simulated::{
    Effect, Fault, Happened, Latency, Order, SimulatedDisk, SimulatedOptions, for_every_choice,
};

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ENODATA: i32 = 61;
const EOPNOTSUPP: i32 = 95;
const ECANCELED: i32 = 125;

/// Sectors of a sub-job in these tests: 32 KiB.
const PIECE: u64 = 64;

fn block(number: u64, sectors: u64) -> Arc<SimulatedDisk> {
    Arc::new(SimulatedDisk::block(number, sectors * 512, 512))
}

fn block_4k(number: u64, sectors: u64) -> Arc<SimulatedDisk> {
    Arc::new(SimulatedDisk::block(number, sectors * 512, 4096))
}

fn file(number: u64, bytes: u64) -> Arc<SimulatedDisk> {
    Arc::new(SimulatedDisk::file(number, bytes))
}

fn plain() -> JobFlags {
    JobFlags::default()
}

fn ignoring() -> JobFlags {
    JobFlags { on_error: OnError::Ignore, ..JobFlags::default() }
}

fn sequential() -> JobFlags {
    JobFlags { order: WriteOrder::Sequential, ..JobFlags::default() }
}

fn flushing() -> JobFlags {
    JobFlags { flush: Flush::Yes, ..JobFlags::default() }
}

fn complete(outcome: &Outcome) -> Vec<bool> {
    outcome.destinations.iter().map(|destination| destination.state == DestinationState::Complete).collect()
}

fn failing(operation: Operation, errno: i32, sector: u64) -> Fault {
    Fault::on(operation, Effect::Fail(errno)).at_sectors(sector..sector + 1)
}

#[test]
fn p1_one_outcome_for_every_job_of_whatever_length_and_end() {
    for seed in 0..50 {
        let (source, good, bad) = (block(1, 4096), block(2, 1 << 20), block(3, 1 << 20));
        bad.inject(Fault::on(Operation::Write, Effect::Fail(EIO)).one_in(3));
        let mut calendar = Calendar::new(20, PIECE, SimulatedOptions { seed, ..SimulatedOptions::default() });
        for token in 0..60 {
            let count = token * 7 % 300;
            let flags = [plain(), ignoring(), sequential(), flushing()][token as usize % 4];
            let to = [at(&good, token * 1000), at(&bad, token * 1000)];
            calendar.submit(token, Some(&at(&source, 0).count(count)), &to, flags);
            if token % 5 == 0 {
                calendar.turn();
                calendar.scheduler.abort(token);
            }
        }
        calendar.run();
        assert_eq!(calendar.outcomes.len(), 60, "seed {seed}");
        assert!(calendar.outcome(0).is_success(), "a job of no length succeeds");
    }
}

#[test]
fn p4_a_small_job_does_not_wait_for_a_huge_one() {
    let (source, to) = (block(1, 1 << 30), block(2, 1 << 31));
    let mut calendar = Calendar::new(64, PIECE, SimulatedOptions::default());
    calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
    (0..10).for_each(|_| assert!(calendar.turn()));
    let before = calendar.scheduler.counts().sub_jobs;
    calendar.submit(2, Some(&at(&source, 0).count(8)), &[at(&to, 1 << 30)], plain());
    while calendar.outcomes.is_empty() {
        calendar.turn();
    }
    let pieces = calendar.scheduler.counts().sub_jobs - before;
    assert!(pieces <= 2 * 8 + 1, "{pieces} pieces ended before the small job did");
    calendar.scheduler.abort(1);
    calendar.run();
}

#[test]
fn p5_every_length_arrives_through_every_mix_of_short_results() {
    for count in [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 3, 40 * PIECE] {
        for seed in 0..10 {
            let (source, first, second) = (block(1, 4096), block(2, 5000), file(3, 0));
            for disk in [&source, &first, &second] {
                disk.inject(Fault::on(Operation::Read, Effect::ShortAnyhow).one_in(4));
                disk.inject(Fault::on(Operation::Write, Effect::ShortAnyhow).one_in(4));
                disk.inject(Fault::on(Operation::Read, Effect::Fail(EINTR)).one_in(9));
                disk.inject(Fault::on(Operation::Write, Effect::Fail(EAGAIN)).one_in(9));
            }
            let to = [at(&first, 17), at(&second, 5)];
            let (outcome, _) = run_one(32, seed, Some(&at(&source, 3).count(count)), &to, plain());
            assert!(outcome.is_success(), "count {count}, seed {seed}: {outcome:?}");
            assert_eq!(outcome.prefix_bytes, count * 512);
            let wanted = sectors(&source, 3, count);
            assert_eq!(sectors(&first, 17, count), wanted, "count {count}, seed {seed}");
            assert_eq!(sectors(&second, 5, count), wanted, "count {count}, seed {seed}");
        }
    }
}

#[test]
fn p6_nothing_outside_the_regions_is_written() {
    for flags in [plain(), ignoring(), sequential(), flushing()] {
        let (source, to) = (block(1, 4096), block(2, 5000));
        source.inject(failing(Operation::Read, EIO, 700));
        run_one(32, 7, Some(&at(&source, 100).count(1000)), &[at(&to, 2000)], flags);
        assert!(to.written_sectors().iter().all(|sector| (2000..3000).contains(sector)));
        assert!(source.written_sectors().is_empty());
    }
}

#[test]
fn p6_a_files_tail_is_padded_with_zeros_on_a_block_device_and_exact_in_a_file() {
    let (source, device, copy) = (file(1, 70_000), block_4k(2, 200), file(3, 0));
    let (outcome, _) = run_one(64, 1, Some(&at(&source, 0)), &[at(&device, 8), at(&copy, 0)], plain());
    assert!(outcome.is_success());
    assert_eq!((outcome.prefix_bytes, copy.geometry().bytes), (70_000, 70_000));
    let written = device.contents(4096..4096 + 73_728);
    assert_eq!(written[..70_000], source.contents(0..70_000)[..]);
    assert!(written[70_000..].iter().all(|&byte| byte == 0), "70,000 bytes end in the 18th block; its rest is zero");
    assert_eq!(device.written_sectors().len(), 18 * 8);
}

#[test]
fn p7_every_sector_is_read_once_for_eight_destinations() {
    let source = block(1, 2048);
    let disks: Vec<_> = (2..10).map(|number| block(number, 2048)).collect();
    let to: Vec<At> = disks.iter().map(|disk| at(disk, 0)).collect();
    let (outcome, _) = run_one(256, 3, Some(&at(&source, 0)), &to, plain());
    assert!(outcome.is_success());
    assert!((0..2048).all(|sector| source.touched()[&sector].reads == 1));
    assert!(disks.iter().all(|disk| (0..2048).all(|sector| disk.touched()[&sector].writes == 1)));
}

#[test]
fn p8_no_stale_byte_after_a_failed_read() {
    for seed in 0..30 {
        let (source, to) = (block(1, 4096), block(2, 4096));
        source.inject(failing(Operation::Read, EIO, 1000));
        let (outcome, _) = run_one(64, seed, Some(&at(&source, 0)), &[at(&to, 0)], plain());
        assert_eq!((outcome.read_errno, outcome.write_errors), (EIO, 0));
        for sector in to.written_sectors() {
            assert_eq!(sectors(&to, sector, 1), sectors(&source, sector, 1), "seed {seed}, sector {sector}");
            assert!(
                sector / PIECE != 1000 / PIECE,
                "seed {seed}: sector {sector} of the piece that was not read was written"
            );
        }
        assert!(outcome.prefix_bytes <= 1000 / PIECE * PIECE * 512);
    }
}

#[test]
fn p8_and_p14_with_errors_ignored_only_the_unread_part_is_zero() {
    for seed in 0..30 {
        let (source, first, second) = (block(1, 4096), block(2, 4096), block(3, 4096));
        source.inject(failing(Operation::Read, EIO, 1003));
        source.inject(failing(Operation::Read, ENODATA, 3000));
        let to = [at(&first, 0), at(&second, 0)];
        let (outcome, _) = run_one(64, seed, Some(&at(&source, 0)), &to, ignoring());
        assert_eq!((outcome.write_errors, outcome.prefix_bytes), (0, 1000 * 512));
        let places: Vec<_> = outcome.failures.iter().map(|failure| (failure.sector, failure.count, failure.errno)).collect();
        assert_eq!(places, [(1000, 8, EIO), (3000, 8, ENODATA)]);
        let mut wanted = sectors(&source, 0, 4096);
        wanted[1000 * 512..1008 * 512].fill(0);
        wanted[3000 * 512..3008 * 512].fill(0);
        assert!(sectors(&first, 0, 4096) == wanted && sectors(&second, 0, 4096) == wanted, "seed {seed}");
        assert_eq!(complete(&outcome), [false, false]);
    }
}

#[test]
fn p9_only_the_edges_of_a_misaligned_file_region_go_the_buffered_way() {
    let (source, to) = (block(1, 4096), file(2, 1 << 20));
    let (outcome, mut calendar) = run_one(64, 1, Some(&at(&source, 0).count(1000)), &[at(&to, 3)], plain());
    assert!(outcome.is_success());
    let unaligned = calendar.engine.take_log().into_iter().filter(|event| {
        let write = event.step.operation == Operation::Write && event.happened == Happened::Started;
        write && !(event.step.offset_bytes % 4096 == 0 && event.step.length_bytes % 4096 == 0)
    });
    assert_eq!(unaligned.count(), 2, "the first five sectors and the last three");
    assert_eq!(sectors(&to, 3, 1000), sectors(&source, 0, 1000));
}

#[test]
fn p12_bit_i_is_set_if_and_only_if_destination_i_failed() {
    for flags in [plain(), ignoring(), sequential()] {
        for destinations in [1, 2, 5, 32] {
            for bad in 0..destinations {
                let source = block(1, 300);
                let disks: Vec<_> = (0..destinations).map(|index| block(10 + index as u64, 300)).collect();
                disks[bad].inject(failing(Operation::Write, ENOSPC, 150));
                let to: Vec<At> = disks.iter().map(|disk| at(disk, 0)).collect();
                let (outcome, _) = run_one(64, bad as u64, Some(&at(&source, 0)), &to, flags);
                assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1 << bad), "{flags:?}");
                assert!(outcome.failures.iter().all(|failure| failure.destination == Some(bad as u8)));
                assert!(outcome.failures.iter().all(|failure| failure.errno == ENOSPC));
                assert!(!complete(&outcome)[bad]);
            }
        }
    }
}

#[test]
fn p13_the_first_error_stops_new_sub_jobs_and_what_is_in_flight_lands() {
    for seed in 0..30 {
        let (source, bad, good) = (block(1, 1 << 20), block(2, 1 << 20), block(3, 1 << 20));
        bad.inject(failing(Operation::Write, EIO, 2 * PIECE));
        let to = [at(&bad, 0), at(&good, 0)];
        // Were the failure itself late, any number of pieces would rightly have been begun before it.
        let latency = Latency { outlier_one_in: 0, ..Latency::default() };
        let mut calendar = Calendar::new(4096, PIECE, SimulatedOptions { seed, latency, ..SimulatedOptions::default() });
        calendar.submit(1, Some(&at(&source, 0)), &to, plain());
        calendar.run();
        let outcome = calendar.outcome(1).clone();
        let pieces = calendar.scheduler.counts().sub_jobs;
        assert!(pieces <= 200, "seed {seed}: {pieces} pieces were begun after all");
        assert_eq!(outcome.write_errors, 1);
        // The other destination's part of the same sub-job was neither cancelled nor corrupted.
        assert_eq!(sectors(&good, 2 * PIECE, PIECE), sectors(&source, 2 * PIECE, PIECE), "seed {seed}");
        for sector in good.written_sectors() {
            assert_eq!(sectors(&good, sector, 1), sectors(&source, sector, 1));
        }
        let known = outcome.destinations[1].prefix_bytes / 512;
        assert_eq!(sectors(&good, 0, known), sectors(&source, 0, known));
    }
}

#[test]
fn p14_with_errors_ignored_everything_is_attempted_everywhere() {
    let (source, bad, good) = (block(1, 2048), block(2, 2048), block(3, 2048));
    bad.inject(failing(Operation::Write, EIO, 0));
    bad.inject(failing(Operation::Write, EIO, 999));
    let (outcome, _) = run_one(256, 5, Some(&at(&source, 0)), &[at(&bad, 0), at(&good, 0)], ignoring());
    assert_eq!((outcome.write_errors, complete(&outcome)), (1, vec![false, true]));
    assert_eq!(sectors(&good, 0, 2048), sectors(&source, 0, 2048));
    assert_eq!(sectors(&bad, 8, 984), sectors(&source, 8, 984), "all but the bad pages is there");
    assert_eq!(sectors(&bad, 1000, 1048), sectors(&source, 1000, 1048));
    let places: Vec<_> = outcome.failures.iter().map(|failure| (failure.sector, failure.count)).collect();
    assert_eq!(places, [(0, 8), (992, 8)]);
}

#[test]
fn p15_sequential_writes_ascend_one_at_a_time_in_every_order_of_completions() {
    let mut read_ahead = 0;
    let runs = for_every_choice(|choices| {
        let (source, first, second) = (block(1, 3 * 8), block(2, 3 * 8), block(3, 3 * 8));
        let options = SimulatedOptions { order: Order::Chosen(choices.clone()), ..SimulatedOptions::default() };
        let mut calendar = Calendar::new(8, 8, options);
        calendar.submit(1, Some(&at(&source, 0)), &[at(&first, 0), at(&second, 0)], sequential());
        calendar.run();
        assert!(calendar.outcome(1).is_success());
        let mut ended = [0, 0];
        for event in calendar.engine.take_log() {
            let device = event.step.device.0 as usize;
            match (event.step.operation, event.happened) {
                (Operation::Write, Happened::Started) => {
                    assert_eq!(event.step.offset_bytes, ended[device - 1], "the write before it has completed");
                }
                (Operation::Write, Happened::Ended(_)) => ended[device - 1] += u64::from(event.step.length_bytes),
                (Operation::Read, Happened::Started) => read_ahead += u64::from(event.step.offset_bytes > ended[0]),
                _ => {}
            }
        }
        assert_eq!(sectors(&first, 0, 24), sectors(&source, 0, 24));
        assert_eq!(sectors(&second, 0, 24), sectors(&source, 0, 24));
    });
    assert!(runs > 20 && read_ahead > 0, "{runs} orders, {read_ahead} reads ahead of the writes");
}

#[test]
fn p12_and_p15_sequential_with_an_error_anywhere_ends_exactly_in_every_order() {
    let mut runs = 0;
    for (operation, bad_piece) in [(Operation::Read, 0), (Operation::Read, 1), (Operation::Read, 2), (Operation::Write, 1)] {
        runs += for_every_choice(|choices| {
            let (source, first, second) = (block(1, 3 * 8), block(2, 3 * 8), block(3, 3 * 8));
            let disk = if operation == Operation::Read { &source } else { &second };
            disk.inject(failing(operation, EIO, bad_piece * 8));
            let options = SimulatedOptions { order: Order::Chosen(choices.clone()), ..SimulatedOptions::default() };
            let mut calendar = Calendar::new(8, 8, options);
            calendar.submit(1, Some(&at(&source, 0)), &[at(&first, 0), at(&second, 0)], sequential());
            // The kernel's kcopyd hangs on the read errors and reports garbage on the write error.
            calendar.run();
            let outcome = calendar.outcome(1);
            let wanted = if operation == Operation::Read { (EIO, 0) } else { (0, 0b10) };
            assert_eq!((outcome.read_errno, outcome.write_errors), wanted);
            assert!(outcome.prefix_bytes <= bad_piece * 8 * 512);
        });
    }
    assert!(runs > 20, "{runs} orders");
}

#[test]
fn p16_results_without_progress_are_a_failure_and_never_a_success() {
    for (effect, errno) in [(Effect::Short(0), EIO), (Effect::Fail(EINTR), EINTR), (Effect::Fail(EAGAIN), EAGAIN)] {
        let (source, to) = (block(1, 256), block(2, 256));
        source.inject(Fault::on(Operation::Read, effect).at_sectors(100..101));
        let (outcome, _) = run_one(64, 1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
        assert_eq!(outcome.read_errno, errno);
        let (source, to) = (block(1, 256), block(2, 256));
        to.inject(Fault::on(Operation::Write, effect).at_sectors(100..101));
        let (outcome, _) = run_one(64, 1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
        assert_eq!((outcome.write_errors, outcome.failures[0].errno), (1, errno));
    }
}

#[test]
fn p17_no_error_bits_if_and_only_if_every_destination_is_ok_over_every_single_fault() {
    let effects = [Effect::Fail(EIO), Effect::Fail(ENOSPC), Effect::Short(0), Effect::Short(512), Effect::Fail(EINTR)];
    for flags in [plain(), ignoring(), sequential(), flushing()] {
        for effect in effects {
            for number in 0.. {
                let (source, first, second) = (block(1, 200), block(2, 200), file(3, 0));
                let mut calendar = Calendar::new(32, PIECE, SimulatedOptions::default());
                calendar.engine.strike(number, effect);
                calendar.submit(1, Some(&at(&source, 0)), &[at(&first, 0), at(&second, 0)], flags);
                calendar.run();
                let outcome = calendar.outcome(1);
                let all = complete(outcome).iter().all(|&complete| complete);
                assert_eq!(outcome.is_success(), all, "request {number}, {effect:?}");
                for (index, disk) in [&first, &second].into_iter().enumerate() {
                    let known = outcome.destinations[index].prefix_bytes / 512;
                    assert_eq!(sectors(disk, 0, known), sectors(&source, 0, known), "request {number}, {effect:?}");
                }
                if number >= calendar.engine.started() {
                    assert!(outcome.is_success(), "no request was struck");
                    break;
                }
            }
        }
    }
}

#[test]
fn p17_a_failure_of_a_neighbour_in_a_merged_request_is_not_reported_as_ones_own() {
    for flags in [plain(), ignoring(), sequential()] {
        let (source, to) = (block(1, 4096), block(2, 4096));
        // Once each, as when the kernel merged the request with one that is truly bad.
        source.inject(Fault::on(Operation::Read, Effect::Fail(EIO)).at_sectors(100..300).times(3));
        to.inject(Fault::on(Operation::Write, Effect::Fail(EIO)).at_sectors(900..1000).times(1));
        let (outcome, calendar) = run_one(256, 1, Some(&at(&source, 0)), &[at(&to, 0)], flags);
        assert!(outcome.is_success(), "{flags:?}: {outcome:?}");
        assert_eq!(sectors(&to, 0, 4096), sectors(&source, 0, 4096));
        assert_eq!(calendar.scheduler.pool().free(), 256);
    }
}

#[test]
fn p13_no_new_sub_job_begins_while_a_failure_is_looked_into() {
    for seed in 0..20 {
        let (source, to) = (block(1, 1 << 20), block(2, 1 << 20));
        source.inject(failing(Operation::Read, EIO, 0));
        let (outcome, calendar) = run_one(4096, seed, Some(&at(&source, 0)), &[at(&to, 0)], plain());
        assert_eq!((outcome.read_errno, outcome.failures.len(), outcome.failures[0].sector), (EIO, 1, 0));
        assert!(calendar.scheduler.counts().sub_jobs < 100, "seed {seed}");
    }
}

#[test]
fn p13_a_failure_is_known_before_the_rest_of_its_chain_is_home() {
    for seed in 0..20 {
        let (source, bad, slow) = (block(1, 1 << 20), block(2, 1 << 20), block(3, 1 << 20));
        bad.inject(failing(Operation::Write, EIO, 0));
        slow.inject(Fault::on(Operation::Write, Effect::Delay(1_000_000_000)).at_sectors(0..1));
        let (outcome, calendar) = run_one(4096, seed, Some(&at(&source, 0)), &[at(&bad, 0), at(&slow, 0)], plain());
        assert_eq!((outcome.write_errors, outcome.destinations[1].prefix_bytes >= PIECE * 512), (1, true));
        let pieces = calendar.scheduler.counts().sub_jobs;
        assert!(pieces < 1000, "seed {seed}: {pieces} pieces were begun while the slow destination took a second");
    }
}

#[test]
fn p18_a_failed_flush_lists_the_whole_region_of_that_destination_only() {
    let (source, bad, good) = (block(1, 200), block(2, 200), block(3, 200));
    bad.inject(Fault::on(Operation::Flush, Effect::Fail(EIO)));
    let (outcome, _) = run_one(32, 1, Some(&at(&source, 0)), &[at(&bad, 0), at(&good, 0)], flushing());
    assert_eq!((outcome.read_errno, outcome.write_errors, complete(&outcome)), (0, 1, vec![false, true]));
    let failure = outcome.failures[0];
    assert_eq!((failure.operation, failure.sector, failure.count), (FailedOperation::Flush, 0, 200));
}

#[test]
fn p18_a_job_of_no_bytes_flushes_its_destinations_too() {
    let (source, bad, good) = (block(1, 8), block(2, 8), block(3, 8));
    bad.inject(Fault::on(Operation::Flush, Effect::Fail(EIO)));
    let to = [at(&bad, 0), at(&good, 0)];
    let (outcome, mut calendar) = run_one(8, 1, Some(&at(&source, 8)), &to, flushing());
    let flushed = calendar.engine.take_log().iter().filter(|event| event.step.operation == Operation::Flush).count();
    assert_eq!(flushed, 4, "two flushes, started and ended");
    assert_eq!((outcome.write_errors, complete(&outcome)), (1, vec![false, true]));
    let failure = outcome.failures[0];
    assert_eq!((failure.operation, failure.destination, failure.count), (FailedOperation::Flush, Some(0), 0));
}

#[test]
fn p18_a_flush_comes_after_the_last_write() {
    let (source, to) = (block(1, 2000), block(2, 2000));
    let (_, mut calendar) = run_one(32, 1, Some(&at(&source, 0)), &[at(&to, 0)], flushing());
    let log = calendar.engine.take_log();
    let last_write = log.iter().rposition(|event| event.step.operation == Operation::Write);
    let flushes: Vec<_> = (0..log.len()).filter(|&place| log[place].step.operation == Operation::Flush).collect();
    assert_eq!(flushes.len(), 2, "one flush, started and ended");
    assert!(flushes[0] > last_write.expect("something was written"));
}

#[test]
fn p18_a_job_of_one_piece_is_flushed_by_its_own_chain_behind_each_write_in_every_order() {
    for zeroing in [false, true] {
        let runs = for_every_choice(|choices| {
            let (source, first, second) = (block(1, 8), block(2, 8), block(3, 8));
            let options = SimulatedOptions { order: Order::Chosen(choices.clone()), ..SimulatedOptions::default() };
            let mut calendar = Calendar::new(8, 8, options);
            let from = at(&source, 0);
            let to = [at(&first, 0).count(8), at(&second, 0).count(8)];
            calendar.submit(1, (!zeroing).then_some(&from), &to, flushing());
            calendar.run();
            assert!(calendar.outcome(1).is_success());
            let log = calendar.engine.take_log();
            assert!(log.iter().all(|event| event.tag == log[0].tag), "one chain");
            for device in log.iter().filter(|event| event.step.operation == Operation::Flush).map(|event| event.step.device)
            {
                let place = |operation, started| {
                    let is = |happened: Happened| (happened == Happened::Started) == started;
                    let find = |event: &kcopyd::engine::simulated::Event| {
                        event.step.device == device && event.step.operation == operation && is(event.happened)
                    };
                    log.iter().position(find).expect("it happened")
                };
                let write = if zeroing { Operation::Zero } else { Operation::Write };
                assert!(place(Operation::Flush, true) > place(write, false), "the flush starts when the write has ended");
            }
        });
        assert!(runs >= 6, "{runs} orders");
    }
}

#[test]
fn p18_a_flush_behind_a_write_that_failed_or_came_short_is_not_attempted_then() {
    for effect in [Effect::Fail(EIO), Effect::Short(512)] {
        let (source, bad, good) = (block(1, 8), block(2, 8), block(3, 8));
        // A failure counts when it was met alone, the second time.
        bad.inject(Fault::on(Operation::Write, effect).times(if effect == Effect::Fail(EIO) { 2 } else { 1 }));
        let (outcome, mut calendar) = run_one(8, 1, Some(&at(&source, 0)), &[at(&bad, 0), at(&good, 0)], flushing());
        let flushed = |event: &&kcopyd::engine::simulated::Event| {
            event.step.operation == Operation::Flush && event.happened == Happened::Started
        };
        let log = calendar.engine.take_log();
        let flushes: Vec<u32> = log.iter().filter(flushed).map(|event| event.step.device.0).collect();
        let failed = effect == Effect::Fail(EIO);
        assert_eq!(flushes, if failed { vec![2] } else { vec![2, 1] }, "{effect:?}");
        assert_eq!(complete(&outcome), [!failed, true]);
        let last_write = log.iter().rposition(|event| event.step.operation == Operation::Write && event.step.device.0 == 1);
        let flush = log.iter().position(|event| event.step.operation == Operation::Flush && event.step.device.0 == 1);
        assert!(failed || flush > last_write, "what came short is flushed after its remainder");
    }
}

#[test]
fn p19_and_p20_any_mix_ends_on_the_smallest_pool_and_leaves_it_whole() {
    for pages in [1, 2, 8] {
        for seed in 0..20 {
            let (source, to) = (block(1, 4096), block(2, 1 << 20));
            let mut calendar = Calendar::new(pages, 8, SimulatedOptions { seed, ..SimulatedOptions::default() });
            for token in 0..30u64 {
                let flags = [plain(), sequential(), ignoring()][token as usize % 3];
                calendar.submit(token, Some(&at(&source, 0).count(1 + token * 13)), &[at(&to, token * 5000)], flags);
            }
            calendar.run();
            assert!(calendar.outcomes.iter().all(|(_, outcome)| outcome.is_success()));
            assert_eq!(calendar.scheduler.pool().free(), pages);
            assert_eq!(calendar.least_free_pages, 0, "the pool was used to the last page and not beyond");
        }
    }
}

#[test]
fn p19_a_job_of_4_kib_takes_one_page() {
    let (source, to) = (block(1, 4096), block(2, 4096));
    let mut calendar = Calendar::new(64, PIECE, SimulatedOptions::default());
    calendar.submit(1, Some(&at(&source, 0).count(8)), &[at(&to, 0)], plain());
    calendar.turn();
    assert_eq!(calendar.least_free_pages, 63);
    calendar.run();
}

/// The most pages that a job of many pieces of 32 KiB has at once on devices with such queues.
fn pages_under_way(piece_bytes_max: u64, pieces_max: u32) -> u32 {
    let (source, to) = (block(1, 8192), block(2, 8192));
    let mut calendar = Calendar::new(200, PIECE, SimulatedOptions::default());
    (calendar.piece_bytes_max, calendar.pieces_max) = (piece_bytes_max, pieces_max);
    calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
    calendar.run();
    200 - calendar.least_free_pages
}

#[test]
fn a_job_has_as_much_under_way_where_a_queue_makes_its_pieces_short() {
    // 24 sub-jobs of 32 KiB hold 192 pages; so do 96 of 8 KiB; 96 of 4 KiB, which is the most, hold 96.
    for (piece_bytes_max, pages) in [(u64::MAX, 192), (40_000, 192), (9000, 192), (4096, 96), (1024, 96), (25_000, 144)] {
        assert_eq!(pages_under_way(piece_bytes_max, u32::MAX), pages, "with pieces of at most {piece_bytes_max} bytes");
    }
}

#[test]
fn a_job_has_no_more_pieces_under_way_than_its_devices_queues_hold() {
    // Eight pages each; a job that may have none would never end.
    for (pieces_max, pages) in [(u32::MAX, 192), (30, 192), (8, 64), (2, 16), (1, 8), (0, 8)] {
        assert_eq!(pages_under_way(u64::MAX, pieces_max), pages, "with {pieces_max} pieces at most");
    }
}

/// A large job that is all an engine of two steps holds, and an empty one that asks for a flush, which has to wait.
fn a_flush_waits() -> Calendar {
    let (source, to, other) = (block(1, 1024), block(2, 1024), block(3, 1024));
    let mut calendar = Calendar::new(64, PIECE, SimulatedOptions { steps_max: 2, ..SimulatedOptions::default() });
    calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
    assert!(calendar.turn());
    calendar.submit(2, Some(&at(&source, 0).count(0)), &[at(&other, 0)], flushing());
    calendar
}

fn flushes_started(calendar: &mut Calendar) -> usize {
    let log = calendar.engine.take_log().into_iter();
    log.filter(|event| event.step.operation == Operation::Flush && event.happened == Happened::Started).count()
}

#[test]
fn a_flush_for_which_the_engine_has_no_room_is_not_lost() {
    let mut calendar = a_flush_waits();
    calendar.run();
    assert!(calendar.outcome(1).is_success() && calendar.outcome(2).is_success());
    assert_eq!(flushes_started(&mut calendar), 1);
}

#[test]
fn p27_a_flush_that_waits_for_room_is_not_begun_after_an_abort() {
    let mut calendar = a_flush_waits();
    calendar.scheduler.abort(2);
    calendar.run();
    assert_eq!(calendar.outcome(2).ending, Ending::Aborted);
    assert!(calendar.outcome(1).is_success());
    assert_eq!(flushes_started(&mut calendar), 0);
}

#[test]
fn p21_a_job_of_a_pebibyte_is_one_queue_entry() {
    let (source, to) = (block(1, 1 << 41), block(2, 1 << 41));
    let mut calendar = Calendar::new(64, PIECE, SimulatedOptions::default());
    calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
    (0..100).for_each(|_| assert!(calendar.turn()));
    calendar.scheduler.abort(1);
    calendar.run();
    let outcome = calendar.outcome(1);
    assert_eq!((outcome.length_bytes, outcome.ending), (1 << 50, Ending::Aborted));
    let job_bytes = std::mem::size_of::<kcopyd::copy::job::Job>();
    assert!(job_bytes <= 384, "the job itself is small, whatever its length: {job_bytes} bytes");
}

#[test]
fn p27_an_abort_starts_nothing_more_and_settles_with_the_last_in_flight() {
    for turns in 0..12 {
        let (source, to) = (block(1, 1 << 30), block(2, 1 << 30));
        let mut calendar = Calendar::new(256, PIECE, SimulatedOptions::default());
        calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], flushing());
        (0..turns).for_each(|_| assert!(calendar.turn()));
        calendar.scheduler.abort(1);
        calendar.scheduler.abort(1);
        let started = calendar.engine.started();
        calendar.run();
        let writes_of_reads_in_flight = u64::from(SUB_JOBS_PER_JOB);
        assert!(calendar.engine.started() <= started + writes_of_reads_in_flight);
        let outcome = calendar.outcome(1);
        assert_eq!((outcome.read_errno, outcome.write_errors, outcome.ending), (ECANCELED, 0, Ending::Aborted));
        let known = outcome.prefix_bytes / 512;
        assert_eq!(sectors(&to, 0, known), sectors(&source, 0, known));
        assert!(outcome.failures.is_empty());
    }
}

#[test]
fn p27_a_job_that_was_complete_before_the_abort_took_effect_succeeds() {
    let (source, to) = (block(1, 8), block(2, 8));
    let mut calendar = Calendar::new(8, 8, SimulatedOptions::default());
    calendar.submit(1, Some(&at(&source, 0)), &[at(&to, 0)], plain());
    calendar.turn();
    calendar.scheduler.abort(1);
    calendar.run();
    assert!(calendar.outcome(1).is_success(), "its only piece was in flight: {:?}", calendar.outcome(1));
}

#[test]
fn a_slow_destination_holds_back_only_its_own_job() {
    let mut calendar = Calendar::new(128, PIECE, SimulatedOptions::default());
    let (source, stuck, quick) = (block(1, 1 << 16), block(2, 1 << 16), block(3, 1 << 16));
    stuck.inject(Fault::on(Operation::Write, Effect::Delay(10_000_000_000)));
    calendar.submit(1, Some(&at(&source, 0).count(32 * PIECE)), &[at(&stuck, 0)], plain());
    calendar.submit(2, Some(&at(&source, 0).count(PIECE)), &[at(&quick, 0)], plain());
    calendar.run();
    assert_eq!(calendar.outcomes.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn jobs_that_are_aborted_together_end_in_the_order_of_their_tokens() {
    let (source, to) = (block(1, 1 << 20), block(2, 1 << 20));
    let mut calendar = Calendar::new(8, 8, SimulatedOptions::default());
    for token in 0..50 {
        calendar.submit(token, Some(&at(&source, 0).count(8)), &[at(&to, token * 8)], plain());
    }
    calendar.scheduler.abort_all();
    calendar.run();
    assert_eq!(calendar.outcomes.iter().map(|(token, _)| *token).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
}
