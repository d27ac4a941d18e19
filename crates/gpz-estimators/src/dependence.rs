//! Distance correlation: zero in the population exactly where two samples' rows are independent.
//!
//! With `a_ij = ‖x_i − x_j‖` and `b_ij = ‖y_i − y_j‖` it correlates the two matrices after removing row and column means. Three
//! readings of it:
//!
//! | function | removes | at independence |
//! |---|---|---|
//! | [`distance_correlation_sq`], the one to use | bias; the square, may be negative | 0 on average, whatever `n` and the widths |
//! | [`distance_correlation_v`] | nothing | positive; towards 1 as widths grow at fixed `n` |
//! | [`independence_test`] | | Student's t of the first |
//!
//! In one dimension each `O(n log n)` operations; otherwise `n²·(d_x + d_y)`, on all threads. Memory is for the rows and some sixty
//! numbers a row; no matrix is made.
//!
//! ```
//! use gpz_estimators::dependence::{distance_correlation_sq, distance_correlation_v};
//! use ndarray::Array2;
//!
//! // y is a function of x, with no linear correlation.
//! let x = Array2::from_shape_fn((201, 1), |(row, _)| row as f64 - 100.0);
//! let y = x.mapv(|value| value * value);
//! assert!(distance_correlation_v(x.view(), y.view())??.value > 0.4);
//! assert!(distance_correlation_sq(x.view(), y.view())??.value > 0.2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//! Székely, Rizzo, Bakirov 2007 (V); Székely and Rizzo 2013, 2014 (U, t-test); Huo and Székely 2016 (`O(n log n)`).

use ndarray::{Array2, ArrayView2};
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Kind, NotIdentifiable, number};
use crate::oddities::Oddities;
use crate::rows::checked_pairs;
use crate::simd::Element;

mod sums;

use sums::{Pair, Sums};

/// Relative size below which a distance variance is rounding.
const VANISHES: f64 = 1e-12;

/// Bias-corrected squared distance correlation; dimensionless, at most 1, and negative about as often as not at independence.
///
/// - `x`: `[n, d_x]`, `y`: `[n, d_y]`, row `i` of the one belonging to row `i` of the other
///
/// A ratio of unbiased estimates (U-statistics), hence [`Kind::Heuristic`] with a bias of order `1/n`. Invariant under shifts,
/// rotations and one scale of each sample; not under a scale per dimension, so the largest dimensions decide. The standard error is
/// the exact jackknife's, whose variance is too large on average (Efron and Stein), most so at independence; test for that with
/// [`independence_test`].
///
/// # Errors
/// [`Error::RowCount`], [`Error::NonFinite`], [`Error::Magnitude`], [`Error::EmptyShape`], [`Error::NoRows`]. Inside:
/// [`NotIdentifiable::TooFewRows`] below four rows, [`NotIdentifiable::NoVariance`], [`NotIdentifiable::Equidistant`].
///
/// # Source
/// Székely and Rizzo, "Partial distance correlation", 2014.
pub fn distance_correlation_sq<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
) -> Result<Estimated, Error> {
    correlation(x, y, 4, unbiased, |ratio| ratio)
}

/// Distance correlation as first defined, the square root of a ratio of V-statistics; between 0 and 1.
///
/// - `x`: `[n, d_x]`, `y`: `[n, d_y]`
///
/// High on average, by much at small `n` and large widths: independent rows of many dimensions come out near 1. For comparison with
/// other libraries; [`distance_correlation_sq`] has no such bias. [`Kind::Heuristic`]; standard error by the exact jackknife.
///
/// # Errors
/// As [`distance_correlation_sq`]; two rows are enough, and rows at equal distances do not matter.
///
/// # Source
/// Székely, Rizzo, Bakirov, "Measuring and testing dependence by correlation of distances", 2007.
pub fn distance_correlation_v<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
) -> Result<Estimated, Error> {
    // A V-statistic of distances is a square: below zero is rounding.
    correlation(x, y, 2, biased, |ratio| ratio.max(0.0).sqrt())
}

/// A test of independence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IndependenceTest {
    /// Student's t.
    #[serde(serialize_with = "number")]
    pub statistic: f64,
    /// Its degrees of freedom, `n(n − 3)/2 − 1`.
    pub degrees_of_freedom: f64,
    /// Chance of as large a statistic at independence.
    pub p_value: f64,
}

/// Székely and Rizzo's t-test of independence, one-sided.
///
/// `t = √(ν − 1) R/√(1 − R²)` with `R` of [`distance_correlation_sq`] and `ν = n(n − 3)/2`. The law is Student's as the **widths** grow
/// with exchangeable dimensions, for any `n`. In few dimensions its tail is heavier than that: a small p-value is then too small.
///
/// - `x`: `[n, d_x]`, `y`: `[n, d_y]`, rows in pairs
///
/// ```
/// use gpz_estimators::dependence::independence_test;
/// use ndarray::Array2;
///
/// let x = Array2::from_shape_fn((60, 1), |(i, _)| (i as f64 * 0.618_033_988_749_894_9).fract());
/// let y = x.mapv(|value| (value - 0.5).powi(2));
/// let test = independence_test(x.view(), y.view())??;
/// assert_eq!(test.degrees_of_freedom, 60.0 * 57.0 / 2.0 - 1.0);
/// assert!(test.p_value < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`distance_correlation_sq`].
///
/// # Source
/// Székely and Rizzo, "The distance correlation t-test of independence in high dimension", 2013.
pub fn independence_test<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
) -> Result<Result<IndependenceTest, NotIdentifiable>, Error> {
    let estimate = match distance_correlation_sq(x, y)? {
        Ok(estimate) => estimate,
        Err(reason) => return Ok(Err(reason)),
    };
    let (n, r) = (estimate.n_effective, estimate.value);
    let degrees_of_freedom = n * (n - 3.0) / 2.0 - 1.0;
    if degrees_of_freedom < 1.0 {
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: n as u64, need: 5 }));
    }
    // Rounding may put a perfect correlation beyond 1.
    let statistic = degrees_of_freedom.sqrt() * r / (1.0 - r * r).max(0.0).sqrt();
    let student = StudentsT::new(0.0, 1.0, degrees_of_freedom).ok();
    let p_value = match student {
        _ if statistic == f64::INFINITY => 0.0,
        // Beyond a million degrees of freedom the two agree to 1e-6.
        Some(student) if degrees_of_freedom < 1e6 => student.sf(statistic),
        _ => Normal::standard().sf(statistic),
    };
    Ok(Ok(IndependenceTest { statistic, degrees_of_freedom, p_value }))
}

/// Totals over the pairs of rows from which a distance covariance follows.
#[derive(Debug, Clone, Copy)]
struct Totals {
    n: f64,
    /// `Σ_ij a_ij b_ij`.
    products: f64,
    /// `Σ_i a_i. b_i.`.
    rows: f64,
    /// `a.. b..`.
    all: f64,
}

/// Mean product of doubly centred distances.
fn biased(totals: Totals) -> f64 {
    let n = totals.n;
    totals.products / n / n - 2.0 * totals.rows / n / n / n + totals.all / n / n / n / n
}

/// Mean product of U-centred distances, an unbiased estimate of the population's distance covariance squared.
fn unbiased(totals: Totals) -> f64 {
    let n = totals.n;
    let rows = 2.0 * totals.rows / (n - 2.0);
    (totals.products - rows + totals.all / (n - 1.0) / (n - 2.0)) / (n * (n - 3.0))
}

fn correlation<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
    need: usize,
    covariance: fn(Totals) -> f64,
    finish: fn(f64) -> f64,
) -> Result<Estimated, Error> {
    let (x, y) = checked_pairs(x, y)?;
    let n = x.nrows();
    if n < need {
        return Ok(Err(NotIdentifiable::TooFewRows {
            class: None,
            have: n as u64,
            need: need as u64,
        }));
    }
    let odd = Oddities::of(&[x.view(), y.view()]);
    let (Some(x), Some(y)) = (scaled(x), scaled(y)) else {
        return Ok(Err(NotIdentifiable::NoVariance));
    };
    let sums = Sums::of(&x, &y);
    let value = |totals: [Totals; 3]| {
        let [both, left, right] = totals.map(covariance);
        finish(both / (left * right).sqrt())
    };
    let totals = Pair::ALL.map(|pair| totals(&sums, pair));
    for own in &totals[1..] {
        if covariance(*own) <= VANISHES * own.products / (n * n) as f64 {
            return Ok(Err(NotIdentifiable::Equidistant));
        }
    }
    let estimate = Estimate::new(value(totals), Kind::Heuristic, n as f64).odd(&odd);
    if n == need {
        return Ok(Ok(estimate));
    }
    let without: Vec<f64> = (0..n)
        .map(|row| {
            value([0, 1, 2].map(|which| without(&sums, Pair::ALL[which], totals[which], row)))
        })
        .collect();
    // None if all rows but one are equal: without that one there is nothing to correlate.
    Ok(Ok(estimate.jackknifed(&without)))
}

fn totals(sums: &Sums, pair: Pair) -> Totals {
    let (left, right) = sums.row_sums(pair);
    Totals {
        n: left.len() as f64,
        products: sums.products(pair).iter().sum(),
        rows: left.iter().zip(right).map(|(a, b)| a * b).sum(),
        all: left.iter().sum::<f64>() * right.iter().sum::<f64>(),
    }
}

/// The totals of all rows but one: a row takes its distances out of every other row's sum.
fn without(sums: &Sums, pair: Pair, totals: Totals, row: usize) -> Totals {
    let (left, right) = sums.row_sums(pair);
    let own = sums.products(pair)[row];
    let (sum_left, sum_right) = sums.all(pair);
    Totals {
        n: totals.n - 1.0,
        products: totals.products - 2.0 * own,
        rows: totals.rows - left[row] * right[row] - sums.crossed(pair, row) + own,
        all: (sum_left - 2.0 * left[row]) * (sum_right - 2.0 * right[row]),
    }
}

/// Rows about their mean in units of their largest coordinate, so that sums of products neither overflow nor vanish; none if all
/// rows are equal. Correlations do not see either.
fn scaled(mut rows: Array2<f64>) -> Option<Array2<f64>> {
    let first = rows.row(0).to_owned();
    rows -= &first;
    let scale = rows.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
    if scale == 0.0 {
        return None;
    }
    rows.mapv_inplace(|value| value / scale);
    let mean = rows.sum_axis(ndarray::Axis(0)) / rows.nrows() as f64;
    rows -= &mean;
    Some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Sums over pairs by sorting are those by going through all pairs, ties in either sample or not.
        #[test]
        fn sorting_equals_all_pairs(
            points in prop::collection::vec((-6..6_i32, -6..6_i32), 2..60),
            smooth in any::<bool>(),
        ) {
            let n = points.len();
            let step = |row: usize| if smooth { 1e-3 * (row as f64).sin() } else { 0.0 };
            let column = |pick: fn(&(i32, i32)) -> i32| {
                Array2::from_shape_fn((n, 1), |(row, _)| f64::from(pick(&points[row])) + step(row))
            };
            let (Some(x), Some(y)) = (scaled(column(|p| p.0)), scaled(column(|p| p.1))) else {
                return Ok(());
            };
            let (fast, slow) = (Sums::by_sorting(&x, &y), Sums::by_pairs(&x, &y));
            for pair in Pair::ALL {
                for row in 0..n {
                    let scale = (n * n) as f64;
                    let same = |a: f64, b: f64| (a - b).abs() <= 1e-14 * scale;
                    prop_assert!(same(fast.products(pair)[row], slow.products(pair)[row]));
                    prop_assert!(same(fast.row_sums(pair).0[row], slow.row_sums(pair).0[row]));
                    prop_assert!(same(fast.row_sums(pair).1[row], slow.row_sums(pair).1[row]));
                    prop_assert!(same(fast.crossed(pair, row), slow.crossed(pair, row)));
                }
            }
        }
    }
}
