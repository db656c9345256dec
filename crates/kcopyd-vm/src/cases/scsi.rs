//! scsi_debug: a disk whose errors come through the SCSI layer (and have another errno), with large sectors, with large physical
//! sectors beneath small ones, closed to writing, and pulled out in the middle.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use kcopyd::client::{EngineChoice, JobFlags, JobRequest, RegionRequest};
use kcopyd::copy::outcome::{FailedOperation, Outcome};
use kcopyd::error::ErrorKind;
use rustix::io::Errno;

use super::{IGNORE, STOP};
use crate::case::Cases;
use crate::disk::{Disk, Found, SECTORS, disk, modprobe};
use crate::session::{Job, Session, open_destination, open_source, try_open_destination, wait_for};
use crate::world::failures_of;

const SIZE: &str = "dev_size_mb=2";
const AT_ONCE: &str = "delay=0";
const ENODATA: i32 = Errno::NODATA.raw_os_error();

pub fn add(cases: &mut Cases) {
    cases.on_engines("P8 P17 scsi_debug medium error", p8_p17_a_medium_error);
    cases.on_engines("P14 P17 scsi_debug medium error, ignoreErrors", p14_p17_a_medium_error_ignored);
    cases.on_engines("P9 P17 scsi_debug 4Kn: alignment, medium error", p9_p17_large_sectors);
    cases.on_engines("P9 scsi_debug 512e: any sector", p9_large_physical_sectors);
    cases.once("scsi_debug closed to writing", a_write_protected_disk_is_refused);
    cases.on_engines("P1 P8 scsi_debug source pulled out", p1_p8_a_source_is_pulled_out);
    cases.on_engines("P1 P12 scsi_debug destination pulled out", p1_p12_a_destination_is_pulled_out);
}

/// The only SCSI disk of the guest; the module goes with it.
struct Scsi {
    disk: Disk,
    name: String,
}

impl Scsi {
    fn new(parameters: &[&str]) -> Scsi {
        modprobe(&[&["sd_mod"], &[][..]].concat());
        modprobe(&[&["scsi_debug"], parameters].concat());
        let name = wait_for("the disk is there", || {
            let names = fs::read_dir("/sys/block").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.into_iter().find(|name| name.starts_with("sd"))
        });
        let path = PathBuf::from(format!("/dev/{name}"));
        wait_for("its node is there", || path.exists().then_some(()));
        let sectors = wait_for("its size is known", || {
            let size = fs::read_to_string(format!("/sys/block/{name}/size")).ok()?;
            size.trim().parse::<u64>().ok().filter(|size| *size > 0)
        });
        assert_eq!(sectors, SECTORS);
        Scsi { disk: Disk { path, sectors }, name }
    }

    fn attribute(&self, name: &str, value: &str) {
        let path = format!("/sys/bus/pseudo/drivers/scsi_debug/{name}");
        fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    fn pull_out(&self) {
        fs::write(format!("/sys/block/{}/device/delete", self.name), "1").expect("a SCSI disk can be deleted");
    }
}

impl Drop for Scsi {
    fn drop(&mut self) {
        let removed = Command::new("rmmod").arg("scsi_debug").output();
        if !removed.is_ok_and(|output| output.status.success()) {
            eprintln!("scsi_debug cannot be removed");
        }
    }
}

fn copied(engine: EngineChoice, from: &Disk, to: &Disk, flags: JobFlags) -> Outcome {
    let mut session = Session::new(engine);
    let outcome = session.run(&Job::copy(&open_source(&from.path), &[open_destination(&to.path)], flags));
    session.close();
    outcome
}

fn stamped_target(block_bytes: u32) -> Disk {
    let to = disk(1, block_bytes);
    to.stamp(2);
    to
}

/// A destination holds the source's sectors, or what was there, or, in one range, zeros.
fn old_or_new(to: &Disk, prefix_bytes: u64, zeros: (u64, u64)) {
    for (sector, found) in (0..).zip(to.found()) {
        let (at, stamped) = (u64::from(sector), |tag| Found::Stamp { tag, sector });
        let right = if (zeros.0..zeros.0 + zeros.1).contains(&at) {
            found == Found::Zeros
        } else {
            found == stamped(1) || at * 512 >= prefix_bytes && found == stamped(2)
        };
        assert!(right, "P6, P8: sector {sector}: {found:?}, known prefix {prefix_bytes} bytes");
    }
}

fn bad_disk(first: u64, count: u64, more: &[&str]) -> Scsi {
    let place = [format!("medium_error_start={first}"), format!("medium_error_count={count}")];
    let scsi = Scsi::new(&[&[SIZE, AT_ONCE, &place[0], &place[1]], more].concat());
    scsi.disk.stamp(1);
    scsi.attribute("opts", "2");
    scsi
}

fn p8_p17_a_medium_error(engine: EngineChoice) {
    let scsi = bad_disk(2056, 8, &[]);
    let to = stamped_target(512);
    let outcome = copied(engine, &scsi.disk, &to, STOP);
    assert_eq!((outcome.read_errno, outcome.write_errors), (ENODATA, 0), "another errno than EIO: {outcome:?}");
    let failure = crate::world::only(&outcome.failures);
    assert!(failure.sector <= 2056 && failure.sector + failure.count >= 2064, "P17: {failure:?}");
    old_or_new(&to, outcome.prefix_bytes, (0, 0));
    let written = |found: &Found| matches!(found, Found::Stamp { tag: 1, .. });
    let unread = &to.found()[failure.sector as usize..(failure.sector + failure.count) as usize];
    assert!(!unread.iter().any(written), "P8: something arrived that could not be read");
    scsi.attribute("opts", "0");
    assert!(copied(engine, &scsi.disk, &to, STOP).is_success(), "healthy again");
}

fn p14_p17_a_medium_error_ignored(engine: EngineChoice) {
    let scsi = bad_disk(2056, 8, &[]);
    let to = stamped_target(512);
    let outcome = copied(engine, &scsi.disk, &to, IGNORE);
    assert_eq!(failures_of(&outcome), [(FailedOperation::Read, None, (2056, 8), ENODATA)]);
    old_or_new(&to, u64::MAX, (2056, 8));
}

fn p9_p17_large_sectors(engine: EngineChoice) {
    // The medium's own count: sector 257 of 4096 bytes is sector 2056 of 512.
    let scsi = bad_disk(257, 1, &["sector_size=4096"]);
    let to = stamped_target(512);
    let (from_device, to_device) = (open_source(&scsi.disk.path), open_destination(&to.path));
    assert_eq!(from_device.geometry().logical_block_bytes, 4096);
    let mut session = Session::new(engine);
    for (sector, count) in [(1, 8), (8, 4)] {
        let region = |device, count| RegionRequest { device, sector, count };
        let source = Some(region(from_device.clone(), Some(count)));
        let destinations = vec![region(to_device.clone(), None)];
        let request = JobRequest { token: 99, source, destinations, flags: STOP, progress: None };
        let refused = session.client().submit(request).expect_err("P9: not a multiple of the logical block");
        assert_eq!(refused.kind, ErrorKind::Alignment, "{refused}");
    }
    let outcome = session.run(&Job::copy(&from_device, &[to_device], IGNORE));
    session.close();
    assert_eq!(failures_of(&outcome), [(FailedOperation::Read, None, (2056, 8), ENODATA)]);
    old_or_new(&to, u64::MAX, (2056, 8));
}

fn p9_large_physical_sectors(engine: EngineChoice) {
    let scsi = Scsi::new(&[SIZE, AT_ONCE, "sector_size=512", "physblk_exp=3"]);
    scsi.disk.stamp(2);
    let from = disk(0, 512);
    from.stamp(1);
    let device = open_destination(&scsi.disk.path);
    assert_eq!((device.geometry().logical_block_bytes, device.physical_block_bytes()), (512, 4096));
    let mut session = Session::new(engine);
    let outcome = session.run(&Job::part(&open_source(&from.path), &[device], 13, 1001, STOP));
    session.close();
    assert!(outcome.is_success(), "P9: a multiple of 512 is enough: {outcome:?}");
    for (sector, found) in (0..).zip(scsi.disk.found()) {
        let tag = if (13..13 + 1001).contains(&sector) { 1 } else { 2 };
        assert_eq!(found, Found::Stamp { tag, sector }, "P6");
    }
}

fn a_write_protected_disk_is_refused() {
    let scsi = Scsi::new(&[SIZE, AT_ONCE, "wp=1"]);
    let refused = try_open_destination(&scsi.disk.path).expect_err("it is write-protected");
    assert_eq!(refused.errno, Some(Errno::ROFS.raw_os_error()), "{refused}");
    drop(open_source(&scsi.disk.path));
}

/// Answers after a fifth of a second, so that something is in flight.
const SLOWLY: &str = "ndelay=200000000";

fn p1_p8_a_source_is_pulled_out(engine: EngineChoice) {
    let scsi = Scsi::new(&[SIZE, AT_ONCE]);
    scsi.disk.stamp(1);
    scsi.attribute("ndelay", SLOWLY.trim_start_matches("ndelay="));
    let to = stamped_target(512);
    let mut session = Session::new(engine);
    let token = session.submit(&Job::copy(&open_source(&scsi.disk.path), &[open_destination(&to.path)], STOP));
    thread::sleep(Duration::from_millis(50));
    scsi.pull_out();
    let outcome = session.wait(token);
    session.close();
    assert!(outcome.read_errno != 0 && outcome.write_errors == 0, "{outcome:?}");
    old_or_new(&to, outcome.prefix_bytes, (0, 0));
}

fn p1_p12_a_destination_is_pulled_out(engine: EngineChoice) {
    let scsi = Scsi::new(&[SIZE, AT_ONCE]);
    scsi.attribute("ndelay", SLOWLY.trim_start_matches("ndelay="));
    let from = disk(0, 512);
    from.stamp(1);
    let good = stamped_target(512);
    let destinations = [open_destination(&good.path), open_destination(&scsi.disk.path)];
    let mut session = Session::new(engine);
    let token = session.submit(&Job::copy(&open_source(&from.path), &destinations, STOP));
    thread::sleep(Duration::from_millis(50));
    scsi.pull_out();
    let outcome = session.wait(token);
    session.close();
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 0b10), "P12: {outcome:?}");
    old_or_new(&good, outcome.destinations[0].prefix_bytes, (0, 0));
}
