//! Refusals of the system in words that say what to do. It refuses to know anything but the errno and what was seen.

use rustix::fs::Stat;
use rustix::io::Errno;

use super::in_use;
use super::options::Access;
use crate::copy::region::DeviceKind;
use crate::error::Error;

/// A system call's refusal with our words for it.
pub(super) fn system(errno: Errno, syscall: &'static str, advice: impl Into<String>) -> Error {
    Error::system(errno.raw_os_error(), syscall, advice)
}

/// What the last libc call of this thread failed with.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The name could not be looked at.
pub(super) fn of_look(errno: Errno) -> Error {
    let advice = match errno {
        Errno::NOENT => "nothing has this name: check it, or have a new file made with create".into(),
        Errno::NOTDIR => "a part of the path is not a directory: check the name".into(),
        Errno::ACCESS => "a directory on the way may not be searched by this user".into(),
        Errno::LOOP => "the symbolic links lead in a circle".into(),
        Errno::INVAL => "the path holds a zero byte".into(),
        other => in_plain_words(other),
    };
    system(errno, "open", advice)
}

/// What was seen could not be opened for this access.
pub(super) fn of_open(errno: Errno, stat: &Stat, kind: DeviceKind, access: Access) -> Error {
    let advice = match errno {
        Errno::BUSY if kind == DeviceKind::Block => in_use::explanation(stat.st_rdev),
        Errno::ACCESS => permission(stat, access),
        Errno::PERM => {
            "opening it is forbidden here: by a container's device policy, or because it is immutable or sealed".into()
        }
        Errno::ROFS => read_only(kind).into(),
        Errno::TXTBSY => "the file is a program that is running, or swap space that is in use".into(),
        Errno::NXIO | Errno::NODEV => "there is no device behind this name now: is it attached?".into(),
        Errno::NOMEDIUM => "there is no medium in the drive".into(),
        Errno::MFILE => {
            "this process has too many open files: raise its limit (ulimit -n), or use fewer devices at once".into()
        }
        Errno::NOENT => "the device is opened through /proc, and /proc is not mounted here: mount it".into(),
        other => in_plain_words(other),
    };
    system(errno, "open", advice)
}

/// It can be opened, but not written.
pub(super) fn read_only(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Block => "the device is read-only: flip its write protection, or allow writing with `blockdev --setrw`",
        DeviceKind::File => "the file system is mounted read-only: remount it for writing, or name another file",
    }
}

fn permission(stat: &Stat, access: Access) -> String {
    let wish = match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "read and write",
    };
    let (user, group, mode) = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
    format!(
        "this user may not {wish} it (owner {user}, group {group}, mode {mode:04o}): run as root, or as a member of its group"
    )
}

fn in_plain_words(errno: Errno) -> String {
    format!("the system refused: {}", std::io::Error::from(errno))
}
