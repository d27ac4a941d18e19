//! Forward pass and gradient of the input as one [`Sum`].

use rayon::prelude::*;

use super::Epilogue;
use super::columns;
use super::geometry::Geometry;
use super::packed::{Layout, Packed};
use super::sum::{Grid, Source, Sum};
use super::taps::{Direction, Phase};
use crate::Element;
use crate::buffer::Buffer;

/// Up to so many channels a tap's run is too short for the inner loop, and a copy of the source costs little.
const THIN: usize = 8;

/// Extents of one pass.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    pub(super) images: usize,
    /// Height and width of what is read.
    pub(super) source: [usize; 2],
    pub(super) source_channels: usize,
    /// Height and width of what is written.
    pub(super) out: [usize; 2],
    pub(super) out_channels: usize,
}

impl Pass {
    pub(super) fn new(geometry: &Geometry, direction: Direction) -> Self {
        let g = geometry;
        let (source, source_channels, out, out_channels) = match direction {
            Direction::Gather => (g.fine, g.fine_channels, g.coarse, g.coarse_channels),
            Direction::Spread => (g.coarse, g.coarse_channels, g.fine, g.fine_channels),
        };
        Pass { images: g.batch, source, source_channels, out, out_channels }
    }

    pub(super) fn check<T>(&self, x: &[T], epilogue: &Epilogue<'_, T>, y: &[T]) {
        let len = |[height, width]: [usize; 2], channels| self.images * height * width * channels;
        assert_eq!(x.len(), len(self.source, self.source_channels), "input of another geometry");
        assert_eq!(y.len(), len(self.out, self.out_channels), "output of another geometry");
        let per_channel =
            [epilogue.bias, epilogue.affine.map(|a| a.0), epilogue.affine.map(|a| a.1)];
        for values in per_channel.into_iter().flatten() {
            assert_eq!(values.len(), self.out_channels, "one value per output channel is needed");
        }
        if let Some(residual) = epilogue.residual {
            assert_eq!(residual.len(), y.len(), "residual of another geometry");
        }
    }
}

/// `y = epilogue(Σ taps)` in the direction the weights were packed for.
pub(super) fn run<T: Element>(
    geometry: &Geometry,
    x: &[T],
    packed: &Packed<T>,
    epilogue: &Epilogue<'_, T>,
    y: &mut [T],
) {
    let pass = Pass::new(geometry, packed.direction);
    pass.check(x, epilogue, y);
    assert!(
        packed.window == geometry.window
            && packed.inputs == pass.source_channels
            && packed.outputs == pass.out_channels,
        "weights packed for another convolution"
    );
    let starts = match &packed.layout {
        Layout::Taps(starts) => starts,
        Layout::Columns => return columns::run(&pass, x, packed, epilogue, y),
    };
    let [step, out_step] = packed.direction.steps(&geometry.window);
    let mut source = Source { data: x, extent: pass.source, pitch: pass.source_channels };
    let mut grids: Vec<Grid> = packed
        .phases
        .iter()
        .zip(starts)
        .map(|(phase, &weights)| Grid {
            first: phase.first,
            taps: phase.taps.iter().map(|tap| [tap.dh, tap.dw]).collect(),
            run: pass.source_channels,
            weights,
        })
        .collect();
    let copy;
    if pass.source_channels <= THIN && packed.finite && packed.phases.iter().all(adjacent) {
        let border = Border::new(&pass, step, out_step, &grids);
        copy = border.copy(&pass, x);
        source = Source {
            data: copy.as_slice(),
            extent: border.extent(&pass),
            pitch: pass.source_channels,
        };
        for grid in &mut grids {
            merge(grid, border.before);
        }
    }
    let sum = Sum {
        images: pass.images,
        source,
        step,
        out: pass.out,
        out_step,
        grids,
        blocks: packed.blocks,
        weights: packed.data.as_slice(),
        epilogue,
        accumulate: false,
        lone_pixels: !packed.finite,
        output: y,
    };
    T::dispatch(packed.isa, sum);
}

/// Whether the taps of each row lie next to each other.
fn adjacent(phase: &Phase) -> bool {
    phase.taps.windows(2).all(|pair| pair[0].dh != pair[1].dh || pair[0].dw + 1 == pair[1].dw)
}

/// Makes one tap of each row of adjacent ones, in a source with a border before and after it.
fn merge(grid: &mut Grid, before: [usize; 2]) {
    let rows = grid.taps.chunk_by(|a, b| a[0] == b[0]).map(|row| row.len()).max().unwrap_or(1);
    grid.run *= rows;
    grid.taps = grid
        .taps
        .iter()
        .step_by(rows)
        .map(|&[dh, dw]| [dh + before[0] as isize, dw + before[1] as isize])
        .collect();
}

/// Zeros around a picture that make every tap fall inside.
pub(super) struct Border {
    pub(super) before: [usize; 2],
    pub(super) after: [usize; 2],
}

impl Border {
    pub(super) fn new(pass: &Pass, step: [usize; 2], out_step: [usize; 2], grids: &[Grid]) -> Self {
        let mut border = Border { before: [0; 2], after: [0; 2] };
        for grid in grids {
            for axis in 0..2 {
                let pixels =
                    pass.out[axis].saturating_sub(grid.first[axis]).div_ceil(out_step[axis]);
                let Some(last) = pixels.checked_sub(1) else { continue };
                for tap in &grid.taps {
                    let end =
                        (last * step[axis]) as isize + tap[axis] + 1 - pass.source[axis] as isize;
                    border.before[axis] = border.before[axis].max((-tap[axis]).max(0) as usize);
                    border.after[axis] = border.after[axis].max(end.max(0) as usize);
                }
            }
        }
        border
    }

    pub(super) fn extent(&self, pass: &Pass) -> [usize; 2] {
        [0, 1].map(|axis| self.before[axis] + pass.source[axis] + self.after[axis])
    }

    /// The pictures with the border around them.
    pub(super) fn copy<T: Element>(&self, pass: &Pass, x: &[T]) -> Buffer<T> {
        let [height, width] = self.extent(pass);
        let channels = pass.source_channels;
        let mut copy = Buffer::unfilled(pass.images * height * width * channels);
        let row = width * channels;
        let picture_row = pass.source[1] * channels;
        let left = self.before[1] * channels;
        if row > 0 {
            copy.as_mut_slice().par_chunks_mut(row).with_min_len(64).enumerate().for_each(
                |(r, to)| {
                    let (image, r) = (r / height, r % height);
                    match r.checked_sub(self.before[0]).filter(|&r| r < pass.source[0]) {
                        Some(r) => {
                            let (border, rest) = to.split_at_mut(left);
                            let (middle, after) = rest.split_at_mut(picture_row);
                            border.fill(T::ZERO);
                            middle.copy_from_slice(
                                &x[(image * pass.source[0] + r) * picture_row..][..picture_row],
                            );
                            after.fill(T::ZERO);
                        }
                        None => to.fill(T::ZERO),
                    }
                },
            );
        }
        copy
    }
}
