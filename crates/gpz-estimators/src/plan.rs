//! What class statistics will take, before they start: a [`Plan`] of the first pass, which can read columns in blocks, and the [`Needs`] of
//! a second one, which holds all columns.

use std::ops::Range;

use ndarray::{ArrayView2, s};
use serde::Serialize;

use crate::error::Error;
use crate::geometry::ClassGeometry;
use crate::moments::ClassMoments;
use crate::simd::Element;

/// Columns of a block come in such numbers, so that each row's part of a block is whole cache lines.
const COLUMN_STEP: usize = 64;

/// The memory of class statistics over features of one shape, piece by piece.
///
/// The state does not grow with the number of rows. Where it exceeds what is allowed, [`within`](Self::within) offers blocks of
/// columns: each block's state fits, and the features are read once per block instead of once.
///
/// ```
/// use gpz_estimators::plan::Plan;
///
/// let plan = Plan::of(530, 262_144, 128)?;
/// println!("{plan}");
/// assert_eq!(plan.pieces()[0].bytes, 16 * 530 * 262_144 + 8 * 530);
/// let narrow = plan.within(1 << 30)?;
/// assert!(narrow.passes() > 1 && narrow.bytes() <= 1 << 30);
/// assert!(Plan::of(530, 262_144, 128)?.within(1 << 20).is_err());
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    classes: usize,
    width: usize,
    batch_rows: usize,
    block: usize,
    pieces: Vec<Piece>,
}

/// A part of the memory, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Piece {
    /// What it holds.
    pub what: &'static str,
    /// Its bytes, at most.
    pub bytes: u128,
}

impl Plan {
    /// The plan without a limit: all columns at once.
    ///
    /// - `classes`, `width`: as for [`ClassMoments::new`]
    /// - `batch_rows`: most rows of one batch; all rows where they are given at once
    ///
    /// The features themselves, in the caller's memory, are not counted.
    ///
    /// # Errors
    /// [`Error::EmptyShape`] if classes or width are zero.
    pub fn of(classes: usize, width: usize, batch_rows: usize) -> Result<Self, Error> {
        if classes == 0 || width == 0 {
            return Err(Error::EmptyShape { classes, width });
        }
        Ok(Self::with_block(classes, width, batch_rows, width))
    }

    /// The plan under a limit: all columns at once if that fits, else the widest blocks of columns that do.
    ///
    /// - `budget`: bytes allowed for the statistics, beside the features
    ///
    /// # Errors
    /// [`Error::Budget`] if not even one block of 64 columns fits; it says how much that one takes.
    pub fn within(self, budget: u128) -> Result<Self, Error> {
        let fits = |block: usize| {
            Self::with_block(self.classes, self.width, self.batch_rows, block).bytes() <= budget
        };
        if fits(self.width) {
            return Ok(Self::with_block(self.classes, self.width, self.batch_rows, self.width));
        }
        // Bytes grow with the block, so halving the interval finds the widest that fits.
        let (mut low, mut high) = (0, self.width.div_ceil(COLUMN_STEP));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle * COLUMN_STEP) { low = middle } else { high = middle }
        }
        let smallest = COLUMN_STEP.min(self.width);
        if low == 0 {
            let least = Self::with_block(self.classes, self.width, self.batch_rows, smallest);
            return Err(Error::Budget {
                what: "class statistics over blocks of 64 columns",
                needed: least.bytes(),
                budget,
                mend: "allow more, pool the features, or give smaller batches",
            });
        }
        Ok(Self::with_block(self.classes, self.width, self.batch_rows, low * COLUMN_STEP))
    }

    fn with_block(classes: usize, width: usize, batch_rows: usize, block: usize) -> Self {
        let [state, update, geometry] = ClassMoments::memory_parts(classes, block, batch_rows);
        let cells = std::mem::size_of::<f64>() as u128;
        // Mean and variance of the blocks done so far, and of the block just finished.
        let joined = if block < width { cells * 2 * width as u128 } else { 0 };
        let pieces = [
            ("means and squares of each class and column", state),
            (
                "sums of one batch until they are committed, or the parts of a geometry",
                update.max(geometry),
            ),
            (
                "one index per row of a batch and the ends of its classes",
                cells * (batch_rows + classes) as u128,
            ),
            ("mean and variance of the columns done", joined),
        ];
        let pieces = pieces.map(|(what, bytes)| Piece { what, bytes }).into_iter();
        let pieces = pieces.filter(|piece| piece.bytes > 0).collect();
        Self { classes, width, batch_rows, block, pieces }
    }

    /// The pieces of memory held at once, largest bounds each.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// All pieces together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u128 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// How often all rows are read for the moments: once per block of columns.
    #[must_use]
    pub fn passes(&self) -> usize {
        self.width.div_ceil(self.block)
    }

    /// The blocks of columns, in order.
    pub fn column_blocks(&self) -> impl ExactSizeIterator<Item = Range<usize>> + use<> {
        let (width, block) = (self.width, self.block);
        (0..self.passes()).map(move |at| at * block..((at + 1) * block).min(width))
    }

    /// Class geometry by this plan: of each block of columns in turn, joined.
    ///
    /// - `features`: `[n, width]`; `labels`: `n` class indices below the number of classes
    ///
    /// Where the features come in batches, make moments of each block of columns in turn and
    /// [join](ClassGeometry::join) their geometries.
    ///
    /// # Errors
    /// Those of [`ClassMoments::update`] and [`ClassMoments::geometry`].
    pub fn geometry<T: Element>(
        &self,
        features: ArrayView2<'_, T>,
        labels: &[usize],
    ) -> Result<ClassGeometry, Error> {
        if features.ncols() != self.width {
            return Err(Error::Width { expected: self.width, found: features.ncols() });
        }
        let step = self.batch_rows.max(1);
        let mut joined: Option<ClassGeometry> = None;
        for columns in self.column_blocks() {
            let mut moments = ClassMoments::new(self.classes, columns.len())?;
            if labels.len() != features.nrows() {
                let (rows, labels) = (features.nrows(), labels.len());
                return Err(Error::LabelCount { rows, labels });
            }
            for (at, labels) in labels.chunks(step).enumerate() {
                let rows = at * step..at * step + labels.len();
                let block = features.slice(s![rows, columns.clone()]);
                moments
                    .update(block, labels)
                    .map_err(|error| in_whole(error, at * step, columns.start))?;
            }
            let geometry = moments.geometry()?;
            joined = Some(match joined {
                Some(before) => before.join(&geometry)?,
                None => geometry,
            });
        }
        joined.ok_or(Error::NoRows)
    }
}

/// The memory of a second pass beside the features, piece by piece.
///
/// ```
/// use gpz_estimators::plan::Needs;
///
/// // A label and two distances for each of a million rows, beside the moments.
/// let needs = Needs::of_deviations(100, 512, 1_000_000, 256)?;
/// assert!(needs.bytes() >= 24_000_000);
/// assert!(needs.within(1 << 20).is_err());
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Needs {
    what: &'static str,
    mend: &'static str,
    pieces: Vec<Piece>,
}

impl Needs {
    /// Moments and a [`DeviationPass`](crate::DeviationPass) over them, at its end.
    ///
    /// - `classes`, `width`: as for [`ClassMoments::new`]; `rows`: of all batches; `batch_rows`: most of one
    ///
    /// # Errors
    /// [`Error::EmptyShape`] if classes or width are zero.
    pub fn of_deviations(
        classes: usize,
        width: usize,
        rows: usize,
        batch_rows: usize,
    ) -> Result<Self, Error> {
        let moments = moments_pieces(classes, width, batch_rows)?;
        let pieces = [
            ("a label and two distances of each row, with room to grow", 2 * 24 * rows as u128),
            ("two distances of each row of a batch", 16 * batch_rows as u128),
            ("mean and variance over all rows", 16 * width as u128 + 16 * classes as u128),
        ];
        Ok(Self {
            what: "distances of all rows to their means",
            mend: "allow more, or look at a part of the rows",
            pieces: joined(moments, &pieces),
        })
    }

    /// Moments and a [`CollapsePass`](crate::collapse::CollapsePass) over them, LAPACK's workspace included.
    ///
    /// - `classes`, `width`: as for [`ClassMoments::new`]; `batch_rows`: most rows of one batch; `classifier`: whether there is one
    ///
    /// # Errors
    /// [`Error::EmptyShape`] if classes or width are zero.
    #[cfg(feature = "lapack-base")]
    pub fn of_collapse(
        classes: usize,
        width: usize,
        batch_rows: usize,
        classifier: bool,
    ) -> Result<Self, Error> {
        let moments = moments_pieces(classes, width, batch_rows)?;
        let (k, rows) = (classes as u128, batch_rows as u128);
        let columns =
            |side: usize| crate::gram::blocks(side, width).next().map_or(0, |block| block.len());
        let (update, setup) = (columns(batch_rows + classes) as u128, columns(classes) as u128);
        let weights = if classifier { 2 * k } else { 0 };
        let pieces = [
            ("products of the class means with each other, and their root", 8 * 2 * k * k),
            ("eigenvectors and their workspace while they are sought", 8 * 4 * k * k),
            ("the centre of the class means, and sums of each class", 8 * (width as u128 + 3 * k)),
            ("products of a batch with class means and weights", 8 * (2 * k + 3) * rows),
            (
                "blocks of centred rows, means and weights",
                (8 * update * (2 * rows + k + weights)).max(8 * 2 * k * setup),
            ),
            ("geometry, to tell whether the rows are the same", 16 * width as u128 + 16 * k),
        ];
        Ok(Self {
            what: "measures of neural collapse",
            mend: "allow more, give smaller batches, or pool the features",
            pieces: joined(moments, &pieces),
        })
    }

    /// The pieces of memory held at once, largest bounds each.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// All pieces together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u128 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// These needs, if a limit allows them.
    ///
    /// - `budget`: bytes allowed beside the features
    ///
    /// # Errors
    /// [`Error::Budget`] if they exceed it; it says by how much.
    pub fn within(self, budget: u128) -> Result<Self, Error> {
        let needed = self.bytes();
        if needed > budget {
            return Err(Error::Budget { what: self.what, needed, budget, mend: self.mend });
        }
        Ok(self)
    }
}

/// What the moments of a first pass over all columns at once take.
fn moments_pieces(classes: usize, width: usize, batch_rows: usize) -> Result<Vec<Piece>, Error> {
    Ok(Plan::of(classes, width, batch_rows)?.pieces)
}

fn joined(mut pieces: Vec<Piece>, more: &[(&'static str, u128)]) -> Vec<Piece> {
    pieces.extend(more.iter().map(|&(what, bytes)| Piece { what, bytes }));
    pieces
}

impl std::fmt::Display for Needs {
    /// One line per piece, then the sum.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.pieces {
            writeln!(f, "{:>12.1} MiB  {}", mib(piece.bytes), piece.what)?;
        }
        write!(f, "{:>12.1} MiB  in all, for {}", mib(self.bytes()), self.what)
    }
}

impl std::fmt::Display for Plan {
    /// One line per piece, then the sum and how often the features are read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.pieces {
            writeln!(f, "{:>12.1} MiB  {}", mib(piece.bytes), piece.what)?;
        }
        let (passes, block) = (self.passes(), self.block);
        write!(f, "{:>12.1} MiB  in all; ", mib(self.bytes()))?;
        match passes {
            1 => write!(f, "the features are read once"),
            _ => write!(f, "the features are read {passes} times, {block} columns each"),
        }
    }
}

fn mib(bytes: u128) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// An error of a block of rows and columns, with the places counted in the whole.
pub(crate) fn in_whole(error: Error, rows_before: usize, columns_before: usize) -> Error {
    match error {
        Error::NonFinite { row, column, value } => {
            Error::NonFinite { row: row + rows_before, column: column + columns_before, value }
        }
        Error::Magnitude { row, column, value } => {
            Error::Magnitude { row: row + rows_before, column: column + columns_before, value }
        }
        Error::LabelOutOfRange { row, label, classes } => {
            Error::LabelOutOfRange { row: row + rows_before, label, classes }
        }
        other => other,
    }
}
