//! Fails the Nth call of a kind, or kills there, for N = 1, 2, 3, … until a run gets through without having made so many. Every
//! run is held to the same: nothing outside the regions, nothing reported that is not there, no crash, no hang.

use std::env;
use std::fs;
use std::process::Command;

use super::kills::wait_until_free;
use super::ledger::{Ledger, Report, reports};
use super::subject::{BROKEN, REFUSED};
use super::target::Target;

/// A run never makes as many calls of a kind as this.
const CALLS_MAX: u64 = 2_000;
const DEADLINE: &str = "60";

/// What is done to which call.
pub struct Injection<'a> {
    pub call: &'a str,
    pub what: &'a str,
    pub jobs: u64,
}

impl Injection<'_> {
    /// In strace's words: the Nth call of each thread, or with `+` every one from there on.
    fn expression(&self, nth: u64) -> String {
        let (what, on) = self.what.strip_suffix('+').map_or((self.what, ""), |what| (what, "+"));
        format!("inject={}:{what}:when={nth}{on}", self.call)
    }
}

#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    jobs_done: u64,
    jobs_failed: u64,
    refused: u64,
    killed: u64,
    broken: u64,
}

pub fn run(seed: u64, engine: &str, injection: &Injection, source: &str, targets: Vec<Target>) {
    let mut ledger = Ledger::new(source, targets);
    let mut tally = Tally::default();
    let mut nth = 1;
    while one((seed << 32) + nth, nth, engine, injection, source, &mut ledger, &mut tally) {
        nth += 1;
        assert!(nth < CALLS_MAX, "{tally:?}: there is no end");
    }
    println!(
        r#"{{"hits":{},"jobsDone":{},"jobsFailed":{},"refused":{},"killed":{},"broken":{}}}"#,
        nth - 1,
        tally.jobs_done,
        tally.jobs_failed,
        tally.refused,
        tally.killed,
        tally.broken
    );
}

/// One run; whether it made so many calls.
fn one(
    run: u64,
    nth: u64,
    engine: &str,
    injection: &Injection,
    source: &str,
    ledger: &mut Ledger,
    tally: &mut Tally,
) -> bool {
    let log = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let jobs = injection.jobs.to_string();
    let output = Command::new("timeout")
        .args(["--signal=KILL", DEADLINE, "strace", "-f", "-qq", "-o"])
        .arg(log.path())
        .args(["-e", &format!("trace={}", injection.call), "-e", &injection.expression(nth)])
        .arg(env::current_exe().expect("this program has a path"))
        .args(["subject", &run.to_string(), &jobs, engine, source])
        .args(ledger.targets.iter().map(|target| &target.path))
        .output()
        .expect("timeout and strace can be run");
    let log = fs::read_to_string(log.path()).expect("strace writes its log");
    let said = String::from_utf8_lossy(&output.stderr);
    let reports = reports(&String::from_utf8_lossy(&output.stdout));
    let what = injection.expression(nth);
    tally.runs += 1;
    tally.jobs_done += reports.values().filter(|report| **report == Report::Done).count() as u64;
    tally.jobs_failed += reports.values().filter(|report| **report == Report::Failed).count() as u64;
    let is_hit = log.contains("(INJECTED)") || log.contains("killed by SIGKILL");
    // timeout and strace end as the process did that they have started.
    match output.status.code() {
        Some(0) => assert_eq!(reports.len() as u64, injection.jobs, "{what}: P1: jobs have not been reported; {said}"),
        Some(REFUSED) => tally.refused += 1,
        // One refusal of the kernel's breaks nothing down; only if it refuses for good that is the end.
        Some(BROKEN) if injection.what.ends_with('+') => tally.broken += 1,
        // The system's loader makes calls too, before anything of ours runs.
        Some(127) if said.contains("loading shared libraries") => tally.refused += 1,
        Some(137) | None if injection.what.starts_with("signal=KILL") && is_hit => tally.killed += 1,
        _ => panic!("{what}: ended with {}, hit: {is_hit}: {said}", output.status),
    }
    wait_until_free(&ledger.targets);
    ledger.settle(run, injection.jobs, &reports).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
    is_hit
}
