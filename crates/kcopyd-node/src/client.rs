//! A client as JavaScript sees it: numbers in, numbers out, and an object only for a job that did not simply succeed. It
//! refuses to know promises, events and what a flag is good for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kcopyd::client::{Client, ClientOptions, Finished, Flush, JobFlags, JobRequest, OnError, RegionRequest, WriteOrder};
use kcopyd::copy::limits::{DESTINATIONS_MAX, SECTOR_BYTES};
use kcopyd::copy::outcome::{Ending, Outcome};
use kcopyd::copy::progress::JobProgress;
use kcopyd::error::{Error, ErrorKind};
use napi::bindgen_prelude::{AsyncTask, Either, Float64ArraySlice};
use napi::{Env, Task};
use napi_derive::napi;

use crate::data::{NativeClientOptions, NativeError, NativeOutcome, NativeStats, guarded, whole};
use crate::device;
use crate::doorbell::{Hold, JsDoorbell};
use crate::teardown::Resident;

/// Flags of a job; the first two are the kernel's.
const FLAG_IGNORE_ERROR: u64 = 2;
const FLAG_WRITE_SEQ: u64 = 4;
const FLAG_FLUSH: u64 = 256;
const FLAG_PROGRESS: u64 = 512;

/// The source handle that asks for zeroes; no device has it.
const ZEROES: f64 = 0.0;

/// Numbers of a request before its destinations: token, flags, source handle, sector, count, how many destinations.
const REQUEST_HEAD: usize = 6;
/// Numbers of a request for each destination: handle, sector, count.
const REQUEST_DESTINATION: usize = 3;
/// Numbers of a completion: token, readErr, writeErr, detail.
const RECORD: usize = 4;

/// Creates a client where that may take a while: it sets its pages aside.
pub struct CreateTask {
    resident: Arc<Resident>,
    options: ClientOptions,
}

impl Task for CreateTask {
    type Output = Result<(), Error>;
    type JsValue = Either<NativeClient, NativeError>;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let doorbell = Arc::clone(&self.resident.doorbell);
        let created = guarded(|| Client::create(&self.options, Box::new(move || doorbell.ring())));
        Ok(created.map(|client| *self.resident.core() = Some(client)))
    }

    fn resolve(&mut self, env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(match output {
            Ok(()) => Either::A(NativeClient { resident: Arc::clone(&self.resident), records: RefCell::default() }),
            Err(error) => {
                self.resident.retire(env);
                Either::B(error.into())
            }
        })
    }
}

/// Makes a client, on libuv's pool.
#[napi(catch_unwind)]
pub fn create_client(
    env: Env,
    options: NativeClientOptions<'_>,
    doorbell: JsDoorbell<'_>,
) -> napi::Result<AsyncTask<CreateTask>> {
    static IDS: AtomicU64 = AtomicU64::new(1);
    let options = ClientOptions {
        pages: Some(options.pages),
        sub_job_sectors: Some(u64::from(options.sub_job_sectors)),
        engine: options.engine.into(),
        throttle: options.throttle.map(|throttle| throttle.shared()),
    };
    let resident = Resident::settle_in(env, IDS.fetch_add(1, Ordering::Relaxed), &doorbell)?;
    Ok(AsyncTask::new(CreateTask { resident, options }))
}

/// A client.
#[napi]
pub struct NativeClient {
    resident: Arc<Resident>,
    records: RefCell<Records>,
}

/// What is kept of jobs on this side.
#[derive(Default)]
struct Records {
    /// Where completions are taken into, so that a drain allocates nothing.
    taken: Vec<Finished>,
    /// Outcomes that were announced with detail 1 and not fetched yet.
    outcomes: HashMap<u64, Outcome>,
    /// Counters of jobs with `FLAG_PROGRESS` that were not drained yet.
    progress: HashMap<u64, Arc<JobProgress>>,
}

#[napi]
impl NativeClient {
    /// Submits a job.
    #[napi(catch_unwind)]
    pub fn submit(&self, mut request: Float64ArraySlice<'_>) -> Option<NativeError> {
        // SAFETY: JavaScript runs on this thread, so nobody else reads or writes the array during this call.
        let numbers = unsafe { request.as_mut() };
        self.try_submit(numbers).err().map(NativeError::from)
    }

    /// Takes completions.
    #[napi(catch_unwind)]
    pub fn drain(&self, env: Env, mut into: Float64ArraySlice<'_>) -> u32 {
        // SAFETY: as in `submit`.
        let numbers = unsafe { into.as_mut() };
        self.drain_into(env, numbers) as u32
    }

    /// The outcome that a completion with detail 1 announced.
    #[napi(catch_unwind)]
    pub fn outcome(&self, token: f64) -> Option<NativeOutcome> {
        let outcome = self.records.borrow_mut().outcomes.remove(&(token as u64));
        outcome.as_ref().map(NativeOutcome::from)
    }

    /// Stops new sub-jobs of a job.
    #[napi(catch_unwind)]
    pub fn abort(&self, token: f64) {
        if let Some(core) = &*self.resident.core() {
            core.abort(token as u64);
        }
    }

    /// How far a job with `FLAG_PROGRESS` has come.
    #[napi(catch_unwind)]
    pub fn progress(&self, token: f64, mut into: Float64ArraySlice<'_>) -> bool {
        // SAFETY: as in `submit`.
        let numbers = unsafe { into.as_mut() };
        let records = self.records.borrow();
        let Some(progress) = records.progress.get(&(token as u64)) else { return false };
        // Sub-jobs begin on sectors: only the tail of a file ends within one, and that sector is done then.
        let sectors = |bytes: u64| bytes.div_ceil(SECTOR_BYTES) as f64;
        let Some((total, destinations)) = numbers.split_first_mut() else { return true };
        *total = sectors(progress.total_bytes());
        for (index, pair) in destinations.chunks_exact_mut(2).take(progress.destinations()).enumerate() {
            pair[0] = sectors(progress.destination_bytes(index));
            pair[1] = f64::from(u8::from(progress.failed(index)));
        }
        true
    }

    /// The counters, also after the end.
    #[napi(catch_unwind)]
    pub fn stats(&self) -> Option<NativeStats> {
        self.resident.stats()
    }

    /// The event loop waits for this client.
    #[napi(js_name = "ref", catch_unwind)]
    pub fn hold(&self, env: Env) {
        self.resident.closings.caller_wants(env, Hold::Alive);
    }

    /// It does not.
    #[napi(js_name = "unref", catch_unwind)]
    pub fn let_go(&self, env: Env) {
        self.resident.closings.caller_wants(env, Hold::LetGo);
    }

    /// No more jobs.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        if let Some(core) = &*self.resident.core() {
            core.close();
        }
    }
}

impl Drop for NativeClient {
    /// Collected: no more jobs can come. The thread ends after its last one, and its last ring cleans up.
    fn drop(&mut self) {
        self.resident.abandon();
    }
}

impl NativeClient {
    fn try_submit(&self, numbers: &mut [f64]) -> Result<(), Error> {
        let guard = self.resident.core();
        let core = guard.as_ref().ok_or_else(|| Error::new(ErrorKind::Closed, "the client is closed"))?;
        let request = self.parse(numbers)?;
        let (token, progress) = (request.token, request.progress.clone());
        let accepted = core.submit(request)?;
        if let Some(progress) = progress {
            self.records.borrow_mut().progress.insert(token, progress);
        }
        numbers[0] = accepted.sectors as f64;
        numbers[1] = accepted.bytes as f64;
        Ok(())
    }

    fn parse(&self, numbers: &[f64]) -> Result<JobRequest, Error> {
        let malformed = || Error::new(ErrorKind::InvalidArgType, "a bug in kcopyd: a malformed request; please report it");
        let (head, rest) = numbers.split_at_checked(REQUEST_HEAD).ok_or_else(malformed)?;
        let count = whole("to.length", head[5])? as usize;
        if count > DESTINATIONS_MAX || rest.len() < count * REQUEST_DESTINATION {
            return Err(malformed());
        }
        let flags = whole("flags", head[1])?;
        let source = if head[2] == ZEROES { None } else { Some(self.region("from", None, &head[2..5])?) };
        let destinations = rest[..count * REQUEST_DESTINATION].chunks_exact(REQUEST_DESTINATION).enumerate();
        let destinations = destinations.map(|(index, region)| self.region("to", Some(index), region));
        Ok(JobRequest {
            token: whole("token", head[0])?,
            source,
            destinations: destinations.collect::<Result<_, _>>()?,
            flags: JobFlags {
                on_error: if flags & FLAG_IGNORE_ERROR != 0 { OnError::Ignore } else { OnError::Stop },
                order: if flags & FLAG_WRITE_SEQ != 0 { WriteOrder::Sequential } else { WriteOrder::Any },
                flush: if flags & FLAG_FLUSH != 0 { Flush::Yes } else { Flush::No },
            },
            progress: (flags & FLAG_PROGRESS != 0).then(|| Arc::new(JobProgress::new(count))),
        })
    }

    /// A region from its three numbers: handle, sector, count or -1.
    fn region(&self, field: &str, destination: Option<usize>, numbers: &[f64]) -> Result<RegionRequest, Error> {
        let convert = || {
            let device = device::find(whole("device", numbers[0])?, self.resident.id);
            Ok(RegionRequest {
                device: device.ok_or_else(|| device::device_closed("device is closed"))?,
                sector: whole("sector", numbers[1])?,
                count: if numbers[2] == -1.0 { None } else { Some(whole("count", numbers[2])?) },
            })
        };
        convert().map_err(|error: Error| match destination {
            Some(index) => Error { context: format!("{field}[{index}].{}", error.context), ..error }.at_destination(index),
            None => Error { context: format!("{field}.{}", error.context), ..error },
        })
    }

    fn drain_into(&self, env: Env, numbers: &mut [f64]) -> usize {
        let at_most = numbers.len() / RECORD;
        let records = &mut *self.records.borrow_mut();
        let is_ended = match &*self.resident.core() {
            None => return 0,
            Some(core) => {
                // In this order: what finished before the end is there to take.
                let is_ended = core.is_ended();
                core.take_finished(at_most, &mut records.taken);
                is_ended
            }
        };
        let count = records.taken.len();
        let Records { taken, outcomes, progress } = records;
        for (record, Finished { token, outcome }) in numbers.chunks_exact_mut(RECORD).zip(taken.drain(..)) {
            let needs_detail = !outcome.is_success() || outcome.ending != Ending::Ran;
            let detail = f64::from(u8::from(needs_detail));
            record.copy_from_slice(&[token as f64, f64::from(outcome.read_errno), f64::from(outcome.write_errors), detail]);
            progress.remove(&token);
            if needs_detail {
                outcomes.insert(token, outcome);
            }
        }
        if !is_ended || count == at_most {
            return count;
        }
        numbers[count * RECORD..(count + 1) * RECORD].fill(0.0);
        self.resident.retire(env);
        count + 1
    }
}
