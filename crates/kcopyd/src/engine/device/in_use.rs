//! Who uses a block device: the mount points, swap areas and devices built upon it, its disk or its partitions. It looks in
//! this process's mount namespace only, and refuses to decide whether the use matters: the kernel does that (O_EXCL).

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, makedev, stat};

use super::sysfs::Page;

/// One use of a block device, or of its disk or a partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// The used device's own name, such as sda1.
        name: String,
        /// Where.
        point: PathBuf,
    },
    /// It is a swap area.
    Swap {
        /// The used device's own name.
        name: String,
    },
    /// Another device is built upon it.
    Holder {
        /// The used device's own name.
        name: String,
        /// The other device's name, such as "dm-0 (crypt)".
        holder: String,
    },
}

impl fmt::Display for Use {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { name, point } => write!(formatter, "{name} is mounted at {}", point.display()),
            Use::Swap { name } => write!(formatter, "{name} is swap space"),
            Use::Holder { name, holder } => write!(formatter, "{name} is part of {holder}"),
        }
    }
}

/// What the kernel says about one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    rdev: u64,
    point: PathBuf,
    source: PathBuf,
}

/// Everything that may stand against exclusive use of a block device.
pub(super) fn uses_of(rdev: u64) -> Vec<Use> {
    let mounts = parse_mountinfo(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    let swaps = parse_swaps(&fs::read("/proc/swaps").unwrap_or_default());
    let mut uses = Vec::new();
    for page in relatives(rdev) {
        uses.extend(uses_by_table(page.rdev(), &page.name(), &mounts, &swaps, &block_device_at));
        uses.extend(page.holders().into_iter().map(|holder| Use::Holder { name: page.name(), holder }));
    }
    uses
}

/// Why a block device cannot be had exclusively, and what to do, as a sentence.
pub(super) fn explanation(rdev: u64) -> String {
    let uses = uses_of(rdev);
    let advice = match uses.first() {
        None => {
            return "the device is held by another program (`fuser -v` names it), by a mount in another container, or by the \
                    last request of a program that was killed and has not landed yet"
                .into();
        }
        Some(Use::Mounted { .. }) => "unmount it first",
        Some(Use::Swap { .. }) => "switch it off first with swapoff",
        Some(Use::Holder { .. }) => "take the device built upon it apart first, or copy that one",
    };
    let listed: Vec<String> = uses.iter().map(Use::to_string).collect();
    format!("the device is in use: {}; {advice}", listed.join(", "))
}

/// The device itself, and what shares its storage: a disk's partitions, a partition's disk.
fn relatives(rdev: u64) -> Vec<Page> {
    let page = Page::of(rdev);
    let others = page.disk().map_or_else(|| page.partitions(), |disk| vec![disk]);
    std::iter::once(page).chain(others).collect()
}

/// Uses of one device that the tables tell of. A mount is known by its device number or, for file systems with a number of
/// their own (btrfs), by the name of its source.
fn uses_by_table(
    rdev: u64,
    name: &str,
    mounts: &[Mount],
    swaps: &[PathBuf],
    device_at: &dyn Fn(&Path) -> Option<u64>,
) -> Vec<Use> {
    let by_name = |path: &Path| path.is_absolute() && device_at(path) == Some(rdev);
    let mounted = mounts.iter().filter(|mount| mount.rdev == rdev || by_name(&mount.source));
    let mounted = mounted.map(|mount| Use::Mounted { name: name.into(), point: mount.point.clone() });
    let swapped = swaps.iter().filter(|path| by_name(path)).map(|_| Use::Swap { name: name.into() });
    mounted.chain(swapped).collect()
}

fn block_device_at(path: &Path) -> Option<u64> {
    let found = stat(path).ok()?;
    (FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice).then_some(found.st_rdev)
}

/// Reads a table like this one; a line that is not understood is passed over:
///
/// `36 35 98:0 /root /mount\040point rw,noatime master:1 - ext3 /dev/source rw`
fn parse_mountinfo(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    // Optional fields come before the dash; the first six never are one.
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    Some(Mount {
        rdev: makedev(major.parse().ok()?, minor.parse().ok()?),
        point: unescape(fields.get(4)?),
        source: unescape(fields.get(dash + 2)?),
    })
}

/// Reads the first column of a table with one line of headings.
fn parse_swaps(text: &[u8]) -> Vec<PathBuf> {
    let lines = text.split(|byte| *byte == b'\n').skip(1);
    lines
        .filter_map(|line| line.split(u8::is_ascii_whitespace).next())
        .filter(|name| !name.is_empty())
        .map(unescape)
        .collect()
}

/// Undoes the kernel's escapes: a backslash and three octal digits stand for a byte, `\040` for a space.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| others.get(..3).and_then(octal)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &others[3..] } else { others };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const TABLE: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\n\
        not a line\n\
        40 27 7:3 / /mnt/with\\040space rw - ext4 /dev/loop3 rw\n\
        41 27 0:44 /sub /mnt/btrfs rw - btrfs /dev/loop4 rw\n\
        42 27 7:5 / /mnt/- rw - ext4 /dev/- rw\n\
        43 27 0:50 / /mnt/empty rw - tmpfs  rw\n\
        44 27 99:0 / /mnt/cut\n";

    fn known(path: &Path) -> Option<u64> {
        match path.to_str() {
            Some("/dev/loop4") => Some(makedev(7, 4)),
            Some("/dev/swap disk") => Some(makedev(7, 9)),
            _ => None,
        }
    }

    fn points(rdev: u64) -> Vec<String> {
        let mounts = parse_mountinfo(TABLE);
        uses_by_table(rdev, "it", &mounts, &[], &known).iter().map(Use::to_string).collect()
    }

    #[test]
    fn a_mount_is_found_by_number_and_by_source() {
        assert_eq!(points(makedev(254, 0)), ["it is mounted at /"]);
        assert_eq!(points(makedev(7, 3)), ["it is mounted at /mnt/with space"]);
        assert_eq!(points(makedev(7, 4)), ["it is mounted at /mnt/btrfs"]);
        assert_eq!(points(makedev(7, 5)), ["it is mounted at /mnt/-"]);
        assert_eq!(points(makedev(7, 6)), [""; 0]);
    }

    #[test]
    fn lines_that_are_not_understood_are_passed_over() {
        assert_eq!(parse_mountinfo(TABLE).len(), 6);
        assert_eq!(parse_mountinfo(b""), []);
        assert_eq!(parse_mountinfo(b"1 2 x:y / /a rw - t s o\n1 2 3 / /a rw - t s o\n1 2 3:4"), []);
    }

    #[test]
    fn a_swap_area_is_found_by_name() {
        let swaps = parse_swaps(b"Filename\tType\tSize\n/dev/swap\\040disk  partition\t1\n/file\tfile\t2\n");
        assert_eq!(swaps, [Path::new("/dev/swap disk"), Path::new("/file")]);
        let uses = uses_by_table(makedev(7, 9), "loop9", &[], &swaps, &known);
        assert_eq!(uses, [Use::Swap { name: "loop9".into() }]);
    }

    #[test]
    fn escapes_are_undone_and_nothing_else() {
        assert_eq!(unescape(br"a\040b\134\011c"), Path::new("a b\\\tc"));
        assert_eq!(unescape(br"a\04"), Path::new(r"a\04"));
        assert_eq!(unescape(br"\999\777"), Path::new(r"\999\777"));
        assert_eq!(unescape(b"\xff\\377").as_os_str().as_bytes(), b"\xff\xff");
    }
}
