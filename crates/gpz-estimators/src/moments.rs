//! Streaming class moments: the first pass.

use std::mem::size_of;

use ndarray::{Array1, ArrayView1, ArrayView2};
use rayon::prelude::*;

use crate::batch::{Batch, ClassRows, block_columns};
use crate::error::Error;
use crate::geometry::{self, ClassGeometry};
use crate::simd::{Element, Isa};

/// Most bytes of sums that an update holds before it commits them.
const WORKSPACE_BYTES: usize = 256 << 20;
/// Bytes of sums per round where rows were checked beforehand: they then stay in a cache until they are committed.
const ROUND_BYTES: usize = 16 << 20;
/// From this many rows per class on, checking the sums costs less than reading the rows twice.
const DENSE_ROWS: usize = 8;

/// Count, mean and sum of squared deviations per class and dimension, gathered in one pass.
///
/// Classes and width are fixed at construction; rows come in batches of any size and layout, `f32` or `f64`, and states of
/// disjoint shards [merge](Self::merge) in any grouping. No `n × width` array is ever held. Everything is accumulated as `f64`
/// deviations from the class's running mean (from a value amid its first rows while it has none), so offsets cost no digits;
/// see `docs/class-moments.md` for the derivation and for what a batch costs.
///
/// Statistics are of the labels given. Give true labels: predicted ones move rows between classes.
///
/// # Source
/// R_c²: arXiv 2506.15412. Merging: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample
/// variances, 1979.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassMoments {
    width: usize,
    isa: Isa,
    /// `[classes]`
    counts: Vec<u64>,
    /// `[classes, width]`; a class without rows has zeros.
    mean: Vec<f64>,
    /// `[classes, width]`, sums of squared deviations from `mean`.
    squares: Vec<f64>,
    workspace: Workspace,
}

/// Memory that one update leaves for the next. Not part of the state: copies start without it, comparisons ignore it.
#[derive(Debug, Default)]
struct Workspace(Vec<f64>);

impl Clone for Workspace {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Workspace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What the rows of one piece are measured from.
enum Pivot<'a> {
    Mean(&'a [f64]),
    Amid(&'a ClassRows),
}

/// One class of a round, with its part of the state and its pieces of the workspace, `[pieces, 2, width]`.
///
/// A class without rows sums its first piece into its own zeros of the state, which saves touching other memory. Its pieces
/// become means and squares about them as soon as they are summed; those of a class with a mean stay sums about it, which
/// is the more exact way to move that mean.
struct ClassWork<'a> {
    rows: &'a ClassRows,
    count: &'a mut u64,
    mean: &'a mut [f64],
    squares: &'a mut [f64],
    pieces: &'a mut [f64],
}

impl ClassMoments {
    /// An empty state for `classes` classes of features with `width` dimensions.
    ///
    /// # Errors
    /// [`Error::EmptyShape`] if either is zero, [`Error::StateTooLarge`] beyond the address space.
    pub fn new(classes: usize, width: usize) -> Result<Self, Error> {
        Self::with_isa(classes, width, Isa::detect())
    }

    /// As [`new`](Self::new) on a chosen instruction set, for measurements; one the machine lacks is replaced by the detected one.
    #[doc(hidden)]
    pub fn with_isa(classes: usize, width: usize, isa: Isa) -> Result<Self, Error> {
        if classes == 0 || width == 0 {
            return Err(Error::EmptyShape { classes, width });
        }
        let cells = classes
            .checked_mul(width)
            .filter(|cells| {
                cells
                    .checked_mul(2 * size_of::<f64>())
                    .is_some_and(|bytes| isize::try_from(bytes).is_ok())
            })
            .ok_or(Error::StateTooLarge { classes, width })?;
        Ok(Self {
            width,
            isa: isa.or_detected(),
            counts: vec![0; classes],
            mean: vec![0.0; cells],
            squares: vec![0.0; cells],
            workspace: Workspace::default(),
        })
    }

    /// Most bytes that a state of this shape takes, the workspace of [`update`](Self::update) and
    /// [`geometry`](Self::geometry) included, beside the batch itself and one index per row of it.
    ///
    /// The state is `16·classes·width` bytes; pages of classes that never occur stay untouched. The workspace is at most
    /// 256 MiB or, if that is more, what one class needs (`16·width`).
    #[must_use]
    pub fn memory_bytes(classes: usize, width: usize) -> u128 {
        Self::memory_bytes_in_batches(classes, width, usize::MAX)
    }

    /// [`memory_bytes`](Self::memory_bytes) where no update has more than `batch_rows` rows: the workspace is at most `16·width` bytes for
    /// each of them.
    #[must_use]
    pub fn memory_bytes_in_batches(classes: usize, width: usize, batch_rows: usize) -> u128 {
        let [state, update, geometry] = Self::memory_parts(classes, width, batch_rows);
        state.saturating_add(update.max(geometry))
    }

    /// Most bytes of the state, of what an update of so many rows holds beside it, and of what a geometry does.
    pub(crate) fn memory_parts(classes: usize, width: usize, batch_rows: usize) -> [u128; 3] {
        let blocks = width.div_ceil(geometry::BLOCK_COLUMNS) as u128;
        let (classes, width) = (classes as u128, width as u128);
        let f64s = size_of::<f64>() as u128;
        let state = (f64s * 2 * classes).saturating_mul(width).saturating_add(f64s * classes);
        // No more pieces than rows; and in an update over several rounds no more than a round's, or one class's.
        let pieces = (f64s * 2 * width).saturating_mul(batch_rows as u128);
        let update = (WORKSPACE_BYTES as u128).max(f64s * 2 * width).min(pieces);
        let geometry = (f64s * classes).saturating_mul(blocks + 2).saturating_add(f64s * 2 * width);
        [state, update, geometry]
    }

    /// Number of classes, as fixed at construction.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Width of a feature, as fixed at construction.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows seen so far, over all classes.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Rows seen so far of each class, `[classes]`.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Mean of a class, `[width]`; `None` for a class without rows or beyond the last.
    #[must_use]
    pub fn class_mean(&self, class: usize) -> Option<ArrayView1<'_, f64>> {
        self.mean_of(class).map(ArrayView1::from)
    }

    /// Variance of each dimension within a class, `[width]`, divided by its count; `None` for a class without rows.
    #[must_use]
    pub fn class_variance(&self, class: usize) -> Option<Array1<f64>> {
        self.mean_of(class)?;
        let count = self.counts[class] as f64;
        Some(
            self.squares[class * self.width..][..self.width]
                .iter()
                .map(|squares| squares / count)
                .collect(),
        )
    }

    /// Adds a batch.
    ///
    /// - `features`: `[n, width]`, one row per image, of any strides; rows that lie one after another in memory are read
    ///   fastest. Batches of at least 8 rows per class that occurs are read once, sparser ones and `f64` twice.
    /// - `labels`: `n` class indices below the number of classes
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::LabelCount`], [`Error::LabelOutOfRange`]; [`Error::NonFinite`] names the first row with NaN
    /// or an infinity, [`Error::Magnitude`] the first with a value beyond 1e150. The state is then what it was before.
    pub fn update<T: Element>(
        &mut self,
        features: ArrayView2<'_, T>,
        labels: &[usize],
    ) -> Result<(), Error> {
        let batch = Batch::new(features, labels, self.classes(), self.width)?;
        let isa = self.isa;
        let everything = batch.present.iter().map(|rows| self.workspace_bytes(rows)).sum::<usize>();
        let dense =
            batch.len() >= DENSE_ROWS * batch.present.len() && everything <= WORKSPACE_BYTES;
        if dense && !T::CAN_OVERFLOW {
            let mut round = self.round(&batch.present);
            let finite = sum(&batch, &mut round, isa);
            // Sums of finite f32 cannot overflow f64, and NaN or an infinity among the rows stays in its sum.
            if !finite && let Err(error) = batch.check_values() {
                round.iter_mut().for_each(ClassWork::abandon);
                return Err(error);
            }
            commit(&mut round);
            return Ok(());
        }
        batch.check_values()?;
        let mut rest = batch.present.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|rows| {
                bytes += self.workspace_bytes(rows);
                bytes <= ROUND_BYTES
            });
            let (now, later) = rest.split_at(fitting.count().max(1));
            let mut round = self.round(now);
            sum(&batch, &mut round, isa);
            commit(&mut round);
            rest = later;
        }
        Ok(())
    }

    /// Moments from sums about a pivot per class, as a device accumulates them.
    ///
    /// With `p` the pivot, `Σ` the sum of a class's deviations from it, `Q` that of their squares and `N` its rows: mean `p + Σ/N`, sum of
    /// squared deviations `Q − Σ²/N`. A pivot near the class's rows keeps both free of cancellation.
    ///
    /// - `counts`: rows of each of `k` classes; `pivot`, `sums`, `squares`: `[k, width]`, row-major; those of a class without rows are not
    ///   looked at
    ///
    /// # Errors
    /// As [`ClassMoments::new`]; [`Error::PivotedLength`] if a length differs; [`Error::PivotedSum`] names the first sum that is not finite,
    /// which a feature that was not finite leaves behind.
    pub fn from_pivoted(
        counts: &[u64],
        width: usize,
        pivot: &[f32],
        sums: &[f64],
        squares: &[f64],
    ) -> Result<Self, Error> {
        let mut moments = Self::new(counts.len(), width)?;
        let cells = moments.mean.len();
        for length in [pivot.len(), sums.len(), squares.len()] {
            if length != cells {
                return Err(Error::PivotedLength { length, classes: counts.len(), width });
            }
        }
        for (class, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            for cell in class * width..(class + 1) * width {
                let shift = sums[cell] / count as f64;
                let squares = squares[cell] - sums[cell] * shift;
                let mean = f64::from(pivot[cell]) + shift;
                if !(squares.is_finite() && mean.is_finite()) {
                    return Err(Error::PivotedSum { class, column: cell - class * width });
                }
                moments.mean[cell] = mean;
                moments.squares[cell] = squares.max(0.0);
            }
            moments.counts[class] = count;
        }
        Ok(moments)
    }

    /// Forgets all rows and keeps the memory, for the next set of features of the same shape.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.mean.fill(0.0);
        self.squares.fill(0.0);
    }

    /// Adds the rows of another state, as if they had been given here.
    ///
    /// # Errors
    /// [`Error::MergeShape`] if classes or width differ; the state is then what it was before.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if (self.classes(), self.width) != (other.classes(), other.width) {
            return Err(Error::MergeShape {
                classes: self.classes(),
                width: self.width,
                other_classes: other.classes(),
                other_width: other.width,
            });
        }
        let width = self.width;
        let here = self.mean.chunks_exact_mut(width).zip(self.squares.chunks_exact_mut(width));
        let there = other.mean.chunks_exact(width).zip(other.squares.chunks_exact(width));
        let counts = self.counts.iter_mut().zip(&other.counts);
        for (((mean, squares), (other_mean, other_squares)), (count, &other_count)) in
            here.zip(there).zip(counts)
        {
            if other_count == 0 {
                continue;
            }
            if *count == 0 {
                mean.copy_from_slice(other_mean);
                squares.copy_from_slice(other_squares);
                *count = other_count;
                continue;
            }
            merge_cells(
                [mean, squares],
                *count as f64,
                [other_mean, other_squares],
                other_count as f64,
            );
            *count += other_count;
        }
        Ok(())
    }

    /// Everything that follows from the rows seen so far. May be asked for at any time; the state goes on.
    ///
    /// # Errors
    /// [`Error::NoRows`] before the first row.
    pub fn geometry(&self) -> Result<ClassGeometry, Error> {
        ClassGeometry::of(self)
    }

    /// Mean of a class that has rows.
    pub(crate) fn mean_of(&self, class: usize) -> Option<&[f64]> {
        self.counts.get(class).filter(|&&count| count > 0)?;
        Some(&self.mean[class * self.width..][..self.width])
    }

    /// Sums of squared deviations per dimension of a class.
    pub(crate) fn squares_of(&self, class: usize) -> &[f64] {
        &self.squares[class * self.width..][..self.width]
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Pieces of workspace that summing these rows takes.
    fn pieces(&self, rows: &ClassRows) -> usize {
        rows.shards(self.width).count() - usize::from(self.counts[rows.class] == 0)
    }

    fn workspace_bytes(&self, rows: &ClassRows) -> usize {
        (self.pieces(rows) * 2 * size_of::<f64>()).saturating_mul(self.width)
    }

    /// The state and the zeroed workspace of some classes, ascending.
    fn round<'a>(&'a mut self, present: &'a [ClassRows]) -> Vec<ClassWork<'a>> {
        let width = self.width;
        let pieces: Vec<usize> = present.iter().map(|rows| self.pieces(rows)).collect();
        let workspace = &mut self.workspace.0;
        workspace.clear();
        workspace.resize(pieces.iter().sum::<usize>() * 2 * width, 0.0);
        let mut workspace = workspace.as_mut_slice();
        let states = self.mean.chunks_exact_mut(width).zip(self.squares.chunks_exact_mut(width));
        let mut states = self.counts.iter_mut().zip(states).enumerate();
        let mut round = Vec::with_capacity(present.len());
        for (rows, pieces) in present.iter().zip(pieces) {
            let state = states.find(|(class, _)| *class == rows.class);
            let Some((_, (count, (mean, squares)))) = state else { break };
            let (own, others) = workspace.split_at_mut(pieces * 2 * width);
            workspace = others;
            round.push(ClassWork { rows, count, mean, squares, pieces: own });
        }
        round
    }
}

impl ClassWork<'_> {
    /// Leaves the state as it was before the rows were summed.
    fn abandon(&mut self) {
        if *self.count == 0 {
            self.mean.fill(0.0);
            self.squares.fill(0.0);
        }
    }
}

/// Sums each class's rows about its mean or, if it has none yet, about a value amid them; tells whether all sums are finite.
fn sum<T: Element>(batch: &Batch<'_, T>, round: &mut [ClassWork<'_>], isa: Isa) -> bool {
    let mut work = Vec::new();
    for ClassWork { rows, count, mean, squares, pieces } in round {
        let width = mean.len();
        let mut pieces = pieces.chunks_exact_mut(2 * width).map(|piece| piece.split_at_mut(width));
        let mut shards = rows.shards(width);
        if **count == 0 {
            work.extend(
                shards.next().map(|shard| (shard, Pivot::Amid(rows), &mut **mean, &mut **squares)),
            );
            work.extend(
                shards
                    .zip(pieces)
                    .map(|(shard, (sum, squares))| (shard, Pivot::Amid(rows), sum, squares)),
            );
        } else {
            let mean = &**mean;
            work.extend(
                shards
                    .zip(&mut pieces)
                    .map(|(shard, (sum, squares))| (shard, Pivot::Mean(mean), sum, squares)),
            );
        }
    }
    let finite = work.into_par_iter().map(|(shard, pivot, sum, squares)| {
        let step = block_columns(sum.len());
        let blocks = sum.par_chunks_mut(step).zip(squares.par_chunks_mut(step)).enumerate();
        let finite = blocks.map(|(block, (sum, squares))| {
            let columns = block * step..block * step + sum.len();
            let amid = match pivot {
                Pivot::Mean(_) => Vec::new(),
                Pivot::Amid(rows) => batch.pivot(rows, columns.clone()),
            };
            let pivot = match pivot {
                Pivot::Mean(mean) => &mean[columns.clone()],
                Pivot::Amid(_) => amid.as_slice(),
            };
            batch.accumulate(isa, shard.clone(), columns, pivot, sum, squares);
            // What is left to do with these sums is done now, while they are in a cache.
            if !amid.is_empty() {
                centre(sum, squares, pivot, shard.len() as f64);
            }
            // Times zero keeps NaN and makes one of an infinity; no early exit, so that the test runs on vectors.
            sum.iter().fold(true, |finite, sum| finite & (sum * 0.0 == 0.0))
        });
        finite.reduce(|| true, |a, b| a & b)
    });
    finite.reduce(|| true, |a, b| a & b)
}

/// Turns sums about a pivot into a mean and squares about it: `p + S/m` and `Q − S²/m`.
fn centre(sum: &mut [f64], squares: &mut [f64], pivot: &[f64], m: f64) {
    for ((sum, squares), pivot) in sum.iter_mut().zip(squares).zip(pivot) {
        let shift = *sum / m;
        *squares -= *sum * shift;
        *sum = pivot + shift;
    }
}

/// Adds `m` rows, given by mean and squares, to `n`: `μ + δ·m/(n + m)` and `M + M₂ + δ²·nm/(n + m)` with `δ = μ₂ − μ`.
fn merge_cells(
    [mean, squares]: [&mut [f64]; 2],
    n: f64,
    [other_mean, other_squares]: [&[f64]; 2],
    m: f64,
) {
    let cells = mean.iter_mut().zip(squares).zip(other_mean.iter().zip(other_squares));
    for ((mean, squares), (other_mean, other_squares)) in cells {
        let step = other_mean - *mean;
        *mean += step * (m / (n + m));
        *squares += other_squares + step * step * (n * m / (n + m));
    }
}

/// Makes sums part of the state. With `S` and `Q` about the mean `μ` of `n` rows, the mean of all `n′` rows is `μ + S/n′` and the
/// squares grow by `Q − S²/n′`. The pieces of a class that was empty are merged.
fn commit(round: &mut [ClassWork<'_>]) {
    round.par_iter_mut().for_each(|ClassWork { rows, count, mean, squares, pieces }| {
        let width = mean.len();
        let new = **count == 0;
        **count += rows.range.len() as u64;
        if new {
            let mut shards = rows.shards(width).map(|shard| shard.len() as f64);
            let mut n = shards.next().unwrap_or(0.0);
            for (m, piece) in shards.zip(pieces.chunks_exact(2 * width)) {
                let (piece_mean, piece_squares) = piece.split_at(width);
                merge_cells([mean, squares], n, [piece_mean, piece_squares], m);
                n += m;
            }
            return;
        }
        let n = **count as f64;
        let (total, others) = pieces.split_at_mut(2 * width);
        for piece in others.chunks_exact(2 * width) {
            total.iter_mut().zip(piece).for_each(|(total, value)| *total += value);
        }
        let (sum, grown) = total.split_at(width);
        let cells = mean.iter_mut().zip(squares.iter_mut()).zip(sum.iter().zip(grown));
        for ((mean, squares), (sum, grown)) in cells {
            *mean += sum / n;
            *squares += grown - sum * (sum / n);
        }
    });
}
