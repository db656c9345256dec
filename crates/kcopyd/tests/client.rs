//! The client's promises on real files and real threads, for every engine that runs here.

// The test helpers too: a test that unwraps fails with the line.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kcopyd::client::{Client, ClientOptions, EngineChoice, Finished, JobRequest, Left, RegionRequest};
use kcopyd::copy::job::{Flush, JobFlags};
use kcopyd::copy::outcome::{Ending, Outcome};
use kcopyd::engine::device::{Access, Create, Device, DeviceOptions};
use kcopyd::error::ErrorKind;

const LONG: Duration = Duration::from_secs(60);

/// A client whose finished jobs can be waited for.
struct Waiting {
    client: Client,
    rung: Arc<(Mutex<u64>, Condvar)>,
    rings: Arc<AtomicUsize>,
    finished: Vec<Finished>,
}

impl Waiting {
    fn new(engine: EngineChoice, pages: u32) -> Option<Self> {
        let rung = Arc::new((Mutex::new(0), Condvar::new()));
        let rings = Arc::new(AtomicUsize::new(0));
        let (on_thread, counted) = (Arc::clone(&rung), Arc::clone(&rings));
        let options = ClientOptions { pages: Some(pages), engine, ..ClientOptions::default() };
        let doorbell = move || {
            *on_thread.0.lock().unwrap() += 1;
            counted.fetch_add(1, Ordering::Relaxed);
            on_thread.1.notify_all();
        };
        match Client::create(&options, Box::new(doorbell)) {
            Ok(client) => Some(Waiting { client, rung, rings, finished: Vec::new() }),
            Err(error) if error.kind == ErrorKind::EngineUnavailable => {
                println!("skipped on {engine:?}: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn until(&mut self, jobs: usize) {
        while self.finished.len() < jobs {
            let before = *self.rung.0.lock().unwrap();
            self.client.take_finished(1000, &mut self.finished);
            if self.finished.len() >= jobs {
                return;
            }
            let rung = self.rung.0.lock().unwrap();
            let (_guard, waited) = self.rung.1.wait_timeout_while(rung, LONG, |rung| *rung == before).unwrap();
            assert!(!waited.timed_out(), "only {} of {jobs} jobs finished", self.finished.len());
        }
    }

    fn until_ended(&self) {
        let rung = self.rung.0.lock().unwrap();
        let ended = self.rung.1.wait_timeout_while(rung, LONG, |_| !self.client.is_ended()).unwrap();
        assert!(!ended.1.timed_out(), "the client does not end");
    }

    fn outcome(&self, token: u64) -> &Outcome {
        &self.finished.iter().find(|finished| finished.token == token).expect("it is over").outcome
    }
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Files { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self, bytes: usize) -> (Arc<Device>, Vec<u8>) {
        let contents: Vec<u8> = (0..bytes).map(|byte| (byte * 31 + byte / 512 * 7) as u8).collect();
        fs::write(self.path("source"), &contents).unwrap();
        (Arc::new(Device::open(&self.path("source"), &DeviceOptions::default()).unwrap()), contents)
    }

    fn destination(&self, name: &str) -> Arc<Device> {
        let options = DeviceOptions { access: Access::Write, create: Create::Yes, ..DeviceOptions::default() };
        Arc::new(Device::open(&self.path(name), &options).unwrap())
    }

    fn contents(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

fn region(device: &Arc<Device>, sector: u64, count: Option<u64>) -> RegionRequest {
    RegionRequest { device: Arc::clone(device), sector, count }
}

fn copy(token: u64, from: RegionRequest, to: Vec<RegionRequest>) -> JobRequest {
    JobRequest { token, source: Some(from), destinations: to, flags: JobFlags::default(), progress: None }
}

fn on_every_engine(pages: u32, run: impl Fn(Waiting)) {
    for engine in [EngineChoice::IoUring, EngineChoice::Threads] {
        if let Some(client) = Waiting::new(engine, pages) {
            run(client);
        }
    }
}

#[test]
fn p5_files_of_every_length_arrive_exactly() {
    on_every_engine(256, |mut client| {
        for bytes in [1, 511, 512, 4095, 4096, 4097, 524_288, 524_289, 3_000_001] {
            let files = Files::new();
            let (source, contents) = files.source(bytes);
            let (first, second) = (files.destination("first"), files.destination("second"));
            let to = vec![region(&first, 0, None), region(&second, 3, None)];
            let mut request = copy(bytes as u64, region(&source, 0, None), to);
            request.flags.flush = Flush::Yes;
            let accepted = client.client.submit(request).unwrap();
            assert_eq!(accepted.bytes, bytes as u64);
            let finished = client.finished.len() + 1;
            client.until(finished);
            assert!(client.outcome(bytes as u64).is_success(), "{:?}", client.outcome(bytes as u64));
            assert!(files.contents("first") == contents, "{bytes} bytes");
            assert!(files.contents("second")[3 * 512..] == contents[..], "{bytes} bytes at sector 3");
        }
    });
}

#[test]
fn p1_every_one_of_many_jobs_finishes_once() {
    on_every_engine(64, |mut client| {
        let files = Files::new();
        let (source, contents) = files.source(1 << 20);
        let to = files.destination("to");
        for token in 0..2000 {
            let sector = token % 256 * 8;
            client.client.submit(copy(token, region(&source, sector, Some(8)), vec![region(&to, sector, None)])).unwrap();
        }
        client.until(2000);
        let mut tokens: Vec<u64> = client.finished.iter().map(|finished| finished.token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..2000).collect::<Vec<_>>());
        assert!(client.finished.iter().all(|finished| finished.outcome.is_success()));
        assert!(files.contents("to") == contents);
        assert!(client.rings.load(Ordering::Relaxed) >= 1);
        assert_eq!(client.client.stats().pages_free, 64);
        assert_eq!(client.client.stats().jobs, 2000);
    });
}

#[test]
fn p11_and_p24_refusals_are_immediate_and_a_closed_client_refuses() {
    on_every_engine(16, |client| {
        let files = Files::new();
        let (source, _) = files.source(4096);
        let to = files.destination("to");
        let refused = |request| client.client.submit(request).unwrap_err().kind;
        let past_the_end = copy(1, region(&source, 9, None), vec![region(&to, 0, None)]);
        assert_eq!(refused(past_the_end), ErrorKind::Bounds);
        assert_eq!(refused(copy(1, region(&to, 0, None), vec![region(&to, 0, None)])), ErrorKind::Access);
        assert_eq!(refused(copy(1, region(&source, 0, None), vec![region(&source, 0, None)])), ErrorKind::Access);
        assert_eq!(refused(copy(1, region(&source, 0, None), vec![])), ErrorKind::OutOfRange);
        client.client.close();
        let late = copy(1, region(&source, 0, None), vec![region(&to, 0, None)]);
        assert_eq!(refused(late), ErrorKind::Closed);
        client.until_ended();
        assert_eq!(client.client.end(LONG), Left::Nothing);
    });
}

#[test]
fn p24_close_waits_for_all_jobs_and_leaves_no_descriptor_and_no_thread() {
    on_every_engine(16, |mut client| {
        let files = Files::new();
        let (source, contents) = files.source(4 << 20);
        let to = files.destination("to");
        for token in 0..8 {
            let sector = token * 1024;
            client.client.submit(copy(token, region(&source, sector, Some(1024)), vec![region(&to, sector, None)])).unwrap();
        }
        client.client.close();
        client.until_ended();
        client.until(8);
        assert!(files.contents("to") == contents);
        assert_eq!((Arc::strong_count(&source), Arc::strong_count(&to)), (1, 1), "the client holds no device any more");
    });
}

#[test]
fn p27_an_abort_settles_and_says_how_far_it_came() {
    on_every_engine(16, |mut client| {
        let files = Files::new();
        let (source, contents) = files.source(64 << 20);
        let to = files.destination("to");
        client.client.submit(copy(1, region(&source, 0, None), vec![region(&to, 0, None)])).unwrap();
        client.client.abort(1);
        client.until(1);
        let outcome = client.outcome(1);
        assert_eq!((outcome.ending, outcome.is_success()), (Ending::Aborted, false));
        let known = outcome.prefix_bytes as usize;
        assert!(files.contents("to")[..known] == contents[..known]);
    });
}

#[test]
fn p32_a_panic_inside_fails_every_job_and_the_process_lives() {
    on_every_engine(16, |mut client| {
        let files = Files::new();
        let (source, _) = files.source(32 << 20);
        let to = files.destination("to");
        let request = |token, sector| copy(token, region(&source, sector, Some(1024)), vec![region(&to, sector, None)]);
        for token in [1, 2, 3, 4] {
            client.client.submit(request(token, token * 2048)).unwrap();
        }
        // The same token twice at once is a bug of the caller's, on which the scheduler asserts.
        let again = client.client.submit(request(4, 20_000));
        let refused_or_finished = if again.is_ok() { 5 } else { 4 };
        client.until(4);
        client.until_ended();
        client.client.take_finished(10, &mut client.finished);
        assert!((4..=refused_or_finished).contains(&client.finished.len()), "{:?}", client.finished);
        for finished in &client.finished {
            assert!(finished.outcome.is_success() || finished.outcome.ending == Ending::Poisoned);
        }
        if again.is_ok() {
            assert_eq!(client.client.submit(request(9, 0)).unwrap_err().kind, ErrorKind::Internal);
        }
    });
}

#[test]
fn p33_a_released_device_is_forgotten() {
    on_every_engine(16, |mut client| {
        let files = Files::new();
        let (source, _) = files.source(1 << 20);
        let to = files.destination("to");
        client.client.submit(copy(1, region(&source, 0, None), vec![region(&to, 0, None)])).unwrap();
        client.until(1);
        let done = Arc::new((Mutex::new(0), Condvar::new()));
        for device in [&source, &to] {
            let done = Arc::clone(&done);
            client.client.release(
                device,
                Box::new(move || {
                    *done.0.lock().unwrap() += 1;
                    done.1.notify_all();
                }),
            );
        }
        let waited = done.1.wait_timeout_while(done.0.lock().unwrap(), LONG, |done| *done < 2).unwrap();
        assert!(!waited.1.timed_out());
        assert_eq!((Arc::strong_count(&source), Arc::strong_count(&to)), (1, 1));
    });
}

#[test]
fn p33_a_device_in_use_is_forgotten_after_its_last_job() {
    on_every_engine(1, |mut client| {
        let files = Files::new();
        let (source, contents) = files.source(1 << 20);
        let to = files.destination("to");
        client.client.submit(copy(1, region(&source, 0, None), vec![region(&to, 0, None)])).unwrap();
        let (say, said) = std::sync::mpsc::channel();
        let (held, path) = (Arc::downgrade(&to), files.path("to"));
        let look = move || say.send((held.strong_count(), fs::read(path).unwrap())).unwrap();
        client.client.release(&to, Box::new(look));
        drop(to);
        let (holders, written) = said.recv_timeout(LONG).unwrap();
        assert_eq!(holders, 0, "released and still held");
        assert!(written == contents, "released before the job was over");
        client.until(1);
        assert!(client.outcome(1).is_success());
    });
}

#[test]
fn no_request_is_longer_than_the_devices_queue_takes_whole() {
    on_every_engine(1024, |mut client| {
        let files = Files::new();
        let Some(disk) = support::LoopDevice::new(files.folder.path(), 8 << 20, 512) else { return };
        let queue = format!("/sys/block/{}/queue/max_sectors_kb", disk.path().file_name().unwrap().to_str().unwrap());
        fs::write(&queue, "64").unwrap();
        let (source, contents) = files.source(8 << 20);
        let options = DeviceOptions { access: Access::Write, ..DeviceOptions::default() };
        let to = Arc::new(Device::open(disk.path(), &options).unwrap());
        client.client.submit(copy(1, region(&source, 0, None), vec![region(&to, 0, None)])).unwrap();
        client.until(1);
        assert!(client.outcome(1).is_success());
        assert_eq!(client.client.stats().sub_jobs, (8 << 20) / (64 << 10));
        assert!(fs::read(disk.path()).unwrap() == contents);
        client.client.close();
        client.until_ended();
        fs::write(&queue, "1280").unwrap();
    });
}
