//! A suspended device: what is in flight stays there until it is resumed, or until its table is another one. Jobs wait, aborts wait,
//! close waits, and nobody else does.

use std::thread;
use std::time::{Duration, Instant};

use kcopyd::client::{JobFlags, Left};
use kcopyd::copy::outcome::Ending;
use rustix::io::Errno;

use super::{FLUSH, IGNORE, STOP};
use crate::case::{Cases, Setting};
use crate::disk::{Found, SECTORS, disk};
use crate::mapper::nothing_but_errors;
use crate::session::{Job, Session, open_destination, open_source, try_open_destination, wait_for};
use crate::world::{Faulty, OLD, Opened, SOURCE, World};

/// Long enough for anything that does not wait to be over.
const WHILE: Duration = Duration::from_millis(300);

pub fn add(cases: &mut Cases) {
    cases.everywhere("P4 P24 suspended destination: the job waits, others do not", p4_p24_a_stuck_job_waits);
    cases.everywhere("P27 abort while suspended", p27_abort_waits_for_what_is_in_flight);
    cases.everywhere("P24 close while suspended", p24_close_waits);
    cases.everywhere("P24 end of the host while suspended", p24_the_end_waits_only_so_long);
    cases.everywhere("P1 P16 device vanishes under I/O in flight", p1_p16_a_device_vanishes);
    cases.everywhere("P1 P8 source vanishes under I/O in flight", p1_p8_a_source_vanishes);
}

/// A world of which one device stands still (0: the source, else that destination), and a job that waits for it.
struct Stuck {
    world: World,
    // Dropped in this order: a device that is open cannot be removed.
    opened: Opened,
    faulty: Faulty,
    still: usize,
    session: Session,
    token: u64,
}

impl Stuck {
    fn new(setting: Setting, still: usize, flags: JobFlags) -> Stuck {
        let world = World::new(setting);
        let faulty = world.with_errors(&[], &[]);
        let opened = faulty.open();
        let mut session = Session::new(setting.engine);
        faulty.mapped.suspend(still);
        let token = session.submit(&opened.job(flags));
        thread::sleep(WHILE);
        assert!(!session.is_over(token), "a job on a suspended device waits");
        Stuck { world, faulty, opened, still, session, token }
    }

    /// One destination, the last.
    fn at_last(setting: Setting, flags: JobFlags) -> Stuck {
        Stuck::new(setting, setting.destinations, flags)
    }

    fn resume(&self) {
        self.faulty.mapped.resume(self.still);
    }

    /// Everything on it fails from now on.
    fn vanish(&self) {
        self.faulty.mapped.load(self.still, &nothing_but_errors(&self.world.source));
        self.resume();
    }
}

fn p4_p24_a_stuck_job_waits(setting: Setting) {
    let mut stuck = Stuck::at_last(setting, FLUSH);
    let [from, to, more] = [8, 9, 10].map(|index| disk(index, setting.block_bytes));
    from.stamp(77);
    let from_device = open_source(&from.path);
    let mut other = Session::new(setting.engine);
    let outcome = other.run(&Job::copy(&from_device, &[open_destination(&to.path)], STOP));
    assert!(outcome.is_success(), "another client goes on: {outcome:?}");
    // The same client too, as long as it has pages: on other devices.
    let token = stuck.session.submit(&Job::copy(&from_device, &[open_destination(&more.path)], STOP));
    let outcome = stuck.session.wait(token);
    assert!(outcome.is_success(), "another job of the same client goes on: {outcome:?}");
    for copy in [&to, &more] {
        assert!(copy.read(0, SECTORS) == from.read(0, SECTORS), "P5: the other jobs' data");
    }
    let stuck_token = stuck.token;
    assert!(!stuck.session.is_over(stuck_token));
    stuck.resume();
    let outcome = stuck.session.wait(stuck_token);
    stuck.world.complete(&outcome);
    stuck.session.close();
    other.close();
}

fn p27_abort_waits_for_what_is_in_flight(setting: Setting) {
    let mut stuck = Stuck::at_last(setting, STOP);
    stuck.session.client().abort(stuck.token);
    thread::sleep(WHILE);
    assert!(!stuck.session.is_over(stuck.token), "P27: it settles when what is in flight has landed, not before");
    let stats = stuck.session.client().stats();
    assert!(stats.pages_free < stats.pages_total, "P27: memory in flight is not given away");
    stuck.resume();
    let outcome = stuck.session.wait(stuck.token);
    assert_eq!(outcome.ending, Ending::Aborted, "{outcome:?}");
    assert!(outcome.prefix_bytes / 512 < SECTORS, "P27: nothing new was begun");
    for index in 0..setting.destinations {
        stuck.world.old_or_new(index, &outcome);
    }
    let stats = stuck.session.client().stats();
    assert_eq!(stats.pages_free, stats.pages_total);
    stuck.session.close();
}

fn p24_close_waits(setting: Setting) {
    let mut stuck = Stuck::at_last(setting, STOP);
    stuck.session.client().close();
    thread::sleep(WHILE);
    assert!(!stuck.session.client().is_ended(), "P24: close waits for the job");
    stuck.resume();
    let outcome = stuck.session.wait(stuck.token);
    stuck.world.complete(&outcome);
    stuck.session.close();
}

fn p24_the_end_waits_only_so_long(setting: Setting) {
    let stuck = Stuck::at_last(setting, STOP);
    let Stuck { world, faulty, opened, still, session, .. } = stuck;
    let began = Instant::now();
    assert!(session.end(WHILE) == Left::Behind, "P24: the device does not answer");
    assert!(began.elapsed() >= WHILE && began.elapsed() < WHILE * 20, "P24: {:?}", began.elapsed());
    drop(opened);
    faulty.mapped.resume(still);
    // The thread that was left behind lets its device go when the last request has landed.
    let path = faulty.mapped.path(still);
    drop(wait_for("the device is let go", || try_open_destination(&path).ok()));
    let last = setting.destinations - 1;
    let found = world.destinations[last].found();
    let landed = (0..).zip(&found).filter(|&(sector, found)| *found == Found::Stamp { tag: SOURCE, sector }).count();
    let kept =
        (0..).zip(&found).filter(|&(sector, found)| *found == Found::Stamp { tag: OLD + last as u32, sector }).count();
    assert!(landed > 0, "what was in flight has landed");
    assert_eq!(landed + kept, SECTORS as usize, "P6: nothing but the source's bytes has landed");
}

fn p1_p16_a_device_vanishes(setting: Setting) {
    let mut stuck = Stuck::at_last(setting, IGNORE);
    stuck.vanish();
    let last = setting.destinations - 1;
    let outcome = stuck.session.wait(stuck.token);
    assert_eq!((outcome.read_errno, outcome.write_errors), (0, 1 << last), "{outcome:?}");
    assert!(outcome.failures.iter().all(|failure| failure.errno == Errno::IO.raw_os_error()), "{outcome:?}");
    for index in 0..last {
        stuck.world.holds_all(index, &[], &[]);
    }
    stuck.world.holds_all(last, &[], &[(0, SECTORS)]);
    // And every later job has its completion.
    let again = stuck.session.run(&stuck.opened.job(STOP));
    assert_eq!(again.write_errors, 1 << last, "{again:?}");
    stuck.session.close();
}

fn p1_p8_a_source_vanishes(setting: Setting) {
    let mut stuck = Stuck::new(setting, 0, STOP);
    stuck.vanish();
    let outcome = stuck.session.wait(stuck.token);
    assert_eq!((outcome.read_errno, outcome.write_errors), (Errno::IO.raw_os_error(), 0), "{outcome:?}");
    assert_eq!(outcome.prefix_bytes, 0);
    for index in 0..setting.destinations {
        stuck.world.holds_all(index, &[], &[(0, SECTORS)]);
    }
    stuck.session.close();
}
