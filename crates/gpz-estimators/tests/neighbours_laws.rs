//! Estimators of nearest neighbours: brute force, invariances, bad input, and that threads change no bit.

mod common;

use common::{close, labels, normal, rng};
use gpz_estimators::dimension::{Averaging, levina_bickel, two_nn};
use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::information::ksg::{ksg1_nats, ksg2_nats};
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::information::ross::ross_nats;
use gpz_estimators::{Error, Flag, Metric, Neighbours, NotIdentifiable};
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, array, s};
use proptest::prelude::*;
use rand::seq::SliceRandom;
use statrs::function::gamma::digamma;

/// `max_j |a_j − b_j|`.
fn far(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> f64 {
    a.iter().zip(b).fold(0.0, |far: f64, (a, b)| far.max((a - b).abs()))
}

fn euclidean(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// The `k` nearest other rows by a distance of two rows, ties by the smaller row.
fn nearest(n: usize, of: usize, k: usize, distance: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let mut others: Vec<usize> = (0..n).filter(|&row| row != of).collect();
    others.sort_by(|&a, &b| distance(of, a).total_cmp(&distance(of, b)).then(a.cmp(&b)));
    others.truncate(k);
    others
}

#[derive(Debug)]
struct Pairs {
    x: Array2<f64>,
    y: Array2<f64>,
}

impl Pairs {
    fn joint(&self, a: usize, b: usize) -> f64 {
        far(self.x.row(a), self.x.row(b)).max(far(self.y.row(a), self.y.row(b)))
    }

    /// Rows, this one included, for which `near` holds of the distance.
    fn count(rows: &Array2<f64>, of: usize, near: impl Fn(f64) -> bool) -> f64 {
        (0..rows.nrows()).filter(|&row| near(far(rows.row(of), rows.row(row)))).count() as f64
    }

    fn ksg1(&self, k: usize) -> f64 {
        let n = self.x.nrows();
        let terms = (0..n).map(|i| {
            let eps = self.joint(i, nearest(n, i, k, |a, b| self.joint(a, b))[k - 1]);
            digamma(Self::count(&self.x, i, |d| d < eps))
                + digamma(Self::count(&self.y, i, |d| d < eps))
        });
        digamma(k as f64) + digamma(n as f64) - terms.sum::<f64>() / n as f64
    }

    fn ksg2(&self, k: usize) -> f64 {
        let n = self.x.nrows();
        let terms = (0..n).map(|i| {
            let found = nearest(n, i, k, |a, b| self.joint(a, b));
            let of = |rows: &Array2<f64>| {
                let eps = found.iter().map(|&j| far(rows.row(i), rows.row(j))).fold(0.0, f64::max);
                digamma(Self::count(rows, i, |d| d <= eps) - 1.0)
            };
            of(&self.x) + of(&self.y)
        });
        digamma(k as f64) - 1.0 / k as f64 + digamma(n as f64) - terms.sum::<f64>() / n as f64
    }

    fn gao(&self, k: usize) -> f64 {
        let n = self.x.nrows();
        let terms = (0..n).map(|i| {
            let rho = self.joint(i, nearest(n, i, k, |a, b| self.joint(a, b))[k - 1]);
            let near = |d: f64| if rho == 0.0 { d == 0.0 } else { d < rho };
            let k =
                if rho == 0.0 { (0..n).filter(|&j| self.joint(i, j) == 0.0).count() } else { k };
            digamma(k as f64)
                - digamma(Self::count(&self.x, i, near))
                - digamma(Self::count(&self.y, i, near))
        });
        (n as f64).ln() + terms.sum::<f64>() / n as f64
    }
}

/// Ross's estimate by double loops, classes of one left out.
fn ross(z: &Array2<f64>, labels: &[usize], k: usize) -> f64 {
    let size = |label| labels.iter().filter(|&&other| other == label).count();
    let kept: Vec<usize> = (0..labels.len()).filter(|&row| size(labels[row]) > 1).collect();
    let n = kept.len() as f64;
    let distance = |a: usize, b: usize| euclidean(z.row(a), z.row(b));
    let terms = kept.iter().map(|&i| {
        let mut own: Vec<f64> = kept
            .iter()
            .filter(|&&j| j != i && labels[j] == labels[i])
            .map(|&j| distance(i, j))
            .collect();
        own.sort_by(f64::total_cmp);
        let k = k.min(own.len());
        let m = kept.iter().filter(|&&j| distance(i, j) < own[k - 1]).count();
        digamma(k as f64) - digamma(size(labels[i]) as f64) - digamma(m as f64)
    });
    digamma(n) + terms.sum::<f64>() / n
}

/// Two dependent samples; `steps` to a unit, or none for continuous ones.
fn pairs(steps: Option<f64>) -> impl Strategy<Value = (Pairs, usize)> {
    let shape = (any::<u64>(), 20..120_usize, 1..4_usize, 1..4_usize, 1..6_usize);
    shape.prop_map(move |(seed, n, dx, dy, k)| {
        let mut rng = rng(seed);
        let x = normal(&mut rng, (n, dx));
        let mut y = normal(&mut rng, (n, dy));
        for (mut y, x) in y.rows_mut().into_iter().zip(x.rows()) {
            y += x[0];
        }
        let round = |v: f64| steps.map_or(v, |steps| (v * steps).round() / steps);
        (Pairs { x: x.mapv(round), y: y.mapv(round) }, k)
    })
}

fn plain(k: usize) -> Neighbours {
    Neighbours::nth(k).without_std_err()
}

fn shuffled(rows: &Array2<f64>, order: &[usize]) -> Array2<f64> {
    rows.select(Axis(0), order)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn information_equals_brute_force((pairs, k) in pairs(None)) {
        let (x, y) = (pairs.x.view(), pairs.y.view());
        let one = ksg1_nats(x, y, plain(k))?;
        prop_assert!(one.is_ok_and(|one| close(one.value, pairs.ksg1(k), 1e-12, 10.0)));
        let two = ksg2_nats(x, y, plain(k))?;
        prop_assert!(two.is_ok_and(|two| close(two.value, pairs.ksg2(k), 1e-12, 10.0)));
        let mixed = gao_nats(x, y, plain(k))?;
        prop_assert!(mixed.is_ok_and(|mixed| close(mixed.value, pairs.gao(k), 1e-12, 10.0)));
    }

    /// On a lattice there are ties at every distance: refused where a neighbour coincides, brute force's number elsewhere.
    #[test]
    fn information_equals_brute_force_with_ties((pairs, k) in pairs(Some(2.0))) {
        let (x, y) = (pairs.x.view(), pairs.y.view());
        let n = pairs.x.nrows();
        let kth = |i| pairs.joint(i, nearest(n, i, k, |a, b| pairs.joint(a, b))[k - 1]);
        let tied = (0..n).filter(|&i| kth(i) == 0.0).count() as u64;
        match (ksg1_nats(x, y, plain(k))?, ksg2_nats(x, y, plain(k))?) {
            (Ok(one), Ok(two)) => {
                prop_assert_eq!(tied, 0);
                prop_assert!(close(one.value, pairs.ksg1(k), 1e-12, 10.0));
                prop_assert!(close(two.value, pairs.ksg2(k), 1e-12, 10.0));
            }
            (one, two) => {
                prop_assert_eq!(&one, &two);
                prop_assert_eq!(one, Err(NotIdentifiable::Tied { rows: tied, of: n as u64, neighbour: k }));
            }
        }
        let mixed = gao_nats(x, y, plain(k))?;
        prop_assert!(mixed.is_ok_and(|mixed| close(mixed.value, pairs.gao(k), 1e-12, 10.0)));
    }

    /// The samples change places, the rows their order, the unit by a power of two, the origin by a whole number: no bit changes
    /// but in the last sum.
    #[test]
    fn information_has_its_invariances((pairs, k) in pairs(Some(1024.0)), seed in any::<u64>()) {
        let (x, y) = (&pairs.x, &pairs.y);
        let mut order: Vec<usize> = (0..x.nrows()).collect();
        order.shuffle(&mut rng(seed));
        for estimate in [ksg1_nats, ksg2_nats, gao_nats] {
            let value = |x: &Array2<f64>, y: &Array2<f64>| match estimate(x.view(), y.view(), plain(k)) {
                Ok(Ok(estimate)) => estimate.value,
                _ => f64::NAN,
            };
            let whole = value(x, y);
            prop_assume!(whole.is_finite());
            prop_assert!(close(value(y, x), whole, 1e-13, 10.0));
            prop_assert_eq!(value(&(x * 0.125), &(y * 0.125)), whole);
            prop_assert_eq!(value(&(x + 4096.0), &(y - 512.0)), whole);
            prop_assert!(estimate(x.view(), y.view(), plain(k))?.is_ok_and(|e| e.ceiling.is_some_and(|c| e.value <= c + 1e-12)));
        }
        let (x, y) = (shuffled(x, &order), shuffled(y, &order));
        for (whole, turned) in [
            (ksg1_nats(pairs.x.view(), pairs.y.view(), plain(k))?, ksg1_nats(x.view(), y.view(), plain(k))?),
            (gao_nats(pairs.x.view(), pairs.y.view(), plain(k))?, gao_nats(x.view(), y.view(), plain(k))?),
        ] {
            if let (Ok(whole), Ok(turned)) = (whole, turned) {
                prop_assert!(close(whole.value, turned.value, 1e-13, 10.0));
            }
        }
    }

    #[test]
    fn ross_equals_brute_force((pairs, k) in pairs(None), classes in 1..30_usize, seed in any::<u64>()) {
        let y = labels(&mut rng(seed), pairs.x.nrows(), classes);
        let mi = ross_nats(pairs.x.view(), &y, plain(k))?;
        let size = |label| y.iter().filter(|&&other| other == label).count();
        let alone = y.iter().filter(|&&label| size(label) == 1).count() as u64;
        match mi {
            Ok(mi) => {
                prop_assert!(close(mi.value, ross(&pairs.x, &y, k), 1e-12, 10.0));
                prop_assert_eq!(mi.n_effective, (y.len() as u64 - alone) as f64);
                prop_assert_eq!(mi.flags.contains(&Flag::LeftOut(alone)), alone > 0);
                prop_assert!(mi.ceiling.is_some_and(|ceiling| mi.value <= ceiling + 1e-12));
                // Names of labels are nothing but names.
                let renamed: Vec<usize> = y.iter().map(|&label| usize::MAX - 7 * label).collect();
                let same = ross_nats(pairs.x.view(), &renamed, plain(k))?;
                prop_assert!(same.is_ok_and(|same| close(same.value, mi.value, 1e-13, 10.0)));
            }
            Err(reason) => prop_assert_eq!(alone, y.len() as u64, "{}", reason),
        }
    }

    #[test]
    fn entropy_follows_its_laws(seed in any::<u64>(), n in 10..200_usize, d in 1..6_usize, k in 1..8_usize, a in prop_oneof![-1e6..-1e-6_f64, 1e-6..1e6_f64], b in -1e3..1e3_f64) {
        let z = normal(&mut rng(seed), (n, d));
        let h = |z: &Array2<f64>, metric| match kozachenko_leonenko_nats(z.view(), metric, plain(k)) {
            Ok(Ok(estimate)) => estimate.value,
            _ => f64::NAN,
        };
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut rng(seed ^ 1));
        for metric in [Metric::Euclidean, Metric::Maximum] {
            let whole = h(&z, metric);
            prop_assert!(close(h(&(&z + b), metric), whole, 1e-9, 10.0));
            // h(aZ) = h(Z) + d ln|a|
            prop_assert!(close(h(&(&z * a), metric), whole + d as f64 * a.abs().ln(), 1e-11, 100.0));
            prop_assert!(close(h(&shuffled(&z, &order), metric), whole, 1e-12, 10.0));
        }
        // A reflection.
        let v = normal(&mut rng(seed ^ 2), (d, 1));
        let turn = Array2::<f64>::eye(d) - &(v.dot(&v.t()) * (2.0 / v.iter().map(|v| v * v).sum::<f64>()));
        prop_assert!(close(h(&z.dot(&turn), Metric::Euclidean), h(&z, Metric::Euclidean), 1e-9, 10.0));
        // Brute force, by the definition.
        let terms = (0..n).map(|i| {
            let distance = |a: usize, b: usize| far(z.row(a), z.row(b));
            (2.0 * distance(i, nearest(n, i, k, distance)[k - 1])).ln()
        });
        let want = digamma(n as f64) - digamma(k as f64) + d as f64 * terms.sum::<f64>() / n as f64;
        prop_assert!(close(h(&z, Metric::Maximum), want, 1e-12, 10.0));
    }

    #[test]
    fn dimension_knows_no_unit(seed in any::<u64>(), n in 30..200_usize, d in 1..6_usize, a in 1e-6..1e6_f64, b in -1e3..1e3_f64) {
        let z = normal(&mut rng(seed), (n, d));
        let moved = &z * a + b * a;
        let two = |z: &Array2<f64>| two_nn(z.view(), 0).map(|e| e.map_or(f64::NAN, |e| e.value));
        prop_assert!(close(two(&z)?, two(&moved)?, 1e-7, 10.0));
        for averaging in [Averaging::OfInverses, Averaging::OfEstimates] {
            let local = |z: &Array2<f64>| {
                levina_bickel(z.view(), plain(10), averaging).map(|e| e.map_or(f64::NAN, |e| e.value))
            };
            prop_assert!(close(local(&z)?, local(&moved)?, 1e-7, 10.0));
        }
        // A row twice is left out, and said.
        let repeated = ndarray::concatenate![Axis(0), z, z.slice(s![..3, ..])];
        let again = two_nn(repeated.view(), 0)?;
        let again = again.map_err(|reason| TestCaseError::fail(reason.to_string()))?;
        prop_assert!(close(again.value, two(&z)?, 1e-12, 10.0));
        prop_assert_eq!(again.flags[..2].to_vec(), vec![Flag::DuplicateRows(3), Flag::LeftOut(3)]);
    }
}

/// A mean of a million in f32 costs nothing: what counts are differences, exact in f64.
#[test]
fn a_large_offset_costs_no_digits() -> Result<(), Error> {
    let z = normal(&mut rng(3), (800, 2)).mapv(|v| (v * 4.0 + 1e6) as f32);
    let near = z.mapv(|v| f64::from(v) - 1e6);
    let h = |estimate: Result<_, Error>| {
        estimate.map(|e: Result<gpz_estimators::Estimate, _>| e.map_or(f64::NAN, |e| e.value))
    };
    let offset = h(kozachenko_leonenko_nats(z.view(), Metric::Euclidean, plain(3)))?;
    let plain = h(kozachenko_leonenko_nats(near.view(), Metric::Euclidean, plain(3)))?;
    assert!(close(offset, plain, 1e-9, 1.0), "{offset} {plain}");
    Ok(())
}

#[test]
fn threads_change_no_bit() {
    let mut rng = rng(4);
    let (x, noise) = (normal(&mut rng, (9000, 3)), normal(&mut rng, (9000, 2)));
    let y = &noise + &x.slice(s![.., ..2]);
    let labels: Vec<usize> = (0..9000).map(|row| row % 5).collect();
    let runs = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let options = Neighbours::default();
            (
                ksg1_nats(x.view(), y.view(), options),
                kozachenko_leonenko_nats(x.view(), Metric::Euclidean, options),
                ross_nats(x.view(), &labels, options),
                two_nn(noise.view(), 8),
            )
        })
    });
    assert!(runs[0].0.as_ref().is_ok_and(Result::is_ok));
    assert!(runs.iter().all(|run| *run == runs[0]));
}

#[test]
fn bad_input_is_an_error() {
    let good = normal(&mut rng(5), (20, 2));
    let z: ArrayView2<'_, f64> = good.view();
    let few = Err(Error::TooFewRows { neighbours: 20, rows: 20 });
    assert_eq!(ksg1_nats(z, z, Neighbours::nth(20)), few);
    assert_eq!(gao_nats(z, z, Neighbours::nth(20)), few);
    assert_eq!(levina_bickel(z, Neighbours::nth(20), Averaging::OfInverses), few);
    assert_eq!(kozachenko_leonenko_nats(z, Metric::Maximum, Neighbours::nth(20)), few);
    assert!(matches!(ksg2_nats(z, z, Neighbours::nth(0)), Err(Error::Parameter { name: "k", .. })));
    assert!(matches!(
        levina_bickel(z, Neighbours::nth(2), Averaging::OfInverses),
        Err(Error::Parameter { .. })
    ));
    assert_eq!(
        ksg1_nats(z, z.slice(s![1.., ..]), plain(3)),
        Err(Error::RowCount { left: 20, right: 19 })
    );
    assert_eq!(ross_nats(z, &[0; 3], plain(3)), Err(Error::LabelCount { rows: 20, labels: 3 }));
    let none = Array2::<f64>::zeros((0, 2));
    assert_eq!(
        kozachenko_leonenko_nats(none.view(), Metric::Maximum, plain(3)),
        Err(Error::NoRows)
    );
    assert_eq!(ross_nats(none.view(), &[], plain(3)), Err(Error::NoRows));
    assert_eq!(two_nn(none.view(), 8), Err(Error::NoRows));
    let one = good.slice(s![..1, ..]);
    assert_eq!(ksg1_nats(one, one, plain(3)), Err(Error::TooFewRows { neighbours: 3, rows: 1 }));
    assert!(matches!(
        two_nn(one, 8),
        Ok(Err(NotIdentifiable::TooFewRows { have: 1, need: 3, .. }))
    ));
    let mut bad = good.clone();
    bad[[7, 1]] = f64::NAN;
    let named =
        |error: Option<Error>| matches!(error, Some(Error::NonFinite { row: 7, column: 1, .. }));
    assert!(named(ksg1_nats(z, bad.view(), plain(3)).err()));
    assert!(named(gao_nats(bad.view(), z, plain(3)).err()));
    assert!(named(ross_nats(bad.view(), &[0; 20], plain(3)).err()));
    assert!(named(kozachenko_leonenko_nats(bad.view(), Metric::Euclidean, plain(3)).err()));
    assert!(named(levina_bickel(bad.view(), plain(3), Averaging::OfInverses).err()));
}

#[test]
fn degenerate_supports_are_minus_infinity_and_say_why() -> Result<(), Error> {
    let z = normal(&mut rng(6), (300, 3));
    let h = |z: &Array2<f64>| {
        kozachenko_leonenko_nats(z.view(), Metric::Euclidean, Neighbours::default())
    };
    let mut constant = z.clone();
    constant.column_mut(1).fill(0.1);
    let mut dependent = z.clone();
    let sum = &z.column(0) * 3.0 - z.column(1);
    dependent.column_mut(2).assign(&sum);
    let mut equal = z.clone();
    for row in 1..5 {
        equal.row_mut(row).assign(&z.row(0));
    }
    for (rows, flag) in [
        (constant, Flag::ConstantDimensions(1)),
        (dependent, Flag::RankDeficient { rank: 2, width: 3 }),
        (equal, Flag::Ties(5)),
    ] {
        let estimate = h(&rows)?.expect("an estimate");
        assert_eq!(estimate.value, f64::NEG_INFINITY);
        assert_eq!(estimate.flags, [Flag::DegenerateSupport, flag]);
        assert_eq!(estimate.std_err, None);
    }
    // A pair of equal rows is flagged and has a third neighbour all the same.
    let pair = ndarray::concatenate![Axis(0), z, z.slice(s![..1, ..])];
    let estimate = h(&pair)?.expect("an estimate");
    assert!(estimate.value.is_finite() && estimate.flags == [Flag::Ties(2)]);
    let wide = h(&normal(&mut rng(7), (50, 11)))?.expect("an estimate");
    assert_eq!(wide.flags, [Flag::HighDimension(11)]);
    Ok(())
}

#[test]
fn constant_samples_carry_no_information() -> Result<(), Error> {
    let x = normal(&mut rng(8), (400, 1));
    let constant = Array2::<f64>::ones((400, 2));
    let one = ksg1_nats(x.view(), constant.view(), Neighbours::default())?.expect("an estimate");
    assert!(one.value.abs() < 1e-12);
    assert_eq!(one.flags, [Flag::Ties(400), Flag::ConstantDimensions(2)]);
    let tied = ksg1_nats(constant.view(), constant.view(), Neighbours::default())?;
    assert_eq!(tied, Err(NotIdentifiable::Tied { rows: 400, of: 400, neighbour: 3 }));
    let mixed =
        gao_nats(constant.view(), constant.view(), Neighbours::nth(5))?.expect("an estimate");
    assert!(mixed.value.abs() < 2e-3);
    Ok(())
}

#[test]
fn labels_without_a_second_row_are_left_out() -> Result<(), Error> {
    let z = array![[0.0], [1.0], [2.5], [7.0], [9.0]];
    let all = ross_nats(z.view(), &[1, 2, 3, 4, 5], plain(3))?;
    assert_eq!(all, Err(NotIdentifiable::SingletonClasses { count: 5, first: 1 }));
    let some = ross_nats(z.view(), &[1, 1, 3, 4, 4], plain(3))?.expect("two classes");
    assert_eq!((some.n_effective, some.flags), (4.0, vec![Flag::LeftOut(1)]));
    let tied = ross_nats(array![[1.0], [1.0], [2.0], [3.0]].view(), &[0, 0, 1, 1], plain(1))?;
    assert_eq!(tied, Err(NotIdentifiable::Tied { rows: 2, of: 4, neighbour: 1 }));
    Ok(())
}

/// On a lattice every neighbour is equally far: no dimension, and it is said.
#[test]
fn a_lattice_has_no_dimension() -> Result<(), Error> {
    let z = Array2::from_shape_fn((100, 2), |(i, j)| [i / 10, i % 10][j] as f64);
    let two = two_nn(z.view(), 0)?.expect("an estimate");
    assert_eq!(two.value, f64::INFINITY);
    assert!(two.flags.contains(&Flag::Ties(100)));
    Ok(())
}
