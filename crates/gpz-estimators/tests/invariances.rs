//! What must not matter: the order of rows, the names of classes, and a mean a million deviations from zero.
#![cfg(feature = "lapack-base")]

mod common;

use common::case::Outcome;
use common::{close, normal, rng};
use gpz_estimators::channel::{
    RidgeAttack, noise_information_full_nats, noise_information_nats, ridge_attack_mse,
};
use gpz_estimators::collapse::{Classifier, Collapse, collapse};
use gpz_estimators::dependence::{distance_correlation_sq, distance_correlation_v};
use gpz_estimators::entropy::kde::{Bandwidth, kde_entropy_loo_nats};
use gpz_estimators::gaussian::{self, MaximumEntropy};
use gpz_estimators::information::gaussian::{mi_corrected_nats, mi_plugin_nats};
use gpz_estimators::information::qda;
use gpz_estimators::spectrum::Spectrum;
use gpz_estimators::{Element, Error, Estimated};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use proptest::prelude::*;
use rand::RngExt;
use rand::seq::SliceRandom;

type Named = Vec<(String, f64)>;

fn value(estimate: Estimated) -> f64 {
    estimate.map_or(f64::NAN, |estimate| estimate.value)
}

/// Estimates of rows that have no labels, `x` and `y` being the first and the other columns.
fn of_rows<T: Element>(z: ArrayView2<'_, T>) -> Result<Named, Error> {
    let (x, y) = z.split_at(Axis(1), z.ncols() / 2);
    let spectrum = Spectrum::of(z)?;
    let bounds = MaximumEntropy::of(z)?;
    let mut all = vec![
        ("isotropic", value(bounds.isotropic)),
        ("diagonal", value(bounds.diagonal)),
        ("full", value(bounds.full)),
        ("full bound", value(gaussian::full_bound_nats(z)?)),
        ("log det", value(gaussian::log_det_nats(z)?)),
        ("corrected", value(gaussian::entropy_corrected_nats(z)?)),
        ("participation", value(spectrum.participation_ratio())),
        ("corrected participation", value(spectrum.participation_ratio_corrected())),
        ("effective rank", value(spectrum.effective_rank())),
        ("rank", spectrum.rank() as f64),
        ("trace", spectrum.trace()),
        ("distance correlation", value(distance_correlation_sq(x, y)?)),
        ("distance correlation V", value(distance_correlation_v(x, y)?)),
        (
            "in one dimension",
            value(distance_correlation_sq(x.slice(s![.., ..1]), y.slice(s![.., ..1]))?),
        ),
        ("Gaussian information", value(mi_plugin_nats(x, y)?)),
        ("corrected information", value(mi_corrected_nats(x, y)?)),
        ("noise", value(noise_information_nats(z, 0.5)?)),
        ("noise, full", value(noise_information_full_nats(z, 0.5)?)),
        ("kernels", value(kde_entropy_loo_nats(z, Bandwidth::ScottFull)?)),
    ];
    for (name, shrunk) in
        [("Ledoit and Wolf", gaussian::ledoit_wolf(z)?), ("OAS", gaussian::oas(z)?)]
    {
        let shrunk = shrunk.expect("rows that differ");
        all.extend([(name, shrunk.shrinkage), (name, shrunk.log_det.value)]);
    }
    all.extend(spectrum.eigenvalues().iter().map(|&value| ("eigenvalue", value)));
    Ok(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Estimates of rows with labels.
fn of_classes<T: Element>(
    z: ArrayView2<'_, T>,
    y: &[usize],
    classes: usize,
    classifier: Option<Classifier<'_>>,
) -> Result<Named, Error> {
    let bounds = MaximumEntropy::of_classes(z, y, classes)?;
    let all = [
        ("QDA", value(qda::crossfit_nats(z, y, classes)?)),
        ("class-conditional", value(gaussian::class_conditional_bound_nats(z, y, classes)?)),
        ("corrected", value(gaussian::class_conditional_corrected_nats(z, y, classes)?)),
        ("mixture, isotropic", value(bounds.isotropic)),
        ("mixture, diagonal", value(bounds.diagonal)),
        ("mixture, full", value(bounds.full)),
    ];
    let mut all: Named = all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    all.extend(of_collapse(&collapse(z, y, classes, classifier)?));
    Ok(all)
}

fn of_collapse(found: &Collapse) -> Named {
    let mut all = vec![
        ("NC1", value(found.nc1_trace.clone())),
        ("NC2, norms", value(found.nc2_equinorm.clone())),
        ("NC2, angles", value(found.nc2_equiangle.clone())),
        ("NC2, spread", value(found.nc2_angle_std.clone())),
        ("nearest mean", value(found.nearest_mean_accuracy.clone())),
    ];
    all.extend(found.nc3_self_duality.clone().map(|of| ("NC3", value(of))));
    all.extend(found.nc4_agreement.clone().map(|of| ("NC4", value(of))));
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn same(
    a: Result<Named, Error>,
    b: Result<Named, Error>,
    tolerance: f64,
) -> Result<(), TestCaseError> {
    let (a, b) = (a?, b?);
    prop_assert_eq!(a.len(), b.len());
    for ((name, a), (_, b)) in a.into_iter().zip(b) {
        prop_assert!(a.is_finite() && close(a, b, tolerance, 1.0 + b.abs()), "{name}: {a} {b}");
    }
    Ok(())
}

/// Correlated columns, classes apart by about a deviation, labels of every class at even and odd places alike.
///
/// Drawn again until nothing that is divided by is small: rounding is then far below every tolerance here.
fn labelled(seed: u64, width: usize, classes: usize) -> (Array2<f64>, Vec<usize>) {
    let n = 2 * classes * (width + 8);
    let mut rng = rng(seed);
    let y: Vec<usize> = (0..n).map(|row| row / 2 % classes).collect();
    loop {
        let mix = normal(&mut rng, (width, width)) * 0.3 + Array2::<f64>::eye(width);
        let means = normal(&mut rng, (classes, width)) * 1.5;
        let mut z = normal(&mut rng, (n, width)).dot(&mix);
        for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
            row += &means.row(label);
        }
        if Least::of(&z, &y, classes).is_ok_and(|l| l.within.min(l.between).min(l.length) > 0.01) {
            return (z, y);
        }
    }
}

/// The least of what estimates of classes divide by.
struct Least {
    /// Standard deviation of a class in either half of the rows, over all directions.
    within: f64,
    /// Root of the eigenvalues, but for those that must vanish, of the class means' scatter about their mean.
    between: f64,
    /// Length of a class mean from the mean of those.
    length: f64,
}

impl Least {
    fn of(z: &Array2<f64>, y: &[usize], classes: usize) -> Result<Self, Error> {
        let root = |rows: Array2<f64>, rank: usize| -> Result<f64, Error> {
            let spectrum = Spectrum::of(rows.view())?;
            Ok(spectrum.eigenvalues().get(rank - 1).map_or(0.0, |value| value.max(0.0).sqrt()))
        };
        let of_class = |class: usize, step: usize, first: usize| {
            let rows = (first..y.len()).step_by(step).filter(|&row| y[row] == class);
            z.select(Axis(0), &rows.collect::<Vec<_>>())
        };
        let mut means = Array2::zeros((classes, z.ncols()));
        let mut within = f64::INFINITY;
        for class in 0..classes {
            means.row_mut(class).assign(&of_class(class, 1, 0).mean_axis(Axis(0)).expect("rows"));
            for half in 0..2 {
                within = within.min(root(of_class(class, 2, half), z.ncols())?);
            }
        }
        means -= &means.mean_axis(Axis(0)).expect("classes");
        let lengths = means.rows().into_iter().map(|mean| mean.dot(&mean).sqrt());
        let length = lengths.fold(f64::INFINITY, f64::min);
        Ok(Self { within, between: root(means, z.ncols().min(classes - 1))?, length })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_order_of_rows(seed in any::<u64>(), width in 2..9_usize) {
        let (z, _) = labelled(seed, width, 2);
        let mut order: Vec<usize> = (0..z.nrows()).collect();
        order.shuffle(&mut rng(seed ^ 1));
        same(of_rows(z.view()), of_rows(z.select(Axis(0), &order).view()), 1e-9)?;
        // More dimensions than rows.
        let wide = normal(&mut rng(seed), (width + 2, 40));
        let order: Vec<usize> = (0..width + 2).rev().collect();
        let turned = wide.select(Axis(0), &order);
        for (a, b) in [
            (gaussian::ledoit_wolf(wide.view())?, gaussian::ledoit_wolf(turned.view())?),
            (gaussian::oas(wide.view())?, gaussian::oas(turned.view())?),
        ] {
            let [a, b] = [a, b].map(|shrunk| shrunk.map_or(f64::NAN, |shrunk| shrunk.log_det.value));
            prop_assert!(close(a, b, 1e-9, 1.0 + b.abs()), "{a} {b}");
        }
    }

    /// Rows keep their half, since the halves of the cross-fit are those of even and odd places.
    #[test]
    fn the_order_of_labelled_rows(seed in any::<u64>(), width in 1..6_usize, classes in 2..5_usize) {
        let (z, y) = labelled(seed, width, classes);
        let [mut even, mut odd]: [Vec<usize>; 2] = [0, 1].map(|half| (half..z.nrows()).step_by(2).collect());
        even.shuffle(&mut rng(seed ^ 1));
        odd.shuffle(&mut rng(seed ^ 2));
        let order: Vec<usize> = even.into_iter().zip(odd).flat_map(|(a, b)| [a, b]).collect();
        let labels: Vec<usize> = order.iter().map(|&row| y[row]).collect();
        let moved = z.select(Axis(0), &order);
        same(of_classes(z.view(), &y, classes, None), of_classes(moved.view(), &labels, classes, None), 1e-9)?;
    }

    #[test]
    fn the_names_of_classes(seed in any::<u64>(), width in 1..6_usize, classes in 2..6_usize, unused in 0..3_usize) {
        let (z, y) = labelled(seed, width, classes);
        let mut rng = rng(seed ^ 1);
        let (w, b) = (normal(&mut rng, (classes, width)), normal(&mut rng, (classes, 1)));
        let all = classes + unused;
        let mut names: Vec<usize> = (0..all).collect();
        names.shuffle(&mut rng);
        let renamed: Vec<usize> = y.iter().map(|&label| names[label]).collect();
        // The classifier's rows move along. Those of classes without rows exist in both, far below the others.
        let unused = |old: usize| old >= classes;
        let (mut w_before, mut b_before) = (Array2::zeros((all, width)), Array1::from_elem(all, -1e6));
        let (mut w_after, mut b_after) = (w_before.clone(), b_before.clone());
        for old in (0..all).filter(|&old| !unused(old)) {
            w_before.row_mut(old).assign(&w.row(old));
            w_after.row_mut(names[old]).assign(&w.row(old));
            (b_before[old], b_after[names[old]]) = (b[[old, 0]], b[[old, 0]]);
        }
        let before = Classifier { weights: w_before.view(), bias: b_before.view() };
        let after = Classifier { weights: w_after.view(), bias: b_after.view() };
        same(of_classes(z.view(), &y, all, Some(before)), of_classes(z.view(), &renamed, all, Some(after)), 1e-10)?;
    }

    /// Rows in f32 about a million: they are multiples of 1/16, so that the same rows about zero are exact, and every estimate of
    /// them is the same to 1e-9.
    #[test]
    fn a_mean_of_a_million(seed in any::<u64>(), width in 2..7_usize, classes in 2..4_usize) {
        let (z, y) = labelled(seed, width, classes);
        let far = z.mapv(|value| (value + 1e6) as f32);
        let near = far.mapv(|value| f64::from(value) - 1e6);
        same(of_rows(far.view()), of_rows(near.view()), 1e-9)?;
        let [a, b] = [
            of_classes(far.view(), &y, classes, None)?,
            of_classes(near.view(), &y, classes, None)?,
        ];
        // A class mean and the mean of those are each rounded by at most half of ε·10⁶ in a dimension: `δ` in length for their difference,
        // and for a row's from its class mean. Relative to the least they are divided by, `δ` counts twice in NC1, a ratio of
        // squares; in a cosine once for either vector; and in the squared length of a row, `√D` deviations on average and at most
        // twice that with covariances from few rows, as `2·2√D`.
        let least = Least::of(&near, &y, classes)?;
        let delta = 1e6 * f64::EPSILON * (width as f64).sqrt();
        let slack = |name: &str| match name {
            "NC1" => 2.0 * delta / least.between,
            "QDA" => 4.0 * (width as f64).sqrt() * delta / least.within,
            name if name.starts_with("NC2") => 2.0 * delta / least.length,
            _ => 0.0,
        };
        for ((name, a), (_, b)) in a.into_iter().zip(b) {
            let tolerance = 1e-9 + slack(&name);
            prop_assert!(close(a, b, tolerance, 1.0 + b.abs()), "{name}: {a} {b}");
        }
        let wide = |n: usize| near.slice(s![..n, ..]).to_owned();
        let few = wide(width.max(3) - 1);
        let lots = few.mapv(|value| (value + 1e6) as f32);
        let [a, b] = [gaussian::ledoit_wolf(lots.view())?, gaussian::ledoit_wolf(few.view())?]
            .map(|shrunk| shrunk.map(|shrunk| shrunk.shrinkage));
        match (a, b) {
            (Ok(a), Ok(b)) => prop_assert!(close(a, b, 1e-9, 1.0), "{a} {b}"),
            // Two rows may be rounded to one.
            (a, b) => prop_assert_eq!(a, b),
        }
        let mut random = rng(seed);
        let x = Array2::from_shape_fn((z.nrows(), 2), |(i, _)| near[[i, 0]] + random.random::<f64>());
        let attack = |z: Result<Estimated, Error>| z.map(value);
        let [a, b] = [
            attack(ridge_attack_mse(x.view(), far.view(), RidgeAttack::default()))?,
            attack(ridge_attack_mse(x.view(), near.view(), RidgeAttack::default()))?,
        ];
        prop_assert!(close(a, b, 1e-9, b), "{a} {b}");
    }
}

/// Columns of scales from 1e-2 to 1e5, each a million from zero: up to 1e8 deviations.
#[test]
fn offsets_and_scales_together() -> Outcome<()> {
    let (z, y) = labelled(5, 4, 3);
    let scales = ndarray::array![1e-2, 1.0, 1e3, 1e5];
    let far = (&z * &scales).mapv(|value| value + 1e6);
    let near = far.mapv(|value| value - 1e6);
    let names =
        ["full bound", "log det", "corrected", "Gaussian information", "corrected information"];
    for ((name, a), (_, b)) in of_rows(far.view())?.into_iter().zip(of_rows(near.view())?) {
        if names.contains(&name.as_str()) {
            assert!(close(a, b, 1e-9, 1.0 + b.abs()), "{name}: {a} {b}");
        }
    }
    let [a, b] = [far, near].map(|z| qda::crossfit_nats(z.view(), &y, 3).map(value));
    let (a, b) = (a?, b?);
    assert!(close(a, b, 1e-9, 1.0), "{a} {b}");
    Ok(())
}
