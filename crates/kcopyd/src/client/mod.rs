//! A client: one scheduler and one engine on a thread of its own (`kcopyd_client_create` … `kcopyd_client_destroy`). This room
//! alone knows both. What it offers can be called from any thread and never blocks on I/O; it refuses to know JavaScript.

mod attachments;
pub mod clock;
mod desk;
pub mod doorbell;
mod options;
#[cfg(all(test, loom))]
#[path = "tests/orders.rs"]
mod orders;
#[cfg(test)]
#[path = "tests/pieces.rs"]
mod pieces;
mod post;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use smallvec::SmallVec;

use crate::copy::limits::{GROWING_FILE_SUB_JOBS, SECTOR_BYTES};
use crate::copy::outcome::Outcome;
use crate::copy::progress::JobProgress;
use crate::copy::region::{DeviceKind, Geometry};
use crate::copy::request::{Endpoint, Plan, plan};
use crate::engine::Description;
use crate::engine::device::Device;
use crate::engine::signals::with_signals_blocked;
use crate::error::{Error, ErrorKind};

pub use crate::copy::job::{Flush, JobFlags, OnError, WriteOrder};
pub use crate::engine::select::{EngineChoice, Support, support};
pub(crate) use options::Checked;
pub use options::ClientOptions;
use post::{Command, Post, Release, Submission};

/// One end of a request.
#[derive(Clone, Debug)]
pub struct RegionRequest {
    /// The device.
    pub device: Arc<Device>,
    /// The first sector (of 512 bytes).
    pub sector: u64,
    /// How many sectors. A source's default is "to its end"; a destination's default, and only legal value, is the source's.
    pub count: Option<u64>,
}

/// A job as the caller wants it.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// The caller's name for the job: comes back with the outcome. No two jobs of one client may have the same at once.
    pub token: u64,
    /// What to read; `None` asks for zeroes, and then every destination names its count (`dm_kcopyd_zero`).
    pub source: Option<RegionRequest>,
    /// Where to write: 1 to 32 regions.
    pub destinations: Vec<RegionRequest>,
    /// How.
    pub flags: JobFlags,
    /// Counters to keep for whoever wants to look while the job runs.
    pub progress: Option<Arc<JobProgress>>,
}

/// What was accepted, with every default resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Sectors of the region, the last one perhaps in part.
    pub sectors: u64,
    /// Bytes of the region, exact at a file's end.
    pub bytes: u64,
}

/// A job that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The caller's name for it.
    pub token: u64,
    /// What it came to.
    pub outcome: Outcome,
}

/// What a client is and has done so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The engine, and why this one.
    pub engine: Description,
    /// Pages of the pool.
    pub pages_total: u32,
    /// Pages that no sub-job holds.
    pub pages_free: u32,
    /// Jobs that are over.
    pub jobs: u64,
    /// Sub-jobs that are over.
    pub sub_jobs: u64,
    /// Bytes of the pieces that were cut.
    pub bytes: u64,
    /// Bytes that were made zero by the device or its file system.
    pub zero_offloaded_bytes: u64,
    /// Bytes that were made zero by writing zeros.
    pub zero_written_bytes: u64,
}

/// A client. Dropping it aborts its jobs and lets its thread end by itself; `close` lets them finish.
pub struct Client {
    post: Arc<Post>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Client {
    /// Starts the client's thread and, on it, sets its pages aside and creates its engine; returns when that has worked.
    /// `doorbell` is called on the client's thread whenever there is something new to take, and once more when the client
    /// has ended; it must not block.
    pub fn create(options: &ClientOptions, doorbell: Box<dyn Fn() + Send>) -> Result<Client, Error> {
        let checked = options.check()?;
        let post = Arc::new(Post::new(doorbell));
        let (report, reported) = mpsc::channel();
        let on_thread = Arc::clone(&post);
        let thread = thread::Builder::new().name("kcopyd".to_owned());
        let body = move || desk::run(&checked, &on_thread, &report);
        let thread = with_signals_blocked(|| thread.spawn(body)).map_err(|error| {
            let context = "the client's thread could not be started; is the limit on processes reached?";
            Error::system(error.raw_os_error().unwrap_or(libc::EAGAIN), "clone", context)
        })?;
        let started = reported.recv().unwrap_or_else(|_| Err(post::broken()));
        match started {
            Ok(()) => Ok(Client { post, thread: Some(thread) }),
            Err(error) => {
                // It reported its failure as the last thing it did; a panic of it was reported by the closed channel.
                let _ = thread.join();
                Err(error)
            }
        }
    }

    /// Checks a request and hands it to the client's thread. Every refusal is made here, before any I/O; after that, exactly
    /// one `Finished` with the request's token will be there to take (P1).
    pub fn submit(&self, request: JobRequest) -> Result<Accepted, Error> {
        self.post.refuse_if_closed()?;
        let plan = within_queues(current_plan(&request)?, &request);
        let accepted = Accepted { sectors: plan.sectors, bytes: plan.length_bytes };
        let source = request.source.map(|source| source.device);
        let destinations: SmallVec<[_; 1]> = request.destinations.into_iter().map(|to| to.device).collect();
        let (token, flags, progress) = (request.token, request.flags, request.progress);
        self.post.send(Command::Submit(Box::new(Submission { token, plan, source, destinations, flags, progress })))?;
        Ok(accepted)
    }

    /// Starts nothing more of this job; its outcome comes when its last request in flight has landed (P27). Does nothing if
    /// the job is over.
    pub fn abort(&self, token: u64) {
        // A client that has ended has no job to abort.
        let _ = self.post.send_always(Command::Abort(token));
    }

    /// Aborts every job.
    pub fn abort_all(&self) {
        // A client that has ended has no job to abort.
        let _ = self.post.send_always(Command::AbortAll);
    }

    /// Takes up to `at_most` finished jobs, in the order in which they finished.
    pub fn take_finished(&self, at_most: usize, into: &mut Vec<Finished>) {
        self.post.take_finished(at_most, into);
    }

    /// Makes the client forget a device as soon as none of its jobs uses it, and calls `done` when everything held for it,
    /// a slot in the ring's file table included, is released (P33). `done` runs on the client's thread, or at once if the
    /// client has ended; a client that breaks drops it uncalled. Until then no new job may name the device.
    pub fn release(&self, device: &Arc<Device>, done: Box<dyn FnOnce() + Send>) {
        let release = Box::new(Release { device: device.id(), done });
        if let Err(Command::Release(release)) = self.post.send_always(Command::Release(release)) {
            (release.done)();
        }
    }

    /// What the client is and has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.post.stats()
    }

    /// Refuses new jobs from now on; when the last one is over, releases the pages and everything else and ends the thread
    /// (`kcopyd_client_destroy`). Does not wait: the doorbell rings when `is_ended`.
    pub fn close(&self) {
        self.post.close();
    }

    /// Whether nothing of it is left: no thread that works, no descriptor, no page.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.post.is_ended()
    }

    /// For the end of the host: stops all jobs, closes, and waits at most so long for what is in flight. If that is not
    /// enough, the thread is left to itself, with memory that nobody else will ever use; then the answer is `Left::Behind`.
    pub fn end(mut self, deadline: Duration) -> Left {
        self.post.close();
        self.abort_all();
        if !self.post.wait_until_ended(deadline) {
            drop(self.thread.take());
            return Left::Behind;
        }
        if let Some(thread) = self.thread.take() {
            // Its panics were caught and reported; nothing is left to learn from it.
            let _ = thread.join();
        }
        Left::Nothing
    }
}

/// What `Client::end` has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// A thread that waits for a device that does not answer.
    Behind,
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.post.close();
            self.abort_all();
        }
    }
}

/// Pieces as the queues of a job's devices want them. A request that is split, and one for which a queue has no room, cannot be
/// submitted without blocking, and so the kernel would hand each one to a worker of its own; measured elsewhere at up to half the
/// throughput. Twice as many pieces as requests, because a piece is being read or being written; and few where a file grows.
fn within_queues(mut plan: Plan, request: &JobRequest) -> Plan {
    let devices = request.source.iter().chain(&request.destinations).map(|region| &region.device);
    for queue in devices.filter_map(|device| device.queue()) {
        plan.piece_bytes_max = plan.piece_bytes_max.min(queue.request_bytes_max);
        plan.pieces_max = queue.requests_max.map_or(plan.pieces_max, |most| plan.pieces_max.min(most.saturating_mul(2)));
    }
    if grows_a_file(&plan, request) {
        plan.pieces_max = plan.pieces_max.min(GROWING_FILE_SUB_JOBS);
    }
    plan
}

fn grows_a_file(plan: &Plan, request: &JobRequest) -> bool {
    plan.destinations.iter().zip(&request.destinations).any(|(to, region)| {
        let known = region.device.geometry();
        known.kind == DeviceKind::File && to.offset_bytes + plan.length_bytes > known.bytes
    })
}

/// A block device has another size than when it was opened after it was extended, which is rare: asking it costs a job of
/// 4 KiB a noticeable part of its time, so it is asked only where its size decides.
fn current_plan(request: &JobRequest) -> Result<Plan, Error> {
    match checked_plan(request) {
        Err(refusal) if refusal.kind == ErrorKind::Bounds => {
            request.source.iter().chain(&request.destinations).for_each(|region| _ = region.device.refresh());
            checked_plan(request)
        }
        other => other,
    }
}

/// A source as it is now. A file may have grown or shrunk since it was last looked at, by our own jobs too; and "to its end" is
/// to where a device ends now, or an extended one would be copied in part and called complete. How long a file is that is a
/// destination does not matter: it grows.
///
/// A region that ends well within a file needs no word of the file's server, which may not answer: the caller's thread, in Node
/// the whole program, would wait for it, and not this job alone. Should the file be shorter now, reading it fails.
fn current_geometry(region: &RegionRequest) -> Geometry {
    let Some(count) = region.count else { return region.device.refresh() };
    let known = region.device.glance();
    let ends_within = region.sector.saturating_add(count) < known.bytes / SECTOR_BYTES;
    if known.kind == DeviceKind::File && !ends_within { region.device.refresh() } else { known }
}

/// The checks that need the devices as they are now.
fn checked_plan(request: &JobRequest) -> Result<Plan, Error> {
    if let Some(source) = &request.source
        && !source.device.access().reads()
    {
        let text = "from.device was opened for writing only; open it with access 'read' or 'read-write'";
        return Err(Error::new(ErrorKind::Access, text).at_path(source.device.path()));
    }
    for (index, destination) in request.destinations.iter().enumerate() {
        if !destination.device.access().writes() {
            let text =
                format!("to[{index}].device was opened for reading only; open it with access 'write' or 'read-write'");
            return Err(Error::new(ErrorKind::Access, text).at_path(destination.device.path()).at_destination(index));
        }
    }
    let endpoint = |region: &RegionRequest, geometry| Endpoint { geometry, sector: region.sector, count: region.count };
    let destinations: SmallVec<[Endpoint; 2]> =
        request.destinations.iter().map(|region| endpoint(region, region.device.geometry())).collect();
    let source = request.source.as_ref().map(|region| endpoint(region, current_geometry(region)));
    plan(source.as_ref(), &destinations).map_err(|error| {
        let device = error.destination.map_or(request.source.as_ref(), |index| request.destinations.get(index));
        match device {
            Some(region) => error.at_path(region.device.path()),
            None => error,
        }
    })
}
