//! Neural collapse against the stored simplex, against the definitions with full matrices, and its laws.
#![cfg(feature = "lapack-base")]

mod common;

use common::case::{self, Outcome};
use common::{close, labels, normal, rng};
use gpz_estimators::collapse::{Classifier, Collapse, CollapsePass, collapse};
use gpz_estimators::{ClassMoments, Error, Estimated, Flag, NotIdentifiable};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use proptest::prelude::*;

#[test]
fn stored_simplex() -> Outcome<()> {
    let case = case::Case::open("nc_exact_etf")?;
    let (z, y, w, b) = (case.matrix("z")?, case.labels()?, case.matrix("w")?, case.vector("b")?);
    let found = collapse(z.view(), &y, 10, Some(Classifier { weights: w.view(), bias: b.view() }))?;
    case.check("nc1_trace", &[found.nc1_trace?.value]);
    case.check("nc2_equinorm", &[found.nc2_equinorm?.value]);
    case.check("nc2_equiangle", &[found.nc2_equiangle?.value]);
    case.check("nc2_angle_std", &[found.nc2_angle_std?.value]);
    case.check(
        "nc3_self_duality",
        &[found.nc3_self_duality.ok_or("a classifier was given")??.value],
    );
    case.check("nc4_agreement", &[found.nc4_agreement.ok_or("a classifier was given")??.value]);
    assert_eq!(found.nearest_mean_accuracy?.value, 1.0);
    Ok(())
}

/// The measures by their definitions. `Σ_B⁺` by its action: for a vector in the span of the means the solution of least norm, here
/// from a basis made by Gram and Schmidt.
struct Definition {
    nc1: f64,
    nc2: [f64; 3],
    nc3: f64,
    nc4: f64,
    nearest: f64,
}

fn definition(
    z: &Array2<f64>,
    y: &[usize],
    classes: usize,
    w: &Array2<f64>,
    b: &Array1<f64>,
) -> Definition {
    let (n, d) = (z.nrows() as f64, z.ncols());
    let present: Vec<usize> = (0..classes).filter(|c| y.contains(c)).collect();
    let k = present.len();
    let members =
        |class: usize| -> Vec<usize> { (0..y.len()).filter(|&i| y[i] == class).collect() };
    let mut means = Array2::zeros((k, d));
    for (at, &class) in present.iter().enumerate() {
        means
            .row_mut(at)
            .assign(&z.select(Axis(0), &members(class)).mean_axis(Axis(0)).expect("rows"));
    }
    let centred = &means - &means.mean_axis(Axis(0)).expect("classes");
    // An orthonormal basis of the span of the centred means.
    let mut basis: Vec<Array1<f64>> = Vec::new();
    for row in centred.rows() {
        let mut v = row.to_owned();
        for _ in 0..2 {
            for e in &basis {
                v = &v - &(e * e.dot(&v));
            }
        }
        let norm = v.dot(&v).sqrt();
        if norm > 1e-9 * row.dot(&row).sqrt() {
            basis.push(v / norm);
        }
    }
    let coordinates =
        Array2::from_shape_fn((k, basis.len()), |(c, e)| centred.row(c).dot(&basis[e]));
    let between = coordinates.t().dot(&coordinates) / k as f64;
    let mut trace = 0.0;
    let (mut agree, mut nearest) = (0, 0);
    for (row, &label) in z.rows().into_iter().zip(y) {
        let own = present.iter().position(|&class| class == label).expect("present");
        let deviation = &row - &means.row(own);
        let v: Array1<f64> = basis.iter().map(|e| e.dot(&deviation)).collect();
        trace += v.dot(&solve(between.clone(), v.clone())) / n;
        let distance = |c: usize| (&row - &means.row(c)).mapv(|v| v * v).sum();
        let near =
            (0..k).min_by(|&a, &c| f64::total_cmp(&distance(a), &distance(c))).expect("classes");
        let logits = w.dot(&row) + b;
        let decided =
            (0..classes).max_by(|&a, &c| f64::total_cmp(&logits[a], &logits[c])).expect("classes");
        agree += usize::from(decided == present[near]);
        nearest += usize::from(near == own);
    }
    let lengths: Vec<f64> = centred.rows().into_iter().map(|m| m.dot(&m).sqrt()).collect();
    let spread = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (
            mean,
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt(),
        )
    };
    let mut cosines = Vec::new();
    for i in 0..k {
        cosines.extend(
            (0..k)
                .filter(|&j| j != i)
                .map(|j| centred.row(i).dot(&centred.row(j)) / lengths[i] / lengths[j]),
        );
    }
    let off: Vec<f64> = cosines.iter().map(|c| (c + 1.0 / (k as f64 - 1.0)).abs()).collect();
    let norm = |m: &Array2<f64>| m.iter().map(|v| v * v).sum::<f64>().sqrt();
    let own = w.select(Axis(0), &present);
    let (length, spread_of_lengths) = spread(&lengths);
    Definition {
        nc1: trace / k as f64,
        nc2: [spread_of_lengths / length, spread(&off).0, spread(&cosines).1],
        nc3: norm(&(&own / norm(&own) - &centred / norm(&centred))),
        nc4: agree as f64 / n,
        nearest: nearest as f64 / n,
    }
}

/// Gauss and Jordan with the largest pivot.
fn solve(mut a: Array2<f64>, mut b: Array1<f64>) -> Array1<f64> {
    let n = b.len();
    for i in 0..n {
        let pivot =
            (i..n).max_by(|&p, &q| a[[p, i]].abs().total_cmp(&a[[q, i]].abs())).unwrap_or(i);
        for j in 0..n {
            a.swap([i, j], [pivot, j]);
        }
        b.swap(i, pivot);
        for r in (0..n).filter(|&r| r != i) {
            let factor = a[[r, i]] / a[[i, i]];
            for j in 0..n {
                a[[r, j]] -= factor * a[[i, j]];
            }
            b[r] -= factor * b[i];
        }
    }
    (0..n).map(|i| b[i] / a[[i, i]]).collect()
}

fn value(measure: &Estimated) -> f64 {
    measure.as_ref().expect("identifiable").value
}

fn values(found: &Collapse) -> Vec<f64> {
    let classifier = [&found.nc3_self_duality, &found.nc4_agreement];
    let plain = [
        &found.nc1_trace,
        &found.nc2_equinorm,
        &found.nc2_equiangle,
        &found.nc2_angle_std,
        &found.nearest_mean_accuracy,
    ];
    plain.into_iter().chain(classifier.into_iter().flatten()).map(value).collect()
}

#[derive(Debug)]
struct Case {
    z: Array2<f64>,
    y: Vec<usize>,
    classes: usize,
    w: Array2<f64>,
    b: Array1<f64>,
}

impl Case {
    /// Classes around means of their own; some may be empty or of one row.
    fn new(seed: u64, n: usize, width: usize, classes: usize) -> Self {
        let mut rng = rng(seed);
        let mut y = labels(&mut rng, n, classes);
        (y[0], y[1]) = (0, classes - 1);
        let means = normal(&mut rng, (classes, width));
        let mut z = normal(&mut rng, (n, width)) * 0.5;
        for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
            row += &means.row(label);
        }
        let (w, b) =
            (normal(&mut rng, (classes, width)), normal(&mut rng, (1, classes)).row(0).to_owned());
        Self { z, y, classes, w, b }
    }

    fn classifier(&self) -> Classifier<'_> {
        Classifier { weights: self.w.view(), bias: self.b.view() }
    }

    fn collapse(&self, z: ArrayView2<'_, f64>) -> Result<Collapse, Error> {
        collapse(z, &self.y, self.classes, Some(self.classifier()))
    }
}

fn cases() -> impl Strategy<Value = Case> {
    (any::<u64>(), 8..60_usize, 1..30_usize, 2..8_usize)
        .prop_map(|(seed, n, width, classes)| Case::new(seed, n, width, classes))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_pass_gives_what_the_definitions_give(case in cases()) {
        let found = case.collapse(case.z.view())?;
        let want = definition(&case.z, &case.y, case.classes, &case.w, &case.b);
        prop_assert!(close(value(&found.nc1_trace), want.nc1, 1e-6, want.nc1), "{} for {}", value(&found.nc1_trace), want.nc1);
        let nc2 = [&found.nc2_equinorm, &found.nc2_equiangle, &found.nc2_angle_std].map(value);
        prop_assert!(nc2.iter().zip(want.nc2).all(|(got, want)| close(*got, want, 1e-9, 1.0)));
        prop_assert!(close(found.nc3_self_duality.as_ref().map_or(f64::NAN, value), want.nc3, 1e-9, 1.0));
        prop_assert_eq!(found.nc4_agreement.as_ref().map_or(f64::NAN, value), want.nc4);
        prop_assert_eq!(value(&found.nearest_mean_accuracy), want.nearest);
    }

    /// Any cut into batches and shards, merged in any order, up to rounding.
    #[test]
    fn shards_merge(case in cases(), cuts in (0..60_usize, 0..60_usize), step in 1..20_usize) {
        let n = case.z.nrows();
        let mut moments = ClassMoments::new(case.classes, case.z.ncols())?;
        moments.update(case.z.view(), &case.y)?;
        let start = CollapsePass::new(&moments, Some(case.classifier()))?;
        let shard = |from: usize, to: usize| {
            let mut pass = start.clone();
            for from in (from..to).step_by(step) {
                let to = (from + step).min(to);
                pass.update(case.z.slice(s![from..to, ..]), &case.y[from..to])?;
            }
            Ok::<_, Error>(pass)
        };
        let (a, b) = ((cuts.0 % n).min(cuts.1 % n), (cuts.0 % n).max(cuts.1 % n));
        let (first, second, third) = (shard(0, a)?, shard(a, b)?, shard(b, n)?);
        let mut left = first.clone();
        left.merge(&second)?;
        left.merge(&third)?;
        let mut right = third;
        right.merge(&second)?;
        right.merge(&first)?;
        let all = [left.finish()?, right.finish()?, case.collapse(case.z.view())?].map(|found| values(&found));
        for (a, b) in all[0].iter().zip(&all[1]).chain(all[0].iter().zip(&all[2])) {
            prop_assert!(close(*a, *b, 1e-12, 1.0 + a.abs()));
        }
    }

    /// Shifts, rotations and scales of the features change no measure of the features.
    #[test]
    fn motions_change_nothing(case in cases(), scale in 1e-3..1e3_f64, shift in -1e3..1e3_f64) {
        let d = case.z.ncols();
        let v = normal(&mut rng(7), (d, 1));
        let norm = v.iter().map(|value| value * value).sum::<f64>();
        let moved = (&case.z - &(case.z.dot(&v).dot(&v.t()) * (2.0 / norm))) * scale + shift * scale;
        let (a, b) = (case.collapse(case.z.view())?, case.collapse(moved.view())?);
        // Without the last two, which the classifier decides.
        for (a, b) in values(&a)[..5].iter().zip(&values(&b)[..5]) {
            prop_assert!(close(*a, *b, 1e-5, 1.0 + a.abs()), "{a} {b}");
        }
    }
}

#[test]
fn empty_and_singleton_classes_are_reported() -> Outcome<()> {
    let mut case = Case::new(90, 30, 4, 5);
    for label in &mut case.y {
        *label = if *label == 3 { 1 } else { *label };
    }
    case.y.iter_mut().skip(2).for_each(|label| *label = if *label == 4 { 0 } else { *label });
    let found = case.collapse(case.z.view())?;
    assert_eq!((&found.empty_classes[..], &found.singleton_classes[..]), (&[3][..], &[4][..]));
    assert_eq!(found.classes, 4);
    let flags = found.nc1_trace?.flags;
    assert!(flags.contains(&Flag::EmptyClasses(1)) && flags.contains(&Flag::SingletonClass));
    Ok(())
}

#[test]
fn what_cannot_be_told() -> Outcome<()> {
    let z = normal(&mut rng(91), (6, 3));
    let one = collapse(z.view(), &[1; 6], 3, None)?;
    assert_eq!(one.nc1_trace, Err(NotIdentifiable::TooFewClasses { have: 1 }));
    assert_eq!((one.nc3_self_duality, one.nc4_agreement), (None, None));
    let equal = collapse(Array2::<f32>::ones((4, 3)).view(), &[0, 0, 1, 1], 2, None)?;
    assert!(matches!(equal.nc1_trace, Err(NotIdentifiable::Singular { rank: 0, .. })));
    assert_eq!(collapse(Array2::<f32>::ones((0, 3)).view(), &[], 2, None), Err(Error::NoRows));
    Ok(())
}

#[test]
fn a_second_pass_over_other_rows_is_refused() -> Outcome<()> {
    let case = Case::new(92, 40, 5, 3);
    let mut moments = ClassMoments::new(3, 5)?;
    moments.update(case.z.view(), &case.y)?;
    let start = CollapsePass::new(&moments, None)?;
    let mut pass = start.clone();
    pass.update(case.z.slice(s![1.., ..]), &case.y[1..])?;
    assert!(matches!(pass.finish(), Err(Error::PassCounts { class: 0, .. })));
    let mut pass = start.clone();
    pass.update((&case.z * 1.1).view(), &case.y)?;
    assert!(matches!(pass.finish(), Err(Error::PassRows { .. })));
    // A bad row changes nothing.
    let mut bad = case.z.clone();
    bad[[7, 2]] = f64::INFINITY;
    let mut pass = start.clone();
    assert!(matches!(
        pass.update(bad.view(), &case.y),
        Err(Error::NonFinite { row: 7, column: 2, .. })
    ));
    pass.update(case.z.view(), &case.y)?;
    assert!(pass.finish().is_ok());
    // Nor does a classifier of another shape pass.
    let weights = Array2::zeros((3, 4));
    let bias = Array1::zeros(3);
    let odd = Classifier { weights: weights.view(), bias: bias.view() };
    assert!(matches!(CollapsePass::new(&moments, Some(odd)), Err(Error::Shape { .. })));
    Ok(())
}

#[test]
fn threads_do_not_change_a_bit() -> Outcome<()> {
    let case = Case::new(93, 300, 700, 70);
    let runs = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| case.collapse(case.z.view())).expect("clean rows")
    });
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
    Ok(())
}
