//! Elementwise operations, their derivatives and broadcasting, in every memory layout, against loops in f64.

mod common;

use common::{Array, PLACES, assert_close, assert_is, rng};
use gpz_tensor::{BinaryOp, DType, Saves, Tensor, UnaryOp, broadcast_shape};

fn unary_reference(op: UnaryOp, x: f64) -> f64 {
    let phi = |x: f64| 0.5 * (1.0 + libm::erf(x / 2f64.sqrt()));
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Square => x.powi(2),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Recip => x.recip(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Ln => x.ln(),
        UnaryOp::Relu => {
            if x.is_nan() {
                x
            } else {
                x.max(0.0)
            }
        }
        UnaryOp::Tanh => x.tanh(),
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Gelu => x * phi(x),
    }
}

fn binary_reference(op: BinaryOp, x: f64, y: f64) -> f64 {
    match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
    }
}

#[test]
fn unary_operations_agree_with_f64_in_every_layout() {
    let rng = &mut rng(1);
    for &op in UnaryOp::ALL {
        for shape in [&[][..], &[5], &[3, 7], &[2, 3, 4, 5], &[2, 1, 3, 1, 2]] {
            let x = Array::uniform(rng, shape, -4.0..4.0);
            let want = x.map(|v| unary_reference(op, v));
            for (place, tolerance) in PLACES {
                for (layout, tensor) in x.layouts(place) {
                    let what = format!("{} {place} {layout} {shape:?}", op.name());
                    assert_is(&what, &tensor.unary(op).unwrap(), &want, tolerance);
                }
            }
        }
    }
}

/// Past the length at which loops go parallel, and no multiple of any vector.
#[test]
fn unary_operations_agree_with_f64_where_they_are_cut_into_pieces() {
    let x = Array::uniform(&mut rng(2), &[3, 33_333], -8.0..8.0);
    for &op in UnaryOp::ALL {
        let want = x.map(|v| unary_reference(op, v));
        for (place, tolerance) in PLACES {
            assert_is(op.name(), &x.tensor(place).unary(op).unwrap(), &want, tolerance);
        }
    }
}

#[test]
fn special_values_stay_what_ieee_makes_of_them() {
    let special =
        [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-30, -1e-30, 88.0, -88.0];
    let x = Array::new(&[special.len()], special.to_vec());
    for &op in UnaryOp::ALL {
        let want: Vec<f64> = special.iter().map(|&v| unary_reference(op, v)).collect();
        assert_close(
            op.name(),
            &x.tensor(DType::F64).unary(op).unwrap().to_vec::<f64>().unwrap(),
            &want,
            1e-12,
        );
        let got = x.tensor(DType::F32).unary(op).unwrap().to_vec::<f64>().unwrap();
        // f32 overflows where f64 does not.
        let want: Vec<f64> = want.iter().map(|&v| f64::from(v as f32)).collect();
        assert_close(op.name(), &got, &want, 2e-6);
    }
}

#[test]
fn derivatives_agree_with_difference_quotients_in_every_layout() {
    let rng = &mut rng(3);
    for &op in UnaryOp::ALL {
        let positive = matches!(op, UnaryOp::Sqrt | UnaryOp::Ln);
        let range = if positive { 0.3..3.0 } else { -2.0..2.0 };
        // Kinks and poles at 0 are a step away.
        let x = Array::uniform(rng, &[2, 3, 4, 5], range).map(|v| v + 0.1 * v.signum());
        let dy = Array::uniform(rng, &x.shape, 0.5..1.5);
        let h = 1e-5;
        let slope =
            x.map(|v| (unary_reference(op, v + h) - unary_reference(op, v - h)) / (2.0 * h));
        let want = Array::from_fn(&x.shape, |i| slope.at(i) * dy.at(i));
        assert!(
            want.data.iter().any(|v| v.abs() > 0.1),
            "{}: no derivative to speak of",
            op.name()
        );
        let saved = match op.saves() {
            Saves::Input => x.clone(),
            Saves::Output => x.map(|v| unary_reference(op, v)),
        };
        for (dtype, tolerance) in [(DType::F64, 1e-8), (DType::F32, 1e-5)] {
            for ((layout, saved), (other, dy)) in
                saved.layouts(dtype).iter().zip(dy.layouts(dtype).iter().rev())
            {
                let got = Tensor::unary_backward(op, saved, dy).unwrap();
                let what = format!("{} {dtype} saved {layout}, gradient {other}", op.name());
                assert_is(&what, &got, &want, tolerance);
            }
        }
    }
}

/// Where the unit is closed nothing passes, not even `∞ · 0`; where it is open the gradient passes as it is.
#[test]
fn gradients_that_are_no_numbers_do_not_pass_a_closed_relu() {
    for dtype in [DType::F32, DType::F64] {
        for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let y =
                Tensor::from_slice(&[0.0, 2.0, -0.0, 1.0], &[4]).unwrap().to_dtype(dtype).unwrap();
            let dy = Tensor::full(&[4], value, dtype).unwrap();
            let got =
                Tensor::unary_backward(UnaryOp::Relu, &y, &dy).unwrap().to_vec::<f64>().unwrap();
            assert_close("relu", &got, &[0.0, value, 0.0, value], 0.0);
        }
    }
}

#[test]
fn operands_broadcast_in_every_pair_of_layouts() {
    let rng = &mut rng(4);
    let pairs: [(&[usize], &[usize]); 12] = [
        (&[3, 4], &[3, 4]),
        (&[2, 3, 4, 5], &[2, 3, 4, 5]),
        (&[2, 3, 4, 5], &[3, 1, 1]),
        (&[2, 3, 4, 5], &[1, 3, 1, 5]),
        (&[2, 3, 4, 5], &[5]),
        (&[2, 3, 4, 5], &[2, 1, 4, 1]),
        (&[2, 1, 4, 1], &[1, 3, 1, 5]),
        (&[4, 1], &[3]),
        (&[1], &[2, 3]),
        (&[], &[2, 3]),
        (&[2, 2, 1, 2, 1, 3], &[2, 1, 3, 1]),
        (&[0, 3], &[1, 3]),
    ];
    for (xs, ys) in pairs {
        let x = Array::uniform(rng, xs, -2.0..2.0);
        let y = Array::uniform(rng, ys, 0.5..2.0);
        let shape = broadcast_shape("test", xs, ys).unwrap();
        for &op in BinaryOp::ALL {
            let forth = Array::from_fn(&shape, |i| {
                binary_reference(op, x.at_stretched(i), y.at_stretched(i))
            });
            let back = Array::from_fn(&shape, |i| {
                binary_reference(op, y.at_stretched(i), x.at_stretched(i))
            });
            for (place, tolerance) in PLACES {
                for (lx, tx) in x.layouts(place) {
                    for (ly, ty) in y.layouts(place) {
                        let what = format!("{} {place} {xs:?} {lx}, {ys:?} {ly}", op.name());
                        assert_is(&what, &tx.binary(op, &ty).unwrap(), &forth, tolerance);
                        if op != BinaryOp::Div {
                            assert_is(&what, &ty.binary(op, &tx).unwrap(), &back, tolerance);
                        }
                        // A stretched view is an operand like any other.
                        let stretched = ty.broadcast_to(&shape).unwrap();
                        assert_is(&what, &tx.binary(op, &stretched).unwrap(), &forth, tolerance);
                        assert_is(
                            &what,
                            &stretched.unary(UnaryOp::Neg).unwrap(),
                            &Array::from_fn(&shape, |i| -y.at_stretched(i)),
                            0.0,
                        );
                    }
                }
            }
        }
    }
}

/// Large enough for parallel loops, in the layouts networks produce.
#[test]
fn large_operands_broadcast_over_channels() {
    let rng = &mut rng(5);
    let x = Array::uniform(rng, &[3, 17, 31, 29], -2.0..2.0);
    let y = Array::uniform(rng, &[17, 1, 1], -2.0..2.0);
    let want = Array::from_fn(&x.shape, |i| x.at(i) * y.at_stretched(i));
    for (place, tolerance) in PLACES {
        for (layout, tensor) in x.layouts(place) {
            assert_is(&layout, &tensor.mul(&y.tensor(place)).unwrap(), &want, tolerance);
        }
    }
}

#[test]
fn named_operations_are_the_table_s() {
    let rng = &mut rng(6);
    let (x, y) = (Array::uniform(rng, &[7], -1.0..1.0), Array::uniform(rng, &[7], 1.0..2.0));
    let (x, y) = (x.tensor(DType::F64), y.tensor(DType::F64));
    let named = [x.add(&y), x.sub(&y), x.mul(&y), x.div(&y)];
    for (&op, named) in BinaryOp::ALL.iter().zip(named) {
        let table = x.binary(op, &y).unwrap();
        assert_eq!(
            named.unwrap().to_vec::<f64>().unwrap(),
            table.to_vec::<f64>().unwrap(),
            "{}",
            op.name()
        );
    }
}

/// The product is rounded before the sum: a fused evaluation of the same would differ in the last bit.
#[test]
fn affine_rounds_the_product_first() {
    let rng = &mut rng(7);
    let x = Array::uniform(rng, &[2, 3, 4, 5], -2.0..2.0);
    let (scale, shift) = (1.1f32, -0.7f32);
    let want: Vec<f32> = x.data.iter().map(|&v| v as f32 * scale + shift).collect();
    for (layout, tensor) in x.layouts(DType::F32) {
        let got =
            tensor.affine(f64::from(scale), f64::from(shift)).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(got, want, "{layout}");
    }
}

#[test]
fn sum_to_undoes_stretching() {
    let rng = &mut rng(8);
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[2, 3, 4], &[2, 3, 4]),
        (&[2, 3, 4], &[4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 3, 4], &[1, 3, 1]),
        (&[2, 3, 4], &[]),
        (&[2, 3, 4], &[1]),
        (&[2, 3, 4, 5], &[3, 1, 1]),
        (&[0, 3], &[1, 3]),
    ];
    for (from, to) in shapes {
        let x = Array::uniform(rng, from, -2.0..2.0);
        let missing = from.len() - to.len();
        let axes: Vec<usize> = (0..from.len())
            .filter(|&a| a < missing || (to[a - missing] == 1 && from[a] != 1))
            .collect();
        let mut want = x.reduced(&axes, |row| row.iter().sum());
        want.shape = to.to_vec();
        for (place, tolerance) in PLACES {
            for (layout, tensor) in x.layouts(place) {
                let got = tensor.sum_to(to).unwrap();
                assert_is(&format!("{from:?} to {to:?} {layout}"), &got, &want, 8.0 * tolerance);
            }
        }
    }
}

/// The table of operations and the kernels are two lists of the same things.
#[test]
fn every_operation_has_its_kernels_and_every_kernel_its_operation() {
    use gpz_kernels::elementwise as kernels;
    let mut named = Vec::new();
    for op in UnaryOp::ALL {
        named.extend([kernels::unary(op.name()), kernels::unary_backward(op.name())]);
    }
    for op in BinaryOp::ALL {
        named.extend([kernels::binary(op.name()), kernels::binary_strided(op.name())]);
    }
    let named: Vec<&str> = named.into_iter().map(|kernel| kernel.unwrap().entry).collect();
    let others = [
        kernels::AFFINE_F32,
        kernels::COPY_STRIDED_F32,
        kernels::TRANSPOSE_F32,
        kernels::FILL_F32,
        kernels::DROPOUT_MASK_F32,
    ];
    for kernel in kernels::ALL {
        let known = named.contains(&kernel.entry) || others.contains(kernel);
        assert!(known, "{} belongs to no operation", kernel.entry);
    }
    assert_eq!(named.len() + others.len(), kernels::ALL.len());
}
