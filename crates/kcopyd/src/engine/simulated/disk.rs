//! A disk in memory. Every sector of it is filled from the disk's number and its own, so that a sector tells where it came
//! from, and only what was written takes memory: a disk of a pebibyte costs nothing. It refuses to know time and order.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::copy::chain::{Operation, StepResult};
use crate::copy::limits::{PAGE_BYTES, SECTOR_BYTES};
use crate::copy::region::{DeviceKind, Geometry, Identity, Unaligned};

use super::fault::{End, Fault, Verdict};
use super::random::Random;

type Sector = [u8; SECTOR_BYTES as usize];

/// A simulated block device or regular file.
#[derive(Debug)]
pub struct SimulatedDisk {
    number: u64,
    geometry: Geometry,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: u64,
    written: HashMap<u64, Box<Sector>>,
    touched: HashMap<u64, Touched>,
    faults: Vec<Fault>,
    flush_errno: Option<i32>,
    random: Random,
}

/// How often a sector was moved, in whole or in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// From the disk.
    pub reads: u32,
    /// To the disk.
    pub writes: u32,
}

/// What sector `sector` of disk `number` holds before anything was written there.
#[must_use]
pub fn pristine(number: u64, sector: u64) -> Sector {
    let mut bytes = [0; SECTOR_BYTES as usize];
    let mut random = Random::new(number.wrapping_mul(0x0001_0000_0000_0001) ^ sector.rotate_left(20));
    bytes.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&random.number().to_le_bytes()));
    bytes
}

impl SimulatedDisk {
    /// A block device. Its number, which no other disk of the run has, is its identity and its contents.
    #[must_use]
    pub fn block(number: u64, bytes: u64, logical_block_bytes: u32) -> Self {
        let identity = Identity { id: (0, number), start_bytes: 0 };
        let geometry = Geometry {
            kind: DeviceKind::Block,
            identity,
            bytes,
            logical_block_bytes,
            direct_alignment_bytes: logical_block_bytes,
            unaligned: Unaligned::Refused,
        };
        SimulatedDisk::new(number, geometry)
    }

    /// A regular file, opened direct and buffered. Its number is its identity and its contents.
    #[must_use]
    pub fn file(number: u64, bytes: u64) -> Self {
        let identity = Identity { id: (1 << 63, number), start_bytes: 0 };
        let geometry = Geometry {
            kind: DeviceKind::File,
            identity,
            bytes,
            logical_block_bytes: SECTOR_BYTES as u32,
            direct_alignment_bytes: PAGE_BYTES as u32,
            unaligned: Unaligned::Buffered,
        };
        SimulatedDisk::new(number, geometry)
    }

    /// Any disk.
    #[must_use]
    pub fn new(number: u64, geometry: Geometry) -> Self {
        let state = State {
            bytes: geometry.bytes,
            written: HashMap::new(),
            touched: HashMap::new(),
            faults: Vec::new(),
            flush_errno: None,
            random: Random::new(number),
        };
        SimulatedDisk { number, geometry, state: Mutex::new(state) }
    }

    /// What the mind knows of it, with its present size.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry { bytes: self.state().bytes, ..self.geometry }
    }

    /// Makes something go wrong from now on.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Ends all faults. A flush that has failed stays failed all the same.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// The bytes of a range, zeros past a file's end; not counted as reading.
    #[must_use]
    pub fn contents(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.load(&self.state(), range.start, &mut bytes);
        bytes
    }

    /// Changes bytes without anybody's having written; a file grows.
    pub fn set_contents(&self, offset_bytes: u64, bytes: &[u8]) {
        self.store(&mut self.state(), offset_bytes, bytes);
    }

    /// How often each sector was moved; a sector that never was is not there.
    #[must_use]
    pub fn touched(&self) -> HashMap<u64, Touched> {
        self.state().touched.clone()
    }

    /// The sectors that were written, also by a write that failed, in ascending order.
    #[must_use]
    pub fn written_sectors(&self) -> Vec<u64> {
        let state = self.state();
        let mut sectors: Vec<u64> =
            state.touched.iter().filter(|(_, touched)| touched.writes > 0).map(|(at, _)| *at).collect();
        sectors.sort_unstable();
        sectors
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the faults decide for a request that starts now.
    pub(super) fn judge(&self, operation: Operation, range: &Range<u64>) -> Verdict {
        let State { faults, random, .. } = &mut *self.state();
        Verdict::of(faults, operation, range, random)
    }

    /// A read that ends now. What it did not fill is left as it was or full of rubbish: a disk promises nothing about it.
    pub(super) fn read(&self, offset_bytes: u64, buffer: &mut [u8], end: &End) -> StepResult {
        let state = &mut *self.state();
        let there = state.bytes.saturating_sub(offset_bytes);
        let result = match self.moved(offset_bytes, buffer.len() as u64, there, end) {
            Ok(moved) => {
                self.load(state, offset_bytes, &mut buffer[..moved as usize]);
                state.count(offset_bytes, moved, |touched| touched.reads += 1);
                StepResult::Done(moved as u32)
            }
            Err(errno) => StepResult::Failed(errno),
        };
        let filled = if let StepResult::Done(moved) = result { moved as usize } else { 0 };
        for part in buffer[filled..].chunks_mut(SECTOR_BYTES as usize) {
            if state.random.one_in(2) {
                let rubbish = state.random.number() as u8;
                part.fill(rubbish);
            }
        }
        result
    }

    /// A write that ends now. Of one that failed, sectors outside the bad range may have landed.
    pub(super) fn write(&self, offset_bytes: u64, buffer: &[u8], end: &End) -> StepResult {
        let state = &mut *self.state();
        let there = match self.geometry.kind {
            DeviceKind::Block => state.bytes.saturating_sub(offset_bytes),
            DeviceKind::File => u64::MAX,
        };
        if there == 0 {
            return StepResult::Failed(libc::ENOSPC);
        }
        match self.moved(offset_bytes, buffer.len() as u64, there, end) {
            Ok(moved) => {
                self.store(state, offset_bytes, &buffer[..moved as usize]);
                state.count(offset_bytes, moved, |touched| touched.writes += 1);
                StepResult::Done(moved as u32)
            }
            Err(errno) => {
                if let End::Failed(struck, bad) = end
                    && *struck == errno
                {
                    self.tear(state, offset_bytes, buffer, bad);
                }
                StepResult::Failed(errno)
            }
        }
    }

    /// A flush that ends now; one that failed stays failed, as on a real device (P18).
    pub(super) fn flush(&self, end: &End) -> StepResult {
        let state = &mut *self.state();
        if let End::Failed(errno, _) = end {
            state.flush_errno.get_or_insert(*errno);
        }
        state.flush_errno.map_or(StepResult::Done(0), StepResult::Failed)
    }

    /// How many bytes a request moves, or its errno.
    fn moved(&self, offset_bytes: u64, length: u64, there: u64, end: &End) -> Result<u64, i32> {
        let unit = match (self.geometry.kind, self.geometry.unaligned) {
            (DeviceKind::Block, _) => u64::from(self.geometry.logical_block_bytes),
            (DeviceKind::File, Unaligned::Refused) => u64::from(self.geometry.direct_alignment_bytes),
            (DeviceKind::File, Unaligned::Buffered) => 1,
        };
        if !offset_bytes.is_multiple_of(unit) || !length.is_multiple_of(unit) {
            return Err(libc::EINVAL);
        }
        match end {
            End::Whole => Ok(length.min(there)),
            End::After(bytes) => Ok((*bytes).min(length).min(there) / unit * unit),
            End::Failed(errno, _) => Err(*errno),
        }
    }

    /// What a failed write leaves: each sector outside the bad range has landed or has not.
    fn tear(&self, state: &mut State, offset_bytes: u64, buffer: &[u8], bad: &Range<u64>) {
        let mut at = offset_bytes;
        for part in buffer.chunks(SECTOR_BYTES as usize) {
            let end = at + part.len() as u64;
            let is_bad = at < bad.end && bad.start < end;
            let beyond = self.geometry.kind == DeviceKind::Block && end > state.bytes;
            if !is_bad && !beyond && state.random.one_in(2) {
                self.store(state, at, part);
                state.count(at, part.len() as u64, |touched| touched.writes += 1);
            }
            at = end;
        }
    }

    /// Calls `each` with every sector that a range touches, the bytes of that sector, and those of the range.
    ///
    /// Bytes 1000..1100 touch sector 1 with its bytes 488..512 and sector 2 with its bytes 0..76.
    fn parts(offset_bytes: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
        let end = offset_bytes + length as u64;
        (offset_bytes / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).map(move |sector| {
            let begin = sector * SECTOR_BYTES;
            let (from, to) = (offset_bytes.max(begin), end.min(begin + SECTOR_BYTES));
            let within = |at: u64, base: u64| (at - base) as usize;
            (sector, within(from, begin)..within(to, begin), within(from, offset_bytes)..within(to, offset_bytes))
        })
    }

    /// What a sector held at first: zeros where a file was not yet.
    fn original(&self, sector: u64) -> Sector {
        let there = self.geometry.bytes.saturating_sub(sector * SECTOR_BYTES).min(SECTOR_BYTES) as usize;
        let mut bytes = if there > 0 { pristine(self.number, sector) } else { [0; SECTOR_BYTES as usize] };
        bytes[there..].fill(0);
        bytes
    }

    fn load(&self, state: &State, offset_bytes: u64, buffer: &mut [u8]) {
        for (sector, of_sector, of_buffer) in Self::parts(offset_bytes, buffer.len()) {
            match state.written.get(&sector) {
                Some(bytes) => buffer[of_buffer].copy_from_slice(&bytes[of_sector]),
                None => buffer[of_buffer].copy_from_slice(&self.original(sector)[of_sector]),
            }
        }
    }

    fn store(&self, state: &mut State, offset_bytes: u64, bytes: &[u8]) {
        for (sector, of_sector, of_bytes) in Self::parts(offset_bytes, bytes.len()) {
            let held = state.written.entry(sector).or_insert_with(|| Box::new(self.original(sector)));
            held[of_sector].copy_from_slice(&bytes[of_bytes]);
        }
        if !bytes.is_empty() {
            state.bytes = state.bytes.max(offset_bytes + bytes.len() as u64);
        }
    }
}

impl State {
    fn count(&mut self, offset_bytes: u64, moved: u64, add: impl Fn(&mut Touched)) {
        if moved > 0 {
            let sectors = offset_bytes / SECTOR_BYTES..(offset_bytes + moved).div_ceil(SECTOR_BYTES);
            sectors.for_each(|sector| add(self.touched.entry(sector).or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pristine_bytes(number: u64, sectors: Range<u64>) -> Vec<u8> {
        sectors.flat_map(|sector| pristine(number, sector)).collect()
    }

    #[test]
    fn a_sector_tells_its_disk_and_its_place() {
        let disk = SimulatedDisk::block(3, 1 << 50, 512);
        assert_eq!(disk.contents(1 << 40..(1 << 40) + 512), pristine(3, 1 << 31));
        assert_ne!(pristine(3, 7), pristine(3, 8));
        assert_ne!(pristine(3, 7), pristine(4, 7));
    }

    #[test]
    fn a_file_ends_at_any_byte_and_grows() {
        let file = SimulatedDisk::file(1, 1000);
        let mut buffer = vec![0xEE; 4096];
        assert_eq!(file.read(0, &mut buffer, &End::Whole), StepResult::Done(1000));
        assert_eq!(buffer[..1000], pristine_bytes(1, 0..2)[..1000]);
        assert_eq!(file.read(1000, &mut buffer, &End::Whole), StepResult::Done(0));
        assert_eq!(file.write(2000, &[7; 100], &End::Whole), StepResult::Done(100));
        assert_eq!(file.geometry().bytes, 2100);
        assert_eq!(file.contents(1000..2000), vec![0; 1000]);
        assert_eq!(file.contents(2000..2100), vec![7; 100]);
    }

    #[test]
    fn a_block_device_ends_where_it_ends_and_moves_whole_blocks() {
        let disk = SimulatedDisk::block(1, 8192, 4096);
        assert_eq!(disk.write(4096, &[1; 8192], &End::Whole), StepResult::Done(4096));
        assert_eq!(disk.write(8192, &[1; 4096], &End::Whole), StepResult::Failed(libc::ENOSPC));
        assert_eq!(disk.read(512, &mut [0; 4096], &End::Whole), StepResult::Failed(libc::EINVAL));
        assert_eq!(disk.read(0, &mut [0; 8192], &End::After(5000)), StepResult::Done(4096));
        assert_eq!(disk.geometry().bytes, 8192);
    }

    #[test]
    fn sectors_are_counted_as_often_as_they_are_moved() {
        let disk = SimulatedDisk::file(1, 4096);
        disk.read(0, &mut [0; 1024], &End::Whole);
        disk.read(1000, &mut [0; 600], &End::After(100));
        disk.write(0, &[0; 10], &End::Whole);
        disk.write(512, &[0; 10], &End::Failed(5, 512..1024));
        let touched = disk.touched();
        let reads = |sector| touched.get(&sector).copied().unwrap_or_default().reads;
        assert_eq!([0, 1, 2, 3].map(reads), [1, 2, 1, 0]);
        assert_eq!(touched[&0].writes, 1);
        assert_eq!(touched[&1].writes, 0);
    }

    #[test]
    fn a_failed_write_never_lands_where_the_disk_is_bad_and_may_land_elsewhere() {
        let disk = SimulatedDisk::block(1, 1 << 20, 512);
        let result = disk.write(0, &[9; 64 * 512], &End::Failed(libc::EIO, 10 * 512..12 * 512));
        assert_eq!(result, StepResult::Failed(libc::EIO));
        let landed = disk.written_sectors();
        assert!(!landed.contains(&10) && !landed.contains(&11));
        assert!((10..60).contains(&landed.len()), "{landed:?}");
    }

    #[test]
    fn a_failed_read_leaves_rubbish() {
        let disk = SimulatedDisk::block(1, 1 << 20, 512);
        let mut buffer = vec![0xEE; 64 * 512];
        assert_eq!(disk.read(0, &mut buffer, &End::Failed(libc::EIO, 0..512)), StepResult::Failed(libc::EIO));
        assert!(buffer.iter().any(|byte| *byte != 0xEE));
    }

    #[test]
    fn p18_a_failed_flush_stays_failed() {
        let disk = SimulatedDisk::block(1, 4096, 512);
        assert_eq!(disk.flush(&End::Whole), StepResult::Done(0));
        assert_eq!(disk.flush(&End::Failed(libc::EIO, 0..0)), StepResult::Failed(libc::EIO));
        assert_eq!(disk.flush(&End::Whole), StepResult::Failed(libc::EIO));
    }
}
