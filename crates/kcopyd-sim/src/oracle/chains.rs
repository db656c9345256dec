//! What the mind may ask of the engine: every chain is looked at when the engine has taken it, before anything of it starts.

use std::ops::Range;

use smallvec::SmallVec;

use kcopyd::copy::chain::{BufferStart, Chain, Completion, Operation, Step, StepResult};

use super::model::{Course, JobModel, PAGE, PieceModel};
use super::{Breach, Judged, Oracle, breach};
use crate::scenario::Party;

/// Pieces of one job under way at once, if they are of the client's size; if a queue makes them shorter; and of zeroes.
pub const PIECES_MAX: u32 = 24;
const SHORT_PIECES_MAX: u64 = 96;
const ZERO_PIECES_MAX: u32 = 8;

/// A piece of zeroes is no larger than this.
const ZERO_PIECE_MAX: u64 = 32 << 20;

impl JobModel {
    /// How many pieces of it may be under way: as many as hold the bytes of 24 of the client's size.
    pub fn pieces_at_once(&self, sub_job_bytes: u64) -> u32 {
        if self.is_zeroing() {
            return ZERO_PIECES_MAX;
        }
        let shorter = (sub_job_bytes / self.piece_max).max(1);
        (shorter * u64::from(PIECES_MAX)).min(SHORT_PIECES_MAX) as u32
    }
}

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Staged,
    Started,
    Ended(StepResult),
    Told,
}

/// A step of a chain in the engine's hands.
#[derive(Clone, Copy, Debug)]
pub struct StepModel {
    pub party: Party,
    pub operation: Operation,
    /// Where it begins, in bytes of the job.
    pub start: u64,
    pub length: u64,
    pub stage: Stage,
}

impl StepModel {
    pub fn range(&self) -> Range<u64> {
        self.start..self.start + self.length
    }
}

/// A chain in the engine's hands.
#[derive(Debug)]
pub struct ChainModel {
    pub token: u64,
    /// Where its piece begins; nothing for flushes.
    pub piece: Option<u64>,
    pub steps: SmallVec<[StepModel; 3]>,
    /// Whether the chain's read came home in full.
    pub read_in_full: bool,
    /// Steps that the scheduler has not been told of.
    pub outstanding: u32,
    pages: Range<u32>,
    of_piece: u32,
}

impl ChainModel {
    pub fn begins_with_read(&self) -> bool {
        self.steps[0].operation == Operation::Read
    }

    /// Whether a step is a flush that waits for the write before it.
    pub fn waits_for_write(&self, index: usize) -> bool {
        index > 0
            && self.steps[index].operation == Operation::Flush
            && matches!(self.steps[index - 1].operation, Operation::Write | Operation::Zero)
    }
}

impl Oracle {
    /// Whether the engine has room for all of a chain; if not, it must hand it back.
    #[must_use]
    pub fn has_room_for(&self, chain: &Chain) -> bool {
        self.steps + chain.steps.len() as u32 <= self.depth
    }

    /// A chain for which there is room is about to be staged: looked at as a whole.
    pub fn staging(&mut self, chain: &Chain, now_ns: u64) {
        if self.breach.is_none()
            && let Err(breach) = self.look_at_chain(chain, now_ns)
        {
            self.breach = Some(breach);
        }
    }

    fn look_at_chain(&mut self, chain: &Chain, now_ns: u64) -> Judged {
        let tag = chain.tag.0;
        if self.chains.contains_key(&tag) {
            return breach("rule 6", format!("two chains with the tag {tag:#x} at once"));
        }
        let (token, steps) = self.whose(chain)?;
        self.steps += steps.len() as u32;
        self.digest.add(token << 32 | tag & 0xFFFF_FFFF);
        let job = self.jobs[token as usize].as_mut().expect("whose has seen that it is there");
        job.chains += 1;
        let outstanding = steps.len() as u32;
        if steps[0].operation == Operation::Flush {
            flushes_may_begin(job, &steps)?;
            let model = ChainModel { token, piece: None, steps, read_in_full: false, outstanding, pages: 0..0, of_piece: 0 };
            self.chains.insert(tag, model);
            return Ok(());
        }
        let piece = match piece_of(job, chain, &steps)? {
            Known::Piece(piece) => piece,
            Known::New => self.begin_piece(token, chain, &steps, now_ns)?,
        };
        let pages = pages_of(chain);
        let of_piece = if pages.is_empty() { 0 } else { piece.pages };
        if let Err(text) = self.pages.take(&pages, tag, of_piece) {
            return breach("P19", format!("job {token}, piece at {}: {text}", piece.start));
        }
        let piece = Some(piece.start);
        self.chains.insert(tag, ChainModel { token, piece, steps, read_in_full: false, outstanding, pages, of_piece });
        Ok(())
    }

    /// Whose chain it is, and its steps as parts of that job.
    fn whose(&self, chain: &Chain) -> Result<(u64, SmallVec<[StepModel; 3]>), Breach> {
        let mut token = None;
        let mut steps = SmallVec::new();
        if !(1..=33).contains(&chain.steps.len()) {
            return breach("chain", format!("a chain of {} steps", chain.steps.len()));
        }
        for (index, step) in chain.steps.iter().enumerate() {
            let Some(whose) = self.ends.get(step.device.0 as usize).copied().flatten() else {
                return breach("P33", format!("{step:?} uses a device that no job uses any more"));
            };
            let Some(job) = self.jobs[whose.token as usize].as_ref() else {
                return breach("P1", format!("{step:?} is for job {}, which has ended", whose.token));
            };
            if *token.get_or_insert(whose.token) != whose.token {
                return breach("chain", format!("a chain of job {token:?} and of job {}", whose.token));
            }
            if step.operation == Operation::Read && index > 0 {
                return breach("chain", "a read that is not the first step".to_owned());
            }
            steps.push(step_of(job, whose.party, step)?);
        }
        Ok((token.expect("a chain has a step"), steps))
    }

    /// The first chain of a piece: may the job begin one now, and is it the next one?
    fn begin_piece(&mut self, token: u64, chain: &Chain, steps: &[StepModel], now_ns: u64) -> Result<PieceModel, Breach> {
        let job = self.jobs[token as usize].as_mut().expect("whose has seen that it is there");
        let (start, length) = (steps[0].start, steps[0].length);
        let end = start + length;
        match job.course {
            Course::Running => {}
            Course::Stopped => return breach("P13", format!("job {token} begins a piece at {start} after an error")),
            Course::Aborted => return breach("P27", format!("job {token} begins a piece at {start} after its abort")),
        }
        job.begun_in_doubt += u32::from(!job.suspects.is_empty());
        let at_once = job.pieces_at_once(self.sub_job_bytes);
        if !job.ignore && job.begun_in_doubt > at_once {
            return breach("P13", format!("job {token} begins piece after piece in spite of {:?}", job.suspects));
        }
        // Where a piece of zeroes ends is not seen at once if its destinations have to be written to.
        let next = if job.is_zeroing() { start >= job.cursor() } else { start == job.cursor() };
        if !next || end > job.length {
            return breach("cut", format!("job {token} begins a piece {start}..{end}, not at {}", job.cursor()));
        }
        let most = if job.is_zeroing() { ZERO_PIECE_MAX } else { self.sub_job_bytes.min(job.piece_max) };
        if length > most || job.chains > at_once {
            return breach("cut", format!("job {token}: piece of {length} bytes, {} chains under way", job.chains));
        }
        if !job.is_zeroing() && steps[0].operation != Operation::Read {
            return breach("P8", format!("job {token}: a piece at {start} begins with a {:?}", steps[0].operation));
        }
        let padded = job.destinations.iter().map(|to| if end == job.length { to.padded - start } else { length }).max();
        let pages = if job.is_zeroing() { 0 } else { padded.unwrap_or(length).div_ceil(PAGE) as u32 };
        let piece = PieceModel { start, end, pages, tag: chain.tag.0 };
        job.pieces.push(piece);
        self.begun += 1;
        if start == 0 {
            first_come_first_served(job, self.begun, self.most_at_once, &mut self.last_first_piece)?;
        }
        if let Err(text) = self.rate.begin(length, steps.len(), now_ns) {
            return breach("P22", format!("job {token}: {text}"));
        }
        Ok(piece)
    }

    /// Books a completion: it must say what happened, once.
    pub(super) fn settle(&mut self, completion: &Completion) -> Judged {
        let tag = completion.tag.0;
        let Some(chain) = self.chains.get_mut(&tag) else {
            return breach("P1", format!("a completion of a chain {tag:#x} that is not in flight"));
        };
        let index = usize::from(completion.step);
        if index >= chain.steps.len() {
            return breach("rule 6", format!("a completion of step {index} of {tag:#x}"));
        }
        let over = |index: usize| !matches!(chain.steps[index].stage, Stage::Staged | Stage::Started);
        let true_of_it = match (completion.result, chain.steps[index].stage) {
            (StepResult::NotAttempted, Stage::Staged) => {
                let after_read = chain.begins_with_read() && index > 0 && over(0) && !chain.read_in_full;
                after_read || chain.waits_for_write(index) && over(index - 1)
            }
            (result, Stage::Ended(ended)) => result == ended,
            _ => false,
        };
        let step = &mut chain.steps[index];
        if !true_of_it {
            return breach("rule 6", format!("{:?} is said of a step that is {:?}", completion.result, step.stage));
        }
        step.stage = Stage::Told;
        self.steps -= 1;
        chain.outstanding -= 1;
        if chain.outstanding == 0 {
            let chain = self.chains.remove(&tag).expect("it was there a line ago");
            self.pages.give_back(&chain.pages, chain.of_piece);
            if let Some(job) = self.jobs[chain.token as usize].as_mut() {
                job.chains -= 1;
            }
        }
        Ok(())
    }
}

/// A step as a part of its job: within its region, by the right party, in the device's units.
fn step_of(job: &JobModel, party: Party, step: &Step) -> Result<StepModel, Breach> {
    let (token, operation) = (job.token, step.operation);
    let end = job.end(party).expect("the ends of a job are known");
    let zeroes = step.buffer.page == BufferStart::ZEROES.page;
    let fits = match (operation, party) {
        (Operation::Read, Party::Source) => true,
        (Operation::Write, Party::Destination(_)) => zeroes == job.is_zeroing(),
        (Operation::Zero, Party::Destination(_)) => job.is_zeroing(),
        (Operation::Flush, Party::Destination(_)) => {
            return Ok(StepModel { party, operation, start: 0, length: 0, stage: Stage::Staged });
        }
        _ => false,
    };
    if !fits {
        return breach("P6", format!("job {token}: {step:?} for its {party:?}"));
    }
    let length = u64::from(step.length_bytes);
    let most = match party {
        Party::Source => job.length,
        Party::Destination(index) => job.destinations[usize::from(index)].padded,
    };
    let start = step.offset_bytes.wrapping_sub(end.offset);
    if length == 0 || step.offset_bytes < end.offset || start + length > most {
        return breach("P6", format!("job {token}: {step:?} is not in its {party:?}'s region"));
    }
    if !step.offset_bytes.is_multiple_of(end.request_unit) || !length.is_multiple_of(end.request_unit) {
        return breach("P9", format!("job {token}: {step:?} is not in units of {}", end.request_unit));
    }
    Ok(StepModel { party, operation, start, length, stage: Stage::Staged })
}

enum Known {
    Piece(PieceModel),
    New,
}

/// To which piece a chain belongs: all its steps must agree.
fn piece_of(job: &mut JobModel, chain: &Chain, steps: &[StepModel]) -> Result<Known, Breach> {
    let token = job.token;
    if job.is_zeroing() {
        let Some(piece) = job.piece_tagged(chain.tag.0) else { return Ok(Known::New) };
        let end = steps.iter().map(|step| step.start + step.length).max().unwrap_or(0).max(piece.end);
        let within = |step: &StepModel| step.operation == Operation::Flush || piece.start <= step.start;
        if !steps.iter().all(within) || end > piece.start + ZERO_PIECE_MAX || !job.extend_piece(piece, end) {
            return breach("P6", format!("job {token}: the chain {:#x} has left its piece", chain.tag.0));
        }
        return Ok(Known::Piece(piece));
    }
    let start_of = |step: &StepModel, buffer: &BufferStart| step.start.checked_sub(u64::from(buffer.offset_bytes));
    let first = chain.steps[0].buffer;
    let start = start_of(&steps[0], &first);
    let agree =
        steps.iter().zip(&chain.steps).filter(|(model, _)| model.operation != Operation::Flush).all(|(model, step)| {
            step.buffer.page == first.page && start.is_some() && start_of(model, &step.buffer) == start
        });
    let (true, Some(start)) = (agree, start) else {
        return breach("P5", format!("job {token}: memory and places of {:?} do not belong together", chain.steps));
    };
    let Some(piece) = job.piece_at(start) else { return Ok(Known::New) };
    let within = |step: &StepModel| step.start + step.length <= piece.end || piece.end == job.length;
    if !steps.iter().all(within) {
        return breach("P6", format!("job {token}: {:?} is more than the piece at {start}", chain.steps));
    }
    Ok(Known::Piece(piece))
}

/// The pages that a chain's steps and blanks touch; none if it moves the engine's own zeros.
fn pages_of(chain: &Chain) -> Range<u32> {
    let page = chain.steps[0].buffer.page;
    if page == BufferStart::ZEROES.page || chain.steps[0].operation == Operation::Zero {
        return 0..0;
    }
    let moves = chain.steps.iter().filter(|step| step.operation != Operation::Flush);
    let steps = moves.map(|step| (step.buffer, step.length_bytes));
    let places = steps.chain(chain.blanks.iter().map(|blank| (blank.buffer, blank.length_bytes)));
    let (mut first, mut end) = (u64::MAX, 0);
    for (buffer, length) in places {
        let start = u64::from(buffer.page) * PAGE + u64::from(buffer.offset_bytes);
        first = first.min(start / PAGE);
        end = end.max((start + u64::from(length)).div_ceil(PAGE));
    }
    first as u32..end as u32
}

/// A round of flushes comes after the last piece, and never after an abort.
fn flushes_may_begin(job: &JobModel, steps: &[StepModel]) -> Judged {
    let token = job.token;
    if !steps.iter().all(|step| step.operation == Operation::Flush) {
        return breach("chain", format!("job {token}: flushes and others in one chain"));
    }
    if job.course == Course::Aborted {
        return breach("P27", format!("job {token}: a flush after its abort"));
    }
    if job.chains > 1 || !job.may_have_stopped() && job.cursor() < job.length {
        return breach("P18", format!("job {token}: a flush before the last write, at {}", job.cursor()));
    }
    Ok(())
}

/// Pages are given in the order in which jobs came, and a job that waits is not overtaken again and again (P4, P20).
fn first_come_first_served(job: &JobModel, begun: u64, most_at_once: u32, last_first_piece: &mut u64) -> Judged {
    let token = job.token;
    let waited = begun - job.begun_at_submission;
    let most = (job.jobs_at_submission + 1) * u64::from(most_at_once + 1);
    if waited > most {
        return breach("P4", format!("job {token}: {waited} pieces of others were begun before its first"));
    }
    if job.sequence <= *last_first_piece {
        let text = format!("job {token}, the {}., begins after the {last_first_piece}.", job.sequence);
        return breach("P20", text);
    }
    *last_first_piece = job.sequence;
    Ok(())
}
