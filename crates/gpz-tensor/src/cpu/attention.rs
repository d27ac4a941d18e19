//! Scaled dot-product attention, head by head, without the matrices of all scores.
//!
//! A head's keys and values are packed once. Then a block of queries at a time gets its scores, which stay in the cache until their
//! softmax is multiplied by the values. The gradient computes the scores again, block by block in the same order, so that memory grows
//! with the tokens and not with their square; blocks are cut by the size of the problem alone.
//!
//! Dao et al., arXiv 2205.14135, for the recomputation; a row's scores fit the cache here, so that no running maximum is needed.

use ndarray::{ArrayViewMut2, ArrayViewMut4, Axis, s};
use rayon::prelude::*;

use crate::Element;
use crate::buffer::Buffer;
use crate::cpu::conv::packed::{Blocks, Strided, pack};
use crate::cpu::conv::tile::{
    accumulate, accumulate_outer, for_tiles, load_within, store_within, zeros,
};
use crate::simd::{Isa, Kernel, Lanes};

/// Queries whose scores are held at a time.
const BLOCK: usize = 24;
/// Queries of one task of the forward pass.
const TASK: usize = 21 * BLOCK;
/// Lanes of sums and maxima along a row, on every instruction set.
const LANES: usize = 16;
/// What is kept of each query's softmax: the largest score, and the reciprocal of the sum.
pub(crate) const KEPT: usize = 2;

/// Rows of adjacent elements.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub(crate) data: &'a [T],
    /// Elements from row to row.
    pub(crate) pitch: usize,
}

impl<'a, T> Rows<'a, T> {
    #[inline(always)]
    fn row(&self, r: usize, len: usize) -> &'a [T] {
        &self.data[r * self.pitch..][..len]
    }
}

/// Matrices `[b, h]` of rows of adjacent elements.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a, T> {
    pub(crate) data: &'a [T],
    /// Elements from batch to batch, from head to head, and from row to row.
    pub(crate) strides: [usize; 3],
}

/// Rows of some heads, brought together.
enum Gathered<'a, T> {
    /// As they lie.
    Lying(Heads<'a, T>),
    /// A copy, `[row][head][width]`.
    Copied(Buffer<T>, [usize; 2]),
}

impl<'a, T: Element> Heads<'a, T> {
    /// The heads of one batch. Where heads lie beside each other within longer rows, the rows' parts are copied at one go: head by head
    /// each would cost a cache miss of its own.
    fn gather(&self, batch: usize, heads: usize, [rows, width]: [usize; 2]) -> Gathered<'a, T> {
        let [batch_stride, head, pitch] = self.strides;
        let data = &self.data[(batch * batch_stride).min(self.data.len())..];
        let run = heads * width;
        if heads == 1 || head != width || pitch <= width {
            return Gathered::Lying(Heads { data, strides: [0, head, pitch] });
        }
        let mut copy = Buffer::unfilled(rows * run);
        for (r, to) in copy.as_mut_slice().chunks_exact_mut(run).enumerate() {
            to.copy_from_slice(&data[r * pitch..][..run]);
        }
        Gathered::Copied(copy, [width, run])
    }
}

impl<T: Element> Gathered<'_, T> {
    fn head(&self, head: usize) -> Rows<'_, T> {
        let (data, [stride, pitch]) = match self {
            Gathered::Lying(heads) => (heads.data, [heads.strides[1], heads.strides[2]]),
            Gathered::Copied(copy, strides) => (copy.as_slice(), *strides),
        };
        Rows { data: &data[(head * stride).min(data.len())..], pitch }
    }
}

/// Extents of attention; none of them is 0.
#[derive(Clone, Copy)]
pub(crate) struct Extents {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    /// Entries of a query and of a key.
    pub(crate) width: usize,
    /// Entries of a value.
    pub(crate) value_width: usize,
}

impl Extents {
    fn scale<T: Element>(&self) -> T {
        T::from_f64(1.0 / (self.width as f64).sqrt())
    }
}

/// `softmax(q kᵀ / √d) v`; every element of `out` and `kept` is written.
///
/// - `out`: `[b, h, queries, value width]`, the last axis adjacent in memory
/// - `kept`: `[b, h, queries, 2]`
pub(crate) fn forward<T: Element>(
    extents: Extents,
    [queries, keys, values]: [Heads<'_, T>; 3],
    out: ArrayViewMut4<'_, T>,
    kept: &mut [T],
) {
    let isa = Isa::current();
    let Extents { heads, queries: rows, keys: key_rows, width, value_width, .. } = extents;
    let batches = split(out).into_par_iter().zip(kept.par_chunks_mut(heads * rows * KEPT));
    batches.enumerate().with_max_len(1).for_each(|(batch, (out, kept))| {
        let queries = queries.gather(batch, heads, [rows, width]);
        let keys = keys.gather(batch, heads, [key_rows, width]);
        let values = values.gather(batch, heads, [key_rows, value_width]);
        let mut tasks = Vec::with_capacity(heads);
        let parts = split(out).into_iter().zip(kept.chunks_mut(rows * KEPT)).enumerate();
        for (head, (out, kept)) in parts {
            let [queries, keys, values] = [&queries, &keys, &values].map(|of| of.head(head));
            let (mut out, mut first) = (out, 0);
            for kept in kept.chunks_mut(TASK * KEPT) {
                let (own, rest) = out.split_at(Axis(0), kept.len() / KEPT);
                out = rest;
                tasks.push(ForwardTask {
                    set: isa,
                    extents,
                    first,
                    queries,
                    keys,
                    values,
                    out: own,
                    kept,
                });
                first += TASK;
            }
        }
        tasks.into_par_iter().with_max_len(1).for_each(|task| T::dispatch(isa, task));
    });
}

/// Gradients with respect to queries, keys and values; every element of them is written.
///
/// - `out`, `kept`: what [`forward`] wrote; `dout`: the gradient of `out`
/// - gradients: `[b, h, rows, width]` each, the last axis adjacent in memory
pub(crate) fn backward<T: Element>(
    extents: Extents,
    [queries, keys, values]: [Heads<'_, T>; 3],
    [out, dout]: [Heads<'_, T>; 2],
    kept: &[T],
    gradients: [ArrayViewMut4<'_, T>; 3],
) {
    let isa = Isa::current();
    let Extents { heads, queries: rows, keys: key_rows, width, value_width, .. } = extents;
    let [dq, dk, dv] = gradients.map(split);
    let batches = dq.into_par_iter().zip(dk).zip(dv).zip(kept.par_chunks(heads * rows * KEPT));
    batches.enumerate().with_max_len(1).for_each(|(batch, (((dq, dk), dv), kept))| {
        let queries = queries.gather(batch, heads, [rows, width]);
        let keys = keys.gather(batch, heads, [key_rows, width]);
        let values = values.gather(batch, heads, [key_rows, value_width]);
        let out = out.gather(batch, heads, [rows, value_width]);
        let dout = dout.gather(batch, heads, [rows, value_width]);
        let parts = split(dq).into_par_iter().zip(split(dk)).zip(split(dv));
        let parts = parts.zip(kept.par_chunks(rows * KEPT)).enumerate().with_max_len(1);
        parts.for_each(|(head, (((dq, dk), dv), kept))| {
            let [queries, keys, values, out, dout] =
                [&queries, &keys, &values, &out, &dout].map(|of| of.head(head));
            let task = BackwardTask {
                set: isa,
                extents,
                queries,
                keys,
                values,
                out,
                dout,
                kept,
                dq,
                dk,
                dv,
            };
            T::dispatch(isa, task);
        });
    });
}

/// The parts along the first axis.
fn split<T, D: ndarray::RemoveAxis>(
    of: ndarray::ArrayViewMut<'_, T, D>,
) -> Vec<ndarray::ArrayViewMut<'_, T, D::Smaller>> {
    let mut parts = Vec::with_capacity(of.len_of(Axis(0)));
    let mut rest = of;
    while rest.len_of(Axis(0)) > 0 {
        let (part, after) = rest.split_at(Axis(0), 1);
        rest = after;
        parts.push(part.index_axis_move(Axis(0), 0));
    }
    parts
}

/// Weights of a product, packed for the register tile.
struct Panels<T> {
    blocks: Blocks,
    depth: usize,
    data: Buffer<T>,
}

impl<T: Element> Panels<T> {
    fn new(isa: Isa, outputs: usize, depth: usize, weights: Strided<'_, T>) -> Self {
        let blocks = Blocks::new::<T>(isa, outputs);
        let mut data = Buffer::unfilled(blocks.padded() * depth);
        pack(weights, &[0], depth, blocks, data.as_mut_slice());
        Panels { blocks, depth, data }
    }

    /// The transpose of `count` rows: they become the columns of the product.
    fn of_columns(isa: Isa, rows: Rows<'_, T>, count: usize, depth: usize) -> Self {
        Self::new(
            isa,
            count,
            depth,
            Strided { data: rows.data, out_stride: rows.pitch, in_stride: 1 },
        )
    }

    /// The rows as they are.
    fn of_rows(isa: Isa, rows: Rows<'_, T>, count: usize, width: usize) -> Self {
        Self::new(
            isa,
            width,
            count,
            Strided { data: rows.data, out_stride: 1, in_stride: rows.pitch },
        )
    }

    /// Elements of a row of the product, with those that no column has.
    fn pitch(&self) -> usize {
        self.blocks.padded()
    }

    /// `to[r] = x[r] · panels` for `count` rows of `x`.
    #[inline(always)]
    fn multiply<I: Lanes<T>>(&self, isa: I, x: Rows<'_, T>, count: usize, to: &mut [T]) {
        let (depth, pitch) = (self.depth, self.pitch());
        for (first, width) in self.blocks.iter() {
            let weights = &self.data.as_slice()[first * depth..][..width * depth];
            let mut r = 0;
            for_tiles!(I::REGISTERS, width / I::LANES, |P, V| {
                while count - r >= P {
                    let mut rows = [&x.data[..0]; P];
                    for (p, row) in rows.iter_mut().enumerate() {
                        *row = x.row(r + p, depth);
                    }
                    let tile = accumulate(isa, zeros::<T, I, P, V>(isa), rows, weights);
                    for (p, row) in tile.iter().enumerate() {
                        for (v, &value) in row.iter().enumerate() {
                            isa.store(value, &mut to[(r + p) * pitch + first + v * I::LANES..]);
                        }
                    }
                    r += P;
                }
            });
        }
    }
}

/// Sums `[rows][padded width]` of outer products.
struct Outer<T> {
    blocks: Blocks,
    rows: usize,
    sums: Buffer<T>,
}

impl<T: Element> Outer<T> {
    fn new(isa: Isa, rows: usize, width: usize) -> Self {
        let blocks = Blocks::new::<T>(isa, width);
        Outer { blocks, rows, sums: Buffer::filled(rows * blocks.padded(), T::ZERO) }
    }

    /// `sums[j] += Σ_r x[r][j] · vectors[r]` for `count` rows of both; those of `vectors` are as wide as the sums.
    #[inline(always)]
    fn add<I: Lanes<T>>(&mut self, isa: I, x: &[T], x_pitch: usize, vectors: &[T], count: usize) {
        let pitch = self.blocks.padded();
        for (first, width) in self.blocks.iter() {
            let mut j = 0;
            for_tiles!(I::REGISTERS, width / I::LANES, |P, V| {
                while self.rows - j >= P {
                    let sums = &mut self.sums.as_mut_slice()[j * pitch + first..];
                    let mut tile = zeros::<T, I, P, V>(isa);
                    for (p, row) in tile.iter_mut().enumerate() {
                        for (v, value) in row.iter_mut().enumerate() {
                            *value = isa.load(&sums[p * pitch + v * I::LANES..]);
                        }
                    }
                    let mut offsets = [0; P];
                    for (p, offset) in offsets.iter_mut().enumerate() {
                        *offset = p;
                    }
                    let x = (&x[j..], x_pitch, offsets);
                    tile = accumulate_outer(isa, tile, x, (&vectors[first..], pitch), count);
                    for (p, row) in tile.iter().enumerate() {
                        for (v, &value) in row.iter().enumerate() {
                            isa.store(value, &mut sums[p * pitch + v * I::LANES..]);
                        }
                    }
                    j += P;
                }
            });
        }
    }

    #[inline(always)]
    fn write<I: Lanes<T>>(&self, isa: I, to: ArrayViewMut2<'_, T>) {
        copy_rows(isa, self.sums.as_slice(), self.blocks.padded(), to);
    }
}

/// Rows of a scratch matrix to where they belong.
#[inline(always)]
fn copy_rows<T: Element, I: Lanes<T>>(
    isa: I,
    from: &[T],
    pitch: usize,
    mut to: ArrayViewMut2<'_, T>,
) {
    for (to, from) in to.rows_mut().into_iter().zip(from.chunks_exact(pitch)) {
        let to = to.into_slice().unwrap_or_default();
        for v in 0..to.len().div_ceil(I::LANES) {
            store_within(isa, isa.load(&from[v * I::LANES..]), to, v);
        }
    }
}

/// Rows widened with zeros to `pitch`, which is a multiple of the lanes.
#[inline(always)]
fn widen<T: Element, I: Lanes<T>>(
    isa: I,
    from: Rows<'_, T>,
    first: usize,
    width: usize,
    pitch: usize,
    to: &mut [T],
) {
    for (r, to) in to.chunks_exact_mut(pitch).enumerate() {
        let from = from.row(first + r, width);
        for v in 0..pitch / I::LANES {
            isa.store(load_within(isa, from, v), &mut to[v * I::LANES..]);
        }
    }
}

/// Folds a row in [`LANES`] lanes, then the lanes.
#[inline(always)]
fn fold<T: Element>(row: &[T], start: T, f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [start; LANES];
    let chunks = row.chunks_exact(LANES);
    for (lane, &value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = f(*lane, value);
    }
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], chunk[i]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of products in [`LANES`] lanes, then over them.
#[inline(always)]
fn dot<T: Element>(x: &[T], y: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for ((lane, &x), &y) in lanes.iter_mut().zip(xs.remainder()).zip(ys.remainder()) {
        *lane = x * y;
    }
    for (x, y) in xs.zip(ys) {
        for i in 0..LANES {
            lanes[i] += x[i] * y[i];
        }
    }
    fold(
        &lanes,
        T::ZERO,
        #[inline(always)]
        |a, b| a + b,
    )
}

struct ForwardTask<'a, T> {
    /// The one it is dispatched to.
    set: Isa,
    extents: Extents,
    /// The first query.
    first: usize,
    queries: Rows<'a, T>,
    keys: Rows<'a, T>,
    values: Rows<'a, T>,
    out: ArrayViewMut2<'a, T>,
    kept: &'a mut [T],
}

impl<T: Element> Kernel<T> for ForwardTask<'_, T> {
    type Output = ();

    fn run<I: Lanes<T>>(mut self, isa: I) {
        let Extents { keys, width, value_width, .. } = self.extents;
        let set = self.set;
        let key_panels = Panels::of_columns(set, self.keys, keys, width);
        let value_panels = Panels::of_rows(set, self.values, keys, value_width);
        let mut scores = Buffer::unfilled(BLOCK * key_panels.pitch());
        let mut mixed = Buffer::unfilled(BLOCK * value_panels.pitch());
        let scale = self.extents.scale();
        isa.vectorised(
            #[inline(always)]
            || {
                let count = self.out.nrows();
                let (scores, mixed) = (scores.as_mut_slice(), mixed.as_mut_slice());
                for start in (0..count).step_by(BLOCK) {
                    let rows = BLOCK.min(count - start);
                    let queries = Rows {
                        data: &self.queries.data[(self.first + start) * self.queries.pitch..],
                        ..self.queries
                    };
                    key_panels.multiply(isa, queries, rows, scores);
                    let kept = self.kept[start * KEPT..].chunks_exact_mut(KEPT);
                    for (row, kept) in
                        scores.chunks_exact_mut(key_panels.pitch()).zip(kept).take(rows)
                    {
                        let (largest, inverse) = exponentials(&mut row[..keys], scale);
                        kept[0] = largest;
                        kept[1] = inverse;
                    }
                    let weights = Rows { data: &*scores, pitch: key_panels.pitch() };
                    value_panels.multiply(isa, weights, rows, mixed);
                    for r in 0..rows {
                        let inverse = self.kept[(start + r) * KEPT + 1];
                        let to = self.out.row_mut(start + r);
                        let to = to.into_slice().unwrap_or_default();
                        for (to, &value) in to.iter_mut().zip(&mixed[r * value_panels.pitch()..]) {
                            *to = value * inverse;
                        }
                    }
                }
            },
        );
    }
}

/// Turns scores into `e^((score − largest) · scale)`. Returns the largest score and the reciprocal of the sum.
#[inline(always)]
fn exponentials<T: Element>(row: &mut [T], scale: T) -> (T, T) {
    // A NaN is lost here and found again in the sum.
    let largest = fold(
        row,
        T::NEG_INFINITY,
        #[inline(always)]
        |a, b| if b > a { b } else { a },
    );
    for value in row.iter_mut() {
        *value = ((*value - largest) * scale).exp();
    }
    (
        largest,
        T::ONE
            / fold(
                row,
                T::ZERO,
                #[inline(always)]
                |a, b| a + b,
            ),
    )
}

struct BackwardTask<'a, T> {
    /// The one it is dispatched to.
    set: Isa,
    extents: Extents,
    queries: Rows<'a, T>,
    keys: Rows<'a, T>,
    values: Rows<'a, T>,
    out: Rows<'a, T>,
    dout: Rows<'a, T>,
    kept: &'a [T],
    dq: ArrayViewMut2<'a, T>,
    dk: ArrayViewMut2<'a, T>,
    dv: ArrayViewMut2<'a, T>,
}

impl<T: Element> Kernel<T> for BackwardTask<'_, T> {
    type Output = ();

    fn run<I: Lanes<T>>(self, isa: I) {
        let Extents { queries: count, keys, width, value_width, .. } = self.extents;
        let set = self.set;
        let key_columns = Panels::of_columns(set, self.keys, keys, width);
        let value_columns = Panels::of_columns(set, self.values, keys, value_width);
        let key_rows = Panels::of_rows(set, self.keys, keys, width);
        let mut dk = Outer::new(set, keys, width);
        let mut dv = Outer::new(set, keys, value_width);
        let pitch = key_columns.pitch();
        let (pitch_q, pitch_v) = (key_rows.pitch(), dv.blocks.padded());
        let mut weights = Buffer::unfilled(BLOCK * pitch);
        let mut slopes = Buffer::unfilled(BLOCK * pitch);
        let mut wide_q = Buffer::unfilled(BLOCK * pitch_q);
        let mut wide_v = Buffer::unfilled(BLOCK * pitch_v);
        let scale = self.extents.scale();
        let mut dq = self.dq;
        isa.vectorised(
            #[inline(always)]
            || {
                let (weights, slopes) = (weights.as_mut_slice(), slopes.as_mut_slice());
                let (wide_q, wide_v) = (wide_q.as_mut_slice(), wide_v.as_mut_slice());
                for start in (0..count).step_by(BLOCK) {
                    let rows = BLOCK.min(count - start);
                    let (wide_q, wide_v) =
                        (&mut wide_q[..rows * pitch_q], &mut wide_v[..rows * pitch_v]);
                    widen(isa, self.queries, start, width, pitch_q, wide_q);
                    widen(isa, self.dout, start, value_width, pitch_v, wide_v);
                    let (q, dout) = (
                        Rows { data: &*wide_q, pitch: pitch_q },
                        Rows { data: &*wide_v, pitch: pitch_v },
                    );
                    key_columns.multiply(isa, q, rows, weights);
                    value_columns.multiply(isa, dout, rows, slopes);
                    for r in 0..rows {
                        let (out, dout) =
                            (self.out.row(start + r, value_width), dout.row(r, value_width));
                        let product = dot(out, dout);
                        let [largest, inverse] = [0, 1].map(|i| self.kept[(start + r) * KEPT + i]);
                        let weights = &mut weights[r * pitch..][..keys];
                        let slopes = &mut slopes[r * pitch..][..keys];
                        for (weight, slope) in weights.iter_mut().zip(slopes) {
                            let p = ((*weight - largest) * scale).exp() * inverse;
                            *weight = p;
                            *slope = p * (*slope - product) * scale;
                        }
                    }
                    dv.add(isa, weights, pitch, wide_v, rows);
                    dk.add(isa, slopes, pitch, wide_q, rows);
                    key_rows.multiply(isa, Rows { data: &*slopes, pitch }, rows, wide_q);
                    copy_rows(isa, wide_q, pitch_q, dq.slice_mut(s![start..start + rows, ..]));
                }
                dk.write(isa, self.dk);
                dv.write(isa, self.dv);
            },
        );
    }
}
