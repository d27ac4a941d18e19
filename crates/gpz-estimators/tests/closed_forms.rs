//! Laws whose entropy has a closed form, at any place and scale: uniform, exponential, Laplace, Student, Gaussian and its rounding.

mod common;

use std::f64::consts::{E, PI};

use common::{close, rng};
use gpz_estimators::channel::{Given, high_rate_approx_nats, lattice_entropy_upper_nats};
use gpz_estimators::entropy::kde::{Bandwidth, kde_entropy_loo_nats};
use gpz_estimators::entropy::{
    isotropic_bound_nats, isotropic_gaussian_nats, kozachenko_leonenko_nats,
};
use gpz_estimators::{ClassMoments, Metric, Neighbours};
use ndarray::Array2;
use proptest::prelude::*;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Exp1, StandardNormal, StudentT};
use statrs::function::beta::ln_beta;
use statrs::function::erf::erfc;
use statrs::function::gamma::digamma;

const ROWS: usize = 1000;

/// A law of scale one.
#[derive(Debug, Clone, Copy)]
enum Law {
    Gaussian,
    Uniform,
    Exponential,
    Laplace,
    /// Degrees of freedom, above four so that the sample's variance has one itself.
    Student(f64),
}

impl Law {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            Just(Self::Gaussian),
            Just(Self::Uniform),
            Just(Self::Exponential),
            Just(Self::Laplace),
            (4.5..30.0_f64).prop_map(Self::Student),
        ]
    }

    fn draw(self, rng: &mut impl Rng) -> f64 {
        match self {
            Self::Gaussian => StandardNormal.sample(rng),
            Self::Uniform => rng.random(),
            Self::Exponential => Exp1.sample(rng),
            Self::Laplace => {
                let size: f64 = Exp1.sample(rng);
                if rng.random::<bool>() { size } else { -size }
            }
            Self::Student(nu) => StudentT::new(nu).expect("positive").sample(rng),
        }
    }

    fn rows(self, seed: u64, at: f64, scale: f64) -> Array2<f64> {
        let mut rng = rng(seed);
        Array2::from_shape_simple_fn((ROWS, 1), || at + scale * self.draw(&mut rng))
    }

    fn entropy(self) -> f64 {
        match self {
            Self::Gaussian => 0.5 * (2.0 * PI * E).ln(),
            Self::Uniform => 0.0,
            Self::Exponential => 1.0,
            Self::Laplace => 1.0 + 2.0_f64.ln(),
            Self::Student(nu) => {
                let half = (nu + 1.0) / 2.0;
                half * (digamma(half) - digamma(nu / 2.0)) + 0.5 * nu.ln() + ln_beta(nu / 2.0, 0.5)
            }
        }
    }

    fn variance(self) -> f64 {
        match self {
            Self::Gaussian | Self::Exponential => 1.0,
            Self::Uniform => 1.0 / 12.0,
            Self::Laplace => 2.0,
            Self::Student(nu) => nu / (nu - 2.0),
        }
    }

    /// Fourth central moment over the squared variance.
    fn kurtosis(self) -> f64 {
        match self {
            Self::Gaussian => 3.0,
            Self::Uniform => 1.8,
            Self::Exponential => 9.0,
            Self::Laplace => 6.0,
            Self::Student(nu) => 3.0 + 6.0 / (nu - 4.0),
        }
    }

    /// Variance of `ln p(x)`.
    fn surprise(self) -> f64 {
        match self {
            Self::Gaussian => 0.5,
            Self::Uniform => 0.0,
            Self::Exponential | Self::Laplace => 1.0,
            // (ν + 1)²/4 times the variance of ln(1 + t²/ν), the logarithm of a beta variable of ν/2 and 1/2.
            Self::Student(nu) => {
                let step = 1e-4;
                let psi = |x: f64| (digamma(x + step) - digamma(x - step)) / (2.0 * step);
                (nu + 1.0).powi(2) / 4.0 * (psi(nu / 2.0) - psi((nu + 1.0) / 2.0))
            }
        }
    }
}

/// Mass of each cell of a Gaussian about `centre` that is rounded to whole numbers, and the first cell.
fn rounded(centre: f64, sigma: f64) -> (Vec<f64>, i64) {
    let below = |x: f64| 0.5 * erfc(-x / (sigma * 2f64.sqrt()));
    let (first, last) =
        ((centre - 9.0 * sigma).floor() as i64, (centre + 9.0 * sigma).ceil() as i64);
    let mass = |k: i64| {
        let (low, high) = (k as f64 - 0.5 - centre, k as f64 + 0.5 - centre);
        // From the nearer tail, so that no digits are lost.
        if low > 0.0 { below(-low) - below(-high) } else { below(high) - below(low) }
    };
    ((first..=last).map(mass).collect(), first)
}

proptest! {
    #![proptest_config(common::fixed(64))]

    /// Six standard deviations about the closed form, whatever the place and scale.
    #[test]
    fn nearest_neighbours_meet_them(law in Law::any(), seed in any::<u64>(), at in -1e3..1e3_f64, scale in 1e-3..1e3_f64) {
        let z = law.rows(seed, at, scale);
        let want = law.entropy() + scale.ln();
        for metric in [Metric::Euclidean, Metric::Maximum] {
            let h = kozachenko_leonenko_nats(z.view(), metric, Neighbours::nth(3).without_std_err())?;
            let h = h.map_err(|reason| TestCaseError::fail(reason.to_string()))?.value;
            // Variance of the surprise, and ψ₁(3) = π²/6 − 5/4 of the distance to the third neighbour, which near rows share: at
            // most a factor of k more.
            let deviation = ((law.surprise() + 3.0 * (PI * PI / 6.0 - 1.25)) / ROWS as f64).sqrt();
            prop_assert!((h - want).abs() <= 6.0 * deviation + 0.01, "{law:?}: {h} for {want}");
        }
    }

    /// Of all laws with a variance the Gaussian has the most entropy: exactly for the population's, and but for the error of the
    /// sample's variance, ½√((κ − 1)/n), for the plug-in.
    #[test]
    fn no_law_passes_the_gaussian_bound(law in Law::any(), seed in any::<u64>(), at in -1e3..1e3_f64, scale in 1e-3..1e3_f64) {
        let truth = law.entropy() + scale.ln();
        let bound = isotropic_gaussian_nats(1, law.variance() * scale * scale);
        prop_assert!(bound >= truth - 1e-12);
        prop_assert_eq!(bound - truth < 1e-9, matches!(law, Law::Gaussian));
        let mut moments = ClassMoments::new(1, 1)?;
        moments.update(law.rows(seed, at, scale).view(), &vec![0; ROWS])?;
        let plugin = isotropic_bound_nats(&moments.geometry()?).value;
        let deviation = 0.5 * ((law.kurtosis() - 1.0) / ROWS as f64).sqrt();
        prop_assert!(plugin >= truth - 6.0 * deviation, "{law:?}: {plugin} below {truth}");
        // Heavy tails keep it low for longer than a normal law of this deviation would, but not high.
        prop_assert!(plugin <= bound + 6.0 * deviation, "{law:?}: {plugin} above {bound}");
    }

    /// A cross-entropy with a smoothed density: not below the truth but for the spread of its terms, and not far above it. The rise is
    /// at most half the kernel's variance times the density's Fisher information, where it has one, and R(K)/2nσ times the length
    /// of the support; sharp edges lose about σ.
    #[test]
    fn kernel_densities_are_high(law in Law::any(), seed in any::<u64>(), at in -1e3..1e3_f64, scale in 1e-3..1e3_f64) {
        let h = kde_entropy_loo_nats(law.rows(seed, at, scale).view(), Bandwidth::Scott)?;
        let h = h.map_err(|reason| TestCaseError::fail(reason.to_string()))?.value;
        let truth = law.entropy() + scale.ln();
        let reach = 6.0 * ((law.surprise() + 0.1) / ROWS as f64).sqrt();
        prop_assert!(h >= truth - reach, "{law:?}: {h} below {truth}");
        let sigma = (ROWS as f64).powf(-0.2) * law.variance().sqrt();
        let rise = match law {
            Law::Gaussian => 0.5 * sigma * sigma + 0.01,
            // Half of the kernel's mass at an edge lies outside: at most ln 2 over a width σ at each.
            Law::Uniform => 2.0 * sigma * 2.0_f64.ln() + 0.01,
            Law::Exponential => sigma * 2.0_f64.ln() + 0.5 * sigma * sigma + 0.05,
            Law::Laplace => 0.5 * sigma * sigma + 0.05,
            // A lone row far out counts with the square of its distance: no bound of this kind.
            Law::Student(_) => f64::INFINITY,
        };
        prop_assert!(h <= truth + rise + reach, "{law:?}: {h} above {truth}");
    }

    /// A rounded Gaussian wherever its centre lies between two codes: the high-rate approximation below its entropy, Massey's bound
    /// above it; the sample's bound above it too but for its error.
    #[test]
    fn rounded_gaussian(centre in -0.5..0.5_f64, sigma in 0.05..50.0_f64, seed in any::<u64>()) {
        let (masses, first) = rounded(centre, sigma);
        let total: f64 = masses.iter().sum();
        prop_assert!(close(total, 1.0, 1e-12, 1.0));
        let truth: f64 = masses.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let rate = high_rate_approx_nats(Given::Known(0.5 * (2.0 * PI * E).ln() + sigma.ln()), 1, 1.0)?;
        prop_assert!(rate.value <= truth + 1e-12, "{} above {truth}", rate.value);
        // For a fine step they meet, up to J·step²/24 and what the tails add.
        prop_assert!(sigma < 1.0 || truth - rate.value <= 1.0 / (20.0 * sigma * sigma));
        let mean: f64 = masses.iter().zip(first..).map(|(p, k)| p * k as f64).sum();
        let variance: f64 = masses.iter().zip(first..).map(|(p, k)| p * (k as f64 - mean).powi(2)).sum();
        let massey = 0.5 * (2.0 * PI * E * (variance + 1.0 / 12.0)).ln();
        prop_assert!(truth <= massey + 1e-12, "{truth} above {massey}");
        let mut rng = rng(seed);
        let codes = Array2::from_shape_simple_fn((ROWS, 1), || {
            let noise: f64 = StandardNormal.sample(&mut rng);
            (centre + sigma * noise).round() as i64
        });
        let upper = lattice_entropy_upper_nats(codes.view())?.map_err(|reason| TestCaseError::fail(reason.to_string()))?;
        let fourth: f64 = masses.iter().zip(first..).map(|(p, k)| p * (k as f64 - mean).powi(4)).sum();
        let deviation = 0.5 * ((fourth - variance * variance).max(0.0) / ROWS as f64).sqrt() / (variance + 1.0 / 12.0);
        prop_assert!((upper.value - massey).abs() <= 6.0 * deviation + 0.01, "{} {massey}", upper.value);
    }
}
