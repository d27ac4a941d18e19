//! Products of centred features, block by block: a second copy of the features is never held.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, s};
use rayon::prelude::*;

use crate::error::Error;
use crate::moments::ClassMoments;
use crate::oddities::Oddities;
use crate::simd::{DOTS, Element, Isa, dots};

/// Elements of the block of centred `f64` values that is held beside a product, 32 MiB of them.
const BLOCK_ELEMENTS: usize = 1 << 22;
/// Rows of a product that are one piece of work: with [`DEPTH`] columns they stay in a second-level cache.
const TILE: usize = 64;
/// Rows of the other side that stay in the first-level cache meanwhile.
const GROUP: usize = 8;
/// Columns of a block.
const DEPTH: usize = 512;

/// Checked features with the mean of each column and the sum of squares about it.
pub(crate) struct Sample<'a, T> {
    features: ArrayView2<'a, T>,
    moments: ClassMoments,
}

impl<'a, T: Element> Sample<'a, T> {
    /// - `features`: `[n, d]`, of any strides; `16·d` bytes are held beside them
    ///
    /// # Errors
    /// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`].
    pub(crate) fn of(features: ArrayView2<'a, T>) -> Result<Self, Error> {
        let mut moments = ClassMoments::new(1, features.ncols())?;
        if features.nrows() == 0 {
            return Err(Error::NoRows);
        }
        moments.update(features, &vec![0; features.nrows()])?;
        Ok(Self { features, moments })
    }

    pub(crate) fn rows(&self) -> usize {
        self.features.nrows()
    }

    pub(crate) fn width(&self) -> usize {
        self.features.ncols()
    }

    /// Mean of each column, `[d]`.
    pub(crate) fn mean(&self) -> &[f64] {
        self.moments.mean_of(0).unwrap_or_default()
    }

    /// Sum of squared deviations of each column, `[d]`.
    pub(crate) fn squares(&self) -> &[f64] {
        self.moments.squares_of(0)
    }

    /// What is odd about columns and rows.
    pub(crate) fn oddities(&self) -> Oddities {
        Oddities::of(&[self.features])
    }

    /// Columns that never change, ascending.
    pub(crate) fn constant(&self) -> Vec<usize> {
        (0..self.width()).filter(|&j| self.squares()[j] == 0.0).collect()
    }

    /// What makes the squares of each column sum to one; zero for a constant column, which so drops out.
    pub(crate) fn unit_weights(&self) -> Vec<f64> {
        let weight = |&squares: &f64| if squares > 0.0 { 1.0 / squares.sqrt() } else { 0.0 };
        self.squares().iter().map(weight).collect()
    }

    /// `Σ_j (x_ij − m_j)²` of each row, `[n]`.
    pub(crate) fn row_squares(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.rows()];
        for columns in (0..self.width()).step_by(DEPTH) {
            let columns = columns..(columns + DEPTH).min(self.width());
            let mean = &self.mean()[columns.clone()];
            sums.par_iter_mut().enumerate().for_each(|(i, sum)| {
                let mut deviations = [0.0; DEPTH];
                let deviations = &mut deviations[..columns.len()];
                subtract(self.features.slice(s![i, columns.clone()]), mean, deviations);
                let (eights, rest) = deviations.as_chunks::<8>();
                // Eight sums, a fixed order that vectors can follow.
                let mut lanes = [0.0; 8];
                for eight in eights {
                    lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane += value * value);
                }
                *sum +=
                    lanes.iter().sum::<f64>() + rest.iter().map(|value| value * value).sum::<f64>();
            });
        }
        sums
    }

    /// Products of the centred features over the smaller of the two sides, columns weighted: `XᵀX`, `[d, d]`, where `d ≤ n`, else
    /// `XXᵀ`, `[n, n]`. Both have the same eigenvalues but for zeros.
    pub(crate) fn smaller_side(&self, weights: Option<&[f64]>) -> Array2<f64> {
        if self.width() <= self.rows() { self.scatter(weights) } else { self.gram(weights) }
    }

    /// `XᵀX` of the centred and weighted features, `[d, d]`.
    pub(crate) fn scatter(&self, weights: Option<&[f64]>) -> Array2<f64> {
        let mut product = Array2::zeros((self.width(), self.width()));
        for rows in blocks(self.width(), self.rows()) {
            let block = self.centred(rows, 0..self.width(), weights);
            add_symmetric(&block.t().as_standard_layout().to_owned(), &mut product);
        }
        mirror(product)
    }

    /// `XXᵀ` of the centred and weighted features, `[n, n]`.
    pub(crate) fn gram(&self, weights: Option<&[f64]>) -> Array2<f64> {
        let mut product = Array2::zeros((self.rows(), self.rows()));
        for columns in blocks(self.rows(), self.width()) {
            let block = self.centred(0..self.rows(), columns, weights);
            add_symmetric(&block, &mut product);
        }
        mirror(product)
    }

    fn centred(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        weights: Option<&[f64]>,
    ) -> Array2<f64> {
        centred(self.features, rows, columns.clone(), |_| &self.mean()[columns.clone()], weights)
    }
}

/// Some rows and columns as `f64`, less what `origin` gives for a row, times the column's weight.
pub(crate) fn centred<'m, T: Element>(
    features: ArrayView2<'_, T>,
    rows: Range<usize>,
    columns: Range<usize>,
    origin: impl Fn(usize) -> &'m [f64] + Sync,
    weights: Option<&[f64]>,
) -> Array2<f64> {
    let shape = (rows.len(), columns.len());
    let mut block = vec![0.0; shape.0 * shape.1];
    block.par_chunks_mut(shape.1.max(1)).enumerate().for_each(|(i, out)| {
        let row = features.slice(s![rows.start + i, columns.clone()]);
        subtract(row, origin(rows.start + i), out);
        if let Some(weights) = weights {
            let cells = out.iter_mut().zip(&weights[columns.clone()]);
            cells.for_each(|(out, weight)| *out *= weight);
        }
    });
    Array2::from_shape_vec(shape, block).unwrap_or_else(|_| Array2::zeros(shape))
}

/// A row less its origin.
fn subtract<T: Element>(row: ArrayView1<'_, T>, origin: &[f64], out: &mut [f64]) {
    match row.to_slice() {
        // As slices, so that it runs on vectors.
        Some(row) => {
            let cells = out.iter_mut().zip(row).zip(origin);
            cells.for_each(|((out, value), origin)| *out = value.widen() - origin);
        }
        None => {
            let cells = out.iter_mut().zip(row).zip(origin);
            cells.for_each(|((out, value), origin)| *out = value.widen() - origin);
        }
    }
}

/// Cuts the long side of a product of `side` rows, so that a block fits [`BLOCK_ELEMENTS`].
pub(crate) fn blocks(side: usize, length: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (BLOCK_ELEMENTS / side.max(1)).clamp(64, DEPTH);
    (0..length).step_by(step).map(move |from| from..(from + step).min(length))
}

/// Adds `A·Bᵀ` to `[a, b]`.
pub(crate) fn add_product(a: &Array2<f64>, b: &Array2<f64>, out: &mut Array2<f64>) {
    tiles(a, b, out, |_| b.nrows());
}

/// Adds the lower triangle of `A·Aᵀ`, and of the rest no more than tiles reach.
fn add_symmetric(a: &Array2<f64>, out: &mut Array2<f64>) {
    tiles(a, a, out, |rows| rows.end);
}

/// Adds products of the rows of `a`, a tile at a time, with the first `reach` rows of `b`. The last tile first: in a triangle it is the
/// longest. Both are in standard layout.
fn tiles(
    a: &Array2<f64>,
    b: &Array2<f64>,
    out: &mut Array2<f64>,
    reach: impl Fn(&Range<usize>) -> usize + Sync,
) {
    let isa = Isa::detect();
    let (height, width) = out.dim();
    let (Some(a), Some(b), Some(cells)) = (a.as_slice(), b.as_slice(), out.as_slice_mut()) else {
        return;
    };
    if height == 0 || width == 0 {
        return;
    }
    let depth = a.len() / height;
    fn row(of: &[f64], depth: usize, at: usize) -> &[f64] {
        &of[at * depth..][..depth]
    }
    let chunks: Vec<_> = cells.chunks_mut(TILE * width).enumerate().collect();
    chunks.into_par_iter().rev().with_max_len(1).for_each(|(index, cells)| {
        let rows = index * TILE..((index + 1) * TILE).min(height);
        let reach = reach(&rows);
        for group in (0..reach).step_by(GROUP) {
            for i in rows.clone().step_by(DOTS) {
                for j in (group..(group + GROUP).min(reach)).step_by(DOTS) {
                    // Past the end the last row stands in, and its products are dropped.
                    let four_a = std::array::from_fn(|r| row(a, depth, (i + r).min(height - 1)));
                    let four_b = std::array::from_fn(|c| row(b, depth, (j + c).min(width - 1)));
                    let products = dots(isa, four_a, four_b);
                    for (r, products) in products.iter().enumerate().take(rows.end - i) {
                        let cells = &mut cells[(i - rows.start + r) * width + j..];
                        let cells = cells.iter_mut().take((reach - j).min(DOTS)).zip(products);
                        cells.for_each(|(cell, product)| *cell += product);
                    }
                }
            }
        }
    });
}

/// The lower triangle in both triangles.
fn mirror(mut product: Array2<f64>) -> Array2<f64> {
    for i in 0..product.nrows() {
        for j in 0..i {
            product[[j, i]] = product[[i, j]];
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values with an offset, from a fixed rule.
    fn features(n: usize, d: usize) -> Array2<f32> {
        Array2::from_shape_fn((n, d), |(i, j)| {
            ((i * 7919 + j * 104_729) % 997) as f32 / 997.0 + j as f32
        })
    }

    #[test]
    fn products_are_those_of_the_definition_on_any_number_of_threads() -> Result<(), Error> {
        for (n, d) in [(1, 1), (3, 200), (150, 7), (70, 2100), (1300, 65)] {
            let features = features(n, d);
            let wide = features.mapv(f64::from);
            let centred = &wide - &wide.mean_axis(ndarray::Axis(0)).unwrap_or_default();
            let sample = Sample::of(features.view())?;
            let pairs = [
                (sample.gram(None), centred.dot(&centred.t())),
                (sample.scatter(None), centred.t().dot(&centred)),
            ];
            for (got, want) in pairs {
                let scale = want.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
                assert!((&got - &want).iter().all(|gap| gap.abs() <= 1e-13 * scale));
            }
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
            let pool = pool.expect("three threads");
            assert_eq!(pool.install(|| sample.gram(None)), sample.gram(None));
            assert_eq!(pool.install(|| sample.scatter(None)), sample.scatter(None));
        }
        Ok(())
    }

    #[test]
    fn every_instruction_set_gives_the_same_products() {
        for width in [1, 3, 7, 8, 9, 31, 512] {
            let rows = features(8, width).mapv(f64::from);
            let row =
                |i: usize| -> &[f64] { &rows.as_slice().unwrap_or_default()[i * width..][..width] };
            let (a, b) = ([0, 1, 2, 3].map(row), [4, 5, 6, 7].map(row));
            for isa in [Isa::Avx512, Isa::Avx2, Isa::Portable] {
                let found = dots(isa.or_detected(), a, b);
                for (found, a) in found.iter().zip(a) {
                    for (found, b) in found.iter().zip(b) {
                        let want: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                        assert!((found - want).abs() <= 1e-14 * want.abs(), "{isa:?} {width}");
                    }
                }
            }
        }
    }

    #[test]
    fn strides_and_weights() -> Result<(), Error> {
        let features = features(40, 30);
        let (sample, owned) = (features.t(), features.t().to_owned());
        let (strided, plain) = (Sample::of(sample)?, Sample::of(owned.view())?);
        assert_eq!(strided.gram(None), plain.gram(None));
        let correlation = plain.scatter(Some(&plain.unit_weights()));
        assert!(correlation.diag().iter().all(|one| (one - 1.0).abs() < 1e-12));
        Ok(())
    }
}
