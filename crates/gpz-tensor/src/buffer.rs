//! Reference-counted memory of a tensor, taken from a pool and given back to it.
//!
//! A training step asks for the same sizes again and again. Returning a large block to the system and asking for it anew costs a
//! page fault per 4 KiB, more than many operations on it; the pool keeps freed blocks, up to a limit, by size.

use std::alloc::{Layout, handle_alloc_error};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Element;

/// One cache line: buffers begin on a line's boundary, so that no vector load straddles two.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Blocks smaller than this are left to the system's allocator.
const SMALLEST_POOLED_LINES: usize = 64;
/// Bytes the pool keeps at most.
const DEFAULT_LIMIT_BYTES: usize = 1 << 30;

/// Free blocks of one size.
#[derive(Default)]
struct Shelf {
    blocks: Vec<Vec<Line>>,
    /// When a block was last put there or asked for.
    used: u64,
}

struct Pool {
    shelves: BTreeMap<usize, Shelf>,
    held_lines: usize,
    limit_lines: usize,
    clock: u64,
}

impl Pool {
    const fn new(limit_lines: usize) -> Self {
        Pool { shelves: BTreeMap::new(), held_lines: 0, limit_lines, clock: 0 }
    }

    fn shelf(&mut self, size: usize) -> &mut Shelf {
        self.clock += 1;
        let shelf = self.shelves.entry(size).or_default();
        shelf.used = self.clock;
        shelf
    }

    fn take(&mut self, size: usize) -> Option<Vec<Line>> {
        let block = self.shelf(size).blocks.pop()?;
        self.held_lines -= size;
        Some(block)
    }

    /// Keeps a block. Returns what has to be released for it: blocks of the sizes nobody asked for the longest, or the block itself.
    fn give(&mut self, block: Vec<Line>) -> Vec<Vec<Line>> {
        let size = block.len();
        if size > self.limit_lines {
            return vec![block];
        }
        self.shelf(size).blocks.push(block);
        self.held_lines += size;
        self.release_excess()
    }

    fn release_excess(&mut self) -> Vec<Vec<Line>> {
        let mut released = Vec::new();
        while self.held_lines > self.limit_lines {
            let filled = self.shelves.iter_mut().filter(|(_, shelf)| !shelf.blocks.is_empty());
            let Some((size, shelf)) = filled.min_by_key(|(_, shelf)| shelf.used) else {
                break;
            };
            self.held_lines -= size;
            released.extend(shelf.blocks.pop());
        }
        released
    }
}

static POOL: Mutex<Pool> = Mutex::new(Pool::new(DEFAULT_LIMIT_BYTES / size_of::<Line>()));

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets how many bytes of freed memory are kept for reuse (1 GiB unless set); what is held beyond that is released.
pub fn set_pool_limit(bytes: usize) {
    let mut pool = pool();
    pool.limit_lines = bytes / size_of::<Line>();
    let released = pool.release_excess();
    // The system takes its time; nobody else has to wait for it.
    drop(pool);
    drop(released);
}

/// Rounds up to one of eight sizes per power of two, so that nearly equal requests share blocks.
fn size_class(lines: usize) -> usize {
    if lines <= 8 {
        return lines;
    }
    let step = (lines.next_power_of_two() / 2 / 8).max(1);
    lines.div_ceil(step) * step
}

/// A block of at least so many lines, `None` if the system has no such memory.
fn take(lines: usize) -> Option<Vec<Line>> {
    let pooled = lines >= SMALLEST_POOLED_LINES;
    let size = if pooled { size_class(lines) } else { lines };
    if pooled && let Some(block) = pool().take(size) {
        return Some(block);
    }
    let mut block = Vec::new();
    block.try_reserve_exact(size).ok()?;
    block.resize(size, Line([0; 64]));
    Some(block)
}

fn give(block: Vec<Line>) {
    if block.len() >= SMALLEST_POOLED_LINES {
        let released = pool().give(block);
        drop(released);
    }
}

/// `len` elements, aligned to a cache line.
pub struct Buffer<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// Contents are whatever the block held before; every element must be written. Debug builds fill it with NaN, so that a test
    /// notices an element that was not.
    ///
    /// Without memory for it the process ends, as it does for any collection; sizes a caller chooses freely go through
    /// [`Buffer::try_filled`].
    pub(crate) fn unfilled(len: usize) -> Self {
        let Some(mut buffer) = Self::uninspected(len) else {
            handle_alloc_error(Layout::array::<T>(len).unwrap_or(Layout::new::<T>()));
        };
        if cfg!(debug_assertions) {
            buffer.as_mut_slice().fill(T::from_f64(f64::NAN));
        }
        buffer
    }

    fn uninspected(len: usize) -> Option<Self> {
        let lines = take((len * size_of::<T>()).div_ceil(size_of::<Line>()))?;
        Some(Buffer { lines, len, element: PhantomData })
    }

    /// `None` if there is no memory for it.
    pub(crate) fn try_filled(len: usize, value: T) -> Option<Self> {
        let mut buffer = Self::uninspected(len)?;
        buffer.as_mut_slice().fill(value);
        Some(buffer)
    }

    pub(crate) fn filled(len: usize, value: T) -> Self {
        let mut buffer = Self::unfilled(len);
        buffer.as_mut_slice().fill(value);
        buffer
    }

    pub(crate) fn from_slice(values: &[T]) -> Self {
        let mut buffer = Self::unfilled(values.len());
        buffer.as_mut_slice().copy_from_slice(values);
        buffer
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self.as_slice())
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.lines));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_cover_and_stay_close() {
        for lines in 1..100_000 {
            let size = size_class(lines);
            assert!(
                size >= lines && size * 8 <= lines * 9 + 8,
                "{lines} lines got a block of {size}"
            );
            assert_eq!(size_class(size), size, "a block returns to the class it came from");
        }
    }

    /// Sizes on the shelves, one per block.
    fn held(pool: &Pool) -> Vec<usize> {
        let blocks = pool.shelves.iter().flat_map(|(&size, shelf)| {
            assert!(shelf.blocks.iter().all(|block| block.len() == size));
            std::iter::repeat_n(size, shelf.blocks.len())
        });
        let sizes: Vec<usize> = blocks.collect();
        assert_eq!(sizes.iter().sum::<usize>(), pool.held_lines);
        sizes
    }

    fn block(size: usize) -> Vec<Line> {
        vec![Line([0; 64]); size]
    }

    #[test]
    fn a_full_pool_releases_the_sizes_nobody_asks_for() {
        let mut pool = Pool::new(1000);
        let sizes = |blocks: Vec<Vec<Line>>| blocks.iter().map(Vec::len).collect::<Vec<_>>();
        for size in [300, 300, 400] {
            assert!(pool.give(block(size)).is_empty());
        }
        assert_eq!(pool.take(400).map(|b| b.len()), Some(400));
        assert!(pool.take(400).is_none() && pool.take(200).is_none());
        assert!(pool.give(block(400)).is_empty());
        // Blocks of 300 have lain there the longest: one makes room for 200, the other for 250.
        assert_eq!(sizes(pool.give(block(200))), [300]);
        assert_eq!(held(&pool), [200, 300, 400]);
        assert_eq!(sizes(pool.give(block(250))), [300]);
        assert_eq!(held(&pool), [200, 250, 400]);
        assert_eq!(sizes(pool.give(block(1001))), [1001], "it would not fit an empty pool");
        assert_eq!(sizes(pool.give(block(1000))), [400, 200, 250]);
        assert_eq!(sizes(pool.give(block(1000))), [1000], "one of two of a size is enough");
        pool.limit_lines = 999;
        assert_eq!(sizes(pool.release_excess()), [1000]);
        assert_eq!(held(&pool), [0; 0]);
    }

    #[test]
    fn memory_that_is_not_there_is_no_buffer() {
        assert!(Buffer::<f64>::try_filled(1 << 46, 0.0).is_none());
        assert!(Buffer::<f64>::try_filled(1 << 10, 0.0).is_some());
    }

    #[test]
    fn buffers_are_line_aligned_and_reused() {
        let first = Buffer::<f32>::filled(100_003, 1.0);
        let address = first.as_slice().as_ptr() as usize;
        assert_eq!(address % 64, 0);
        drop(first);
        // Another test's thread may take the block in between; what matters is that the contents never leak through.
        let second = Buffer::<f64>::filled(50_001, 2.0);
        assert!(second.as_slice().iter().all(|&v| v == 2.0));
    }
}
