//! The mind: it decides, and does nothing. No I/O, no clock, no threads, no bytes, no unsafe.
//!
//! A [`job::Job`] waits in the [`scheduler::Scheduler`] for pages; with a run of pages from the [`page_pool::PagePool`] its
//! next piece becomes a [`sub_job::SubJob`], which speaks in [`chain::Chain`]s to the hands and hears [`chain::Completion`]s,
//! until the job is an [`outcome::Outcome`].
#![forbid(unsafe_code)]

pub mod chain;
mod errand;
pub mod flags;
pub mod job;
pub mod limits;
pub mod outcome;
pub mod page_pool;
mod pieces;
pub mod progress;
pub mod region;
pub mod request;
pub mod scheduler;
mod slab;
pub mod sub_job;
pub mod throttle;
mod transfer;
