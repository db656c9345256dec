//! One device's part of one sub-job: how far it has come, what to ask for next, and what a result means. Short results are
//! continued, interruptions retried within a bound, and, if errors are to be ignored, a bad range is narrowed down to the
//! granule so that only what is truly bad is lost. It refuses to know which device it is and who else works on the piece.

use std::ops::Range;

use super::chain::StepResult;
use super::flags::OnError;
use super::limits::{ATTEMPTS_WITHOUT_PROGRESS_MAX, PAGE_BYTES};
use super::outcome::libc_errno::{EAGAIN, EINTR, EIO};

/// How much of a piece one device has behind it.
#[derive(Clone, Debug)]
pub struct Transfer {
    position: u32,
    end: u32,
    /// The most that the next attempt asks for.
    span: u32,
    span_max: u32,
    /// A short result counts only in multiples of this, or the next attempt could not go the direct way.
    alignment: u32,
    attempts_without_progress: u8,
    company: Company,
}

/// In what company an attempt is made. The kernel merges adjacent requests, of other jobs too, and some drivers fail a merged
/// request as a whole: then a failure says that something bad was near, not where. So a failure counts only if the attempt
/// was made while no neighbour was in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Together with whatever else there is.
    Any,
    /// Alone, to find out whose failure it was.
    None,
}

/// What a result means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing went wrong; go on if anything is left.
    Fine,
    /// This range failed for good. If errors are ignored, the transfer goes on behind it; otherwise it is over.
    Failed(Range<u32>, i32),
}

impl Transfer {
    /// A transfer of so many bytes; `alignment_bytes` is 1 where any length may be asked for.
    #[must_use]
    pub fn new(length: u32, alignment_bytes: u32) -> Self {
        Transfer {
            position: 0,
            end: length,
            span: length,
            span_max: length,
            alignment: alignment_bytes,
            attempts_without_progress: 0,
            company: Company::Any,
        }
    }

    /// What to ask for next, in bytes of the piece; nothing when it is over.
    #[must_use]
    pub fn next(&self) -> Option<Range<u32>> {
        (self.position < self.end).then(|| self.position..self.end.min(self.position + self.span))
    }

    /// How many bytes of the piece are behind it: moved, or given up.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.position
    }

    /// Whether nothing has been moved or given up yet.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.position == 0 && self.end > 0
    }

    /// In what company the next attempt is to be made.
    #[must_use]
    pub fn company(&self) -> Company {
        self.company
    }

    /// From now on no attempt asks for more than this.
    pub fn limit_span(&mut self, span_max: u32) {
        self.span_max = span_max;
        self.span = self.span.min(span_max);
    }

    /// Whether the next attempt, if it succeeds, completes the piece.
    #[must_use]
    pub fn next_completes(&self) -> bool {
        self.span >= self.end - self.position
    }

    /// Books the result of the attempt that `next` named. `narrowings` is what the job may still spend on narrowing.
    pub fn settle(&mut self, result: StepResult, on_error: OnError, narrowings: &mut u32) -> Verdict {
        let asked = self.next().expect("only a transfer that asked for something has a result");
        let length = asked.end - asked.start;
        match result {
            StepResult::NotAttempted if canary!(NotAttemptedIsSuccess) => {
                self.settle(StepResult::Done(length), on_error, narrowings)
            }
            StepResult::Done(moved)
                if moved == length || canary!(ShortIsSuccess) || moved == 0 && canary!(EmptyIsSuccess) =>
            {
                self.advance(length);
                self.company = Company::Any;
                self.span = self.span.saturating_mul(2).min(self.span_max);
                Verdict::Fine
            }
            StepResult::Done(moved) => {
                assert!(moved < length, "an engine claims to have moved {moved} of {length} bytes");
                let kept = if canary!(KeepsUnaligned) { moved } else { moved - moved % self.alignment };
                if kept > 0 {
                    self.advance(kept);
                    return Verdict::Fine;
                }
                self.again_or_fail(asked, EIO, on_error, narrowings)
            }
            StepResult::Failed(errno @ (EINTR | EAGAIN)) => self.again_or_fail(asked, errno, on_error, narrowings),
            StepResult::Failed(errno) => self.fail(asked, errno, on_error, narrowings),
            StepResult::NotAttempted => Verdict::Fine,
        }
    }

    fn advance(&mut self, moved: u32) {
        self.position += moved;
        self.attempts_without_progress = 0;
    }

    fn again_or_fail(&mut self, asked: Range<u32>, errno: i32, on_error: OnError, narrowings: &mut u32) -> Verdict {
        self.attempts_without_progress += 1;
        if self.attempts_without_progress < ATTEMPTS_WITHOUT_PROGRESS_MAX || canary!(RetriesForEver) {
            return Verdict::Fine;
        }
        self.fail(asked, errno, on_error, narrowings)
    }

    /// Example: 512 KiB fail twice, the second time alone; with errors ignored the next attempts ask for 256 KiB, 128 KiB … 4 KiB at the same place. The
    /// 4 KiB that fail alone are given up, and the attempts behind them grow again from 4 KiB with each success.
    fn fail(&mut self, asked: Range<u32>, errno: i32, on_error: OnError, narrowings: &mut u32) -> Verdict {
        self.attempts_without_progress = 0;
        if self.company == Company::Any && !canary!(NeighbourIsBlamed) {
            self.company = Company::None;
            return Verdict::Fine;
        }
        if on_error == OnError::Stop {
            self.end = self.position;
            return Verdict::Failed(asked, errno);
        }
        let granule = self.alignment.max(PAGE_BYTES as u32);
        let length = asked.end - asked.start;
        if length > granule && *narrowings > 0 {
            *narrowings -= 1;
            let half = length / 2;
            self.span = (half - half % granule).max(granule);
            return Verdict::Fine;
        }
        self.advance(if canary!(GivesUpTheRest) { self.end - self.position } else { length });
        Verdict::Failed(asked, errno)
    }
}

#[cfg(test)]
// One range that failed is a list of one range.
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    const LENGTH: u32 = 512 * 1024;

    /// A device on which the byte ranges in `bad` fail; returns what was given up and how many attempts it took.
    fn run(bad: &[Range<u32>], on_error: OnError) -> (Vec<Range<u32>>, usize) {
        let mut transfer = Transfer::new(LENGTH, 512);
        let (mut failed, mut attempts, mut narrowings) = (Vec::new(), 0, 1000);
        while let Some(asked) = transfer.next() {
            attempts += 1;
            let hit = bad.iter().any(|bad| bad.start < asked.end && asked.start < bad.end);
            let result = if hit { StepResult::Failed(EIO) } else { StepResult::Done(asked.end - asked.start) };
            if let Verdict::Failed(range, _) = transfer.settle(result, on_error, &mut narrowings) {
                failed.push(range);
            }
        }
        (failed, attempts)
    }

    #[test]
    fn what_was_not_attempted_is_asked_for_again() {
        let mut transfer = Transfer::new(LENGTH, 512);
        let asked = transfer.next();
        assert!(matches!(transfer.settle(StepResult::NotAttempted, OnError::Stop, &mut 0), Verdict::Fine));
        assert_eq!(transfer.next(), asked);
    }

    #[test]
    fn p14_only_the_bad_page_is_given_up() {
        for page in [0, 1, 63, 64, 127] {
            let bad = page * 4096..page * 4096 + 512;
            let (failed, attempts) = run(std::slice::from_ref(&bad), OnError::Ignore);
            assert_eq!(failed, [page * 4096..(page + 1) * 4096], "page {page}");
            assert!(attempts < 40, "page {page} took {attempts} attempts");
        }
    }

    #[test]
    fn p14_a_piece_that_is_bad_altogether_is_given_up_in_bounded_attempts() {
        let (failed, attempts) = run(std::slice::from_ref(&(0..LENGTH)), OnError::Ignore);
        assert_eq!(failed.iter().map(|range| range.end - range.start).sum::<u32>(), LENGTH);
        assert!(attempts <= 1 + 7 + 128);
    }

    #[test]
    fn p13_by_default_the_first_failure_ends_the_transfer() {
        let (failed, attempts) = run(&[0..1, 300_000..300_001], OnError::Stop);
        assert_eq!((failed, attempts), (vec![0..LENGTH], 2), "the second time alone");
    }

    #[test]
    fn p17_a_failure_that_was_a_neighbours_is_none() {
        let mut transfer = Transfer::new(LENGTH, 512);
        assert_eq!(transfer.settle(StepResult::Failed(EIO), OnError::Stop, &mut 0), Verdict::Fine);
        assert_eq!((transfer.next(), transfer.company()), (Some(0..LENGTH), Company::None));
        assert_eq!(transfer.settle(StepResult::Done(LENGTH), OnError::Stop, &mut 0), Verdict::Fine);
        assert_eq!((transfer.next(), transfer.company()), (None, Company::Any));
    }

    #[test]
    fn p16_short_results_are_continued_from_an_aligned_place() {
        let mut transfer = Transfer::new(LENGTH, 4096);
        assert_eq!(transfer.settle(StepResult::Done(5000), OnError::Stop, &mut 0), Verdict::Fine);
        assert_eq!(transfer.next(), Some(4096..LENGTH));
    }

    #[test]
    fn p16_results_without_progress_become_a_failure_at_the_bound() {
        for (result, errno) in [(StepResult::Done(0), EIO), (StepResult::Done(511), EIO), (StepResult::Failed(EINTR), EINTR)]
        {
            let mut transfer = Transfer::new(LENGTH, 512);
            for _ in 1..2 * ATTEMPTS_WITHOUT_PROGRESS_MAX {
                assert_eq!(transfer.settle(result, OnError::Stop, &mut 0), Verdict::Fine);
            }
            assert_eq!(transfer.settle(result, OnError::Stop, &mut 0), Verdict::Failed(0..LENGTH, errno));
            assert_eq!(transfer.next(), None);
        }
    }

    #[test]
    fn p16_progress_renews_the_bound() {
        let mut transfer = Transfer::new(LENGTH, 512);
        for _ in 0..100 {
            assert_eq!(transfer.settle(StepResult::Failed(EAGAIN), OnError::Stop, &mut 0), Verdict::Fine);
            assert_eq!(transfer.settle(StepResult::Done(512), OnError::Stop, &mut 0), Verdict::Fine);
        }
    }
}
