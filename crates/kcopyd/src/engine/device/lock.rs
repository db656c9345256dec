//! Holding a regular file against other writers. A killed process's requests in flight keep the descriptions they came
//! through alive, and a lock lives as long as its description: so every description that transfers holds one, and whoever
//! opens the file anew meets EBUSY until the last request has landed (P28). It refuses to wait for a lock.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FlockOperation, flock, fstatfs};
use rustix::io::{Errno, retry_on_intr};

use super::options::Access;
use crate::error::Error;

use super::refusal;

/// File systems that turn both kinds of lock into one kind on a server, where two descriptions of ours would shut each
/// other out: NFS, SMB, CIFS, SMB2.
const ONE_KIND_OF_LOCK: [u64; 4] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42];

/// Locks a file: a flock on the main description, and a record lock (of the description's, not the process's) on the
/// buffered one or, where there is none, on the main one again. The two kinds do not see each other, so one process can hold
/// both; every opener takes both, so each description of a dead process is met by one of them.
pub(super) fn hold_file(main: BorrowedFd<'_>, buffered: Option<BorrowedFd<'_>>, access: Access) -> Result<(), Error> {
    retry_on_intr(|| flock(main, FlockOperation::NonBlockingLockExclusive)).map_err(|errno| refused(errno, "flock"))?;
    let one_kind = fstatfs(main).is_ok_and(|of| ONE_KIND_OF_LOCK.contains(&(of.f_type as u64 & 0xFFFF_FFFF)));
    if one_kind {
        return Ok(());
    }
    retry_on_intr(|| lock_records(buffered.unwrap_or(main), access)).map_err(|errno| refused(errno, "fcntl"))
}

/// A lock on all bytes of a file, also those to come. A reader's lock stands against writers only: the kernel grants the
/// other kind to descriptions that can write.
fn lock_records(of: BorrowedFd<'_>, access: Access) -> Result<(), Errno> {
    // SAFETY: flock is plain integers; all zero is a valid value and means the whole file from byte 0, without a pid.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = if access.writes() { libc::F_WRLCK as _ } else { libc::F_RDLCK as _ };
    lock.l_whence = libc::SEEK_SET as _;
    // SAFETY: the descriptor is borrowed, so it is open, and the kernel only reads the structure that outlives the call.
    let answer = unsafe { libc::fcntl(of.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    if answer == 0 { Ok(()) } else { Err(refusal::last_errno()) }
}

fn refused(errno: Errno, syscall: &'static str) -> Error {
    match errno {
        // EACCES is what POSIX allows a lock that is held to be told by, besides EAGAIN.
        Errno::AGAIN | Errno::ACCESS => {
            let advice = "the file is locked: another program (`lslocks` names it) or another Device of this one is using it, \
                          or the last write of one that was killed has not landed yet: wait for it, or name another file";
            refusal::system(Errno::BUSY, syscall, advice)
        }
        _ => {
            let advice = "the file system cannot lock this file against other writers: if nothing else writes it, open it \
                          with exclusive: false";
            refusal::system(errno, syscall, advice)
        }
    }
}
