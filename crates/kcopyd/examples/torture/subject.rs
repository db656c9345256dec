//! The process that is treated badly: it carries out the plan of one run and says of every job, in a line and in one write, how
//! it ended, before it submits another one.

use std::io::{self, Write};
use std::path::Path;
use std::process;
use std::sync::Arc;

use kcopyd::copy::outcome::Ending;
use kcopyd::engine::device::{Access, Device};
use kcopyd::error::{Error, ErrorKind};

use super::plan::{DEPTH, Planned, Sizes, planned};
use super::runner::Runner;
use super::target::{open, unit_sectors};

/// How the process ends if it was refused a device or a client: nothing has been done then.
pub const REFUSED: i32 = 3;
/// How it ends if its client has broken down; every job that it had submitted before has been reported.
pub const BROKEN: i32 = 4;
/// Few enough that jobs wait for pages.
const PAGES: u32 = 64;
const SUB_JOB_SECTORS: u64 = 32;

pub fn run(run: u64, jobs: u64, engine: &str, source: &str, destinations: &[&str]) {
    let open = |path: &str, access| open(Path::new(path), access).unwrap_or_else(|error| refused(&error));
    let source = open(source, Access::Read);
    let destinations: Vec<Arc<Device>> = destinations.iter().map(|path| open(path, Access::Write)).collect();
    let mut runner = Runner::new(engine, PAGES, SUB_JOB_SECTORS).unwrap_or_else(|error| refused(&error));
    let sizes = Sizes {
        source_sectors: source.geometry().bytes / 512,
        destination_sectors: destinations[0].geometry().bytes / 512,
        destinations: destinations.len(),
        unit_sectors: unit_sectors(&destinations).max(unit_sectors(std::slice::from_ref(&source))),
    };
    let submit = |runner: &Runner, job: u64| {
        let Planned { source: from, count, destinations: to, flags } = planned(run, job, &sizes);
        let to = to.into_iter().map(|(index, sector)| (Arc::clone(&destinations[index]), sector)).collect();
        runner.submit(job, from.map(|sector| (Arc::clone(&source), sector)), count, to, flags)
    };
    let (mut submitted, mut reported, mut broken) = (0, 0, false);
    loop {
        while !broken && submitted < jobs.min(reported + DEPTH) {
            match submit(&runner, submitted) {
                Ok(()) => submitted += 1,
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Internal, "{error}");
                    broken = true;
                }
            }
        }
        if reported == submitted {
            break;
        }
        let finished = runner.next();
        let how = if finished.outcome.is_success() { "ok" } else { "failed" };
        let line = format!("{} {how}\n", finished.token);
        // Nobody reads any more if whoever started this is dead.
        if io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush()).is_err() {
            return;
        }
        reported += 1;
        broken |= finished.outcome.ending == Ending::Poisoned;
    }
    if broken {
        process::exit(BROKEN);
    }
    runner.end();
}

fn refused(error: &Error) -> ! {
    eprintln!("{error} (errno {:?})", error.errno);
    process::exit(REFUSED);
}
