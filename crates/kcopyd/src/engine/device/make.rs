//! Making a regular file that was missing. It refuses to touch one that exists, and to make anything in a file system of
//! device nodes: there, a misspelt disk would become a file that fills the memory.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, Stat, fstat, openat, stat};
use rustix::io::{Errno, retry_on_intr};

use super::refusal;
use crate::error::Error;

/// A file that was not there before.
pub(super) struct Made {
    pub(super) descriptor: OwnedFd,
    /// Its directory, open for `fsync`: without that the file itself may be gone after a crash.
    pub(super) parent_directory: OwnedFd,
}

/// Makes an empty file. EEXIST if something has that name by now.
///
/// A file stays when opening it fails later: by then another program may have begun to write it.
pub(super) fn regular_file(path: &Path) -> Result<Made, Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refusal::of_look(Errno::NOENT));
    };
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(refusal::system(Errno::ISDIR, "open", "a name that ends in a slash is a directory's: name a file"));
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent_directory = retry_on_intr(|| openat(CWD, parent, directory_flags, Mode::empty())).map_err(of_directory)?;
    let found = fstat(&parent_directory).map_err(of_directory)?;
    if holds_device_nodes(&found) {
        let advice = "there is no such device, and no file is made on the file system mounted at /dev: check the name";
        return Err(refusal::system(Errno::NOENT, "open", advice));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let descriptor =
        retry_on_intr(|| openat(&parent_directory, name, flags, Mode::from_raw_mode(0o666))).map_err(of_making)?;
    Ok(Made { descriptor, parent_directory })
}

/// Whether a directory lies on the file system mounted at /dev itself; /dev/shm is another. Where /dev is no file system of
/// its own (a bare chroot) only the directory /dev is meant.
fn holds_device_nodes(directory: &Stat) -> bool {
    let (Ok(dev), Ok(root)) = (stat("/dev"), stat("/")) else { return false };
    directory.st_dev == dev.st_dev && (dev.st_dev != root.st_dev || directory.st_ino == dev.st_ino)
}

fn of_directory(errno: Errno) -> Error {
    let advice = match errno {
        Errno::NOENT => "the directory to make the file in does not exist: make it first",
        Errno::NOTDIR => "what should be the file's directory is not a directory",
        Errno::ACCESS => "the directory must be readable, because a flush of a new file syncs its directory too",
        _ => "the directory to make the file in cannot be opened",
    };
    refusal::system(errno, "open", advice)
}

fn of_making(errno: Errno) -> Error {
    let advice = match errno {
        Errno::ACCESS | Errno::PERM => "the directory may not be written by this user",
        Errno::ROFS => "the file system is mounted read-only",
        Errno::NOSPC | Errno::DQUOT => "the file system has no room for another file",
        _ => "the file cannot be made",
    };
    refusal::system(errno, "open", advice)
}
