//! How a ring is asked for: the ladder of setup flags and sizes from the newest kernel down, what the ring is restricted to,
//! and the words for a refusal. It refuses to submit anything.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{Builder, IoUring, Probe, opcode};

use crate::copy::limits::{CHAIN_STEPS_MAX, ENGINE_STEPS_MAX};
use crate::error::{Error, ErrorKind};

/// Entries of the ring that no step may take: the waker's read.
pub const ENTRIES_RESERVED: u32 = 1;

/// Entries that are asked for first. The completion queue is twice as long, by the kernel's own rule; so no completion can
/// be lost, and neither CQSIZE nor CLAMP is needed.
pub const ENTRIES_WANTED: u32 = 512;

/// The fewest entries that are of use: a whole chain and the waker's read.
pub const ENTRIES_MIN: u32 = 64;

const _: () = assert!(ENTRIES_WANTED >= ENGINE_STEPS_MAX + ENTRIES_RESERVED, "every step has an entry of its own");
const _: () = assert!(ENTRIES_MIN >= CHAIN_STEPS_MAX as u32 + ENTRIES_RESERVED, "an idle engine takes any chain");
const _: () = assert!(ENTRIES_WANTED.is_power_of_two() && ENTRIES_MIN.is_power_of_two());

/// Kernel workers for requests that cannot be issued without blocking: flushes, and every request to a device without
/// NOWAIT, where the workers are the whole depth. They sleep rather than compute, so the processors do not bound them; the
/// kernel's own bound (4 for each processor, on each node) has brought machines to their knees.
const WORKERS_MAX: [u32; 2] = [16, 2];

/// How much of the kernel's newer ways the ring uses; each rung also has everything below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Nothing but a ring, Linux 5.6; what an emulation of Linux may offer.
    Plain,
    /// Created disabled, so that it can be restricted, 5.10.
    Restrictable,
    /// One bad request does not stop the others of its submission, 5.18.
    SubmitAll,
    /// Completions do not interrupt the thread, 5.19.
    Cooperative,
    /// Only one thread submits, 6.0.
    SingleIssuer,
    /// Completions are worked off when the thread waits for them, and only then, 6.1.
    Deferred,
    /// No array of indices between the queue and its entries, 6.6.
    Direct,
}

impl Rung {
    /// The highest one.
    pub const NEWEST: Rung = Rung::Direct;

    fn below(self) -> Option<Rung> {
        match self {
            Rung::Plain => None,
            Rung::Restrictable => Some(Rung::Plain),
            Rung::SubmitAll => Some(Rung::Restrictable),
            Rung::Cooperative => Some(Rung::SubmitAll),
            Rung::SingleIssuer => Some(Rung::Cooperative),
            Rung::Deferred => Some(Rung::SingleIssuer),
            Rung::Direct => Some(Rung::Deferred),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Rung::Plain => "without setup flags",
            Rung::Restrictable => "with the setup flags of Linux 5.10",
            Rung::SubmitAll => "with the setup flags of Linux 5.18",
            Rung::Cooperative => "with the setup flags of Linux 5.19",
            Rung::SingleIssuer => "with the setup flags of Linux 6.0",
            Rung::Deferred => "with the setup flags of Linux 6.1",
            Rung::Direct => "with the setup flags of Linux 6.6",
        }
    }

    fn builder(self) -> Builder {
        let mut builder = IoUring::builder();
        builder.dontfork();
        if self >= Rung::Restrictable {
            builder.setup_r_disabled();
        }
        if self >= Rung::SubmitAll {
            builder.setup_submit_all();
        }
        if self >= Rung::Cooperative {
            builder.setup_coop_taskrun();
        }
        if self >= Rung::SingleIssuer {
            builder.setup_single_issuer();
        }
        if self >= Rung::Deferred {
            builder.setup_defer_taskrun();
        }
        if self >= Rung::Direct {
            builder.setup_no_sqarray();
        }
        builder
    }
}

/// What to ask for after a refusal; `None` if there is nothing left to ask for.
///
/// EINVAL at the newest rung: the next one with as many entries. ENOMEM with 512 entries: the same rung with 256.
fn after_refusal(rung: Rung, entries: u32, errno: i32) -> Option<(Rung, u32)> {
    match errno {
        libc::EINVAL => rung.below().map(|below| (below, entries)),
        libc::ENOMEM if entries > ENTRIES_MIN => Some((rung, entries / 2)),
        _ => None,
    }
}

/// Asks for a ring, from a rung and a size downwards; it is disabled still unless the rung is the lowest.
pub fn climb_down(from: Rung, entries: u32) -> Result<(IoUring, Rung), Error> {
    let (mut rung, mut entries) = (from, entries);
    loop {
        let refusal = match rung.builder().build(entries) {
            Ok(ring) => return Ok((ring, rung)),
            Err(refusal) => errno_of(&refusal),
        };
        (rung, entries) = after_refusal(rung, entries, refusal).ok_or_else(|| unavailable(refusal, "io_uring_setup"))?;
    }
}

/// Asks whether the kernel knows every operation that steps are made of.
pub fn probe_operations(ring: &IoUring) -> Result<(), Error> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|refusal| unavailable(errno_of(&refusal), "io_uring_register"))?;
    match OPERATIONS.iter().find(|(code, _)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((_, name)) => {
            let text =
                format!("this kernel's io_uring lacks the operation {name}; it is older than Linux 5.6, or an emulation");
            Err(Error::new(ErrorKind::EngineUnavailable, text))
        }
    }
}

const OPERATIONS: [(u8, &str); 6] = [
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
];

/// The register calls that a working ring still makes: a device comes or goes, and everything is given back at the end.
/// The numbers are those of `enum io_uring_register_op`, which the crate does not export.
const REGISTER_CALLS: [u8; 3] = [1 /* unregister buffers */, 3 /* unregister files */, 6 /* update files */];

/// Lets the ring do what steps need and nothing else, for as long as it lives. Says why not, where the kernel refuses.
pub fn restrict(ring: &IoUring) -> Result<(), i32> {
    let flags = Flags::FIXED_FILE | Flags::IO_LINK | Flags::IO_HARDLINK;
    let operations = OPERATIONS.iter().map(|(code, _)| Restriction::sqe_op(*code));
    let calls = REGISTER_CALLS.iter().map(|call| Restriction::register_op(*call));
    let mut all: Vec<_> = operations.chain(calls).chain([Restriction::sqe_flags_allowed(flags.bits())]).collect();
    ring.submitter().register_restrictions(&mut all).map_err(|refusal| errno_of(&refusal))
}

/// Starts a ring that was created disabled; from here on its restrictions hold.
pub fn enable(ring: &IoUring) -> Result<(), Error> {
    ring.submitter().register_enable_rings().map_err(|refusal| unavailable(errno_of(&refusal), "io_uring_register"))
}

/// Bounds the kernel's workers; a kernel before 5.15 keeps its own bound, which is no reason to do without a ring.
pub fn bound_workers(ring: &IoUring) {
    let _ = ring.submitter().register_iowq_max_workers(&mut WORKERS_MAX.clone());
}

/// What a rung is called in `stats`.
pub fn describe(rung: Rung, entries: u32) -> String {
    format!("io_uring of {entries} entries {}", rung.words())
}

/// The refusal of a whole ring, in words for a person.
pub fn unavailable(errno: i32, syscall: &'static str) -> Error {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let text = format!("io_uring cannot be used: {}", explain(errno, disabled.trim()));
    Error { errno: Some(errno), syscall: Some(syscall), ..Error::new(ErrorKind::EngineUnavailable, text) }
}

fn explain(errno: i32, disabled: &str) -> String {
    let name = io::Error::from_raw_os_error(errno);
    match errno {
        libc::EPERM | libc::EACCES if disabled == "2" => {
            "the sysctl kernel.io_uring_disabled is 2 (off for everyone)".into()
        }
        libc::EPERM | libc::EACCES if disabled == "1" => {
            "the sysctl kernel.io_uring_disabled is 1 (off without CAP_SYS_ADMIN or the group in kernel.io_uring_group)"
                .into()
        }
        libc::EPERM | libc::EACCES => {
            format!("a seccomp filter (the default of most container runtimes) or a security module refuses it ({name})")
        }
        libc::ENOSYS => format!("the kernel is older than 5.1 or built without it, or a seccomp filter hides it ({name})"),
        libc::ENOMEM => {
            format!("no memory for even {ENTRIES_MIN} entries; raise RLIMIT_MEMLOCK or the memory limit ({name})")
        }
        _ => name.to_string(),
    }
}

/// The errno of a failed call of the crate's, which always has one.
pub fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p26_every_rung_is_tried_when_the_kernel_knows_no_flags() {
        let mut tried = vec![(Rung::NEWEST, ENTRIES_WANTED)];
        while let Some(next) = after_refusal(tried[tried.len() - 1].0, ENTRIES_WANTED, libc::EINVAL) {
            tried.push(next);
        }
        assert_eq!(tried.len(), 7);
        assert!(tried.is_sorted_by(|a, b| a.0 > b.0) && tried.iter().all(|(_, entries)| *entries == ENTRIES_WANTED));
        assert_eq!(tried.last(), Some(&(Rung::Plain, ENTRIES_WANTED)));
    }

    #[test]
    fn p26_the_ring_shrinks_to_what_still_holds_a_chain_when_memory_is_short() {
        let mut entries = ENTRIES_WANTED;
        while let Some((rung, fewer)) = after_refusal(Rung::Deferred, entries, libc::ENOMEM) {
            assert_eq!((rung, fewer), (Rung::Deferred, entries / 2));
            entries = fewer;
        }
        assert_eq!(entries, ENTRIES_MIN);
    }

    #[test]
    fn p26_a_ring_that_is_forbidden_is_not_asked_for_again() {
        for errno in [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EMFILE] {
            assert_eq!(after_refusal(Rung::NEWEST, ENTRIES_WANTED, errno), None);
        }
    }

    #[test]
    fn p26_a_refusal_says_what_refused() {
        assert!(explain(libc::EPERM, "2").contains("io_uring_disabled is 2"));
        assert!(explain(libc::EACCES, "1").contains("io_uring_disabled is 1"));
        assert!(explain(libc::EPERM, "0").contains("seccomp"));
        assert!(explain(libc::EPERM, "").contains("seccomp"));
        assert!(explain(libc::ENOSYS, "").contains("older than 5.1"));
        assert!(explain(libc::ENOMEM, "0").contains("RLIMIT_MEMLOCK"));
        let error = unavailable(libc::ENOSYS, "io_uring_setup");
        assert_eq!(
            (error.kind, error.errno, error.syscall),
            (ErrorKind::EngineUnavailable, Some(38), Some("io_uring_setup"))
        );
    }
}
