//! What the disks are asked and what they answer: every request when it starts and when it ends, and what it left on the disk.

use std::ops::Range;

use kcopyd::copy::chain::{Operation, StepResult};

use super::chains::{ChainModel, Stage, StepModel};
use super::model::{ATTEMPTS_MAX, Course, FlushModel, JobModel, PAGE, Trouble, TroubleKind, Way, is_interruption};
use super::{Judged, Oracle, breach};
use crate::contents::{Tag, ZEROS, is_pristine, pristine};
use crate::disk::Disk;
use crate::engine::{Event, Happened};
use crate::fault::EIO;
use crate::intervals::Intervals;
use crate::scenario::Party;

impl Oracle {
    pub(super) fn look_at(&mut self, event: &Event, disks: &[Disk]) -> Judged {
        self.digest.add(event.at_ns);
        let Some(chain) = self.chains.get_mut(&event.tag) else {
            return breach("rule 6", format!("{event:?} of a chain that is not in flight"));
        };
        let Some(job) = self.jobs[chain.token as usize].as_mut() else {
            return breach("P1", format!("{event:?} of job {}, which has ended", chain.token));
        };
        let index = usize::from(event.index);
        let (step, piece) = (chain.steps[index], chain.piece.unwrap_or(0));
        match event.happened {
            Happened::Started => {
                if step.stage != Stage::Staged {
                    return breach("rule 6", format!("job {}: {step:?} is started again", job.token));
                }
                if chain.begins_with_read() && index > 0 && !chain.read_in_full {
                    return breach("P8", format!("job {}: {step:?} starts before its read is there", job.token));
                }
                if chain.waits_for_write(index) && !in_full(&chain.steps[index - 1]) {
                    return breach("P18", format!("job {}: {step:?} starts before its write is there", job.token));
                }
                chain.steps[index].stage = Stage::Started;
                started(job, &step, piece)
            }
            Happened::Ended(result) => {
                if step.stage != Stage::Started {
                    return breach("rule 6", format!("job {}: {step:?} ends", job.token));
                }
                chain.steps[index].stage = Stage::Ended(result);
                self.figures.requests += 1;
                let in_full = in_full(&chain.steps[index]);
                chain.read_in_full |= step.operation == Operation::Read && in_full;
                self.figures.faults += u64::from(!in_full);
                self.digest.add(number_of(result));
                let sure = job.suspects.is_empty();
                ended(job, chain, &step, result, self.unit, disks)?;
                if sure && !job.suspects.is_empty() {
                    // What was cut before may still begin; but if there was room for all, nothing was left to begin.
                    job.begun_in_doubt = if self.no_room { 0 } else { job.pieces_at_once(self.sub_job_bytes) };
                }
                Ok(())
            }
        }
    }
}

/// Whether a step has moved all that it was asked to.
fn in_full(step: &StepModel) -> bool {
    matches!(step.stage, Stage::Ended(StepResult::Done(moved)) if u64::from(moved) == step.length)
}

fn number_of(result: StepResult) -> u64 {
    match result {
        StepResult::Done(moved) => moved.into(),
        StepResult::Failed(errno) => 1 << 40 | errno as u64,
        StepResult::NotAttempted => 1 << 41,
    }
}

fn started(job: &mut JobModel, step: &StepModel, piece: u64) -> Judged {
    let range = step.range();
    let streak = job.streaks.iter().find(|streak| streak.party == step.party && streak.piece == piece);
    if let Some(streak) = streak.filter(|streak| streak.range == range && streak.length >= 2 * ATTEMPTS_MAX) {
        return breach("P16", format!("job {}: {step:?} after {} attempts without progress", job.token, streak.length));
    }
    match (step.operation, step.party) {
        (Operation::Flush, Party::Destination(index)) => flush_started(job, usize::from(index)),
        (Operation::Write | Operation::Zero, Party::Destination(index)) => {
            write_started(job, usize::from(index), step, &range)
        }
        _ => Ok(()),
    }
}

/// A flush comes after the destination's last write, if it was asked for, and once (P18).
fn flush_started(job: &mut JobModel, index: usize) -> Judged {
    let (token, cut_off) = (job.token, !job.may_have_stopped() && job.cursor() < job.length);
    let destination = &mut job.destinations[index];
    let may_begin = matches!(destination.flush, FlushModel::NotBegun | FlushModel::Interrupted);
    if !job.flush || !may_begin || destination.in_flight > 0 || cut_off {
        return breach("P18", format!("job {token}: destination {index} is flushed: {destination:?}"));
    }
    destination.flush = FlushModel::InFlight;
    Ok(())
}

fn write_started(job: &mut JobModel, index: usize, step: &StepModel, range: &Range<u64>) -> Judged {
    let token = job.token;
    if let Some(source) = &job.source {
        let unread = source.read.gaps(&(range.start..range.end.min(job.length)));
        let given_up = |part: Range<u64>| {
            let mut left = Intervals::default();
            left.add(part);
            for trouble in job.troubles.iter().filter(|trouble| trouble.party == Party::Source) {
                left.subtract(trouble.range.clone());
            }
            left.is_empty()
        };
        let excused = job.ignore && unread.iter().all(given_up);
        if !unread.is_empty() && !excused {
            return breach("P8", format!("job {token}: {step:?} writes what was not read: {unread:?}"));
        }
    }
    let destination = &mut job.destinations[index];
    if job.sequential {
        let written = destination.written.first_gap();
        let next = range.start <= written && written - range.start < PAGE;
        if destination.in_flight > 0 || !next {
            let (in_flight, at) = (destination.in_flight, range.start);
            return breach("P15", format!("job {token}: a write at {at}, {in_flight} in flight, written up to {written}"));
        }
    }
    if destination.flush != FlushModel::NotBegun {
        return breach(
            "P18",
            format!("job {token}: a write to destination {index}, whose flush is {:?}", destination.flush),
        );
    }
    destination.in_flight += 1;
    Ok(())
}

fn ended(job: &mut JobModel, chain: &ChainModel, step: &StepModel, result: StepResult, unit: u64, disks: &[Disk]) -> Judged {
    let moved = match result {
        StepResult::Done(moved) => u64::from(moved),
        _ => 0,
    };
    let piece = chain.piece.unwrap_or(0);
    let counted = job.counted(step.party, piece, moved, step.length);
    let range = step.start..step.start + counted;
    match (step.operation, step.party) {
        (Operation::Flush, Party::Destination(index)) => return flush_ended(job, usize::from(index), result),
        (Operation::Read, _) => {
            let source = job.source.as_mut().expect("only a job with a source reads");
            source.bytes += moved;
            source.rework += moved - counted;
            match result {
                StepResult::Failed(_) => source.rework += source.read.subtract(step.range()),
                _ => source.read.add(range),
            }
        }
        (_, Party::Destination(index)) => {
            let index = usize::from(index);
            let destination = &mut job.destinations[index];
            destination.in_flight -= 1;
            destination.bytes += moved;
            destination.rework += if job.source.is_none() && moved < step.length { moved % PAGE } else { moved - counted };
            match result {
                StepResult::Failed(_) => destination.rework += destination.written.subtract(step.range()),
                _ => destination.written.add(range.clone()),
            }
            if step.operation == Operation::Write {
                check_way(job, index, step, piece, moved)?;
            }
            check_contents(job, index, &(step.start..step.start + moved), unit, disks)?;
        }
        _ => {}
    }
    note_trouble(job, piece, step, result, counted);
    Ok(())
}

fn note_trouble(job: &mut JobModel, piece: u64, step: &StepModel, result: StepResult, counted: u64) {
    let small = job.is_zeroing() && counted < PAGE.min(step.length);
    let (kind, errno) = match result {
        StepResult::Failed(errno) if is_interruption(errno) => (TroubleKind::Soft, errno),
        StepResult::Failed(errno) => (TroubleKind::Hard, errno),
        StepResult::Done(_) if counted == 0 => (TroubleKind::Soft, EIO),
        StepResult::Done(_) if small => (TroubleKind::Small, EIO),
        StepResult::Done(moved) if u64::from(moved) == step.length => return job.succeeded(step.party, piece),
        _ => return job.progressed(step.party, piece),
    };
    if kind == TroubleKind::Small {
        job.progressed(step.party, piece);
    }
    job.note(Trouble { party: step.party, operation: step.operation, range: step.range(), errno, kind, piece });
}

fn flush_ended(job: &mut JobModel, index: usize, result: StepResult) -> Judged {
    let (destination, length) = (&mut job.destinations[index], job.length);
    let errno = match result {
        StepResult::Failed(errno) => errno,
        _ => {
            destination.flush = FlushModel::Done;
            return Ok(());
        }
    };
    let soft = is_interruption(errno);
    destination.flush_interruptions += u32::from(soft);
    let over = !soft || destination.flush_interruptions >= ATTEMPTS_MAX;
    destination.flush = if over { FlushModel::Failed(errno) } else { FlushModel::Interrupted };
    if over {
        let (party, kind) = (Party::Destination(index as u8), TroubleKind::Confirmed);
        job.troubles.push(Trouble { party, operation: Operation::Flush, range: 0..length, errno, kind, piece: 0 });
        if !job.ignore && job.course == Course::Running {
            job.course = Course::Stopped;
        }
    }
    Ok(())
}

/// No page of the page cache is written by two pieces, one of them direct: they may do so at the same time. (One piece may write
/// a page both ways, one after the other, if a short result has moved it to or off a page's beginning; that is in order.)
fn check_way(job: &mut JobModel, index: usize, step: &StepModel, piece: u64, moved: u64) -> Judged {
    let (token, destination) = (job.token, &mut job.destinations[index]);
    if !destination.end.two_ways || moved == 0 {
        return Ok(());
    }
    let start = destination.end.offset + step.start;
    let way = if start.is_multiple_of(PAGE) && step.length.is_multiple_of(PAGE) { Way::Direct } else { Way::Buffered };
    let pages = start / PAGE..(start + moved).div_ceil(PAGE);
    // All pieces that can be under way at once are among the last ones that were written.
    let recent = destination.ways.iter().rev().take(64);
    let other = |known: &&(Way, u64, Range<u64>)| {
        known.0 != way && known.1 != piece && known.2.start < pages.end && pages.start < known.2.end
    };
    if let Some(other) = recent.clone().find(other) {
        return breach("P9", format!("job {token}: {pages:?} of destination {index} are written {way:?}, and {other:?}"));
    }
    destination.ways.push((way, piece, pages));
    Ok(())
}

/// What a write has left: the source's contents where they were read, zeros where they could not be, zeros behind the end.
fn check_contents(job: &mut JobModel, index: usize, range: &Range<u64>, unit: u64, disks: &[Disk]) -> Judged {
    let destination = &mut job.destinations[index];
    let (token, end) = (job.token, destination.end);
    let found = disks[end.disk].written(&(end.offset + range.start..end.offset + range.end));
    let wrong = |promise, at: u64, tag: Tag| {
        let text = format!("job {token}: destination {index} has {tag:#x} at byte {at} after a write of {range:?}");
        breach::<()>(promise, text)
    };
    let place = |unit_index: usize| range.start + unit_index as u64 * unit;
    let Some(source) = &job.source else {
        let other = found.iter().position(|&tag| tag != ZEROS);
        return other.map_or(Ok(()), |at| wrong("P5", place(at), found[at]));
    };
    let (disk, first) = (source.end.disk, (source.end.offset + range.start) / unit);
    let of_source = ((range.end.min(job.length) - range.start.min(job.length)) / unit) as usize;
    let (copied, padding) = found.split_at(of_source);
    if let Some(at) = padding.iter().position(|&tag| tag != ZEROS) {
        return wrong("P6", place(of_source + at), padding[at]);
    }
    if is_pristine(copied, disk, first) && source.read.contains(&(range.start..range.end.min(job.length))) {
        // What was zero in place of an unread part before, and is read by now, is no blank any more.
        return Ok(());
    }
    for (at, &tag) in copied.iter().enumerate() {
        let part = place(at)..place(at) + unit;
        let is_read = source.read.contains(&part);
        let expected = if is_read { pristine(disk, first + at as u64) } else { ZEROS };
        if tag != expected {
            return wrong(if is_read { "P5" } else { "P8" }, part.start, tag);
        }
        if !is_read {
            destination.blanked.add(part);
        }
    }
    Ok(())
}
