//! Opening a name: look, open the inode that was seen, then judge the open description, measure it and hold it. It refuses to
//! read or write a byte, and to change anything of the device.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise, fstat};
use rustix::io::Errno;

use super::look::{Look, access_flags, kind_of, reopen};
use super::measure::{self, DirectSupport};
use super::options::{Create, DeviceOptions, Direct, Exclusive};
use super::{Device, Parts, Way, lock, refusal};
use crate::copy::region::DeviceKind;
use crate::error::{Error, ErrorKind};

/// Opens the block device or regular file at a path; errors do not name the path yet.
pub(super) fn open(path: &Path, options: &DeviceOptions) -> Result<Device, Error> {
    if options.create == Create::Yes && !options.access.writes() {
        return Err(Error::new(
            ErrorKind::Access,
            "a file that is made has nothing to read: create needs access for writing",
        ));
    }
    let look = Look::at(path, options.create)?;
    let kind = kind_of(&look.stat)?;
    expect_rdev(options, kind, look.stat.st_rdev)?;
    let held = is_held(options);
    let mut flags = access_flags(options.access);
    if held && kind == DeviceKind::Block {
        flags |= OFlags::EXCL;
    }
    let (main, way) = open_main(&look, kind, options, flags)?;
    let buffered = if kind == DeviceKind::File && way.direct_unit_bytes.is_some() {
        Some(open_buffered(&look, options)?)
    } else {
        None
    };
    if held && kind == DeviceKind::File {
        lock::hold_file(main.as_fd(), buffered.as_ref().map(AsFd::as_fd), options.access)?;
    }
    let stat = fstat(&main).map_err(|errno| refusal::system(errno, "fstat", "the device cannot be judged"))?;
    let parent_directory = look.parent_directory;
    let parts = Parts { path: path.into(), access: options.access, kind, stat, main, buffered, parent_directory, way };
    let device = Device::assemble(parts)?;
    expect_size_and_sequence(options, &device)?;
    Ok(device)
}

fn is_held(options: &DeviceOptions) -> bool {
    match options.exclusive {
        Exclusive::Default => options.access.writes(),
        Exclusive::Yes => true,
        Exclusive::No => false,
    }
}

/// Opens the description that does the work: direct if that is wished and granted, else with the reason why it is not.
fn open_main(look: &Look, kind: DeviceKind, options: &DeviceOptions, flags: OFlags) -> Result<(OwnedFd, Way), Error> {
    let of_open = |errno| refusal::of_open(errno, &look.stat, kind, options.access);
    let descriptor = look.descriptor.as_fd();
    let reason = match (options.direct, measure::direct_support(descriptor, &look.stat, kind)) {
        (Direct::Never, _) => "buffered, as was asked".into(),
        (_, DirectSupport::InUnitsOf(unit_bytes)) => match reopen(descriptor, flags | OFlags::DIRECT) {
            Ok(main) => return Ok((main, Way::direct(descriptor, kind, unit_bytes))),
            Err(Errno::INVAL) => format!("buffered, because {} refuses O_DIRECT", measure::grantor_name(descriptor, kind)),
            Err(errno) => return Err(of_open(errno)),
        },
        (_, DirectSupport::Not) => "buffered, because direct I/O does not work on this file".into(),
    };
    if options.direct == Direct::Always {
        let advice = format!("direct I/O was asked for and cannot be had ({reason}): open it with direct: 'auto'");
        return Err(refusal::system(Errno::INVAL, "open", advice));
    }
    Ok((reopen(descriptor, flags).map_err(of_open)?, Way { direct_unit_bytes: None, reason }))
}

/// Opens a second description of a file, through the page cache, for what direct I/O cannot do.
fn open_buffered(look: &Look, options: &DeviceOptions) -> Result<OwnedFd, Error> {
    let buffered = reopen(look.descriptor.as_fd(), access_flags(options.access))
        .map_err(|errno| refusal::of_open(errno, &look.stat, DeviceKind::File, options.access))?;
    keep_to_the_edges(&buffered);
    Ok(buffered)
}

/// Keeps the kernel from reading ahead through the buffered description of a direct file: only the pages at the edges may
/// enter the page cache, not those that direct writes go to.
pub(super) fn keep_to_the_edges(buffered: &OwnedFd) {
    // A file system that does not know the advice reads ahead; the kernel still keeps the two ways coherent.
    let _ = fadvise(buffered, 0, None, Advice::Random);
}

fn expect_rdev(options: &DeviceOptions, kind: DeviceKind, rdev: u64) -> Result<(), Error> {
    let Some(expected) = options.expect.rdev else { return Ok(()) };
    if kind == DeviceKind::File {
        return Err(unexpected(format!("a block device with the number {expected} was expected; this is a regular file")));
    }
    if rdev != expected {
        return Err(unexpected(format!("the device number {expected} was expected; this one's is {rdev}")));
    }
    Ok(())
}

fn expect_size_and_sequence(options: &DeviceOptions, device: &Device) -> Result<(), Error> {
    let bytes = device.geometry().bytes;
    if let Some(expected) = options.expect.size_bytes.filter(|expected| *expected != bytes) {
        return Err(unexpected(format!("a size of {expected} bytes was expected; this one has {bytes}")));
    }
    let Some(expected) = options.expect.disk_sequence else { return Ok(()) };
    match device.disk_sequence() {
        Some(sequence) if sequence == expected => Ok(()),
        Some(sequence) => Err(unexpected(format!("the disk sequence {expected} was expected; this one's is {sequence}"))),
        None => Err(unexpected(format!("the disk sequence {expected} was expected; there is none here to compare"))),
    }
}

fn unexpected(context: String) -> Error {
    Error::new(ErrorKind::UnexpectedDevice, format!("{context}: enumerate the devices again"))
}
