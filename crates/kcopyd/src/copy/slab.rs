//! A store that names what it holds by keys which are never valid for anything else. It refuses to know what it holds.

/// Names an entry. A key outlives its entry harmlessly: it then names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

/// Generations use 31 bits, so that a key's bits leave the top bit of 64 to whoever carries them.
const GENERATION_MASK: u32 = u32::MAX >> 1;

impl Key {
    /// The key as a number below 2^63.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key of such a number.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Key { index: bits as u32, generation: (bits >> 32) as u32 & GENERATION_MASK }
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    entry: Option<T>,
}

/// The store.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts an entry in.
    pub fn insert(&mut self, entry: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, entry: None });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1) & GENERATION_MASK;
        place.entry = Some(entry);
        Key { index, generation: place.generation }
    }

    /// The entry of that key, if it is still there.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation == key.generation { place.entry.as_mut() } else { None }
    }

    /// The entry of a key that is known to be valid.
    pub fn expect(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("the key of an entry that is still there")
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.generation != key.generation {
            return None;
        }
        let entry = place.entry.take()?;
        self.free.push(key.index);
        Some(entry)
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// The keys of the entries that fulfil a condition, the lowest place first.
    pub fn keys_where(&self, condition: impl Fn(&T) -> bool) -> Vec<Key> {
        let places = self.places.iter().enumerate();
        let fulfils = places.filter(|(_, place)| place.entry.as_ref().is_some_and(&condition));
        fulfils.map(|(index, place)| Key { index: index as u32, generation: place.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_entry_that_is_gone_names_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(Key::from_bits(second.to_bits())), Some(&mut 'b'));
        assert!(!slab.is_empty());
    }
}
