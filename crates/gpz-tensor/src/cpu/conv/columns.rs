//! Sums over taps with very few output channels, which would leave most lanes empty.
//!
//! First a matrix product gives, for each source pixel, its contribution through every kernel position: positions times output
//! channels fill the lanes. Then each output pixel adds up the contributions that reach it.

use rayon::prelude::*;

use super::Epilogue;
use super::direct::Pass;
use super::geometry::Window;
use super::packed::Packed;
use super::sum::{Grid, Source, Sum};
use super::taps::{Direction, inside};
use crate::Element;
use crate::buffer::Buffer;

/// Contributions held at a time, so that the second step finds them in the cache.
const HELD: usize = 1 << 20;
/// Output elements a task of the second step has at least.
const PIECE: usize = 1 << 12;

/// Whether this way costs less.
pub(super) fn pays(window: &Window, direction: Direction, inputs: usize, outputs: usize) -> bool {
    let sources_per_output = match direction {
        Direction::Gather => window.stride[0] * window.stride[1],
        Direction::Spread => 1,
    };
    outputs <= 4 && inputs >= 16 && window.kernel[0] * window.kernel[1] >= 4 * sources_per_output
}

/// `y = epilogue(Σ taps)` with weights packed as a matrix `[inputs, outputs · positions]`.
pub(super) fn run<T: Element>(
    pass: &Pass,
    x: &[T],
    packed: &Packed<T>,
    epilogue: &Epilogue<'_, T>,
    y: &mut [T],
) {
    let columns = packed.blocks.channels;
    let area = pass.source[0] * pass.source[1];
    let images = (HELD / (area * columns).max(1)).clamp(1, pass.images.max(1));
    let picture = pass.out[0] * pass.out[1] * pass.out_channels;
    if picture == 0 {
        return;
    }
    let mut held = Buffer::unfilled(images * area * columns);
    for (i, y) in y.chunks_mut(images * picture).enumerate() {
        let pixels = y.len() / picture * area;
        let contributions = &mut held.as_mut_slice()[..pixels * columns];
        let x = &x[i * images * area * pass.source_channels..][..pixels * pass.source_channels];
        let sum = Sum {
            images: 1,
            source: Source { data: x, extent: [pixels, 1], pitch: pass.source_channels },
            step: [1, 1],
            out: [pixels, 1],
            out_step: [1, 1],
            grids: vec![Grid {
                first: [0, 0],
                taps: vec![[0, 0]],
                run: pass.source_channels,
                weights: 0,
            }],
            blocks: packed.blocks,
            weights: packed.data.as_slice(),
            epilogue: &Epilogue::default(),
            accumulate: false,
            lone_pixels: false,
            output: contributions,
        };
        T::dispatch(packed.isa, sum);
        let contributions = &held.as_slice()[..pixels * columns];
        let row = pass.out[1] * pass.out_channels;
        y.par_chunks_mut(row).with_min_len(PIECE.div_ceil(row)).enumerate().for_each(|(r, y)| {
            add_up(pass, packed, contributions, r, y);
            epilogue.apply(i * images * picture + r * row, pass.out_channels, y);
        });
    }
}

/// One row of the output: the contributions that reach it, tap by tap.
fn add_up<T: Element>(
    pass: &Pass,
    packed: &Packed<T>,
    contributions: &[T],
    row: usize,
    y: &mut [T],
) {
    let [step, out_step] = packed.direction.steps(&packed.window);
    let (columns, outputs) = (packed.blocks.channels, pass.out_channels);
    let positions = columns / outputs;
    let [height, width] = pass.source;
    let (image, row) = (row / pass.out[0], row % pass.out[0]);
    y.fill(T::ZERO);
    for phase in packed.phases.iter().filter(|phase| row % out_step[0] == phase.first[0]) {
        let pixels = pass.out[1].saturating_sub(phase.first[1]).div_ceil(out_step[1]);
        for tap in &phase.taps {
            let h = (row / out_step[0] * step[0]) as isize + tap.dh;
            let among = inside(tap.dw, step[1], pixels, width);
            if h < 0 || h as usize >= height || among.is_empty() {
                continue;
            }
            let first = ((among.start * step[1]) as isize + tap.dw) as usize;
            let from = &contributions[((image * height + h as usize) * width + first) * columns..];
            let to = &mut y[(among.start * out_step[1] + phase.first[1]) * outputs..];
            for o in 0..outputs {
                let from = from[o * positions + tap.position..].iter().step_by(step[1] * columns);
                let to = to[o..].iter_mut().step_by(out_step[1] * outputs);
                for (to, &from) in to.zip(from).take(among.len()) {
                    *to += from;
                }
            }
        }
    }
}

/// The weights as a row-major matrix `[inputs, outputs · positions]`.
pub(super) fn matrix<T: Element>(
    weights: &[T],
    [inputs, outputs, positions]: [usize; 3],
    [in_stride, out_stride]: [usize; 2],
) -> Buffer<T> {
    let mut matrix = Buffer::unfilled(inputs * outputs * positions);
    for (i, to) in matrix.as_mut_slice().chunks_exact_mut(positions).enumerate() {
        let (input, output) = (i / outputs, i % outputs);
        to.copy_from_slice(&weights[input * in_stride + output * out_stride..][..positions]);
    }
    matrix
}
