//! The one driver: for every pixel of an output, sum over taps the source pixel times the tap's weights.

use ndarray::{ArrayViewMut2, Axis};
use rayon::prelude::*;
use std::ops::Range;

use super::Epilogue;
use super::packed::Blocks;
use super::tile::{Tile, accumulate, for_tiles, load_within, store_within, zeros};
use crate::Element;
use crate::buffer::Buffer;
use crate::simd::{Kernel, Lanes};

/// Pictures the sums read: `[n, height, width, pitch]`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) extent: [usize; 2],
    /// Elements from one pixel to the next.
    pub(crate) pitch: usize,
}

/// One grid of output pixels and what each sums over.
pub(crate) struct Grid {
    /// Its first pixel in the output.
    pub(crate) first: [usize; 2],
    /// Offsets `(dh, dw)` of the taps from `pixel · step`.
    pub(crate) taps: Vec<[isize; 2]>,
    /// Adjacent elements of the source a tap reads.
    pub(crate) run: usize,
    /// Where its weights begin: `[block][tap][run][width]`.
    pub(crate) weights: usize,
}

impl Grid {
    /// Coordinates along an axis from which every tap lies inside a source of `extent`.
    fn interior(&self, axis: usize, extent: usize) -> Range<isize> {
        let offsets = || self.taps.iter().map(|tap| tap[axis]);
        -offsets().min().unwrap_or(0)..extent as isize - offsets().max().unwrap_or(0)
    }
}

/// A sum over taps for each output pixel.
pub(crate) struct Sum<'a, T> {
    pub(crate) images: usize,
    pub(crate) source: Source<'a, T>,
    /// Source pixels between neighbouring pixels of a grid.
    pub(crate) step: [usize; 2],
    /// Extent of the output.
    pub(crate) out: [usize; 2],
    /// Output pixels between neighbouring pixels of a grid.
    pub(crate) out_step: [usize; 2],
    pub(crate) grids: Vec<Grid>,
    pub(crate) blocks: Blocks,
    pub(crate) weights: &'a [T],
    pub(crate) epilogue: &'a Epilogue<'a, T>,
    /// Begin the sums with what the output holds.
    pub(crate) accumulate: bool,
    /// Compute each pixel by itself. Where one pixel of a tile has a tap inside the picture and another has not, the latter multiplies
    /// zeros, which changes nothing unless a weight is infinite or NaN; then this is needed.
    pub(crate) lone_pixels: bool,
    /// `[n, out height, out width, channels]`.
    pub(crate) output: &'a mut [T],
}

/// Tasks a problem is cut into at least, unless they become too small.
const TASKS: usize = 16;
/// Output pixels below which a task would not use the weights it streams from the cache often enough.
const LEAST_PIXELS: usize = 48;
/// Output pixels of a task, roughly.
const UNIT_PIXELS: usize = 512;
/// Smaller pictures are computed several at a time, pixel by pixel over all of them.
const SMALL_PICTURE: usize = 512;
/// Output pixels of a task of several pictures.
const GROUP_PIXELS: usize = 2048;
/// Pictures of a task.
const GROUP_IMAGES: usize = 16;
/// Output channels a task computes.
const UNIT_CHANNELS: usize = 64;
/// Rows of weights that are used for all pixels of a task before the next ones are loaded: 384 KiB of f32 at full width.
const DEPTH: usize = 1536;
/// Products that are added up in registers before they are added to the rest of the sum: the error of a long sum grows with the number
/// of such pieces and with their length, not with the product of the two.
const LONGEST: usize = 64;
/// Multiply-adds below which a sum stays on the caller's thread.
const SERIAL: usize = 1 << 17;

/// A rectangle of the output: pixels of whole rows of one picture, or several whole pictures, by a range of channels.
struct Unit<'a, T> {
    images: Range<usize>,
    rows: Range<usize>,
    channels: Range<usize>,
    out: ArrayViewMut2<'a, T>,
}

impl<T: Element> Kernel<T> for Sum<'_, T> {
    type Output = ();

    fn run<I: Lanes<T>>(mut self, isa: I) {
        let output = std::mem::take(&mut self.output);
        let pixels = self.images * self.out[0] * self.out[1];
        if output.is_empty() || pixels == 0 {
            return;
        }
        let depth = self.grids.iter().map(|grid| grid.taps.len() * grid.run).max().unwrap_or(0);
        let longest = self.grids.iter().map(|grid| grid.run).max().unwrap_or(0);
        let zero_row = Buffer::filled(longest, T::ZERO);
        let job = Job { zero_row: zero_row.as_slice(), sum: &self };
        let units = self.units(output);
        if units.len() == 1 || pixels * depth * self.blocks.channels < SERIAL {
            units.into_iter().for_each(|unit| job.unit(isa, unit));
        } else {
            units.into_par_iter().with_max_len(1).for_each(|unit| job.unit(isa, unit));
        }
    }
}

impl<T: Element> Sum<'_, T> {
    /// Cuts the output into tasks by its size alone.
    fn units<'o>(&self, output: &'o mut [T]) -> Vec<Unit<'o, T>> {
        let [height, width] = self.out;
        let area = height * width;
        let all = self.images * area * self.blocks.channels.div_ceil(UNIT_CHANNELS);
        let share = (all / TASKS).max(LEAST_PIXELS);
        let (images, rows) = if area <= SMALL_PICTURE.min(share) {
            ((share.min(GROUP_PIXELS) / area).clamp(1, GROUP_IMAGES), height)
        } else {
            let rows = share.min(UNIT_PIXELS).div_ceil(width);
            (1, rows.next_multiple_of(self.out_step[0]).min(height))
        };
        let channels = self.blocks.channels;
        let mut units = Vec::new();
        let shape = (output.len() / channels, channels);
        let Ok(mut rest) = ArrayViewMut2::from_shape(shape, output) else {
            unreachable!("the output is dense")
        };
        for image in (0..self.images).step_by(images) {
            let image_range = image..self.images.min(image + images);
            for row in (0..height).step_by(rows) {
                let row_range = row..height.min(row + rows);
                let (mut band, below) =
                    rest.split_at(Axis(0), image_range.len() * row_range.len() * width);
                rest = below;
                for channel in (0..channels).step_by(UNIT_CHANNELS) {
                    let few = UNIT_CHANNELS.min(channels - channel);
                    let (out, right) = band.split_at(Axis(1), few);
                    band = right;
                    units.push(Unit {
                        images: image_range.clone(),
                        rows: row_range.clone(),
                        channels: channel..channel + few,
                        out,
                    });
                }
            }
        }
        units
    }
}

/// What all tasks share.
struct Job<'a, T> {
    sum: &'a Sum<'a, T>,
    /// Stands in for pixels outside the picture.
    zero_row: &'a [T],
}

impl<T: Element> Job<'_, T> {
    fn unit<I: Lanes<T>>(&self, isa: I, mut unit: Unit<'_, T>) {
        let sum = self.sum;
        for grid in &sum.grids {
            let interior = [0, 1].map(|axis| grid.interior(axis, sum.source.extent[axis]));
            let depth = grid.taps.len() * grid.run;
            let slices = depth.div_ceil(DEPTH).max(1);
            let slice = grid.run.div_ceil(slices).max(1);
            let channels = unit.channels.clone();
            for (first, width) in sum.blocks.iter().filter(|(first, _)| channels.contains(first)) {
                let weights = &sum.weights[grid.weights + first * depth..][..width * depth];
                for from in (0..grid.run.max(1)).step_by(slice) {
                    let to = grid.run.min(from + slice);
                    let part = Part {
                        grid,
                        weights,
                        width,
                        first,
                        slice: from..to,
                        interior: interior.clone(),
                    };
                    self.part(isa, &part, &mut unit);
                }
            }
        }
    }

    /// Adds a slice of the source's channels to a block of output channels, for all pixels of a unit.
    fn part<I: Lanes<T>>(&self, isa: I, part: &Part<'_, T>, unit: &mut Unit<'_, T>) {
        let mut cursor = Cursor::new(self.sum, part.grid, unit);
        for_tiles!(I::REGISTERS, part.width / I::LANES, |P, V| isa.vectorised(
            #[inline(always)]
            || if P == 1 || !self.sum.lone_pixels {
                self.tiles::<I, P, V>(isa, part, unit, &mut cursor);
            }
        ));
    }

    /// Computes tiles of `P` pixels while there are as many.
    #[inline(always)]
    fn tiles<I: Lanes<T>, const P: usize, const V: usize>(
        &self,
        isa: I,
        part: &Part<'_, T>,
        unit: &mut Unit<'_, T>,
        cursor: &mut Cursor,
    ) {
        let source = self.sum.source;
        let [height, width] = source.extent;
        let first_column = part.first - unit.channels.start;
        let slice = part.slice.clone();
        let zero_row = &self.zero_row[..slice.len()];
        let begins = slice.start == 0;
        let ends = slice.end == part.grid.run;
        // Written and read element by element, and never moved: a copy would wait until all that was stored before it is in the cache.
        let mut pixels = Pixels::<P>::new();
        // Where the sum stands that is not in the registers, if there is such a part.
        let mut sum = zeros::<T, I, P, V>(isa);
        while cursor.left >= P {
            cursor.take::<T, P>(part, &mut pixels);
            let Pixels { coordinates, base, out, interior } = &pixels;
            let interior = *interior;
            // By the time the sums are done, their lines have come: rows of a large output are not where the processor expects writes.
            for &out in out {
                isa.expect_write(columns(&mut unit.out, out, first_column, part.width));
            }
            let mut tile = zeros::<T, I, P, V>(isa);
            let mut parted = !begins || self.sum.accumulate;
            if parted {
                for (row, &out) in sum.iter_mut().zip(out) {
                    let out = columns(&mut unit.out, out, first_column, part.width);
                    for (v, value) in row.iter_mut().enumerate() {
                        *value = load_within(isa, out, v);
                    }
                }
            }
            let mut added = 0;
            for (t, &[dh, dw]) in part.grid.taps.iter().enumerate() {
                let shift =
                    (dh * width as isize + dw) * source.pitch as isize + slice.start as isize;
                let mut inside = interior;
                let mut x = [zero_row; P];
                for p in 0..P {
                    let [h, w] = coordinates[p];
                    // A negative coordinate becomes a huge one.
                    if interior || (((h + dh) as usize) < height && ((w + dw) as usize) < width) {
                        inside = true;
                        let from = (base[p] + shift) as usize;
                        x[p] = &source.data[from..from + slice.len()];
                    }
                }
                let weights = &part.weights[(t * part.grid.run + slice.start) * V * I::LANES..];
                for from in (0..slice.len()).step_by(LONGEST) {
                    let to = slice.len().min(from + LONGEST);
                    if added + (to - from) > LONGEST {
                        if parted {
                            plus(isa, &mut tile, &sum);
                        }
                        parted = true;
                        sum = tile;
                        tile = zeros::<T, I, P, V>(isa);
                        added = 0;
                    }
                    // Counted whether or not a tap lies outside for all pixels of the tile: where a pixel's sum is cut must not depend
                    // on the pixels beside it.
                    added += to - from;
                    if inside {
                        let mut piece = [zero_row; P];
                        for p in 0..P {
                            piece[p] = &x[p][from..to];
                        }
                        let weights = &weights[from * V * I::LANES..to * V * I::LANES];
                        tile = accumulate(isa, tile, piece, weights);
                    }
                }
            }
            if parted {
                plus(isa, &mut tile, &sum);
            }
            if ends {
                self.finish(isa, &mut tile, part, unit, out);
            }
            for (row, &out) in tile.iter().zip(out) {
                let out = columns(&mut unit.out, out, first_column, part.width);
                for (v, &value) in row.iter().enumerate() {
                    store_within(isa, value, out, v);
                }
            }
        }
    }

    /// Applies the epilogue to a tile.
    #[inline(always)]
    fn finish<I: Lanes<T>, const P: usize, const V: usize>(
        &self,
        isa: I,
        tile: &mut Tile<I::Vector, P, V>,
        part: &Part<'_, T>,
        unit: &Unit<'_, T>,
        out: &[usize; P],
    ) {
        let epilogue = self.sum.epilogue;
        let vector = |per_channel: &[T], v| load_within(isa, &per_channel[part.first..], v);
        if let Some(bias) = epilogue.bias {
            for v in 0..V {
                let bias = vector(bias, v);
                for row in tile.iter_mut() {
                    row[v] = isa.add(row[v], bias);
                }
            }
        }
        if let Some((scale, shift)) = epilogue.affine {
            for v in 0..V {
                let (scale, shift) = (vector(scale, v), vector(shift, v));
                for row in tile.iter_mut() {
                    row[v] = isa.add(isa.mul(row[v], scale), shift);
                }
            }
        }
        if let Some(residual) = epilogue.residual {
            let channels = self.sum.blocks.channels;
            let [height, width] = self.sum.out;
            let above = (unit.images.start * height + unit.rows.start) * width;
            for (row, &out) in tile.iter_mut().zip(out) {
                let from = &residual[(above + out) * channels..][part.first..channels];
                for (v, value) in row.iter_mut().enumerate() {
                    *value = isa.add(*value, load_within(isa, from, v));
                }
            }
        }
        if epilogue.relu {
            for value in tile.iter_mut().flatten() {
                *value = isa.relu(*value);
            }
        }
    }
}

/// `tile += sum`.
#[inline(always)]
fn plus<T: Element, I: Lanes<T>, const P: usize, const V: usize>(
    isa: I,
    tile: &mut Tile<I::Vector, P, V>,
    sum: &Tile<I::Vector, P, V>,
) {
    for p in 0..P {
        for v in 0..V {
            tile[p][v] = isa.add(sum[p][v], tile[p][v]);
        }
    }
}

/// A block of output channels and a slice of the source's.
struct Part<'a, T> {
    grid: &'a Grid,
    /// `[tap][run][width]`.
    weights: &'a [T],
    width: usize,
    /// First output channel.
    first: usize,
    slice: Range<usize>,
    /// Rows and columns of pixels that have all taps inside the picture.
    interior: [Range<isize>; 2],
}

/// The columns `first..first + width`, as far as there are, of a row of the output.
#[inline(always)]
fn columns<'a, T>(
    out: &'a mut ArrayViewMut2<'_, T>,
    row: usize,
    first: usize,
    width: usize,
) -> &'a mut [T] {
    let row = out.row_mut(row).into_slice().unwrap_or_default();
    let end = row.len().min(first + width);
    &mut row[first..end]
}

/// Where the pixels of a tile read and write.
struct Pixels<const P: usize> {
    /// Source row and column of a tap without offset; left out where all taps are inside the picture.
    coordinates: [[isize; 2]; P],
    /// Element of the source there; may be outside.
    base: [isize; P],
    /// Row of the unit's output.
    out: [usize; P],
    /// Whether all taps of all pixels are inside the picture.
    interior: bool,
}

impl<const P: usize> Pixels<P> {
    fn new() -> Self {
        Pixels { coordinates: [[0; 2]; P], base: [0; P], out: [0; P], interior: true }
    }
}

/// Walks the grid pixels of a unit: row by row, or, where a unit holds several pictures, over all pictures at one position before the
/// next, so that the pixels of a tile miss the same taps and those are skipped.
struct Cursor {
    left: usize,
    /// Pixels in a row, or pictures.
    inner: usize,
    /// Positions of the walk: along the inner axis, the column where that is the pictures, the row.
    at: usize,
    j: usize,
    i: usize,
    by_position: bool,
    columns: usize,
    // How a pixel follows from picture, row and column: a start and a step for each.
    h: [isize; 2],
    w: [isize; 2],
    base: [isize; 4],
    out: [usize; 4],
}

impl Cursor {
    fn new<T>(sum: &Sum<'_, T>, grid: &Grid, unit: &Unit<'_, T>) -> Self {
        let [height, width] = sum.source.extent;
        let pitch = sum.source.pitch;
        let index = |limit: usize, axis: usize| {
            limit.saturating_sub(grid.first[axis]).div_ceil(sum.out_step[axis])
        };
        let (top, bottom) = (index(unit.rows.start, 0), index(unit.rows.end, 0));
        let columns = index(sum.out[1], 1);
        let (row, column) = (sum.step[0] * width * pitch, sum.step[1] * pitch);
        let images = unit.images.len();
        let by_position = images > 1;
        let first_row = grid.first[0] + top * sum.out_step[0] - unit.rows.start;
        Cursor {
            left: images * (bottom - top) * columns,
            inner: if by_position { images } else { columns },
            at: 0,
            j: 0,
            i: 0,
            by_position,
            columns,
            h: [(top * sum.step[0]) as isize, sum.step[0] as isize],
            w: [0, sum.step[1] as isize],
            base: [
                unit.images.start * height * width * pitch + top * row,
                height * width * pitch,
                row,
                column,
            ]
            .map(|v| v as isize),
            out: [
                first_row * sum.out[1] + grid.first[1],
                unit.rows.len() * sum.out[1],
                sum.out_step[0] * sum.out[1],
                sum.out_step[1],
            ],
        }
    }

    /// The next `P` pixels; there must be as many.
    #[inline(always)]
    fn take<T, const P: usize>(&mut self, part: &Part<'_, T>, pixels: &mut Pixels<P>) {
        let inside =
            |[h, w]: [isize; 2]| part.interior[0].contains(&h) && part.interior[1].contains(&w);
        self.left -= P;
        if self.at + P <= self.inner {
            // All on one line: what the first and the last have inside, those between them have.
            let ([h, w], base, out) = self.pixel();
            let (step_w, step_base, step_out) = if self.by_position {
                (0, self.base[1], self.out[1])
            } else {
                (self.w[1], self.base[3], self.out[3])
            };
            pixels.interior = inside([h, w]) && inside([h, w + (P as isize - 1) * step_w]);
            for p in 0..P {
                pixels.coordinates[p] = [h, w + p as isize * step_w];
                pixels.base[p] = base + p as isize * step_base;
                pixels.out[p] = out + p * step_out;
            }
            self.at += P;
            self.wrap();
        } else {
            pixels.interior = true;
            for p in 0..P {
                (pixels.coordinates[p], pixels.base[p], pixels.out[p]) = self.pixel();
                pixels.interior &= inside(pixels.coordinates[p]);
                self.at += 1;
                self.wrap();
            }
        }
    }

    #[inline(always)]
    fn wrap(&mut self) {
        if self.at == self.inner {
            self.at = 0;
            self.j += 1;
            if !self.by_position || self.j == self.columns {
                self.j = 0;
                self.i += 1;
            }
        }
    }

    /// Coordinates, source element and output row of the pixel the walk has come to.
    #[inline(always)]
    fn pixel(&self) -> ([isize; 2], isize, usize) {
        let (n, i, j) =
            if self.by_position { (self.at, self.i, self.j) } else { (0, self.i, self.at) };
        let (ni, ii, ji) = (n as isize, i as isize, j as isize);
        (
            [self.h[0] + ii * self.h[1], self.w[0] + ji * self.w[1]],
            self.base[0] + ni * self.base[1] + ii * self.base[2] + ji * self.base[3],
            self.out[0] + n * self.out[1] + i * self.out[2] + j * self.out[3],
        )
    }
}
