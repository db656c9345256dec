//! Runs the cases that were asked for, one after the other, each in a process of its own: a case that hangs or breaks takes no other
//! with it. Afterwards it clears away whatever a failed case left.

use std::fs::{self, File};
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::case::{Case, SEED_WORD};
use crate::{cases, disk, mapper, report};

const OUTPUT: &str = "/tmp/output";
const LOOK: Duration = Duration::from_millis(2);

/// Runs every case whose name contains all the words.
pub fn run(words: &[String]) {
    disk::prepare();
    let words: Vec<&String> = words.iter().filter(|word| !word.starts_with(SEED_WORD)).collect();
    let mut over = 0;
    for case in cases::all() {
        if !words.iter().all(|word| case.name.contains(word.as_str())) {
            continue;
        }
        run_apart(&case);
        over += 1;
    }
    report::end(over);
}

/// Runs one case in this process; it ends by itself, or by a panic.
pub fn run_one(name: &str) {
    let case = cases::all().into_iter().find(|case| case.name == name);
    (case.expect("the suite only asks for cases that there are").run)();
}

fn run_apart(case: &Case) {
    report::begin(&case.name);
    let began = Instant::now();
    let ended = start(case).and_then(|child| wait(child, case.deadline));
    let output = fs::read(OUTPUT).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let failure = match ended {
        Ok(Some(status)) if status.success() => None,
        Ok(Some(status)) => Some(format!("{status}")),
        Ok(None) => Some(format!("no end after {} s: it was killed", case.deadline.as_secs())),
        Err(error) => Some(format!("cannot be run: {error}")),
    };
    // Figures and seeds that a case wants people to see.
    for line in output.lines().filter_map(|line| line.strip_prefix("figure: ")) {
        report::note(line);
    }
    let left = mapper::clear_away();
    match (failure, left.as_str()) {
        (None, "") => report::pass(&case.name, began.elapsed()),
        (None, left) => report::fail(&case.name, began.elapsed(), &format!("it left devices: {left}")),
        (Some(failure), left) => {
            report::fail(&case.name, began.elapsed(), &format!("{output}\n{failure}; cleared away: {left}"));
        }
    }
}

fn start(case: &Case) -> io::Result<Child> {
    let output = File::create(OUTPUT)?;
    let errors = output.try_clone()?;
    Command::new("/proc/self/exe")
        .args(["case", &case.name])
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
}

/// How it ended, or nothing if it had to be killed.
fn wait(mut child: Child, deadline: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    while began.elapsed() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK);
    }
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        kill_process(pid, Signal::KILL)?;
    }
    // It may be stuck in the kernel, where not even SIGKILL reaches: clearing away lets it go, and nobody waits for it.
    Ok(None)
}
