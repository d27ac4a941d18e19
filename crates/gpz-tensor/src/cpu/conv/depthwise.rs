//! Convolutions of each channel by itself: a vector holds adjacent channels, and a few pixels share the weights of a tap.

use rayon::prelude::*;

use super::Epilogue;
use super::direct::Pass;
use super::geometry::Geometry;
use super::taps::{Direction, Phase, inside};
use super::tile::{load_within, store_within};
use crate::Element;
use crate::buffer::Buffer;
use crate::simd::{Isa, Kernel, Lanes};

/// Pixels summed together.
const TILE: usize = 4;
/// Partial sums of the weight gradient, at most.
const PARTS: usize = 64;

/// `y = epilogue(Σ taps)` in a direction; nothing is empty.
pub(super) fn run<T: Element>(
    geometry: &Geometry,
    direction: Direction,
    x: &[T],
    weights: &[T],
    epilogue: &Epilogue<'_, T>,
    y: &mut [T],
) {
    let (channels, positions) = (geometry.groups, geometry.positions());
    // [position][channel], so that a vector of channels lies together.
    let mut by_position = Buffer::unfilled(weights.len());
    for (k, to) in by_position.as_mut_slice().chunks_exact_mut(channels).enumerate() {
        to.iter_mut().zip(weights.chunks_exact(positions)).for_each(|(to, from)| *to = from[k]);
    }
    let [step, out_step] = direction.steps(&geometry.window);
    let sum = Sum {
        pass: Pass::new(geometry, direction),
        phases: direction.phases(&geometry.window),
        step,
        out_step,
        x,
        weights: by_position.as_slice(),
        epilogue,
        y,
    };
    T::dispatch(Isa::current(), sum);
}

struct Sum<'a, T> {
    pass: Pass,
    phases: Vec<Phase>,
    step: [usize; 2],
    out_step: [usize; 2],
    x: &'a [T],
    weights: &'a [T],
    epilogue: &'a Epilogue<'a, T>,
    y: &'a mut [T],
}

/// A tap of a row of pixels whose source row lies inside the picture.
struct RowTap<'a, T> {
    /// The source row.
    row: &'a [T],
    /// Columns from a pixel's source column.
    shift: isize,
    weights: &'a [T],
}

impl<T: Element> Kernel<T> for Sum<'_, T> {
    type Output = ();

    fn run<I: Lanes<T>>(self, isa: I) {
        let Sum { pass, phases, step, out_step, x, weights, epilogue, y } = self;
        let channels = pass.out_channels;
        let row_len = pass.out[1] * channels;
        let source_row = pass.source[1] * channels;
        y.par_chunks_exact_mut(row_len).enumerate().for_each(|(number, y)| {
            let (image, r) = (number / pass.out[0], number % pass.out[0]);
            for column in 0..out_step[1].min(pass.out[1]) {
                let phase = &phases[r % out_step[0] * out_step[1] + column];
                let taps = phase.taps.iter().filter_map(|tap| {
                    let at = (r / out_step[0] * step[0]) as isize + tap.dh;
                    let at = usize::try_from(at).ok().filter(|&at| at < pass.source[0])?;
                    let row = &x[(image * pass.source[0] + at) * source_row..][..source_row];
                    Some(RowTap {
                        row,
                        shift: tap.dw,
                        weights: &weights[tap.position * channels..][..channels],
                    })
                });
                let taps: Vec<RowTap<'_, T>> = taps.collect();
                isa.vectorised(
                    #[inline(always)]
                    || columns(isa, &taps, channels, [column, out_step[1]], step[1], y),
                );
            }
            isa.vectorised(
                #[inline(always)]
                || epilogue.apply(number * row_len, channels, y),
            );
        });
    }
}

/// The pixels `first`, `first + apart`, … of a row.
#[inline(always)]
fn columns<T: Element, I: Lanes<T>>(
    isa: I,
    taps: &[RowTap<'_, T>],
    channels: usize,
    [first, apart]: [usize; 2],
    step: usize,
    y: &mut [T],
) {
    let pixels = (y.len() / channels - first).div_ceil(apart);
    for start in (0..pixels).step_by(TILE) {
        let tile = TILE.min(pixels - start);
        for v in 0..channels.div_ceil(I::LANES) {
            let mut sums = [isa.splat(T::ZERO); TILE];
            for tap in taps {
                let w = load_within(isa, tap.weights, v);
                let width = tap.row.len() / channels;
                for (p, sum) in sums.iter_mut().enumerate() {
                    let at = ((start + p) * step) as isize + tap.shift;
                    // A pixel beyond the tile may lie anywhere; its sum is not stored.
                    if at >= 0 && (at as usize) < width {
                        let x = &tap.row[at as usize * channels..][..channels];
                        *sum = isa.mul_add(load_within(isa, x, v), w, *sum);
                    }
                }
            }
            for (p, &sum) in sums[..tile].iter().enumerate() {
                let at = (first + (start + p) * apart) * channels;
                store_within(isa, sum, &mut y[at..][..channels], v);
            }
        }
    }
}

/// Gradient of the weights, from both sides' arrays; nothing is empty.
pub(super) fn weight_gradient<T: Element>(
    geometry: &Geometry,
    coarse: &[T],
    fine: &[T],
    dw: &mut [T],
) {
    let (channels, positions) = (geometry.groups, geometry.positions());
    // Rows in parts by their number alone, each part summed by itself: the bits do not depend on the threads.
    let rows = geometry.batch * geometry.coarse[0];
    let rows_of_part = rows.div_ceil(PARTS);
    let mut parts = Buffer::filled(rows.div_ceil(rows_of_part) * dw.len(), T::ZERO);
    T::dispatch(
        Isa::current(),
        Parts { geometry, coarse, fine, rows_of_part, parts: parts.as_mut_slice() },
    );
    let parts = parts.as_slice();
    for (c, dw) in dw.chunks_exact_mut(positions).enumerate() {
        for (k, dw) in dw.iter_mut().enumerate() {
            let terms = parts[k * channels + c..].iter().step_by(channels * positions);
            *dw = T::from_f64(terms.map(|term| term.to_f64()).sum());
        }
    }
}

/// Partial sums `[part][position][channel]`.
struct Parts<'a, T> {
    geometry: &'a Geometry,
    coarse: &'a [T],
    fine: &'a [T],
    rows_of_part: usize,
    parts: &'a mut [T],
}

impl<T: Element> Kernel<T> for Parts<'_, T> {
    type Output = ();

    fn run<I: Lanes<T>>(self, isa: I) {
        let Parts { geometry: g, coarse, fine, rows_of_part, parts } = self;
        let channels = g.groups;
        let coarse_row = g.coarse[1] * channels;
        let fine_row = g.fine[1] * channels;
        let rows = coarse.par_chunks(rows_of_part * coarse_row);
        parts.par_chunks_exact_mut(g.positions() * channels).zip(rows).enumerate().for_each(
            |(part, (sums, rows))| {
                isa.vectorised(
                    #[inline(always)]
                    || {
                        for (r, coarse) in rows.chunks_exact(coarse_row).enumerate() {
                            let (image, r) = (
                                (part * rows_of_part + r) / g.coarse[0],
                                (part * rows_of_part + r) % g.coarse[0],
                            );
                            for (k, sums) in sums.chunks_exact_mut(channels).enumerate() {
                                let tap = [k / g.window.kernel[1], k % g.window.kernel[1]];
                                let shift = [0, 1].map(|axis| {
                                    (tap[axis] * g.window.dilation[axis]) as isize
                                        - g.window.padding[axis] as isize
                                });
                                let at = (r * g.window.stride[0]) as isize + shift[0];
                                if at < 0 || at as usize >= g.fine[0] {
                                    continue;
                                }
                                let fine = &fine[(image * g.fine[0] + at as usize) * fine_row..]
                                    [..fine_row];
                                row(isa, coarse, fine, (shift[1], g.window.stride[1]), sums);
                            }
                        }
                    },
                );
            },
        );
    }
}

/// Adds to each channel's sum its products of a coarse row's pixels with those of a fine one, `step · pixel + shift`.
#[inline(always)]
fn row<T: Element, I: Lanes<T>>(
    isa: I,
    coarse: &[T],
    fine: &[T],
    (shift, step): (isize, usize),
    sums: &mut [T],
) {
    let channels = sums.len();
    let pixels = inside(shift, step, coarse.len() / channels, fine.len() / channels);
    // Two vectors at once hide part of the time an addition takes; the second may lie beyond the last channel and hold zeros.
    for v in (0..channels.div_ceil(I::LANES)).step_by(2) {
        let mut both = [load_within(isa, sums, v), load_within(isa, sums, v + 1)];
        for pixel in pixels.clone() {
            let from = ((pixel * step) as isize + shift) as usize;
            let coarse = &coarse[pixel * channels..][..channels];
            let fine = &fine[from * channels..][..channels];
            for (half, sum) in both.iter_mut().enumerate() {
                let a = load_within(isa, coarse, v + half);
                *sum = isa.mul_add(a, load_within(isa, fine, v + half), *sum);
            }
        }
        for (half, &sum) in both.iter().enumerate() {
            store_within(isa, sum, sums, v + half);
        }
    }
}
