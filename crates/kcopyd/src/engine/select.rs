//! Chooses the engine: the best that runs here, in a visible order, with the reason in words. It refuses to know what the
//! engine will be used for.

use std::sync::Arc;

use super::arena::Arena;
use super::device::Device;
use super::threads::Threads;
use super::uring::{Chains, Rung, Uring, UringOptions, Use};
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

/// For measurements and for tests the environment can force what is otherwise decided here: `KCOPYD_CHAINS` how chains are run,
/// `KCOPYD_BUFFERS` that the pool is not registered, `KCOPYD_RING` that the newest ways of a ring are left out.
fn uring_options() -> Result<UringOptions, Error> {
    let newest = UringOptions::default();
    Ok(UringOptions {
        chains: forced("KCOPYD_CHAINS", &[("linked", Chains::Linked), ("fan-out", Chains::FanOut)], newest.chains)?,
        registered_buffers: forced("KCOPYD_BUFFERS", &[("plain", Use::Never)], newest.registered_buffers)?,
        newest: forced("KCOPYD_RING", &[("plain", Rung::Plain), ("cooperative", Rung::Cooperative)], newest.newest)?,
        ..newest
    })
}

/// What a variable of the environment says, or `otherwise` where it is not set.
fn forced<T: Copy>(variable: &str, values: &[(&str, T)], otherwise: T) -> Result<T, Error> {
    let said = std::env::var_os(variable).unwrap_or_default();
    if said.is_empty() {
        return Ok(otherwise);
    }
    if let Some((_, value)) = values.iter().find(|(name, _)| said == *name) {
        return Ok(*value);
    }
    let names: Vec<_> = values.iter().map(|(name, _)| format!("'{name}'")).collect();
    let text = format!("{variable} is '{}'; it may be {}, or not set", said.display(), names.join(" or "));
    Err(Error::new(ErrorKind::OutOfRange, text))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_forces_is_known_or_refused() {
        assert_eq!(forced("KCOPYD_NOT_SET", &[("one", 1)], 2).unwrap(), 2);
        // A variable that is set wherever tests run.
        let path = std::env::var("PATH").unwrap();
        assert_eq!(forced("PATH", &[("one", 1), (&path, 3)], 2).unwrap(), 3);
        let refusal = forced("PATH", &[("one", 1), ("two", 2)], 2).unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::OutOfRange);
        assert!(refusal.context.starts_with("PATH is '") && refusal.context.ends_with("may be 'one' or 'two', or not set"));
    }
}
