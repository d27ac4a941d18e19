//! Exact nearest neighbours and range counts of rows among themselves.
//!
//! Every distance is a sum or maximum over differences in the order of the columns, in `f64` without fused operations, and every
//! comparison is made on it: never is a coordinate compared with `v ± ε`, which rounds elsewhere. A bound on the distance to a
//! box goes through the same operations, each of which is monotone in its rounded operands, so that a box is passed over only if
//! no row in it counts. The result is therefore that of brute force to the bit, with ties, and on any instruction set.
//!
//! One dimension is sorted; up to 23 dimensions are searched in a tree; from 24 on every row is compared with every other.

mod line;
mod options;
mod tree;

use ndarray::{Array2, ArrayView2};

use crate::simd::Lanes;
use line::Line;
pub use options::{Metric, Neighbours};
pub(crate) use tree::Tree;

/// A norm, by how it accumulates the differences of one dimension after another. What is accumulated is the reduced distance:
/// the distance itself, or its square.
pub(crate) trait Norm: Copy + Send + Sync + 'static {
    /// Which power of the distance the reduced one is.
    const POWER: f64;

    /// The reduced distance so far and the next difference, in each lane.
    fn add<L: Lanes>(reduced: L, difference: L) -> L;

    /// The reduced distance of two numbers.
    fn of(difference: f64) -> f64;
}

/// `max_j |x_j − y_j|`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxNorm;

/// `(Σ_j (x_j − y_j)²)^½`; the reduced distance is its square.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Euclidean;

impl Norm for MaxNorm {
    const POWER: f64 = 1.0;

    #[inline(always)]
    fn add<L: Lanes>(reduced: L, difference: L) -> L {
        reduced.max(difference.abs())
    }

    #[inline(always)]
    fn of(difference: f64) -> f64 {
        difference.abs()
    }
}

impl Norm for Euclidean {
    const POWER: f64 = 2.0;

    #[inline(always)]
    fn add<L: Lanes>(reduced: L, difference: L) -> L {
        reduced.add(difference.mul(difference))
    }

    #[inline(always)]
    fn of(difference: f64) -> f64 {
        difference * difference
    }
}

/// Multiplies all values by one power of two, so that the largest is about 1 and squares of small distances do not vanish; exact.
/// Returns its exponent.
pub(crate) fn rescale(rows: &mut Array2<f64>) -> f64 {
    let largest = rows.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let exponent = if largest > 0.0 { -largest.log2().floor().clamp(-1000.0, 1000.0) } else { 0.0 };
    let scale = exponent.exp2();
    rows.mapv_inplace(|value| value * scale);
    exponent
}

/// Rows arranged for questions about their neighbours among themselves.
pub(crate) enum Space<M> {
    /// One dimension, sorted.
    Line(Line<M>),
    /// More than one.
    Tree(Tree<M>),
}

impl<M: Norm> Space<M> {
    /// - `rows`: `[n, d]` with `n` below 2³², finite
    pub(crate) fn new(rows: ArrayView2<'_, f64>) -> Self {
        if rows.ncols() == 1 {
            Self::Line(Line::new(rows.column(0)))
        } else {
            Self::Tree(Tree::new(rows))
        }
    }

    /// Reduced distances to the `k` nearest other rows, ascending: `n·k` numbers. `k` must be below `n`.
    pub(crate) fn nearest(&self, k: usize) -> Vec<f64> {
        match self {
            Self::Line(line) => line.nearest(k),
            Self::Tree(tree) => tree.nearest(k),
        }
    }

    /// Which rows have an equal.
    pub(crate) fn repeated(&self) -> Vec<bool> {
        match self {
            Self::Line(line) => line.repeated(),
            Self::Tree(tree) => {
                let radius = vec![0.0_f64.next_up(); tree.len()];
                tree.count_within(&radius).into_iter().map(|count| count > 1).collect()
            }
        }
    }

    /// How many rows, the row itself among them, lie at a reduced distance below `radius` of each row.
    ///
    /// For rows at a distance up to and including a radius ask for its [`f64::next_up`].
    pub(crate) fn count_within(&self, radius: &[f64]) -> Vec<u32> {
        match self {
            Self::Line(line) => line.count_within(radius),
            Self::Tree(tree) => tree.count_within(radius),
        }
    }
}

/// The `k` smallest of the candidates offered, ascending, ties by the smaller row.
struct Smallest {
    distances: Vec<f64>,
    rows: Vec<u32>,
}

impl Smallest {
    fn new(k: usize) -> Self {
        Self { distances: vec![f64::INFINITY; k], rows: vec![u32::MAX; k] }
    }

    #[inline(always)]
    fn clear(&mut self) {
        self.distances.fill(f64::INFINITY);
        self.rows.fill(u32::MAX);
    }

    #[inline(always)]
    fn last(&self) -> f64 {
        self.distances[self.distances.len() - 1]
    }

    #[inline(always)]
    fn offer(&mut self, distance: f64, row: u32) {
        let mut at = self.distances.len() - 1;
        if !self.precedes(distance, row, at) {
            return;
        }
        while at > 0 && self.precedes(distance, row, at - 1) {
            self.distances[at] = self.distances[at - 1];
            self.rows[at] = self.rows[at - 1];
            at -= 1;
        }
        (self.distances[at], self.rows[at]) = (distance, row);
    }

    #[inline(always)]
    fn precedes(&self, distance: f64, row: u32, at: usize) -> bool {
        distance < self.distances[at] || (distance == self.distances[at] && row < self.rows[at])
    }
}

#[cfg(test)]
mod tests;
