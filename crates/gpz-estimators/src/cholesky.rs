//! Cholesky factors of small covariances, without LAPACK.

use ndarray::ArrayView2;

/// Lower triangular `L` with `L Lᵀ = A`.
#[derive(Debug, Clone)]
pub(crate) struct Cholesky {
    width: usize,
    /// Row-major, zero above the diagonal.
    lower: Vec<f64>,
}

impl Cholesky {
    /// Of a symmetric matrix; none if it is not positive definite to working precision. Reads the lower triangle.
    pub(crate) fn new(matrix: ArrayView2<'_, f64>) -> Option<Self> {
        let d = matrix.nrows();
        let mut lower = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..=i {
                let (row, column) = (&lower[i * d..i * d + j], &lower[j * d..j * d + j]);
                let dot: f64 = row.iter().zip(column).map(|(a, b)| a * b).sum();
                let rest = matrix[[i, j]] - dot;
                lower[i * d + j] = if j < i {
                    rest / lower[j * d + j]
                } else if rest > matrix[[i, i]] * d as f64 * f64::EPSILON {
                    rest.sqrt()
                } else {
                    return None; // NaN ends here as well
                };
            }
        }
        Some(Self { width: d, lower })
    }

    /// `ln det A`.
    pub(crate) fn ln_det(&self) -> f64 {
        2.0 * (0..self.width).map(|i| self.lower[i * self.width + i].ln()).sum::<f64>()
    }

    /// Turns `v` into `L⁻¹v`, whose squared norm is `vᵀA⁻¹v`.
    pub(crate) fn whiten(&self, v: &mut [f64]) {
        for i in 0..self.width {
            let row = &self.lower[i * self.width..i * self.width + i];
            let dot: f64 = row.iter().zip(&*v).map(|(a, b)| a * b).sum();
            v[i] = (v[i] - dot) / self.lower[i * self.width + i];
        }
    }

    /// `vᵀA⁻¹v`.
    pub(crate) fn squared_length(&self, mut v: Vec<f64>) -> f64 {
        self.whiten(&mut v);
        v.iter().map(|v| v * v).sum()
    }

    /// `tr(A⁻¹B)`, `B` given by its factor.
    pub(crate) fn trace_of_ratio(&self, other: &Self) -> f64 {
        let d = self.width;
        let column = |j: usize| (0..d).map(|i| other.lower[i * d + j]).collect();
        (0..d).map(|j| self.squared_length(column(j))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn known_factor_determinant_and_trace() {
        let a = Cholesky::new(array![[4.0, 2.0], [2.0, 5.0]].view()).expect("positive definite");
        assert_eq!(a.lower, [2.0, 0.0, 1.0, 2.0]);
        assert!((a.ln_det() - 16.0_f64.ln()).abs() < 1e-15);
        // A⁻¹ = [[5, -2], [-2, 4]]/16
        assert!((a.squared_length(vec![1.0, 3.0]) - (5.0 - 12.0 + 36.0) / 16.0).abs() < 1e-15);
        let b = Cholesky::new(array![[1.0, 0.5], [0.5, 2.0]].view()).expect("positive definite");
        assert!((a.trace_of_ratio(&b) - (5.0 - 2.0 + 8.0) / 16.0).abs() < 1e-15);
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        for matrix in [
            array![[1.0, 1.0], [1.0, 1.0]],
            array![[1.0, 2.0], [2.0, 1.0]],
            array![[0.0, 0.0], [0.0, 1.0]],
            array![[1.0, f64::NAN], [f64::NAN, 1.0]],
        ] {
            assert!(Cholesky::new(matrix.view()).is_none(), "{matrix}");
        }
    }
}
