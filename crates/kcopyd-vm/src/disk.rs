//! The disks in memory beneath the faulty devices, and what is on them: every sector says by whom it was written and where it must
//! have come from. They are read and written directly, around the faults. It knows no kcopyd.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::OFlags;

/// Bytes of a sector.
pub const SECTOR_BYTES: usize = 512;
/// Sectors of every prepared disk: 2 MiB.
pub const SECTORS: u64 = 4096;
const DISKS: usize = 12;
const WORDS: usize = SECTOR_BYTES / 8;
const STRIDE: u64 = 0x9E37_79B9_7F4A_7C15;
const ALIGNMENT: usize = 4096;

/// A disk in memory.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its node.
    pub path: PathBuf,
    /// Its size.
    pub sectors: u64,
}

/// What one sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// What was written by `tag` at `sector`.
    Stamp {
        /// Who.
        tag: u32,
        /// Where.
        sector: u32,
    },
    /// Zeros.
    Zeros,
    /// None of these: corruption.
    Rubbish,
}

/// Makes the disks: a dozen with blocks of 512 bytes (brd, which hands whole bios on), a dozen with 4096 (null_blk, which has
/// queues).
pub fn prepare() {
    let kib = SECTORS / 2;
    modprobe(&["brd", &format!("rd_nr={DISKS}"), &format!("rd_size={kib}")]);
    modprobe(&["null_blk", "nr_devices=0"]);
    for index in 0..DISKS {
        null_blk(&format!("large{index}"), &[("blocksize", "4096"), ("size", &(kib / 1024).to_string())]);
    }
}

/// Loads a kernel module with these parameters.
pub fn modprobe(arguments: &[&str]) {
    let output = Command::new("modprobe").args(arguments).output().expect("busybox has modprobe");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "modprobe {}: {complaint}", arguments.join(" "));
}

/// Makes and starts a null_blk device with memory behind it; `size` is in MiB.
pub fn null_blk(name: &str, attributes: &[(&str, &str)]) -> Disk {
    let directory = Path::new("/sys/kernel/config/nullb").join(name);
    fs::create_dir(&directory).expect("null_blk is loaded");
    let set = |attribute: &str, value: &str| {
        fs::write(directory.join(attribute), value)
            .unwrap_or_else(|error| panic!("null_blk {name}: {attribute}={value}: {error}"));
    };
    set("memory_backed", "1");
    attributes.iter().for_each(|(attribute, value)| set(attribute, value));
    set("power", "1");
    let disk = Path::new("/dev").join(name);
    let sectors = fs::read_to_string(Path::new("/sys/block").join(name).join("size")).expect("the disk is there");
    Disk { path: disk, sectors: sectors.trim().parse().expect("a number of sectors") }
}

/// One of the prepared disks with such blocks.
pub fn disk(index: usize, block_bytes: u32) -> Disk {
    assert!(index < DISKS, "there are {DISKS} disks of each kind");
    let name = if block_bytes == 512 { "ram" } else { "large" };
    Disk { path: PathBuf::from(format!("/dev/{name}{index}")), sectors: SECTORS }
}

impl Disk {
    fn open(&self) -> File {
        let direct = OFlags::DIRECT.bits() as i32;
        let opened = OpenOptions::new().read(true).write(true).custom_flags(direct).open(&self.path);
        opened.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// The bytes of so many sectors.
    pub fn read(&self, sector: u64, count: u64) -> Vec<u8> {
        let bytes = count as usize * SECTOR_BYTES;
        let (mut memory, start) = aligned(bytes);
        let into = &mut memory[start..start + bytes];
        let read = self.open().read_exact_at(into, sector * SECTOR_BYTES as u64);
        read.unwrap_or_else(|error| panic!("{}: reading {count} sectors at {sector}: {error}", self.path.display()));
        into.to_vec()
    }

    /// Writes whole sectors.
    pub fn write(&self, sector: u64, bytes: &[u8]) {
        let (mut memory, start) = aligned(bytes.len());
        let from = &mut memory[start..start + bytes.len()];
        from.copy_from_slice(bytes);
        let written = self.open().write_all_at(from, sector * SECTOR_BYTES as u64);
        written.unwrap_or_else(|error| panic!("{}: writing at {sector}: {error}", self.path.display()));
    }

    /// Stamps the whole disk.
    pub fn stamp(&self, tag: u32) {
        self.write(0, &stamps(tag, 0, self.sectors));
    }

    /// What every sector holds.
    pub fn found(&self) -> Vec<Found> {
        self.read(0, self.sectors).chunks_exact(SECTOR_BYTES).map(found_in).collect()
    }
}

/// Memory for direct I/O of so many bytes, and where in it they begin.
fn aligned(bytes: usize) -> (Vec<u8>, usize) {
    let memory = vec![0; bytes + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    (memory, start)
}

/// The bytes of so many stamped sectors.
pub fn stamps(tag: u32, first_sector: u64, count: u64) -> Vec<u8> {
    assert!(tag != 0, "a stamp is never taken for zeros");
    let mut bytes = Vec::with_capacity(count as usize * SECTOR_BYTES);
    for sector in first_sector..first_sector + count {
        let first = u64::from(tag) << 32 | sector;
        for word in 0..WORDS as u64 {
            bytes.extend_from_slice(&(first ^ word.wrapping_mul(STRIDE)).to_le_bytes());
        }
    }
    bytes
}

/// What a sector's bytes are.
pub fn found_in(sector: &[u8]) -> Found {
    let mut words = sector.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    let first = words.next().unwrap_or_default();
    if first == 0 {
        return if words.all(|word| word == 0) { Found::Zeros } else { Found::Rubbish };
    }
    let is_stamp = words.zip(1..).all(|(word, index)| word == first ^ STRIDE.wrapping_mul(index));
    if is_stamp { Found::Stamp { tag: (first >> 32) as u32, sector: first as u32 } } else { Found::Rubbish }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_where_it_came_from() {
        let bytes = stamps(7, 100, 3);
        let found: Vec<Found> = bytes.chunks_exact(SECTOR_BYTES).map(found_in).collect();
        assert_eq!(found, [100, 101, 102].map(|sector| Found::Stamp { tag: 7, sector }));
        assert_eq!(found_in(&[0; SECTOR_BYTES]), Found::Zeros);
        for byte in 0..SECTOR_BYTES {
            let mut spoilt = bytes[..SECTOR_BYTES].to_vec();
            spoilt[byte] ^= 1;
            assert_ne!(found_in(&spoilt), found[0], "byte {byte} matters");
        }
    }
}
