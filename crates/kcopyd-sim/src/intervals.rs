//! A set of bytes of a job as disjoint ranges in ascending order. It refuses to know what the bytes are.

use std::ops::Range;

use smallvec::SmallVec;

/// The set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals(SmallVec<[(u64, u64); 4]>);

impl Intervals {
    /// Puts a range in.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Pieces mostly come home in ascending order: then the last interval grows.
        if let Some(last) = self.0.last_mut()
            && last.1 == range.start
        {
            last.1 = range.end;
            return;
        }
        let first = self.0.partition_point(|interval| interval.1 < range.start);
        let end = self.0.partition_point(|interval| interval.0 <= range.end);
        if first == end {
            self.0.insert(first, (range.start, range.end));
            return;
        }
        let joined = (self.0[first].0.min(range.start), self.0[end - 1].1.max(range.end));
        self.0.drain(first + 1..end);
        self.0[first] = joined;
    }

    /// Takes a range out, and says how much of it was there.
    pub fn subtract(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() || !self.touches(&range) {
            return 0;
        }
        let mut taken = 0;
        let mut left = SmallVec::new();
        for &(start, end) in &self.0 {
            let (from, to) = (start.max(range.start), end.min(range.end));
            taken += to.saturating_sub(from);
            if start < range.start.min(end) {
                left.push((start, end.min(range.start)));
            }
            if range.end.max(start) < end {
                left.push((start.max(range.end), end));
            }
        }
        self.0 = left;
        taken
    }

    /// Whether all of a range is in the set.
    #[must_use]
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.0.iter().any(|interval| interval.0 <= range.start && range.end <= interval.1)
    }

    /// Whether any of a range is in the set.
    #[must_use]
    pub fn touches(&self, range: &Range<u64>) -> bool {
        self.0.iter().any(|interval| interval.0.max(range.start) < interval.1.min(range.end))
    }

    /// The first byte that is not in the set.
    #[must_use]
    pub fn first_gap(&self) -> u64 {
        self.0.first().map_or(0, |interval| if interval.0 == 0 { interval.1 } else { 0 })
    }

    /// The first byte that is in the set.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|interval| interval.0)
    }

    /// The parts of a range that are not in the set.
    #[must_use]
    pub fn gaps(&self, within: &Range<u64>) -> Intervals {
        let mut gaps = Intervals::default();
        gaps.add(within.clone());
        for &(start, end) in &self.0 {
            gaps.subtract(start..end);
        }
        gaps
    }

    /// Its ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|&(start, end)| start..end)
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kcopyd::engine::simulated::Random;

    #[test]
    fn the_set_is_what_a_list_of_bits_says() {
        let mut random = Random::new(3);
        for _ in 0..200 {
            let (mut set, mut bits) = (Intervals::default(), [false; 40]);
            for _ in 0..30 {
                let start = random.below(40);
                let range = start..start + random.below(41 - start);
                let within = range.start as usize..range.end as usize;
                if random.one_in(3) {
                    let taken = bits[within.clone()].iter().filter(|bit| **bit).count() as u64;
                    assert_eq!(set.subtract(range), taken);
                    bits[within].fill(false);
                } else {
                    set.add(range);
                    bits[within].fill(true);
                }
                let listed: Vec<u64> = set.iter().flatten().collect();
                let expected: Vec<u64> = (0..40).filter(|&at| bits[at as usize]).collect();
                assert_eq!(listed, expected);
                assert!(set.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "apart: {set:?}");
                assert_eq!(set.first_gap(), (0..40).find(|&at| !bits[at as usize]).unwrap_or(40));
                let gaps: Vec<u64> = set.gaps(&(5..30)).iter().flatten().collect();
                assert_eq!(gaps, (5..30).filter(|&at| !bits[at as usize]).collect::<Vec<_>>());
                assert_eq!(set.contains(&(7..19)), bits[7..19].iter().all(|bit| *bit));
                assert_eq!(set.touches(&(7..19)), bits[7..19].iter().any(|bit| *bit));
            }
        }
    }
}
