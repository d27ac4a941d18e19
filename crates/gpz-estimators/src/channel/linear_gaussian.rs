//! A Gaussian input through a linear map and Gaussian noise, where every quantity has a closed form.

use ndarray::{Array2, ArrayView2, Axis};

use super::cholesky::Standardised;
use crate::entropy::isotropic_gaussian_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Flag, Kind};

/// `x ~ N(μ, Σ)`, `z = A·x + N(0, σ²·I)`: what is left to know of `x` after `z`, exactly.
///
/// The yardstick of the bounds, and the right answer for anybody whose encoder is linear. `σ² = 0` is allowed: `z` then determines
/// `x` up to the null space of `A`.
///
/// ```
/// use gpz_estimators::channel::LinearGaussian;
/// use ndarray::array;
///
/// let model = LinearGaussian::new(array![[1.0]].view(), array![[1.0]].view(), 1.0)?;
/// assert!((model.mmse_per_dim().value - 0.5).abs() < 1e-15);
/// assert!((model.mi_nats().value - 0.5 * 2f64.ln()).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// Cover and Thomas, Elements of Information Theory, sections 8.4 and 9.4; Kay, Fundamentals of Statistical Signal Processing, chapters 3
/// and 11, for the posterior and the Fisher information.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearGaussian {
    width: usize,
    noise_variance: f64,
    log_det_prior: f64,
    /// `tr Σ⁻¹`, infinite where singular.
    prior_trace: f64,
    /// `ln det(I + LᵀAᵀAL/σ²)` with `Σ = LLᵀ`.
    log_det_ratio: f64,
    posterior: Array2<f64>,
    posterior_rank: usize,
    signal_rank: usize,
    /// `AᵀA`.
    gram: Array2<f64>,
}

impl LinearGaussian {
    /// - `map`: `A`, `[m, d]`; `covariance`: `Σ`, `[d, d]`; `noise_variance`: `σ² ≥ 0`
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`], [`Error::Parameter`] for what is no covariance or a negative variance.
    pub fn new(
        map: ArrayView2<'_, f64>,
        covariance: ArrayView2<'_, f64>,
        noise_variance: f64,
    ) -> Result<Self, Error> {
        let prior = Standardised::of("covariance", covariance)?;
        let width = covariance.nrows();
        if map.ncols() != width {
            let (found, expected) = (map.shape().to_vec(), vec![map.nrows(), width]);
            return Err(Error::Shape { what: "map", found, expected });
        }
        if let Some(((row, column), &value)) = map.indexed_iter().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NonFinite { row, column, value });
        }
        if !(noise_variance >= 0.0 && noise_variance.is_finite()) {
            let rule = "it must be finite and not negative";
            return Err(Error::Parameter { name: "noise variance", value: noise_variance, rule });
        }
        let root = prior.root();
        let signal = map.dot(&root);
        let whitened = signal.t().dot(&signal);
        let of_signal = match prior.rank() {
            0 => None,
            _ => Some(Standardised::of("whitened signal", whitened.view())?),
        };
        let signal_rank = of_signal.as_ref().map_or(0, Standardised::rank);
        let (log_det_ratio, posterior, posterior_rank) = match of_signal {
            None => (0.0, Array2::zeros((width, width)), 0),
            Some(_) if noise_variance > 0.0 => {
                let sum = Array2::eye(prior.rank()) + &whitened / noise_variance;
                let sum = Standardised::of("ratio of signal and noise", sum.view())?;
                if !sum.is_regular() {
                    let rule = "it is so small beside the signal that rounding hides it; use 0";
                    let value = noise_variance;
                    return Err(Error::Parameter { name: "noise variance", value, rule });
                }
                (sum.log_det(), root.dot(&sum.solve(root.t())), prior.rank())
            }
            Some(signal) => {
                // What is seen without noise is known: only the null space of A·L is left, L·(I − QQᵀ)·Lᵀ.
                let span = orthonormal(signal.root());
                let left = Array2::eye(prior.rank()) - span.dot(&span.t());
                let ratio = if signal.rank() == 0 { 0.0 } else { f64::INFINITY };
                (ratio, root.dot(&left).dot(&root.t()), prior.rank() - signal.rank())
            }
        };
        Ok(Self {
            width,
            noise_variance,
            log_det_prior: prior.log_det(),
            prior_trace: prior.trace_of_inverse(),
            log_det_ratio,
            posterior,
            posterior_rank,
            signal_rank,
            gram: map.t().dot(&map),
        })
    }

    /// `h(x) = ½ ln det(2πe Σ)` in nats; `-inf` where `Σ` is singular.
    #[must_use]
    pub fn h_x_nats(&self) -> Estimate {
        let value = isotropic_gaussian_nats(self.width, 1.0) + 0.5 * self.log_det_prior;
        exact(value).flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
    }

    /// `I(x;z) = ½ ln det(I + AΣAᵀ/σ²)` in nats; infinite without noise, unless `z` is constant.
    #[must_use]
    pub fn mi_nats(&self) -> Estimate {
        exact(0.5 * self.log_det_ratio)
            .flag(self.log_det_ratio.is_infinite(), Flag::DegenerateSupport)
    }

    /// `h(x|z) = h(x) − I(x;z)` in nats.
    #[must_use]
    pub fn h_x_given_z_nats(&self) -> Estimate {
        let value = self.h_x_nats().value - self.mi_nats().value;
        exact(value).flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
    }

    /// The least mean squared error per dimension that any attacker reaches: the trace of the posterior covariance over `d`.
    #[must_use]
    pub fn mmse_per_dim(&self) -> Estimate {
        exact(self.posterior.diag().sum() / self.width as f64)
    }

    /// `Cov(x|z)`, `[d, d]`, the same for every `z`.
    #[must_use]
    pub fn posterior_covariance(&self) -> ArrayView2<'_, f64> {
        self.posterior.view()
    }

    /// Rank of `Cov(x|z)`: in so many directions something is left to know.
    #[must_use]
    pub fn mmse_rank(&self) -> usize {
        self.posterior_rank
    }

    /// Rank of `AΣAᵀ`: so many directions of `x` leave a trace in `z`.
    #[must_use]
    pub fn signal_rank(&self) -> usize {
        self.signal_rank
    }

    /// `dFIL = tr(AᵀA)/(d·σ²)`, the same at every input; infinite without noise.
    #[must_use]
    pub fn dfil(&self) -> Estimate {
        let trace = self.gram.diag().sum();
        exact(if trace == 0.0 { 0.0 } else { trace / (self.width as f64 * self.noise_variance) })
    }

    /// `F = AᵀA/σ²`, `[d, d]`.
    ///
    /// # Errors
    /// [`Error::Parameter`] without noise, where the information is infinite.
    pub fn fisher(&self) -> Result<Array2<f64>, Error> {
        Ok(&self.gram / super::positive("noise variance", self.noise_variance)?)
    }

    /// `tr J = tr Σ⁻¹` of the prior; infinite where `Σ` is singular.
    #[must_use]
    pub fn prior_fisher_trace(&self) -> f64 {
        self.prior_trace
    }
}

/// Orthonormal columns of the same span, by Gram and Schmidt, twice for the digits that the first round costs.
fn orthonormal(mut columns: Array2<f64>) -> Array2<f64> {
    for k in 0..columns.ncols() {
        let (before, mut rest) = columns.view_mut().split_at(Axis(1), k);
        let mut column = rest.column_mut(0);
        for _ in 0..2 {
            for known in before.columns() {
                let share = known.dot(&column);
                column.scaled_add(-share, &known);
            }
        }
        let norm = column.dot(&column).sqrt();
        column /= norm;
    }
    columns
}

fn exact(value: f64) -> Estimate {
    Estimate::new(value, Kind::Exact, 0.0)
}
