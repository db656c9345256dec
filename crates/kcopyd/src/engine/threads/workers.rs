//! The worker threads: each takes one request, does one system call, and says what came of it. They refuse to know chains:
//! who may start is decided before a request gets here.

use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate, fdatasync, fsync};
use rustix::io::{Errno, pread, pwrite};

use crate::copy::chain::{DeviceIndex, Operation, StepResult};
use crate::copy::region::DeviceKind;
use crate::engine::device::Device;
use crate::engine::in_flight::StepKey;
use crate::engine::signals::with_signals_blocked;
use crate::engine::threads::line::Line;
use crate::engine::{Wait, Waker};

/// `_IO(0x12, 127)`: zeroes a range of a block device, given as first byte and count of bytes.
const BLKZEROOUT: libc::Ioctl = 0x127F;

/// Enough for a system call and for the words of a panic.
const STACK_BYTES: usize = 256 << 10;

/// One system call to make.
pub struct Request {
    pub key: StepKey,
    pub operation: Operation,
    pub device: Arc<Device>,
    pub offset_bytes: u64,
    pub memory: *mut u8,
    pub length_bytes: u32,
}

// SAFETY: the memory belongs to the engine until the request's answer is there (rule 8), and outlives every worker.
unsafe impl Send for Request {}

impl Request {
    /// Makes the call. The device is let go before the answer is given, so that whoever hears the answer may close it (P33).
    fn execute(self) -> StepResult {
        let answer = match self.operation {
            Operation::Read => self.read(),
            Operation::Write => self.write(),
            Operation::Zero => zero(&self.device, self.offset_bytes, self.length_bytes).map(|()| self.length_bytes as usize),
            Operation::Flush => flush(&self.device).map(|()| 0),
        };
        match answer {
            Ok(moved) => StepResult::Done(moved as u32),
            Err(errno) => StepResult::Failed(errno.raw_os_error()),
        }
    }

    fn read(&self) -> Result<usize, Errno> {
        // SAFETY: the arena holds the whole buffer, and no other request touches what a read fills (rule 8).
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.memory, self.length_bytes as usize) };
        pread(self.device.descriptor(self.offset_bytes, buffer.len() as u64), buffer, self.offset_bytes)
    }

    fn write(&self) -> Result<usize, Errno> {
        // SAFETY: the arena holds the whole buffer, and nothing changes it while it is written from (rule 8).
        let buffer = unsafe { std::slice::from_raw_parts(self.memory, self.length_bytes as usize) };
        pwrite(self.device.descriptor(self.offset_bytes, buffer.len() as u64), buffer, self.offset_bytes)
    }
}

/// Makes a range zero without moving bytes. A file system or kernel that cannot is not asked another way, except for a block
/// device, whose own call is older than the general one.
fn zero(device: &Device, offset_bytes: u64, length_bytes: u32) -> Result<(), Errno> {
    let length_bytes = u64::from(length_bytes);
    let descriptor = device.descriptor(offset_bytes, length_bytes);
    match fallocate(descriptor, FallocateFlags::ZERO_RANGE, offset_bytes, length_bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV) if device.kind() == DeviceKind::Block => {
            let range = [offset_bytes, length_bytes];
            // SAFETY: the call reads the two numbers that it is given and no other memory of ours.
            match unsafe { libc::ioctl(descriptor.as_raw_fd(), BLKZEROOUT, range.as_ptr()) } {
                0 => Ok(()),
                _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
            }
        }
        answer => answer,
    }
}

/// Makes durable what was written. The kernel reports a lost write to one fsync only, so a failure is kept for as long as
/// the device is open (P18). An interrupted flush has lost nothing and may be asked for again.
fn flush(device: &Device) -> Result<(), Errno> {
    if let Some(errno) = device.flush_error() {
        return Err(Errno::from_raw_os_error(errno));
    }
    let data = fdatasync(device.direct_descriptor());
    let name = data.and_then(|()| device.parent_directory().map_or(Ok(()), fsync));
    name.inspect_err(|errno| {
        if *errno != Errno::INTR {
            device.note_flush_error(errno.raw_os_error());
        }
    })
}

struct Queue {
    line: Line<Request>,
    idle: usize,
    closed: bool,
}

#[derive(Default)]
struct Answers {
    results: Vec<(StepKey, StepResult)>,
    rung: bool,
    panicked: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    queue_filled: Condvar,
    answers: Mutex<Answers>,
    answered: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next request; none once the queue is closed and empty. The device of the one before gives its worker back: so
    /// whatever becomes ready by that finds this one.
    fn next(&self, before: Option<DeviceIndex>) -> Option<(DeviceIndex, Request)> {
        let mut queue = self.queue();
        if let Some(device) = before {
            queue.line.done(device);
        }
        loop {
            if let Some(next) = queue.line.next() {
                if queue.closed {
                    // The others look whether this was the last.
                    self.queue_filled.notify_all();
                }
                return Some(next);
            }
            if queue.closed && queue.line.is_empty() {
                return None;
            }
            queue.idle += 1;
            queue = self.queue_filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn work(&self) {
        let mut before = None;
        while let Some((device, request)) = self.next(before) {
            before = Some(device);
            let key = request.key;
            let result = catch_unwind(AssertUnwindSafe(|| request.execute()));
            let mut answers = self.answers();
            answers.panicked |= result.is_err();
            answers.results.push((key, result.unwrap_or(StepResult::Failed(libc::EIO))));
            drop(answers);
            self.answered.notify_one();
        }
    }
}

/// The threads and what lies between them and the engine. Dropping it waits until every request is answered.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    threads_max: usize,
}

impl Workers {
    /// Starts the first thread, to know that threads can be had; the others are started when there is work for them. One device
    /// has so many of them at once.
    pub fn start(threads_max: usize, per_device_max: usize) -> io::Result<Workers> {
        assert!(threads_max > 0, "requests need a worker");
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { line: Line::new(threads_max, per_device_max), idle: 0, closed: false }),
            queue_filled: Condvar::new(),
            answers: Mutex::default(),
            answered: Condvar::new(),
        });
        let mut workers = Workers { shared, threads: Vec::new(), threads_max };
        workers.start_thread()?;
        Ok(workers)
    }

    fn start_thread(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name("kcopyd/worker".into()).stack_size(STACK_BYTES);
        self.threads.push(with_signals_blocked(|| builder.spawn(move || shared.work()))?);
        Ok(())
    }

    /// Hands requests over, and sees to it that those which may go find a worker.
    pub fn submit(&mut self, requests: impl Iterator<Item = (DeviceIndex, Request)>) {
        let mut queue = self.shared.queue();
        requests.for_each(|(device, request)| queue.line.push(device, request));
        let (ready, idle) = (queue.line.ready(), queue.idle);
        drop(queue);
        for _ in 0..ready.min(idle) {
            self.shared.queue_filled.notify_one();
        }
        let wanted = ready.saturating_sub(idle).min(self.threads_max - self.threads.len());
        for _ in 0..wanted {
            if self.start_thread().is_err() {
                // The machine gives no more threads: those that there are do the work.
                self.threads_max = self.threads.len();
                self.shared.queue().line.limit(self.threads_max);
                break;
            }
        }
    }

    /// Takes the answers there are, after waiting as asked for the first one or a ring.
    pub fn collect(&self, wait: Wait, results: &mut Vec<(StepKey, StepResult)>) {
        let mut answers = self.shared.answers();
        while answers.results.is_empty() && !answers.rung {
            answers = match wait {
                Wait::No => break,
                Wait::UntilWoken => self.shared.answered.wait(answers).unwrap_or_else(PoisonError::into_inner),
                Wait::Until(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.shared.answered.wait_timeout(answers, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        answers.rung = false;
        assert!(!answers.panicked, "a worker panicked; its words are above");
        results.append(&mut answers.results);
    }

    /// What ends a wait in `collect`, now or the next one.
    pub fn waker(&self) -> Waker {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || {
            shared.answers().rung = true;
            shared.answered.notify_one();
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.queue_filled.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches what panics inside; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}
