//! Loops of attention: for one picture and one head after the other, keys and values lie with the tokens along a row, so that a row of
//! scores stays in the cache and every inner loop runs along tokens.

use rayon::prelude::*;

use crate::Element;
use crate::simd::vectorised;

/// Rows are padded to a multiple of this.
const LANES: usize = 16;

/// How tokens are shared among heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    /// Numbers of a token in one head.
    pub(crate) width: usize,
}

impl Heads {
    fn pitch(self) -> usize {
        self.tokens.next_multiple_of(LANES)
    }

    fn all(self) -> usize {
        self.heads * self.width
    }

    /// `1 / √d`, by which scores are scaled.
    fn scale<T: Element>(self) -> T {
        T::from_f64(1.0 / (self.width as f64).sqrt())
    }
}

/// `[n, t, 3·h·d]` to `[n, t, h·d]` and `[n, h, t]`.
pub(crate) fn forward<T: Element>(sizes: Heads, x: &[T], output: &mut [T], sums: &mut [T]) {
    let (tokens, all) = (sizes.tokens, sizes.all());
    if output.is_empty() {
        return;
    }
    let picture = |((x, output), sums): ((&[T], &mut [T]), &mut [T])| {
        let mut work = Work::new(sizes);
        vectorised(
            #[inline(always)]
            || {
                for head in 0..sizes.heads {
                    work.turn(sizes, x, head);
                    for i in 0..tokens {
                        let sum = work.scores(sizes, x, head, i);
                        let (largest, total) = sum;
                        let out = &mut output[i * all + head * sizes.width..][..sizes.width];
                        dots(out, &work.scores, &work.values, work.pitch);
                        for out in out.iter_mut() {
                            *out = *out / total;
                        }
                        sums[head * tokens + i] = largest + total.ln();
                    }
                }
            },
        );
    };
    x.par_chunks(tokens * 3 * all)
        .zip(output.par_chunks_mut(tokens * all))
        .zip(sums.par_chunks_mut(sizes.heads * tokens))
        .for_each(picture);
}

/// Gradient with respect to `x`; `[y, dy, sums]` are the results of the forward pass with the gradient of the first.
pub(crate) fn backward<T: Element>(sizes: Heads, x: &[T], [y, dy, sums]: [&[T]; 3], dx: &mut [T]) {
    let (tokens, all, width) = (sizes.tokens, sizes.all(), sizes.width);
    if dx.is_empty() {
        return;
    }
    let picture = |((((x, dx), y), dy), sums): Zipped<'_, T>| {
        let mut work = Work::new(sizes);
        let (mut slopes, mut dkeys) = (vec![T::ZERO; work.pitch], work.keys.clone());
        let (mut dvalues, mut query) = (work.values.clone(), vec![T::ZERO; width]);
        vectorised(
            #[inline(always)]
            || {
                for head in 0..sizes.heads {
                    work.turn(sizes, x, head);
                    dkeys.fill(T::ZERO);
                    dvalues.fill(T::ZERO);
                    for i in 0..tokens {
                        work.shares(sizes, x, head, i, sums[head * tokens + i]);
                        let at = i * all + head * width;
                        let (y, dy) = (&y[at..at + width], &dy[at..at + width]);
                        combine(&mut slopes, dy, &work.values, work.pitch);
                        let mut along = T::ZERO;
                        for (y, dy) in y.iter().zip(dy) {
                            along += *y * *dy;
                        }
                        for (slope, share) in slopes.iter_mut().zip(&work.scores) {
                            *slope = *share * (*slope - along);
                        }
                        spread(&mut dvalues, dy, &work.scores, work.pitch);
                        query.copy_from_slice(&x[i * 3 * all + head * width..][..width]);
                        query.iter_mut().for_each(|q| *q = *q * sizes.scale());
                        spread(&mut dkeys, &query, &slopes, work.pitch);
                        let dquery = &mut dx[i * 3 * all + head * width..][..width];
                        dots(dquery, &slopes, &work.keys, work.pitch);
                        dquery.iter_mut().for_each(|q| *q = *q * sizes.scale());
                    }
                    for (part, rows) in [(1, &dkeys), (2, &dvalues)] {
                        for i in 0..tokens {
                            let to = &mut dx[(i * 3 + part) * all + head * width..][..width];
                            for (c, to) in to.iter_mut().enumerate() {
                                *to = rows[c * work.pitch + i];
                            }
                        }
                    }
                }
            },
        );
    };
    x.par_chunks(tokens * 3 * all)
        .zip(dx.par_chunks_mut(tokens * 3 * all))
        .zip(y.par_chunks(tokens * all))
        .zip(dy.par_chunks(tokens * all))
        .zip(sums.par_chunks(sizes.heads * tokens))
        .for_each(picture);
}

/// One picture's parts of the five arrays, as iterators over them give them.
type Zipped<'a, T> = ((((&'a [T], &'a mut [T]), &'a [T]), &'a [T]), &'a [T]);

/// Memory of one task.
struct Work<T> {
    /// `[d, pitch]`, zero beyond the tokens.
    keys: Vec<T>,
    values: Vec<T>,
    /// `[pitch]`
    scores: Vec<T>,
    query: Vec<T>,
    pitch: usize,
}

impl<T: Element> Work<T> {
    fn new(sizes: Heads) -> Self {
        let pitch = sizes.pitch();
        let rows = || vec![T::ZERO; sizes.width * pitch];
        let (scores, query) = (vec![T::ZERO; pitch], vec![T::ZERO; sizes.width]);
        Work { keys: rows(), values: rows(), scores, query, pitch }
    }

    /// Lays keys and values of a head out along tokens.
    #[inline(always)]
    fn turn(&mut self, sizes: Heads, x: &[T], head: usize) {
        let (all, width) = (sizes.all(), sizes.width);
        for (part, rows) in [(1, &mut self.keys), (2, &mut self.values)] {
            for i in 0..sizes.tokens {
                let from = &x[(i * 3 + part) * all + head * width..][..width];
                for (c, value) in from.iter().enumerate() {
                    rows[c * self.pitch + i] = *value;
                }
            }
        }
    }

    /// Scaled scores of token `i` into `self.scores`.
    #[inline(always)]
    fn raw_scores(&mut self, sizes: Heads, x: &[T], head: usize, i: usize) {
        let from = &x[i * 3 * sizes.all() + head * sizes.width..][..sizes.width];
        for (query, value) in self.query.iter_mut().zip(from) {
            *query = *value * sizes.scale();
        }
        combine(&mut self.scores, &self.query, &self.keys, self.pitch);
    }

    /// `eˢ⁻ᵐ` of the scores of token `i` into `self.scores`, zero beyond the tokens; `m`, the largest score, and their sum.
    #[inline(always)]
    fn scores(&mut self, sizes: Heads, x: &[T], head: usize, i: usize) -> (T, T) {
        self.raw_scores(sizes, x, head, i);
        self.scores[sizes.tokens..].fill(T::NEG_INFINITY);
        let mut lanes = [T::NEG_INFINITY; LANES];
        for chunk in self.scores.chunks_exact(LANES) {
            for (lane, score) in lanes.iter_mut().zip(chunk) {
                *lane = if *score > *lane { *score } else { *lane };
            }
        }
        let largest = lanes.iter().fold(T::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        for score in &mut self.scores {
            *score = (*score - largest).exp();
        }
        (largest, sum(&self.scores))
    }

    /// The share of each token in what token `i` attends to, into `self.scores`.
    #[inline(always)]
    fn shares(&mut self, sizes: Heads, x: &[T], head: usize, i: usize, log_sum: T) {
        self.raw_scores(sizes, x, head, i);
        for score in &mut self.scores {
            *score = (*score - log_sum).exp();
        }
        self.scores[sizes.tokens..].fill(T::ZERO);
    }
}

#[inline(always)]
fn sum<T: Element>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    for chunk in x.chunks_exact(LANES) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += *value;
        }
    }
    total(lanes)
}

#[inline(always)]
fn total<T: Element>(lanes: [T; LANES]) -> T {
    let mut lanes = lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            let other = lanes[i + half];
            lanes[i] += other;
        }
        half /= 2;
    }
    lanes[0]
}

/// `out[j] = Σ_c x[c] · rows[c][j]`.
#[inline(always)]
fn combine<T: Element>(out: &mut [T], x: &[T], rows: &[T], pitch: usize) {
    out.fill(T::ZERO);
    let out = &mut out[..pitch];
    let (fours, rest) = x.as_chunks::<4>();
    for (&[a, b, c, d], rows) in fours.iter().zip(rows.chunks_exact(4 * pitch)) {
        let (ra, rows) = rows.split_at(pitch);
        let (rb, rows) = rows.split_at(pitch);
        let (rc, rd) = rows.split_at(pitch);
        for j in 0..pitch {
            out[j] += (a * ra[j] + b * rb[j]) + (c * rc[j] + d * rd[j]);
        }
    }
    for (c, &x) in rest.iter().enumerate() {
        let row = &rows[(fours.len() * 4 + c) * pitch..][..pitch];
        for j in 0..pitch {
            out[j] += x * row[j];
        }
    }
}

/// `out[c] = Σ_j weights[j] · rows[c][j]`.
#[inline(always)]
fn dots<T: Element>(out: &mut [T], weights: &[T], rows: &[T], pitch: usize) {
    for (out, row) in out.iter_mut().zip(rows.chunks_exact(pitch)) {
        let mut lanes = [T::ZERO; LANES];
        for (w, r) in weights.chunks_exact(LANES).zip(row.chunks_exact(LANES)) {
            for i in 0..LANES {
                lanes[i] += w[i] * r[i];
            }
        }
        *out = total(lanes);
    }
}

/// `rows[c][j] += x[c] · weights[j]`.
#[inline(always)]
fn spread<T: Element>(rows: &mut [T], x: &[T], weights: &[T], pitch: usize) {
    let weights = &weights[..pitch];
    for (row, &x) in rows.chunks_exact_mut(pitch).zip(x) {
        for j in 0..pitch {
            row[j] += x * weights[j];
        }
    }
}
