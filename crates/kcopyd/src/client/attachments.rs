//! The devices that a client's engine knows, and how many jobs use each. It refuses to know what the jobs do with them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::copy::chain::DeviceIndex;
use crate::engine::Engine;
use crate::engine::device::Device;
use crate::error::Error;

/// Called when a device has been forgotten.
pub(super) type Released = Box<dyn FnOnce() + Send>;

struct Attachment {
    device: Arc<Device>,
    index: DeviceIndex,
    jobs: usize,
    /// Who wants it forgotten as soon as no job uses it.
    awaited_by: Vec<Released>,
}

/// The devices attached to one engine. A device stays attached between jobs, so that a chain of small jobs costs nothing for
/// it, until it is released or nobody else holds it.
#[derive(Default)]
pub(super) struct Attachments {
    by_id: HashMap<u64, Attachment>,
    ids: HashMap<DeviceIndex, u64>,
}

type AnyEngine = dyn Engine<Device = Device>;

impl Attachments {
    /// Books one more job for a device, and makes it known to the engine if it is not.
    pub(super) fn use_device(&mut self, device: &Arc<Device>, engine: &mut AnyEngine) -> Result<DeviceIndex, Error> {
        if let Some(attachment) = self.by_id.get_mut(&device.id()) {
            attachment.jobs += 1;
            return Ok(attachment.index);
        }
        self.forget_abandoned(engine);
        let index = engine.attach(device)?;
        self.ids.insert(index, device.id());
        self.by_id.insert(device.id(), Attachment { device: Arc::clone(device), index, jobs: 1, awaited_by: Vec::new() });
        Ok(index)
    }

    /// A job that used the device is over; after the last one the device is forgotten, if somebody waits for that.
    pub(super) fn leave(&mut self, index: DeviceIndex, engine: &mut AnyEngine) {
        let attachment = self.ids.get(&index).and_then(|id| self.by_id.get_mut(id));
        let attachment = attachment.expect("a job leaves only devices that it used");
        attachment.jobs -= 1;
        if attachment.jobs == 0 && !attachment.awaited_by.is_empty() {
            let id = attachment.device.id();
            self.forget(id, engine);
        }
    }

    /// Forgets a device once no job uses it, which may be now, and then calls `released`.
    pub(super) fn release(&mut self, id: u64, released: Released, engine: &mut AnyEngine) {
        match self.by_id.get_mut(&id) {
            None => released(),
            Some(attachment) => {
                attachment.awaited_by.push(released);
                if attachment.jobs == 0 {
                    self.forget(id, engine);
                }
            }
        }
    }

    fn forget(&mut self, id: u64, engine: &mut AnyEngine) {
        let Attachment { device, index, awaited_by, .. } = self.by_id.remove(&id).expect("who forgets it has just seen it");
        self.ids.remove(&index);
        engine.detach(index);
        drop(device);
        awaited_by.into_iter().for_each(|released| released());
    }

    /// Forgets the devices that only this client and its engine still hold.
    fn forget_abandoned(&mut self, engine: &mut AnyEngine) {
        const HERE_AND_IN_THE_ENGINE: usize = 2;
        let abandoned = |attachment: &&Attachment| {
            attachment.jobs == 0 && Arc::strong_count(&attachment.device) <= HERE_AND_IN_THE_ENGINE
        };
        let ids: Vec<u64> = self.by_id.values().filter(abandoned).map(|attachment| attachment.device.id()).collect();
        ids.into_iter().for_each(|id| self.forget(id, engine));
    }

    /// Forgets all.
    pub(super) fn release_all(&mut self, engine: &mut AnyEngine) {
        let ids: Vec<u64> = self.by_id.keys().copied().collect();
        ids.into_iter().for_each(|id| self.forget(id, engine));
    }
}
