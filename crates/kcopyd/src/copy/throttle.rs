//! How fast jobs may go: a share of time, bytes per second, requests per second. It takes `now` and never sleeps: asked whether
//! a piece may begin, it says yes or from when on to ask again. It refuses to know clocks, clients and queues.
//!
//! Every limit is an account that is filled by time and drawn on by use. An account may be overdrawn by the piece that was
//! let through last, and nothing more begins until time has made up for it; so the long-run rate is exact whatever the size
//! of a piece. An account does not grow beyond a burst, so that a pause is not followed by a flood.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limits::{PAGE_BYTES, THROTTLE_BURST, THROTTLE_QUANTUM};

/// What a throttle allows. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ThrottleLimits {
    /// Share of time in which I/O may be outstanding, 1 to 100 (the meaning of the kernel's throttle).
    pub percent: Option<u8>,
    /// Bytes of the source per second; of the region, for zeroes. At least 1.
    pub bytes_per_second: Option<u64>,
    /// Requests to devices per second. At least 1.
    pub requests_per_second: Option<u64>,
}

/// Points in time, counted from an origin that all sharers of a throttle have in common.
pub type Now = Duration;

/// Something that time fills, at most up to a burst, and use draws on.
#[derive(Clone, Copy, Debug)]
struct Account {
    per_second: f64,
    balance: f64,
    burst: f64,
}

impl Account {
    fn new(per_second: f64) -> Self {
        Account { per_second, balance: 0.0, burst: per_second * THROTTLE_BURST.as_secs_f64() }
    }

    fn fill(&mut self, passed: Duration) {
        self.balance = (self.balance + self.per_second * passed.as_secs_f64()).min(self.burst);
    }

    /// How long until it is not overdrawn any more.
    fn wait(&self) -> Duration {
        if self.balance >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64((-self.balance / self.per_second).min(3600.0))
        }
    }
}

/// The state behind a throttle that several clients may share.
#[derive(Debug)]
pub struct Throttle {
    limits: ThrottleLimits,
    /// Seconds of outstanding I/O.
    busy: Option<Account>,
    bytes: Option<Account>,
    requests: Option<Account>,
    /// Chains outstanding, of all sharers together.
    outstanding: u64,
    looked_at: Now,
}

impl Throttle {
    /// A throttle with these limits.
    #[must_use]
    pub fn new(limits: ThrottleLimits, now: Now) -> Self {
        let mut throttle = Throttle {
            limits: ThrottleLimits::default(),
            busy: None,
            bytes: None,
            requests: None,
            outstanding: 0,
            looked_at: now,
        };
        throttle.set(limits, now);
        throttle
    }

    /// Other limits from now on. An account whose limit stays as it was keeps its balance.
    pub fn set(&mut self, limits: ThrottleLimits, now: Now) {
        self.advance(now);
        let share = |limits: ThrottleLimits| {
            limits.percent.filter(|&percent| percent < 100).map(|percent| f64::from(percent) / 100.0)
        };
        let bytes = |limits: ThrottleLimits| limits.bytes_per_second.map(|rate| rate as f64);
        let requests = |limits: ThrottleLimits| limits.requests_per_second.map(|rate| rate as f64);
        renew(&mut self.busy, share(self.limits), share(limits));
        renew(&mut self.bytes, bytes(self.limits), bytes(limits));
        renew(&mut self.requests, requests(self.limits), requests(limits));
        self.limits = limits;
    }

    /// Whether a piece may begin now; if not, how long to wait before it is worth asking again.
    pub fn admit(&mut self, now: Now) -> Result<(), Duration> {
        self.advance(now);
        let busy = self.busy.as_ref().map_or(Duration::ZERO, Account::wait);
        let rates = [&self.bytes, &self.requests].into_iter().flatten().map(Account::wait).max().unwrap_or_default();
        let wait = busy.max(rates);
        if wait.is_zero() || canary!(ThrottleIsForgotten) { Ok(()) } else { Err(wait) }
    }

    /// The most bytes that a piece should have, so that the rate is even: what the rate moves in a quantum of time, in pages.
    #[must_use]
    pub fn piece_bytes(&self, most_bytes: u64) -> u64 {
        let Some(rate) = self.limits.bytes_per_second else { return most_bytes };
        let even = (rate as f64 * THROTTLE_QUANTUM.as_secs_f64()) as u64;
        (even - even % PAGE_BYTES).clamp(PAGE_BYTES, most_bytes)
    }

    /// A piece of so many bytes begins.
    pub fn charge_bytes(&mut self, bytes: u64) {
        if let Some(account) = &mut self.bytes {
            account.balance -= bytes as f64;
        }
    }

    /// A chain of so many requests goes out.
    pub fn chain_begins(&mut self, requests: u32, now: Now) {
        self.advance(now);
        self.outstanding += 1;
        if let Some(account) = &mut self.requests {
            account.balance -= f64::from(requests);
        }
    }

    /// A chain for which there was no room is as if it had never gone out.
    pub fn chain_did_not_begin(&mut self, requests: u32, now: Now) {
        self.chain_ends(now);
        if let Some(account) = &mut self.requests {
            account.balance += f64::from(requests);
        }
    }

    /// A chain has come home, all of it.
    pub fn chain_ends(&mut self, now: Now) {
        self.advance(now);
        self.outstanding -= 1;
    }

    /// A sharer is gone that had so many chains out, none of which will be reported any more.
    pub fn sharer_is_gone(&mut self, chains: u64) {
        self.outstanding = self.outstanding.saturating_sub(chains);
    }

    /// Time passes: it fills the accounts, and draws on the one of time while anything is outstanding.
    fn advance(&mut self, now: Now) {
        let passed = now.saturating_sub(self.looked_at);
        self.looked_at = self.looked_at.max(now);
        for account in [&mut self.bytes, &mut self.requests].into_iter().flatten() {
            account.fill(passed);
        }
        if let Some(busy) = &mut self.busy {
            if self.outstanding > 0 {
                busy.balance -= passed.as_secs_f64();
            }
            busy.fill(passed);
        }
    }
}

/// A changed rate starts a new account; an old debt at another rate would mean another time.
fn renew(account: &mut Option<Account>, before: Option<f64>, after: Option<f64>) {
    if before != after {
        *account = after.map(Account::new);
    }
}

/// A throttle that several clients share.
#[derive(Clone, Debug)]
pub struct SharedThrottle(Arc<Mutex<Throttle>>);

impl SharedThrottle {
    /// Shares a throttle.
    #[must_use]
    pub fn new(throttle: Throttle) -> Self {
        SharedThrottle(Arc::new(Mutex::new(throttle)))
    }

    /// The throttle itself. Its figures are whole between any two statements, so a panic elsewhere does not spoil them.
    pub fn lock(&self) -> MutexGuard<'_, Throttle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Runs pieces one after the other, each taking `service`, for ten seconds; what part of the time was busy, and how many.
    fn run(throttle: &mut Throttle, service: Duration, piece_bytes: u64, depth: u32) -> (f64, u64) {
        let (mut now, mut busy, mut pieces) = (Duration::ZERO, Duration::ZERO, 0);
        while now < Duration::from_secs(10) {
            match throttle.admit(now) {
                Ok(()) => {
                    let mut begun = 0;
                    while begun < depth && throttle.admit(now).is_ok() {
                        throttle.charge_bytes(piece_bytes);
                        throttle.chain_begins(2, now);
                        begun += 1;
                    }
                    now += service;
                    busy += service;
                    pieces += u64::from(begun);
                    (0..begun).for_each(|_| throttle.chain_ends(now));
                }
                Err(wait) => now += wait.max(MILLISECOND / 10),
            }
        }
        (busy.as_secs_f64() / now.as_secs_f64(), pieces)
    }

    #[test]
    fn p22_percent_is_a_share_of_time() {
        for percent in [10, 25, 50, 75, 90] {
            for milliseconds in [1, 5, 20, 49] {
                for depth in [1, 8] {
                    let limits = ThrottleLimits { percent: Some(percent), ..ThrottleLimits::default() };
                    let mut throttle = Throttle::new(limits, Duration::ZERO);
                    let (share, _) = run(&mut throttle, MILLISECOND * milliseconds, 4096, depth);
                    let off = (share * 100.0 - f64::from(percent)).abs();
                    assert!(off < 5.0, "{percent} % with {milliseconds} ms at depth {depth} came to {:.1} %", share * 100.0);
                }
            }
        }
    }

    #[test]
    fn p22_rates_are_exact_over_ten_seconds() {
        let bytes = ThrottleLimits { bytes_per_second: Some(10 << 20), ..ThrottleLimits::default() };
        let (_, pieces) = run(&mut Throttle::new(bytes, Duration::ZERO), MILLISECOND, 512 << 10, 8);
        assert!((190..=210).contains(&pieces), "10 MiB/s in pieces of 512 KiB are 20 a second, not {pieces} in 10 s");
        let requests = ThrottleLimits { requests_per_second: Some(500), ..ThrottleLimits::default() };
        let (_, pieces) = run(&mut Throttle::new(requests, Duration::ZERO), MILLISECOND, 512, 8);
        assert!((2375..=2625).contains(&pieces), "500 requests/s are 250 chains of two a second, not {pieces} in 10 s");
    }

    #[test]
    fn p22_a_slow_rate_asks_for_small_pieces() {
        let limits = ThrottleLimits { bytes_per_second: Some(1 << 20), ..ThrottleLimits::default() };
        let throttle = Throttle::new(limits, Duration::ZERO);
        assert_eq!(throttle.piece_bytes(512 << 10), 48 << 10);
        assert_eq!(Throttle::new(ThrottleLimits::default(), Duration::ZERO).piece_bytes(512 << 10), 512 << 10);
    }

    #[test]
    fn p22_a_changed_limit_takes_effect_at_once() {
        let slow = ThrottleLimits { bytes_per_second: Some(1), ..ThrottleLimits::default() };
        let mut throttle = Throttle::new(slow, Duration::ZERO);
        assert!(throttle.admit(Duration::ZERO).is_ok());
        throttle.charge_bytes(4096);
        assert!(throttle.admit(MILLISECOND).is_err());
        throttle.set(ThrottleLimits::default(), MILLISECOND);
        assert!(throttle.admit(MILLISECOND).is_ok());
    }
}
