//! How many answers the thread waits for at once. To be woken by each costs a change of threads, which a processor that also does
//! the devices' work has better uses for; while enough others are in flight nobody misses it. It refuses to know the ring.

use std::time::Duration;

/// The most answers that are waited for at once.
const ANSWERS_MAX: u32 = 8;

/// So many are in flight for each that is waited for: two thirds keep the devices busy meanwhile.
const IN_FLIGHT_FOR_EACH: u32 = 3;

/// How long several are waited for before one is enough.
pub const PATIENCE: Duration = Duration::from_millis(1);

/// How many waits for one answer follow a wait for several that was in vain; twice as many each time in a row, up to the second.
/// So that beside a slow device, which makes them vain, other devices' answers are hardly ever late.
const VAIN: (u32, u32) = (16, 1024);

/// What the last waits have taught.
#[derive(Debug, Default)]
pub struct Batching {
    single_waits: u32,
    vain_costs: u32,
}

impl Batching {
    /// How many answers to wait for while so many are in flight.
    pub fn wanted(&mut self, in_flight: u32) -> u32 {
        let wanted = ANSWERS_MAX.min(in_flight / IN_FLIGHT_FOR_EACH);
        if wanted < 2 {
            return 1;
        }
        if self.single_waits > 0 {
            self.single_waits -= 1;
            return 1;
        }
        wanted
    }

    /// A wait for several has ended: did they all come in time?
    pub fn ended(&mut self, came: bool) {
        self.vain_costs = if came { 0 } else { (self.vain_costs * 2).clamp(VAIN.0, VAIN.1) };
        self.single_waits = self.vain_costs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_what_is_in_flight_is_waited_for_and_never_none() {
        let wanted: Vec<u32> = [0, 1, 5, 6, 16, 24, 500].map(|in_flight| Batching::default().wanted(in_flight)).into();
        assert_eq!(wanted, [1, 1, 1, 2, 5, 8, 8]);
    }

    #[test]
    fn waits_in_vain_become_rare_and_one_that_is_not_makes_up_for_them() {
        let mut batching = Batching::default();
        let mut singles = Vec::new();
        for _ in 0..9 {
            singles.push((0..).take_while(|_| batching.wanted(24) == 1).count());
            batching.ended(false);
        }
        assert_eq!(singles, [0, 16, 32, 64, 128, 256, 512, 1024, 1024]);
        (0..1024).for_each(|_| assert_eq!(batching.wanted(24), 1));
        assert_eq!(batching.wanted(24), 8);
        batching.ended(true);
        assert_eq!(batching.wanted(24), 8);
    }
}
