//! Every order in which two ringers and the ring's thread can meet at the waker, tried by loom: `npm run test:memory -- threads`.

use crate::engine::uring::waker::{Heard, State, Strike};
use crate::sync::{Condvar, Mutex};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the eventfd does: a wait lasts until it has been struck.
struct Eventfd(Mutex<u64>, Condvar);

impl Eventfd {
    fn strike(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_one();
    }

    fn wait(&self) {
        let mut count = self.0.lock().unwrap();
        while *count == 0 {
            count = self.1.wait(count).unwrap();
        }
        *count = 0;
    }
}

#[test]
fn no_ring_is_lost_and_what_was_done_before_it_is_seen() {
    loom::model(|| {
        let bell = Arc::new((State::running(), Eventfd(Mutex::new(0), Condvar::new())));
        // Relaxed: only the bell's own ordering makes what was done before a ring visible after it.
        let done = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        for ringer in 0..2 {
            let (bell, done) = (Arc::clone(&bell), Arc::clone(&done));
            loom::thread::spawn(move || {
                done[ringer].store(1, Relaxed);
                if bell.0.ring() == Strike::Needed {
                    bell.1.strike();
                }
            });
        }
        // As the ring's thread does: look at what there is to do, park unless somebody has rung, wait, unpark. If a ring
        // were lost, or what came before it not seen, it would wait for ever, which loom tells.
        while done.iter().map(|done| done.load(Relaxed)).sum::<usize>() < 2 {
            if bell.0.park() == Heard::Nothing {
                bell.1.wait();
                bell.0.unpark();
            }
        }
    });
}
