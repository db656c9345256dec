//! The arena as the ring sees it: registered with the kernel, a buffer for each chunk, or plain memory where the kernel does
//! not grant that. It refuses to know steps.

use std::sync::Arc;

use io_uring::IoUring;

use super::setup::errno_of;
use crate::copy::chain::BufferStart;
use crate::copy::limits::{ARENA_CHUNK_PAGES, PAGE_BYTES, PAGES_MAX};
use crate::engine::arena::Arena;

const CHUNK_BYTES: usize = (ARENA_CHUNK_PAGES as u64 * PAGE_BYTES) as usize;

/// What the kernel registers at most.
const REGISTERED_MAX: u32 = 16384;

const _: () = assert!(PAGES_MAX.div_ceil(ARENA_CHUNK_PAGES) <= REGISTERED_MAX, "the largest arena can be registered");

/// Where a step's bytes are, for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Their address.
    pub first: *mut u8,
    /// The registered buffer that holds them.
    pub registered: Option<u16>,
}

/// The arena, registered or not. All of it or nothing: if a part of it were registered, what else the user runs would decide
/// which pieces are fast.
pub struct Buffers {
    arena: Arc<Arena>,
    registered: bool,
}

impl Buffers {
    /// The arena as it is.
    pub fn unregistered(arena: Arc<Arena>) -> Buffers {
        Buffers { arena, registered: false }
    }

    /// Registers the arena with a ring, which must not be restricted yet; or hands it back and says why not.
    pub fn registered(ring: &IoUring, arena: Arc<Arena>) -> Result<Buffers, (Arc<Arena>, i32)> {
        let chunks = arena.chunks().map(|(first, length)| libc::iovec { iov_base: first.cast(), iov_len: length });
        let chunks: Vec<_> = chunks.collect();
        // SAFETY: the chunks are mapped for as long as the arena is; the engine gives it up only after the ring has let go.
        match unsafe { ring.submitter().register_buffers(&chunks) } {
            Ok(()) => Ok(Buffers { arena, registered: true }),
            Err(refusal) => Err((arena, errno_of(&refusal))),
        }
    }

    /// Whether transfers use registered buffers.
    pub fn are_registered(&self) -> bool {
        self.registered
    }

    /// The memory behind it all.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Where so many bytes from a start on are. Page 511 with an offset of 4096 bytes is in chunk 1, as page 512 is.
    pub fn memory(&self, start: BufferStart, length_bytes: u32) -> Memory {
        let first = self.arena.pointer(start, length_bytes);
        if !self.registered || start.page == BufferStart::ZEROES.page {
            return Memory { first, registered: None };
        }
        let offset = self.arena.offset_bytes(start);
        let chunk = offset / CHUNK_BYTES;
        assert!((offset + length_bytes as usize).div_ceil(CHUNK_BYTES) <= chunk + 1, "a run of pages is within one chunk");
        Memory { first, registered: Some(chunk as u16) }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn a_buffer_is_named_by_the_chunk_that_holds_it() {
        let buffers = Buffers { arena: Arc::new(Arena::new(1024).unwrap()), registered: true };
        let chunk = |page, offset_bytes, length| buffers.memory(BufferStart { page, offset_bytes }, length).registered;
        assert_eq!(chunk(0, 0, 2 << 20), Some(0));
        assert_eq!(chunk(511, 4095, 1), Some(0));
        assert_eq!(chunk(511, 4096, 4096), Some(1));
        assert_eq!(chunk(512, 0, 2 << 20), Some(1));
        let start = BufferStart { page: 511, offset_bytes: 4096 };
        assert!(ptr::eq(buffers.memory(start, 1).first, buffers.arena.pointer(start, 1)));
    }

    #[test]
    #[should_panic(expected = "within one chunk")]
    fn a_buffer_that_straddles_two_chunks_is_a_programmers_error() {
        let buffers = Buffers { arena: Arc::new(Arena::new(1024).unwrap()), registered: true };
        let _ = buffers.memory(BufferStart { page: 511, offset_bytes: 0 }, 4097);
    }
}
