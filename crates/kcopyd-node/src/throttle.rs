//! A throttle as JavaScript sees it: three numbers, any of which may be missing. It refuses to know what they are good for, and
//! which clients share it.

use kcopyd::client::clock;
use kcopyd::copy::throttle::{SharedThrottle, Throttle, ThrottleLimits};
use napi_derive::napi;

/// A throttle.
#[napi]
pub struct NativeThrottle {
    shared: SharedThrottle,
}

impl NativeThrottle {
    /// The throttle itself, for a client.
    pub fn shared(&self) -> SharedThrottle {
        self.shared.clone()
    }
}

#[napi]
impl NativeThrottle {
    /// Other limits from now on.
    #[napi(catch_unwind)]
    pub fn set(&self, percent: Option<f64>, bytes_per_second: Option<f64>, iops: Option<f64>) {
        self.shared.lock().set(limits(percent, bytes_per_second, iops), clock::now());
    }
}

/// Makes a throttle. TypeScript has checked the numbers; what is beyond their types becomes the nearest that is not.
#[napi(catch_unwind)]
#[must_use]
pub fn create_throttle(percent: Option<f64>, bytes_per_second: Option<f64>, iops: Option<f64>) -> NativeThrottle {
    let throttle = Throttle::new(limits(percent, bytes_per_second, iops), clock::now());
    NativeThrottle { shared: SharedThrottle::new(throttle) }
}

fn limits(percent: Option<f64>, bytes_per_second: Option<f64>, iops: Option<f64>) -> ThrottleLimits {
    ThrottleLimits {
        percent: percent.map(|number| (number as u8).clamp(1, 100)),
        bytes_per_second: bytes_per_second.map(|number| (number as u64).max(1)),
        requests_per_second: iops.map(|number| (number as u64).max(1)),
    }
}
