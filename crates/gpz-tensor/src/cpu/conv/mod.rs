//! Convolution and transposed convolution, forward and backward, on plain slices.
//!
//! Feature maps are `[n, h, w, c]` in memory. How it works, and why so, is told in `docs/convolution.md`.

mod columns;
mod depthwise;
mod direct;
mod geometry;
mod grouped;
pub(crate) mod packed;
#[cfg(test)]
mod reference;
pub(crate) mod sum;
mod taps;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
mod weight_gradient;

pub use geometry::{Geometry, Window};

use crate::Element;
use packed::Packed;
use taps::Direction;

/// What is applied to each value of the output before it is stored, in this order; each step rounds as the separate operation does.
pub struct Epilogue<'a, T> {
    /// `y + bias`, `[co]`.
    pub bias: Option<&'a [T]>,
    /// `y · scale + shift`, each `[co]`; the product is rounded before the sum.
    pub affine: Option<(&'a [T], &'a [T])>,
    /// `y + residual`, of the output's shape and layout.
    pub residual: Option<&'a [T]>,
    /// `if y < 0 { 0 } else { y }`.
    pub relu: bool,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Epilogue { bias: None, affine: None, residual: None, relu: false }
    }
}

impl<T: Element> Epilogue<'_, T> {
    /// Applies it to the elements of an output of `channels` from `first` on, the first of which belongs to channel 0.
    fn apply(&self, first: usize, channels: usize, y: &mut [T]) {
        if let Some(bias) = self.bias {
            y.chunks_exact_mut(channels)
                .for_each(|y| y.iter_mut().zip(bias).for_each(|(y, &b)| *y += b));
        }
        if let Some((scale, shift)) = self.affine {
            for y in y.chunks_exact_mut(channels) {
                for ((y, &scale), &shift) in y.iter_mut().zip(scale).zip(shift) {
                    *y = *y * scale + shift;
                }
            }
        }
        if let Some(residual) = self.residual {
            y.iter_mut().zip(&residual[first..]).for_each(|(y, &r)| *y += r);
        }
        if self.relu {
            y.iter_mut().for_each(|y| *y = crate::elementwise::relu(*y));
        }
    }
}

/// Weights of one convolution, laid out for the forward pass once and for all.
pub struct PackedWeights<T>(Packed<T>);

impl<T: Element> PackedWeights<T> {
    /// Lays out `weights` (`[co, ci, kh, kw]`, transposed `[ci, co, kh, kw]`) for any batch and picture size of `geometry`'s window
    /// and channels, and for the instruction set in use.
    ///
    /// # Panics
    /// If there are not [`Geometry::weight_len`] weights, or the geometry has groups.
    pub fn new(geometry: &Geometry, weights: &[T]) -> Self {
        PackedWeights(Packed::new(geometry, Direction::forward(geometry), weights))
    }
}

/// `y = epilogue(conv(x, w))`; every element of `y` is written.
///
/// - `x`: `[n, h, w, ci]`; `weights`: `[co, ci / groups, kh, kw]`, transposed `[ci, co / groups, kh, kw]`; `y`: `[n, oh, ow, co]`
///
/// # Panics
/// If a slice's length is not the one `geometry` tells.
pub fn forward<T: Element>(
    geometry: &Geometry,
    x: &[T],
    weights: &[T],
    epilogue: &Epilogue<'_, T>,
    y: &mut [T],
) {
    if geometry.groups > 1 {
        return grouped::run(geometry, Direction::forward(geometry), x, weights, epilogue, y);
    }
    forward_packed(geometry, x, &PackedWeights::new(geometry, weights), epilogue, y);
}

/// [`forward`] with weights laid out before: the same bits.
///
/// # Panics
/// If a slice's length is not the one `geometry` tells, or `weights` are another convolution's.
pub fn forward_packed<T: Element>(
    geometry: &Geometry,
    x: &[T],
    weights: &PackedWeights<T>,
    epilogue: &Epilogue<'_, T>,
    y: &mut [T],
) {
    direct::run(geometry, x, &weights.0, epilogue, y);
}

/// Gradient with respect to the input; every element of `dx` is written.
///
/// - `dy`: `[n, oh, ow, co]`; `weights`: as in [`forward`]; `dx`: `[n, h, w, ci]`
///
/// # Panics
/// If a slice's length is not the one `geometry` tells.
pub fn input_gradient<T: Element>(geometry: &Geometry, dy: &[T], weights: &[T], dx: &mut [T]) {
    let direction = Direction::backward(geometry);
    if geometry.groups > 1 {
        return grouped::run(geometry, direction, dy, weights, &Epilogue::default(), dx);
    }
    let packed = Packed::new(geometry, direction, weights);
    direct::run(geometry, dy, &packed, &Epilogue::default(), dx);
}

/// Gradient with respect to the weights; every element of `dw` is written.
///
/// - `x`: `[n, h, w, ci]`; `dy`: `[n, oh, ow, co]`; `dw`: as the weights in [`forward`]
///
/// # Panics
/// If a slice's length is not the one `geometry` tells.
pub fn weight_gradient<T: Element>(geometry: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let (coarse, fine) = if geometry.transposed { (x, dy) } else { (dy, x) };
    if geometry.groups > 1 {
        return grouped::weight_gradient(geometry, coarse, fine, dw);
    }
    weight_gradient::run(geometry, coarse, fine, dw);
}
