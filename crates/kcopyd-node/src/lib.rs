//! The Node-API binding: it converts arguments, calls the core and rings the doorbell. It knows no policy and no default.
//!
//! What crosses is declared in `src/native.ts`. Refusals cross as data; nothing here throws but a bug. Everything but the
//! doorbell runs on the JavaScript thread of one environment (the main thread or a worker), so what belongs to an
//! environment is kept in thread-locals and takes no locks.

mod client;
mod closing;
mod data;
mod device;
mod doorbell;
mod teardown;
mod throttle;

use napi_derive::napi;

use data::NativeSupport;

/// The version of the package that this was built for. It works with no other: the numbers that cross have no names.
#[napi(catch_unwind)]
#[must_use]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// What this machine can run.
#[napi(catch_unwind)]
#[must_use]
pub fn support() -> NativeSupport {
    NativeSupport::from(kcopyd::client::support())
}
