//! What the oracle knows of a job: what was asked, and what the disks have answered. It draws no conclusions and shares no code
//! with the mind; a job here is a list of facts.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use kcopyd::copy::chain::{DeviceIndex, Operation};
use kcopyd::copy::job::{Flush, OnError, WriteOrder};
use kcopyd::copy::progress::JobProgress;

use crate::fault::{EAGAIN, EINTR};
use crate::intervals::Intervals;
use crate::scenario::{JobSpec, Party};

/// How often in a row something may come home without progress before it is a failure: the promise (P16), written down again.
pub const ATTEMPTS_MAX: u32 = 8;

/// What any piece of memory and the page cache are made of.
pub const PAGE: u64 = 4096;

/// One end of a job.
#[derive(Clone, Copy, Debug)]
pub struct JobEnd {
    /// The disk's number.
    pub disk: usize,
    /// What the engine calls it.
    pub device: DeviceIndex,
    /// Where the region begins, in bytes of the disk.
    pub offset: u64,
    /// In which units the disk takes requests at all.
    pub request_unit: u64,
    /// Whether it is a file that is written both direct and through the page cache.
    pub two_ways: bool,
    /// In which units a transfer goes the direct way.
    pub alignment: u64,
}

/// What the source has answered.
#[derive(Debug)]
pub struct SourceModel {
    /// Where it is.
    pub end: JobEnd,
    /// What was read and arrived in memory.
    pub read: Intervals,
    /// Bytes that were read, as often as they were.
    pub bytes: u64,
    /// How many of them may have had to be read again.
    pub rework: u64,
}

/// How a destination's flush stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushModel {
    NotBegun,
    InFlight,
    Interrupted,
    Done,
    Failed(i32),
}

/// How a page of the page cache is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    Buffered,
}

/// What a destination has answered.
#[derive(Debug)]
pub struct DestinationModel {
    /// Where it is.
    pub end: JobEnd,
    /// The region's length with its padding.
    pub padded: u64,
    /// What the disk says it has.
    pub written: Intervals,
    /// What of it are zeros in place of what could not be read.
    pub blanked: Intervals,
    /// Bytes that were written, as often as they were.
    pub bytes: u64,
    /// How many of them may have had to be written again.
    pub rework: u64,
    /// Requests that the disk has not answered.
    pub in_flight: u32,
    /// How the flush stands.
    pub flush: FlushModel,
    /// How often the flush was interrupted.
    pub flush_interruptions: u32,
    /// Pages of the page cache that were written, which way and by which piece; only where `end.two_ways`.
    pub ways: Vec<(Way, u64, Range<u64>)>,
}

/// A request that did not do what it was asked to.
#[derive(Clone, Debug)]
pub struct Trouble {
    pub party: Party,
    pub operation: Operation,
    /// Bytes of the job.
    pub range: Range<u64>,
    /// EIO for one that moved nothing.
    pub errno: i32,
    pub kind: TroubleKind,
    /// Where its piece begins.
    pub piece: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleKind {
    /// An error after an error of the same part of a piece, with no success in between: it is final.
    Confirmed,
    /// An error that may have been a neighbour's; it is tried once more before it counts.
    Hard,
    /// An interruption, or a result that moved nothing.
    Soft,
    /// A result that moved so little that it may count as nothing; only of zeroes, where a piece's end is not seen.
    Small,
}

/// So many results without progress in a row, of the same request.
#[derive(Clone, Debug)]
pub struct Streak {
    pub party: Party,
    pub piece: u64,
    pub range: Range<u64>,
    pub length: u32,
}

/// A part of a piece that has failed once and not succeeded since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub party: Party,
    pub piece: u64,
}

/// Whether the oracle knows that a job must begin nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    Running,
    Stopped,
    Aborted,
}

/// A piece of a job, as it was first seen.
#[derive(Clone, Copy, Debug)]
pub struct PieceModel {
    pub start: u64,
    pub end: u64,
    /// Pages of memory that it must have.
    pub pages: u32,
    /// The tag under which it was first seen.
    pub tag: u64,
}

/// A job.
#[derive(Debug)]
pub struct JobModel {
    pub token: u64,
    pub length: u64,
    pub ignore: bool,
    pub sequential: bool,
    pub flush: bool,
    /// The largest piece of a copy.
    pub piece_max: u64,
    pub source: Option<SourceModel>,
    pub destinations: SmallVec<[DestinationModel; 2]>,
    /// Ascending.
    pub pieces: Vec<PieceModel>,
    pub course: Course,
    pub aborted_by_caller: bool,
    /// Chains that are not home.
    pub chains: u32,
    pub troubles: Vec<Trouble>,
    pub streaks: Vec<Streak>,
    pub suspects: Vec<Suspect>,
    /// Pieces begun since the first suspicion that is not cleared.
    pub begun_in_doubt: u32,
    pub first_read_errno: Option<i32>,
    /// Pieces that all jobs together had begun when this one was submitted, and how many jobs there were.
    pub begun_at_submission: u64,
    pub jobs_at_submission: u64,
    /// Which job it was, in the order of submission, from 1.
    pub sequence: u64,
    pub progress: Option<Arc<JobProgress>>,
}

/// What a job's submission says.
pub struct Submitted<'a> {
    pub token: u64,
    pub spec: &'a JobSpec,
    pub length: u64,
    pub source: Option<JobEnd>,
    /// With the length of the region, padding included.
    pub destinations: SmallVec<[(JobEnd, u64); 2]>,
    pub progress: Option<Arc<JobProgress>>,
}

impl JobModel {
    /// A job that has just been submitted.
    pub fn new(submitted: Submitted<'_>, begun_at_submission: u64, jobs_at_submission: u64, sequence: u64) -> Self {
        let Submitted { token, spec, length, source, destinations, progress } = submitted;
        let sequential = spec.flags.order == WriteOrder::Sequential;
        let source = source.map(|end| SourceModel { end, read: Intervals::default(), bytes: 0, rework: 0 });
        JobModel {
            token,
            length,
            // Sequential overrides ignoring errors (P14).
            ignore: spec.flags.on_error == OnError::Ignore && !sequential,
            sequential,
            flush: spec.flags.flush == Flush::Yes,
            // In whole pages, and never less than one.
            piece_max: (spec.piece_bytes_max.unwrap_or(u64::MAX) / PAGE * PAGE).max(PAGE),
            source,
            destinations: destinations.into_iter().map(|(end, padded)| DestinationModel::new(end, padded)).collect(),
            pieces: Vec::new(),
            course: Course::Running,
            aborted_by_caller: false,
            chains: 0,
            troubles: Vec::new(),
            streaks: Vec::new(),
            suspects: Vec::new(),
            begun_in_doubt: 0,
            first_read_errno: None,
            begun_at_submission,
            jobs_at_submission,
            sequence,
            progress,
        }
    }

    /// How far pieces have been begun.
    pub fn cursor(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.end)
    }

    /// Whether it asks for zeroes.
    pub fn is_zeroing(&self) -> bool {
        self.source.is_none()
    }

    /// The piece that begins there.
    pub fn piece_at(&self, start: u64) -> Option<PieceModel> {
        let index = self.pieces.binary_search_by_key(&start, |piece| piece.start).ok()?;
        Some(self.pieces[index])
    }

    /// The piece that was first seen under this tag.
    pub fn piece_tagged(&self, tag: u64) -> Option<PieceModel> {
        self.pieces.iter().rev().find(|piece| piece.tag == tag).copied()
    }

    /// A piece of zeroes turns out to be longer than was seen before; says whether it may be.
    pub fn extend_piece(&mut self, piece: PieceModel, end: u64) -> bool {
        let place = self.pieces.partition_point(|known| known.start <= piece.start);
        let limit = self.pieces.get(place).map_or(self.length, |next| next.start);
        self.pieces[place - 1].end = end;
        end <= limit
    }

    /// How much of a short result counts: if all of the piece can go the direct way, what comes next must be able to as well.
    pub fn counted(&self, party: Party, piece: u64, moved: u64, length: u64) -> u64 {
        let (Some(piece), Some(end)) = (self.piece_at(piece), self.end(party)) else { return moved };
        let last = match party {
            Party::Destination(index) if piece.end == self.length => self.destinations[usize::from(index)].padded,
            _ => piece.end,
        };
        let aligned =
            (end.offset + piece.start).is_multiple_of(end.alignment) && (last - piece.start).is_multiple_of(end.alignment);
        if moved == length || self.is_zeroing() || !aligned { moved } else { moved - moved % end.alignment }
    }

    /// The end that a party is.
    pub fn end(&self, party: Party) -> Option<&JobEnd> {
        match party {
            Party::Source => self.source.as_ref().map(|source| &source.end),
            Party::Destination(index) => self.destinations.get(usize::from(index)).map(|destination| &destination.end),
        }
    }

    /// Notes a trouble, and what follows from it for certain: after a final error without `ignoreErrors` nothing new begins.
    pub fn note(&mut self, mut trouble: Trouble) {
        let fails = match trouble.kind {
            // A device that does not zero is written to.
            TroubleKind::Hard | TroubleKind::Confirmed => trouble.operation != Operation::Zero,
            TroubleKind::Soft => {
                let streak = self.count(&trouble);
                streak == ATTEMPTS_MAX || streak == 2 * ATTEMPTS_MAX
            }
            TroubleKind::Small => false,
        };
        let suspect = Suspect { party: trouble.party, piece: trouble.piece };
        if fails && !self.suspects.contains(&suspect) {
            self.suspects.push(suspect);
        } else if fails {
            trouble.kind = TroubleKind::Confirmed;
            let narrow = trouble.range.end - trouble.range.start <= PAGE;
            if trouble.party == Party::Source && (!self.ignore || narrow) {
                self.first_read_errno.get_or_insert(trouble.errno);
            }
            if !self.ignore && self.course == Course::Running {
                self.course = Course::Stopped;
            }
        }
        self.troubles.push(trouble);
    }

    /// Counts a result without progress; another request of the same piece begins a new count.
    fn count(&mut self, trouble: &Trouble) -> u32 {
        let same = |streak: &&mut Streak| streak.party == trouble.party && streak.piece == trouble.piece;
        match self.streaks.iter_mut().find(same) {
            Some(streak) if streak.range == trouble.range => {
                streak.length += 1;
                streak.length
            }
            Some(streak) => {
                (streak.range, streak.length) = (trouble.range.clone(), 1);
                1
            }
            None => {
                let (party, piece, range) = (trouble.party, trouble.piece, trouble.range.clone());
                self.streaks.push(Streak { party, piece, range, length: 1 });
                1
            }
        }
    }

    /// Something moved: that it did not before is forgiven.
    pub fn progressed(&mut self, party: Party, piece: u64) {
        if !self.streaks.is_empty() {
            self.streaks.retain(|streak| streak.party != party || streak.piece != piece);
        }
    }

    /// Whether a piece of it may have to wait before it is tried again.
    pub fn may_be_in_doubt(&self) -> bool {
        !self.suspects.is_empty() || self.troubles.iter().any(|trouble| trouble.kind == TroubleKind::Small)
    }

    /// Whether it may have come to its end before all was attempted.
    pub fn may_have_stopped(&self) -> bool {
        let small = || self.troubles.iter().filter(|trouble| trouble.kind == TroubleKind::Small).count();
        self.course != Course::Running || small() >= ATTEMPTS_MAX as usize
    }

    /// All that was asked for was moved: no suspicion is left.
    pub fn succeeded(&mut self, party: Party, piece: u64) {
        self.progressed(party, piece);
        if !self.suspects.is_empty() {
            self.suspects.retain(|suspect| suspect.party != party || suspect.piece != piece);
            self.begun_in_doubt = if self.suspects.is_empty() { 0 } else { self.begun_in_doubt };
        }
    }
}

impl DestinationModel {
    fn new(end: JobEnd, padded: u64) -> Self {
        DestinationModel {
            end,
            padded,
            written: Intervals::default(),
            blanked: Intervals::default(),
            bytes: 0,
            rework: 0,
            in_flight: 0,
            flush: FlushModel::NotBegun,
            flush_interruptions: 0,
            ways: Vec::new(),
        }
    }
}

/// Whether an errno is an interruption, after which one asks again.
pub fn is_interruption(errno: i32) -> bool {
    errno == EINTR || errno == EAGAIN
}
