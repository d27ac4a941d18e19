//! Convolutions, transposed convolutions and their gradients against loops in f64, and the fused convolution against its parts.

mod common;

use common::{Array, PLACES, assert_is, bits, rng};
use gpz_cuda_sim::Simulator;
use gpz_tensor::{
    Conv2dOptions, ConvEpilogue, ConvTranspose2dOptions, CudaDevice, DType, Device, Tensor, UnaryOp,
};

/// Calls `f` with coarse row and column, kernel row and column, fine row and column of all that a convolution connects: the fine
/// side is a convolution's picture and a transposed one's result.
fn connected(
    [coarse, fine, kernel]: [[usize; 2]; 3],
    [stride, padding, dilation]: [[usize; 2]; 3],
    mut f: impl FnMut([usize; 2], [usize; 2], [usize; 2]),
) {
    let place = |axis: usize, r: usize, k: usize| {
        let padded = r * stride[axis] + k * dilation[axis];
        padded.checked_sub(padding[axis]).filter(|&i| i < fine[axis])
    };
    for r in 0..coarse[0] {
        for c in 0..coarse[1] {
            for kh in 0..kernel[0] {
                for kw in 0..kernel[1] {
                    if let (Some(h), Some(v)) = (place(0, r, kh), place(1, c, kw)) {
                        f([r, c], [kh, kw], [h, v]);
                    }
                }
            }
        }
    }
}

/// What the sums over all connections make.
#[derive(Clone, Copy)]
enum Sought {
    Coarse,
    Weight,
    Fine,
}

/// One of coarse `[n, a, r, c]`, weight `[a, b, kh, kw]` and fine `[n, b, h, v]` from the other two: of the one that is sought, only the
/// shape counts.
fn sums(
    sought: Sought,
    (coarse, weight, fine): (&Array, &Array, &Array),
    steps: [[usize; 2]; 3],
) -> Array {
    let (a, b) = (weight.shape[0], weight.shape[1]);
    // Channels in groups: each sees its own.
    let run = a * b / fine.shape[1];
    let size = |array: &Array| [array.shape[2], array.shape[3]];
    let mut out = match sought {
        Sought::Coarse => Array::from_fn(&coarse.shape, |_| 0.0),
        Sought::Weight => Array::from_fn(&weight.shape, |_| 0.0),
        Sought::Fine => Array::from_fn(&fine.shape, |_| 0.0),
    };
    let at = |array: &Array, i: usize, j: usize, [h, w]: [usize; 2]| {
        ((i * array.shape[1] + j) * array.shape[2] + h) * array.shape[3] + w
    };
    connected([size(coarse), size(fine), size(weight)], steps, |r, k, h| {
        for n in 0..coarse.shape[0] {
            for (i, j) in (0..a).flat_map(|i| (0..b).map(move |j| (i, j))) {
                let own = i / run * b + j;
                let (c, w, f) = (at(coarse, n, i, r), at(weight, i, j, k), at(fine, n, own, h));
                match sought {
                    Sought::Coarse => out.data[c] += weight.data[w] * fine.data[f],
                    Sought::Weight => out.data[w] += coarse.data[c] * fine.data[f],
                    Sought::Fine => out.data[f] += coarse.data[c] * weight.data[w],
                }
            }
        }
    });
    out
}

/// `y + bias` per channel.
fn biased(y: &Array, bias: &Array) -> Array {
    Array::from_fn(&y.shape, |i| y.at(i) + bias.data[i[1]])
}

/// Calls `f` with both dtypes, the error a sum of `terms` may have, and the arrays in every layout of memory; no two in the same.
fn in_every_layout<const N: usize>(
    arrays: [&Array; N],
    terms: usize,
    mut f: impl FnMut(&str, f64, [&Tensor; N]),
) {
    for (place, tolerance) in PLACES {
        let layouts = arrays.map(|array| array.layouts(place));
        for i in 0..layouts[0].len() {
            let pick = |k: usize| &layouts[k][(i + 2 * k) % layouts[k].len()];
            let names: Vec<&str> = (0..N).map(|k| pick(k).0.as_str()).collect();
            let what = format!("{place} {}", names.join(", "));
            f(&what, tolerance * (terms as f64).sqrt(), std::array::from_fn(|k| &pick(k).1));
        }
    }
}

#[test]
fn convolutions_and_their_gradients_agree_with_f64_in_every_layout() {
    let rng = &mut rng(1);
    let options =
        |stride, padding, dilation| Conv2dOptions { stride, padding, dilation, groups: 1 };
    for (x, w, o) in [
        ([2, 5, 6, 7], [5, 1, 3, 3], options([1, 1], [1, 1], [1, 1]).grouped(5)),
        ([2, 18, 7, 6], [18, 1, 3, 2], options([2, 1], [0, 1], [1, 2]).grouped(18)),
        ([2, 6, 5, 7], [9, 2, 3, 2], options([1, 2], [1, 1], [1, 1]).grouped(3)),
        ([1, 3, 5, 4], [6, 1, 2, 2], options([1, 1], [1, 0], [1, 1]).grouped(3)),
        ([2, 3, 9, 8], [5, 3, 3, 3], options([1, 1], [1, 1], [1, 1])),
        ([2, 3, 9, 8], [5, 3, 3, 2], options([2, 1], [0, 1], [1, 1])),
        ([1, 4, 11, 7], [18, 4, 2, 3], options([1, 3], [2, 1], [3, 2])),
        ([3, 1, 6, 10], [1, 1, 5, 1], options([2, 2], [2, 0], [1, 1])),
        ([2, 17, 5, 6], [33, 17, 1, 1], options([2, 1], [0, 0], [1, 1])),
        ([1, 2, 4, 5], [3, 2, 4, 5], options([1, 1], [3, 2], [1, 1])),
    ] {
        let size = |axis: usize| {
            let span = o.dilation[axis] * (w[axis + 2] - 1) + 1;
            (x[axis + 2] + 2 * o.padding[axis] - span) / o.stride[axis] + 1
        };
        let y = [x[0], w[0], size(0), size(1)];
        let steps = [o.stride, o.padding, o.dilation];
        let [x, w, dy] = [x, w, y].map(|shape| Array::uniform(rng, &shape, -1.0..1.0));
        let bias = Array::uniform(rng, &w.shape[..1], -1.0..1.0);
        let y = sums(Sought::Coarse, (&dy, &w, &x), steps);
        let dw = sums(Sought::Weight, (&dy, &w, &x), steps);
        let dx = sums(Sought::Fine, (&dy, &w, &x), steps);
        in_every_layout([&x, &w, &dy], x.data.len(), |layout, tolerance, [tx, tw, tdy]| {
            let what = format!("{:?} {:?} {o:?} {layout}", x.shape, w.shape);
            assert_is(&what, &tx.conv2d(tw, None, o).unwrap(), &y, tolerance);
            let with = tx.conv2d(tw, Some(&bias.beside(tx)), o).unwrap();
            assert_is(&what, &with, &biased(&y, &bias), tolerance);
            let got = Tensor::conv2d_input_grad(tdy, tw, &x.shape, o).unwrap();
            assert_is(&format!("{what}, input gradient"), &got, &dx, tolerance);
            let got = Tensor::conv2d_weight_grad(tx, tdy, &w.shape, o).unwrap();
            assert_is(&format!("{what}, weight gradient"), &got, &dw, tolerance);
        });
    }
}

#[test]
fn transposed_convolutions_and_their_gradients_agree_with_f64_in_every_layout() {
    let rng = &mut rng(2);
    let options = |stride, padding, output_padding, dilation| ConvTranspose2dOptions {
        stride,
        padding,
        output_padding,
        dilation,
    };
    for (x, w, o) in [
        ([2, 3, 4, 5], [3, 5, 4, 4], options([2, 2], [1, 1], [0, 0], [1, 1])),
        ([2, 3, 5, 4], [3, 2, 3, 3], options([2, 3], [1, 0], [1, 2], [1, 1])),
        ([1, 4, 3, 6], [4, 18, 2, 3], options([1, 2], [0, 2], [0, 1], [3, 2])),
        ([3, 1, 6, 4], [1, 1, 5, 1], options([3, 1], [2, 0], [0, 0], [1, 2])),
        ([2, 17, 3, 2], [17, 33, 1, 1], options([2, 1], [0, 0], [1, 0], [1, 1])),
        ([1, 2, 1, 1], [2, 3, 4, 5], options([1, 1], [1, 2], [0, 0], [1, 1])),
    ] {
        let size = |axis: usize| {
            let span = o.dilation[axis] * (w[axis + 2] - 1) + 1;
            (x[axis + 2] - 1) * o.stride[axis] + span + o.output_padding[axis] - 2 * o.padding[axis]
        };
        let y = [x[0], w[1], size(0), size(1)];
        let steps = [o.stride, o.padding, o.dilation];
        let [x, w, dy] = [x, w, y].map(|shape| Array::uniform(rng, &shape, -1.0..1.0));
        let bias = Array::uniform(rng, &w.shape[1..2], -1.0..1.0);
        let y = sums(Sought::Fine, (&x, &w, &dy), steps);
        let dw = sums(Sought::Weight, (&x, &w, &dy), steps);
        let dx = sums(Sought::Coarse, (&x, &w, &dy), steps);
        in_every_layout([&x, &w, &dy], dy.data.len(), |layout, tolerance, [tx, tw, tdy]| {
            let what = format!("{:?} {:?} {o:?} {layout}", x.shape, w.shape);
            assert_is(&what, &tx.conv_transpose2d(tw, None, o).unwrap(), &y, tolerance);
            let with = tx.conv_transpose2d(tw, Some(&bias.beside(tx)), o).unwrap();
            assert_is(&what, &with, &biased(&y, &bias), tolerance);
            let got = Tensor::conv_transpose2d_input_grad(tdy, tw, &x.shape, o).unwrap();
            assert_is(&format!("{what}, input gradient"), &got, &dx, tolerance);
            let got = Tensor::conv_transpose2d_weight_grad(tx, tdy, &w.shape, o).unwrap();
            assert_is(&format!("{what}, weight gradient"), &got, &dw, tolerance);
        });
    }
}

/// Bit for bit what the operations make one after the other, for every choice of them.
#[test]
fn a_fused_convolution_is_its_parts() {
    let rng = &mut rng(3);
    let options =
        |stride, padding, dilation| Conv2dOptions { stride, padding, dilation, groups: 1 };
    for (x, w, o) in [
        ([2, 18, 5, 4], [18, 1, 3, 3], options([1, 1], [1, 1], [1, 1]).grouped(18)),
        ([2, 4, 5, 4], [10, 2, 3, 3], options([2, 1], [1, 1], [1, 1]).grouped(2)),
        ([2, 3, 9, 8], [5, 3, 3, 3], options([1, 1], [1, 1], [1, 1])),
        ([1, 18, 6, 7], [35, 18, 3, 3], options([2, 1], [1, 0], [1, 2])),
        ([3, 16, 5, 5], [16, 16, 1, 1], options([1, 1], [0, 0], [1, 1])),
    ] {
        let [x, w] = [x, w].map(|shape| Array::uniform(rng, &shape, -1.0..1.0));
        let channels = w.shape[0];
        let [bias, scale, shift] =
            [-1.0..1.0, 0.5..1.5, -1.0..1.0].map(|range| Array::uniform(rng, &[channels], range));
        let plain = x.tensor(DType::F64).conv2d(&w.tensor(DType::F64), None, o).unwrap();
        let residual = Array::uniform(rng, plain.shape(), -1.0..1.0);
        in_every_layout([&x, &w, &residual], 1, |layout, _, [x, w, residual]| {
            let [bias, scale, shift] = [&bias, &scale, &shift].map(|p| p.beside(x));
            for choice in 0..16 {
                let has = |bit: usize| choice >> bit & 1 == 1;
                let epilogue = ConvEpilogue {
                    bias: has(0).then_some(&bias),
                    affine: has(1).then_some((&scale, &shift)),
                    residual: has(2).then_some(residual),
                    relu: has(3),
                };
                let mut want = x.conv2d(w, None, o).unwrap();
                if has(0) {
                    want = want.add(&bias.reshape(&[channels, 1, 1]).unwrap()).unwrap();
                }
                if has(1) {
                    want = want.channel_affine(&scale, &shift).unwrap();
                }
                if has(2) {
                    want = want.add(residual).unwrap();
                }
                if has(3) {
                    want = want.unary(UnaryOp::Relu).unwrap();
                }
                let got = x.conv2d_fused(w, epilogue, o).unwrap();
                assert_eq!(got.shape(), want.shape());
                assert!(bits(&got) == bits(&want), "{:?} {layout}, choice {choice:04b}", w.shape());
            }
        });
    }
}

/// On a CUDA device all that follows a convolution is one launch, and nothing is none.
#[test]
fn what_follows_a_convolution_is_one_launch() {
    let simulator = Simulator::new();
    let device = Device::Cuda(CudaDevice::with_driver(simulator.clone()));
    let zeros = |shape: &[usize]| Tensor::full_on(shape, 0.0, DType::F32, &device).unwrap();
    let (x, w) = (zeros(&[1, 4, 1, 1]), zeros(&[8, 4, 1, 1]));
    let (parameter, residual) = (zeros(&[8]), zeros(&[1, 8, 1, 1]));
    for choice in 0..16 {
        let has = |bit: usize| choice >> bit & 1 == 1;
        let epilogue = ConvEpilogue {
            bias: has(0).then_some(&parameter),
            affine: has(1).then_some((&parameter, &parameter)),
            residual: has(2).then_some(&residual),
            relu: has(3),
        };
        let before = simulator.calls();
        x.conv2d_fused(&w, epilogue, Conv2dOptions::square(1, 0)).unwrap();
        let after = simulator.calls();
        assert_eq!(after.convolutions - before.convolutions, 1);
        assert_eq!(after.launches - before.launches, u64::from(choice != 0), "choice {choice:04b}");
    }
}
