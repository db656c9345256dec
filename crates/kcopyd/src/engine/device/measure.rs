//! What an opened description can tell of itself: size, blocks, and the units of direct I/O. It refuses to know names.

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Stat, StatxFlags, fstat, fstatfs, ioctl_blkpbszget, ioctl_blksszget, statx};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};

use super::refusal;
use super::sysfs::Page;
use crate::copy::limits::{LOGICAL_BLOCK_BYTES_MAX, PAGE_BYTES, SECTOR_BYTES};
use crate::copy::region::DeviceKind;
use crate::error::{Error, ErrorKind};

/// The kernel's `size_t` in the number of BLKGETSIZE64 is historical; it stores 64 bits.
const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);
const BLKGETDISKSEQ: Opcode = opcode::read::<u64>(0x12, 128);
const BLKROGET: Opcode = opcode::none(0x12, 94);

/// What is known of direct I/O before it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirectSupport {
    /// It works in units of so many bytes, from any page in memory.
    InUnitsOf(u32),
    /// It does not work, or not so.
    Not,
}

/// The blocks of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) logical_bytes: u32,
    pub(super) physical_bytes: u32,
}

/// The size in bytes.
pub(super) fn size_bytes(of: BorrowedFd<'_>, kind: DeviceKind) -> Result<u64, Errno> {
    match kind {
        // SAFETY: BLKGETSIZE64 stores one u64 and reads nothing.
        DeviceKind::Block => unsafe { ioctl(of, Getter::<BLKGETSIZE64, u64>::new()) },
        DeviceKind::File => Ok(fstat(of)?.st_size.try_into().unwrap_or(0)),
    }
}

/// The size of a file in bytes as this kernel knows it, without asking a server that may not answer; where that is not known,
/// as the server says.
pub(super) fn size_bytes_known(of: BorrowedFd<'_>) -> Result<u64, Errno> {
    let said = statx(of, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::SIZE).ok();
    let said = said.filter(|answer| answer.stx_mask & StatxFlags::SIZE.bits() != 0);
    said.map_or_else(|| size_bytes(of, DeviceKind::File), |answer| Ok(answer.stx_size))
}

/// The sequence number of the disk that a block device is, or is a partition of. None before Linux 5.15.
pub(super) fn disk_sequence(of: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: BLKGETDISKSEQ stores one u64 and reads nothing; where it is unknown nothing is stored and it fails.
    unsafe { ioctl(of, Getter::<BLKGETDISKSEQ, u64>::new()) }.ok()
}

/// Refuses a block device that takes no writes. The kernel opens it for writing all the same and fails each write with EPERM.
pub(super) fn refuse_read_only(of: BorrowedFd<'_>) -> Result<(), Error> {
    // SAFETY: BLKROGET stores one int and reads nothing.
    match unsafe { ioctl(of, Getter::<BLKROGET, c_int>::new()) } {
        Ok(0) => Ok(()),
        Ok(_) => Err(refusal::system(Errno::ROFS, "open", refusal::read_only(DeviceKind::Block))),
        Err(errno) => Err(of_ioctl(errno)),
    }
}

/// The blocks of a block device; one with a logical block that a page cannot hold is refused.
pub(super) fn blocks(of: BorrowedFd<'_>) -> Result<Blocks, Error> {
    let logical_bytes = ioctl_blksszget(of).map_err(of_ioctl)?;
    let physical_bytes = ioctl_blkpbszget(of).map_err(of_ioctl)?;
    let usable = SECTOR_BYTES as u32..=LOGICAL_BLOCK_BYTES_MAX;
    if !usable.contains(&logical_bytes) || !logical_bytes.is_power_of_two() {
        let context = format!(
            "the device has logical blocks of {logical_bytes} bytes; 512 to {LOGICAL_BLOCK_BYTES_MAX} can be used: \
             copy the file system upon it instead"
        );
        return Err(Error::new(ErrorKind::UnsupportedDevice, context));
    }
    Ok(Blocks { logical_bytes, physical_bytes })
}

/// The blocks of a file: the units of direct I/O as far as a sector or a page, and what the file system likes to move.
pub(super) fn blocks_of_file(stat: &Stat, direct_unit_bytes: Option<u32>) -> Blocks {
    let sector_bytes = SECTOR_BYTES as u32;
    let logical_bytes = direct_unit_bytes.map_or(sector_bytes, |unit| unit.clamp(sector_bytes, LOGICAL_BLOCK_BYTES_MAX));
    let preferred_bytes = u32::try_from(stat.st_blksize).unwrap_or(logical_bytes);
    Blocks { logical_bytes, physical_bytes: preferred_bytes.max(logical_bytes) }
}

/// The number of the block device that transfers end up on: itself, or its file system's, which may be none of a block
/// device.
pub(super) fn beneath(stat: &Stat, kind: DeviceKind) -> u64 {
    if kind == DeviceKind::Block { stat.st_rdev } else { stat.st_dev }
}

/// Whether direct I/O works on an inode and in which units; its description need not be open for anything.
///
/// Where the kernel does not say (before 6.1, and FUSE or overlay later too) the units are the logical block of the device
/// beneath, or a page.
pub(super) fn direct_support(of: BorrowedFd<'_>, stat: &Stat, kind: DeviceKind) -> DirectSupport {
    let logical_bytes = || Page::of(beneath(stat, kind)).logical_block_bytes().unwrap_or(PAGE_BYTES as u32);
    let said = statx(of, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok();
    let said = said.filter(|answer| answer.stx_mask & StatxFlags::DIOALIGN.bits() != 0);
    let (unit_bytes, memory_bytes) = match said {
        Some(answer) => (answer.stx_dio_offset_align, answer.stx_dio_mem_align),
        None => (logical_bytes(), SECTOR_BYTES as u32),
    };
    // Transfers begin at pages of the pool, so an address that must be aligned to more cannot be had.
    let kept = unit_bytes.is_power_of_two() && memory_bytes.is_power_of_two() && u64::from(memory_bytes) <= PAGE_BYTES;
    if kept { DirectSupport::InUnitsOf(unit_bytes) } else { DirectSupport::Not }
}

/// Who grants or refuses direct I/O: the device, or a file's file system by name where that is worth a word.
pub(super) fn grantor_name(of: BorrowedFd<'_>, kind: DeviceKind) -> &'static str {
    if kind == DeviceKind::Block {
        return "the device";
    }
    match fstatfs(of).map_or(0, |found| found.f_type as u64 & 0xFFFF_FFFF) {
        0xEF53 => "ext4",
        0x5846_5342 => "XFS",
        0xF2F5_2010 => "F2FS",
        0x9123_683E => "btrfs, whose checksummed files are written through the page cache all the same,",
        0x0102_1994 => "tmpfs, which is itself the page cache,",
        0x794C_7630 => "overlayfs",
        0x6573_5546 => "FUSE",
        0x6969 => "NFS",
        0x2FC1_2FC1 => "ZFS",
        _ => "the file system",
    }
}

/// The size or the blocks could not be asked for.
pub(super) fn of_ioctl(errno: Errno) -> Error {
    refusal::system(errno, "ioctl", "the block device does not tell its size or blocks: is it still attached?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_ioctls_are_the_headers() {
        assert_eq!(BLKROGET, 0x125E);
        if size_of::<usize>() == 8 {
            assert_eq!(BLKGETSIZE64, 0x8008_1272);
        }
        assert_eq!(BLKGETDISKSEQ, 0x8008_1280);
    }
}
