//! Pooling of pictures.

use gpz_kernels::Kernel;
use gpz_kernels::pooling::*;
use gpz_kernels::reference::{self, Pool};
use proptest::prelude::*;

use crate::harness::{Case, Value, Want, assert_all_needed, narrow, numbers};

const KERNELS: [Kernel; 4] =
    [MAX_POOL_F32, MAX_POOL_BACKWARD_F32, AVG_POOL_F32, AVG_POOL_BACKWARD_F32];

fn elements(pool: &Pool) -> usize {
    pool.pictures * pool.input[0] * pool.input[1] * pool.channels
}

fn results(pool: &Pool) -> usize {
    pool.pictures * pool.output()[0] * pool.output()[1] * pool.channels
}

fn case(kernel: Kernel, pool: &Pool, x: &[f32], dy: &[f32]) -> Case {
    let of = |values: &[f32]| Value::F32s(values.to_vec());
    let (mut args, want) = if kernel == MAX_POOL_F32 {
        (vec![of(x)], Want::exactly(reference::max_pool(pool, x)))
    } else if kernel == MAX_POOL_BACKWARD_F32 {
        let y = narrow(&reference::max_pool(pool, x));
        let want = reference::max_pool_backward(pool, x, &y, dy);
        (vec![of(x), of(&y), of(dy)], Want::within(want, 1e-5))
    } else if kernel == AVG_POOL_F32 {
        (vec![of(x)], Want::within(reference::avg_pool(pool, x), 1e-5))
    } else {
        (vec![of(dy)], Want::within(reference::avg_pool_backward(pool, dy), 1e-5))
    };
    let n = want.values.len();
    args.extend([Value::Out32(n), Value::U32(n)]);
    let Pool { input: [h, w], channels, kernel: [kh, kw], stride: [sh, sw], padding, .. } = *pool;
    let ([oh, ow], [ph, pw]) = (pool.output(), padding);
    args.extend([h, w, channels, oh, ow, kh, kw, sh, sw, ph, pw].map(Value::U32));
    if kernel == AVG_POOL_F32 || kernel == AVG_POOL_BACKWARD_F32 {
        args.push(Value::F32((1.0 / (kh * kw) as f64) as f32));
    }
    Case { kernel, down: 1, across: n, args, want: vec![want] }
}

/// With few different numbers, so that the largest of a window stands there more than once.
fn with_ties(n: usize) -> Vec<f32> {
    numbers(n, 0).iter().map(|x| x.round()).collect()
}

fn of_numbers(kernel: Kernel, pool: &Pool) -> Case {
    case(kernel, pool, &with_ties(elements(pool)), &numbers(results(pool), 1))
}

fn pools() -> impl Strategy<Value = Pool> {
    let axis = || {
        (1..5_usize, 1..5_usize, 0..7_usize)
            .prop_flat_map(|(kernel, stride, more)| {
                (Just(kernel), Just(stride), 0..=kernel / 2, Just(more))
            })
            .prop_map(|(kernel, stride, padding, more)| {
                // Somewhat more than the least that a window fits into.
                let input = kernel.saturating_sub(2 * padding).max(1) + more;
                [input, kernel, stride, padding]
            })
    };
    (1..3_usize, 1..6_usize, axis(), axis()).prop_map(|(pictures, channels, y, x)| Pool {
        pictures,
        channels,
        input: [y[0], x[0]],
        kernel: [y[1], x[1]],
        stride: [y[2], x[2]],
        padding: [y[3], x[3]],
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn windows_are_those_of_the_reference(pool in pools(), seed: u64) {
        for kernel in KERNELS {
            of_numbers(kernel, &pool).right(seed).map_err(TestCaseError::fail)?;
        }
    }
}

/// Windows that overlap, with padding; two pictures, heights unlike widths.
const OVERLAPPING: Pool = Pool {
    pictures: 2,
    input: [5, 7],
    channels: 7,
    kernel: [3, 4],
    stride: [2, 1],
    padding: [1, 2],
};

/// Windows apart from each other, the last row and column in none.
const APART: Pool = Pool {
    pictures: 2,
    input: [7, 8],
    channels: 2,
    kernel: [2, 1],
    stride: [3, 3],
    padding: [0, 0],
};

#[test]
fn the_same_bits_in_every_order() {
    for kernel in KERNELS {
        of_numbers(kernel, &OVERLAPPING).assert_same_bits();
    }
}

#[test]
fn what_is_not_finite() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0];
    for kernel in KERNELS {
        for pool in [OVERLAPPING, APART] {
            let (mut x, mut dy) = (with_ties(elements(&pool)), numbers(results(&pool), 1));
            x.iter_mut().step_by(11).zip(special.iter().cycle()).for_each(|(x, &to)| *x = to);
            case(kernel, &pool, &x, &dy).right(0).unwrap();
            dy.iter_mut().step_by(17).zip(special).for_each(|(dy, to)| *dy = to);
            case(kernel, &pool, &x, &dy).right(0).unwrap();
            // Zeros of both signs, of which the first stays; and nothing but −∞.
            x.iter_mut().enumerate().for_each(|(at, x)| *x = [0.0, -0.0][at / 3 % 2]);
            case(kernel, &pool, &x, &dy).right(0).unwrap();
            x.fill(f32::NEG_INFINITY);
            case(kernel, &pool, &x, &dy).right(0).unwrap();
        }
    }
}

/// Windows side by side are read once.
#[test]
fn elements_are_read_once() {
    let pool = Pool { kernel: [2, 2], stride: [2, 2], padding: [0, 0], input: [6, 8], ..APART };
    let (n, results) = (elements(&pool), results(&pool));
    for (kernel, read, written) in
        [(MAX_POOL_F32, n, results), (AVG_POOL_F32, n, results), (AVG_POOL_BACKWARD_F32, n, n)]
    {
        let work = of_numbers(kernel, &pool).right(0).unwrap();
        assert_eq!((work.global_read, work.global_written), (4 * read as u64, 4 * written as u64));
    }
}

#[test]
fn nothing_can_be_taken_away() {
    let one = Pool { pictures: 1, channels: 3, input: [3, 3], ..APART };
    for kernel in KERNELS {
        let mut cases = vec![
            of_numbers(kernel, &OVERLAPPING),
            of_numbers(kernel, &APART),
            of_numbers(kernel, &one),
        ];
        let mut x = with_ties(elements(&one));
        x[0] = f32::NAN;
        cases.push(case(kernel, &one, &x, &numbers(results(&one), 1)));
        assert_all_needed(&cases);
    }
}
