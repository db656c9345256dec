//! Making a range zero without moving bytes, by calls that block. It refuses to know who calls and what comes next.

use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::copy::region::DeviceKind;
use crate::engine::device::Device;

/// `_IO(0x12, 127)`: zeroes a range of a block device, given as first byte and count of bytes.
const BLKZEROOUT: libc::Ioctl = 0x127F;

/// Zeroes a range the general way, and a block device's by its own, older call where the general one is refused.
pub fn zero(device: &Device, offset_bytes: u64, length_bytes: u32) -> Result<(), Errno> {
    let descriptor = device.descriptor(offset_bytes, length_bytes.into());
    match fallocate(descriptor, FallocateFlags::ZERO_RANGE, offset_bytes, length_bytes.into()) {
        Err(errno) if has_another_way(device, errno) => zero_block_device(device, offset_bytes, length_bytes),
        answer => answer,
    }
}

/// Whether a refusal of the general way leaves another.
pub fn has_another_way(device: &Device, errno: Errno) -> bool {
    device.kind() == DeviceKind::Block && matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV)
}

/// Zeroes a range of a block device by the block layer's own call.
pub fn zero_block_device(device: &Device, offset_bytes: u64, length_bytes: u32) -> Result<(), Errno> {
    let range = [offset_bytes, u64::from(length_bytes)];
    // SAFETY: the call reads the two numbers that it is given and no other memory of ours.
    match unsafe { libc::ioctl(device.direct_descriptor().as_raw_fd(), BLKZEROOUT, range.as_ptr()) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
