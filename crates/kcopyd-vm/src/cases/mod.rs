//! The cases, a file for each kind of device that fails.

mod delay;
mod differential;
mod error;
mod flakey;
mod integrity;
mod kill;
mod log_writes;

mod null_blk;
mod scsi;
mod suspend;
mod thin;

use kcopyd::client::{Flush, JobFlags, OnError, WriteOrder};

use crate::case::{Case, Cases};

pub use kill::victim;

/// The first error stops the job.
const STOP: JobFlags = JobFlags { on_error: OnError::Stop, order: WriteOrder::Any, flush: Flush::No };
/// Everything is attempted.
const IGNORE: JobFlags = JobFlags { on_error: OnError::Ignore, ..STOP };
/// Durable before it is complete.
const FLUSH: JobFlags = JobFlags { flush: Flush::Yes, ..STOP };

/// Every case there is.
pub fn all() -> Vec<Case> {
    let mut cases = Cases::default();
    error::add(&mut cases);
    flakey::add(&mut cases);
    delay::add(&mut cases);
    suspend::add(&mut cases);
    kill::add(&mut cases);
    null_blk::add(&mut cases);
    scsi::add(&mut cases);
    thin::add(&mut cases);
    integrity::add(&mut cases);
    log_writes::add(&mut cases);
    differential::add(&mut cases);

    cases.list
}
