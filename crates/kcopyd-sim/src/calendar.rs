//! Where the client stands otherwise: one scheduler and one engine, and in place of a thread and a clock a calendar of what the
//! caller does when. It decides nothing; the oracle looks over its shoulder.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use kcopyd::copy::chain::Completion;
use kcopyd::copy::job::{Job, JobParts};
use kcopyd::copy::progress::JobProgress;
use kcopyd::copy::request::{Endpoint as RequestEnd, Plan, plan};
use kcopyd::copy::scheduler::Scheduler;
use kcopyd::copy::throttle::{SharedThrottle, Throttle, ThrottleLimits};
use kcopyd::engine::{Engine, Wait};

use crate::engine::{Endpoint, Event, TagEngine};
use crate::fault::Bad;
use crate::oracle::requests::{Ruling, compare, ruling};
use crate::oracle::{Breach, Figures, JobEnd, Oracle, Submitted};
use crate::scenario::{DiskKind, JobSpec, Party, Place, Scenario};
use crate::wishes::{Command, Wishes};

/// A client looks at a throttle again after this time at the latest.
const THROTTLE_LOOK_NS: u64 = 100_000_000;

/// A run that takes more turns than this does not end.
const TURNS_MAX: u64 = 2_000_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first promise that was broken, if one was.
    pub breach: Option<Breach>,
    /// What was seen.
    pub figures: Figures,
    /// One number for everything that was seen.
    pub digest: u64,
    /// How many requests were started.
    pub requests: u64,
    /// How many turns the client took.
    pub turns: u64,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
}

/// Whether a run is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// It is.
    Kept,
    /// It is not.
    Off,
}

/// Runs a scenario to its end or to the first breach.
#[must_use]
pub fn run(scenario: &Scenario, trace: Trace) -> Report {
    let mut calendar = Calendar::new(scenario, trace);
    calendar.probe();
    while calendar.turn() {}
    Report {
        breach: calendar.oracle.breach().cloned(),
        figures: calendar.oracle.figures(),
        digest: calendar.oracle.digest(),
        requests: calendar.engine.started(),
        turns: calendar.turns,
        trace: calendar.lines,
    }
}

/// Whether the client takes jobs.
#[derive(Clone, Copy, PartialEq)]
enum Door {
    Open,
    Closed,
}

struct Calendar<'a> {
    scenario: &'a Scenario,
    scheduler: Scheduler,
    engine: TagEngine,
    oracle: Oracle,
    throttle: Option<SharedThrottle>,
    commands: BinaryHeap<Reverse<(u64, Command)>>,
    /// By token: the jobs that are submitted from its callback.
    followers: Vec<SmallVec<[u32; 1]>>,
    events: Vec<Event>,
    completions: Vec<Completion>,
    turns: u64,
    door: Door,
    trace: Trace,
    lines: Vec<String>,
}

impl<'a> Calendar<'a> {
    fn new(scenario: &'a Scenario, trace: Trace) -> Self {
        let throttle = (!scenario.throttle.is_empty())
            .then(|| SharedThrottle::new(Throttle::new(ThrottleLimits::default(), Duration::ZERO)));
        let Wishes { commands, followers } = Wishes::of(scenario);
        Calendar {
            scenario,
            scheduler: Scheduler::new(scenario.pages, scenario.sub_job_sectors, throttle.clone()),
            engine: TagEngine::new(scenario),
            oracle: Oracle::new(scenario),
            throttle,
            commands,
            followers,
            events: Vec::new(),
            completions: Vec::new(),
            turns: 0,
            door: Door::Open,
            trace,
            lines: Vec::new(),
        }
    }

    /// Has the requests judged that are judged only.
    fn probe(&mut self) {
        for probe in &self.scenario.probes {
            let (source, destinations) = (probe.source.as_ref(), &probe.destinations);
            if let Err(breach) = compare(&ruling(source, destinations), &plan(source, destinations)) {
                self.oracle.accuse(breach.promise, format!("{}: {probe:?}", breach.text));
            }
        }
    }

    fn at(&mut self, at_ns: u64, command: Command) {
        self.commands.push(Reverse((at_ns, command)));
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace == Trace::Kept {
            let line = line();
            self.lines.push(format!("{:>12} ns  {line}", self.engine.now_ns()));
        }
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.engine.now_ns())
    }

    /// One turn of the client; says whether there is another.
    fn turn(&mut self) -> bool {
        self.turns += 1;
        if self.scenario.abort_first_before_turn == Some(self.turns) {
            self.obey(Command::Abort(0));
        }
        if self.scenario.close_before_turn == Some(self.turns) {
            self.obey(Command::Close);
        }
        let now_ns = self.engine.now_ns();
        while let Some(Reverse((at_ns, command))) = self.commands.peek().copied()
            && at_ns <= now_ns
        {
            self.commands.pop();
            self.obey(command);
        }
        self.stage();
        self.take_outcomes();
        if self.oracle.breach().is_some() {
            return false;
        }
        // A closed client ends with its last job, whatever the caller still wanted.
        if self.scheduler.is_idle() && (self.commands.is_empty() || self.door == Door::Closed) {
            self.oracle.finished(self.scheduler.pool().free());
            return false;
        }
        if self.scenario.break_after_turn == Some(self.turns) {
            let unfinished = self.scheduler.unfinished().collect();
            self.oracle.broke(unfinished);
            return false;
        }
        if !self.wait() {
            return false;
        }
        self.settle();
        self.take_outcomes();
        self.oracle.breach().is_none()
    }

    fn stage(&mut self) {
        let (now, now_ns) = (self.now(), self.engine.now_ns());
        let mut no_room = false;
        while let Some(chain) = self.scheduler.next_chain(now) {
            let (room, tag, steps) = (self.oracle.has_room_for(&chain), chain.tag, chain.steps.len());
            if room {
                self.note(|| format!("{chain:?}"));
                self.oracle.staging(&chain, now_ns);
            }
            match self.engine.stage(chain) {
                Ok(()) if room && self.oracle.breach().is_none() => {}
                Ok(()) => {
                    self.oracle.accuse("rule 1", format!("{tag:?} was taken, but there was no room for it"));
                    return;
                }
                Err(chain) => {
                    if room || chain.tag != tag || chain.steps.len() != steps {
                        self.oracle
                            .accuse("rule 1", format!("{tag:?} was handed back, but not for want of room: {chain:?}"));
                        return;
                    }
                    self.scheduler.hand_back(&chain, now);
                    no_room = true;
                    break;
                }
            }
        }
        self.oracle.all_staged(self.scheduler.pool().free(), no_room);
    }

    /// Waits as the client does; nothing to wait for is a hang.
    fn wait(&mut self) -> bool {
        let throttled = self.scheduler.throttled_for();
        let command_ns = self.commands.peek().map(|Reverse((at_ns, _))| *at_ns);
        let looks_ns = throttled.map(|wait| {
            // At least a nanosecond, or time would stand still.
            self.engine.now_ns() + (wait.as_nanos() as u64).clamp(1, THROTTLE_LOOK_NS)
        });
        if self.engine.steps() == 0 && command_ns.is_none() && looks_ns.is_none() {
            self.oracle.accuse("P20", "jobs are left, but nothing is in flight and nothing is waited for".to_owned());
            return false;
        }
        if self.turns > TURNS_MAX {
            self.oracle.accuse("P20", format!("no end after {TURNS_MAX} turns"));
            return false;
        }
        let until_ns = [command_ns, looks_ns].into_iter().flatten().min();
        let wait = until_ns.map_or(Wait::UntilWoken, |at_ns| Wait::Until(self.engine.instant(at_ns)));
        let mut completions = mem::take(&mut self.completions);
        self.engine.submit_and_wait(wait, &mut completions);
        self.completions = completions;
        true
    }

    fn settle(&mut self) {
        let mut events = mem::take(&mut self.events);
        self.engine.take_events(&mut events);
        for event in events.drain(..) {
            if self.trace == Trace::Kept {
                self.lines.push(format!("{:>12} ns  {:?} {:?}", event.at_ns, event.happened, event.step));
            }
            self.oracle.saw(&event, self.engine.disks());
        }
        self.events = events;
        let now = self.now();
        for completion in self.completions.drain(..) {
            self.oracle.told(&completion);
            if self.oracle.breach().is_some() {
                return;
            }
            self.scheduler.settle(completion, now);
        }
    }

    fn take_outcomes(&mut self) {
        while self.oracle.breach().is_none()
            && let Some(ended) = self.scheduler.take_outcome()
        {
            self.note(|| format!("job {} has ended: {:?}", ended.token, ended.outcome));
            self.oracle.ended(&ended, self.scheduler.pool().free(), self.engine.disks());
            ended.devices.into_iter().for_each(|device| self.engine.detach(device));
            let now_ns = self.engine.now_ns();
            for follower in mem::take(&mut self.followers[ended.token as usize]) {
                self.at(now_ns, Command::Submit(follower as usize));
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let (now, now_ns) = (self.now(), self.engine.now_ns());
        match command {
            Command::Submit(_) => {}
            _ => self.note(|| format!("{command:?}")),
        }
        match command {
            Command::Heal => self.engine.heal(),
            Command::Close => self.door = Door::Closed,
            Command::Submit(_) if self.door == Door::Closed => {}
            Command::Submit(index) => self.submit(index),
            Command::Abort(index) => {
                self.oracle.aborted(index as u64);
                self.scheduler.abort(index as u64);
            }
            Command::AbortAll => {
                self.oracle.aborted_all();
                self.scheduler.abort_all();
            }
            Command::Throttle(index) => {
                let limits = self.scenario.throttle[index].1;
                self.oracle.throttled(limits, now_ns);
                if let Some(throttle) = &self.throttle {
                    throttle.lock().set(limits, now);
                }
            }
        }
        self.take_outcomes();
    }

    /// Submits a job, if it is one that must be accepted. If it was refused, whoever waited for its callback goes on.
    fn submit(&mut self, index: usize) {
        let spec = &self.scenario.jobs[index];
        let source = spec.source.map(|place| RequestEnd { count: spec.count, ..self.request_end(place) });
        let count = if spec.source.is_none() { spec.count } else { None };
        let destinations: SmallVec<[RequestEnd; 2]> =
            spec.destinations.iter().map(|&place| RequestEnd { count, ..self.request_end(place) }).collect();
        let (ruling, answer) = (ruling(source.as_ref(), &destinations), plan(source.as_ref(), &destinations));
        if let Err(breach) = compare(&ruling, &answer) {
            self.oracle.accuse(breach.promise, format!("job {index}: {}", breach.text));
            return;
        }
        let (Ruling::Accept { length, padded }, Ok(mut plan)) = (ruling, answer) else {
            let now_ns = self.engine.now_ns();
            for follower in mem::take(&mut self.followers[index]) {
                self.at(now_ns, Command::Submit(follower as usize));
            }
            return;
        };
        self.note(|| format!("job {index} is submitted: {spec:?}"));
        plan.piece_bytes_max = spec.piece_bytes_max.unwrap_or(u64::MAX);
        self.begin(index, &plan, length, &padded);
        if let Some(after_ns) = spec.abort_after_ns {
            self.at(self.engine.now_ns() + after_ns, Command::Abort(index));
        }
    }

    fn request_end(&self, place: Place) -> RequestEnd {
        let disk = &self.engine.disks()[place.disk];
        RequestEnd { geometry: disk.spec.geometry(place.disk, disk.bytes), sector: place.sector, count: None }
    }

    fn begin(&mut self, index: usize, plan: &Plan, length: u64, padded: &[u64]) {
        let spec = &self.scenario.jobs[index];
        let progress = spec.watched.then(|| Arc::new(JobProgress::new(spec.destinations.len())));
        let source = spec.source.map(|place| self.attach(index, spec, Party::Source, place));
        let ends: SmallVec<[JobEnd; 2]> = spec
            .destinations
            .iter()
            .enumerate()
            .map(|(number, &place)| self.attach(index, spec, Party::Destination(number as u8), place))
            .collect();
        let alignment = |end: &JobEnd| self.scenario.disks[end.disk].geometry(0, 0).direct_alignment_bytes;
        let parts = JobParts {
            token: index as u64,
            source: source.as_ref().map(|end| (end.device, alignment(end))),
            destinations: ends.iter().map(|end| (end.device, alignment(end))).collect(),
            flags: spec.flags,
            progress: progress.clone(),
        };
        let destinations = ends.into_iter().zip(padded.iter().copied()).collect();
        self.oracle.submitted(Submitted { token: index as u64, spec, length, source, destinations, progress });
        self.scheduler.submit(Box::new(Job::new(plan, parts)));
    }

    fn attach(&mut self, index: usize, spec: &JobSpec, party: Party, place: Place) -> JobEnd {
        let number = match party {
            Party::Source => 0,
            Party::Destination(number) => 1 + u64::from(number),
        };
        let offset = place.sector * 512;
        let bad = spec.bad.iter().filter(|bad| bad.party == party).map(|bad| {
            let range = offset + bad.sectors.start * 512..offset + bad.sectors.end * 512;
            Bad { range, errno: bad.errno, before: bad.before }
        });
        let seed = self.scenario.seed.wrapping_mul(0x9E37_79B9) ^ (index as u64) << 8 ^ number;
        let endpoint = Endpoint { disk: place.disk, seed, bad: bad.collect() };
        let device = self.engine.attach(&Arc::new(endpoint)).expect("this engine takes any device");
        let spec = &self.scenario.disks[place.disk];
        let (request_unit, two_ways) = (spec.request_unit_bytes(), spec.kind == DiskKind::DirectFile);
        let alignment = spec.geometry(0, 0).direct_alignment_bytes.into();
        JobEnd { disk: place.disk, device, offset, request_unit, two_ways, alignment }
    }
}
