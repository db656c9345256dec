//! One piece of a job on its way: with a run of pages in hand it reads its part of the source and writes it to every
//! destination, in as many rounds as short results make necessary. It refuses to know queues and other pieces.

use std::ops::Range;

use smallvec::SmallVec;

use super::chain::{Blank, BufferStart, Chain, ChainTag, Operation, Step, StepResult};
use super::job::{Extent, Job, OnError, WriteOrder, ZeroWay};
use super::limits::PAGE_BYTES;
use super::outcome::libc_errno::{EAGAIN, EINTR};
use super::page_pool::PageRun;
use super::transfer::{Company, Transfer, Verdict};

/// What a sub-job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Room in the engine for its next chain.
    WaitingForSlot,
    /// The piece before it to be written (`WriteOrder::Sequential`).
    WaitingForTurn,
    /// The completions of its chain.
    InFlight,
    /// Nothing: the job may fold it in.
    Complete,
}

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Source,
    Destination(u8),
    FlushOf(u8),
}

/// One piece of a job.
#[derive(Debug)]
pub struct SubJob {
    offset_bytes: u64,
    length_bytes: u32,
    /// The memory; a piece of zeroes needs none.
    run: Option<PageRun>,
    /// The most that is written at once where zeroes have to be written.
    write_bytes_max: u32,
    state: State,
    read: Option<Transfer>,
    writes: SmallVec<[Transfer; 1]>,
    /// Parts that could not be read and arrive as zeros, in bytes of the piece (P8, P14).
    unread: SmallVec<[Range<u32>; 1]>,
    /// Whose steps the chain in flight has, in its order.
    round: SmallVec<[Party; 2]>,
    outstanding: u8,
    /// Bit i: destination i's step of this round is an offloaded zeroing.
    offloaded: u32,
    zeroed: Zeroed,
}

/// Bytes made zero, by the way that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zeroed {
    /// By the device or its file system.
    pub offloaded_bytes: u64,
    /// By writing zeros.
    pub written_bytes: u64,
}

impl SubJob {
    /// A piece of a job, with the memory for it unless it is a piece of zeroes.
    #[must_use]
    pub fn new(job: &Job, offset_bytes: u64, length_bytes: u32, run: Option<PageRun>, write_bytes_max: u32) -> Self {
        let run_is_needed = !job.is_zeroing();
        assert!(run.is_some() == run_is_needed, "a copy needs memory, zeroes need none");
        let writes = job.destinations.iter().map(|destination| {
            let length = destination.padded(length_bytes);
            Transfer::new(length, alignment(&destination.extent, offset_bytes, length))
        });
        SubJob {
            offset_bytes,
            length_bytes,
            run,
            write_bytes_max,
            // What has nothing to read first has nothing to do before its turn (P15).
            state: if run_is_needed || job.may_write(offset_bytes) || canary!(SequentialZeroesDoNotWait) {
                State::WaitingForSlot
            } else {
                State::WaitingForTurn
            },
            read: job.source.map(|source| Transfer::new(length_bytes, alignment(&source, offset_bytes, length_bytes))),
            writes: writes.collect(),
            unread: SmallVec::new(),
            round: SmallVec::new(),
            outstanding: 0,
            offloaded: 0,
            zeroed: Zeroed::default(),
        }
    }

    /// What it waits for.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it holds pages; a piece of zeroes does not.
    #[must_use]
    pub fn has_pages(&self) -> bool {
        self.run.is_some()
    }

    /// Whether what it wants next is to read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.read.as_ref().is_some_and(|read| read.next().is_some())
    }

    /// Whether what it wants next is to write from its pages, which are free after that.
    #[must_use]
    pub fn frees_pages(&self) -> bool {
        (self.has_pages() || canary!(ZeroesOvertake)) && !self.is_reading()
    }

    /// Whether its next chain is to be the only one of its kind in flight; see `Company`.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        let mut transfers = self.read.iter().chain(&self.writes);
        transfers.any(|transfer| transfer.company() == Company::None && transfer.next().is_some())
    }

    /// Where the piece begins in its job.
    #[must_use]
    pub fn offset_bytes(&self) -> u64 {
        self.offset_bytes
    }

    /// Whether it waits and nothing of it has been written: what a stopping job takes back.
    #[must_use]
    pub fn can_be_withdrawn(&self) -> bool {
        let waits = matches!(self.state, State::WaitingForSlot | State::WaitingForTurn);
        waits && (self.writes.iter().all(Transfer::is_untouched) || canary!(WithdrawsWhatIsWritten))
    }

    /// The next chain: what is left to read and, if that completes the piece, all the writes; or what is left to write.
    pub fn chain(&mut self, job: &Job, tag: ChainTag) -> Chain {
        assert!(self.state == State::WaitingForSlot, "a chain was asked of a sub-job that is {:?}", self.state);
        let mut steps: SmallVec<[Step; 2]> = SmallVec::new();
        self.round.clear();
        if let (Some(range), Some(source)) = (self.read.as_ref().and_then(Transfer::next), &job.source) {
            steps.push(self.step(Operation::Read, source, &range));
            self.round.push(Party::Source);
        }
        let read_completes = self.read.as_ref().is_none_or(Transfer::next_completes) || canary!(WritesFollowAnyRead);
        let writes_follow = self.round.is_empty() || (read_completes && job.flags.order == WriteOrder::Any);
        let flush_follows = job.is_flushed_with_its_piece(self.length_bytes);
        let mut blanks = SmallVec::new();
        if writes_follow {
            for index in 0..self.writes.len() {
                let (destination, operation) = (&job.destinations[index], self.way_to_write(index, job));
                let Some(range) = self.writes[index].next() else { continue };
                steps.push(self.step(operation, &destination.extent, &range));
                self.round.push(Party::Destination(index as u8));
                if flush_follows && self.writes[index].next_completes() {
                    steps.push(flush_of(&destination.extent));
                    self.round.push(Party::FlushOf(index as u8));
                }
            }
            blanks = self.blanks(job);
        }
        self.outstanding = steps.len() as u8;
        self.state = State::InFlight;
        Chain { tag, steps, blanks }
    }

    /// The engine had no room for the chain: as if it had never been asked for.
    pub fn not_staged(&mut self) {
        self.read = self.read.take().filter(|_| !canary!(ChainIsSplit));
        self.outstanding = 0;
        self.state = State::WaitingForSlot;
    }

    /// A step of the chain has come home.
    pub fn settle(&mut self, step: u8, result: StepResult, job: &mut Job) {
        match self.round[usize::from(step)] {
            Party::Source => self.settle_read(result, job),
            Party::Destination(index) => self.settle_write(usize::from(index), result, job),
            // Not attempted, it is asked for again when the job's pieces are over.
            Party::FlushOf(_) if result == StepResult::NotAttempted => {}
            Party::FlushOf(index) => job.flushed(usize::from(index), result),
        }
        self.outstanding -= 1;
        if self.outstanding <= u8::from(canary!(GoesOnTooEarly)) {
            self.state = self.after_round(job);
        }
    }

    fn settle_read(&mut self, result: StepResult, job: &mut Job) {
        let read = self.read.as_mut().expect("only a piece with a source reads");
        if let Verdict::Failed(range, errno) = read.settle(result, job.flags.on_error, &mut job.narrowings_left) {
            let (first, end) = (self.offset_bytes + u64::from(range.start), self.offset_bytes + u64::from(range.end));
            job.read_failed(first..end, errno);
            if job.flags.on_error == OnError::Ignore {
                (usize::from(canary!(FirstIsSpared))..self.writes.len()).for_each(|destination| job.gap(destination, first));
                self.unread.push(range);
            }
        }
    }

    fn settle_write(&mut self, index: usize, result: StepResult, job: &mut Job) {
        if result == StepResult::NotAttempted && !canary!(NotAttemptedIsSuccess) {
            return;
        }
        let offloaded = self.offloaded & 1 << index != 0;
        if offloaded && matches!(result, StepResult::Failed(errno) if errno != EINTR && errno != EAGAIN) {
            // Whatever the reason, the range may still be written; if that fails too, it has failed.
            job.destinations[index].zero_way = ZeroWay::Write;
            return;
        }
        let write = &mut self.writes[index];
        let before = write.position();
        let verdict = write.settle(result, job.flags.on_error, &mut job.narrowings_left);
        if let Verdict::Failed(range, errno) = verdict {
            let range = self.offset_bytes + u64::from(range.start)..self.offset_bytes + u64::from(range.end);
            job.write_failed(index, range, errno);
        } else {
            let moved = write.position().min(self.length_bytes) - before.min(self.length_bytes);
            job.written(index, u64::from(moved));
            if job.is_zeroing() {
                let way = if offloaded { &mut self.zeroed.offloaded_bytes } else { &mut self.zeroed.written_bytes };
                *way += u64::from(moved);
            }
        }
    }

    /// Every step of the round is home: what next?
    fn after_round(&self, job: &Job) -> State {
        let writes_left = self.writes.iter().any(|write| write.next().is_some());
        if self.read_was_given_up() || !writes_left {
            State::Complete
        } else if self.is_reading() || job.may_write(self.offset_bytes) {
            State::WaitingForSlot
        } else {
            State::WaitingForTurn
        }
    }

    /// Whether the piece was not read to its end and will not be: nothing of it is written (P8).
    fn read_was_given_up(&self) -> bool {
        self.read.as_ref().is_some_and(|read| read.next().is_none() && read.position() < self.length_bytes)
    }

    /// The writes of the piece before this one are over.
    pub fn turn_has_come(&mut self) {
        if self.state == State::WaitingForTurn {
            self.state = State::WaitingForSlot;
        }
    }

    /// Folds the piece into its job and gives its memory back.
    pub fn finish(self, job: &mut Job) -> (Option<PageRun>, Zeroed) {
        assert!(self.outstanding == 0, "a sub-job ends only when all its steps are home");
        for (index, write) in self.writes.iter().enumerate() {
            if write.next().is_some() {
                job.gap(index, self.offset_bytes + u64::from(write.position()));
            }
        }
        job.piece_is_over(self.offset_bytes, self.length_bytes);
        (self.run, self.zeroed)
    }

    /// How a destination gets its bytes in the next round; a piece of zeroes falls back for good when offloading was refused.
    fn way_to_write(&mut self, index: usize, job: &Job) -> Operation {
        let offload = job.is_zeroing() && job.destinations[index].zero_way == ZeroWay::Offload;
        self.offloaded = self.offloaded & !(1 << index) | u32::from(offload) << index;
        if job.is_zeroing() && !offload {
            self.writes[index].limit_span(self.write_bytes_max);
        }
        if offload { Operation::Zero } else { Operation::Write }
    }

    fn step(&self, operation: Operation, extent: &Extent, range: &Range<u32>) -> Step {
        Step {
            operation,
            device: extent.device,
            offset_bytes: extent.offset_bytes + self.offset_bytes + u64::from(range.start),
            length_bytes: range.end - range.start,
            buffer: self.buffer(if canary!(RemainderFromTheStart) { 0 } else { range.start }),
        }
    }

    fn buffer(&self, offset_bytes: u32) -> BufferStart {
        match &self.run {
            Some(run) => BufferStart { page: run.first(), offset_bytes },
            None => BufferStart::ZEROES,
        }
    }

    /// What must be zero before the first write: what could not be read, and the padding behind a file's last byte.
    fn blanks(&self, job: &Job) -> SmallVec<[Blank; 1]> {
        if job.is_zeroing() {
            return SmallVec::new();
        }
        let padded = job.buffer_bytes(self.length_bytes);
        let padding = (padded > self.length_bytes && !canary!(PaddingIsStale)).then_some(self.length_bytes..padded);
        let ranges = self.unread.iter().filter(|_| !canary!(StaleAfterBadRead)).cloned().chain(padding);
        ranges.map(|range| Blank { buffer: self.buffer(range.start), length_bytes: range.end - range.start }).collect()
    }
}

/// The alignment of a transfer: the extent's if the transfer goes the direct way, otherwise any byte will do.
fn alignment(extent: &Extent, offset_bytes: u64, length_bytes: u32) -> u32 {
    let unit = u64::from(extent.alignment_bytes);
    let aligned = (extent.offset_bytes + offset_bytes).is_multiple_of(unit) && u64::from(length_bytes).is_multiple_of(unit);
    if aligned { extent.alignment_bytes } else { 1 }
}

/// The flush of the device that an extent is on.
pub(super) fn flush_of(extent: &Extent) -> Step {
    let buffer = BufferStart { page: 0, offset_bytes: 0 };
    Step { operation: Operation::Flush, device: extent.device, offset_bytes: 0, length_bytes: 0, buffer }
}

/// Pages for so many bytes: 1 byte needs 1, 4097 bytes need 2.
#[must_use]
pub fn pages_for(bytes: u32) -> u32 {
    bytes.div_ceil(PAGE_BYTES as u32) - u32::from(canary!(PagesRoundedDown) && bytes > 2 * PAGE_BYTES as u32)
}
