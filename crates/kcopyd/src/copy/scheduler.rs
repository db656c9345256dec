//! The queues. A job waits for pages, a sub-job waits for room, a job without pieces waits for its flushes, an outcome waits to
//! be taken: "what is everything waiting for?" is four lists. It refuses to know time, devices and threads.
//!
//! One turn, driven by the client: completions are settled first, then pages are given, then chains are handed out, writes
//! from pages before all others. That order is the algorithm: what completes frees the pages that the next piece takes in the
//! same turn, and such writes free pages sooner than anything else, so that the smallest pool moves any mix of jobs (P20).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use super::chain::{Chain, Completion, DeviceIndex, StepResult};
use super::errand::{ChainIs, Errand, FlushRound};
use super::job::Job;
use super::limits::{PAGE_BYTES, PIECES_WITHOUT_PAGES_MAX, SECTOR_BYTES, ZERO_PIECE_BYTES};
use super::outcome::Outcome;
use super::outcome::libc_errno::EAGAIN;
use super::page_pool::{PagePool, PageRun};
use super::pieces::{Piece, Pieces};
use super::slab::{Key, Slab};
use super::sub_job::{State, SubJob, Zeroed, pages_for};
use super::throttle::{Now, SharedThrottle, Throttle};

/// Counts since the client was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that are over.
    pub jobs: u64,
    /// Sub-jobs that are over.
    pub sub_jobs: u64,
    /// Bytes of pieces that were cut: what was asked of sources, or to be made zero.
    pub bytes: u64,
    /// What became of the zeroes.
    pub zeroed: Zeroed,
}

/// A job that is over.
#[derive(Debug)]
pub struct Ended {
    /// The caller's name for it.
    pub token: u64,
    /// What it came to.
    pub outcome: Outcome,
    /// The devices that it used, each as often as the job named it.
    pub devices: SmallVec<[DeviceIndex; 2]>,
}

/// What is known of a job from outside, until its outcome is there.
struct Ticket {
    job: Key,
    length_bytes: u64,
    destinations: usize,
}

/// The mind of one client.
pub struct Scheduler {
    pool: PagePool,
    sub_job_bytes: u64,
    jobs: Slab<Box<Job>>,
    tickets: HashMap<u64, Ticket>,
    pieces: Pieces,
    flushes: Slab<FlushRound>,
    waiting_for_pages: VecDeque<Key>,
    waiting_for_flush: VecDeque<Key>,
    outcomes: VecDeque<Ended>,
    counts: Counts,
    throttle: Option<SharedThrottle>,
    throttled_for: Option<Duration>,
    /// Chains that the throttle knows of.
    chains_out: u64,
}

/// A client that broke hears of its chains no more; who shares its throttle is not to wait for them.
impl Drop for Scheduler {
    fn drop(&mut self) {
        self.throttle.iter().for_each(|throttle| throttle.lock().sharer_is_gone(self.chains_out));
    }
}

impl Scheduler {
    /// A scheduler with a pool of so many pages and sub-jobs of at most so many sectors, rounded down to whole pages.
    #[must_use]
    pub fn new(pages: u32, sub_job_sectors: u64, throttle: Option<SharedThrottle>) -> Self {
        let sub_job_bytes = sub_job_sectors * SECTOR_BYTES / PAGE_BYTES * PAGE_BYTES;
        assert!(sub_job_bytes > 0 && sub_job_bytes <= u64::from(pages) * PAGE_BYTES, "a sub-job fits into the pool");
        Scheduler {
            pool: PagePool::new(pages),
            sub_job_bytes,
            jobs: Slab::default(),
            tickets: HashMap::new(),
            pieces: Pieces::default(),
            flushes: Slab::default(),
            waiting_for_pages: VecDeque::new(),
            waiting_for_flush: VecDeque::new(),
            outcomes: VecDeque::new(),
            counts: Counts::default(),
            throttle,
            throttled_for: None,
            chains_out: 0,
        }
    }

    /// Takes a job. Its outcome, even of a job of no bytes, comes by `take_outcome`.
    pub fn submit(&mut self, mut job: Box<Job>) {
        job.take_sub_job_size(self.sub_job_bytes);
        let token = job.token;
        let (length_bytes, destinations) = (job.length_bytes(), job.destinations.len());
        let key = self.jobs.insert(job);
        let before = self.tickets.insert(token, Ticket { job: key, length_bytes, destinations });
        assert!(before.is_none(), "two jobs at once with the token {token}");
        self.continue_job(key);
    }

    /// Stops a job: nothing of it that waits is begun, and it ends when its last step in flight is home (P27). A job that is
    /// over already is none of our business any more.
    pub fn abort(&mut self, token: u64) {
        if let Some(key) = self.tickets.get(&token).map(|ticket| ticket.job) {
            self.jobs.expect(key).abort();
            self.withdraw_waiting_pieces(key);
            self.continue_job(key);
        }
    }

    /// Stops every job.
    pub fn abort_all(&mut self) {
        let mut tokens: Vec<u64> = self.tickets.keys().copied().collect();
        // A map has no order of its own, and nothing here may depend on chance.
        tokens.sort_unstable();
        tokens.into_iter().for_each(|token| self.abort(token));
    }

    /// Books a completion. Without a throttle `now` is not looked at, here and in `next_chain`.
    pub fn settle(&mut self, completion: Completion, now: Now) {
        let chain_is_home = match Errand::of(completion.tag) {
            Errand::Piece(key) => self.settle_piece(key, completion),
            Errand::Flush(key) => self.settle_flush(key, completion),
        };
        if let (Some(throttle), ChainIs::Home) = (&self.throttle, chain_is_home) {
            throttle.lock().chain_ends(now);
            self.chains_out -= 1;
        }
    }

    /// The next chain for the engine, if there is anything to do for which there are pages.
    pub fn next_chain(&mut self, now: Now) -> Option<Chain> {
        let chain = self.choose_chain(now)?;
        if let Some(throttle) = &self.throttle {
            throttle.lock().chain_begins(chain.steps.len() as u32, now);
            self.chains_out += 1;
        }
        Some(chain)
    }

    /// If the throttle let nothing more begin when the last chain was asked for: how long it takes until it may.
    #[must_use]
    pub fn throttled_for(&self) -> Option<Duration> {
        self.throttled_for
    }

    fn choose_chain(&mut self, now: Now) -> Option<Chain> {
        self.give_pages(now);
        if let Some(chain) = self.next_flush() {
            return Some(chain);
        }
        let (key, piece) = self.pieces.next_with_room()?;
        let job = self.jobs.expect(piece.job);
        Some(piece.sub_job.chain(job, Errand::Piece(key).tag()))
    }

    /// The engine had no room for this chain; it stays the first of its queue.
    pub fn hand_back(&mut self, chain: &Chain, now: Now) {
        if let Some(throttle) = &self.throttle {
            throttle.lock().chain_did_not_begin(chain.steps.len() as u32, now);
            self.chains_out -= 1;
        }
        match Errand::of(chain.tag) {
            Errand::Piece(key) => self.pieces.not_staged(key),
            Errand::Flush(key) => {
                let round = self.flushes.remove(key).expect("a flush that was handed out is known");
                self.waiting_for_flush.push_front(round.job);
            }
        }
    }

    /// A job that is over. Its pages are free by now (P3).
    pub fn take_outcome(&mut self) -> Option<Ended> {
        self.outcomes.pop_front()
    }

    /// For a client that broke: the jobs that have no outcome, each with its token, length in bytes and number of destinations.
    pub fn unfinished(&self) -> impl Iterator<Item = (u64, u64, usize)> + '_ {
        self.tickets.iter().map(|(&token, ticket)| (token, ticket.length_bytes, ticket.destinations))
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
    /// pages for one piece goes to the end of the queue, so a small job behind a huge one waits for one round (P4). Throttled,
    /// nothing is begun, and so nothing is held while time has to pass.
    fn give_pages(&mut self, now: Now) {
        self.throttled_for = None;
        let throttle = self.throttle.clone();
        let mut throttle = throttle.as_ref().map(SharedThrottle::lock);
        while let Some(&key) = self.waiting_for_pages.front() {
            if throttle.is_some() && self.pieces.one_waits_to_begin() && !canary!(RequestsChargedLate) {
                // Its requests are charged when its chain goes out; whether another may begin is seen after that.
                return;
            }
            let Some(piece_bytes) = self.next_piece(key, throttle.as_deref()) else {
                self.leave_queue_for_pages();
                continue;
            };
            if let Some(Err(wait)) = throttle.as_mut().map(|throttle| throttle.admit(now)) {
                self.throttled_for = Some(wait);
                return;
            }
            let job = self.jobs.expect(key);
            let Some(run) = Self::memory(&mut self.pool, &self.pieces, job, piece_bytes) else { return };
            let offset = job.cut(piece_bytes);
            let sub_job = SubJob::new(job, offset, piece_bytes, run, self.sub_job_bytes as u32);
            self.counts.bytes += u64::from(piece_bytes);
            if let Some(throttle) = &mut throttle {
                throttle.charge_bytes(u64::from(piece_bytes));
            }
            self.leave_queue_for_pages();
            self.queue_for_pages(key);
            self.pieces.begin(key, sub_job);
        }
    }

    /// A job stands in the queue for pages, once, as long as it could have another piece under way.
    fn queue_for_pages(&mut self, key: Key) {
        let job = self.jobs.expect(key);
        if !job.is_queued && job.next_piece(self.sub_job_bytes).is_some() {
            job.is_queued = true;
            let place = if canary!(LastComeFirstServed) { 0 } else { self.waiting_for_pages.len() };
            self.waiting_for_pages.insert(place, key);
        }
    }

    fn leave_queue_for_pages(&mut self) {
        let key = self.waiting_for_pages.pop_front();
        if let Some(job) = key.and_then(|key| self.jobs.get_mut(key)) {
            job.is_queued = false;
        }
    }

    /// The length of the piece that a job would cut now.
    fn next_piece(&mut self, key: Key, throttle: Option<&Throttle>) -> Option<u32> {
        let job = self.jobs.get_mut(key)?;
        let most_bytes = if job.is_zeroing() { ZERO_PIECE_BYTES } else { self.sub_job_bytes };
        job.next_piece(throttle.map_or(most_bytes, |throttle| throttle.piece_bytes(most_bytes)))
    }

    /// The memory for a piece, if it can be had now: `Some(None)` for a piece of zeroes, which needs none but is counted.
    fn memory(pool: &mut PagePool, pieces: &Pieces, job: &Job, piece_bytes: u32) -> Option<Option<PageRun>> {
        if job.is_zeroing() {
            return (pieces.without_pages() < PIECES_WITHOUT_PAGES_MAX).then_some(None);
        }
        pool.take(pages_for(job.buffer_bytes(piece_bytes))).map(Some)
    }

    fn settle_piece(&mut self, key: Key, completion: Completion) -> ChainIs {
        let piece = self.pieces.expect(key);
        let (job_key, job) = (piece.job, self.jobs.expect(piece.job));
        let stopping_before = job.is_stopping();
        piece.sub_job.settle(completion.step, completion.result, job);
        let stops_now = job.is_stopping() && !stopping_before;
        let state = piece.sub_job.state();
        // What a failure means for other pieces does not wait for the rest of this chain (P13).
        if state != State::InFlight || !canary!(DoubtComesLate) {
            piece.count_doubt(job);
        }
        if state == State::InFlight {
            if stops_now {
                self.withdraw_waiting_pieces(job_key);
            }
            return ChainIs::Out;
        }
        let over = state == State::Complete || (job.is_stopping() && piece.sub_job.can_be_withdrawn());
        self.pieces.is_home(key);
        if over {
            self.finish_piece(key);
        } else if state == State::WaitingForSlot
            && !(canary!(LostOnEagain) && completion.result == StepResult::Failed(EAGAIN))
        {
            self.pieces.wait_for_room(key);
        }
        if stops_now {
            self.withdraw_waiting_pieces(job_key);
        }
        self.continue_job(job_key);
        ChainIs::Home
    }

    fn finish_piece(&mut self, key: Key) {
        let piece = self.pieces.remove(key);
        let job = self.jobs.expect(piece.job);
        job.pieces_in_doubt -= u32::from(piece.in_doubt);
        let (run, zeroed) = piece.sub_job.finish(job);
        if let Some(run) = run.filter(|_| !(canary!(PagesLeak) && job.is_stopping())) {
            self.pool.give_back(run);
        }
        self.counts.sub_jobs += 1;
        self.counts.zeroed.offloaded_bytes += zeroed.offloaded_bytes;
        self.counts.zeroed.written_bytes += zeroed.written_bytes;
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
            self.queue_for_pages(key);
        } else if job.flushes().next().is_some() {
            if !job.flush_is_under_way {
                job.flush_is_under_way = true;
                self.waiting_for_flush.push_back(key);
            }
        } else if !job.flush_is_under_way {
            let job = self.jobs.remove(key).expect("it was there a line ago");
            let (token, devices) = (job.token, job.devices());
            self.counts.jobs += 1;
            self.outcomes.push_back(Ended { token, outcome: job.into_outcome(), devices });
            // Last of all: should anything above break, the ticket still says that this job owes an outcome.
            self.tickets.remove(&token);
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
            self.pieces.wait_for_room(piece);
        }
    }

    fn next_flush(&mut self) -> Option<Chain> {
        while let Some(key) = self.waiting_for_flush.pop_front() {
            let Some(job) = self.jobs.get_mut(key) else { continue };
            if let Some(round) = FlushRound::of(key, job) {
                let steps = round.steps(job);
                return Some(Chain { tag: Errand::Flush(self.flushes.insert(round)).tag(), steps, blanks: SmallVec::new() });
            }
            // It was aborted while it waited.
            job.flush_is_under_way = false;
            self.continue_job(key);
        }
        None
    }

    fn settle_flush(&mut self, key: Key, completion: Completion) -> ChainIs {
        let round = self.flushes.expect(key);
        let job_key = round.job;
        let job = self.jobs.expect(job_key);
        let chain_is = round.settle(completion, job);
        if chain_is == ChainIs::Home {
            job.flush_is_under_way = false;
            self.flushes.remove(key);
            self.continue_job(job_key);
        }
        chain_is
    }
}
