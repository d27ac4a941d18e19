//! Weights in the order the register tile reads them.
//!
//! Output channels are cut into blocks of the tile's width; a block's weights are `[tap][input channel][width]`, so that a sum over
//! taps and channels reads them from front to back. The last block is as narrow as whole vectors allow; lanes without a channel are
//! zero. Phases follow one another.

use rayon::prelude::*;

use super::columns;
use super::geometry::{Geometry, Window};
use super::taps::{Direction, Phase};
use super::tile::widest;
use crate::Element;
use crate::buffer::Buffer;
use crate::simd::{Isa, Kernel, Lanes, vectorised};

/// How output channels are cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) channels: usize,
    pub(crate) lanes: usize,
    /// Channels of all blocks but the last.
    pub(crate) width: usize,
}

impl Blocks {
    pub(crate) fn new<T: Element>(isa: Isa, channels: usize) -> Self {
        struct Shape(usize);
        impl<T> Kernel<T> for Shape {
            type Output = Blocks;
            fn run<I: Lanes<T>>(self, _: I) -> Blocks {
                Blocks { channels: self.0, lanes: I::LANES, width: widest(I::REGISTERS) * I::LANES }
            }
        }
        T::dispatch(isa, Shape(channels))
    }

    /// Channels of all blocks with the lanes that have none.
    pub(crate) fn padded(&self) -> usize {
        self.channels.div_ceil(self.lanes) * self.lanes
    }

    /// First channel and width of each block.
    pub(crate) fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        let padded = self.padded();
        (0..padded).step_by(self.width).map(move |first| (first, self.width.min(padded - first)))
    }
}

/// Weights as `out[channel out · out_stride + channel in · in_stride + position]`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) out_stride: usize,
    pub(crate) in_stride: usize,
}

/// Elements packed by one task at least.
const PIECE: usize = 1 << 14;
/// Output channels packed together.
const FEW: usize = 16;

/// Packs the weights of `positions`, `[block][position][input channel][width]`, into `to`.
pub(crate) fn pack<T: Element>(
    weights: Strided<'_, T>,
    positions: &[usize],
    inputs: usize,
    blocks: Blocks,
    to: &mut [T],
) {
    let depth = positions.len() * inputs;
    if depth == 0 {
        return;
    }
    let block = |(b, panel): (usize, &mut [T])| {
        let first = b * blocks.width;
        let width = panel.len() / depth;
        let filled = width.min(blocks.channels - first);
        let source = Strided { data: &weights.data[first * weights.out_stride..], ..weights };
        if weights.out_stride == 1 {
            pack_rows(source, positions, inputs, filled, panel);
        } else {
            vectorised(
                #[inline(always)]
                || pack_columns(source, positions, inputs, filled, panel),
            );
        }
    };
    let panels = blocks.width * depth;
    if to.len() < 2 * PIECE {
        to.chunks_mut(panels).enumerate().for_each(block);
    } else {
        to.par_chunks_mut(panels).with_min_len(PIECE.div_ceil(panels)).enumerate().for_each(block);
    }
}

/// Packs a block whose channels are adjacent.
fn pack_rows<T: Element>(
    source: Strided<'_, T>,
    positions: &[usize],
    inputs: usize,
    filled: usize,
    panel: &mut [T],
) {
    let width = panel.len() / (positions.len() * inputs);
    let rows = positions
        .iter()
        .flat_map(|&position| (0..inputs).map(move |c| c * source.in_stride + position));
    for (to, at) in panel.chunks_exact_mut(width).zip(rows) {
        let (to, beyond) = to.split_at_mut(filled);
        to.copy_from_slice(&source.data[at..at + filled]);
        beyond.fill(T::ZERO);
    }
}

/// Packs a block whose channels are apart, a few channels by a few rows at a time: each line of the source is read once.
#[inline(always)]
fn pack_columns<T: Element>(
    source: Strided<'_, T>,
    positions: &[usize],
    inputs: usize,
    filled: usize,
    panel: &mut [T],
) {
    let taps = positions.len();
    let width = panel.len() / (taps * inputs);
    for from in (0..width).step_by(FEW) {
        let few = FEW.min(width - from);
        let there = few.min(filled.saturating_sub(from));
        let mut channels = [&source.data[..0]; FEW];
        for (lane, channel) in channels[..there].iter_mut().enumerate() {
            *channel = &source.data[(from + lane) * source.out_stride..];
        }
        // Rows in the order in which a channel holds them: positions within input channels.
        for start in (0..inputs * taps).step_by(FEW) {
            let rows = FEW.min(inputs * taps - start);
            let mut at = [0; FEW];
            for (r, at) in at[..rows].iter_mut().enumerate() {
                let (c, t) = ((start + r) / taps, (start + r) % taps);
                *at = c * source.in_stride + positions[t];
            }
            let mut block = [[T::ZERO; FEW]; FEW];
            let adjacent = rows == FEW && positions.is_sorted() && at[FEW - 1] == at[0] + FEW - 1;
            for (lane, channel) in channels[..there].iter().enumerate() {
                if adjacent {
                    let run = &channel[at[0]..at[0] + FEW];
                    for r in 0..FEW {
                        block[r][lane] = run[r];
                    }
                } else {
                    for r in 0..rows {
                        block[r][lane] = channel[at[r]];
                    }
                }
            }
            for (r, row) in block[..rows].iter().enumerate() {
                let (c, t) = ((start + r) / taps, (start + r) % taps);
                panel[(t * inputs + c) * width + from..][..few].copy_from_slice(&row[..few]);
            }
        }
    }
}

/// How weights are laid out.
pub(super) enum Layout {
    /// For the sum over taps; each phase begins at its place in the data.
    Taps(Vec<usize>),
    /// As a matrix, for [`super::columns`].
    Columns,
}

/// Weights of one convolution, laid out for one direction and instruction set.
pub(super) struct Packed<T> {
    pub(super) isa: Isa,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Blocks of output channels; of columns in [`Layout::Columns`].
    pub(super) blocks: Blocks,
    pub(super) layout: Layout,
    pub(super) window: Window,
    pub(super) direction: Direction,
    pub(super) phases: Vec<Phase>,
    /// Whether zero times any weight is zero.
    pub(super) finite: bool,
    pub(super) data: Buffer<T>,
}

impl<T: Element> Packed<T> {
    pub(super) fn new(geometry: &Geometry, direction: Direction, weights: &[T]) -> Self {
        assert_eq!(geometry.groups, 1, "groups are packed one by one");
        assert_eq!(weights.len(), geometry.weight_len(), "weights of another geometry");
        let positions = geometry.positions();
        let (coarse, fine) = (geometry.coarse_channels, geometry.fine_channels);
        let (outputs, inputs, out_stride, in_stride) = match direction {
            Direction::Gather => (coarse, fine, fine * positions, positions),
            Direction::Spread => (fine, coarse, positions, fine * positions),
        };
        let isa = Isa::current();
        let window = geometry.window;
        let phases = direction.phases(&window);
        let by_columns = columns::pays(&window, direction, inputs, outputs);
        let blocks = Blocks::new::<T>(isa, if by_columns { outputs * positions } else { outputs });
        let mut data =
            Buffer::unfilled(blocks.padded() * inputs * if by_columns { 1 } else { positions });
        let layout = if by_columns {
            let matrix =
                columns::matrix(weights, [inputs, outputs, positions], [in_stride, out_stride]);
            let source =
                Strided { data: matrix.as_slice(), out_stride: 1, in_stride: outputs * positions };
            pack(source, &[0], inputs, blocks, data.as_mut_slice());
            Layout::Columns
        } else {
            let mut rest = data.as_mut_slice();
            let mut starts = Vec::with_capacity(phases.len());
            let mut start = 0;
            for phase in &phases {
                let taps: Vec<usize> = phase.taps.iter().map(|tap| tap.position).collect();
                let len = blocks.padded() * inputs * taps.len();
                let (panel, after) = rest.split_at_mut(len);
                pack(
                    Strided { data: weights, out_stride, in_stride },
                    &taps,
                    inputs,
                    blocks,
                    panel,
                );
                starts.push(start);
                start += len;
                rest = after;
            }
            Layout::Taps(starts)
        };
        let finite = weights.iter().all(|w| w.is_finite());
        Packed { isa, inputs, outputs, blocks, layout, window, direction, phases, finite, data }
    }
}
