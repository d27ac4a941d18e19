//! Loops over the rows of a `[rows, columns]` matrix: softmax, layer normalisation, reductions.

use rayon::prelude::*;

use crate::Element;
use crate::cpu::pool::larger;
use crate::simd::vectorised;

/// Elements a task works on.
const PIECE: usize = 1 << 14;

/// Calls `f` with each row of `out` and its number; in parallel where the matrix is large.
pub(crate) fn for_each<T: Element>(
    out: &mut [T],
    columns: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    if out.is_empty() {
        return;
    }
    let rows = (PIECE / columns).max(1);
    let task = |(i, part): (usize, &mut [T])| {
        for (r, row) in part.chunks_exact_mut(columns).enumerate() {
            f(i * rows + r, row);
        }
    };
    if out.len() < 2 * PIECE {
        out.chunks_mut(rows * columns).enumerate().for_each(task);
    } else {
        out.par_chunks_mut(rows * columns).enumerate().for_each(task);
    }
}

/// `out[r] = f(row r)` for rows of `length` elements of `x`; in parallel where `x` is large, however few its rows are: pass an `f`
/// that cuts a long row itself, such as [`fold`] or [`largest`].
pub(crate) fn reduce<T: Element>(
    out: &mut [T],
    x: &[T],
    length: usize,
    f: impl Fn(&[T]) -> f64 + Sync,
) {
    let rows = (PIECE / length.max(1)).max(1);
    let task = |(i, part): (usize, &mut [T])| {
        for (r, out) in part.iter_mut().enumerate() {
            *out = T::from_f64(f(&x[(i * rows + r) * length..][..length]));
        }
    };
    if x.len().max(out.len()) < 2 * PIECE {
        out.chunks_mut(rows).enumerate().for_each(task);
    } else {
        out.par_chunks_mut(rows).enumerate().for_each(task);
    }
}

const LANES: usize = 64;
/// Lanes are emptied now and then: an f32 sum of many terms loses its last digits.
const BLOCK: usize = LANES * 32;

#[inline(always)]
fn fold_block<T: Element>(x: &[T], y: &[T], f: &impl Fn(T, T) -> T) -> f64 {
    let mut lanes = [T::ZERO; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = xs.remainder().iter().zip(ys.remainder());
    for (lane, (&a, &b)) in lanes.iter_mut().zip(rest) {
        *lane += f(a, b);
    }
    for (x, y) in xs.zip(ys) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i]);
        }
    }
    lanes.iter().map(|v| v.to_f64()).sum()
}

/// Sum of `f(x, y)` over two rows, in lanes that are added up in f64, block by block. Long rows are cut between threads; their
/// blocks are added in order all the same.
pub(crate) fn fold<T: Element>(x: &[T], y: &[T], f: impl Fn(T, T) -> T + Sync) -> f64 {
    if x.len() < 2 * PIECE {
        let mut total = 0.0;
        vectorised(
            #[inline(always)]
            || {
                for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
                    total += fold_block(x, y, &f);
                }
            },
        );
        return total;
    }
    let blocks = x.par_chunks(BLOCK).zip(y.par_chunks(BLOCK)).with_min_len(PIECE / BLOCK);
    let sums: Vec<f64> = blocks
        .map(|(x, y)| {
            vectorised(
                #[inline(always)]
                || fold_block(x, y, &f),
            )
        })
        .collect();
    sums.iter().fold(0.0, |total, sum| total + sum)
}

/// Largest element of a row; NaN wins. Long rows are cut between threads.
pub(crate) fn largest<T: Element>(x: &[T]) -> T {
    let of = |x: &[T]| x.iter().fold(T::NEG_INFINITY, |best, &v| larger(best, v));
    if x.len() < 2 * PIECE {
        return of(x);
    }
    let parts: Vec<T> = x.par_chunks(PIECE).map(of).collect();
    of(&parts)
}

/// Position of the first element that [`largest`] could be; 0 in an empty row.
pub(crate) fn first_largest<T: Element>(x: &[T]) -> usize {
    let largest = largest(x);
    // The second test is true for NaN alone.
    #[allow(clippy::eq_op)]
    let is_largest = |v: &T| *v == largest || (*v != *v && largest != largest);
    x.iter().position(is_largest).unwrap_or(0)
}

/// Whether no element is infinite or NaN.
pub(crate) fn all_finite<T: Element>(x: &[T]) -> bool {
    // Without an early end inside a piece, so that the loop is one of vectors.
    let of = |x: &[T]| x.iter().fold(true, |all, v| all & v.is_finite());
    if x.len() < 2 * PIECE { x.chunks(PIECE).all(of) } else { x.par_chunks(PIECE).all(of) }
}

/// `out = eˣ / Σ eˣ`, shifted by the maximum.
pub(crate) fn softmax<T: Element>(out: &mut [T], x: &[T]) {
    let shift = largest(x);
    vectorised(
        #[inline(always)]
        || {
            for (o, &x) in out.iter_mut().zip(x) {
                *o = (x - shift).exp();
            }
        },
    );
    let scale = T::from_f64(
        1.0 / fold(
            out,
            out,
            #[inline(always)]
            |a, _| a,
        ),
    );
    for o in out {
        *o = *o * scale;
    }
}

/// `out = x - ln Σ eˣ`, shifted by the maximum; uses `out` for the exponentials on the way.
pub(crate) fn log_softmax<T: Element>(out: &mut [T], x: &[T]) {
    let shift = largest(x);
    for (o, &x) in out.iter_mut().zip(x) {
        *o = (x - shift).exp();
    }
    let log_sum = T::from_f64(
        fold(
            out,
            out,
            #[inline(always)]
            |a, _| a,
        )
        .ln(),
    );
    for (o, &x) in out.iter_mut().zip(x) {
        *o = (x - shift) - log_sum;
    }
}
