//! The throttle's promise, written down again: what may begin by when (P22). An account for bytes and one for requests; a piece
//! may begin unless one of them is overdrawn. It knows no jobs.

use kcopyd::copy::throttle::ThrottleLimits;

/// What may be saved up: 50 ms worth.
const BURST_S: f64 = 0.05;

/// A piece is seen when its first chain goes out, a moment after it was let through; meanwhile another may have overtaken it.
/// So an account may look overdrawn by one piece: the largest that has begun since it last was not.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    per_second: f64,
    level: f64,
    largest: f64,
}

impl Account {
    fn new(per_second: u64, granted: u64) -> Self {
        Account { per_second: per_second as f64, level: granted as f64, largest: 0.0 }
    }

    fn pass(&mut self, seconds: f64) {
        // What was granted beyond the burst is not taken away again.
        let cap = (self.per_second * BURST_S).max(self.level);
        self.level = (self.level + self.per_second * seconds).min(cap);
    }

    /// Draws on the account, and says by how much that was too much.
    fn draw(&mut self, amount: f64) -> Option<f64> {
        if self.level >= 0.0 {
            self.largest = 0.0;
        }
        let too_much = -self.level - self.largest;
        self.level -= amount;
        self.largest = self.largest.max(amount);
        (too_much > 1e-3).then_some(too_much)
    }
}

/// A changed rate begins a new account; an account whose rate stays keeps what it has.
fn renewed(account: Option<Account>, rate: Option<u64>, granted: u64) -> Option<Account> {
    let rate = rate?;
    account.filter(|account| account.per_second == rate as f64).or(Some(Account::new(rate, granted)))
}

/// Both accounts.
#[derive(Debug, Default)]
pub struct RateModel {
    bytes: Option<Account>,
    requests: Option<Account>,
    at_ns: u64,
}

impl RateModel {
    /// Other limits. What was let through under the old ones and has not been seen yet is granted.
    pub fn set(&mut self, limits: ThrottleLimits, now_ns: u64, granted_bytes: u64) {
        self.pass(now_ns);
        self.bytes = renewed(self.bytes, limits.bytes_per_second, granted_bytes);
        self.requests = renewed(self.requests, limits.requests_per_second, 33);
    }

    fn pass(&mut self, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.at_ns) as f64 / 1e9;
        self.at_ns = now_ns;
        [&mut self.bytes, &mut self.requests].into_iter().flatten().for_each(|account| account.pass(seconds));
    }

    /// A piece of so many bytes begins with so many requests; says what is wrong with that.
    pub fn begin(&mut self, bytes: u64, requests: usize, now_ns: u64) -> Result<(), String> {
        if self.bytes.is_none() && self.requests.is_none() {
            return Ok(());
        }
        self.pass(now_ns);
        for (account, amount, what) in
            [(&mut self.bytes, bytes as f64, "bytes"), (&mut self.requests, requests as f64, "requests")]
        {
            if let Some(account) = account
                && let Some(too_much) = account.draw(amount)
            {
                return Err(format!("a piece begins at {} {what} per second, {too_much} too early", account.per_second));
            }
        }
        Ok(())
    }
}
