//! Closing a device that clients may still hold: every client that knows it is asked to forget it, and when the last one
//! has, its descriptors are closed on libuv's pool and the promise resolves. No thread waits meanwhile, so an environment
//! can end while a job of hours still uses the device. It knows no jobs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use kcopyd::engine::device::Device;
use kcopyd::error::{Error, ErrorKind};
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};
use napi::{Env, Task, check_status, sys};

use crate::data::{NativeError, guarded};
use crate::doorbell::{Doorbell, Hold};
use crate::teardown::Resident;

/// What closing a device comes to: nothing, or why it is not closed.
pub type Closed = Option<NativeError>;

thread_local! {
    /// Devices of this environment that clients have yet to forget, by ticket.
    static PENDING: RefCell<HashMap<u64, Pending>> = RefCell::default();
    static TICKETS: Cell<u64> = const { Cell::new(0) };
}

struct Pending {
    device: Arc<Device>,
    clients: usize,
    deferred: sys::napi_deferred,
}

/// Closes a device that no new job can reach any more, once the clients that know it have forgotten it.
pub fn close<'env>(
    env: &'env Env,
    device: Arc<Device>,
    clients: &[Arc<Resident>],
) -> napi::Result<PromiseRaw<'env, Closed>> {
    if clients.is_empty() {
        return Ok(env.spawn(CloseTask(Some(device)))?.promise_object());
    }
    let (mut deferred, mut promise) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: this is the thread of `env`; the deferred is resolved once, by `forget`.
    check_status!(unsafe { sys::napi_create_promise(env.raw(), &mut deferred, &mut promise) })?;
    let ticket = TICKETS.get() + 1;
    TICKETS.set(ticket);
    let pending = Pending { device: Arc::clone(&device), clients: clients.len(), deferred };
    PENDING.with_borrow_mut(|all| all.insert(ticket, pending));
    clients.iter().for_each(|client| client.closings.ask(*env, client, &device, ticket));
    Ok(PromiseRaw::new(env.raw(), promise))
}

/// One client has forgotten a device: the last one has it closed.
fn forget(env: Env, ticket: u64) -> napi::Result<()> {
    let last = PENDING.with_borrow_mut(|all| {
        let pending = all.get_mut(&ticket)?;
        pending.clients -= 1;
        if pending.clients == 0 { all.remove(&ticket) } else { None }
    });
    let Some(Pending { device, deferred, .. }) = last else { return Ok(()) };
    let promise = env.spawn(CloseTask(Some(device)))?.promise_object();
    // SAFETY: this is the thread of `env`, and the deferred has left the table: it is resolved once, with a promise.
    unsafe {
        let promise = PromiseRaw::to_napi_value(env.raw(), promise)?;
        check_status!(sys::napi_resolve_deferred(env.raw(), deferred, promise))
    }
}

/// One client's part in closing devices. The numbers are touched on the JavaScript thread only.
pub struct Closings {
    /// Tickets of devices that this client has forgotten and the JavaScript thread has not looked at yet.
    forgotten: Arc<Mutex<Vec<u64>>>,
    doorbell: Arc<Doorbell>,
    waiting: AtomicUsize,
    caller_holds: AtomicBool,
}

impl Closings {
    /// The part of the client with this doorbell.
    pub fn new(doorbell: &Arc<Doorbell>) -> Self {
        Closings {
            forgotten: Arc::default(),
            doorbell: Arc::clone(doorbell),
            waiting: AtomicUsize::new(0),
            caller_holds: AtomicBool::new(false),
        }
    }

    /// Whether the caller wants the event loop kept alive. A closing under way wants it too, like any pending `close`.
    pub fn caller_wants(&self, env: Env, hold: Hold) {
        self.caller_holds.store(hold == Hold::Alive, Relaxed);
        self.hold(env);
    }

    fn hold(&self, env: Env) {
        let alive = self.caller_holds.load(Relaxed) || self.waiting.load(Relaxed) > 0;
        self.doorbell.hold(env, if alive { Hold::Alive } else { Hold::LetGo });
    }

    fn ask(&self, env: Env, client: &Resident, device: &Arc<Device>, ticket: u64) {
        self.waiting.fetch_add(1, Relaxed);
        self.hold(env);
        let answer = Answer { ticket, forgotten: Arc::clone(&self.forgotten), doorbell: Arc::clone(&self.doorbell) };
        if let Some(core) = &*client.core() {
            core.release(device, Box::new(move || drop(answer)));
        }
    }

    /// Looks at what the client has forgotten. On the JavaScript thread.
    pub fn visit(&self, env: Env) {
        let tickets = std::mem::take(&mut *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner));
        if tickets.is_empty() {
            return;
        }
        self.waiting.fetch_sub(tickets.len(), Relaxed);
        self.hold(env);
        // The only refusal is that the environment is closing: then nobody waits for the promise any more.
        tickets.into_iter().for_each(|ticket| drop(forget(env, ticket)));
    }
}

/// Says that the client has forgotten a device, also when the client ends without saying so.
struct Answer {
    ticket: u64,
    forgotten: Arc<Mutex<Vec<u64>>>,
    doorbell: Arc<Doorbell>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).push(self.ticket);
        self.doorbell.ring();
    }
}

/// Closes descriptors where that may block.
struct CloseTask(Option<Arc<Device>>);

impl Task for CloseTask {
    type Output = Result<(), Error>;
    type JsValue = Closed;

    fn compute(&mut self) -> napi::Result<Self::Output> {
        let device = self.0.take();
        Ok(guarded(|| {
            let Some(device) = device else { return Ok(()) };
            let held = || Error::new(ErrorKind::Internal, "the device is still held by a client that said it had let it go");
            Arc::into_inner(device).ok_or_else(held)?.close()
        }))
    }

    fn resolve(&mut self, _env: Env, output: Self::Output) -> napi::Result<Self::JsValue> {
        Ok(output.err().map(NativeError::from))
    }
}
