//! Freed device memory, kept by size: a training step asks for the same sizes again and again, and the driver's own allocation waits for
//! the device.

use std::collections::BTreeMap;

/// Rounds up to one of eight sizes per power of two, and at least 512 bytes.
pub(super) fn size_class(bytes: usize) -> usize {
    let bytes = bytes.max(512);
    let step = (bytes.next_power_of_two() / 16).max(512);
    bytes.div_ceil(step) * step
}

/// Free blocks by size, and what there is in all.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: BTreeMap<usize, Vec<u64>>,
    /// Bytes on the shelves.
    held: usize,
    /// Bytes allocated from the driver, on the shelves or in use.
    pub(super) allocated: usize,
    /// Most that may be allocated.
    pub(super) limit: Option<usize>,
}

impl Pool {
    pub(super) fn take(&mut self, size: usize) -> Option<u64> {
        let block = self.free.get_mut(&size)?.pop()?;
        self.held -= size;
        Some(block)
    }

    pub(super) fn give(&mut self, address: u64, size: usize) {
        self.free.entry(size).or_default().push(address);
        self.held += size;
    }

    /// Whether so many bytes more stay within the limit.
    pub(super) fn has_room(&self, size: usize) -> bool {
        self.limit.is_none_or(|limit| self.allocated + size <= limit)
    }

    /// Bytes in use by tensors.
    pub(super) fn in_use(&self) -> usize {
        self.allocated - self.held
    }

    /// Takes every free block out: address and size.
    pub(super) fn empty(&mut self) -> Vec<(u64, usize)> {
        let free = std::mem::take(&mut self.free);
        self.allocated -= self.held;
        self.held = 0;
        let blocks = free.into_iter();
        blocks
            .flat_map(|(size, blocks)| blocks.into_iter().map(move |block| (block, size)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_cover_and_stay_close() {
        for bytes in (1..1 << 20).step_by(37) {
            let size = size_class(bytes);
            assert!(size >= bytes && size * 8 <= bytes * 9 + 8 * 512, "{bytes}: {size}");
            assert_eq!(size_class(size), size, "a block returns to the class it came from");
            assert_eq!(size % 256, 0);
        }
    }

    #[test]
    fn what_is_given_is_taken_and_counted() {
        let mut pool = Pool { allocated: 3072, limit: Some(4096), ..Pool::default() };
        assert_eq!(pool.take(1024), None);
        pool.give(7, 1024);
        pool.give(9, 512);
        assert_eq!(pool.in_use(), 1536);
        assert!(pool.has_room(1024) && !pool.has_room(1025));
        assert_eq!(pool.take(1024), Some(7));
        assert_eq!(pool.empty(), [(9, 512)]);
        assert_eq!((pool.allocated, pool.in_use()), (2560, 2560));
    }
}
