//! Pivoted Cholesky factorisation of a positive semidefinite matrix: rank, determinant and solutions without LAPACK.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::error::Error;

/// Largest relative asymmetry taken for rounding.
const ASYMMETRY: f64 = 1e-9;
/// Rows from which on a column of the factor is worth more than one thread. By size alone; no bit depends on it.
const PARALLEL_ROWS: usize = 512;

/// `M = L·Lᵀ` up to the residual, the rows of `L` in the matrix's own order.
pub(super) struct Factor {
    /// `[n, rank]`; its rows at `pivots` are lower triangular.
    pub(super) lower: Array2<f64>,
    /// The rows in the order in which they were eliminated.
    pub(super) pivots: Vec<usize>,
    /// What is left of the diagonal in the rows that were not.
    pub(super) residual: Vec<f64>,
}

/// Factorises until no diagonal element that is left exceeds `tolerance`.
pub(super) fn pivoted(matrix: ArrayView2<'_, f64>, tolerance: f64) -> Factor {
    let n = matrix.nrows();
    let mut diagonal = matrix.diag().to_vec();
    let mut open = vec![true; n];
    let mut lower = vec![0.0; n * n];
    let mut pivots = Vec::new();
    for k in 0..n {
        // The first of equals, so that ties do not depend on anything but the matrix.
        let largest = (0..n).filter(|&i| open[i]).fold(None, |best: Option<usize>, i| match best {
            Some(best) if diagonal[best] >= diagonal[i] => Some(best),
            _ => Some(i),
        });
        let Some(p) = largest.filter(|&p| diagonal[p] > tolerance) else { break };
        open[p] = false;
        pivots.push(p);
        let root = diagonal[p].sqrt();
        let pivot = lower[p * n..p * n + k].to_vec();
        let step = |(i, (row, left)): (usize, (&mut [f64], &mut f64))| {
            if i == p {
                row[k] = root;
            } else if open[i] {
                let entry = (matrix[[i, p]] - dot(&row[..k], &pivot)) / root;
                row[k] = entry;
                *left -= entry * entry;
            }
        };
        if n >= PARALLEL_ROWS {
            let rows = lower.par_chunks_mut(n).zip(&mut diagonal).enumerate();
            rows.with_min_len(PARALLEL_ROWS / 2).for_each(step);
        } else {
            lower.chunks_mut(n).zip(&mut diagonal).enumerate().for_each(step);
        }
    }
    let residual = (0..n).filter(|&i| open[i]).map(|i| diagonal[i]).collect();
    let rank = pivots.len();
    let lower = Array2::from_shape_fn((n, rank), |(i, k)| lower[i * n + k]);
    Factor { lower, pivots, residual }
}

/// In eight lanes: a fixed order that vectors can follow.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (eights, rest) = a.as_chunks::<8>();
    let (others, other_rest) = b.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (eight, other) in eights.iter().zip(others) {
        for lane in 0..8 {
            lanes[lane] += eight[lane] * other[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// A factor after the diagonal was scaled to ones, so that neither rank nor determinant depends on units.
pub(super) struct Standardised {
    scale: Vec<f64>,
    factor: Factor,
}

impl Standardised {
    /// - `what`: the matrix's name in errors
    ///
    /// # Errors
    /// [`Error::Shape`] unless square, [`Error::NonFinite`], [`Error::Parameter`] unless symmetric and positive semidefinite.
    pub(super) fn of(what: &'static str, matrix: ArrayView2<'_, f64>) -> Result<Self, Error> {
        Self::above(what, matrix, matrix.nrows() as f64 * f64::EPSILON)
    }

    /// The same, with what counts as zero of a diagonal that was scaled to ones: for a matrix that comes with more rounding of its own.
    pub(super) fn above(
        what: &'static str,
        matrix: ArrayView2<'_, f64>,
        tolerance: f64,
    ) -> Result<Self, Error> {
        let n = matrix.nrows();
        if matrix.ncols() != n || n == 0 {
            let expected = vec![n.max(1); 2];
            return Err(Error::Shape { what, found: matrix.shape().to_vec(), expected });
        }
        if let Some(((row, column), &value)) = matrix.indexed_iter().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NonFinite { row, column, value });
        }
        let semidefinite = "the matrix must be symmetric and positive semidefinite";
        let refuse = |value| Err(Error::Parameter { name: what, value, rule: semidefinite });
        if let Some(&value) = matrix.diag().iter().find(|&&value| value < 0.0) {
            return refuse(value);
        }
        let scale: Vec<f64> = matrix.diag().iter().map(|value| value.sqrt()).collect();
        let mut scaled = matrix.to_owned();
        for ((i, j), value) in scaled.indexed_iter_mut() {
            let unit = scale[i] * scale[j];
            // A zero on the diagonal of a semidefinite matrix leaves only zeros beside it.
            if (unit == 0.0 && *value != 0.0) || value.abs() > unit * (1.0 + ASYMMETRY) {
                return refuse(*value);
            }
            *value = if unit == 0.0 { 0.0 } else { *value / unit };
        }
        for ((i, j), value) in scaled.indexed_iter() {
            if (value - scaled[[j, i]]).abs() > ASYMMETRY {
                return refuse(matrix[[i, j]]);
            }
        }
        let factor = pivoted(scaled.view(), tolerance);
        if let Some(&value) = factor.residual.iter().find(|&&value| value < -ASYMMETRY) {
            return refuse(value);
        }
        Ok(Self { scale, factor })
    }

    pub(super) fn rank(&self) -> usize {
        self.factor.pivots.len()
    }

    pub(super) fn is_regular(&self) -> bool {
        self.rank() == self.scale.len()
    }

    /// `ln det M`, `-inf` where singular.
    pub(super) fn log_det(&self) -> f64 {
        if !self.is_regular() {
            return f64::NEG_INFINITY;
        }
        let pivots = self.factor.pivots.iter().enumerate();
        let roots = pivots.map(|(k, &p)| self.factor.lower[[p, k]].ln() + self.scale[p].ln());
        2.0 * roots.sum::<f64>()
    }

    /// `R` of shape `[n, rank]` with `M = R·Rᵀ`.
    pub(super) fn root(&self) -> Array2<f64> {
        let mut root = self.factor.lower.clone();
        for (mut row, &scale) in root.rows_mut().into_iter().zip(&self.scale) {
            row *= scale;
        }
        root
    }

    /// `X` of `M·X = B`, for a regular `M`.
    pub(super) fn solve(&self, right: ArrayView2<'_, f64>) -> Array2<f64> {
        let (pivots, n) = (&self.factor.pivots, self.scale.len());
        let lower = self.factor.lower.select(Axis(0), pivots);
        let mut x = right.select(Axis(0), pivots);
        for (mut row, &p) in x.rows_mut().into_iter().zip(pivots) {
            row /= self.scale[p];
        }
        for k in 0..n {
            let (before, mut rest) = x.view_mut().split_at(Axis(0), k);
            let mut row = rest.row_mut(0);
            for (j, known) in before.rows().into_iter().enumerate() {
                row.scaled_add(-lower[[k, j]], &known);
            }
            row /= lower[[k, k]];
        }
        for k in (0..n).rev() {
            let (mut before, after) = x.view_mut().split_at(Axis(0), k + 1);
            let mut row = before.row_mut(k);
            for (j, known) in after.rows().into_iter().enumerate() {
                row.scaled_add(-lower[[k + 1 + j, k]], &known);
            }
            row /= lower[[k, k]];
        }
        let mut solution = Array2::zeros(x.dim());
        for (row, &p) in x.rows().into_iter().zip(pivots) {
            solution.row_mut(p).assign(&(&row / self.scale[p]));
        }
        solution
    }

    /// `tr M⁻¹`, infinite where singular.
    pub(super) fn trace_of_inverse(&self) -> f64 {
        if !self.is_regular() {
            return f64::INFINITY;
        }
        self.solve(Array2::eye(self.scale.len()).view()).diag().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn product(factor: &Standardised) -> Array2<f64> {
        let root = factor.root();
        root.dot(&root.t())
    }

    #[test]
    fn scales_of_all_sizes_are_factorised() -> Result<(), Error> {
        let correlation = array![[1.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 1.0]];
        let scale = [1e-8, 1.0, 1e8];
        let matrix =
            Array2::from_shape_fn((3, 3), |(i, j)| scale[i] * correlation[[i, j]] * scale[j]);
        let factor = Standardised::of("covariance", matrix.view())?;
        // 1 + 2·0.5·0.2·(−0.3) − 0.25 − 0.04 − 0.09
        assert!((factor.log_det() - 0.56_f64.ln()).abs() < 1e-14);
        for (got, want) in product(&factor).iter().zip(&matrix) {
            assert!((got - want).abs() <= 1e-15 * want.abs());
        }
        let identity = matrix.dot(&factor.solve(Array2::eye(3).view()));
        for ((i, j), value) in identity.indexed_iter() {
            let unit = scale[i] / scale[j];
            assert!((value / unit - f64::from(u8::from(i == j))).abs() < 1e-14);
        }
        Ok(())
    }

    #[test]
    fn rank_of_a_singular_matrix() -> Result<(), Error> {
        let root = array![[1.0, 2.0], [3.0, -1.0], [4.0, 1.0], [0.0, 0.0]];
        let factor = Standardised::of("covariance", root.dot(&root.t()).view())?;
        assert_eq!(factor.rank(), 2);
        assert_eq!(factor.log_det(), f64::NEG_INFINITY);
        assert_eq!(factor.trace_of_inverse(), f64::INFINITY);
        let product = product(&factor);
        assert!(product.iter().zip(&root.dot(&root.t())).all(|(a, b)| (a - b).abs() < 1e-14));
        Ok(())
    }

    #[test]
    fn what_is_no_covariance_is_refused() {
        let refused = |matrix: Array2<f64>| Standardised::of("covariance", matrix.view()).err();
        assert!(matches!(refused(array![[1.0, 2.0], [2.0, 1.0]]), Some(Error::Parameter { .. })));
        assert!(matches!(refused(array![[1.0, 0.5], [0.1, 1.0]]), Some(Error::Parameter { .. })));
        assert!(matches!(refused(array![[-1.0]]), Some(Error::Parameter { value: -1.0, .. })));
        assert!(matches!(refused(array![[f64::NAN]]), Some(Error::NonFinite { .. })));
        assert!(matches!(refused(Array2::zeros((0, 0))), Some(Error::Shape { .. })));
        assert!(matches!(refused(Array2::zeros((2, 3))), Some(Error::Shape { .. })));
        // Indefinite, though no pair of rows shows it.
        let triple = array![[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]];
        assert!(matches!(refused(triple), Some(Error::Parameter { .. })));
    }
}
