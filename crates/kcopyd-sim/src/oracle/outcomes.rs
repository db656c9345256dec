//! What a job came to, held against what its disks have answered: nothing claimed that is not so, nothing wrong that is not
//! said (P1, P3, P7, P12, P13, P14, P16, P17, P18).

use kcopyd::copy::chain::Operation;
use kcopyd::copy::outcome::{DestinationState, Ending, Outcome};
use kcopyd::copy::scheduler::Ended;

use super::model::{ATTEMPTS_MAX, DestinationModel, FlushModel, JobModel, PAGE, Trouble, TroubleKind};
use super::{Judged, Oracle, breach};
use crate::disk::Disk;
use crate::intervals::Intervals;
use crate::scenario::Party;

const ECANCELED: i32 = 125;

impl Oracle {
    pub(super) fn look_at_end(&mut self, ended: &Ended, pages_free: u32, disks: &[Disk]) -> Judged {
        let token = ended.token;
        let place = token as usize;
        let Some(job) = self.jobs.get_mut(place).and_then(Option::take) else {
            let again = self.ended.get(place).copied().unwrap_or_default();
            return breach("P1", format!("job {token} ends, {}", if again { "again" } else { "and was never submitted" }));
        };
        self.ended[place] = true;
        self.active -= 1;
        self.sequential_active -= u64::from(job.sequential);
        if job.chains > 0 {
            return breach("P3", format!("job {token} ends with {} chains in flight", job.chains));
        }
        if self.active == 0 && pages_free != self.pages_total {
            return breach("P19", format!("{pages_free} of {} pages are free after the last job", self.pages_total));
        }
        let source = job.source.iter().map(|source| source.end.device);
        let devices = source.chain(job.destinations.iter().map(|destination| destination.end.device));
        if !devices.clone().eq(ended.devices.iter().copied()) {
            return breach("P33", format!("job {token} gives back {:?}", ended.devices));
        }
        devices.for_each(|device| self.ends[device.0 as usize] = None);
        let outcome = &ended.outcome;
        self.figures.jobs += 1;
        self.figures.aborted += u64::from(outcome.ending == Ending::Aborted);
        self.figures.read_errors += u64::from(outcome.read_errno != 0);
        self.figures.write_errors += u64::from(outcome.write_errors != 0);
        for number in [token, outcome.prefix_bytes, outcome.read_errno as u64, outcome.write_errors.into()] {
            self.digest.add(number);
        }
        outcome.failures.iter().for_each(|failure| self.digest.add(failure.sector ^ failure.count << 32));
        Audit { job: &job, outcome, unit: self.unit, disks }.run()
    }
}

/// One job's reckoning.
pub(super) struct Audit<'a> {
    pub(super) job: &'a JobModel,
    pub(super) outcome: &'a Outcome,
    pub(super) unit: u64,
    pub(super) disks: &'a [Disk],
}

/// What is true of a destination.
struct Truth {
    prefix: u64,
    complete: bool,
}

impl Audit<'_> {
    fn run(&self) -> Judged {
        let (job, outcome) = (self.job, self.outcome);
        if outcome.length_bytes != job.length || outcome.destinations.len() != job.destinations.len() {
            return self.wrong("P1", "is another job's outcome");
        }
        for (index, destination) in job.destinations.iter().enumerate() {
            self.destination(index, destination)?;
        }
        self.whole()?;
        self.read_error()?;
        self.work_was_done_once()?;
        self.progress()?;
        if !job.troubles.is_empty() || !outcome.failures.is_empty() {
            self.failures_are_true()?;
            self.troubles_are_listed()?;
            self.parts_of_others()?;
            (0..job.destinations.len()).try_for_each(|index| self.region_holds_old_or_new(index))?;
        }
        Ok(())
    }

    pub(super) fn wrong(&self, promise: &'static str, what: &str) -> Judged {
        breach(promise, format!("job {}: {what}: {:?}", self.job.token, self.outcome))
    }

    fn truth(&self, destination: &DestinationModel) -> Truth {
        let job = self.job;
        let blank = destination.blanked.first().unwrap_or(u64::MAX);
        let flushed = !job.flush || destination.flush == FlushModel::Done;
        Truth {
            prefix: destination.written.first_gap().min(blank).min(job.length),
            complete: destination.written.contains(&(0..destination.padded)) && destination.blanked.is_empty() && flushed,
        }
    }

    fn destination(&self, index: usize, destination: &DestinationModel) -> Judged {
        let (job, said) = (self.job, &self.outcome.destinations[index]);
        let truth = self.truth(destination);
        if said.prefix_bytes > truth.prefix && !matches!(destination.flush, FlushModel::Failed(_)) {
            return self.wrong("P17", &format!("destination {index} holds {} bytes", truth.prefix));
        }
        // The prefix is a lower bound; but it loses no more than the piece of work that failed. A failed flush takes all.
        let flush_failed = matches!(destination.flush, FlushModel::Failed(_));
        if !flush_failed && said.prefix_bytes + PAGE <= truth.prefix {
            return self.wrong("P17", &format!("destination {index} holds {} bytes after all", truth.prefix));
        }
        if flush_failed && said.prefix_bytes != 0 {
            return self.wrong("P18", &format!("destination {index} is said to hold something, but its flush failed"));
        }
        if (said.state == DestinationState::Complete) != truth.complete {
            return self.wrong("P17", &format!("destination {index}: complete is {}", truth.complete));
        }
        let bit = self.outcome.write_errors & 1 << index != 0;
        if bit && !self.may_be_blamed(index, destination) {
            return self.wrong("P12", &format!("destination {index} has done nothing wrong"));
        }
        if !bit && self.must_be_blamed(index, destination) {
            return self.wrong("P12", &format!("destination {index} has failed"));
        }
        let flush_wanted = job.flush && !job.aborted_by_caller;
        let blamed_for_writes = self.writes_to(index).any(|trouble| self.is_lost(trouble, &destination.written));
        if flush_wanted
            && !blamed_for_writes
            && !matches!(destination.flush, FlushModel::Done | FlushModel::Failed(_))
            && !bit
        {
            return self.wrong("P18", &format!("destination {index} was not flushed"));
        }
        Ok(())
    }

    pub(super) fn writes_to(&self, index: usize) -> impl Iterator<Item = &Trouble> + '_ {
        let party = Party::Destination(index as u8);
        self.job.troubles.iter().filter(move |trouble| trouble.party == party && trouble.operation != Operation::Flush)
    }

    /// Whether what a trouble left undone is undone still.
    pub(super) fn is_lost(&self, trouble: &Trouble, done: &Intervals) -> bool {
        !done.contains(&trouble.range)
    }

    /// Whether an error is certain to be a failure of the job: confirmed, and not looked into more closely any more.
    pub(super) fn is_final(&self, trouble: &Trouble) -> bool {
        let narrow = trouble.range.end - trouble.range.start <= PAGE;
        trouble.kind == TroubleKind::Confirmed && (!self.job.ignore || narrow || trouble.operation == Operation::Flush)
    }

    /// A bit needs a reason: something that is not there because of an error, or a failed flush.
    fn may_be_blamed(&self, index: usize, destination: &DestinationModel) -> bool {
        if matches!(destination.flush, FlushModel::Failed(_)) {
            return true;
        }
        let lost = || self.writes_to(index).filter(|trouble| self.is_lost(trouble, &destination.written));
        let confirmed = lost().any(|trouble| trouble.kind == TroubleKind::Confirmed);
        let soft = |trouble: &&Trouble| matches!(trouble.kind, TroubleKind::Soft | TroubleKind::Small);
        // One that was recovered from has raised a suspicion all the same, which only a full success clears.
        let is_hard = |trouble: &Trouble| trouble.kind == TroubleKind::Hard && trouble.operation != Operation::Zero;
        let hard = self.writes_to(index).any(is_hard);
        let soft = lost().filter(soft).count() / ATTEMPTS_MAX as usize;
        confirmed || soft >= if hard { 1 } else { 2 }
    }

    /// What is certain: a failed flush; with errors ignored, anything that is not there at the end; otherwise a final error.
    fn must_be_blamed(&self, index: usize, destination: &DestinationModel) -> bool {
        if matches!(destination.flush, FlushModel::Failed(_)) {
            return true;
        }
        let job = self.job;
        if job.ignore && !job.aborted_by_caller {
            return !destination.written.contains(&(0..destination.padded));
        }
        self.writes_to(index).any(|trouble| self.is_final(trouble) && self.is_lost(trouble, &destination.written))
    }

    /// What is said of the job as a whole.
    fn whole(&self) -> Judged {
        let (job, outcome) = (self.job, self.outcome);
        let all = outcome.destinations.iter().all(|destination| destination.state == DestinationState::Complete);
        if all != (outcome.read_errno == 0 && outcome.write_errors == 0) || all != outcome.is_success() {
            return self.wrong("P17", "success and the destinations do not agree");
        }
        let least = outcome.destinations.iter().map(|destination| destination.prefix_bytes).min();
        if least != Some(outcome.prefix_bytes) {
            return self.wrong("P17", "its prefix is not the least of its destinations'");
        }
        if outcome.write_errors >> outcome.destinations.len().min(31) > 1 || all && !outcome.failures.is_empty() {
            return self.wrong("P12", "blames nobody's fault on somebody");
        }
        let expected = if job.aborted_by_caller && !all { Ending::Aborted } else { Ending::Ran };
        if outcome.ending != expected {
            return self.wrong("P27", &format!("its ending is {expected:?}"));
        }
        Ok(())
    }

    fn read_error(&self) -> Judged {
        let (job, outcome) = (self.job, self.outcome);
        let all = outcome.destinations.iter().all(|destination| destination.state == DestinationState::Complete);
        let Some(source) = &job.source else {
            let canceled = outcome.read_errno == ECANCELED && job.aborted_by_caller;
            return if outcome.read_errno == 0 || canceled { Ok(()) } else { self.wrong("P17", "reads nothing") };
        };
        let reads = || job.troubles.iter().filter(|trouble| trouble.party == Party::Source);
        let lost = || reads().filter(|trouble| self.is_lost(trouble, &source.read));
        let must = if job.ignore {
            lost().any(|trouble| self.is_final(trouble) || !job.aborted_by_caller)
        } else {
            job.first_read_errno.is_some()
        };
        match outcome.read_errno {
            0 if must => self.wrong("P17", "has no read error"),
            0 => Ok(()),
            ECANCELED if job.aborted_by_caller && !must && !all => Ok(()),
            errno => {
                let first = job.first_read_errno;
                let known = lost().any(|trouble| trouble.errno == errno) && first.is_none_or(|first| first == errno);
                if known { Ok(()) } else { self.wrong("P17", "has another read error") }
            }
        }
    }

    /// P7: every sector is read once, but for what had to be read again.
    fn work_was_done_once(&self) -> Judged {
        let job = self.job;
        if let Some(source) = job.source.as_ref().filter(|source| source.bytes > job.length + source.rework) {
            return self.wrong("P7", &format!("{} bytes were read", source.bytes));
        }
        let often = |destination: &&DestinationModel| destination.bytes > destination.padded + destination.rework;
        match job.destinations.iter().find(often) {
            Some(destination) => self.wrong("P7", &format!("{} bytes were written to one destination", destination.bytes)),
            None => Ok(()),
        }
    }

    fn progress(&self) -> Judged {
        let Some(progress) = &self.job.progress else { return Ok(()) };
        let (length, outcome) = (self.job.length, self.outcome);
        for (index, destination) in outcome.destinations.iter().enumerate() {
            let (bytes, complete) = (progress.destination_bytes(index), destination.state == DestinationState::Complete);
            if bytes > length || complete && bytes != length {
                return self.wrong("progress", &format!("destination {index} is said to have had {bytes} bytes"));
            }
            if progress.failed(index) != (outcome.write_errors & 1 << index != 0) {
                return self.wrong("progress", &format!("destination {index} failed, or not"));
            }
        }
        let total = progress.total_bytes();
        if total > length || outcome.is_success() && total != length {
            return self.wrong("progress", &format!("{total} bytes are said to be over"));
        }
        Ok(())
    }
}
