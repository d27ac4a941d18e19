//! Rows of a matrix.

use gpz_kernels::Kernel;
use gpz_kernels::reference;
use gpz_kernels::rows::*;
use proptest::prelude::*;

use crate::harness::{Case, Value, Want, assert_all_needed, narrow, numbers};

/// The kernels and what each is off by: absolutely, and as a share, for values and gradients of a few units.
const KERNELS: [(Kernel, f64, f64); 7] = [
    (SOFTMAX_F32, 1e-44, 1.5e-6),
    (SOFTMAX_BACKWARD_F32, 1e-5, 1e-6),
    (LOG_SOFTMAX_F32, 2e-6, 2e-7),
    (LOG_SOFTMAX_BACKWARD_F32, 1e-5, 1e-6),
    (LAYER_NORM_F32, 2e-5, 1e-6),
    (LAYER_NORM_BACKWARD_F32, 4e-5, 1e-6),
    (SOFT_CROSS_ENTROPY_F32, 2e-5, 2e-6),
];

const EPS: f64 = 0.03125;

fn case(kernel: (Kernel, f64, f64), x: &[f32], t: &[f32], d: usize) -> Case {
    case_of(kernel, x, t, [numbers(d, 5), numbers(d, 6)])
}

fn case_of(
    (kernel, absolute, relative): (Kernel, f64, f64),
    x: &[f32],
    t: &[f32],
    [scale, shift]: [Vec<f32>; 2],
) -> Case {
    let of = |values: &[f32]| Value::F32s(values.to_vec());
    let d = scale.len();
    let rows = x.len() / d;
    let outs = |want: &[Vec<f64>]| want.iter().map(|want| Value::Out32(want.len())).collect();
    let (mut args, outs, want): (_, Vec<Value>, Vec<Vec<f64>>) = if kernel == SOFTMAX_F32 {
        let want = vec![reference::softmax(x, d)];
        (vec![of(x)], outs(&want), want)
    } else if kernel == LOG_SOFTMAX_F32 {
        let want = vec![reference::log_softmax(x, d)];
        (vec![of(x)], outs(&want), want)
    } else if kernel == SOFTMAX_BACKWARD_F32 {
        let want = vec![reference::softmax_backward(x, t, d)];
        (vec![of(x), of(t)], outs(&want), want)
    } else if kernel == LOG_SOFTMAX_BACKWARD_F32 {
        let want = vec![reference::log_softmax_backward(x, t, d)];
        (vec![of(x), of(t)], outs(&want), want)
    } else if kernel == LAYER_NORM_F32 {
        let want = vec![reference::layer_norm(x, &scale, &shift, EPS)];
        (vec![of(x), of(&scale), of(&shift)], outs(&want), want)
    } else if kernel == LAYER_NORM_BACKWARD_F32 {
        let want = reference::layer_norm_backward(x, t, &scale, EPS).to_vec();
        (vec![of(x), of(t), of(&scale)], outs(&want), want)
    } else {
        let want = reference::soft_cross_entropy(x, t, d).to_vec();
        (vec![of(x), of(t)], vec![Value::Out64(rows), Value::Out32(x.len())], want)
    };
    args.extend(outs);
    args.extend([Value::U32(rows), Value::U32(d)]);
    if kernel == LAYER_NORM_F32 || kernel == LAYER_NORM_BACKWARD_F32 {
        args.push(Value::F64(EPS));
    }
    let want = want.into_iter().map(|values| Want { values, absolute, relative }).collect();
    Case { kernel, down: 1, across: rows, args, want }
}

/// Operands such as a kernel gets them: probabilities, their logarithms or numbers.
fn operand(kernel: Kernel, rows: usize, d: usize) -> Vec<f32> {
    let x = numbers(rows * d, 0);
    if kernel == SOFTMAX_BACKWARD_F32 {
        narrow(&reference::softmax(&x, d))
    } else if kernel == LOG_SOFTMAX_BACKWARD_F32 {
        narrow(&reference::log_softmax(&x, d))
    } else {
        x
    }
}

fn of_numbers(kernel: (Kernel, f64, f64), rows: usize, d: usize) -> Case {
    case(kernel, &operand(kernel.0, rows, d), &numbers(rows * d, 1), d)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_are_those_of_the_reference(
        rows in 1..20_usize,
        d in prop_oneof![1..5_usize, 10..12_usize, 31..34_usize, 63..66_usize, Just(100), Just(515)],
        seed: u64,
    ) {
        for kernel in KERNELS {
            of_numbers(kernel, rows, d).right(seed).map_err(TestCaseError::fail)?;
        }
    }
}

#[test]
fn the_same_bits_in_every_order() {
    for kernel in KERNELS {
        // Approximations differ by seed: compared are the kernels without one.
        if !kernel.0.text.contains("ex2") {
            of_numbers(kernel, 19, 77).assert_same_bits();
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-45];
    for d in [5, 40] {
        let rows = special.len() + 2;
        for kernel in KERNELS {
            let (mut x, mut t) = (operand(kernel.0, rows, d), numbers(rows * d, 1));
            for (row, value) in special.into_iter().enumerate() {
                let log_probability = kernel.0 == LOG_SOFTMAX_BACKWARD_F32 && value > 0.0;
                x[row * d + row] = if log_probability { -value } else { value };
            }
            // A row of nothing but −∞.
            x[5 * d..6 * d].fill(f32::NEG_INFINITY);
            case(kernel, &x, &t, d).right(0).unwrap();
            if kernel.0.text.contains("dy") {
                t[6 * d] = f32::INFINITY;
                t[3 * d + 1] = f32::NAN;
                case(kernel, &x, &t, d).right(0).unwrap();
            }
        }
    }
}

/// Probabilities down to the smallest, to a few units in the last place.
#[test]
fn small_probabilities() {
    let d = 190;
    let x: Vec<f32> = (0..d).map(|at| 3.0 - 35.0 * at as f32 / 64.0).collect();
    for seed in 0..4 {
        case((SOFTMAX_F32, 3e-45, 7e-7), &x, &x, d).right(seed).unwrap();
    }
}

/// Rows about 10⁶ with deviations of 1.
#[test]
fn layer_norm_far_from_zero() {
    let d = 70;
    let x: Vec<f32> = numbers(3 * d, 0).iter().map(|x| 1e6 + x).collect();
    case((LAYER_NORM_F32, 1e-5, 1e-6), &x, &x, d).right(0).unwrap();
    case((LAYER_NORM_BACKWARD_F32, 4e-5, 1e-6), &x, &numbers(3 * d, 1), d).right(0).unwrap();
}

/// Cross entropy of a sure prediction keeps the digits of its small loss.
#[test]
fn a_small_loss() {
    let d = 3;
    let x = [12.0, 0.0, -2.0];
    let case = case((SOFT_CROSS_ENTROPY_F32, 6e-7, 1e-6), &x, &[1.0, 0.0, 0.0], d);
    case.right(1).unwrap();
}

/// Rows of few elements are read once for each pass, and written once.
#[test]
fn rows_are_read_once_for_each_pass() {
    let (rows, d) = (16, 64);
    let passes =
        [(LOG_SOFTMAX_F32, 3, 1), (SOFTMAX_BACKWARD_F32, 4, 1), (SOFT_CROSS_ENTROPY_F32, 5, 1)];
    for kernel in KERNELS {
        let work = of_numbers(kernel, rows, d).right(0).unwrap();
        for (_, reads, writes) in passes.into_iter().filter(|pass| pass.0 == kernel.0) {
            let losses = if kernel.0 == SOFT_CROSS_ENTROPY_F32 { 8 * rows } else { 0 };
            assert_eq!(work.global_read, (reads * 4 * rows * d) as u64);
            assert_eq!(work.global_written, (writes * 4 * rows * d + losses) as u64);
        }
    }
}

/// Eight rows in whose sums two large numbers of 24 bits nearly cancel: what a lane passes on to others must have all digits.
fn cancelling((kernel, _, _): (Kernel, f64, f64)) -> Case {
    let (rows, d) = (8, 8);
    let mut large = vec![0.0; rows * d];
    for row in 0..rows {
        let value = |bits: usize| bits as f32 / 4_194_304.0;
        large[row * d + row] = value(16_777_215 - 2 * row);
        large[row * d + (row + 3) % d] = -value(16_777_208 - row);
    }
    let parameters = [vec![1.0; d], vec![0.0; d]];
    let same = vec![if kernel == SOFTMAX_BACKWARD_F32 { 1.0 } else { 0.0 }; rows * d];
    if kernel == LAYER_NORM_F32 {
        case_of((kernel, 6e-8, 2.4e-7), &large, &same, parameters)
    } else if kernel == LAYER_NORM_BACKWARD_F32 {
        let x: Vec<f32> = numbers(rows * d, 0).iter().map(|x| x / 16.0).collect();
        case_of((kernel, 2.5e-7, 1e-6), &x, &large, parameters)
    } else {
        case_of((kernel, 1e-7, 1e-6), &same, &large, parameters)
    }
}

#[test]
fn nothing_can_be_taken_away() {
    for kernel in KERNELS {
        let mut cases =
            vec![of_numbers(kernel, 9, 5), of_numbers(kernel, 2, 70), of_numbers(kernel, 1, 32)];
        let d = 160;
        // Exact in f32, with a large spread.
        let spread: Vec<f32> = (0..d).map(|at| -35.0 * at as f32 / 64.0).collect();
        let single: Vec<f32> = (0..d).map(|at| if at == d - 1 { 3.0 } else { 0.0 }).collect();
        if kernel.0 == SOFTMAX_F32 {
            cases.push(case((kernel.0, 3e-45, 7e-7), &spread, &spread, d));
        }
        if kernel.0 == LOG_SOFTMAX_BACKWARD_F32 {
            cases.push(case((kernel.0, 3e-45, 5e-7), &spread, &single, d));
            cases.push(case(kernel, &[f32::NEG_INFINITY, -1.0, -0.5], &[0.0, 1.0, 2.0], 3));
        }
        let far: Vec<f32> = numbers(120, 0).iter().map(|x| 1e6 + x).collect();
        let infinite = [f32::NEG_INFINITY, 1.0, 0.5];
        if kernel.0 == LAYER_NORM_F32 || kernel.0 == LAYER_NORM_BACKWARD_F32 {
            cases.push(case(kernel, &far, &numbers(120, 1), 40));
            cases.push(cancelling(kernel));
            if kernel.0 == LAYER_NORM_BACKWARD_F32 {
                // The normalised rows themselves.
                let rows = cancelling((LAYER_NORM_F32, 0.0, 0.0));
                let Value::F32s(x) = &rows.args[0] else { unreachable!() };
                let ones = [vec![1.0; 8], vec![0.0; 8]];
                cases.push(case_of((kernel.0, 6e-8, 2.4e-7), x, &vec![1.0; x.len()], ones));
            }
        } else if kernel.0 == SOFTMAX_BACKWARD_F32 || kernel.0 == LOG_SOFTMAX_BACKWARD_F32 {
            cases.push(cancelling(kernel));
        } else {
            if kernel.0 == SOFT_CROSS_ENTROPY_F32 {
                cases.push(cancelling(kernel));
            }
            if kernel.0 != SOFTMAX_F32 {
                let single: Vec<f32> =
                    (0..144).map(|at| f32::from(u8::from(at % 10 == 0))).collect();
                let x: Vec<f32> = numbers(16 * 9, 0).iter().map(|x| x / 8.0).collect();
                cases.push(case((kernel.0, 4.2e-7, 0.0), &x, &single, 3));
            }
            cases.push(case(kernel, &infinite, &[0.0, 1.0, 2.0], 3));
            if kernel.0.text.contains("%largest") {
                // Without the right largest, exponentials overflow.
                let mut x = numbers(65, 0);
                x[64] = 300.0;
                cases.push(case(kernel, &x, &numbers(65, 1), 65));
            }
        }
        assert_all_needed(&cases);
    }
}
