//! The real engines' world: regular files in a directory of the test's, opened in ways that a plain machine lets fail.

use std::cell::Cell;
use std::fs::File;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Once};

use kcopyd::engine::Engine;
use kcopyd::engine::arena::Arena;
use kcopyd::engine::device::{Access, Device, DeviceOptions, Direct};
use kcopyd::engine::threads::Threads;
use kcopyd::engine::uring::{Chains, Rung, Uring, UringOptions, Use};
use tempfile::TempDir;

use crate::fixture::{Faulty, Fixture};

/// No file of this process can grow past this byte.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// How the fixture's files are opened.
pub trait Way {
    /// Past the page cache or not.
    const DIRECT: Direct;
}

/// Past the page cache, where the directory's file system can.
pub struct DirectFiles;

impl Way for DirectFiles {
    const DIRECT: Direct = Direct::Auto;
}

/// Through the page cache.
pub struct BufferedFiles;

impl Way for BufferedFiles {
    const DIRECT: Direct = Direct::Never;
}

/// A directory with files, for any engine that works on devices.
pub struct Files {
    directory: TempDir,
    next: Cell<u32>,
    direct: Direct,
}

impl Files {
    /// An empty directory.
    pub fn new(direct: Direct) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the test's files");
        Files { directory, next: Cell::new(0), direct }
    }

    /// A new file with these bytes, opened for this access.
    pub fn open(&self, bytes: &[u8], access: Access) -> Arc<Device> {
        let path = self.directory.path().join(format!("file{}", self.next.replace(self.next.get() + 1)));
        std::fs::write(&path, bytes).expect("the test's directory can be written");
        let options = DeviceOptions { access, direct: self.direct, ..DeviceOptions::default() };
        Arc::new(Device::open(&path, &options).expect("a file of ours can be opened"))
    }

    /// A file that refuses what its access does not allow.
    pub fn open_faulty(&self, bytes: &[u8], access: Access) -> Faulty<Device> {
        Faulty { device: self.open(bytes, access), errno: libc::EBADF }
    }

    /// A file whose flush has failed.
    pub fn open_unflushable(&self, bytes: &[u8]) -> Faulty<Device> {
        let device = self.open(bytes, Access::ReadWrite);
        device.note_flush_error(libc::EIO);
        Faulty { device, errno: libc::EIO }
    }

    /// A file that reaches this process's limit for the size of files.
    pub fn open_full(&self) -> (Faulty<Device>, u64) {
        limit_files();
        (Faulty { device: self.open(&[], Access::ReadWrite), errno: libc::EFBIG }, FILE_BYTES_MAX)
    }

    /// What a file holds, zeros past its end.
    pub fn bytes(&self, device: &Device, range: Range<u64>) -> Vec<u8> {
        let file = File::open(device.path()).expect("a file of ours can be opened");
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], range.start + filled as u64).expect("a file of ours can be read") {
                0 => break,
                moved => filled += moved,
            }
        }
        bytes
    }
}

/// Sets the limit once for this process. Whoever exceeds it gets a signal first, which by default ends the process.
fn limit_files() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let limit = libc::rlimit { rlim_cur: FILE_BYTES_MAX, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: ignoring a signal and setting a limit from a valid structure touch no memory of ours.
        let answer = unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)
        };
        assert_eq!(answer, 0, "a soft limit below the hard one can be set");
    });
}

/// How a real engine is made on some memory.
pub trait Make {
    /// The engine.
    type Engine: Engine<Device = Device>;

    /// Makes one.
    fn make(arena: Arc<Arena>) -> Self::Engine;
}

/// The threads engine.
pub struct MakeThreads;

impl Make for MakeThreads {
    type Engine = Threads;

    fn make(arena: Arc<Arena>) -> Threads {
        Threads::new(arena, "the contract is tested").expect("a thread can be started")
    }
}

/// The ring, chains fanned out.
pub struct MakeFanOut;

impl Make for MakeFanOut {
    type Engine = Uring;

    fn make(arena: Arc<Arena>) -> Uring {
        let options = UringOptions { chains: Chains::FanOut, ..UringOptions::default() };
        Uring::new(arena, &options).expect("io_uring runs where this is tested")
    }
}

/// The ring, chains linked.
pub struct MakeLinked;

impl Make for MakeLinked {
    type Engine = Uring;

    fn make(arena: Arc<Arena>) -> Uring {
        let options = UringOptions { chains: Chains::Linked, ..UringOptions::default() };
        Uring::new(arena, &options).expect("io_uring runs where this is tested")
    }
}

/// The ring with nothing registered, not restricted and without the flags of newer kernels.
pub struct MakePlain;

impl Make for MakePlain {
    type Engine = Uring;

    fn make(arena: Arc<Arena>) -> Uring {
        let options = UringOptions {
            registered_buffers: Use::Never,
            registered_files: Use::Never,
            restrictions: Use::Never,
            newest: Rung::Plain,
            ..UringOptions::default()
        };
        Uring::new(arena, &options).expect("io_uring runs where this is tested")
    }
}

/// An engine on files.
pub struct OnFiles<M: Make, W: Way> {
    files: Files,
    kind: PhantomData<(M, W)>,
}

impl<M: Make, W: Way> Fixture for OnFiles<M, W> {
    type Engine = M::Engine;

    fn new() -> Self {
        OnFiles { files: Files::new(W::DIRECT), kind: PhantomData }
    }

    fn engine(&self, arena: Arc<Arena>) -> M::Engine {
        M::make(arena)
    }

    fn device(&self, bytes: &[u8]) -> Arc<Device> {
        self.files.open(bytes, Access::ReadWrite)
    }

    fn unreadable(&self, bytes: &[u8]) -> Faulty<Device> {
        self.files.open_faulty(bytes, Access::Write)
    }

    fn unwritable(&self, bytes: &[u8]) -> Faulty<Device> {
        self.files.open_faulty(bytes, Access::Read)
    }

    fn unflushable(&self, bytes: &[u8]) -> Faulty<Device> {
        self.files.open_unflushable(bytes)
    }

    fn full(&self) -> (Faulty<Device>, u64) {
        self.files.open_full()
    }

    fn bytes(&self, device: &Device, range: Range<u64>) -> Vec<u8> {
        self.files.bytes(device, range)
    }
}
