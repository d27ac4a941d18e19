//! What declared channels let through: closed forms, statistics and laws.

mod common;

use std::f64::consts::{E, LN_2, PI};

use common::case::Outcome;
use common::{close, covariance, linear_gaussian, normal, rng};
use gpz_estimators::channel::{
    Cast, Channel, Given, LinearGaussian, NoisySource, Quantiser, Received, SmoothedPrior, Spread,
    code_entropy_nats, code_entropy_sum_nats, conditional_entropy_lower_nats,
    high_rate_approx_nats, lattice_entropy_upper_nats, noise_information_classes_nats,
    noise_information_full_nats, noise_information_nats, rounded_codes, sweep,
};
use gpz_estimators::{ClassMoments, Error, Estimate, Flag, Kind, NotIdentifiable, Uncertainty};
use ndarray::{Array2, ArrayView2, Axis, array};
use proptest::prelude::*;
use rand::RngExt;
use statrs::function::erf::erfc;

/// The value at the mean of the noise's plug-in is known: a Gaussian feature reaches the bound.
#[test]
fn a_gaussian_feature_reaches_the_bound() -> Outcome<()> {
    let (d, noise) = (5, 0.3);
    let model = linear_gaussian(7, d, d, noise)?;
    let map = normal(&mut rng(7 ^ 1), (d, d));
    let signal = map.dot(&covariance(7, d)).dot(&map.t());
    // Diagonal signals: the sum over dimensions is the information itself.
    let independent = Array2::from_diag(&signal.diag());
    let exact =
        LinearGaussian::new(Array2::eye(d).view(), independent.view(), noise)?.mi_nats().value;
    let spread = Spread::population(signal.diag().to_vec())?;
    let bound = spread.information_nats(noise.sqrt())?;
    assert_eq!(bound.kind, Kind::Upper);
    assert!(close(bound.value, exact, 1e-13, exact));
    // Others lie below it, and the isotropic one above.
    assert!(model.mi_nats().value < bound.value);
    assert!(bound.value < spread.isotropic_information_nats(noise.sqrt())?.value);
    // No element beyond ±1, so no variance beyond 1.
    let bounded = Spread::bounded(4, -1.0, 1.0)?.information_nats(1.0)?;
    assert!(close(bounded.value, 2.0 * LN_2, 1e-14, 1.0) && bounded.kind == Kind::Upper);
    Ok(())
}

/// Bias within what the documentation says and four standard errors; the jackknife's error against the spread.
#[test]
fn the_plug_in_under_noise_has_its_stated_bias_and_error() -> Outcome<()> {
    let (n, d, sigma, replicates) = (60, 6, 0.7_f64, 16);
    let truth = d as f64 * 0.5 * (1.0 + 1.0 / (sigma * sigma)).ln();
    let estimates: Vec<Estimate> = (0..replicates)
        .map(|seed| noise_information_nats(normal(&mut rng(seed), (n, d)).view(), sigma))
        .collect::<Result<Result<Vec<_>, _>, Error>>()??;
    let mean = estimates.iter().map(|e| e.value).sum::<f64>() / replicates as f64;
    let spread =
        estimates.iter().map(|e| (e.value - mean).powi(2)).sum::<f64>() / (replicates - 1) as f64;
    let share = 1.0 / (1.0 + sigma * sigma);
    let bias = -(d as f64) * 0.5 * share * share / n as f64;
    assert!(
        (mean - truth - bias).abs() <= 4.0 * (spread / replicates as f64).sqrt(),
        "{mean} {truth}"
    );
    let error = estimates.iter().filter_map(|e| e.std_err).sum::<f64>() / replicates as f64;
    assert!((0.6..1.6).contains(&(error / spread.sqrt())), "{error} beside {}", spread.sqrt());
    assert!(estimates.iter().all(|e| e.uncertainty == Some(Uncertainty::Jackknife)
        && e.kind == Kind::Heuristic
        && e.flags.contains(&Flag::PlugInOfUpperBound)));
    // Of 200 intervals of two standard errors about the value, some 95 % cover the truth.
    let covered = (0..200)
        .map(|seed| noise_information_nats(normal(&mut rng(1000 + seed), (200, d)).view(), sigma))
        .collect::<Result<Result<Vec<_>, _>, Error>>()??;
    let covered =
        covered.iter().filter(|e| (e.value - truth).abs() <= 2.0 * e.std_err.unwrap_or(0.0));
    let covered = covered.count();
    assert!((178..=199).contains(&covered), "{covered} of 200");
    Ok(())
}

/// Jackknife values by leaving rows out indeed.
#[test]
fn jackknife_equals_leaving_rows_out() -> Outcome<()> {
    let z = normal(&mut rng(3), (12, 4)) + 1e6;
    let by_hand = |of: &dyn Fn(ArrayView2<'_, f64>) -> Outcome<f64>| -> Outcome<f64> {
        let n = z.nrows();
        let without = (0..n)
            .map(|row| {
                let rest: Vec<usize> = (0..n).filter(|&other| other != row).collect();
                of(z.select(Axis(0), &rest).view())
            })
            .collect::<Outcome<Vec<f64>>>()?;
        let mean = without.iter().sum::<f64>() / n as f64;
        let squares = without.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Ok(((n - 1) as f64 / n as f64 * squares).sqrt())
    };
    let noise = noise_information_nats(z.view(), 0.5)??;
    let want = by_hand(&|rows| Ok(noise_information_nats(rows, 0.5)??.value))?;
    assert!(noise.std_err.is_some_and(|got| close(got, want, 1e-7, want)));
    let codes = |rows: ArrayView2<'_, f64>| rounded_codes((&rows - 1e6).view(), 4.0);
    for estimator in [code_entropy_nats, code_entropy_sum_nats] {
        let got = estimator(codes(z.view())?.view())?.std_err;
        let want = by_hand(&|rows| Ok(estimator(codes(rows)?.view())?.value))?;
        assert!(got.is_some_and(|got| close(got, want, 1e-9, 1.0)), "{got:?} {want}");
    }
    Ok(())
}

/// Mass of each cell of a Gaussian that is rounded to multiples of `step`.
fn cell_masses(sigma: f64, step: f64) -> Vec<f64> {
    let below = |x: f64| 0.5 * erfc(-x / (sigma * 2f64.sqrt()));
    let last = (9.0 * sigma / step).ceil() as i64;
    (-last..=last)
        .map(|k| {
            // From the nearer tail, so that no digits are lost.
            let (low, high) = ((k as f64 - 0.5) * step, (k as f64 + 0.5) * step);
            if low > 0.0 { below(-low) - below(-high) } else { below(high) - below(low) }
        })
        .collect()
}

fn entropy_of(masses: &[f64]) -> f64 {
    masses.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// A quantised Gaussian by its cell masses: between the high-rate approximation and Massey's bound, and what samples show.
#[test]
fn quantised_gaussian() -> Outcome<()> {
    let h = 0.5 * (2.0 * PI * E).ln();
    for step in [0.05, 0.25, 1.0, 2.0_f64] {
        let truth = entropy_of(&cell_masses(1.0, step));
        let rate = high_rate_approx_nats(Given::Known(h), 1, step)?;
        // A lower bound, by about step²/24 times the Fisher information.
        let gap = truth - rate.value;
        assert!(rate.kind == Kind::Lower && gap > 0.0);
        assert!(step > 1.0 || close(gap, step * step / 24.0, 0.1, gap), "{step}: {gap}");
        let variance: f64 = {
            let masses = cell_masses(1.0, step);
            let middle = (masses.len() / 2) as f64;
            masses.iter().enumerate().map(|(k, p)| p * (k as f64 - middle).powi(2)).sum()
        };
        assert!(truth <= 0.5 * (2.0 * PI * E * (variance + 1.0 / 12.0)).ln());
    }
    assert!(
        high_rate_approx_nats(Given::Known(h), 1, 100.0)?.flags.contains(&Flag::DegenerateSupport)
    );
    let (n, step, replicates) = (2000, 0.25, 16);
    let masses = cell_masses(1.0, step);
    let truth = entropy_of(&masses);
    let runs: Vec<(Estimate, f64)> = (0..replicates)
        .map(|seed| {
            let z = normal(&mut rng(50 + seed), (n, 1));
            let codes = rounded_codes(z.view(), step)?;
            let upper = lattice_entropy_upper_nats(codes.view())?;
            Ok((code_entropy_nats(codes.view())?, upper.map_or(f64::NAN, |upper| upper.value)))
        })
        .collect::<Result<_, Error>>()?;
    let mean = runs.iter().map(|(e, _)| e.value).sum::<f64>() / replicates as f64;
    let spread =
        runs.iter().map(|(e, _)| (e.value - mean).powi(2)).sum::<f64>() / (replicates - 1) as f64;
    // Cells that are hit in expectation.
    let cells: f64 = masses.iter().map(|p| 1.0 - (1.0 - p).powi(n as i32)).sum();
    let bias = -(cells - 1.0) / (2.0 * n as f64);
    assert!(
        (mean - truth - bias).abs() < 4.0 * (spread / replicates as f64).sqrt() + 0.2 * bias.abs()
    );
    let error = runs.iter().filter_map(|(e, _)| e.std_err).sum::<f64>() / replicates as f64;
    assert!((0.6..1.6).contains(&(error / spread.sqrt())), "{error} beside {}", spread.sqrt());
    assert!(runs.iter().all(|(e, upper)| e.value <= *upper && !e.flags.contains(&Flag::Saturated)));
    Ok(())
}

/// Intervals of the jackknife. The sum over dimensions covers the entropy less what the plug-in is known to lack, `(K − 1)/2n` for each
/// alphabet; of the joint one most pairs are rare, no formula holds, and it covers what it is on average.
#[test]
fn intervals_of_code_entropies_cover() -> Outcome<()> {
    let (n, step) = (300, 0.8);
    let masses = cell_masses(1.0, step);
    // Cells hit in expectation, as far cells hardly ever are.
    let cells = masses.iter().map(|p| 1.0 - (1.0 - p).powi(n)).sum::<f64>();
    let sum = 2.0 * (entropy_of(&masses) - (cells - 1.0) / (2.0 * f64::from(n)));
    let run = |estimator: fn(ArrayView2<'_, i64>) -> Result<Estimate, Error>| {
        let of = |seed: u64| -> Outcome<(f64, f64)> {
            let z = normal(&mut rng(3000 + seed), (n as usize, 2));
            let estimate = estimator(rounded_codes(z.view(), step)?.view())?;
            Ok((estimate.value, estimate.std_err.ok_or("an error")?))
        };
        (0..200).map(of).collect::<Outcome<Vec<_>>>()
    };
    let covered = |what: &str, found: &[(f64, f64)], truth: f64| {
        let inside = found.iter().filter(|(value, error)| (value - truth).abs() <= 1.96 * error);
        let count = inside.count();
        // 95 % of 200 with a binomial deviation of 3.1.
        assert!((180..=200).contains(&count), "{what}: {count} of 200");
    };
    covered("sum", &run(code_entropy_sum_nats)?, sum);
    let joint = run(code_entropy_nats)?;
    covered("joint", &joint, joint.iter().map(|(value, _)| value).sum::<f64>() / 200.0);
    Ok(())
}

#[test]
fn without_a_channel_there_is_no_bound_and_a_reason() -> Outcome<()> {
    let z = normal(&mut rng(1), (20, 3));
    let none = Channel::None.information_nats(z.view())?;
    assert_eq!(none, Err(NotIdentifiable::NoChannel));
    assert_eq!(
        SmoothedPrior::new(3, 0.1)?.mse_floor(&none, None)?,
        Err(NotIdentifiable::NoChannel)
    );
    assert_eq!(
        conditional_entropy_lower_nats(Given::Known(1.0), &none)?,
        Err(NotIdentifiable::NoChannel)
    );
    assert_eq!(Channel::None.codes(z.view())?, None);
    // Noise alone limits nothing: power must be limited too.
    assert_eq!(Channel::Noise { sigma: 1.0 }.limit_nats(3)??.value, f64::INFINITY);
    Ok(())
}

#[test]
fn codes_carry_no_more_than_their_bits() -> Outcome<()> {
    let z = normal(&mut rng(2), (400, 8));
    let channels = [
        (Channel::Bits(Quantiser::covering(4, z.view())?), 8.0 * 4.0 * LN_2),
        (Channel::Cast(Cast::Bf16), 8.0 * 16.0 * LN_2),
        (Channel::Cast(Cast::F16), 8.0 * 16.0 * LN_2),
        (Channel::Cast(Cast::int8_covering(z.view())?), 8.0 * 255f64.ln()),
    ];
    for (channel, limit) in channels {
        let bound = channel.information_nats(z.view())??;
        assert!(close(bound.value, limit, 1e-14, limit) && bound.kind == Kind::Upper);
        let codes = channel.codes(z.view())?.ok_or("codes")?;
        let (joint, sum) = (code_entropy_nats(codes.view())?, code_entropy_sum_nats(codes.view())?);
        assert!(joint.value <= sum.value && sum.value <= limit);
        // 400 rows cannot show more than ln 400 of whatever there is.
        assert!(joint.flags.contains(&Flag::Saturated) && joint.ceiling == Some(400f64.ln()));
        assert_eq!(joint.std_err, None, "an error of zero would be taken for certainty");
        let decoded = channel.decoded(z.view())?.ok_or("values")?;
        assert_eq!(
            channel.codes(decoded.view())?,
            Some(codes),
            "what was decoded has the same code"
        );
    }
    assert!(Channel::Noise { sigma: -1.0 }.information_nats(z.view()).is_err());
    let bad = array![[1.0], [f64::NAN]];
    assert!(matches!(
        Channel::Cast(Cast::F16).information_nats(bad.view()),
        Err(Error::NonFinite { row: 1, .. })
    ));
    Ok(())
}

/// All 64 pictures of six binary pixels, of which the sums of two halves are sent.
#[test]
fn enumeration_against_the_plain_way() -> Outcome<()> {
    let x = Array2::from_shape_fn((64, 6), |(i, j)| f64::from(u8::from(i >> j & 1 == 1)));
    let sums = |i: usize| [i & 7, i >> 3].map(|half| i64::from(half.count_ones()));
    let codes = Array2::from_shape_fn((64, 2), |(i, j)| sums(i)[j]);
    let received = Received::enumerated(codes.view(), None)?;
    // Each half: sums of 0 to 3 with 1, 3, 3, 1 pictures.
    let (h_x, h_z) =
        (6.0 * LN_2, 2.0 * (2.0 * 0.125 * 8f64.ln() + 2.0 * 0.375 * (8f64 / 3.0).ln()));
    assert!(close(received.h_x_nats().value, h_x, 1e-14, 1.0));
    assert!(close(received.h_z_nats().value, h_z, 1e-14, 1.0));
    assert!(close(received.h_x_given_z_nats().value, h_x - h_z, 1e-14, 1.0));
    assert!(close(received.mi_nats().value, h_z, 1e-14, 1.0));
    assert_eq!(received.outputs(), 16);
    assert!(close(received.guess_probability().value, 16.0 / 64.0, 1e-14, 1.0));
    // Sums of 1 or 2 of 3 leave variances of 2/9, those of 0 and 3 none.
    let mmse = received.mmse_per_dim(x.view())?.value;
    assert!(close(mmse, 0.75 * 2.0 / 9.0, 1e-14, 1.0));
    let covariance = received.posterior_covariance(x.view())?;
    assert!(close(covariance.diag().sum() / 6.0, mmse, 1e-13, 1.0));
    assert_eq!(received.mmse_rank(x.view())?, 4);
    let joint = Array2::from_shape_fn((64, 16), |(i, z)| {
        if sums(i)[0] * 4 + sums(i)[1] == z as i64 { 1.0 / 64.0 } else { 0.0 }
    });
    let again = Received::from_joint(joint.view())?;
    assert_eq!(again.h_x_given_z_nats(), received.h_x_given_z_nats());
    // A binary symmetric channel.
    let flip = 0.1;
    let symmetric = array![[(1.0 - flip) / 2.0, flip / 2.0], [flip / 2.0, (1.0 - flip) / 2.0]];
    let symmetric = Received::from_joint(symmetric.view())?;
    let lost = -flip * f64::ln(flip) - (1.0 - flip) * f64::ln(1.0 - flip);
    assert!(close(symmetric.mi_nats().value, LN_2 - lost, 1e-14, 1.0));
    assert!(close(
        symmetric.mmse_per_dim(array![[0.0], [1.0]].view())?.value,
        flip * (1.0 - flip),
        1e-14,
        1.0
    ));
    assert!(Received::from_joint(array![[0.5, 0.4]].view()).is_err());
    assert!(Received::from_joint(array![[1.5, -0.5]].view()).is_err());
    assert_eq!(Received::from_joint(Array2::zeros((0, 2)).view()), Err(Error::NoRows));
    assert_eq!(
        Received::enumerated(codes.view(), Some(&[1.0])),
        Err(Error::WeightCount { images: 64, weights: 1 })
    );
    assert!(received.mmse_per_dim(array![[0.0]].view()).is_err());
    Ok(())
}

/// Two points behind noise, against quadrature.
#[test]
fn two_points_behind_noise() -> Outcome<()> {
    let (gap, sigma) = (1.5, 1.0);
    let points = array![[0.0], [gap]];
    let source = NoisySource::simulate_with_values(
        points.view(),
        array![[0.0, 1.0], [1.0, 1.0]].view(),
        None,
        sigma,
        20_000,
        5,
    )?;
    let (mut left, mut right_guess, mut mmse, step) = (0.0, 0.0, 0.0, 1e-3);
    for k in -10_000..12_000 {
        let z = f64::from(k) * step;
        let density =
            [0.0, gap].map(|m| 0.5 * (-(z - m) * (z - m) / 2.0).exp() / (2.0 * PI).sqrt());
        let sum = density[0] + density[1];
        left += step * density.iter().map(|p| -p * (p / sum).ln()).sum::<f64>();
        right_guess += step * density[0].max(density[1]);
        mmse += step * density[0] * density[1] / sum;
    }
    let near = |estimate: Estimate, want: f64| {
        let error = estimate.std_err.unwrap_or(0.0);
        assert!(
            error > 0.0 && error < 0.01 && (estimate.value - want).abs() < 4.0 * error,
            "{estimate:?} {want}"
        );
    };
    near(source.h_x_given_z_nats(), left);
    near(source.mi_nats(), LN_2 - left);
    near(source.guess_probability(), right_guess);
    // The second value never changes, so the mean over two is half of the first's.
    near(source.mmse_per_dim().ok_or("values were given")?, mmse / 2.0);
    Ok(())
}

/// Rows of a sample taken for the source: the answer is ln n, and flagged.
#[test]
fn a_sample_taken_for_the_source_is_flagged() -> Outcome<()> {
    let z = normal(&mut rng(9), (200, 8));
    let mi = NoisySource::simulate(z.view(), None, 1e-3, 2, 1)?.mi_nats();
    assert!(close(mi.value, 200f64.ln(), 1e-9, 1.0) && mi.flags.contains(&Flag::Saturated));
    let wide = NoisySource::simulate(z.view(), None, 10.0, 4, 1)?.mi_nats();
    assert!(!wide.flags.contains(&Flag::Saturated));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Full covariance at most the diagonal, that at most the isotropic; all fall as the noise grows; rescaling both changes nothing.
    #[test]
    fn information_under_noise_is_ordered_and_falls(
        seed in any::<u64>(), n in 2..30_usize, d in 1..30_usize, sigma in 1e-3..10.0_f64, scale in 1e-6..1e6_f64,
    ) {
        let mut rng = rng(seed);
        let mixing = normal(&mut rng, (d, d));
        let z = normal(&mut rng, (n, d)).dot(&mixing) + 3.0;
        let mut moments = ClassMoments::new(1, d)?;
        moments.update(z.view(), &vec![0; n])?;
        let geometry = moments.geometry()?;
        let Ok(spread) = Spread::of(&geometry) else { return Err(TestCaseError::fail("two rows")) };
        let value = |estimate: gpz_estimators::Estimated| estimate.map_or(f64::NAN, |estimate| estimate.value);
        let at = |sigma: f64| -> Result<[f64; 4], Error> {
            Ok([
                value(noise_information_full_nats(z.view(), sigma)?),
                value(noise_information_nats(z.view(), sigma)?),
                spread.isotropic_information_nats(sigma)?.value,
                value(noise_information_classes_nats(&geometry, sigma)?),
            ])
        };
        let [full, diagonal, isotropic, classes] = at(sigma)?;
        let slack = 1e-9 * (1.0 + isotropic);
        prop_assert!(0.0 <= full && full <= diagonal + slack && diagonal <= isotropic + slack, "{full} {diagonal} {isotropic}");
        prop_assert!(close(spread.information_nats(sigma)?.value, diagonal, 1e-9, 1.0 + diagonal));
        // One class: the bound at the decision level is the isotropic one.
        prop_assert!(close(classes, isotropic, 1e-9, 1.0 + isotropic));
        for (more, less) in at(sigma * 1.5)?.iter().zip([full, diagonal, isotropic, classes]) {
            prop_assert!(*more <= less + slack, "{more} {less}");
        }
        let scaled = noise_information_nats((&z * scale).view(), sigma * scale)?;
        prop_assert!(close(value(scaled), diagonal, 1e-9, 1.0 + diagonal));
        // The full one from either side.
        let turned = &z - &z.mean_axis(Axis(0)).ok_or_else(|| TestCaseError::fail("rows"))?;
        let covariance = turned.t().dot(&turned) / (n - 1) as f64;
        let model = LinearGaussian::new(Array2::eye(d).view(), covariance.view(), sigma * sigma);
        if let Ok(model) = model {
            prop_assert!(close(model.mi_nats().value, full, 1e-6, 1.0 + full), "{} {full}", model.mi_nats().value);
        }
    }

    /// More bits never lower the entropy of codes over the same range, nor what may pass; the floor of the error falls.
    #[test]
    fn sweeps_are_monotone(seed in any::<u64>(), n in 3..60_usize, d in 1..5_usize, tau in 0.01..1.0_f64) {
        let z = normal(&mut rng(seed), (n, d));
        let prior = SmoothedPrior::new(3, tau)?;
        let mut channels = Channel::of_bits(1..12, -4.0, 4.0)?;
        channels.extend(Channel::of_sigmas(&[1.0, 0.5, 0.1, 0.01]));
        let points = sweep(z.view(), &channels, Some(Given::Known(10.0)), Some(&prior))?;
        let value = |estimate: &gpz_estimators::Estimated| estimate.as_ref().map_or(f64::NAN, |estimate| estimate.value);
        for (at, pair) in points.windows(2).enumerate().filter(|(at, _)| *at != 10) {
            prop_assert!(value(&pair[0].information_nats) < value(&pair[1].information_nats), "{at}");
            if let (Some(fewer), Some(more)) = (&pair[0].code_entropy_sum_nats, &pair[1].code_entropy_sum_nats) {
                prop_assert!(fewer.value <= more.value + 1e-9);
            }
            let floors = pair.iter().map(|point| point.mse_floor.as_ref().map_or(f64::NAN, value)).collect::<Vec<_>>();
            prop_assert!(floors[0] >= floors[1] && floors[0] <= tau * tau * (1.0 + 1e-12), "{floors:?}");
            let left = pair.iter().map(|point| point.conditional_entropy_nats.as_ref().map_or(f64::NAN, value)).collect::<Vec<_>>();
            prop_assert!(left[0] > left[1]);
        }
        let again = sweep(z.mapv(|v| v as f32).view(), &channels[..1], None, None)?;
        prop_assert!(again[0].mse_floor.is_none() && again[0].conditional_entropy_nats.is_none());
    }

    /// Joint at most the sum, both at most ln n for each dimension and at least zero; names of codes and order of rows do not matter.
    #[test]
    fn entropies_of_codes(seed in any::<u64>(), n in 1..80_usize, d in 1..4_usize, symbols in 1..6_i64) {
        let mut rng = rng(seed);
        let codes = Array2::from_shape_simple_fn((n, d), || rng.random_range(0..symbols));
        let (joint, sum) = (code_entropy_nats(codes.view())?, code_entropy_sum_nats(codes.view())?);
        prop_assert!(-1e-12 <= joint.value && joint.value <= sum.value + 1e-9);
        prop_assert!(sum.value <= d as f64 * (n as f64).min(symbols as f64).ln() + 1e-9);
        let renamed = codes.mapv(|code| 7 - 3 * code);
        prop_assert!(close(code_entropy_nats(renamed.view())?.value, joint.value, 1e-12, 1.0));
        let reversed = codes.slice(ndarray::s![..;-1, ..]).to_owned();
        prop_assert!(close(code_entropy_sum_nats(reversed.view())?.value, sum.value, 1e-12, 1.0));
        // The enumeration of the rows has the same entropy of outputs.
        let received = Received::enumerated(codes.view(), None)?;
        prop_assert!(close(received.h_z_nats().value, joint.value, 1e-10, 1.0));
        prop_assert!(close(received.mi_nats().value, joint.value, 1e-10, 1.0));
        prop_assert!(received.h_x_given_z_nats().value >= -1e-12);
        prop_assert!(received.guess_probability().value <= 1.0 + 1e-12);
    }
}
