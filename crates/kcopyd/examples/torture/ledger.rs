//! What every destination should hold, from one run to the next. Whatever a run has reported must be there; whatever it may have
//! begun is old or new, sector by sector; everything else is as it was.

use std::collections::HashMap;
use std::fs;

use super::plan::{DEPTH, SECTOR, Sizes, planned, range};
use super::target::{Target, open, unit_sectors};
use kcopyd::engine::device::Access;

/// What a subject has said of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Done,
    Failed,
}

/// The jobs of a run that said how they ended.
pub type Reports = HashMap<u64, Report>;

/// What a subject's output says.
pub fn reports(printed: &str) -> Reports {
    let report = |line: &str| match line.split_once(' ') {
        Some((job, "ok")) => (job.parse().expect("a job's number"), Report::Done),
        Some((job, "failed")) => (job.parse().expect("a job's number"), Report::Failed),
        _ => panic!("the subject said {line:?}"),
    };
    // A line that a kill has cut is none.
    let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
    whole.lines().map(report).collect()
}

pub struct Ledger {
    pub sizes: Sizes,
    pub targets: Vec<Target>,
    source: Vec<u8>,
    held: Vec<Vec<u8>>,
    /// Jobs that were not reported and have left bytes all the same.
    pub landed_unreported: u64,
}

impl Ledger {
    /// Begins with what is there.
    pub fn new(source: &str, targets: Vec<Target>) -> Ledger {
        let paths = targets.iter().map(|target| open(&target.path, Access::Read).expect("a destination can be read"));
        let devices: Vec<_> = paths.collect();
        let from = open(source.as_ref(), Access::Read).expect("the source can be read");
        let sizes = Sizes {
            source_sectors: from.geometry().bytes / 512,
            destination_sectors: devices[0].geometry().bytes / 512,
            destinations: devices.len(),
            unit_sectors: unit_sectors(&devices).max(unit_sectors(std::slice::from_ref(&from))),
        };
        let source = fs::read(source).expect("the source can be read");
        let held = targets.iter().map(Target::bytes).collect();
        Ledger { sizes, targets, source, held, landed_unreported: 0 }
    }

    /// Compares every byte with what a run of so many jobs may have left, and remembers what is there now.
    pub fn settle(&mut self, run: u64, jobs: u64, reports: &Reports) -> Result<(), String> {
        let begun = jobs.min(reports.len() as u64 + DEPTH);
        if let Some(job) = reports.keys().find(|job| **job >= begun) {
            return Err(format!("run {run} reports job {job}, which cannot have been submitted"));
        }
        for (index, target) in self.targets.iter().enumerate() {
            let found = target.bytes();
            let mut expected = std::mem::take(&mut self.held[index]);
            for job in 0..begun {
                let plan = planned(run, job, &self.sizes);
                let new = plan.bytes(&self.source);
                for &(_, sector) in plan.destinations.iter().filter(|(destination, _)| *destination == index) {
                    let place = range(sector, plan.count);
                    if reports.get(&job) == Some(&Report::Done) {
                        expected[place].copy_from_slice(&new);
                    } else {
                        let landed = take_new(&mut expected[place.clone()], &found[place], &new);
                        self.landed_unreported += u64::from(landed);
                    }
                }
            }
            if let Some(byte) = (0..found.len())
                .find(|&byte| found[byte] != expected[byte])
                .or_else(|| (found.len() != expected.len()).then_some(found.len().min(expected.len())))
            {
                return Err(self.explain(run, begun, index, (byte / SECTOR) as u64, reports));
            }
            self.held[index] = found;
        }
        Ok(())
    }

    fn explain(&self, run: u64, begun: u64, index: usize, sector: u64, reports: &Reports) -> String {
        let owner = (0..begun).find(|&job| {
            let plan = planned(run, job, &self.sizes);
            plan.destinations.iter().any(|&(to, first)| to == index && (first..first + plan.count).contains(&sector))
        });
        let path = self.targets[index].path.display();
        match owner {
            None => format!("P6, P28: run {run}: sector {sector} of {path} has changed and belongs to no job"),
            Some(job) => format!(
                "run {run}: sector {sector} of {path} is wrong; job {job} wrote there, reported: {:?}; {:?}",
                reports.get(&job),
                planned(run, job, &self.sizes)
            ),
        }
    }
}

/// Where a sector has the new bytes it may have them; whether there was one.
fn take_new(expected: &mut [u8], found: &[u8], new: &[u8]) -> bool {
    let mut landed = false;
    for ((expected, found), new) in expected.chunks_mut(SECTOR).zip(found.chunks(SECTOR)).zip(new.chunks(SECTOR)) {
        if found == new && expected != new {
            expected.copy_from_slice(new);
            landed = true;
        }
    }
    landed
}
