//! Chains that do what they should, by every way and on every rung.

use super::*;
use StepResult::{Done, Failed, NotAttempted};

const EVERY_RUNG: [Rung; 7] =
    [Rung::Plain, Rung::Restrictable, Rung::SubmitAll, Rung::Cooperative, Rung::SingleIssuer, Rung::Deferred, Rung::Direct];

#[test]
fn p26_both_ways_copy_on_every_rung_of_the_ladder() {
    for newest in EVERY_RUNG {
        for chains in [Chains::Linked, Chains::FanOut] {
            let mut bench = Bench::new(UringOptions { newest, ..options(chains) });
            let bytes = pattern(64 << 10, 1);
            let source = bench.file("source", &bytes, Access::Read);
            let first = bench.file("first", &[], Access::Write);
            let second = bench.file("second", &[], Access::Write);
            bench.stage(7, &[read(source, 0, 64 << 10, 3), write(first, 0, 64 << 10, 3), write(second, 8192, 64 << 10, 3)]);
            assert_eq!(bench.results(3), [Done(64 << 10); 3], "{newest:?} {chains:?}");
            assert_eq!(bench.bytes("first"), bytes);
            assert_eq!(bench.bytes("second"), [vec![0; 8192], bytes].concat());
        }
    }
}

#[test]
fn both_ways_run_with_registered_buffers_and_files() {
    let mut bench = Bench::new(options(Chains::Linked));
    let source = bench.file("source", &pattern(4096, 1), Access::Read);
    let destination = bench.file("destination", &[], Access::Write);
    bench.stage(1, &[read(source, 0, 4096, 600), write(destination, 0, 4096, 600)]);
    bench.run(2);
    bench.engine.chains = Chains::FanOut;
    bench.stage(2, &[read(source, 0, 4096, 0), write(destination, 4096, 4096, 0), flush(destination)]);
    bench.run(3);
    let expected = Counters {
        read_fixed: 2,
        write_fixed: 2,
        fsync: 1,
        registered_files: 5,
        linked: 1,
        fan_out: 1,
        ..Counters::default()
    };
    assert_eq!(bench.engine.counters(), expected);
    assert!(bench.engine.description().registered_buffers);
}

#[test]
fn p18_a_flush_is_linked_behind_the_only_write_and_otherwise_started_when_the_write_has_ended() {
    for (chains, expected) in [(Chains::AsMeasured, (1, 0)), (Chains::Linked, (1, 0)), (Chains::FanOut, (0, 1))] {
        let mut bench = Bench::new(options(chains));
        let source = bench.file("source", &pattern(4096, 1), Access::Read);
        let destination = bench.file("destination", &[], Access::Write);
        bench.stage(1, &[read(source, 0, 4096, 0), write(destination, 0, 4096, 0), flush(destination)]);
        assert_eq!(bench.results(3), [Done(4096), Done(4096), Done(0)]);
        let counters = bench.engine.counters();
        assert_eq!((counters.linked, counters.fan_out), expected, "{chains:?}");
        assert_eq!(counters.fsync, 1);
    }
}

#[test]
fn p18_a_flush_behind_a_write_that_failed_is_not_attempted_either_way() {
    for chains in [Chains::Linked, Chains::FanOut] {
        let mut bench = Bench::new(options(chains));
        let source = bench.file("source", &pattern(4096, 1), Access::Read);
        let read_only = bench.file("destination", &[], Access::Read);
        bench.stage(1, &[read(source, 0, 4096, 0), write(read_only, 0, 4096, 0), flush(read_only)]);
        assert_eq!(bench.results(3), [Done(4096), Failed(libc::EBADF), NotAttempted], "{chains:?}");
        bench.stage(2, &[read(source, 1 << 20, 4096, 0), write(read_only, 0, 4096, 0), flush(read_only)]);
        assert_eq!(bench.results(3), [Done(0), NotAttempted, NotAttempted], "{chains:?}");
    }
}

#[test]
fn what_is_not_registered_is_used_plain() {
    let plain = UringOptions { registered_buffers: Use::Never, registered_files: Use::Never, ..options(Chains::Linked) };
    let mut bench = Bench::new(plain);
    let source = bench.file("source", &pattern(4096, 1), Access::Read);
    let destination = bench.file("destination", &[], Access::Write);
    bench.stage(1, &[read(source, 0, 4096, 0), write(destination, 0, 4096, 0)]);
    bench.run(2);
    assert_eq!(bench.engine.counters(), Counters { read: 1, write: 1, linked: 1, ..Counters::default() });
    assert!(!bench.engine.description().registered_buffers);
    assert_eq!(bench.bytes("destination"), bench.bytes("source"));
}

#[test]
fn a_linked_chain_is_one_submission_and_a_fanned_out_one_is_two() {
    for (chains, expected) in [(Chains::Linked, 1), (Chains::FanOut, 2)] {
        let mut bench = Bench::new(options(chains));
        let source = bench.file("source", &pattern(4096, 1), Access::Read);
        let destination = bench.file("destination", &[0; 4096], Access::Write);
        let before = bench.engine.description().submissions;
        bench.stage(1, &[read(source, 0, 4096, 0), write(destination, 0, 4096, 0)]);
        let mut completions = Vec::new();
        bench.engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        assert_eq!(completions.len(), 2, "a read whose chain goes on is nothing to come back for");
        assert_eq!(bench.engine.description().submissions - before, expected, "{chains:?}");
    }
}

#[test]
fn p8_a_short_read_and_a_failed_one_let_no_write_happen_either_way() {
    for chains in [Chains::Linked, Chains::FanOut] {
        let mut bench = Bench::new(options(chains));
        let source = bench.file("source", &pattern(6144, 1), Access::Read);
        let unreadable = bench.file("unreadable", &pattern(8192, 2), Access::Write);
        let [first, second] = ["first", "second"].map(|name| bench.file(name, &[0xAA; 8192], Access::Write));
        bench.stage(1, &[read(source, 0, 8192, 0), write(first, 0, 8192, 0), write(second, 0, 8192, 0)]);
        assert_eq!(bench.results(3), [Done(6144), NotAttempted, NotAttempted], "{chains:?}");
        bench.stage(2, &[read(source, 12288, 4096, 0), write(first, 0, 4096, 0), write(second, 0, 4096, 0)]);
        assert_eq!(bench.results(3), [Done(0), NotAttempted, NotAttempted], "{chains:?}");
        bench.stage(3, &[read(unreadable, 0, 8192, 0), write(first, 0, 8192, 0), write(second, 0, 8192, 0)]);
        assert_eq!(bench.results(3), [Failed(libc::EBADF), NotAttempted, NotAttempted], "{chains:?}");
        assert_eq!((bench.bytes("first"), bench.bytes("second")), (vec![0xAA; 8192], vec![0xAA; 8192]));
        assert_eq!(bench.engine.counters().unknown, 0);
    }
}

#[test]
fn p13_a_failed_write_is_not_noticed_by_the_others_either_way() {
    for chains in [Chains::Linked, Chains::FanOut] {
        let mut bench = Bench::new(options(chains));
        let bytes = pattern(8192, 1);
        let source = bench.file("source", &bytes, Access::Read);
        let readonly = bench.file("readonly", &[], Access::Read);
        let [first, last] = ["first", "last"].map(|name| bench.file(name, &[], Access::Write));
        let refused = write(readonly, 0, 8192, 0);
        bench.stage(1, &[read(source, 0, 8192, 0), refused, write(first, 0, 8192, 0), refused, write(last, 0, 8192, 0)]);
        let failed = Failed(libc::EBADF);
        assert_eq!(bench.results(5), [Done(8192), failed, Done(8192), failed, Done(8192)], "{chains:?}");
        assert_eq!((bench.bytes("first"), bench.bytes("last")), (bytes.clone(), bytes));
    }
}

#[test]
fn p18_a_flush_that_has_failed_fails_at_once_and_for_good() {
    let mut bench = Bench::new(UringOptions::default());
    let destination = bench.file("destination", &[], Access::Write);
    bench.engine.files.device(destination).note_flush_error(libc::ENOSPC);
    bench.stage(1, &[flush(destination)]);
    assert_eq!(bench.results(1), [Failed(libc::ENOSPC)]);
    assert_eq!(bench.engine.counters().fsync, 0);
}

#[test]
fn p18_the_flush_of_a_file_that_was_made_is_also_one_of_its_directory() {
    use crate::engine::device::Create;
    let mut bench = Bench::new(UringOptions::default());
    let options = DeviceOptions { access: Access::Write, create: Create::Yes, ..DeviceOptions::default() };
    let device = Arc::new(Device::open(&bench.path("made"), &options).unwrap());
    let made = bench.engine.attach(&device).unwrap();
    bench.stage(1, &[flush(made)]);
    assert_eq!(bench.results(1), [Done(0)]);
    assert_eq!(bench.engine.counters().fsync, 2);
    assert!(bench.engine.directories.is_empty());
}

#[test]
fn p33_a_detached_device_can_be_opened_again_at_once() {
    let mut bench = Bench::new(UringOptions::default());
    let destination = bench.file("destination", &[], Access::Write);
    bench.stage(1, &[write(destination, 0, 4096, 0)]);
    bench.run(1);
    let options = DeviceOptions { access: Access::Write, ..DeviceOptions::default() };
    let held = Device::open(&bench.path("destination"), &options).unwrap_err();
    assert_eq!(held.errno, Some(libc::EBUSY), "{held}");
    bench.engine.detach(destination);
    Device::open(&bench.path("destination"), &options).unwrap();
}

#[test]
#[should_panic(expected = "detached after the last step")]
fn a_device_in_use_is_not_detached() {
    let mut bench = Bench::new(UringOptions::default());
    let destination = bench.file("destination", &[], Access::Write);
    bench.stage(1, &[write(destination, 0, 4096, 0)]);
    bench.engine.detach(destination);
}

#[test]
fn more_devices_than_slots_are_used_by_their_descriptors() {
    let mut bench = Bench::new(UringOptions::default());
    let bytes = pattern(4096, 1);
    let source = bench.file("source", &bytes, Access::Read);
    let destinations: Vec<_> = (0..140).map(|n| bench.file(&format!("destination{n}"), &[], Access::Write)).collect();
    for (tag, destination) in destinations.iter().enumerate() {
        bench.stage(tag as u64, &[read(source, 0, 4096, tag as u32), write(*destination, 0, 4096, tag as u32)]);
        if tag % 64 == 63 {
            bench.run(128);
        }
    }
    bench.run(2 * (140 - 128));
    assert!((0..140).all(|n| bench.bytes(&format!("destination{n}")) == bytes));
    let counters = bench.engine.counters();
    assert!(counters.registered_files < 280 && counters.registered_files > 140, "{counters:?}");
    assert_eq!(counters.read_fixed + counters.write_fixed, 280);
}

#[test]
fn an_idle_engine_takes_any_chain_also_on_the_smallest_ring() {
    let mut bench = Bench::new(UringOptions { entries: setup::ENTRIES_MIN, ..options(Chains::Linked) });
    let source = bench.file("source", &pattern(4096, 1), Access::Read);
    let destination = bench.file("destination", &[], Access::Write);
    let mut steps = vec![read(source, 0, 4096, 0)];
    steps.extend((0..32).map(|n| write(destination, n * 4096, 4096, 0)));
    bench.stage(1, &steps);
    assert!(bench.engine.stage(chain(2, &steps)).is_err());
    assert_eq!(bench.results(33), [Done(4096); 33]);
    assert_eq!(bench.bytes("destination"), pattern(4096, 1).repeat(32));
}
