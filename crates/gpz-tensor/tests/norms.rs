//! Softmax, layer and batch normalisation, PReLU and per-channel arithmetic against loops in f64, at well-behaved and at hostile inputs.

mod common;

use common::{Array, PLACES, Place, assert_close, assert_is, rng};
use gpz_tensor::{DType, Tensor};

/// Rows of the last axis, each through `f`.
fn rows(x: &Array, f: impl Fn(&[f64]) -> Vec<f64>) -> Array {
    let d = x.shape[x.shape.len() - 1];
    Array::new(&x.shape, x.data.chunks(d.max(1)).flat_map(f).collect())
}

fn log_softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|v| (v - top).exp()).sum();
    row.iter().map(|v| v - top - sum.ln()).collect()
}

fn softmax(row: &[f64]) -> Vec<f64> {
    log_softmax(row).iter().map(|v| v.exp()).collect()
}

/// Mean and variance, divided by the count.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n)
}

fn layer_norm(x: &Array, scale: &Array, shift: &Array, eps: f64) -> Array {
    rows(x, |row| {
        let (mean, variance) = moments(row);
        let norm = |(i, v): (usize, &f64)| {
            (v - mean) / (variance + eps).sqrt() * scale.data[i] + shift.data[i]
        };
        row.iter().enumerate().map(norm).collect()
    })
}

fn batch_norm(x: &Array, scale: &Array, shift: &Array, eps: f64) -> (Array, Vec<f64>, Vec<f64>) {
    let axes: Vec<usize> = (0..x.shape.len()).filter(|&a| a != 1).collect();
    let mean = x.reduced(&axes, |v| moments(v).0).data;
    let variance = x.reduced(&axes, |v| moments(v).1).data;
    let y = Array::from_fn(&x.shape, |i| {
        let c = i[1];
        (x.at(i) - mean[c]) / (variance[c] + eps).sqrt() * scale.data[c] + shift.data[c]
    });
    (y, mean, variance)
}

#[test]
fn softmax_agrees_with_f64_in_every_layout() {
    let rng = &mut rng(1);
    for shape in [&[1][..], &[7], &[3, 10], &[2, 3, 4, 65], &[0, 3], &[3, 0], &[300, 257]] {
        let x = Array::uniform(rng, shape, -9.0..9.0);
        for (place, tolerance) in PLACES {
            for (layout, tensor) in x.layouts(place) {
                let what = format!("{shape:?} {place} {layout}");
                assert_is(&what, &tensor.softmax().unwrap(), &rows(&x, softmax), tolerance);
                let got = tensor.log_softmax().unwrap();
                assert_is(&what, &got, &rows(&x, log_softmax), tolerance);
            }
        }
    }
}

#[test]
fn softmax_survives_logits_of_any_size() {
    let inf = f64::INFINITY;
    let x = Array::new(
        &[6, 3],
        vec![
            1e4,
            1e4 - 1.0,
            -1e4, // e^1e4 overflows
            -1e30,
            -1e30,
            -1e30, // all exponentials underflow
            -inf,
            0.0,
            1.0, // a masked class
            -inf,
            -inf,
            2.0, // one class left
            3e38,
            -3e38,
            0.0, // the difference overflows f32
            0.0,
            f64::NAN,
            1.0,
        ],
    );
    let ln = -(1.0 + (-1f64).exp()).ln();
    let third = -3f64.ln();
    let masked = -(1.0 + 1f64.exp()).ln();
    let nan = f64::NAN;
    let want =
        [ln, ln - 1.0, -2e4 + ln, third, third, third, -inf, masked, masked + 1.0, -inf, -inf, 0.0];
    for (place, tolerance) in PLACES {
        let tensor = x.tensor(place);
        let log = tensor.log_softmax().unwrap().to_vec::<f64>().unwrap();
        assert_close("log-softmax", &log[..12], &want, tolerance);
        // On a CUDA device the exponential of 0 is 1 within its error.
        let error = if place == Place::Cuda { 1e-6 } else { 0.0 };
        assert!(log[12].abs() <= error, "{place}: {}", log[12]);
        assert!(log[13] < -3e38 && log[14] < -2.9e38, "{place}: {log:?}");
        assert_close("log-softmax", &log[15..], &[nan, nan, nan], 0.0);
        let soft = tensor.softmax().unwrap().to_vec::<f64>().unwrap();
        let want: Vec<f64> = want.iter().map(|v| v.exp()).collect();
        assert_close("softmax", &soft[..12], &want, tolerance);
        assert_close("softmax", &soft[12..], &[1.0, 0.0, 0.0, nan, nan, nan], 0.0);
    }
}

#[test]
fn layer_norm_agrees_with_f64_in_every_layout() {
    let rng = &mut rng(2);
    for shape in [&[9][..], &[3, 10], &[2, 3, 4, 65], &[0, 3], &[2, 130, 128]] {
        let x = Array::uniform(rng, shape, -3.0..5.0);
        let d = shape[shape.len() - 1];
        let scale = Array::uniform(rng, &[d], 0.5..2.0);
        let shift = Array::uniform(rng, &[d], -1.0..1.0);
        let want = layer_norm(&x, &scale, &shift, 1e-5);
        for (place, tolerance) in PLACES {
            let (s, t) = (scale.tensor(place), shift.tensor(place));
            for (layout, tensor) in x.layouts(place) {
                let got = tensor.layer_norm(&s, &t, 1e-5).unwrap();
                assert_is(&format!("{shape:?} {place} {layout}"), &got, &want, 4.0 * tolerance);
            }
        }
    }
}

#[test]
fn batch_norm_agrees_with_f64_in_every_layout() {
    let rng = &mut rng(3);
    for shape in [&[9, 4][..], &[2, 1], &[3, 5, 4, 2], &[4, 67, 9, 11], &[2, 300, 3, 3]] {
        let x = Array::uniform(rng, shape, -3.0..5.0);
        let scale = Array::uniform(rng, &shape[1..2], 0.5..2.0);
        let shift = Array::uniform(rng, &shape[1..2], -1.0..1.0);
        let (want, mean, variance) = batch_norm(&x, &scale, &shift, 1e-5);
        for (place, tolerance) in PLACES {
            let (s, t) = (scale.tensor(place), shift.tensor(place));
            for (layout, tensor) in x.layouts(place) {
                let what = format!("{shape:?} {place} {layout}");
                let got = tensor.batch_norm(&s, &t, 1e-5).unwrap();
                assert_is(&what, &got.output, &want, 4.0 * tolerance);
                assert_close(&what, &got.mean.to_vec::<f64>().unwrap(), &mean, tolerance);
                assert_close(&what, &got.variance.to_vec::<f64>().unwrap(), &variance, tolerance);
                assert_eq!(got.count * shape[1], x.data.len());
            }
        }
    }
}

/// A mean thousands of deviations away: what is left of the data in f32 must survive. The inputs are exact in f32.
#[test]
fn norms_keep_small_deviations_from_a_large_mean() {
    let rng = &mut rng(4);
    for (spread, eps) in [(1.0, 1e-5), (0.01, 1e-9)] {
        let x = Array::uniform(rng, &[40, 3, 5, 7], -spread..spread);
        let x = x.map(|v| f64::from((1e4 + v) as f32));
        let (one, zero) = (Array::new(&[3], vec![1.0; 3]), Array::new(&[3], vec![0.0; 3]));
        let (want, mean, variance) = batch_norm(&x, &one, &zero, eps);
        let (s, t) = (one.tensor(DType::F32), zero.tensor(DType::F32));
        let got = x.tensor(DType::F32).batch_norm(&s, &t, eps).unwrap();
        assert_is("batch norm", &got.output, &want, 1e-5);
        assert_close("mean", &got.mean.to_vec::<f64>().unwrap(), &mean, 1e-7);
        let ratio: Vec<f64> = got
            .variance
            .to_vec::<f64>()
            .unwrap()
            .iter()
            .zip(&variance)
            .map(|(a, b)| a / b)
            .collect();
        assert_close("variance, relative", &ratio, &[1.0; 3], 1e-5);

        let dy = Array::uniform(rng, &x.shape, -1.0..1.0);
        let axes = [0, 2, 3];
        let normal = |i: &[usize]| (x.at(i) - mean[i[1]]) / (variance[i[1]] + eps).sqrt();
        let product = Array::from_fn(&x.shape, |i| dy.at(i) * normal(i));
        let average = |a: &Array| a.reduced(&axes, |v| moments(v).0).data;
        let (mean_dy, mean_product) = (average(&dy), average(&product));
        // In units of 1 / deviation, so that one tolerance fits both spreads.
        let want =
            Array::from_fn(&x.shape, |i| dy.at(i) - mean_dy[i[1]] - normal(i) * mean_product[i[1]]);
        let statistics = (&got.mean, &got.variance);
        let (tx, tdy) = (x.tensor(DType::F32), dy.tensor(DType::F32));
        let back = Tensor::batch_norm_backward(&tx, &tdy, &s, statistics, eps).unwrap();
        let dx = Array::new(&x.shape, back.input.to_vec().unwrap());
        let dx = Array::from_fn(&x.shape, |i| dx.at(i) * (variance[i[1]] + eps).sqrt());
        assert_close("batch norm's input gradient", &dx.data, &want.data, 1e-5);
        let sums = product.reduced(&axes, |v| v.iter().sum()).data;
        assert_close(
            "batch norm's scale gradient",
            &back.scale.to_vec::<f64>().unwrap(),
            &sums,
            1e-4,
        );

        let rows = Array::new(&[120, 35], x.data.clone());
        let (one, zero) = (Array::new(&[35], vec![1.0; 35]), Array::new(&[35], vec![0.0; 35]));
        let want = layer_norm(&rows, &one, &zero, eps);
        let (s, t) = (one.tensor(DType::F32), zero.tensor(DType::F32));
        let got = rows.tensor(DType::F32).layer_norm(&s, &t, eps).unwrap();
        assert_is("layer norm", &got, &want, 1e-5);
    }
}

#[test]
fn constant_channels_and_rows_become_the_shift() {
    for (place, tolerance) in PLACES {
        let full = |shape: &[usize], value| {
            Tensor::full_on(shape, value, place.dtype(), &place.device()).unwrap()
        };
        let (x, scale, shift) = (full(&[6, 4], 0.1), full(&[4], 3.0), full(&[4], 0.25));
        let batch = x.batch_norm(&scale, &shift, 1e-5).unwrap();
        assert_close(
            "batch norm",
            &batch.output.to_vec::<f64>().unwrap(),
            &[0.25; 24],
            1e-3 * tolerance,
        );
        assert_eq!(batch.variance.to_vec::<f64>().unwrap(), [0.0; 4]);
        let layer = x.layer_norm(&scale, &shift, 1e-5).unwrap();
        assert_close("layer norm", &layer.to_vec::<f64>().unwrap(), &[0.25; 24], 1e-3 * tolerance);
    }
}

#[test]
fn nan_reaches_its_channel_and_no_other() {
    let mut x = Array::uniform(&mut rng(5), &[4, 3], -1.0..1.0);
    x.data[4] = f64::NAN;
    for dtype in [DType::F32, DType::F64] {
        let ones = Tensor::full(&[3], 1.0, dtype).unwrap();
        let norm = x.tensor(dtype).batch_norm(&ones, &ones, 1e-5).unwrap();
        for statistic in [&norm.mean, &norm.variance] {
            let values = statistic.to_vec::<f64>().unwrap();
            assert!(values[0].is_finite() && values[1].is_nan() && values[2].is_finite());
        }
        for (i, v) in norm.output.to_vec::<f64>().unwrap().iter().enumerate() {
            assert_eq!(v.is_nan(), i % 3 == 1, "batch norm, element {i}");
        }
        let layer = x.tensor(dtype).layer_norm(&ones, &ones, 1e-5).unwrap();
        for (i, v) in layer.to_vec::<f64>().unwrap().iter().enumerate() {
            assert_eq!(v.is_nan(), i / 3 == 1, "layer norm, element {i}");
        }
    }
}

#[test]
fn per_channel_arithmetic_agrees_with_f64_in_every_layout() {
    let rng = &mut rng(6);
    for shape in
        [&[9, 4][..], &[3, 5, 4, 2], &[4, 67, 9, 31], &[0, 3, 2, 2], &[2, 0, 3, 3], &[5, 0]]
    {
        let x = Array::uniform(rng, shape, -3.0..3.0);
        let scale = Array::uniform(rng, &shape[1..2], 0.5..2.0);
        let shift = Array::uniform(rng, &shape[1..2], -1.0..1.0);
        let affine = Array::from_fn(shape, |i| x.at(i) * scale.data[i[1]] + shift.data[i[1]]);
        let leaky = |slope: &Array| {
            Array::from_fn(shape, |i| {
                let v = x.at(i);
                if v > 0.0 { v } else { v * slope.data[i[1] % slope.data.len()] }
            })
        };
        let common = Array::new(&[1], vec![0.25]);
        let axes: Vec<usize> = (0..shape.len()).filter(|&a| a != 1).collect();
        let sums = x.reduced(&axes, |v| v.iter().sum());
        for (place, tolerance) in PLACES {
            let (s, t) = (scale.tensor(place), shift.tensor(place));
            for (layout, tensor) in x.layouts(place) {
                let what = format!("{shape:?} {place} {layout}");
                assert_is(&what, &tensor.channel_affine(&s, &t).unwrap(), &affine, tolerance);
                assert_is(&what, &tensor.prelu(&s).unwrap(), &leaky(&scale), tolerance);
                let got = tensor.prelu(&common.tensor(place)).unwrap();
                assert_is(&what, &got, &leaky(&common), tolerance);
                assert_is(&what, &tensor.channel_sums().unwrap(), &sums, 16.0 * tolerance);
            }
        }
    }
}

/// Empty batches and empty channels have gradients of the parameters' shape.
#[test]
fn gradients_of_nothing_have_the_parameters_shapes() {
    for shape in [[0, 3], [4, 0]] {
        let x = Tensor::zeros(&shape, DType::F32).unwrap();
        for slopes in [1, shape[1]] {
            let slope = Tensor::full(&[slopes], 0.25, DType::F32).unwrap();
            let (dx, ds) = Tensor::prelu_backward(&x, &slope, &x).unwrap();
            assert_eq!((dx.shape(), ds.shape()), (&shape[..], &[slopes][..]));
            assert!(ds.to_vec::<f64>().unwrap().iter().all(|&v| v == 0.0));
        }
        let scale = Tensor::full(&[shape[1]], 2.0, DType::F32).unwrap();
        let layer = Tensor::layer_norm_backward(&x, &x, &scale, 1e-5).unwrap();
        assert_eq!(layer.input.shape(), shape);
        assert_eq!((layer.scale.shape(), layer.shift.shape()), (&shape[1..], &shape[1..]));
    }
}
