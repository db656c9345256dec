//! The devices that an engine knows, and the ring's table of registered files: a slot for each description of each device,
//! for as long as the device is attached. It refuses to know steps.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use io_uring::IoUring;
use io_uring::squeue::Flags;
use io_uring::types::Fd;

use super::setup::errno_of;
use crate::copy::chain::DeviceIndex;
use crate::engine::device::{Device, Route};

/// Slots of the table: a job of the most destinations needs 66. A device that finds none is used by its descriptor.
const SLOTS: u32 = 256;

/// How an entry names an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    /// By its slot in the ring's table.
    Slot(u32),
    /// By descriptor.
    Descriptor(RawFd),
}

impl Handle {
    /// What goes into the entry's field for a descriptor, and the flags that say how to read it.
    pub fn parts(self) -> (Fd, Flags) {
        match self {
            Handle::Slot(slot) => (Fd(slot as RawFd), Flags::FIXED_FILE),
            Handle::Descriptor(descriptor) => (Fd(descriptor), Flags::empty()),
        }
    }
}

struct Attached {
    device: Arc<Device>,
    main: Handle,
    buffered: Option<Handle>,
}

/// The attached devices.
pub struct Files {
    devices: Vec<Option<Attached>>,
    free_slots: Vec<u32>,
}

impl Files {
    /// Without a table: every device is used by its descriptors.
    pub fn unregistered() -> Files {
        Files { devices: Vec::new(), free_slots: Vec::new() }
    }

    /// With an empty table in the ring, which must not be restricted yet; or says why not. A table of holes is a sparse one
    /// on every kernel since 5.5.
    pub fn registered(ring: &IoUring) -> Result<Files, i32> {
        ring.submitter().register_files(&[-1; SLOTS as usize]).map_err(|refusal| errno_of(&refusal))?;
        Ok(Files { devices: Vec::new(), free_slots: (0..SLOTS).rev().collect() })
    }

    /// Makes a device known.
    pub fn attach(&mut self, ring: &IoUring, device: &Arc<Device>) -> DeviceIndex {
        let main = self.handle(ring, device.direct_descriptor());
        let buffered = device.buffered_descriptor().map(|descriptor| self.handle(ring, descriptor));
        let attached = Some(Attached { device: Arc::clone(device), main, buffered });
        let free = self.devices.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.devices.push(None);
            self.devices.len() - 1
        });
        self.devices[index] = attached;
        DeviceIndex(index as u32)
    }

    fn handle(&mut self, ring: &IoUring, descriptor: BorrowedFd<'_>) -> Handle {
        let plain = Handle::Descriptor(descriptor.as_raw_fd());
        let Some(slot) = self.free_slots.pop() else { return plain };
        match ring.submitter().register_files_update(slot, &[descriptor.as_raw_fd()]) {
            Ok(1) => Handle::Slot(slot),
            _ => {
                self.free_slots.push(slot);
                plain
            }
        }
    }

    /// Forgets a device and gives up what the ring holds of it (P33).
    pub fn detach(&mut self, ring: &IoUring, index: DeviceIndex) {
        let attached = self.devices[index.0 as usize].take().expect("only an attached device is detached");
        for handle in [Some(attached.main), attached.buffered].into_iter().flatten() {
            let Handle::Slot(slot) = handle else { continue };
            // The kernel refuses this only if it has no memory for a note of it. Then the slot is lost, and the file open
            // until the ring is closed; nothing better can be done.
            if ring.submitter().register_files_update(slot, &[-1]).is_ok() {
                self.free_slots.push(slot);
            }
        }
    }

    /// The device of that name.
    pub fn device(&self, index: DeviceIndex) -> &Arc<Device> {
        &self.attached(index).device
    }

    /// How entries name the description that a transfer goes through.
    pub fn transfer(&self, index: DeviceIndex, offset_bytes: u64, length_bytes: u64) -> Handle {
        let attached = self.attached(index);
        match (attached.device.uses_buffered(offset_bytes, length_bytes), attached.buffered) {
            (Route::Buffered, Some(buffered)) => buffered,
            _ => attached.main,
        }
    }

    /// How entries name the description that is flushed: any of a device's, they share the inode.
    pub fn flush(&self, index: DeviceIndex) -> Handle {
        self.attached(index).main
    }

    fn attached(&self, index: DeviceIndex) -> &Attached {
        self.devices[index.0 as usize].as_ref().expect("steps name attached devices")
    }
}
