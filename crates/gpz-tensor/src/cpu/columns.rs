//! Loops over a `[rows, columns]` matrix with one parameter per column: what channels-last makes of per-channel work.
//!
//! A matrix of few columns is walked in runs of several rows, with the parameters repeated as often, so that the inner loop is as
//! long as a vector wants it; where a run ends inside a row the parameters still line up, since runs hold whole rows.

use rayon::prelude::*;

use crate::Element;
use crate::simd::vectorised;

/// Inner loops are at least this long, if the matrix is.
const RUN: usize = 64;
/// Runs that are added up before they go into a sum in f64.
const FEW: usize = 16;
/// Elements a task works on.
const PIECE: usize = 1 << 14;

/// Per-column parameters, repeated to the length of a run.
pub(crate) struct Params<T> {
    values: Vec<T>,
    columns: usize,
}

impl<T: Element> Params<T> {
    pub(crate) fn new(per_column: &[T]) -> Self {
        let columns = per_column.len();
        let values = per_column.repeat((RUN / columns.max(1)).max(1));
        Params { values, columns }
    }

    fn run(&self) -> usize {
        self.values.len().max(1)
    }

    /// Elements of a task: whole runs.
    fn piece(&self) -> usize {
        (PIECE / self.run()).max(1) * self.run()
    }

    /// Adds up the columns of a run.
    fn fold(&self, run: &[f64], sums: &mut [f64]) {
        for row in run.chunks_exact(self.columns.max(1)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// `out = f(x, p, q)` with the column's `p` and `q`.
pub(crate) fn map<T: Element>(
    out: &mut [T],
    x: &[T],
    p: &Params<T>,
    q: &Params<T>,
    f: impl Fn(T, T, T) -> T + Sync,
) {
    let task = |(out, x): (&mut [T], &[T])| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_mut(p.run()).zip(x.chunks(p.run())) {
                    for (((o, &x), &p), &q) in out.iter_mut().zip(x).zip(&p.values).zip(&q.values) {
                        *o = f(x, p, q);
                    }
                }
            },
        );
    };
    if out.len() < 2 * PIECE {
        task((out, x));
    } else {
        out.par_chunks_mut(p.piece()).zip(x.par_chunks(p.piece())).for_each(task);
    }
}

/// `out = f(x, y, [p…])` with the column's four parameters.
pub(crate) fn map_pair<T: Element>(
    out: &mut [T],
    (x, y): (&[T], &[T]),
    params: [&Params<T>; 4],
    f: impl Fn(T, T, [T; 4]) -> T + Sync,
) {
    if out.is_empty() {
        return;
    }
    let run = params[0].run();
    let task = |((out, x), y): ((&mut [T], &[T]), &[T])| {
        vectorised(
            #[inline(always)]
            || {
                let [a, b, c, d] = params.map(|p| &p.values[..run]);
                for ((out, x), y) in out.chunks_mut(run).zip(x.chunks(run)).zip(y.chunks(run)) {
                    let n = out.len();
                    let (x, y) = (&x[..n], &y[..n]);
                    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
                    for i in 0..n {
                        out[i] = f(x[i], y[i], [a[i], b[i], c[i], d[i]]);
                    }
                }
            },
        );
    };
    if out.len() < 2 * PIECE {
        task(((out, x), y));
    } else {
        let piece = params[0].piece();
        out.par_chunks_mut(piece).zip(x.par_chunks(piece)).zip(y.par_chunks(piece)).for_each(task);
    }
}

/// Per column, the sums over all rows of the values of `f(x, y, p)`.
///
/// A few runs at a time are added in `T`, everything else in f64 in its order: the bits do not depend on the threads.
pub(crate) fn sums<T: Element, const N: usize>(
    (x, y): (&[T], &[T]),
    p: &Params<T>,
    f: impl Fn(T, T, T) -> [T; N] + Sync,
) -> [Vec<f64>; N] {
    let run = p.run();
    let task = |(x, y): (&[T], &[T])| {
        let mut totals: [Vec<f64>; N] = std::array::from_fn(|_| vec![0.0; run]);
        let mut sums: [Vec<T>; N] = std::array::from_fn(|_| vec![T::ZERO; run]);
        vectorised(
            #[inline(always)]
            || {
                for (x, y) in x.chunks(FEW * run).zip(y.chunks(FEW * run)) {
                    for (x, y) in x.chunks(run).zip(y.chunks(run)) {
                        let n = x.len();
                        let (y, p) = (&y[..n], &p.values[..n]);
                        // Sum by sum: a loop that adds to all of them is not turned into vectors, and the run stays in the cache.
                        for k in 0..N {
                            let sum = &mut sums[k][..n];
                            for i in 0..n {
                                sum[i] += f(x[i], y[i], p[i])[k];
                            }
                        }
                    }
                    for (total, sum) in totals.iter_mut().zip(&mut sums) {
                        for (total, sum) in total.iter_mut().zip(sum) {
                            *total += sum.to_f64();
                            *sum = T::ZERO;
                        }
                    }
                }
            },
        );
        totals
    };
    let partial: Vec<[Vec<f64>; N]> = if x.len() < 2 * PIECE {
        x.chunks(p.piece()).zip(y.chunks(p.piece())).map(task).collect()
    } else {
        x.par_chunks(p.piece()).zip(y.par_chunks(p.piece())).map(task).collect()
    };
    let mut totals = std::array::from_fn(|_| vec![0.0; p.columns]);
    for sums in &partial {
        for (total, sum) in totals.iter_mut().zip(sums) {
            p.fold(sum, total);
        }
    }
    totals
}
