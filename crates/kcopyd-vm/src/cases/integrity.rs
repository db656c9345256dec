//! dm-integrity: a byte that changes beneath it is found out when it is read, and told at its place; and what kcopyd writes through it
//! can be read again, sector for sector.

use kcopyd::client::EngineChoice;
use kcopyd::copy::outcome::FailedOperation;
use rustix::io::Errno;

use super::{IGNORE, STOP};
use crate::case::Cases;
use crate::disk::{Disk, Found, SECTOR_BYTES, disk, found_in};
use crate::mapper::Mapped;
use crate::session::{Job, Session, open_destination, open_source};
use crate::world::{failures_of, only};

/// Sectors of the protected device, which is smaller than the disk beneath by tags and journal.
const PROTECTED: u64 = 2048;
const SPOILT: u64 = 1029;

pub fn add(cases: &mut Cases) {
    cases.on_engines("P5 P17 integrity, a byte changed beneath", |engine| p5_p17_a_changed_byte(engine, 512));
    cases.on_engines("P5 P17 integrity in blocks of 4096, a byte changed beneath", |engine| {
        p5_p17_a_changed_byte(engine, 4096);
    });
}

fn integrity(beneath: &Disk, sectors: u64, block_bytes: u32) -> String {
    let path = beneath.path.display();
    let options = format!("3 internal_hash:crc32c journal_sectors:64 block_size:{block_bytes}");
    format!("0 {sectors} integrity {path} 0 - D {options}")
}

fn p5_p17_a_changed_byte(engine: EngineChoice, block_bytes: u32) {
    let (from, beneath, to) = (disk(0, 512), disk(1, 512), disk(2, 512));
    from.stamp(1);
    to.stamp(2);
    // A first sector of zeros has it formatted.
    beneath.write(0, &[0; 8192]);
    drop(Mapped::new("format", &integrity(&beneath, 8, block_bytes)));
    let protected = Mapped::new("protected", &integrity(&beneath, PROTECTED, block_bytes));
    let mut session = Session::new(engine);
    let into = open_destination(&protected.path(0));
    let outcome = session.run(&Job::part(&open_source(&from.path), &[into], 0, PROTECTED, STOP));
    assert!(outcome.is_success(), "{outcome:?}");
    // A client keeps the devices that it has worked on until it is closed.
    session.close();
    drop(protected);
    spoil(&beneath);
    let protected = Mapped::new("protected", &integrity(&beneath, PROTECTED, block_bytes));
    let source = open_source(&protected.path(0));
    let destination = [open_destination(&to.path)];
    let mut session = Session::new(engine);
    let outcome = session.run(&Job::part(&source, &destination, 0, PROTECTED, STOP));
    let failure = only(&outcome.failures);
    let mismatch = Errno::ILSEQ.raw_os_error();
    assert_eq!((outcome.read_errno, outcome.write_errors, failure.errno), (mismatch, 0, mismatch), "{outcome:?}");
    assert!((failure.sector..failure.sector + failure.count).contains(&SPOILT), "P17: {failure:?}");
    let outcome = session.run(&Job::part(&source, &destination, 0, PROTECTED, IGNORE));
    // The page that the sector is in: sectors 1024 to 1031.
    let page = (SPOILT / 8 * 8, 8);
    assert_eq!(failures_of(&outcome), [(FailedOperation::Read, None, page, mismatch)]);
    for (sector, found) in (0..PROTECTED as u32).zip(to.found()) {
        let is_bad = (page.0..page.0 + page.1).contains(&u64::from(sector));
        let expected = if is_bad { Found::Zeros } else { Found::Stamp { tag: 1, sector } };
        assert_eq!(found, expected, "P5, P8: sector {sector}");
    }
    session.close();
}

/// Finds where the sector lies beneath, by its stamp, and changes one byte of it.
fn spoil(beneath: &Disk) {
    let bytes = beneath.read(0, beneath.sectors);
    let wanted = Found::Stamp { tag: 1, sector: SPOILT as u32 };
    let places: Vec<usize> = (0..beneath.sectors as usize)
        .filter(|sector| found_in(&bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES]) == wanted)
        .collect();
    let place = *only(&places);
    let mut sector = bytes[place * SECTOR_BYTES..][..SECTOR_BYTES].to_vec();
    sector[100] ^= 1;
    beneath.write(place as u64, &sector);
}
