//! An opened block device or regular file: what it is, which bytes of the world it holds, and through which description
//! each transfer goes. It is opened once and judged by its descriptor alone. It refuses to transfer a byte.

mod adopt;
mod in_use;
mod lock;
mod look;
mod make;
mod measure;
mod open;
mod options;
mod refusal;
mod sysfs;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::fs::Stat;

use crate::copy::limits::PAGE_BYTES;
use crate::copy::region::{DeviceKind, Geometry, Identity, Unaligned};
use crate::error::Error;
use measure::Blocks;

pub use in_use::Use;
pub use options::{Access, Create, DeviceOptions, Direct, Exclusive, Expect};

/// Which of a device's descriptions a transfer goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The one that every device has; direct if the device is.
    Main,
    /// The one through the page cache, which a regular file opened direct has besides.
    Buffered,
}

/// The limits of the queue beneath a device, as advice for sizes and depths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The device number of the disk whose it is: partitions of one disk, and files on it, have the same.
    pub disk: u64,
    /// The largest request that the kernel does not split, in bytes.
    pub request_bytes_max: u64,
    /// How many requests the queue holds; devices built upon others have none of their own.
    pub requests_max: Option<u32>,
    /// Whether it has a head to move.
    pub rotational: bool,
}

/// An opened device. Dropping it closes its descriptors, and with the last request in flight its locks end.
#[derive(Debug)]
pub struct Device {
    id: u64,
    path: PathBuf,
    access: Access,
    main: OwnedFd,
    buffered: Option<OwnedFd>,
    parent_directory: Option<OwnedFd>,
    geometry: Geometry,
    bytes: AtomicU64,
    rdev: u64,
    /// The block device that transfers end up on, if there is one: itself, or a file system's.
    beneath: u64,
    blocks: Blocks,
    way: Way,
    queue: OnceLock<Option<Queue>>,
    flush_errno: AtomicI32,
}

/// Whether transfers go past the page cache, in which units, and why, in words.
#[derive(Debug)]
struct Way {
    direct_unit_bytes: Option<u32>,
    reason: String,
}

impl Way {
    fn direct(of: BorrowedFd<'_>, kind: DeviceKind, unit_bytes: u32) -> Way {
        let reason = format!("direct: {} takes O_DIRECT in units of {} bytes", measure::grantor_name(of, kind), unit_bytes);
        Way { direct_unit_bytes: Some(unit_bytes), reason }
    }
}

/// What opening and adopting come to, before it is measured.
struct Parts {
    path: PathBuf,
    access: Access,
    kind: DeviceKind,
    stat: Stat,
    main: OwnedFd,
    buffered: Option<OwnedFd>,
    parent_directory: Option<OwnedFd>,
    way: Way,
}

impl Device {
    /// Opens the block device or regular file at a path, once; everything is judged by the descriptor.
    ///
    /// For writing it is held against other users, unless the options say otherwise: a block device with O_EXCL, a file with
    /// locks that last until its last request has landed (P28). Opening may block (a disk that spins up): not for a thread
    /// that must not.
    ///
    /// # Errors
    /// `UnsupportedDevice` for what has no sectors or too large a logical block, `UnexpectedDevice` for another one than the
    /// options expect, `Access` for options that contradict each other, and system errors that say what to do: EBUSY names
    /// the mount point, EACCES the owner, EROFS the write protection, EINVAL the file system without direct I/O.
    pub fn open(path: &Path, options: &DeviceOptions) -> Result<Device, Error> {
        open::open(path, options).map_err(|error| error.at_path(path))
    }

    /// Takes a descriptor of the caller's: duplicates it and uses it with the flags it has (P29). It is never locked, and
    /// direct only if it was opened so. (POSIX record locks, `F_SETLK`, are lost when a process closes any descriptor of the
    /// file: a caller that holds one loses it when this device is dropped.)
    ///
    /// # Errors
    /// `Access` for O_APPEND, O_PATH and the wrong access mode, `UnsupportedDevice` as for `open`, and system errors: EBADF
    /// for a number that is no open descriptor.
    pub fn adopt(descriptor: RawFd, access: Access) -> Result<Device, Error> {
        adopt::adopt(descriptor, access)
    }

    /// Closes its descriptors, as dropping it does, and says what that comes to: a network file system may tell only now that
    /// something written through the page cache is lost.
    ///
    /// # Errors
    /// The system error of the first descriptor that told of one; all are closed in any case.
    pub fn close(self) -> Result<(), Error> {
        let Device { path, main, buffered, parent_directory, .. } = self;
        drop(parent_directory);
        let answers = [buffered, Some(main)].map(|descriptor| descriptor.map_or(Ok(()), look::close));
        answers.into_iter().collect::<Result<(), _>>().map_err(|errno| {
            let advice = "the file system tells while closing that something written before may be lost";
            refusal::system(errno, "close", advice).at_path(path)
        })
    }

    fn assemble(parts: Parts) -> Result<Device, Error> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let main = parts.main.as_fd();
        let bytes = measure::size_bytes(main, parts.kind).map_err(measure::of_ioctl)?;
        if parts.kind == DeviceKind::Block && parts.access.writes() {
            measure::refuse_read_only(main)?;
        }
        let blocks = match parts.kind {
            DeviceKind::Block => measure::blocks(main)?,
            DeviceKind::File => measure::blocks_of_file(&parts.stat, parts.way.direct_unit_bytes),
        };
        let geometry = Geometry {
            kind: parts.kind,
            identity: parts.identity()?,
            bytes,
            logical_block_bytes: blocks.logical_bytes,
            direct_alignment_bytes: parts.direct_alignment_bytes(blocks.logical_bytes),
            unaligned: parts.unaligned(),
        };
        Ok(Device {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            path: parts.path,
            access: parts.access,
            main: parts.main,
            buffered: parts.buffered,
            parent_directory: parts.parent_directory,
            geometry,
            bytes: AtomicU64::new(bytes),
            rdev: if parts.kind == DeviceKind::Block { parts.stat.st_rdev } else { 0 },
            beneath: measure::beneath(&parts.stat, parts.kind),
            blocks,
            way: parts.way,
            queue: OnceLock::new(),
            flush_errno: AtomicI32::new(0),
        })
    }

    /// Names this device in this process; never used again for another.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was opened for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// What the mind must know of it, with the size that was seen last.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry { bytes: self.bytes.load(Ordering::Acquire), ..self.geometry }
    }

    /// The same after another look at the size: files grow. Where looking fails the size stays as it was.
    pub fn refresh(&self) -> Geometry {
        if let Ok(bytes) = measure::size_bytes(self.main.as_fd(), self.geometry.kind) {
            self.bytes.store(bytes, Ordering::Release);
        }
        self.geometry()
    }

    /// The same after a look that waits for nobody, so that the size of a file on a server may be an old one.
    pub fn glance(&self) -> Geometry {
        if self.geometry.kind == DeviceKind::File
            && let Ok(bytes) = measure::size_bytes_known(self.main.as_fd())
        {
            self.bytes.store(bytes, Ordering::Release);
        }
        self.geometry()
    }

    /// Block device or regular file.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.geometry.kind
    }

    /// The unit that the medium itself writes, in bytes; for a file the file system's preferred block.
    #[must_use]
    pub fn physical_block_bytes(&self) -> u32 {
        self.blocks.physical_bytes
    }

    /// Whether aligned transfers go past the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.way.direct_unit_bytes.is_some()
    }

    /// Why it is direct or is not, in words for a person.
    #[must_use]
    pub fn direct_reason(&self) -> &str {
        &self.way.reason
    }

    /// Which way a transfer goes: the main one if it begins and ends on the direct alignment, or if there is no other.
    ///
    /// With an alignment of 4096: bytes [4096, 12288) go the main way, [512, 4096) and [8192, 9000) the buffered one.
    #[must_use]
    pub fn uses_buffered(&self, offset_bytes: u64, length_bytes: u64) -> Route {
        let alignment = u64::from(self.geometry.direct_alignment_bytes);
        let aligned = offset_bytes.is_multiple_of(alignment) && length_bytes.is_multiple_of(alignment);
        if self.buffered.is_none() || aligned { Route::Main } else { Route::Buffered }
    }

    /// The descriptor that a transfer must use.
    #[must_use]
    pub fn descriptor(&self, offset_bytes: u64, length_bytes: u64) -> BorrowedFd<'_> {
        match (self.uses_buffered(offset_bytes, length_bytes), &self.buffered) {
            (Route::Buffered, Some(buffered)) => buffered.as_fd(),
            _ => self.main.as_fd(),
        }
    }

    /// The main descriptor: direct if the device is, and the one to flush.
    #[must_use]
    pub fn direct_descriptor(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }

    /// The descriptor through the page cache, if there is one besides the main one.
    #[must_use]
    pub fn buffered_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.buffered.as_ref().map(AsFd::as_fd)
    }

    /// The directory of a file that opening has made: a flush of the file syncs it too (P18).
    #[must_use]
    pub fn parent_directory(&self) -> Option<BorrowedFd<'_>> {
        self.parent_directory.as_ref().map(AsFd::as_fd)
    }

    /// The positive errno of the first flush that failed, for as long as this device is open (P18).
    #[must_use]
    pub fn flush_error(&self) -> Option<i32> {
        Some(self.flush_errno.load(Ordering::Acquire)).filter(|errno| *errno != 0)
    }

    /// Remembers that a flush failed. The kernel reports a lost write once; a second fsync that says yes is not believed.
    pub fn note_flush_error(&self, errno: i32) {
        assert!(errno > 0, "an errno is positive");
        let _ = self.flush_errno.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The device number of a block device, 0 of a file.
    #[must_use]
    pub fn rdev(&self) -> u64 {
        self.rdev
    }

    /// The kernel's sequence number of the disk, which changes when a name is used again; None for files and before Linux
    /// 5.15.
    #[must_use]
    pub fn disk_sequence(&self) -> Option<u64> {
        measure::disk_sequence(self.main.as_fd())
    }

    /// Who else uses a block device, its disk or its partitions, as far as this mount namespace shows.
    #[must_use]
    pub fn uses(&self) -> Vec<Use> {
        if self.rdev == 0 { Vec::new() } else { in_use::uses_of(self.rdev) }
    }

    /// The limits of the queue beneath it, where there is one to ask; as they were when this was first asked.
    #[must_use]
    pub fn queue(&self) -> Option<Queue> {
        *self.queue.get_or_init(|| sysfs::Page::of(self.beneath).queue())
    }
}

impl Parts {
    /// A partition is a part of its disk; a file is itself. A name is not looked at, so an alias changes nothing.
    fn identity(&self) -> Result<Identity, Error> {
        const FILES: u64 = 1 << 63;
        match self.kind {
            DeviceKind::Block => sysfs::Page::of(self.stat.st_rdev).identity(),
            DeviceKind::File => Ok(Identity { id: (self.stat.st_dev | FILES, self.stat.st_ino), start_bytes: 0 }),
        }
    }

    /// With logical blocks of 512 bytes: 512 for a direct block device, 4096 for a direct file, because a page of the page
    /// cache must not be written both ways; 1 for anything buffered.
    fn direct_alignment_bytes(&self, logical_block_bytes: u32) -> u32 {
        match (self.way.direct_unit_bytes, self.kind) {
            (None, _) => 1,
            (Some(_), DeviceKind::Block) => logical_block_bytes,
            (Some(unit), DeviceKind::File) => unit.max(rustix::param::page_size() as u32).max(PAGE_BYTES as u32),
        }
    }

    fn unaligned(&self) -> Unaligned {
        let buffered = self.kind == DeviceKind::File && (self.buffered.is_some() || self.way.direct_unit_bytes.is_none());
        if buffered { Unaligned::Buffered } else { Unaligned::Refused }
    }
}
