//! The workshop of the tests that touch real devices: loop devices, partitions and mounts that go away with their guards, and
//! skips that say why. It refuses to know kcopyd.

// Each test binary uses its own part of the workshop.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

/// Held for writing while a child is being started.
static STARTING: RwLock<()> = RwLock::new(());

/// While this is held no other test of this binary starts a child. Between fork and exec a child has every descriptor of this
/// process, so what one test closes can stay held by another test's child for a moment. Running a command meanwhile would
/// wait for itself.
pub fn nothing_starts() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command, no longer than 30 seconds: with a stuck device even `losetup -a` never returns.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("30").arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn().unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    drop(starting);
    child.wait_with_output().unwrap_or_else(|error| panic!("{program} cannot be waited for: {error}"))
}

/// The same for a command that must succeed; what it printed, without the last newline.
pub fn must_run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let output = run(program, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed with {}: {complaint}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Says why a test does nothing here, and gives what the caller returns.
pub fn skip<T>(reason: &str) -> Option<T> {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("skipped: {name}: {reason}");
    None
}

/// Why this machine or user has no loop devices.
fn no_loop_devices() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("loop devices need root");
    }
    (!Path::new("/dev/loop-control").exists()).then_some("this kernel or container has no /dev/loop-control")
}

/// A loop device over a sparse file, with direct I/O to it. Dropping it removes its partitions and detaches it.
pub struct LoopDevice {
    path: PathBuf,
    backing: PathBuf,
    partitions: Vec<u32>,
}

impl LoopDevice {
    /// A device of so many bytes with such logical blocks (512 to 4096) over a new file in a directory that outlives it;
    /// None, and a printed reason, where there are no loop devices.
    pub fn new(directory: &Path, bytes: u64, sector_bytes: u32) -> Option<LoopDevice> {
        LoopDevice::attach(directory, bytes, &format!("--sector-size={sector_bytes}"))
    }

    /// The same with sectors of 512 bytes, and closed to writing. (Not by `blockdev --setro`: that outlives the loop device
    /// and is met by the next one of its number.)
    pub fn read_only(directory: &Path, bytes: u64) -> Option<LoopDevice> {
        LoopDevice::attach(directory, bytes, "--read-only")
    }

    fn attach(directory: &Path, bytes: u64, option: &str) -> Option<LoopDevice> {
        if let Some(reason) = no_loop_devices() {
            return skip(reason);
        }
        let (file, backing) = tempfile::Builder::new().prefix("loop-").tempfile_in(directory).unwrap().keep().unwrap();
        file.set_len(bytes).unwrap();
        let shown = must_run("losetup", &["-f", "--show", "--direct-io=on", option, backing.to_str().unwrap()]);
        Some(LoopDevice { path: PathBuf::from(shown), backing, partitions: Vec::new() })
    }

    /// The device's node, such as /dev/loop0.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that holds its bytes.
    pub fn backing(&self) -> &Path {
        &self.backing
    }

    /// The device number, as `st_rdev` has it.
    pub fn rdev(&self) -> u64 {
        rustix::fs::stat(&self.path).unwrap().st_rdev
    }

    /// Makes a partition, without a table on the disk, and a node for it in a directory.
    pub fn add_partition(&mut self, number: u32, first_sector: u64, sectors: u64, directory: &Path) -> PathBuf {
        let disk = self.path.file_name().unwrap().to_str().unwrap().to_owned();
        let numbers = [number.to_string(), first_sector.to_string(), sectors.to_string()];
        must_run("addpart", &[self.path.to_str().unwrap(), &numbers[0], &numbers[1], &numbers[2]]);
        self.partitions.push(number);
        let text = fs::read_to_string(format!("/sys/block/{disk}/{disk}p{number}/dev")).unwrap();
        let (major, minor) = text.trim().split_once(':').unwrap();
        let node = directory.join(format!("{disk}p{number}"));
        make_node(&node, makedev(major.parse().unwrap(), minor.parse().unwrap()));
        node
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Detaching alone leaves the partitions of a device that was never scanned to its next user.
        for number in &self.partitions {
            complain(run("delpart", &[self.path.as_os_str(), number.to_string().as_ref()]));
        }
        complain(run("losetup", &[OsStr::new("-d"), self.path.as_os_str()]));
    }
}

/// Another name for a block device.
pub fn make_node(path: &Path, rdev: u64) {
    mknodat(CWD, path, FileType::BlockDevice, Mode::from_raw_mode(0o600), rdev).unwrap();
}

/// A mounted file system. Dropping it unmounts it.
pub struct Mount {
    point: PathBuf,
}

impl Mount {
    /// Mounts with these arguments of mount(8) at a directory that is made for it.
    pub fn new(arguments: &[&str], point: &Path) -> Mount {
        fs::create_dir_all(point).unwrap();
        must_run("mount", &[arguments, &[point.to_str().unwrap()]].concat());
        Mount { point: point.to_owned() }
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        complain(run("umount", &[&self.point]));
    }
}

/// Guards complain instead of panicking: they also run while a failed test unwinds.
fn complain(output: Output) {
    if !output.status.success() {
        eprintln!("cleaning up failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
}
