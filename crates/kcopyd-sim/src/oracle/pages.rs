//! Who uses which page of memory, as chains in the engine's hands show it (P19). It knows pages by number and chains by tag.

use std::ops::Range;

/// What the arena's memory is cut into: a run of pages never straddles two such chunks.
const CHUNK_PAGES: u32 = 512;

const NOBODY: u64 = u64::MAX;

/// The pages.
#[derive(Debug)]
pub struct PageBook {
    users: Vec<u64>,
    /// Pages of pieces that have a chain in the engine's hands.
    pub of_pieces: u32,
}

impl PageBook {
    pub fn new(pages: u32) -> Self {
        PageBook { users: vec![NOBODY; pages as usize], of_pieces: 0 }
    }

    /// A chain begins to use pages; says what is wrong with that.
    pub fn take(&mut self, pages: &Range<u32>, tag: u64, of_piece: u32) -> Result<(), String> {
        self.of_pieces += of_piece;
        let Some(users) = self.users.get_mut(pages.start as usize..pages.end as usize) else {
            return Err(format!("pages {pages:?} are not in the pool"));
        };
        if !pages.is_empty() && pages.start / CHUNK_PAGES != (pages.end - 1) / CHUNK_PAGES {
            return Err(format!("pages {pages:?} lie in two chunks of the arena"));
        }
        for user in users {
            if *user != NOBODY {
                return Err(format!("a page of {pages:?} is used by the chain {user:#x} already"));
            }
            *user = tag;
        }
        Ok(())
    }

    /// A chain is home.
    pub fn give_back(&mut self, pages: &Range<u32>, of_piece: u32) {
        self.of_pieces -= of_piece;
        if let Some(users) = self.users.get_mut(pages.start as usize..pages.end as usize) {
            users.fill(NOBODY);
        }
    }
}
