//! Pooling and its gradients against loops in f64.

mod common;

use common::{Array, PLACES, assert_is, rng};
use gpz_tensor::{DType, Pool2d, Tensor};

const WINDOWS: [Pool2d; 8] = [
    Pool2d { kernel: [2, 2], stride: [2, 2], padding: [0, 0] },
    Pool2d { kernel: [3, 3], stride: [2, 2], padding: [1, 1] },
    Pool2d { kernel: [3, 2], stride: [1, 3], padding: [1, 0] },
    Pool2d { kernel: [2, 3], stride: [3, 1], padding: [1, 1] },
    Pool2d { kernel: [1, 1], stride: [2, 2], padding: [0, 0] },
    Pool2d { kernel: [4, 5], stride: [2, 3], padding: [2, 2] },
    Pool2d { kernel: [7, 6], stride: [1, 1], padding: [0, 0] },
    Pool2d { kernel: [1, 2], stride: [1, 1], padding: [0, 1] },
];

/// Positions of the window of an output pixel that lie inside the picture, row-major.
fn window(w: Pool2d, [height, width]: [usize; 2], oh: usize, ow: usize) -> Vec<(usize, usize)> {
    let mut inside = Vec::new();
    for kh in 0..w.kernel[0] {
        for kw in 0..w.kernel[1] {
            let h = (oh * w.stride[0] + kh).checked_sub(w.padding[0]).filter(|&h| h < height);
            let v = (ow * w.stride[1] + kw).checked_sub(w.padding[1]).filter(|&v| v < width);
            inside.extend(h.zip(v));
        }
    }
    inside
}

fn pooled(x: &Array, w: Pool2d, fold: impl Fn(&[f64]) -> f64) -> Array {
    let extent = |axis: usize| {
        (x.shape[axis + 2] + 2 * w.padding[axis] - w.kernel[axis]) / w.stride[axis] + 1
    };
    Array::from_fn(&[x.shape[0], x.shape[1], extent(0), extent(1)], |i| {
        let inside = window(w, [x.shape[2], x.shape[3]], i[2], i[3]);
        fold(&inside.iter().map(|&(h, v)| x.at(&[i[0], i[1], h, v])).collect::<Vec<_>>())
    })
}

/// Adds `share(values, position)` of each window's gradient to the pixels it saw.
fn spread(x: &Array, dy: &Array, w: Pool2d, share: impl Fn(&[f64], usize) -> f64) -> Array {
    let mut dx = vec![0.0; x.data.len()];
    let [_, c, height, width] = x.shape[..] else { panic!("pictures are needed") };
    Array::from_fn(&dy.shape, |i| {
        let inside = window(w, [height, width], i[2], i[3]);
        let values: Vec<f64> = inside.iter().map(|&(h, v)| x.at(&[i[0], i[1], h, v])).collect();
        for (k, &(h, v)) in inside.iter().enumerate() {
            dx[((i[0] * c + i[1]) * height + h) * width + v] += dy.at(i) * share(&values, k);
        }
        0.0
    });
    Array::new(&x.shape, dx)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(f64::NEG_INFINITY, |best, &v| if v > best || v.is_nan() { v } else { best })
}

#[test]
fn pooling_and_its_gradients_agree_with_f64_in_every_layout() {
    let rng = &mut rng(1);
    for w in WINDOWS {
        for shape in [[2, 3, 7, 6], [1, 1, 9, 8], [1, 33, 7, 9]] {
            let area = (w.kernel[0] * w.kernel[1]) as f64;
            // Few different values: many windows have several largest elements.
            let x = Array::uniform(rng, &shape, -3.0..3.0).map(f64::round);
            let max = pooled(&x, w, largest);
            let mean = pooled(&x, w, |v| v.iter().sum::<f64>() / area);
            let dy = Array::uniform(rng, &max.shape, 0.5..1.5);
            let first =
                |v: &[f64], k: usize| f64::from(v.iter().position(|&x| x == largest(v)) == Some(k));
            let max_dx = spread(&x, &dy, w, first);
            let mean_dx = spread(&x, &dy, w, |_, _| 1.0 / area);
            for (place, tolerance) in PLACES {
                for ((layout, tx), (_, tdy)) in
                    x.layouts(place).iter().zip(dy.layouts(place).iter().rev())
                {
                    let what = format!("{w:?} {shape:?} {place} {layout}");
                    let y = tx.max_pool2d(w).unwrap();
                    assert_is(&what, &y, &max, 0.0);
                    let dx = Tensor::max_pool2d_backward(tx, &y, tdy, w).unwrap();
                    assert_is(&what, &dx, &max_dx, tolerance);
                    assert_is(&what, &tx.avg_pool2d(w).unwrap(), &mean, tolerance);
                    let dx = Tensor::avg_pool2d_backward(tdy, &shape, w).unwrap();
                    assert_is(&what, &dx, &mean_dx, tolerance);
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_win_where_they_are_seen() {
    for value in [f64::NAN, f64::INFINITY] {
        let mut x = Array::uniform(&mut rng(2), &[1, 2, 6, 6], -1.0..1.0);
        x.data[8] = value; // channel 0, row 1, column 2
        for w in WINDOWS.into_iter().filter(|w| w.kernel[0] < 7) {
            for dtype in [DType::F32, DType::F64] {
                let tensor = x.tensor(dtype);
                assert_is("max", &tensor.max_pool2d(w).unwrap(), &pooled(&x, w, largest), 0.0);
                let area = (w.kernel[0] * w.kernel[1]) as f64;
                let mean = pooled(&x, w, |v| v.iter().sum::<f64>() / area);
                assert_is("mean", &tensor.avg_pool2d(w).unwrap(), &mean, 1e-6);
            }
        }
    }
}

/// An infinite gradient reaches the first of equals alone; the others keep their 0.
#[test]
fn gradients_that_are_no_numbers_go_where_all_do() {
    for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let x = Array::new(&[1, 1, 2, 4], vec![1., 1., 3., 0., 1., 0., 3., 3.]);
        let dy = Array::new(&[1, 1, 1, 2], vec![value, 2.0]);
        let want = Array::new(&x.shape, vec![value, 0., 2., 0., 0., 0., 0., 0.]);
        for (place, _) in PLACES {
            let (x, dy) = (x.tensor(place), dy.tensor(place));
            let w = Pool2d::square(2);
            let dx = Tensor::max_pool2d_backward(&x, &x.max_pool2d(w).unwrap(), &dy, w).unwrap();
            assert_is("max", &dx, &want, 0.0);
        }
    }
}

/// A maximum of negative numbers is not that of the padding's zeros; a mean counts them.
#[test]
fn padding_is_outside_a_maximum_and_zero_in_a_mean() {
    let x = Tensor::full(&[1, 1, 2, 2], -1.0, DType::F32).unwrap();
    let w = Pool2d { kernel: [2, 2], stride: [2, 2], padding: [1, 1] };
    assert_eq!(x.max_pool2d(w).unwrap().to_vec::<f64>().unwrap(), [-1.0; 4]);
    assert_eq!(x.avg_pool2d(w).unwrap().to_vec::<f64>().unwrap(), [-0.25; 4]);
}

#[test]
fn square_windows_stand_side_by_side() {
    let w = Pool2d::square(3);
    assert_eq!(w, Pool2d { kernel: [3; 2], stride: [3; 2], padding: [0; 2] });
    assert_eq!(w.output_shape("test", &[2, 5, 10, 9]).unwrap(), [2, 5, 3, 3]);
}
