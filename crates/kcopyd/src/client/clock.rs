//! The time that throttles count in: the same for every client of the process, because a throttle may be shared. It knows
//! nothing else.

use std::sync::OnceLock;
use std::time::Instant;

use crate::copy::throttle::Now;

/// Time since this was first asked.
pub fn now() -> Now {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed()
}
