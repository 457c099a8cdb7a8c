//! A range of addresses, some of which are taken.

use std::collections::BTreeMap;

/// Offsets from 0 to a power of two, and the blocks of them that are taken.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    bits: u32,
    /// Start and end of each; disjoint.
    taken: BTreeMap<u64, u64>,
}

impl Pool {
    pub(super) fn new(bits: u32) -> Self {
        Pool { bits, taken: BTreeMap::new() }
    }

    /// How many bits an offset has.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// How many addresses there are.
    pub(super) fn size(&self) -> u64 {
        1 << self.bits
    }

    /// How many of them are free.
    pub(super) fn free(&self) -> u64 {
        self.size() - self.taken.iter().map(|(start, end)| end - start).sum::<u64>()
    }

    /// The end of something that is taken and reaches into the range, if anything does.
    pub(super) fn obstacle(&self, start: u64, len: u64) -> Option<u64> {
        let (_, &end) = self.taken.range(..start.saturating_add(len)).next_back()?;
        (end > start).then_some(end)
    }

    /// Takes a range, whether or not parts of it are taken already.
    pub(super) fn take(&mut self, start: u64, len: u64) {
        let (mut start, mut end) = (start, start.saturating_add(len).min(self.size()));
        while let Some((&other, &other_end)) = self.taken.range(..end).next_back()
            && other_end > start
        {
            self.taken.remove(&other);
            start = start.min(other);
            end = end.max(other_end);
        }
        if start < end {
            self.taken.insert(start, end);
        }
    }

    /// Takes the range if all of it is free.
    pub(super) fn claim(&mut self, start: u64, len: u64) -> bool {
        let free = start.saturating_add(len) <= self.size() && self.obstacle(start, len).is_none();
        if free {
            self.take(start, len);
        }
        free
    }

    /// The first free block of that size, aligned to it, at or after an offset.
    pub(super) fn first_free(&self, from: u64, bits: u32) -> Option<u64> {
        let len = 1u64.checked_shl(bits)?;
        let mut at = from.next_multiple_of(len);
        while at.checked_add(len)? <= self.size() {
            match self.obstacle(at, len) {
                None => return Some(at),
                Some(end) => at = end.next_multiple_of(len),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap() {
        let mut pool = Pool::new(8);
        pool.take(10, 5);
        pool.take(12, 10);
        assert_eq!(pool.free(), 256 - 12);
        assert!(!pool.claim(8, 4));
        assert!(pool.claim(8, 2));
        assert_eq!(pool.first_free(0, 3), Some(0));
        assert_eq!(pool.first_free(1, 3), Some(24));
        assert_eq!(pool.first_free(0, 8), None);
        assert_eq!(pool.first_free(250, 3), None);
    }
}
