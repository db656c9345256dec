//! One job: its cursor, from which pieces are cut as they are needed (never a list of them, so a petabyte costs what a
//! megabyte costs, P21), and what the pieces that came home add up to. It refuses to know pages, chains and queues.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

pub use super::flags::{Flush, JobFlags, OnError, WriteOrder};

use super::chain::{DeviceIndex, StepResult};
use super::limits::{
    ATTEMPTS_WITHOUT_PROGRESS_MAX, CHAIN_STEPS_MAX, NARROWINGS_PER_JOB_MAX, PAGE_BYTES, SHORT_SUB_JOBS_PER_JOB,
    SUB_JOBS_PER_JOB, ZERO_PIECES_PER_JOB,
};
use super::outcome::libc_errno::{EAGAIN, ECANCELED, EINTR};
use super::outcome::{DestinationOutcome, DestinationState, Ending, FailedOperation, Failure, FailureList, Outcome};
use super::progress::JobProgress;
use super::request::{Cut, Plan};

/// One end of a job on an attached device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The device.
    pub device: DeviceIndex,
    /// Where the region begins.
    pub offset_bytes: u64,
    /// Transfers that are multiples of this go the direct way; the others may have any length.
    pub alignment_bytes: u32,
}

/// What a job needs besides its plan.
#[derive(Debug)]
pub struct JobParts {
    /// The caller's name for the job.
    pub token: u64,
    /// The source's device and direct alignment; none for zeroes.
    pub source: Option<(DeviceIndex, u32)>,
    /// Every destination's device and direct alignment, in the plan's order.
    pub destinations: SmallVec<[(DeviceIndex, u32); 1]>,
    /// How to carry it out.
    pub flags: JobFlags,
    /// Counters to keep, if anyone wants to look.
    pub progress: Option<Arc<JobProgress>>,
}

/// How a destination is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroWay {
    /// By the device or its file system, until it refuses.
    Offload,
    /// By writing zeros.
    Write,
}

#[derive(Debug)]
pub(super) struct Destination {
    pub(super) extent: Extent,
    pub(super) padding_unit_bytes: u32,
    pub(super) zero_way: ZeroWay,
    /// The lowest byte of the job that this destination may not hold, as far as pieces are home.
    first_gap: u64,
    flush: FlushState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlushState {
    NotWanted,
    Wanted { attempts: u8 },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Running,
    StoppedByError,
    Aborted,
}

/// One job.
#[derive(Debug)]
pub struct Job {
    pub(super) token: u64,
    pub(super) source: Option<Extent>,
    pub(super) destinations: SmallVec<[Destination; 1]>,
    pub(super) flags: JobFlags,
    /// How many more failed attempts of this job may be narrowed down to the bad page.
    pub(super) narrowings_left: u32,
    length_bytes: u64,
    cut: Cut,
    piece_bytes_max: u64,
    pieces_max: u32,
    cursor_bytes: u64,
    /// With `WriteOrder::Sequential`: where the piece begins whose writes are next.
    write_turn_bytes: u64,
    sub_jobs: u32,
    /// How many of them there may be at once.
    sub_jobs_max: u32,
    /// Pieces with a failure that is being looked into; until that is settled no new piece is begun (P13).
    pub(super) pieces_in_doubt: u32,
    course: Course,
    read_errno: i32,
    write_errors: u32,
    failures: FailureList,
    progress: Option<Arc<JobProgress>>,
    /// Whether a round of flushes waits or is in flight; kept for the scheduler.
    pub(super) flush_is_under_way: bool,
    /// Whether it stands in the queue for pages; kept for the scheduler.
    pub(super) is_queued: bool,
}

impl Job {
    /// A job that has not begun.
    #[must_use]
    pub fn new(plan: &Plan, parts: JobParts) -> Self {
        assert_eq!(plan.destinations.len(), parts.destinations.len(), "the plan was made for these destinations");
        let extent = |(device, alignment_bytes), offset_bytes| Extent { device, offset_bytes, alignment_bytes };
        let flags = parts.flags.settled();
        let flush = if flags.flush == Flush::Yes { FlushState::Wanted { attempts: 0 } } else { FlushState::NotWanted };
        let destinations = plan.destinations.iter().zip(&parts.destinations).map(|(plan, &device)| Destination {
            extent: extent(device, plan.offset_bytes),
            padding_unit_bytes: plan.padding_unit_bytes,
            zero_way: ZeroWay::Offload,
            first_gap: u64::MAX,
            flush,
        });
        Job {
            token: parts.token,
            source: parts.source.map(|source| extent(source, plan.source_offset_bytes)),
            destinations: destinations.collect(),
            flags,
            narrowings_left: NARROWINGS_PER_JOB_MAX,
            length_bytes: plan.length_bytes,
            cut: plan.cut,
            piece_bytes_max: (plan.piece_bytes_max / PAGE_BYTES * PAGE_BYTES).max(PAGE_BYTES),
            pieces_max: plan.pieces_max.max(1),
            cursor_bytes: 0,
            write_turn_bytes: 0,
            sub_jobs: 0,
            sub_jobs_max: SUB_JOBS_PER_JOB,
            pieces_in_doubt: 0,
            course: Course::Running,
            read_errno: 0,
            write_errors: 0,
            failures: FailureList::default(),
            progress: parts.progress,
            flush_is_under_way: false,
            is_queued: false,
        }
    }

    /// As many bytes may be under way as 24 pieces of the client's size hold, also where a device's queue makes pieces
    /// shorter; but no more pieces than the queues hold.
    ///
    /// Sub-jobs of 512 KiB: with a queue that takes 1280 KiB 24 at once, with one that takes 127 KiB, so 124 in whole pages,
    /// 4 × 24 = 96.
    pub fn take_sub_job_size(&mut self, sub_job_bytes: u64) {
        let most = if self.is_zeroing() {
            ZERO_PIECES_PER_JOB
        } else {
            let shorter = (sub_job_bytes / self.piece_bytes_max).max(1);
            u64::from(SUB_JOBS_PER_JOB).saturating_mul(shorter).min(u64::from(SHORT_SUB_JOBS_PER_JOB)) as u32
        };
        self.sub_jobs_max = most.min(self.pieces_max);
    }

    /// What is copied, in bytes.
    #[must_use]
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The devices of its source and its destinations, each as often as it is named.
    #[must_use]
    pub fn devices(&self) -> SmallVec<[DeviceIndex; 2]> {
        let source = self.source.iter().map(|source| source.device);
        source.chain(self.destinations.iter().map(|destination| destination.extent.device)).collect()
    }

    /// The length of the next piece, if there is one and the job may have another under way.
    #[must_use]
    pub fn next_piece(&self, most_bytes: u64) -> Option<u32> {
        let waits_for_verdict =
            self.pieces_in_doubt > 0 && self.flags.on_error == OnError::Stop && !canary!(DoubtIsForgotten);
        let more = self.has_more() && self.sub_jobs < self.sub_jobs_max && !waits_for_verdict;
        let most_bytes = if self.is_zeroing() { most_bytes } else { most_bytes.min(self.piece_bytes_max) };
        more.then(|| self.cut.piece(self.cursor_bytes, most_bytes, self.length_bytes) as u32)
    }

    /// Bytes of memory that a piece at the cursor needs: the longest padded write.
    #[must_use]
    pub fn buffer_bytes(&self, piece_bytes: u32) -> u32 {
        self.destinations.iter().map(|destination| destination.padded(piece_bytes)).max().unwrap_or(piece_bytes)
    }

    /// Whether it makes zeroes, for which it needs no pages.
    #[must_use]
    pub fn is_zeroing(&self) -> bool {
        self.source.is_none()
    }

    /// Whether the flush of each destination goes out with the writes of its only piece, instead of in a round of its own.
    #[must_use]
    pub fn is_flushed_with_its_piece(&self, piece_bytes: u32) -> bool {
        let steps = 1 + 2 * self.destinations.len();
        let fits = steps <= CHAIN_STEPS_MAX;
        self.flags.flush == Flush::Yes && u64::from(piece_bytes) == self.length_bytes && fits
    }

    /// Cuts the next piece: its offset from the job's beginning.
    pub fn cut(&mut self, piece_bytes: u32) -> u64 {
        let offset = self.cursor_bytes;
        self.cursor_bytes += u64::from(piece_bytes);
        self.sub_jobs += 1;
        offset
    }

    /// Whether another piece will be cut some time.
    #[must_use]
    pub fn has_more(&self) -> bool {
        (self.course == Course::Running || canary!(AbortIsForgotten)) && self.cursor_bytes < self.length_bytes
    }

    /// Whether no new piece is started, and none that waits may begin.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.course != Course::Running
    }

    /// Whether the last piece is home and none follows.
    #[must_use]
    pub fn pieces_are_over(&self) -> bool {
        self.sub_jobs <= u32::from(canary!(FlushesTooEarly) && self.flags.flush == Flush::Yes) && !self.has_more()
    }

    /// Whether its writes are in order.
    #[must_use]
    pub fn is_sequential(&self) -> bool {
        self.flags.order == WriteOrder::Sequential
    }

    /// Whether the writes of the piece at this offset may be issued.
    #[must_use]
    pub fn may_write(&self, piece_offset: u64) -> bool {
        self.flags.order == WriteOrder::Any || self.write_turn_bytes == piece_offset || canary!(OvertakesInSequence)
    }

    /// The caller wants no more of it. A job whose pieces were all cut and succeed is complete all the same.
    pub fn abort(&mut self) {
        self.course = Course::Aborted;
    }

    /// A range of a piece could not be read, in bytes of the job.
    pub(super) fn read_failed(&mut self, range: Range<u64>, errno: i32) {
        let source = self.source.expect("only a job with a source reads");
        if self.read_errno == 0 || canary!(LastReadErrorWins) {
            self.read_errno = errno;
        }
        self.note(FailedOperation::Read, None, source.offset_bytes, range, errno);
    }

    /// A range of a piece could not be written to a destination, in bytes of the job.
    pub(super) fn write_failed(&mut self, destination: usize, range: Range<u64>, errno: i32) {
        self.write_errors |= 1 << (destination - usize::from(canary!(WrongBit) && destination == 3));
        // A failure in the padding alone, behind the last byte, still leaves the destination incomplete.
        self.gap(destination, if canary!(PrefixBeyondFailure) { range.end } else { range.start.min(self.length_bytes - 1) });
        let operation = if self.is_zeroing() { FailedOperation::Zero } else { FailedOperation::Write };
        let base = self.destinations[destination].extent.offset_bytes;
        self.note(operation, Some(destination), base, range, errno);
    }

    fn note(&mut self, operation: FailedOperation, destination: Option<usize>, base: u64, range: Range<u64>, errno: i32) {
        let named = destination.map(|destination| destination as u8);
        self.failures.add(Failure::of_bytes(operation, named, base + range.start, base + range.end, errno));
        if let (Some(progress), Some(destination)) = (&self.progress, destination) {
            progress.destination_failed(destination);
        }
        if self.flags.on_error == OnError::Stop && self.course == Course::Running && !canary!(ErrorDoesNotStop) {
            self.course = Course::StoppedByError;
        }
    }

    /// From this byte on a destination may not hold the source's bytes.
    pub(super) fn gap(&mut self, destination: usize, from: u64) {
        let known = &mut self.destinations[destination].first_gap;
        *known = (*known).min(from);
    }

    /// Bytes of a piece have reached a destination.
    pub(super) fn written(&mut self, destination: usize, bytes: u64) {
        if let Some(progress) = &self.progress {
            progress.written(destination, bytes);
        }
    }

    /// A piece is over, whatever it came to.
    pub(super) fn piece_is_over(&mut self, offset: u64, bytes: u32) {
        self.sub_jobs -= 1;
        if self.write_turn_bytes == offset {
            self.write_turn_bytes += u64::from(bytes);
        }
        if let Some(progress) = &self.progress {
            progress.piece_is_over(u64::from(bytes));
        }
    }

    /// The destinations that are still to be flushed, once the pieces are over. A destination with a failed write cannot
    /// become complete, and after an abort nothing more is started (P27).
    pub(super) fn flushes(&self) -> impl Iterator<Item = (usize, &Extent)> + '_ {
        let wanted = |&(index, destination): &(usize, &Destination)| {
            matches!(destination.flush, FlushState::Wanted { .. })
                && self.course != Course::Aborted
                && !(canary!(NoFlushAfterError) && self.course == Course::StoppedByError)
                && self.write_errors & 1 << index == 0
        };
        self.destinations.iter().enumerate().filter(wanted).map(|(index, destination)| (index, &destination.extent))
    }

    /// A destination's flush has come home.
    pub(super) fn flushed(&mut self, destination: usize, result: StepResult) {
        let FlushState::Wanted { attempts } = self.destinations[destination].flush else {
            unreachable!("only a flush that was wanted is asked for")
        };
        match result {
            StepResult::Failed(_) if canary!(FlushFailureIsForgotten) => {
                self.destinations[destination].flush = FlushState::Done
            }
            StepResult::Done(_) => self.destinations[destination].flush = FlushState::Done,
            StepResult::Failed(EINTR | EAGAIN) if attempts + 1 < ATTEMPTS_WITHOUT_PROGRESS_MAX => {
                self.destinations[destination].flush = FlushState::Wanted { attempts: attempts + 1 };
            }
            StepResult::Failed(errno) => {
                self.destinations[destination].flush = FlushState::NotWanted;
                self.write_errors |= 1 << destination;
                let base = self.destinations[destination].extent.offset_bytes;
                self.gap(destination, 0);
                self.note(FailedOperation::Flush, Some(destination), base, 0..self.length_bytes, errno);
            }
            StepResult::NotAttempted => unreachable!("a flush waits for no read"),
        }
    }

    /// What it came to; the pieces and flushes are over.
    #[must_use]
    pub fn into_outcome(self) -> Outcome {
        assert!(self.pieces_are_over(), "a job with a piece under way has no outcome");
        let cut_off = self.cursor_bytes;
        let outcome_of = |(index, destination): (usize, &Destination)| {
            let prefix_bytes = destination.first_gap.min(cut_off);
            // A flush of no bytes can fail too, and then no byte is missing.
            let failed = self.write_errors & 1 << index != 0;
            let unflushed = matches!(destination.flush, FlushState::Wanted { .. });
            let complete = prefix_bytes == self.length_bytes && !unflushed && !failed;
            let state = if complete { DestinationState::Complete } else { DestinationState::Incomplete };
            DestinationOutcome { prefix_bytes, state }
        };
        let destinations: Vec<_> = self.destinations.iter().enumerate().map(outcome_of).collect();
        let complete = destinations.iter().all(|destination| destination.state == DestinationState::Complete);
        // A job that had everything done when the abort took effect was not aborted.
        let aborted = self.course == Course::Aborted && !(complete && self.read_errno == 0 && self.write_errors == 0);
        let ending = if aborted { Ending::Aborted } else { Ending::Ran };
        let read_errno = if aborted && self.read_errno == 0 { ECANCELED } else { self.read_errno };
        let prefix_bytes = destinations.iter().map(|destination| destination.prefix_bytes).min().unwrap_or(0);
        let outcome = Outcome {
            length_bytes: self.length_bytes,
            prefix_bytes,
            read_errno,
            write_errors: self.write_errors,
            ending,
            failures: Vec::new(),
            failures_omitted: 0,
            destinations,
        };
        let outcome = outcome.with_failures(self.failures);
        assert!(outcome.is_success() == complete, "P17: no error bits if and only if every destination is complete");
        outcome
    }
}

impl Destination {
    /// The length of a write of so many bytes: only a job's last piece is not a multiple of the unit already.
    pub(super) fn padded(&self, piece_bytes: u32) -> u32 {
        piece_bytes.next_multiple_of(self.padding_unit_bytes)
    }
}
