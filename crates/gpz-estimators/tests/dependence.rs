//! Distance correlation: stored values, laws, and the plain formulas.

mod common;

use std::f64::consts::PI;

use common::case::{Case, Outcome};
use common::{close, normal, rng};
use gpz_estimators::dependence::{
    distance_correlation_sq, distance_correlation_v, independence_test,
};
use gpz_estimators::{Error, NotIdentifiable};
use ndarray::{Array2, ArrayView2, Axis, array, s};
use proptest::prelude::*;

#[test]
fn the_stored_case() -> Outcome<()> {
    let case = Case::open("dcor_gauss_rho05")?;
    let (x, y) = (case.matrix("x")?, case.matrix("y")?);
    case.check("dcor_v", &[distance_correlation_v(x.view(), y.view())??.value]);
    let squared = distance_correlation_sq(x.view(), y.view())??.value;
    case.check("dcor_u_sqr", &[squared]);
    case.check("dcor_population", &[squared.sqrt()]);
    // A second column of zeros changes no distance, and takes the way through all pairs.
    let widened = |column: &Array2<f64>| {
        ndarray::concatenate![Axis(1), *column, Array2::zeros(column.raw_dim())]
    };
    let (x, y) = (widened(&x), widened(&y));
    case.check("dcor_v", &[distance_correlation_v(x.view(), y.view())??.value]);
    case.check("dcor_u_sqr", &[distance_correlation_sq(x.view(), y.view())??.value]);
    Ok(())
}

/// Distances of all pairs with their row and column means removed as V (`n`) or U (`n − 2`) has it.
fn centred(rows: ArrayView2<'_, f64>, unbiased: bool) -> Array2<f64> {
    let n = rows.nrows();
    let a = Array2::from_shape_fn((n, n), |(i, j)| {
        rows.row(i).iter().zip(rows.row(j)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    });
    let count = n as f64;
    let (divisor, all) = if unbiased {
        (count - 2.0, (count - 1.0) * (count - 2.0))
    } else {
        (count, count * count)
    };
    let sums = a.sum_axis(Axis(0));
    let total = a.sum();
    Array2::from_shape_fn((n, n), |(i, j)| {
        if unbiased && i == j {
            return 0.0;
        }
        a[[i, j]] - sums[i] / divisor - sums[j] / divisor + total / all
    })
}

/// `[V, U²]` with the matrices written out.
fn oracle(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> [f64; 2] {
    [false, true].map(|unbiased| {
        let (a, b) = (centred(x, unbiased), centred(y, unbiased));
        let ratio = (&a * &b).sum() / ((&a * &a).sum() * (&b * &b).sum()).sqrt();
        if unbiased { ratio } else { ratio.max(0.0).sqrt() }
    })
}

fn both(x: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>) -> Outcome<[f64; 2]> {
    Ok([distance_correlation_v(x, y)??.value, distance_correlation_sq(x, y)??.value])
}

/// Leaving out each row in turn, with the plain formulas.
#[test]
fn jackknife_is_the_plain_one() -> Outcome<()> {
    for (d, seed) in [(1, 4), (3, 5)] {
        let x = normal(&mut rng(seed), (25, d));
        let y = &x + &normal(&mut rng(seed + 10), (25, d));
        let without = |row: usize| {
            let kept: Vec<usize> = (0..25).filter(|&other| other != row).collect();
            oracle(x.select(Axis(0), &kept).view(), y.select(Axis(0), &kept).view())
        };
        let values: Vec<[f64; 2]> = (0..25).map(without).collect();
        let estimates = [
            distance_correlation_v(x.view(), y.view())??,
            distance_correlation_sq(x.view(), y.view())??,
        ];
        for (which, estimate) in estimates.iter().enumerate() {
            let mean = values.iter().map(|value| value[which]).sum::<f64>() / 25.0;
            let spread: f64 = values.iter().map(|value| (value[which] - mean).powi(2)).sum();
            let want = (24.0 / 25.0 * spread).sqrt();
            let got = estimate.std_err.ok_or("a jackknife")?;
            assert!(close(got, want, 1e-8, want), "{d} {which}: {got} {want}");
        }
    }
    Ok(())
}

/// Székely, Rizzo and Bakirov 2007, theorem 7: the square for a Gaussian pair.
fn gaussian_sq(rho: f64) -> f64 {
    let numerator = rho * rho.asin() + (1.0 - rho * rho).sqrt()
        - rho * (rho / 2.0).asin()
        - (4.0 - rho * rho).sqrt()
        + 1.0;
    numerator / (1.0 + PI / 3.0 - 3.0_f64.sqrt())
}

fn pair(seed: u64, n: usize, rho: f64) -> (Array2<f64>, Array2<f64>) {
    let mut rng = rng(seed);
    let x = normal(&mut rng, (n, 1));
    let y = &x * rho + normal(&mut rng, (n, 1)) * (1.0 - rho * rho).sqrt();
    (x, y)
}

#[test]
fn the_unbiased_one_is_unbiased_and_the_other_is_not() -> Outcome<()> {
    // A ratio's bias is of order 1/n; a twentieth of 1/n·10 covers it at this n.
    for rho in [0.0, 0.5] {
        let values = (0..16)
            .map(|seed| {
                let (x, y) = pair(seed, 400, rho);
                both(x.view(), y.view())
            })
            .collect::<Outcome<Vec<_>>>()?;
        let mean = values.iter().map(|value| value[1]).sum::<f64>() / 16.0;
        let spread: f64 = values.iter().map(|value| (value[1] - mean).powi(2)).sum();
        let error = (spread / 15.0 / 16.0).sqrt();
        let bias = mean - gaussian_sq(rho);
        assert!(bias.abs() <= 0.005 + 4.0 * error, "{rho}: {mean} {}", gaussian_sq(rho));
        let v = values.iter().map(|value| value[0] * value[0]).sum::<f64>() / 16.0;
        assert!(v > mean, "{rho}: {v} {mean}");
    }
    // Independent, many dimensions, few rows: V says dependent, U does not.
    let (x, y) = (normal(&mut rng(1), (30, 200)), normal(&mut rng(2), (30, 200)));
    let [v, u] = both(x.view(), y.view())?;
    assert!(v > 0.9 && u.abs() < 0.2, "{v} {u}");
    Ok(())
}

#[test]
fn intervals_cover() -> Outcome<()> {
    let truth = gaussian_sq(0.6);
    let mut covered = 0;
    for seed in 0..300 {
        let (x, y) = pair(seed, 200, 0.6);
        let estimate = distance_correlation_sq(x.view(), y.view())??;
        let reach = 1.96 * estimate.std_err.ok_or("a jackknife")?;
        covered += usize::from((estimate.value - truth).abs() <= reach);
    }
    assert!((270..=297).contains(&covered), "{covered} of 300");
    Ok(())
}

/// In many dimensions the t-test rejects a true hypothesis as often as it says, and a false one always.
#[test]
fn the_test_keeps_its_level() -> Outcome<()> {
    let mut rejected = 0;
    for seed in 0..200 {
        let (x, y) = (normal(&mut rng(seed), (20, 60)), normal(&mut rng(seed + 1000), (20, 60)));
        let test = independence_test(x.view(), y.view())??;
        assert_eq!(test.degrees_of_freedom, 169.0);
        rejected += usize::from(test.p_value < 0.1);
    }
    // 10 % of 200, standard error 4.2.
    assert!((3..=37).contains(&rejected), "{rejected} of 200");
    let (x, y) = pair(7, 400, 0.7);
    assert!(independence_test(x.view(), y.view())??.p_value < 1e-10);
    let same = independence_test(x.view(), x.view())??;
    assert!(same.p_value < 1e-10, "{same:?}");
    Ok(())
}

#[test]
fn what_cannot_be_told_is_said() -> Outcome<()> {
    let x = normal(&mut rng(1), (6, 2));
    let flat = Array2::<f64>::ones((6, 1));
    assert_eq!(distance_correlation_sq(x.view(), flat.view())?, Err(NotIdentifiable::NoVariance));
    let corners = Array2::<f64>::eye(6);
    assert_eq!(
        distance_correlation_sq(x.view(), corners.view())?,
        Err(NotIdentifiable::Equidistant)
    );
    assert!(distance_correlation_v(x.view(), corners.view())?.is_ok());
    let few = |n: usize| distance_correlation_sq(x.slice(s![..n, ..]), x.slice(s![..n, ..]));
    assert_eq!(few(0), Err(Error::NoRows));
    assert_eq!(few(1)?, Err(NotIdentifiable::TooFewRows { class: None, have: 1, need: 4 }));
    assert_eq!(few(4)??.std_err, None);
    assert_eq!(
        distance_correlation_v(x.view(), x.slice(s![..3, ..])),
        Err(Error::RowCount { left: 6, right: 3 })
    );
    // All rows but one are equal: without that one nothing varies.
    let spike = array![[0.0], [0.0], [0.0], [0.0], [0.0], [5.0]];
    assert_eq!(distance_correlation_v(x.view(), spike.view())??.std_err, None);
    let bad = array![[1.0], [f64::INFINITY]];
    assert!(matches!(
        distance_correlation_v(bad.view(), bad.view()),
        Err(Error::NonFinite { row: 1, .. })
    ));
    Ok(())
}

#[test]
fn threads_do_not_change_a_bit() -> Outcome<()> {
    let mut seen = Vec::new();
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        seen.push(pool.install(|| {
            let x = normal(&mut rng(1), (1500, 3));
            let y = &x + &normal(&mut rng(2), (1500, 3));
            let columns = (x.slice(s![.., ..1]), y.slice(s![.., ..1]));
            let wide = distance_correlation_sq(x.view(), y.view());
            (wide, distance_correlation_sq(columns.0, columns.1))
        }));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equals_the_plain_formula(seed in any::<u64>(), n in 5..40_usize, d in 1..4_usize, e in 1..4_usize, steps in prop_oneof![Just(0.0), 0.5..3.0_f64]) {
        // Rounded to steps there are ties, so also rows that are equal.
        let rounded = |rows: Array2<f64>| rows.mapv(|v| if steps > 0.0 { (v * steps).round() } else { v });
        let x = rounded(normal(&mut rng(seed), (n, d)));
        let y = rounded(normal(&mut rng(seed ^ 1), (n, e)));
        let want = oracle(x.view(), y.view());
        let (v, u) = (distance_correlation_v(x.view(), y.view())?, distance_correlation_sq(x.view(), y.view())?);
        match (v, u) {
            (Ok(v), Ok(u)) => {
                // The root magnifies what rounding leaves of a square near zero.
                prop_assert!(close(v.value, want[0], 1e-7, 1.0), "{} {}", v.value, want[0]);
                prop_assert!(close(u.value, want[1], 1e-9, 1.0), "{} {}", u.value, want[1]);
                prop_assert!((0.0..=1.0 + 1e-12).contains(&v.value) && u.value <= 1.0 + 1e-12);
            }
            (v, u) => prop_assert!(v.is_err() || u.is_err()),
        }
    }

    /// Shifts, rotations by a right angle, scales and the order of rows change nothing; a sample is wholly dependent on itself.
    #[test]
    fn laws(seed in any::<u64>(), n in 5..40_usize, d in 1..4_usize, scale in prop_oneof![-1e6..-1e-6_f64, 1e-6..1e6_f64], shift in -1e3..1e3_f64) {
        let x = normal(&mut rng(seed), (n, d));
        let y = &x + &normal(&mut rng(seed ^ 1), (n, d));
        let plain = both(x.view(), y.view()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let mut moved = x.mapv(|value| scale * value + shift);
        moved.invert_axis(Axis(1));
        let again = both(moved.view(), y.view()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let digits = 1e-12 * (1.0 + shift.abs() / scale.abs());
        for (a, b) in plain.iter().zip(again) {
            prop_assert!(close(*a, b, 100.0 * digits.min(1.0), 1.0), "{} {}", a, b);
        }
        let turned = both(y.view(), x.view()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(close(plain[0], turned[0], 1e-12, 1.0) && close(plain[1], turned[1], 1e-12, 1.0));
        let (mut x, mut y) = (x, y);
        x.invert_axis(Axis(0));
        y.invert_axis(Axis(0));
        let reversed = both(x.view(), y.view()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(close(plain[0], reversed[0], 1e-10, 1.0) && close(plain[1], reversed[1], 1e-10, 1.0));
        let own = both(x.view(), x.view()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert!(close(own[0], 1.0, 1e-12, 1.0) && close(own[1], 1.0, 1e-12, 1.0));
    }
}
