//! Class moments against two passes in f64: every layout, instruction set, batch cut, thread count and refusal.

mod common;

use common::{Oracle, close, labels, normal, rng};
use gpz_estimators::{ClassMoments, Element, Error, Isa, Normalisation};
use ndarray::{Array2, ArrayView2, Axis, ShapeBuilder, s};
use proptest::prelude::*;
use rand::{Rng, RngExt};

fn assert_matches(moments: &ClassMoments, oracle: &Oracle, tolerance: f64) {
    assert_near(moments, oracle, tolerance, 0.0);
}

/// To a tolerance, and what means that are each wrong by `rounding` move: a merge adds `(ab/n)δ²` to a sum of squares `M`, whose error
/// `2(ab/n)δ·rounding` comes to at most `2·rounding·√(nM)` over all merges of a tree.
fn assert_near(moments: &ClassMoments, oracle: &Oracle, tolerance: f64, rounding: f64) {
    let geometry = moments.geometry().expect("rows were added");
    assert_eq!(moments.counts(), oracle.counts);
    let of =
        |squares: f64, rows: f64| tolerance * squares + 2.0 * rounding * (squares * rows).sqrt();
    let near = |got: f64, want: f64, slack: f64| (got - want).abs() <= slack;
    let mut within = 0.0;
    for (class, &count) in oracle.counts.iter().enumerate() {
        let (squares, rows) = (oracle.squares.row(class), count as f64);
        within += squares.sum();
        let Some(mean) = moments.class_mean(class) else {
            assert_eq!(count, 0);
            assert_eq!(geometry.sum_of_squares(class), None);
            continue;
        };
        let (sum, want) =
            (geometry.sum_of_squares(class).expect("the class has rows"), squares.sum());
        let slack = of(want, rows * squares.len() as f64);
        assert!(near(sum, want, slack), "class {class}: {sum} for {want}");
        let variance = moments.class_variance(class).expect("the class has rows");
        for j in 0..moments.width() {
            let spread = (squares[j] / rows).sqrt();
            let scale = spread + oracle.means[[class, j]].abs() * 1e-3;
            assert!(near(mean[j], oracle.means[[class, j]], tolerance * scale + rounding));
            assert!(near(variance[j], squares[j] / rows, of(squares[j], rows) / rows));
        }
    }
    let (n, total) = (moments.rows() as f64, oracle.variance.iter().sum::<f64>());
    let slack = of(total * n, n * oracle.variance.len() as f64) / n;
    assert!(near(geometry.total(), total, slack));
    assert!(near(geometry.within(), within / n, slack));
    for (got, &want) in geometry.variance_per_dim().iter().zip(&oracle.variance) {
        assert!(near(*got, want, of(want * n, n) / n), "{got} for {want}");
    }
    for (got, want) in geometry.mean().iter().zip(&oracle.mean) {
        assert!(near(*got, *want, tolerance * (want.abs() + total.sqrt()) + rounding));
    }
}

fn fed<T: Element>(
    isa: Isa,
    classes: usize,
    batches: &[(ArrayView2<'_, T>, &[usize])],
) -> ClassMoments {
    let mut moments = ClassMoments::with_isa(classes, batches[0].0.ncols(), isa).expect("a shape");
    for (features, labels) in batches {
        moments.update(features.view(), labels).expect("clean rows");
    }
    moments
}

const ISAS: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

/// Widths around every vector step and column block, with rows for all group sizes, on each instruction set.
#[test]
fn agrees_with_two_passes_on_every_path() {
    let mut rng = rng(11);
    for width in [1, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 4096, 4097, 9000] {
        for n in [1, 7, 8, 13, 61] {
            let features = normal(&mut rng, (n, width)).mapv(|value| value as f32);
            let labels = labels(&mut rng, n, 4);
            let wide = features.mapv(f64::from);
            let oracle = Oracle::new(wide.view(), &labels, 4, 0.0);
            for isa in ISAS.into_iter().filter(|isa| isa.is_available()) {
                assert_matches(&fed(isa, 4, &[(features.view(), &labels)]), &oracle, 1e-12);
                assert_matches(&fed(isa, 4, &[(wide.view(), &labels)]), &oracle, 1e-12);
                let cut = n / 2;
                let (a, b) = features.view().split_at(Axis(0), cut);
                let halves = fed(isa, 4, &[(a, &labels[..cut]), (b, &labels[cut..])]);
                assert_matches(&halves, &oracle, 1e-12);
            }
        }
    }
}

/// A class large enough for several pieces, several column blocks and the workspace, then more rows on top.
#[test]
fn long_classes_are_cut_into_pieces_and_added_up() {
    let mut rng = rng(12);
    let features = normal(&mut rng, (1300, 4500)).mapv(|value| (value * 3.0 + 5.0) as f32);
    let labels: Vec<usize> = (0..1300).map(|i| usize::from(i % 13 == 0)).collect();
    let oracle = Oracle::new(features.mapv(f64::from).view(), &labels, 2, 5.0);
    let whole = fed(Isa::detect(), 2, &[(features.view(), &labels)]);
    assert_matches(&whole, &oracle, 1e-12);
    let (a, b) = features.view().split_at(Axis(0), 100);
    assert_matches(
        &fed(Isa::detect(), 2, &[(a, &labels[..100]), (b, &labels[100..])]),
        &oracle,
        1e-12,
    );
}

/// Whatever the strides, the same bits as from a contiguous copy.
#[test]
fn strides_do_not_change_a_bit() {
    let mut rng = rng(13);
    let features = normal(&mut rng, (90, 70)).mapv(|value| value as f32);
    let labels = labels(&mut rng, 90, 5);
    let want = fed(Isa::detect(), 5, &[(features.view(), &labels)]);
    let mut fortran = Array2::zeros((90, 70).f());
    fortran.assign(&features);
    assert_eq!(fed(Isa::detect(), 5, &[(fortran.view(), &labels)]), want);
    let mut padded = Array2::zeros((90, 90));
    padded.slice_mut(s![.., 10..80]).assign(&features);
    assert_eq!(fed(Isa::detect(), 5, &[(padded.slice(s![.., 10..80]), &labels)]), want);
    let mut reversed = features.clone();
    reversed.invert_axis(Axis(1));
    let mut backwards = Array2::zeros((90, 70));
    backwards.assign(&reversed);
    assert_eq!(fed(Isa::detect(), 5, &[(backwards.slice(s![.., ..;-1]), &labels)]), want);
}

/// Rows that begin at any place of a cache line give the same bits.
#[test]
fn alignment_does_not_change_a_bit() {
    let mut rng = rng(14);
    let features = normal(&mut rng, (64, 80)).mapv(|value| value as f32);
    let labels = labels(&mut rng, 64, 3);
    let want = fed(Isa::detect(), 3, &[(features.view(), &labels)]);
    for shift in 0..16 {
        let mut memory = vec![0.0; shift + features.len()];
        memory[shift..].copy_from_slice(features.as_slice().expect("standard layout"));
        let view = ArrayView2::from_shape((64, 80), &memory[shift..]).expect("the same shape");
        assert_eq!(fed(Isa::detect(), 3, &[(view, &labels)]), want, "shift {shift}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut rng = rng(15);
    let features = normal(&mut rng, (1200, 5000)).mapv(|value| value as f32);
    let labels = labels(&mut rng, 1200, 2);
    let runs = [1, 2, 3, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let moments = fed(
                Isa::detect(),
                2,
                &[(features.view(), &labels), (features.slice(s![..40, ..]), &labels[..40])],
            );
            (moments.geometry().expect("rows"), moments)
        })
    });
    assert!(runs.iter().all(|run| *run == runs[0]));
}

/// A mean of a million and a deviation of one, in f32: the radius to 1e-9.
#[test]
fn a_large_offset_costs_no_digits() {
    let mut rng = rng(16);
    let features = normal(&mut rng, (3000, 40)).mapv(|value| (value + 1e6) as f32);
    let labels = labels(&mut rng, 3000, 3);
    let oracle = Oracle::new(features.mapv(f64::from).view(), &labels, 3, 1e6);
    for rows in [3000, 128, 1] {
        let mut moments = ClassMoments::new(3, 40).expect("a shape");
        for (batch, labels) in features.axis_chunks_iter(Axis(0), rows).zip(labels.chunks(rows)) {
            moments.update(batch, labels).expect("clean rows");
        }
        let geometry = moments.geometry().expect("rows");
        for class in 0..3 {
            let want = oracle.squares.row(class).sum() / oracle.counts[class] as f64;
            let got = geometry.radius_sq(class, Normalisation::PlugIn).expect("many rows");
            assert!(close(got, want, 1e-9, want), "{got} for {want} in batches of {rows}");
        }
    }
}

/// Columns of scales 1e-8 to 1e8, and a first row that lies a million deviations away, which must not become the measure of the others.
#[test]
fn scales_and_outliers_cost_no_digits() {
    let mut rng = rng(17);
    let mut features = normal(&mut rng, (2000, 17));
    for (j, mut column) in features.columns_mut().into_iter().enumerate() {
        column *= 10.0_f64.powi(j as i32 - 8);
    }
    let labels = vec![0; 2000];
    assert_matches(
        &fed(Isa::detect(), 1, &[(features.view(), &labels)]),
        &Oracle::new(features.view(), &labels, 1, 0.0),
        1e-12,
    );
    features.row_mut(0).mapv_inplace(|value| value * 1e6);
    assert_matches(
        &fed(Isa::detect(), 1, &[(features.view(), &labels)]),
        &Oracle::new(features.view(), &labels, 1, 0.0),
        1e-12,
    );
}

#[test]
fn extremes_of_f32_neither_overflow_nor_vanish() {
    let features = ndarray::array![[f32::MAX, f32::MIN_POSITIVE], [-f32::MAX, 0.0]];
    let moments = fed(Isa::detect(), 1, &[(features.view(), &[0, 0])]);
    let squares = moments.class_variance(0).expect("rows");
    assert!(close(squares[0], f64::from(f32::MAX).powi(2), 1e-15, squares[0]));
    assert!(close(squares[1], (f64::from(f32::MIN_POSITIVE) / 2.0).powi(2), 1e-15, squares[1]));
}

#[test]
fn constant_rows_have_exactly_no_spread() {
    let features = Array2::from_elem((500, 3), 0.1_f32);
    let moments =
        fed(Isa::detect(), 2, &[(features.view(), &[1; 500]), (features.view(), &[0; 500])]);
    let geometry = moments.geometry().expect("rows");
    assert_eq!(
        (geometry.within(), geometry.between(), geometry.within_over_total()),
        (0.0, 0.0, None)
    );
    assert_eq!(geometry.constant_dimensions(), [0, 1, 2]);
}

fn refused<T: Element>(
    moments: &mut ClassMoments,
    features: ArrayView2<'_, T>,
    labels: &[usize],
) -> Error {
    let before = moments.clone();
    let error = moments.update(features, labels).expect_err("bad input");
    assert_eq!(*moments, before, "{error}");
    error
}

#[test]
fn bad_input_is_named_and_changes_nothing() {
    let mut rng = rng(18);
    let good = normal(&mut rng, (64, 6)).mapv(|value| value as f32);
    let y = labels(&mut rng, 64, 3);
    for seen in [false, true] {
        let mut moments = ClassMoments::new(4, 6).expect("a shape");
        if seen {
            moments.update(good.view(), &y).expect("clean rows");
        }
        let m = &mut moments;
        assert_eq!(refused(m, good.slice(s![.., ..5]), &y), Error::Width { expected: 6, found: 5 });
        assert_eq!(refused(m, good.view(), &y[1..]), Error::LabelCount { rows: 64, labels: 63 });
        let mut label = y.clone();
        label[9] = 4;
        assert_eq!(
            refused(m, good.view(), &label),
            Error::LabelOutOfRange { row: 9, label: 4, classes: 4 }
        );
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut features = good.clone();
            (features[[50, 1]], features[[17, 5]], features[[17, 3]]) = (bad, bad, bad);
            // Dense, sparse, and f64 batches take different ways to the same answer.
            let first = |error: &Error| matches!(error, Error::NonFinite { row: 17, column: 3, value } if !value.is_finite());
            assert!(first(&refused(m, features.view(), &y)));
            assert!(first(&refused(m, features.slice(s![..18, ..]), &y[..18])));
            assert!(first(&refused(m, features.mapv(f64::from).view(), &y)));
            assert!(first(&refused(m, features.t().as_standard_layout().t(), &y)));
        }
        let mut large = good.mapv(f64::from);
        large[[3, 2]] = -2e150;
        assert_eq!(
            refused(m, large.view(), &y),
            Error::Magnitude { row: 3, column: 2, value: -2e150 }
        );
    }
    assert_eq!(ClassMoments::new(0, 3).err(), Some(Error::EmptyShape { classes: 0, width: 3 }));
    assert!(matches!(ClassMoments::new(usize::MAX, 2), Err(Error::StateTooLarge { .. })));
    let (mut small, other) =
        (ClassMoments::new(2, 3).expect("a shape"), ClassMoments::new(3, 2).expect("a shape"));
    assert!(matches!(small.merge(&other), Err(Error::MergeShape { .. })));
    assert_eq!(small.geometry(), Err(Error::NoRows));
    let empty = Array2::<f32>::zeros((0, 3));
    small.update(empty.view(), &[]).expect("no rows are no error");
    assert_eq!(small.rows(), 0);
}

#[test]
fn a_cleared_state_is_a_new_one() {
    let mut rng = rng(20);
    let features = normal(&mut rng, (50, 9));
    let y = labels(&mut rng, 50, 2);
    let mut moments = fed(Isa::detect(), 2, &[(features.view(), &y)]);
    moments.clear();
    assert_eq!(moments, ClassMoments::new(2, 9).expect("a shape"));
}

#[test]
fn memory_is_announced() {
    let bytes = ClassMoments::memory_bytes(530, 262_144);
    let state = 16 * 530 * 262_144_u128;
    assert!(bytes > state && bytes < state + (300 << 20), "{bytes}");
    assert!(ClassMoments::memory_bytes(usize::MAX, usize::MAX) > u128::from(u64::MAX));
}

/// Merges random neighbours of a list of shards until one is left: any binary tree, in any order of rows.
fn merged(mut shards: Vec<ClassMoments>, rng: &mut impl Rng) -> ClassMoments {
    while shards.len() > 1 {
        let taken = shards.swap_remove(rng.random_range(0..shards.len()));
        let at = rng.random_range(0..shards.len());
        shards[at].merge(&taken).expect("the same shape");
    }
    shards.swap_remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any shard tree equals two passes to 1e-12, whatever the type and the offset, and what the rounding of means so far from zero
    /// moves.
    #[test]
    fn shards_merge_in_any_tree(
        seed in any::<u64>(), n in 2..300_usize, width in 1..30_usize, classes in 1..6_usize, longest in 1..60_usize,
        offset in prop_oneof![Just(0.0), -1e6..1e6_f64, Just(1e6)], single in any::<bool>(),
    ) {
        let mut rng = rng(seed);
        let y = labels(&mut rng, n, classes);
        let offset = f64::from(offset as f32);
        let mut features = normal(&mut rng, (n, width)) + offset;
        let narrow = features.mapv(|value| value as f32);
        if single {
            features = narrow.mapv(f64::from);
        }
        let mut shards = Vec::new();
        let mut from = 0;
        while from < n {
            let to = (from + rng.random_range(1..=longest)).min(n);
            let rows = s![from..to, ..];
            shards.push(if single {
                fed(Isa::detect(), classes, &[(narrow.slice(rows), &y[from..to])])
            } else {
                fed(Isa::detect(), classes, &[(features.slice(rows), &y[from..to])])
            });
            from = to;
        }
        // States without rows are shards too.
        shards.push(ClassMoments::new(classes, width)?);
        let oracle = Oracle::new(features.view(), &y, classes, offset);
        // Each of a few merges on the way of a row rounds the mean by half an ε.
        assert_near(&merged(shards, &mut rng), &oracle, 1e-12, 2.0 * f64::EPSILON * offset.abs());
    }
}
