//! Entropies of codes, which bound the information that a deterministic channel lets through.

use std::f64::consts::{E, PI};

use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use super::attacker::from_given;
use super::{Given, positive};
use crate::entropy::discrete::{Codes, x_ln_x};
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};

/// Columns of a piece of work.
const BLOCK_COLUMNS: usize = 64;

fn shape_of(codes: ArrayView2<'_, i64>) -> Result<(usize, usize), Error> {
    let (n, width) = codes.dim();
    super::width_of(width)?;
    if n == 0 { Err(Error::NoRows) } else { Ok((n, width)) }
}

/// `H(Z') ≥ I(X;Z')` of whole rows of codes, plug-in, in nats; equal to `I(X;Z')` when the codes follow from `X`.
///
/// - `codes`: `[n, d]`
///
/// The plug-in is low by about `(K − 1)/(2n)` with `K` the codes that occur, and cannot exceed `ln n`: with features of more than a few
/// dimensions each row has a code of its own, and the value is `ln n` whatever the encoder. [`Flag::Saturated`] says so. Standard
/// error by the exact jackknife; none where saturated. A plug-in of an upper bound of `I(X;Z')`, hence [`Kind::Heuristic`]; as an
/// estimate of the codes' entropy itself see [`plugin_entropy_nats`](crate::entropy::discrete::plugin_entropy_nats).
///
/// ```
/// use gpz_estimators::channel::code_entropy_nats;
/// use ndarray::array;
///
/// let entropy = code_entropy_nats(array![[0, 5], [1, 5], [0, 5], [1, 5]].view())?; // two codes, evenly
/// assert!((entropy.value - 2.0_f64.ln()).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::NoRows`].
///
/// # Source
/// Data processing: Cover and Thomas, theorem 2.8.1; the bias: Miller 1955, Paninski 2003.
pub fn code_entropy_nats(codes: ArrayView2<'_, i64>) -> Result<Estimate, Error> {
    let (n, _) = shape_of(codes)?;
    let codes = Codes::by(n, |&a, &b| codes.row(a).iter().cmp(codes.row(b).iter()))?;
    let (rows, sum) = (n as f64, codes.sum_of_logs());
    let of_row = |&symbol: &usize| left_out(sum, codes.counts()[symbol], rows);
    let without: Vec<f64> = codes.symbols().iter().map(of_row).collect();
    Ok(plug_in(rows.ln() - sum / rows, n, 1, &without))
}

/// The entropy without one row whose code occurs `count` times; `sum` is `Σ c ln c`.
fn left_out(sum: f64, count: u64, n: f64) -> f64 {
    (n - 1.0).ln() - (sum - x_ln_x(count) + x_ln_x(count - 1)) / (n - 1.0)
}

fn plug_in(value: f64, n: usize, dimensions: usize, without: &[f64]) -> Estimate {
    let estimate = Estimate::new(value, Kind::Heuristic, n as f64)
        .flag(true, Flag::PlugInOfUpperBound)
        .ceiling(dimensions as f64 * (n as f64).ln());
    // Where nearly every code occurs once, leaving one out changes nothing, and the error would be zero of a value that is wrong.
    if n < 2 || estimate.flags.contains(&Flag::Saturated) {
        return estimate;
    }
    estimate.jackknifed(without)
}

/// `Σ_j H(Z'_j) ≥ H(Z') ≥ I(X;Z')`, each dimension's entropy by plug-in, in nats.
///
/// - `codes`: `[n, d]`; `8·n` bytes for each 64 dimensions beside them
///
/// Each plug-in is low by about `(K_j − 1)/(2n)` with `K_j` the codes of the dimension that occur, and cannot exceed `ln n`: wants many
/// more rows than codes. What dimensions tell together is counted as often as it is told, so the sum is far above `H(Z')` where they
/// depend on each other. Standard error by the exact jackknife over rows.
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::NoRows`].
///
/// # Source
/// As [`code_entropy_nats`]; the sum: Cover and Thomas, theorem 2.6.6.
///
/// ```
/// use gpz_estimators::channel::code_entropy_sum_nats;
/// use ndarray::array;
///
/// let sum = code_entropy_sum_nats(array![[0, 5], [1, 5], [0, 5], [1, 5]].view())?;
/// assert!((sum.value - std::f64::consts::LN_2).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn code_entropy_sum_nats(codes: ArrayView2<'_, i64>) -> Result<Estimate, Error> {
    let (n, width) = shape_of(codes)?;
    let starts: Vec<usize> = (0..width).step_by(BLOCK_COLUMNS).collect();
    let blocks: Vec<(f64, Vec<f64>)> = starts
        .into_par_iter()
        .map(|from| {
            let (mut value, mut without) = (0.0, vec![0.0; n]);
            let mut order: Vec<(i64, usize)> = Vec::with_capacity(n);
            for column in from..(from + BLOCK_COLUMNS).min(width) {
                order.clear();
                order.extend(
                    codes.column(column).iter().enumerate().map(|(row, &code)| (code, row)),
                );
                order.sort_unstable();
                let runs = || order.chunk_by(|a, b| a.0 == b.0);
                let sum: f64 = runs().map(|run| x_ln_x(run.len() as u64)).sum();
                value += (n as f64).ln() - sum / n as f64;
                for run in runs() {
                    let left = left_out(sum, run.len() as u64, n as f64);
                    run.iter().for_each(|&(_, row)| without[row] += left);
                }
            }
            (value, without)
        })
        .collect();
    let (mut value, mut without) = (0.0, vec![0.0; n]);
    for (block, left) in blocks {
        value += block;
        without.iter_mut().zip(left).for_each(|(sum, left)| *sum += left);
    }
    Ok(plug_in(value, n, width, &without))
}

/// `Σ_j ½ ln(2πe(var_j + 1/12)) ≥ Σ_j H(Z'_j)` of integer codes, from their variances alone, in nats.
///
/// - `codes`: `[n, d]` of a quantiser or of int8; **not** bit patterns, which are no lattice
///
/// Holds for any law of integers. Unlike the plug-in it has no ceiling at `ln n`, so it serves where codes are fine and rows few; for
/// coarse codes it is looser, and never below 0.176 for each dimension. Plug-in of the sample's variance, divisor `n − 1`: the variance is
/// unbiased and the logarithm concave, so each dimension is low by about `(κ/4n)·(var/(var + 1/12))²` nats, `κ` the variance of
/// `(z − μ)²/var`, 2 for Gaussian codes. Standard error by the exact jackknife over rows; it needs three.
///
/// ```
/// use gpz_estimators::channel::lattice_entropy_upper_nats;
/// use ndarray::array;
///
/// let bound = lattice_entropy_upper_nats(array![[0], [2], [4]].view())?.expect("three rows"); // variance 4
/// let (pi, e) = (std::f64::consts::PI, std::f64::consts::E);
/// assert!((bound.value - 0.5 * (2.0 * pi * e * (4.0 + 1.0 / 12.0)).ln()).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::NoRows`]. Inside: [`NotIdentifiable::TooFewRows`] for one row.
///
/// # Source
/// Massey (1988); Cover and Thomas, problem 8.7.
pub fn lattice_entropy_upper_nats(codes: ArrayView2<'_, i64>) -> Result<Estimated, Error> {
    let (n, _) = shape_of(codes)?;
    if n < 2 {
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: 1, need: 2 }));
    }
    let rows = n as f64;
    let entropy = |squares: f64, freedom: f64| {
        0.5 * (2.0 * PI * E * (squares.max(0.0) / freedom + 1.0 / 12.0)).ln()
    };
    let (mut value, mut without) = (0.0, vec![0.0; n]);
    for column in codes.axis_iter(Axis(1)) {
        // Differences of codes are exact where the codes are below 2^53.
        let deviation = |&code: &i64| code.wrapping_sub(column[0]) as f64;
        let mean = column.iter().map(deviation).sum::<f64>() / rows;
        let distance = |code: &i64| (deviation(code) - mean).powi(2);
        let squares = column.iter().map(distance).sum::<f64>();
        value += entropy(squares, rows - 1.0);
        if n > 2 {
            for (left, code) in without.iter_mut().zip(column) {
                *left += entropy(squares - rows / (rows - 1.0) * distance(code), rows - 2.0);
            }
        }
    }
    let estimate = Estimate::new(value, Kind::Heuristic, rows).flag(true, Flag::PlugInOfUpperBound);
    Ok(Ok(estimate.jackknifed(&without)))
}

/// `h − d·ln(step)` in nats: the entropy of a density after rounding to multiples of `step`, where the step is small beside the
/// density's features.
///
/// - `entropy`: the differential entropy `h` in nats of `dimensions` dimensions; `step` in the units of the values
///
/// A lower bound of the entropy of [`rounded_codes`](super::rounded_codes), [`Kind::Lower`] for a known `h`: to average a density over
/// its cells can only raise its entropy. It is low by about `J·step²/24`, `J` the trace of the density's Fisher information, hence
/// vanishing with the step; negative for coarse steps, which is flagged, as no entropy of codes is.
///
/// # Errors
/// [`Error::Parameter`] unless the step is positive and finite and `h` is not NaN.
///
/// # Source
/// Rényi (1959); Cover and Thomas, theorem 8.3.1.
///
/// ```
/// use gpz_estimators::channel::{Given, high_rate_approx_nats};
///
/// // A uniform density on the unit interval, in 256 steps: exact.
/// let rate = high_rate_approx_nats(Given::Known(0.0), 1, 1.0 / 256.0)?;
/// assert!((rate.value - 256f64.ln()).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn high_rate_approx_nats(
    entropy: Given,
    dimensions: usize,
    step: f64,
) -> Result<Estimate, Error> {
    let step = positive("step", step)?;
    let entropy = entropy.checked("entropy", "it must be a number", |value| !value.is_nan())?;
    let value = entropy.value() - dimensions as f64 * step.ln();
    Ok(from_given(value, Kind::Lower, entropy.is_known())
        .flag(value < 0.0, Flag::DegenerateSupport))
}
