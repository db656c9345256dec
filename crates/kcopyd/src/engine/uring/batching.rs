//! How many answers the thread waits for at once. To be woken by each costs a change of threads, which a processor that also does
//! the devices' work has better uses for; while enough others are in flight nobody misses it. It refuses to know the ring.

use std::time::Duration;

/// The most answers that are waited for at once.
const ANSWERS_MAX: u32 = 8;

/// For each that is waited for, so many requests are in flight, and so many bytes are moved. Large requests keep a device busy
/// while their answers wait for each other; for small ones to devices that take their time, waiting would be all that it is.
const REQUESTS_FOR_EACH: u32 = 3;
const BYTES_FOR_EACH: u64 = 1 << 19;

/// Fewer than these are never made to wait for each other: a device that takes its time would stand still for that.
const REQUESTS_MIN: u32 = 12;

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
    /// How many answers to wait for while so many requests are in flight, and so many bytes are moved.
    pub fn wanted(&mut self, requests: u32, moved_bytes: u64) -> u32 {
        let by_bytes = u32::try_from(moved_bytes / BYTES_FOR_EACH).unwrap_or(u32::MAX);
        let wanted = ANSWERS_MAX.min(requests / REQUESTS_FOR_EACH).min(by_bytes);
        if wanted < 2 || requests < REQUESTS_MIN {
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
    fn large_requests_are_waited_for_together_if_there_are_enough_of_them() {
        let wanted = |requests, kib: u64| Batching::default().wanted(requests, kib << 10);
        assert_eq!([0, 11, 12, 16, 24, 500].map(|requests| wanted(requests, 1 << 20)), [1, 1, 4, 5, 8, 8]);
        assert_eq!([0, 512, 1 << 10, 2 << 10, 1 << 40].map(|kib| wanted(64, kib)), [1, 1, 2, 4, 8]);
    }

    #[test]
    fn waits_in_vain_become_rare_and_one_that_is_not_makes_up_for_them() {
        let mut batching = Batching::default();
        let mut singles = Vec::new();
        for _ in 0..9 {
            singles.push((0..).take_while(|_| batching.wanted(24, u64::MAX) == 1).count());
            batching.ended(false);
        }
        assert_eq!(singles, [0, 16, 32, 64, 128, 256, 512, 1024, 1024]);
        (0..1024).for_each(|_| assert_eq!(batching.wanted(24, u64::MAX), 1));
        assert_eq!(batching.wanted(24, u64::MAX), 8);
        batching.ended(true);
        assert_eq!(batching.wanted(24, u64::MAX), 8);
    }
}
