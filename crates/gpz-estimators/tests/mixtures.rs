//! Bounds for known mixtures and for points sent through noise.

mod common;

use std::f64::consts::PI;

use common::case::{Case, Outcome};
use common::{close, normal, rng};
use gpz_estimators::entropy::mixture::{GaussianMixture, noise_information_bounds_nats};
use gpz_estimators::{Error, Flag, Kind};
use ndarray::{Array2, Array3, Axis, Ix3, array};
use proptest::prelude::*;
use rand::RngExt;

#[test]
fn bounds_of_the_stored_mixtures() -> Outcome<()> {
    for id in ["gmm_1d_c3", "gmm_2d_c2", "gmm_identical_classes"] {
        let case = Case::open(id)?;
        let weights = case.vector("weights")?.to_vec();
        let covariances = case.tensor("covs")?.into_dimensionality::<Ix3>()?;
        let mixture =
            GaussianMixture::new(&weights, case.matrix("means")?.view(), covariances.view())?;
        let bounds = mixture.entropy_bounds_nats();
        case.check("kt_lower_bd", &[bounds.lower.value]);
        case.check("kt_upper_kl", &[bounds.upper.value]);
        assert_eq!((bounds.lower.kind, bounds.upper.kind), (Kind::Lower, Kind::Upper));
    }
    Ok(())
}

#[test]
fn an_empirical_source_saturates_and_says_so() -> Outcome<()> {
    let case = Case::open("channel_empirical_saturation")?;
    let z = case.matrix("z")?;
    let bounds = noise_information_bounds_nats(z.view(), case.scalar("sigma")?)?;
    for bound in [&bounds.lower, &bounds.upper] {
        case.check("mi_saturated", &[bound.value]);
        assert!(bound.flags.contains(&Flag::Saturated));
    }
    // Noise wider than the cloud of points: nothing gets through, and nothing is saturated.
    let drowned = noise_information_bounds_nats(z.view(), 100.0)?;
    assert!(
        drowned.upper.value < 0.01
            && drowned.lower.value > 0.0
            && drowned.upper.flags == [Flag::RestsOnEstimate]
    );
    Ok(())
}

/// A mixture in one dimension: entropy by summing over a fine grid.
fn entropy_by_grid(weights: &[f64], means: &[f64], variances: &[f64]) -> f64 {
    let step = 1e-3;
    let density = |z: f64| {
        let parts = weights.iter().zip(means).zip(variances);
        let part = |((w, m), v): ((&f64, &f64), &f64)| {
            w / (2.0 * PI * v).sqrt() * (-(z - m).powi(2) / (2.0 * v)).exp()
        };
        parts.map(part).sum::<f64>()
    };
    let term = |i: i32| match density(f64::from(i) * step) {
        0.0 => 0.0,
        p => -p * p.ln() * step,
    };
    (-40_000..40_000).map(term).sum()
}

fn mixture(weights: &[f64], means: &[f64], variances: &[f64]) -> Result<GaussianMixture, Error> {
    let k = weights.len();
    let means = Array2::from_shape_fn((k, 1), |(i, _)| means[i]);
    GaussianMixture::new(
        weights,
        means.view(),
        Array3::from_shape_fn((k, 1, 1), |(i, _, _)| variances[i]).view(),
    )
}

#[test]
fn bounds_hold_the_entropy_between_them() -> Result<(), Error> {
    for seed in 0..8 {
        let mut rng = rng(seed);
        let mut draw = |low: f64, high: f64| [0; 4].map(|_| rng.random_range(low..high));
        let (weights, means, variances) = (draw(0.1, 1.0), draw(-6.0, 6.0), draw(0.1, 3.0));
        let sum: f64 = weights.iter().sum();
        let weights = weights.map(|weight| weight / sum);
        let truth = entropy_by_grid(&weights, &means, &variances);
        let bounds = mixture(&weights, &means, &variances)?.entropy_bounds_nats();
        assert!(bounds.lower.value <= truth + 1e-9, "{} {truth}", bounds.lower.value);
        assert!(bounds.upper.value >= truth - 1e-9, "{} {truth}", bounds.upper.value);
    }
    Ok(())
}

#[test]
fn what_is_no_mixture_is_refused() -> Result<(), Error> {
    let means = array![[0.0, 0.0], [1.0, 1.0]];
    let unit = |second: [f64; 4]| {
        let flat = [[1.0, 0.0, 0.0, 1.0], second].concat();
        Array3::from_shape_vec((2, 2, 2), flat).unwrap_or_else(|_| Array3::zeros((2, 2, 2)))
    };
    let good = unit([1.0, 0.5, 0.5, 1.0]);
    let make = |weights: &[f64], covariances: &Array3<f64>| {
        GaussianMixture::new(weights, means.view(), covariances.view()).map(|_| ())
    };
    assert_eq!(make(&[0.5, 0.5], &good), Ok(()));
    assert_eq!(make(&[0.0, 1.0], &good), Ok(()));
    for second in [
        [1.0, 1.0, 1.0, 1.0],
        [1.0, 0.5, 0.4, 1.0],
        [1.0, 0.0, 0.0, -1.0],
        [f64::NAN, 0.0, 0.0, 1.0],
    ] {
        assert_eq!(make(&[0.5, 0.5], &unit(second)), Err(Error::NotPositiveDefinite { index: 1 }));
    }
    for weights in [[0.5, 0.6], [1.5, -0.5], [f64::NAN, 1.0]] {
        assert!(matches!(make(&weights, &good), Err(Error::Parameter { .. })), "{weights:?}");
    }
    assert!(matches!(make(&[1.0], &good), Err(Error::Shape { .. })));
    let narrow = Array3::<f64>::ones((2, 1, 1));
    assert!(matches!(make(&[0.5, 0.5], &narrow), Err(Error::Shape { .. })));
    for sigma in [0.0, f64::NAN, -1.0] {
        assert!(matches!(
            noise_information_bounds_nats(means.view(), sigma),
            Err(Error::Parameter { .. })
        ));
    }
    assert_eq!(
        noise_information_bounds_nats(Array2::<f64>::zeros((0, 2)).view(), 1.0),
        Err(Error::NoRows)
    );
    let one = noise_information_bounds_nats(array![[3.0]].view(), 1.0)?;
    assert_eq!((one.lower.value, one.upper.value), (0.0, 0.0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Points with noise are a mixture with equal covariances; lower ≤ upper ≤ ln n; more noise, less information.
    #[test]
    fn noise_is_a_mixture(seed in any::<u64>(), n in 1..20_usize, d in 1..4_usize, sigma in 0.05..3.0_f64) {
        let z = normal(&mut rng(seed), (n, d));
        let bounds = noise_information_bounds_nats(z.view(), sigma)?;
        let covariance = Array2::<f64>::eye(d) * (sigma * sigma);
        let covariances = covariance.insert_axis(Axis(0));
        let covariances = covariances.broadcast((n, d, d)).ok_or(TestCaseError::fail("shape"))?.to_owned();
        let mixture = GaussianMixture::new(&vec![1.0 / n as f64; n], z.view(), covariances.view())?;
        let same = mixture.information_bounds_nats();
        prop_assert!(close(bounds.lower.value, same.lower.value, 1e-10, 1.0));
        prop_assert!(close(bounds.upper.value, same.upper.value, 1e-10, 1.0));
        prop_assert!(bounds.lower.value <= bounds.upper.value + 1e-12);
        prop_assert!(bounds.upper.value <= (n as f64).ln() + 1e-12 && bounds.lower.value >= -1e-12);
        let louder = noise_information_bounds_nats(z.view(), 1.5 * sigma)?;
        prop_assert!(louder.lower.value <= bounds.lower.value + 1e-12);
        prop_assert!(louder.upper.value <= bounds.upper.value + 1e-12);
        // Entropy = noise's entropy + information.
        let noise = d as f64 / 2.0 * (2.0 * PI * std::f64::consts::E * sigma * sigma).ln();
        let entropy = mixture.entropy_bounds_nats();
        prop_assert!(close(entropy.lower.value, noise + same.lower.value, 1e-10, 1.0 + noise.abs()));
        prop_assert!(close(entropy.upper.value, noise + same.upper.value, 1e-10, 1.0 + noise.abs()));
        // Each point twice is the same source.
        let twice = ndarray::concatenate![Axis(0), z, z];
        let doubled = noise_information_bounds_nats(twice.view(), sigma)?;
        prop_assert!(close(doubled.upper.value, bounds.upper.value, 1e-10, 1.0));
        prop_assert!(doubled.upper.flags.contains(&Flag::DuplicateRows(n as u64)));
    }
}
