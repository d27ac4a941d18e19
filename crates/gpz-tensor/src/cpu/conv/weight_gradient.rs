//! Gradient with respect to the weights: for each kernel position, the product of coarse and fine channels summed over pixels.
//!
//! One side's channels fill the lanes, the other side's channels at one kernel position are the rows of the tile. A tile stays in
//! registers over a strip of pixels. Pixels that a kernel position connects to the border are left out, not multiplied by zero.

use rayon::prelude::*;
use std::ops::Range;

use super::direct::{Border, Pass};
use super::geometry::Geometry;
use super::packed::Blocks;
use super::sum::Grid;
use super::taps::{Direction, inside};
use super::tile::{accumulate_outer, for_tiles, load_row, zeros};
use crate::Element;
use crate::buffer::Buffer;
use crate::simd::{Isa, Kernel, Lanes};

/// Fine sides with at most this many channels get a border, so that tiles can hold rows of several kernel positions.
const THIN: usize = 8;
/// Tasks to cut the work into, roughly.
const TASKS: usize = 32;
/// Partial sums hold at most so many elements in all.
const PARTIAL_ELEMENTS: usize = 1 << 21;
/// Pixels of a share at least: the sums of a share are added to the others' at a cost that its pixels have to be worth.
const SHARE_PIXELS: usize = 1 << 10;
/// A task has at least so many multiply-adds.
const TASK_WORK: usize = 1 << 18;
/// Pixels a tile stays in registers for, roughly: few enough that their lanes stay in the cache while all rows pass.
const STRIP_PIXELS: usize = 256;
/// Rows of at most so many pixels are too short to run along; tiles run over the pictures at one position instead.
const SHORT_ROW: usize = 8;
/// Pictures a strip holds at most.
const STRIP_IMAGES: usize = 32;

/// One side of the convolution.
#[derive(Clone, Copy)]
struct Side<'a, T> {
    data: &'a [T],
    extent: [usize; 2],
    /// Elements from one pixel to the next.
    pitch: usize,
}

/// `dw[a, b, kh, kw] = Σ coarse[pixel, a] · fine[pixel · stride − padding + k · dilation, b]`.
pub(super) fn run<T: Element>(geometry: &Geometry, coarse: &[T], fine: &[T], dw: &mut [T]) {
    let bordered = geometry.fine_channels <= THIN;
    run_with(geometry, coarse, fine, bordered, dw);
    // A border's zeros times an infinite or NaN value of the coarse side are NaN, where nothing should have been added.
    if bordered && !dw.iter().all(|value| value.is_finite()) {
        run_with(geometry, coarse, fine, false, dw);
    }
}

/// With or without a border of zeros around the fine side.
fn run_with<T: Element>(
    geometry: &Geometry,
    coarse: &[T],
    fine: &[T],
    bordered: bool,
    dw: &mut [T],
) {
    assert_eq!(coarse.len(), geometry.coarse_len(), "coarse side of another geometry");
    assert_eq!(fine.len(), geometry.fine_len(), "fine side of another geometry");
    assert_eq!(dw.len(), geometry.weight_len(), "weights of another geometry");
    if dw.is_empty() {
        return;
    }
    let isa = Isa::current();
    let (a, b) = (geometry.coarse_channels, geometry.fine_channels);
    let fill = |channels: usize| channels as f64 / channels.next_multiple_of(16) as f64;
    let lanes_are_coarse = fill(a) * 1.25 >= fill(b);
    let coarse = Side { data: coarse, extent: geometry.coarse, pitch: a };
    let mut fine = Side { data: fine, extent: geometry.fine, pitch: b };

    let mut groups: Vec<Group> = Vec::new();
    let mut offsets = Vec::new();
    let taps = Direction::Gather.phases(&geometry.window).swap_remove(0).taps;
    let border_copy;
    if lanes_are_coarse && bordered {
        let pass = Pass::new(geometry, Direction::Gather);
        let grid = Grid {
            first: [0; 2],
            taps: taps.iter().map(|t| [t.dh, t.dw]).collect(),
            run: b,
            weights: 0,
        };
        let border = Border::new(&pass, geometry.window.stride, [1; 2], &[grid]);
        border_copy = border.copy(&pass, fine.data);
        fine = Side { data: border_copy.as_slice(), extent: border.extent(&pass), pitch: b };
        for tap in &taps {
            let row = (tap.dh + border.before[0] as isize) as usize;
            let column = (tap.dw + border.before[1] as isize) as usize;
            offsets.extend((0..b).map(|c| (row * fine.extent[1] + column) * b + c));
        }
        groups.push(Group { shift: [0; 2], rows: 0..offsets.len() });
    } else {
        let rows = if lanes_are_coarse { b } else { a };
        for tap in &taps {
            groups
                .push(Group { shift: [tap.dh, tap.dw], rows: offsets.len()..offsets.len() + rows });
            offsets.extend(0..rows);
        }
    }

    let lanes = Blocks::new::<T>(isa, if lanes_are_coarse { a } else { b });
    let widened;
    if !lanes_are_coarse && lanes.padded() != lanes.channels {
        widened = widen(fine.data, b, lanes.padded());
        fine.data = widened.as_slice();
        fine.pitch = lanes.padded();
    }

    let work = geometry.coarse_len().saturating_mul(b * geometry.positions());
    let job = Job {
        images: geometry.batch,
        coarse,
        fine,
        stride: geometry.window.stride,
        lanes_are_coarse,
        lanes,
        groups,
        offsets,
        cut: Cut::new(geometry, lanes.channels, work),
        positions: geometry.positions(),
        fine_channels: b,
        dw,
    };
    T::dispatch(isa, job);
}

/// The pixels with `pitch` channels, as many of them zero as are added.
fn widen<T: Element>(data: &[T], channels: usize, pitch: usize) -> Buffer<T> {
    let mut wide = Buffer::unfilled(data.len() / channels * pitch);
    wide.as_mut_slice()
        .par_chunks_mut(pitch)
        .with_min_len(1024)
        .zip(data.par_chunks(channels))
        .for_each(|(to, from)| {
            let (filled, rest) = to.split_at_mut(channels);
            filled.copy_from_slice(from);
            rest.fill(T::ZERO);
        });
    wide
}

/// Rows of the result that are connected to the same pixels.
struct Group {
    /// From a coarse pixel times the stride to its fine pixel.
    shift: [isize; 2],
    rows: Range<usize>,
}

/// How pixels are shared among tasks, by the size of the problem alone: each shares' sums are added up in order.
#[derive(Clone, Copy)]
struct Cut {
    /// Shares of the pixels.
    shares: usize,
    /// Whether tiles run over the pictures at one position, instead of over the pixels of a row.
    over_images: bool,
    /// Tasks the rows of the result are cut into.
    row_cuts: usize,
}

impl Cut {
    fn new(geometry: &Geometry, lane_channels: usize, work: usize) -> Self {
        let [height, width] = geometry.coarse;
        let tasks = (work / TASK_WORK).clamp(1, TASKS);
        let lane_cuts = lane_channels.div_ceil(64);
        let most = (PARTIAL_ELEMENTS / geometry.weight_len()).max(1);
        let over_images = width <= SHORT_ROW && geometry.batch > width;
        let units =
            if over_images { geometry.batch / STRIP_IMAGES } else { geometry.batch * height };
        let worth = geometry.batch * height * width / SHARE_PIXELS;
        let shares = tasks.div_ceil(lane_cuts).min(most).min(units).min(worth).max(1);
        Cut { shares, over_images, row_cuts: tasks.div_ceil(lane_cuts * shares) }
    }
}

struct Job<'a, T> {
    images: usize,
    coarse: Side<'a, T>,
    fine: Side<'a, T>,
    stride: [usize; 2],
    lanes_are_coarse: bool,
    lanes: Blocks,
    groups: Vec<Group>,
    /// Element of the row side, from the group's pixel on, for each row of the result.
    offsets: Vec<usize>,
    cut: Cut,
    positions: usize,
    fine_channels: usize,
    dw: &'a mut [T],
}

/// One share's sums for a block of lanes and some rows.
struct Task<'a, T> {
    share: usize,
    first_lane: usize,
    width: usize,
    rows: Range<usize>,
    /// `[row][width]`.
    sums: &'a mut [T],
}

/// Pixels a tile is summed over before it is stored: lines of pixels along a picture's rows, or along the pictures.
struct Strip {
    images: Range<usize>,
    /// Rows of the coarse side; counted over all pictures unless tiles run over the pictures.
    lines: Range<usize>,
}

impl<T: Element> Kernel<T> for Job<'_, T> {
    type Output = ();

    fn run<I: Lanes<T>>(mut self, isa: I) {
        let dw = std::mem::take(&mut self.dw);
        let rows = self.offsets.len();
        let share_len = rows * self.lanes.padded();
        let mut partial = Buffer::unfilled(self.cut.shares * share_len);
        let mut tasks = Vec::new();
        let mut rest = partial.as_mut_slice();
        for share in 0..self.cut.shares {
            for (first_lane, width) in self.lanes.iter() {
                let rows_each = rows.div_ceil(self.cut.row_cuts);
                for from in (0..rows).step_by(rows_each) {
                    let rows = from..rows.min(from + rows_each);
                    let (sums, after) = rest.split_at_mut(rows.len() * width);
                    rest = after;
                    tasks.push(Task { share, first_lane, width, rows, sums });
                }
            }
        }
        tasks.into_par_iter().with_max_len(1).for_each(|task| self.task(isa, task));
        self.collect(partial.as_slice(), share_len, dw);
    }
}

impl<T: Element> Job<'_, T> {
    /// Pictures and lines of a strip of at most so many pictures.
    fn strip_extent(&self, images: usize) -> [usize; 2] {
        let images = images.clamp(1, STRIP_IMAGES);
        [images, (STRIP_PIXELS / (self.coarse.extent[1].max(1) * images)).max(1)]
    }

    /// Pixels of the largest strip.
    fn strip_pixels(&self) -> usize {
        let pixels =
            |images| self.strip_extent(images).iter().product::<usize>() * self.coarse.extent[1];
        if self.cut.over_images {
            (1..=self.images.min(STRIP_IMAGES)).map(pixels).max().unwrap_or(0)
        } else {
            pixels(1)
        }
    }

    fn strips(&self, share: usize) -> impl Iterator<Item = Strip> {
        let height = self.coarse.extent[0];
        let part = |n: usize| n * share / self.cut.shares..n * (share + 1) / self.cut.shares;
        let (images, lines) = if self.cut.over_images {
            (part(self.images), 0..height)
        } else {
            (0..1, part(self.images * height))
        };
        let [few_images, few_lines] = self.strip_extent(images.len());
        images.clone().step_by(few_images).flat_map(move |image| {
            let images = image..images.end.min(image + few_images);
            let end = lines.end;
            lines.clone().step_by(few_lines).map(move |line| Strip {
                images: images.clone(),
                lines: line..end.min(line + few_lines),
            })
        })
    }

    fn task<I: Lanes<T>>(&self, isa: I, mut task: Task<'_, T>) {
        task.sums.fill(T::ZERO);
        let copied = self.copies_lanes(task.width);
        let mut panel = Buffer::unfilled(if copied { self.strip_pixels() * task.width } else { 0 });
        for strip in self.strips(task.share) {
            if copied {
                self.fill_panel(&strip, &task, panel.as_mut_slice());
            }
            for group in &self.groups {
                let mut row = group.rows.start.max(task.rows.start);
                let end = group.rows.end.min(task.rows.end);
                for_tiles!(I::REGISTERS, task.width / I::LANES, |P, V| isa.vectorised(
                    #[inline(always)]
                    || while row + P <= end {
                        self.tile::<I, P, V>(
                            isa,
                            &mut task,
                            &strip,
                            panel.as_slice(),
                            group.shift,
                            row,
                        );
                        row += P;
                    }
                ));
            }
        }
    }

    /// Whether a strip's lanes are copied next to each other: pixels a power of two apart contend for the same few lines of the cache.
    fn copies_lanes(&self, width: usize) -> bool {
        self.lanes_are_coarse && (self.coarse.pitch != width || self.cut.over_images)
    }

    /// Copies a strip's lanes next to each other.
    ///
    /// - `panel`: `[line][column][picture][width]`
    fn fill_panel(&self, strip: &Strip, task: &Task<'_, T>, panel: &mut [T]) {
        let [height, width] = self.coarse.extent;
        let lanes = task.first_lane..self.coarse.pitch.min(task.first_lane + task.width);
        let pixels = strip.lines.clone().flat_map(|line| {
            (0..width).flat_map(move |j| {
                strip.images.clone().map(move |image| (image * height + line) * width + j)
            })
        });
        for (to, pixel) in panel.chunks_exact_mut(task.width).zip(pixels) {
            let (to, beyond) = to.split_at_mut(lanes.len());
            to.copy_from_slice(&self.coarse.data[pixel * self.coarse.pitch..][lanes.clone()]);
            beyond.fill(T::ZERO);
        }
    }

    /// Adds a strip of pixels to `P` rows.
    #[inline(always)]
    fn tile<I: Lanes<T>, const P: usize, const V: usize>(
        &self,
        isa: I,
        task: &mut Task<'_, T>,
        strip: &Strip,
        panel: &[T],
        shift: [isize; 2],
        row: usize,
    ) {
        let (coarse, fine) = (&self.coarse, &self.fine);
        let sums = &mut task.sums[(row - task.rows.start) * V * I::LANES..][..P * V * I::LANES];
        let mut offsets = [0; P];
        offsets.copy_from_slice(&self.offsets[row..row + P]);
        let mut tile = zeros::<T, I, P, V>(isa);
        for (row, sums) in tile.iter_mut().zip(sums.chunks_exact(V * I::LANES)) {
            *row = load_row(isa, sums);
        }
        let copied = self.copies_lanes(V * I::LANES);
        let columns = inside(shift[1], self.stride[1], coarse.extent[1], fine.extent[1]);
        // Along a row, or along the pictures at one position.
        let [coarse_step, fine_step] = if self.cut.over_images {
            [coarse, fine].map(|side| side.extent[0] * side.extent[1])
        } else {
            [1, self.stride[1]]
        };
        let (runs, count) = if self.cut.over_images {
            (columns, strip.images.len())
        } else {
            (columns.start..columns.start + usize::from(!columns.is_empty()), columns.len())
        };
        let (mut image, mut next) = if self.cut.over_images {
            (strip.images.start, strip.lines.start)
        } else {
            (strip.lines.start / coarse.extent[0], strip.lines.start % coarse.extent[0])
        };
        for line in 0..strip.lines.len() {
            if next == coarse.extent[0] {
                (image, next) = (image + 1, 0);
            }
            let i = next;
            next += 1;
            let h = (i * self.stride[0]) as isize + shift[0];
            if h < 0 || h as usize >= fine.extent[0] {
                continue;
            }
            for j in runs.clone() {
                let w = ((j * self.stride[1]) as isize + shift[1]) as usize;
                let coarse_at =
                    ((image * coarse.extent[0] + i) * coarse.extent[1] + j) * coarse.pitch;
                let fine_at =
                    ((image * fine.extent[0] + h as usize) * fine.extent[1] + w) * fine.pitch;
                let from_fine = (&fine.data[fine_at..], fine_step * fine.pitch);
                let from_coarse = (&coarse.data[coarse_at..], coarse_step * coarse.pitch);
                let (rows, vectors) = if copied {
                    let at = (line * coarse.extent[1] + j) * strip.images.len() * V * I::LANES;
                    (from_fine, (&panel[at..], V * I::LANES))
                } else if self.lanes_are_coarse {
                    (from_fine, (&from_coarse.0[task.first_lane..], from_coarse.1))
                } else {
                    (from_coarse, (&from_fine.0[task.first_lane..], from_fine.1))
                };
                tile = accumulate_outer(isa, tile, (rows.0, rows.1, offsets), vectors, count);
            }
        }
        for (p, row) in tile.iter().enumerate() {
            for (v, &value) in row.iter().enumerate() {
                isa.store(value, &mut sums[(p * V + v) * I::LANES..]);
            }
        }
    }

    /// Adds up the shares in order and puts the sums where the weights stand.
    fn collect(&self, partial: &[T], share_len: usize, dw: &mut [T]) {
        let rows = self.offsets.len();
        let lanes = self.lanes.lanes;
        // The sums of `lanes` adjacent lanes for one row.
        let sums = |row: usize, lane: usize| {
            let block = lane / self.lanes.width * self.lanes.width;
            let width = self.lanes.width.min(self.lanes.padded() - block);
            let at = block * rows + row * width + (lane - block);
            let mut total = [T::ZERO; 16];
            for share in partial.chunks_exact(share_len) {
                for (total, &sum) in total.iter_mut().zip(&share[at..at + lanes]) {
                    *total += sum;
                }
            }
            total
        };
        let (fine, positions) = (self.fine_channels, self.positions);
        let per_coarse = fine * positions;
        let coarse = dw.len() / per_coarse;
        if self.lanes_are_coarse {
            dw.par_chunks_mut(lanes * per_coarse).enumerate().for_each(|(i, dw)| {
                for c in 0..fine {
                    for k in 0..positions {
                        let total = sums(k * fine + c, i * lanes);
                        for (dw, &total) in dw.chunks_exact_mut(per_coarse).zip(&total) {
                            dw[c * positions + k] = total;
                        }
                    }
                }
            });
        } else {
            dw.par_chunks_mut(per_coarse).enumerate().for_each(|(a, dw)| {
                for (b, dw) in dw.chunks_mut(lanes * positions).enumerate() {
                    for k in 0..positions {
                        let total = sums(k * coarse + a, b * lanes);
                        for (dw, &total) in dw.chunks_exact_mut(positions).zip(&total) {
                            dw[k] = total;
                        }
                    }
                }
            });
        }
    }
}
