//! The memory behind the pool's page indices: one private mapping that no fork inherits, no core dump shows and no byte of
//! which survives the client (P31). It refuses to know which pages are in use; that is the pool's, and the engine's rule 8.

use std::ffi::c_void;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::copy::chain::{Blank, BufferStart};
use crate::copy::limits::{ARENA_CHUNK_PAGES, PAGE_BYTES, PAGES_MAX, SECTOR_BYTES, SUB_JOB_SECTORS_MAX};
use crate::error::Error;

/// Bytes of one chunk: what is registered as one buffer, and the size of a huge page where those exist.
const CHUNK_BYTES: usize = ARENA_CHUNK_PAGES as usize * PAGE_BYTES as usize;

/// The bytes of all pages of one client. Its first byte is aligned to a chunk.
///
/// Whoever uses a pointer from here keeps the engine's rule 8: the pages of a staged chain belong to the engine alone.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    pages: u32,
    zeroes: Zeroes,
}

// SAFETY: an arena is an address and a length; the mapping belongs to the process, not to a thread.
unsafe impl Send for Arena {}
// SAFETY: every shared method only computes addresses, except `blank`, whose callers promise to be alone on the range.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps so many pages, 1 to `limits::PAGES_MAX`, and has the kernel provide them now, so that no first use faults.
    pub fn new(pages: u32) -> Result<Arena, Error> {
        assert!((1..=PAGES_MAX).contains(&pages), "an arena has 1 to {PAGES_MAX} pages, not {pages}");
        let length = pages as usize * PAGE_BYTES as usize;
        let refused = |call, errno: Errno| {
            let text = format!("the pool of {pages} pages ({length} bytes) could not be set aside; ask for fewer pages");
            Error::system(errno.raw_os_error(), call, text)
        };
        let base = map_aligned(length).map_err(|errno| refused("mmap", errno))?;
        let zeroes = Zeroes::new().inspect_err(|_| unmap(base, length)).map_err(|errno| refused("mmap", errno))?;
        let arena = Arena { base, pages, zeroes };
        arena.protect().map_err(|errno| refused("madvise", errno))?;
        arena.populate().map_err(|errno| refused("madvise", errno))?;
        Ok(arena)
    }

    /// How many pages there are.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// How many bytes there are: always whole pages.
    #[must_use]
    pub fn length_bytes(&self) -> usize {
        self.pages as usize * PAGE_BYTES as usize
    }

    /// The address of a buffer of so many bytes; the arena holds all of it, or this panics. `BufferStart::ZEROES` is a buffer
    /// too, but only to write from: it is outside all chunks, and nothing can be stored there.
    #[must_use]
    pub fn pointer(&self, start: BufferStart, length_bytes: u32) -> *mut u8 {
        if start.page == BufferStart::ZEROES.page {
            return self.zeroes.pointer(start.offset_bytes, length_bytes);
        }
        let first = self.offset_bytes(start);
        let end = first + length_bytes as usize;
        assert!(end <= self.length_bytes(), "bytes {first}..{end} are outside an arena of {} bytes", self.length_bytes());
        // SAFETY: `first` is within the mapping, or one past its end for an empty buffer, as was just asserted.
        unsafe { self.base.as_ptr().add(first) }
    }

    /// Bytes from the arena's beginning to a buffer's. Page 3, byte 512 is 3 * 4096 + 512 = 12800.
    #[must_use]
    pub fn offset_bytes(&self, start: BufferStart) -> usize {
        start.page as usize * PAGE_BYTES as usize + start.offset_bytes as usize
    }

    /// Zeroes a range.
    ///
    /// # Safety
    /// Nothing else reads or writes the range meanwhile: its pages are free or belong to the caller's own chain, and none of
    /// that chain's steps on the range has been started.
    pub unsafe fn blank(&self, blank: &Blank) {
        let first = self.pointer(blank.buffer, blank.length_bytes);
        // SAFETY: the range is within the mapping, and the caller is alone on it.
        unsafe { ptr::write_bytes(first, 0, blank.length_bytes as usize) };
    }

    /// The chunks in order, as (first byte, length in bytes): each of `limits::ARENA_CHUNK_PAGES` pages, the last perhaps of
    /// fewer. 700 pages are chunks of 512 and 188 pages.
    pub fn chunks(&self) -> impl ExactSizeIterator<Item = (*mut u8, usize)> + '_ {
        let count = self.length_bytes().div_ceil(CHUNK_BYTES);
        (0..count).map(move |chunk| {
            let first = chunk * CHUNK_BYTES;
            // SAFETY: `first` is less than the mapping's length, because `count` is rounded up from that.
            let pointer = unsafe { self.base.as_ptr().add(first) };
            (pointer, CHUNK_BYTES.min(self.length_bytes() - first))
        })
    }

    /// The chunk that holds a page, as an index into `chunks`. Page 511 is in chunk 0, page 512 in chunk 1.
    #[must_use]
    pub fn chunk_of(page: u32) -> u32 {
        page / ARENA_CHUNK_PAGES
    }

    /// Gives the memory up for the rest of the process: for an engine that cannot wait for its last request. The kernel may
    /// go on writing there; nothing else ever will be there. Says how many bytes that costs.
    pub fn leak(self: &Arc<Self>) -> usize {
        mem::forget(Arc::clone(self));
        self.length_bytes()
    }

    fn address(&self) -> *mut c_void {
        self.base.as_ptr().cast()
    }

    /// Keeps the pages from children and from core dumps. Node forks for every child process: a page shared copy-on-write
    /// while the device writes into it would give the bytes to the wrong process.
    fn protect(&self) -> Result<(), Errno> {
        if self.length_bytes() >= CHUNK_BYTES {
            // A machine without huge pages refuses, and copies as well with small ones.
            let _ = self.advise(Advice::LinuxHugepage);
        }
        self.advise(Advice::LinuxDontFork)?;
        self.advise(Advice::LinuxDontDump)
    }

    fn populate(&self) -> Result<(), Errno> {
        match self.advise(Advice::LinuxPopulateWrite) {
            Ok(()) => Ok(()),
            Err(Errno::NOMEM) => Err(Errno::NOMEM),
            Err(_) => {
                self.touch();
                Ok(())
            }
        }
    }

    /// Writes one byte of each page: what kernels before 5.14 need in place of MADV_POPULATE_WRITE.
    fn touch(&self) {
        for page in 0..self.pages {
            let first = self.pointer(BufferStart { page, offset_bytes: 0 }, 1);
            // SAFETY: the byte is within the mapping, and nobody has been given the arena yet.
            unsafe { first.write_volatile(0) };
        }
    }

    fn advise(&self, advice: Advice) -> Result<(), Errno> {
        // SAFETY: the range is exactly this mapping, and none of the advices given here discards its contents.
        unsafe { madvise(self.address(), self.length_bytes(), advice) }
    }

    /// Zeroes everything in a way that a compiler may not leave out, though nobody reads it again.
    fn wipe(&mut self) {
        // SAFETY: the range is exactly this mapping, and `&mut self` means that nobody else has the arena.
        unsafe { libc::explicit_bzero(self.address(), self.length_bytes()) };
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.wipe();
        unmap(self.base, self.length_bytes());
    }
}

/// Zeros to write from: one read-only mapping that was never written, behind which the kernel has a single page of zeros.
#[derive(Debug)]
struct Zeroes {
    base: NonNull<u8>,
}

impl Zeroes {
    const LENGTH_BYTES: usize = (SUB_JOB_SECTORS_MAX * SECTOR_BYTES) as usize;

    fn new() -> Result<Zeroes, Errno> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory that is in use.
        let first = unsafe { mmap_anonymous(ptr::null_mut(), Self::LENGTH_BYTES, ProtFlags::READ, MapFlags::PRIVATE) }?;
        NonNull::new(first.cast()).map(|base| Zeroes { base }).ok_or(Errno::NOMEM)
    }

    fn pointer(&self, offset_bytes: u32, length_bytes: u32) -> *mut u8 {
        let (first, end) = (offset_bytes as usize, offset_bytes as usize + length_bytes as usize);
        assert!(end <= Self::LENGTH_BYTES, "bytes {first}..{end} are outside the {} zeros there are", Self::LENGTH_BYTES);
        // SAFETY: `first` is within the mapping, or one past its end for an empty buffer, as was just asserted.
        unsafe { self.base.as_ptr().add(first) }
    }
}

impl Drop for Zeroes {
    fn drop(&mut self) {
        unmap(self.base, Self::LENGTH_BYTES);
    }
}

/// Ends a mapping of this file's; pointers into it end with their arena, by rule 8.
fn unmap(base: NonNull<u8>, length: usize) {
    // SAFETY: every caller owns this mapping and gives it up.
    let unmapped = unsafe { munmap(base.as_ptr().cast(), length) };
    debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
}

/// Maps so many bytes from an address on that is a multiple of a chunk: reserves a chunk more and gives back both ends.
///
/// 4096 bytes with 2 MiB chunks: reserves 2101248 bytes at 0x7f0000123000, keeps 0x7f0000200000..0x7f0000201000.
fn map_aligned(length: usize) -> Result<NonNull<u8>, Errno> {
    let reserved = length + CHUNK_BYTES;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory that is in use.
    let first = unsafe { mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) }?;
    let before = first.addr().next_multiple_of(CHUNK_BYTES) - first.addr();
    let after = reserved - before - length;
    // SAFETY: both ends are parts of the mapping made above, which nobody else knows, and are multiples of a page; the
    // middle, which is kept, is never null.
    unsafe {
        let kept = first.add(before);
        if before > 0 {
            munmap(first, before)?;
        }
        if after > 0 {
            munmap(kept.add(length), after)?;
        }
        Ok(NonNull::new_unchecked(kept.cast()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(page: u32, offset_bytes: u32) -> BufferStart {
        BufferStart { page, offset_bytes }
    }

    fn bytes(arena: &Arena) -> &[u8] {
        // SAFETY: the test alone uses the arena, and only through this slice while it lives.
        unsafe { std::slice::from_raw_parts(arena.base.as_ptr(), arena.length_bytes()) }
    }

    fn fill(arena: &Arena, value: u8) {
        // SAFETY: the test alone uses the arena.
        unsafe { ptr::write_bytes(arena.base.as_ptr(), value, arena.length_bytes()) };
    }

    /// The lines of /proc/self/smaps about the mapping that contains the arena.
    fn mapping_of(arena: &Arena) -> Vec<String> {
        let address = arena.base.as_ptr().addr();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let range_of = |line: &str| {
            let (first, end) = line.split_once(' ')?.0.split_once('-')?;
            Some(usize::from_str_radix(first, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        };
        let mut lines = smaps.lines().skip_while(|line| !range_of(line).is_some_and(|range| range.contains(&address)));
        let head = lines.next().expect("the arena is mapped").to_owned();
        std::iter::once(head).chain(lines.take_while(|line| range_of(line).is_none()).map(str::to_owned)).collect()
    }

    fn resident_pages(arena: &Arena) -> usize {
        let mut pages = vec![0_u8; arena.pages as usize];
        // SAFETY: the range is exactly the mapping, and the vector has one byte for each of its pages.
        let answer = unsafe { libc::mincore(arena.address(), arena.length_bytes(), pages.as_mut_ptr()) };
        assert_eq!(answer, 0, "the whole arena is mapped");
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn a_page_is_where_its_index_says_and_the_first_is_aligned_to_a_chunk() {
        let arena = Arena::new(700).unwrap();
        let first = arena.pointer(start(0, 0), 4096);
        assert_eq!(first.addr() % CHUNK_BYTES, 0);
        assert_eq!(arena.pointer(start(3, 512), 1).addr() - first.addr(), 12800);
        assert_eq!(arena.pointer(start(1, 4096), 0).addr(), arena.pointer(start(2, 0), 0).addr());
    }

    #[test]
    fn a_buffer_may_end_where_the_arena_ends() {
        let arena = Arena::new(2).unwrap();
        assert!(!arena.pointer(start(1, 4095), 1).is_null());
        assert!(!arena.pointer(start(0, 0), 8192).is_null());
    }

    #[test]
    #[should_panic(expected = "outside an arena of 8192 bytes")]
    fn a_buffer_that_ends_past_the_arena_is_a_programmers_error() {
        let _ = Arena::new(2).unwrap().pointer(start(1, 1), 4096);
    }

    #[test]
    fn chunks_cover_every_page_once_and_no_page_straddles_two() {
        for pages in [1, 511, 512, 513, 700, 1024] {
            let arena = Arena::new(pages).unwrap();
            let chunks: Vec<_> = arena.chunks().collect();
            assert_eq!(chunks.iter().map(|chunk| chunk.1).sum::<usize>(), arena.length_bytes());
            for page in 0..pages {
                let (first, length) = chunks[Arena::chunk_of(page) as usize];
                let within = arena.pointer(start(page, 0), 4096).addr() - first.addr();
                assert!(within + 4096 <= length, "page {page} of {pages}");
            }
        }
    }

    #[test]
    fn every_page_is_resident_before_its_first_use() {
        for pages in [1, 700] {
            assert_eq!(resident_pages(&Arena::new(pages).unwrap()), pages as usize);
        }
    }

    #[test]
    fn p31_an_arena_is_neither_inherited_by_fork_nor_dumped() {
        let arena = Arena::new(4).unwrap();
        let mapping = mapping_of(&arena);
        let flags = mapping.iter().find(|line| line.starts_with("VmFlags:")).expect("smaps shows flags");
        assert!(flags.split_whitespace().any(|flag| flag == "dc"), "do not copy on fork: {flags}");
        assert!(flags.split_whitespace().any(|flag| flag == "dd"), "do not include in a core dump: {flags}");
    }

    #[test]
    fn p31_a_wiped_arena_holds_zeros_only() {
        let mut arena = Arena::new(3).unwrap();
        fill(&arena, 0xA5);
        assert!(bytes(&arena).iter().all(|byte| *byte == 0xA5));
        arena.wipe();
        assert!(bytes(&arena).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn touching_provides_the_pages_where_the_kernel_cannot_populate() {
        let length = 5 * PAGE_BYTES as usize;
        let arena = Arena { base: map_aligned(length).unwrap(), pages: 5, zeroes: Zeroes::new().unwrap() };
        assert_eq!(resident_pages(&arena), 0);
        arena.touch();
        assert_eq!(resident_pages(&arena), 5);
    }

    #[test]
    fn blanking_zeroes_exactly_its_range() {
        let arena = Arena::new(2).unwrap();
        fill(&arena, 0xFF);
        // SAFETY: the test alone uses the arena.
        unsafe { arena.blank(&Blank { buffer: start(0, 4000), length_bytes: 200 }) };
        let zeros: Vec<usize> = bytes(&arena).iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at).collect();
        assert_eq!(zeros, (4000..4200).collect::<Vec<_>>());
    }

    #[test]
    fn there_are_zeros_for_the_largest_sub_job() {
        let arena = Arena::new(1).unwrap();
        let zeros = arena.pointer(BufferStart::ZEROES, 1 << 20);
        // SAFETY: the pointer is good for so many bytes, and nobody can write them.
        assert!(unsafe { std::slice::from_raw_parts(zeros, 1 << 20) }.iter().all(|byte| *byte == 0));
    }

    #[test]
    #[should_panic(expected = "outside the 1048576 zeros")]
    fn more_zeros_than_there_are_is_a_programmers_error() {
        let _ = Arena::new(1).unwrap().pointer(BufferStart::ZEROES, (1 << 20) + 512);
    }

    #[test]
    fn a_leaked_arena_stays_mapped() {
        let arena = Arc::new(Arena::new(1).unwrap());
        let first = arena.pointer(start(0, 0), 1);
        assert_eq!(arena.leak(), 4096);
        drop(arena);
        // SAFETY: a leaked arena is never unmapped, and this test alone knows its address.
        unsafe { first.write_volatile(7) };
    }
}
