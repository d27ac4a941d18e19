//! One dimension: sorted values, neighbours to both sides.

use std::marker::PhantomData;

use ndarray::ArrayView1;

use super::Norm;
use crate::jobs;
use crate::simd::{self, Lanes, Task};

/// Rows that one job takes.
const JOB: usize = 512;

/// Values in ascending order and the rows they came from.
pub(crate) struct Line<M> {
    values: Vec<f64>,
    order: Vec<u32>,
    norm: PhantomData<M>,
}

impl<M: Norm> Line<M> {
    pub(super) fn new(values: ArrayView1<'_, f64>) -> Self {
        let mut pairs: Vec<(f64, u32)> =
            values.iter().enumerate().map(|(row, &value)| (value, row as u32)).collect();
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (values, order) = pairs.into_iter().unzip();
        Self { values, order, norm: PhantomData }
    }

    pub(super) fn nearest(&self, k: usize) -> Vec<f64> {
        let mut sorted = vec![0.0; self.values.len() * k];
        jobs::chunks(&mut sorted, JOB * k, |job, out| {
            for (at, out) in out.chunks_mut(k).enumerate() {
                self.nearest_of(job * JOB + at, out);
            }
        });
        let mut out = vec![0.0; sorted.len()];
        for (found, &row) in sorted.chunks(k).zip(&self.order) {
            out[row as usize * k..][..k].copy_from_slice(found);
        }
        out
    }

    /// Merges the values to the left with those to the right.
    fn nearest_of(&self, place: usize, out: &mut [f64]) {
        let values = &self.values;
        let value = values[place];
        let distance = |at: Option<&f64>| at.map_or(f64::INFINITY, |v| M::of(v - value));
        let (mut left, mut right) = (place, place + 1);
        let mut below = distance(left.checked_sub(1).and_then(|at| values.get(at)));
        let mut above = distance(values.get(right));
        for out in out {
            if below <= above {
                *out = below;
                left = left.saturating_sub(1);
                below = distance(left.checked_sub(1).and_then(|at| values.get(at)));
            } else {
                *out = above;
                right += 1;
                above = distance(values.get(right));
            }
        }
    }

    /// Which rows have an equal.
    pub(super) fn repeated(&self) -> Vec<bool> {
        let mut repeated = vec![false; self.values.len()];
        for place in 1..self.values.len() {
            if self.values[place - 1] == self.values[place] {
                repeated[self.order[place - 1] as usize] = true;
                repeated[self.order[place] as usize] = true;
            }
        }
        repeated
    }

    pub(super) fn count_within(&self, radius: &[f64]) -> Vec<u32> {
        let mut sorted = vec![0; self.values.len()];
        jobs::chunks(&mut sorted, JOB, |job, out| {
            simd::run(Count { line: self, first: job * JOB, radius, out });
        });
        let mut out = vec![0; sorted.len()];
        for (&count, &row) in sorted.iter().zip(&self.order) {
            out[row as usize] = count;
        }
        out
    }
}

/// Range counts of the values from place `first` on.
struct Count<'a, M> {
    line: &'a Line<M>,
    first: usize,
    radius: &'a [f64],
    out: &'a mut [u32],
}

impl<M: Norm> Task for Count<'_, M> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let values = &self.line.values[..];
        for at in 0..self.out.len() {
            let place = self.first + at;
            let radius = self.radius[self.line.order[place] as usize];
            let (left, right) = values.split_at(place);
            let above = count_from::<M, L>(right, values[place], radius);
            let below = count_back::<M, L>(left, values[place], radius);
            self.out[at] = (above + below) as u32;
        }
    }
}

/// Steps of this many values at once; within one, all are looked at.
const BLOCK: usize = 64;

/// How many of the first of ascending values lie within `radius`: the subtraction is monotone, so those that do come first.
#[inline(always)]
fn count_from<M: Norm, L: Lanes>(values: &[f64], value: f64, radius: f64) -> usize {
    let within = |at: usize| M::of(values[at] - value) < radius;
    let start = gallop(values.len(), within);
    let end = (start + BLOCK).min(values.len());
    start + among::<M, L>(&values[start..end], value, radius)
}

/// How many of the last, for values to the other side.
#[inline(always)]
fn count_back<M: Norm, L: Lanes>(values: &[f64], value: f64, radius: f64) -> usize {
    let n = values.len();
    let within = |at: usize| M::of(values[n - 1 - at] - value) < radius;
    let start = gallop(n, within);
    let end = (start + BLOCK).min(n);
    start + among::<M, L>(&values[n - end..n - start], value, radius)
}

/// Of the first of `n` places those that hold come first: where the block of places begins that holds the last of them.
#[inline(always)]
fn gallop(n: usize, holds: impl Fn(usize) -> bool) -> usize {
    let mut low = 0;
    let mut step = BLOCK;
    while low + step <= n && holds(low + step - 1) {
        low += step;
        step *= 2;
    }
    // The rest is in low..low + step: halve down to a block.
    while step > BLOCK {
        step /= 2;
        if low + step <= n && holds(low + step - 1) {
            low += step;
        }
    }
    low
}

/// How many values lie within `radius`.
#[inline(always)]
fn among<M: Norm, L: Lanes>(values: &[f64], value: f64, radius: f64) -> usize {
    let (blocks, rest) = values.as_chunks::<8>();
    let mut count = 0;
    for block in blocks {
        let reduced = M::add(L::splat(0.0), L::load(block).sub(L::splat(value)));
        count += reduced.below(L::splat(radius)).count_ones() as usize;
    }
    count + rest.iter().filter(|&&other| M::of(other - value) < radius).count()
}
