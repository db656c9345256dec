//! What a chain was sent out for: a piece of a job, or the flush of its destinations. It refuses to know queues.

use smallvec::SmallVec;

use super::chain::{ChainTag, Completion, Step};
use super::job::Job;
use super::slab::Key;
use super::sub_job::flush_of;

/// Whether all steps of a chain are home.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChainIs {
    Out,
    Home,
}

/// Which entry a chain was made for; its tag, the other way round.
pub(super) enum Errand {
    Piece(Key),
    Flush(Key),
}

const FLUSH_BIT: u64 = 1 << 63;

impl Errand {
    pub(super) fn tag(self) -> ChainTag {
        match self {
            Errand::Piece(key) => ChainTag(key.to_bits()),
            Errand::Flush(key) => ChainTag(key.to_bits() | FLUSH_BIT),
        }
    }

    pub(super) fn of(tag: ChainTag) -> Self {
        let key = Key::from_bits(tag.0 & !FLUSH_BIT);
        if tag.0 & FLUSH_BIT == 0 { Errand::Piece(key) } else { Errand::Flush(key) }
    }
}

/// The flush of a job's destinations, all at once: one chain without a read.
pub(super) struct FlushRound {
    pub(super) job: Key,
    destinations: SmallVec<[u8; 2]>,
    outstanding: u8,
}

impl FlushRound {
    /// A round over the destinations that are still to be flushed, if there are any.
    pub(super) fn of(key: Key, job: &Job) -> Option<Self> {
        let destinations: SmallVec<[u8; 2]> = job.flushes().map(|(index, _)| index as u8).collect();
        let outstanding = destinations.len() as u8;
        (outstanding > 0).then_some(FlushRound { job: key, destinations, outstanding })
    }

    pub(super) fn steps(&self, job: &Job) -> SmallVec<[Step; 2]> {
        job.flushes().map(|(_, extent)| flush_of(extent)).collect()
    }

    pub(super) fn settle(&mut self, completion: Completion, job: &mut Job) -> ChainIs {
        job.flushed(usize::from(self.destinations[usize::from(completion.step)]), completion.result);
        self.outstanding -= 1;
        if self.outstanding == 0 { ChainIs::Home } else { ChainIs::Out }
    }
}
