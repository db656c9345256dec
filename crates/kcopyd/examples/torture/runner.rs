//! A client whose completions can be waited for, one after the other.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kcopyd::client::{Client, ClientOptions, EngineChoice, Finished, JobFlags, JobRequest, Left, RegionRequest};
use kcopyd::engine::device::Device;
use kcopyd::error::Error;

const TAKEN_AT_ONCE: usize = 64;
/// No test makes a device wait as long as this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A region: a device and its first sector.
pub type Place = (Arc<Device>, u64);

pub struct Runner {
    client: Client,
    rung: Arc<(Mutex<u64>, Condvar)>,
    seen: u64,
    taken: VecDeque<Finished>,
}

impl Runner {
    pub fn new(engine: &str, pages: u32, sub_job_sectors: u64) -> Result<Runner, Error> {
        let engine = match engine {
            "io_uring" => EngineChoice::IoUring,
            "threads" => EngineChoice::Threads,
            "auto" => EngineChoice::Auto,
            other => panic!("no engine is called {other}"),
        };
        let rung: Arc<(Mutex<u64>, Condvar)> = Arc::default();
        let rings = Arc::clone(&rung);
        let doorbell = move || {
            *rings.0.lock().expect("nobody panics with the lock") += 1;
            rings.1.notify_all();
        };
        let sub_job_sectors = Some(sub_job_sectors);
        let options = ClientOptions { engine, pages: Some(pages), sub_job_sectors, ..ClientOptions::default() };
        let client = Client::create(&options, Box::new(doorbell))?;
        Ok(Runner { client, rung, seen: 0, taken: VecDeque::new() })
    }

    /// Submits a copy, or zeroes if there is no source. Only a client that has broken down refuses it.
    pub fn submit(
        &self,
        token: u64,
        source: Option<Place>,
        count: u64,
        destinations: Vec<Place>,
        flags: JobFlags,
    ) -> Result<(), Error> {
        let region = |(device, sector): Place| RegionRequest { device, sector, count: Some(count) };
        let destinations = destinations.into_iter().map(region).collect();
        let request = JobRequest { token, source: source.map(region), destinations, flags, progress: None };
        self.client.submit(request).map(drop)
    }

    /// Waits for a job to be over.
    pub fn next(&mut self) -> Finished {
        loop {
            if let Some(finished) = self.taken.pop_front() {
                return finished;
            }
            let mut finished = Vec::new();
            self.client.take_finished(TAKEN_AT_ONCE, &mut finished);
            if finished.is_empty() {
                let rings = self.rung.0.lock().expect("nobody panics with the lock");
                let seen = self.seen;
                let waited = self.rung.1.wait_timeout_while(rings, PATIENCE, |rings| *rings == seen);
                let (rings, timeout) = waited.expect("nobody panics with the lock");
                assert!(!timeout.timed_out(), "no job has ended for {PATIENCE:?}");
                self.seen = *rings;
            }
            self.taken.extend(finished);
        }
    }

    /// Ends it: the pool must be whole, and nothing may be left.
    pub fn end(self) {
        let stats = self.client.stats();
        assert_eq!(stats.pages_free, stats.pages_total, "P19: pages are missing");
        assert!(self.client.end(PATIENCE) == Left::Nothing, "the client has left something behind");
    }
}
