//! Our core beside the kernel's kcopyd, in the same guest, one after the other in turns: what dm-mirror needs to bring its legs into
//! step against what one client needs for the same bytes. It prints a table of medians; docs/BENCHMARKS.md says what came of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kcopyd::client::{ClientOptions, EngineChoice};
use kcopyd::engine::device::Device;

use crate::case::engine_name;
use crate::disk::{Disk, modprobe, stamps};
use crate::mapper::{self, Mapped, dmsetup, linear};
use crate::report;
use crate::session::{Job, Session, open_destination, open_source};

const MIB: u64 = 1 << 20;
const SECTORS_PER_MIB: u64 = MIB / 512;
/// Legs of this size, in MiB.
const SIZE_MIB: u64 = 96;
/// Of which so much is copied where every request is slow: no less than the largest region.
const SLOW_SIZE_MIB: u64 = 64;
const RUNS: usize = 5;
const SLOW_RUNS: usize = 3;
/// From half a MiB to 64 MiB; in KiB.
const REGIONS_KIB: [u64; 3] = [512, 4096, 65_536];

/// Runs what was asked for: `brd`, `delay`, or both.
pub fn run(words: &[String]) {
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    modprobe(&["brd", "rd_nr=4", &format!("rd_size={}", SIZE_MIB * 1024)]);
    let legs: Vec<Disk> = (0..4).map(ram).collect();
    // The memory behind a RAM disk comes with its first write; that is nobody's speed.
    legs.iter().for_each(fill);
    tell_the_settings(&legs);
    if wanted("brd") {
        for destinations in [1, 3] {
            let setting = format!("brd, 1 to {destinations}, {SIZE_MIB} MiB");
            compare(&setting, &legs[..=destinations], &linear, SIZE_MIB, RUNS, 0);
        }
    }
    if wanted("delay") {
        for (delay_ms, destinations) in [(1, 1), (1, 3), (10, 1), (10, 3)] {
            let setting = format!("dm-delay of {delay_ms} ms, 1 to {destinations}, {SLOW_SIZE_MIB} MiB");
            let table = |disk: &Disk| format!("0 {} delay {} 0 {delay_ms}", disk.sectors, disk.path.display());
            compare(&setting, &legs[..=destinations], &table, SLOW_SIZE_MIB, SLOW_RUNS, delay_ms);
        }
    }
    report::end(1);
}

fn ram(index: usize) -> Disk {
    Disk { path: PathBuf::from(format!("/dev/ram{index}")), sectors: SIZE_MIB * SECTORS_PER_MIB }
}

fn fill(disk: &Disk) {
    let piece = stamps(1, 0, SECTORS_PER_MIB);
    (0..SIZE_MIB).for_each(|at| disk.write(at * SECTORS_PER_MIB, &piece));
}

fn tell_the_settings(legs: &[Disk]) {
    let mapped = Mapped::new("probe", &linear(&legs[0]));
    let device = open_source(&mapped.path(0));
    let session = Session::with(&ClientOptions { engine: EngineChoice::IoUring, ..ClientOptions::default() });
    let engine = session.client().stats().engine;
    report::note(&format!("{} (buffers registered: {})", engine.reason, engine.registered_buffers));
    report::note(&format!("a leg's queue: {:?}", device.queue()));
    session.close();
    drop(device);
}

/// Who is measured.
#[derive(Clone, Debug)]
enum Contender {
    /// dm-mirror, with regions of so many KiB.
    Kernel(u64),
    /// One client, this many jobs at once over equal parts, pieces of so many sectors.
    Ours(EngineChoice, u64, Option<u64>),
}

impl Contender {
    fn name(&self) -> String {
        match self {
            Contender::Kernel(kib) => format!("kernel, regions of {kib} KiB"),
            Contender::Ours(engine, 1, None) => format!("ours, {}", engine_name(*engine)),
            Contender::Ours(engine, jobs, pieces) => {
                let pieces =
                    pieces.map_or_else(|| "default pieces".to_owned(), |sectors| format!("pieces of {} KiB", sectors / 2));
                format!("ours, {}, {jobs} jobs, {pieces}", engine_name(*engine))
            }
        }
    }
}

fn contenders(delay_ms: u64) -> Vec<Contender> {
    let ours = |engine, jobs| Contender::Ours(engine, jobs, None);
    let mut all: Vec<Contender> = REGIONS_KIB.iter().map(|&kib| Contender::Kernel(kib)).collect();
    all.extend([ours(EngineChoice::IoUring, 1), ours(EngineChoice::Threads, 1)]);
    if delay_ms > 0 {
        all.push(ours(EngineChoice::IoUring, 4));
    }
    all
}

/// Measures everybody in turns, and prints the medians.
fn compare(setting: &str, legs: &[Disk], table: &dyn Fn(&Disk) -> String, mib: u64, runs: usize, delay_ms: u64) {
    let names = (0..legs.len()).map(|index| format!("leg{index}"));
    let short: Vec<Disk> = legs.iter().map(|leg| Disk { sectors: mib * SECTORS_PER_MIB, ..leg.clone() }).collect();
    let tables: Vec<_> = names.zip(short.iter().map(table)).collect();
    let mapped = Mapped::several(&tables);
    let paths: Vec<PathBuf> = (0..legs.len()).map(|index| mapped.path(index)).collect();
    let contenders = contenders(delay_ms);
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for _ in 0..runs {
        for (contender, times) in contenders.iter().zip(&mut times) {
            short[1..].iter().for_each(|leg| leg.write(0, &[0; 4096]));
            times.push(match contender {
                Contender::Kernel(kib) => kernels_time(&paths, mib * SECTORS_PER_MIB, kib * 2),
                Contender::Ours(engine, jobs, pieces) => our_time(&paths, mib * SECTORS_PER_MIB, *engine, *jobs, *pieces),
            });
            let first = short[0].read(0, 8);
            assert!(short[1..].iter().all(|leg| leg.read(0, 8) == first), "{} did copy", contender.name());
        }
    }
    print(setting, mib, &contenders, &mut times);
}

fn print(setting: &str, mib: u64, contenders: &[Contender], times: &mut [Vec<Duration>]) {
    report::note("");
    report::note(setting);
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    let is_kernel = |contender: &Contender| matches!(contender, Contender::Kernel(_));
    let kernels = contenders.iter().zip(&medians).filter(|(contender, _)| is_kernel(contender)).map(|(_, &median)| median);
    let best = kernels.fold(f64::INFINITY, f64::min);
    for ((contender, median), times) in contenders.iter().zip(&medians).zip(times.iter()) {
        let rate = |seconds: f64| mib as f64 * MIB as f64 / 1e6 / seconds;
        let (slowest, fastest) = (times[times.len() - 1].as_secs_f64(), times[0].as_secs_f64());
        report::note(&format!(
            "  {:44} {:8.1} MB/s ({:.1} to {:.1}), {:.2} of the kernel's best",
            contender.name(),
            rate(*median),
            rate(slowest),
            rate(fastest),
            best / median,
        ));
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// From the moment in which the mirror runs to the event of its being in step.
fn kernels_time(legs: &[PathBuf], sectors: u64, region_sectors: u64) -> Duration {
    let devices: Vec<String> = legs.iter().map(|leg| format!("{} 0", leg.display())).collect();
    let (count, devices) = (legs.len(), devices.join(" "));
    let table = format!("0 {sectors} mirror core 1 {region_sectors} {count} {devices} 1 handle_errors");
    dmsetup(&["create", "mirror", "--notable"]);
    dmsetup(&["load", "mirror", "--table", &table]);
    let suspended = mapper::suspended("mirror");
    let mut event = start(&["wait", "mirror", "0"]);
    // It must be waiting before there is something to wait for.
    thread::sleep(Duration::from_millis(400));
    let mut resuming = start(&["resume", "mirror"]);
    while fs::read_to_string(&suspended).is_ok_and(|is| is.trim() == "1") {
        thread::sleep(Duration::from_micros(200));
    }
    let began = Instant::now();
    event.wait().expect("dmsetup waits for the event");
    let took = began.elapsed();
    resuming.wait().expect("dmsetup resumes the mirror");
    let status = dmsetup(&["status", "mirror"]);
    let regions = sectors / region_sectors + u64::from(!sectors.is_multiple_of(region_sectors));
    assert!(status.contains(&format!("{regions}/{regions}")), "the mirror is in step: {status}");
    dmsetup(&["remove", "--retry", "mirror"]);
    took
}

fn start(arguments: &[&str]) -> Child {
    let command = Command::new("dmsetup").args(arguments).env("DM_DISABLE_UDEV", "1").stdin(Stdio::null()).spawn();
    command.expect("dmsetup can be started")
}

/// From the submission to the last completion.
fn our_time(legs: &[PathBuf], sectors: u64, engine: EngineChoice, jobs: u64, pieces: Option<u64>) -> Duration {
    let source = open_source(&legs[0]);
    let destinations: Vec<Arc<Device>> = legs[1..].iter().map(|leg: &PathBuf| open_destination(Path::new(leg))).collect();
    let mut session = Session::with(&ClientOptions { engine, sub_job_sectors: pieces, ..ClientOptions::default() });
    let part = sectors / jobs;
    let began = Instant::now();
    let tokens: Vec<u64> = (0..jobs)
        .map(|job| session.submit(&Job::part(&source, &destinations, job * part, part, Default::default())))
        .collect();
    for token in tokens {
        let outcome = session.wait(token);
        assert!(outcome.is_success(), "{outcome:?}");
    }
    let took = began.elapsed();
    session.close();
    took
}
