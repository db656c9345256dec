//! What the kernel's page about a block device (/sys/dev/block/MAJOR:MINOR) says: which disk a partition is part of, who holds
//! it, what its queue takes. It refuses to open devices.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{major, makedev, minor};
use rustix::io::Errno;

use super::{Queue, refusal};
use crate::copy::limits::SECTOR_BYTES;
use crate::copy::region::Identity;
use crate::error::{Error, ErrorKind};

/// The page of a block device.
#[derive(Debug)]
pub(super) struct Page {
    directory: PathBuf,
    rdev: u64,
}

impl Page {
    /// The page of a device number.
    pub(super) fn of(rdev: u64) -> Page {
        Page::below(Path::new("/sys/dev/block"), rdev)
    }

    fn below(root: &Path, rdev: u64) -> Page {
        Page { directory: root.join(format!("{}:{}", major(rdev), minor(rdev))), rdev }
    }

    /// The storage that the device is: its own, or, of a partition, its disk's from the partition's first byte on.
    ///
    /// A partition that starts at sector 2048 of disk 7:0 is (7:0, byte 1048576). Where there is no /sys to ask every device
    /// counts as a disk. That is asked in a way that needs no descriptor: a process that has none left must not take a
    /// partition for a disk, and overwrite what it reads (P10).
    pub(super) fn identity(&self) -> Result<Identity, Error> {
        if !self.directory.join("partition").exists() {
            return Ok(Identity { id: (0, self.rdev), start_bytes: 0 });
        }
        let start = self.read("start").map_err(unknown_place)?.parse::<u64>().ok();
        let disk = Page::in_directory(self.directory.join("..")).map_err(unknown_place)?;
        let start = start.and_then(|sectors| sectors.checked_mul(SECTOR_BYTES));
        let start_bytes = start.ok_or_else(|| unknown_place(io::ErrorKind::InvalidData.into()))?;
        Ok(Identity { id: (0, disk.rdev), start_bytes })
    }

    /// The disk that this device is a partition of.
    pub(super) fn disk(&self) -> Option<Page> {
        self.number("partition")?;
        // The kernel resolves the link to the partition's own directory first, so `..` is its disk's.
        Page::in_directory(self.directory.join("..")).ok()
    }

    /// The partitions of this disk.
    pub(super) fn partitions(&self) -> Vec<Page> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.join("partition").exists())
            .filter_map(|directory| Page::in_directory(directory).ok())
            .collect()
    }

    /// The devices built upon this one, such as dm-0, with their own names where they have one.
    pub(super) fn holders(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.join("holders")).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                let node = entry.file_name().to_string_lossy().into_owned();
                let name = fs::read_to_string(entry.path().join("dm/name")).unwrap_or_default();
                if name.trim().is_empty() { node } else { format!("{node} ({})", name.trim()) }
            })
            .collect()
    }

    /// The device's own name, as in /proc/partitions; its number where that cannot be read.
    pub(super) fn name(&self) -> String {
        let directory = fs::canonicalize(&self.directory).unwrap_or_else(|_| self.directory.clone());
        directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The limits of its queue; a partition's queue is its disk's.
    pub(super) fn queue(&self) -> Option<Queue> {
        if let Some(disk) = self.disk() {
            return disk.queue();
        }
        Some(Queue {
            disk: self.rdev,
            request_bytes_max: self.number("queue/max_sectors_kb")?.checked_mul(1024)?,
            requests_max: self.number("queue/nr_requests").and_then(|requests| u32::try_from(requests).ok()),
            rotational: self.number("queue/rotational")? != 0,
        })
    }

    /// The logical block, in bytes.
    pub(super) fn logical_block_bytes(&self) -> Option<u32> {
        if let Some(disk) = self.disk() {
            return disk.logical_block_bytes();
        }
        u32::try_from(self.number("queue/logical_block_size")?).ok()
    }

    /// The device's number.
    pub(super) fn rdev(&self) -> u64 {
        self.rdev
    }

    fn in_directory(directory: PathBuf) -> io::Result<Page> {
        let page = Page { directory, rdev: 0 };
        let text = page.read("dev")?;
        let numbers = text.split_once(':').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        let (major, minor) = numbers.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Page { rdev: makedev(major, minor), ..page })
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.parse().ok()
    }

    fn read(&self, file: &str) -> io::Result<String> {
        Ok(fs::read_to_string(self.directory.join(file))?.trim().to_owned())
    }
}

/// It is a partition, but /sys does not tell of which bytes of its disk.
fn unknown_place(why: io::Error) -> Error {
    match Errno::from_io_error(&why) {
        Some(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
            let advice = "where the partition lies on its disk cannot be read in /sys: raise the limit of open files \
                          (ulimit -n), or use fewer devices at once";
            refusal::system(errno, "open", advice)
        }
        _ => {
            let context = format!("is a partition, and where it starts on its disk cannot be read in /sys ({why})");
            Error::new(ErrorKind::UnsupportedDevice, context)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a temporary directory can be written");
        fs::write(path, text).expect("a temporary directory can be written");
    }

    /// A disk 8:0 with a partition 8:1 at sector 2048, held by dm-3, as the kernel lays them out.
    fn machine() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let disk = directory.path().join("devices/sda");
        write(disk.join("dev"), "8:0\n");
        write(disk.join("queue/max_sectors_kb"), "1280\n");
        write(disk.join("queue/nr_requests"), "64\n");
        write(disk.join("queue/rotational"), "1\n");
        write(disk.join("queue/logical_block_size"), "4096\n");
        write(disk.join("sda1/dev"), "8:1\n");
        write(disk.join("sda1/partition"), "1\n");
        write(disk.join("sda1/start"), "2048\n");
        write(disk.join("sda1/holders/dm-3/dm/name"), "crypt\n");
        let root = directory.path().join("block");
        fs::create_dir(&root).expect("a temporary directory can be written");
        symlink("../devices/sda", root.join("8:0")).expect("a temporary directory can be written");
        symlink("../devices/sda/sda1", root.join("8:1")).expect("a temporary directory can be written");
        (directory, root)
    }

    #[test]
    fn p10_a_partition_is_a_part_of_its_disk() {
        let (_directory, root) = machine();
        let disk = Page::below(&root, makedev(8, 0)).identity().expect("a disk has an identity");
        let partition = Page::below(&root, makedev(8, 1)).identity().expect("a partition has an identity");
        assert_eq!(disk, Identity { id: (0, makedev(8, 0)), start_bytes: 0 });
        assert_eq!(partition, Identity { id: (0, makedev(8, 0)), start_bytes: 1 << 20 });
    }

    #[test]
    fn p10_a_partition_without_a_start_is_refused() {
        let (_directory, root) = machine();
        fs::remove_file(root.join("8:1/start")).expect("the file was written above");
        let error = Page::below(&root, makedev(8, 1)).identity().expect_err("its place on the disk is unknown");
        assert_eq!(error.kind, ErrorKind::UnsupportedDevice);
    }

    #[test]
    fn a_partition_has_its_disks_queue() {
        let (_directory, root) = machine();
        let queue = Queue { disk: makedev(8, 0), request_bytes_max: 1280 << 10, requests_max: Some(64), rotational: true };
        assert_eq!(Page::below(&root, makedev(8, 1)).queue(), Some(queue));
        assert_eq!(Page::below(&root, makedev(8, 1)).logical_block_bytes(), Some(4096));
        assert_eq!(Page::below(&root, makedev(9, 9)).queue(), None);
    }

    #[test]
    fn a_page_names_the_device_its_partitions_and_its_holders() {
        let (_directory, root) = machine();
        let partitions = Page::below(&root, makedev(8, 0)).partitions();
        assert_eq!(partitions.iter().map(Page::name).collect::<Vec<_>>(), ["sda1"]);
        assert_eq!(partitions[0].rdev(), makedev(8, 1));
        assert_eq!(partitions[0].holders(), ["dm-3 (crypt)"]);
        assert_eq!(Page::below(&root, makedev(9, 9)).name(), "9:9");
    }
}
