//! Where bytes are: what the mind knows of a device, and ranges on it. It refuses to know descriptors and paths.

use super::chain::DeviceIndex;
use super::limits::SECTOR_BYTES;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A block device: has a fixed size, moves whole logical blocks.
    Block,
    /// A regular file: ends at any byte and grows when written past its end.
    File,
}

/// Which bytes of the world a device's byte 0 is: two devices with the same `id` share storage.
///
/// A partition has the id of its disk and begins at the partition's first byte; a disk and a file begin at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// A block device: (0, device number of the whole disk). A file: (device number of its file system with the top bit
    /// set, inode number). So a disk never has the id of a file.
    pub id: (u64, u64),
    /// Where byte 0 of the device is within that storage.
    pub start_bytes: u64,
}

/// What the mind must know of an opened device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Block device or file.
    pub kind: DeviceKind,
    /// Which storage it is.
    pub identity: Identity,
    /// Its size in bytes when it was last looked at; exact for a file.
    pub bytes: u64,
    /// The unit in which direct I/O moves, in bytes: a power of two, 512 to 4096.
    pub logical_block_bytes: u32,
    /// Transfers that begin and end on multiples of this go the direct way; 1 if the device is buffered altogether. For a
    /// regular file it is at least a page of the page cache, so that no page is written both ways.
    pub direct_alignment_bytes: u32,
    /// Whether a transfer that is not a multiple of `direct_alignment_bytes` can be done at all (through a buffered
    /// description of the same inode).
    pub unaligned: Unaligned,
}

/// What becomes of a transfer that direct I/O cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unaligned {
    /// It is refused before any I/O: block devices, and files without a buffered description.
    Refused,
    /// It goes through the page cache: regular files.
    Buffered,
}

/// A range of bytes on an attached device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The device.
    pub device: DeviceIndex,
    /// The first byte.
    pub offset_bytes: u64,
    /// How many bytes.
    pub length_bytes: u64,
}

/// How many sectors hold so many bytes, the last one perhaps in part: 1000 bytes are 2 sectors.
#[must_use]
pub fn sectors_of(bytes: u64) -> u64 {
    bytes.div_ceil(SECTOR_BYTES)
}

/// Whether two ranges of two devices share a byte of storage. Empty ranges share nothing.
///
/// A partition that begins at byte 1048576 of its disk: its bytes [0, 512) overlap the disk's [1048576, 1048577).
#[must_use]
pub fn overlap(a: (Identity, u64, u64), b: (Identity, u64, u64)) -> bool {
    let range = |(identity, offset, length): (Identity, u64, u64)| {
        let first = u128::from(identity.start_bytes) + u128::from(offset);
        (first, first + u128::from(length))
    };
    let (a_first, a_end) = range(a);
    let (b_first, b_end) = range(b);
    a.0.id == b.0.id && a.2 > 0 && b.2 > 0 && a_first + 512 * u128::from(canary!(OverlapOffByOne)) < b_end && b_first < a_end
}
