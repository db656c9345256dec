//! The kernel's own kcopyd, seen through its only user with several destinations: dm-mirror, which brings its legs into step region by
//! region, each region one kcopyd job from the first leg to all others. It knows tables and what dm-mirror says of itself.

use std::path::PathBuf;

use crate::mapper::Mapped;
use crate::session::wait_for;

/// What dm-mirror says of itself when it has been through all regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Regions that are in step.
    pub in_step: u64,
    /// A letter for each leg: A for alive, S for one that failed while being brought into step.
    pub health: String,
}

/// A mirror that is being brought into step.
#[derive(Debug)]
pub struct Mirror {
    mapped: Mapped,
}

impl Mirror {
    /// Starts it: all regions of these legs, which are out of step. With `handle_errors` a failed region stays out of step, and the
    /// job is given to kcopyd without IGNORE_ERROR.
    pub fn start(legs: &[PathBuf], sectors: u64, region_sectors: u64) -> Mirror {
        let devices: Vec<String> = legs.iter().map(|leg| format!("{} 0", leg.display())).collect();
        let (count, devices) = (legs.len(), devices.join(" "));
        let table = format!("0 {sectors} mirror core 1 {region_sectors} {count} {devices} 1 handle_errors");
        Mirror { mapped: Mapped::new("mirror", &table) }
    }

    /// `0 8192 mirror 2 254:1 254:2 15/16 1 AS 1 core`
    pub fn status(&self) -> Verdict {
        let status = self.mapped.status(0);
        let words: Vec<&str> = status.split_whitespace().collect();
        let legs: usize = words.get(3).and_then(|count| count.parse().ok()).expect("dm-mirror tells its legs");
        let in_step = words.get(4 + legs).and_then(|ratio| ratio.split('/').next()?.parse().ok());
        Verdict {
            in_step: in_step.unwrap_or_else(|| panic!("dm-mirror's status: {status}")),
            health: (*words.get(6 + legs).expect("dm-mirror tells how its legs are")).to_owned(),
        }
    }

    /// Regions are done one at a time, in ascending order: when the last one has been copied (`arrived`), all have been tried.
    /// Suspending then waits until its completion was taken note of.
    pub fn verdict(&self, arrived: impl Fn() -> bool) -> Verdict {
        wait_for("the mirror has come to its last region", || arrived().then_some(()));
        self.mapped.suspend_and_wait(0);
        self.status()
    }
}
