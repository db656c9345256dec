//! dm-delay: one slow destination among three. The job takes its time, nobody's data suffers, and a client on other devices does not
//! wait for it.

use std::time::{Duration, Instant};

use kcopyd::copy::limits::SUB_JOBS_PER_JOB;

use super::STOP;
use crate::case::{Cases, Setting};
use crate::disk::{SECTORS, disk};
use crate::mapper::Mapped;
use crate::session::{Job, PIECE_SECTORS, Session, open_destination, open_source};
use crate::world::World;

const SLOW_MS: u64 = 150;

pub fn add(cases: &mut Cases) {
    cases.everywhere("P4 P5 slow destination", p4_p5_a_slow_destination);
    cases.everywhere("P5 slow source", p5_a_slow_source);
}

fn p4_p5_a_slow_destination(setting: Setting) {
    let world = World::new(setting);
    let slow = &world.destinations[setting.destinations - 1];
    let path = slow.path.display();
    let faulty = world.with_last(&format!("0 {SECTORS} delay {path} 0 0 {path} 0 {SLOW_MS}"));
    let opened = faulty.open();
    let [from, to] = [8, 9].map(|index| disk(index, setting.block_bytes));
    from.stamp(77);
    let other = Job::copy(&open_source(&from.path), &[open_destination(&to.path)], STOP);
    let (mut slowly, mut quickly) = (Session::new(setting.engine), Session::new(setting.engine));
    let began = Instant::now();
    let token = slowly.submit(&opened.job(STOP));
    let outcome = quickly.run(&other);
    assert!(outcome.is_success(), "{outcome:?}");
    assert!(!slowly.is_over(token), "the other client did not wait: it took {:?}", began.elapsed());
    assert!(to.read(0, SECTORS) == from.read(0, SECTORS), "P5: the other client's data");
    world.complete(&slowly.wait(token));
    let rounds = (SECTORS / PIECE_SECTORS).div_ceil(SUB_JOBS_PER_JOB.into());
    let least = Duration::from_millis(SLOW_MS * rounds);
    assert!(began.elapsed() >= least, "the fault is real: {:?}", began.elapsed());
    slowly.close();
    quickly.close();
}

fn p5_a_slow_source(setting: Setting) {
    let world = World::new(setting);
    let slow = Mapped::new("slow", &format!("0 {SECTORS} delay {} 0 {SLOW_MS}", world.source.path.display()));
    let destinations: Vec<_> = world.destinations.iter().map(|to| open_destination(&to.path)).collect();
    let mut session = Session::new(setting.engine);
    let outcome = session.run(&Job::copy(&open_source(&slow.path(0)), &destinations, STOP));
    world.complete(&outcome);
    session.close();
}
