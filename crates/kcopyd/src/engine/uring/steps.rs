//! A step as an entry of the ring, and the two ways of running a chain. It refuses to touch the ring.

use io_uring::opcode::{Fallocate, Fsync, Read, ReadFixed, Write, WriteFixed};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags};

use super::buffers::Memory;
use super::files::Handle;
use crate::copy::chain::{Chain, Operation, Step, StepResult};
use crate::engine::in_flight::{InFlight, Start};

/// Which of the two ways chains are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chains {
    /// Whichever the measurements say is faster for this chain now; see `start_for`.
    #[default]
    AsMeasured,
    /// All steps handed over at once, each linked to the one before, wherever that is possible.
    Linked,
    /// The read alone, and all other steps together once it has come home.
    FanOut,
}

/// Up to so many chains in flight, linked is the faster way for a chain with one destination.
const LINKED_CHAINS_MAX: usize = 1;

/// How a chain is run while so many are in flight, itself included.
///
/// Linked, the kernel starts a write without asking us, but the writes run one after the other; fanned out, the writes run
/// side by side, and those of several chains go out together. So linked pays where there is one write and nothing to share
/// a submission with.
pub fn start_for(chains: Chains, chain: &Chain, flushes: Flushes, chains_in_flight: usize) -> Start {
    let one_write = one_write(chain);
    let can_link = InFlight::begins_with_read(chain)
        && chain.steps.len() > 1
        && (only_writes(chain) || (one_write && flushes == Flushes::AreOneRequest));
    let link = match chains {
        Chains::AsMeasured => one_write && chains_in_flight <= LINKED_CHAINS_MAX,
        Chains::Linked => true,
        Chains::FanOut => false,
    };
    if can_link && link { Start::Linked } else { Start::AfterRead }
}

/// Whether the flushes of a chain can be links: not if they are more than one request, or none because they have failed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushes {
    /// Each is one request.
    AreOneRequest,
    /// Some are not.
    AreNot,
}

fn only_writes(chain: &Chain) -> bool {
    chain.steps[1..].iter().all(|step| step.operation == Operation::Write)
}

/// Whether a chain is a read, a write, and perhaps the flush behind that.
fn one_write(chain: &Chain) -> bool {
    match chain.steps.len() {
        2 => only_writes(chain),
        3 => InFlight::waits_for_write(chain, 2),
        _ => false,
    }
}

/// The flag that ties a step of a linked chain to the next one. Soft after the read: a read that fails or comes short
/// cancels every write. Soft before a flush, which is not to say yes to a write that failed. Hard between the writes: they
/// do not notice each other. None at the end: an open chain would be handed to a worker of the kernel's.
pub fn link_of(chain: &Chain, position: usize) -> Flags {
    match position {
        _ if position + 1 == chain.steps.len() => Flags::empty(),
        0 => Flags::IO_LINK,
        _ if InFlight::waits_for_write(chain, position + 1) => Flags::IO_LINK,
        _ => Flags::IO_HARDLINK,
    }
}

/// A read or a write.
pub fn transfer(step: &Step, file: Handle, memory: Memory) -> Entry {
    let (file, flags) = file.parts();
    let (first, length, offset) = (memory.first, step.length_bytes, step.offset_bytes);
    let entry = match (step.operation, memory.registered) {
        (Operation::Read, None) => Read::new(file, first, length).offset(offset).build(),
        (Operation::Read, Some(index)) => ReadFixed::new(file, first, length, index).offset(offset).build(),
        (Operation::Write, None) => Write::new(file, first, length).offset(offset).build(),
        (Operation::Write, Some(index)) => WriteFixed::new(file, first, length, index).offset(offset).build(),
        (Operation::Zero | Operation::Flush, _) => unreachable!("it moves no bytes"),
    };
    entry.flags(flags)
}

/// Zeroing by the device or its file system: to the kernel always work for one of its workers.
pub fn zero(step: &Step, file: Handle) -> Entry {
    let (file, flags) = file.parts();
    let entry = Fallocate::new(file, u64::from(step.length_bytes)).offset(step.offset_bytes);
    entry.mode(libc::FALLOC_FL_ZERO_RANGE).build().flags(flags)
}

/// The flush of a device.
pub fn flush(file: Handle) -> Entry {
    let (file, flags) = file.parts();
    Fsync::new(file).flags(FsyncFlags::DATASYNC).build().flags(flags)
}

/// The flush of a directory: of all of it, a name is no data.
pub fn flush_directory(descriptor: i32) -> Entry {
    Fsync::new(Fd(descriptor)).build()
}

/// What a step came to, from the kernel's answer. The kernel cancels the links behind a bad read; a step that is cancelled
/// though its read was done in full has failed.
pub fn result_of(answer: i32, starts_by_itself: StartsByItself) -> StepResult {
    match (answer, starts_by_itself) {
        (0.., _) => StepResult::Done(answer as u32),
        (_, StartsByItself::No) if answer == -libc::ECANCELED => StepResult::NotAttempted,
        _ => StepResult::Failed(-answer),
    }
}

/// Whether the kernel starts a step whatever becomes of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartsByItself {
    /// It does.
    Yes,
    /// It is linked to a read that has not been seen to be done in full.
    No,
}

/// How many requests of each kind were made: shows that what should be used is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// READ, without the waker's.
    pub read: u64,
    /// WRITE.
    pub write: u64,
    /// READ_FIXED: into a registered buffer.
    pub read_fixed: u64,
    /// WRITE_FIXED: from a registered buffer.
    pub write_fixed: u64,
    /// FALLOCATE, to zero a range.
    pub fallocate: u64,
    /// FSYNC, of devices and directories.
    pub fsync: u64,
    /// Those of all that named a registered file.
    pub registered_files: u64,
    /// Chains that were run linked.
    pub linked: u64,
    /// Chains that were run the other way.
    pub fan_out: u64,
    /// Answers to nothing in flight.
    pub unknown: u64,
}

impl Counters {
    /// Counts a request.
    pub fn count(&mut self, entry: &Entry, file: Option<Handle>) {
        let counter = match entry.get_opcode() as u8 {
            Read::CODE => &mut self.read,
            Write::CODE => &mut self.write,
            ReadFixed::CODE => &mut self.read_fixed,
            WriteFixed::CODE => &mut self.write_fixed,
            Fallocate::CODE => &mut self.fallocate,
            _ => &mut self.fsync,
        };
        *counter += 1;
        self.registered_files += u64::from(matches!(file, Some(Handle::Slot(_))));
    }
}
