//! The shapes that cross to JavaScript as plain objects, and how the core's values become them. It decides nothing.

use kcopyd::client::{EngineChoice, Stats, Support};
use kcopyd::copy::limits::{SECTOR_BYTES, SECTOR_NUMBER_MAX};
use kcopyd::copy::outcome::{DestinationState, Ending, FailedOperation, Failure, Outcome};
use kcopyd::engine::Kind;
use kcopyd::engine::device::{Access, Create, DeviceOptions, Direct, Exclusive, Expect};
use kcopyd::error::{Error, ErrorKind};
use napi::bindgen_prelude::ClassInstance;
use napi_derive::napi;

use crate::throttle::NativeThrottle;

/// A refusal or a failure.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct NativeError {
    /// The code, or empty: to be named after the errno.
    pub code: String,
    /// What happened and what to do about it.
    pub message: String,
    /// The positive errno, or 0.
    pub errno: i32,
    /// The system call that said no.
    pub syscall: Option<String>,
    /// The path that it was about.
    pub path: Option<String>,
    /// The destination that it was about, from 0.
    pub destination: Option<u32>,
}

impl From<Error> for NativeError {
    fn from(error: Error) -> Self {
        NativeError {
            code: error.kind.code().to_owned(),
            message: error.context,
            errno: error.errno.unwrap_or(0),
            syscall: error.syscall.map(str::to_owned),
            path: error.path.map(|path| path.to_string_lossy().into_owned()),
            destination: error.destination.map(|index| index as u32),
        }
    }
}

/// What a device is opened for.
#[napi(string_enum = "kebab-case")]
pub enum NativeAccess {
    /// To be a source.
    Read,
    /// To be a destination.
    Write,
    /// To be either.
    ReadWrite,
}

impl From<NativeAccess> for Access {
    fn from(access: NativeAccess) -> Self {
        match access {
            NativeAccess::Read => Access::Read,
            NativeAccess::Write => Access::Write,
            NativeAccess::ReadWrite => Access::ReadWrite,
        }
    }
}

/// Whether transfers go past the page cache.
#[napi(string_enum = "lowercase")]
pub enum NativeDirect {
    /// Where the file system grants it.
    Auto,
    /// Or not at all.
    Always,
    /// Not even where it could be had.
    Never,
}

/// How a device is to be opened.
#[napi(object, object_to_js = false, use_nullable = true)]
pub struct NativeDeviceOptions {
    /// What for.
    pub access: NativeAccess,
    /// Whether past the page cache.
    pub direct: NativeDirect,
    /// Whether held against other users; `null` as usual for its kind and access.
    pub exclusive: Option<bool>,
    /// Whether a missing file is made.
    pub create: bool,
    /// The device number that it must have.
    pub expect_rdev: Option<f64>,
    /// The size in bytes that it must have.
    pub expect_size: Option<f64>,
    /// The disk's sequence number that it must have.
    pub expect_disk_sequence: Option<f64>,
}

impl From<NativeDeviceOptions> for DeviceOptions {
    fn from(options: NativeDeviceOptions) -> Self {
        DeviceOptions {
            access: options.access.into(),
            direct: match options.direct {
                NativeDirect::Auto => Direct::Auto,
                NativeDirect::Always => Direct::Always,
                NativeDirect::Never => Direct::Never,
            },
            exclusive: match options.exclusive {
                None => Exclusive::Default,
                Some(true) => Exclusive::Yes,
                Some(false) => Exclusive::No,
            },
            create: if options.create { Create::Yes } else { Create::No },
            expect: Expect {
                rdev: options.expect_rdev.map(|number| number as u64),
                size_bytes: options.expect_size.map(|number| number as u64),
                disk_sequence: options.expect_disk_sequence.map(|number| number as u64),
            },
        }
    }
}

/// Which engine a client is to have.
#[napi(string_enum = "snake_case")]
pub enum NativeEngine {
    /// The best that runs here.
    Auto,
    /// A ring of the kernel's.
    IoUring,
    /// Own worker threads.
    Threads,
}

impl From<NativeEngine> for EngineChoice {
    fn from(engine: NativeEngine) -> Self {
        match engine {
            NativeEngine::Auto => EngineChoice::Auto,
            NativeEngine::IoUring => EngineChoice::IoUring,
            NativeEngine::Threads => EngineChoice::Threads,
        }
    }
}

/// What a client is made with.
#[napi(object, object_to_js = false, use_nullable = true)]
pub struct NativeClientOptions<'scope> {
    /// Pages of its pool.
    pub pages: u32,
    /// The largest sub-job.
    pub sub_job_sectors: u32,
    /// Its engine.
    pub engine: NativeEngine,
    /// How fast it may go.
    pub throttle: Option<ClassInstance<'scope, NativeThrottle>>,
}

/// What this machine can run.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct NativeSupport {
    /// The platform.
    pub platform: String,
    /// The engine that `auto` would take.
    pub engine: Option<String>,
    /// Why that one.
    pub reason: String,
    /// The kernel's release.
    pub kernel: String,
}

impl From<Support> for NativeSupport {
    fn from(support: Support) -> Self {
        NativeSupport {
            platform: platform(),
            engine: support.engine.map(|kind| kind_name(kind).to_owned()),
            reason: support.reason,
            kernel: support.kernel,
        }
    }
}

/// What this was built for, as the platform packages are named: `linux-x64-gnu`. The core refuses to know Node's names.
fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let library = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
    format!("{}-{architecture}-{library}", std::env::consts::OS)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::IoUring => "io_uring",
        Kind::Threads => "threads",
        Kind::Simulated => "simulated",
    }
}

/// One range that failed.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct NativeFailure {
    /// What failed.
    pub op: &'static str,
    /// At which destination; `null` for the source.
    pub destination: Option<u32>,
    /// The first sector.
    pub sector: f64,
    /// How many.
    pub count: f64,
    /// The positive errno.
    pub errno: i32,
}

impl From<&Failure> for NativeFailure {
    fn from(failure: &Failure) -> Self {
        NativeFailure {
            op: match failure.operation {
                FailedOperation::Read => "read",
                FailedOperation::Write => "write",
                FailedOperation::Flush => "flush",
                FailedOperation::Zero => "zero",
            },
            destination: failure.destination.map(u32::from),
            sector: failure.sector as f64,
            count: failure.count as f64,
            errno: failure.errno,
        }
    }
}

/// What became of one destination.
#[napi(object, object_from_js = false)]
pub struct NativeDestinationOutcome {
    /// The prefix that it is known to hold.
    pub sectors: f64,
    /// Whether it holds everything, flushed if that was asked.
    pub ok: bool,
}

/// What a job came to.
#[napi(object, object_from_js = false)]
pub struct NativeOutcome {
    /// The prefix that every destination is known to hold.
    pub sectors: f64,
    /// The same in bytes.
    pub bytes: f64,
    /// 0 or the errno of the first read error.
    pub read_err: i32,
    /// One bit per destination that failed.
    pub write_err: u32,
    /// Whether an abort ended it.
    pub aborted: bool,
    /// Whether it ended because the client broke inside.
    pub poisoned: bool,
    /// What failed where.
    pub failures: Vec<NativeFailure>,
    /// Failures beyond the list.
    pub failures_omitted: f64,
    /// Each destination.
    pub destinations: Vec<NativeDestinationOutcome>,
}

impl From<&Outcome> for NativeOutcome {
    fn from(outcome: &Outcome) -> Self {
        let sectors = |prefix: u64| prefix_sectors(prefix, outcome.length_bytes);
        let destinations = outcome.destinations.iter();
        NativeOutcome {
            sectors: sectors(outcome.prefix_bytes),
            bytes: outcome.prefix_bytes as f64,
            read_err: outcome.read_errno,
            write_err: outcome.write_errors,
            aborted: outcome.ending == Ending::Aborted,
            poisoned: outcome.ending == Ending::Poisoned,
            failures: outcome.failures.iter().map(NativeFailure::from).collect(),
            failures_omitted: outcome.failures_omitted as f64,
            destinations: destinations
                .map(|destination| NativeDestinationOutcome {
                    sectors: sectors(destination.prefix_bytes),
                    ok: destination.state == DestinationState::Complete,
                })
                .collect(),
        }
    }
}

/// A prefix counts whole sectors only, but at the end of a file the last sector is whole as it is: of 1000 bytes,
/// 1000 are 2 sectors and 900 are 1.
fn prefix_sectors(prefix_bytes: u64, length_bytes: u64) -> f64 {
    let sectors =
        if prefix_bytes == length_bytes { prefix_bytes.div_ceil(SECTOR_BYTES) } else { prefix_bytes / SECTOR_BYTES };
    sectors as f64
}

/// A client's engine.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct NativeEngineStats {
    /// Which.
    pub kind: &'static str,
    /// Why that one.
    pub reason: String,
    /// Whether buffers are registered with the kernel.
    pub registered_buffers: bool,
}

/// A client's pool.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct NativePageStats {
    /// All pages.
    pub total: u32,
    /// Those that no sub-job has.
    pub free: u32,
}

/// How ranges became zero.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct NativeZeroStats {
    /// Bytes that a device or its file system made zero by itself.
    pub offloaded_bytes: f64,
    /// Bytes that were written.
    pub written_bytes: f64,
}

/// A client's counters.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct NativeStats {
    /// The engine.
    pub engine: NativeEngineStats,
    /// The pool.
    pub pages: NativePageStats,
    /// Jobs completed.
    pub jobs: f64,
    /// Sub-jobs completed.
    pub sub_jobs: f64,
    /// Bytes read.
    pub bytes: f64,
    /// Entries into the kernel to submit.
    pub submissions: f64,
    /// Zeroes.
    pub zero: NativeZeroStats,
}

impl From<Stats> for NativeStats {
    fn from(stats: Stats) -> Self {
        NativeStats {
            engine: NativeEngineStats {
                kind: kind_name(stats.engine.kind),
                reason: stats.engine.reason.to_string(),
                registered_buffers: stats.engine.registered_buffers,
            },
            pages: NativePageStats { total: stats.pages_total, free: stats.pages_free },
            jobs: stats.jobs as f64,
            sub_jobs: stats.sub_jobs as f64,
            bytes: stats.bytes as f64,
            submissions: stats.engine.submissions as f64,
            zero: NativeZeroStats {
                offloaded_bytes: stats.zero_offloaded_bytes as f64,
                written_bytes: stats.zero_written_bytes as f64,
            },
        }
    }
}

/// A whole number that crossed as a double. TypeScript has checked what callers pass: a refusal here is a bug there.
pub fn whole(field: &str, number: f64) -> Result<u64, Error> {
    if number >= 0.0 && number <= SECTOR_NUMBER_MAX as f64 && number.fract() == 0.0 {
        return Ok(number as u64);
    }
    Err(Error::new(ErrorKind::OutOfRange, format!("{field} must be a whole number from 0 to 2^53 - 1, not {number}")))
}

/// Runs what may panic where a panic would end the process (libuv's pool), and makes it an error.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a bug in kcopyd: it panicked; please report it")))
}
