//! Signals are the host program's: a thread of ours that received one would run the host's handler on a stack it does not
//! expect, and its system calls would be interrupted. It knows masks and nothing else.

use std::mem::MaybeUninit;
use std::ptr;

/// Runs something with every signal blocked on this thread; a thread started inside is born that way and stays so.
pub fn with_signals_blocked<T>(run: impl FnOnce() -> T) -> T {
    let _restored_after = Blocked::all();
    run()
}

struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    fn all() -> Self {
        let mut every = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the set it is given, and pthread_sigmask the one that it returns the old mask in.
        let (answer, before) = unsafe {
            libc::sigfillset(every.as_mut_ptr());
            (libc::pthread_sigmask(libc::SIG_BLOCK, every.as_ptr(), before.as_mut_ptr()), before.assume_init())
        };
        assert_eq!(answer, 0, "a mask of all signals is valid");
        Blocked { before }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signals that this thread blocks, as the kernel says: bit 14 is SIGTERM (15).
    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("status shows the mask");
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    #[test]
    fn a_thread_started_inside_receives_no_signal_and_the_starter_does_again() {
        let before = blocked();
        let inside = with_signals_blocked(|| std::thread::spawn(blocked)).join().unwrap();
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGPROF, libc::SIGXFSZ, libc::SIGCHLD] {
            assert_ne!(inside & 1 << (signal - 1), 0, "signal {signal}");
        }
        assert_eq!(blocked(), before);
    }
}
