//! What is written to, looked at from both sides: the device that kcopyd is given, and the file in which its bytes lie. It knows
//! no jobs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kcopyd::engine::device::{Access, Device, DeviceOptions};
use kcopyd::error::Error;

/// A device and the file behind it.
#[derive(Clone, Debug)]
pub struct Target {
    pub path: PathBuf,
    pub file: PathBuf,
}

impl Target {
    /// Each word is DEVICE=BYTES.
    pub fn all(words: &[&str]) -> Vec<Target> {
        let target = |word: &&str| {
            let (path, file) = word.split_once('=').unwrap_or_else(|| panic!("{word} is not DEVICE=BYTES"));
            Target { path: path.into(), file: file.into() }
        };
        words.iter().map(target).collect()
    }

    /// The bytes that it holds, seen from behind.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).unwrap_or_else(|error| panic!("{} cannot be read: {error}", self.file.display()))
    }
}

/// Opens a device as a caller would.
pub fn open(path: &Path, access: Access) -> Result<Arc<Device>, Error> {
    Device::open(path, &DeviceOptions { access, ..DeviceOptions::default() }).map(Arc::new)
}

/// The number of sectors that every region on these devices must be a multiple of.
pub fn unit_sectors(devices: &[Arc<Device>]) -> u64 {
    let block = |device: &Arc<Device>| match device.kind() {
        kcopyd::copy::region::DeviceKind::File => 512,
        kcopyd::copy::region::DeviceKind::Block => device.geometry().logical_block_bytes,
    };
    devices.iter().map(block).max().map_or(1, |bytes| u64::from(bytes) / 512)
}
