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
    /// One client of this engine, this many jobs at once over equal parts.
    Ours(EngineChoice, u64),
    /// One client whose pool holds a single piece: what a piece's way takes.
    OurPiece,
}

/// Every request of brd, and of what lies on it, is this long at most, in whole pages.
const PIECE_PAGES: u32 = 31;
/// So many such pieces hold the bytes that one job has under way.
const PIECES_AT_ONCE: f64 = 96.0;

impl Contender {
    fn name(&self) -> String {
        match self {
            Contender::Kernel(kib) => format!("kernel, regions of {kib} KiB"),
            Contender::Ours(engine, 1) => format!("ours, {}", engine_name(*engine)),
            Contender::Ours(engine, jobs) => format!("ours, {}, {jobs} jobs", engine_name(*engine)),
            Contender::OurPiece => "ours, one piece at a time".to_owned(),
        }
    }
}

fn contenders(delay_ms: u64) -> Vec<Contender> {
    let mut all: Vec<Contender> = REGIONS_KIB.iter().map(|&kib| Contender::Kernel(kib)).collect();
    all.extend([Contender::Ours(EngineChoice::IoUring, 1), Contender::Ours(EngineChoice::Threads, 1)]);
    if delay_ms > 0 {
        all.extend([Contender::Ours(EngineChoice::IoUring, 4), Contender::OurPiece]);
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
            let sectors = mib * SECTORS_PER_MIB;
            times.push(match contender {
                Contender::Kernel(kib) => kernels_time(&paths, sectors, kib * 2),
                Contender::Ours(engine, jobs) => our_time(&paths, sectors, *jobs, &with_engine(*engine)),
                Contender::OurPiece => one_pieces_time(&paths, sectors),
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
    let of = |wanted: fn(&Contender) -> bool| contenders.iter().zip(&medians).find(|(it, _)| wanted(it)).map(|(_, &it)| it);
    let ours = of(|it| matches!(it, Contender::Ours(EngineChoice::IoUring, 1)));
    if let (Some(ours), Some(alone)) = (ours, of(|it| matches!(it, Contender::OurPiece))) {
        let part = alone / ours / PIECES_AT_ONCE;
        report::note(&format!("  one job: {part:.2} of {PIECES_AT_ONCE} x one piece at a time (Little's law)"));
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

fn with_engine(engine: EngineChoice) -> ClientOptions {
    ClientOptions { engine, ..ClientOptions::default() }
}

/// What all would take one piece at a time, by a part of it.
fn one_pieces_time(legs: &[PathBuf], sectors: u64) -> Duration {
    const PART: u64 = 16;
    let options = ClientOptions { pages: Some(PIECE_PAGES), ..with_engine(EngineChoice::IoUring) };
    our_time(legs, sectors / PART, 1, &options) * PART as u32
}

/// From the submission to the last completion.
fn our_time(legs: &[PathBuf], sectors: u64, jobs: u64, options: &ClientOptions) -> Duration {
    let source = open_source(&legs[0]);
    let destinations: Vec<Arc<Device>> = legs[1..].iter().map(|leg: &PathBuf| open_destination(Path::new(leg))).collect();
    let mut session = Session::with(options);
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
