//! The doorbell's protocol, whatever the bell is: the client's thread pushes into its queue and then rings; only the first ring
//! since the last visit calls. A visit disarms first and drains afterwards, so that a ring is never lost: whatever was pushed
//! before a ring that was swallowed is there when the visit that swallowed it drains. It knows no completions, and no JavaScript.

use std::sync::PoisonError;

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A bell that can be taken away, and whether it has been rung.
pub struct Doorbell<Bell> {
    armed: AtomicBool,
    /// The lock is held while ringing, so after `disconnect` no thread is at the bell and none will touch it any more.
    bell: Mutex<Option<Bell>>,
}

impl<Bell> Default for Doorbell<Bell> {
    fn default() -> Self {
        Doorbell { armed: AtomicBool::new(false), bell: Mutex::new(None) }
    }
}

impl<Bell> Doorbell<Bell> {
    fn bell(&self) -> MutexGuard<'_, Option<Bell>> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a bell in.
    pub fn connect(&self, bell: Bell) {
        *self.bell() = Some(bell);
    }

    /// Calls, unless it has been called and the visit has not come yet. From any thread.
    pub fn ring(&self, call: impl FnOnce(&Bell)) {
        if self.armed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.with(call);
    }

    /// The visit begins: whoever pushes from now on rings again. It is a swap, not a store, so that it sees what was pushed
    /// before a ring that it swallows.
    pub fn disarm(&self) {
        self.armed.swap(false, Ordering::AcqRel);
    }

    /// Does something else with the bell, if it is there.
    pub fn with(&self, act: impl FnOnce(&Bell)) {
        if let Some(bell) = &*self.bell() {
            act(bell);
        }
    }

    /// Takes the bell out; afterwards the doorbell is silent.
    pub fn disconnect(&self) -> Option<Bell> {
        self.bell().take()
    }
}
