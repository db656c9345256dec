//! Memory for tags that outlives a run: millions of runs a minute would otherwise fetch it from the kernel and give it back each
//! time. Whatever an earlier run left in it is wiped, or a run would not be a function of its seed.

use std::cell::RefCell;
use std::mem;
use std::ops::{Deref, DerefMut};

use crate::contents::{Tag, UNTOUCHED};

/// So much is kept at most, in pieces of memory.
const KEPT_MAX: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Vec<Tag>>> = const { RefCell::new(Vec::new()) };
}

/// Some tags, all `UNTOUCHED` at first.
#[derive(Debug)]
pub struct Memory(Vec<Tag>);

impl Memory {
    /// So many tags.
    pub fn new(units: usize) -> Self {
        let mut tags = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
        tags.clear();
        tags.resize(units, UNTOUCHED);
        Memory(tags)
    }
}

impl Deref for Memory {
    type Target = [Tag];

    fn deref(&self) -> &[Tag] {
        &self.0
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [Tag] {
        &mut self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let tags = mem::take(&mut self.0);
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(tags);
            }
        });
    }
}
