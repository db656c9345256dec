//! What the ring cannot do for us and would block its thread: the block layer's own zeroing, where the general one is refused.
//! One thread, started when it is first needed, one call at a time. It refuses to know chains.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::copy::chain::StepResult;
use crate::engine::Waker;
use crate::engine::device::Device;
use crate::engine::in_flight::StepKey;
use crate::engine::signals::with_signals_blocked;
use crate::engine::zeroing::zero_block_device;

/// A range of a block device to be made zero.
pub struct Errand {
    pub key: StepKey,
    pub device: Arc<Device>,
    pub offset_bytes: u64,
    pub length_bytes: u32,
}

#[derive(Default)]
struct Desk {
    errands: VecDeque<Errand>,
    answers: Vec<(StepKey, StepResult)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The helper of one ring.
#[derive(Default)]
pub struct Aside {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    out: usize,
}

impl Aside {
    /// Does a range aside; the answer rings the waker. Fails at once where no thread can be had.
    pub fn send(&mut self, errand: Errand, waker: Waker) -> Result<(), StepResult> {
        if self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let body = move || work(&shared, &waker);
            let started = with_signals_blocked(|| thread::Builder::new().name("kcopyd-aside".into()).spawn(body));
            self.thread = Some(started.map_err(|_| StepResult::Failed(libc::EAGAIN))?);
        }
        self.out += 1;
        self.shared.lock().errands.push_back(errand);
        self.shared.news.notify_one();
        Ok(())
    }

    /// Lets everything end that was sent, and the thread with it: the last answers.
    pub fn end(&mut self) -> Vec<(StepKey, StepResult)> {
        self.shared.lock().closed = true;
        self.shared.news.notify_one();
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics; and if it did, there is nothing left to wait for.
            let _ = thread.join();
        }
        self.take_answers()
    }

    /// The answers that are there.
    pub fn take_answers(&mut self) -> Vec<(StepKey, StepResult)> {
        if self.out == 0 {
            return Vec::new();
        }
        let answers = std::mem::take(&mut self.shared.lock().answers);
        self.out -= answers.len();
        answers
    }
}

fn work(shared: &Shared, waker: &Waker) {
    let mut desk = shared.lock();
    loop {
        if let Some(errand) = desk.errands.pop_front() {
            drop(desk);
            let result = match zero_block_device(&errand.device, errand.offset_bytes, errand.length_bytes) {
                Ok(()) => StepResult::Done(errand.length_bytes),
                Err(errno) => StepResult::Failed(errno.raw_os_error()),
            };
            // The device is let go before anyone hears of it, so that it can be closed at once (P33).
            let key = errand.key;
            drop(errand);
            desk = shared.lock();
            desk.answers.push((key, result));
            waker();
        } else if desk.closed {
            return;
        } else {
            desk = shared.news.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
