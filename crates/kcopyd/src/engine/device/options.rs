//! How a device is to be opened, in the caller's words. It refuses to know how that is done.

/// What a device is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// To be a source.
    #[default]
    Read,
    /// To be a destination.
    Write,
    /// To be either.
    ReadWrite,
}

impl Access {
    /// Whether a device opened like this can be a source.
    #[must_use]
    pub fn reads(self) -> bool {
        self != Access::Write
    }

    /// Whether a device opened like this can be a destination.
    #[must_use]
    pub fn writes(self) -> bool {
        self != Access::Read
    }
}

/// Whether transfers go past the page cache (O_DIRECT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direct {
    /// Where the file system grants it; the device says whether it did and why not.
    #[default]
    Auto,
    /// Or the device is not opened.
    Always,
    /// Not even where it could be had.
    Never,
}

/// Whether the device is held against other users while it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclusive {
    /// Held when opened for writing, shared when opened for reading.
    #[default]
    Default,
    /// Held, also when opened for reading.
    Yes,
    /// Shared, also when opened for writing: the caller vouches that nothing else uses it.
    No,
}

/// Whether a regular file that does not exist is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// It is an error that it does not exist.
    #[default]
    No,
    /// An empty file is made; one that exists is opened as it is. Never on the file system mounted at `/dev`.
    Yes,
}

/// What the caller knows of the device from enumerating it; any other device is refused. `None` is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The device number (`st_rdev`) of a block device.
    pub rdev: Option<u64>,
    /// The exact size in bytes.
    pub size_bytes: Option<u64>,
    /// The kernel's sequence number of the disk (`/sys/block/*/diskseq`), which changes when a name is used again.
    pub disk_sequence: Option<u64>,
}

/// How a device is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    /// What for; by default for reading.
    pub access: Access,
    /// Whether past the page cache; by default where granted.
    pub direct: Direct,
    /// Whether held against others; by default when opened for writing.
    pub exclusive: Exclusive,
    /// Whether a missing file is made; by default not.
    pub create: Create,
    /// What it must turn out to be; by default anything.
    pub expect: Expect,
}
