//! Treats the core badly on real devices and compares every byte afterwards with what should be there. `npm run test:faults`
//! makes the devices and runs it; alone: `cargo run --release --example torture -- MODE …`, one line of JSON as the answer.
//!
//! - `kills COUNT SEED ENGINE SOURCE DESTINATION=BYTES…`: processes that copy are killed at random moments.
//! - `nth SEED ENGINE CALL INJECTION JOBS SOURCE DESTINATION=BYTES…`: strace answers the Nth call of a process that copies, or
//!   kills it there, for N = 1, 2, 3, … until a run has no Nth call. `INJECTION` as strace has it: `error=EINTR`, `signal=KILL`;
//!   with `+` behind it every call from the Nth on.
//! - `model JOBS SEED ENGINE DEVICE=BYTES…`: random jobs between the devices, many at once, and a model of their bytes. The
//!   first device is only read.
//! - `subject RUN JOBS ENGINE SOURCE DESTINATION…`: the process that copies. It says which job it has done, and is killed.
//!
//! DESTINATION=BYTES is a device and the file in which its bytes can be looked at; both are the same for a file.

mod kills;
mod ledger;
mod model;
mod nth;
mod plan;
mod runner;
mod subject;
mod target;

use std::{env, process};

use target::Target;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["kills", count, seed, engine, source, targets @ ..] if !targets.is_empty() => {
            kills::run(number(count), number(seed), engine, source, Target::all(targets));
        }
        ["nth", seed, engine, call, injection, jobs, source, targets @ ..] if !targets.is_empty() => {
            let injection = nth::Injection { call, what: injection, jobs: number(jobs) };
            nth::run(number(seed), engine, &injection, source, Target::all(targets));
        }
        ["model", jobs, seed, engine, targets @ ..] if targets.len() > 1 => {
            model::run(number(jobs), number(seed), engine, Target::all(targets));
        }
        ["subject", run, jobs, engine, source, destinations @ ..] if !destinations.is_empty() => {
            subject::run(number(run), number(jobs), engine, source, destinations);
        }
        _ => {
            eprintln!("kills | nth | model | subject: see the head of examples/torture/main.rs");
            process::exit(2);
        }
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|error| panic!("{word} is no number: {error}"))
}
