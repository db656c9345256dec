//! What the caller will do, and when: a scenario's jobs, aborts and changes as a list in the order of time. It refuses to know
//! what becomes of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use smallvec::SmallVec;

use crate::scenario::{Scenario, When};

/// What the caller does, or the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    Heal,
    Submit(usize),
    Abort(usize),
    AbortAll,
    Close,
    Throttle(usize),
}

/// What the caller wants.
pub struct Wishes {
    /// What is done at a time, the earliest first.
    pub commands: BinaryHeap<Reverse<(u64, Command)>>,
    /// By token: the jobs that are submitted from its callback.
    pub followers: Vec<SmallVec<[u32; 1]>>,
}

impl Wishes {
    /// What a scenario says.
    pub fn of(scenario: &Scenario) -> Self {
        let followers = vec![SmallVec::new(); scenario.jobs.len()];
        let mut wishes = Wishes { commands: BinaryHeap::new(), followers };
        for (index, job) in scenario.jobs.iter().enumerate() {
            match job.when {
                When::At(at_ns) => wishes.at(at_ns, Command::Submit(index)),
                When::After(before) if scenario.jobs[before].when != When::Never => {
                    wishes.followers[before].push(index as u32);
                }
                When::After(_) => wishes.at(0, Command::Submit(index)),
                When::Never => {}
            }
        }
        for (index, (at_ns, _)) in scenario.throttle.iter().enumerate() {
            wishes.at(*at_ns, Command::Throttle(index));
        }
        wishes.at(scenario.heal_at_ns, Command::Heal);
        if let Some(at_ns) = scenario.abort_all_at_ns {
            wishes.at(at_ns, Command::AbortAll);
        }
        if let Some(at_ns) = scenario.close_at_ns {
            wishes.at(at_ns, Command::Close);
        }
        wishes
    }

    fn at(&mut self, at_ns: u64, command: Command) {
        self.commands.push(Reverse((at_ns, command)));
    }
}
