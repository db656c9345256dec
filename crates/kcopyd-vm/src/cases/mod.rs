//! The cases, a file for each kind of device that fails.

mod error;

use crate::case::{Case, Cases};

/// Every case there is.
pub fn all() -> Vec<Case> {
    let mut cases = Cases::default();
    error::add(&mut cases);
    cases.list
}
