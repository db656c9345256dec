//! The hands: an engine executes chains of steps on attached devices. It refuses to know jobs, destinations, order between
//! chains, retries and policy; it never decides what an error means.
//!
//! # The contract, the same for every engine; each rule has a test of its name in `tests/engine_contract.rs`
//!
//! 1. *takes whole or not at all*: `stage` takes a whole chain or hands it back untouched; an idle engine takes any chain.
//! 2. *nothing before submit*: no staged step starts before `submit_and_wait`.
//! 3. *writes after the read*: the steps after a read start only after it has completed in full.
//! 4. *no write after a bad read*: if the read fails or comes short, the other steps come home as not attempted.
//! 5. *failures are private*: one write's failure is not noticed by the other steps of its chain, but for a flush right
//!    behind it: that starts only after the write has completed in full, and otherwise comes home as not attempted.
//! 6. *one completion per step*: every staged step yields exactly one completion.
//! 7. *never from inside stage*: completions are delivered by `submit_and_wait` only.
//! 8. *pages are the engine's*: from `stage` to the chain's last completion the chain's pages belong to the engine.
//! 9. *drop drains*: dropping an engine waits for every staged step; if it cannot, it leaks the memory and says so.

pub mod arena;
pub mod attached;
pub mod device;
pub mod in_flight;
pub mod select;
pub mod signals;
pub mod simulated;
pub mod threads;
pub mod uring;

use std::sync::Arc;
use std::time::Instant;

use crate::copy::chain::{Chain, Completion, DeviceIndex};
use crate::error::Error;

/// How long `submit_and_wait` may wait when nothing has completed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: submit, collect what is there, return.
    No,
    /// Until something completes or the waker is rung.
    UntilWoken,
    /// As `UntilWoken`, but no later than this instant.
    Until(Instant),
}

/// Ends an engine's wait from any thread. Ringing twice before the engine looks is ringing once; a ring is never lost.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Executes chains; see the module's page for the contract.
pub trait Engine {
    /// What this engine copies between.
    type Device;

    /// Makes a device known to the engine and names it. The engine keeps the device alive until it is detached.
    fn attach(&mut self, device: &Arc<Self::Device>) -> Result<DeviceIndex, Error>;

    /// Forgets a device that no staged step uses any more and releases everything held for it.
    fn detach(&mut self, device: DeviceIndex);

    /// Takes a chain, to be started by the next `submit_and_wait`, or hands it back because there is no room for all of it.
    fn stage(&mut self, chain: Chain) -> Result<(), Chain>;

    /// Starts everything staged in one batch, waits as asked, and appends what has come home.
    fn submit_and_wait(&mut self, wait: Wait, completions: &mut Vec<Completion>);

    /// What rings this engine out of its wait.
    fn waker(&self) -> Waker;

    /// What the engine is, for `stats`.
    fn description(&self) -> Description;
}

/// What an engine is and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The mechanism.
    pub kind: Kind,
    /// Why this one, in words for a person; for a fallback, what refused.
    pub reason: Arc<str>,
    /// Whether reads and writes use buffers registered with the kernel.
    pub registered_buffers: bool,
    /// How many times the engine has entered the kernel to submit.
    pub submissions: u64,
}

/// The mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A ring of the kernel's.
    IoUring,
    /// Own worker threads with pread and pwrite.
    Threads,
    /// Disks in memory, in virtual time.
    Simulated,
}
