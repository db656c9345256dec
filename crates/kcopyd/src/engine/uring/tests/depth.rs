//! Devices whose queues hold less than there is to do.

use std::collections::VecDeque;

use super::*;
use crate::copy::region::DeviceKind;
use crate::engine::device::Queue;
use StepResult::{Done, Failed, NotAttempted};

const PAGE: u32 = 4096;

/// A kernel that refuses so often has been asked for as long as it is: 101 times, and between two of those for answers.
const REFUSALS: usize = 201;

/// A source of so many pages, and a destination whose queue holds so many requests.
fn narrow(pages: u32, requests_max: u32, chains: Chains) -> (Bench, DeviceIndex, DeviceIndex) {
    let mut bench = Bench::new(options(chains));
    let source = bench.file("source", &pattern((pages * PAGE) as usize, 1), Access::Read);
    let destination = bench.file("destination", &[], Access::Write);
    narrow_queue(&mut bench, destination, requests_max);
    // The waker's read is in the ring already, so that only steps are counted.
    bench.engine.submit_and_wait(Wait::No, &mut Vec::new());
    (bench, source, destination)
}

/// Gives a device a queue of its own.
fn narrow_queue(bench: &mut Bench, device: DeviceIndex, requests_max: u32) {
    let disk = u64::MAX - u64::from(device.0);
    let queue = Queue { disk, request_bytes_max: 1 << 20, requests_max: Some(requests_max), rotational: false };
    bench.engine.queues.detach(device);
    bench.engine.queues.attach(device, DeviceKind::File, Some(queue));
}

/// Stages a write of each page.
fn writes(bench: &mut Bench, destination: DeviceIndex, pages: u32) {
    for page in 0..pages {
        bench.stage(page.into(), &[write(destination, u64::from(page * PAGE), PAGE, page)]);
    }
}

/// How many requests are made at once of what is ready.
fn made(bench: &mut Bench) -> usize {
    bench.engine.push_ready(&mut Vec::new());
    bench.engine.ring.queued()
}

#[test]
fn a_device_gets_no_more_requests_than_its_queue_holds_and_others_do_not_wait_for_it() {
    let (mut bench, source, destination) = narrow(8, 2, Chains::FanOut);
    writes(&mut bench, destination, 5);
    assert_eq!(made(&mut bench), 2);
    for page in 5..8 {
        bench.stage(page, &[read(source, 0, PAGE, page as u32)]);
    }
    assert_eq!(made(&mut bench), 5);
    assert_eq!(bench.results(8), [Done(PAGE); 8]);
    assert_eq!(bench.bytes("destination").len(), (5 * PAGE) as usize);
    writes(&mut bench, destination, 5);
    assert_eq!(made(&mut bench), 2, "the queue is as long as before");
    assert_eq!(bench.results(5), [Done(PAGE); 5]);
}

#[test]
fn a_flush_does_not_wait_for_room_because_it_may_need_no_request() {
    let (mut bench, _, destination) = narrow(3, 1, Chains::FanOut);
    writes(&mut bench, destination, 3);
    bench.stage(9, &[flush(destination)]);
    assert_eq!(made(&mut bench), 2);
    assert_eq!(bench.results(4), [Done(PAGE), Done(PAGE), Done(PAGE), Done(0)]);
}

#[test]
fn chains_copy_through_the_shortest_queues_however_they_are_run_and_wherever_the_kernel_stops() {
    for chains in [Chains::AsMeasured, Chains::Linked, Chains::FanOut] {
        for taken in [[0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [3, 2], [5, 1], [9, 9]] {
            let (mut bench, source, destination) = narrow(16, 1, chains);
            narrow_queue(&mut bench, source, 2);
            for page in 0..16 {
                let at = u64::from(page * PAGE);
                bench.stage(page.into(), &[read(source, at, PAGE, page), write(destination, at, PAGE, page)]);
            }
            bench.engine.ring.faults.take_at_most = VecDeque::from(taken);
            assert_eq!(bench.results(32), [Done(PAGE); 32], "{chains:?} cut after {taken:?}");
            assert_eq!(bench.bytes("destination"), bench.bytes("source"), "{chains:?} cut after {taken:?}");
        }
    }
}

#[test]
fn p4_who_waits_for_room_is_not_overtaken_by_what_is_ready_later() {
    let (mut bench, source, destination) = narrow(8, 1, Chains::FanOut);
    writes(&mut bench, destination, 4);
    assert_eq!(made(&mut bench), 1);
    let mut order = Vec::new();
    while order.len() < 8 {
        let mut completions = Vec::new();
        // Another is ready each time, and its read answers before there is room for its write.
        let tag = 100 + order.len() as u64;
        bench.stage(tag, &[read(source, 0, PAGE, 9), write(destination, 0, PAGE, 9)]);
        bench.engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        order.extend(completions.iter().filter(|it| it.tag.0 < 100 || it.step == 1).map(|it| it.tag.0));
    }
    assert_eq!(order[..4], [0, 1, 2, 3], "{order:?}");
    bench.engine.drain();
}

#[test]
fn p16_what_waits_for_room_is_not_failed_with_what_the_kernel_has_no_memory_for() {
    let (mut bench, source, destination) = narrow(5, 1, Chains::FanOut);
    let other = bench.file("other", &[], Access::Write);
    narrow_queue(&mut bench, other, 1);
    for (tag, device) in [(1, destination), (2, destination), (3, other)] {
        bench.stage(tag, &[write(device, 0, PAGE, 0)]);
    }
    bench.stage(9, &[read(source, 0, PAGE, 9), write(destination, 0, PAGE, 9)]);
    bench.engine.ring.faults.refusals = VecDeque::from([libc::EAGAIN; REFUSALS]);
    let failed = Failed(libc::EAGAIN);
    // Of two for one place only the first was refused.
    assert_eq!(bench.results(5), [failed, Done(PAGE), failed, failed, NotAttempted]);
    assert_eq!(bench.engine.book.steps(), 0);
    writes(&mut bench, destination, 5);
    assert_eq!(bench.results(5), [Done(PAGE); 5]);
}

#[test]
fn p1_what_waits_for_room_comes_home_although_the_ring_was_refused_meanwhile() {
    let (mut bench, _, destination) = narrow(5, 1, Chains::FanOut);
    writes(&mut bench, destination, 5);
    bench.engine.push_ready(&mut Vec::new());
    bench.engine.enter(Patience::None, &mut Vec::new());
    bench.engine.ring.faults.refusals = VecDeque::from([libc::EPERM; 3]);
    let refused = Failed(libc::EPERM);
    assert_eq!(bench.results(5), [Done(PAGE), refused, refused, refused, refused]);
}

#[test]
fn rule_9_dropping_starts_nothing_of_what_waits_for_room() {
    let (mut bench, _, destination) = narrow(64, 1, Chains::FanOut);
    writes(&mut bench, destination, 64);
    bench.engine.push_ready(&mut Vec::new());
    bench.engine.enter(Patience::None, &mut Vec::new());
    let Bench { mut engine, directory } = bench;
    assert_eq!(engine.drain(), Drained::Yes);
    drop(engine);
    assert_eq!(fs::read(directory.path().join("destination")).unwrap().len(), PAGE as usize);
}
