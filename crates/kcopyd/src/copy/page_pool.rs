//! The client's pages: runs of pages by index, never bytes. All or nothing, never more than there are, whole again at the
//! end. It refuses to know who holds a run and why.

use super::limits::{ARENA_CHUNK_PAGES, PAGES_MAX};

const WORDS: usize = ARENA_CHUNK_PAGES as usize / 64;

/// Pages that lie side by side within one chunk of the arena, so that one registered buffer holds them all.
#[derive(Debug, PartialEq, Eq)]
pub struct PageRun {
    first: u32,
    pages: u32,
}

impl PageRun {
    /// The index of its first page.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.first
    }

    /// How many pages it has.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.pages
    }
}

/// One bit per page, set while the page is free.
#[derive(Clone)]
struct Chunk {
    free_bits: [u64; WORDS],
    free: u32,
}

/// The pool of a client's pages.
pub struct PagePool {
    chunks: Vec<Chunk>,
    total: u32,
    free: u32,
    /// No chunk before this one has a free page.
    first_with_free: usize,
}

impl PagePool {
    /// A pool of so many pages, all free.
    #[must_use]
    pub fn new(total: u32) -> Self {
        assert!((1..=PAGES_MAX).contains(&total), "the client checks its options before it makes a pool");
        let chunks = (0..total.div_ceil(ARENA_CHUNK_PAGES)).map(|chunk| {
            let pages = (total - chunk * ARENA_CHUNK_PAGES).min(ARENA_CHUNK_PAGES);
            let mut free_bits = [0; WORDS];
            (0..pages as usize).for_each(|page| free_bits[page / 64] |= 1 << (page % 64));
            Chunk { free_bits, free: pages }
        });
        PagePool { chunks: chunks.collect(), total, free: total, first_with_free: 0 }
    }

    /// How many pages there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// How many of them are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.free
    }

    /// Takes `pages` adjacent pages, the lowest that there are, or nothing.
    pub fn take(&mut self, pages: u32) -> Option<PageRun> {
        assert!(pages > 0 && pages <= ARENA_CHUNK_PAGES.min(self.total), "a run that can never be had was asked for");
        if pages > self.free {
            return None;
        }
        while self.chunks[self.first_with_free].free == 0 {
            self.first_with_free += 1;
        }
        for index in self.first_with_free..self.chunks.len() {
            let chunk = &mut self.chunks[index];
            if let Some(first) = chunk.find(pages) {
                chunk.set(first, pages, Mark::Taken);
                self.free -= pages;
                return Some(PageRun { first: index as u32 * ARENA_CHUNK_PAGES + first, pages });
            }
        }
        None
    }

    /// Takes a run back.
    pub fn give_back(&mut self, run: PageRun) {
        let index = (run.first / ARENA_CHUNK_PAGES) as usize;
        self.chunks[index].set(run.first % ARENA_CHUNK_PAGES, run.pages, Mark::Free);
        self.free += run.pages;
        self.first_with_free = self.first_with_free.min(index);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Free,
    Taken,
}

impl Chunk {
    /// The lowest page from which `pages` adjacent ones are free.
    fn find(&self, pages: u32) -> Option<u32> {
        if self.free < pages {
            return None;
        }
        let mut first = self.next(0, Mark::Free)?;
        loop {
            let end = self.next(first, Mark::Taken).unwrap_or(ARENA_CHUNK_PAGES);
            if end - first >= pages {
                return Some(first);
            }
            first = self.next(end, Mark::Free)?;
        }
    }

    /// The lowest page from `from` on that is free, or taken.
    fn next(&self, from: u32, wanted: Mark) -> Option<u32> {
        let mut word = from as usize / 64;
        let mut mask = u64::MAX << (from % 64);
        while word < WORDS {
            let bits = if wanted == Mark::Free { self.free_bits[word] } else { !self.free_bits[word] };
            if bits & mask != 0 {
                return Some(word as u32 * 64 + (bits & mask).trailing_zeros());
            }
            word += 1;
            mask = u64::MAX;
        }
        None
    }

    fn set(&mut self, first: u32, pages: u32, mark: Mark) {
        let (mut page, end) = (first, first + pages);
        while page < end {
            let (word, bit) = (page as usize / 64, page % 64);
            let count = (64 - bit).min(end - page);
            let mask = (u64::MAX >> (64 - count)) << bit;
            let bits = &mut self.free_bits[word];
            let expected = if mark == Mark::Taken { mask } else { 0 };
            assert!(*bits & mask == expected, "a page is taken only when free and given back only when taken");
            *bits ^= mask;
            page += count;
        }
        if mark == Mark::Taken { self.free -= pages } else { self.free += pages }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn p19_never_more_than_the_pool_and_whole_at_the_end() {
        let mut pool = PagePool::new(1000);
        let runs: Vec<_> = std::iter::from_fn(|| pool.take(7)).collect();
        assert_eq!(runs.len(), 512 / 7 + 488 / 7, "a run never straddles two chunks");
        runs.into_iter().for_each(|run| pool.give_back(run));
        assert_eq!(pool.free(), 1000);
        assert!(pool.take(512).is_some(), "given back, pages are adjacent again");
    }

    #[test]
    #[should_panic(expected = "given back only when taken")]
    fn a_run_given_back_twice_is_a_bug() {
        let mut pool = PagePool::new(8);
        let run = pool.take(4).expect("the pool is whole");
        pool.give_back(PageRun { first: run.first, pages: run.pages });
        pool.give_back(run);
    }

    proptest! {
        #[test]
        fn p19_runs_never_overlap(total in 1u32..1500, steps in prop::collection::vec((1u32..300, any::<bool>()), 1..200)) {
            let mut pool = PagePool::new(total);
            let mut held: Vec<PageRun> = Vec::new();
            for (pages, give) in steps {
                if give && !held.is_empty() {
                    pool.give_back(held.swap_remove(pages as usize % held.len()));
                } else if pages <= total.min(ARENA_CHUNK_PAGES) && let Some(run) = pool.take(pages) {
                    prop_assert!(run.first() + run.pages() <= total);
                    prop_assert_eq!(run.first() / ARENA_CHUNK_PAGES, (run.first() + run.pages() - 1) / ARENA_CHUNK_PAGES);
                    prop_assert!(held.iter().all(|other| run.first() + run.pages() <= other.first()
                        || other.first() + other.pages() <= run.first()));
                    held.push(run);
                }
                prop_assert_eq!(pool.free() + held.iter().map(PageRun::pages).sum::<u32>(), total);
            }
            held.into_iter().for_each(|run| pool.give_back(run));
            prop_assert_eq!(pool.free(), total);
        }
    }
}
