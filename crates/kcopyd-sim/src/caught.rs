//! A run whose panics are breaches too: the mind's own assertions guard its promises. It refuses to know why it is run.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

use crate::calendar::{Report, Trace, run};
use crate::oracle::{Breach, Figures};
use crate::scenario::Scenario;

thread_local! {
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes panics of this process silent: what they say is in the report of the run that they end.
pub fn silence_panics() {
    panic::set_hook(Box::new(|information| SAID.set(Some(information.to_string()))));
}

/// Runs a scenario to its end, its first breach, or its panic.
#[must_use]
pub fn run_caught(scenario: &Scenario, trace: Trace) -> Report {
    let ran = panic::catch_unwind(AssertUnwindSafe(|| run(scenario, trace)));
    ran.unwrap_or_else(|_| {
        let text = SAID.take().unwrap_or_else(|| "a panic; what it said is above".to_owned());
        let breach = Some(Breach { promise: "panic", text });
        Report { breach, figures: Figures::default(), digest: 0, requests: 0, turns: 0, trace: Vec::new() }
    })
}
