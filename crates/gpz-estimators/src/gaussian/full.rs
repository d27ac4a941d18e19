//! Gaussian entropy with the full covariance, by LAPACK (feature `lapack`). In nats.
//!
//! Tighter than the isotropic bound of [`entropy`](crate::entropy), and dearer: `8·D²` bytes and `D³` operations, so for the
//! few dimensions that a covariance of more rows than dimensions allows. The feature selects ndarray-linalg's system OpenBLAS.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use ndarray_linalg::{EigValsh, UPLO};

use crate::batch::Batch;
use crate::entropy::isotropic_gaussian_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::simd::Element;

/// `½ ln det(2πe S)`, `S` the covariance of the rows with the divisor `n − 1`: the plug-in of the largest entropy that rows of
/// this covariance can have.
///
/// - `features`: `[n, d]`, `f32` or `f64`; computed in `f64` on standardised columns, so that scales do not matter
///
/// `-inf` and flagged where the covariance is singular. Biased low by about `d(d + 1)/(4n)` nats.
///
/// # Errors
/// [`Error::NonFinite`], [`Error::Magnitude`], [`Error::EmptyShape`], [`Error::Factorisation`]. Inside:
/// [`NotIdentifiable::TooFewRows`] unless `n > d`, since the sample's covariance is singular then whatever the population's.
pub fn full_bound_nats<T: Element>(features: ArrayView2<'_, T>) -> Result<Estimated, Error> {
    let (n, d) = features.dim();
    if d == 0 {
        return Err(Error::EmptyShape { classes: 1, width: d });
    }
    Batch::new(features, &vec![0; n], 1, d)?.check_values()?;
    if n <= d {
        return Ok(Err(NotIdentifiable::TooFewRows {
            class: None,
            have: n as u64,
            need: d as u64 + 1,
        }));
    }
    let mut rows: Array2<f64> = features.mapv(|value| value.widen());
    // About the first row, then about the mean: an offset common to all rows costs no digits.
    let first = rows.row(0).to_owned();
    rows -= &first;
    let mean = rows.sum_axis(Axis(0)) / n as f64;
    rows -= &mean;
    let freedom = (n - 1) as f64;
    let scale: Array1<f64> = rows
        .columns()
        .into_iter()
        .map(|column| (column.iter().map(|v| v * v).sum::<f64>() / freedom).sqrt())
        .collect();
    let constant = scale.iter().filter(|&&scale| scale == 0.0).count();
    let estimate = |value| {
        Estimate::new(value, Kind::Heuristic, n as f64).flag(true, Flag::PlugInOfUpperBound)
    };
    if constant > 0 {
        return Ok(Ok(estimate(f64::NEG_INFINITY)
            .flag(true, Flag::DegenerateSupport)
            .flag(true, Flag::ConstantDimensions(constant))));
    }
    rows /= &scale;
    let correlation = rows.t().dot(&rows) / freedom;
    let eigenvalues = correlation.eigvalsh(UPLO::Lower).map_err(|reason| Error::Factorisation {
        rows: n,
        width: d,
        reason: reason.to_string(),
    })?;
    let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
    let floor = largest * n as f64 * f64::EPSILON;
    let rank = eigenvalues.iter().filter(|&&value| value > floor).count();
    if rank < d {
        return Ok(Ok(estimate(f64::NEG_INFINITY)
            .flag(true, Flag::DegenerateSupport)
            .flag(true, Flag::RankDeficient { rank, width: d })));
    }
    let log_det = 2.0 * scale.mapv(f64::ln).sum() + eigenvalues.mapv(f64::ln).sum();
    Ok(Ok(estimate(isotropic_gaussian_nats(d, 1.0) + 0.5 * log_det)))
}

/// `Σ_c N_c/N · ½ ln det(2πe S_c)`: the plug-in of an upper bound of `h(Z|Y)`, each class with its own covariance.
///
/// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
///
/// # Errors
/// As [`full_bound_nats`], and [`Error::Width`], [`Error::LabelCount`], [`Error::LabelOutOfRange`], [`Error::NoRows`]. Inside:
/// [`NotIdentifiable::TooFewRows`] names the first class with no more rows than dimensions.
pub fn class_conditional_bound_nats<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<Estimated, Error> {
    let (n, width) = features.dim();
    let batch = Batch::new(features, labels, classes, width)?;
    batch.check_values()?;
    if n == 0 {
        return Err(Error::NoRows);
    }
    let mut value = 0.0;
    let mut flags = Vec::new();
    for rows in &batch.present {
        let members = features.select(Axis(0), &batch.rows()[rows.range.clone()]);
        let class = match full_bound_nats(members.view())? {
            Ok(estimate) => estimate,
            Err(NotIdentifiable::TooFewRows { have, need, .. }) => {
                return Ok(Err(NotIdentifiable::TooFewRows {
                    class: Some(rows.class),
                    have,
                    need,
                }));
            }
            Err(reason) => return Ok(Err(reason)),
        };
        value += rows.range.len() as f64 / n as f64 * class.value;
        for flag in class.flags {
            if !flags.contains(&flag) {
                flags.push(flag);
            }
        }
    }
    let mut estimate = Estimate::new(value, Kind::Heuristic, n as f64);
    estimate.flags = flags;
    Ok(Ok(estimate))
}
