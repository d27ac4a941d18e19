//! Sums, means, maxima and scalar products over every subset of axes and in every memory layout, against loops in f64.

mod common;

use common::{Array, PLACES, assert_close, assert_is, axis_subsets, rng};
use gpz_tensor::{DType, Tensor};

fn largest(row: &[f64]) -> f64 {
    row.iter().fold(f64::NEG_INFINITY, |best, &v| if v > best || v.is_nan() { v } else { best })
}

#[test]
fn reductions_agree_with_f64_over_every_subset_of_axes() {
    let rng = &mut rng(1);
    for shape in [&[][..], &[7], &[3, 5], &[2, 3, 4], &[2, 3, 4, 5], &[2, 1, 3, 1, 2], &[2, 0, 3]] {
        let x = Array::uniform(rng, shape, -2.0..2.0);
        for axes in axis_subsets(shape.len()) {
            let sum = x.reduced(&axes, |row| row.iter().sum());
            let mean = x.reduced(&axes, |row| row.iter().sum::<f64>() / row.len() as f64);
            let max = x.reduced(&axes, largest);
            for (place, tolerance) in PLACES {
                for (layout, tensor) in x.layouts(place) {
                    let what = format!("{shape:?} over {axes:?} {place} {layout}");
                    assert_is(&what, &tensor.sum(&axes).unwrap(), &sum, tolerance);
                    assert_is(&what, &tensor.mean(&axes).unwrap(), &mean, tolerance);
                    assert_is(&what, &tensor.max(&axes).unwrap(), &max, 0.0);
                }
            }
        }
    }
}

#[test]
fn sums_and_products_of_all_elements_agree_with_f64() {
    let rng = &mut rng(2);
    for shape in [&[][..], &[7], &[2, 3, 4, 5], &[0, 3], &[3, 41, 67, 5]] {
        let x = Array::uniform(rng, shape, -2.0..2.0);
        let y = Array::uniform(rng, shape, -2.0..2.0);
        let sum: f64 = x.data.iter().sum();
        let product: f64 = x.data.iter().zip(&y.data).map(|(a, b)| a * b).sum();
        let scale = (x.data.len() as f64).sqrt();
        for (place, tolerance) in PLACES {
            for (layout, tx) in x.layouts(place) {
                let what = format!("{shape:?} {place} {layout}");
                assert_close(&what, &[tx.sum_all().unwrap()], &[sum], tolerance * scale);
                for (_, ty) in y.layouts(place) {
                    let got = tx.dot(&ty).unwrap();
                    assert_close(&what, &[got], &[product], tolerance * scale);
                }
            }
        }
    }
}

/// In f32 alone a sum of ten million terms loses four digits. Lanes are emptied into f64 after 32 additions: at most 32 half-ulps, and
/// equal terms come close to that, as their errors all point the same way.
#[test]
fn long_f32_sums_keep_their_digits() {
    let n = 10_000_000;
    let value = 1.1f32;
    let x = Tensor::full(&[n], f64::from(value), DType::F32).unwrap();
    let bound = 32.0 * f64::from(f32::EPSILON) / 2.0;
    let near = |what: &str, got: f64, want: f64| assert_close(what, &[got / want], &[1.0], bound);
    let want = f64::from(value) * n as f64;
    near("sum_all", x.sum_all().unwrap(), want);
    near("sum", x.sum(&[0]).unwrap().item().unwrap(), want);
    near("mean", x.mean(&[0]).unwrap().item().unwrap(), f64::from(value));
    near("dot", x.dot(&x).unwrap(), f64::from(value * value) * n as f64);
    let lanes = (0..n).fold([0f32; 64], |mut lanes, i| {
        lanes[i % 64] += value;
        lanes
    });
    let naive = f64::from(lanes.iter().sum::<f32>());
    assert!((naive / want - 1.0).abs() > 10.0 * bound, "the case would not tell the difference");
}

#[test]
fn nan_and_infinity_reach_the_result() {
    for dtype in [DType::F32, DType::F64] {
        let nan = Tensor::from_slice(&[1.0, f64::NAN, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
        let nan = nan.to_dtype(dtype).unwrap();
        for got in [nan.sum(&[1]).unwrap(), nan.mean(&[1]).unwrap(), nan.max(&[1]).unwrap()] {
            let got = got.to_vec::<f64>().unwrap();
            assert!(got[0].is_nan() && got[1] >= 5.0, "{got:?}");
        }
        assert!(nan.sum_all().unwrap().is_nan() && nan.dot(&nan).unwrap().is_nan());
        assert!(!nan.all_finite().unwrap());
        let inf = Tensor::from_slice(&[f64::INFINITY, 1.0], &[2]).unwrap().to_dtype(dtype).unwrap();
        assert_eq!(inf.sum_all().unwrap(), f64::INFINITY);
        assert!(!inf.all_finite().unwrap());
        assert!(
            inf.narrow(0, 1, 1).unwrap().all_finite().unwrap(),
            "beyond the view nothing counts"
        );
    }
}

#[test]
fn argmax_takes_the_first_of_equals() {
    let x = Array::new(&[3, 4], vec![1., 3., 3., 2., -5., -6., -5., -7., 0., 0., 0., 1.]);
    for (layout, tensor) in x.layouts(DType::F32) {
        assert_eq!(tensor.argmax_rows().unwrap(), [1, 0, 3], "{layout}");
    }
    assert_eq!(x.tensor(DType::F32).reshape(&[12]).unwrap().argmax_rows().unwrap(), [1]);
    assert_eq!(Tensor::zeros(&[0, 4], DType::F32).unwrap().argmax_rows().unwrap(), [0; 0]);
    let nan = [f64::NAN, 1., 2., 3., f64::NAN, f64::NAN, f64::NEG_INFINITY, f64::NEG_INFINITY, 0.];
    let nan = Array::new(&[3, 3], nan.to_vec());
    for (layout, tensor) in nan.layouts(DType::F32) {
        assert_eq!(tensor.argmax_rows().unwrap(), [0, 1, 2], "{layout}: NaN wins, as in a maximum");
    }
}

/// Many rows, few long rows and one row, all of them cut into pieces.
#[test]
fn large_reductions_agree_with_f64() {
    let rng = &mut rng(3);
    for (shape, axis) in [([40_000, 3], 1), ([3, 40_001], 1), ([70_003, 1], 0), ([50, 1_999], 0)] {
        let x = Array::uniform(rng, &shape, -2.0..2.0);
        let sum = x.reduced(&[axis], |row| row.iter().sum());
        let max = x.reduced(&[axis], largest);
        for (place, tolerance) in PLACES {
            for (layout, tensor) in x.layouts(place) {
                let what = format!("{shape:?} over {axis} {place} {layout}");
                let tolerance = tolerance * (shape[axis] as f64).sqrt();
                assert_is(&what, &tensor.sum(&[axis]).unwrap(), &sum, tolerance);
                assert_is(&what, &tensor.max(&[axis]).unwrap(), &max, 0.0);
            }
        }
    }
    for bad in [f64::NAN, f64::INFINITY] {
        for place in [0, 40_000, 99_999] {
            let mut values = vec![1.0; 100_000];
            assert!(Tensor::from_slice(&values, &[100_000]).unwrap().all_finite().unwrap());
            values[place] = bad;
            let tensor = Tensor::from_slice(&values, &[100_000]).unwrap();
            assert!(!tensor.all_finite().unwrap(), "{bad} at {place}");
            let max = tensor.max(&[0]).unwrap().item().unwrap();
            assert!(max == bad || (max.is_nan() && bad.is_nan()), "{bad} at {place}: {max}");
        }
    }
}

#[test]
fn gradients_of_maxima_go_to_the_first_of_equals() {
    // Few different values, so that most rows have several largest.
    let x = Array::uniform(&mut rng(4), &[2, 3, 4], -2.0..2.0).map(f64::round);
    for axes in axis_subsets(3) {
        let max = x.reduced(&axes, largest);
        let dy = Array::uniform(&mut rng(5), &max.shape, 0.5..1.5);
        let mut given = vec![false; dy.data.len()];
        let want = Array::from_fn(&x.shape, |index| {
            let kept = (0..3).filter(|axis| !axes.contains(axis));
            let row = kept.fold(0, |row, axis| row * x.shape[axis] + index[axis]);
            let first = x.at(index) == max.data[row] && !given[row];
            given[row] |= first;
            if first { dy.data[row] } else { 0.0 }
        });
        for (place, _) in PLACES {
            for (layout, tensor) in x.layouts(place) {
                let got = Tensor::max_backward(&tensor, &dy.tensor(place), &axes).unwrap();
                assert_is(&format!("over {axes:?} {place} {layout}"), &got, &want, 1e-7);
            }
        }
    }
    let empty = Tensor::zeros(&[2, 0], DType::F32).unwrap();
    let dy = Tensor::zeros(&[2], DType::F32).unwrap();
    assert_eq!(Tensor::max_backward(&empty, &dy, &[1]).unwrap().shape(), [2, 0]);
    assert!(Tensor::max_backward(&empty, &dy, &[0]).is_err());
}

#[test]
fn an_empty_sum_is_zero_and_an_empty_maximum_the_identity() {
    let empty = Tensor::zeros(&[2, 0], DType::F32).unwrap();
    assert_eq!(empty.sum(&[1]).unwrap().to_vec::<f64>().unwrap(), [0.0, 0.0]);
    assert_eq!(empty.max(&[1]).unwrap().to_vec::<f64>().unwrap(), [f64::NEG_INFINITY; 2]);
    assert!(empty.mean(&[1]).unwrap().to_vec::<f64>().unwrap().iter().all(|v| v.is_nan()));
    assert_eq!(empty.sum(&[0]).unwrap().shape(), [0]);
}
