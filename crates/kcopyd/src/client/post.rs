//! What a client's callers and its thread hand each other: commands in, finished jobs out, and figures to look at. It refuses to
//! know what a command means.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::{Finished, Stats};
use crate::copy::job::JobFlags;
use crate::copy::progress::JobProgress;
use crate::copy::request::Plan;
use crate::engine::device::Device;
use crate::engine::{Description, Kind, Waker};
use crate::error::{Error, ErrorKind};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A job on its way to the client's thread.
pub(super) struct Submission {
    pub(super) token: u64,
    pub(super) plan: Plan,
    pub(super) source: Option<Arc<Device>>,
    pub(super) destinations: SmallVec<[Arc<Device>; 1]>,
    pub(super) flags: JobFlags,
    pub(super) progress: Option<Arc<JobProgress>>,
}

/// A device that is to be forgotten.
pub(super) struct Release {
    /// Its id.
    pub(super) device: u64,
    /// Called when it has been.
    pub(super) done: Box<dyn FnOnce() + Send>,
}

/// What the client's thread is asked to do. Small, because a million of them may wait.
pub(super) enum Command {
    Submit(Box<Submission>),
    Abort(u64),
    AbortAll,
    Release(Box<Release>),
}

/// Whether the client takes jobs, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
    Broken,
}

struct Inbox {
    commands: Vec<Command>,
    door: Door,
    ended: bool,
    waker: Option<Waker>,
}

/// The post between the two sides.
pub(super) struct Post {
    inbox: Mutex<Inbox>,
    has_ended: Condvar,
    finished: Mutex<VecDeque<Finished>>,
    stats: Mutex<Stats>,
    doorbell: Mutex<Box<dyn Fn() + Send>>,
}

/// A panic of ours while a lock was held must not make every later call panic too: what the locks guard is a queue or a figure
/// that is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of a client that broke inside (P32).
pub(super) fn broken() -> Error {
    Error::new(ErrorKind::Internal, "the client broke inside and takes no more jobs; create another, and report this")
}

impl Post {
    pub(super) fn new(doorbell: Box<dyn Fn() + Send>) -> Self {
        let engine = Description { kind: Kind::Threads, reason: "".into(), registered_buffers: false, submissions: 0 };
        let stats = Stats {
            engine,
            pages_total: 0,
            pages_free: 0,
            jobs: 0,
            sub_jobs: 0,
            bytes: 0,
            zero_offloaded_bytes: 0,
            zero_written_bytes: 0,
        };
        Post {
            inbox: Mutex::new(Inbox { commands: Vec::new(), door: Door::Open, ended: false, waker: None }),
            has_ended: Condvar::new(),
            finished: Mutex::new(VecDeque::new()),
            stats: Mutex::new(stats),
            doorbell: Mutex::new(doorbell),
        }
    }

    // The callers' side.

    pub(super) fn refuse_if_closed(&self) -> Result<(), Error> {
        Self::refusal(&lock(&self.inbox))
    }

    fn refusal(inbox: &Inbox) -> Result<(), Error> {
        match inbox.door {
            Door::Open => Ok(()),
            Door::Closed => Err(Error::new(ErrorKind::Closed, "the client is closed")),
            Door::Broken => Err(broken()),
        }
    }

    /// Sends a command that only an open client takes.
    pub(super) fn send(&self, command: Command) -> Result<(), Error> {
        let mut inbox = lock(&self.inbox);
        Self::refusal(&inbox)?;
        Self::post(&mut inbox, command);
        Ok(())
    }

    /// Sends a command that a closing client takes too; hands it back if the client has ended.
    pub(super) fn send_always(&self, command: Command) -> Result<(), Command> {
        let mut inbox = lock(&self.inbox);
        if inbox.ended {
            return Err(command);
        }
        Self::post(&mut inbox, command);
        Ok(())
    }

    /// Only the first command since the thread last looked needs to wake it.
    fn post(inbox: &mut Inbox, command: Command) {
        inbox.commands.push(command);
        if inbox.commands.len() == 1
            && let Some(waker) = &inbox.waker
        {
            waker();
        }
    }

    pub(super) fn close(&self) {
        let mut inbox = lock(&self.inbox);
        if inbox.door == Door::Open {
            inbox.door = Door::Closed;
        }
        if let Some(waker) = &inbox.waker {
            waker();
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        lock(&self.inbox).ended
    }

    pub(super) fn wait_until_ended(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let mut inbox = lock(&self.inbox);
        while !inbox.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            inbox = self.has_ended.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(super) fn take_finished(&self, at_most: usize, into: &mut Vec<Finished>) {
        let mut finished = lock(&self.finished);
        let count = at_most.min(finished.len());
        into.extend(finished.drain(..count));
    }

    pub(super) fn stats(&self) -> Stats {
        lock(&self.stats).clone()
    }

    // The thread's side.

    pub(super) fn set_waker(&self, waker: Waker) {
        lock(&self.inbox).waker = Some(waker);
    }

    /// Takes what has come in; the answer says whether anything may still come.
    pub(super) fn take_commands(&self, into: &mut VecDeque<Command>) -> More {
        let mut inbox = lock(&self.inbox);
        into.extend(inbox.commands.drain(..));
        if inbox.door == Door::Open { More::MayCome } else { More::OnlyLeftovers }
    }

    pub(super) fn deliver(&self, finished: &mut Vec<Finished>) {
        if !finished.is_empty() {
            lock(&self.finished).extend(finished.drain(..));
            self.ring();
        }
    }

    fn ring(&self) {
        lock(&self.doorbell)();
    }

    pub(super) fn set_stats(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.stats));
    }

    /// The client broke inside: no new jobs. What had been sent is the thread's to answer.
    pub(super) fn mark_broken(&self) {
        lock(&self.inbox).door = Door::Broken;
    }

    /// The thread will look no more. Fails if a command came in meanwhile.
    pub(super) fn end(&self) -> Result<(), ()> {
        let mut inbox = lock(&self.inbox);
        if !inbox.commands.is_empty() {
            return Err(());
        }
        inbox.ended = true;
        inbox.waker = None;
        drop(inbox);
        self.has_ended.notify_all();
        self.ring();
        Ok(())
    }
}

/// Whether a job may still be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    MayCome,
    OnlyLeftovers,
}
