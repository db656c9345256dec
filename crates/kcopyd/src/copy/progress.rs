//! How far a job has come, for whoever wants to look while it runs. Written by the mind, read from any thread; it refuses to
//! know time and rates.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// One job's counters. They only grow.
#[derive(Debug)]
pub struct JobProgress {
    total_bytes: AtomicU64,
    destinations: Box<[DestinationProgress]>,
}

#[derive(Debug, Default)]
struct DestinationProgress {
    bytes: AtomicU64,
    failed: AtomicBool,
}

impl JobProgress {
    /// Counters for a job with so many destinations.
    #[must_use]
    pub fn new(destinations: usize) -> Self {
        let destinations = (0..destinations).map(|_| DestinationProgress::default()).collect();
        JobProgress { total_bytes: AtomicU64::new(0), destinations }
    }

    /// Bytes of pieces that are over, whatever they came to.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Relaxed)
    }

    /// Bytes written to one destination.
    #[must_use]
    pub fn destination_bytes(&self, destination: usize) -> u64 {
        self.destinations[destination].bytes.load(Relaxed)
    }

    /// Whether an operation on this destination has failed.
    #[must_use]
    pub fn failed(&self, destination: usize) -> bool {
        self.destinations[destination].failed.load(Relaxed)
    }

    /// How many destinations there are.
    #[must_use]
    pub fn destinations(&self) -> usize {
        self.destinations.len()
    }

    pub(super) fn piece_is_over(&self, bytes: u64) {
        self.total_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn written(&self, destination: usize, bytes: u64) {
        self.destinations[destination].bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn destination_failed(&self, destination: usize) {
        self.destinations[destination].failed.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_begin_at_zero_and_are_each_destinations_own() {
        let progress = JobProgress::new(2);
        progress.written(1, 4096);
        progress.destination_failed(0);
        progress.piece_is_over(8192);
        let seen = |index| (progress.destination_bytes(index), progress.failed(index));
        assert_eq!((progress.destinations(), progress.total_bytes()), (2, 8192));
        assert_eq!([seen(0), seen(1)], [(0, true), (4096, false)]);
    }
}
