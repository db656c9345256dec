//! What ends the engine's wait: an eventfd with a read of it kept in the ring. It refuses to know why anybody rings.

use std::cell::UnsafeCell;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::engine::Waker;
use crate::error::Error;
use crate::sync::atomic::{AtomicU8, Ordering};

/// The user data of the read; no step is named so, because a step's number is less than 64.
pub const WAKE: u64 = u64::MAX;

/// The ring's thread is at work and looks at the bell before it waits.
const RUNNING: u8 = 0;
/// Somebody has rung since the ring's thread last looked.
const RUNG: u8 = 1;
/// The ring's thread waits in the kernel, or is about to: ringing must end that.
const PARKED: u8 = 2;

/// Whether a ring has to end a wait in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strike {
    Needed,
    Idle,
}

/// What the two sides know of each other. One word holds the whole state and is only ever exchanged as a whole, so all its changes have one order:
/// a ring that comes before `park` is what `park` finds, and one that comes after finds PARKED and writes to the eventfd,
/// which the read in the ring then reports, however late it is armed. So no ring is lost, and a ring costs a system call
/// only if the ring's thread is parked and nobody else has rung.
///
/// Every change is an exchange with release and acquire. An exchange continues the release sequences before it; so what
/// each ringer did before ringing is seen by the thread after `park` or `unpark`, also if another ring came in between.
pub(super) struct State(AtomicU8);

impl State {
    pub(super) fn running() -> Self {
        State(AtomicU8::new(RUNNING))
    }

    pub(super) fn ring(&self) -> Strike {
        if self.0.swap(RUNG, Ordering::AcqRel) == PARKED { Strike::Needed } else { Strike::Idle }
    }

    pub(super) fn park(&self) -> Heard {
        let parked = self.0.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire);
        if parked.is_ok() { Heard::Nothing } else { self.unpark() }
    }

    pub(super) fn unpark(&self) -> Heard {
        if self.0.swap(RUNNING, Ordering::AcqRel) == RUNG { Heard::Ring } else { Heard::Nothing }
    }
}

/// The shared half.
struct Bell {
    state: State,
    eventfd: OwnedFd,
}

impl Bell {
    fn ring(&self) {
        if self.state.ring() == Strike::Needed {
            self.strike();
        }
    }

    fn strike(&self) {
        let struck = rustix::io::retry_on_intr(|| rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes()));
        debug_assert!(struck.is_ok(), "an eventfd takes 2^64 - 2 rings before it has to be read");
    }
}

/// What the ring's thread finds when it looks at the bell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody has rung since it looked last.
    Ring,
    /// Nobody has.
    Nothing,
}

/// The half of the ring's thread.
pub struct Wake {
    bell: Arc<Bell>,
    /// Where the read puts the eventfd's count; the kernel writes there while `armed`, so it stays where it is.
    count: Box<UnsafeCell<u64>>,
    armed: Armed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    Yes,
    No,
}

impl Wake {
    pub fn new() -> Result<Wake, Error> {
        // Blocking on purpose: the kernel answers a read of a non-blocking eventfd at once, with EAGAIN, before 5.8.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| Error::system(errno.raw_os_error(), "eventfd", "no descriptor for the engine's waker"))?;
        let bell = Arc::new(Bell { state: State::running(), eventfd });
        Ok(Wake { bell, count: Box::new(UnsafeCell::new(0)), armed: Armed::No })
    }

    /// What rings the bell, from any thread and for as long as anybody likes.
    pub fn waker(&self) -> Waker {
        let bell = Arc::clone(&self.bell);
        Arc::new(move || bell.ring())
    }

    /// The read to put into the ring, unless it is there.
    pub fn arm(&mut self) -> Option<Entry> {
        if self.armed == Armed::Yes {
            return None;
        }
        self.armed = Armed::Yes;
        let descriptor = types::Fd(self.bell.eventfd.as_raw_fd());
        Some(opcode::Read::new(descriptor, self.count.get().cast(), 8).build().user_data(WAKE))
    }

    /// The read has come home, or was taken back before the kernel had seen it.
    pub fn disarm(&mut self) {
        self.armed = Armed::No;
    }

    /// Whether the read is out.
    pub fn is_armed(&self) -> bool {
        self.armed == Armed::Yes
    }

    /// Makes the read come home, whoever is parked or not.
    pub fn strike(&self) {
        self.bell.strike();
    }

    /// Says that the thread is about to wait. If somebody has rung, it must not.
    pub fn park(&self) -> Heard {
        self.bell.state.park()
    }

    /// Says that the thread waits no more.
    pub fn unpark(&self) -> Heard {
        self.bell.state.unpark()
    }

    /// Waits for the bell without the ring; for a ring that is broken.
    pub fn wait_without_ring(&self, timeout: &Timespec) {
        let mut descriptors = [PollFd::from_borrowed_fd(self.bell.eventfd.as_fd(), PollFlags::IN)];
        if poll(&mut descriptors, Some(timeout)) == Ok(1) {
            let _: Result<usize, Errno> = rustix::io::read(&self.bell.eventfd, &mut [0; 8]);
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if self.armed == Armed::Yes {
            // The kernel may still write the count: these eight bytes are its for good.
            mem::forget(mem::replace(&mut self.count, Box::new(UnsafeCell::new(0))));
        }
    }
}
