//! One way through a tree of choices, and all ways, one after the other. It refuses to know what is chosen: the order of
//! completions, whether a fault strikes, anything that a test asks.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The choices of one run: each is a number below the width that was asked with.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    script: Vec<usize>,
    made: Vec<Made>,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    chosen: usize,
    width: usize,
}

impl Choices {
    /// A run that first chooses as written, and the first possibility from there on.
    #[must_use]
    pub fn scripted(script: impl Into<Vec<usize>>) -> Self {
        Choices { script: script.into(), made: Vec::new() }
    }

    /// Chooses one of `width` possibilities, which are more than none.
    pub fn choose(&mut self, width: usize) -> usize {
        let chosen = self.script.get(self.made.len()).copied().unwrap_or(0);
        assert!(chosen < width, "choice {} of the script is {chosen}, of {width} possibilities", self.made.len());
        self.made.push(Made { chosen, width });
        chosen
    }

    /// The next run after this one, if there is one: the last choice that had another possibility left takes it.
    ///
    /// With widths 2, 3, 1: after 0 2 0 comes 1 and what follows from it.
    fn next(mut self) -> Option<Choices> {
        while let Some(last) = self.made.pop() {
            if last.chosen + 1 < last.width {
                let before = self.made.iter().map(|made| made.chosen);
                return Some(Choices::scripted(before.chain([last.chosen + 1]).collect::<Vec<_>>()));
            }
        }
        None
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.made.iter().map(|made| made.chosen)).finish()
    }
}

/// The choices of one run, for all who choose in it.
#[derive(Clone, Debug, Default)]
pub struct SharedChoices(Arc<Mutex<Choices>>);

impl SharedChoices {
    /// Shares a run's choices.
    #[must_use]
    pub fn new(choices: Choices) -> Self {
        SharedChoices(Arc::new(Mutex::new(choices)))
    }

    /// Chooses one of `width` possibilities, which are more than none.
    #[must_use]
    pub fn choose(&self, width: usize) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).choose(width)
    }

    /// What has been chosen so far.
    #[must_use]
    pub fn made(&self) -> Choices {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs something once for every way through its choices, and says how many there were. If a run panics, its choices are
/// printed: `Choices::scripted` repeats it.
pub fn for_every_choice(mut run: impl FnMut(&SharedChoices)) -> u64 {
    let mut runs = 0;
    let mut next = Some(Choices::default());
    while let Some(choices) = next {
        let shared = Told(SharedChoices::new(choices));
        run(&shared.0);
        next = shared.0.made().next();
        runs += 1;
    }
    runs
}

struct Told(SharedChoices);

impl Drop for Told {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the run's choices were {}", self.0.made());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_gone_once_also_where_the_widths_depend_on_earlier_choices() {
        let mut ways = Vec::new();
        let runs = for_every_choice(|choices| {
            let first = choices.choose(3);
            let rest: Vec<usize> = (0..first).map(|_| choices.choose(2)).collect();
            ways.push((first, rest));
        });
        let expected =
            [(0, vec![]), (1, vec![0]), (1, vec![1]), (2, vec![0, 0]), (2, vec![0, 1]), (2, vec![1, 0]), (2, vec![1, 1])];
        assert_eq!(ways, expected);
        assert_eq!(runs, 7);
    }

    #[test]
    fn all_orders_of_four_things_are_24() {
        assert_eq!(for_every_choice(|choices| (1..=4).rev().for_each(|left| assert!(choices.choose(left) < left))), 24);
    }
}
