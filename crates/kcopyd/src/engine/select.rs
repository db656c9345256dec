//! Chooses the engine: the best that runs here, in a visible order, with the reason in words. It refuses to know what the
//! engine will be used for.

use std::sync::Arc;

use super::arena::Arena;
use super::device::Device;
use super::threads::Threads;
use super::uring::{Chains, Uring, UringOptions};
use super::{Engine, Kind};
use crate::error::{Error, ErrorKind};

/// Which engine to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring where it runs, threads otherwise.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// Threads.
    Threads,
}

/// An engine of the kind that was chosen, on fresh memory of so many pages, to be used on the calling thread only.
///
/// # Errors
/// `EngineUnavailable` if the engine that was named cannot run here; `System` if there is no memory for the pages.
pub fn engine(choice: EngineChoice, pages: u32) -> Result<Box<dyn Engine<Device = Device>>, Error> {
    let threads = |reason: String| -> Result<Box<dyn Engine<Device = Device>>, Error> {
        Ok(Box::new(Threads::new(Arc::new(Arena::new(pages)?), reason)?))
    };
    if choice == EngineChoice::Threads {
        return threads("threads were asked for".to_owned());
    }
    match Uring::new(Arc::new(Arena::new(pages)?), &uring_options()?) {
        Ok(uring) => Ok(Box::new(uring)),
        Err(error) if choice == EngineChoice::Auto => threads(error.context),
        Err(error) => Err(Error { kind: ErrorKind::EngineUnavailable, ..error }),
    }
}

/// `KCOPYD_CHAINS` forces one of the two ways of running a chain, for measurements and for tests.
fn uring_options() -> Result<UringOptions, Error> {
    let chains = match std::env::var("KCOPYD_CHAINS").as_deref() {
        Err(_) | Ok("") => Chains::AsMeasured,
        Ok("linked") => Chains::Linked,
        Ok("fan-out") => Chains::FanOut,
        Ok(other) => {
            let text = format!("KCOPYD_CHAINS is '{other}'; it may be 'linked' or 'fan-out', or not set");
            return Err(Error::new(ErrorKind::OutOfRange, text));
        }
    };
    Ok(UringOptions { chains, ..UringOptions::default() })
}

/// What this machine can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The engine that `EngineChoice::Auto` chooses; none where nothing can run.
    pub engine: Option<Kind>,
    /// Why this one, in words.
    pub reason: String,
    /// The release of the running kernel.
    pub kernel: String,
}

/// Looks which engine would be chosen now, by making it on a single page and giving it up again.
#[must_use]
pub fn support() -> Support {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    match engine(EngineChoice::Auto, 1) {
        Ok(engine) => {
            let description = engine.description();
            Support { engine: Some(description.kind), reason: description.reason.to_string(), kernel }
        }
        Err(error) => Support { engine: None, reason: error.to_string(), kernel },
    }
}
