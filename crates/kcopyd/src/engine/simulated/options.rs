//! How a simulated engine behaves: plain values. It refuses to know what goes wrong; that is each disk's own.

use crate::copy::limits::ENGINE_STEPS_MAX;

use super::choices::SharedChoices;

/// How a simulated engine behaves.
#[derive(Clone, Debug)]
pub struct SimulatedOptions {
    /// All that looks random follows from it.
    pub seed: u64,
    /// The most steps staged or in flight, at least `limits::CHAIN_STEPS_MAX` if an idle engine is to take any chain.
    pub steps_max: u32,
    /// How long requests take.
    pub latency: Latency,
    /// In which order they end.
    pub order: Order,
    /// Whether what happens is written down.
    pub log: Log,
}

impl Default for SimulatedOptions {
    fn default() -> Self {
        SimulatedOptions {
            seed: 0,
            steps_max: ENGINE_STEPS_MAX,
            latency: Latency::default(),
            order: Order::ByTime,
            log: Log::Kept,
        }
    }
}

/// How long a request takes, in nanoseconds: the sum of these. So requests overtake each other by the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Every request.
    pub base_ns: u64,
    /// For each started sector.
    pub sector_ns: u64,
    /// Up to so much more, by the seed.
    pub jitter_ns: u64,
    /// One request in so many is an outlier; 0 for none.
    pub outlier_one_in: u64,
    /// So much more for an outlier.
    pub outlier_ns: u64,
}

impl Default for Latency {
    /// A fast disk: 20 to 100 microseconds, and 100 milliseconds for one request in 500.
    fn default() -> Self {
        Latency { base_ns: 20_000, sector_ns: 20, jitter_ns: 80_000, outlier_one_in: 500, outlier_ns: 100_000_000 }
    }
}

/// In which order requests end.
#[derive(Clone, Debug)]
pub enum Order {
    /// As their latencies and delays have it; what ends at about the same time comes home together.
    ByTime,
    /// Each wait ends one of the requests in flight, which one is chosen; the possibilities are in order of their start.
    Chosen(SharedChoices),
}

/// Whether a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// Every event, until it is taken.
    Kept,
    /// None: for long runs.
    Off,
}
