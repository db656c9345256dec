//! Chooses the engine: the best that runs here, in a visible order, with the reason in words. It refuses to know what the engine
//! will be used for.

use super::Engine;
use super::arena::Arena;
use super::device::Device;
use super::threads::Threads;
use super::uring::Uring;
use crate::client::EngineChoice;
use crate::error::{Error, ErrorKind};
