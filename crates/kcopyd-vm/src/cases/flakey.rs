//! dm-flakey: a destination that fails every write, one that drops them and says nothing, one that spoils a byte. The last two cannot
//! be noticed by whoever only writes; the cases hold what is promised all the same.

use kcopyd::client::EngineChoice;
use kcopyd::copy::outcome::{DestinationState, FailedOperation};
use rustix::io::Errno;

use super::{IGNORE, STOP};
use crate::case::{Cases, Setting};
use crate::disk::{Disk, Found, SECTORS};
use crate::mapper::linear;
use crate::session::Session;
use crate::world::{Faulty, OLD, SOURCE, World, failures_of};

pub fn add(cases: &mut Cases) {
    cases.everywhere("P12 P14 flakey error_writes, ignoreErrors", p12_p14_every_write_fails);
    cases.everywhere("P12 P13 flakey error_writes", p12_p13_the_first_write_fails);
    cases.on_engines("P6 flakey drop_writes, not detected", p6_dropped_writes_are_not_detected);
    cases.on_engines("P6 flakey corrupt_bio_byte of writes, not detected", p6_spoilt_writes_are_not_detected);
    cases.on_engines("P7 flakey corrupt_bio_byte of reads, the same everywhere", p7_a_spoilt_read_arrives_alike);
}

/// Down all the time, with this feature.
fn flakey(disk: &Disk, features: &str) -> String {
    format!("0 {} flakey {} 0 0 1 {features}", disk.sectors, disk.path.display())
}

fn p12_p14_every_write_fails(setting: Setting) {
    let world = World::new(setting);
    let last = setting.destinations - 1;
    let faulty = world.with_last(&flakey(&world.destinations[last], "1 error_writes"));
    let opened = faulty.open();
    let mut session = Session::new(setting.engine);
    let outcome = session.run(&opened.job(IGNORE));
    session.close();
    let everything = (0, SECTORS);
    assert_eq!(failures_of(&outcome), [(FailedOperation::Write, Some(last as u8), everything, Errno::IO.raw_os_error())]);
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1 << last));
    for index in 0..last {
        assert_eq!(outcome.destinations[index].state, DestinationState::Complete);
        world.holds_all(index, &[], &[]);
    }
    world.holds_all(last, &[], &[everything]);
}

fn p12_p13_the_first_write_fails(setting: Setting) {
    let world = World::new(setting);
    let last = setting.destinations - 1;
    let faulty = world.with_last(&flakey(&world.destinations[last], "1 error_writes"));
    let opened = faulty.open();
    let mut session = Session::new(setting.engine);
    let outcome = session.run(&opened.job(STOP));
    session.close();
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1 << last));
    assert_eq!(outcome.destinations[last].prefix_bytes, 0);
    // What is in flight at the first error lands; no more than that is tried.
    let tried: u64 = outcome.failures.iter().map(|failure| failure.count).sum();
    assert!(tried < SECTORS, "P13: it went on: {outcome:?}");
    world.holds_all(last, &[], &[(0, SECTORS)]);
}

/// One source and three destinations, with this table in place of the last one.
fn three(engine: EngineChoice) -> World {
    World::new(Setting { engine, block_bytes: 512, destinations: 3 })
}

fn p6_dropped_writes_are_not_detected(engine: EngineChoice) {
    let world = three(engine);
    let faulty = world.with_last(&flakey(&world.destinations[2], "1 drop_writes"));
    let opened = faulty.open();
    let mut session = Session::new(engine);
    let outcome = session.run(&opened.job(STOP));
    session.close();
    // The device said yes to each write, and a copier that does not read back has nothing else to go by.
    assert!(outcome.is_success(), "{outcome:?}");
    world.holds_all(0, &[], &[]);
    world.holds_all(1, &[], &[]);
    world.holds_all(2, &[], &[(0, SECTORS)]);
}

fn p6_spoilt_writes_are_not_detected(engine: EngineChoice) {
    // One destination: the target spoils the byte in the writer's own memory, from which others would be written too.
    let world = World::new(Setting { engine, block_bytes: 512, destinations: 1 });
    let faulty = world.with_last(&flakey(&world.destinations[0], "5 corrupt_bio_byte 1 w 255 0"));
    let opened = faulty.open();
    let mut session = Session::new(engine);
    let outcome = session.run(&opened.job(STOP));
    session.close();
    assert!(outcome.is_success(), "{outcome:?}");
    let found = world.destinations[0].found();
    let spoilt = found.iter().filter(|&&found| found == Found::Rubbish).count();
    let right = (0..).zip(&found).filter(|&(sector, &found)| found == Found::Stamp { tag: SOURCE, sector }).count();
    assert!(spoilt > 0, "the fault is real");
    assert_eq!(spoilt + right, SECTORS as usize, "the device spoils sectors, kcopyd none: {found:?}");
}

fn p7_a_spoilt_read_arrives_alike(engine: EngineChoice) {
    let world = three(engine);
    let tables = world.destinations.iter().map(linear);
    let faulty = Faulty::new(flakey(&world.source, "5 corrupt_bio_byte 1 r 255 0"), tables);
    let opened = faulty.open();
    let mut session = Session::new(engine);
    let outcome = session.run(&opened.job(STOP));
    session.close();
    assert!(outcome.is_success(), "{outcome:?}");
    let each: Vec<Vec<u8>> = world.destinations.iter().map(|to| to.read(0, SECTORS)).collect();
    assert!(world.destinations[0].found().contains(&Found::Rubbish), "the fault is real");
    assert!(each[0] == each[1] && each[1] == each[2], "P7: read once, so all destinations hold the same");
    let is_old = |found: &Found| matches!(found, Found::Stamp { tag, .. } if *tag >= OLD);
    assert!(!world.destinations.iter().any(|to| to.found().iter().any(is_old)));
}
