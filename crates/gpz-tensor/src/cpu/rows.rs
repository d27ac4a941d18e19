//! Loops over the rows of a `[rows, columns]` matrix: softmax, layer normalisation, row sums.

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

/// Sum of `f(x, y)` over two rows, in lanes that are added up in f64.
pub(crate) fn fold<T: Element>(x: &[T], y: &[T], f: impl Fn(T, T) -> T) -> f64 {
    const LANES: usize = 64;
    let mut total = 0.0;
    vectorised(
        #[inline(always)]
        || {
            // Lanes are emptied now and then: an f32 sum of many terms loses its last digits.
            for (x, y) in x.chunks(LANES * 32).zip(y.chunks(LANES * 32)) {
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
                total += lanes.iter().map(|v| v.to_f64()).sum::<f64>();
            }
        },
    );
    total
}

/// Sums of `x − pivot` and of its square over a row, in lanes that are added up in f64.
pub(crate) fn deviations<T: Element>(x: &[T], pivot: T) -> (f64, f64) {
    const LANES: usize = 32;
    let (mut first, mut second) = (0.0, 0.0);
    vectorised(
        #[inline(always)]
        || {
            for x in x.chunks(LANES * 32) {
                let mut lanes = [[T::ZERO; LANES]; 2];
                let xs = x.chunks_exact(LANES);
                for (i, &x) in xs.remainder().iter().enumerate() {
                    let d = x - pivot;
                    lanes[0][i] += d;
                    lanes[1][i] += d * d;
                }
                for x in xs {
                    for i in 0..LANES {
                        let d = x[i] - pivot;
                        lanes[0][i] += d;
                        lanes[1][i] += d * d;
                    }
                }
                first += lanes[0].iter().map(|v| v.to_f64()).sum::<f64>();
                second += lanes[1].iter().map(|v| v.to_f64()).sum::<f64>();
            }
        },
    );
    (first, second)
}

/// `out = eˣ / Σ eˣ`, shifted by the maximum.
pub(crate) fn softmax<T: Element>(out: &mut [T], x: &[T]) {
    let shift = x.iter().fold(T::NEG_INFINITY, |best, &v| larger(best, v));
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
    let shift = x.iter().fold(T::NEG_INFINITY, |best, &v| larger(best, v));
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
