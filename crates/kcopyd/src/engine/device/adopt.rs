//! Taking over a descriptor of the caller's: a duplicate with the flags it has. It refuses to change a flag or to take a lock,
//! because both belong to the description that the caller goes on using (P29).

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;

use super::look::{access_flags, kind_of, path_behind, reopen};
use super::measure::{self, DirectSupport};
use super::open::keep_to_the_edges;
use super::options::Access;
use super::{Device, Parts, Way, refusal};
use crate::copy::limits::PAGE_BYTES;
use crate::copy::region::DeviceKind;
use crate::error::{Error, ErrorKind};

/// Makes a device of a duplicate of a descriptor.
pub(super) fn adopt(descriptor: RawFd, access: Access) -> Result<Device, Error> {
    let main = duplicate(descriptor)?;
    let path = path_behind(main.as_fd());
    let unknown = |errno| refusal::system(errno, "fcntl", "the descriptor cannot be judged");
    let flags = fcntl_getfl(&main).map_err(unknown)?;
    refuse_unsuitable(flags, access).map_err(|error| error.at_path(&path))?;
    let stat = fstat(&main).map_err(unknown)?;
    let kind = kind_of(&stat).map_err(|error| error.at_path(&path))?;
    let way = if flags.contains(OFlags::DIRECT) {
        Way::direct(main.as_fd(), kind, unit_bytes(measure::direct_support(main.as_fd(), &stat, kind)))
    } else {
        Way { direct_unit_bytes: None, reason: "buffered, because the descriptor was not opened with O_DIRECT".into() }
    };
    let buffered =
        if kind == DeviceKind::File && way.direct_unit_bytes.is_some() { open_buffered(main.as_fd(), access) } else { None };
    let parts = Parts { path: path.clone(), access, kind, stat, main, buffered, parent_directory: None, way };
    Device::assemble(parts).map_err(|error| error.at_path(path))
}

/// The duplicate is closed by us, on exec too; the caller may close its own at any time.
fn duplicate(descriptor: RawFd) -> Result<OwnedFd, Error> {
    // SAFETY: the kernel checks the number; one that is not open is answered with EBADF.
    let answer = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) };
    if answer < 0 {
        let errno = refusal::last_errno();
        let advice = match errno {
            Errno::BADF => "the descriptor is not open",
            _ => "the descriptor cannot be duplicated: raise the limit of open files (ulimit -n), or use fewer at once",
        };
        return Err(refusal::system(errno, "fcntl", advice));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

fn refuse_unsuitable(flags: OFlags, access: Access) -> Result<(), Error> {
    let mode = flags & OFlags::RWMODE;
    let fits = mode == OFlags::RDWR || mode == access_flags(access);
    let context = if flags.contains(OFlags::PATH) {
        "the descriptor only names a file (O_PATH): open it for reading or writing"
    } else if flags.contains(OFlags::APPEND) {
        "the descriptor appends (O_APPEND), so nothing can be written where it belongs: open it without"
    } else if fits {
        return Ok(());
    } else if access == Access::Read {
        "the descriptor is not open for reading: a source must be"
    } else if access == Access::Write {
        "the descriptor is not open for writing: a destination must be"
    } else {
        "the descriptor is not open for both reading and writing"
    };
    Err(Error::new(ErrorKind::Access, context))
}

/// The caller has opened it direct, so it is: where the unit is not known it is taken to be a page.
fn unit_bytes(support: DirectSupport) -> u32 {
    match support {
        DirectSupport::InUnitsOf(unit_bytes) => unit_bytes,
        DirectSupport::Not => PAGE_BYTES as u32,
    }
}

/// A second description of the same inode for the edges; where it is not granted, edges are refused.
fn open_buffered(main: BorrowedFd<'_>, access: Access) -> Option<OwnedFd> {
    let buffered = reopen(main, access_flags(access)).ok()?;
    keep_to_the_edges(&buffered);
    Some(buffered)
}
