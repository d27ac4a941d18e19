//! Differential entropy by kernel densities, in nats.
//!
//! `p̂(z) = mean_j N(z; z_j, H)` with a Gaussian kernel; the entropy is `−mean_i ln p̂(z_i)`. `n²·d` operations, on all threads,
//! with memory for `n·d` numbers. A kernel density is poor beyond a handful of dimensions: flagged beyond
//! [`KNN_DIMENSIONS`], and wrong before that.
//!
//! ```
//! use gpz_estimators::entropy::kde::{Bandwidth, kde_entropy_loo_nats};
//! use ndarray::Array2;
//!
//! // The quantiles of a uniform law on [0, 1], whose entropy is 0.
//! let z = Array2::from_shape_fn((500, 1), |(row, _)| (row as f64 + 0.5) / 500.0);
//! let entropy = kde_entropy_loo_nats(z.view(), Bandwidth::Scott)??;
//! assert!(entropy.value > 0.0 && entropy.value < 0.1); // smoothing widens
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::f64::consts::PI;

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::cholesky::Cholesky;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, Uncertainty};
use crate::oddities::{Oddities, rank};
use crate::rows::{KNN_DIMENSIONS, checked};
use crate::simd::Element;

/// The width of the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Bandwidth {
    /// Scott's rule in each dimension by itself: `n^(−1/(d+4))` times its standard deviation (divisor `n − 1`).
    Scott,
    /// Scott's rule with the shape of the sample's covariance: `H = n^(−2/(d+4)) S`. Invariant under any linear map, where
    /// [`Bandwidth::Scott`] follows scales only. The same in one dimension.
    ScottFull,
    /// This standard deviation in every dimension, in the units of the rows.
    Fixed(f64),
}

/// Leave-one-out: each row under the density of the others, in nats.
///
/// - `features`: `[n, d]`, `f32` or `f64`
///
/// It estimates a cross-entropy, `h + KL(p‖p̂)`: high on average, by the smoothing (`σ²`-fold curvature) and by `O(1/(n·σ^d))` of
/// variance. With a bandwidth given that makes it [`Kind::Upper`] in expectation; Scott's rule looks at the row itself too, so it is
/// [`Kind::Heuristic`] there. Heavy tails make it worse, up to infinity: a row far from all others counts with the square of
/// its distance. The standard error is the spread of the terms `ln p̂(z_i)`, nearly independent, and leaves out the bias.
///
/// `-inf` and flagged where Scott's rule meets rows without a density: a constant dimension, or dimensions that depend on each other
/// linearly (looked for up to 64 of them, with more rows than dimensions). A fixed bandwidth smooths those too; they are flagged.
///
/// # Errors
/// [`Error::NonFinite`], [`Error::Magnitude`], [`Error::EmptyShape`], [`Error::NoRows`]; [`Error::Parameter`] unless a fixed bandwidth
/// is positive and finite. Inside: [`NotIdentifiable::TooFewRows`] below two rows, and with [`Bandwidth::ScottFull`] unless there are more
/// rows than dimensions; [`NotIdentifiable::Singular`] if the full covariance is too near to singular for its inverse.
///
/// # Source
/// Hall and Morton, "On the estimation of entropy", 1993; D. W. Scott 1992 for the rule.
pub fn kde_entropy_loo_nats<T: Element>(
    features: ArrayView2<'_, T>,
    bandwidth: Bandwidth,
) -> Result<Estimated, Error> {
    entropy(features, bandwidth, true)
}

/// Resubstitution: each row under the density of all rows, itself included, in nats.
///
/// The row's own kernel makes its density too high: by `O(1/(n·σ^d))` below [`kde_entropy_loo_nats`], which is the better one. For
/// comparison with libraries that do it so. [`Kind::Heuristic`]. Otherwise as that one.
///
/// - `features`: `[n, d]`, `f32` or `f64`
///
/// # Errors
/// As [`kde_entropy_loo_nats`].
///
/// # Source
/// As [`kde_entropy_loo_nats`]; the name: Beirlant, Dudewicz, Györfi and van der Meulen, 1997.
///
/// ```
/// use gpz_estimators::entropy::kde::{Bandwidth, kde_entropy_resubstitution_nats};
/// use ndarray::array;
///
/// // Two rows far apart: each sees half a kernel, its own.
/// let entropy = kde_entropy_resubstitution_nats(array![[0.0], [1000.0]].view(), Bandwidth::Fixed(1.0))??;
/// let half_kernel = 2.0_f64.ln() + 0.5 * (2.0 * std::f64::consts::PI).ln();
/// assert!((entropy.value - half_kernel).abs() < 1e-14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kde_entropy_resubstitution_nats<T: Element>(
    features: ArrayView2<'_, T>,
    bandwidth: Bandwidth,
) -> Result<Estimated, Error> {
    entropy(features, bandwidth, false)
}

fn entropy<T: Element>(
    features: ArrayView2<'_, T>,
    bandwidth: Bandwidth,
    leave_one_out: bool,
) -> Result<Estimated, Error> {
    let rows = checked(features)?;
    let (n, d) = rows.dim();
    if n < 2 {
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: n as u64, need: 2 }));
    }
    let odd = Oddities::of(&[rows.view()]);
    let rank = if odd.constant == 0 { rank(rows.view()) } else { d };
    let bound = leave_one_out && matches!(bandwidth, Bandwidth::Fixed(_));
    let kind = if bound { Kind::Upper } else { Kind::Heuristic };
    let estimate = |value| {
        Estimate::new(value, kind, n as f64)
            .flag(bound, Flag::InExpectation)
            .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
            .flag(rank < d, Flag::RankDeficient { rank, width: d })
            .odd(&odd)
            .flag(d > KNN_DIMENSIONS, Flag::HighDimension(d))
    };
    let scott = (n as f64).powf(-1.0 / (d as f64 + 4.0));
    let (whitened, ln_det) = match bandwidth {
        Bandwidth::Fixed(sigma) if sigma > 0.0 && sigma.is_finite() => {
            (rows / sigma, d as f64 * sigma.ln())
        }
        Bandwidth::Fixed(value) => {
            let rule = "a bandwidth is positive and finite";
            return Err(Error::Parameter { name: "bandwidth", value, rule });
        }
        _ if odd.constant > 0 || rank < d => return Ok(Ok(estimate(f64::NEG_INFINITY))),
        Bandwidth::Scott => per_dimension(rows, scott),
        Bandwidth::ScottFull if n <= d => {
            let (have, need) = (n as u64, d as u64 + 1);
            return Ok(Err(NotIdentifiable::TooFewRows { class: None, have, need }));
        }
        Bandwidth::ScottFull => match full(rows, scott) {
            Some(whitened) => whitened,
            None => {
                let mend = "use a bandwidth per dimension, or leave out dimensions";
                let what = "covariance of the rows";
                return Ok(Err(NotIdentifiable::Singular { what, rank: d - 1, width: d, mend }));
            }
        },
    };
    let norm = 0.5 * d as f64 * (2.0 * PI).ln() + ln_det;
    let terms = surprises(&whitened, leave_one_out);
    let mean = terms.iter().sum::<f64>() / n as f64;
    let spread: f64 = terms.iter().map(|term| (term - mean).powi(2)).sum();
    let std_err = (spread / (n as f64 - 1.0) / n as f64).sqrt();
    Ok(Ok(estimate(norm + mean).std_err(std_err, Uncertainty::SpreadOfTerms)))
}

/// Rows in units of their kernel, and the logarithm of the kernel's determinant.
fn per_dimension(mut rows: Array2<f64>, scott: f64) -> (Array2<f64>, f64) {
    center(&mut rows);
    let freedom = rows.nrows() as f64 - 1.0;
    let mut ln_det = 0.0;
    for mut column in rows.columns_mut() {
        let sigma = scott * (column.iter().map(|v| v * v).sum::<f64>() / freedom).sqrt();
        ln_det += sigma.ln();
        column.mapv_inplace(|value| value / sigma);
    }
    (rows, ln_det)
}

/// The same with a kernel shaped like the covariance; none if that is singular.
fn full(rows: Array2<f64>, scott: f64) -> Option<(Array2<f64>, f64)> {
    // Standardised first, so that scales do not matter to the factorisation.
    let (mut rows, scales) = per_dimension(rows, 1.0);
    let covariance = rows.t().dot(&rows) / (rows.nrows() as f64 - 1.0);
    let factor = Cholesky::new(covariance.view())?;
    for mut row in rows.rows_mut() {
        factor.whiten(row.as_slice_mut()?);
    }
    let d = rows.ncols() as f64;
    Some((rows / scott, scales + 0.5 * factor.ln_det() + d * scott.ln()))
}

/// Subtracts the mean, about the first row, so that a common offset costs no digits.
fn center(rows: &mut Array2<f64>) {
    let first = rows.row(0).to_owned();
    *rows -= &first;
    let mean = rows.sum_axis(Axis(0)) / rows.nrows() as f64;
    *rows -= &mean;
}

/// `−ln mean_j exp(−½‖z_i − z_j‖²)` of each row.
fn surprises(rows: &Array2<f64>, leave_one_out: bool) -> Vec<f64> {
    let n = rows.nrows();
    let count = if leave_one_out { n - 1 } else { n } as f64;
    // Dimension by dimension, so that the inner loop runs over rows.
    let columns = rows.t().as_standard_layout().into_owned();
    let surprise = |distances: &mut Vec<f64>, i: usize| {
        distances.clear();
        distances.resize(n, 0.0);
        for column in columns.rows() {
            let own = column[i];
            for (distance, value) in distances.iter_mut().zip(column) {
                *distance += (value - own) * (value - own);
            }
        }
        if leave_one_out {
            distances[i] = f64::INFINITY;
        }
        let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
        let sum: f64 = distances.iter().map(|distance| (0.5 * (nearest - distance)).exp()).sum();
        0.5 * nearest - (sum / count).ln()
    };
    (0..n).into_par_iter().map_init(Vec::new, surprise).collect()
}
