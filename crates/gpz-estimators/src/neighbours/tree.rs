//! More than one dimension: a kd-tree with eight rows in a leaf and eight children in a node.
//!
//! Rows are halved at the widest dimension, again and again, down to leaves of eight; the cuts fall on multiples of powers of
//! eight leaves, so that the tree is complete and needs no pointers. Leaves and nodes alike are blocks of eight columns, dimension
//! after dimension: one row or one box in each lane of a vector. The eight rows of a leaf ask together, so that they pass over boxes
//! once for all and find leaves in the first cache; and from their own leaf upwards, so that near leaves come first and the bound on
//! what may still count is tight at once.

use std::marker::PhantomData;

use ndarray::ArrayView2;

use super::{Norm, Smallest};
use crate::jobs;
use crate::simd::{self, Lanes, Task};

/// Rows of a leaf, children of a node.
const LANES: usize = 8;

/// Rows that one job takes.
const JOB: usize = 256;

/// After so many dimensions it is seen whether any lane is still near enough.
const STRIDE: usize = 4;

/// Rows from which on the two halves are cut side by side.
const PARALLEL: usize = 4096;

/// Width from which on boxes of so few rows overlap in all directions, and every leaf is looked at. Measured on Gaussian rows: 10,000
/// of width 2, 8, 16, 24 and 48 take 3, 40, 140 to 220, 290 to 440 and 690 to 940 ms of one thread with boxes, and 47, 120, 220, 340
/// and 630 to 760 ms without (maximum norm, Euclidean).
const BRUTE: usize = 24;

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

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    fn search<T: Copy + Default + Send>(
        &self,
        k: usize,
        ties: bool,
        take: impl Fn(&Smallest) -> &[T] + Sync,
    ) -> Vec<T> {
        let mut placed = vec![T::default(); self.order.len() * k];
        jobs::chunks(&mut placed, JOB * k, |job, out| {
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
        jobs::chunks(&mut placed, JOB, |job, out| {
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

    /// Number of leaves.
    #[inline(always)]
    fn leaf_count(&self) -> usize {
        self.order.len().div_ceil(LANES)
    }
}

/// Sides of boxes; those of one box lie eight numbers apart, from the first on.
#[derive(Clone, Copy)]
struct Sides<'a> {
    low: &'a [f64],
    high: &'a [f64],
}

impl Level {
    /// Eight siblings.
    #[inline(always)]
    fn group(&self, group: usize, width: usize) -> Sides<'_> {
        let block = LANES * width;
        Sides {
            low: &self.low[group * block..][..block],
            high: &self.high[group * block..][..block],
        }
    }

    /// One of them.
    #[inline(always)]
    fn one(&self, index: usize, width: usize) -> Sides<'_> {
        let Sides { low, high } = self.group(index / LANES, width);
        let lane = index % LANES;
        Sides { low: &low[lane..], high: &high[lane..] }
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
        jobs::join(|| cut(left, rows, width), || cut(right, rows, width));
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

/// Reduced distances of a row to the eight rows of a leaf; cut short once none is below its limit.
#[inline(always)]
fn to_leaf<M: Norm, L: Lanes>(leaf: &[f64], row: &[f64], limit: L) -> L {
    let mut reduced = L::splat(0.0);
    let (strides, rest) = leaf.as_chunks::<LANES>().0.as_chunks::<STRIDE>();
    let (values, last) = row.as_chunks::<STRIDE>();
    for (columns, values) in strides.iter().zip(values) {
        for j in 0..STRIDE {
            reduced = M::add(reduced, L::load(&columns[j]).sub(L::splat(values[j])));
        }
        if reduced.below(limit) == 0 {
            return reduced;
        }
    }
    for (column, &value) in rest.iter().zip(last) {
        reduced = M::add(reduced, L::load(column).sub(L::splat(value)));
    }
    reduced
}

/// Bounds from below on the reduced distances between what is in one box and what is in each of eight. Rows are boxes whose sides
/// are equal.
#[inline(always)]
fn apart<M: Norm, L: Lanes>(one: Sides<'_>, eight: Sides<'_>, limit: L) -> L {
    let zero = L::splat(0.0);
    let mut reduced = zero;
    let (low, high) = (eight.low.as_chunks::<LANES>().0, eight.high.as_chunks::<LANES>().0);
    for (j, (low, high)) in low.iter().zip(high).enumerate() {
        let under = L::load(low).sub(L::splat(one.high[j * LANES]));
        let over = L::splat(one.low[j * LANES]).sub(L::load(high));
        reduced = M::add(reduced, under.max(over).max(zero));
        if j % STRIDE == STRIDE - 1 && reduced.below(limit) == 0 {
            break;
        }
    }
    reduced
}

/// As [`apart`], bounds from above.
#[inline(always)]
fn across<M: Norm, L: Lanes>(one: Sides<'_>, eight: Sides<'_>) -> L {
    let mut reduced = L::splat(0.0);
    let columns = eight.low.as_chunks::<LANES>().0.iter().zip(eight.high.as_chunks::<LANES>().0);
    let sides = one.low.iter().step_by(LANES).zip(one.high.iter().step_by(LANES));
    for ((low, high), (&from, &to)) in columns.zip(sides) {
        let under = L::load(high).sub(L::splat(from));
        let over = L::splat(to).sub(L::load(low));
        reduced = M::add(reduced, under.max(over));
    }
    reduced
}

/// Takes the first lane out of those marked.
#[inline(always)]
fn take_lane(marks: &mut u32) -> usize {
    let lane = marks.trailing_zeros() as usize;
    *marks &= *marks - 1;
    lane
}

/// Marks of the first lanes.
#[inline(always)]
fn first_lanes(count: usize) -> u32 {
    (1 << count) - 1
}

#[inline(always)]
fn largest(values: &[f64; LANES]) -> f64 {
    values.iter().fold(values[0], |a, &b| if b > a { b } else { a })
}

#[inline(always)]
fn smallest(values: &[f64]) -> f64 {
    values.iter().fold(values[0], |a, &b| if b < a { b } else { a })
}

/// Nearest rows of the rows from place `first` on, a whole number of leaves.
struct Search<'a, M, T, F> {
    tree: &'a Tree<M>,
    first: usize,
    k: usize,
    /// Whether it matters which of several rows at the same distance are found.
    ties: bool,
    out: &'a mut [T],
    take: F,
}

/// What the rows of one leaf have found so far. Methods and no closures: a closure that is not inlined is compiled for the
/// instruction set of the function it stands in, and that is not the task's.
struct Asking<'a, M> {
    tree: &'a Tree<M>,
    leaf: usize,
    rows: usize,
    ties: bool,
    /// Rows at this distance or more do not count any longer; zero in lanes without a row.
    limits: [f64; LANES],
    /// The largest of them.
    limit: f64,
    found: &'a mut [Smallest],
}

impl<M: Norm> Asking<'_, M> {
    /// Looks at the rows of a leaf.
    #[inline(always)]
    fn scan<L: Lanes>(&mut self, leaf: usize) {
        let tree = self.tree;
        let mut asking = match tree.levels.first() {
            Some(boxes) if leaf != self.leaf => {
                let rows = tree.block(self.leaf);
                let rows = Sides { low: rows, high: rows };
                let limits = L::load(&self.limits);
                apart::<M, L>(boxes.one(leaf, tree.width), rows, limits).below(limits)
            }
            _ => first_lanes(self.rows),
        };
        if asking == 0 {
            return;
        }
        let before = self.limits;
        let block = tree.block(leaf);
        while asking != 0 {
            let lane = take_lane(&mut asking);
            let limit = L::splat(self.limits[lane]);
            let row = tree.row(self.leaf * LANES + lane);
            let reduced = to_leaf::<M, L>(block, row, limit);
            let mut near = reduced.below(limit);
            if near == 0 {
                continue;
            }
            let reduced = reduced.store();
            while near != 0 {
                let other = take_lane(&mut near);
                self.offer(lane, leaf * LANES + other, reduced[other]);
            }
        }
        if self.limits != before {
            self.limit = largest(&self.limits);
        }
    }

    /// Offers the row at place `other` to the row in a lane.
    #[inline(always)]
    fn offer(&mut self, lane: usize, other: usize, reduced: f64) {
        if other != self.leaf * LANES + lane && reduced < self.limits[lane] {
            self.found[lane].offer(reduced, self.tree.order[other]);
            let last = self.found[lane].last();
            self.limits[lane] = if self.ties { last.next_up() } else { last };
        }
    }

    /// Upwards from the leaf: at each level the group of its ancestor, then what lies below its siblings.
    #[inline(always)]
    fn climb<L: Lanes>(&mut self, stack: &mut Vec<(f64, u32, u32)>) {
        let tree = self.tree;
        let mut ancestor = self.leaf;
        for top in 0..tree.levels.len() {
            stack.push((0.0, top as u32, (ancestor / LANES) as u32));
            let mut siblings = !(1 << (ancestor % LANES));
            while let Some((bound, level, group)) = stack.pop() {
                if bound < self.limit {
                    let (level, group) = (level as usize, group as usize);
                    let own = tree.levels[0].one(self.leaf, tree.width);
                    let eight = tree.levels[level].group(group, tree.width);
                    let limit = L::splat(self.limit);
                    let reduced = apart::<M, L>(own, eight, limit);
                    let mut near = reduced.below(limit) & siblings;
                    let reduced = reduced.store();
                    while near != 0 {
                        let lane = take_lane(&mut near);
                        let child = group * LANES + lane;
                        if level > 0 {
                            stack.push((reduced[lane], level as u32 - 1, child as u32));
                        } else if reduced[lane] < self.limit {
                            self.scan::<L>(child);
                        }
                    }
                }
                siblings = !0;
            }
            ancestor /= LANES;
        }
    }
}

impl<M: Norm, T: Copy, F: Fn(&Smallest) -> &[T]> Task for Search<'_, M, T, F> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let tree = self.tree;
        let mut found: Vec<Smallest> = (0..LANES).map(|_| Smallest::new(self.k)).collect();
        let mut stack = Vec::with_capacity(64);
        for (at, out) in self.out.chunks_mut(LANES * self.k).enumerate() {
            let leaf = self.first / LANES + at;
            let rows = out.len() / self.k;
            let mut limits = [0.0; LANES];
            limits[..rows].fill(f64::INFINITY);
            found.iter_mut().for_each(Smallest::clear);
            let (ties, limit) = (self.ties, f64::INFINITY);
            let mut asking = Asking { tree, leaf, rows, ties, limits, limit, found: &mut found };
            asking.scan::<L>(leaf);
            asking.climb::<L>(&mut stack);
            if tree.levels.is_empty() {
                for other in (0..tree.leaf_count()).filter(|&other| other != leaf) {
                    asking.scan::<L>(other);
                }
            }
            for (out, found) in out.chunks_mut(self.k).zip(&found) {
                out.copy_from_slice((self.take)(found));
            }
        }
    }
}

/// Range counts of the rows from place `first` on, a whole number of leaves.
struct Count<'a, M> {
    tree: &'a Tree<M>,
    first: usize,
    radius: &'a [f64],
    out: &'a mut [u32],
}

/// The rows of one leaf that count others, by lanes; radius zero in lanes without a row.
struct Counting<'a, M> {
    tree: &'a Tree<M>,
    leaf: usize,
    radii: [f64; LANES],
    counts: [u32; LANES],
}

impl<M: Norm> Counting<'_, M> {
    /// Counts the rows of a leaf, all of them at once for who has them all near.
    #[inline(always)]
    fn scan<L: Lanes>(&mut self, leaf: usize) {
        let tree = self.tree;
        let radii = L::load(&self.radii);
        let mut partly = L::splat(0.0).below(radii);
        if let Some(boxes) = tree.levels.first() {
            let rows = tree.block(self.leaf);
            let (other, rows) = (boxes.one(leaf, tree.width), Sides { low: rows, high: rows });
            let near = apart::<M, L>(other, rows, radii).below(radii);
            if near == 0 {
                return;
            }
            partly = near;
            if tree.width <= STRIDE {
                let inside = near & across::<M, L>(other, rows).below(radii);
                let size = (tree.order.len() - leaf * LANES).min(LANES) as u32;
                let mut all = inside;
                while all != 0 {
                    self.counts[take_lane(&mut all)] += size;
                }
                partly = near & !inside;
            }
        }
        let block = tree.block(leaf);
        while partly != 0 {
            let lane = take_lane(&mut partly);
            let radius = L::splat(self.radii[lane]);
            let row = tree.row(self.leaf * LANES + lane);
            let reduced = to_leaf::<M, L>(block, row, radius);
            self.counts[lane] += reduced.below(radius).count_ones();
        }
    }

    /// From the root down.
    #[inline(always)]
    fn descend<L: Lanes>(&mut self, rows: usize, stack: &mut Vec<(u32, u32)>) {
        let tree = self.tree;
        let (most, least) = (largest(&self.radii), smallest(&self.radii[..rows]));
        stack.push((tree.levels.len() as u32 - 1, 0));
        while let Some((level, group)) = stack.pop() {
            let (level, group) = (level as usize, group as usize);
            let own = tree.levels[0].one(self.leaf, tree.width);
            let eight = tree.levels[level].group(group, tree.width);
            let most = L::splat(most);
            let near = apart::<M, L>(own, eight, most).below(most);
            if near == 0 {
                continue;
            }
            // Lanes without a box are infinitely far, so never inside.
            let mut inside = near & across::<M, L>(own, eight).below(L::splat(least));
            let mut partly = near & !inside;
            let size = LANES.pow(level as u32 + 1);
            while inside != 0 {
                let first = (group * LANES + take_lane(&mut inside)) * size;
                let size = (tree.order.len() - first).min(size) as u32;
                self.counts.iter_mut().for_each(|count| *count += size);
            }
            while partly != 0 {
                let child = group * LANES + take_lane(&mut partly);
                if level > 0 {
                    stack.push((level as u32 - 1, child as u32));
                } else {
                    self.scan::<L>(child);
                }
            }
        }
    }
}

impl<M: Norm> Task for Count<'_, M> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let tree = self.tree;
        let mut stack = Vec::with_capacity(64);
        for (at, out) in self.out.chunks_mut(LANES).enumerate() {
            let leaf = self.first / LANES + at;
            let mut radii = [0.0; LANES];
            for (radius, &row) in radii.iter_mut().zip(&tree.order[leaf * LANES..][..out.len()]) {
                *radius = self.radius[row as usize];
            }
            let mut counting = Counting { tree, leaf, radii, counts: [0; LANES] };
            if tree.levels.is_empty() {
                for other in 0..tree.leaf_count() {
                    counting.scan::<L>(other);
                }
            } else {
                counting.descend::<L>(out.len(), &mut stack);
            }
            out.copy_from_slice(&counting.counts[..out.len()]);
        }
    }
}
