//! kcopyd: copies ranges of sectors from one block device or file to several others.
//!
//! [`copy`] is the mind, [`engine`] the hands, [`client`] joins them on a thread of its own.

#[macro_use]
pub mod canary;

pub mod client;
pub mod copy;
pub mod engine;
pub mod error;
mod sync;
