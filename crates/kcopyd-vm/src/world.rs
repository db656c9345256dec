//! A source and its destinations, stamped, with faults put over them; and what must be on the disks beneath afterwards, whatever the
//! fault was. The judge of most cases. It refuses to look at the faulty devices: what counts is what the disks hold.

use std::sync::Arc;

use kcopyd::copy::outcome::{DestinationState, FailedOperation, Failure, Outcome};
use kcopyd::engine::device::Device;

use crate::case::Setting;
use crate::disk::{Disk, Found, disk};
use crate::mapper::{Mapped, linear, with_errors};
use crate::session::{Job, PIECE_SECTORS, open_destination, open_source};

/// Who stamps the source.
pub const SOURCE: u32 = 1;
/// Who stamps the first destination before the job; the next number stamps the next one.
pub const OLD: u32 = 2;

/// A range of sectors: the first, and how many.
pub type Range = (u64, u64);

/// The disks of one case.
#[derive(Debug)]
pub struct World {
    /// What is read.
    pub source: Disk,
    /// What is written.
    pub destinations: Vec<Disk>,
}

impl World {
    /// Freshly stamped disks.
    pub fn new(setting: Setting) -> World {
        let source = disk(0, setting.block_bytes);
        let destinations: Vec<Disk> = (1..=setting.destinations).map(|index| disk(index, setting.block_bytes)).collect();
        source.stamp(SOURCE);
        for (to, tag) in destinations.iter().zip(OLD..) {
            to.stamp(tag);
        }
        World { source, destinations }
    }

    /// The disks as they are, each behind a device of the mapper, with errors on some ranges of some of them.
    pub fn with_errors(&self, source: &[Range], destinations: &[&[Range]]) -> Faulty {
        let bad = |index: usize| destinations.get(index).copied().unwrap_or(&[]);
        let tables = self.destinations.iter().enumerate().map(|(index, to)| with_errors(to, bad(index)));
        Faulty::new(with_errors(&self.source, source), tables)
    }

    /// The disks behind devices of the mapper, the last destination behind one with this table.
    pub fn with_last(&self, table: &str) -> Faulty {
        let last = self.destinations.len() - 1;
        let tables = self.destinations.iter().enumerate();
        Faulty::new(
            linear(&self.source),
            tables.map(|(index, to)| if index == last { table.to_owned() } else { linear(to) }),
        )
    }

    /// A destination's sectors; each must be the source's or what was there before, and the source's in the known prefix.
    fn sectors_of(&self, index: usize, outcome: &Outcome) -> Vec<Found> {
        let found = self.destinations[index].found();
        let old = OLD + index as u32;
        let prefix = outcome.destinations[index].prefix_bytes / 512;
        for (sector, &found) in (0..).zip(&found) {
            let stamped = |tag| Found::Stamp { tag, sector };
            let is_new = found == stamped(SOURCE);
            let may_be_old = u64::from(sector) >= prefix;
            let is_right = is_new || may_be_old && found == stamped(old);
            assert!(is_right, "P6, P8, P17: destination {index}, sector {sector}: {found:?}, known prefix {prefix}");
        }
        found
    }

    /// Nothing on this destination but what was there and what was to come.
    pub fn old_or_new(&self, index: usize, outcome: &Outcome) {
        self.sectors_of(index, outcome);
    }

    /// Every sector of this destination is the source's, but those of `zeroed`, which are zeros, and those of `kept`, which are as
    /// they were.
    pub fn holds_all(&self, index: usize, zeroed: &[Range], kept: &[Range]) {
        let is_in =
            |ranges: &[Range], sector: u64| ranges.iter().any(|&(first, count)| (first..first + count).contains(&sector));
        for (sector, found) in (0..).zip(self.destinations[index].found()) {
            let stamped = |tag| Found::Stamp { tag, sector };
            let expected = match u64::from(sector) {
                at if is_in(zeroed, at) => Found::Zeros,
                at if is_in(kept, at) => stamped(OLD + index as u32),
                _ => stamped(SOURCE),
            };
            assert_eq!(found, expected, "P5, P8: destination {index}, sector {sector}");
        }
    }

    /// What must be so after a job that the first error stopped (P6, P8, P12, P13, P17), given the operation that failed, at which
    /// destination, where, and why.
    pub fn stopped(&self, outcome: &Outcome, operation: FailedOperation, at: Option<u8>, bad: Range, errno: i32) {
        let read = operation == FailedOperation::Read;
        assert_eq!(outcome.read_errno, if read { errno } else { 0 }, "{outcome:?}");
        assert_eq!(outcome.write_errors, at.map_or(0, |index| 1 << index), "P12: {outcome:?}");
        let failure = *only(&outcome.failures);
        assert_eq!((failure.operation, failure.destination, failure.errno), (operation, at, errno), "{outcome:?}");
        let (first, end) = (failure.sector, failure.sector + failure.count);
        let piece = bad.0 / PIECE_SECTORS * PIECE_SECTORS;
        assert!(first <= bad.0 && end >= bad.0 + bad.1, "P17: the failure covers the bad sectors: {failure:?}");
        assert!(first >= piece && end <= piece + PIECE_SECTORS, "P17: the failure is of the piece alone: {failure:?}");
        for (index, destination) in outcome.destinations.iter().enumerate() {
            let sectors = self.sectors_of(index, outcome);
            let failed = read || at == Some(index as u8);
            assert!(!failed || destination.state == DestinationState::Incomplete, "P17: {outcome:?}");
            assert!(!failed || destination.prefix_bytes / 512 <= bad.0, "P17: {outcome:?}");
            // P8: nothing of what could not be read arrives anywhere. P13: the others get their part of the piece.
            let written = |sector: u64| sectors[sector as usize] == Found::Stamp { tag: SOURCE, sector: sector as u32 };
            assert!(!read || !(first..end).any(written), "P8: something arrived that could not be read");
            assert!(failed || (first..end).all(written), "P13: destination {index} missed its part of the piece");
        }
        assert_eq!(outcome.prefix_bytes, outcome.destinations.iter().map(|to| to.prefix_bytes).min().unwrap_or(0));
    }

    /// What must be so after a job without an error.
    pub fn complete(&self, outcome: &Outcome) {
        assert!(outcome.is_success() && outcome.failures.is_empty(), "{outcome:?}");
        for (index, destination) in outcome.destinations.iter().enumerate() {
            assert_eq!(destination.state, DestinationState::Complete, "{outcome:?}");
            self.holds_all(index, &[], &[]);
        }
    }
}

/// The only one there is.
pub fn only<T: std::fmt::Debug>(list: &[T]) -> &T {
    let [one] = list else { panic!("not one, but {list:?}") };
    one
}

/// The failures of an outcome, as they compare.
pub fn failures_of(outcome: &Outcome) -> Vec<(FailedOperation, Option<u8>, Range, i32)> {
    let told = |failure: &Failure| (failure.operation, failure.destination, (failure.sector, failure.count), failure.errno);
    outcome.failures.iter().map(told).collect()
}

/// The devices that the job is to be done on.
#[derive(Debug)]
pub struct Faulty {
    /// All of them: the source, then the destinations.
    pub mapped: Mapped,
    destinations: usize,
}

/// The same, opened. Closed before the devices are removed.
#[derive(Debug)]
pub struct Opened {
    /// What is read.
    pub source: Arc<Device>,
    /// What is written.
    pub destinations: Vec<Arc<Device>>,
}

impl Faulty {
    /// Devices with these tables.
    pub fn new(source: String, destinations: impl Iterator<Item = String>) -> Faulty {
        let destinations = destinations.enumerate().map(|(index, table)| (format!("to{index}"), table));
        let tables: Vec<(String, String)> = [("from".to_owned(), source)].into_iter().chain(destinations).collect();
        Faulty { mapped: Mapped::several(&tables), destinations: tables.len() - 1 }
    }

    /// Opens all of them.
    pub fn open(&self) -> Opened {
        Opened {
            source: open_source(&self.mapped.path(0)),
            destinations: (1..=self.destinations).map(|index| open_destination(&self.mapped.path(index))).collect(),
        }
    }
}

impl Opened {
    /// A job of everything.
    pub fn job(&self, flags: kcopyd::client::JobFlags) -> Job {
        Job::copy(&self.source, &self.destinations, flags)
    }
}
