//! Elementwise functions and their gradients, copies, masks.

use std::f64::consts::{PI, SQRT_2};

/// A function of one operand, by its name in the table of `gpz-tensor`.
///
/// # Panics
/// For a name that the table does not have.
#[must_use]
pub fn unary(op: &str, x: f64) -> f64 {
    match op {
        "neg" => -x,
        "abs" => x.abs(),
        "square" => x * x,
        "sqrt" => x.sqrt(),
        "recip" => 1.0 / x,
        "exp" => x.exp(),
        "ln" => x.ln(),
        "relu" => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        "tanh" => x.tanh(),
        "sigmoid" => 1.0 / (1.0 + (-x).exp()),
        "gelu" => x * normal_cdf(x),
        _ => panic!("{op} is no function of one operand"),
    }
}

/// Gradient of such a function: `dy` times the derivative at what the table saves, the input or the output.
///
/// # Panics
/// For a name that the table does not have.
#[must_use]
pub fn unary_backward(op: &str, saved: f64, dy: f64) -> f64 {
    match op {
        "neg" => -dy,
        "abs" if saved == 0.0 => dy * saved,
        "abs" => dy * saved.signum(),
        "square" => dy * (saved + saved),
        "sqrt" => dy * (0.5 / saved),
        "recip" => dy * -(saved * saved),
        "exp" => dy * saved,
        "ln" => dy * (1.0 / saved),
        "relu" => {
            if saved <= 0.0 {
                0.0
            } else {
                dy
            }
        }
        "tanh" => dy * (1.0 - saved * saved),
        "sigmoid" => dy * (saved * (1.0 - saved)),
        "gelu" => dy * (normal_cdf(saved) + saved * normal_density(saved)),
        _ => panic!("{op} is no function of one operand"),
    }
}

fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (SQRT_2 * PI.sqrt())
}

/// The normal distribution function, to 12 digits of its value.
fn normal_cdf(x: f64) -> f64 {
    let a = x.abs();
    let tail = if a < 3.0 {
        // Σ a^(2k+1) / (1 · 3 · … · (2k+1))
        let (mut term, mut sum) = (a, 0.0);
        for k in 0..80 {
            sum += term;
            term *= a * a / f64::from(2 * k + 3);
        }
        0.5 - normal_density(a) * sum
    } else {
        // Laplace's continued fraction 1 / (a + 1 / (a + 2 / (a + …)))
        normal_density(a) / (1..200).rev().fold(a, |rest, k| a + f64::from(k) / rest)
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// `x · scale + shift`, the product rounded before the sum.
#[must_use]
pub fn affine(x: f32, scale: f32, shift: f32) -> f32 {
    x * scale + shift
}

/// A function of two operands, by its name.
///
/// # Panics
/// For a name other than `add`, `sub`, `mul` and `div`.
#[must_use]
pub fn binary(op: &str, x: f32, y: f32) -> f32 {
    match op {
        "add" => x + y,
        "sub" => x - y,
        "mul" => x * y,
        "div" => x / y,
        _ => panic!("{op} is no function of two operands"),
    }
}

/// Where the elements of a layout lie, in the order in which the first axis is the fastest.
///
/// - `dims`, `strides`: the fastest axis first; strides in elements
fn places(dims: &[usize], strides: &[usize]) -> Vec<usize> {
    let place = |index: usize| {
        let (_, place) =
            dims.iter().zip(strides).fold((index, 0), |(rest, place), (size, stride)| {
                (rest / size, place + rest % size * stride)
            });
        place
    };
    (0..dims.iter().product()).map(place).collect()
}

/// A function of two operands of any layout; the result is dense.
///
/// - `dims`: shape of the result, the fastest axis first
/// - `x`, `y`: an operand and its strides; a stride of zero broadcasts
#[must_use]
pub fn binary_strided(
    op: &str,
    dims: &[usize],
    x: (&[f32], &[usize]),
    y: (&[f32], &[usize]),
) -> Vec<f32> {
    let (xs, ys) = (places(dims, x.1), places(dims, y.1));
    xs.iter().zip(&ys).map(|(&at, &with)| binary(op, x.0[at], y.0[with])).collect()
}

/// Copies `x` to `out`, each of any layout.
///
/// - `dims`: the shape of both, the fastest axis first; `xs`, `os`: their strides
pub fn copy_strided(dims: &[usize], x: &[f32], xs: &[usize], out: &mut [f32], os: &[usize]) {
    for (from, to) in places(dims, xs).into_iter().zip(places(dims, os)) {
        out[to] = x[from];
    }
}

/// `[batch, rows, columns]` to `[batch, columns, rows]`.
#[must_use]
pub fn transpose(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    x.chunks_exact(rows * columns)
        .flat_map(|plane| (0..rows * columns).map(move |at| plane[at % rows * columns + at / rows]))
        .collect()
}

/// The same value everywhere.
pub fn fill(out: &mut [f32], value: f32) {
    out.iter_mut().for_each(|out| *out = value);
}

/// A mask of zeros, where the upper 32 bits of `SplitMix64` at the element's place lie below `threshold`, and of `kept` elsewhere.
#[must_use]
pub fn dropout_mask(n: usize, threshold: u64, kept: f32, key: u64) -> Vec<f32> {
    let mask = |at: u64| {
        let z = key.wrapping_add((at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        if (z ^ (z >> 31)) >> 32 < threshold { 0.0 } else { kept }
    };
    (0..n as u64).map(mask).collect()
}
