//! Small jobs driven by the core alone, without JavaScript: the measure of what the binding and the face cost. Every piece of
//! the source goes to the same place of the destination, in an order that looks random. Prints a line of JSON.
//!
//! `cargo run --release --example core_jobs -- SOURCE DESTINATION JOB_KIB JOBS DEPTH [engine]`: so many jobs are timed while so
//! many are kept submitted. The first DEPTH are submitted while the client's thread is held up, so that they all wait at once.
//! The flush at the end is timed too. Jobs of 0 KiB touch no device: what is left is the cost of a job itself.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs};

use kcopyd::client::{Client, ClientOptions, EngineChoice, Finished, JobRequest, Left, RegionRequest};
use kcopyd::copy::job::{Flush, JobFlags};
use kcopyd::engine::device::{Access, Device, DeviceOptions};

mod places;

const SECTORS_PER_KIB: u64 = 2;
const SECTOR_BYTES: u64 = 512;
const TAKEN_AT_ONCE: usize = 1024;

/// Counts the doorbell's rings; whoever has the lock holds the client's thread up.
type Rung = Arc<(Mutex<u64>, Condvar)>;

struct Devices {
    source: Arc<Device>,
    destination: Arc<Device>,
    job_sectors: u64,
    /// How many jobs are the whole source.
    places: u64,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [source, destination, job_kib, jobs, depth, engine @ ..] = arguments.as_slice() else {
        panic!("SOURCE DESTINATION JOB_KIB JOBS DEPTH [engine]");
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let open = |path: &str, access| {
        let options = DeviceOptions { access, ..DeviceOptions::default() };
        Arc::new(Device::open(Path::new(path), &options).expect("the device can be opened"))
    };
    let source = open(source, Access::Read);
    let job_sectors = number(job_kib) * SECTORS_PER_KIB;
    let places = (source.geometry().bytes / SECTOR_BYTES).checked_div(job_sectors).unwrap_or(1);
    let devices = Devices { source, destination: open(destination, Access::Write), job_sectors, places };
    let engine = match engine.first().map(String::as_str) {
        None | Some("auto") => EngineChoice::Auto,
        Some("io_uring") => EngineChoice::IoUring,
        Some("threads") => EngineChoice::Threads,
        Some(other) => panic!("no engine is called {other}"),
    };
    run(&devices, number(jobs), number(depth), engine);
}

fn run(devices: &Devices, jobs: u64, depth: u64, engine: EngineChoice) {
    let rung: Rung = Arc::default();
    let rings = Arc::clone(&rung);
    let doorbell = move || {
        *rings.0.lock().expect("nobody panics with the lock") += 1;
        rings.1.notify_all();
    };
    let options = ClientOptions { engine, ..ClientOptions::default() };
    let client = Client::create(&options, Box::new(doorbell)).expect("the client can be created");
    let resident_before = resident_bytes("VmRSS:");
    let gate = rung.0.lock().expect("nobody panics with the lock");
    (0..depth).for_each(|token| submit(&client, devices, token));
    drop(gate);
    let (mut took, cpu) = keep_going(&client, devices, &rung, jobs, depth);
    took += flush(&client, devices, &rung);
    let queued_bytes = resident_bytes("VmHWM:").saturating_sub(resident_before);
    let stats = client.stats();
    println!(
        r#"{{"jobs":{jobs},"depth":{depth},"seconds":{:.6},"jobsPerSecond":{:.0},"cpuSeconds":{:.6},"residentBytesPerQueuedJob":{:.0},"submissions":{},"engine":"{:?}"}}"#,
        took.as_secs_f64(),
        jobs as f64 / took.as_secs_f64(),
        cpu.as_secs_f64(),
        queued_bytes as f64 / depth as f64,
        stats.engine.submissions,
        stats.engine.kind,
    );
    assert!(client.end(Duration::from_secs(60)) == Left::Nothing, "the client ends");
}

/// Keeps `depth` jobs submitted until `jobs` have been timed, then lets the rest finish; what those `jobs` took, and how
/// much processor time. The first ones do not count: while they run, those behind them are still being taken in.
fn keep_going(client: &Client, devices: &Devices, rung: &Rung, jobs: u64, depth: u64) -> (Duration, Duration) {
    let (mut submitted, mut over, mut seen) = (depth, 0, 0);
    let (first, last) = (depth / 8 + 1, depth / 8 + 1 + jobs);
    let (mut begin, mut taken) = (None, None);
    let mut finished = Vec::with_capacity(TAKEN_AT_ONCE);
    while over < submitted {
        take_finished(client, rung, &mut seen, &mut finished);
        for job in finished.drain(..) {
            assert!(job.outcome.is_success(), "job {}: {:?}", job.token, job.outcome);
            over += 1;
            if over == first {
                begin = Some((Instant::now(), processor_time()));
            }
            if let (true, Some((instant, cpu))) = (over == last, begin) {
                taken = Some((instant.elapsed(), processor_time() - cpu));
            }
            if over < last {
                submit(client, devices, submitted);
                submitted += 1;
            }
        }
    }
    taken.expect("more jobs are submitted than are timed")
}

/// Waits until jobs are over. `seen` is how often the doorbell had rung when it was last listened to.
fn take_finished(client: &Client, rung: &Rung, seen: &mut u64, finished: &mut Vec<Finished>) {
    loop {
        client.take_finished(TAKEN_AT_ONCE, finished);
        if !finished.is_empty() {
            return;
        }
        let waits = rung.0.lock().expect("nobody panics with the lock");
        *seen = *rung.1.wait_while(waits, |rings| *rings == *seen).expect("nobody panics with the lock");
    }
}

/// Makes the destination durable by a job of no bytes; how long that took.
fn flush(client: &Client, devices: &Devices, rung: &Rung) -> Duration {
    let begin = Instant::now();
    let (source, destination) = (Arc::clone(&devices.source), Arc::clone(&devices.destination));
    let flags = JobFlags { flush: Flush::Yes, ..JobFlags::default() };
    request(client, &Devices { source, destination, job_sectors: 0, places: 1 }, 0, flags);
    let mut finished = Vec::new();
    take_finished(client, rung, &mut 0, &mut finished);
    assert!(finished[0].outcome.is_success(), "{:?}", finished[0].outcome);
    begin.elapsed()
}

fn submit(client: &Client, devices: &Devices, token: u64) {
    request(client, devices, token, JobFlags::default());
}

fn request(client: &Client, devices: &Devices, token: u64, flags: JobFlags) {
    let region = |device: &Arc<Device>, count| RegionRequest {
        device: Arc::clone(device),
        sector: places::place(token, devices.places) * devices.job_sectors,
        count,
    };
    let request = JobRequest {
        token,
        source: Some(region(&devices.source, Some(devices.job_sectors))),
        destinations: vec![region(&devices.destination, None)],
        flags,
        progress: None,
    };
    client.submit(request).expect("the request is right");
}

fn resident_bytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("in kB") * 1024
}

/// User and system time of this process so far.
fn processor_time() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}
