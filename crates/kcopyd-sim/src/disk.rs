//! A disk of tags. It keeps what was written within its window; everywhere else it holds what it held at first. It refuses to
//! know time, faults and who asks.

use std::ops::Range;

use crate::contents::{Tag, UNTOUCHED, ZEROS, fill_pristine, pristine};
use crate::memory::Memory;
use crate::scenario::{DiskKind, DiskSpec};

/// A disk while a run lasts.
#[derive(Debug)]
pub struct Disk {
    /// What it is.
    pub spec: DiskSpec,
    number: usize,
    unit_bytes: u64,
    /// Its size by now; a file grows.
    pub bytes: u64,
    written: Memory,
    /// The errno of a flush that has failed: it stays failed (P18).
    pub flush_errno: Option<i32>,
}

impl Disk {
    /// The disk of this number, as the run begins.
    #[must_use]
    pub fn new(number: usize, spec: &DiskSpec, unit_bytes: u64) -> Self {
        let units = ((spec.window.end - spec.window.start) / unit_bytes) as usize;
        Disk { spec: spec.clone(), number, unit_bytes, bytes: spec.bytes, written: Memory::new(units), flush_errno: None }
    }

    fn units(&self, offset_bytes: u64, units: usize) -> Range<usize> {
        let first = offset_bytes.checked_sub(self.spec.window.start).expect("writes are within the window");
        let first = (first / self.unit_bytes) as usize;
        first..first + units
    }

    /// Writes tags.
    pub fn store(&mut self, offset_bytes: u64, tags: &[Tag]) {
        let range = self.units(offset_bytes, tags.len());
        self.written[range].copy_from_slice(tags);
        self.grow(offset_bytes + tags.len() as u64 * self.unit_bytes);
    }

    /// Makes a range zero.
    pub fn store_zeros(&mut self, offset_bytes: u64, units: usize) {
        let range = self.units(offset_bytes, units);
        self.written[range].fill(ZEROS);
        self.grow(offset_bytes + units as u64 * self.unit_bytes);
    }

    fn grow(&mut self, end_bytes: u64) {
        if !matches!(self.spec.kind, DiskKind::Block(_)) {
            self.bytes = self.bytes.max(end_bytes);
        }
    }

    /// Reads tags.
    pub fn load(&self, offset_bytes: u64, tags: &mut [Tag]) {
        let first = offset_bytes / self.unit_bytes;
        fill_pristine(tags, self.number, first);
        let window = &self.spec.window;
        let end_bytes = offset_bytes + tags.len() as u64 * self.unit_bytes;
        if end_bytes <= window.start || window.end <= offset_bytes {
            return;
        }
        for (unit, tag) in (first..).zip(tags.iter_mut()) {
            let at = (unit * self.unit_bytes).checked_sub(window.start).map(|bytes| (bytes / self.unit_bytes) as usize);
            let written = at.and_then(|at| self.written.get(at)).copied().unwrap_or(UNTOUCHED);
            *tag = if written == UNTOUCHED { pristine(self.number, unit) } else { written };
        }
    }

    /// What was written to a part of the window; `UNTOUCHED` where nothing was.
    #[must_use]
    pub fn written(&self, range_bytes: &Range<u64>) -> &[Tag] {
        &self.written[self.units(range_bytes.start, ((range_bytes.end - range_bytes.start) / self.unit_bytes) as usize)]
    }
}
