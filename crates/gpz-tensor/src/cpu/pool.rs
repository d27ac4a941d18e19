//! Pooling over channels-last pictures.

use rayon::prelude::*;

use crate::Element;
use crate::simd::vectorised;

/// Sizes of a pooling operation; see [`crate::Pool2d`] for what they mean.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) channels: usize,
}

impl Geometry {
    /// Calls `f` with the element offset of each input pixel of the window of an output pixel, in row-major order.
    #[inline(always)]
    fn for_window(&self, oh: usize, ow: usize, mut f: impl FnMut(usize)) {
        for kh in 0..self.kernel[0] {
            for kw in 0..self.kernel[1] {
                let (h, w) = (oh * self.stride[0] + kh, ow * self.stride[1] + kw);
                let (Some(h), Some(w)) =
                    (h.checked_sub(self.padding[0]), w.checked_sub(self.padding[1]))
                else {
                    continue;
                };
                if h < self.input[0] && w < self.input[1] {
                    f((h * self.input[1] + w) * self.channels);
                }
            }
        }
    }

    fn input_len(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    fn output_len(&self) -> usize {
        self.output[0] * self.output[1] * self.channels
    }

    /// Calls `f` with the pictures of `out` and their numbers, in parallel.
    fn for_pictures<T: Element>(
        &self,
        out: &mut [T],
        len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        if len > 0 {
            out.par_chunks_mut(len).enumerate().for_each(|(n, picture)| f(n, picture));
        }
    }

    #[inline(always)]
    fn for_pixels(&self, mut f: impl FnMut(usize, usize, usize)) {
        for oh in 0..self.output[0] {
            for ow in 0..self.output[1] {
                f(oh, ow, (oh * self.output[1] + ow) * self.channels);
            }
        }
    }
}

/// The larger of two numbers; NaN wins, and the first stays where both are equal.
#[inline(always)]
pub(crate) fn larger<T: Element>(best: T, x: T) -> T {
    // The second test is true for NaN alone. Once NaN is the best, neither test is true for a number.
    #[allow(clippy::eq_op)]
    if x > best || x != x { x } else { best }
}

/// Largest element of each window; NaN wins.
pub(crate) fn max_forward<T: Element>(g: &Geometry, y: &mut [T], x: &[T]) {
    let (c, x_len) = (g.channels, g.input_len());
    g.for_pictures(y, g.output_len(), |n, y| {
        let x = &x[n * x_len..][..x_len];
        vectorised(
            #[inline(always)]
            || {
                g.for_pixels(|oh, ow, at| {
                    let best = &mut y[at..at + c];
                    best.fill(T::NEG_INFINITY);
                    g.for_window(oh, ow, |from| {
                        for (best, &x) in best.iter_mut().zip(&x[from..from + c]) {
                            *best = larger(*best, x);
                        }
                    });
                });
            },
        );
    });
}

/// The gradient goes to the first element of each window that equals the maximum.
pub(crate) fn max_backward<T: Element>(g: &Geometry, dx: &mut [T], x: &[T], y: &[T], dy: &[T]) {
    let (c, y_len) = (g.channels, g.output_len());
    g.for_pictures(dx, g.input_len(), |n, dx| {
        let x = &x[n * dx.len()..][..dx.len()];
        let (y, dy) = (&y[n * y_len..][..y_len], &dy[n * y_len..][..y_len]);
        let mut left = vec![T::ZERO; c];
        dx.fill(T::ZERO);
        vectorised(
            #[inline(always)]
            || {
                g.for_pixels(|oh, ow, at| {
                    left.copy_from_slice(&dy[at..at + c]);
                    let y = &y[at..at + c];
                    g.for_window(oh, ow, |to| {
                        let (dx, x) = (&mut dx[to..to + c], &x[to..to + c]);
                        for i in 0..c {
                            // Chosen, not subtracted: an infinite gradient less itself would be NaN.
                            let taken = x[i] == y[i];
                            dx[i] += if taken { left[i] } else { T::ZERO };
                            left[i] = if taken { T::ZERO } else { left[i] };
                        }
                    });
                });
            },
        );
    });
}

/// Mean of each window; padding counts as zeros.
pub(crate) fn average_forward<T: Element>(g: &Geometry, y: &mut [T], x: &[T]) {
    let (c, x_len) = (g.channels, g.input_len());
    let scale = T::from_f64(1.0 / (g.kernel[0] * g.kernel[1]) as f64);
    g.for_pictures(y, g.output_len(), |n, y| {
        let x = &x[n * x_len..][..x_len];
        vectorised(
            #[inline(always)]
            || {
                g.for_pixels(|oh, ow, at| {
                    let sum = &mut y[at..at + c];
                    sum.fill(T::ZERO);
                    g.for_window(oh, ow, |from| {
                        for (sum, &x) in sum.iter_mut().zip(&x[from..from + c]) {
                            *sum += x;
                        }
                    });
                    for sum in sum {
                        *sum = *sum * scale;
                    }
                });
            },
        );
    });
}

/// The gradient is spread evenly over each window.
pub(crate) fn average_backward<T: Element>(g: &Geometry, dx: &mut [T], dy: &[T]) {
    let (c, y_len) = (g.channels, g.output_len());
    let scale = T::from_f64(1.0 / (g.kernel[0] * g.kernel[1]) as f64);
    g.for_pictures(dx, g.input_len(), |n, dx| {
        let dy = &dy[n * y_len..][..y_len];
        dx.fill(T::ZERO);
        vectorised(
            #[inline(always)]
            || {
                g.for_pixels(|oh, ow, at| {
                    let dy = &dy[at..at + c];
                    g.for_window(oh, ow, |to| {
                        for (dx, &dy) in dx[to..to + c].iter_mut().zip(dy) {
                            *dx += dy * scale;
                        }
                    });
                });
            },
        );
    });
}
