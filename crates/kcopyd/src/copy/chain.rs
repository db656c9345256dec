//! The only vocabulary that the mind shares with the hands: a chain of steps goes out, one completion per step comes home.
//! It refuses to know jobs, destinations and bytes.

use smallvec::SmallVec;

/// Names an attached device to an engine. The mind only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceIndex(pub u32);

/// Chosen by whoever stages a chain, carried unread by the engine, and handed back with every completion of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainTag(pub u64);

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fill the buffer from the device.
    Read,
    /// Write the buffer to the device.
    Write,
    /// Make the range zero without moving bytes, as far as device and kernel can; the buffer is not looked at. An engine that
    /// knows that the device refuses this fails the step at once.
    Zero,
    /// Make everything written to the device so far durable (fdatasync); offset, length and buffer are not looked at.
    Flush,
}

/// Where a step's bytes are in the arena: from byte `offset_bytes` of page `page` on, contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferStart {
    /// The index of a page of the pool.
    pub page: u32,
    /// Bytes from the beginning of that page; may exceed a page.
    pub offset_bytes: u32,
}

impl BufferStart {
    /// The engine's own zeros, from which writes of at most `limits::SUB_JOB_SECTORS_MAX` sectors are made. No page of the pool.
    pub const ZEROES: BufferStart = BufferStart { page: u32::MAX, offset_bytes: 0 };
}

/// One request to one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub operation: Operation,
    /// On which device.
    pub device: DeviceIndex,
    /// From which byte of the device on.
    pub offset_bytes: u64,
    /// How many bytes; more than zero unless the step is a flush.
    pub length_bytes: u32,
    /// The memory to fill or to write from.
    pub buffer: BufferStart,
}

/// Bytes of the arena that must be zero before the chain's first write: padding of a tail, or what could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blank {
    /// Where the zeros begin.
    pub buffer: BufferStart,
    /// How many of them.
    pub length_bytes: u32,
}

/// A whole that is staged together: if the first step is a read, the others start only after it has completed in full;
/// otherwise all of them may start at once. A flush right behind a write starts only after that write has completed in full;
/// apart from that the steps after the first never wait for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Handed back with every completion.
    pub tag: ChainTag,
    /// At least one, at most `limits::CHAIN_STEPS_MAX`; a read stands only at the front.
    pub steps: SmallVec<[Step; 2]>,
    /// Zeroed when the chain is staged; never overlaps the range that the chain's own read fills.
    pub blanks: SmallVec<[Blank; 1]>,
}

/// What a step came to. A positive errno, as in `errno.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
    /// So many bytes were moved: the step's length, or fewer (a short result, zero included). A flush moves 0.
    Done(u32),
    /// The step failed with this positive errno.
    Failed(i32),
    /// The step was not started, because the chain's read failed or came short.
    NotAttempted,
}

/// One step has come home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The tag of the step's chain.
    pub tag: ChainTag,
    /// Which step of the chain, from 0.
    pub step: u8,
    /// What it came to.
    pub result: StepResult,
}
