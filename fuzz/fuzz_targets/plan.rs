//! Requests of any size, near every power of two, to `plan`: what it answers is held against the contract as the simulator's
//! oracle has it written down, and what it plans is cut into pieces by two ways of counting.

#![no_main]

use arbitrary::Arbitrary;
use kcopyd::copy::region::{DeviceKind, Geometry, Identity, Unaligned};
use kcopyd::copy::request::{Cut, Endpoint, Plan, plan};
use kcopyd_sim::{compare, ruling};
use libfuzzer_sys::fuzz_target;

/// The largest size of a device or file.
const BYTES_MAX: u64 = i64::MAX as u64;

/// A number that is small, or near a power of two.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u8),
    Near { power: u8, off: i8 },
    Any(u64),
}

impl Number {
    fn value(self) -> u64 {
        match self {
            Number::Small(number) => number.into(),
            Number::Near { power, off } => (1_u64 << (power % 64)).wrapping_add_signed(off.into()),
            Number::Any(number) => number,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct End {
    block: bool,
    large_blocks: bool,
    strict: bool,
    buffered: bool,
    device: u8,
    partition: Option<Number>,
    bytes: Number,
    sector: Number,
    count: Option<Number>,
}

impl End {
    fn endpoint(self) -> Endpoint {
        let logical_block_bytes = if self.block && self.large_blocks { 4096 } else { 512 };
        let start = self.partition.filter(|_| self.block).map_or(0, |start| (start.value() % (1 << 53)) * 512);
        let (bytes, id) = (self.bytes.value().min(BYTES_MAX), u64::from(self.device % 3));
        let geometry = Geometry {
            kind: if self.block { DeviceKind::Block } else { DeviceKind::File },
            identity: Identity { id: if self.block { (0, id) } else { (1 << 63, id) }, start_bytes: start },
            // A device is a whole number of its blocks.
            bytes: if self.block { bytes / u64::from(logical_block_bytes) * u64::from(logical_block_bytes) } else { bytes },
            logical_block_bytes,
            direct_alignment_bytes: match (self.block, self.buffered) {
                (true, _) => logical_block_bytes,
                (false, true) => 1,
                (false, false) => 4096,
            },
            unaligned: if self.block || self.strict { Unaligned::Refused } else { Unaligned::Buffered },
        };
        Endpoint { geometry, sector: self.sector.value(), count: self.count.map(Number::value) }
    }
}

#[derive(Arbitrary, Debug)]
struct Request {
    source: Option<End>,
    destinations: Vec<End>,
    /// Most ends ask for the same, or nearly every request would be refused for that alone.
    same_count: Option<Number>,
    most_pages: u8,
    from: Number,
}

fuzz_target!(|request: Request| {
    let same = |end: End| End { count: request.same_count.or(end.count), ..end };
    let source = request.source.map(|end| same(end).endpoint());
    let destinations: Vec<Endpoint> = request.destinations.iter().map(|&end| same(end).endpoint()).collect();
    let answer = plan(source.as_ref(), &destinations);
    if let Err(breach) = compare(&ruling(source.as_ref(), &destinations), &answer) {
        panic!("{breach}: {source:?} to {destinations:?}");
    }
    if let Ok(plan) = answer {
        pieces(&plan, (u64::from(request.most_pages) + 1) * 4096, request.from.value());
    }
});

/// Some pieces from some place on: never empty, never too long, never beyond the end, cut where the plan says, and no shorter
/// than they must be.
fn pieces(plan: &Plan, most: u64, from: u64) {
    let (length, Cut { alignment_bytes, phase_bytes }) = (plan.length_bytes, plan.cut);
    let is_place = |offset: u64| (u128::from(offset) + u128::from(phase_bytes)) % u128::from(alignment_bytes) == 0;
    let mut offset = if length == 0 { return } else { from % length };
    for _ in 0..8 {
        if offset == length {
            return;
        }
        let piece = plan.cut.piece(offset, most, length);
        let end = offset + piece;
        assert!(piece > 0 && piece <= most && end <= length, "{piece} of {plan:?} from {offset}");
        assert!(end == length || is_place(end), "cut at {end}: {plan:?}");
        if end < length {
            let further = end + u64::from(alignment_bytes);
            let first = !is_place(offset);
            assert!(first || further > length.min(offset + most), "{piece} could be longer: {plan:?} from {offset}");
            assert!(!first || piece < u64::from(alignment_bytes), "the first piece ends at the next place: {plan:?}");
        }
        offset = end;
    }
}
