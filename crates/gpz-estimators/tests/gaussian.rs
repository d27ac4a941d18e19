//! The Gaussian family against stored cases, brute force, its laws, and the bias it claims.
#![cfg(feature = "lapack-base")]

mod common;

use common::case::{Case, Outcome};
use common::{close, labels, normal, rng, rotation};
use gpz_estimators::gaussian::{self, MaximumEntropy, Shrunk};
use gpz_estimators::{
    ClassMoments, Error, Estimate, Flag, Kind, NotIdentifiable, Uncertainty, entropy,
};
use ndarray::{Array2, ArrayView2, Axis};
use proptest::prelude::*;

#[test]
fn stored_classes() -> Outcome<()> {
    for (id, classes) in [("gmm_1d_c3", 3), ("gmm_2d_c2", 2), ("gmm_identical_classes", 2)] {
        let case = Case::open(id)?;
        let (z, y) = (case.matrix("z")?, case.labels()?);
        let corrected = gaussian::class_conditional_corrected_nats(z.view(), &y, classes)??;
        case.check("class_cond_gauss_entropy_wishart", &[corrected.value]);
        case.check_kind("population", "entropy_z_given_y", &[corrected.value]);
        let (std_err, how) = (corrected.std_err.ok_or("no error")?, corrected.uncertainty);
        assert!(std_err > 0.0 && std_err < 0.05 && how == Some(Uncertainty::Formula));
        assert_eq!(corrected.kind, Kind::Heuristic);
        let plugin = gaussian::class_conditional_bound_nats(z.view(), &y, classes)??;
        case.check("class_cond_gauss_entropy", &[plugin.value]);
    }
    for id in ["h_uniform_cube3", "h_exponential_1"] {
        let case = Case::open(id)?;
        let bound = gaussian::full_bound_nats(case.matrix("z")?.view())??;
        case.check("gaussian_plugin_entropy", &[bound.value]);
    }
    let case = Case::open("cond_scales_1e-8_1e8")?;
    let z = case.matrix("z")?;
    case.check("logdet_cov", &[gaussian::log_det_nats(z.view())??.value]);
    case.check_kind(
        "population",
        "entropy_z",
        &[gaussian::entropy_corrected_nats(z.view())??.value],
    );
    Ok(())
}

#[test]
fn stored_spiked_covariance() -> Outcome<()> {
    let case = Case::open("mp_spiked_1000x250")?;
    let z = case.matrix("z")?.mapv(|value| value as f32);
    case.check("logdet_naive", &[gaussian::log_det_nats(z.view())??.value]);
    let corrected = gaussian::log_det_corrected_nats(z.view())??;
    case.check("logdet_wishart_corrected", &[corrected.value]);
    case.check_kind("population", "logdet_population", &[corrected.value]);
    let shrunk = gaussian::ledoit_wolf(z.view())??;
    case.check("ledoit_wolf_shrinkage", &[shrunk.shrinkage]);
    case.check("ledoit_wolf_logdet", &[shrunk.log_det.value]);
    case.check("ledoit_wolf_entropy", &[shrunk.entropy.value]);
    Ok(())
}

/// Ledoit and Wolf's numbers by their definition, with the `D × D` covariance.
fn ledoit_wolf_by_definition(z: &Array2<f64>) -> (f64, Array2<f64>) {
    let (n, d) = (z.nrows() as f64, z.ncols() as f64);
    let x = z - &z.mean_axis(Axis(0)).expect("rows");
    let s = x.t().dot(&x) / n;
    let mu = s.diag().sum() / d;
    let target = Array2::<f64>::eye(z.ncols()) * mu;
    let norm = |m: &Array2<f64>| m.iter().map(|v| v * v).sum::<f64>() / d;
    let delta = norm(&(&s - &target));
    let mut beta = 0.0;
    for row in x.rows() {
        let column = row.insert_axis(Axis(1));
        beta += norm(&(column.dot(&column.t()) - &s)) / (n * n);
    }
    let a = beta.min(delta) / delta;
    (a, &s * (1.0 - a) + &target * a)
}

/// Log-determinant of a positive definite matrix by elimination.
fn log_det(mut m: Array2<f64>) -> f64 {
    let n = m.nrows();
    let mut value = 0.0;
    for i in 0..n {
        value += m[[i, i]].ln();
        for j in i + 1..n {
            let factor = m[[j, i]] / m[[i, i]];
            for k in i..n {
                m[[j, k]] -= factor * m[[i, k]];
            }
        }
    }
    value
}

/// Both forms, `D ≤ N` and `D > N`, against the definition.
#[test]
fn shrinkage_is_that_of_the_definition() -> Outcome<()> {
    let mut rng = rng(70);
    for (n, d) in [(40, 7), (9, 9), (8, 9), (12, 60), (3, 5)] {
        let z = normal(&mut rng, (n, d)) + 3.0;
        let (a, covariance) = ledoit_wolf_by_definition(&z);
        let shrunk = gaussian::ledoit_wolf(z.view())??;
        assert!(close(shrunk.shrinkage, a, 1e-11, 1.0), "{n} x {d}: {} for {a}", shrunk.shrinkage);
        let want = log_det(covariance);
        assert!(close(shrunk.log_det.value, want, 1e-9, 1.0 + want.abs()));
        let entropy = entropy::isotropic_gaussian_nats(d, 1.0) + 0.5 * want;
        assert!(close(shrunk.entropy.value, entropy, 1e-9, 1.0 + entropy.abs()));
        let deficient =
            shrunk.entropy.flags.contains(&Flag::RankDeficient { rank: n - 1, width: d });
        assert_eq!(deficient, n <= d);

        let x = &z - &z.mean_axis(Axis(0)).ok_or("rows")?;
        let s = x.t().dot(&x) / n as f64;
        let (square, trace) = (s.iter().map(|v| v * v).sum::<f64>(), s.diag().sum());
        let (n, d) = (n as f64, d as f64);
        let want = ((1.0 - 2.0 / d) * square + trace * trace)
            / ((n + 1.0 - 2.0 / d) * (square - trace * trace / d));
        let shrunk = gaussian::oas(z.view())??;
        assert!(close(shrunk.shrinkage, want.min(1.0), 1e-11, 1.0));
    }
    Ok(())
}

#[test]
fn what_cannot_be_shrunk_says_so() -> Outcome<()> {
    let same = Array2::from_elem((4, 3), 2.0_f32);
    assert_eq!(gaussian::ledoit_wolf(same.view())?, Err(NotIdentifiable::NoVariance));
    let one = Array2::from_elem((1, 3), 2.0_f32);
    assert_eq!(gaussian::oas(one.view())?, Err(NotIdentifiable::NoVariance));
    let none = Array2::<f32>::zeros((0, 3));
    assert_eq!(gaussian::oas(none.view()), Err(Error::NoRows));
    assert!(matches!(
        gaussian::oas(Array2::<f32>::zeros((3, 0)).view()),
        Err(Error::EmptyShape { .. })
    ));
    let mut bad = normal(&mut rng(1), (5, 3));
    bad[[3, 1]] = f64::NAN;
    assert!(matches!(
        gaussian::ledoit_wolf(bad.view()),
        Err(Error::NonFinite { row: 3, column: 1, .. })
    ));
    // Two rows: the estimated error of their covariance is zero exactly, whatever rounding says.
    let two = gaussian::ledoit_wolf(normal(&mut rng(3), (2, 5)).view())??;
    assert_eq!((two.shrinkage, two.log_det.value), (0.0, f64::NEG_INFINITY));
    assert!(two.entropy.flags.contains(&Flag::DegenerateSupport));
    // One dimension: the sample's variance, nothing to shrink towards.
    let line = normal(&mut rng(2), (30, 1));
    let shrunk = gaussian::ledoit_wolf(line.view())??;
    assert_eq!(shrunk.shrinkage, 0.0);
    assert!(close(shrunk.log_det.value, shrunk.mean_variance.ln(), 1e-13, 1.0));
    Ok(())
}

/// Few rows for many dimensions, so that the naive values are off by many standard errors and the corrected ones by none.
#[test]
fn corrected_values_have_no_bias_and_the_error_they_state() -> Outcome<()> {
    const REPLICATES: usize = 16;
    let mut rng = rng(71);
    for (n, d) in [(30, 20), (100, 40)] {
        let mut naive = Vec::new();
        let mut corrected: Vec<Estimate> = Vec::new();
        for _ in 0..REPLICATES {
            let z = normal(&mut rng, (n, d));
            naive.push(gaussian::log_det_nats(z.view())??.value);
            corrected.push(gaussian::log_det_corrected_nats(z.view())??);
        }
        let root = (REPLICATES as f64).sqrt();
        let std_err = corrected[0].std_err.ok_or("no error")?;
        let mean = corrected.iter().map(|e| e.value).sum::<f64>() / REPLICATES as f64;
        assert!(mean.abs() <= 4.0 * std_err / root, "{n} x {d}: {mean}");
        let naive = naive.iter().sum::<f64>() / REPLICATES as f64;
        let bias = gaussian::log_det_bias(d, n as u64 - 1);
        assert!((naive - bias).abs() <= 4.0 * std_err / root && bias < -4.0 * std_err / root);
        let spread = corrected.iter().map(|e| (e.value - mean).powi(2)).sum::<f64>() / 15.0;
        // χ² with 15 degrees of freedom lies between 3.5 and 40 but for one in a thousand.
        assert!((3.5..40.0).contains(&(15.0 * spread / std_err.powi(2))), "{n} x {d}: {spread}");
    }
    Ok(())
}

/// `h(Z|Y)` of two classes in 16 dimensions: the interval of two standard errors covers as it should.
#[test]
fn class_conditional_entropy_covers() -> Outcome<()> {
    let mut rng = rng(72);
    let (d, scale) = (16, 0.5_f64);
    let want = entropy::isotropic_gaussian_nats(d, 1.0) + 0.5 * d as f64 * scale.ln();
    let mut covered = 0;
    for _ in 0..100 {
        let y = labels(&mut rng, 200, 2);
        let mut z = normal(&mut rng, (200, d));
        for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
            row *= if label == 1 { scale } else { 1.0 };
        }
        let estimate = gaussian::class_conditional_corrected_nats(z.view(), &y, 2)??;
        let reach = 2.0 * estimate.std_err.ok_or("no error")?;
        covered += usize::from((estimate.value - want).abs() <= reach);
    }
    // 95.4 of 100 expected; three standard deviations are 6.3.
    assert!(covered >= 89, "{covered}");
    Ok(())
}

#[test]
fn classes_too_small_or_absent() -> Outcome<()> {
    let z = normal(&mut rng(73), (20, 3));
    let mut y = vec![0; 20];
    y[..3].fill(2);
    let short = NotIdentifiable::TooFewRows { class: Some(2), have: 3, need: 4 };
    assert_eq!(gaussian::class_conditional_corrected_nats(z.view(), &y, 4)?, Err(short.clone()));
    assert_eq!(gaussian::mixture_full_bound_nats(z.view(), &y, 4)?, Err(short));
    y[..4].fill(2);
    let estimate = gaussian::class_conditional_corrected_nats(z.view(), &y, 4)??;
    assert!(estimate.flags.contains(&Flag::EmptyClasses(2)));
    let mixture = gaussian::mixture_full_bound_nats(z.view(), &y, 4)??;
    assert!(mixture.flags.contains(&Flag::EmptyClasses(2)));
    let mut moments = ClassMoments::new(4, 3)?;
    moments.update(z.view(), &y)?;
    assert_eq!(
        gaussian::class_diagonal_bound_nats(&moments, 1),
        Err(NotIdentifiable::EmptyClass { class: 1 })
    );
    assert!(
        gaussian::mixture_diagonal_bound_nats(&moments)??.flags.contains(&Flag::EmptyClasses(2))
    );
    Ok(())
}

#[test]
fn a_constant_dimension_takes_the_bounds_to_minus_infinity() -> Outcome<()> {
    let mut z = normal(&mut rng(74), (30, 3));
    z.column_mut(1).fill(0.1);
    let bounds = MaximumEntropy::of(z.view())?;
    let diagonal = bounds.diagonal.clone()?;
    assert_eq!(diagonal.value, f64::NEG_INFINITY);
    assert!(diagonal.flags.contains(&Flag::ConstantDimensions(1)));
    assert!(diagonal.flags.contains(&Flag::DegenerateSupport));
    assert_eq!(bounds.isotropic_over_diagonal_nats(), Some(f64::INFINITY));
    assert_eq!(bounds.diagonal_over_full_nats(), None);
    let corrected = gaussian::entropy_corrected_nats(z.view())??;
    assert_eq!(corrected.value, f64::NEG_INFINITY);
    Ok(())
}

/// Correlated rows with classes of their own scales, enough rows of each.
fn classes_of_rows() -> impl Strategy<Value = (Array2<f64>, Vec<usize>, usize)> {
    (any::<u64>(), 1..4_usize, 1..6_usize).prop_map(|(seed, classes, width)| {
        let mut rng = rng(seed);
        let n = 60;
        let mix = normal(&mut rng, (width, width)) + Array2::<f64>::eye(width);
        let mut z = normal(&mut rng, (n, width)).dot(&mix);
        let y: Vec<usize> = (0..n).map(|i| i % classes).collect();
        for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
            row.mapv_inplace(|value| value * (1.0 + label as f64) + label as f64);
        }
        (z, y, classes)
    })
}

fn value(estimate: Result<Result<Estimate, NotIdentifiable>, Error>) -> f64 {
    estimate.expect("clean rows").expect("enough rows").value
}

fn shrinkages(z: ArrayView2<'_, f64>) -> [Shrunk; 2] {
    [gaussian::ledoit_wolf(z), gaussian::oas(z)]
        .map(|shrunk| shrunk.expect("clean rows").expect("rows that vary"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn isotropic_over_diagonal_over_full((z, y, k) in classes_of_rows()) {
        for bounds in [MaximumEntropy::of(z.view())?, MaximumEntropy::of_classes(z.view(), &y, k)?] {
            let gaps = [bounds.isotropic_over_diagonal_nats(), bounds.diagonal_over_full_nats()];
            prop_assert!(gaps.iter().all(|gap| gap.is_some_and(|gap| gap >= -1e-10)), "{gaps:?}");
            prop_assert!(bounds.full.is_ok_and(|full| full.flags.contains(&Flag::PlugInOfUpperBound)));
        }
    }

    /// h(AZ + b) = h(Z) + ln|det A|, for the full bound and any A; the diagonal bound obeys it for scales of columns.
    #[test]
    fn affine_maps((z, _, _) in classes_of_rows(), seed in any::<u64>(), scale in 1e-6..1e6_f64, shift in -1e3..1e3_f64) {
        let d = z.ncols();
        let moved = z.dot(&rotation(seed, d)) * scale + shift;
        let (before, after) = (value(gaussian::full_bound_nats(z.view())), value(gaussian::full_bound_nats(moved.view())));
        prop_assert!(close(after - before, d as f64 * scale.ln(), 1e-6, 1.0 + before.abs() + after.abs()));
        let (before, after) = (value(gaussian::log_det_corrected_nats(z.view())), value(gaussian::log_det_corrected_nats((&z * scale).view())));
        prop_assert!(close(after - before, 2.0 * d as f64 * scale.ln(), 1e-9, 1.0 + before.abs() + after.abs()));
    }

    /// Shrinkage lies between zero and one, does not change with a rotation, shift or common scale, and keeps the trace.
    #[test]
    fn shrinkage_laws(seed in any::<u64>(), n in 2..30_usize, d in 1..30_usize, scale in 1e-3..1e3_f64) {
        let z = normal(&mut rng(seed), (n, d));
        let moved = z.dot(&rotation(seed ^ 1, d)) * scale + 7.0 * scale;
        for (plain, moved) in shrinkages(z.view()).into_iter().zip(shrinkages(moved.view())) {
            prop_assert!((0.0..=1.0).contains(&plain.shrinkage));
            prop_assert!(close(plain.shrinkage, moved.shrinkage, 1e-8, 1.0));
            prop_assert!(close(plain.mean_variance * scale * scale, moved.mean_variance, 1e-9, moved.mean_variance));
            // The isotropic bound is the entropy of the fully shrunk covariance, and no other is larger.
            let most = entropy::isotropic_gaussian_nats(d, plain.mean_variance);
            prop_assert!(plain.entropy.value <= most + 1e-9 * (1.0 + most.abs()));
            if plain.log_det.value.is_finite() {
                let want = plain.log_det.value + 2.0 * d as f64 * scale.ln();
                prop_assert!(close(moved.log_det.value, want, 1e-6, 1.0 + want.abs()));
            }
        }
    }
}
