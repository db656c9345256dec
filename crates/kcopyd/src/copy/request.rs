//! A caller's request, checked: every refusal that needs no I/O is made here, before the first (P9, P10, P11), and what is left
//! is a plan in bytes. It refuses to know descriptors, jobs in flight, and how pieces are carried.

use smallvec::SmallVec;

use super::limits::{DESTINATIONS_MAX, PAGE_BYTES, SECTOR_BYTES, SECTOR_NUMBER_MAX};
use super::region::{DeviceKind, Geometry, Unaligned, overlap, sectors_of};
use crate::error::{Error, ErrorKind};

/// One end of a request as the caller named it, with what is known of its device.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The device.
    pub geometry: Geometry,
    /// The first sector.
    pub sector: u64,
    /// How many sectors; a source's default is "to its end", a destination's is the source's.
    pub count: Option<u64>,
}

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is copied, in bytes; a multiple of 512 unless the region ends at the end of a file that is not.
    pub length_bytes: u64,
    /// The same in sectors, the last one perhaps in part.
    pub sectors: u64,
    /// Where the source region begins on its device; 0 for zeroes.
    pub source_offset_bytes: u64,
    /// Where it may be cut.
    pub cut: Cut,
    /// No piece of a copy is to be longer, because a device's queue would split its requests; whoever knows the queues sets it.
    pub piece_bytes_max: u64,
    /// No more pieces are to be under way, because the devices' queues hold no more requests; likewise.
    pub pieces_max: u32,
    /// Each destination's part.
    pub destinations: SmallVec<[DestinationPlan; 1]>,
}

/// Where a destination's region lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationPlan {
    /// Where it begins on its device.
    pub offset_bytes: u64,
    /// The last write is padded with zeros to a multiple of this many bytes: 1 for a file, the logical block for a block device.
    pub padding_unit_bytes: u32,
}

/// Pieces of a job begin and end, but for the job's own ends, where `(offset + phase_bytes)` is a multiple of `alignment_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// 1 where any place will do.
    pub alignment_bytes: u32,
    /// What a job's first byte is off such a place.
    pub phase_bytes: u32,
}

impl Cut {
    /// The length of the piece that begins at `offset_bytes`, at most `most_bytes` long, of a job of `length_bytes`.
    ///
    /// A file's region that begins at byte 512 and ends at byte 9000, alignment 4096 (so phase 512): pieces of 3584 bytes up
    /// to byte 4096, then 4096 up to byte 8192, then the last 808: only the two edges go through the page cache.
    #[must_use]
    pub fn piece(&self, offset_bytes: u64, most_bytes: u64, length_bytes: u64) -> u64 {
        let (alignment, phase) = (u64::from(self.alignment_bytes), u64::from(self.phase_bytes));
        let end = length_bytes.min(offset_bytes + most_bytes);
        let begins_off = (offset_bytes + phase) % alignment;
        let next_place = offset_bytes + (alignment - begins_off);
        if begins_off != 0 {
            return end.min(next_place) - offset_bytes;
        }
        let past_last_place = (end + phase) % alignment;
        if past_last_place < end - offset_bytes { end - past_last_place - offset_bytes } else { end - offset_bytes }
    }
}

/// Checks a request. Without a source it is a request for zeroes, and every destination must name its count.
pub fn plan(source: Option<&Endpoint>, destinations: &[Endpoint]) -> Result<Plan, Error> {
    if destinations.is_empty() || destinations.len() > DESTINATIONS_MAX {
        let context = format!("to: there must be 1 to {DESTINATIONS_MAX} destinations, not {}", destinations.len());
        return Err(Error::new(ErrorKind::OutOfRange, context));
    }
    let (length_bytes, sectors) = match source {
        Some(source) => source_length(source)?,
        None => zero_length(&destinations[0])?,
    };
    let at_file_end = source.is_some_and(|source| {
        source.geometry.kind == DeviceKind::File && source.sector * SECTOR_BYTES + length_bytes == source.geometry.bytes
    });
    let mut planned = SmallVec::new();
    for (index, destination) in destinations.iter().enumerate() {
        let checked = destination_plan(destination, length_bytes, sectors, at_file_end);
        planned.push(checked.map_err(|(kind, text)| Error::new(kind, format!("to[{index}].{text}")).at_destination(index))?);
    }
    refuse_overlap(source.map(|source| (source, length_bytes)), destinations, &planned, length_bytes)?;
    let source_offset_bytes = source.map_or(0, |source| source.sector * SECTOR_BYTES);
    let ends = source.map(|source| (source.geometry, source_offset_bytes)).into_iter();
    let ends = ends.chain(destinations.iter().map(|end| end.geometry).zip(planned.iter().map(|end| end.offset_bytes)));
    Ok(Plan {
        length_bytes,
        sectors,
        source_offset_bytes,
        cut: cut(ends),
        piece_bytes_max: u64::MAX,
        pieces_max: u32::MAX,
        destinations: planned,
    })
}

type Refusal = (ErrorKind, String);

fn sector_in_range(field: &str, sector: u64) -> Result<(), Refusal> {
    if sector > SECTOR_NUMBER_MAX {
        return Err((ErrorKind::OutOfRange, format!("{field} must be at most 2^53 - 1, not {sector}")));
    }
    Ok(())
}

fn source_length(source: &Endpoint) -> Result<(u64, u64), Error> {
    check_source(source).map_err(|(kind, text)| Error::new(kind, format!("from.{text}")))
}

fn check_source(source: &Endpoint) -> Result<(u64, u64), Refusal> {
    sector_in_range("sector", source.sector)?;
    let device_sectors = sectors_of(source.geometry.bytes);
    let left = device_sectors.checked_sub(source.sector).ok_or_else(|| {
        let text = format!("sector {} is past the device's end: it has {device_sectors} sectors", source.sector);
        (ErrorKind::Bounds, text)
    })?;
    let count = source.count.unwrap_or(left);
    sector_in_range("count", count)?;
    if count > left {
        let text = format!(
            "count: the region of {count} sectors from sector {} ends {} sectors past the device's end at {device_sectors}",
            source.sector,
            count - left
        );
        return Err((ErrorKind::Bounds, text));
    }
    let offset = source.sector * SECTOR_BYTES;
    let length = (count * SECTOR_BYTES).min(source.geometry.bytes.saturating_sub(offset));
    check_alignment(&source.geometry, offset, length, TailRule::AsItIs)?;
    Ok((length, count))
}

fn zero_length(first: &Endpoint) -> Result<(u64, u64), Error> {
    let missing = || Error::new(ErrorKind::InvalidArgType, "to[0].count is required: nothing is wiped by omission");
    let count = first.count.ok_or_else(missing)?;
    sector_in_range("count", count).map_err(|(kind, text)| Error::new(kind, format!("to[0].{text}")))?;
    Ok((count * SECTOR_BYTES, count))
}

fn destination_plan(
    destination: &Endpoint,
    length_bytes: u64,
    sectors: u64,
    at_file_end: bool,
) -> Result<DestinationPlan, Refusal> {
    sector_in_range("sector", destination.sector)?;
    if let Some(count) = destination.count.filter(|&count| count != sectors) {
        let text = format!("count is {count}, but the source's is {sectors}; leave it out or give the same");
        return Err((ErrorKind::OutOfRange, text));
    }
    let geometry = &destination.geometry;
    let offset_bytes = destination.sector * SECTOR_BYTES;
    let tail = if at_file_end { TailRule::Padded } else { TailRule::AsItIs };
    check_alignment(geometry, offset_bytes, length_bytes, tail)?;
    let padding_unit_bytes = if geometry.kind == DeviceKind::Block { geometry.logical_block_bytes } else { 1 };
    let end = offset_bytes + length_bytes.next_multiple_of(u64::from(padding_unit_bytes));
    if geometry.kind == DeviceKind::Block && end > geometry.bytes + SECTOR_BYTES * u64::from(canary!(BoundsOffByOne)) {
        let text = format!(
            "sector: the region of {sectors} sectors from sector {} ends {} sectors past the device's end at {}; \
             copy fewer sectors or take a larger device",
            destination.sector,
            sectors_of(end - geometry.bytes),
            sectors_of(geometry.bytes)
        );
        return Err((ErrorKind::Bounds, text));
    }
    // The last sector of the longest region from the last sector there can be is one that a file may have.
    const { assert!(2 * SECTOR_NUMBER_MAX * SECTOR_BYTES <= i64::MAX as u64) };
    Ok(DestinationPlan { offset_bytes, padding_unit_bytes })
}

#[derive(Clone, Copy, PartialEq)]
enum TailRule {
    AsItIs,
    /// The region ends at a source file's end: a block device's last block is padded with zeros.
    Padded,
}

/// P9: where nothing but whole blocks can be moved, a region is whole blocks.
fn check_alignment(geometry: &Geometry, offset: u64, length: u64, tail: TailRule) -> Result<(), Refusal> {
    if geometry.unaligned == Unaligned::Buffered {
        return Ok(());
    }
    let unit = u64::from(geometry.direct_alignment_bytes.max(block_of(geometry)));
    let padded = tail == TailRule::Padded && geometry.kind == DeviceKind::Block;
    let whole = |bytes: u64| bytes.is_multiple_of(unit);
    let sectors = unit / SECTOR_BYTES;
    if !whole(offset) {
        let text = format!(
            "sector {} is not a multiple of {sectors}: the device moves blocks of {unit} bytes",
            offset / SECTOR_BYTES
        );
        return Err((ErrorKind::Alignment, text));
    }
    if !whole(length) && !padded {
        let text =
            format!("count {} is not a multiple of {sectors}: the device moves blocks of {unit} bytes", sectors_of(length));
        return Err((ErrorKind::Alignment, text));
    }
    Ok(())
}

/// A block device moves whole logical blocks, buffered or not.
fn block_of(geometry: &Geometry) -> u32 {
    if geometry.kind == DeviceKind::Block { geometry.logical_block_bytes } else { 1 }
}

/// P10, on the regions as they will be written, padding included.
fn refuse_overlap(
    source: Option<(&Endpoint, u64)>,
    destinations: &[Endpoint],
    planned: &[DestinationPlan],
    length_bytes: u64,
) -> Result<(), Error> {
    let range = |index: usize| {
        let length = length_bytes.next_multiple_of(u64::from(planned[index].padding_unit_bytes));
        (destinations[index].geometry.identity, planned[index].offset_bytes, length)
    };
    for index in 0..destinations.len() {
        if let Some((source, length)) = source
            && overlap((source.geometry.identity, source.sector * SECTOR_BYTES, length), range(index))
        {
            let text = format!("from and to[{index}] overlap on the same device");
            return Err(Error::new(ErrorKind::Overlap, text).at_destination(index));
        }
        if let Some(other) = (0..index).find(|&other| overlap(range(other), range(index))) {
            let text = format!("to[{other}] and to[{index}] overlap on the same device");
            return Err(Error::new(ErrorKind::Overlap, text).at_destination(index));
        }
    }
    Ok(())
}

/// Where the job may be cut. Devices that move nothing but whole blocks come first: their regions begin on a block, so the
/// phase is 0. Otherwise the first directly opened file gives the phase, and a file with another phase goes through the page
/// cache altogether.
fn cut(ends: impl Iterator<Item = (Geometry, u64)> + Clone) -> Cut {
    let bound = ends.clone().filter(|(geometry, _)| geometry.unaligned == Unaligned::Refused);
    let unit = bound.map(|(geometry, _)| geometry.direct_alignment_bytes.max(block_of(&geometry))).max().unwrap_or(1);
    if u64::from(unit) > SECTOR_BYTES {
        return Cut { alignment_bytes: unit.max(PAGE_BYTES as u32), phase_bytes: 0 };
    }
    let file = ends
        .into_iter()
        .find(|(geometry, _)| geometry.unaligned == Unaligned::Buffered && geometry.direct_alignment_bytes > 1);
    match file {
        Some((geometry, offset)) => {
            let alignment_bytes = geometry.direct_alignment_bytes;
            Cut { alignment_bytes, phase_bytes: (offset % u64::from(alignment_bytes)) as u32 }
        }
        None => Cut { alignment_bytes: 1, phase_bytes: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::super::region::Identity;
    use super::*;
    use proptest::prelude::*;

    fn block(disk: u64, sectors: u64, logical_block_bytes: u32) -> Geometry {
        Geometry {
            kind: DeviceKind::Block,
            identity: Identity { id: (0, disk), start_bytes: 0 },
            bytes: sectors * SECTOR_BYTES,
            logical_block_bytes,
            direct_alignment_bytes: logical_block_bytes,
            unaligned: Unaligned::Refused,
        }
    }

    fn file(inode: u64, bytes: u64) -> Geometry {
        Geometry {
            kind: DeviceKind::File,
            identity: Identity { id: (1 << 63, inode), start_bytes: 0 },
            bytes,
            logical_block_bytes: 512,
            direct_alignment_bytes: 4096,
            unaligned: Unaligned::Buffered,
        }
    }

    fn at(geometry: Geometry, sector: u64, count: u64) -> Endpoint {
        Endpoint { geometry, sector, count: Some(count) }
    }

    fn to(geometry: Geometry, sector: u64) -> Endpoint {
        Endpoint { geometry, sector, count: None }
    }

    fn kind_of(source: &Endpoint, destinations: &[Endpoint]) -> ErrorKind {
        plan(Some(source), destinations).expect_err("this request is refused").kind
    }

    #[test]
    fn a_source_defaults_to_its_end() {
        let whole = plan(Some(&to(block(1, 100, 512), 0)), &[to(block(2, 100, 512), 0)]).expect("it fits");
        assert_eq!((whole.sectors, whole.length_bytes), (100, 51_200));
        let rest = plan(Some(&to(block(1, 100, 512), 90)), &[to(block(2, 100, 512), 0)]).expect("it fits");
        assert_eq!(rest.sectors, 10);
        let nothing = plan(Some(&to(block(1, 100, 512), 100)), &[to(block(2, 100, 512), 0)]).expect("nothing fits always");
        assert_eq!(nothing.sectors, 0);
    }

    #[test]
    fn p11_a_region_past_the_end_is_refused() {
        let small = block(2, 50, 512);
        assert_eq!(kind_of(&at(block(1, 100, 512), 51, 50), &[to(file(1, 0), 0)]), ErrorKind::Bounds);
        assert_eq!(kind_of(&at(block(1, 100, 512), 101, 0), &[to(file(1, 0), 0)]), ErrorKind::Bounds);
        let error = plan(Some(&at(block(1, 100, 512), 0, 60)), &[to(block(3, 100, 512), 0), to(small, 0)]);
        let error = error.expect_err("the second destination is too small");
        assert_eq!((error.kind, error.destination), (ErrorKind::Bounds, Some(1)));
        assert!(error.context.contains("10 sectors past"), "it says by how much: {}", error.context);
        assert!(plan(Some(&at(block(1, 100, 512), 0, 60)), &[to(file(1, 0), 1 << 40)]).is_ok(), "a file grows");
        let whole = Endpoint { count: None, ..at(file(2, i64::MAX as u64), 0, 0) };
        assert_eq!(
            kind_of(&whole, &[to(file(1, 0), 0)]),
            ErrorKind::OutOfRange,
            "2^54 sectors are no number of JavaScript's"
        );
        let most = Endpoint { count: Some(SECTOR_NUMBER_MAX), ..whole };
        assert!(plan(Some(&most), &[to(file(1, 0), SECTOR_NUMBER_MAX)]).is_ok(), "it ends at byte 2^63 - 1024");
        let last = plan(Some(&at(block(1, 100, 512), 0, 60)), &[to(file(1, 0), SECTOR_NUMBER_MAX)]);
        assert!(last.is_ok(), "sector 2^53 - 1 is byte 2^62 - 512, still an offset that a file may have");
    }

    #[test]
    fn p9_a_block_device_moves_whole_blocks() {
        let big = block(2, 800, 4096);
        assert_eq!(kind_of(&at(block(1, 800, 512), 1, 8), &[to(big, 4)]), ErrorKind::Alignment);
        assert_eq!(kind_of(&at(block(1, 800, 512), 0, 12), &[to(big, 0)]), ErrorKind::Alignment);
        assert_eq!(kind_of(&at(big, 4, 8), &[to(file(1, 0), 0)]), ErrorKind::Alignment);
        assert!(plan(Some(&at(block(1, 800, 512), 1, 16)), &[to(big, 8)]).is_ok(), "the source's own block is smaller");
        assert!(plan(Some(&at(file(1, 10_000), 1, 3)), &[to(file(2, 0), 5)]).is_ok(), "a file takes any sector");
    }

    #[test]
    fn p6_only_at_a_source_files_end_a_block_is_padded() {
        let source = file(1, 1000);
        let planned = plan(Some(&to(source, 0)), &[to(block(2, 8, 4096), 0), to(file(3, 0), 0)]).expect("padded");
        assert_eq!((planned.length_bytes, planned.sectors), (1000, 2));
        assert_eq!(planned.destinations.iter().map(|to| to.padding_unit_bytes).collect::<Vec<_>>(), [4096, 1]);
        assert_eq!(kind_of(&at(source, 0, 1), &[to(block(2, 8, 4096), 0)]), ErrorKind::Alignment);
        assert_eq!(kind_of(&to(source, 0), &[to(block(2, 7, 4096), 0)]), ErrorKind::Bounds);
    }

    #[test]
    fn p10_overlap_is_refused_also_through_a_partition() {
        let disk = block(1, 10_000, 512);
        let mut partition = block(1, 1000, 512);
        partition.identity.start_bytes = 2048 * SECTOR_BYTES;
        assert_eq!(kind_of(&at(disk, 0, 100), &[to(disk, 99)]), ErrorKind::Overlap);
        assert!(plan(Some(&at(disk, 0, 100)), &[to(disk, 100)]).is_ok(), "side by side is no overlap");
        assert_eq!(kind_of(&at(disk, 2000, 100), &[to(partition, 51)]), ErrorKind::Overlap);
        assert!(plan(Some(&at(disk, 2000, 100)), &[to(partition, 52)]).is_ok());
        let source = at(block(9, 100, 512), 0, 10);
        assert_eq!(kind_of(&source, &[to(disk, 0), to(disk, 5)]), ErrorKind::Overlap);
        assert!(plan(Some(&source), &[to(disk, 0), to(disk, 10)]).is_ok());
    }

    #[test]
    fn p10_overlap_is_judged_on_the_padded_region() {
        let disk = block(1, 100, 4096);
        let source = to(file(7, 5000), 0);
        assert_eq!(kind_of(&source, &[to(disk, 0), to(disk, 8)]), ErrorKind::Overlap);
        assert!(plan(Some(&source), &[to(disk, 0), to(disk, 16)]).is_ok());
    }

    #[test]
    fn destinations_and_counts_are_checked() {
        let source = at(block(1, 100, 512), 0, 10);
        assert_eq!(kind_of(&source, &[]), ErrorKind::OutOfRange);
        let many: Vec<Endpoint> = (0..33).map(|index| to(block(10 + index, 100, 512), 0)).collect();
        assert_eq!(kind_of(&source, &many), ErrorKind::OutOfRange);
        assert!(plan(Some(&source), &many[..32]).is_ok());
        assert_eq!(kind_of(&source, &[at(block(2, 100, 512), 0, 9)]), ErrorKind::OutOfRange);
        assert_eq!(plan(None, &[to(block(2, 100, 512), 0)]).expect_err("no count").kind, ErrorKind::InvalidArgType);
        assert_eq!(plan(None, &[at(block(2, 100, 512), 8, 16)]).expect("zeroes").length_bytes, 8192);
    }

    #[test]
    fn p9_a_misaligned_file_is_cut_so_that_only_its_edges_are_buffered() {
        let planned = plan(Some(&at(block(1, 100, 512), 0, 18)), &[to(file(1, 0), 1)]).expect("a file takes any sector");
        let (mut offset, mut pieces) = (0, Vec::new());
        while offset < planned.length_bytes {
            let piece = planned.cut.piece(offset, 4096, planned.length_bytes);
            pieces.push(piece);
            offset += piece;
        }
        assert_eq!(pieces, [3584, 4096, 1536]);
    }

    proptest! {
        #[test]
        fn p5_pieces_cover_the_job_exactly(
            length in 1u64..3_000_000, most_pages in 1u64..200, alignment in prop::sample::select(vec![1u32, 512, 4096, 65536]),
            phase in 0u32..65536,
        ) {
            let cut = Cut { alignment_bytes: alignment, phase_bytes: phase % alignment };
            let (mut offset, most) = (0, most_pages * PAGE_BYTES);
            while offset < length {
                let piece = cut.piece(offset, most, length);
                prop_assert!(piece > 0 && piece <= most && offset + piece <= length);
                let place = |byte: u64| (byte + u64::from(cut.phase_bytes)).is_multiple_of(u64::from(alignment));
                let end = offset + piece;
                prop_assert!(place(end) || end == length || most < u64::from(alignment) * 2, "cut at {end}");
                offset = end;
            }
            prop_assert_eq!(offset, length);
        }
    }
}
