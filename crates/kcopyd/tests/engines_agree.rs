//! The same random jobs on every engine give the same bytes and the same outcomes: on threads, on a ring, on simulated disks;
//! with and without the faults that a plain machine gives, which are a source that has shrunk since its job was checked, and a
//! destination that may not grow (a sealed memory file). In some worlds jobs are aborted: what becomes of those differs by timing,
//! but what they say holds, and the others are as they would have been. It knows no promise but these.

// The test helpers too: a test that unwraps fails with the line.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kcopyd::copy::chain::Operation;
use kcopyd::copy::job::{Flush, Job, JobFlags, JobParts, OnError, WriteOrder};
use kcopyd::copy::limits::{PAGE_SECTORS, SECTOR_BYTES};
use kcopyd::copy::outcome::{Ending, Outcome};
use kcopyd::copy::region::{DeviceKind, Geometry, Identity, Unaligned};
use kcopyd::copy::request::{Endpoint, Plan, plan};
use kcopyd::copy::scheduler::Scheduler;
use kcopyd::engine::arena::Arena;
use kcopyd::engine::device::{Access, Device, DeviceOptions};
use kcopyd::engine::simulated::{Effect, Fault, Random, Simulated, SimulatedDisk, SimulatedOptions};
use kcopyd::engine::threads::Threads;
use kcopyd::engine::uring::{Chains, Uring, UringOptions};
use kcopyd::engine::{Engine, Wait};
use kcopyd::error::ErrorKind;

const WORLDS: u64 = 200;
const SOURCES: usize = 2;
/// The first destination is a memory file; the others are files.
const DESTINATIONS: usize = 3;
const JOBS_MAX: u64 = 6;

/// One job: which source, from where on and how much; which destinations, where.
struct Wish {
    source: Option<(usize, u64)>,
    sectors: u64,
    destinations: Vec<(usize, u64)>,
    flags: JobFlags,
    /// Aborted after so many turns of the engine, if it is.
    aborted_after: Option<u64>,
}

/// All that is random, made before any engine is: what it says is the same for all.
struct World {
    contents: Vec<Vec<u8>>,
    pages: u32,
    sub_job_sectors: u64,
    wishes: Vec<Wish>,
    /// The first source is cut off here once the jobs are checked.
    shrinks_to: Option<u64>,
    /// The memory file is no larger than its first so many bytes, and may not grow.
    sealed_at: Option<u64>,
}

/// What an engine made of a world: every destination's bytes, and every job's outcome.
#[derive(PartialEq)]
struct Result {
    contents: Vec<Vec<u8>>,
    outcomes: Vec<Outcome>,
}

impl World {
    fn from_seed(seed: u64) -> World {
        let mut random = Random::new(seed);
        let mut below = |end: u64| random.number() % end;
        let sub_job_sectors = [8, 16, 40, 64, 256][below(5) as usize];
        let pages = (sub_job_sectors / PAGE_SECTORS * (1 + below(6))) as u32;
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for _ in 0..SOURCES + DESTINATIONS {
            let length = 200_000 + below(200_000);
            contents.push((0..length).map(|_| below(256) as u8).collect());
        }
        let (shrinks, sealed) = (below(3) == 0, below(3) == 0);
        let shrinks_to = shrinks.then(|| below(380) * SECTOR_BYTES);
        let sealed_at = sealed.then(|| below(40) * PAGE_SECTORS * SECTOR_BYTES);
        if let Some(bytes) = sealed_at {
            contents[SOURCES].truncate(bytes as usize);
        }
        // With two faults the first to strike would decide what is never begun; with errors ignored everything is begun.
        let on_error = if (shrinks && sealed) || below(2) == 0 { OnError::Ignore } else { OnError::Stop };
        let aborting = below(4) == 0;
        let mut ends = [0; DESTINATIONS];
        let wishes = (0..1 + below(JOBS_MAX)).map(|_| {
            let source = (below(8) > 0).then(|| (below(SOURCES as u64) as usize, below(300)));
            let left =
                source.map_or(400, |(source, sector)| (contents[source].len() as u64).div_ceil(SECTOR_BYTES) - sector);
            let about = [9, 60, 300][below(3) as usize];
            let sectors = if below(4) == 0 { left.min(400) } else { 1 + below(about) }.min(left);
            let mut destinations = Vec::new();
            for (index, end) in ends.iter_mut().enumerate() {
                if below(2) == 0 || (index + 1 == DESTINATIONS && destinations.is_empty()) {
                    let sector = *end + below(3);
                    *end = sector + sectors;
                    destinations.push((index, sector));
                }
            }
            let order = if on_error == OnError::Stop && below(3) == 0 { WriteOrder::Sequential } else { WriteOrder::Any };
            let flush = if below(3) == 0 { Flush::Yes } else { Flush::No };
            let aborted_after = (aborting && below(2) == 0).then(|| below(4));
            Wish { source, sectors, destinations, flags: JobFlags { on_error, order, flush }, aborted_after }
        });
        let wishes: Vec<Wish> = wishes.collect();
        World { contents, pages, sub_job_sectors, wishes, shrinks_to, sealed_at }
    }

    /// Whether all that happens follows from the world: not which piece an error finds begun, if the first one stops the job.
    fn is_determined(&self) -> bool {
        let faulty = self.shrinks_to.is_some() || self.sealed_at.is_some();
        !faulty || self.wishes.iter().all(|wish| wish.flags.on_error == OnError::Ignore)
    }

    fn has_aborts(&self) -> bool {
        self.wishes.iter().any(|wish| wish.aborted_after.is_some())
    }

    fn plans(&self, geometries: &[Geometry]) -> Vec<Plan> {
        let plan_of = |wish: &Wish| {
            let endpoint =
                |device: usize, sector| Endpoint { geometry: geometries[device], sector, count: Some(wish.sectors) };
            let source = wish.source.map(|(device, sector)| endpoint(device, sector));
            let to: Vec<_> = wish.destinations.iter().map(|&(device, sector)| endpoint(SOURCES + device, sector)).collect();
            plan(source.as_ref(), &to).unwrap()
        };
        self.wishes.iter().map(plan_of).collect()
    }

    /// Runs the jobs, all at once.
    fn run<E: Engine>(
        &self,
        mut engine: E,
        devices: &[Arc<E::Device>],
        geometries: &[Geometry],
        plans: &[Plan],
    ) -> Vec<Outcome> {
        let indices: Vec<_> = devices.iter().map(|device| engine.attach(device).unwrap()).collect();
        let end = |device: usize| (indices[device], geometries[device].direct_alignment_bytes);
        let mut scheduler = Scheduler::new(self.pages, self.sub_job_sectors, None);
        for (token, (wish, plan)) in self.wishes.iter().zip(plans).enumerate() {
            let source = wish.source.map(|(device, _)| end(device));
            let destinations = wish.destinations.iter().map(|&(device, _)| end(SOURCES + device)).collect();
            let parts = JobParts { token: token as u64, source, destinations, flags: wish.flags, progress: None };
            scheduler.submit(Box::new(Job::new(plan, parts)));
        }
        let mut outcomes: Vec<(u64, Outcome)> = Vec::new();
        let mut completions = Vec::new();
        for turn in 0.. {
            let aborted = |wish: &Wish| wish.aborted_after == Some(turn);
            for (token, _) in self.wishes.iter().enumerate().filter(|(_, wish)| aborted(wish)) {
                scheduler.abort(token as u64);
            }
            while let Some(chain) = scheduler.next_chain(Duration::ZERO) {
                if let Err(chain) = engine.stage(chain) {
                    scheduler.hand_back(&chain, Duration::ZERO);
                    break;
                }
            }
            while let Some(ended) = scheduler.take_outcome() {
                outcomes.push((ended.token, ended.outcome));
            }
            if scheduler.is_idle() {
                break;
            }
            engine.submit_and_wait(Wait::UntilWoken, &mut completions);
            completions.drain(..).for_each(|completion| scheduler.settle(completion, Duration::ZERO));
        }
        outcomes.sort_by_key(|(token, _)| *token);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// The world on files of this machine.
struct Real {
    files: Vec<File>,
    devices: Vec<Arc<Device>>,
}

impl Real {
    fn new(world: &World, folder: &Path) -> Real {
        let mut real = Real { files: Vec::new(), devices: Vec::new() };
        for (index, contents) in world.contents.iter().enumerate() {
            if index == SOURCES {
                let file = memory_file(contents, world.sealed_at.is_some());
                real.devices.push(Arc::new(Device::adopt(file.as_raw_fd(), Access::Write).unwrap()));
                real.files.push(file);
                continue;
            }
            let path = folder.join(index.to_string());
            fs::write(&path, contents).unwrap();
            let access = if index < SOURCES { Access::Read } else { Access::Write };
            real.devices.push(Arc::new(Device::open(&path, &DeviceOptions { access, ..DeviceOptions::default() }).unwrap()));
            real.files.push(File::options().read(true).write(true).open(&path).unwrap());
        }
        real
    }

    fn geometries(&self) -> Vec<Geometry> {
        self.devices.iter().map(|device| device.geometry()).collect()
    }

    fn run<E: Engine<Device = Device>>(&self, world: &World, engine: E) -> Result {
        let geometries = self.geometries();
        let plans = world.plans(&geometries);
        if let Some(bytes) = world.shrinks_to {
            let now = self.files[0].metadata().unwrap().len();
            self.files[0].set_len(bytes.min(now)).unwrap();
        }
        let outcomes = world.run(engine, &self.devices, &geometries, &plans);
        let contents = self.files[SOURCES..].iter().map(|file| {
            // By its descriptor: a memory file has no other name.
            fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
        });
        Result { contents: contents.collect(), outcomes }
    }
}

fn memory_file(contents: &[u8], sealed: bool) -> File {
    // SAFETY: the name is a string that ends in a zero byte, and the call touches no other memory of ours.
    let descriptor = unsafe { libc::memfd_create(c"kcopyd".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    assert!(descriptor >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(contents).unwrap();
    if sealed {
        // SAFETY: the call takes numbers only.
        assert_eq!(unsafe { libc::fcntl(descriptor, libc::F_ADD_SEALS, libc::F_SEAL_GROW) }, 0);
    }
    file
}

/// The world on simulated disks that have the geometry of the real files.
fn simulated(world: &World, seed: u64, geometries: &[Geometry]) -> Result {
    let disk = |(number, (contents, real)): (usize, (&Vec<u8>, &Geometry))| {
        let geometry = Geometry { identity: Identity { id: (1, number as u64), start_bytes: 0 }, ..*real };
        assert_eq!((geometry.kind, geometry.unaligned), (DeviceKind::File, Unaligned::Buffered));
        let disk = SimulatedDisk::new(number as u64 + 1, geometry);
        disk.set_contents(0, contents);
        Arc::new(disk)
    };
    let disks: Vec<_> = world.contents.iter().zip(geometries).enumerate().map(disk).collect();
    if let Some(bytes) = world.shrinks_to.filter(|bytes| *bytes < world.contents[0].len() as u64) {
        let fault = Fault::on(Operation::Read, Effect::StopAt(libc::EIO));
        disks[0].inject(fault.at_sectors(bytes / SECTOR_BYTES..u64::MAX));
    }
    if let Some(bytes) = world.sealed_at {
        let fault = Fault::on(Operation::Write, Effect::StopAt(libc::EPERM));
        disks[SOURCES].inject(fault.at_sectors(bytes / SECTOR_BYTES..u64::MAX));
        // So does a file system in memory, sealed or not.
        disks[SOURCES].inject(Fault::on(Operation::Zero, Effect::Fail(libc::EOPNOTSUPP)));
    }
    let geometries: Vec<_> = disks.iter().map(|disk| disk.geometry()).collect();
    let engine =
        Simulated::new(Arc::new(Arena::new(world.pages).unwrap()), SimulatedOptions { seed, ..SimulatedOptions::default() });
    let outcomes = world.run(engine, &disks, &geometries, &world.plans(&geometries));
    let contents = disks[SOURCES..].iter().map(|disk| disk.contents(0..disk.geometry().bytes));
    Result { contents: contents.collect(), outcomes }
}

fn agree(seed: u64, world: &World, name: &str, one: &Result, other: &Result) {
    let whose = format!("world {seed}, {name} and threads");
    let outcomes = one.outcomes.iter().zip(&other.outcomes).enumerate();
    for (job, (one, other)) in outcomes.filter(|(job, _)| world.wishes[*job].aborted_after.is_none()) {
        if world.is_determined() {
            assert_eq!(one, other, "{whose}, job {job}");
        }
        let verdict = |outcome: &Outcome| (outcome.read_errno, outcome.write_errors, outcome.ending, outcome.length_bytes);
        assert_eq!(verdict(one), verdict(other), "{whose}, job {job}");
    }
    if world.is_determined() && !world.has_aborts() {
        for (index, (one, other)) in one.contents.iter().zip(&other.contents).enumerate() {
            assert_eq!(one.len(), other.len(), "{whose}: destination {index} is as long");
            let difference = (0..one.len()).find(|&at| one[at] != other[at]);
            assert_eq!(difference, None, "{whose}: destination {index} differs from this byte on");
        }
    }
}

/// What every outcome says of its destinations is there, whatever stopped the job.
fn holds_what_it_says(seed: u64, world: &World, name: &str, result: &Result) {
    for (job, (wish, outcome)) in world.wishes.iter().zip(&result.outcomes).enumerate() {
        for (&(device, sector), destination) in wish.destinations.iter().zip(&outcome.destinations) {
            let (prefix, at) = (destination.prefix_bytes as usize, (sector * SECTOR_BYTES) as usize);
            let said = match wish.source {
                Some((source, first)) => world.contents[source][(first * SECTOR_BYTES) as usize..][..prefix].to_vec(),
                None => vec![0; prefix],
            };
            let held = result.contents[device].get(at..at + prefix);
            assert!(prefix == 0 || held == Some(&said[..]), "world {seed} on {name}: job {job} says more than is there");
        }
    }
    for (device, contents) in result.contents.iter().enumerate() {
        let mut asked = vec![false; contents.len()];
        for wish in &world.wishes {
            for &(_, sector) in wish.destinations.iter().filter(|(own, _)| *own == device) {
                let bytes = |sectors: u64| ((sectors * SECTOR_BYTES) as usize).min(contents.len());
                asked[bytes(sector)..bytes(sector + wish.sectors)].fill(true);
            }
        }
        // Where a file has grown, what nobody wrote reads as zero.
        let before = |at: usize| world.contents[SOURCES + device].get(at).copied().unwrap_or(0);
        let changed = (0..contents.len()).find(|&at| !asked[at] && contents[at] != before(at));
        assert_eq!(
            changed, None,
            "world {seed} on {name}: destination {device} has changed here, where nobody asked for it"
        );
    }
}

#[test]
fn p5_p6_p8_p17_p27_every_engine_makes_the_same_bytes_and_outcomes_of_the_same_jobs() {
    let arena = |world: &World| Arc::new(Arena::new(world.pages).unwrap());
    let ring = |world: &World, chains| {
        let refused = Uring::new(arena(world), &UringOptions { chains, ..UringOptions::default() });
        refused.inspect_err(|error| assert_eq!(error.kind, ErrorKind::EngineUnavailable, "{error}")).ok()
    };
    let (mut with_ring, mut with_faults, mut aborted) = (0, 0, 0);
    for seed in 0..WORLDS {
        let world = World::from_seed(seed);
        let folder = tempfile::tempdir().unwrap();
        let real = Real::new(&world, folder.path());
        let reference = real.run(&world, Threads::new(arena(&world), "the test's").unwrap());
        holds_what_it_says(seed, &world, "threads", &reference);
        // Before the threads' run the files were as long as the world says, and so are the simulated ones.
        let geometries = Real::new(&world, tempfile::tempdir().unwrap().path()).geometries();
        let other = simulated(&world, seed, &geometries);
        holds_what_it_says(seed, &world, "simulated disks", &other);
        agree(seed, &world, "simulated disks", &other, &reference);
        for (name, chains) in [("a ring", Chains::AsMeasured), ("a ring, linked", Chains::Linked)] {
            let Some(engine) = ring(&world, chains) else { continue };
            let folder = tempfile::tempdir().unwrap();
            let other = Real::new(&world, folder.path()).run(&world, engine);
            holds_what_it_says(seed, &world, name, &other);
            agree(seed, &world, name, &other, &reference);
            with_ring += 1;
        }
        aborted += reference.outcomes.iter().filter(|outcome| outcome.ending == Ending::Aborted).count();
        with_faults += u64::from(reference.outcomes.iter().any(|outcome| !outcome.is_success()));
    }
    assert!(with_faults > WORLDS / 4, "only {with_faults} of {WORLDS} worlds had a job that failed");
    assert!(aborted > 10, "only {aborted} jobs were aborted in time");
    if with_ring == 0 {
        println!("skipped on io_uring: it cannot be used here");
    }
}
