//! Every bound of the core in one place, related to each other at compile time. It knows numbers and nothing else.

use std::time::Duration;

/// Bytes of one sector: always 512, whatever the device's logical block is.
pub const SECTOR_BYTES: u64 = 512;

/// Bytes of one page of a client's pool.
pub const PAGE_BYTES: u64 = 4096;

/// Sectors of one page: 4096 / 512 = 8.
pub const PAGE_SECTORS: u64 = PAGE_BYTES / SECTOR_BYTES;

/// The most destinations of one job; `writeErr` has one bit for each.
pub const DESTINATIONS_MAX: usize = 32;

/// The most steps of one chain: one read and a write to every destination.
pub const CHAIN_STEPS_MAX: usize = 1 + DESTINATIONS_MAX;

/// The smallest sub-job a client may be created with, in sectors: one page.
pub const SUB_JOB_SECTORS_MIN: u64 = PAGE_SECTORS;

/// The largest sub-job a client may be created with, in sectors: 1 MiB.
pub const SUB_JOB_SECTORS_MAX: u64 = 2048;

/// The size of a sub-job unless the caller says otherwise, in sectors: 512 KiB, the kernel's own default.
pub const SUB_JOB_SECTORS_DEFAULT: u64 = 1024;

/// The most sub-jobs of one job that are under way at once, if they are of the client's size: 12 MiB with the defaults, three
/// quarters of the pool, so that a job on a device that does not answer leaves something to the others. The kernel's SPLIT_COUNT
/// is 8; three times as many are a little faster where a processor is the limit, and more than twice as fast where a device's
/// latency is (docs/BENCHMARKS.md).
pub const SUB_JOBS_PER_JOB: u32 = 24;

/// The most of them if a device's queue makes them shorter. Then there are as many as hold the same bytes, up to this: a slow
/// device's throughput is what is under way divided by its latency, however it is cut.
pub const SHORT_SUB_JOBS_PER_JOB: u32 = 96;

/// The most of them if a destination is a file that grows: it lets one write in at a time, and more of them only make the reads
/// come in bursts, which on the same disk hold that write up (docs/BENCHMARKS.md).
pub const GROWING_FILE_SUB_JOBS: u32 = 16;

/// The size of a piece of a job that zeroes: 32 MiB. It needs no pages; it is bounded so that an abort settles soon.
pub const ZERO_PIECE_BYTES: u64 = 32 << 20;

/// The most pieces of a job that zeroes under way at once: no more than the kernel's, because each is large, and an abort
/// waits for all of them.
pub const ZERO_PIECES_PER_JOB: u32 = 8;

/// Pieces without pages that one client has under way at most.
pub const PIECES_WITHOUT_PAGES_MAX: u32 = 64;

/// Commands that a client's thread carries out before it looks after the jobs it has: a million jobs that are submitted at
/// once do not keep the others from going on.
pub const COMMANDS_PER_TURN: usize = 1024;

/// Pages in one chunk of the arena: 2 MiB, one registered buffer. A run of pages never straddles two chunks.
pub const ARENA_CHUNK_PAGES: u32 = 512;

/// Pages of a client unless the caller says otherwise: 16 MiB.
pub const PAGES_DEFAULT: u32 = 4096;

/// The most pages of one client: 4 GiB.
pub const PAGES_MAX: u32 = 1 << 20;

/// Steps that an engine keeps staged or in flight at most: with the waker's request as many as its ring has entries. A job with
/// short pieces and three destinations has 384 (docs/BENCHMARKS.md).
pub const ENGINE_STEPS_MAX: u32 = 511;

/// Threads of one threads engine at most: as many requests as it has with the devices at once. They are started when there is
/// work for them, and wait for devices, not for processors, so the number does not follow the machine's cores.
pub const WORKER_THREADS_MAX: usize = 128;

/// So many of them one device has at most: a stuck one does not hold those of the others (P4). More would be slower with devices
/// that answer faster than processors can ask (docs/BENCHMARKS.md).
pub const WORKER_THREADS_PER_DEVICE_MAX: usize = 16;

/// How often in a row a transfer may come home without having moved a byte (EINTR, EAGAIN, a zero-length result) before
/// that is a failure.
pub const ATTEMPTS_WITHOUT_PROGRESS_MAX: u8 = 8;

/// Failures listed in one outcome; the others are counted.
pub const FAILURES_MAX: usize = 1000;

/// How many failed attempts of one job are narrowed down to the bad page when errors are ignored; beyond that a failure covers
/// the whole attempt, so that a dead device does not cost a hundred attempts per sub-job for ever.
pub const NARROWINGS_PER_JOB_MAX: u32 = 1 << 16;

/// What a throttle's account holds at most: so much time's worth. A pause is followed by no more than that at once.
pub const THROTTLE_BURST: Duration = Duration::from_millis(50);

/// How long a throttled client waits at most before it looks at its throttle again.
pub const THROTTLE_LOOK: Duration = Duration::from_millis(100);

/// A throttled piece is no larger than what its rate moves in this time, so that slow rates are even.
pub const THROTTLE_QUANTUM: Duration = Duration::from_millis(50);

/// The largest logical block that direct I/O is used with, in bytes; a device with a larger one is refused.
pub const LOGICAL_BLOCK_BYTES_MAX: u32 = 4096;

/// The largest sector number that crosses the face exactly: 2^53 - 1.
pub const SECTOR_NUMBER_MAX: u64 = (1 << 53) - 1;

const _: () = assert!(SUB_JOB_SECTORS_MIN <= SUB_JOB_SECTORS_DEFAULT && SUB_JOB_SECTORS_DEFAULT <= SUB_JOB_SECTORS_MAX);
const _: () = assert!(SUB_JOB_SECTORS_MAX <= PAGE_SECTORS * ARENA_CHUNK_PAGES as u64, "a sub-job's pages are one run");
const _: () = assert!(SUB_JOBS_PER_JOB <= SHORT_SUB_JOBS_PER_JOB && SHORT_SUB_JOBS_PER_JOB <= ENGINE_STEPS_MAX);
const _: () = assert!(CHAIN_STEPS_MAX <= ENGINE_STEPS_MAX as usize, "a whole chain fits into an idle engine");
const _: () =
    assert!(SUB_JOBS_PER_JOB as u64 * SUB_JOB_SECTORS_DEFAULT < PAGES_DEFAULT as u64 * PAGE_SECTORS, "a job leaves pages");
const _: () = assert!(WORKER_THREADS_MAX >= 4 * WORKER_THREADS_PER_DEVICE_MAX, "stuck devices leave workers to others (P4)");
const _: () = assert!(DESTINATIONS_MAX <= u32::BITS as usize, "one bit of writeErr per destination");
const _: () = assert!(ZERO_PIECE_BYTES <= u32::MAX as u64 && ZERO_PIECE_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(SECTOR_NUMBER_MAX.checked_mul(2).is_some());
const _: () = assert!(LOGICAL_BLOCK_BYTES_MAX as u64 <= PAGE_BYTES);
