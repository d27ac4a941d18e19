//! Matrix-based Rényi entropy and information, in nats.
//!
//! `A = K/n` with `K_ij = exp(−‖x_i − x_j‖²/2σ²)` is positive and has trace 1, so its eigenvalues `λ` are taken for a law:
//! `S_α = ln(Σ λ^α)/(1 − α)`, von Neumann's `−Σ λ ln λ` at `α = 1`. Two samples are joined by `A∘B/tr(A∘B)`, and
//! `I_α = S_α(A) + S_α(B) − S_α(A, B)`.
//!
//! These are functions of the sample and the bandwidth, without a population behind them ([`Kind::Exact`]): as `σ → 0` every
//! value goes to `ln n` ([`Flag::Saturated`](crate::Flag::Saturated)), as `σ → ∞` to 0. Compare values of one `n` and one `σ` only. `I_α`
//! may be negative for `α` other than 1. No standard error, for want of a population.
//!
//! The eigenvalues take `8·n²` bytes (three such matrices for `I`), `n³` operations, and the feature `lapack`. At `α = 2` the sum of
//! squares of the entries does, with memory for `n` numbers: [`quadratic_entropy_nats`], [`quadratic_information_nats`].
//!
//! ```
//! use gpz_estimators::information::renyi::quadratic_entropy_nats;
//! use ndarray::array;
//!
//! // Two rows far apart are two equal eigenvalues.
//! let entropy = quadratic_entropy_nats(array![[0.0], [100.0]].view(), 1.0)?;
//! assert!((entropy.value - 2.0_f64.ln()).abs() < 1e-12);
//! # Ok::<(), gpz_estimators::Error>(())
//! ```
//!
//! # Source
//! Sánchez Giraldo, Rao, Príncipe, "Measures of entropy from data using infinitely divisible kernels", arXiv 1211.2459.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::error::Error;
use crate::estimate::{Estimate, Kind};
use crate::oddities::Oddities;
use crate::rows::{checked, checked_pairs};
use crate::simd::Element;

/// `S_2 = −ln Σ_ij A_ij²`, in nats.
///
/// - `x`: `[n, d]`; `sigma`: bandwidth in the units of `x`
///
/// Meaning, limits, source and an example: see the [module](self).
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`]; [`Error::Parameter`] unless `sigma` is
/// positive and finite.
pub fn quadratic_entropy_nats<T: Element>(
    x: ArrayView2<'_, T>,
    sigma: f64,
) -> Result<Estimate, Error> {
    let x = Scaled::new(checked(x)?, sigma)?;
    Ok(estimate(quadratic(&[&x]), &[&x]))
}

/// `I_2 = S_2(A) + S_2(B) − S_2(A, B)`, in nats.
///
/// - `x`: `[n, d_x]`, `y`: `[n, d_y]`; `sigma`: bandwidths of `x` and of `y`
///
/// Meaning and limits: see the [module](self).
///
/// ```
/// use gpz_estimators::information::renyi::quadratic_information_nats;
/// use ndarray::array;
///
/// let (x, y) = (array![[0.0], [100.0]], array![[5.0], [900.0]]);
/// let mi = quadratic_information_nats(x.view(), y.view(), [1.0, 1.0])?; // ln 2 + ln 2 − ln 2
/// assert!((mi.value - 2.0_f64.ln()).abs() < 1e-12);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// As the [module](self).
///
/// # Errors
/// Those of [`quadratic_entropy_nats`], and [`Error::RowCount`].
pub fn quadratic_information_nats<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
    sigma: [f64; 2],
) -> Result<Estimate, Error> {
    let (x, y) = checked_pairs(x, y)?;
    let (x, y) = (Scaled::new(x, sigma[0])?, Scaled::new(y, sigma[1])?);
    Ok(estimate(quadratic(&[&x]) + quadratic(&[&y]) - quadratic(&[&x, &y]), &[&x, &y]))
}

fn estimate(value: f64, samples: &[&Scaled]) -> Estimate {
    let n = samples[0].n() as f64;
    let rows: Vec<_> = samples.iter().map(|sample| sample.0.view()).collect();
    // One row has the eigenvalue 1: rounding must not make that −0.
    Estimate::new(value + 0.0, Kind::Exact, n).ceiling(n.ln()).odd(&Oddities::of(&rows))
}

/// Rows in units of `√2 σ`, so that a kernel's exponent is a plain squared distance.
struct Scaled(Array2<f64>);

impl Scaled {
    fn new(mut rows: Array2<f64>, sigma: f64) -> Result<Self, Error> {
        if !(sigma > 0.0 && sigma.is_finite()) {
            let rule = "a bandwidth is positive and finite";
            return Err(Error::Parameter { name: "sigma", value: sigma, rule });
        }
        rows.mapv_inplace(|value| value / sigma / std::f64::consts::SQRT_2);
        Ok(Self(rows))
    }

    fn n(&self) -> usize {
        self.0.nrows()
    }

    fn squared_distance(&self, i: usize, j: usize) -> f64 {
        let pairs = self.0.row(i).into_iter().zip(self.0.row(j));
        pairs.map(|(a, b)| (a - b) * (a - b)).sum()
    }
}

/// The entry `K_ij` of the samples' Hadamard product.
fn kernel(samples: &[&Scaled], i: usize, j: usize) -> f64 {
    (-samples.iter().map(|sample| sample.squared_distance(i, j)).sum::<f64>()).exp()
}

/// `−ln Σ (K_ij/n)²`, row by row.
fn quadratic(samples: &[&Scaled]) -> f64 {
    let n = samples[0].n();
    let row = |i: usize| (0..i).map(|j| kernel(samples, i, j).powi(2)).sum::<f64>();
    let below: Vec<f64> = (0..n).into_par_iter().map(row).collect();
    let sum = n as f64 + 2.0 * below.iter().sum::<f64>();
    2.0 * (n as f64).ln() - sum.ln()
}

#[cfg(feature = "lapack-base")]
pub use spectral::{matrix_entropy_nats, matrix_information_nats};

#[cfg(feature = "lapack-base")]
mod spectral {
    use ndarray_linalg::{EigValshInto, UPLO};

    use super::*;

    /// `S_α` of any positive order, in nats; feature `lapack`.
    ///
    /// - `x`: `[n, d]`; `sigma`: bandwidth in the units of `x`; `alpha = 1` is von Neumann's, `∞` the negative logarithm of the
    ///   largest eigenvalue, `2` is [`quadratic_entropy_nats`]
    ///
    /// Orders next to 1 cost no digits. Eigenvalues that rounding made negative count as zero. Meaning, limits and source: see the
    /// [module](super).
    ///
    /// ```
    /// use gpz_estimators::information::renyi::matrix_entropy_nats;
    /// use ndarray::array;
    ///
    /// // Two rows far apart are two equal eigenvalues, whatever the order.
    /// for alpha in [0.5, 1.0, 3.0, f64::INFINITY] {
    ///     let entropy = matrix_entropy_nats(array![[0.0], [100.0]].view(), alpha, 1.0)?;
    ///     assert!((entropy.value - 2.0_f64.ln()).abs() < 1e-12);
    /// }
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`quadratic_entropy_nats`]; [`Error::Parameter`] unless `alpha > 0`; [`Error::Factorisation`].
    pub fn matrix_entropy_nats<T: Element>(
        x: ArrayView2<'_, T>,
        alpha: f64,
        sigma: f64,
    ) -> Result<Estimate, Error> {
        let x = Scaled::new(checked(x)?, sigma)?;
        Ok(estimate(entropy(&[&x], alpha)?, &[&x]))
    }

    /// `I_α = S_α(A) + S_α(B) − S_α(A, B)` of any positive order, in nats; feature `lapack`.
    ///
    /// - `x`: `[n, d_x]`, `y`: `[n, d_y]`; `sigma`: bandwidths of `x` and of `y`
    ///
    /// Meaning, limits and source: see the [module](super).
    ///
    /// ```
    /// use gpz_estimators::information::renyi::matrix_information_nats;
    /// use ndarray::array;
    ///
    /// let (x, constant) = (array![[0.0], [100.0]], array![[5.0], [5.0]]);
    /// let own = matrix_information_nats(x.view(), x.view(), 1.01, [1.0, 1.0])?;
    /// let none = matrix_information_nats(x.view(), constant.view(), 1.01, [1.0, 1.0])?;
    /// assert!((own.value - 2.0_f64.ln()).abs() < 1e-12 && none.value.abs() < 1e-12);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`matrix_entropy_nats`], and [`Error::RowCount`].
    pub fn matrix_information_nats<T: Element, U: Element>(
        x: ArrayView2<'_, T>,
        y: ArrayView2<'_, U>,
        alpha: f64,
        sigma: [f64; 2],
    ) -> Result<Estimate, Error> {
        let (x, y) = checked_pairs(x, y)?;
        let (x, y) = (Scaled::new(x, sigma[0])?, Scaled::new(y, sigma[1])?);
        let value = entropy(&[&x], alpha)? + entropy(&[&y], alpha)? - entropy(&[&x, &y], alpha)?;
        Ok(estimate(value, &[&x, &y]))
    }

    fn entropy(samples: &[&Scaled], alpha: f64) -> Result<f64, Error> {
        if alpha.is_nan() || alpha <= 0.0 {
            let rule = "an order is positive; 1 is von Neumann's";
            return Err(Error::Parameter { name: "alpha", value: alpha, rule });
        }
        if alpha == 2.0 {
            return Ok(quadratic(samples));
        }
        let n = samples[0].n();
        let mut a = Array2::zeros((n, n));
        let rows = a.as_slice_mut().unwrap_or_default().par_chunks_mut(n).enumerate();
        rows.for_each(|(i, row)| {
            for (j, entry) in row.iter_mut().enumerate() {
                *entry = kernel(samples, i, j) / n as f64;
            }
        });
        let values = a.eigvalsh_into(UPLO::Lower).map_err(|reason| Error::Factorisation {
            rows: n,
            width: n,
            reason: reason.to_string(),
        })?;
        let positive = || values.iter().copied().filter(|&value| value > 0.0);
        Ok(if alpha == 1.0 {
            -positive().map(|value| value * value.ln()).sum::<f64>()
        } else if alpha == f64::INFINITY {
            -positive().fold(0.0, f64::max).ln()
        } else {
            // Σ λ^α = 1 + Σ λ (λ^(α−1) − 1), as Σ λ = 1.
            let excess = positive().map(|value| value * ((alpha - 1.0) * value.ln()).exp_m1());
            excess.sum::<f64>().ln_1p() / (1.0 - alpha)
        })
    }
}
