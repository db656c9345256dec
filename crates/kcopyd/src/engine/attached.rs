//! The devices that an engine knows, by index. It refuses to know what a device is.

use std::sync::Arc;

use crate::copy::chain::DeviceIndex;

/// A table of attached devices; an index that was given up is given out again.
#[derive(Debug)]
pub struct Attached<D> {
    places: Vec<Option<Arc<D>>>,
}

impl<D> Attached<D> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Attached { places: Vec::new() }
    }

    /// Keeps a device and names it.
    pub fn insert(&mut self, device: &Arc<D>) -> DeviceIndex {
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if free == self.places.len() {
            self.places.push(None);
        }
        self.places[free] = Some(Arc::clone(device));
        DeviceIndex(free as u32)
    }

    /// Gives a device up.
    pub fn remove(&mut self, index: DeviceIndex) -> Arc<D> {
        self.places.get_mut(index.0 as usize).and_then(Option::take).expect("only an attached device is detached")
    }

    /// The device of that name.
    #[must_use]
    pub fn get(&self, index: DeviceIndex) -> &Arc<D> {
        self.places.get(index.0 as usize).and_then(Option::as_ref).expect("a step names an attached device")
    }
}

impl<D> Default for Attached<D> {
    fn default() -> Self {
        Attached::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_given_out_again_after_it_was_given_up() {
        let mut table = Attached::new();
        let first = table.insert(&Arc::new('a'));
        let second = table.insert(&Arc::new('b'));
        assert_ne!(first, second);
        assert_eq!(*table.remove(first), 'a');
        assert_eq!(table.insert(&Arc::new('c')), first);
        assert_eq!((**table.get(first), **table.get(second)), ('c', 'b'));
    }

    #[test]
    #[should_panic(expected = "a step names an attached device")]
    fn a_detached_device_is_not_found() {
        let mut table = Attached::new();
        let index = table.insert(&Arc::new('a'));
        table.remove(index);
        let _ = table.get(index);
    }
}
