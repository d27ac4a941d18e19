//! Reference-counted memory of a tensor, taken from a pool and given back to it.
//!
//! A training step asks for the same sizes again and again. Returning a large block to the system and asking for it anew costs a
//! page fault per 4 KiB, more than many operations on it; the pool keeps freed blocks, up to a limit, by size.
//!
//! Kept by size, blocks of a forward pass lie idle while gradients of other sizes are asked for, and the other way round: memory would
//! grow to the sum over the sizes of the most there ever was of each. So idle blocks are released rather than new ones taken beyond
//! what was once in use altogether and a quarter, or 256 MiB.

use std::alloc::{Layout, handle_alloc_error};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

use crate::Element;

/// One cache line: buffers begin on a line's boundary, so that no vector load straddles two.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Blocks smaller than this are left to the system's allocator.
const SMALLEST_POOLED_LINES: usize = 64;
/// Blocks from this size on are mappings of their own: an allocator keeps what it is given back between what is still in use, where a
/// block of another size does not fit, and the system does not get it.
const SMALLEST_MAPPED_LINES: usize = (1 << 19) / size_of::<Line>();
/// Bytes the pool keeps at most.
const DEFAULT_LIMIT_BYTES: usize = 1 << 30;
/// Bytes by which what is in use and what is kept may always exceed the most that was in use at once: releasing and asking anew in
/// every step of a small network would cost more time than the memory is worth.
const SPARE_BYTES: usize = 1 << 28;

/// Memory of a whole number of lines, which begins on a line's boundary.
enum Block {
    Heap(Vec<Line>),
    Mapped(MmapMut),
}

impl Block {
    /// `None` if the system has no such memory.
    fn new(lines: usize) -> Option<Block> {
        // Where no further map is to be had, the allocator may still have room.
        if lines >= SMALLEST_MAPPED_LINES
            && let Ok(map) = MmapMut::map_anon(lines.checked_mul(size_of::<Line>())?)
        {
            return Some(Block::Mapped(map));
        }
        let mut block = Vec::new();
        block.try_reserve_exact(lines).ok()?;
        block.resize(lines, Line([0; 64]));
        Some(Block::Heap(block))
    }

    fn lines(&self) -> usize {
        match self {
            Block::Heap(lines) => lines.len(),
            Block::Mapped(map) => map.len() / size_of::<Line>(),
        }
    }

    fn as_slice<T: Element>(&self) -> &[T] {
        match self {
            Block::Heap(lines) => bytemuck::cast_slice(lines),
            Block::Mapped(map) => bytemuck::cast_slice(map),
        }
    }

    fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        match self {
            Block::Heap(lines) => bytemuck::cast_slice_mut(lines),
            Block::Mapped(map) => bytemuck::cast_slice_mut(map),
        }
    }
}

/// Nothing.
impl Default for Block {
    fn default() -> Self {
        Block::Heap(Vec::new())
    }
}

/// Free blocks of one size.
#[derive(Default)]
struct Shelf {
    blocks: Vec<Block>,
    /// When a block was last put there or asked for.
    used: u64,
}

struct Pool {
    shelves: BTreeMap<usize, Shelf>,
    held_lines: usize,
    limit_lines: usize,
    in_use_lines: usize,
    /// The most there ever was of them.
    most_in_use_lines: usize,
    spare_lines: usize,
    clock: u64,
}

impl Pool {
    const fn new(limit_lines: usize, spare_lines: usize) -> Self {
        Pool {
            shelves: BTreeMap::new(),
            held_lines: 0,
            limit_lines,
            in_use_lines: 0,
            most_in_use_lines: 0,
            spare_lines,
            clock: 0,
        }
    }

    fn shelf(&mut self, size: usize) -> &mut Shelf {
        self.clock += 1;
        let shelf = self.shelves.entry(size).or_default();
        shelf.used = self.clock;
        shelf
    }

    /// A kept block; or what is to be released before a new one is made. The block is in use from now on, one that has to be made as well.
    fn take(&mut self, size: usize) -> Result<Block, Vec<Block>> {
        self.in_use_lines += size;
        let most = self.most_in_use_lines.max(self.in_use_lines);
        if let Some(block) = self.shelf(size).blocks.pop() {
            self.held_lines -= size;
            self.most_in_use_lines = most;
            return Ok(block);
        }
        let idle = most - self.in_use_lines + self.spare_lines.max(most / 4);
        Err(self.release_down_to(idle))
    }

    /// Notes that a block was made.
    fn made(&mut self) {
        self.most_in_use_lines = self.most_in_use_lines.max(self.in_use_lines);
    }

    /// Notes that a block could not be made.
    fn not_made(&mut self, size: usize) {
        self.in_use_lines -= size;
    }

    /// Keeps a block that was in use. Returns what has to be released for it: blocks of the sizes nobody asked for the longest, or the
    /// block itself.
    fn give(&mut self, block: Block) -> Vec<Block> {
        let size = block.lines();
        self.in_use_lines -= size;
        if size > self.limit_lines {
            return vec![block];
        }
        self.shelf(size).blocks.push(block);
        self.held_lines += size;
        self.release_down_to(self.limit_lines)
    }

    fn release_down_to(&mut self, limit_lines: usize) -> Vec<Block> {
        let mut released = Vec::new();
        while self.held_lines > limit_lines {
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

static POOL: Mutex<Pool> =
    Mutex::new(Pool::new(DEFAULT_LIMIT_BYTES / size_of::<Line>(), SPARE_BYTES / size_of::<Line>()));

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets how many bytes of freed memory are kept for reuse (1 GiB unless set); what is held beyond that is released. Together with what
/// is in use it is kept within the most that was ever in use at once and a quarter more (256 MiB, if that is more).
pub fn set_pool_limit(bytes: usize) {
    let mut pool = pool();
    pool.limit_lines = bytes / size_of::<Line>();
    let limit = pool.limit_lines;
    let released = pool.release_down_to(limit);
    // The system takes its time; nobody else has to wait for it.
    drop(pool);
    drop(released);
}

/// Bytes of tensors on the processor, of those of 4 KiB and more, rounded up to the sizes that are handed out.
#[must_use]
pub fn bytes_in_use() -> usize {
    pool().in_use_lines * size_of::<Line>()
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
fn take(lines: usize) -> Option<Block> {
    if lines < SMALLEST_POOLED_LINES {
        return Block::new(lines);
    }
    let size = size_class(lines);
    // Guards are gone before memory is asked for or given back.
    let kept = pool().take(size);
    match kept {
        Ok(block) => return Some(block),
        Err(released) => drop(released),
    }
    let made = Block::new(size).or_else(|| {
        let idle = pool().release_down_to(0);
        drop(idle);
        Block::new(size)
    });
    let mut pool = pool();
    match made {
        Some(_) => pool.made(),
        None => pool.not_made(size),
    }
    made
}

fn give(block: Block) {
    if block.lines() >= SMALLEST_POOLED_LINES {
        let released = pool().give(block);
        drop(released);
    }
}

/// `len` elements, aligned to a cache line.
pub struct Buffer<T> {
    block: Block,
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
        let block = take((len * size_of::<T>()).div_ceil(size_of::<Line>()))?;
        Some(Buffer { block, len, element: PhantomData })
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
        &self.block.as_slice()[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.block.as_mut_slice()[..self.len]
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self.as_slice())
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.block));
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
            assert!(shelf.blocks.iter().all(|block| block.lines() == size));
            std::iter::repeat_n(size, shelf.blocks.len())
        });
        let sizes: Vec<usize> = blocks.collect();
        assert_eq!(sizes.iter().sum::<usize>(), pool.held_lines);
        sizes
    }

    fn sizes(blocks: &[Block]) -> Vec<usize> {
        blocks.iter().map(Block::lines).collect()
    }

    /// A block, and the sizes that were released for it.
    fn take(pool: &mut Pool, size: usize) -> (Block, Vec<usize>) {
        match pool.take(size) {
            Ok(block) => (block, Vec::new()),
            Err(released) => {
                pool.made();
                (Block::new(size).unwrap(), sizes(&released))
            }
        }
    }

    #[test]
    fn a_full_pool_releases_the_sizes_nobody_asks_for() {
        let mut pool = Pool::new(1000, 10_000);
        let all = [300, 300, 400, 200, 250, 1001, 1000, 1000].map(|size| take(&mut pool, size).0);
        let [a, b, c, d, e, larger, full, also_full] = all;
        for block in [a, b, c] {
            assert!(pool.give(block).is_empty());
        }
        let (c, released) = take(&mut pool, 400);
        assert!((c.lines(), released.len(), held(&pool)) == (400, 0, vec![300, 300]));
        assert!(pool.give(c).is_empty());
        // Blocks of 300 have lain there the longest: one makes room for 200, the other for 250.
        assert_eq!(sizes(&pool.give(d)), [300]);
        assert_eq!(held(&pool), [200, 300, 400]);
        assert_eq!(sizes(&pool.give(e)), [300]);
        assert_eq!(held(&pool), [200, 250, 400]);
        assert_eq!(sizes(&pool.give(larger)), [1001], "it would not fit an empty pool");
        assert_eq!(sizes(&pool.give(full)), [400, 200, 250]);
        assert_eq!(sizes(&pool.give(also_full)), [1000], "one of two of a size is enough");
        assert_eq!((pool.in_use_lines, pool.most_in_use_lines), (0, 4451));
        assert_eq!(sizes(&pool.release_down_to(999)), [1000]);
        assert_eq!(held(&pool), [0; 0]);
    }

    /// A forward pass of blocks of 100, then a backward pass that frees one for each gradient of 110: what is idle makes room for it.
    #[test]
    fn blocks_of_one_size_make_room_for_another() {
        // Beyond 1200 in use, a quarter is 300.
        for (spare, bound) in [(0, 1500), (450, 1650)] {
            make_room(Pool::new(100_000, spare), bound);
        }
    }

    fn make_room(mut pool: Pool, bound: usize) {
        let mut most_held = 0;
        for _ in 0..3 {
            let mut features = Vec::new();
            let mut gradients = Vec::new();
            for _ in 0..10 {
                features.push(take(&mut pool, 100).0);
            }
            while let Some(feature) = features.pop() {
                gradients.push(take(&mut pool, 110).0);
                assert!(pool.give(feature).is_empty());
                most_held = most_held.max(pool.in_use_lines + pool.held_lines);
            }
            for gradient in gradients {
                assert!(pool.give(gradient).is_empty());
            }
        }
        assert_eq!((pool.in_use_lines, pool.most_in_use_lines), (0, 1200));
        // By size alone 10 of each would be kept, 2100.
        assert!((bound - 110..=bound).contains(&most_held), "{most_held}");
        // Nothing is released for a block that is there.
        let idle = held(&pool).len();
        assert!(take(&mut pool, 100).1.is_empty());
        assert_eq!(held(&pool).len(), idle - 1);
    }

    #[test]
    fn memory_that_is_not_there_is_no_buffer() {
        assert!(Buffer::<f64>::try_filled(1 << 46, 0.0).is_none());
        assert!(pool().most_in_use_lines < 1 << 40, "it does not count as having been in use");
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
