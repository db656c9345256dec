//! The queues. A job waits for pages, a sub-job waits for room, a job without pieces waits for its flushes, an outcome waits to
//! be taken: "what is everything waiting for?" is four lists. It refuses to know time, devices and threads.
//!
//! One turn, driven by the client: completions are settled first, then pages are given, then chains are handed out, writes
//! before reads. That order is the algorithm: what completes frees the pages that the next piece takes in the same turn, and
//! writes free pages sooner than reads, so that the smallest pool moves any mix of jobs (P20).

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;

use super::chain::{BufferStart, Chain, ChainTag, Completion, Operation, Step};
use super::job::Job;
use super::limits::{PAGE_BYTES, SECTOR_BYTES};
use super::outcome::Outcome;
use super::page_pool::PagePool;
use super::slab::{Key, Slab};
use super::sub_job::{State, SubJob, pages_for};

/// Counts since the client was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that are over.
    pub jobs: u64,
    /// Sub-jobs that are over.
    pub sub_jobs: u64,
    /// Bytes of pieces that were cut: what was asked of sources.
    pub bytes: u64,
}

struct Piece {
    job: Key,
    sub_job: SubJob,
}

/// A job's flush of its destinations: one chain without a read.
struct FlushRound {
    job: Key,
    destinations: SmallVec<[u8; 2]>,
    outstanding: u8,
}

/// The mind of one client.
pub struct Scheduler {
    pool: PagePool,
    sub_job_bytes: u64,
    jobs: Slab<Box<Job>>,
    tokens: HashMap<u64, Key>,
    pieces: Slab<Piece>,
    flushes: Slab<FlushRound>,
    waiting_for_pages: VecDeque<Key>,
    writes_waiting_for_room: VecDeque<Key>,
    reads_waiting_for_room: VecDeque<Key>,
    waiting_for_flush: VecDeque<Key>,
    outcomes: VecDeque<(u64, Outcome)>,
    counts: Counts,
}

impl Scheduler {
    /// A scheduler with a pool of so many pages and sub-jobs of at most so many sectors, rounded down to whole pages.
    #[must_use]
    pub fn new(pages: u32, sub_job_sectors: u64) -> Self {
        let sub_job_bytes = sub_job_sectors * SECTOR_BYTES / PAGE_BYTES * PAGE_BYTES;
        assert!(sub_job_bytes > 0 && sub_job_bytes <= u64::from(pages) * PAGE_BYTES, "a sub-job fits into the pool");
        Scheduler {
            pool: PagePool::new(pages),
            sub_job_bytes,
            jobs: Slab::default(),
            tokens: HashMap::new(),
            pieces: Slab::default(),
            flushes: Slab::default(),
            waiting_for_pages: VecDeque::new(),
            writes_waiting_for_room: VecDeque::new(),
            reads_waiting_for_room: VecDeque::new(),
            waiting_for_flush: VecDeque::new(),
            outcomes: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a job. Its outcome, even of a job of no bytes, comes by `take_outcome`.
    pub fn submit(&mut self, job: Box<Job>) {
        let token = job.token;
        let more = job.has_more();
        let key = self.jobs.insert(job);
        let before = self.tokens.insert(token, key);
        assert!(before.is_none(), "two jobs at once with the token {token}");
        if more {
            self.waiting_for_pages.push_back(key);
        } else {
            self.continue_job(key);
        }
    }

    /// Stops a job: nothing of it that waits is begun, and it ends when its last step in flight is home (P27). A job that is
    /// over already is none of our business any more.
    pub fn abort(&mut self, token: u64) {
        if let Some(&key) = self.tokens.get(&token) {
            self.jobs.expect(key).abort();
            self.withdraw_waiting_pieces(key);
            self.continue_job(key);
        }
    }

    /// Stops every job.
    pub fn abort_all(&mut self) {
        let tokens: Vec<u64> = self.tokens.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.abort(token));
    }

    /// Books a completion.
    pub fn settle(&mut self, completion: Completion) {
        match Errand::of(completion.tag) {
            Errand::Piece(key) => self.settle_piece(key, completion),
            Errand::Flush(key) => self.settle_flush(key, completion),
        }
    }

    /// The next chain for the engine, if there is anything to do for which there are pages.
    pub fn next_chain(&mut self) -> Option<Chain> {
        self.give_pages();
        if let Some(chain) = self.next_flush() {
            return Some(chain);
        }
        loop {
            let writes = self.writes_waiting_for_room.pop_front();
            let key = writes.or_else(|| self.reads_waiting_for_room.pop_front())?;
            // A piece that was withdrawn left its key behind.
            if let Some(piece) = self.pieces.get_mut(key) {
                let job = self.jobs.expect(piece.job);
                return Some(piece.sub_job.chain(job, Errand::Piece(key).tag()));
            }
        }
    }

    /// The engine had no room for this chain; it stays the first of its queue.
    pub fn hand_back(&mut self, chain: &Chain) {
        match Errand::of(chain.tag) {
            Errand::Piece(key) => {
                let piece = self.pieces.expect(key);
                piece.sub_job.not_staged();
                let reading = piece.sub_job.is_reading();
                let queue = if reading { &mut self.reads_waiting_for_room } else { &mut self.writes_waiting_for_room };
                queue.push_front(key);
            }
            Errand::Flush(key) => {
                let round = self.flushes.remove(key).expect("a flush that was handed out is known");
                self.waiting_for_flush.push_front(round.job);
            }
        }
    }

    /// A job that is over: its token and what it came to. Its pages are free by now (P3).
    pub fn take_outcome(&mut self) -> Option<(u64, Outcome)> {
        self.outcomes.pop_front()
    }

    /// Whether no job is left and every outcome was taken. Then the pool is whole, or something is broken (P19).
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let idle = self.jobs.is_empty() && self.outcomes.is_empty();
        assert!(!idle || self.pool.free() == self.pool.total(), "P19: after the last job all pages are free");
        idle
    }

    /// The pages.
    #[must_use]
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Strictly first come, first served: a large run at the front is not overtaken by a small one (P20). A job that has got
    /// pages for one piece goes to the end of the queue, so a small job behind a huge one waits for one round (P4).
    fn give_pages(&mut self) {
        while let Some(&key) = self.waiting_for_pages.front() {
            let wanted = self.jobs.get_mut(key).and_then(|job| job.next_piece(self.sub_job_bytes));
            let Some(piece_bytes) = wanted else {
                self.waiting_for_pages.pop_front();
                continue;
            };
            let job = self.jobs.expect(key);
            let Some(run) = self.pool.take(pages_for(job.buffer_bytes(piece_bytes))) else { return };
            let offset = job.cut(piece_bytes);
            let sub_job = SubJob::new(job, offset, piece_bytes, run);
            self.counts.bytes += u64::from(piece_bytes);
            self.waiting_for_pages.pop_front();
            if job.next_piece(self.sub_job_bytes).is_some() {
                self.waiting_for_pages.push_back(key);
            }
            let reading = sub_job.is_reading();
            let piece = self.pieces.insert(Piece { job: key, sub_job });
            self.queue_for_room(piece, reading);
        }
    }

    fn queue_for_room(&mut self, piece: Key, reading: bool) {
        let queue = if reading { &mut self.reads_waiting_for_room } else { &mut self.writes_waiting_for_room };
        queue.push_back(piece);
    }

    fn settle_piece(&mut self, key: Key, completion: Completion) {
        let piece = self.pieces.expect(key);
        let (job_key, job) = (piece.job, self.jobs.expect(piece.job));
        let stopping_before = job.is_stopping();
        piece.sub_job.settle(completion.step, completion.result, job);
        let (stops_now, withdrawn) =
            (job.is_stopping() && !stopping_before, job.is_stopping() && piece.sub_job.can_be_withdrawn());
        match piece.sub_job.state() {
            State::InFlight => {}
            State::Complete => self.finish_piece(key),
            _ if withdrawn => self.finish_piece(key),
            State::WaitingForTurn => {}
            State::WaitingForSlot => {
                let reading = piece.sub_job.is_reading();
                self.queue_for_room(key, reading);
            }
        }
        if stops_now {
            self.withdraw_waiting_pieces(job_key);
        }
        self.continue_job(job_key);
    }

    fn finish_piece(&mut self, key: Key) {
        let piece = self.pieces.remove(key).expect("a piece ends once");
        let job = self.jobs.expect(piece.job);
        let could_cut = job.next_piece(self.sub_job_bytes).is_some();
        let run = piece.sub_job.finish(job);
        self.pool.give_back(run);
        self.counts.sub_jobs += 1;
        if !could_cut && job.next_piece(self.sub_job_bytes).is_some() {
            // While it could have another piece under way it stood in the queue; with all of them under way it did not.
            self.waiting_for_pages.push_back(piece.job);
        }
    }

    /// A stopping job takes back what is not in flight and has written nothing.
    fn withdraw_waiting_pieces(&mut self, job: Key) {
        if self.jobs.expect(job).pieces_are_over() {
            return;
        }
        let waits = |piece: &Piece| piece.job == job && piece.sub_job.can_be_withdrawn();
        self.pieces.keys_where(waits).into_iter().for_each(|piece| self.finish_piece(piece));
    }

    /// What a job does next, after anything of it has changed: the next sequential piece, its flushes, or its end.
    fn continue_job(&mut self, key: Key) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        if !job.pieces_are_over() {
            self.give_the_turn(key);
        } else if job.flushes().next().is_some() {
            if !job.flush_is_under_way {
                job.flush_is_under_way = true;
                self.waiting_for_flush.push_back(key);
            }
        } else if !job.flush_is_under_way {
            let job = self.jobs.remove(key).expect("it was there a line ago");
            self.tokens.remove(&job.token);
            self.counts.jobs += 1;
            self.outcomes.push_back((job.token, job.into_outcome()));
        }
    }

    /// With `WriteOrder::Sequential`: the piece whose predecessor is written may be written.
    fn give_the_turn(&mut self, key: Key) {
        let job = self.jobs.expect(key);
        if !job.is_sequential() {
            return;
        }
        let its_turn = |piece: &Piece| {
            let waits = piece.job == key && piece.sub_job.state() == State::WaitingForTurn;
            waits && job.may_write(piece.sub_job.offset_bytes())
        };
        for piece in self.pieces.keys_where(its_turn) {
            self.pieces.expect(piece).sub_job.turn_has_come();
            self.writes_waiting_for_room.push_back(piece);
        }
    }

    fn next_flush(&mut self) -> Option<Chain> {
        let nowhere = BufferStart { page: 0, offset_bytes: 0 };
        let flush = |device| Step { operation: Operation::Flush, device, offset_bytes: 0, length_bytes: 0, buffer: nowhere };
        while let Some(key) = self.waiting_for_flush.pop_front() {
            let Some(job) = self.jobs.get_mut(key) else { continue };
            let steps: SmallVec<[Step; 2]> = job.flushes().map(|(_, device)| flush(device)).collect();
            let destinations: SmallVec<[u8; 2]> = job.flushes().map(|(index, _)| index as u8).collect();
            if steps.is_empty() {
                // It was aborted while it waited.
                job.flush_is_under_way = false;
                self.continue_job(key);
                continue;
            }
            let round = FlushRound { job: key, outstanding: destinations.len() as u8, destinations };
            let tag = Errand::Flush(self.flushes.insert(round)).tag();
            return Some(Chain { tag, steps, blanks: SmallVec::new() });
        }
        None
    }

    fn settle_flush(&mut self, key: Key, completion: Completion) {
        let round = self.flushes.expect(key);
        let (job_key, destination) = (round.job, usize::from(round.destinations[usize::from(completion.step)]));
        round.outstanding -= 1;
        let over = round.outstanding == 0;
        let job = self.jobs.expect(job_key);
        job.flushed(destination, completion.result);
        if over {
            job.flush_is_under_way = false;
            self.flushes.remove(key);
            self.continue_job(job_key);
        }
    }
}

/// What a chain was sent out for; its tag, the other way round.
enum Errand {
    Piece(Key),
    Flush(Key),
}

const FLUSH_BIT: u64 = 1 << 63;

impl Errand {
    fn tag(self) -> ChainTag {
        match self {
            Errand::Piece(key) => ChainTag(key.to_bits()),
            Errand::Flush(key) => ChainTag(key.to_bits() | FLUSH_BIT),
        }
    }

    fn of(tag: ChainTag) -> Self {
        let key = Key::from_bits(tag.0 & !FLUSH_BIT);
        if tag.0 & FLUSH_BIT == 0 { Errand::Piece(key) } else { Errand::Flush(key) }
    }
}
