//! Bounds for Gaussian mixtures whose parameters are known, in nats, after Kolchinsky and Tracey.
//!
//! A mixture's entropy has no closed form. With a distance `D` between components,
//! `Σ_i w_i h_i − Σ_i w_i ln Σ_j w_j exp(−D(i, j))` bounds it: from below with Bhattacharyya's distance, from above with Kullback and
//! Leibler's divergence. Without the first sum the same expressions bound the information that a draw carries about its
//! component. True bounds, of the mixture given: [`Kind::Lower`] and [`Kind::Upper`]. Where parameters were fitted, they are those
//! of the fit.
//!
//! ```
//! use gpz_estimators::entropy::mixture::GaussianMixture;
//! use ndarray::array;
//!
//! let far = GaussianMixture::new(&[0.5, 0.5], array![[0.0], [100.0]].view(), array![[[1.0]], [[1.0]]].view())?;
//! let bounds = far.information_bounds_nats();
//! // Components that never overlap are told apart: one bit.
//! assert!((bounds.lower.value - 2.0_f64.ln()).abs() < 1e-12);
//! assert!((bounds.upper.value - 2.0_f64.ln()).abs() < 1e-12);
//! # Ok::<(), gpz_estimators::Error>(())
//! ```
//!
//! # Source
//! Kolchinsky and Tracey, "Estimating mixture entropy with pairwise distances", arXiv 1706.02419.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3};
use rayon::prelude::*;

use crate::cholesky::Cholesky;
use crate::entropy::isotropic_gaussian_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Flag, Kind};
use crate::oddities::Oddities;
use crate::rows::checked;
use crate::simd::Element;

/// A lower and an upper bound of one quantity.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Bounds {
    /// At most the true value.
    pub lower: Estimate,
    /// At least the true value.
    pub upper: Estimate,
}

/// A Gaussian mixture with known parameters.
#[derive(Debug, Clone)]
pub struct GaussianMixture {
    weights: Vec<f64>,
    means: Array2<f64>,
    covariances: Array3<f64>,
    factors: Vec<Cholesky>,
}

impl GaussianMixture {
    /// Checks and factorises.
    ///
    /// - `weights`: `k`, none negative, adding up to 1 within 1e-9
    /// - `means`: `[k, d]`; `covariances`: `[k, d, d]`, symmetric within 1e-12 of their diagonal
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::Parameter`] for weights that are none; [`Error::NotPositiveDefinite`] names a covariance;
    /// [`Error::NonFinite`], [`Error::Magnitude`], [`Error::NoRows`] and [`Error::EmptyShape`] of the means.
    pub fn new(
        weights: &[f64],
        means: ArrayView2<'_, f64>,
        covariances: ArrayView3<'_, f64>,
    ) -> Result<Self, Error> {
        let means = checked(means)?;
        let (k, d) = means.dim();
        let shape = |what, found: &[usize], expected: &[usize]| match found == expected {
            true => Ok(()),
            false => Err(Error::Shape { what, found: found.to_vec(), expected: expected.to_vec() }),
        };
        shape("the array of weights", &[weights.len()], &[k])?;
        shape("the array of covariances", covariances.shape(), &[k, d, d])?;
        if let Some(&value) = weights.iter().find(|weight| weight.is_nan() || **weight < 0.0) {
            let rule = "weights are not negative";
            return Err(Error::Parameter { name: "a weight", value, rule });
        }
        let sum: f64 = weights.iter().sum();
        if (sum - 1.0).abs() > 1e-9 {
            let rule = "it is 1 for a probability law";
            return Err(Error::Parameter { name: "the sum of the weights", value: sum, rule });
        }
        let factor = |(index, matrix): (usize, ArrayView2<'_, f64>)| {
            let symmetric = matrix.indexed_iter().all(|((i, j), value)| {
                let scale = (matrix[[i, i]] * matrix[[j, j]]).abs().sqrt();
                (value - matrix[[j, i]]).abs() <= 1e-12 * scale
            });
            let factor = if symmetric { Cholesky::new(matrix) } else { None };
            factor.ok_or(Error::NotPositiveDefinite { index })
        };
        let factors = covariances.outer_iter().enumerate().map(factor).collect::<Result<_, _>>()?;
        let covariances = covariances.to_owned();
        Ok(Self { weights: weights.to_vec(), means, covariances, factors })
    }

    /// Bounds of the mixture's differential entropy, in nats; both are exact for components that coincide or never overlap.
    ///
    /// `k²·d³` operations, on all threads. No error of their own: true bounds of the mixture given. The gap is widest, up to the
    /// entropy of the weights, where components touch without coinciding.
    ///
    /// ```
    /// use gpz_estimators::entropy::{isotropic_gaussian_nats, mixture::GaussianMixture};
    /// use ndarray::array;
    ///
    /// // Two equal components are one.
    /// let one = GaussianMixture::new(&[0.5, 0.5], array![[0.0], [0.0]].view(), array![[[4.0]], [[4.0]]].view())?;
    /// let bounds = one.entropy_bounds_nats();
    /// assert!((bounds.lower.value - isotropic_gaussian_nats(1, 4.0)).abs() < 1e-14);
    /// assert!((bounds.upper.value - isotropic_gaussian_nats(1, 4.0)).abs() < 1e-14);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    #[must_use]
    pub fn entropy_bounds_nats(&self) -> Bounds {
        let given: f64 = (0..self.weights.len())
            .map(|i| self.weights[i] * (self.standard() + 0.5 * self.factors[i].ln_det()))
            .sum();
        self.bounds(given)
    }

    /// Bounds of the information that a draw carries about its component, in nats; at most the entropy of the weights.
    #[must_use]
    pub fn information_bounds_nats(&self) -> Bounds {
        self.bounds(0.0)
    }

    /// Entropy of a standard Gaussian of this width.
    fn standard(&self) -> f64 {
        isotropic_gaussian_nats(self.means.ncols(), 1.0)
    }

    fn bounds(&self, given: f64) -> Bounds {
        let k = self.weights.len();
        let bound = |kind, distance: &(dyn Fn(usize, usize) -> f64 + Sync)| {
            let term = |i: usize| match self.weights[i] {
                0.0 => 0.0,
                weight => {
                    let others = (0..k).map(|j| self.weights[j] * (-distance(i, j)).exp());
                    -weight * others.sum::<f64>().ln()
                }
            };
            let terms: Vec<f64> = (0..k).into_par_iter().map(term).collect();
            Estimate::new(given + terms.iter().sum::<f64>(), kind, 0.0)
        };
        Bounds {
            lower: bound(Kind::Lower, &|i, j| self.bhattacharyya(i, j)),
            upper: bound(Kind::Upper, &|i, j| self.kullback_leibler(i, j)),
        }
    }

    fn difference(&self, i: usize, j: usize) -> Vec<f64> {
        self.means.row(i).iter().zip(self.means.row(j)).map(|(a, b)| a - b).collect()
    }

    /// `−ln ∫ √(p_i p_j)`.
    fn bhattacharyya(&self, i: usize, j: usize) -> f64 {
        if i == j {
            return 0.0;
        }
        let (a, b) = (
            self.covariances.index_axis(ndarray::Axis(0), i),
            self.covariances.index_axis(ndarray::Axis(0), j),
        );
        // The mean of two positive definite matrices is one; where rounding denies that, zero keeps the lower bound one.
        let Some(mean) = Cholesky::new(((&a + &b) * 0.5).view()) else { return 0.0 };
        let determinants = 0.5 * (self.factors[i].ln_det() + self.factors[j].ln_det());
        0.125 * mean.squared_length(self.difference(i, j)) + 0.5 * (mean.ln_det() - determinants)
    }

    /// `∫ p_i ln(p_i/p_j)`.
    fn kullback_leibler(&self, i: usize, j: usize) -> f64 {
        if i == j {
            return 0.0;
        }
        let (own, other) = (&self.factors[i], &self.factors[j]);
        let trace = other.trace_of_ratio(own) - self.means.ncols() as f64;
        0.5 * (trace + other.squared_length(self.difference(i, j)) + other.ln_det() - own.ln_det())
    }
}

/// Bounds of the information that `z + N(0, σ²)` carries about `z`, if `z` is a uniform draw **from the rows given**, in nats.
///
/// - `points`: `[n, d]`; equal rows are one point of so much more weight. `sigma`: noise per dimension, in the units of the rows
///
/// Both are true bounds for a source that has these rows and no others. Of the law that the rows were drawn from they are estimates,
/// [`Kind::Heuristic`] and flagged [`Flag::RestsOnEstimate`], with a ceiling of `ln n`: [`Flag::Saturated`] says that the noise tells each row from all others, so that the value counts
/// rows and says nothing about the encoder. `n²·d` operations, on all threads. No standard error: for the source that is bounded there is none.
///
/// ```
/// use gpz_estimators::{Flag, entropy::mixture::noise_information_bounds_nats};
/// use ndarray::array;
///
/// let points = array![[0.0], [100.0], [200.0], [300.0]];
/// let told_apart = noise_information_bounds_nats(points.view(), 1.0)?;
/// assert!((told_apart.lower.value - 4.0_f64.ln()).abs() < 1e-12);
/// assert!(told_apart.upper.flags.contains(&Flag::Saturated));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::NonFinite`], [`Error::Magnitude`], [`Error::EmptyShape`], [`Error::NoRows`]; [`Error::Parameter`] unless `sigma` is
/// positive and finite: without noise the information is the entropy of the rows, infinite for a density.
///
/// # Source
/// Kolchinsky, Tracey, Wolpert, "Nonlinear information bottleneck", arXiv 1705.02436, with the distances of arXiv 1706.02419.
pub fn noise_information_bounds_nats<T: Element>(
    points: ArrayView2<'_, T>,
    sigma: f64,
) -> Result<Bounds, Error> {
    if !(sigma > 0.0 && sigma.is_finite()) {
        let rule = "noise has a positive and finite standard deviation";
        return Err(Error::Parameter { name: "sigma", value: sigma, rule });
    }
    let points = checked(points)?;
    let odd = Oddities::of(&[points.view()]);
    let n = points.nrows();
    let columns = points.t().as_standard_layout().into_owned();
    // −ln mean_j exp(−‖z_i − z_j‖²/cσ²) for c = 8 (Bhattacharyya) and c = 2 (Kullback and Leibler).
    let term = |distances: &mut Vec<f64>, i: usize| {
        distances.clear();
        distances.resize(n, 0.0);
        for column in columns.rows() {
            let own = column[i];
            for (distance, value) in distances.iter_mut().zip(column) {
                *distance += ((value - own) / sigma).powi(2);
            }
        }
        [8.0, 2.0].map(|divisor| {
            let sum: f64 = distances.iter().map(|distance| (-distance / divisor).exp()).sum();
            -(sum / n as f64).ln()
        })
    };
    let terms: Vec<[f64; 2]> = (0..n).into_par_iter().map_init(Vec::new, term).collect();
    let bound = |which: usize| {
        let mean = terms.iter().map(|term| term[which]).sum::<f64>() / n as f64;
        Estimate::new(mean + 0.0, Kind::Heuristic, n as f64)
            .flag(true, Flag::RestsOnEstimate)
            .ceiling((n as f64).ln())
            .odd(&odd)
    };
    Ok(Bounds { lower: bound(0), upper: bound(1) })
}
