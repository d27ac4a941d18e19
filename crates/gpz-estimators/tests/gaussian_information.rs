//! Gaussian and cross-fitted information against stored cases, closed forms, and the bias and direction they claim.
#![cfg(feature = "lapack-base")]

mod common;

use common::case::{Case, Outcome};
use common::{close, normal, rng};
use gpz_estimators::information::{gaussian, qda};
use gpz_estimators::{Error, Flag, Kind, NotIdentifiable, Uncertainty};
use ndarray::{Array2, Axis, concatenate};
use proptest::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

#[test]
fn stored_pairs() -> Outcome<()> {
    let references = [
        ("mi_gauss_1v1_rho075", 0.419_758_880_140_151),
        ("mi_gauss_2pair_3v3", 0.998_053_275_442_298_4),
        ("mi_halfcube_1v1", 0.394_680_572_959_544_8),
    ];
    for (id, corrected) in references {
        let case = Case::open(id)?;
        let (x, y) = (case.matrix("x")?, case.matrix("y")?);
        let plugin = gaussian::mi_plugin_nats(x.view(), y.view())??;
        case.check("gaussian_mi_plugin", &[plugin.value]);
        case.check_kind("population", "mi_gaussian_behaviour", &[plugin.value]);
        assert!(plugin.flags.contains(&Flag::AssumesGaussian));
        let found = gaussian::mi_corrected_nats(x.view(), y.view())??;
        assert!(close(found.value, corrected, 1e-9, 1.0), "{id}: {}", found.value);
    }
    Ok(())
}

#[test]
fn stored_linear_channel() -> Outcome<()> {
    let case = Case::open("recon_linear_gaussian")?;
    let exact = gaussian::linear_channel_nats(
        case.matrix("a")?.view(),
        case.matrix("sigma_x")?.view(),
        0.05,
    )?;
    case.check("mi", &[exact.value]);
    assert_eq!(exact.kind, Kind::Exact);
    // The estimate from the rows that this law gave.
    let found = gaussian::mi_corrected_nats(case.matrix("x")?.view(), case.matrix("z")?.view())??;
    let std_err = found.std_err.ok_or("an error is stated")?;
    assert!((found.value - exact.value).abs() < 4.0 * std_err, "{} ± {std_err}", found.value);
    Ok(())
}

#[test]
fn stored_classes() -> Outcome<()> {
    for (id, classes) in [("gmm_1d_c3", 3), ("gmm_2d_c2", 2), ("gmm_identical_classes", 2)] {
        let case = Case::open(id)?;
        let found = qda::crossfit_nats(case.matrix("z")?.view(), &case.labels()?, classes)??;
        case.check("qda_crossfit_mi", &[found.value]);
        case.check_kind("population", "mi_label", &[found.value]);
        assert_eq!(found.kind, Kind::Lower);
        assert!(found.flags.contains(&Flag::InExpectation));
        assert_eq!(found.uncertainty, Some(Uncertainty::SpreadOfTerms));
        assert!(found.value <= found.ceiling.ok_or("H(Y)")?);
    }
    Ok(())
}

/// `n` pairs with correlation `rho` in each of `q` dimensions, and `p − q` more of x that are alone.
fn pairs(
    rng: &mut ChaCha8Rng,
    n: usize,
    (p, q): (usize, usize),
    rho: f64,
) -> (Array2<f64>, Array2<f64>) {
    let (x, noise) = (normal(rng, (n, p)), normal(rng, (n, q)));
    let y = &x.slice(ndarray::s![.., ..q]) * rho + noise * (1.0 - rho * rho).sqrt();
    (x, y)
}

/// The corrected estimate has no bias, the plug-in has the one stated, and the error is the spread; dependent and independent.
#[test]
fn bias_and_error_are_those_stated() -> Outcome<()> {
    const REPLICATES: usize = 16;
    let mut rng = rng(60);
    for (n, (p, q), rho) in [(60, (4, 3), 0.0_f64), (60, (4, 3), 0.6), (200, (2, 1), 0.9)] {
        let truth = -0.5 * q as f64 * (1.0 - rho * rho).ln();
        let (mut plugin, mut corrected, mut stated) = (0.0, Vec::new(), 0.0);
        for _ in 0..REPLICATES {
            let (x, y) = pairs(&mut rng, n, (p, q), rho);
            plugin += gaussian::mi_plugin_nats(x.view(), y.view())??.value / REPLICATES as f64;
            let estimate = gaussian::mi_corrected_nats(x.view(), y.view())??;
            corrected.push(estimate.value);
            stated += estimate.std_err.ok_or("stated")? / REPLICATES as f64;
        }
        let mean = corrected.iter().sum::<f64>() / REPLICATES as f64;
        let spread = (corrected.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 15.0).sqrt();
        let four = 4.0 * stated / (REPLICATES as f64).sqrt();
        assert!((mean - truth).abs() <= four, "{rho}: {mean} for {truth} within {four}");
        assert!((plugin - truth - (p * q) as f64 / (2.0 * n as f64)).abs() <= four);
        assert!((0.5..1.7).contains(&(spread / stated)), "{rho}: {spread} for {stated}");
    }
    Ok(())
}

/// Two Gaussian classes at distance 2 in `d` dimensions: the information by quadrature over the one direction that matters.
#[test]
fn crossfitted_information_is_low_by_what_it_says() -> Outcome<()> {
    let gauss = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = 1e-3;
    let truth: f64 = (-9000..9000)
        .map(|i| {
            let x = f64::from(i) * step;
            let (a, b) = (gauss(x - 1.0), gauss(x + 1.0));
            let all = 0.5 * (a + b);
            let part = |p: f64| if p > 0.0 { 0.5 * p * (p / all).ln() } else { 0.0 };
            (part(a) + part(b)) * step
        })
        .sum();
    let mut rng = rng(61);
    let (n, d, replicates) = (1000, 4, 16);
    let mut mean = 0.0;
    let mut stated = 0.0;
    for _ in 0..replicates {
        let y: Vec<usize> = (0..n).map(|i| i / 2 % 2).collect();
        let mut z = normal(&mut rng, (n, d));
        for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
            row[0] += if label == 0 { 1.0 } else { -1.0 };
        }
        let estimate = qda::crossfit_nats(z.view(), &y, 2)??;
        mean += estimate.value / f64::from(replicates);
        stated += estimate.std_err.ok_or("stated")? / f64::from(replicates);
    }
    let four = 4.0 * stated / f64::from(replicates).sqrt();
    // Low by the parameters of the classes, K·d(d + 3)/2 of them, over the rows, and not high.
    let bias = 2.0 * (d * (d + 3)) as f64 / 2.0 / n as f64;
    assert!(mean <= truth + four && mean >= truth - bias - four, "{mean} for {truth}");
    Ok(())
}

/// Intervals of two standard errors: of the corrected information about the truth, of the cross-fitted one about its own mean, which
/// is low.
#[test]
fn intervals_cover() -> Outcome<()> {
    let mut rng = rng(63);
    // 95.4 % of 200 with a binomial deviation of 3.
    let enough = |what: &str, found: &[(f64, f64)], truth: f64| {
        let inside = found.iter().filter(|(value, error)| (value - truth).abs() <= 2.0 * error);
        let count = inside.count();
        assert!((181..=200).contains(&count), "{what}: {count} of 200");
    };
    for (n, (p, q), rho) in [(100, (3, 2), 0.5), (400, (1, 1), 0.8)] {
        let mut found = Vec::new();
        for _ in 0..200 {
            let (x, y) = pairs(&mut rng, n, (p, q), rho);
            let estimate = gaussian::mi_corrected_nats(x.view(), y.view())??;
            found.push((estimate.value, estimate.std_err.ok_or("stated")?));
        }
        enough("corrected", &found, -0.5 * q as f64 * (1.0 - rho * rho).ln());
    }
    for distance in [0.7, 1.5] {
        let mut found = Vec::new();
        for _ in 0..200 {
            let y: Vec<usize> = (0..400).map(|_| rng.random_range(0..2)).collect();
            let mut z = normal(&mut rng, (400, 2));
            for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
                row[0] += if label == 0 { distance } else { -distance };
            }
            let estimate = qda::crossfit_nats(z.view(), &y, 2)??;
            found.push((estimate.value, estimate.std_err.ok_or("stated")?));
        }
        let mean = found.iter().map(|(value, _)| value).sum::<f64>() / 200.0;
        enough("cross-fitted", &found, mean);
    }
    Ok(())
}

#[test]
fn exact_relations_are_infinite_and_lone_ones_refused() -> Outcome<()> {
    let mut rng = rng(62);
    let x = normal(&mut rng, (50, 2));
    let y = x.dot(&normal(&mut rng, (2, 1))) + 3.0;
    let infinite = gaussian::mi_plugin_nats(x.view(), y.view())??;
    assert_eq!(infinite.value, f64::INFINITY);
    assert!(infinite.flags.contains(&Flag::RankDeficient { rank: 2, width: 3 }));
    let doubled = concatenate(Axis(1), &[x.view(), x.view()])?;
    let refused = gaussian::mi_plugin_nats(doubled.view(), normal(&mut rng, (50, 1)).view())?;
    assert!(matches!(
        refused,
        Err(NotIdentifiable::Singular { what: "covariance of x", rank: 2, width: 4, .. })
    ));
    let short =
        gaussian::mi_corrected_nats(x.slice(ndarray::s![..3, ..]), y.slice(ndarray::s![..3, ..]))?;
    assert_eq!(short, Err(NotIdentifiable::TooFewRows { class: None, have: 3, need: 4 }));
    let unpaired = gaussian::mi_plugin_nats(x.view(), y.slice(ndarray::s![1.., ..]));
    assert_eq!(unpaired, Err(Error::RowCount { left: 50, right: 49 }));
    Ok(())
}

#[test]
fn classes_that_cannot_be_fitted() -> Outcome<()> {
    let mut rng = rng(63);
    let z = normal(&mut rng, (40, 2));
    let mut y: Vec<usize> = (0..40).map(|i| i / 2 % 2).collect();
    y[0] = 3;
    let short = NotIdentifiable::TooFewRows { class: Some(3), have: 1, need: 3 };
    assert_eq!(qda::crossfit_nats(z.view(), &y, 5)?, Err(short));
    y[0] = 0;
    let estimate = qda::crossfit_nats(z.view(), &y, 5)??;
    assert!(estimate.flags.contains(&Flag::EmptyClasses(3)));
    let mut flat = z.clone();
    flat.column_mut(1).fill(4.0);
    let singular = qda::crossfit_nats(flat.view(), &y, 2)?;
    assert!(matches!(singular, Err(NotIdentifiable::Singular { rank: 1, width: 2, .. })));
    assert!(matches!(qda::crossfit_nats(z.view(), &y[1..], 5), Err(Error::LabelCount { .. })));
    assert_eq!(qda::crossfit_nats(Array2::<f32>::zeros((0, 2)).view(), &[], 5), Err(Error::NoRows));
    assert!(matches!(qda::crossfit_nats(z.view(), &y, 0), Err(Error::EmptyShape { .. })));
    Ok(())
}

#[test]
fn linear_channels_that_are_none() -> Outcome<()> {
    let (map, unit) = (Array2::<f64>::ones((2, 3)), Array2::<f64>::eye(3));
    let bad = |noise| gaussian::linear_channel_nats(map.view(), unit.view(), noise);
    assert!(
        matches!(bad(0.0), Err(Error::Parameter { .. }))
            && matches!(bad(f64::NAN), Err(Error::Parameter { .. }))
    );
    let odd = gaussian::linear_channel_nats(map.view(), map.view(), 1.0);
    assert!(matches!(odd, Err(Error::Shape { .. })));
    let negative = gaussian::linear_channel_nats(map.view(), (&unit * -1.0).view(), 1.0);
    assert!(matches!(negative, Err(Error::Parameter { .. })));
    // Two outputs that say the same of the sum of three: ½ ln(1 + 6).
    assert!(close(bad(1.0)?.value, 0.5 * 7.0_f64.ln(), 1e-14, 1.0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Maps of either side, and which side is called x, change nothing; more of x never tells less, in the plug-in.
    #[test]
    fn laws_of_information(seed in any::<u64>(), p in 1..4_usize, q in 1..4_usize, rho in 0.0..0.95_f64, scale in 1e-6..1e6_f64) {
        let mut rng = rng(seed);
        let (x, y) = pairs(&mut rng, 60, (p.max(q), p.min(q)), rho);
        let value = |x: &Array2<f64>, y: &Array2<f64>| Ok::<_, Error>(gaussian::mi_plugin_nats(x.view(), y.view())?.expect("enough rows").value);
        let plain = value(&x, &y)?;
        prop_assert!(plain >= -1e-12);
        let map = normal(&mut rng, (x.ncols(), x.ncols())) + Array2::<f64>::eye(x.ncols()) * 4.0;
        prop_assert!(close(value(&(x.dot(&map) * scale + 100.0 * scale), &y)?, plain, 1e-7, 1.0 + plain));
        prop_assert!(close(value(&y, &x)?, plain, 1e-11, 1.0 + plain));
        let more = concatenate(Axis(1), &[x.view(), normal(&mut rng, (60, 1)).view()]).expect("as many rows");
        prop_assert!(value(&more, &y)? >= plain - 1e-11);
    }
}
