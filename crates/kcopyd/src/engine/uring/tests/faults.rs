//! A kernel that does not do all it was asked for.

use std::collections::VecDeque;

use super::*;
use StepResult::{Done, Failed, NotAttempted};

/// The kernel takes `taken` entries of a linked chain of a read and three writes, and then has no memory for more.
fn cut(taken: u32, read_bytes: u32) -> (Bench, Vec<StepResult>) {
    let mut bench = Bench::new(options(Chains::Linked));
    let source = bench.file("source", &pattern(8192, 1), Access::Read);
    let destinations = ["a", "b", "c"].map(|name| bench.file(name, &[0xAA; 8192], Access::Write));
    let offset = 8192 - u64::from(read_bytes);
    let mut steps = vec![read(source, offset, 8192, 0)];
    steps.extend(destinations.map(|device| write(device, 0, 8192, 0)));
    // The waker's read is in the ring already, so that the chain alone is cut.
    bench.engine.submit_and_wait(Wait::No, &mut Vec::new());
    bench.stage(1, &steps);
    bench.engine.ring.faults.take_at_most = VecDeque::from([taken]);
    let results = bench.results(4);
    assert_eq!(bench.engine.book.steps(), 0);
    assert!(bench.engine.ready.is_empty() && bench.engine.ready.cut_off.is_empty());
    (bench, results)
}

#[test]
fn p8_a_linked_chain_cut_in_two_by_the_kernel_still_copies() {
    for taken in 0..=4 {
        let (bench, results) = cut(taken, 8192);
        assert_eq!(results, [Done(8192); 4], "cut after {taken}");
        for name in ["a", "b", "c"] {
            assert_eq!(bench.bytes(name), pattern(8192, 1), "{name}, cut after {taken}");
        }
    }
}

#[test]
fn p8_no_stale_byte_when_the_kernel_cuts_a_linked_chain_whose_read_comes_short() {
    for taken in 0..=4 {
        let (bench, results) = cut(taken, 4096);
        assert_eq!(results, [Done(4096), NotAttempted, NotAttempted, NotAttempted], "cut after {taken}");
        for name in ["a", "b", "c"] {
            assert_eq!(bench.bytes(name), [0xAA; 8192], "{name}, cut after {taken}");
        }
    }
}

#[test]
fn several_chains_survive_any_cut_either_way() {
    for chains in [Chains::Linked, Chains::FanOut] {
        for taken in 0..14 {
            let mut bench = Bench::new(options(chains));
            let bytes = pattern(32 << 10, 1);
            let source = bench.file("source", &bytes, Access::Read);
            let [a, b] = ["a", "b"].map(|name| bench.file(name, &[], Access::Write));
            for n in 0..4 {
                let at = u64::from(n) * 8192;
                bench
                    .stage(n.into(), &[read(source, at, 8192, n * 2), write(a, at, 8192, n * 2), write(b, at, 8192, n * 2)]);
            }
            bench.stage(99, &[flush(a)]);
            bench.engine.ring.faults.take_at_most = VecDeque::from([taken]);
            let results = bench.results(13);
            assert_eq!(results[..12], [Done(8192); 12], "{chains:?} cut after {taken}");
            assert_eq!((bench.bytes("a"), bench.bytes("b")), (bytes.clone(), bytes));
        }
    }
}

#[test]
fn p1_a_write_that_was_cut_off_and_then_refused_by_itself_is_not_lost() {
    for taken in [[1, 0], [2, 0], [2, 1], [3, 0]] {
        let mut bench = Bench::new(options(Chains::Linked));
        let source = bench.file("source", &pattern(8192, 1), Access::Read);
        let [a, b] = ["a", "b"].map(|name| bench.file(name, &[0xAA; 8192], Access::Write));
        bench.engine.submit_and_wait(Wait::No, &mut Vec::new());
        bench.stage(1, &[read(source, 0, 8192, 0), write(a, 0, 8192, 0), write(b, 0, 8192, 0)]);
        bench.engine.ring.faults.take_at_most = VecDeque::from(taken);
        let mut completions = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while completions.len() < 3 && Instant::now() < deadline {
            bench.engine.submit_and_wait(Wait::Until(deadline), &mut completions);
        }
        assert_eq!(completions.len(), 3, "every step comes home, cut after {taken:?}");
        assert_eq!((bench.bytes("a"), bench.bytes("b")), (pattern(8192, 1), pattern(8192, 1)));
    }
}

#[test]
fn p16_a_kernel_without_memory_is_asked_again() {
    let mut bench = Bench::new(UringOptions::default());
    let destination = bench.file("destination", &[], Access::Write);
    bench.engine.ring.faults.refusals = VecDeque::from([libc::EAGAIN, libc::EBUSY, libc::ENOMEM]);
    bench.stage(1, &[write(destination, 0, 4096, 0)]);
    assert_eq!(bench.results(1), [Done(4096)]);
}

#[test]
fn p16_a_kernel_that_stays_without_memory_is_not_asked_for_ever() {
    for chains in [Chains::Linked, Chains::FanOut] {
        let mut bench = Bench::new(options(chains));
        let source = bench.file("source", &pattern(4096, 1), Access::Read);
        let destination = bench.file("destination", &[0xAA; 4096], Access::Write);
        bench.engine.ring.faults.refusals = VecDeque::from([libc::EAGAIN; 300]);
        bench.stage(1, &[read(source, 0, 4096, 0), write(destination, 0, 4096, 0)]);
        bench.stage(2, &[write(destination, 0, 4096, 0), flush(destination)]);
        let failed = Failed(libc::EAGAIN);
        assert_eq!(bench.results(4), [failed, NotAttempted, failed, NotAttempted]);
        assert_eq!(bench.bytes("destination"), [0xAA; 4096]);
        bench.engine.ring.faults.refusals.clear();
        bench.stage(3, &[read(source, 0, 4096, 0), write(destination, 0, 4096, 0), flush(destination)]);
        assert_eq!(bench.results(3), [Done(4096), Done(4096), Done(0)]);
    }
}

#[test]
fn p32_a_ring_that_may_not_be_entered_any_more_fails_what_it_has_not_started() {
    let mut bench = Bench::new(UringOptions::default());
    let destination = bench.file("destination", &[], Access::Write);
    bench.engine.ring.faults.refusals = VecDeque::from([libc::EPERM]);
    bench.stage(1, &[write(destination, 0, 4096, 0)]);
    assert_eq!(bench.results(1), [Failed(libc::EPERM)]);
    bench.stage(2, &[flush(destination)]);
    assert_eq!(bench.results(1), [Failed(libc::EPERM)]);
    (bench.engine.waker())();
    bench.engine.submit_and_wait(Wait::UntilWoken, &mut Vec::new());
    assert_eq!(bench.bytes("destination"), []);
}

#[test]
fn p1_what_is_in_flight_comes_home_although_the_ring_was_refused_meanwhile() {
    let mut bench = Bench::new(UringOptions::default());
    let source = bench.file("source", &pattern(4096, 1), Access::Read);
    let destination = bench.file("destination", &[], Access::Write);
    bench.stage(1, &[read(source, 0, 4096, 0)]);
    bench.engine.push_ready(&mut Vec::new());
    bench.engine.enter(Patience::None, &mut Vec::new());
    assert!(bench.engine.ring.in_kernel() > 0 && bench.engine.book.steps() == 1);
    bench.engine.ring.faults.refusals = VecDeque::from([libc::EPERM; 3]);
    assert_eq!(bench.results(1), [Done(4096)]);
    bench.stage(2, &[write(destination, 0, 4096, 0)]);
    assert_eq!(bench.results(1), [Failed(libc::EPERM)], "and nothing more is started");
}

#[test]
fn p32_what_is_in_flight_is_given_up_when_the_ring_is_refused_for_good() {
    let mut bench = Bench::new(UringOptions::default());
    let source = bench.file("source", &pattern(4096, 1), Access::Read);
    bench.stage(1, &[read(source, 0, 4096, 0)]);
    bench.engine.push_ready(&mut Vec::new());
    bench.engine.enter(Patience::None, &mut Vec::new());
    bench.engine.ring.faults.refusals = VecDeque::from([libc::EPERM; 1000]);
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.results(1)));
    let words = broken.expect_err("nothing comes home").downcast::<&str>().expect("it says why");
    assert_eq!(*words, "the kernel refuses to be asked for the requests that it has");
}

#[test]
fn rule_9_memory_is_leaked_when_the_kernel_cannot_be_asked_for_its_requests() {
    let mut bench = Bench::new(UringOptions::default());
    let source = bench.file("source", &pattern(4096, 1), Access::Read);
    bench.stage(1, &[read(source, 0, 4096, 0)]);
    bench.engine.push_ready(&mut Vec::new());
    bench.engine.enter(Patience::None, &mut Vec::new());
    assert!(bench.engine.ring.in_kernel() > 0 && bench.engine.book.steps() == 1);
    bench.engine.ring.faults.refusals = VecDeque::from([libc::EPERM; 9]);
    let first = bench.engine.buffers.arena().pointer(BufferStart { page: 5, offset_bytes: 0 }, 1);
    drop(bench);
    // SAFETY: the arena was leaked, which is what is tested; only this test knows the address. Without the leak this is a
    // fault that ends the test's process.
    unsafe { first.write_volatile(1) };
}

#[test]
fn rule_9_dropping_waits_for_what_is_in_the_kernel_and_starts_nothing() {
    for chains in [Chains::Linked, Chains::FanOut] {
        let mut bench = Bench::new(options(chains));
        let bytes = pattern(1 << 20, 1);
        let source = bench.file("source", &bytes, Access::Read);
        let [started, unstarted] = ["started", "unstarted"].map(|name| bench.file(name, &[], Access::Write));
        bench.stage(1, &[write(started, 0, 1 << 20, 0)]);
        bench.engine.push_ready(&mut Vec::new());
        bench.engine.enter(Patience::None, &mut Vec::new());
        bench.stage(2, &[read(source, 0, 4096, 256), write(unstarted, 0, 4096, 256)]);
        let Bench { engine, directory } = bench;
        drop(engine);
        assert_eq!(fs::read(directory.path().join("started")).unwrap().len(), 1 << 20);
        assert_eq!(fs::read(directory.path().join("unstarted")).unwrap(), []);
    }
}
