//! What a job came to: which bytes every destination is known to hold, and exactly what failed where. It refuses to know
//! how the job was carried out.

use super::limits::{FAILURES_MAX, SECTOR_BYTES};

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailedOperation {
    /// Reading the source.
    Read,
    /// Writing a destination.
    Write,
    /// Making a destination durable.
    Flush,
    /// Zeroing a destination.
    Zero,
}

/// One range that failed, in sectors of the device that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub operation: FailedOperation,
    /// At which destination, from 0; none for the source.
    pub destination: Option<u8>,
    /// The first sector of the range.
    pub sector: u64,
    /// How many sectors.
    pub count: u64,
    /// Why: a positive errno.
    pub errno: i32,
}

impl Failure {
    /// A failure of the bytes `[first_byte, end_byte)` of a device, widened to whole sectors:
    /// bytes [1000, 1100) touch sectors 1 and 2, so sector 1, count 2.
    #[must_use]
    pub fn of_bytes(
        operation: FailedOperation,
        destination: Option<u8>,
        first_byte: u64,
        end_byte: u64,
        errno: i32,
    ) -> Self {
        let sector = first_byte / SECTOR_BYTES;
        Failure { operation, destination, sector, count: end_byte.div_ceil(SECTOR_BYTES) - sector, errno }
    }

    fn key(&self) -> (FailedOperation, Option<u8>, i32, u64) {
        (self.operation, self.destination, self.errno, self.sector)
    }

    /// Whether `next`, which does not begin earlier, continues this failure or overlaps it.
    fn reaches(&self, next: &Failure) -> bool {
        self.operation == next.operation
            && self.destination == next.destination
            && self.errno == next.errno
            && self.sector + self.count + 8 * u64::from(canary!(FailuresJoinApart)) >= next.sector
    }

    fn absorb(&mut self, next: &Failure) {
        self.count = self.count.max(next.sector + next.count - self.sector);
    }
}

/// The failures of one job: equal ones that touch are one, and the list is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureList {
    list: Vec<Failure>,
    omitted: u64,
}

impl FailureList {
    /// Adds a failure, in whatever order the pieces come home.
    pub fn add(&mut self, failure: Failure) {
        let at = self.list.partition_point(|known| known.key() <= failure.key());
        if at > 0 && self.list[at - 1].reaches(&failure) {
            self.list[at - 1].absorb(&failure);
            self.join_with_next(at - 1);
        } else if at < self.list.len() && failure.reaches(&self.list[at]) {
            let mut joined = failure;
            joined.absorb(&self.list[at]);
            self.list[at] = joined;
            self.join_with_next(at);
        } else if self.list.len() < FAILURES_MAX {
            self.list.insert(at, failure);
        } else {
            self.omitted += 1;
        }
    }

    /// The one at `at` may have grown until it touches the next.
    fn join_with_next(&mut self, at: usize) {
        if at + 1 < self.list.len() && self.list[at].reaches(&self.list[at + 1]) {
            let next = self.list.remove(at + 1);
            self.list[at].absorb(&next);
        }
    }
}

/// What became of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationOutcome {
    /// Bytes from the region's beginning that are known to hold the source's bytes.
    pub prefix_bytes: u64,
    /// Whether the whole region holds the source's bytes, and was flushed if that was asked.
    pub state: DestinationState,
}

/// Whether a destination can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationState {
    /// It holds the whole region, flushed if that was asked.
    Complete,
    /// It does not.
    Incomplete,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was asked for was attempted, or an error stopped it.
    Ran,
    /// The caller aborted it before everything was done.
    Aborted,
    /// The client broke inside.
    Poisoned,
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was asked for, in bytes.
    pub length_bytes: u64,
    /// The contiguous prefix known to hold the source's bytes in every destination: a lower bound.
    pub prefix_bytes: u64,
    /// 0, or the positive errno of the first read error; without one, `ECANCELED` after an abort and `ENOTRECOVERABLE`
    /// after the client broke.
    pub read_errno: i32,
    /// Bit i is set if and only if a write, zero or flush to destination i failed.
    pub write_errors: u32,
    /// How the job ended.
    pub ending: Ending,
    /// What failed where; sorted by operation, destination, errno and sector.
    pub failures: Vec<Failure>,
    /// Failures for which the list had no room.
    pub failures_omitted: u64,
    /// Each destination's own story, in the order they were named.
    pub destinations: Vec<DestinationOutcome>,
}

impl Outcome {
    /// Whether every destination is complete; equivalent to no read error and no write error (P17).
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.read_errno == 0 && self.write_errors == 0
    }

    /// The outcome of a job of which nothing is known any more, because the client broke (P32).
    #[must_use]
    pub fn poisoned(length_bytes: u64, destinations: usize) -> Self {
        Outcome { ending: Ending::Poisoned, ..Outcome::not_begun(length_bytes, destinations, libc_errno::ENOTRECOVERABLE) }
    }

    /// The outcome of a job that could not be begun, for this reason.
    #[must_use]
    pub fn not_begun(length_bytes: u64, destinations: usize, errno: i32) -> Self {
        let nothing = DestinationOutcome { prefix_bytes: 0, state: DestinationState::Incomplete };
        Outcome {
            length_bytes,
            prefix_bytes: 0,
            read_errno: errno,
            write_errors: 0,
            ending: Ending::Ran,
            failures: Vec::new(),
            failures_omitted: 0,
            destinations: vec![nothing; destinations],
        }
    }

    /// Puts a job's failures in.
    #[must_use]
    pub fn with_failures(self, failures: FailureList) -> Self {
        Outcome { failures: failures.list, failures_omitted: failures.omitted, ..self }
    }
}

/// The few errnos that the mind itself speaks; the values of Linux on every architecture that this crate runs on.
pub mod libc_errno {
    /// A system call was interrupted.
    pub const EINTR: i32 = 4;
    /// Input/output error.
    pub const EIO: i32 = 5;
    /// Try again.
    pub const EAGAIN: i32 = 11;
    /// The operation was cancelled.
    pub const ECANCELED: i32 = 125;
    /// The state is not recoverable.
    pub const ENOTRECOVERABLE: i32 = 131;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(sector: u64, count: u64) -> Failure {
        Failure { operation: FailedOperation::Write, destination: Some(1), sector, count, errno: 5 }
    }

    #[test]
    fn p17_adjacent_equal_failures_are_one_in_any_order() {
        for order in [[0, 8, 16], [16, 8, 0], [0, 16, 8], [8, 0, 16], [8, 16, 0], [16, 0, 8]] {
            let mut failures = FailureList::default();
            order.iter().for_each(|&sector| failures.add(failure(sector, 8)));
            assert_eq!(failures.list, [failure(0, 24)], "{order:?}");
        }
    }

    #[test]
    fn p17_unequal_or_distant_failures_stay_apart() {
        let mut failures = FailureList::default();
        failures.add(failure(0, 8));
        failures.add(failure(9, 8));
        failures.add(Failure { errno: 28, ..failure(8, 1) });
        failures.add(Failure { destination: Some(0), ..failure(8, 1) });
        failures.add(Failure { operation: FailedOperation::Read, destination: None, ..failure(8, 1) });
        assert_eq!(failures.list.len(), 5);
    }

    #[test]
    fn p17_the_list_is_bounded_and_the_rest_is_counted() {
        let mut failures = FailureList::default();
        (0..FAILURES_MAX as u64 + 7).for_each(|index| failures.add(failure(index * 2, 1)));
        assert_eq!((failures.list.len(), failures.omitted), (FAILURES_MAX, 7));
        failures.add(failure(1, 1));
        assert_eq!(failures.omitted, 7, "one that joins two neighbours needs no room");
        assert_eq!(failures.list.len(), FAILURES_MAX - 1);
    }

    #[test]
    fn p17_p32_what_was_not_begun_or_is_lost_holds_nothing_and_is_no_success() {
        for (outcome, errno) in [(Outcome::not_begun(4096, 2, 9), 9), (Outcome::poisoned(4096, 2), 131)] {
            assert_eq!((outcome.read_errno, outcome.write_errors, outcome.prefix_bytes), (errno, 0, 0));
            assert_eq!((outcome.length_bytes, outcome.destinations.len()), (4096, 2));
            assert!(outcome.destinations.iter().all(|to| to.state == DestinationState::Incomplete && to.prefix_bytes == 0));
            assert!(!outcome.is_success());
        }
        assert_eq!(Outcome::poisoned(0, 1).ending, Ending::Poisoned);
    }

    #[test]
    fn bytes_are_widened_to_sectors() {
        let failure = Failure::of_bytes(FailedOperation::Read, None, 1000, 1100, 5);
        assert_eq!((failure.sector, failure.count), (1, 2));
    }
}
