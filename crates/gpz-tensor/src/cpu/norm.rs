//! Layer normalisation of the rows of a `[rows, columns]` matrix, and its gradients, in one pass over memory each.

use rayon::prelude::*;

use crate::Element;
use crate::simd::vectorised;
use crate::softmax::non_negative;

/// Elements a task works on; below twice this one thread does it all.
const PIECE: usize = 1 << 14;
/// Lanes of the sums along a row, on every instruction set.
const LANES: usize = 16;
/// Elements that are added up in lanes of `T` before the lanes are added up in f64.
const BLOCK: usize = LANES * 64;

/// Mean and reciprocal standard deviation of a row.
#[derive(Clone, Copy)]
struct Moments<T> {
    /// The mean as the type holds it.
    pivot: T,
    /// What the mean's rounding left over.
    shift: T,
    /// `1 / √(var + eps)`.
    inverse: T,
}

impl<T: Element> Moments<T> {
    #[inline(always)]
    fn of(row: &[T], eps: f64) -> Self {
        let count = row.len() as f64;
        let [sum] = sums(
            row,
            row,
            #[inline(always)]
            |x, _| [x],
        );
        let pivot = T::from_f64(sum / count);
        let [first, second] = sums(
            row,
            row,
            #[inline(always)]
            |x, _| {
                let d = x - pivot;
                [d, d * d]
            },
        );
        let shift = first / count;
        let variance = non_negative(second / count - shift * shift);
        let inverse = T::from_f64(1.0 / (variance + eps).sqrt());
        Moments { pivot, shift: T::from_f64(shift), inverse }
    }

    #[inline(always)]
    fn normal(&self, x: T) -> T {
        ((x - self.pivot) - self.shift) * self.inverse
    }
}

/// Sums of what `f` makes of the elements of two rows, in lanes that are added up in f64.
#[inline(always)]
fn sums<T: Element, const N: usize>(x: &[T], y: &[T], f: impl Fn(T, T) -> [T; N]) -> [f64; N] {
    let mut totals = [0.0; N];
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        let mut lanes = [[T::ZERO; LANES]; N];
        let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
        for (i, (&x, &y)) in xs.remainder().iter().zip(ys.remainder()).enumerate() {
            let terms = f(x, y);
            for k in 0..N {
                lanes[k][i] += terms[k];
            }
        }
        for (x, y) in xs.zip(ys) {
            for i in 0..LANES {
                let terms = f(x[i], y[i]);
                for k in 0..N {
                    lanes[k][i] += terms[k];
                }
            }
        }
        for k in 0..N {
            let mut wide = [0.0; LANES];
            for i in 0..LANES {
                wide[i] = lanes[k][i].to_f64();
            }
            let mut width = LANES / 2;
            while width > 0 {
                for i in 0..width {
                    wide[i] += wide[i + width];
                }
                width /= 2;
            }
            totals[k] += wide[0];
        }
    }
    totals
}

/// `out = (x − mean) / √(var + eps) · scale + shift` for each row.
pub(crate) fn forward<T: Element>(out: &mut [T], x: &[T], [scale, shift]: [&[T]; 2], eps: f64) {
    let columns = scale.len();
    if out.is_empty() {
        return;
    }
    let piece = (PIECE / columns).max(1) * columns;
    let task = |(out, x): (&mut [T], &[T])| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(columns).zip(x.chunks_exact(columns)) {
                    let moments = Moments::of(x, eps);
                    for (((o, &x), &a), &b) in out.iter_mut().zip(x).zip(scale).zip(shift) {
                        *o = moments.normal(x) * a + b;
                    }
                }
            },
        );
    };
    if out.len() < 2 * PIECE {
        task((out, x));
    } else {
        out.par_chunks_mut(piece).zip(x.par_chunks(piece)).for_each(task);
    }
}

/// Gradient of the input into `dx`; returns those of scale and shift.
pub(crate) fn backward<T: Element>(
    dx: &mut [T],
    [x, dy]: [&[T]; 2],
    scale: &[T],
    eps: f64,
) -> [Vec<f64>; 2] {
    let columns = scale.len();
    let mut totals = [vec![0.0; columns], vec![0.0; columns]];
    if dx.is_empty() {
        return totals;
    }
    let piece = (PIECE / columns).max(1) * columns;
    let task = |((dx, x), dy): ((&mut [T], &[T]), &[T])| {
        let mut own = [vec![T::ZERO; columns], vec![T::ZERO; columns]];
        vectorised(
            #[inline(always)]
            || {
                let [of_scale, of_shift] = &mut own;
                let (of_scale, of_shift) = (&mut of_scale[..columns], &mut of_shift[..columns]);
                let rows = dx.chunks_exact_mut(columns).zip(x.chunks_exact(columns));
                for ((dx, x), dy) in rows.zip(dy.chunks_exact(columns)) {
                    gradient_of_row(dx, [x, dy], scale, [&mut *of_scale, &mut *of_shift], eps);
                }
            },
        );
        own
    };
    let parts: Vec<[Vec<T>; 2]> = if dx.len() < 2 * PIECE {
        dx.chunks_mut(piece).zip(x.chunks(piece)).zip(dy.chunks(piece)).map(task).collect()
    } else {
        let rows = dx.par_chunks_mut(piece).zip(x.par_chunks(piece));
        rows.zip(dy.par_chunks(piece)).map(task).collect()
    };
    for part in &parts {
        for (total, part) in totals.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part.to_f64());
        }
    }
    totals
}

#[inline(always)]
fn gradient_of_row<T: Element>(
    dx: &mut [T],
    [x, dy]: [&[T]; 2],
    scale: &[T],
    [of_scale, of_shift]: [&mut [T]; 2],
    eps: f64,
) {
    let n = dx.len();
    let (x, dy, scale) = (&x[..n], &dy[..n], &scale[..n]);
    let (of_scale, of_shift) = (&mut of_scale[..n], &mut of_shift[..n]);
    let moments = Moments::of(x, eps);
    // The gradient in front of the scale, held where the result will stand.
    for i in 0..n {
        dx[i] = dy[i] * scale[i];
    }
    let [sum, slope] = sums(
        dx,
        x,
        #[inline(always)]
        |g, x| [g, g * moments.normal(x)],
    );
    let (mean, slope) = (T::from_f64(sum / n as f64), T::from_f64(slope / n as f64));
    for i in 0..n {
        let normal = moments.normal(x[i]);
        dx[i] = ((dx[i] - mean) - normal * slope) * moments.inverse;
        of_scale[i] += dy[i] * normal;
        of_shift[i] += dy[i];
    }
}
