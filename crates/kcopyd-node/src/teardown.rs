//! What a client leaves behind and who cleans it up: the usual end on the JavaScript thread, and the end of the environment
//! (a worker terminated, the process exiting) in the middle of jobs. It knows no jobs and no completions.
//!
//! At the end of an environment Node runs the cleanup hooks in reverse order and frees every threadsafe function from a
//! hook of its own. So each client's hook is added after its doorbell was made and runs before that. It silences the
//! doorbell under its lock, aborts, and waits for the thread, 5 s at most for everything that the environment leaves. A
//! thread that is still waiting for a device then is left alone: it holds its memory, and nothing that it can reach belongs
//! to Node any more.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kcopyd::client::Client;
use napi::{Env, sys};

use crate::closing::Closings;
use crate::data::NativeStats;
use crate::doorbell::{Doorbell, JsDoorbell};

/// How long the end of an environment waits for devices, all hooks together (P24).
const TEARDOWN: Duration = Duration::from_secs(5);

thread_local! {
    /// The clients of this thread's environment whose threads have not ended.
    static ALIVE: RefCell<Vec<Arc<Resident>>> = const { RefCell::new(Vec::new()) };
    /// When this environment's teardown stops waiting; set by the first hook.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The part of a client that outlives its JavaScript object: until its thread has ended, or the environment has.
pub struct Resident {
    /// Names the client in this process.
    pub id: u64,
    /// Rung by the client's thread.
    pub doorbell: Arc<Doorbell>,
    /// Devices that this client is about to forget.
    pub closings: Closings,
    /// Whether the JavaScript object is gone, so that nobody drains any more.
    is_abandoned: AtomicBool,
    core: Mutex<Option<Client>>,
    last_stats: Mutex<Option<NativeStats>>,
}

impl Resident {
    /// Moves in: on the JavaScript thread, before the client exists. The doorbell is made first and the hook after it.
    pub fn settle_in(env: Env, id: u64, function: &JsDoorbell<'_>) -> napi::Result<Arc<Resident>> {
        let doorbell = Arc::new(Doorbell::default());
        let resident = Arc::new(Resident {
            id,
            closings: Closings::new(&doorbell),
            doorbell,
            is_abandoned: AtomicBool::new(false),
            core: Mutex::default(),
            last_stats: Mutex::default(),
        });
        let visitor = Arc::downgrade(&resident);
        resident.doorbell.connect(function, move |env| {
            // A panic must not unwind into Node; what it broke shows when JavaScript drains.
            let _ = catch_unwind(AssertUnwindSafe(|| visitor.upgrade().map(|resident| resident.visit(env))));
        })?;
        let argument = Arc::into_raw(Arc::clone(&resident)).cast_mut().cast::<c_void>();
        // SAFETY: this is the thread of `env`; the argument is a reference of its own, taken back by the hook or by `retire`.
        let status = unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(tear_down), argument) };
        if status != sys::Status::napi_ok {
            // SAFETY: the hook was not added, so nobody else takes the reference back.
            drop(unsafe { Arc::from_raw(argument.cast_const().cast::<Resident>()) });
            return Err(napi::Error::new(status.into(), "no cleanup hook could be added"));
        }
        // Another environment may have ended on this thread before.
        DEADLINE.set(None);
        ALIVE.with_borrow_mut(|alive| alive.push(Arc::clone(&resident)));
        Ok(resident)
    }

    /// The client, once it exists and until its thread has ended.
    pub fn core(&self) -> MutexGuard<'_, Option<Client>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client counted, also after its end.
    pub fn stats(&self) -> Option<NativeStats> {
        let now = self.core().as_ref().map(|core| NativeStats::from(core.stats()));
        now.or_else(|| self.last_stats.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// What a ring does before it reaches JavaScript.
    fn visit(&self, env: Env) {
        self.doorbell.disarm();
        self.closings.visit(env);
        let is_over = self.is_abandoned.load(Ordering::Relaxed) && self.core().as_ref().is_some_and(Client::is_ended);
        if is_over {
            self.retire(env);
        }
    }

    /// Nobody will drain, submit or close any more. On the JavaScript thread; never waits.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
        if let Some(core) = &*self.core() {
            core.close();
            // It may have ended and rung before, when somebody could still have drained.
            self.doorbell.ring();
        }
    }

    /// The end of a client whose thread has released everything, or that was never made: nothing of it remains. On the
    /// JavaScript thread; the second time it does nothing.
    pub fn retire(&self, env: Env) {
        let is_alive = ALIVE.with_borrow_mut(|alive| {
            let before = alive.len();
            alive.retain(|other| other.id != self.id);
            before > alive.len()
        });
        if !is_alive {
            return;
        }
        *self.last_stats.lock().unwrap_or_else(PoisonError::into_inner) = self.stats();
        let core = self.core().take();
        if let Some(core) = core {
            // It has nothing left to do but to return from its last function.
            core.end(TEARDOWN);
        }
        self.closings.visit(env);
        self.doorbell.disconnect();
        let argument = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: this is the thread of `env`; the hook was added with this very pair by `settle_in`.
        let status = unsafe { sys::napi_remove_env_cleanup_hook(env.raw(), Some(tear_down), argument) };
        if status == sys::Status::napi_ok {
            // SAFETY: the hook's own reference, which the hook will not take back any more. The caller holds another.
            drop(unsafe { Arc::from_raw(argument.cast_const().cast::<Resident>()) });
        }
    }
}

/// The client with this id, if it has not ended and is of this environment.
pub fn alive_with_id(id: u64) -> Option<Arc<Resident>> {
    ALIVE.with_borrow(|alive| alive.iter().find(|resident| resident.id == id).cloned())
}

/// The environment ends before the client has: see the module's page.
unsafe extern "C" fn tear_down(argument: *mut c_void) {
    // SAFETY: the reference that `settle_in` made for this hook; Node runs a hook once, and `retire` removes it first.
    let resident = unsafe { Arc::from_raw(argument.cast_const().cast::<Resident>()) };
    // A panic here has nobody to tell: the environment is gone. Unwinding into Node would abort the process.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let patience = patience();
        resident.doorbell.disconnect();
        let core = resident.core().take();
        if let Some(core) = core {
            core.end(patience);
        }
    }));
}

/// How long a hook may still wait; the first one of an environment aborts all jobs.
pub fn patience() -> Duration {
    let deadline = DEADLINE.get().unwrap_or_else(|| {
        abort_everyone();
        Instant::now() + TEARDOWN
    });
    DEADLINE.set(Some(deadline));
    deadline.saturating_duration_since(Instant::now())
}

/// The clients' devices are waited for at the same time, not one after the other.
fn abort_everyone() {
    for resident in ALIVE.take() {
        if let Some(core) = &*resident.core() {
            core.abort_all();
            core.close();
        }
    }
}
