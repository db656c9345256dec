//! The mind: it decides, and does nothing. No I/O, no clock, no threads, no bytes, no unsafe.
//!
//! A [`job::Job`] waits in the [`scheduler::Scheduler`] for pages; with a run of pages from the [`page_pool::PagePool`] its
//! next piece becomes a [`sub_job::SubJob`], which speaks in [`chain::Chain`]s to the hands and hears [`chain::Completion`]s,
//! until the job is an [`outcome::Outcome`].
#![forbid(unsafe_code)]

pub mod chain;
pub mod limits;
pub mod region;
