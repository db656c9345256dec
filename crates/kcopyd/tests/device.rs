//! Opening, judging and holding of regular files and of what is no device at all. Real block devices are in
//! `block_device.rs`.

// A test that unwraps fails with the line, and so does its helper.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kcopyd::copy::region::{DeviceKind, Unaligned};
use kcopyd::engine::device::{Access, Create, Device, DeviceOptions, Direct, Exclusive, Expect, Route};
use kcopyd::error::{Error, ErrorKind};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, fcntl_getfl, flock, fstat, mknodat};

fn reading() -> DeviceOptions {
    DeviceOptions::default()
}

fn writing() -> DeviceOptions {
    DeviceOptions { access: Access::Write, ..reading() }
}

fn creating() -> DeviceOptions {
    DeviceOptions { create: Create::Yes, ..writing() }
}

fn errno(error: &Error) -> i32 {
    assert_eq!(error.kind, ErrorKind::System, "{error}");
    error.errno.expect("a system error has a number")
}

fn refused(path: impl AsRef<Path>, options: &DeviceOptions) -> Error {
    Device::open(path.as_ref(), options).expect_err("it must be refused")
}

fn adoption_refused(descriptor: impl AsFd, access: Access) -> Error {
    Device::adopt(descriptor.as_fd().as_raw_fd(), access).expect_err("it must be refused")
}

struct Workplace {
    directory: tempfile::TempDir,
}

impl Workplace {
    fn new() -> Workplace {
        Workplace { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, vec![7; bytes]).unwrap();
        path
    }
}

/// A file opened direct, where the file system of the temporary directory does that.
fn direct_file(path: &Path, options: &DeviceOptions) -> Option<Device> {
    let device = Device::open(path, options).unwrap();
    if device.direct() { Some(device) } else { support::skip(device.direct_reason()) }
}

fn inode(of: BorrowedFd<'_>) -> (u64, u64) {
    let stat = fstat(of).unwrap();
    (stat.st_dev, stat.st_ino)
}

#[test]
fn a_file_has_its_exact_size_and_shows_growth_when_looked_at_again() {
    let workplace = Workplace::new();
    let path = workplace.file("odd", 1000);
    let device = Device::open(&path, &reading()).unwrap();
    assert_eq!((device.kind(), device.geometry().bytes), (DeviceKind::File, 1000));
    assert_eq!(device.path(), path);
    File::options().append(true).open(&path).unwrap().set_len(5000).unwrap();
    assert_eq!(device.geometry().bytes, 1000, "the size known last");
    assert_eq!(device.refresh().bytes, 5000);
    assert_eq!(device.geometry().bytes, 5000);
}

#[test]
fn ids_are_never_used_again() {
    let workplace = Workplace::new();
    let path = workplace.file("one", 1);
    let first = Device::open(&path, &reading()).unwrap().id();
    let second = Device::open(&path, &reading()).unwrap().id();
    assert!(second > first);
}

#[test]
fn p9_the_edges_of_a_direct_file_go_through_a_buffered_description_of_the_same_inode() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 20_000);
    for access in [Access::Read, Access::Write, Access::ReadWrite] {
        let Some(device) = direct_file(&path, &DeviceOptions { access, ..reading() }) else { return };
        let buffered = device.buffered_descriptor().expect("a direct file has a buffered description");
        assert!(fcntl_getfl(device.direct_descriptor()).unwrap().contains(OFlags::DIRECT));
        assert!(!fcntl_getfl(buffered).unwrap().contains(OFlags::DIRECT));
        assert_eq!(inode(buffered), inode(device.direct_descriptor()));
        let geometry = device.geometry();
        let alignment = u64::from(geometry.direct_alignment_bytes);
        assert!(alignment >= 4096 && alignment >= rustix::param::page_size() as u64);
        assert_eq!(geometry.unaligned, Unaligned::Buffered);
        let routes =
            [(0, alignment), (alignment, 2 * alignment), (512, alignment), (0, alignment - 512), (0, 1), (alignment, 0)]
                .map(|(offset, length)| device.uses_buffered(offset, length));
        use Route::{Buffered, Main};
        assert_eq!(routes, [Main, Main, Buffered, Buffered, Buffered, Main]);
        assert_eq!(device.descriptor(512, 512).as_raw_fd(), buffered.as_raw_fd());
        assert_eq!(device.descriptor(0, alignment).as_raw_fd(), device.direct_descriptor().as_raw_fd());
    }
}

#[test]
fn p9_a_buffered_file_takes_everything_through_its_one_description() {
    let workplace = Workplace::new();
    let device = Device::open(&workplace.file("file", 1), &DeviceOptions { direct: Direct::Never, ..writing() }).unwrap();
    assert!(!device.direct() && device.buffered_descriptor().is_none());
    assert_eq!(device.direct_reason(), "buffered, as was asked");
    let geometry = device.geometry();
    assert_eq!((geometry.direct_alignment_bytes, geometry.unaligned), (1, Unaligned::Buffered));
    assert_eq!(geometry.logical_block_bytes, 512);
    assert_eq!(device.uses_buffered(3, 5), Route::Main);
    assert!(!fcntl_getfl(device.descriptor(3, 5)).unwrap().contains(OFlags::DIRECT));
}

#[test]
fn direct_where_the_file_system_has_none_is_einval_and_auto_says_why_not() {
    // A regular file that no kernel opens with O_DIRECT.
    let path = "/proc/self/mountinfo";
    let error = refused(path, &DeviceOptions { direct: Direct::Always, ..reading() });
    assert_eq!(errno(&error), libc::EINVAL);
    assert!(error.context.contains("direct: 'auto'"), "{error}");
    let device = Device::open(Path::new(path), &reading()).unwrap();
    assert!(!device.direct() && device.buffered_descriptor().is_none());
    assert!(device.direct_reason().starts_with("buffered, because "), "{}", device.direct_reason());
}

#[test]
fn a_file_on_tmpfs_is_opened_whether_or_not_the_kernel_grants_direct() {
    let Ok(file) = tempfile::NamedTempFile::new_in("/dev/shm") else {
        return support::skip("there is no /dev/shm").unwrap_or_default();
    };
    let device = Device::open(file.path(), &writing()).unwrap();
    assert!(device.direct_reason().contains("tmpfs"), "{}", device.direct_reason());
    assert_eq!(device.buffered_descriptor().is_some(), device.direct());
    assert_eq!(device.queue(), None);
}

#[test]
fn p28_a_file_open_for_writing_is_busy_for_every_other_writer() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 4096);
    for direct in [Direct::Auto, Direct::Never] {
        let held = Device::open(&path, &DeviceOptions { direct, ..writing() }).unwrap();
        for other in [Direct::Auto, Direct::Never] {
            let error = refused(&path, &DeviceOptions { direct: other, ..writing() });
            assert_eq!(errno(&error), libc::EBUSY);
            assert!(error.context.contains("lslocks"), "{error}");
            assert_eq!(error.path.as_deref(), Some(path.as_path()));
        }
        assert_eq!(errno(&refused(&path, &DeviceOptions { exclusive: Exclusive::Yes, ..reading() })), libc::EBUSY);
        Device::open(&path, &reading()).expect("a source may be read while it is written");
        Device::open(&path, &DeviceOptions { exclusive: Exclusive::No, ..writing() }).expect("the caller vouches for it");
        drop(held);
        Device::open(&path, &DeviceOptions { direct, ..writing() }).expect("the lock ends with the device");
    }
}

#[test]
fn p28_each_description_that_transfers_holds_a_lock_of_its_own() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 4096);
    let Some(device) = direct_file(&path, &writing()) else { return };
    // A duplicate is the same description: it stands for a request in flight that outlives the device, or the process.
    let main = device.direct_descriptor().try_clone_to_owned().unwrap();
    let buffered = device.buffered_descriptor().unwrap().try_clone_to_owned().unwrap();
    drop(device);
    drop(main);
    for direct in [Direct::Auto, Direct::Never] {
        assert_eq!(errno(&refused(&path, &DeviceOptions { direct, ..writing() })), libc::EBUSY, "the buffered one");
    }
    drop(buffered);
    let device = Device::open(&path, &writing()).expect("nothing is in flight any more");
    let main = device.direct_descriptor().try_clone_to_owned().unwrap();
    drop(device);
    for direct in [Direct::Auto, Direct::Never] {
        assert_eq!(errno(&refused(&path, &DeviceOptions { direct, ..writing() })), libc::EBUSY, "the main one");
    }
    drop(main);
    Device::open(&path, &writing()).expect("nothing is in flight any more");
}

#[test]
fn a_file_open_for_reading_exclusively_is_busy_for_writers() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 4096);
    let held = Device::open(&path, &DeviceOptions { exclusive: Exclusive::Yes, ..reading() }).unwrap();
    assert_eq!(errno(&refused(&path, &writing())), libc::EBUSY);
    drop(held);
    Device::open(&path, &writing()).unwrap();
}

#[test]
fn p18_a_file_made_by_create_comes_with_its_directory() {
    let workplace = Workplace::new();
    let path = workplace.path("new");
    let device = Device::open(&path, &creating()).unwrap();
    assert_eq!(device.geometry().bytes, 0);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    let directory = device.parent_directory().expect("a file that was made has a directory to flush");
    assert_eq!(inode(directory), inode(File::open(workplace.directory.path()).unwrap().as_fd()));
    rustix::fs::fsync(directory).unwrap();
    assert_eq!(errno(&refused(&path, &creating())), libc::EBUSY, "also a file just made is held");
}

#[test]
fn create_opens_a_file_that_exists_as_it_is() {
    let workplace = Workplace::new();
    let device = Device::open(&workplace.file("old", 1000), &creating()).unwrap();
    assert_eq!(device.geometry().bytes, 1000);
    assert!(device.parent_directory().is_none());
}

#[test]
fn create_makes_nothing_among_the_device_nodes() {
    let name = format!("/dev/kcopyd-test-{}", std::process::id());
    let error = refused(&name, &creating());
    assert!(!Path::new(&name).exists());
    assert_eq!(errno(&error), libc::ENOENT);
    assert!(error.context.contains("/dev"), "{error}");
}

#[test]
fn create_makes_nothing_where_it_cannot_mean_it() {
    let workplace = Workplace::new();
    assert_eq!(errno(&refused(workplace.path("slash/"), &creating())), libc::EISDIR);
    assert_eq!(errno(&refused(workplace.path("no/file"), &creating())), libc::ENOENT);
    assert_eq!(errno(&refused(workplace.file("file", 1).join("in"), &creating())), libc::ENOTDIR);
    symlink("nowhere", workplace.path("link")).unwrap();
    assert_eq!(errno(&refused(workplace.path("link"), &creating())), libc::EEXIST);
    let error = refused(workplace.path("new"), &DeviceOptions { create: Create::Yes, ..reading() });
    assert_eq!(error.kind, ErrorKind::Access);
    let left: Vec<_> = fs::read_dir(workplace.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_missing_file_without_create_is_enoent_that_names_the_path() {
    let workplace = Workplace::new();
    let error = refused(workplace.path("missing"), &writing());
    assert_eq!((errno(&error), error.syscall), (libc::ENOENT, Some("open")));
    assert_eq!(error.path, Some(workplace.path("missing")));
    assert!(error.context.contains("create"), "{error}");
    assert!(!workplace.path("missing").exists());
}

#[test]
fn p18_a_flush_error_stays_until_the_device_is_opened_again() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1);
    let device = Device::open(&path, &writing()).unwrap();
    assert_eq!(device.flush_error(), None);
    device.note_flush_error(libc::EIO);
    device.note_flush_error(libc::ENOSPC);
    assert_eq!(device.flush_error(), Some(libc::EIO), "the first one");
    drop(device);
    assert_eq!(Device::open(&path, &writing()).unwrap().flush_error(), None);
}

#[test]
fn what_has_no_sectors_is_unsupported_and_a_pipe_does_not_hang() {
    let workplace = Workplace::new();
    mknodat(CWD, workplace.path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _listener = UnixListener::bind(workplace.path("socket")).unwrap();
    let names = [workplace.path("."), workplace.path("pipe"), workplace.path("socket"), PathBuf::from("/dev/null")];
    let words = ["a directory", "a pipe", "a socket", "a character device"];
    for (path, word) in names.iter().zip(words) {
        for options in [reading(), writing(), creating()] {
            let error = refused(path, &options);
            assert_eq!(error.kind, ErrorKind::UnsupportedDevice, "{error}");
            assert!(error.context.contains(word), "{error}");
        }
    }
}

#[test]
fn a_device_other_than_the_expected_one_is_unexpected() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1000);
    let expecting = |expect| DeviceOptions { expect, ..writing() };
    Device::open(&path, &expecting(Expect { size_bytes: Some(1000), ..Expect::default() })).unwrap();
    let wrong = [
        Expect { size_bytes: Some(999), ..Expect::default() },
        Expect { rdev: Some(0), ..Expect::default() },
        Expect { disk_sequence: Some(1), ..Expect::default() },
    ];
    for expect in wrong {
        assert_eq!(refused(&path, &expecting(expect)).kind, ErrorKind::UnexpectedDevice, "{expect:?}");
    }
    Device::open(&path, &writing()).expect("a refusal holds nothing");
}

#[test]
fn a_path_is_bytes() {
    let workplace = Workplace::new();
    let path = workplace.directory.path().join(OsStr::from_bytes(b"na\xffme \n"));
    let device = Device::open(&path, &creating()).unwrap();
    assert_eq!(device.path(), path);
    assert!(fs::exists(&path).unwrap());
    let zero = refused(OsStr::from_bytes(b"a\0b"), &reading());
    assert_eq!(errno(&zero), libc::EINVAL);
}

#[test]
fn p10_two_names_of_one_file_are_one_storage() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1);
    fs::hard_link(&path, workplace.path("hard")).unwrap();
    symlink("file", workplace.path("soft")).unwrap();
    let identity = |path: &Path| Device::open(path, &reading()).unwrap().geometry().identity;
    assert_eq!(identity(&workplace.path("hard")), identity(&path));
    assert_eq!(identity(&workplace.path("soft")), identity(&path));
    assert_ne!(identity(&workplace.file("other", 1)), identity(&path));
    let adopted = Device::adopt(File::open(&path).unwrap().as_raw_fd(), Access::Read).unwrap();
    assert_eq!(adopted.geometry().identity, identity(&path));
}

#[test]
fn no_permission_says_whose_it_is() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o040)).unwrap();
    fs::set_permissions(workplace.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let error = std::thread::scope(|scope| scope.spawn(|| refused_as_nobody(&path)).join().unwrap());
    assert_eq!(errno(&error), libc::EACCES);
    let owner = fs::metadata(&path).unwrap().uid();
    assert!(error.context.contains(&format!("owner {owner}")) && error.context.contains("mode 0040"), "{error}");
}

/// The thread of this test may give up root for itself alone; one that is not root has nothing to give up.
fn refused_as_nobody(path: &Path) -> Error {
    if rustix::process::geteuid().is_root() {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
    }
    refused(path, &writing())
}

#[test]
fn p29_an_adopted_descriptor_is_a_duplicate_with_the_flags_it_has() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1000);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let before = fcntl_getfl(&file).unwrap();
    let device = Device::adopt(file.as_raw_fd(), Access::Write).unwrap();
    assert_ne!(device.direct_descriptor().as_raw_fd(), file.as_raw_fd());
    assert_eq!(fcntl_getfl(device.direct_descriptor()).unwrap(), before);
    assert!(rustix::io::fcntl_getfd(device.direct_descriptor()).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    assert!(!device.direct() && device.buffered_descriptor().is_none());
    assert_eq!((device.geometry().bytes, device.path()), (1000, path.as_path()));
    drop(file);
    assert_eq!(device.refresh().bytes, 1000, "it lives on when the caller closes its own");
    Device::open(&path, &writing()).expect("it was not locked");
}

#[test]
fn p29_the_callers_own_lock_neither_refuses_an_adopted_descriptor_nor_ends_with_it() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1000);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(Device::adopt(file.as_raw_fd(), Access::Write).unwrap());
    assert_eq!(errno(&refused(&path, &writing())), libc::EBUSY);
}

#[test]
fn p29_an_adopted_descriptor_is_direct_only_if_it_already_is() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 8192);
    let mut options = OpenOptions::new();
    let Ok(file) = options.read(true).custom_flags(libc::O_DIRECT).open(&path) else {
        return support::skip("the temporary directory's file system has no direct I/O").unwrap_or_default();
    };
    let device = Device::adopt(file.as_raw_fd(), Access::Read).unwrap();
    assert!(device.direct() && device.geometry().direct_alignment_bytes >= 4096);
    let buffered = device.buffered_descriptor().expect("the edges have a description of their own");
    assert_eq!(inode(buffered), inode(file.as_fd()));
    assert!(!fcntl_getfl(buffered).unwrap().contains(OFlags::DIRECT));
    assert!(fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT), "the caller's flags are left alone");
}

#[test]
fn p29_edges_are_refused_where_the_inode_cannot_be_opened_again() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 8192);
    let Ok(file) = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path) else {
        return support::skip("the temporary directory's file system has no direct I/O").unwrap_or_default();
    };
    fs::set_permissions(&path, PermissionsExt::from_mode(0o400)).unwrap();
    let device = std::thread::scope(|scope| {
        let adopting = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            Device::adopt(file.as_raw_fd(), Access::Write).unwrap()
        });
        adopting.join().unwrap()
    });
    assert!(device.direct() && device.buffered_descriptor().is_none());
    assert_eq!(device.geometry().unaligned, Unaligned::Refused);
}

#[test]
fn p29_an_unsuitable_descriptor_is_refused() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1000);
    let reader = File::open(&path).unwrap();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let appender = OpenOptions::new().read(true).append(true).open(&path).unwrap();
    let name = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path).unwrap();
    let cases = [
        (&appender, Access::Write, "O_APPEND"),
        (&appender, Access::Read, "O_APPEND"),
        (&name, Access::Read, "O_PATH"),
        (&reader, Access::Write, "not open for writing"),
        (&writer, Access::Read, "not open for reading"),
        (&reader, Access::ReadWrite, "both reading and writing"),
    ];
    for (file, access, word) in cases {
        let error = adoption_refused(file, access);
        assert_eq!(error.kind, ErrorKind::Access, "{error}");
        assert!(error.context.contains(word), "{error}");
    }
    assert_eq!(adoption_refused(File::open("/").unwrap(), Access::Read).kind, ErrorKind::UnsupportedDevice);
    for number in [-1, i32::MAX] {
        let error = Device::adopt(number, Access::Read).expect_err("it is no descriptor");
        assert_eq!(errno(&error), libc::EBADF);
    }
}

#[test]
fn p29_an_adopted_file_needs_no_name() {
    let workplace = Workplace::new();
    let path = workplace.file("file", 1000);
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_DIRECT).open(&path).or_else(|_| File::open(&path)).unwrap();
    fs::remove_file(&path).unwrap();
    let device = Device::adopt(file.as_raw_fd(), Access::Read).unwrap();
    assert_eq!(device.geometry().bytes, 1000);
    assert_eq!(device.buffered_descriptor().is_some(), device.direct());
}
