//! The proof of kcopyd's mind. The real scheduler, pool, jobs, sub-jobs and throttle run against simulated disks in virtual
//! time; a seed decides everything, an oracle judges everything.

mod calendar;
mod campaign;
#[cfg(feature = "canary")]
mod canaries;
mod canon;
mod caught;
pub mod command;
mod contents;
mod disk;
mod engine;
mod exhaustive;
mod fault;
mod intervals;
mod memory;
mod oracle;
mod probes;
pub mod scenario;
mod shrink;
mod swarm;
mod wishes;

pub use calendar::{Report, Trace};
pub use campaign::{Doublecheck, Results, campaign};
pub use caught::run_caught;
pub use exhaustive::{Exhausted, exhaust};
pub use oracle::requests::{Ruling, compare, ruling};
pub use oracle::{Breach, Figures};
pub use shrink::shrink;
pub use swarm::scenario;
