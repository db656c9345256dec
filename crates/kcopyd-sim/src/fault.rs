//! What goes wrong with a request: by chance, at bad places, or because it is the one that was struck. It refuses to know what
//! the request is for.

use std::ops::Range;

use kcopyd::copy::chain::Operation;
use kcopyd::engine::simulated::Random;

use crate::scenario::{Before, Effect, Rates, Zeroing};

pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const EAGAIN: i32 = 11;
pub const EINVAL: i32 = 22;
pub const ENOSPC: i32 = 28;
pub const ENODATA: i32 = 61;
pub const EILSEQ: i32 = 84;
pub const EOPNOTSUPP: i32 = 95;

const SLOW_NS: u64 = 100_000_000;

/// A bad place, on the disk of the end that it was named for.
#[derive(Clone, Debug)]
pub struct Bad {
    /// Which bytes of the disk.
    pub range: Range<u64>,
    /// With which errno.
    pub errno: i32,
    /// What happens to the part before.
    pub before: Before,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it is moved.
    Whole,
    /// So many bytes of it are moved, fewer than all.
    After(u64),
    /// With this errno.
    Failed(i32),
}

/// What was decided for a request when it started.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// How much longer it takes.
    pub delay_ns: u64,
    /// What comes of it.
    pub end: End,
}

/// A request, as far as faults look at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it does.
    pub operation: Operation,
    /// From which byte of the disk on.
    pub offset_bytes: u64,
    /// How many bytes.
    pub length_bytes: u64,
    /// The bad places of its end of the job.
    pub bad: &'a [Bad],
    /// Whether its disk makes zeroes.
    pub zeroing: Zeroing,
}

impl Request<'_> {
    /// What becomes of it: a disk that refuses to zero refuses; otherwise a bad place decides, otherwise chance.
    pub fn judge(&self, rates: &Rates, unit_bytes: u64, random: &mut Random) -> Verdict {
        if self.operation == Operation::Zero && self.zeroing == Zeroing::Refused {
            return Verdict { delay_ns: 0, end: End::Failed(EOPNOTSUPP) };
        }
        if let Some(end) = self.at_bad_place(unit_bytes) {
            return Verdict { delay_ns: 0, end };
        }
        self.by_chance(rates, unit_bytes, random)
    }

    fn at_bad_place(&self, unit_bytes: u64) -> Option<End> {
        if self.operation == Operation::Flush {
            return None;
        }
        let end_bytes = self.offset_bytes + self.length_bytes;
        let touched = |bad: &&Bad| self.offset_bytes < bad.range.end && bad.range.start < end_bytes;
        let bad = self.bad.iter().filter(touched).min_by_key(|bad| bad.range.start)?;
        let before = bad.range.start.saturating_sub(self.offset_bytes) / unit_bytes * unit_bytes;
        let moved = bad.before == Before::Moved && before > 0;
        Some(if moved { End::After(before) } else { End::Failed(bad.errno) })
    }

    fn by_chance(&self, rates: &Rates, unit_bytes: u64, random: &mut Random) -> Verdict {
        let mut drawn = random.below(1 << 16) as u32;
        let mut strikes = |rate: u32| {
            let hit = drawn < rate;
            drawn = drawn.wrapping_sub(rate);
            hit
        };
        let errno = |of: &[i32], random: &mut Random| End::Failed(of[random.below(of.len() as u64) as usize]);
        let flush = self.operation == Operation::Flush;
        let mut delay_ns = 0;
        let end = match self.operation {
            Operation::Read if strikes(rates.read_fails) => errno(&[EIO, ENODATA, EILSEQ], random),
            Operation::Write if strikes(rates.write_fails) => errno(&[EIO, ENOSPC], random),
            Operation::Zero if strikes(rates.zero_fails) => errno(&[EIO, EOPNOTSUPP], random),
            Operation::Flush if strikes(rates.flush_fails) => errno(&[EIO, ENOSPC], random),
            _ if strikes(rates.interrupted) => End::Failed(EINTR),
            _ if strikes(rates.again) => End::Failed(EAGAIN),
            _ if !flush && strikes(rates.short) => End::After(random.below(self.length_bytes / unit_bytes) * unit_bytes),
            _ if !flush && strikes(rates.empty) => End::After(0),
            _ if strikes(rates.slow) => {
                delay_ns = random.below(SLOW_NS);
                End::Whole
            }
            _ => End::Whole,
        };
        Verdict { delay_ns, end }
    }
}

impl Effect {
    /// The end of a request of so many bytes that this strikes.
    #[must_use]
    pub fn end(self, length_bytes: u64, unit_bytes: u64) -> End {
        match self {
            Effect::Fail(errno) => End::Failed(errno),
            Effect::Short(_) if length_bytes == 0 => End::Whole,
            Effect::Short(parts) => End::After(length_bytes / unit_bytes * u64::from(parts) / 64 * unit_bytes),
        }
    }
}
