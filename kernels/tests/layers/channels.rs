//! Matrices whose columns are channels.

use gpz_kernels::Kernel;
use gpz_kernels::channels::*;
use gpz_kernels::reference;
use proptest::prelude::*;

use crate::harness::{Case, Value, Want, assert_all_needed, narrow, numbers};

/// What rounding of terms to `f32` may cost a sum of `n` terms of at most `largest`.
fn slack(n: usize, largest: f64) -> f64 {
    n as f64 * largest * 2_f64.powi(-23)
}

fn largest(x: &[f32]) -> f64 {
    x.iter().filter(|x| x.is_finite()).fold(0.0, |most, &x| most.max(f64::from(x).abs()))
}

/// The chunks of a matrix's rows, one after the other.
fn chunks(x: &[f32], c: usize, chunk: usize) -> impl Iterator<Item = &[f32]> {
    x.chunks(c * chunk)
}

/// The kernels that leave sums of chunks.
#[derive(Debug, Clone, Copy)]
enum Sums {
    Plain,
    Moments,
    BatchNormBackward,
    PreluSlope,
}

const SUMS: [Sums; 4] = [Sums::Plain, Sums::Moments, Sums::BatchNormBackward, Sums::PreluSlope];

impl Sums {
    fn case(self, x: &[f32], dy: &[f32], c: usize, chunk: usize) -> Case {
        let (rows, count) = (x.len() / c, (x.len() / c).div_ceil(chunk));
        let (x_arg, dy_arg) = (Value::F32s(x.to_vec()), Value::F32s(dy.to_vec()));
        let mean: Vec<f32> = numbers(c, 5);
        let pairs = chunks(x, c, chunk).zip(chunks(dy, c, chunk));
        let most = largest(x).max(largest(dy)).max(4.0);
        let (kernel, args, want): (Kernel, Vec<Value>, Vec<f64>) = match self {
            Sums::Plain => (
                CHANNEL_SUMS_F32,
                vec![x_arg],
                pairs.flat_map(|(x, _)| reference::channel_sums(x, c)).collect(),
            ),
            Sums::Moments => (
                CHANNEL_MOMENTS_F32,
                vec![x_arg],
                pairs
                    .flat_map(|(part, _)| reference::channel_moments(part, &x[..c]).concat())
                    .collect(),
            ),
            Sums::BatchNormBackward => (
                BATCH_NORM_BACKWARD_SUMS_F32,
                vec![x_arg, dy_arg, Value::F32s(mean.clone())],
                pairs
                    .flat_map(|(x, dy)| reference::batch_norm_backward_sums(x, dy, &mean).concat())
                    .collect(),
            ),
            Sums::PreluSlope => (
                PRELU_SLOPE_SUMS_F32,
                vec![x_arg, dy_arg],
                pairs.flat_map(|(x, dy)| reference::prelu_slope_sums(x, dy, c)).collect(),
            ),
        };
        let sizes = [Value::Out64(want.len()), Value::U32(rows), Value::U32(c), Value::U32(chunk)];
        let args = args.into_iter().chain(sizes).collect();
        let want = vec![Want::within(want, slack(chunk.min(rows), 4.0 * most * most))];
        Case { kernel, down: count, across: c, args, want }
    }

    fn of_numbers(self, rows: usize, c: usize, chunk: usize) -> Case {
        self.case(&numbers(rows * c, 0), &numbers(rows * c, 1), c, chunk)
    }
}

/// The finishes over partial sums of `terms` each.
fn finish(kernel: Kernel, partial: &[f64], rows: usize, c: usize) -> Case {
    let eps = 0.25;
    let terms = if kernel == CHANNEL_SUMS_FINISH_F32 {
        1
    } else if kernel == BATCH_NORM_FINISH_F32 {
        2
    } else {
        3
    };
    let chunks = partial.len() / (terms * c);
    let sums = reference::channel_sums_finish(partial, terms * c);
    let sums: Vec<&[f64]> = sums.chunks(c).collect();
    let [x, scale, shift] = [2, 3, 4].map(|seed| numbers(c, seed));
    let variance: Vec<f32> = numbers(c, 5).iter().map(|x| x.abs()).collect();
    let (before, want, mut sizes) = match terms {
        1 => (vec![], vec![sums[0].to_vec()], vec![]),
        2 => {
            let of = [sums[0], sums[1]];
            let want = reference::batch_norm_finish(of, &x, [&scale, &shift], rows, eps);
            (vec![x, scale, shift], want.to_vec(), vec![Value::U32(rows)])
        }
        _ => {
            let of = [sums[0], sums[1], sums[2]];
            let want = reference::batch_norm_backward_finish(of, &variance, &scale, rows, eps);
            (vec![variance, scale], want.to_vec(), vec![Value::U32(rows)])
        }
    };
    sizes.extend([Value::U32(chunks), Value::U32(c)]);
    if terms > 1 {
        sizes.push(Value::F64(eps));
    }
    let args = [Value::F64s(partial.to_vec())]
        .into_iter()
        .chain(before.into_iter().map(Value::F32s))
        .chain(want.iter().map(|want| Value::Out32(want.len())))
        .chain(sizes)
        .collect();
    let want = want.into_iter().map(|want| Want { values: want, absolute: 1e-12, relative: 6e-8 });
    Case { kernel, down: 1, across: c, args, want: want.collect() }
}

/// Partial sums such as those of the moments: squares large enough for a variance.
fn partial(chunks: usize, terms: usize, c: usize) -> Vec<f64> {
    let of = numbers(chunks * terms * c, 6);
    of.iter()
        .enumerate()
        .map(|(at, &x)| f64::from(x) + if at / c % 2 == 1 { 40.0 } else { 0.0 })
        .collect()
}

const FINISHES: [(Kernel, usize); 3] =
    [(CHANNEL_SUMS_FINISH_F32, 1), (BATCH_NORM_FINISH_F32, 2), (BATCH_NORM_BACKWARD_FINISH_F32, 3)];

/// The kernels that deal with each element by itself.
const ELEMENTWISE: [Kernel; 5] = [
    CHANNEL_APPLY_F32,
    CHANNEL_AFFINE_F32,
    BATCH_NORM_BACKWARD_APPLY_F32,
    PRELU_F32,
    PRELU_BACKWARD_F32,
];

fn elementwise(kernel: Kernel, x: &[f32], dy: &[f32], c: usize) -> Case {
    let parameters = [2, 3, 4, 5].map(|seed| numbers(c, seed));
    let [a, b, d, e] = &parameters;
    let per_element = |args: &[&[f32]]| args.iter().map(|x| Value::F32s(x.to_vec())).collect();
    let (mut args, want): (Vec<Value>, _) = if kernel == CHANNEL_APPLY_F32 {
        (per_element(&[x, a, b, d]), reference::channel_apply(x, a, b, d))
    } else if kernel == CHANNEL_AFFINE_F32 {
        (per_element(&[x, a, b]), reference::channel_affine(x, a, b))
    } else if kernel == BATCH_NORM_BACKWARD_APPLY_F32 {
        let of = reference::batch_norm_backward_apply([x, dy], [a, b, d, e]);
        (per_element(&[x, dy, a, b, d, e]), of)
    } else if kernel == PRELU_F32 {
        (per_element(&[x, a]), reference::prelu(x, a))
    } else {
        (per_element(&[x, a, dy]), reference::prelu_backward(x, a, dy))
    };
    args.extend([Value::Out32(x.len()), Value::U32(x.len()), Value::U32(c)]);
    let most = largest(x).max(largest(dy)).max(4.0);
    let want = if kernel == PRELU_F32 || kernel == PRELU_BACKWARD_F32 {
        // One rounding, that of the product of two numbers of `f32`, which is exact in `f64`.
        Want::exactly(narrow(&want).into_iter().map(f64::from).collect())
    } else {
        Want { values: want, absolute: 8.0 * most * most * 2_f64.powi(-24), relative: 1e-6 }
    };
    Case { kernel, down: 1, across: x.len(), args, want: vec![want] }
}

/// All gradients of a batch norm; of two rows, all but a few thousandths of the input's cancel.
fn few(x: &[f32], dy: &[f32], c: usize) -> Case {
    let eps = 0.01;
    let rows = x.len() / c;
    let of = reference::channel_moments(x, &x[..c]);
    let variance: Vec<f32> = (0..c)
        .map(|column| (of[1][column] - of[0][column].powi(2) / rows as f64).max(0.0) / rows as f64)
        .map(|variance| variance as f32)
        .collect();
    let scale = numbers(c, 3);
    let want = reference::batch_norm_backward_few([x, dy], &variance, &scale, eps);
    let inputs = [x, dy, &variance, &scale].map(|values| Value::F32s(values.to_vec()));
    let outputs = want.iter().map(|want| Value::Out32(want.len()));
    let sizes = [Value::U32(rows), Value::U32(c), Value::F64(eps)];
    let args = inputs.into_iter().chain(outputs).chain(sizes).collect();
    let absolute = 1e-11 * largest(x).max(largest(dy)).max(1.0).powi(3);
    let want = want.into_iter().map(|values| Want { values, absolute, relative: 6e-8 });
    Case { kernel: BATCH_NORM_BACKWARD_FEW_F32, down: 1, across: c, args, want: want.collect() }
}

/// The epilogue with the parts whose bits are set in `choice`: bias, scale and shift, residual, relu.
fn epilogue(y: &[f32], c: usize, choice: usize) -> Case {
    let parameters = [2, 3, 4].map(|seed| numbers(c, seed));
    let [bias, scale, shift] = &parameters;
    let residual = numbers(y.len(), 6);
    let has = |bit: usize| choice >> bit & 1 == 1;
    let part = |bit: usize, values: &[f32]| {
        if has(bit) { Value::F32s(values.to_vec()) } else { Value::Absent }
    };
    let mut want = y.to_vec();
    reference::channel_epilogue(
        &mut want,
        c,
        has(0).then_some(bias),
        has(1).then_some([scale, shift]),
        has(2).then_some(&residual),
        has(3),
    );
    Case {
        kernel: CHANNEL_EPILOGUE_F32,
        down: 1,
        across: y.len(),
        args: vec![
            Value::InOut32(y.to_vec()),
            part(0, bias),
            part(1, scale),
            part(1, shift),
            part(2, &residual),
            Value::U32(usize::from(has(3))),
            Value::U32(y.len()),
            Value::U32(c),
        ],
        want: vec![Want::exactly(want.into_iter().map(f64::from).collect())],
    }
}

/// Widths around those of a block and of several, rows around slots and chunks.
fn shapes() -> impl Strategy<Value = (usize, usize, usize)> {
    let width = prop_oneof![
        Just(1),
        Just(3),
        1..9_usize,
        Just(64),
        85..87_usize,
        255..260_usize,
        Just(512)
    ];
    (1..70_usize, width, prop_oneof![1..5_usize, Just(33), Just(64), Just(1000)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sums_of_chunks((rows, c, chunk) in shapes(), seed: u64) {
        for sums in SUMS {
            sums.of_numbers(rows, c, chunk).right(seed).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn chunks_added_up((chunks, c, rows) in shapes(), seed: u64) {
        for (kernel, terms) in FINISHES {
            let case = finish(kernel, &partial(chunks, terms, c), rows, c);
            case.right(seed).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn elements((rows, c, _) in shapes(), seed: u64) {
        for kernel in ELEMENTWISE {
            let case = elementwise(kernel, &numbers(rows * c, 0), &numbers(rows * c, 1), c);
            case.right(seed).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn gradients_over_few_rows((rows, c, _) in shapes(), seed: u64) {
        let case = few(&numbers(rows * c, 0), &numbers(rows * c, 1), c);
        case.right(seed).map_err(TestCaseError::fail)?;
    }
}

/// Every choice of parts, to the bit; rows of one element, of four, of numbers that are none of either, and several blocks.
#[test]
fn epilogues_are_their_parts() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0];
    for (rows, c) in [(1, 1), (5, 1), (3, 4), (7, 6), (29, 36), (130, 8), (342, 3), (41, 100)] {
        for choice in 0..16 {
            let mut y = numbers(rows * c, 0);
            epilogue(&y, c, choice).right(choice as u64).unwrap();
            y.iter_mut().step_by(3).zip(special).for_each(|(y, value)| *y = value);
            epilogue(&y, c, choice).right(choice as u64).unwrap();
        }
    }
}

/// A residual costs a read of its own; a part that is absent costs nothing.
#[test]
fn epilogues_read_what_there_is() {
    for c in [12, 11] {
        let n = 64 * c;
        for (choice, reads) in [(0, 1), (1, 2), (2, 3), (4, 2), (15, 5)] {
            let work = epilogue(&numbers(n, 0), c, choice).right(0).unwrap();
            assert_eq!(
                (work.global_read, work.global_written),
                (4 * reads * n as u64, 4 * n as u64)
            );
        }
    }
}

#[test]
fn nothing_of_the_epilogue_can_be_taken_away() {
    let case = |n, c, choice| epilogue(&numbers(n, 0), c, choice);
    let (all, none) = (15, 0);
    assert_all_needed(&[
        case(12, 4, all),
        case(1040, 8, all),
        case(1299, 3, all),
        case(257, 1, all),
        case(12, 4, none),
        case(5, 5, none),
        case(1040, 8, 8),
        case(257, 1, 8),
    ]);
}

/// With more blocks across than the width needs, each takes fewer columns.
#[test]
fn a_wider_grid_is_right_too() {
    for sums in SUMS {
        for across in [257, 700, 1025] {
            Case { across, ..sums.of_numbers(9, 10, 4) }.right(0).unwrap();
        }
    }
}

#[test]
fn the_same_bits_in_every_order() {
    for sums in SUMS {
        sums.of_numbers(70, 37, 30).assert_same_bits();
    }
    for (kernel, terms) in FINISHES {
        finish(kernel, &partial(40, terms, 37), 100, 37).assert_same_bits();
    }
    few(&numbers(37 * 64, 0), &numbers(37 * 64, 1), 37).assert_same_bits();
}

#[test]
fn what_is_not_finite_stays_in_its_column() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0];
    let (rows, c) = (6, 7);
    let (mut x, mut dy) = (numbers(rows * c, 0), numbers(rows * c, 1));
    for (at, value) in special.into_iter().enumerate() {
        x[3 * c + at] = value;
        dy[4 * c + (at + 2) % c] = value;
    }
    for sums in SUMS {
        sums.case(&x, &dy, c, 4).right(0).unwrap();
    }
    // In the first row too, which is the pivot.
    x[..5].copy_from_slice(&special);
    for sums in [Sums::Plain, Sums::Moments, Sums::PreluSlope] {
        sums.case(&x, &dy, c, rows).right(0).unwrap();
    }
    for width in [c, 6, 21, 1] {
        for kernel in ELEMENTWISE {
            elementwise(kernel, &x, &dy, width).right(0).unwrap();
        }
    }
    for (kernel, terms) in FINISHES {
        let mut partial = partial(2, terms, c);
        for (at, value) in special.into_iter().enumerate() {
            partial[at] = f64::from(value);
        }
        finish(kernel, &partial, 9, c).right(0).unwrap();
    }
}

/// The launches of a layer in turn, far from zero, against the formula in two passes.
#[test]
fn batch_norm_far_from_zero() {
    let (rows, c, chunk, eps) = (200, 4, 33, 1e-5);
    let noise = numbers(rows * c, 0);
    let x: Vec<f32> = noise.iter().map(|x| 1e5 + x).collect();
    let run = |case: Case| case.run(case.kernel.text, 0).unwrap().0;
    let sums = run(Sums::Moments.case(&x, &x, c, chunk)).remove(0);
    let (scale, shift) = (numbers(c, 1), numbers(c, 2));
    let of = |x: &[f32]| Value::F32s(x.to_vec());
    let outs = [(); 4].map(|()| Value::Out32(c));
    let args = [Value::F64s(sums), of(&x), of(&scale), of(&shift)].into_iter().chain(outs).chain([
        Value::U32(rows),
        Value::U32(rows.div_ceil(chunk)),
        Value::U32(c),
        Value::F64(eps),
    ]);
    let want = Vec::new();
    let found = run(Case {
        kernel: BATCH_NORM_FINISH_F32,
        down: 1,
        across: c,
        args: args.collect(),
        want: want.clone(),
    });
    let [mean, _, factor, offset] = [0, 1, 2, 3].map(|at| narrow(&found[at]));
    let n = x.len();
    let args = [of(&x), of(&mean), of(&factor), of(&offset)];
    let args = args.into_iter().chain([Value::Out32(n), Value::U32(n), Value::U32(c)]).collect();
    let out = run(Case { kernel: CHANNEL_APPLY_F32, down: 1, across: n, args, want }).remove(0);
    for column in 0..c {
        let values: Vec<f64> = x.iter().skip(column).step_by(c).map(|&x| f64::from(x)).collect();
        let mean = values.iter().sum::<f64>() / rows as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
        assert!((found[1][column] / variance - 1.0).abs() < 1e-6);
        for (row, x) in values.iter().enumerate() {
            let want = (x - mean) / (variance + eps).sqrt() * f64::from(scale[column])
                + f64::from(shift[column]);
            let found = out[row * c + column];
            assert!((found - want).abs() < 3e-6, "{row} {column}: {found} {want}");
        }
    }
}

/// Each element is read once, and a parameter once for each element or for four of them.
#[test]
fn elements_are_read_once() {
    let (rows, c, chunk) = (64, 12, 16);
    let work = Sums::Plain.of_numbers(rows, c, chunk).right(0).unwrap();
    assert_eq!(work.global_read, (4 * rows * c) as u64);
    assert_eq!(work.global_written, (8 * rows / chunk * c) as u64);
    for c in [12, 11] {
        let n = rows * c;
        let work = elementwise(CHANNEL_AFFINE_F32, &numbers(n, 0), &numbers(n, 1), c).right(0);
        assert_eq!(work.unwrap().global_read, (12 * n) as u64);
    }
}

#[test]
fn nothing_of_the_sums_can_be_taken_away() {
    for sums in SUMS {
        assert_all_needed(&[
            sums.of_numbers(7, 3, 4),
            sums.of_numbers(29, 64, 22),
            sums.of_numbers(600, 1, 270),
            sums.of_numbers(3, 257, 2),
            sums.of_numbers(5, 100, 8),
            sums.of_numbers(8, 200, 4),
            sums.of_numbers(3, 256, 4),
        ]);
    }
}

#[test]
fn nothing_of_the_gradients_over_few_rows_can_be_taken_away() {
    let case = |rows, c| few(&numbers(rows * c, 0), &numbers(rows * c, 1), c);
    assert_all_needed(&[case(2, 3), case(7, 65), case(64, 1), case(5, 130)]);
}

#[test]
fn nothing_of_the_finishes_can_be_taken_away() {
    for (kernel, terms) in FINISHES {
        let case = |chunks, c, rows| finish(kernel, &partial(chunks, terms, c), rows, c);
        let mut small = partial(2, terms, 5);
        small.iter_mut().skip(5).step_by(2).for_each(|x| *x = 0.0);
        small[2] = f64::INFINITY;
        assert_all_needed(&[
            case(3, 3, 20),
            case(20, 33, 50),
            case(300, 1, 50),
            case(9, 20, 2),
            // Wide blocks, and of many narrow ones.
            Case { across: 1, ..case(2, 256, 3) },
            Case { across: 1, ..case(20, 100, 3) },
            case(3, 300, 5),
            finish(kernel, &small, 7, 5),
        ]);
    }
}

#[test]
fn nothing_of_the_elementwise_can_be_taken_away() {
    for kernel in ELEMENTWISE {
        let case = |n, c| elementwise(kernel, &numbers(n, 0), &numbers(n, 1), c);
        assert_all_needed(&[case(12, 4), case(1040, 8), case(1299, 3), case(257, 1), case(5, 5)]);
    }
}
