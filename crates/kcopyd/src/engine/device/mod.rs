//! An opened block device or regular file: what it is, which bytes of the world it holds, and through which description
//! each transfer goes. It is opened once and judged by its descriptor alone. It refuses to transfer a byte.

mod options;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::copy::region::{DeviceKind, Geometry};
use crate::error::Error;

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
    /// The largest request that the kernel does not split, in bytes.
    pub request_bytes_max: u64,
    /// How many requests the queue holds.
    pub requests_max: u32,
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
    physical_block_bytes: u32,
    direct: bool,
    direct_reason: String,
    flush_errno: AtomicI32,
}

impl Device {
    /// Opens the block device or regular file at a path.
    ///
    /// # Errors
    /// A system error with advice, `UnsupportedDevice`, `UnexpectedDevice`.
    pub fn open(path: &Path, options: &DeviceOptions) -> Result<Device, Error> {
        let _ = (path, options);
        todo!()
    }

    /// Takes a descriptor of the caller's: duplicates it and uses it with the flags it has (P29).
    ///
    /// # Errors
    /// `Access` for O_APPEND, O_PATH and the wrong access mode, `UnsupportedDevice`, system errors.
    pub fn adopt(descriptor: RawFd, access: Access) -> Result<Device, Error> {
        let _ = (descriptor, access);
        todo!()
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
        self.physical_block_bytes
    }

    /// Whether aligned transfers go past the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// Why it is direct or is not, in words for a person.
    #[must_use]
    pub fn direct_reason(&self) -> &str {
        &self.direct_reason
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

    /// The limits of the queue beneath it, where there is one to ask.
    #[must_use]
    pub fn queue(&self) -> Option<Queue> {
        None
    }
}
