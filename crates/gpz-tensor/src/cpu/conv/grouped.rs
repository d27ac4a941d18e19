//! Convolutions in groups: depthwise ones directly, others one group after the other.

use rayon::prelude::*;

use super::geometry::Geometry;
use super::packed::Packed;
use super::taps::Direction;
use super::{Epilogue, depthwise, direct, weight_gradient as dense};
use crate::Element;
use crate::buffer::Buffer;

/// Pixels copied by one task at least.
const PIECE: usize = 1 << 10;

/// One group of a convolution.
fn group(geometry: &Geometry) -> Geometry {
    let groups = geometry.groups;
    Geometry {
        groups: 1,
        fine_channels: geometry.fine_channels / groups,
        coarse_channels: geometry.coarse_channels / groups,
        ..*geometry
    }
}

/// `to[p] = from[p]` in the channels of group `g`: `from` is `[pixels, channels]`, `to` `[pixels, run]`.
fn take<T: Element>(from: &[T], channels: usize, g: usize, run: usize, to: &mut [T]) {
    to.par_chunks_exact_mut(run)
        .zip(from.par_chunks_exact(channels))
        .with_min_len(PIECE)
        .for_each(|(to, from)| to.copy_from_slice(&from[g * run..][..run]));
}

/// The way back.
fn put<T: Element>(from: &[T], g: usize, run: usize, to: &mut [T], channels: usize) {
    to.par_chunks_exact_mut(channels)
        .zip(from.par_chunks_exact(run))
        .with_min_len(PIECE)
        .for_each(|(to, from)| to[g * run..][..run].copy_from_slice(from));
}

/// `y = epilogue(Σ taps)` in a direction.
pub(super) fn run<T: Element>(
    geometry: &Geometry,
    direction: Direction,
    x: &[T],
    weights: &[T],
    epilogue: &Epilogue<'_, T>,
    y: &mut [T],
) {
    let pass = direct::Pass::new(geometry, direction);
    pass.check(x, epilogue, y);
    assert_eq!(weights.len(), geometry.weight_len(), "weights of another geometry");
    if y.is_empty() {
        return;
    }
    if geometry.depthwise() {
        return depthwise::run(geometry, direction, x, weights, epilogue, y);
    }
    let one = group(geometry);
    let (inputs, outputs) =
        (pass.source_channels / geometry.groups, pass.out_channels / geometry.groups);
    if x.is_empty() {
        y.fill(T::ZERO);
    } else {
        let mut part = Buffer::unfilled(x.len() / geometry.groups);
        let mut result = Buffer::unfilled(y.len() / geometry.groups);
        for (g, weights) in weights.chunks_exact(one.weight_len()).enumerate() {
            take(x, pass.source_channels, g, inputs, part.as_mut_slice());
            let packed = Packed::new(&one, direction, weights);
            let plain = Epilogue::default();
            direct::run(&one, part.as_slice(), &packed, &plain, result.as_mut_slice());
            put(result.as_slice(), g, outputs, y, pass.out_channels);
        }
    }
    let piece = PIECE * pass.out_channels;
    y.par_chunks_mut(piece)
        .enumerate()
        .for_each(|(i, y)| epilogue.apply(i * piece, pass.out_channels, y));
}

/// Gradient of the weights, from both sides' arrays.
pub(super) fn weight_gradient<T: Element>(
    geometry: &Geometry,
    coarse: &[T],
    fine: &[T],
    dw: &mut [T],
) {
    assert_eq!(coarse.len(), geometry.coarse_len(), "output of another geometry");
    assert_eq!(fine.len(), geometry.fine_len(), "input of another geometry");
    assert_eq!(dw.len(), geometry.weight_len(), "weights of another geometry");
    if coarse.is_empty() || fine.is_empty() || dw.is_empty() {
        return dw.fill(T::ZERO);
    }
    if geometry.depthwise() {
        return depthwise::weight_gradient(geometry, coarse, fine, dw);
    }
    let one = group(geometry);
    let mut sides = [coarse, fine].map(|side| Buffer::unfilled(side.len() / geometry.groups));
    for (g, dw) in dw.chunks_exact_mut(one.weight_len()).enumerate() {
        let [of_coarse, of_fine] = &mut sides;
        take(coarse, geometry.coarse_channels, g, one.coarse_channels, of_coarse.as_mut_slice());
        take(fine, geometry.fine_channels, g, one.fine_channels, of_fine.as_mut_slice());
        dense::run(&one, of_coarse.as_slice(), of_fine.as_slice(), dw);
    }
}
