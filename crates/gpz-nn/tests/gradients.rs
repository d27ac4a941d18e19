//! Every gradient rule against central differences in f64, at points where the derivative is large, for every operand.

mod common;

use std::slice::from_ref;

use common::{beside, channels_last, check, distinct, rng, signed, swapped, uniform};
use gpz_nn::Var;
use gpz_tensor::{Conv2dOptions, ConvTranspose2dOptions, Pool2d, Tensor, UnaryOp};

/// Straight from the table: a new row is tested without a new line, unless it is undefined below zero.
#[test]
fn every_row_of_the_elementwise_table() {
    let rng = &mut rng(1);
    for &op in UnaryOp::ALL {
        let positive = matches!(op, UnaryOp::Sqrt | UnaryOp::Ln);
        for shape in [&[][..], &[17], &[2, 3, 2, 3]] {
            let draw = if positive { uniform } else { signed };
            let mut x = draw(rng, shape, 0.2..2.0);
            if shape.is_empty() {
                // One element, and the derivative of some is 0 on one side.
                x = x.unary(UnaryOp::Abs).unwrap();
            }
            check(op.name(), from_ref(&x), |v| v[0].unary(op));
            if shape.len() > 1 {
                check(op.name(), &[channels_last(&x)], |v| v[0].unary(op));
                check(op.name(), &[swapped(&x)], |v| v[0].unary(op));
            }
        }
    }
}

#[test]
fn named_activations() {
    let x = &[signed(&mut rng(2), &[3, 5], 0.2..1.5)];
    check("relu", x, |v| v[0].relu());
    check("tanh", x, |v| v[0].tanh());
    check("sigmoid", x, |v| v[0].sigmoid());
    check("gelu", x, |v| v[0].gelu());
    check("affine", x, |v| v[0].affine(-1.7, 0.4));
}

#[test]
fn arithmetic_with_broadcasting() {
    let rng = &mut rng(3);
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[3, 4], &[3, 4]),
        (&[2, 3, 4], &[4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 1, 4], &[3, 1]),
        (&[2, 3, 2, 3], &[3, 1, 1]),
        (&[], &[2, 3]),
        (&[2, 3], &[1]),
        (&[1, 1], &[3]),
        (&[1], &[]),
    ];
    for (xs, ys) in shapes {
        let (x, y) = (signed(rng, xs, 0.5..2.0), signed(rng, ys, 0.5..2.0));
        let mut pairs = vec![[x.clone(), y.clone()], [y.clone(), x.clone()]];
        if xs.len() == 4 {
            pairs.push([channels_last(&x), y.clone()]);
        }
        if xs.len() > 1 {
            pairs.push([swapped(&x), y.clone()]);
        }
        for pair in pairs {
            let what = |op| format!("{op} {:?} {:?}", pair[0].shape(), pair[1].shape());
            check(&what("add"), &pair, |v| v[0].add(&v[1]));
            check(&what("sub"), &pair, |v| v[0].sub(&v[1]));
            check(&what("mul"), &pair, |v| v[0].mul(&v[1]));
            check(&what("div"), &pair, |v| v[0].div(&v[1]));
        }
    }
}

#[test]
fn shapes_and_orders() {
    let rng = &mut rng(4);
    let x = uniform(rng, &[2, 3, 4, 2], -1.0..1.0);
    for x in [x.clone(), channels_last(&x), swapped(&x)] {
        let x = &[x];
        check("reshape", x, |v| v[0].reshape(&[4, 12]));
        check("flatten from 1", x, |v| v[0].flatten_from(1));
        check("flatten from 0", x, |v| v[0].flatten_from(0));
        check("permute", x, |v| v[0].permute(&[2, 0, 3, 1]));
        check("transpose", x, |v| v[0].transpose(3, 1));
        for axis in 0..=4 {
            check("unsqueeze", x, |v| v[0].unsqueeze(axis));
        }
        for axis in 0..4 {
            let extent = x[0].shape()[axis];
            check("narrow", x, |v| v[0].narrow(axis, 1, extent - 1));
            check("narrow", x, |v| v[0].narrow(axis, 0, extent - 1));
        }
        // The gradient of a sum is a stretched view: the rules before it must take one.
        check("reshape of a product, summed", x, |v| {
            v[0].mul(&v[0])?.reshape(&[6, 8])?.sum(&[1])?.tanh()
        });
    }
    for axis in 0..3 {
        let mut shape = [2, 3, 2];
        let first = uniform(rng, &shape, -1.0..1.0);
        shape[axis] = 4;
        let second = uniform(rng, &shape, -1.0..1.0);
        let three = [first, swapped(&second), uniform(rng, &[2, 3, 2], -1.0..1.0)];
        check("concat of two", &three[..2], |v| Var::concat(&[&v[0], &v[1]], axis));
        check("concat of three", &three, |v| Var::concat(&[&v[1], &v[2], &v[0]], axis));
        check("concat of one twice", &three[..1], |v| Var::concat(&[&v[0], &v[0]], axis));
    }
    for (from, to) in [
        (&[3, 1][..], &[3, 4][..]),
        (&[1, 3], &[2, 2, 3]),
        (&[2, 1, 3, 1], &[2, 4, 3, 2]),
        (&[], &[2, 3]),
        (&[2, 3], &[2, 3]),
    ] {
        let x = uniform(rng, from, -1.0..1.0);
        check("broadcast", from_ref(&x), |v| v[0].broadcast_to(to));
        if from.len() > 1 {
            check("broadcast", &[swapped(&x)], |v| v[0].broadcast_to(to));
        }
    }
}

#[test]
fn sums_and_means() {
    let x = uniform(&mut rng(5), &[2, 3, 4], -1.0..1.0);
    for x in [x.clone(), swapped(&x)] {
        for bits in 0..8usize {
            let axes: Vec<usize> = (0..3).filter(|a| bits >> a & 1 == 1).collect();
            check("sum", from_ref(&x), |v| v[0].sum(&axes));
            // A mean's gradient is small by its nature: it is made large first.
            check("mean", from_ref(&x), |v| v[0].affine(24.0, 0.0)?.mean(&axes));
        }
    }
}

#[test]
fn maxima() {
    let x = distinct(&mut rng(14), &[2, 3, 4]);
    for x in [x.clone(), swapped(&x)] {
        for bits in 0..8usize {
            let axes: Vec<usize> = (0..3).filter(|a| bits >> a & 1 == 1).collect();
            check("max", from_ref(&x), |v| v[0].max(&axes));
        }
    }
}

#[test]
fn matrix_products() {
    let rng = &mut rng(6);
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[3, 4], &[4, 5]),
        (&[1, 1], &[1, 1]),
        (&[2, 3, 4], &[2, 4, 5]),
        (&[2, 3, 4], &[4, 5]),
        (&[2, 2, 3, 4], &[2, 2, 4, 3]),
        (&[2, 2, 3, 4], &[4, 2]),
        (&[2, 1, 3, 2, 3], &[2, 1, 3, 3, 2]),
    ];
    for (a, b) in shapes {
        let (a, b) = (signed(rng, a, 0.3..1.0), signed(rng, b, 0.3..1.0));
        for pair in [[a.clone(), b.clone()], [swapped(&a), swapped(&b)]] {
            let what = format!("matmul {:?} {:?}", a.shape(), b.shape());
            check(&what, &pair, |v| v[0].matmul(&v[1]));
        }
        // As a linear layer does it: the weight comes transposed.
        let last = b.rank() - 1;
        let turned = b.transpose(last - 1, last).unwrap().row_major().unwrap();
        let mut axes: Vec<usize> = (0..=last).collect();
        axes.swap(last - 1, last);
        check("matmul with a transposed view", &[a, turned], |v| {
            v[0].matmul(&v[1].permute(&axes)?)
        });
    }
}

#[test]
fn linear_maps() {
    let rng = &mut rng(15);
    for (x, w) in
        [(&[3][..], [2, 3]), (&[5, 3], [4, 3]), (&[2, 3, 4], [17, 4]), (&[130, 2], [3, 2])]
    {
        let bias = signed(rng, &w[..1], 0.3..1.0);
        let (x, w) = (signed(rng, x, 0.3..1.0), signed(rng, &w, 0.3..1.0));
        check("linear", &[x.clone(), w.clone()], |v| v[0].linear(&v[1], None));
        let operands = [x.clone(), swapped(&w), bias];
        check("linear with a bias", &operands, |v| v[0].linear(&v[1], Some(&v[2])));
    }
}

#[test]
fn convolutions() {
    let rng = &mut rng(7);
    let options =
        |stride, padding, dilation| Conv2dOptions { stride, padding, dilation, groups: 1 };
    let cases = [
        ([2, 3, 4, 5], [3, 1, 3, 3], options([1, 1], [1, 1], [1, 1]).grouped(3)),
        ([1, 4, 5, 4], [6, 2, 3, 2], options([2, 1], [1, 0], [1, 2]).grouped(2)),
        ([2, 2, 5, 4], [3, 2, 3, 3], options([1, 1], [1, 1], [1, 1])),
        ([1, 3, 5, 5], [2, 3, 3, 3], options([2, 2], [1, 1], [1, 1])),
        ([2, 1, 6, 5], [2, 1, 2, 3], options([1, 2], [0, 1], [2, 1])),
        ([1, 2, 4, 4], [3, 2, 1, 1], options([1, 1], [0, 0], [1, 1])),
        ([1, 2, 5, 7], [1, 2, 3, 2], options([3, 2], [2, 1], [1, 2])),
        ([1, 17, 2, 2], [1, 17, 2, 2], options([1, 1], [1, 1], [1, 1])),
    ];
    for (x, w, options) in cases {
        let what = format!("{x:?} {w:?} {options:?}");
        let bias = signed(rng, &w[..1], 0.3..1.0);
        let (x, w) = (signed(rng, &x, 0.3..1.0), signed(rng, &w, 0.3..1.0));
        check(&what, &[x.clone(), w.clone()], |v| v[0].conv2d(&v[1], None, options));
        let operands = [channels_last(&x), swapped(&w), bias];
        check(&what, &operands, |v| v[0].conv2d(&v[1], Some(&v[2]), options));
        let scale = signed(rng, &[w.shape()[0]], 0.5..1.5);
        check(&format!("{what}, scaled"), &operands, |v| {
            let scale = beside(&scale, &v[0]);
            v[0].conv2d_affine(&v[1], Some(&v[2]), (&scale, &scale), options)
        });
    }
}

#[test]
fn transposed_convolutions() {
    let rng = &mut rng(8);
    let options = |stride, padding, output_padding, dilation| ConvTranspose2dOptions {
        stride,
        padding,
        output_padding,
        dilation,
    };
    let cases = [
        ([2, 2, 3, 2], [2, 3, 4, 4], options([2, 2], [1, 1], [0, 0], [1, 1])),
        ([1, 3, 4, 4], [3, 2, 3, 3], options([1, 1], [1, 1], [0, 0], [1, 1])),
        ([2, 1, 3, 2], [1, 2, 3, 2], options([2, 3], [1, 0], [1, 2], [1, 1])),
        ([1, 2, 3, 3], [2, 2, 2, 3], options([1, 2], [0, 1], [0, 1], [2, 1])),
        ([1, 2, 1, 1], [2, 3, 4, 4], options([1, 1], [0, 0], [0, 0], [1, 1])),
        ([1, 17, 2, 2], [17, 1, 4, 4], options([2, 2], [1, 1], [0, 0], [1, 1])),
    ];
    for (x, w, options) in cases {
        let what = format!("{x:?} {w:?} {options:?}");
        let bias = signed(rng, &w[1..2], 0.3..1.0);
        let (x, w) = (signed(rng, &x, 0.3..1.0), signed(rng, &w, 0.3..1.0));
        check(&what, &[x.clone(), w.clone()], |v| v[0].conv_transpose2d(&v[1], None, options));
        let operands = [channels_last(&x), swapped(&w), bias];
        check(&what, &operands, |v| v[0].conv_transpose2d(&v[1], Some(&v[2]), options));
    }
}

#[test]
fn pooling() {
    let rng = &mut rng(9);
    let window = |kernel, stride, padding| Pool2d { kernel, stride, padding };
    for w in [
        Pool2d::square(2),
        window([3, 3], [2, 2], [1, 1]),
        window([2, 3], [1, 1], [0, 1]),
        window([2, 2], [3, 3], [0, 0]),
        window([4, 4], [4, 4], [0, 0]),
    ] {
        let x = distinct(rng, &[2, 3, 5, 4]);
        for x in [x.clone(), channels_last(&x)] {
            check(&format!("max {w:?}"), from_ref(&x), |v| v[0].max_pool2d(w));
            check(&format!("mean {w:?}"), &[x], |v| v[0].affine(4.0, 0.0)?.avg_pool2d(w));
        }
    }
}

#[test]
fn per_channel_operations() {
    let rng = &mut rng(10);
    for shape in [&[4, 3][..], &[2, 3, 2, 3]] {
        let x = signed(rng, shape, 0.2..1.5);
        let mut layouts = vec![x.clone(), swapped(&x)];
        if shape.len() == 4 {
            layouts.push(channels_last(&x));
        }
        let slopes = [signed(rng, &[3], 0.3..0.8), signed(rng, &[1], 0.3..0.8)];
        let scale = signed(rng, &[3], 0.5..1.5);
        for x in layouts {
            for slope in &slopes {
                check("prelu", &[x.clone(), slope.clone()], |v| v[0].prelu(&v[1]));
            }
            check("channel affine", &[x], |v| {
                let scale = beside(&scale, &v[0]);
                v[0].channel_affine(&scale, &scale)
            });
        }
    }
}

/// What such an activation puts out is not kept for the rules behind it; two of them want it here.
#[test]
fn behind_an_activation_that_is_computed_again() {
    let rng = &mut rng(16);
    let x = signed(rng, &[2, 3, 4, 5], 0.3..1.0);
    let slope = signed(rng, &[3], 0.3..0.8);
    let weight = signed(rng, &[3, 3, 3, 3], 0.3..1.0);
    let options = Conv2dOptions::square(1, 1);
    let back = ConvTranspose2dOptions::square(1, 1);
    for x in [x.clone(), channels_last(&x)] {
        check("prelu, then convolutions", &[x, slope.clone(), weight.clone()], |v| {
            let y = v[0].prelu(&v[1])?;
            y.conv2d(&v[2], None, options)?.add(&y.conv_transpose2d(&v[2], None, back)?)
        });
    }
    let rows = [signed(rng, &[5, 3], 0.3..1.0), slope, signed(rng, &[4, 3], 0.3..1.0)];
    check("prelu, then linear", &rows, |v| v[0].prelu(&v[1])?.linear(&v[2], None));
}

#[test]
fn operations_on_rows() {
    let rng = &mut rng(11);
    for shape in [&[5][..], &[3, 4], &[2, 2, 3]] {
        let x = uniform(rng, shape, -1.5..1.5);
        let d = [shape[shape.len() - 1]];
        let (scale, shift) = (signed(rng, &d, 0.5..1.5), signed(rng, &d, 0.5..1.5));
        let mut layouts = vec![x.clone()];
        if shape.len() > 1 {
            layouts.push(swapped(&x));
        }
        for x in layouts {
            check("softmax", from_ref(&x), |v| v[0].softmax()?.affine(3.0, 0.0));
            check("log-softmax", from_ref(&x), |v| v[0].log_softmax());
            for eps in [1e-5, 0.3] {
                let operands = [x.clone(), scale.clone(), shift.clone()];
                check("layer norm", &operands, |v| v[0].layer_norm(&v[1], &v[2], eps));
            }
        }
    }
}

#[test]
fn attention() {
    let rng = &mut rng(12);
    for (q, k, v) in [
        ([2, 2, 3, 4], [2, 2, 3, 4], [2, 2, 3, 4]),
        ([1, 2, 3, 4], [1, 2, 5, 4], [1, 2, 5, 2]),
        ([2, 1, 1, 3], [2, 1, 2, 3], [2, 1, 2, 3]),
    ] {
        let operands = [q, k, v].map(|shape| signed(rng, &shape, 0.5..2.0));
        check("attention", &operands, |v| v[0].attention(&v[1], &v[2]));
    }
    // More queries than a block, more keys than a vector; widths beyond one.
    for (q, k, v) in [
        ([1, 1, 26, 1], [1, 1, 18, 1], [1, 1, 18, 3]),
        ([1, 1, 2, 17], [1, 1, 3, 17], [1, 1, 3, 18]),
    ] {
        let operands = [q, k, v].map(|shape| signed(rng, &shape, 0.3..1.0));
        check("attention of odd sizes", &operands, |v| v[0].attention(&v[1], &v[2]));
    }
    for (shape, heads) in [([2, 3, 12], 2), ([1, 5, 9], 1), ([1, 1, 18], 3)] {
        let packed = signed(rng, &shape, 0.5..1.5);
        check("attention of a projection", &[packed], |v| v[0].self_attention(heads));
    }
    // Heads cut out of one projection, as a vision transformer does it.
    let projected = signed(rng, &[2, 3, 12], 0.5..1.5);
    check("attention over heads", &[projected], |v| {
        let heads = v[0].reshape(&[2, 3, 3, 2, 2])?.permute(&[2, 0, 3, 1, 4])?;
        let part = |i| heads.narrow(0, i, 1)?.reshape(&[2, 2, 3, 2]);
        let y = part(0)?.attention(&part(1)?, &part(2)?)?;
        y.permute(&[0, 2, 1, 3])?.reshape(&[2, 3, 4])
    });
}

/// The formula, written out: softmax(q kᵀ / √d) v.
#[test]
fn attention_is_its_formula() {
    let rng = &mut rng(13);
    let [q, k, v] = [[1, 1, 2, 3], [1, 1, 4, 3], [1, 1, 4, 2]].map(|s| uniform(rng, &s, -2.0..2.0));
    let got = Var::constant(q.clone())
        .attention(&Var::constant(k.clone()), &Var::constant(v.clone()))
        .unwrap();
    let at = |t: &Tensor, i: usize, j: usize| t.to_vec::<f64>().unwrap()[i * t.shape()[3] + j];
    for i in 0..2 {
        let score =
            |m: usize| (0..3).map(|d| at(&q, i, d) * at(&k, m, d)).sum::<f64>() / 3f64.sqrt();
        let weights: Vec<f64> = (0..4).map(|m| score(m).exp()).collect();
        let total: f64 = weights.iter().sum();
        for e in 0..2 {
            let want: f64 = (0..4).map(|m| weights[m] / total * at(&v, m, e)).sum();
            assert!((at(got.value(), i, e) - want).abs() <= 1e-13);
        }
    }
}
