//! The engine on a ring of the kernel's. A chain goes out linked, or its read first and then all its writes together; both
//! keep the contract of [`Engine`], and `steps.rs` says which is used when. This file refuses to know entries and answers:
//! it is the contract's face, and the order in which an engine is made and given up.

mod batching;
mod buffers;
mod files;
mod flow;
mod probe;
mod queues;
mod ring;
mod setup;
mod steps;
mod waker;

#[cfg(test)]
mod tests;

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use self::buffers::Buffers;
use self::files::Files;
use self::flow::Ready;
use self::probe::ShortRead;
use self::queues::Queues;
use self::ring::{Patience, Ring, Waiting};
use self::waker::{Heard, Wake};
use super::arena::Arena;
use super::device::Device;
use super::in_flight::{InFlight, Start, StepKey};
use super::{Description, Engine, Kind, Wait, Waker};
use crate::copy::chain::{Chain, Completion, DeviceIndex};
use crate::copy::limits::ENGINE_STEPS_MAX;
use crate::error::Error;

pub use self::setup::Rung;
pub use self::steps::{Chains, Counters};

/// Whether something that a kernel may refuse is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Use {
    /// It is, and done without where it is refused; the engine's reason says so.
    #[default]
    IfGranted,
    /// It is done without.
    Never,
}

/// How the engine is made. The defaults are what a client wants; the rest is there to reach every rung in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringOptions {
    /// How chains are run.
    pub chains: Chains,
    /// Whether the arena is registered with the kernel.
    pub registered_buffers: Use,
    /// Whether devices are registered with the kernel.
    pub registered_files: Use,
    /// Whether the ring is restricted to what steps need.
    pub restrictions: Use,
    /// The setup flags that are asked for first.
    pub newest: Rung,
    /// The entries that are asked for first: a power of two from 64 on.
    pub entries: u32,
}

impl Default for UringOptions {
    fn default() -> Self {
        UringOptions {
            chains: Chains::default(),
            registered_buffers: Use::IfGranted,
            registered_files: Use::IfGranted,
            restrictions: Use::IfGranted,
            newest: Rung::NEWEST,
            entries: setup::ENTRIES_WANTED,
        }
    }
}

/// What the engine still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// Everything.
    Working,
    /// It waits for what it has started and starts nothing.
    Draining,
    /// The kernel has refused to be entered, with this errno, and may go on doing so: nothing is started any more.
    Broken(i32),
}

/// An engine on a ring. Made, used and dropped on one thread.
pub struct Uring {
    // Dropped before the devices: an open file ends with the last who holds it, and that is not to be the kernel.
    ring: Ring,
    wake: Wake,
    files: Files,
    /// Given up only by `drop`, and only if the kernel has let go of it.
    buffers: ManuallyDrop<Buffers>,
    book: InFlight,
    ready: Ready,
    queues: Queues,
    /// Flushes that have got as far as the directory of their file.
    directories: Vec<StepKey>,
    /// Completions of this call that nobody waits for: of reads whose chains go on.
    unremarkable: usize,
    health: Health,
    stalls: u32,
    refused_in_a_row: u32,
    chains: Chains,
    counters: Counters,
    reason: Arc<str>,
}

/// How long at a time the thread sleeps when the ring is broken: completions that still come are seen this late.
const BROKEN_SLEEP: Duration = Duration::from_millis(10);

/// How often in a row a broken ring is refused, each time after such a sleep, before what is in flight is given up: a second.
const REFUSALS_MAX: u32 = 100;

impl Uring {
    /// Makes a ring and registers with it what the kernel lets it.
    ///
    /// # Errors
    /// `EngineUnavailable`, with the reason in words, where io_uring cannot be used.
    pub fn new(arena: Arc<Arena>, options: &UringOptions) -> Result<Uring, Error> {
        let (io, rung) = setup::climb_down(options.newest, options.entries)?;
        setup::probe_operations(&io)?;
        setup::bound_workers(&io);
        let entries = io.params().sq_entries();
        let mut reason = vec![setup::describe(rung, entries)];
        let files = register_files(&io, options, &mut reason);
        let buffers = register_buffers(&io, arena, options, &mut reason);
        reason.push(restrict(&io, rung, options));
        if rung > Rung::Plain {
            setup::enable(&io)?;
        }
        let mut ring = Ring::new(io)?;
        let chains = match probe::round_trip(&mut ring)? {
            ShortRead::BreaksLinks => options.chains,
            ShortRead::IsIgnored => {
                reason.push("chains not linked, because this kernel does not stop them at a short read".into());
                Chains::FanOut
            }
        };
        Ok(Uring {
            ring,
            wake: Wake::new()?,
            files,
            buffers: ManuallyDrop::new(buffers),
            book: InFlight::new(ENGINE_STEPS_MAX.min(entries - setup::ENTRIES_RESERVED)),
            ready: Ready::default(),
            queues: Queues::default(),
            directories: Vec::new(),
            unremarkable: 0,
            health: Health::Working,
            stalls: 0,
            refused_in_a_row: 0,
            chains,
            counters: Counters::default(),
            reason: reason.join(", ").into(),
        })
    }

    /// How many requests of each kind were made.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Waits for what is in the kernel and starts nothing more. `false`: the kernel may never say that it is done.
    fn drain(&mut self) -> Drained {
        if self.health == Health::Working {
            self.health = Health::Draining;
        }
        if self.wake.is_armed() {
            self.wake.strike();
        }
        let mut completions = Vec::new();
        self.push_ready(&mut completions);
        while self.ring.in_kernel() > 0 {
            // A ring that was refused once may be entered again by now; one that is refused now is given up.
            self.health = Health::Draining;
            self.enter(Patience::Forever, &mut completions);
            self.reap(&mut completions);
            self.push_ready(&mut completions);
            completions.clear();
            if matches!(self.health, Health::Broken(_)) {
                break;
            }
        }
        if self.book.steps() == 0 { Drained::Yes } else { Drained::No }
    }

    /// Waits as asked; says whether the waker was rung.
    fn wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) -> Heard {
        let patience = match wait {
            Wait::No => Patience::None,
            Wait::UntilWoken => Patience::Forever,
            Wait::Until(deadline) => Patience::Until(deadline),
        };
        if patience == Patience::None {
            self.enter_unless_broken(Patience::None, completions);
            return Heard::Nothing;
        }
        if self.wake.park() == Heard::Ring {
            self.enter_unless_broken(Patience::None, completions);
            return Heard::Ring;
        }
        self.enter_unless_broken(patience, completions);
        self.wake.unpark()
    }

    fn enter_unless_broken(&mut self, patience: Patience, completions: &mut Vec<Completion>) {
        if !matches!(self.health, Health::Broken(_)) {
            self.enter(patience, completions);
            return;
        }
        // What is in flight comes home only while the thread enters the kernel; the refusal may have been a passing one.
        let is_refused = self.ring.enter(Patience::None, Waiting::Idle).is_err();
        if patience != Patience::None && (is_refused || !self.ring.has_answers()) {
            self.refused_in_a_row = if is_refused { self.refused_in_a_row + 1 } else { 0 };
            // Such as a seccomp filter that the host has put up since. Nobody will ever hear of what is in flight: the client
            // breaks down, which ends every job, and the memory stays with the kernel.
            let is_lost = self.refused_in_a_row > REFUSALS_MAX && self.book.steps() > 0;
            assert!(!is_lost, "the kernel refuses to be asked for the requests that it has");
            let nanoseconds = BROKEN_SLEEP.subsec_nanos().into();
            self.wake.wait_without_ring(&Timespec { tv_sec: 0, tv_nsec: nanoseconds });
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drained {
    Yes,
    No,
}

fn register_files(io: &io_uring::IoUring, options: &UringOptions, reason: &mut Vec<String>) -> Files {
    if options.registered_files == Use::Never {
        return Files::unregistered();
    }
    Files::registered(io).unwrap_or_else(|errno| {
        reason.push(format!("files not registered ({})", std::io::Error::from_raw_os_error(errno)));
        Files::unregistered()
    })
}

fn register_buffers(io: &io_uring::IoUring, arena: Arc<Arena>, options: &UringOptions, reason: &mut Vec<String>) -> Buffers {
    if options.registered_buffers == Use::Never {
        reason.push("buffers not registered, as asked".into());
        return Buffers::unregistered(arena);
    }
    Buffers::registered(io, arena).unwrap_or_else(|(arena, errno)| {
        let advice = if errno == libc::ENOMEM { "; RLIMIT_MEMLOCK is too low for the pool" } else { "" };
        reason.push(format!("buffers not registered ({}{advice})", std::io::Error::from_raw_os_error(errno)));
        Buffers::unregistered(arena)
    })
}

fn restrict(io: &io_uring::IoUring, rung: Rung, options: &UringOptions) -> String {
    if options.restrictions == Use::Never {
        return "not restricted, as asked".into();
    }
    if rung < Rung::Restrictable {
        return "not restricted, because the kernel cannot".into();
    }
    match setup::restrict(io) {
        Ok(()) => "restricted to what copying needs".into(),
        Err(errno) => format!("not restricted ({})", std::io::Error::from_raw_os_error(errno)),
    }
}

impl Engine for Uring {
    type Device = Device;

    fn attach(&mut self, device: &Arc<Device>) -> Result<DeviceIndex, Error> {
        let index = self.files.attach(self.ring.io(), device);
        self.queues.attach(index, device.geometry().kind, device.queue());
        Ok(index)
    }

    fn detach(&mut self, device: DeviceIndex) {
        assert!(!self.book.uses(device), "a device is detached after the last step on it");
        self.queues.detach(device);
        self.files.detach(self.ring.io(), device);
    }

    fn stage(&mut self, chain: Chain) -> Result<(), Chain> {
        let slot = self.book.take(chain, Start::AfterRead)?;
        for blank in &self.book.chain(slot).blanks {
            // SAFETY: the chain's pages are the engine's from here on, and none of its steps has been started.
            unsafe { self.buffers.arena().blank(blank) };
        }
        self.ready.chains.push(slot);
        Ok(())
    }

    fn submit_and_wait(&mut self, wait: Wait, completions: &mut Vec<Completion>) {
        let known = completions.len();
        self.unremarkable = 0;
        loop {
            self.push_ready(completions);
            let waits = completions.len() == known + self.unremarkable;
            let heard = self.wait(if waits { wait } else { Wait::No }, completions);
            self.reap(completions);
            let news = completions.len() > known + self.unremarkable;
            let over = match wait {
                Wait::No => (self.ready.is_empty() && !self.queues.has_admissible()) || self.stalls > 0,
                Wait::UntilWoken => false,
                Wait::Until(deadline) => Instant::now() >= deadline,
            };
            if news || over || heard == Heard::Ring {
                return;
            }
        }
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn description(&self) -> Description {
        Description {
            kind: Kind::IoUring,
            reason: self.reason.clone(),
            registered_buffers: self.buffers.are_registered(),
            submissions: self.ring.submissions(),
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.drain() == Drained::No {
            let leaked = self.buffers.arena().length_bytes();
            eprintln!("kcopyd: the kernel does not give back requests in flight; {leaked} bytes of memory stay with it");
            return;
        }
        // Explicitly, because closing the ring gives these back only some time later; whoever comes next would meet a device
        // that is still held, or a limit on locked memory. What is refused here is left to the closing.
        let submitter = self.ring.io().submitter();
        let _ = submitter.unregister_files();
        let _ = submitter.unregister_buffers();
        // SAFETY: every request has been answered, and nothing uses the buffers after this.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
    }
}
