//! Laws that hold for any features: translation, scaling, rotation, permutation, merging, and order of the bounds.

mod common;

use common::{close, labels, normal, rng, rotation};
use gpz_estimators::{ClassGeometry, ClassMoments, DeviationPass, Error, Normalisation, entropy};
use ndarray::{Array2, ArrayView2, Axis};
use proptest::prelude::*;
use rand::seq::SliceRandom;

fn geometry(
    features: ArrayView2<'_, f64>,
    labels: &[usize],
    classes: usize,
) -> Result<ClassGeometry, Error> {
    let mut moments = ClassMoments::new(classes, features.ncols())?;
    moments.update(features, labels)?;
    moments.geometry()
}

/// Labels of one class are certain: exactly zero, and not minus zero, which would be printed with its sign.
#[test]
fn one_class_has_no_label_entropy() -> Result<(), Error> {
    let one = geometry(Array2::from_shape_fn((3, 2), |(i, j)| (i * j) as f64).view(), &[0; 3], 1)?;
    let entropy = entropy::label_entropy_nats(&one).value;
    assert!(entropy == 0.0 && entropy.is_sign_positive(), "{entropy:?}");
    Ok(())
}

/// Features, labels, and the number of classes; at least one class has two rows.
fn labelled() -> impl Strategy<Value = (Array2<f64>, Vec<usize>, usize)> {
    (any::<u64>(), 1..5_usize, 6..40_usize, 1..40_usize).prop_map(|(seed, classes, n, width)| {
        let mut rng = rng(seed);
        let y = labels(&mut rng, n, classes);
        let mut z = normal(&mut rng, (n, width));
        for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
            row += label as f64;
        }
        (z, y, classes)
    })
}

fn same(
    a: &ClassGeometry,
    b: &ClassGeometry,
    factor: f64,
    tolerance: f64,
) -> Result<(), TestCaseError> {
    for class in 0..a.classes() {
        for normalisation in [Normalisation::PlugIn, Normalisation::Unbiased] {
            match (a.radius_sq(class, normalisation), b.radius_sq(class, normalisation)) {
                (Some(x), Some(y)) => prop_assert!(close(factor * x, y, tolerance, y), "{x} {y}"),
                (x, y) => prop_assert_eq!(x, y),
            }
        }
    }
    prop_assert!(close(factor * a.within(), b.within(), tolerance, b.total()));
    prop_assert!(close(factor * a.between(), b.between(), tolerance, b.total()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn translation_changes_no_spread((z, y, k) in labelled(), shift in -1e6..1e6_f64) {
        let moved = geometry(z.mapv(|value| value + shift).view(), &y, k)?;
        same(&geometry(z.view(), &y, k)?, &moved, 1.0, 1e-8)?;
    }

    #[test]
    fn scaling_squares((z, y, k) in labelled(), scale in prop_oneof![-1e8..-1e-8_f64, 1e-8..1e8_f64]) {
        let (plain, scaled) = (geometry(z.view(), &y, k)?, geometry((&z * scale).view(), &y, k)?);
        same(&plain, &scaled, scale * scale, 1e-12)?;
        let (a, b) = (plain.within_over_total(), scaled.within_over_total());
        prop_assert!(a.zip(b).is_some_and(|(a, b)| close(a, b, 1e-12, 1.0)));
        // h(aZ) = h(Z) + D ln|a|
        let (a, b) = (entropy::isotropic_bound_nats(&plain).value, entropy::isotropic_bound_nats(&scaled).value);
        prop_assert!(close(b - a, z.ncols() as f64 * scale.abs().ln(), 1e-10, 1.0 + b.abs() + a.abs()));
    }

    #[test]
    fn rotation_changes_nothing((z, y, k) in labelled(), seed in any::<u64>()) {
        let turned = z.dot(&rotation(seed, z.ncols()));
        same(&geometry(z.view(), &y, k)?, &geometry(turned.view(), &y, k)?, 1.0, 1e-11)?;
    }

    #[test]
    fn the_order_of_rows_changes_nothing((z, y, k) in labelled(), seed in any::<u64>()) {
        let mut order: Vec<usize> = (0..z.nrows()).collect();
        order.shuffle(&mut rng(seed));
        let labels: Vec<usize> = order.iter().map(|&row| y[row]).collect();
        same(&geometry(z.view(), &y, k)?, &geometry(z.select(Axis(0), &order).view(), &labels, k)?, 1.0, 1e-12)?;
    }

    #[test]
    fn names_of_classes_change_nothing((z, y, k) in labelled()) {
        let (plain, renamed) = (geometry(z.view(), &y, k)?, {
            let labels: Vec<usize> = y.iter().map(|label| k - 1 - label).collect();
            geometry(z.view(), &labels, k)?
        });
        for class in 0..k {
            prop_assert_eq!(plain.sum_of_squares(class), renamed.sum_of_squares(k - 1 - class));
        }
        prop_assert!(close(plain.total(), renamed.total(), 1e-12, plain.total()));
    }

    #[test]
    fn merging_is_associative_and_commutes((z, y, k) in labelled(), a in 0..40_usize, b in 0..40_usize) {
        let n = z.nrows();
        let (a, b) = ((a % n).min(b % n), (a % n).max(b % n));
        let shard = |from: usize, to: usize| {
            let mut moments = ClassMoments::new(k, z.ncols())?;
            moments.update(z.slice(ndarray::s![from..to, ..]), &y[from..to])?;
            Ok::<_, Error>(moments)
        };
        let (first, second, third) = (shard(0, a)?, shard(a, b)?, shard(b, n)?);
        let mut left = first.clone();
        left.merge(&second)?;
        left.merge(&third)?;
        let mut right = third;
        right.merge(&second)?;
        right.merge(&first)?;
        same(&left.geometry()?, &right.geometry()?, 1.0, 1e-12)?;
        same(&left.geometry()?, &geometry(z.view(), &y, k)?, 1.0, 1e-12)?;
    }

    /// total = within + between, and the pooled variance is the same as with all rows in one class.
    #[test]
    fn law_of_total_variance((z, y, k) in labelled()) {
        let (split, pooled) = (geometry(z.view(), &y, k)?, geometry(z.view(), &vec![0; y.len()], 1)?);
        prop_assert!(close(split.total(), pooled.within(), 1e-12, pooled.within()));
        prop_assert!(close(split.variance_per_dim().sum(), pooled.total(), 1e-12, pooled.total()));
        prop_assert!(split.within_over_total().is_some_and(|share| (0.0..=1.0 + 1e-12).contains(&share)));
        prop_assert_eq!(pooled.between(), 0.0);
    }

    /// Knowing the class cannot raise the within-class part of the mixture bound above the pooled bound: ln is concave.
    #[test]
    fn mixture_bound_is_at_most_label_entropy_above_the_pooled((z, y, k) in labelled()) {
        let geometry = geometry(z.view(), &y, k)?;
        let (mixture, label) = (entropy::mixture_bound_nats(&geometry), entropy::label_entropy_nats(&geometry));
        prop_assert!(label.value >= 0.0 && label.value <= (k as f64).ln() + 1e-12);
        if let Ok(mixture) = mixture {
            let pooled = entropy::isotropic_bound_nats(&geometry).value;
            prop_assert!(mixture.value <= pooled + label.value + 1e-9 * (1.0 + pooled.abs()));
        } else {
            prop_assert!(!geometry.singleton_classes().is_empty());
        }
    }

    /// The contributions' means are the unbiased variances.
    #[test]
    fn contributions_average_to_the_unbiased_variances((z, y, k) in labelled()) {
        let mut moments = ClassMoments::new(k, z.ncols())?;
        moments.update(z.view(), &y)?;
        let mut pass = DeviationPass::new(&moments)?;
        pass.update(z.view(), &y)?;
        let (geometry, contributions) = (moments.geometry()?, pass.finish()?.contributions());
        let ones = vec![1.0; z.nrows()];
        let n = z.nrows() as f64;
        let total = geometry.total() * n / (n - 1.0);
        prop_assert!(contributions.total(&ones)?.is_some_and(|got| close(got, total, 1e-12, total)));
        let (mut sum, mut rows) = (0.0, 0.0);
        for class in 0..k {
            if let Some(radius) = geometry.radius_sq(class, Normalisation::Unbiased) {
                sum += geometry.counts()[class] as f64 * radius;
                rows += geometry.counts()[class] as f64;
            }
        }
        prop_assert!(contributions.within(&ones)?.is_some_and(|got| close(got, sum / rows, 1e-12, sum / rows)));
    }
}
