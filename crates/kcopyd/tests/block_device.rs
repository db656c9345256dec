//! Opening, judging and holding of real block devices: loop devices, so root is needed; each skip says so.

// A test that unwraps fails with the line, and so does its helper.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kcopyd::copy::region::{self, DeviceKind, Identity, Unaligned};
use kcopyd::engine::device::{Access, Create, Device, DeviceOptions, Direct, Exclusive, Expect, Route, Use};
use kcopyd::error::{Error, ErrorKind};
use rustix::fs::{OFlags, fcntl_getfl};
use support::{LoopDevice, Mount, make_node, must_run, nothing_starts, run, skip};
use tempfile::{TempDir, tempdir};

const MIB: u64 = 1 << 20;

fn reading() -> DeviceOptions {
    DeviceOptions::default()
}

fn writing() -> DeviceOptions {
    DeviceOptions { access: Access::Write, ..reading() }
}

fn errno(error: &Error) -> i32 {
    assert_eq!(error.kind, ErrorKind::System, "{error}");
    error.errno.expect("a system error has a number")
}

fn refused(path: &Path, options: &DeviceOptions) -> Error {
    Device::open(path, options).expect_err("it must be refused")
}

/// A loop device of 16 MiB and the directory that it lives in, to be dropped after it.
fn disk(sector_bytes: u32) -> Option<(LoopDevice, TempDir)> {
    let directory = tempdir().unwrap();
    let device = LoopDevice::new(directory.path(), 16 * MIB, sector_bytes)?;
    Some((device, directory))
}

#[test]
fn a_block_device_moves_whole_logical_blocks_the_direct_way_only() {
    for sector_bytes in [512, 4096] {
        let Some((disk, _directory)) = disk(sector_bytes) else { return };
        let device = Device::open(disk.path(), &writing()).unwrap();
        let geometry = device.geometry();
        assert_eq!((device.kind(), geometry.bytes, device.refresh().bytes), (DeviceKind::Block, 16 * MIB, 16 * MIB));
        assert_eq!(geometry.logical_block_bytes, sector_bytes);
        assert_eq!((geometry.direct_alignment_bytes, geometry.unaligned), (sector_bytes, Unaligned::Refused));
        assert!(device.physical_block_bytes() >= sector_bytes);
        assert!(device.direct() && device.buffered_descriptor().is_none(), "{}", device.direct_reason());
        assert!(fcntl_getfl(device.direct_descriptor()).unwrap().contains(OFlags::DIRECT));
        assert_eq!(device.uses_buffered(1, 1), Route::Main, "there is no other way");
        assert_eq!((device.rdev(), device.parent_directory().is_none()), (disk.rdev(), true));
        let queue = device.queue().expect("a loop device has a queue");
        assert!(queue.request_bytes_max >= 4096 && queue.requests_max > Some(0));
    }
}

#[test]
fn a_block_device_can_be_buffered_and_still_moves_whole_blocks() {
    let Some((disk, _directory)) = disk(4096) else { return };
    let device = Device::open(disk.path(), &DeviceOptions { direct: Direct::Never, ..writing() }).unwrap();
    let geometry = device.geometry();
    assert!(!device.direct());
    assert_eq!((geometry.logical_block_bytes, geometry.direct_alignment_bytes), (4096, 1));
    assert_eq!(geometry.unaligned, Unaligned::Refused);
}

#[test]
fn an_empty_block_device_is_opened() {
    let directory = tempdir().unwrap();
    let Some(disk) = LoopDevice::new(directory.path(), 0, 512) else { return };
    assert_eq!(Device::open(disk.path(), &writing()).unwrap().geometry().bytes, 0);
}

#[test]
fn create_opens_a_block_device_as_it_is() {
    let Some((disk, _directory)) = disk(512) else { return };
    let device = Device::open(disk.path(), &DeviceOptions { create: Create::Yes, ..writing() }).unwrap();
    assert_eq!((device.geometry().bytes, device.parent_directory().is_none()), (16 * MIB, true));
}

#[test]
fn p28_a_block_device_open_for_writing_is_busy_until_its_last_description_is_gone() {
    let Some((disk, _directory)) = disk(512) else { return };
    let _quiet = nothing_starts();
    let held = Device::open(disk.path(), &writing()).unwrap();
    let error = refused(disk.path(), &writing());
    assert_eq!(errno(&error), libc::EBUSY);
    assert!(error.context.contains("fuser"), "{error}");
    assert_eq!(errno(&refused(disk.path(), &DeviceOptions { exclusive: Exclusive::Yes, ..reading() })), libc::EBUSY);
    Device::open(disk.path(), &reading()).expect("a source is not held");
    Device::open(disk.path(), &DeviceOptions { exclusive: Exclusive::No, ..writing() }).expect("the caller vouches for it");
    // A duplicate is the same description: it stands for a request in flight that outlives the device.
    let in_flight = held.direct_descriptor().try_clone_to_owned().unwrap();
    drop(held);
    assert_eq!(errno(&refused(disk.path(), &writing())), libc::EBUSY);
    drop(in_flight);
    Device::open(disk.path(), &writing()).expect("nothing is in flight any more");
}

#[test]
fn p10_a_partition_and_an_alias_share_storage_with_their_disk() {
    let Some((mut disk, directory)) = disk(512) else { return };
    let alias = directory.path().join("alias");
    make_node(&alias, disk.rdev());
    let partition = disk.add_partition(1, 2048, 8192, directory.path());
    let geometry = |path: &Path| Device::open(path, &reading()).unwrap().geometry();
    let id = (0, disk.rdev());
    assert_eq!(geometry(disk.path()).identity, Identity { id, start_bytes: 0 });
    assert_eq!(geometry(&alias).identity, Identity { id, start_bytes: 0 });
    assert_eq!(geometry(&partition).identity, Identity { id, start_bytes: MIB });
    assert_eq!(geometry(&partition).bytes, 4 * MIB);
    let (part, whole) = (geometry(&partition).identity, geometry(&alias).identity);
    assert!(region::overlap((part, 0, 512), (whole, MIB, 512)));
    assert!(!region::overlap((part, 0, 512), (whole, MIB - 512, 512)));
    let other = Device::open(disk.backing(), &reading()).unwrap();
    assert_ne!(other.geometry().identity.id, id, "stacked devices are not seen through");
}

#[test]
fn p28_a_partition_its_disk_and_an_alias_hold_each_other() {
    let Some((mut disk, directory)) = disk(512) else { return };
    let alias = directory.path().join("alias");
    make_node(&alias, disk.rdev());
    let partition = disk.add_partition(1, 2048, 8192, directory.path());
    let _quiet = nothing_starts();
    let paths = [disk.path(), alias.as_path(), partition.as_path()];
    for held in paths {
        let _device = Device::open(held, &writing()).unwrap();
        for path in paths {
            assert_eq!(
                errno(&refused(path, &writing())),
                libc::EBUSY,
                "{} while {} is held",
                path.display(),
                held.display()
            );
        }
    }
}

#[test]
fn a_mounted_device_names_its_mount_point_and_can_still_be_read() {
    let Some((disk, directory)) = disk(512) else { return };
    must_run("mkfs.ext4", &[Path::new("-q"), disk.path()]);
    let mount = Mount::new(&[disk.path().to_str().unwrap()], &directory.path().join("mount point"));
    let error = refused(disk.path(), &writing());
    assert_eq!(errno(&error), libc::EBUSY);
    let point = mount.point().to_str().unwrap();
    assert!(error.context.contains(point) && error.context.contains("unmount"), "{error}");
    let device = Device::open(disk.path(), &reading()).unwrap();
    let name = disk.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(device.uses(), [Use::Mounted { name, point: mount.point().to_owned() }]);
    drop(mount);
    assert_eq!(device.uses(), []);
    Device::open(disk.path(), &writing()).expect("unmounting is enough");
}

#[test]
fn a_mounted_partition_is_named_when_its_disk_is_refused() {
    let Some((mut disk, directory)) = disk(512) else { return };
    let partition = disk.add_partition(3, 2048, 16_384, directory.path());
    must_run("mkfs.ext4", &[Path::new("-q"), &partition]);
    let mount = Mount::new(&[partition.to_str().unwrap()], &directory.path().join("mnt"));
    let expected = format!("p3 is mounted at {}", mount.point().display());
    for path in [disk.path(), partition.as_path()] {
        let error = refused(path, &writing());
        assert_eq!(errno(&error), libc::EBUSY);
        assert!(error.context.contains(&expected), "{error}");
        Device::open(path, &reading()).expect("a mounted source is allowed");
    }
}

#[test]
fn swap_space_is_named() {
    let Some((disk, _directory)) = disk(512) else { return };
    must_run("mkswap", &[disk.path()]);
    if !run("swapon", &[disk.path()]).status.success() {
        return skip("swapon is not allowed here").unwrap_or_default();
    }
    let outcome = Device::open(disk.path(), &writing());
    must_run("swapoff", &[disk.path()]);
    let error = outcome.expect_err("swap space is in use");
    assert_eq!(errno(&error), libc::EBUSY);
    assert!(error.context.contains("swap space") && error.context.contains("swapoff"), "{error}");
}

#[test]
fn a_read_only_device_is_refused_for_writing_and_read_as_ever() {
    let directory = tempdir().unwrap();
    let Some(disk) = LoopDevice::read_only(directory.path(), MIB) else { return };
    let error = refused(disk.path(), &writing());
    assert_eq!(errno(&error), libc::EROFS);
    assert!(error.context.contains("--setrw"), "{error}");
    let file = OpenOptions::new().write(true).open(disk.path()).expect("the kernel opens it all the same");
    let adopted = Device::adopt(file.as_raw_fd(), Access::Write).expect_err("each write would fail");
    assert_eq!(errno(&adopted), libc::EROFS);
    Device::open(disk.path(), &reading()).unwrap();
}

#[test]
fn a_file_on_a_read_only_file_system_is_refused_for_writing() {
    let Some((disk, directory)) = disk(512) else { return };
    must_run("mkfs.ext4", &[Path::new("-q"), disk.path()]);
    let point = directory.path().join("mnt");
    {
        let mount = Mount::new(&[disk.path().to_str().unwrap()], &point);
        fs::write(mount.point().join("file"), "bytes").unwrap();
    }
    let mount = Mount::new(&["-o", "ro", disk.path().to_str().unwrap()], &point);
    let error = refused(&mount.point().join("file"), &writing());
    assert_eq!(errno(&error), libc::EROFS);
    assert!(error.context.contains("remount"), "{error}");
    let create = DeviceOptions { create: Create::Yes, ..writing() };
    assert_eq!(errno(&refused(&mount.point().join("new"), &create)), libc::EROFS);
}

#[test]
fn a_file_above_large_sectors_has_their_logical_block() {
    let Some((disk, directory)) = disk(4096) else { return };
    must_run("mkfs.ext4", &[Path::new("-q"), disk.path()]);
    let mount = Mount::new(&[disk.path().to_str().unwrap()], &directory.path().join("mnt"));
    let path = mount.point().join("file");
    let device = Device::open(&path, &DeviceOptions { create: Create::Yes, direct: Direct::Always, ..writing() }).unwrap();
    assert_eq!(device.geometry().logical_block_bytes, 4096);
    assert_eq!(device.queue(), Device::open(disk.path(), &reading()).unwrap().queue(), "the queue beneath the file system");
}

#[test]
fn only_the_expected_block_device_is_opened() {
    let Some((disk, _directory)) = disk(512) else { return };
    let _quiet = nothing_starts();
    let expecting = |expect| DeviceOptions { expect, ..writing() };
    let sequence = Device::open(disk.path(), &reading()).unwrap().disk_sequence();
    let right = Expect { rdev: Some(disk.rdev()), size_bytes: Some(16 * MIB), disk_sequence: sequence };
    Device::open(disk.path(), &expecting(right)).unwrap();
    let wrong = [
        Expect { rdev: Some(disk.rdev() + 1), ..right },
        Expect { size_bytes: Some(16 * MIB - 512), ..right },
        Expect { disk_sequence: Some(sequence.unwrap_or(1) - 1), ..right },
    ];
    for expect in wrong {
        let error = refused(disk.path(), &expecting(expect));
        assert_eq!(error.kind, ErrorKind::UnexpectedDevice, "{error}");
    }
    Device::open(disk.path(), &writing()).expect("a refusal holds nothing");
}

#[test]
fn p29_an_adopted_block_device_is_not_held() {
    let Some((disk, _directory)) = disk(4096) else { return };
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(disk.path()).unwrap();
    let device = Device::adopt(file.as_raw_fd(), Access::ReadWrite).unwrap();
    let geometry = device.geometry();
    assert!(device.direct() && device.buffered_descriptor().is_none());
    assert_eq!((geometry.direct_alignment_bytes, geometry.unaligned), (4096, Unaligned::Refused));
    assert_eq!(geometry.identity.id, (0, disk.rdev()));
    Device::open(disk.path(), &writing()).expect("a caller's descriptor is used with the flags it has");
    let plain = Device::adopt(File::open(disk.path()).unwrap().as_fd().as_raw_fd(), Access::Read).unwrap();
    assert_eq!((plain.direct(), plain.geometry().direct_alignment_bytes), (false, 1));
}
