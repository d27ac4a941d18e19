//! One batch as the inner loops want it: rows grouped by class, segments of rows that are contiguous, work cut by size.

use std::ops::Range;

use ndarray::{ArrayView2, Axis};

use crate::error::Error;
use crate::jobs;
use crate::simd::{Element, GROUP, Isa};

/// Columns of a block: long enough that the prefetchers of the memory see long runs, short enough that a group of rows,
/// the next group and the block's sums stay together in a second-level cache.
const BLOCK_COLUMNS: usize = 4096;
/// Elements of a block after which a class's rows become another piece of work, and the fewest rows worth a piece.
const SHARD_ELEMENTS: usize = 1 << 21;
const SHARD_ROWS: usize = 256;
/// Bytes of sums that one class's pieces may take together; more rows make longer pieces.
const SHARD_BYTES: usize = 128 << 20;
/// Largest magnitude accepted: squares of deviations reach 4e300, which leaves room for ten million rows.
const MAGNITUDE: f64 = 1e150;

/// Width of the column blocks: as even as possible, and a multiple of 16 so that only the last has scalar columns.
pub(crate) fn block_columns(width: usize) -> usize {
    width.div_ceil(width.div_ceil(BLOCK_COLUMNS)).div_ceil(16) * 16
}

/// The blocks of `width` columns.
pub(crate) fn column_blocks(width: usize) -> impl Iterator<Item = Range<usize>> {
    let step = block_columns(width);
    (0..width).step_by(step).map(move |from| from..(from + step).min(width))
}

/// Rows of one class that share one set of sums, as even as possible. By problem size alone, so that the bits are too.
fn shard_rows(rows: usize, width: usize) -> usize {
    let by_memory = rows.saturating_mul(2 * size_of::<f64>() * width) / SHARD_BYTES;
    let most = (SHARD_ELEMENTS / width.min(BLOCK_COLUMNS)).max(SHARD_ROWS).max(by_memory);
    rows.div_ceil(rows.div_ceil(most))
}

/// False for NaN as well.
fn fits(value: f64) -> bool {
    value.abs() <= MAGNITUDE
}

/// A checked batch: as many labels as rows, all labels in range, rows grouped by class.
pub(crate) struct Batch<'a, T> {
    rows: Rows<'a, T>,
    width: usize,
    /// Row indices by ascending class, in the batch's order within a class.
    order: Vec<usize>,
    /// The classes that occur, ascending.
    pub(crate) present: Vec<ClassRows>,
}

/// The rows of one class within a batch's order.
#[derive(Debug, Clone)]
pub(crate) struct ClassRows {
    pub(crate) class: usize,
    pub(crate) range: Range<usize>,
}

impl ClassRows {
    /// The pieces of work these rows are cut into.
    pub(crate) fn shards(&self, width: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (range, step) = (self.range.clone(), shard_rows(self.range.len(), width));
        range.clone().step_by(step).map(move |from| from..(from + step).min(range.end))
    }
}

enum Rows<'a, T> {
    Contiguous(&'a [T]),
    Strided(ArrayView2<'a, T>),
}

impl<'a, T: Element> Batch<'a, T> {
    /// Checks shapes and labels; does not read the features.
    pub(crate) fn new(
        features: ArrayView2<'a, T>,
        labels: &[usize],
        classes: usize,
        width: usize,
    ) -> Result<Self, Error> {
        let n = features.nrows();
        if features.ncols() != width {
            return Err(Error::Width { expected: width, found: features.ncols() });
        }
        if labels.len() != n {
            return Err(Error::LabelCount { rows: n, labels: labels.len() });
        }
        let mut ends = vec![0; classes];
        for (row, &label) in labels.iter().enumerate() {
            match ends.get_mut(label) {
                Some(count) => *count += 1,
                None => return Err(Error::LabelOutOfRange { row, label, classes }),
            }
        }
        let mut present = Vec::new();
        let mut from = 0;
        for (class, end) in ends.iter_mut().enumerate() {
            let range = from..from + *end;
            *end = from;
            from = range.end;
            if !range.is_empty() {
                present.push(ClassRows { class, range });
            }
        }
        let mut order = vec![0; n];
        for (row, &label) in labels.iter().enumerate() {
            order[ends[label]] = row;
            ends[label] += 1;
        }
        let rows = features.to_slice().map_or(Rows::Strided(features), Rows::Contiguous);
        Ok(Self { rows, width, order, present })
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Row indices by ascending class.
    pub(crate) fn rows(&self) -> &[usize] {
        &self.order
    }

    /// A value amid these rows for some columns: the median of the first three.
    ///
    /// It is one of the rows' own values, so equal rows are at no distance from it, and no single outlying row decides it.
    pub(crate) fn pivot(&self, rows: &ClassRows, columns: Range<usize>) -> Vec<f64> {
        let last = rows.range.end - 1;
        let three = [0, 1, 2].map(|at| self.order[(rows.range.start + at).min(last)]);
        let median = |[a, b, c]: [f64; 3]| a.min(b).max(a.max(b).min(c));
        match &self.rows {
            Rows::Contiguous(all) => {
                let [a, b, c] = three.map(|row| &all[row * self.width..][columns.clone()]);
                let values = a.iter().zip(b).zip(c);
                values.map(|((a, b), c)| median([a.widen(), b.widen(), c.widen()])).collect()
            }
            Rows::Strided(all) => {
                columns.map(|column| median(three.map(|row| all[[row, column]].widen()))).collect()
            }
        }
    }

    /// Refuses NaN, infinities and magnitudes whose squares overflow; names the first row that holds one.
    pub(crate) fn check_values(&self) -> Result<(), Error> {
        let good = |value: &T| fits(value.widen());
        // No early exit inside a row, so that the comparison runs on vectors.
        let all_fit = |row: usize| match &self.rows {
            Rows::Contiguous(all) => {
                all[row * self.width..][..self.width].iter().fold(true, |ok, v| ok & good(v))
            }
            Rows::Strided(all) => all.row(row).iter().fold(true, |ok, v| ok & good(v)),
        };
        let Some(row) = jobs::find_first(self.len(), |row| !all_fit(row)) else {
            return Ok(());
        };
        let at = |column: usize| match &self.rows {
            Rows::Contiguous(all) => all[row * self.width + column].widen(),
            Rows::Strided(all) => all[[row, column]].widen(),
        };
        match (0..self.width).map(|column| (column, at(column))).find(|&(_, value)| !fits(value)) {
            Some((column, value)) if value.is_finite() => {
                Err(Error::Magnitude { row, column, value })
            }
            Some((column, value)) => Err(Error::NonFinite { row, column, value }),
            None => Ok(()),
        }
    }

    /// Adds the deviations from `pivot` of the rows `range` of the order, and their squares, over one column block.
    pub(crate) fn accumulate(
        &self,
        isa: Isa,
        range: Range<usize>,
        columns: Range<usize>,
        pivot: &[f64],
        sum: &mut [f64],
        squares: &mut [f64],
    ) {
        let mut walk = Walk::new(self, range, columns);
        while let Some((rows, ahead)) = walk.next::<GROUP>() {
            T::accumulate(isa, &rows, &ahead, pivot, sum, squares);
        }
        if let Some((rows, ahead)) = walk.next::<{ GROUP / 2 }>() {
            T::accumulate(isa, &rows, &ahead, pivot, sum, squares);
        }
        if let Some((rows, ahead)) = walk.next::<{ GROUP / 4 }>() {
            T::accumulate(isa, &rows, &ahead, pivot, sum, squares);
        }
        if let Some((rows, ahead)) = walk.next::<1>() {
            T::accumulate(isa, &rows, &ahead, pivot, sum, squares);
        }
    }

    /// Adds to `out` the squared distances of the rows `range` of the order to `a` and to `b`.
    pub(crate) fn distances(
        &self,
        isa: Isa,
        range: Range<usize>,
        a: &[f64],
        b: &[f64],
        out: &mut [[f64; 2]],
    ) {
        /// Rows at once: two sums each stay in registers.
        const ROWS: usize = 4;
        for columns in column_blocks(self.width) {
            let (a, b) = (&a[columns.clone()], &b[columns.clone()]);
            let mut walk = Walk::new(self, range.clone(), columns);
            let mut out = out.iter_mut();
            let mut add = |distances: &[[f64; 2]]| {
                for (distance, out) in distances.iter().zip(&mut out) {
                    out[0] += distance[0];
                    out[1] += distance[1];
                }
            };
            while let Some((rows, ahead)) = walk.next::<ROWS>() {
                add(&T::distances(isa, &rows, &ahead, a, b));
            }
            while let Some((rows, ahead)) = walk.next::<1>() {
                add(&T::distances(isa, &rows, &ahead, a, b));
            }
        }
    }
}

/// Segments of `R` rows, and of the `R` rows that come next.
type Step<'s, T, const R: usize> = ([&'s [T]; R], [&'s [T]; R]);

/// Walks over rows of a batch in class order, handing out their segments of one column block a few at a time.
struct Walk<'b, 'a, T> {
    batch: &'b Batch<'a, T>,
    range: Range<usize>,
    columns: Range<usize>,
    /// Copies of segments whose columns are not adjacent in memory.
    gathered: Vec<T>,
}

impl<'b, 'a, T: Element> Walk<'b, 'a, T> {
    fn new(batch: &'b Batch<'a, T>, range: Range<usize>, columns: Range<usize>) -> Self {
        Self { batch, range, columns, gathered: Vec::new() }
    }

    /// The next `R` rows and the `R` after them (wherever those belong), or `None` where fewer are left.
    fn next<const R: usize>(&mut self) -> Option<Step<'_, T, R>> {
        let from = self.range.start;
        if self.range.len() < R {
            return None;
        }
        self.range.start += R;
        let order = &self.batch.order;
        match &self.batch.rows {
            Rows::Contiguous(all) => {
                let width = self.batch.width;
                let segment = |at: usize| {
                    &all[order[at] * width + self.columns.start..][..self.columns.len()]
                };
                let last = order.len() - 1;
                Some((array(|r| segment(from + r)), array(|r| segment((from + R + r).min(last)))))
            }
            Rows::Strided(all) => {
                self.gathered.clear();
                for &row in &order[from..from + R] {
                    let row = all.index_axis(Axis(0), row);
                    self.gathered.extend(self.columns.clone().map(|column| row[column]));
                }
                let step = self.columns.len();
                let rows = array(|r| &self.gathered[r * step..][..step]);
                Some((rows, rows))
            }
        }
    }
}

/// An array of what `f` makes of each index.
fn array<U, const R: usize>(f: impl FnMut(usize) -> U) -> [U; R] {
    std::array::from_fn(f)
}
