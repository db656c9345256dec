//! What the guest says to the host, a line each: the host counts these lines and believes nothing else. Kernel messages go another
//! way (the first serial port), so the lines stay whole.

use std::time::Duration;

/// A case begins.
pub fn begin(name: &str) {
    println!("@begin {name}");
}

/// A case has ended well.
pub fn pass(name: &str, took: Duration) {
    println!("@pass {} {name}", took.as_millis());
}

/// A case has failed, with everything that it printed.
pub fn fail(name: &str, took: Duration, output: &str) {
    for line in output.lines() {
        println!("| {line}");
    }
    println!("@fail {} {name}", took.as_millis());
}

/// Something for people: a figure, a seed.
pub fn note(text: &str) {
    println!("@note {text}");
}

/// All cases are over; without this line the run was cut short.
pub fn end(cases: usize) {
    println!("@end {cases}");
}
