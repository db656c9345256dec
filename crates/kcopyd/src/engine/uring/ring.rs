//! A working ring: entries go in, the kernel is entered, answers come out. It knows the queue's mechanics and refuses to know
//! what an entry does or what an answer means.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Parameters};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use super::batching::{self, Batching};
use super::setup::errno_of;
use crate::error::Error;

/// How long an entry into the kernel may wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// Until there is one.
    Forever,
    /// No longer than this.
    Until(Instant),
}

/// Whether a wait is for a device or only for the waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Some request to a device is out; these move so many bytes, as `Queues` weighs them.
    ForDevices { pressure_bytes: u64 },
    /// Nothing is: the time is not to be booked as waiting for I/O.
    Idle,
}

/// A ring, used by the thread that made it.
pub struct Ring {
    io: IoUring,
    tail: Tail,
    /// The user data of the entries that the kernel has not taken yet, oldest first.
    queued: VecDeque<u64>,
    in_kernel: u32,
    batching: Batching,
    submissions: u64,
    #[cfg(test)]
    pub faults: Faults,
}

/// What a test makes the kernel seem to do.
#[cfg(test)]
#[derive(Default)]
pub struct Faults {
    /// The next submissions take so many entries at most.
    pub take_at_most: VecDeque<u32>,
    /// The next entries are refused with these errnos.
    pub refusals: VecDeque<i32>,
    /// The kernel is one from before 5.11.
    pub enter_knows_no_timeout: bool,
}

#[cfg(test)]
impl Faults {
    /// A kernel that does not take everything does not wait either.
    fn cut(&mut self, to_submit: u32, wanted: u32) -> (u32, u32) {
        if to_submit == 0 {
            return (to_submit, wanted);
        }
        match self.take_at_most.pop_front() {
            Some(at_most) if at_most < to_submit => (at_most, 0),
            _ => (to_submit, wanted),
        }
    }
}

impl Ring {
    /// Takes over a ring that is enabled.
    pub fn new(io: IoUring) -> Result<Ring, Error> {
        let tail = Tail::map(&io)?;
        Ok(Ring {
            io,
            tail,
            queued: VecDeque::new(),
            in_kernel: 0,
            batching: Batching::default(),
            submissions: 0,
            #[cfg(test)]
            faults: Faults::default(),
        })
    }

    /// How many requests the kernel has and has not answered.
    pub fn in_kernel(&self) -> u32 {
        self.in_kernel
    }

    /// How many entries wait to be taken by the kernel.
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// How often the kernel was entered and took something.
    pub fn submissions(&self) -> u64 {
        self.submissions
    }

    /// The ring itself, for register calls.
    pub fn io(&self) -> &IoUring {
        &self.io
    }

    /// Queues an entry; there is room, because every step that is taken has one of its own.
    ///
    /// # Safety
    /// The memory that the entry points at stays, and belongs to the kernel, until the answer has been popped or the entry
    /// taken back; its descriptors stay open until the kernel has taken it.
    pub unsafe fn push(&mut self, entry: &Entry) {
        // SAFETY: passed on to the caller.
        let pushed = unsafe { self.io.submission().push(entry) };
        assert!(pushed.is_ok(), "the submission queue has an entry for every step");
        self.queued.push_back(entry.get_user_data());
    }

    /// Enters the kernel: hands over what is queued, has it work off its completions, and waits for an answer.
    ///
    /// Afterwards `queued` is not 0 if the kernel did not take everything. An interrupted or timed-out wait is not an error.
    pub fn enter(&mut self, patience: Patience, waiting: Waiting) -> Result<(), i32> {
        #[cfg(test)]
        if let Some(errno) = self.faults.refusals.pop_front() {
            return Err(errno);
        }
        let answer = match patience {
            Patience::None => self.call(0, EnterFlags::empty(), None),
            Patience::Forever => self.wait_for_several(waiting).and_then(|is_over| match is_over {
                true => Ok(()),
                false => self.call(1, self.idle_flag(waiting), None),
            }),
            Patience::Until(deadline) if self.enter_knows_timeouts() => {
                self.call(1, self.idle_flag(waiting), Some(remaining(deadline)))
            }
            Patience::Until(deadline) => self.call(0, EnterFlags::empty(), None).map(|()| self.poll(deadline)),
        };
        match answer {
            Err(libc::EINTR | libc::ETIME) => Ok(()),
            other => other,
        }
    }

    /// Waits for as many answers as are worth a wait, but not for long; whether any came.
    fn wait_for_several(&mut self, waiting: Waiting) -> Result<bool, i32> {
        let Waiting::ForDevices { pressure_bytes } = waiting else { return Ok(false) };
        let waker = 1;
        let requests = (self.in_kernel + self.queued.len() as u32).saturating_sub(waker);
        let wanted = self.batching.wanted(requests, pressure_bytes);
        if wanted < 2 || !self.enter_knows_timeouts() {
            return Ok(false);
        }
        let answer = self.call(wanted, EnterFlags::empty(), Some(batching::PATIENCE));
        let came = self.io.completion().len() as u32;
        self.batching.ended(came >= wanted);
        match answer {
            Err(libc::ETIME) => Ok(came > 0),
            answer => answer.map(|()| true),
        }
    }

    /// GETEVENTS always: without it a ring of the `Deferred` rung delivers nothing.
    fn call(&mut self, wanted: u32, flags: EnterFlags, timeout: Option<Duration>) -> Result<(), i32> {
        let flags = flags | EnterFlags::GETEVENTS;
        let to_submit = self.queued.len() as u32;
        #[cfg(test)]
        let (to_submit, wanted) = self.faults.cut(to_submit, wanted);
        let submitter = self.io.submitter();
        let answer = match timeout {
            None => {
                // SAFETY: no argument is passed; the entries were vouched for by whoever pushed them.
                unsafe { submitter.enter::<libc::sigset_t>(to_submit, wanted, flags.bits(), None) }
            }
            Some(timeout) => {
                let timeout = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&timeout);
                // SAFETY: EXT_ARG says that the argument is what it is, and it lives until the call returns.
                unsafe { submitter.enter(to_submit, wanted, (flags | EnterFlags::EXT_ARG).bits(), Some(&arguments)) }
            }
        };
        self.book_taken();
        answer.map(drop).map_err(|error| errno_of(&error))
    }

    /// What the kernel has taken is read off its head of the queue: the call's result does not say it if the wait failed.
    fn book_taken(&mut self) {
        let left = self.io.submission().len();
        let taken = self.queued.len() - left;
        self.queued.drain(..taken);
        self.in_kernel += taken as u32;
        self.submissions += u64::from(taken > 0);
    }

    fn enter_knows_timeouts(&self) -> bool {
        #[cfg(test)]
        if self.faults.enter_knows_no_timeout {
            return false;
        }
        self.io.params().is_feature_ext_arg()
    }

    fn idle_flag(&self, waiting: Waiting) -> EnterFlags {
        match waiting {
            Waiting::Idle if self.io.params().is_feature_no_iowait() => EnterFlags::NO_IOWAIT,
            _ => EnterFlags::empty(),
        }
    }

    /// Waits as kernels before 5.11 must: their `enter` knows no timeout, and none of them defers completions.
    fn poll(&self, deadline: Instant) {
        let mut descriptors = [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::IN)];
        let timeout = remaining(deadline);
        let timeout = rustix::event::Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        // However it ends, the caller looks at the queue and at the clock.
        let _ = poll(&mut descriptors, Some(&timeout));
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor is open for as long as the ring is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }
    }

    /// Whether there is an answer to pop.
    pub fn has_answers(&mut self) -> bool {
        !self.io.completion().is_empty()
    }

    /// The next answer: its user data, and a result or a negative errno.
    pub fn pop(&mut self) -> Option<(u64, i32)> {
        let answer = self.io.completion().next()?;
        self.in_kernel -= 1;
        Some((answer.user_data(), answer.result()))
    }

    /// Takes back what the kernel has not taken, oldest first. The kernel may stop anywhere, also within a linked chain:
    /// when it cannot allocate a request, or, below the rung `SubmitAll`, when one is bad. What is left of such a chain would
    /// run unlinked with the next submission and write stale bytes with success codes.
    pub fn take_back(&mut self) -> VecDeque<u64> {
        if !self.queued.is_empty() {
            self.tail.retreat(self.queued.len() as u32);
        }
        std::mem::take(&mut self.queued)
    }
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The tail of the submission queue, mapped a second time: the crate offers no way to take an entry back.
struct Tail {
    page: NonNull<c_void>,
    offset: usize,
}

const PAGE: usize = 4096;

impl Tail {
    fn map(io: &IoUring) -> Result<Tail, Error> {
        let offset = Self::offset_of_tail(io.params());
        let refused = |errno: rustix::io::Errno| {
            Error::system(errno.raw_os_error(), "mmap", "the submission queue could not be mapped")
        };
        // SAFETY: the ring's descriptor is open for as long as `io` is borrowed.
        let descriptor = unsafe { BorrowedFd::borrow_raw(io.as_raw_fd()) };
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; offset 0 is IORING_OFF_SQ_RING.
        let page =
            unsafe { mmap(ptr::null_mut(), PAGE, flags, MapFlags::SHARED, descriptor.as_fd(), 0) }.map_err(refused)?;
        // SAFETY: the range is the mapping just made; a child of the process must not get it.
        unsafe { madvise(page, PAGE, Advice::LinuxDontFork) }.map_err(refused)?;
        Ok(Tail { page: NonNull::new(page).expect("mmap never answers with null"), offset })
    }

    /// `sq_off.tail` of `struct io_uring_params`: ten words of four bytes precede `sq_off`, and `head` precedes `tail`.
    fn offset_of_tail(params: &Parameters) -> usize {
        const WORD: usize = 11;
        const { assert!(size_of::<Parameters>() >= (WORD + 1) * 4) };
        // SAFETY: `Parameters` is documented to be a transparent wrapper over the kernel's structure, whose layout is its
        // stable interface; the word is within it, initialised and aligned.
        let offset = unsafe { ptr::from_ref(params).cast::<u32>().add(WORD).read() } as usize;
        assert!(offset + 4 <= PAGE && offset.is_multiple_of(4), "the tail is in the first page of the queue");
        offset
    }

    /// Moves the tail back by so many entries.
    fn retreat(&self, entries: u32) {
        // SAFETY: the word is within the mapping and aligned. Kernel and crate access it atomically or, in the crate's case,
        // from this thread; without SQPOLL the kernel looks at it only while this thread is in `enter`.
        let tail = unsafe { AtomicU32::from_ptr(self.page.as_ptr().byte_add(self.offset).cast()) };
        let end = tail.load(Ordering::Relaxed);
        tail.store(end.wrapping_sub(entries), Ordering::Release);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // SAFETY: the range is exactly this mapping, and nothing borrows from it.
        let unmapped = unsafe { munmap(self.page.as_ptr(), PAGE) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}
