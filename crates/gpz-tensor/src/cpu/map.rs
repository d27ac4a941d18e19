//! Loops over one, two or three strided operands.
//!
//! Axes are sorted by the output's strides and merged where they can be, so that operands of equal layout become one flat loop and
//! a broadcast over channels an inner loop over adjacent memory. Work is cut into pieces by size alone.

use rayon::prelude::*;

use crate::Element;
use crate::shape::Dims;
use crate::simd::vectorised;

/// Elements a task works on; below twice this a loop runs on the caller's thread.
const PIECE: usize = 1 << 14;

/// How to walk `K` operands of one shape, the first of them dense and written in order.
struct Plan<const K: usize> {
    /// Extents of the outer axes, slowest first.
    extents: Vec<usize>,
    /// Strides of the outer axes for each operand.
    strides: Vec<[usize; K]>,
    /// Extent and strides of the innermost axis.
    inner: usize,
    inner_strides: [usize; K],
}

impl<const K: usize> Plan<K> {
    fn new(shape: &Dims, strides: [&Dims; K]) -> Self {
        let mut axes: Vec<(usize, [usize; K])> = (0..shape.len())
            .filter(|&axis| shape[axis] != 1)
            .map(|axis| (shape[axis], strides.map(|s| s[axis])))
            .collect();
        axes.sort_by_key(|(_, s)| std::cmp::Reverse(s[0]));
        let mut merged: Vec<(usize, [usize; K])> = Vec::with_capacity(axes.len());
        for (extent, step) in axes {
            match merged.last_mut() {
                Some((outer, outer_step)) if (0..K).all(|k| outer_step[k] == step[k] * extent) => {
                    *outer *= extent;
                    *outer_step = step;
                }
                _ => merged.push((extent, step)),
            }
        }
        let (inner, inner_strides) = merged.pop().unwrap_or((1, [1; K]));
        let (extents, strides) = merged.into_iter().unzip();
        Plan { extents, strides, inner, inner_strides }
    }

    fn rows(&self) -> usize {
        self.extents.iter().product()
    }

    /// Calls `f` with each operand's offset for the rows `first..first + count`.
    fn for_rows(&self, first: usize, count: usize, mut f: impl FnMut([usize; K])) {
        let depth = self.extents.len();
        let mut index = vec![0; depth];
        let mut rest = first;
        for axis in (0..depth).rev() {
            index[axis] = rest % self.extents[axis];
            rest /= self.extents[axis];
        }
        let mut offsets = [0; K];
        for axis in 0..depth {
            for k in 0..K {
                offsets[k] += index[axis] * self.strides[axis][k];
            }
        }
        for _ in 0..count {
            f(offsets);
            for axis in (0..depth).rev() {
                index[axis] += 1;
                for k in 0..K {
                    offsets[k] += self.strides[axis][k];
                }
                if index[axis] < self.extents[axis] {
                    break;
                }
                for k in 0..K {
                    offsets[k] -= index[axis] * self.strides[axis][k];
                }
                index[axis] = 0;
            }
        }
    }

    /// Hands each innermost run of the output, with the other operands' offsets for its first element, to `f`; in parallel.
    fn run<T: Element>(&self, out: &mut [T], f: impl Fn(&mut [T], [usize; K]) + Sync) {
        if out.is_empty() {
            return;
        }
        if self.rows() == 1 {
            let piece = |(i, part): (usize, &mut [T])| {
                f(part, self.inner_strides.map(|stride| i * PIECE * stride));
            };
            if out.len() < 2 * PIECE {
                f(out, [0; K]);
            } else {
                out.par_chunks_mut(PIECE).enumerate().for_each(piece);
            }
            return;
        }
        let rows = (PIECE / self.inner).max(1);
        let piece = |(i, part): (usize, &mut [T])| {
            let count = part.len() / self.inner;
            let mut runs = part.chunks_exact_mut(self.inner);
            self.for_rows(i * rows, count, |offsets| {
                if let Some(run) = runs.next() {
                    f(run, offsets);
                }
            });
        };
        if out.len() < 2 * PIECE {
            piece((0, out));
        } else {
            out.par_chunks_mut(rows * self.inner).enumerate().for_each(piece);
        }
    }
}

/// `out = x`, each under its own strides; `out` is dense.
pub(crate) fn copy<T: Element>(
    shape: &Dims,
    out: &mut [T],
    out_strides: &Dims,
    x: &[T],
    x_strides: &Dims,
) {
    let plan = Plan::new(shape, [out_strides, x_strides]);
    let step = plan.inner_strides[1];
    plan.run(out, |run, [_, at]| match step {
        1 => run.copy_from_slice(&x[at..at + run.len()]),
        0 => run.fill(x[at]),
        _ => {
            for (to, from) in run.iter_mut().zip(x[at..].iter().step_by(step)) {
                *to = *from;
            }
        }
    });
}

/// `out[i] = f(x[i])` over memory of equal layout.
pub(crate) fn map1<T: Element>(out: &mut [T], x: &[T], f: impl Fn(T) -> T + Sync) {
    flat(out, |out, at| {
        let x = &x[at..at + out.len()];
        vectorised(
            #[inline(always)]
            || {
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = f(x);
                }
            },
        );
    });
}

/// `out[i] = f(x[i], y[i], z[i])` over memory of equal layout.
pub(crate) fn map3<T: Element>(
    out: &mut [T],
    [x, y, z]: [&[T]; 3],
    f: impl Fn(T, T, T) -> T + Sync,
) {
    flat(out, |out, at| {
        let n = out.len();
        let (x, y, z) = (&x[at..at + n], &y[at..at + n], &z[at..at + n]);
        vectorised(
            #[inline(always)]
            || {
                for (((o, &x), &y), &z) in out.iter_mut().zip(x).zip(y).zip(z) {
                    *o = f(x, y, z);
                }
            },
        );
    });
}

/// Hands pieces of `out` with their start to `f`; in parallel where it is long.
pub(crate) fn flat<T: Element>(out: &mut [T], f: impl Fn(&mut [T], usize) + Sync) {
    if out.len() < 2 * PIECE {
        f(out, 0);
    } else {
        out.par_chunks_mut(PIECE).enumerate().for_each(|(i, part)| f(part, i * PIECE));
    }
}

/// `out = f(x, y)`, each under its own strides; `out` is dense.
pub(crate) fn map2<T: Element>(
    shape: &Dims,
    (out, out_strides): (&mut [T], &Dims),
    (x, x_strides): (&[T], &Dims),
    (y, y_strides): (&[T], &Dims),
    f: impl Fn(T, T) -> T + Sync,
) {
    let plan = Plan::new(shape, [out_strides, x_strides, y_strides]);
    let [_, sx, sy] = plan.inner_strides;
    plan.run(out, |run, [_, ax, ay]| {
        let n = run.len();
        vectorised(
            #[inline(always)]
            || match (sx, sy) {
                (1, 1) => {
                    for ((o, &x), &y) in run.iter_mut().zip(&x[ax..ax + n]).zip(&y[ay..ay + n]) {
                        *o = f(x, y);
                    }
                }
                (1, 0) => {
                    let y = y[ay];
                    for (o, &x) in run.iter_mut().zip(&x[ax..ax + n]) {
                        *o = f(x, y);
                    }
                }
                (0, 1) => {
                    let x = x[ax];
                    for (o, &y) in run.iter_mut().zip(&y[ay..ay + n]) {
                        *o = f(x, y);
                    }
                }
                _ => {
                    for (i, o) in run.iter_mut().enumerate() {
                        *o = f(x[ax + i * sx], y[ay + i * sy]);
                    }
                }
            },
        );
    });
}
