//! Which requests must be refused before any I/O, and why: the rules of the contract (P6, P9, P10, P11, P30), written down again.
//! It knows nothing of what becomes of a request that is accepted.

use kcopyd::copy::region::{DeviceKind, Geometry, Unaligned};
use kcopyd::copy::request::{Endpoint, Plan};
use kcopyd::error::{Error, ErrorKind};

use super::Breach;

const SECTOR: u128 = 512;
const SECTOR_NUMBER_MAX: u64 = (1 << 53) - 1;

/// What the contract says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It must be accepted; so many bytes are copied, and so many are written to each destination.
    Accept {
        /// What is copied.
        length: u64,
        /// What is written to each destination.
        padded: Vec<u64>,
    },
    /// It must be refused, for one of these reasons.
    Refuse(Vec<ErrorKind>),
}

/// Says what the contract says.
#[must_use]
pub fn ruling(source: Option<&Endpoint>, destinations: &[Endpoint]) -> Ruling {
    let mut reasons = Vec::new();
    if !(1..=32).contains(&destinations.len()) {
        return Ruling::Refuse(vec![ErrorKind::OutOfRange]);
    }
    let ends = source.into_iter().chain(destinations);
    if ends.clone().any(|end| end.sector > SECTOR_NUMBER_MAX || end.count.is_some_and(|count| count > SECTOR_NUMBER_MAX)) {
        reasons.push(ErrorKind::OutOfRange);
    }
    let Some(count) = count_of(source, destinations) else {
        reasons.extend([ErrorKind::InvalidArgType, ErrorKind::Bounds]);
        return Ruling::Refuse(reasons);
    };
    // Also a count that is nobody's but the device's: sectors are numbers of JavaScript's.
    if count > SECTOR_NUMBER_MAX.into() {
        reasons.push(ErrorKind::OutOfRange);
    }
    if destinations.iter().any(|to| to.count.is_some_and(|own| u128::from(own) != count)) {
        reasons.push(ErrorKind::OutOfRange);
    }
    let mut length = count * SECTOR;
    let mut padding_allowed = false;
    if let Some(from) = source {
        let (bytes, start) = (u128::from(from.geometry.bytes), u128::from(from.sector) * SECTOR);
        if start > bytes.next_multiple_of(SECTOR) || start + length > bytes.next_multiple_of(SECTOR) {
            reasons.push(ErrorKind::Bounds);
        }
        length = length.min(bytes.saturating_sub(start));
        padding_allowed = from.geometry.kind == DeviceKind::File && start + length == bytes;
        if off(&from.geometry, start) || off(&from.geometry, length) {
            reasons.push(ErrorKind::Alignment);
        }
    }
    let mut regions = Vec::new();
    let mut padded = Vec::new();
    for to in destinations {
        let (start, block) = (u128::from(to.sector) * SECTOR, block_of(&to.geometry));
        let may_pad = padding_allowed && to.geometry.kind == DeviceKind::Block;
        if off(&to.geometry, start) || off(&to.geometry, length) && !may_pad {
            reasons.push(ErrorKind::Alignment);
        }
        let written = length.next_multiple_of(block);
        let room = if to.geometry.kind == DeviceKind::Block { u128::from(to.geometry.bytes) } else { i64::MAX as u128 };
        if start + written > room {
            reasons.push(ErrorKind::Bounds);
        }
        regions.push((to.geometry.identity.id, u128::from(to.geometry.identity.start_bytes) + start, written));
        padded.push(written as u64);
    }
    let from = source.map(|from| {
        let start = u128::from(from.geometry.identity.start_bytes) + u128::from(from.sector) * SECTOR;
        (from.geometry.identity.id, start, length)
    });
    let all: Vec<_> = from.into_iter().chain(regions).collect();
    if (0..all.len()).any(|one| (0..one).any(|other| meet(all[one], all[other]))) {
        reasons.push(ErrorKind::Overlap);
    }
    if reasons.is_empty() { Ruling::Accept { length: length as u64, padded } } else { Ruling::Refuse(reasons) }
}

/// How many sectors; nothing where it cannot be known.
fn count_of(source: Option<&Endpoint>, destinations: &[Endpoint]) -> Option<u128> {
    match source {
        None => destinations[0].count.map(u128::from),
        Some(from) => {
            let to_end = u128::from(from.geometry.bytes).div_ceil(SECTOR).checked_sub(from.sector.into());
            from.count.map(u128::from).or(to_end)
        }
    }
}

fn block_of(geometry: &Geometry) -> u128 {
    if geometry.kind == DeviceKind::Block { geometry.logical_block_bytes.into() } else { 1 }
}

/// Whether a device cannot be asked for something that begins or ends there.
fn off(geometry: &Geometry, bytes: u128) -> bool {
    let unit = block_of(geometry).max(geometry.direct_alignment_bytes.into());
    geometry.unaligned == Unaligned::Refused && !bytes.is_multiple_of(unit)
}

/// Whether two regions of the world share a byte.
fn meet(one: ((u64, u64), u128, u128), other: ((u64, u64), u128, u128)) -> bool {
    one.0 == other.0 && one.1.max(other.1) < (one.1 + one.2).min(other.1 + other.2)
}

/// Holds the mind's answer to a request against the contract's.
pub fn compare(ruling: &Ruling, answer: &Result<Plan, Error>) -> Result<(), Breach> {
    let (promise, text) = match (ruling, answer) {
        (Ruling::Accept { length, padded }, Ok(plan)) => {
            let units = plan.destinations.iter().map(|to| plan.length_bytes.next_multiple_of(to.padding_unit_bytes.into()));
            if plan.length_bytes == *length && units.eq(padded.iter().copied()) {
                return Ok(());
            }
            ("P6", format!("planned as {plan:?}, not as {ruling:?}"))
        }
        (Ruling::Refuse(reasons), Err(error)) if reasons.contains(&error.kind) => return Ok(()),
        (Ruling::Refuse(reasons), Err(error)) => ("P17", format!("refused as {:?}, not for {reasons:?}", error.kind)),
        (Ruling::Refuse(reasons), Ok(plan)) => (promise_of(reasons), format!("{plan:?} is not refused: {reasons:?}")),
        (Ruling::Accept { .. }, Err(error)) => ("P9", format!("refused for no reason: {error:?}")),
    };
    Err(Breach { promise, text })
}

fn promise_of(reasons: &[ErrorKind]) -> &'static str {
    match reasons[0] {
        ErrorKind::Overlap => "P10",
        ErrorKind::Bounds => "P11",
        ErrorKind::Alignment => "P9",
        _ => "P30",
    }
}
