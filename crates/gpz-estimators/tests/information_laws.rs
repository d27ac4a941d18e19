//! Population quantities that are exact: information lies between zero and the entropies, and no bound of an attacker's error lies
//! above the least error.

mod common;

use common::case::Outcome;
use common::{close, normal, rng};
use gpz_estimators::channel::{
    Given, NoisySource, Received, SmoothedPrior, Spread, bound_entropy_power, bound_van_trees,
};
use gpz_estimators::entropy::mixture::GaussianMixture;
use gpz_estimators::{Error, Estimate};
use ndarray::{Array1, Array2, Array3, ArrayView2, Axis};
use proptest::prelude::*;
use rand::{Rng, RngExt};

/// Probabilities, some of them small.
fn shares(rng: &mut impl Rng, n: usize) -> Vec<f64> {
    let raw: Vec<f64> = (0..n).map(|_| rng.random::<f64>().powi(3) + 1e-6).collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|share| share / sum).collect()
}

fn entropy(shares: impl IntoIterator<Item = f64>) -> f64 {
    shares.into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
}

/// A joint law of which about a third of the cells is empty.
fn joint(rng: &mut impl Rng, inputs: usize, outputs: usize) -> Array2<f64> {
    let mut cells = Array2::from_shape_simple_fn((inputs, outputs), || {
        if rng.random_bool(0.3) { 0.0 } else { rng.random::<f64>() }
    });
    cells[[0, 0]] += 0.1;
    let sum = cells.sum();
    cells / sum
}

/// A smoothed law in one dimension: weights at points, and the variance about each.
struct Smooth {
    weights: Vec<f64>,
    points: Vec<f64>,
}

impl Smooth {
    fn new(rng: &mut impl Rng, points: usize) -> Self {
        Self {
            weights: shares(rng, points),
            points: (0..points).map(|_| rng.random_range(0.0..1.0)).collect(),
        }
    }

    /// `h` and Fisher information of the law with noise of this variance, by the rule of trapezoids, whose error for so smooth and
    /// fast a decay is below 1e-12.
    fn with_noise(&self, variance: f64) -> (f64, f64) {
        let sigma = variance.sqrt();
        let step = sigma / 20.0;
        let (low, high) = (-9.0 * sigma, 1.0 + 9.0 * sigma);
        let (mut entropy, mut fisher) = (0.0, 0.0);
        for k in 0..((high - low) / step) as usize {
            let z = low + k as f64 * step;
            let (mut density, mut slope) = (0.0, 0.0);
            for (weight, point) in self.weights.iter().zip(&self.points) {
                let away = (z - point) / sigma;
                let part = weight * (-0.5 * away * away).exp()
                    / (2.0 * std::f64::consts::PI * variance).sqrt();
                density += part;
                slope -= part * away / sigma;
            }
            if density > 0.0 {
                entropy -= step * density * density.ln();
                fisher += step * slope * slope / density;
            }
        }
        (entropy, fisher)
    }
}

/// Whether an estimate lies in `low..=high` but for its own error.
fn between(estimate: &Estimate, low: f64, high: f64) -> bool {
    // Six standard errors: the cases are many, and what is rare has skewed terms.
    let slack = 6.0 * estimate.std_err.unwrap_or(0.0) + 1e-9;
    estimate.value >= low - slack && estimate.value <= high + slack
}

fn mixture(seed: u64, k: usize, d: usize) -> Result<(GaussianMixture, Vec<f64>), Error> {
    let mut rng = rng(seed);
    let weights = shares(&mut rng, k);
    let mut covariances = Array3::zeros((k, d, d));
    for mut covariance in covariances.outer_iter_mut() {
        let root = normal(&mut rng, (d, d + 1)) * rng.random_range(0.1..3.0);
        covariance.assign(&(root.dot(&root.t()) + Array2::<f64>::eye(d) * 0.01));
    }
    let means = normal(&mut rng, (k, d)) * rng.random_range(0.0..4.0);
    Ok((GaussianMixture::new(&weights, means.view(), covariances.view())?, weights))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// 0 ≤ lower ≤ upper ≤ H(Y) for weights, means and covariances that all differ; the entropy's bounds are as far apart.
    #[test]
    fn mixtures_tell_no_more_than_the_label(seed in any::<u64>(), k in 1..6_usize, d in 1..5_usize) {
        let (mixture, weights) = mixture(seed, k, d)?;
        let information = mixture.information_bounds_nats();
        let (low, high) = (information.lower.value, information.upper.value);
        prop_assert!(-1e-12 <= low && low <= high + 1e-12 && high <= entropy(weights) + 1e-12, "{low} {high}");
        let h = mixture.entropy_bounds_nats();
        prop_assert!(h.lower.value <= h.upper.value + 1e-12);
        prop_assert!(close(h.upper.value - h.lower.value, high - low, 1e-9, 1.0 + h.upper.value.abs()));
    }

    /// The same in one dimension beside the truth by quadrature, components of one width.
    #[test]
    fn mixtures_hold_the_truth_between_them(seed in any::<u64>(), k in 1..6_usize, variance in 1e-3..0.5_f64) {
        let law = Smooth::new(&mut rng(seed), k);
        let means = Array2::from_shape_fn((k, 1), |(i, _)| law.points[i]);
        let mixture = GaussianMixture::new(&law.weights, means.view(), Array3::from_elem((k, 1, 1), variance).view())?;
        let (h, _) = law.with_noise(variance);
        let bounds = mixture.entropy_bounds_nats();
        prop_assert!(bounds.lower.value <= h + 1e-9 && h <= bounds.upper.value + 1e-9);
        let mi = h - gpz_estimators::entropy::isotropic_gaussian_nats(1, variance);
        prop_assert!(-1e-9 <= mi && mi <= entropy(law.weights) + 1e-9, "{mi}");
    }

    /// 0 ≤ I ≤ min(H(X), H(Z)), the chain rule, Fano's inequality, and that merging outputs tells less.
    #[test]
    fn joint_laws(seed in any::<u64>(), inputs in 1..8_usize, outputs in 1..8_usize) {
        let joint = joint(&mut rng(seed), inputs, outputs);
        let received = Received::from_joint(joint.view())?;
        let (h_x, h_z) = (entropy(joint.sum_axis(Axis(1))), entropy(joint.sum_axis(Axis(0))));
        prop_assert!(close(received.h_x_nats().value, h_x, 1e-12, 1.0));
        prop_assert!(close(received.h_z_nats().value, h_z, 1e-12, 1.0));
        let mi = received.mi_nats().value;
        prop_assert!(-1e-12 <= mi && mi <= h_x.min(h_z) + 1e-12, "{mi} {h_x} {h_z}");
        prop_assert!(close(mi, h_x + h_z - entropy(joint.iter().copied()), 1e-12, 1.0));
        let right = received.guess_probability().value;
        let most = joint.sum_axis(Axis(1)).fold(0.0, |a: f64, b| a.max(*b));
        prop_assert!(most <= right + 1e-12 && right <= 1.0 + 1e-12);
        let wrong = (1.0 - right).max(0.0);
        let fano = entropy([wrong, right]) + wrong * (inputs as f64 - 1.0).max(1.0).ln();
        prop_assert!(received.h_x_given_z_nats().value <= fano + 1e-9);
        // The last two outputs as one.
        let mut coarse = joint.slice(ndarray::s![.., ..outputs.max(2) - 1]).to_owned();
        if outputs > 1 {
            let mut last = coarse.column_mut(outputs - 2);
            last += &joint.column(outputs - 1);
        }
        let coarse = Received::from_joint(coarse.view())?;
        prop_assert!(coarse.mi_nats().value <= mi + 1e-12);
        prop_assert!(coarse.guess_probability().value <= right + 1e-12);
        let values = normal(&mut rng(seed ^ 1), (inputs, 2));
        prop_assert!(received.mmse_per_dim(values.view())?.value <= coarse.mmse_per_dim(values.view())?.value + 1e-12);
    }

    /// The smoothed posterior of a random joint law: X uniform in the cell of its symbol, so that it has a density.
    /// h(X|Z) = H(cell|Z) + d ln w, and the least error is that of the cells' centres plus w²/12.
    #[test]
    fn entropy_power_is_below_the_least_error_of_any_discrete_channel(
        seed in any::<u64>(), side in 2..6_usize, d in 1..3_usize, outputs in 1..8_usize, width in 0.01..10.0_f64,
    ) {
        let inputs = side.pow(d as u32);
        let received = Received::from_joint(joint(&mut rng(seed), inputs, outputs).view())?;
        let centres = Array2::from_shape_fn((inputs, d), |(i, j)| (i / side.pow(j as u32) % side) as f64 * width);
        let h = received.h_x_given_z_nats().value + d as f64 * width.ln();
        let least = received.mmse_per_dim(centres.view())?.value + width * width / 12.0;
        let bound = bound_entropy_power(Given::Known(h), d)?.value;
        prop_assert!(bound <= least * (1.0 + 1e-12), "{bound} {least}");
    }
}

proptest! {
    #![proptest_config(common::fixed(64))]

    /// Listed inputs behind noise, by simulation: 0 ≤ I ≤ H(X), between the bounds of the mixture that it is, below what the power
    /// of the features allows; and the error is not above that of the mean.
    #[test]
    fn inputs_behind_noise(seed in any::<u64>(), inputs in 1..7_usize, d in 1..4_usize, sigma in 0.05..3.0_f64) {
        let mut rng = rng(seed);
        let (weights, points) = (shares(&mut rng, inputs), normal(&mut rng, (inputs, d)));
        let source = NoisySource::simulate_with_values(points.view(), points.view(), Some(&weights), sigma, 400, seed)?;
        let (mi, left) = (source.mi_nats(), source.h_x_given_z_nats());
        let h_x = entropy(weights.iter().copied());
        prop_assert!(left.value >= 0.0 && mi.value <= h_x + 1e-12);
        prop_assert!(close(mi.value + left.value, h_x, 1e-12, 1.0));
        prop_assert!(between(&mi, 0.0, h_x), "{mi:?}");
        let noise = Array3::from_shape_fn((inputs, d, d), |(_, i, j)| if i == j { sigma * sigma } else { 0.0 });
        let bounds = GaussianMixture::new(&weights, points.view(), noise.view())?.information_bounds_nats();
        prop_assert!(between(&mi, bounds.lower.value, bounds.upper.value), "{mi:?} {bounds:?}");
        let variances = variances(points.view(), &weights);
        let power = Spread::population(variances.to_vec())?.information_nats(sigma)?.value;
        prop_assert!(between(&mi, 0.0, power), "{mi:?} {power}");
        let mmse = source.mmse_per_dim().ok_or_else(|| TestCaseError::fail("values were given"))?;
        prop_assert!(between(&mmse, 0.0, variances.sum() / d as f64), "{mmse:?}");
        prop_assert!(source.guess_probability().value <= 1.0 + 1e-12);
    }

    /// X uniform in the cell of a listed input, whose feature is sent through noise: the entropy-power bound is below the least error,
    /// both by simulation.
    #[test]
    fn entropy_power_is_below_the_least_error_behind_noise(
        seed in any::<u64>(), inputs in 2..8_usize, sigma in 0.05..3.0_f64, width in 0.05..2.0_f64,
    ) {
        let mut rng = rng(seed);
        let (weights, features) = (shares(&mut rng, inputs), normal(&mut rng, (inputs, 2)));
        let centres = Array2::from_shape_fn((inputs, 1), |(i, _)| i as f64 * width);
        let source = NoisySource::simulate_with_values(features.view(), centres.view(), Some(&weights), sigma, 400, seed)?;
        let (left, mmse) = (source.h_x_given_z_nats(), source.mmse_per_dim().ok_or_else(|| TestCaseError::fail("values"))?);
        // The same draws give both, so that the error of one does not pass for a breach.
        let h = left.value - 6.0 * left.std_err.unwrap_or(0.0) + width.ln();
        let bound = bound_entropy_power(Given::Known(h), 1)?.value;
        let least = mmse.value + 6.0 * mmse.std_err.unwrap_or(0.0) + width * width / 12.0;
        prop_assert!(bound <= least, "{bound} {least}");
    }

    /// Smoothed pictures of independent pixels behind noise, exact by quadrature: every lower end for any attacker is below the least
    /// error, that of the declared prior too. With z = x̃ + noise of σ², the least error is σ² − σ⁴·J(z).
    #[test]
    fn no_bound_is_above_the_least_error_of_a_smoothed_source(
        seed in any::<u64>(), points in 1..6_usize, d in 1..4_usize, tau in 0.03..1.0_f64, sigma in 0.03..2.0_f64,
    ) {
        let mut rng = rng(seed);
        let (mut h, mut fisher, mut least, mut information) = (0.0, 0.0, 0.0, 0.0);
        for _ in 0..d {
            let law = Smooth::new(&mut rng, points);
            let (h_x, fisher_x) = law.with_noise(tau * tau);
            let (h_z, fisher_z) = law.with_noise(tau * tau + sigma * sigma);
            let through = h_z - gpz_estimators::entropy::isotropic_gaussian_nats(1, sigma * sigma);
            prop_assert!(through >= -1e-9);
            information += through;
            h += h_x - through;
            fisher += fisher_x;
            least += (sigma * sigma - sigma.powi(4) * fisher_z) / d as f64;
        }
        let prior = SmoothedPrior::new(d, tau)?;
        prop_assert!(fisher <= prior.fisher_trace_upper() * (1.0 + 1e-9));
        prop_assert!(h + information >= prior.entropy_lower_nats() - 1e-9);
        let channel = d as f64 / (sigma * sigma);
        let smoothed = Spread::population(vec![0.25 + tau * tau; d])?.information_nats(sigma)?;
        prop_assert!(information <= smoothed.value + 1e-9);
        let ends = [
            bound_entropy_power(Given::Known(h), d)?,
            bound_van_trees(Given::Known(channel), Given::Known(fisher), d)?,
            bound_van_trees(Given::Known(channel), Given::Known(prior.fisher_trace_upper()), d)?,
            prior.mse_floor(&Ok(smoothed), None)?.map_err(|reason| TestCaseError::fail(reason.to_string()))?,
            prior.mse_floor_van_trees(Given::Known(1.0 / (sigma * sigma)))?,
        ];
        for end in &ends {
            prop_assert!(end.value <= least * (1.0 + 1e-8), "{end:?} {least}");
        }
    }
}

/// Of points under weights, one for each dimension.
fn variances(points: ArrayView2<'_, f64>, weights: &[f64]) -> Array1<f64> {
    let weights = Array1::from(weights.to_vec());
    let mean = points.t().dot(&weights);
    (&points - &mean).mapv(|away| away * away).t().dot(&weights)
}

/// One Gaussian point is where all of them meet.
#[test]
fn a_gaussian_source_reaches_them() -> Outcome<()> {
    let (tau, sigma) = (0.7_f64, 0.4_f64);
    let law = Smooth { weights: vec![1.0], points: vec![0.3] };
    let (_, fisher) = law.with_noise(tau * tau + sigma * sigma);
    let least = sigma * sigma - sigma.powi(4) * fisher;
    let prior = SmoothedPrior::new(1, tau)?;
    let told = Ok(Spread::population(vec![tau * tau])?.information_nats(sigma)?);
    assert!(close(prior.mse_floor(&told, None)??.value, least, 1e-9, least));
    let van_trees = prior.mse_floor_van_trees(Given::Known(1.0 / (sigma * sigma)))?;
    assert!(close(van_trees.value, least, 1e-9, least));
    Ok(())
}
