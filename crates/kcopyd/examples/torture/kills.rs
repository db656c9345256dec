//! Processes that copy are killed at random moments. Afterwards: whoever wants the destinations is refused until the last request of
//! the dead one has landed, and then every byte is what the ledger allows. What would land later still, the next run sees.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kcopyd::engine::device::Access;

use super::ledger::{Ledger, reports};
use super::target::{Target, open};

const SIGKILL: i32 = 9;
const EBUSY: i32 = 16;
/// A dead process's requests must have landed by then.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    clean_runs: u64,
    jobs_reported: u64,
    /// Runs after which a destination was still held although the process was gone, and the longest time that took.
    refused: u64,
    longest: Duration,
    /// How long runs take that are not killed.
    whole_run: Duration,
}

pub fn run(count: u64, seed: u64, engine: &str, source: &str, targets: Vec<Target>) {
    let mut rng = Rng::with_seed(seed);
    let mut ledger = Ledger::new(source, targets);
    let mut tally = Tally { whole_run: Duration::from_millis(10), ..Tally::default() };
    let mut run = seed << 32;
    while tally.kills < count {
        run += 1;
        one(run, &mut rng, engine, source, &mut ledger, &mut tally);
        assert!(tally.clean_runs <= 20 + 20 * tally.kills, "processes end before they can be killed: {tally:?}");
    }
    println!(
        r#"{{"kills":{},"cleanRuns":{},"jobsReported":{},"landedUnreported":{},"refusedAfterDeath":{},"longestRefusalMs":{}}}"#,
        tally.kills,
        tally.clean_runs,
        tally.jobs_reported,
        ledger.landed_unreported,
        tally.refused,
        tally.longest.as_millis()
    );
}

fn one(run: u64, rng: &mut Rng, engine: &str, source: &str, ledger: &mut Ledger, tally: &mut Tally) {
    let jobs = ledger.sizes.jobs();
    let begun = Instant::now();
    let mut child = subject(run, jobs, engine, source, &ledger.targets);
    let mut output = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let mut printed = String::new();
    if rng.bool() {
        // After so many completions, and a little.
        for _ in 0..rng.u64(0..jobs) {
            output.read_line(&mut printed).expect("the pipe can be read");
        }
        sleep(Duration::from_micros(rng.u64(0..300)));
    } else {
        sleep(tally.whole_run.mul_f64(rng.f64()));
    }
    child.kill().expect("a child can be killed");
    output.read_to_string(&mut printed).expect("the pipe can be read");
    let status = child.wait().expect("a child can be waited for");
    let reports = reports(&printed);
    tally.jobs_reported += reports.len() as u64;
    match (status.signal(), status.success()) {
        (Some(SIGKILL), _) => tally.kills += 1,
        (None, true) => {
            assert_eq!(reports.len() as u64, jobs, "run {run} ended by itself and has not reported every job");
            tally.whole_run = (tally.whole_run * 7 + begun.elapsed()) / 8;
            tally.clean_runs += 1;
        }
        _ => panic!("run {run} ended with {status}"),
    }
    if let Some(refused_for) = wait_until_free(&ledger.targets) {
        assert!(!status.success(), "P24: run {run} ended by itself, and its destinations were held {refused_for:?} longer");
        tally.refused += 1;
        tally.longest = tally.longest.max(refused_for);
    }
    ledger.settle(run, jobs, &reports).unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// P28: opens every destination as the next run would, which is refused as long as something of the dead one is in flight; how
/// long that took, if it was refused.
pub fn wait_until_free(targets: &[Target]) -> Option<Duration> {
    let dead = Instant::now();
    let mut refused = None;
    for target in targets {
        loop {
            match open(&target.path, Access::Write) {
                Ok(_) => break,
                Err(error) if error.errno == Some(EBUSY) => refused = Some(dead),
                Err(error) => panic!("{error}"),
            }
            assert!(dead.elapsed() < PATIENCE, "{} is held for ever", target.path.display());
            sleep(Duration::from_micros(200));
        }
    }
    refused.map(|since| since.elapsed())
}

fn subject(run: u64, jobs: u64, engine: &str, source: &str, targets: &[Target]) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program has a path"));
    command.args(["subject", &run.to_string(), &jobs.to_string(), engine, source]);
    command.args(targets.iter().map(|target| &target.path));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("this program can be run")
}
