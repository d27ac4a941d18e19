//! What is known of a listed input behind Gaussian noise, by simulation.

use std::f64::consts::PI;

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

use super::positive;
use super::received::probabilities_of;
use crate::error::Error;
use crate::estimate::{Estimate, Kind, Uncertainty};
use crate::rows::checked;

/// `X` one of finitely many inputs, `Z' = z_X + N(0, σ²·I)`: what `Z'` says of `X`, from simulated noise.
///
/// Unbiased for the source given, with the standard error of the simulation. **The source must be the law of `X`, not a sample of
/// it**: taken for the source, `n` rows give `I(X;Z') ≈ ln n` as soon as the noise is smaller than the distance between rows, whatever
/// the encoder; [`Flag::Saturated`](crate::Flag::Saturated) says when that may be so.
///
/// ```
/// use gpz_estimators::channel::NoisySource;
/// use ndarray::array;
///
/// // Two points closer than the noise: hardly anything gets through.
/// let source = NoisySource::simulate(array![[0.0], [0.01]].view(), None, 1.0, 100, 7)?;
/// assert!(source.mi_nats().value.abs() < 1e-3 && source.h_x_given_z_nats().value < 2f64.ln());
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// As [`Received`](super::Received), with the posterior of a Gaussian mixture by Bayes' rule, averaged by Monte Carlo.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisySource {
    h_x: f64,
    /// For each input its probability, and mean and squared standard error of what is left of `X`, of a right guess, and of the
    /// squared error where values were given.
    inputs: Vec<(f64, [Moments; 3])>,
    draws: usize,
    width: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Moments {
    mean: f64,
    error_sq: f64,
}

impl NoisySource {
    /// - `points`: `[inputs, D]`, the feature of each input; `probabilities`: all the same unless given
    /// - `sigma`: in the features' units; `draws`: of the noise for each input, at least two; `seed` of the noise
    ///
    /// `inputs²·D·draws` operations.
    ///
    /// # Errors
    /// [`Error::NonFinite`] and the like of the first bad row, [`Error::WeightCount`], [`Error::Parameter`].
    pub fn simulate(
        points: ArrayView2<'_, f64>,
        probabilities: Option<&[f64]>,
        sigma: f64,
        draws: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        Self::run(points, None, probabilities, sigma, draws, seed)
    }

    /// The same with the inputs' values, `[inputs, d]`, for [`mmse_per_dim`](Self::mmse_per_dim).
    ///
    /// # Errors
    /// As [`simulate`](Self::simulate), and [`Error::RowCount`].
    pub fn simulate_with_values(
        points: ArrayView2<'_, f64>,
        values: ArrayView2<'_, f64>,
        probabilities: Option<&[f64]>,
        sigma: f64,
        draws: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        if values.nrows() != points.nrows() {
            return Err(Error::RowCount { left: points.nrows(), right: values.nrows() });
        }
        let values = checked(values)?;
        Self::run(points, Some(values.view()), probabilities, sigma, draws, seed)
    }

    fn run(
        points: ArrayView2<'_, f64>,
        values: Option<ArrayView2<'_, f64>>,
        probabilities: Option<&[f64]>,
        sigma: f64,
        draws: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let sigma = positive("sigma", sigma)?;
        let scaled = checked(points)? / sigma;
        let probabilities = probabilities_of(scaled.nrows(), probabilities)?;
        if draws < 2 {
            let rule = "at least two are needed for a standard error";
            return Err(Error::Parameter { name: "draws", value: draws as f64, rule });
        }
        let log_prior: Vec<f64> = probabilities.iter().map(|p| p.ln()).collect();
        let inputs = (0..scaled.nrows()).into_par_iter().map(|input| {
            let mut terms = vec![[0.0; 3]; draws];
            if probabilities[input] > 0.0 {
                for (draw, term) in terms.iter_mut().enumerate() {
                    let noise = Noise::new(seed, input, draw, scaled.ncols());
                    let sent: Vec<f64> =
                        scaled.row(input).iter().zip(noise).map(|(z, noise)| z + noise).collect();
                    *term = posterior(scaled.view(), &sent, &log_prior, input, values);
                }
            }
            (probabilities[input], [0, 1, 2].map(|of| moments(&terms, of)))
        });
        let inputs = inputs.collect();
        let h_x = probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        Ok(Self { h_x, inputs, draws, width: values.map(|values| values.ncols()) })
    }

    fn estimate(&self, of: usize) -> Estimate {
        let (mut value, mut error_sq) = (0.0, 0.0);
        for (p, moments) in &self.inputs {
            value += p * moments[of].mean;
            error_sq += p * p * moments[of].error_sq;
        }
        Estimate::new(value, Kind::Heuristic, (self.inputs.len() * self.draws) as f64)
            .std_err(error_sq.sqrt(), Uncertainty::SpreadOfTerms)
    }

    /// `H(X)` in nats, exact.
    #[must_use]
    pub fn h_x_nats(&self) -> Estimate {
        Estimate::new(self.h_x, Kind::Exact, 0.0)
    }

    /// `H(X|Z')` in nats: the mean entropy of the posterior.
    #[must_use]
    pub fn h_x_given_z_nats(&self) -> Estimate {
        self.estimate(0)
    }

    /// `I(X;Z') = H(X) − H(X|Z')` in nats, at most `H(X)`.
    #[must_use]
    pub fn mi_nats(&self) -> Estimate {
        let left = self.estimate(0);
        let mut mi = Estimate::new(self.h_x - left.value, Kind::Heuristic, left.n_effective);
        (mi.std_err, mi.uncertainty) = (left.std_err, left.uncertainty);
        mi.ceiling(self.h_x)
    }

    /// How often the best guess of `X` from `Z'` is right.
    #[must_use]
    pub fn guess_probability(&self) -> Estimate {
        self.estimate(1)
    }

    /// The least mean squared error per dimension of any attacker, that of the posterior mean; none without values.
    #[must_use]
    pub fn mmse_per_dim(&self) -> Option<Estimate> {
        let width = self.width? as f64;
        let mut estimate = self.estimate(2);
        estimate.value /= width;
        estimate.std_err = estimate.std_err.map(|error| error / width);
        Some(estimate)
    }
}

fn moments(terms: &[[f64; 3]], of: usize) -> Moments {
    let n = terms.len() as f64;
    let mean = terms.iter().map(|term| term[of]).sum::<f64>() / n;
    let spread = terms.iter().map(|term| (term[of] - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Moments { mean, error_sq: spread / n }
}

/// Entropy of the posterior, its largest probability, and the squared error of its mean about the input that was sent.
fn posterior(
    scaled: ArrayView2<'_, f64>,
    sent: &[f64],
    log_prior: &[f64],
    input: usize,
    values: Option<ArrayView2<'_, f64>>,
) -> [f64; 3] {
    let distance = |row: ArrayView1<'_, f64>| {
        row.iter().zip(sent).map(|(z, sent)| (z - sent) * (z - sent)).sum::<f64>()
    };
    let mut log_weights: Vec<f64> = scaled
        .rows()
        .into_iter()
        .zip(log_prior)
        .map(|(row, prior)| prior - 0.5 * distance(row))
        .collect();
    let largest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    log_weights.iter_mut().for_each(|weight| *weight -= largest);
    let sum: f64 = log_weights.iter().map(|weight| weight.exp()).sum();
    let mut entropy = sum.ln();
    for weight in log_weights.iter().filter(|weight| weight.is_finite()) {
        entropy -= weight.exp() / sum * weight;
    }
    let error = values.map_or(0.0, |values| {
        let sent = values.row(input);
        let mut deviation = vec![0.0; values.ncols()];
        for (row, weight) in values.rows().into_iter().zip(&log_weights) {
            let weight = weight.exp() / sum;
            if weight > 0.0 {
                let cells = deviation.iter_mut().zip(row).zip(sent);
                cells.for_each(|((deviation, x), sent)| *deviation += weight * (x - sent));
            }
        }
        deviation.iter().map(|deviation| deviation * deviation).sum()
    });
    [entropy, 1.0 / sum, error]
}

/// Standard normal numbers that depend on the seed, the input and the draw alone (splitmix64, Box and Muller).
struct Noise {
    state: u64,
    left: usize,
    second: Option<f64>,
}

impl Noise {
    fn new(seed: u64, input: usize, draw: usize, width: usize) -> Self {
        let state = mix(mix(mix(seed) ^ input as u64) ^ draw as u64);
        Self { state, left: width, second: None }
    }

    /// Uniform in the open unit interval.
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((mix(self.state) >> 12) as f64 + 0.5) * 2f64.powi(-52)
    }
}

impl Iterator for Noise {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        self.left = self.left.checked_sub(1)?;
        Some(self.second.take().unwrap_or_else(|| {
            let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), 2.0 * PI * self.uniform());
            self.second = Some(radius * angle.sin());
            radius * angle.cos()
        }))
    }
}

/// The finaliser of splitmix64.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
