//! The device mapper, by way of dmsetup: devices that fail in places, are slow, stop, vanish or write everything down. It knows
//! tables, not what the cases do with them.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::Disk;

/// Runs dmsetup, which must succeed; what it printed.
pub fn dmsetup(arguments: &[&str]) -> String {
    match try_dmsetup(arguments) {
        Ok(printed) => printed,
        Err(error) => panic!("dmsetup {}: {error}", arguments.join(" ")),
    }
}

fn try_dmsetup(arguments: &[&str]) -> Result<String, String> {
    // There is no udev in the guest; dmsetup makes the nodes itself once it does not look for one.
    let output =
        Command::new("dmsetup").args(arguments).env("DM_DISABLE_UDEV", "1").output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}

/// Lets every device go and removes it; the names of those that there were.
pub fn clear_away() -> String {
    // Looking here first spares starting dmsetup after every case.
    let disks = fs::read_dir("/sys/block").expect("sysfs is mounted");
    let is_mapped =
        |entry: io::Result<DirEntry>| entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"dm-"));
    if !disks.into_iter().any(is_mapped) {
        return String::new();
    }
    let listed = try_dmsetup(&["ls"]).unwrap_or_default();
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split('\t').next()).collect();
    for name in &names {
        // What waits for a suspended device must be able to end before the device can be removed.
        let _ = try_dmsetup(&["resume", name]);
    }
    // Those that others lie upon go when these have gone.
    for _ in 0..3 {
        let _ = try_dmsetup(&["remove_all", "--force"]);
    }
    names.join(" ")
}

/// The file in sysfs that says whether a device is suspended.
pub fn suspended(name: &str) -> PathBuf {
    let disks = fs::read_dir("/sys/block").expect("sysfs is mounted").flatten();
    let is_it = |path: &PathBuf| fs::read_to_string(path.join("dm/name")).is_ok_and(|is| is.trim() == name);
    let disk = disks.map(|entry| entry.path()).find(is_it);
    disk.unwrap_or_else(|| panic!("{name} is a device of the mapper")).join("dm/suspended")
}

/// Device-mapper devices that were made together. Dropping removes them, the last one first.
#[derive(Debug)]
pub struct Mapped {
    names: Vec<String>,
}

impl Mapped {
    /// One device.
    pub fn new(name: &str, table: &str) -> Mapped {
        Mapped::several(&[(name.to_owned(), table.to_owned())])
    }

    /// Several devices, each of which may use those before it, by one call: starting a program in the guest takes its time.
    pub fn several(devices: &[(String, String)]) -> Mapped {
        let concise: Vec<String> = devices
            .iter()
            .map(|(name, table)| {
                let lines: Vec<&str> = table.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                format!("{name},,,rw,{}", lines.join(","))
            })
            .collect();
        dmsetup(&["create", "--concise", &concise.join(";")]);
        Mapped { names: devices.iter().map(|(name, _)| name.clone()).collect() }
    }

    /// The node of the nth device.
    pub fn path(&self, index: usize) -> PathBuf {
        Path::new("/dev/mapper").join(&self.names[index])
    }

    fn name(&self, index: usize) -> &str {
        &self.names[index]
    }

    /// Requests wait from now on, those in flight included.
    pub fn suspend(&self, index: usize) {
        dmsetup(&["suspend", "--noflush", "--nolockfs", self.name(index)]);
    }

    /// The same after all requests, and what the target does of its own accord, have come to an end.
    pub fn suspend_and_wait(&self, index: usize) {
        dmsetup(&["suspend", "--nolockfs", self.name(index)]);
    }

    /// Requests go on, by the table that was loaded last.
    pub fn resume(&self, index: usize) {
        dmsetup(&["resume", self.name(index)]);
    }

    /// Loads a table that takes effect at the next resume.
    pub fn load(&self, index: usize, table: &str) {
        dmsetup(&["load", self.name(index), "--table", table]);
    }

    /// Sends a message to the device's target.
    pub fn message(&self, index: usize, message: &[&str]) {
        dmsetup(&[&["message", self.name(index), "0"], message].concat());
    }

    /// What the target says of itself.
    pub fn status(&self, index: usize) -> String {
        dmsetup(&["status", self.name(index)])
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let names = self.names.iter().rev().map(String::as_str);
        let arguments: Vec<&str> = ["remove", "--retry"].into_iter().chain(names).collect();
        // While a failed case unwinds, what is left is for the suite to clear away.
        if let Err(error) = try_dmsetup(&arguments) {
            eprintln!("dmsetup {}: {error}", arguments.join(" "));
        }
    }
}

/// A table that shows a disk as it is.
pub fn linear(disk: &Disk) -> String {
    with_errors(disk, &[])
}

/// A table that shows a disk on which every request fails that touches these ranges (first sector, count; ascending, apart).
pub fn with_errors(disk: &Disk, bad: &[(u64, u64)]) -> String {
    let mut table = String::new();
    let mut at = 0;
    let good = |table: &mut String, from: u64, end: u64| {
        if from < end {
            table.push_str(&format!("{from} {} linear {} {from}\n", end - from, disk.path.display()));
        }
    };
    for &(sector, count) in bad {
        good(&mut table, at, sector);
        table.push_str(&format!("{sector} {count} error\n"));
        at = sector + count;
    }
    good(&mut table, at, disk.sectors);
    table
}

/// A table on which everything fails, of a disk's size.
pub fn nothing_but_errors(disk: &Disk) -> String {
    format!("0 {} error", disk.sectors)
}
