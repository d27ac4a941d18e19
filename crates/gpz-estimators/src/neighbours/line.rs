//! One dimension: sorted values, neighbours to both sides.

use std::marker::PhantomData;

use ndarray::ArrayView1;
use rayon::prelude::*;

use super::Norm;

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
        pairs.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (values, order) = pairs.into_iter().unzip();
        Self { values, order, norm: PhantomData }
    }

    pub(super) fn nearest(&self, k: usize) -> Vec<f64> {
        let mut sorted = vec![0.0; self.values.len() * k];
        sorted.par_chunks_mut(JOB * k).enumerate().for_each(|(job, out)| {
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

    pub(super) fn count_within(&self, radius: &[f64]) -> Vec<u32> {
        let mut sorted = vec![0; self.values.len()];
        sorted.par_chunks_mut(JOB).enumerate().for_each(|(job, out)| {
            for (at, out) in out.iter_mut().enumerate() {
                let place = job * JOB + at;
                let (value, radius) = (self.values[place], radius[self.order[place] as usize]);
                // The subtraction is monotone, so along each side the rows that count come first.
                let within = |v: f64| M::of(v - value) < radius;
                let (left, right) = self.values.split_at(place);
                let below = reach(left.len(), |at| within(left[left.len() - 1 - at]));
                let above = reach(right.len(), |at| within(right[at]));
                *out = (below + above) as u32;
            }
        });
        let mut out = vec![0; sorted.len()];
        for (&count, &row) in sorted.iter().zip(&self.order) {
            out[row as usize] = count;
        }
        out
    }
}

/// How many of the first of `n` places hold, where those that hold come first: doubling steps, then halving ones.
#[inline(always)]
fn reach(n: usize, holds: impl Fn(usize) -> bool) -> usize {
    let mut step = 1;
    let mut low = 0;
    while low + step <= n && holds(low + step - 1) {
        low += step;
        step *= 2;
    }
    // The answer is in low..low + step, and at most n.
    let mut high = (low + step - 1).min(n);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
