//! Reference-counted memory of a tensor, taken from a pool and given back to it.
//!
//! A training step asks for the same sizes again and again. Returning a large block to the system and asking for it anew costs a
//! page fault per 4 KiB, more than many operations on it; the pool keeps freed blocks, up to a limit, by size.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::Element;

/// One cache line: buffers begin on a line's boundary, so that no vector load straddles two.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Blocks smaller than this are left to the system's allocator.
const SMALLEST_POOLED_LINES: usize = 64;
/// Bytes the pool keeps at most.
const DEFAULT_LIMIT_BYTES: usize = 1 << 30;

struct Pool {
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    held_lines: usize,
    limit_lines: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(|| {
    Mutex::new(Pool {
        free: BTreeMap::new(),
        held_lines: 0,
        limit_lines: DEFAULT_LIMIT_BYTES / size_of::<Line>(),
    })
});

/// Sets how many bytes of freed memory are kept for reuse (1 GiB unless set); what is held beyond that is released.
pub fn set_pool_limit(bytes: usize) {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.limit_lines = bytes / size_of::<Line>();
    while pool.held_lines > pool.limit_lines {
        let Some((size, blocks)) = pool.free.pop_last() else {
            break;
        };
        pool.held_lines -= size * blocks.len();
    }
}

/// Rounds up to one of eight sizes per power of two, so that nearly equal requests share blocks.
fn size_class(lines: usize) -> usize {
    if lines <= 8 {
        return lines;
    }
    let step = (lines.next_power_of_two() / 2 / 8).max(1);
    lines.div_ceil(step) * step
}

fn take(lines: usize) -> Vec<Line> {
    if lines >= SMALLEST_POOLED_LINES {
        let size = size_class(lines);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = pool.free.get_mut(&size).and_then(Vec::pop) {
            pool.held_lines -= size;
            return block;
        }
        drop(pool);
        return vec![Line([0; 64]); size];
    }
    vec![Line([0; 64]); lines]
}

fn give(block: Vec<Line>) {
    let size = block.len();
    if size < SMALLEST_POOLED_LINES {
        return;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.held_lines + size <= pool.limit_lines {
        pool.held_lines += size;
        pool.free.entry(size).or_default().push(block);
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
    pub(crate) fn unfilled(len: usize) -> Self {
        let lines = take((len * size_of::<T>()).div_ceil(size_of::<Line>()));
        let mut buffer = Buffer { lines, len, element: PhantomData };
        if cfg!(debug_assertions) {
            buffer.as_mut_slice().fill(T::from_f64(f64::NAN));
        }
        buffer
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
