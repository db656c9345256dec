//! The first requests of every ring: that the kernel takes and answers them at all, which a seccomp filter may allow to set
//! up but not to do, and that it keeps the promise that linked chains stand on. It refuses to touch a device.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::opcode::{Read, Write};
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use rustix::event::{EventfdFlags, eventfd};

use super::ring::{Patience, Ring, Waiting};
use super::setup::unavailable;
use crate::error::Error;

/// Whether a short read cancels what is linked to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortRead {
    /// It does, as Linux does.
    BreaksLinks,
    /// It does not: a linked chain could write stale bytes.
    IsIgnored,
}

/// How long the kernel may take for two requests that never wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads 16 bytes from an eventfd, which has 8, with a write linked to that: the read must come short and the write must not
/// be done.
pub fn round_trip(ring: &mut Ring) -> Result<ShortRead, Error> {
    let refused = |errno: rustix::io::Errno| unavailable(errno.raw_os_error(), "eventfd");
    let eventfd = eventfd(1, EventfdFlags::CLOEXEC).map_err(refused)?;
    let descriptor = Fd(eventfd.as_raw_fd());
    let mut bytes = Box::new([0_u8; 16]);
    let read = Read::new(descriptor, bytes.as_mut_ptr(), 16).build().flags(Flags::IO_LINK).user_data(0);
    let write = Write::new(descriptor, bytes.as_ptr(), 8).build().user_data(1);
    for entry in [read, write] {
        // SAFETY: the bytes and the eventfd are given up below only if both requests have been answered.
        unsafe { ring.push(&entry) };
    }
    let answers = answers(ring);
    if ring.in_kernel() > 0 || ring.queued() > 0 {
        std::mem::forget((bytes, eventfd));
    }
    match answers? {
        [8, canceled] if canceled == -libc::ECANCELED => Ok(ShortRead::BreaksLinks),
        [8, _] => Ok(ShortRead::IsIgnored),
        [errno, _] => {
            Err(unavailable(errno.checked_neg().filter(|errno| *errno > 0).unwrap_or(libc::EIO), "io_uring_enter"))
        }
    }
}

fn answers(ring: &mut Ring) -> Result<[i32; 2], Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut answers = [0; 2];
    while ring.in_kernel() > 0 || ring.queued() > 0 {
        ring.enter(Patience::Until(deadline), Waiting::Idle).map_err(|errno| unavailable(errno, "io_uring_enter"))?;
        while let Some((user_data, answer)) = ring.pop() {
            answers[user_data as usize & 1] = answer;
        }
        if Instant::now() >= deadline {
            return Err(unavailable(libc::ETIME, "io_uring_enter"));
        }
    }
    Ok(answers)
}
