//! Which source pixels an output pixel sums over.
//!
//! Gathering (fine to coarse) and spreading (coarse to fine) become the same thing: *for each pixel `(i, j)` of a grid, sum over taps
//! `(dh, dw)` the source pixel `(i · step + dh, j · step + dw)` times the tap's weights*. Gathering is one grid of all coarse pixels.
//! Spreading with a stride is one grid for each residue of the fine pixel modulo the stride, its *phase*: pixels of one phase see the
//! same kernel positions, and step through the source one by one.

use std::ops::Range;

use super::geometry::{Geometry, Window};

/// A kernel position as seen from a grid pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tap {
    /// Rows from `i · step` to the source's row.
    pub(super) dh: isize,
    /// Columns from `j · step` to the source's column.
    pub(super) dw: isize,
    /// Index into the kernel, `kh · width + kw`.
    pub(super) position: usize,
}

/// Output pixels that see the same taps: `first`, `first + out_step`, …
#[derive(Debug, Clone)]
pub(super) struct Phase {
    pub(super) first: [usize; 2],
    /// Ascending in `dh`, then in `dw`.
    pub(super) taps: Vec<Tap>,
}

/// A convolution or its adjoint, as a sum over taps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Fine to coarse.
    Gather,
    /// Coarse to fine.
    Spread,
}

impl Direction {
    /// Direction of the forward pass.
    pub(super) fn forward(geometry: &Geometry) -> Self {
        if geometry.transposed { Direction::Spread } else { Direction::Gather }
    }

    /// Direction of the input's gradient.
    pub(super) fn backward(geometry: &Geometry) -> Self {
        if geometry.transposed { Direction::Gather } else { Direction::Spread }
    }

    /// Source pixels from one grid pixel to the next, and output pixels.
    pub(super) fn steps(self, window: &Window) -> [[usize; 2]; 2] {
        match self {
            Direction::Gather => [window.stride, [1, 1]],
            Direction::Spread => [[1, 1], window.stride],
        }
    }

    pub(super) fn phases(self, window: &Window) -> Vec<Phase> {
        let axes = [0, 1].map(|axis| self.axis_phases(window, axis));
        let mut phases = Vec::with_capacity(axes[0].len() * axes[1].len());
        for (h, rows) in axes[0].iter().enumerate() {
            for (w, columns) in axes[1].iter().enumerate() {
                let taps = rows.iter().flat_map(|&(dh, kh)| {
                    columns.iter().map(move |&(dw, kw)| Tap {
                        dh,
                        dw,
                        position: kh * window.kernel[1] + kw,
                    })
                });
                phases.push(Phase { first: [h, w], taps: taps.collect() });
            }
        }
        phases
    }

    /// For each phase along one axis the offsets of its taps and their kernel positions, ascending.
    fn axis_phases(self, window: &Window, axis: usize) -> Vec<Vec<(isize, usize)>> {
        let [kernel, stride, padding, dilation] =
            [window.kernel, window.stride, window.padding, window.dilation]
                .map(|v| v[axis] as isize);
        match self {
            Direction::Gather => {
                vec![(0..kernel).map(|k| (k * dilation - padding, k as usize)).collect()]
            }
            // Fine pixel f = first + i · stride and coarse pixel c are connected by k if f = c · stride − padding + k · dilation.
            Direction::Spread => (0..stride)
                .map(|first| {
                    (0..kernel)
                        .rev()
                        .map(|k| (first + padding - k * dilation, k as usize))
                        .filter(|(distance, _)| distance % stride == 0)
                        .map(|(distance, k)| (distance / stride, k))
                        .collect()
                })
                .collect(),
        }
    }
}

/// Those of `count` pixels along an axis whose tap, `pixel · step + shift`, lies inside a picture of `extent`.
pub(super) fn inside(shift: isize, step: usize, count: usize, extent: usize) -> Range<usize> {
    let start = (-shift).max(0) as usize;
    let start = start.div_ceil(step);
    let end = extent as isize - shift;
    let end = if end <= 0 { 0 } else { (end as usize).div_ceil(step).min(count) };
    start.min(end)..end
}
