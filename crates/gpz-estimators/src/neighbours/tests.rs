//! Tree and line against the plain double loop, with and without ties.

use ndarray::{Array2, ArrayView2};
use proptest::prelude::*;

use super::*;

fn reduced<M: Norm>(rows: ArrayView2<'_, f64>, a: usize, b: usize) -> f64 {
    let pairs = rows.row(b).into_iter().zip(rows.row(a));
    pairs.fold([0.0; 8], |sum, (y, x)| M::add(sum, [y - x; 8]))[0]
}

/// Distances and rows of the `k` nearest, ties by the smaller row.
fn nearest<M: Norm>(rows: ArrayView2<'_, f64>, k: usize) -> (Vec<f64>, Vec<u32>) {
    let mut out = (Vec::new(), Vec::new());
    for a in 0..rows.nrows() {
        let mut all: Vec<(f64, u32)> = (0..rows.nrows())
            .filter(|&b| b != a)
            .map(|b| (reduced::<M>(rows, a, b), b as u32))
            .collect();
        all.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
        out.0.extend(all[..k].iter().map(|pair| pair.0));
        out.1.extend(all[..k].iter().map(|pair| pair.1));
    }
    out
}

fn counts<M: Norm>(rows: ArrayView2<'_, f64>, radius: &[f64]) -> Vec<u32> {
    let n = rows.nrows();
    (0..n)
        .map(|a| (0..n).filter(|&b| reduced::<M>(rows, a, b) < radius[a]).count() as u32)
        .collect()
}

fn check<M: Norm>(rows: ArrayView2<'_, f64>, k: usize) -> Result<(), TestCaseError> {
    let (distances, neighbours) = nearest::<M>(rows, k);
    let kth: Vec<f64> = distances.chunks(k).map(|found| found[k - 1]).collect();
    let closed: Vec<f64> = kth.iter().map(|radius| radius.next_up()).collect();
    let space = Space::<M>::new(rows);
    prop_assert_eq!(&space.nearest(k), &distances);
    prop_assert_eq!(space.count_within(&kth), counts::<M>(rows, &kth));
    prop_assert_eq!(space.count_within(&closed), counts::<M>(rows, &closed));
    for boxes in [true, false] {
        let tree = Tree::<M>::with_boxes(rows, boxes);
        prop_assert_eq!(&tree.nearest(k), &distances);
        prop_assert_eq!(&tree.neighbours(k), &neighbours);
        prop_assert_eq!(tree.count_within(&kth), counts::<M>(rows, &kth));
        prop_assert_eq!(tree.count_within(&closed), counts::<M>(rows, &closed));
    }
    Ok(())
}

/// Rows on a grid of few or many steps: many ties, few, or none.
fn rows() -> impl Strategy<Value = (Array2<f64>, usize)> {
    let shape = (2..200_usize, 1..11_usize, prop_oneof![Just(2_u32), Just(5), Just(100_000)]);
    shape.prop_flat_map(|(n, d, steps)| {
        let values = proptest::collection::vec(0..steps, n * d);
        (values, 1..n.min(25)).prop_map(move |(values, k)| {
            let value = |at: usize| f64::from(values[at]) * 0.1 - 3.0;
            (Array2::from_shape_fn((n, d), |(i, j)| value(i * d + j)), k)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn tree_and_line_equal_brute_force((rows, k) in rows()) {
        check::<MaxNorm>(rows.view(), k)?;
        check::<Euclidean>(rows.view(), k)?;
    }
}

/// Deep enough for three levels of nodes, with a last leaf and last groups that are not full.
#[test]
fn a_tree_of_several_levels_equals_brute_force() -> Result<(), TestCaseError> {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 20)
    };
    for (n, d) in [(1337, 2), (700, 6), (513, 17), (90, 50)] {
        let rows = Array2::from_shape_simple_fn((n, d), &mut next);
        check::<MaxNorm>(rows.view(), 3)?;
        check::<Euclidean>(rows.view(), 3)?;
        check::<MaxNorm>(rows.mapv(|v: f64| (v / 4.0).round()).view(), 4)?;
    }
    Ok(())
}

/// Every row the same: no row is nearer than another, and the search must not look at all pairs.
#[test]
fn equal_rows_are_quick() {
    let rows = Array2::from_elem((200_000, 3), 0.7);
    let space = Space::<MaxNorm>::new(rows.view());
    assert!(space.nearest(3).iter().all(|&distance| distance == 0.0));
    assert!(space.count_within(&vec![0.0; 200_000]).iter().all(|&count| count == 0));
    assert!(space.count_within(&vec![1e-300; 200_000]).iter().all(|&count| count == 200_000));
}

/// Prints what boxes are worth, for the width from which a tree does without them:
/// `cargo test --release -p gpz-estimators --lib -- --ignored --nocapture boxes_beside_brute_force`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)] // the table is the result
fn boxes_beside_brute_force() {
    const REPETITIONS: usize = 5;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    println!("| rows | width | maximum: boxes | brute force | Euclidean: boxes | brute force |");
    println!("|--:|--:|--:|--:|--:|--:|");
    for n in [5_000, 10_000] {
        for d in [1, 2, 3, 5, 8, 12, 16, 20, 24, 32, 48] {
            let rows = gaussian_rows(n, d);
            let mut cells = [const { Vec::new() }; 4];
            for _ in 0..REPETITIONS {
                for (cell, times) in cells.iter_mut().enumerate() {
                    let start = std::time::Instant::now();
                    one.install(|| {
                        let (rows, boxes) = (rows.view(), cell % 2 == 0);
                        let found = if cell < 2 {
                            Tree::<MaxNorm>::with_boxes(rows, boxes).nearest(3)
                        } else {
                            Tree::<Euclidean>::with_boxes(rows, boxes).nearest(3)
                        };
                        std::hint::black_box(found);
                    });
                    times.push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
            let medians = cells.map(|mut times| {
                times.sort_by(f64::total_cmp);
                format!("{:.1}", times[REPETITIONS / 2])
            });
            println!("| {n} | {d} | {} |", medians.join(" | "));
        }
    }
}

/// Standard normal rows by Box and Muller, from a fixed generator.
fn gaussian_rows(n: usize, d: usize) -> Array2<f64> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        ((state >> 40) as f64 + 0.5) / f64::from(1 << 24)
    };
    Array2::from_shape_simple_fn((n, d), || {
        (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
    })
}
