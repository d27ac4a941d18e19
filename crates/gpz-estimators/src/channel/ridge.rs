//! An attacker that is run: linear regression with a penalty, judged on rows it has not seen.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::cholesky::Standardised;
use super::positive;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, Uncertainty};
use crate::oddities::Oddities;
use crate::rows::checked_pairs;
use crate::simd::Element;

/// How [`ridge_attack_mse`] fits and judges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RidgeAttack {
    /// Parts of the rows; each is predicted from a fit to the others. Row `i` belongs to part `i mod folds`.
    pub folds: usize,
    /// Penalty beside the standardised features' variances, which are one.
    pub penalty: f64,
}

impl Default for RidgeAttack {
    fn default() -> Self {
        Self { folds: 5, penalty: 1e-6 }
    }
}

/// Held-out mean squared error per dimension of a linear attacker that predicts `x` from `z`, in squared units of `x`.
///
/// - `x`: `[n, d]`; `z`: `[n, m]`, row by row what the attacker saw; `8·min(m, n)²` bytes for each of two folds at a time
///
/// What a given attacker reaches on rows it has not seen is, on average over samples, no less than the least error that any reaches:
/// [`Kind::Upper`] with [`Flag::InExpectation`]. For Gaussian pairs it approaches that error, from above by about `m/n` of it. A non-linear
/// encoder may give away much that no linear attacker finds: a large value here shows nothing. Pairs that repeat may stand on both sides of a
/// fold, which breaks the bound: flagged as [`Flag::DuplicateRows`]. Standard error by the spread of the rows' errors, which leaves out that
/// rows of a fold share their attacker.
///
/// ```
/// use gpz_estimators::channel::{RidgeAttack, ridge_attack_mse};
/// use ndarray::Array2;
///
/// // z = 2x, sent as it is: a linear attacker finds x, but for the penalty.
/// let x = Array2::from_shape_fn((50, 1), |(i, _)| (i as f64 * 0.618_033_988_749_894_9).fract());
/// let mse = ridge_attack_mse(x.view(), (&x * 2.0).view(), RidgeAttack::default())?.expect("ten rows in each fold");
/// assert!(mse.value < 1e-11);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::RowCount`], [`Error::NonFinite`] and the like; [`Error::Parameter`] for fewer than two folds or a penalty that is not
/// positive, or too small beside collinear features. Inside: [`NotIdentifiable::TooFewRows`] below two rows for each fold.
///
/// # Source
/// Hoerl and Kennard 1970, ridge regression; cross-validation: Stone 1974.
pub fn ridge_attack_mse<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    z: ArrayView2<'_, U>,
    options: RidgeAttack,
) -> Result<Estimated, Error> {
    let (x, z) = checked_pairs(x, z)?;
    let (n, folds) = (x.nrows(), options.folds);
    positive("penalty", options.penalty)?;
    if folds < 2 {
        let rule = "at least two are needed to hold one out";
        return Err(Error::Parameter { name: "folds", value: folds as f64, rule });
    }
    if n / 2 < folds {
        let need = folds as u64 * 2;
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: n as u64, need }));
    }
    let parts: Vec<Vec<f64>> = (0..folds)
        .into_par_iter()
        .map(|fold| held_out(&x, &z, fold, options))
        .collect::<Result<_, Error>>()?;
    let errors: Vec<f64> = (0..n).map(|row| parts[row % folds][row / folds]).collect();
    let mean = errors.iter().sum::<f64>() / n as f64;
    let spread = errors.iter().map(|error| (error - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    Ok(Ok(Estimate::new(mean, Kind::Upper, n as f64)
        .flag(true, Flag::InExpectation)
        .odd(&Oddities::of(&[x.view(), z.view()]))
        .std_err((spread / n as f64).sqrt(), Uncertainty::SpreadOfTerms)))
}

/// Errors of the rows of one part, in their order.
fn held_out(
    x: &Array2<f64>,
    z: &Array2<f64>,
    fold: usize,
    options: RidgeAttack,
) -> Result<Vec<f64>, Error> {
    let (mine, others): (Vec<usize>, Vec<usize>) =
        (0..x.nrows()).partition(|row| row % options.folds == fold);
    let (mut train_x, mut train_z) = (x.select(Axis(0), &others), z.select(Axis(0), &others));
    let n = others.len() as f64;
    let (mean_x, mean_z) = (centre(&mut train_x), centre(&mut train_z));
    let scale: Array1<f64> = train_z
        .columns()
        .into_iter()
        .map(|column| match (column.dot(&column) / n).sqrt() {
            0.0 => 1.0,
            scale => scale,
        })
        .collect();
    train_z /= &scale;
    let mut test = z.select(Axis(0), &mine);
    test -= &mean_z;
    test /= &scale;
    // From whichever side is smaller: (ZᵀZ + λ)⁻¹Zᵀ = Zᵀ(ZZᵀ + λ)⁻¹.
    let wide = train_z.ncols() > train_z.nrows();
    let mut matrix = if wide { train_z.dot(&train_z.t()) } else { train_z.t().dot(&train_z) } / n;
    matrix.diag_mut().iter_mut().for_each(|value| *value += options.penalty);
    let factor = Standardised::of("penalised scatter", matrix.view())?;
    if !factor.is_regular() {
        let rule = "it is too small beside features that are collinear";
        return Err(Error::Parameter { name: "penalty", value: options.penalty, rule });
    }
    let predicted = if wide {
        test.dot(&train_z.t()).dot(&factor.solve((train_x / n).view()))
    } else {
        test.dot(&factor.solve((train_z.t().dot(&train_x) / n).view()))
    };
    let width = x.ncols() as f64;
    Ok(mine
        .iter()
        .zip(predicted.rows())
        .map(|(&row, predicted)| {
            let cells = x.row(row).into_iter().zip(&mean_x).zip(predicted);
            let errors = cells.map(|((x, mean), predicted)| (x - mean - predicted).powi(2));
            errors.sum::<f64>() / width
        })
        .collect())
}

/// Takes the mean of each column out, by way of the first row, and returns it.
fn centre(rows: &mut Array2<f64>) -> Array1<f64> {
    let first = rows.row(0).to_owned();
    *rows -= &first;
    let mean = rows.sum_axis(Axis(0)) / rows.nrows() as f64;
    *rows -= &mean;
    first + mean
}
