//! Every order in which callers, the client's thread and the JavaScript thread can meet at the post and the doorbell. Loom runs
//! each test once for each order, and tells when one ends in threads that all wait. Nothing here is a model of the post: only
//! what it is used by is.

use std::collections::VecDeque;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::thread;
use smallvec::SmallVec;

use super::desk::finish_leftovers;
use super::doorbell::Doorbell;
use super::post::{Command, More, Post, Release, Submission};
use super::{Finished, JobFlags};
use crate::copy::job::{Flush, OnError, WriteOrder};
use crate::copy::outcome::Outcome;
use crate::copy::request::{Cut, Plan};
use crate::sync::{Condvar, Mutex};

/// Something that is waited for, and stays true until it has been.
#[derive(Default)]
struct Signal(Mutex<bool>, Condvar);

impl Signal {
    fn new() -> Arc<Signal> {
        Arc::new(Signal(Mutex::new(false), Condvar::new()))
    }

    fn give(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }

    fn wait(&self) {
        let mut given = self.0.lock().unwrap();
        while !*given {
            given = self.1.wait(given).unwrap();
        }
        *given = false;
    }
}

fn silent() -> Arc<Post> {
    Arc::new(Post::new(Box::new(|| {})))
}

fn finished(token: u64) -> Finished {
    Finished { token, outcome: Outcome::not_begun(512, 1, libc::EIO) }
}

fn submission(token: u64) -> Command {
    let cut = Cut { alignment_bytes: 1, phase_bytes: 0 };
    let (destinations, source_offset_bytes) = (SmallVec::new(), 0);
    let plan =
        Plan { length_bytes: 512, sectors: 1, source_offset_bytes, cut, piece_bytes_max: 512, pieces_max: 16, destinations };
    let flags = JobFlags { on_error: OnError::Stop, order: WriteOrder::Any, flush: Flush::No };
    let destinations = SmallVec::new();
    Command::Submit(Box::new(Submission { token, plan, source: None, destinations, flags, progress: None }))
}

/// The client's thread: takes commands until the client is closed, and then ends as the desk does. Jobs are over at once.
fn serve(post: &Post, bell: &Signal) {
    let (mut commands, mut done) = (VecDeque::new(), Vec::new());
    loop {
        let more = post.take_commands(&mut commands);
        for command in commands.drain(..) {
            match command {
                Command::Submit(submission) => done.push(finished(submission.token)),
                Command::Release(release) => (release.done)(),
                Command::Abort(_) | Command::AbortAll => {}
            }
        }
        post.deliver(&mut done);
        if more == More::OnlyLeftovers {
            break;
        }
        bell.wait();
    }
    finish_leftovers(post, &mut commands, &mut done);
}

fn with_waker(post: &Post) -> Arc<Signal> {
    let bell = Signal::new();
    let rung = Arc::clone(&bell);
    post.set_waker(std::sync::Arc::new(move || rung.give()));
    bell
}

fn taken(post: &Post) -> Vec<u64> {
    let mut taken = Vec::new();
    post.take_finished(usize::MAX, &mut taken);
    taken.into_iter().map(|finished| finished.token).collect()
}

/// What the binding has: a post whose doorbell is an event loop's.
struct Binding {
    post: Arc<Post>,
    doorbell: Arc<Doorbell<Arc<Signal>>>,
    event_loop: Arc<Signal>,
}

impl Binding {
    fn new() -> Self {
        let (doorbell, event_loop) = (Arc::new(Doorbell::default()), Signal::new());
        doorbell.connect(Arc::clone(&event_loop));
        let rung = Arc::clone(&doorbell);
        let post = Arc::new(Post::new(Box::new(move || rung.ring(|event_loop: &Arc<Signal>| event_loop.give()))));
        Binding { post, doorbell, event_loop }
    }

    /// One visit: what was drained, and whether the client had ended, which is asked first.
    fn visit(&self) -> (Vec<u64>, bool) {
        self.event_loop.wait();
        self.doorbell.disarm();
        let is_ended = self.post.is_ended();
        (taken(&self.post), is_ended)
    }
}

#[test]
fn p1_every_outcome_is_drained_whether_or_not_anything_comes_after_it() {
    loom::model(|| {
        let binding = Binding::new();
        let post = Arc::clone(&binding.post);
        let thread = thread::spawn(move || {
            post.deliver(&mut vec![finished(0)]);
            post.deliver(&mut vec![finished(1)]);
        });
        let mut drained = Vec::new();
        while drained.len() < 2 {
            drained.extend(binding.visit().0);
        }
        assert_eq!(drained, [0, 1]);
        thread.join().unwrap();
    });
}

#[test]
fn p1_every_outcome_is_drained_before_the_end_is_heard() {
    loom::model(|| {
        let binding = Binding::new();
        let post = Arc::clone(&binding.post);
        let thread = thread::spawn(move || {
            post.deliver(&mut vec![finished(0)]);
            post.end().unwrap();
        });
        let mut drained = Vec::new();
        loop {
            let (some, is_ended) = binding.visit();
            drained.extend(some);
            if is_ended {
                break;
            }
        }
        assert_eq!(drained, [0]);
        thread.join().unwrap();
    });
}

#[test]
fn p1_p24_a_job_sent_while_the_client_closes_is_refused_or_answered_once() {
    loom::model(|| {
        let post = silent();
        let bell = with_waker(&post);
        let (of_caller, of_closer) = (Arc::clone(&post), Arc::clone(&post));
        let caller = thread::spawn(move || of_caller.send(submission(7)).is_ok());
        let closer = thread::spawn(move || of_closer.close());
        serve(&post, &bell);
        let accepted = caller.join().unwrap();
        closer.join().unwrap();
        assert_eq!(taken(&post).len(), usize::from(accepted));
        assert!(post.is_ended());
        assert!(post.send(submission(8)).is_err());
    });
}

#[test]
fn p1_p32_a_job_sent_while_the_client_breaks_is_refused_or_answered_once() {
    loom::model(|| {
        let post = silent();
        let of_caller = Arc::clone(&post);
        let caller = thread::spawn(move || of_caller.send(submission(7)).is_ok());
        post.mark_broken();
        finish_leftovers(&post, &mut VecDeque::new(), &mut Vec::new());
        let accepted = caller.join().unwrap();
        assert_eq!(taken(&post).len(), usize::from(accepted));
    });
}

#[test]
fn p33_a_release_sent_while_the_client_ends_is_done_once() {
    loom::model(|| {
        let (post, done) = (silent(), Arc::new(AtomicUsize::new(0)));
        let bell = with_waker(&post);
        let (of_caller, counted) = (Arc::clone(&post), Arc::clone(&done));
        let caller = thread::spawn(move || {
            let count = Box::new(move || {
                counted.fetch_add(1, Relaxed);
            });
            let release = Command::Release(Box::new(Release { device: 1, done: count }));
            if let Err(Command::Release(release)) = of_caller.send_always(release) {
                (release.done)();
            }
        });
        let of_closer = Arc::clone(&post);
        let closer = thread::spawn(move || {
            of_closer.close();
            of_closer.wait_until_ended(std::time::Duration::from_secs(1000));
            assert!(of_closer.is_ended(), "whoever waits for the end hears of it");
        });
        serve(&post, &bell);
        caller.join().unwrap();
        closer.join().unwrap();
        assert_eq!(done.load(Relaxed), 1);
    });
}

#[test]
fn no_command_waits_for_ever_behind_another() {
    loom::model(|| {
        let post = silent();
        let bell = with_waker(&post);
        let callers = [1, 2].map(|token| {
            let post = Arc::clone(&post);
            thread::spawn(move || post.send(submission(token)).unwrap())
        });
        // The client stays open: only the waker tells the thread to look again.
        let (mut commands, mut seen) = (VecDeque::new(), 0);
        while seen < 2 {
            assert_eq!(post.take_commands(&mut commands), More::MayCome);
            seen += commands.drain(..).count();
            if seen < 2 {
                bell.wait();
            }
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}

#[test]
fn p25_nobody_is_at_the_bell_after_it_was_taken_away() {
    loom::model(|| {
        let (doorbell, alive) = (Arc::new(Doorbell::default()), Arc::new(AtomicBool::new(true)));
        doorbell.connect(Arc::clone(&alive));
        let of_thread = Arc::clone(&doorbell);
        let thread = thread::spawn(move || {
            for _ in 0..2 {
                of_thread.ring(|alive| assert!(alive.load(Relaxed), "the bell is Node's, and Node has gone"));
                of_thread.disarm();
            }
        });
        drop(doorbell.disconnect());
        alive.store(false, Relaxed);
        thread.join().unwrap();
    });
}
