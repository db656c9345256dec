//! What sectors hold, in place of bytes: every unit of a simulated disk is one 64-bit tag that says from which disk and which
//! place it comes. Copying a tag is copying the unit. It refuses to know who copies.

/// What one unit of a disk or of memory holds.
pub type Tag = u64;

/// A unit of a window that nobody has written: it holds what it held at first.
pub const UNTOUCHED: Tag = 0;

/// A unit of zeros.
pub const ZEROS: Tag = 1;

/// A unit that holds nobody knows what: what a failed read leaves.
pub const RUBBISH: Tag = 2;

/// The most units of a disk: the number of a unit is the lower part of its tag.
pub const UNITS_MAX: u64 = 1 << 48;

/// What a unit of a disk holds at first. Neighbours differ by one, so a range is an arithmetic progression.
#[must_use]
pub fn pristine(disk: usize, unit: u64) -> Tag {
    assert!(unit < UNITS_MAX, "unit {unit} is beyond what a tag can say");
    (disk as u64 + 1) << 48 | unit
}

/// Fills memory with what a range of a disk holds at first.
pub fn fill_pristine(memory: &mut [Tag], disk: usize, first_unit: u64) {
    let first = pristine(disk, first_unit);
    memory.iter_mut().zip(first..).for_each(|(tag, pristine)| *tag = pristine);
}

/// Whether memory holds what a range of a disk held at first.
#[must_use]
pub fn is_pristine(memory: &[Tag], disk: usize, first_unit: u64) -> bool {
    let first = pristine(disk, first_unit);
    memory.iter().zip(first..).fold(0, |difference, (tag, pristine)| difference | (tag ^ pristine)) == 0
}

/// Numbers mixed into one: what a run was, to be compared with another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0x9E37_79B9_7F4A_7C15)
    }
}

impl Digest {
    /// Mixes a number in.
    pub fn add(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    /// The number that stands for all of them.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}
