//! The pieces under way, and which of them wait for room in the engine, in which order. It refuses to know pages and what
//! becomes of a job.

use std::collections::VecDeque;

use super::job::Job;
use super::slab::{Key, Slab};
use super::sub_job::{State, SubJob};

/// A sub-job, and whose it is.
pub(super) struct Piece {
    pub(super) job: Key,
    pub(super) sub_job: SubJob,
    /// Whether the job counts it among its pieces in doubt.
    pub(super) in_doubt: bool,
}

impl Piece {
    /// A step of its chain is home: does it leave a failure to be looked into?
    pub(super) fn count_doubt(&mut self, job: &mut Job) {
        let in_doubt = self.sub_job.is_in_doubt();
        job.pieces_in_doubt = job.pieces_in_doubt + u32::from(in_doubt) - u32::from(self.in_doubt);
        self.in_doubt = in_doubt;
    }
}

/// All pieces of a client.
#[derive(Default)]
pub(super) struct Pieces {
    slab: Slab<Piece>,
    /// Their next chain writes from their pages, which are free after that: they go first.
    writes_waiting_for_room: VecDeque<Key>,
    /// They have to read; or they hold no pages, being pieces of zeroes, and wait for their turn like a read (P4, P20).
    others_waiting_for_room: VecDeque<Key>,
    /// Pieces with a failure that may have been a neighbour's: each is tried once more, one at a time (`Company::None`).
    waiting_to_be_alone: VecDeque<Key>,
    alone: Option<Key>,
    without_pages: u32,
}

impl Pieces {
    /// A piece begins by waiting for room, or for its turn.
    pub(super) fn begin(&mut self, job: Key, sub_job: SubJob) {
        self.without_pages += u32::from(!sub_job.has_pages());
        let state = sub_job.state();
        let key = self.slab.insert(Piece { job, sub_job, in_doubt: false });
        if state == State::WaitingForSlot {
            self.wait_for_room(key);
        }
    }

    /// How many of them have no pages.
    pub(super) fn without_pages(&self) -> u32 {
        self.without_pages
    }

    /// A piece that is known to be there.
    pub(super) fn expect(&mut self, key: Key) -> &mut Piece {
        self.slab.expect(key)
    }

    /// A piece wants its next chain to be staged.
    pub(super) fn wait_for_room(&mut self, key: Key) {
        self.queue_of(key).push_back(key);
    }

    /// The piece whose chain goes out next: one in doubt, if no other is out; one that frees its pages before the others.
    pub(super) fn next_with_room(&mut self) -> Option<(Key, &mut Piece)> {
        loop {
            let in_doubt = if self.alone.is_none() { self.waiting_to_be_alone.pop_front() } else { None };
            let writes = in_doubt.or_else(|| self.writes_waiting_for_room.pop_front());
            let key = writes.or_else(|| self.others_waiting_for_room.pop_front())?;
            // A piece that was withdrawn left its key behind.
            let Some(piece) = self.slab.get_mut(key) else { continue };
            if piece.in_doubt {
                self.alone = Some(key);
            }
            return Some((key, self.slab.expect(key)));
        }
    }

    /// Whether a piece waits that would not free pages. What was withdrawn since it came is forgotten.
    pub(super) fn one_waits_to_begin(&mut self) -> bool {
        while let Some(&key) = self.others_waiting_for_room.front() {
            if self.slab.get_mut(key).is_some() {
                return true;
            }
            self.others_waiting_for_room.pop_front();
        }
        false
    }

    /// The engine had no room for a piece's chain: it stays the first of its queue.
    pub(super) fn not_staged(&mut self, key: Key) {
        self.slab.expect(key).sub_job.not_staged();
        self.is_home(key);
        self.queue_of(key).push_front(key);
    }

    /// A piece's chain is home.
    pub(super) fn is_home(&mut self, key: Key) {
        self.alone = self.alone.filter(|alone| *alone != key);
    }

    /// A piece is over.
    pub(super) fn remove(&mut self, key: Key) -> Piece {
        let piece = self.slab.remove(key).expect("a piece ends once");
        self.without_pages -= u32::from(!piece.sub_job.has_pages());
        piece
    }

    /// The pieces that fulfil a condition.
    pub(super) fn keys_where(&self, condition: impl Fn(&Piece) -> bool) -> Vec<Key> {
        self.slab.keys_where(condition)
    }

    fn queue_of(&mut self, key: Key) -> &mut VecDeque<Key> {
        let piece = self.slab.expect(key);
        match (piece.in_doubt, piece.sub_job.frees_pages()) {
            (true, _) => &mut self.waiting_to_be_alone,
            (false, true) => &mut self.writes_waiting_for_room,
            (false, false) => &mut self.others_waiting_for_room,
        }
    }
}
