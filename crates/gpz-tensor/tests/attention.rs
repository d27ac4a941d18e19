//! Attention and linear maps against the formulas in f64, wherever they are computed.

mod common;

use common::{Array, PLACES, Place, assert_close, assert_is, bits, rng};
use gpz_tensor::bench_api::{Isa, with_isa};
use gpz_tensor::{DType, Device, Tensor};

/// Batch, heads, queries, keys, width and width of the values.
const SIZES: [[usize; 6]; 8] = [
    [1, 1, 1, 1, 1, 1],
    [2, 3, 5, 7, 4, 2],
    [1, 2, 257, 257, 16, 16],
    [1, 1, 25, 257, 17, 33],
    [2, 1, 257, 3, 1, 1],
    [1, 2, 24, 16, 65, 16],
    [1, 1, 600, 20, 3, 5],
    [2, 2, 1, 130, 16, 64],
];

/// Operands `[b, h, n, d]`, `[b, h, m, d]`, `[b, h, m, e]` and a gradient `[b, h, n, e]`.
fn operands([b, h, n, m, d, e]: [usize; 6], seed: u64) -> [Array; 4] {
    let rng = &mut rng(seed);
    [[b, h, n, d], [b, h, m, d], [b, h, m, e], [b, h, n, e]]
        .map(|shape| Array::uniform(rng, &shape, -1.5..1.5))
}

/// Result and gradients by the formulas, row by row.
fn formulas([q, k, v, dy]: &[Array; 4]) -> [Array; 4] {
    let (&[b, h, n, d], &[_, _, m, e]) = (&q.shape[..], &v.shape[..]) else { panic!("rank 4") };
    let scale = 1.0 / (d as f64).sqrt();
    let mut y = dy.map(|_| 0.0);
    let (mut dq, mut dk, mut dv) = (q.map(|_| 0.0), k.map(|_| 0.0), v.map(|_| 0.0));
    for head in 0..b * h {
        for i in 0..n {
            let row = |array: &Array, i: usize| {
                let (rows, width) = (array.shape[2], array.shape[3]);
                array.data[(head * rows + i) * width..][..width].to_vec()
            };
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (query, gradient) = (row(q, i), row(dy, i));
            let scores: Vec<f64> = (0..m).map(|j| scale * dot(&query, &row(k, j))).collect();
            let largest = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp() / total).collect();
            let slopes: Vec<f64> = (0..m).map(|j| dot(&gradient, &row(v, j))).collect();
            let mean = dot(&weights, &slopes);
            for j in 0..m {
                let (value, key) = (row(v, j), row(k, j));
                for c in 0..e {
                    y.data[(head * n + i) * e + c] += weights[j] * value[c];
                    dv.data[(head * m + j) * e + c] += weights[j] * gradient[c];
                }
                let slope = weights[j] * (slopes[j] - mean) * scale;
                for c in 0..d {
                    dq.data[(head * n + i) * d + c] += slope * key[c];
                    dk.data[(head * m + j) * d + c] += slope * query[c];
                }
            }
        }
    }
    [y, dq, dk, dv]
}

/// Result and gradients as computed.
fn computed([q, k, v, dy]: [&Tensor; 4]) -> [Tensor; 4] {
    let forward = q.attention(k, v).unwrap();
    let [dq, dk, dv] = Tensor::attention_backward([q, k, v], &forward, dy).unwrap();
    [forward.output, dq, dk, dv]
}

#[test]
fn attention_and_its_gradients_are_their_formulas() {
    for (seed, size) in SIZES.into_iter().enumerate() {
        let arrays = operands(size, seed as u64);
        let want = formulas(&arrays);
        for (place, tolerance) in PLACES {
            // The interpreter takes its time.
            if place == Place::Cuda && size.iter().product::<usize>() > 1 << 16 {
                continue;
            }
            let tensors = arrays.each_ref().map(|array| array.tensor(place));
            let check = |what: &str| {
                let found = computed(tensors.each_ref());
                for (at, (found, want)) in found.iter().zip(&want).enumerate() {
                    assert_is(
                        &format!("{what}, {size:?}, result {at}"),
                        found,
                        want,
                        8.0 * tolerance,
                    );
                }
            };
            check(&place.to_string());
            for isa in Isa::ALL {
                let _ran = with_isa(isa, || check(&format!("{place} on {}", isa.name())));
            }
        }
    }
}

#[test]
fn operands_in_every_layout_give_the_same() {
    let arrays = operands([2, 3, 5, 7, 4, 2], 20);
    for (place, _) in PLACES {
        let layouts = arrays.each_ref().map(|array| array.layouts(place));
        let want = computed([0, 1, 2, 3].map(|k| &layouts[k][0].1));
        for i in 0..layouts[0].len() {
            let pick = [0, 1, 2, 3].map(|k| &layouts[k][(i + 2 * k) % layouts[k].len()]);
            let found = computed(pick.map(|(_, tensor)| tensor));
            for (found, want) in found.iter().zip(&want) {
                assert_same(&format!("{place} {:?}", pick.map(|(name, _)| name)), found, want);
            }
        }
    }
}

/// The same bits on the processor; a device's libraries choose their ways by how operands lie.
fn assert_same(what: &str, found: &Tensor, want: &Tensor) {
    assert_eq!(found.shape(), want.shape(), "{what}");
    if found.device() == Device::Cpu {
        assert!(bits(found) == bits(want), "{what}");
    } else {
        let [found, want] = [found, want].map(|t| t.to_vec::<f64>().unwrap());
        assert_close(what, &found, &want, 2e-6);
    }
}

/// Heads side by side in one projection are those cut out of it, and so is the gradient.
#[test]
fn a_projection_is_its_parts() {
    let rng = &mut rng(21);
    for ([b, n, h, d], places) in
        [([2, 5, 3, 4], &PLACES[..]), ([1, 70, 2, 17], &PLACES[..2]), ([3, 1, 1, 1], &PLACES)]
    {
        let packed = Array::uniform(rng, &[b, n, 3 * h * d], -1.5..1.5);
        let dy = Array::uniform(rng, &[b, n, h * d], -1.5..1.5);
        for &(place, _) in places {
            let (packed, dy) = (packed.tensor(place), dy.tensor(place));
            let heads =
                packed.reshape(&[b, n, 3, h, d]).unwrap().permute(&[2, 0, 3, 1, 4]).unwrap();
            let parts =
                [0, 1, 2].map(|i| heads.narrow(0, i, 1).unwrap().reshape(&[b, h, n, d]).unwrap());
            let apart = dy.reshape(&[b, n, h, d]).unwrap().permute(&[0, 2, 1, 3]).unwrap();
            let [q, k, v] = &parts;
            let [y, dq, dk, dv] = computed([q, k, v, &apart]);
            let together =
                |t: &Tensor| t.permute(&[0, 2, 1, 3]).unwrap().reshape(&[b, n, h * d]).unwrap();
            let forward = packed.self_attention(h).unwrap();
            assert_same(&place.to_string(), &forward.output, &together(&y));
            let gradient = Tensor::self_attention_backward(&packed, h, &forward, &dy).unwrap();
            let want = [dq, dk, dv].map(|t| together(&t));
            let want = Tensor::concat(&want.each_ref(), 2).unwrap();
            assert_same(&format!("{place}, gradient"), &gradient, &want);
        }
    }
}

/// Both sets fuse multiply and add, and no sum's order depends on the width of a vector.
#[test]
fn avx2_and_avx512_give_the_same_bits() {
    for (seed, size) in SIZES.into_iter().enumerate() {
        let tensors = operands(size, seed as u64).map(|array| array.tensor(DType::F32));
        let all = || computed(tensors.each_ref()).map(|t| bits(&t));
        if let (Some(wide), Some(narrow)) = (with_isa(Isa::Avx512, all), with_isa(Isa::Avx2, all)) {
            assert!(wide == narrow, "{size:?}");
        }
    }
}

/// Scores of hundreds neither overflow nor vanish; what is not finite spoils its own query's result, as the formulas say.
#[test]
fn large_and_non_finite_scores() {
    let q = Tensor::from_slice(&[400.0f32, -400.0, 0.0], &[1, 1, 3, 1]).unwrap();
    let k = Tensor::from_slice(&[1.0f32, 2.0], &[1, 1, 2, 1]).unwrap();
    let v = Tensor::from_slice(&[3.0f32, 5.0], &[1, 1, 2, 1]).unwrap();
    let y = q.attention(&k, &v).unwrap().output.to_vec::<f64>().unwrap();
    assert_close("large scores", &y, &[5.0, 3.0, 4.0], 1e-6);
    for special in [f32::NAN, f32::INFINITY] {
        let q = Tensor::from_slice(&[special, 1.0], &[1, 1, 2, 1]).unwrap();
        let y = q.attention(&k, &v).unwrap().output.to_vec::<f64>().unwrap();
        assert!(y[0].is_nan() && y[1].is_finite(), "{special}: {y:?}");
    }
}

#[test]
fn nothing_to_attend_to_is_zero() {
    for (place, _) in PLACES {
        for [n, m, d, e] in [[2, 0, 3, 4], [0, 3, 2, 1], [2, 3, 4, 0], [2, 3, 0, 1]] {
            let [q, k, v, dy] = [[1, 2, n, d], [1, 2, m, d], [1, 2, m, e], [1, 2, n, e]]
                .map(|shape| Array::from_fn(&shape, |_| 1.0).tensor(place));
            let [y, dq, dk, dv] = computed([&q, &k, &v, &dy]);
            let mean = if m == 0 { 0.0 } else { 1.0 };
            assert!(y.to_vec::<f64>().unwrap().iter().all(|&y| (y - mean).abs() < 1e-6));
            for (gradient, of) in [(dq, &q), (dk, &k), (dv, &v)] {
                assert_eq!(gradient.shape(), of.shape(), "{place}");
                assert!(gradient.all_finite().unwrap());
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_errors() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap();
    let (q, k, v) = (zeros(&[1, 2, 3, 4]), zeros(&[1, 2, 5, 4]), zeros(&[1, 2, 5, 6]));
    let text = |result: gpz_tensor::Result<gpz_tensor::Attention>| result.unwrap_err().to_string();
    for (got, want) in [
        (text(q.attention(&zeros(&[1, 2, 5, 3]), &v)), "agree in batch, heads and width"),
        (text(q.attention(&k, &zeros(&[1, 2, 4, 6]))), "one value [b, h, m, e] for each key"),
        (text(q.attention(&k, &v.to_dtype(DType::F64).unwrap())), "dtypes f32 and f64 differ"),
        (text(zeros(&[2, 3, 4]).attention(&k, &v)), "queries [b, h, n, d] and keys"),
        (text(zeros(&[2, 3, 12]).self_attention(0)), "heads = 0"),
        (text(zeros(&[2, 3, 12]).self_attention(5)), "heads = 5"),
        (text(zeros(&[2, 3, 13]).self_attention(1)), "heads = 1"),
        (text(zeros(&[3, 12]).self_attention(1)), "tokens [b, n, 3·h·d] are needed"),
    ] {
        assert!(got.contains(want), "{got}");
    }
    let forward = q.attention(&k, &v).unwrap();
    assert!(Tensor::attention_backward([&q, &k, &v], &forward, &q).is_err());
    let other = zeros(&[1, 2, 4, 4]);
    let dy = zeros(&[1, 2, 3, 6]);
    assert!(Tensor::attention_backward([&other, &k, &v], &forward, &dy).is_err());
}

#[test]
fn linear_maps_and_their_weight_gradients_are_sums_of_products() {
    let rng = &mut rng(22);
    for (outer, [inputs, outputs]) in [
        (&[][..], [3, 2]),
        (&[5], [4, 1]),
        (&[2, 3], [17, 33]),
        (&[259], [3, 5]),
        (&[0, 2], [3, 2]),
        (&[4], [0, 3]),
    ] {
        let at = |last: usize| [outer, &[last]].concat();
        let (x, dy) = (
            Array::uniform(rng, &at(inputs), -1.0..1.0),
            Array::uniform(rng, &at(outputs), -1.0..1.0),
        );
        let w = Array::uniform(rng, &[outputs, inputs], -1.0..1.0);
        let bias = Array::uniform(rng, &[outputs], -1.0..1.0);
        let rows: usize = outer.iter().product();
        let y = Array::from_fn(&[rows, outputs], |i| {
            (0..inputs).map(|c| x.data[i[0] * inputs + c] * w.at(&[i[1], c])).sum()
        });
        let y = Array::new(&at(outputs), y.data);
        let with = Array::new(
            &at(outputs),
            y.data.iter().enumerate().map(|(i, y)| y + bias.data[i % outputs]).collect(),
        );
        let dw = Array::from_fn(&[outputs, inputs], |i| {
            (0..rows).map(|r| dy.data[r * outputs + i[0]] * x.data[r * inputs + i[1]]).sum()
        });
        for (place, tolerance) in PLACES {
            let tolerance = tolerance * 16.0;
            let (xs, ws, dys) = (x.layouts(place), w.layouts(place), dy.layouts(place));
            for i in 0..ws.len().max(xs.len()) {
                let pick = |of: &[(String, Tensor)], by: usize| of[(i + by) % of.len()].1.clone();
                let (tx, tw, tdy) = (pick(&xs, 0), pick(&ws, 1), pick(&dys, 2));
                let what = format!("{place} {outer:?} {inputs} {outputs}, {i}");
                assert_is(&what, &tx.linear(&tw, None).unwrap(), &y, tolerance);
                let bias = bias.tensor(place);
                assert_is(&what, &tx.linear(&tw, Some(&bias)).unwrap(), &with, tolerance);
                let got = Tensor::linear_weight_grad(&tx, &tdy).unwrap();
                assert_is(&format!("{what}, gradient"), &got, &dw, tolerance);
            }
        }
    }
}

#[test]
fn linear_maps_that_do_not_fit_are_errors() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap();
    let x = zeros(&[2, 3]);
    for result in [
        x.linear(&zeros(&[4, 2]), None),
        x.linear(&zeros(&[3]), None),
        x.linear(&zeros(&[4, 3]), Some(&zeros(&[3]))),
        zeros(&[]).linear(&zeros(&[4, 3]), None),
        Tensor::linear_weight_grad(&x, &zeros(&[3, 4])),
        Tensor::linear_weight_grad(&x, &zeros(&[])),
        Tensor::linear_weight_grad(&x, &zeros(&[2, 1, 4])),
    ] {
        assert!(result.is_err());
    }
}
