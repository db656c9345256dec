//! The program inside the guest: runs every case in a process of its own, or one case, or the benchmarks. `npm run test:vm` builds
//! it, boots a kernel with it and reads what it prints. It refuses to run anywhere but in that guest, because it takes every RAM
//! disk and device-mapper device for its own.

mod bench;
mod case;
mod cases;
mod disk;
mod mapper;
mod mirror;
mod report;
mod session;
mod suite;
mod world;
mod write_log;

use std::env;
use std::path::Path;
use std::process::ExitCode;

/// Made by the guest's init, and by nothing else.
const GUEST_MARK: &str = "/etc/kcopyd-guest";

fn main() -> ExitCode {
    if !Path::new(GUEST_MARK).exists() {
        eprintln!("kcopyd-vm runs in the guest of npm run test:vm only");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (what, rest) = arguments.split_first().map_or(("suite", &[][..]), |(what, rest)| (what.as_str(), rest));
    match what {
        "suite" => suite::run(rest),
        "bench" => bench::run(rest),
        "case" => suite::run_one(&rest.join(" ")),
        "victim" => cases::victim(rest),
        other => {
            eprintln!("kcopyd-vm does not know '{other}'");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
