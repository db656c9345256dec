//! null_blk: a device with queues, with bad blocks of its own, with a volatile cache, slow, and switched off in the middle.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use kcopyd::client::EngineChoice;
use kcopyd::copy::outcome::FailedOperation;
use rustix::io::Errno;

use super::{FLUSH, IGNORE, STOP};
use crate::case::Cases;
use crate::disk::{Disk, Found, SECTORS, disk, null_blk, stamps};
use crate::session::{Job, Session, open_destination, open_source};
use crate::world::failures_of;

const BAD: (u64, u64) = (2056, 8);
const EIO: i32 = Errno::IO.raw_os_error();
/// Slow enough for something to be in flight when the power goes: 100 ms a request.
const SLOW: [(&str, &str); 3] = [("size", "2"), ("irqmode", "2"), ("completion_nsec", "100000000")];

pub fn add(cases: &mut Cases) {
    cases.on_engines("P8 P14 P17 null_blk bad blocks to read", p8_p14_p17_bad_blocks_to_read);
    cases.on_engines("P12 P14 P17 null_blk bad blocks to write", p12_p14_p17_bad_blocks_to_write);
    cases.on_engines("P18 null_blk with a volatile cache, flush", p18_a_volatile_cache_is_flushed);
    cases.on_engines("P1 null_blk destination switched off under I/O", p1_a_destination_is_switched_off);
    cases.on_engines("P1 P8 null_blk source switched off under I/O", p1_p8_a_source_is_switched_off);
}

/// A device that is removed in the end.
struct Null {
    disk: Disk,
    attributes: PathBuf,
}

impl Null {
    fn new(attributes: &[(&str, &str)]) -> Null {
        Null { disk: null_blk("faulty", attributes), attributes: Path::new("/sys/kernel/config/nullb/faulty").to_owned() }
    }

    fn set(&self, attribute: &str, value: &str) {
        fs::write(self.attributes.join(attribute), value).unwrap_or_else(|error| panic!("{attribute}={value}: {error}"));
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        // Removing it switches it off.
        fs::remove_dir(&self.attributes).unwrap_or_else(|error| eprintln!("null_blk cannot be removed: {error}"));
    }
}

fn copied(engine: EngineChoice, from: &Disk, to: &Disk, flags: kcopyd::client::JobFlags) -> kcopyd::copy::outcome::Outcome {
    let mut session = Session::new(engine);
    let outcome = session.run(&Job::copy(&open_source(&from.path), &[open_destination(&to.path)], flags));
    session.close();
    outcome
}

/// All sectors of a disk are stamped so, but those of one range, which are `there`.
fn holds(disk: &Disk, tag: u32, there: (u64, u64), what: impl Fn(u32) -> Found) {
    for (sector, found) in (0..).zip(disk.found()) {
        let is_there = (there.0..there.0 + there.1).contains(&u64::from(sector));
        assert_eq!(found, if is_there { what(sector) } else { Found::Stamp { tag, sector } }, "sector {sector}");
    }
}

fn p8_p14_p17_bad_blocks_to_read(engine: EngineChoice) {
    let null = Null::new(&[("size", "2")]);
    null.disk.stamp(1);
    null.set("badblocks", &format!("+{}-{}", BAD.0, BAD.0 + BAD.1 - 1));
    let to = disk(1, 512);
    let outcome = copied(engine, &null.disk, &to, IGNORE);
    assert_eq!(failures_of(&outcome), [(FailedOperation::Read, None, BAD, EIO)]);
    holds(&to, 1, BAD, |_| Found::Zeros);
    null.set("badblocks", &format!("-{}-{}", BAD.0, BAD.0 + BAD.1 - 1));
    let outcome = copied(engine, &null.disk, &to, STOP);
    assert!(outcome.is_success(), "healthy again: {outcome:?}");
    holds(&to, 1, (0, 0), |_| Found::Zeros);
}

fn p12_p14_p17_bad_blocks_to_write(engine: EngineChoice) {
    let null = Null::new(&[("size", "2")]);
    null.disk.stamp(2);
    null.set("badblocks", &format!("+{}-{}", BAD.0, BAD.0 + BAD.1 - 1));
    let from = disk(0, 512);
    from.stamp(1);
    let outcome = copied(engine, &from, &null.disk, IGNORE);
    assert_eq!(failures_of(&outcome), [(FailedOperation::Write, Some(0), BAD, EIO)]);
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1));
    null.set("badblocks", &format!("-{}-{}", BAD.0, BAD.0 + BAD.1 - 1));
    holds(&null.disk, 1, BAD, |sector| Found::Stamp { tag: 2, sector });
}

fn p18_a_volatile_cache_is_flushed(engine: EngineChoice) {
    let null = Null::new(&[("size", "2"), ("cache_size", "1")]);
    let cache = fs::read_to_string("/sys/block/faulty/queue/write_cache").expect("the queue says");
    assert_eq!(cache.trim(), "write back", "the fault is real");
    let from = disk(0, 512);
    from.stamp(1);
    let flushes = |disk: &str| {
        let stat = fs::read_to_string(format!("/sys/block/{disk}/stat")).expect("the disk counts");
        stat.split_whitespace().nth(15).and_then(|count| count.parse::<u64>().ok()).expect("flushes are the 16th figure")
    };
    let before = flushes("faulty");
    assert!(copied(engine, &from, &null.disk, STOP).is_success());
    assert_eq!(flushes("faulty"), before, "nobody asked for a flush");
    assert!(copied(engine, &from, &null.disk, FLUSH).is_success());
    assert!(flushes("faulty") > before, "P18: the device was flushed");
    holds(&null.disk, 1, (0, 0), |_| Found::Zeros);
}

fn p1_a_destination_is_switched_off(engine: EngineChoice) {
    let null = Null::new(&SLOW);
    let from = disk(0, 512);
    from.stamp(1);
    let device = open_destination(&null.disk.path);
    let source = open_source(&from.path);
    let mut session = Session::new(engine);
    let token = session.submit(&Job::copy(&source, &[std::sync::Arc::clone(&device)], STOP));
    thread::sleep(Duration::from_millis(45));
    null.set("power", "0");
    let outcome = session.wait(token);
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1), "{outcome:?}");
    let again = session.run(&Job::copy(&source, &[device], STOP));
    assert_eq!((again.read_errno, again.write_errors), (0, 1), "{again:?}");
    session.close();
}

fn p1_p8_a_source_is_switched_off(engine: EngineChoice) {
    let null = Null::new(&SLOW);
    null.disk.write(0, &stamps(1, 0, SECTORS));
    let to = disk(1, 512);
    to.stamp(2);
    let device = open_source(&null.disk.path);
    let mut session = Session::new(engine);
    let token = session.submit(&Job::copy(&device, &[open_destination(&to.path)], STOP));
    thread::sleep(Duration::from_millis(45));
    null.set("power", "0");
    let outcome = session.wait(token);
    session.close();
    assert!(outcome.read_errno != 0 && outcome.write_errors == 0, "{outcome:?}");
    for (sector, found) in (0..).zip(to.found()) {
        let stamped = |tag| Found::Stamp { tag, sector };
        let is_new = found == stamped(1);
        assert!(is_new || u64::from(sector) * 512 >= outcome.prefix_bytes && found == stamped(2), "P8: {sector} {found:?}");
    }
}
