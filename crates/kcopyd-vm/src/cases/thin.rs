//! dm-thin: a destination that has no space left in the middle of its region.

use kcopyd::client::EngineChoice;
use kcopyd::copy::outcome::{DestinationState, FailedOperation};
use rustix::io::Errno;

use super::IGNORE;
use crate::case::{Cases, Setting};
use crate::disk::{SECTORS, disk};
use crate::mapper::Mapped;
use crate::session::{Job, Session, open_destination, open_source};
use crate::world::World;

/// The pool's space: a quarter of what is to be written.
const SPACE: u64 = SECTORS / 4;

pub fn add(cases: &mut Cases) {
    cases.on_engines("P11 P12 thin pool without space", p11_p12_no_space);
}

fn p11_p12_no_space(engine: EngineChoice) {
    let world = World::new(Setting { engine, block_bytes: 512, destinations: 1 });
    let [metadata, data] = [8, 9].map(|index| disk(index, 512));
    metadata.write(0, &vec![0; 64 << 10]);
    let pool = format!("0 {SPACE} thin-pool {} {} 128 0 1 error_if_no_space", metadata.path.display(), data.path.display());
    let pool = Mapped::new("pool", &pool);
    pool.message(0, &["create_thin 0"]);
    let thin = Mapped::new("thin", &format!("0 {SECTORS} thin /dev/mapper/pool 0"));
    let destinations = [open_destination(&world.destinations[0].path), open_destination(&thin.path(0))];
    let mut session = Session::new(engine);
    let outcome = session.run(&Job::copy(&open_source(&world.source.path), &destinations, IGNORE));
    session.close();
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 0b10), "{outcome:?}");
    assert_eq!(outcome.destinations[0].state, DestinationState::Complete);
    world.holds_all(0, &[], &[]);
    let failed: u64 = outcome.failures.iter().map(|failure| failure.count).sum();
    assert_eq!(failed, SECTORS - SPACE, "P17: all but what there was space for: {:?}", outcome.failures);
    let no_space = Errno::NOSPC.raw_os_error();
    let told = |failure: &kcopyd::copy::outcome::Failure| (failure.operation, failure.destination, failure.errno);
    assert!(
        outcome.failures.iter().all(|failure| told(failure) == (FailedOperation::Write, Some(1), no_space)),
        "{outcome:?}"
    );
}
