//! A killed process whose I/O is still in flight on a suspended device: whoever starts the job again is refused until that has landed
//! (P28).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use super::STOP;
use crate::case::{Cases, ENGINES, Setting, engine_name};
use crate::session::{Job, Session, open_destination, open_source, try_open_destination, wait_for};
use crate::world::World;

const IN_FLIGHT: &str = "in flight";
const WHILE: Duration = Duration::from_millis(300);

pub fn add(cases: &mut Cases) {
    cases.everywhere("P28 killed with I/O in flight", p28_a_killed_process_holds_its_devices);
}

fn p28_a_killed_process_holds_its_devices(setting: Setting) {
    let world = World::new(setting);
    let faulty = world.with_errors(&[], &[]);
    let still = setting.destinations;
    faulty.mapped.suspend(still);
    let paths = (0..=setting.destinations).map(|index| faulty.mapped.path(index));
    let mut victim = Command::new("/proc/self/exe")
        .args(["victim", engine_name(setting.engine)])
        .args(paths)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program can be started again");
    let mut line = String::new();
    let said = victim.stdout.take().expect("it is piped");
    BufReader::new(said).read_line(&mut line).expect("the victim speaks");
    assert_eq!(line.trim_end(), IN_FLIGHT);
    victim.kill().expect("it runs");
    // A thread in the middle of a direct write cannot die; with a ring nothing of the process may be left. Both hold the device.
    for _ in 0..10 {
        let refused = try_open_destination(&faulty.mapped.path(still)).expect_err("P28: its last request has not landed");
        assert_eq!(refused.errno, Some(Errno::BUSY.raw_os_error()), "{refused}");
        thread::sleep(WHILE / 10);
    }
    faulty.mapped.resume(still);
    victim.wait().expect("it was killed");
    let devices: Vec<_> = (1..=setting.destinations)
        .map(|index| {
            wait_for("the dead process lets its devices go", || try_open_destination(&faulty.mapped.path(index)).ok())
        })
        .collect();
    // Now the job can be done again, and nothing comes in between any more.
    let mut session = Session::new(setting.engine);
    let outcome = session.run(&Job::copy(&open_source(&faulty.mapped.path(0)), &devices, STOP));
    world.complete(&outcome);
    session.close();
}

/// What is killed: starts a job that cannot end, says so, and waits.
pub fn victim(arguments: &[String]) {
    let [engine, source, destinations @ ..] = arguments else { panic!("ENGINE SOURCE DESTINATION…") };
    let engine = ENGINES.into_iter().find(|one| engine_name(*one) == engine).expect("an engine's name");
    let destinations: Vec<_> = destinations.iter().map(|path| open_destination(Path::new(path))).collect();
    let mut session = Session::new(engine);
    let token = session.submit(&Job::copy(&open_source(Path::new(source)), &destinations, STOP));
    thread::sleep(WHILE);
    assert!(!session.is_over(token));
    println!("{IN_FLIGHT}");
    thread::sleep(Duration::from_secs(60));
}
