//! Standard errors of bounds by covariances, and memory of passes that factorise.
#![cfg(feature = "lapack-base")]

mod common;

use std::error::Error;

use common::{close, normal, rng};
use gpz_estimators::collapse::{collapse, collapse_within};
use gpz_estimators::gaussian::{
    MaximumEntropy, class_conditional_bound_nats, full_bound_nats, log_det_nats,
    mixture_full_bound_nats,
};
use gpz_estimators::plan::Needs;
use gpz_estimators::{Error as Refused, Estimated, Uncertainty};
use ndarray::{Array2, Axis};
use rand::RngExt;

type Outcome = Result<(), Box<dyn Error>>;

/// The stated error is the scatter of the values over samples of Gaussian rows, class shares included.
#[test]
fn errors_of_gaussian_rows_are_their_scatter() -> Outcome {
    let (n, d, replicates) = (120, 4, 300);
    let mut values = vec![Vec::new(); 4];
    let mut stated = [0.0; 4];
    for seed in 0..replicates {
        let mut random = rng(seed);
        let labels: Vec<usize> = (0..n).map(|_| usize::from(random.random_bool(0.3))).collect();
        let mut z = normal(&mut random, (n, d));
        for (mut row, &label) in z.rows_mut().into_iter().zip(&labels) {
            row *= if label == 1 { 3.0 } else { 1.0 };
        }
        let alike = normal(&mut random, (n, d));
        let found = [
            full_bound_nats(alike.view())??,
            log_det_nats(alike.view())??,
            class_conditional_bound_nats(z.view(), &labels, 2)??,
            mixture_full_bound_nats(z.view(), &labels, 2)??,
        ];
        for (at, found) in found.into_iter().enumerate() {
            assert_eq!(found.uncertainty, Some(Uncertainty::GaussianFormula));
            values[at].push(found.value);
            stated[at] += found.std_err.ok_or("an error")? / replicates as f64;
        }
    }
    for (values, stated) in values.iter().zip(stated) {
        let mean = values.iter().sum::<f64>() / replicates as f64;
        let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let scatter = (spread / (replicates as f64 - 1.0)).sqrt();
        // Four standard errors of a scatter over 300 are 16 %.
        assert!((stated / scatter - 1.0).abs() < 0.16, "{stated} stated, {scatter} found");
    }
    Ok(())
}

#[test]
fn diagonal_errors_are_those_of_leaving_rows_out() -> Outcome {
    let z = normal(&mut rng(1), (25, 3)) * 2.0 + 1e3;
    let labels: Vec<usize> = (0..25).map(|row| row % 2).collect();
    let without = |value: &dyn Fn(&[usize]) -> Result<Estimated, Refused>| {
        let values: Vec<f64> = (0..25)
            .map(|out| {
                let kept: Vec<usize> = (0..25).filter(|&row| row != out).collect();
                Ok(value(&kept)??.value)
            })
            .collect::<Result<_, Box<dyn Error>>>()?;
        let mean = values.iter().sum::<f64>() / 25.0;
        let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Ok::<f64, Box<dyn Error>>((24.0 / 25.0 * spread).sqrt())
    };
    let plain = |kept: &[usize]| Ok(MaximumEntropy::of(z.select(Axis(0), kept).view())?.diagonal);
    let classes = |kept: &[usize]| {
        let labels: Vec<usize> = kept.iter().map(|&row| labels[row]).collect();
        Ok(MaximumEntropy::of_classes(z.select(Axis(0), kept).view(), &labels, 2)?.diagonal)
    };
    let all = MaximumEntropy::of(z.view())?;
    let by_class = MaximumEntropy::of_classes(z.view(), &labels, 2)?;
    for (bound, want) in
        [(all.diagonal?, without(&plain)?), (by_class.diagonal?, without(&classes)?)]
    {
        let std_err = bound.std_err.ok_or("an error")?;
        assert!(close(std_err, want, 1e-8, want), "{std_err} {want}");
    }
    assert!(all.isotropic?.std_err.is_some() && by_class.isotropic?.std_err.is_some());
    Ok(())
}

#[test]
fn collapse_keeps_to_its_budget() -> Outcome {
    let z = normal(&mut rng(2), (3000, 20));
    let labels: Vec<usize> = (0..3000).map(|row| row % 7).collect();
    let whole = collapse(z.view(), &labels, 7, None)?;
    let (large, small) =
        (Needs::of_collapse(7, 20, 1024, false)?, Needs::of_collapse(7, 20, 32, false)?);
    assert!(small.bytes() < large.bytes());
    let narrow = collapse_within(z.view(), &labels, 7, None, small.bytes())?;
    let pairs = [
        (whole.nc1_trace?, narrow.nc1_trace?),
        (whole.nc2_equinorm?, narrow.nc2_equinorm?),
        (whole.nc2_equiangle?, narrow.nc2_equiangle?),
        (whole.nearest_mean_accuracy?, narrow.nearest_mean_accuracy?),
    ];
    for (whole, narrow) in pairs {
        assert!(close(whole.value, narrow.value, 1e-11, whole.value));
    }
    let refused = collapse_within(z.view(), &labels, 7, None, 100);
    assert!(matches!(refused, Err(Refused::Budget { budget: 100, needed, .. }) if needed > 100));
    let text = large.to_string();
    assert!(text.contains("in all, for measures of neural collapse"), "{text}");
    assert!(Needs::of_collapse(0, 20, 1, true).is_err());
    // A bad row is named by its place among all rows, whatever the batches.
    let mut bad: Array2<f64> = z;
    bad[[2500, 3]] = f64::NAN;
    let named = collapse_within(bad.view(), &labels, 7, None, small.bytes());
    assert!(matches!(named, Err(Refused::NonFinite { row: 2500, column: 3, .. })));
    Ok(())
}
