//! The definition, in plain loops over f64: what the tests compare with.

use super::Geometry;
use crate::Element;

/// Calls `f(coarse pixel, fine pixel, kernel position)` for all that are connected; pixels are counted over the batch.
fn connections(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let w = &g.window;
    let fine_at = |axis: usize, r: usize, k: usize| {
        (r * w.stride[axis] + k * w.dilation[axis])
            .checked_sub(w.padding[axis])
            .filter(|&i| i < g.fine[axis])
    };
    for n in 0..g.batch {
        for r in 0..g.coarse[0] {
            for c in 0..g.coarse[1] {
                for kh in 0..w.kernel[0] {
                    for kw in 0..w.kernel[1] {
                        let (Some(h), Some(v)) = (fine_at(0, r, kh), fine_at(1, c, kw)) else {
                            continue;
                        };
                        f(
                            (n * g.coarse[0] + r) * g.coarse[1] + c,
                            (n * g.fine[0] + h) * g.fine[1] + v,
                            kh * w.kernel[1] + kw,
                        );
                    }
                }
            }
        }
    }
}

/// Calls `f(coarse channel, fine channel, weight's index without its position)` for all that are connected.
fn channels(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let (run, fine_run) = (g.coarse_channels / g.groups, g.fine_channels / g.groups);
    for a in 0..g.coarse_channels {
        for b in 0..fine_run {
            f(a, a / run * fine_run + b, (a * fine_run + b) * g.positions());
        }
    }
}

fn gather<T: Element>(g: &Geometry, fine: &[T], weights: &[T]) -> Vec<f64> {
    let (ca, cb) = (g.coarse_channels, g.fine_channels);
    let mut out = vec![0.0; g.coarse_len()];
    connections(g, |p, q, k| {
        channels(g, |a, b, w| {
            out[p * ca + a] += fine[q * cb + b].to_f64() * weights[w + k].to_f64();
        });
    });
    out
}

fn spread<T: Element>(g: &Geometry, coarse: &[T], weights: &[T]) -> Vec<f64> {
    let (ca, cb) = (g.coarse_channels, g.fine_channels);
    let mut out = vec![0.0; g.fine_len()];
    connections(g, |p, q, k| {
        channels(g, |a, b, w| {
            out[q * cb + b] += coarse[p * ca + a].to_f64() * weights[w + k].to_f64();
        });
    });
    out
}

/// `[n, oh, ow, co]`.
pub(super) fn forward<T: Element>(g: &Geometry, x: &[T], w: &[T]) -> Vec<f64> {
    if g.transposed { spread(g, x, w) } else { gather(g, x, w) }
}

/// `[n, h, w, ci]`.
pub(super) fn input_gradient<T: Element>(g: &Geometry, dy: &[T], w: &[T]) -> Vec<f64> {
    if g.transposed { gather(g, dy, w) } else { spread(g, dy, w) }
}

/// As the weights.
pub(super) fn weight_gradient<T: Element>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<f64> {
    let (coarse, fine) = if g.transposed { (x, dy) } else { (dy, x) };
    let (ca, cb) = (g.coarse_channels, g.fine_channels);
    let mut sums = vec![0.0; g.weight_len()];
    connections(g, |p, q, k| {
        channels(g, |a, b, w| {
            sums[w + k] += coarse[p * ca + a].to_f64() * fine[q * cb + b].to_f64();
        });
    });
    sums
}
