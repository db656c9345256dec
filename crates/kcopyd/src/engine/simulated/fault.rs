//! What can be made to go wrong on a simulated disk: which requests, how often, and what becomes of them. It refuses to know
//! what the disk holds.

use std::ops::Range;

use crate::copy::chain::Operation;
use crate::copy::limits::SECTOR_BYTES;

use super::random::Random;

/// What becomes of a request that a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It fails with this positive errno. Of a write, some sectors outside the fault's place may have landed all the same,
    /// none within; a read leaves anything in its buffer.
    Fail(i32),
    /// What lies before the fault's place is moved, which is a short result; a request that begins there fails with this
    /// positive errno. So does a full disk, and a read through the page cache.
    StopAt(i32),
    /// Only so many bytes are moved; 0 is a zero-length result. Of a block device whole logical blocks are moved.
    Short(u64),
    /// Fewer bytes than asked are moved, how many follows from the seed.
    ShortAnyhow,
    /// It takes so much longer, in nanoseconds of simulated time.
    Delay(u64),
}

/// Something that goes wrong: every request of an operation that touches the place is struck, unless said otherwise.
#[derive(Clone, Debug)]
pub struct Fault {
    operation: Operation,
    effect: Effect,
    place: Range<u64>,
    spared: u64,
    strikes: u64,
    one_in: u64,
}

impl Fault {
    /// Strikes every request of this operation, wherever it goes.
    #[must_use]
    pub fn on(operation: Operation, effect: Effect) -> Self {
        Fault { operation, effect, place: 0..u64::MAX, spared: 0, strikes: u64::MAX, one_in: 1 }
    }

    /// Only requests that touch one of these sectors.
    #[must_use]
    pub fn at_sectors(self, sectors: Range<u64>) -> Self {
        let end = sectors.end.saturating_mul(SECTOR_BYTES);
        Fault { place: sectors.start * SECTOR_BYTES..end, ..self }
    }

    /// Not the first so many requests that it would strike.
    #[must_use]
    pub fn after(self, spared: u64) -> Self {
        Fault { spared, ..self }
    }

    /// No more than so many requests: a fault that goes away.
    #[must_use]
    pub fn times(self, strikes: u64) -> Self {
        Fault { strikes, ..self }
    }

    /// One in so many requests, which ones follows from the seed.
    #[must_use]
    pub fn one_in(self, one_in: u64) -> Self {
        Fault { one_in, ..self }
    }

    /// Whether it strikes this request, and counts that.
    fn strikes(&mut self, operation: Operation, range: &Range<u64>, random: &mut Random) -> bool {
        let touches = operation == Operation::Flush || range.start < self.place.end && self.place.start < range.end;
        if operation != self.operation || !touches || !random.one_in(self.one_in) {
            return false;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return false;
        }
        let strikes = self.strikes > 0;
        self.strikes = self.strikes.saturating_sub(1);
        strikes
    }
}

/// What was decided for one request when it started; it comes true when the request ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How much longer it takes.
    pub delay_ns: u64,
    /// What comes of it.
    pub end: End,
}

/// How a request ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// As far as the disk reaches.
    #[default]
    Whole,
    /// After at most so many bytes.
    After(u64),
    /// With an errno; nothing within this range of the disk is moved.
    Failed(i32, Range<u64>),
}

impl Verdict {
    /// Asks every fault in turn: delays add up, and the first other effect decides.
    pub fn of(faults: &mut [Fault], operation: Operation, range: &Range<u64>, random: &mut Random) -> Self {
        let mut verdict = Verdict::default();
        for fault in faults {
            if fault.strikes(operation, range, random) {
                verdict.suffer(fault.effect, &fault.place, range, random);
            }
        }
        verdict
    }

    /// Adds one effect.
    pub fn suffer(&mut self, effect: Effect, place: &Range<u64>, range: &Range<u64>, random: &mut Random) {
        let end = match effect {
            Effect::Delay(delay_ns) => {
                self.delay_ns += delay_ns;
                return;
            }
            Effect::Fail(errno) => End::Failed(errno, place.clone()),
            Effect::StopAt(_) if place.start > range.start => End::After(place.start - range.start),
            Effect::StopAt(errno) => End::Failed(errno, place.start..u64::MAX),
            Effect::Short(bytes) => End::After(bytes),
            Effect::ShortAnyhow => End::After(random.below((range.end - range.start).max(1))),
        };
        if self.end == End::Whole {
            self.end = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(fault: Fault, requests: &[Range<u64>]) -> Vec<End> {
        let (mut faults, mut random) = ([fault], Random::new(1));
        requests.iter().map(|range| Verdict::of(&mut faults, Operation::Write, range, &mut random).end).collect()
    }

    #[test]
    fn a_fault_strikes_what_touches_its_sectors_and_nothing_else() {
        let fault = Fault::on(Operation::Write, Effect::Fail(5)).at_sectors(2..3);
        let failed = End::Failed(5, 1024..1536);
        assert_eq!(
            ends(fault, &[0..1024, 0..1025, 1536..4096, 1535..1536]),
            [End::Whole, failed.clone(), End::Whole, failed]
        );
        let other = Fault::on(Operation::Read, Effect::Fail(5));
        assert_eq!(ends(other, &[0..4096, 0..512]), [End::Whole, End::Whole]);
    }

    #[test]
    fn a_fault_spares_the_first_ones_and_goes_away() {
        let fault = Fault::on(Operation::Write, Effect::Short(0)).after(1).times(2);
        assert_eq!(ends(fault, &[0..512, 0..512, 0..512, 0..512]), [End::Whole, End::After(0), End::After(0), End::Whole]);
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_then_nothing() {
        let full = Fault::on(Operation::Write, Effect::StopAt(28)).at_sectors(4..u64::MAX);
        let none = End::Failed(28, 2048..u64::MAX);
        assert_eq!(ends(full, &[0..2048, 0..4096, 2048..4096]), [End::Whole, End::After(2048), none]);
    }

    #[test]
    fn delays_add_up_and_the_first_other_effect_decides() {
        let on_write = |effect| Fault::on(Operation::Write, effect);
        let mut faults =
            [on_write(Effect::Delay(3)), on_write(Effect::Short(7)), on_write(Effect::Fail(5)), on_write(Effect::Delay(4))];
        let verdict = Verdict::of(&mut faults, Operation::Write, &(0..512), &mut Random::new(1));
        assert_eq!(verdict, Verdict { delay_ns: 7, end: End::After(7) });
    }
}
