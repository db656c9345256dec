//! The doorbell of one client: a weak threadsafe function without a payload, so that nothing can be lost in its queue. It
//! knows no completions: they stay in the core's queue until JavaScript drains them.
//!
//! The protocol is the core's (`kcopyd::client::doorbell`), where loom tries every order of it. A visit, on the JavaScript
//! thread, disarms first and drains afterwards.

use kcopyd::client::doorbell;
use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue};
use napi::{Env, Status, sys};

/// Arguments and result of the JavaScript function that is rung: none.
pub type JsDoorbell<'scope> = Function<'scope, (), UnknownReturnValue>;

type Bell = ThreadsafeFunction<(), UnknownReturnValue, (), Status, false, true, 0>;

/// Whether the doorbell keeps the event loop alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It does.
    Alive,
    /// It does not.
    LetGo,
}

/// Rung from the client's thread, answered on the JavaScript thread. Once it is disconnected no thread is inside Node, and none
/// will enter it any more.
#[derive(Default)]
pub struct Doorbell(doorbell::Doorbell<Bell>);

impl Doorbell {
    /// Puts the bell in. `visit` runs on the JavaScript thread before `function` at each ring; it must not panic.
    pub fn connect(&self, function: &JsDoorbell<'_>, visit: impl Fn(Env) + 'static) -> napi::Result<()> {
        let bell = function.build_threadsafe_function::<()>().callee_handled::<false>().weak::<true>().build_callback(
            move |context| {
                visit(context.env);
                Ok(())
            },
        )?;
        self.0.connect(bell);
        Ok(())
    }

    /// Calls JavaScript soon, unless it has been called and has not come yet. From any thread; never blocks on JavaScript.
    pub fn ring(&self) {
        self.0.ring(|bell| {
            // The only refusal is that the environment is closing: then nobody listens any more.
            let _ = bell.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
    }

    /// The visit begins: whoever pushes from now on rings again.
    pub fn disarm(&self) {
        self.0.disarm();
    }

    /// Makes the event loop wait for rings, or not. On the JavaScript thread only.
    pub fn hold(&self, env: Env, hold: Hold) {
        let change = match hold {
            Hold::Alive => sys::napi_ref_threadsafe_function,
            Hold::LetGo => sys::napi_unref_threadsafe_function,
        };
        self.0.with(|bell| {
            // SAFETY: this is the thread of `env`, and the function lives: it is released by dropping what the lock holds.
            let _ = unsafe { change(env.raw(), bell.raw()) };
        });
    }

    /// Takes the bell out and releases it. On the JavaScript thread only; afterwards the doorbell is silent.
    pub fn disconnect(&self) {
        drop(self.0.disconnect());
    }
}
