//! Laws that hold for any features: translation, scaling, rotation, permutation, merging, and order of the bounds.

mod common;

use common::{close, labels, normal, rng, rotation};
use gpz_estimators::channel::noise_information_classes_nats;
use gpz_estimators::{
    ClassGeometry, ClassMoments, DeviationPass, Error, Estimated, Normalisation, entropy, gaussian,
};
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

/// Every number that follows from moments.
fn published(moments: &ClassMoments) -> Result<Vec<(&'static str, Vec<f64>)>, Error> {
    let geometry = moments.geometry()?;
    let classes = || 0..geometry.classes();
    let formal = |estimate: Estimated| estimate.map_or(f64::NAN, |estimate| estimate.value);
    let of_class = |value: &dyn Fn(usize) -> Option<f64>| classes().filter_map(value).collect();
    let rows =
        |row: &dyn Fn(usize) -> Option<Vec<f64>>| classes().filter_map(row).flatten().collect();
    let many = geometry.singleton_classes().is_empty();
    let mixture = |value: &dyn Fn() -> Result<f64, Error>| {
        if many { value().map(|value| vec![value]) } else { Ok(vec![]) }
    };
    Ok(vec![
        ("class means", rows(&|class| moments.class_mean(class).map(|mean| mean.to_vec()))),
        ("class variances", rows(&|class| moments.class_variance(class).map(|of| of.to_vec()))),
        ("squares", of_class(&|class| geometry.sum_of_squares(class))),
        ("radii", of_class(&|class| geometry.radius_sq(class, Normalisation::PlugIn))),
        ("unbiased radii", of_class(&|class| geometry.radius_sq(class, Normalisation::Unbiased))),
        ("mean radius", geometry.mean_radius_sq(Normalisation::Unbiased).into_iter().collect()),
        (
            "per dimension",
            geometry.mean_radius_sq_per_dim(Normalisation::PlugIn).into_iter().collect(),
        ),
        ("within", vec![geometry.within()]),
        ("between", vec![geometry.between()]),
        ("total", vec![geometry.total()]),
        ("share", geometry.within_over_total().into_iter().collect()),
        ("mean variance", vec![geometry.mean_variance()]),
        ("mean", geometry.mean().to_vec()),
        ("variances", geometry.variance_per_dim().to_vec()),
        ("constant", geometry.constant_dimensions().into_iter().map(|j| j as f64).collect()),
        ("labels", vec![entropy::label_entropy_nats(&geometry).value]),
        ("isotropic", vec![entropy::isotropic_bound_nats(&geometry).value]),
        ("diagonal", vec![gaussian::diagonal_bound_nats(&geometry).value]),
        (
            "classes",
            of_class(&|class| entropy::class_bound_nats(&geometry, class).ok().map(|e| e.value)),
        ),
        ("mixture", mixture(&|| Ok(formal(entropy::mixture_bound_nats(&geometry))))?),
        (
            "diagonal mixture",
            mixture(&|| gaussian::mixture_diagonal_bound_nats(moments).map(formal))?,
        ),
        ("noise", mixture(&|| noise_information_classes_nats(&geometry, 0.5).map(formal))?),
    ])
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

    /// Everything published, to 1e-12, for a far origin too.
    #[test]
    fn merging_is_associative_and_commutes(
        (z, y, k) in labelled(), a in 0..40_usize, b in 0..40_usize, offset in prop_oneof![Just(0.0), -1e3..1e3_f64],
    ) {
        let z = z + offset;
        let n = z.nrows();
        let (a, b) = ((a % n).min(b % n), (a % n).max(b % n));
        let shard = |from: usize, to: usize| {
            let mut moments = ClassMoments::new(k, z.ncols())?;
            moments.update(z.slice(ndarray::s![from..to, ..]), &y[from..to])?;
            Ok::<_, Error>(moments)
        };
        let merged = |mut left: ClassMoments, right: &ClassMoments| left.merge(right).map(|()| left);
        let (first, second, third) = (shard(0, a)?, shard(a, b)?, shard(b, n)?);
        let left = merged(merged(first.clone(), &second)?, &third)?;
        let right = merged(first.clone(), &merged(second.clone(), &third)?)?;
        let back = merged(merged(third, &second)?, &first)?;
        let whole = shard(0, n)?;
        for other in [&right, &back, &whole] {
            prop_assert_eq!(left.counts(), other.counts());
            for ((what, a), (_, b)) in published(&left)?.into_iter().zip(published(other)?) {
                prop_assert_eq!(a.len(), b.len());
                for (a, b) in a.into_iter().zip(b) {
                    prop_assert!(a == b || close(a, b, 1e-12, 1.0 + b.abs()), "{what}: {a} {b}");
                }
            }
        }
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
