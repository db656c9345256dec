//! What failed, held against what the outcome lists: nothing passed over, nothing made up, and no destination harmed by
//! another's failure (P8, P13, P14, P17).

use std::ops::Range;

use kcopyd::copy::chain::Operation;
use kcopyd::copy::outcome::{FailedOperation, Failure};

use super::Judged;
use super::model::{ATTEMPTS_MAX, DestinationModel, Trouble, TroubleKind};
use super::outcomes::Audit;
use crate::contents::{UNTOUCHED, ZEROS, pristine};
use crate::intervals::Intervals;
use crate::scenario::Party;

const SECTOR: u64 = 512;

impl Audit<'_> {
    /// Everything listed is the failure of a request, and lists nothing but what failed.
    pub(super) fn failures_are_true(&self) -> Judged {
        for failure in &self.outcome.failures {
            let mut known = Intervals::default();
            for trouble in self.job.troubles.iter().filter(|trouble| self.matches(failure, trouble)) {
                known.add(self.sectors(trouble));
            }
            if failure.count == 0 && self.job.length > 0
                || !known.contains(&(failure.sector..failure.sector + failure.count))
            {
                return self.wrong("P17", &format!("{failure:?} did not happen"));
            }
        }
        let key = |failure: &Failure| (failure.operation, failure.destination, failure.errno);
        let touch = |pair: &[Failure]| key(&pair[0]) == key(&pair[1]) && pair[0].sector + pair[0].count >= pair[1].sector;
        if self.outcome.failures.windows(2).any(touch) {
            return self.wrong("P17", "lists one failure as two");
        }
        Ok(())
    }

    fn matches(&self, failure: &Failure, trouble: &Trouble) -> bool {
        let (operation, party) = match failure.operation {
            FailedOperation::Read => (Operation::Read, Party::Source),
            FailedOperation::Flush => (Operation::Flush, Party::Destination(failure.destination.unwrap_or(u8::MAX))),
            FailedOperation::Write => (Operation::Write, Party::Destination(failure.destination.unwrap_or(u8::MAX))),
            // A range that the device did not zero is written; of zeroing, both are the failure.
            FailedOperation::Zero => {
                let party = Party::Destination(failure.destination.unwrap_or(u8::MAX));
                let of_writing = trouble.operation == Operation::Write || trouble.operation == Operation::Zero;
                return of_writing && self.job.is_zeroing() && trouble.party == party && trouble.errno == failure.errno;
            }
        };
        let source = failure.operation == FailedOperation::Read;
        source == failure.destination.is_none()
            && !(operation == Operation::Write && self.job.is_zeroing())
            && (trouble.operation, trouble.party, trouble.errno) == (operation, party, failure.errno)
    }

    /// The sectors of the device that a trouble touches.
    fn sectors(&self, trouble: &Trouble) -> Range<u64> {
        let offset = self.job.end(trouble.party).expect("troubles are of the job's ends").offset;
        (offset + trouble.range.start) / SECTOR..(offset + trouble.range.end).div_ceil(SECTOR)
    }

    /// Nothing that is lost for good is passed over, unless the list is full.
    pub(super) fn troubles_are_listed(&self) -> Judged {
        if self.outcome.failures_omitted > 0 {
            return Ok(());
        }
        let job = self.job;
        for trouble in job.troubles.iter().filter(|trouble| self.is_final(trouble)) {
            let lost = match trouble.party {
                _ if trouble.operation == Operation::Flush => true,
                Party::Source => job.source.as_ref().is_some_and(|source| self.is_lost(trouble, &source.read)),
                Party::Destination(index) => self.is_lost(trouble, &job.destinations[usize::from(index)].written),
            };
            let sectors = self.sectors(trouble);
            let listed = |failure: &Failure| {
                self.matches(failure, trouble)
                    && failure.sector <= sectors.start
                    && sectors.end <= failure.sector + failure.count
            };
            if lost && !self.outcome.failures.iter().any(listed) {
                return self.wrong("P17", &format!("{trouble:?} is not listed"));
            }
        }
        if job.ignore && !job.aborted_by_caller { self.everything_was_attempted() } else { Ok(()) }
    }

    /// P14: what is not there with errors ignored is listed as failed, all of it.
    fn everything_was_attempted(&self) -> Judged {
        let job = self.job;
        let ends = job.destinations.iter().enumerate().map(|(index, destination)| {
            (Party::Destination(index as u8), destination.written.gaps(&(0..destination.padded)))
        });
        let read = job.source.iter().map(|source| (Party::Source, source.read.gaps(&(0..job.length))));
        for (party, gaps) in read.chain(ends) {
            let offset = job.end(party).expect("an end of the job").offset;
            let mut listed = Intervals::default();
            let of_party = |failure: &&Failure| match party {
                Party::Source => failure.destination.is_none(),
                Party::Destination(index) => failure.destination == Some(index),
            };
            for failure in self.outcome.failures.iter().filter(of_party) {
                listed.add(failure.sector..failure.sector + failure.count);
            }
            for gap in gaps.iter() {
                if !listed.contains(&((offset + gap.start) / SECTOR..(offset + gap.end).div_ceil(SECTOR))) {
                    return self.wrong("P14", &format!("{gap:?} of {party:?} was neither done nor listed"));
                }
            }
        }
        Ok(())
    }

    /// P13: what one destination's failure must not do to the others' part of a piece.
    pub(super) fn parts_of_others(&self) -> Judged {
        let job = self.job;
        for piece in &job.pieces {
            let padded = |destination: &DestinationModel| {
                piece.start..if piece.end == job.length { destination.padded } else { piece.end }
            };
            let troubles = |index: usize| self.writes_to(index).filter(|trouble| trouble.piece == piece.start);
            let failed = |index: usize| {
                troubles(index).any(|trouble| trouble.kind == TroubleKind::Confirmed)
                    || troubles(index).count() > ATTEMPTS_MAX as usize
            };
            let began = |(index, destination): (usize, &DestinationModel)| {
                // What moved too little to count may not have counted.
                let counts = || !troubles(index).any(|trouble| trouble.kind == TroubleKind::Small);
                destination.written.touches(&padded(destination)) && counts()
                    || troubles(index).any(|trouble| self.is_final(trouble))
            };
            if !job.destinations.iter().enumerate().any(began) {
                continue;
            }
            for (index, destination) in job.destinations.iter().enumerate() {
                if !destination.written.contains(&padded(destination)) && !failed(index) {
                    let text = format!("destination {index} lacks a part of {:?}, which others have", padded(destination));
                    return self.wrong("P13", &text);
                }
            }
        }
        Ok(())
    }

    /// Whatever failed: a region holds what it held before, or what it is to hold, and nothing else.
    pub(super) fn region_holds_old_or_new(&self, index: usize) -> Judged {
        let (job, destination) = (self.job, &self.job.destinations[index]);
        let end = destination.end;
        let found = self.disks[end.disk].written(&(end.offset..end.offset + destination.padded));
        for (at, &tag) in found.iter().enumerate() {
            let place = at as u64 * self.unit;
            let zeros = job.is_zeroing() || place >= job.length || job.ignore;
            let of_source = job.source.as_ref().filter(|_| place < job.length);
            let copied = |tag| {
                of_source.is_some_and(|source| tag == pristine(source.end.disk, (source.end.offset + place) / self.unit))
            };
            if !(tag == UNTOUCHED || zeros && tag == ZEROS || copied(tag)) {
                return self.wrong("P8", &format!("destination {index} holds {tag:#x} at byte {place}"));
            }
        }
        Ok(())
    }
}
