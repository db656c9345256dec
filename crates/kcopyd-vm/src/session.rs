//! A client of the real core that can be waited for. It knows nothing of the devices' faults.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kcopyd::client::{Client, ClientOptions, EngineChoice, Finished, JobFlags, JobRequest, Left, RegionRequest};
use kcopyd::copy::outcome::Outcome;
use kcopyd::engine::Kind;
use kcopyd::engine::device::{Access, Device, DeviceOptions};
use kcopyd::error::Error;

/// Small pieces, so that a small job has many: 64 KiB.
pub const PIECE_SECTORS: u64 = 128;
/// A small pool, because preparing and zeroing one takes its time in the guest; still more than two jobs have under way at once.
const PAGES: u32 = 512;
const LONG: Duration = Duration::from_secs(40);

/// Counts the doorbell's rings.
type Rung = Arc<(Mutex<u64>, Condvar)>;

/// A client, and what of its jobs is over.
pub struct Session {
    client: Client,
    rung: Rung,
    finished: Vec<Finished>,
    next_token: u64,
}

impl Session {
    /// A client on this engine, with small pieces.
    pub fn new(engine: EngineChoice) -> Session {
        Session::with(&ClientOptions { pages: Some(PAGES), sub_job_sectors: Some(PIECE_SECTORS), engine, throttle: None })
    }

    /// A client with these options.
    pub fn with(options: &ClientOptions) -> Session {
        let rung = Rung::default();
        let rings = Arc::clone(&rung);
        let doorbell = move || {
            *rings.0.lock().expect("nobody panics with the lock") += 1;
            rings.1.notify_all();
        };
        let client = Client::create(options, Box::new(doorbell)).expect("the client can be created");
        let wanted = if options.engine == EngineChoice::Threads { Kind::Threads } else { Kind::IoUring };
        assert_eq!(client.stats().engine.kind, wanted, "{:?}", client.stats().engine.reason);
        Session { client, rung, finished: Vec::new(), next_token: 1 }
    }

    /// The client itself.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Hands a job in; its token.
    pub fn submit(&mut self, job: &Job) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        let request = JobRequest {
            token,
            source: job.source.clone(),
            destinations: job.destinations.clone(),
            flags: job.flags,
            progress: None,
        };
        self.client.submit(request).unwrap_or_else(|error| panic!("the request is refused: {error}"));
        token
    }

    /// Waits for a job and takes what it came to. Also sees to it that no job ends twice.
    pub fn wait(&mut self, token: u64) -> Outcome {
        let began = Instant::now();
        while !self.is_over(token) {
            let left = LONG.checked_sub(began.elapsed());
            let left = left.unwrap_or_else(|| panic!("job {token} is not over after {} s", LONG.as_secs()));
            self.sleep(left.min(Duration::from_millis(100)));
        }
        let at = self.finished.iter().position(|finished| finished.token == token).expect("it is over");
        self.finished.swap_remove(at).outcome
    }

    /// Until the doorbell rings, or so long.
    fn sleep(&self, most: Duration) {
        let rings = self.rung.0.lock().expect("nobody panics with the lock");
        let seen = *rings;
        let _ = self.rung.1.wait_timeout_while(rings, most, |rings| *rings == seen).expect("nobody panics with the lock");
    }

    /// Whether a job is over and not yet waited for.
    pub fn is_over(&mut self, token: u64) -> bool {
        let known = self.finished.len();
        self.client.take_finished(1024, &mut self.finished);
        for new in known..self.finished.len() {
            let token = self.finished[new].token;
            assert!(!self.finished[..new].iter().any(|other| other.token == token), "P1: job {token} ends twice");
        }
        self.finished.iter().any(|finished| finished.token == token)
    }

    /// Carries a job out; afterwards every page is free again (P3).
    pub fn run(&mut self, job: &Job) -> Outcome {
        let token = self.submit(job);
        let outcome = self.wait(token);
        let stats = self.client.stats();
        assert_eq!(stats.pages_free, stats.pages_total, "P3: pages are free before the job completes");
        outcome
    }

    /// As the end of the host does it: waits only so long.
    pub fn end(self, deadline: Duration) -> Left {
        self.client.end(deadline)
    }

    /// Closes the client, which must end, with nothing left that was not taken.
    pub fn close(mut self) {
        self.client.close();
        let began = Instant::now();
        while !self.client.is_ended() {
            assert!(began.elapsed() < LONG, "P24: the client does not end");
            self.sleep(Duration::from_millis(20));
        }
        self.client.take_finished(1024, &mut self.finished);
        assert!(self.finished.is_empty(), "P1: outcomes that nobody asked for: {:?}", self.finished);
        assert!(self.client.end(Duration::from_secs(1)) == Left::Nothing, "P24: something is left");
    }
}

/// A job to be handed in.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to read; none for zeroes.
    pub source: Option<RegionRequest>,
    /// Where to write.
    pub destinations: Vec<RegionRequest>,
    /// How.
    pub flags: JobFlags,
}

impl Job {
    /// All of one device to the beginning of others.
    pub fn copy(source: &Arc<Device>, destinations: &[Arc<Device>], flags: JobFlags) -> Job {
        let whole = |device: &Arc<Device>| RegionRequest { device: Arc::clone(device), sector: 0, count: None };
        Job { source: Some(whole(source)), destinations: destinations.iter().map(whole).collect(), flags }
    }

    /// Some sectors of one device to the same place of others.
    pub fn part(source: &Arc<Device>, to: &[Arc<Device>], sector: u64, count: u64, flags: JobFlags) -> Job {
        let region = |device: &Arc<Device>, count| RegionRequest { device: Arc::clone(device), sector, count };
        let destinations = to.iter().map(|device| region(device, None)).collect();
        Job { source: Some(region(source, Some(count))), destinations, flags }
    }
}

/// Opens a device to read from.
pub fn open_source(path: &Path) -> Arc<Device> {
    open(path, Access::Read)
}

/// Opens a device to write to, exclusively.
pub fn open_destination(path: &Path) -> Arc<Device> {
    open(path, Access::Write)
}

/// The same where it may be refused.
pub fn try_open_destination(path: &Path) -> Result<Arc<Device>, Error> {
    let options = DeviceOptions { access: Access::Write, ..DeviceOptions::default() };
    Device::open(path, &options).map(Arc::new)
}

fn open(path: &Path, access: Access) -> Arc<Device> {
    let options = DeviceOptions { access, ..DeviceOptions::default() };
    Arc::new(Device::open(path, &options).unwrap_or_else(|error| panic!("the device can be opened: {error}")))
}

/// Waits until something is there.
pub fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
