//! What `npm run sim` runs: reads the arguments, starts what they ask for, prints what came of it. It knows no simulation.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::calendar::Trace;
use crate::campaign::{Doublecheck, Results, campaign};
use crate::caught::{run_caught, silence_panics};
use crate::exhaustive::exhaust;
use crate::oracle::Breach;
use crate::scenario::{Scenario, When};
use crate::shrink::shrink;
use crate::swarm::scenario;

const USAGE: &str = "\
npm run sim -- [--jobs N] [--seed S] [--doublecheck] [--threads T]    random runs: N jobs (1,000,000), from seed S (0) on
    [--seconds N]                                                    fewer, if they take longer
npm run sim -- --seed S                                              that seed alone, written down
npm run sim -- --exhaustive                                          everything that can happen to a canon of small jobs
npm run sim -- --canaries [--seeds N]                                planted bugs, each to be found within N (2,000) seeds
    --plant NAME                                                     one of them, in any of the above";

/// What is asked for.
#[derive(Debug)]
struct Arguments {
    jobs: Option<u64>,
    seed: Option<u64>,
    seeds: u64,
    within: Duration,
    planted: Option<String>,
    threads: usize,
    doublecheck: Doublecheck,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Swarm,
    Exhaustive,
    Canaries,
}

impl Arguments {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (doublecheck, what) = (Doublecheck::No, What::Swarm);
        let within = Duration::MAX;
        let mut read = Arguments { jobs: None, seed: None, seeds: 2000, within, planted: None, threads, doublecheck, what };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let given = arguments.next().map(|text| text.replace('_', ""));
                let number = given.as_deref().and_then(|text| text.parse::<u64>().ok());
                number.ok_or_else(|| format!("{argument} needs a number"))
            };
            match argument.as_str() {
                "--jobs" => read.jobs = Some(number()?),
                "--seed" => read.seed = Some(number()?),
                "--seeds" => read.seeds = number()?,
                "--seconds" => read.within = Duration::from_secs(number()?),
                "--plant" => read.planted = Some(arguments.next().ok_or("--plant needs a name")?),
                "--threads" => read.threads = number()?.clamp(1, 1024) as usize,
                "--doublecheck" => read.doublecheck = Doublecheck::Yes,
                "--exhaustive" => read.what = What::Exhaustive,
                "--canaries" => read.what = What::Canaries,
                _ => return Err(format!("{argument} is unknown")),
            }
        }
        Ok(read)
    }
}

/// Does what the arguments ask for.
#[must_use]
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let read = match Arguments::read(arguments) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(name) = &read.planted
        && let Err(error) = plant(name)
    {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    silence_panics();
    let good = match (read.what, read.seed, read.jobs) {
        (What::Swarm, Some(seed), None) => one_seed(seed),
        (What::Swarm, seed, jobs) => swarm(seed.unwrap_or(0), jobs.unwrap_or(1_000_000), &read),
        (What::Exhaustive, ..) => exhaustive(read.threads),
        (What::Canaries, ..) => canaries(read.seeds, read.threads),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn swarm(seed: u64, jobs: u64, read: &Arguments) -> bool {
    let results = campaign(seed, jobs, read.threads, read.doublecheck, read.within);
    print_figures(&results, read.threads);
    if results.figures.jobs < jobs && results.broken.is_none() {
        println!("fewer than {jobs} jobs: {} s were over", read.within.as_secs());
    }
    let Some((seed, breach)) = &results.broken else { return true };
    print_breach(&scenario(*seed), breach);
    println!("\nagain: npm run sim -- --seed {seed}");
    false
}

fn print_figures(results: &Results, threads: usize) {
    let (figures, seconds) = (results.figures, results.elapsed.as_secs_f64());
    let twice = results.processor_time.as_secs_f64();
    println!(
        "{} jobs of {} seeds: {} requests, {} of them with a fault; {} jobs aborted, {} with a read error, {} with a write error",
        figures.jobs,
        results.seeds,
        figures.requests,
        figures.faults,
        figures.aborted,
        figures.read_errors,
        figures.write_errors
    );
    println!(
        "{seconds:.1} s on {threads} threads: {:.0} jobs/s, {:.0} jobs per second of processor time",
        figures.jobs as f64 / seconds,
        figures.jobs as f64 / twice.max(1e-9)
    );
    println!("{} promises broken", u32::from(results.broken.is_some()));
}

fn one_seed(seed: u64) -> bool {
    let scenario = scenario(seed);
    let report = run_caught(&scenario, Trace::Kept);
    match report.breach {
        Some(breach) => print_breach(&scenario, &breach),
        None => {
            report.trace.iter().for_each(|line| println!("{line}"));
            println!("seed {seed}: {:?}, no promise broken; digest {:#018x}", report.figures, report.digest);
            return true;
        }
    }
    false
}

/// What was broken, and the smallest run that was found to break it too.
fn print_breach(scenario: &Scenario, breach: &Breach) {
    println!("\nseed {}: {breach}", scenario.seed);
    let small = shrink(scenario, breach);
    let report = run_caught(&small, Trace::Kept);
    let jobs = small.jobs.iter().filter(|job| job.when != When::Never).count();
    println!("\nshrunken to {jobs} of {} jobs:", small.jobs.len());
    let Scenario { unit_bytes, pages, sub_job_sectors, steps_max, .. } = small;
    println!("  {pages} pages, sub-jobs of {sub_job_sectors} sectors, depth {steps_max}, {unit_bytes} bytes a tag");
    println!("  rates {:?}, heal at {} ns, strikes {:?}", small.rates, small.heal_at_ns, small.strikes);
    small.disks.iter().enumerate().for_each(|(number, disk)| println!("  disk {number}: {disk:?}"));
    println!("\nwhat happens:");
    report.trace.iter().for_each(|line| println!("{line}"));
    println!("{}", report.breach.as_ref().unwrap_or(breach));
}

fn exhaustive(threads: usize) -> bool {
    let mut all = exhaust(threads);
    all.sort_by(|one, other| one.name.cmp(&other.name));
    for one in &all {
        println!("{:>8} runs  {}  {}", one.runs, if one.broken.is_some() { "BROKEN" } else { "ok" }, one.name);
    }
    let runs: u64 = all.iter().map(|one| one.runs).sum();
    let broken: Vec<_> = all.iter().filter_map(|one| one.broken.as_ref()).collect();
    println!("{runs} runs, {} promises broken", broken.len());
    if let Some((scenario, breach)) = broken.first() {
        print_breach(scenario, breach);
    }
    broken.is_empty()
}

#[cfg(feature = "canary")]
fn canaries(seeds: u64, threads: usize) -> bool {
    crate::canaries::look_for_all(seeds, threads)
}

#[cfg(feature = "canary")]
fn plant(name: &str) -> Result<(), String> {
    crate::canaries::plant_by_name(name)
}

#[cfg(not(feature = "canary"))]
fn plant(_name: &str) -> Result<(), String> {
    Err("this build has no canaries in it: build it with --features canary, as npm run sim does".to_owned())
}

#[cfg(not(feature = "canary"))]
fn canaries(_seeds: u64, _threads: usize) -> bool {
    println!("this build has no canaries in it: cargo run --profile sim -p kcopyd-sim --features canary -- --canaries");
    false
}
