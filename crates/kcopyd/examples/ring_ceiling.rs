//! A bare loop on the ring engine: what the engine can do when nobody schedules. Reads pieces from one path, writes each to
//! all others, and keeps a fixed number of chains in flight. The client is to come close to this.
//!
//! `ring_ceiling SOURCE DESTINATION… [--depth 24] [--piece-kib 512] [--mib 1024] [--chains measured|linked|fan-out]
//! [--buffers registered|plain]`
//!
//! It wraps around at the end of the shortest path. Whatever the destinations held is overwritten.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use kcopyd::copy::chain::{BufferStart, Chain, ChainTag, DeviceIndex, Operation, Step, StepResult};
use kcopyd::engine::arena::Arena;
use kcopyd::engine::device::{Access, Device, DeviceOptions};
use kcopyd::engine::uring::{Chains, Uring, UringOptions, Use};
use kcopyd::engine::{Engine, Wait};

struct Plan {
    paths: Vec<PathBuf>,
    depth: u32,
    piece_bytes: u32,
    total_bytes: u64,
    options: UringOptions,
}

fn plan() -> Result<Plan, Box<dyn Error>> {
    let mut plan = Plan {
        paths: Vec::new(),
        depth: 24,
        piece_bytes: 512 << 10,
        total_bytes: 1 << 30,
        options: UringOptions::default(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let Some(name) = argument.strip_prefix("--") else {
            plan.paths.push(argument.into());
            continue;
        };
        let value = arguments.next().ok_or("an option needs a value")?;
        match (name, value.as_str()) {
            ("depth", depth) => plan.depth = depth.parse()?,
            ("piece-kib", kib) => plan.piece_bytes = kib.parse::<u32>()? << 10,
            ("mib", mib) => plan.total_bytes = mib.parse::<u64>()? << 20,
            ("chains", "measured") => plan.options.chains = Chains::AsMeasured,
            ("chains", "linked") => plan.options.chains = Chains::Linked,
            ("chains", "fan-out") => plan.options.chains = Chains::FanOut,
            ("buffers", "registered") => plan.options.registered_buffers = Use::IfGranted,
            ("buffers", "plain") => plan.options.registered_buffers = Use::Never,
            _ => return Err(format!("unknown: --{name} {value}").into()),
        }
    }
    if plan.paths.len() < 2 || !(2_u32 << 20).is_multiple_of(plan.piece_bytes) {
        return Err("a source, a destination, and a piece that divides 2 MiB are needed".into());
    }
    Ok(plan)
}

/// The chain that copies one piece by way of its own pages.
fn piece(plan: &Plan, devices: &[DeviceIndex], pages: u64, at: u64) -> Chain {
    let pages_each = u64::from(plan.piece_bytes.div_ceil(4096));
    let step = |(position, device): (usize, &DeviceIndex)| Step {
        operation: if position == 0 { Operation::Read } else { Operation::Write },
        device: *device,
        offset_bytes: at,
        length_bytes: plan.piece_bytes,
        buffer: BufferStart { page: (pages * pages_each) as u32, offset_bytes: 0 },
    };
    Chain { tag: ChainTag(pages), steps: devices.iter().enumerate().map(step).collect(), blanks: Default::default() }
}

fn processor_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure, for which zeros are a value too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn main() -> Result<(), Box<dyn Error>> {
    let plan = plan()?;
    let mut engine = Uring::new(Arc::new(Arena::new(plan.depth * plan.piece_bytes.div_ceil(4096))?), &plan.options)?;
    let mut devices = Vec::new();
    let mut shortest = u64::MAX;
    for (position, path) in plan.paths.iter().enumerate() {
        let access = if position == 0 { Access::Read } else { Access::Write };
        let device = Arc::new(Device::open(path, &DeviceOptions { access, ..DeviceOptions::default() })?);
        shortest = shortest.min(device.geometry().bytes);
        devices.push(engine.attach(&device)?);
    }
    let pieces = plan.total_bytes / u64::from(plan.piece_bytes);
    let places = shortest / u64::from(plan.piece_bytes);
    let steps = devices.len();
    let (mut next, mut open, mut completions) = (0, vec![0; plan.depth as usize], Vec::new());
    let mut free: Vec<u64> = (0..plan.depth.into()).collect();
    let mut done = 0;
    let (before, started) = (processor_seconds(), Instant::now());
    while done < pieces {
        while let Some(pages) = free.pop_if(|_| next < pieces) {
            let chain = piece(&plan, &devices, pages, next % places * u64::from(plan.piece_bytes));
            engine.stage(chain).map_err(|_| "the depth is more than the engine takes")?;
            open[pages as usize] = steps;
            next += 1;
        }
        completions.clear();
        engine.submit_and_wait(Wait::UntilWoken, &mut completions);
        for completion in &completions {
            if completion.result != StepResult::Done(plan.piece_bytes) {
                return Err(format!("{completion:?}").into());
            }
            let pages = completion.tag.0;
            open[pages as usize] -= 1;
            if open[pages as usize] == 0 {
                free.push(pages);
                done += 1;
            }
        }
    }
    let (seconds, processor) = (started.elapsed().as_secs_f64(), processor_seconds() - before);
    let gib = (pieces * u64::from(plan.piece_bytes)) as f64 / (1 << 30) as f64;
    let description = engine.description();
    println!(
        "{:.3} GiB/s  {:.0} pieces/s  {:.3} cpu-s/GiB  {:.2} submissions/piece  registered: {}  {:?}",
        gib / seconds,
        pieces as f64 / seconds,
        processor / gib,
        description.submissions as f64 / pieces as f64,
        description.registered_buffers,
        engine.counters(),
    );
    Ok(())
}
