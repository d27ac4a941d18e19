//! More than one dimension: a kd-tree with eight rows in a leaf and eight children in a node.
//!
//! Rows are halved at the widest dimension, again and again, down to leaves of eight; the cuts fall on multiples of powers of
//! eight leaves, so that the tree is complete and needs no pointers. Leaves and nodes alike are blocks of eight columns, dimension
//! after dimension: one row or one box in each lane of a vector. Every question is asked by a row of the tree, hence from its own
//! leaf upwards: the near leaves come first, and the bound on what may still count is tight at once.

use std::marker::PhantomData;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::{Norm, Smallest};
use crate::simd::{self, Task};

/// Rows of a leaf, children of a node.
const LANES: usize = 8;

/// Rows that one job takes.
const JOB: usize = 256;

/// After so many dimensions it is seen whether any lane is still near enough.
const STRIDE: usize = 4;

/// Rows from which on the two halves are cut side by side.
const PARALLEL: usize = 4096;

/// Width from which on boxes of few rows overlap in all directions and every leaf is looked at; measured.
const BRUTE: usize = 40;

/// Rows in leaves of a kd-tree.
pub(crate) struct Tree<M> {
    width: usize,
    /// The row at each place; eight places are a leaf.
    order: Vec<u32>,
    /// The rows by place, row-major.
    rows: Vec<f64>,
    /// The rows by leaf, dimension-major, infinity in lanes without a row.
    leaves: Vec<f64>,
    /// Boxes of the leaves, of groups of eight leaves, and so on up to eight boxes or fewer. Empty for brute force.
    levels: Vec<Level>,
    norm: PhantomData<M>,
}

/// Boxes of one level in groups of eight siblings, dimension-major, infinities in lanes without a box.
struct Level {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl<M: Norm> Tree<M> {
    /// - `rows`: `[n, d]` with `n` below 2³², finite
    pub(crate) fn new(rows: ArrayView2<'_, f64>) -> Self {
        Self::with_boxes(rows, rows.ncols() < BRUTE)
    }

    /// With boxes to pass over, or without: brute force.
    pub(super) fn with_boxes(rows: ArrayView2<'_, f64>, boxes: bool) -> Self {
        let (n, width) = rows.dim();
        let flat: Vec<f64> = rows.iter().copied().collect();
        let mut keys: Vec<(f64, u32)> = (0..n).map(|row| (0.0, row as u32)).collect();
        if boxes {
            cut(&mut keys, &flat, width);
        }
        let order: Vec<u32> = keys.into_iter().map(|(_, row)| row).collect();
        let mut placed = Vec::with_capacity(flat.len());
        for &row in &order {
            placed.extend_from_slice(&flat[row as usize * width..][..width]);
        }
        let block = LANES * width;
        let mut leaves = vec![f64::INFINITY; n.div_ceil(LANES) * block];
        for (leaf, rows) in leaves.chunks_mut(block).zip(placed.chunks(block)) {
            for (lane, row) in rows.chunks(width).enumerate() {
                for (j, &value) in row.iter().enumerate() {
                    leaf[j * LANES + lane] = value;
                }
            }
        }
        let mut levels = Vec::new();
        if boxes {
            let mut count = n.div_ceil(LANES);
            levels.push(Level::of(&leaves, &leaves, count, width));
            while count > LANES {
                count = count.div_ceil(LANES);
                let below = &levels[levels.len() - 1];
                levels.push(Level::of(&below.low, &below.high, count, width));
            }
        }
        Self { width, order, rows: placed, leaves, levels, norm: PhantomData }
    }

    /// As [`Space::nearest`](super::Space::nearest).
    pub(crate) fn nearest(&self, k: usize) -> Vec<f64> {
        self.search(k, false, |found| &found.distances)
    }

    /// The `k` nearest other rows, nearest first, ties by the smaller row: `n·k` rows. `k` must be below `n`.
    pub(crate) fn neighbours(&self, k: usize) -> Vec<u32> {
        self.search(k, true, |found| &found.rows)
    }

    fn search<T: Copy + Default + Send>(
        &self,
        k: usize,
        ties: bool,
        take: impl Fn(&Smallest) -> &[T] + Sync,
    ) -> Vec<T> {
        let mut placed = vec![T::default(); self.order.len() * k];
        placed.par_chunks_mut(JOB * k).enumerate().for_each(|(job, out)| {
            simd::run(Search { tree: self, first: job * JOB, k, ties, out, take: &take });
        });
        let mut out = vec![T::default(); placed.len()];
        for (found, &row) in placed.chunks(k).zip(&self.order) {
            out[row as usize * k..][..k].copy_from_slice(found);
        }
        out
    }

    /// As [`Space::count_within`](super::Space::count_within).
    pub(crate) fn count_within(&self, radius: &[f64]) -> Vec<u32> {
        let mut placed = vec![0; self.order.len()];
        placed.par_chunks_mut(JOB).enumerate().for_each(|(job, out)| {
            simd::run(Count { tree: self, first: job * JOB, radius, out });
        });
        let mut out = vec![0; placed.len()];
        for (&count, &row) in placed.iter().zip(&self.order) {
            out[row as usize] = count;
        }
        out
    }

    #[inline(always)]
    fn row(&self, place: usize) -> &[f64] {
        &self.rows[place * self.width..][..self.width]
    }

    #[inline(always)]
    fn block(&self, leaf: usize) -> &[f64] {
        &self.leaves[leaf * LANES * self.width..][..LANES * self.width]
    }

    /// Number of boxes, or of leaves for brute force.
    #[inline(always)]
    fn leaf_count(&self) -> usize {
        self.order.len().div_ceil(LANES)
    }
}

/// Cuts rows in two at the widest dimension until a leaf holds them.
fn cut(keys: &mut [(f64, u32)], rows: &[f64], width: usize) {
    if keys.len() <= LANES {
        return;
    }
    let dimension = widest(keys, rows, width);
    for (key, row) in keys.iter_mut() {
        *key = rows[*row as usize * width + dimension];
    }
    // The largest power of two of leaves below all of them: whole groups of eight to the left, at every level.
    let leaves = keys.len().div_ceil(LANES);
    let middle = LANES * (leaves.next_power_of_two() / 2);
    keys.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0));
    let whole = keys.len();
    let (left, right) = keys.split_at_mut(middle);
    if whole >= PARALLEL {
        rayon::join(|| cut(left, rows, width), || cut(right, rows, width));
    } else {
        cut(left, rows, width);
        cut(right, rows, width);
    }
}

/// The dimension in which rows reach furthest.
fn widest(keys: &[(f64, u32)], rows: &[f64], width: usize) -> usize {
    let first = &rows[keys[0].1 as usize * width..][..width];
    let (mut low, mut high) = (first.to_vec(), first.to_vec());
    for &(_, row) in &keys[1..] {
        let row = &rows[row as usize * width..][..width];
        for ((low, high), &value) in low.iter_mut().zip(&mut high).zip(row) {
            *low = if value < *low { value } else { *low };
            *high = if value > *high { value } else { *high };
        }
    }
    let extent = |&j: &usize| high[j] - low[j];
    (0..width).reduce(|a, b| if extent(&b) > extent(&a) { b } else { a }).unwrap_or(0)
}

impl Level {
    /// Boxes around groups of eight of the boxes (or rows) below.
    fn of(low: &[f64], high: &[f64], count: usize, width: usize) -> Self {
        let mut level = Self {
            low: vec![f64::INFINITY; count.div_ceil(LANES) * LANES * width],
            high: vec![f64::INFINITY; count.div_ceil(LANES) * LANES * width],
        };
        for child in 0..count {
            let at = child / LANES * LANES * width + child % LANES;
            for j in 0..width {
                let from = (child * width + j) * LANES;
                let lanes = from..from + LANES;
                level.low[at + j * LANES] =
                    low[lanes.clone()].iter().copied().fold(f64::INFINITY, f64::min);
                level.high[at + j * LANES] = high[lanes]
                    .iter()
                    .copied()
                    .filter(|v| v.is_finite())
                    .fold(f64::NEG_INFINITY, f64::max);
            }
        }
        level
    }
}

/// Reduced distances of a row to the eight rows of a leaf; those of `limit` or more may be cut short.
#[inline(always)]
fn to_leaf<M: Norm>(leaf: &[f64], row: &[f64], limit: f64) -> [f64; LANES] {
    let mut reduced = [0.0; LANES];
    let leaf = leaf.as_chunks::<LANES>().0;
    for (columns, row) in leaf.chunks(STRIDE).zip(row.chunks(STRIDE)) {
        for (column, &value) in columns.iter().zip(row) {
            for lane in 0..LANES {
                reduced[lane] = M::add(reduced[lane], column[lane] - value);
            }
        }
        if below(&reduced, limit) == 0 {
            break;
        }
    }
    reduced
}

/// Bounds from below on the reduced distances of a row to what is in eight boxes.
#[inline(always)]
fn to_boxes<M: Norm>(low: &[f64], high: &[f64], row: &[f64]) -> [f64; LANES] {
    let mut reduced = [0.0; LANES];
    let (low, high) = (low.as_chunks::<LANES>().0, high.as_chunks::<LANES>().0);
    for ((low, high), &value) in low.iter().zip(high).zip(row) {
        for lane in 0..LANES {
            let (under, over) = (low[lane] - value, value - high[lane]);
            let outside = if under > over { under } else { over };
            reduced[lane] = M::add(reduced[lane], if outside > 0.0 { outside } else { 0.0 });
        }
    }
    reduced
}

/// Bounds from above.
#[inline(always)]
fn across_boxes<M: Norm>(low: &[f64], high: &[f64], row: &[f64]) -> [f64; LANES] {
    let mut reduced = [0.0; LANES];
    let (low, high) = (low.as_chunks::<LANES>().0, high.as_chunks::<LANES>().0);
    for ((low, high), &value) in low.iter().zip(high).zip(row) {
        for lane in 0..LANES {
            let (to_low, to_high) = (value - low[lane], high[lane] - value);
            reduced[lane] = M::add(reduced[lane], if to_low > to_high { to_low } else { to_high });
        }
    }
    reduced
}

/// A bit for each lane below the limit.
#[inline(always)]
fn below(lanes: &[f64; LANES], limit: f64) -> u32 {
    let mut bits = 0;
    for (lane, &value) in lanes.iter().enumerate() {
        bits |= u32::from(value < limit) << lane;
    }
    bits
}

/// Calls `f` with the place of each bit.
#[inline(always)]
fn each(mut bits: u32, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

/// Nearest rows of the rows from place `first` on.
struct Search<'a, M, T, F> {
    tree: &'a Tree<M>,
    first: usize,
    k: usize,
    /// Whether it matters which of several rows at the same distance are found.
    ties: bool,
    out: &'a mut [T],
    take: F,
}

impl<M: Norm, T: Copy, F: Fn(&Smallest) -> &[T]> Task for Search<'_, M, T, F> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let tree = self.tree;
        let mut found = Smallest::new(self.k);
        let mut stack: Vec<(f64, u32, u32)> = Vec::with_capacity(64);
        for (at, out) in self.out.chunks_mut(self.k).enumerate() {
            let place = self.first + at;
            let row = tree.row(place);
            found.clear();
            let mut limit = f64::INFINITY;
            let mut scan = |leaf: usize, limit: f64| {
                let reduced = to_leaf::<M>(tree.block(leaf), row, limit);
                let near = below(&reduced, limit);
                if near == 0 {
                    return limit;
                }
                each(near, |lane| {
                    let other = leaf * LANES + lane;
                    if other != place {
                        found.offer(reduced[lane], tree.order[other]);
                    }
                });
                if self.ties { found.last().next_up() } else { found.last() }
            };
            let own = place / LANES;
            limit = scan(own, limit);
            if tree.levels.is_empty() {
                for leaf in (0..tree.leaf_count()).filter(|&leaf| leaf != own) {
                    limit = scan(leaf, limit);
                }
            }
            let mut ancestor = own;
            for top in 0..tree.levels.len() {
                stack.push((0.0, top as u32, (ancestor / LANES) as u32));
                let mut skip = Some(ancestor % LANES);
                while let Some((bound, level, group)) = stack.pop() {
                    if bound >= limit {
                        continue;
                    }
                    let (level, group) = (level as usize, group as usize);
                    let boxes = &tree.levels[level];
                    let range = group * LANES * tree.width..(group + 1) * LANES * tree.width;
                    let reduced = to_boxes::<M>(&boxes.low[range.clone()], &boxes.high[range], row);
                    let mut near = below(&reduced, limit);
                    if let Some(own) = skip.take() {
                        near &= !(1 << own);
                    }
                    each(near, |lane| {
                        let child = group * LANES + lane;
                        if level > 0 {
                            stack.push((reduced[lane], level as u32 - 1, child as u32));
                        } else if reduced[lane] < limit {
                            limit = scan(child, limit);
                        }
                    });
                }
                ancestor /= LANES;
            }
            out.copy_from_slice((self.take)(&found));
        }
    }
}

/// Range counts of the rows from place `first` on.
struct Count<'a, M> {
    tree: &'a Tree<M>,
    first: usize,
    radius: &'a [f64],
    out: &'a mut [u32],
}

impl<M: Norm> Task for Count<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let tree = self.tree;
        let n = tree.order.len();
        let mut stack: Vec<(u32, u32)> = Vec::with_capacity(64);
        for (at, out) in self.out.iter_mut().enumerate() {
            let place = self.first + at;
            let row = tree.row(place);
            let radius = self.radius[tree.order[place] as usize];
            let mut count = 0;
            let within = |leaf: usize| {
                below(&to_leaf::<M>(tree.block(leaf), row, radius), radius).count_ones()
            };
            match tree.levels.len().checked_sub(1) {
                Some(top) => stack.push((top as u32, 0)),
                None => count = (0..tree.leaf_count()).map(within).sum(),
            }
            while let Some((level, group)) = stack.pop() {
                let (level, group) = (level as usize, group as usize);
                let boxes = &tree.levels[level];
                let range = group * LANES * tree.width..(group + 1) * LANES * tree.width;
                let (low, high) = (&boxes.low[range.clone()], &boxes.high[range]);
                let near = below(&to_boxes::<M>(low, high, row), radius);
                if near == 0 {
                    continue;
                }
                // Lanes without a box are infinitely far, so never inside.
                let inside = near & below(&across_boxes::<M>(low, high, row), radius);
                let size = LANES.pow(level as u32 + 1);
                each(inside, |lane| {
                    let first = (group * LANES + lane) * size;
                    count += (n - first).min(size) as u32;
                });
                each(near & !inside, |lane| {
                    let child = group * LANES + lane;
                    if level > 0 {
                        stack.push((level as u32 - 1, child as u32));
                    } else {
                        count += within(child);
                    }
                });
            }
            *out = count;
        }
    }
}
