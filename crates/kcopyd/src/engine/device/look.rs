//! The first look at a name, which does nothing to what it finds (a FIFO does not hang, a watchdog does not start), and the
//! opening of the very inode that was seen. It refuses to interpret options.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlink};
use rustix::io::{Errno, retry_on_intr};

use super::options::{Access, Create};
use super::{make, refusal};
use crate::copy::region::DeviceKind;
use crate::error::{Error, ErrorKind};

/// How often a name may appear and vanish between looking and making before that is an error.
const LOOKS_MAX: u32 = 3;

/// What stands behind a name, seen but not yet opened.
pub(super) struct Look {
    /// Names the inode; good for nothing but opening it again.
    pub(super) descriptor: OwnedFd,
    /// What `fstat` says of it.
    pub(super) stat: Stat,
    /// The directory it was made in, if looking has made it.
    pub(super) parent_directory: Option<OwnedFd>,
}

impl Look {
    /// Looks at a name, and makes a regular file there if that is asked and nothing is there.
    pub(super) fn at(path: &Path, create: Create) -> Result<Look, Error> {
        for _ in 0..LOOKS_MAX {
            match retry_on_intr(|| openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())) {
                Ok(descriptor) => return Look::of(descriptor, None),
                Err(Errno::NOENT) if create == Create::Yes => match make::regular_file(path) {
                    Ok(made) => return Look::of(made.descriptor, Some(made.parent_directory)),
                    Err(error) if error.errno == Some(Errno::EXIST.raw_os_error()) => continue,
                    Err(error) => return Err(error),
                },
                Err(errno) => return Err(refusal::of_look(errno)),
            }
        }
        let advice = "a symbolic link to something that does not exist is not followed by create: name the file itself";
        Err(refusal::system(Errno::EXIST, "open", advice))
    }

    fn of(descriptor: OwnedFd, parent_directory: Option<OwnedFd>) -> Result<Look, Error> {
        let stat =
            fstat(&descriptor).map_err(|errno| refusal::system(errno, "fstat", "what is there cannot be looked at"))?;
        Ok(Look { descriptor, stat, parent_directory })
    }
}

/// Opens the inode behind a descriptor once more: a description of its own, whatever its name stands for by now.
pub(super) fn reopen(of: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| openat(CWD, magic_link(of).as_path(), flags, Mode::empty()))
}

/// Closes a descriptor, which is closed also where that is an error. An interrupted close has lost nothing.
pub(super) fn close(descriptor: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is owned and given up here; nothing else knows it.
    match unsafe { libc::close(descriptor.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(refusal::last_errno()).or_else(|errno| if errno == Errno::INTR { Ok(()) } else { Err(errno) }),
    }
}

/// The path that the kernel knows behind a descriptor, for messages.
pub(super) fn path_behind(descriptor: BorrowedFd<'_>) -> PathBuf {
    let link = magic_link(descriptor);
    readlink(&link, Vec::new()).map_or(link, |target| PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

fn magic_link(of: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", of.as_fd().as_raw_fd()))
}

/// The flag that opens for an access and no more.
pub(super) fn access_flags(access: Access) -> OFlags {
    match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::ReadWrite => OFlags::RDWR,
    }
}

/// Block device or regular file; anything else holds no sectors.
pub(super) fn kind_of(stat: &Stat) -> Result<DeviceKind, Error> {
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => return Ok(DeviceKind::Block),
        FileType::RegularFile => return Ok(DeviceKind::File),
        FileType::Directory => "this is a directory",
        FileType::Fifo => "this is a pipe",
        FileType::Socket => "this is a socket",
        FileType::CharacterDevice => "this is a character device",
        _ => "this is neither a file nor a device",
    };
    let context = format!("{found}, which has no sectors: name a block device or a regular file");
    Err(Error::new(ErrorKind::UnsupportedDevice, context))
}
