//! The client's thread: takes commands, lets the scheduler decide and the engine do, and delivers outcomes. One loop, one wait.
//! If anything in it panics, the client is poisoned: what is in flight is drained, every job fails, the process lives (P32).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::attachments::Attachments;
use super::post::{Command, More, Post, Submission};
use super::{Checked, Finished, clock};
use crate::copy::chain::{Completion, DeviceIndex};
use crate::copy::job::{Job, JobParts};
use crate::copy::limits::{COMMANDS_PER_TURN, THROTTLE_LOOK};
use crate::copy::outcome::Outcome;
use crate::copy::scheduler::Scheduler;
use crate::copy::throttle::Now;
use crate::engine::device::Device;
use crate::engine::{Engine, Wait, select};
use crate::error::Error;

struct Desk<'post> {
    post: &'post Post,
    scheduler: Scheduler,
    engine: Box<dyn Engine<Device = Device>>,
    attachments: Attachments,
    throttled: Throttled,
    commands: VecDeque<Command>,
    completions: Vec<Completion>,
    finished: Vec<Finished>,
    /// The job that is on its way from a command to the scheduler: token, length, destinations. Should that break, it is
    /// known to nobody else.
    arriving: Option<(u64, u64, usize)>,
}

/// Whether time matters to the scheduler; if not, the clock is not read.
#[derive(Clone, Copy, PartialEq)]
enum Throttled {
    Yes,
    No,
}

enum Turn {
    GoOn,
    End,
}

/// The body of the client's thread.
pub(super) fn run(options: &Checked, post: &Post, report: &Sender<Result<(), Error>>) {
    let started = catch_unwind(AssertUnwindSafe(|| Desk::open(options, post)));
    let mut desk = match started {
        Ok(Ok(desk)) => desk,
        Ok(Err(error)) => {
            // The creator waits for exactly one report; if it is gone, so is the interest.
            let _ = report.send(Err(error));
            return;
        }
        Err(_) => return,
    };
    post.set_waker(desk.engine.waker());
    if report.send(Ok(())).is_err() {
        return;
    }
    loop {
        match catch_unwind(AssertUnwindSafe(|| desk.turn())) {
            Ok(Turn::GoOn) => {}
            Ok(Turn::End) => break,
            Err(_) => return desk.break_down(),
        }
    }
    desk.close();
}

impl<'post> Desk<'post> {
    fn open(options: &Checked, post: &'post Post) -> Result<Self, Error> {
        let scheduler = Scheduler::new(options.pages, options.sub_job_sectors, options.throttle.clone());
        let engine = select::engine(options.engine, options.pages)?;
        let desk = Desk {
            post,
            scheduler,
            engine,
            attachments: Attachments::default(),
            throttled: if options.throttle.is_some() { Throttled::Yes } else { Throttled::No },
            commands: VecDeque::new(),
            completions: Vec::new(),
            finished: Vec::new(),
            arriving: None,
        };
        desk.publish_stats();
        Ok(desk)
    }

    fn turn(&mut self) -> Turn {
        let more = self.post.take_commands(&mut self.commands);
        for _ in 0..COMMANDS_PER_TURN {
            let Some(command) = self.commands.pop_front() else { break };
            self.obey(command);
        }
        self.stage();
        self.deliver();
        // Before it waits, which may be long: whoever looks meanwhile sees the pages that are in use.
        self.publish_counts();
        if more == More::OnlyLeftovers && self.commands.is_empty() && self.scheduler.is_idle() {
            return Turn::End;
        }
        self.engine.submit_and_wait(self.wait(), &mut self.completions);
        let now = self.now();
        for completion in self.completions.drain(..) {
            self.scheduler.settle(completion, now);
        }
        Turn::GoOn
    }

    fn now(&self) -> Now {
        if self.throttled == Throttled::Yes { clock::now() } else { Now::ZERO }
    }

    /// A throttle may be changed by anyone who shares it, so it is looked at again before long.
    fn wait(&self) -> Wait {
        if !self.commands.is_empty() {
            return Wait::No;
        }
        match self.scheduler.throttled_for() {
            Some(wait) => Wait::Until(Instant::now() + wait.min(THROTTLE_LOOK)),
            None => Wait::UntilWoken,
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submit(submission) => self.begin(*submission),
            Command::Abort(token) => self.scheduler.abort(token),
            Command::AbortAll => self.scheduler.abort_all(),
            Command::Release(release) => self.attachments.release(release.device, release.done, &mut *self.engine),
        }
    }

    fn begin(&mut self, submission: Submission) {
        let (token, length, destinations) = (submission.token, submission.plan.length_bytes, submission.destinations.len());
        self.arriving = Some((token, length, destinations));
        match self.parts(&submission) {
            Ok(parts) => self.scheduler.submit(Box::new(Job::new(&submission.plan, parts))),
            Err(error) => {
                let outcome = Outcome::not_begun(length, destinations, error.errno.unwrap_or(libc::EIO));
                self.finished.push(Finished { token, outcome });
            }
        }
        self.arriving = None;
    }

    /// Makes the job's devices known to the engine.
    fn parts(&mut self, submission: &Submission) -> Result<JobParts, Error> {
        let mut used: Vec<DeviceIndex> = Vec::new();
        let devices = submission.source.iter().chain(&submission.destinations);
        for device in devices {
            match self.attachments.use_device(device, &mut *self.engine) {
                Ok(index) => used.push(index),
                Err(error) => {
                    used.into_iter().for_each(|index| self.attachments.leave(index, &mut *self.engine));
                    return Err(error);
                }
            }
        }
        let alignment = |device: &Device| device.geometry().direct_alignment_bytes;
        let mut used = used.into_iter();
        let mut next = || used.next().expect("there is one index for every device");
        let source = submission.source.as_deref().map(|device| (next(), alignment(device)));
        let destinations = submission.destinations.iter().map(|device| (next(), alignment(device))).collect();
        let (flags, progress) = (submission.flags, submission.progress.clone());
        Ok(JobParts { token: submission.token, source, destinations, flags, progress })
    }

    fn stage(&mut self) {
        let now = self.now();
        while let Some(chain) = self.scheduler.next_chain(now) {
            if let Err(chain) = self.engine.stage(chain) {
                self.scheduler.hand_back(&chain, now);
                return;
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(ended) = self.scheduler.take_outcome() {
            ended.devices.into_iter().for_each(|device| self.attachments.leave(device, &mut *self.engine));
            self.finished.push(Finished { token: ended.token, outcome: ended.outcome });
        }
        if !self.finished.is_empty() {
            self.publish_stats();
            self.post.deliver(&mut self.finished);
        }
    }

    fn publish_stats(&self) {
        self.publish_counts();
        self.post.set_stats(|stats| stats.engine = self.engine.description());
    }

    fn publish_counts(&self) {
        let (counts, pool) = (self.scheduler.counts(), self.scheduler.pool());
        self.post.set_stats(|stats| {
            stats.pages_total = pool.total();
            stats.pages_free = pool.free();
            stats.jobs = counts.jobs;
            stats.sub_jobs = counts.sub_jobs;
            stats.bytes = counts.bytes;
            stats.zero_offloaded_bytes = counts.zeroed.offloaded_bytes;
            stats.zero_written_bytes = counts.zeroed.written_bytes;
        });
    }

    /// The end that `close` asked for: everything is released before anyone hears of it (P24).
    fn close(mut self) {
        self.publish_stats();
        self.attachments.release_all(&mut *self.engine);
        let Desk { post, engine, mut commands, .. } = self;
        drop(engine);
        finish_leftovers(post, &mut commands, &mut Vec::new());
    }

    /// The end after a panic: no new request, those in flight are drained by dropping the engine, and then every job fails.
    fn break_down(self) {
        let Desk { post, engine, attachments, mut scheduler, mut commands, mut finished, arriving, .. } = self;
        post.mark_broken();
        if catch_unwind(AssertUnwindSafe(|| drop(engine))).is_err() {
            eprintln!("kcopyd: an engine could not be shut down after a panic; its memory is left alone");
        }
        // Whoever closes a device after this must find it free.
        drop(attachments);
        while let Some(ended) = scheduler.take_outcome() {
            finished.push(Finished { token: ended.token, outcome: ended.outcome });
        }
        let mut lost: Vec<(u64, u64, usize)> = scheduler.unfinished().collect();
        lost.extend(arriving.filter(|(token, ..)| lost.iter().all(|(known, ..)| known != token)));
        for (token, length_bytes, destinations) in lost {
            finished.push(Finished { token, outcome: Outcome::poisoned(length_bytes, destinations) });
        }
        post.deliver(&mut finished);
        finish_leftovers(post, &mut commands, &mut finished);
    }
}

/// Answers what came in too late to be carried out, until nothing does.
pub(super) fn finish_leftovers(post: &Post, commands: &mut VecDeque<Command>, finished: &mut Vec<Finished>) {
    loop {
        post.take_commands(commands);
        for command in commands.drain(..) {
            match command {
                Command::Submit(submission) => {
                    let outcome = Outcome::poisoned(submission.plan.length_bytes, submission.destinations.len());
                    finished.push(Finished { token: submission.token, outcome });
                }
                Command::Release(release) => (release.done)(),
                Command::Abort(_) | Command::AbortAll => {}
            }
        }
        post.deliver(finished);
        if post.end().is_ok() {
            return;
        }
    }
}
