//! Weights in the order the register tile reads them.
//!
//! Output channels are cut into blocks of the tile's width; a block's weights are `[tap][input channel][width]`, so that a sum over
//! taps and channels reads them from front to back. The last block is as narrow as whole vectors allow; lanes without a channel are
//! zero. Phases follow one another.

use rayon::prelude::*;

use super::geometry::{Geometry, Window};
use super::taps::{Direction, Phase};
use super::tile::widest;
use crate::Element;
use crate::buffer::Buffer;
use crate::simd::{Isa, Kernel, Lanes};

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
        let rows = |channel: usize| &weights.data[(first + channel) * weights.out_stride..];
        // A few output channels at a time: each of their lines stays in the cache until all of it is read.
        for from in (0..width).step_by(FEW) {
            let few = FEW.min(width - from);
            let there = few.min(filled.saturating_sub(from));
            for c in 0..inputs {
                for (t, &position) in positions.iter().enumerate() {
                    let at = c * weights.in_stride + position;
                    let to = &mut panel[(t * inputs + c) * width + from..][..few];
                    for (lane, to) in to.iter_mut().enumerate() {
                        *to = if lane < there { rows(from + lane)[at] } else { T::ZERO };
                    }
                }
            }
        }
    };
    let panels = blocks.width * depth;
    if to.len() < 2 * PIECE {
        to.chunks_mut(panels).enumerate().for_each(block);
    } else {
        to.par_chunks_mut(panels).with_min_len(PIECE.div_ceil(panels)).enumerate().for_each(block);
    }
}

const FEW: usize = 16;

/// Weights of one convolution, laid out for one direction and instruction set.
pub(super) struct Packed<T> {
    pub(super) isa: Isa,
    pub(super) blocks: Blocks,
    pub(super) inputs: usize,
    pub(super) window: Window,
    pub(super) direction: Direction,
    pub(super) phases: Vec<Phase>,
    /// Where each phase begins in `data`.
    pub(super) starts: Vec<usize>,
    pub(super) data: Buffer<T>,
}

impl<T: Element> Packed<T> {
    pub(super) fn new(geometry: &Geometry, direction: Direction, weights: &[T]) -> Self {
        assert_eq!(weights.len(), geometry.weight_len(), "weights of another geometry");
        let positions = geometry.positions();
        let (coarse, fine) = (geometry.coarse_channels, geometry.fine_channels);
        let (outputs, inputs, out_stride, in_stride) = match direction {
            Direction::Gather => (coarse, fine, fine * positions, positions),
            Direction::Spread => (fine, coarse, positions, fine * positions),
        };
        let isa = Isa::current();
        let blocks = Blocks::new::<T>(isa, outputs);
        let phases = direction.phases(&geometry.window);
        let mut data = Buffer::unfilled(blocks.padded() * inputs * positions);
        let mut rest = data.as_mut_slice();
        let mut starts = Vec::with_capacity(phases.len());
        let mut start = 0;
        for phase in &phases {
            let taps: Vec<usize> = phase.taps.iter().map(|tap| tap.position).collect();
            let len = blocks.padded() * inputs * taps.len();
            let (panel, after) = rest.split_at_mut(len);
            pack(Strided { data: weights, out_stride, in_stride }, &taps, inputs, blocks, panel);
            starts.push(start);
            start += len;
            rest = after;
        }
        Packed { isa, blocks, inputs, window: geometry.window, direction, phases, starts, data }
    }
}
