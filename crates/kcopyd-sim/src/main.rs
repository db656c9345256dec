//! `kcopyd-sim`: see `npm run sim -- --help`, or docs/TESTING.md. All of it is in the library.

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    kcopyd_sim::command::main(env::args().skip(1))
}
