//! Rows that equal another row.

use ndarray::{ArrayView1, ArrayView2};

use crate::parts::mix;
use crate::simd::Element;

/// Columns of a first look at rows.
const GLANCE: usize = 64;

/// A row as 64 mixed bits, of every so many columns. `0` and `-0` are equal.
fn key<T: Element>(seed: u64, row: ArrayView1<'_, T>, step: usize) -> u64 {
    // Adding zero turns −0 into 0.
    let values = row.into_iter().step_by(step);
    values.fold(seed, |key, value| mix(key.rotate_left(29) ^ (value.widen() + 0.0).to_bits()))
}

/// For each row the first row that equals it, which may be itself. `0` and `-0` are equal.
///
/// Rows are told apart by 64 mixed bits; two different rows share them with a probability of `n²/2⁶⁵`.
pub(crate) fn first_equal(rows: ArrayView2<'_, f64>) -> Vec<usize> {
    let mut keys: Vec<(u64, usize)> =
        rows.rows().into_iter().enumerate().map(|(row, values)| (key(0, values, 1), row)).collect();
    keys.sort_unstable();
    let mut first = vec![0; keys.len()];
    for equal in keys.chunk_by(|a, b| a.0 == b.0) {
        for &(_, row) in equal {
            first[row] = equal[0].1;
        }
    }
    first
}

/// How many rows of the samples side by side equal an earlier one; told apart as by [`first_equal`].
///
/// Only rows that agree in a few dozen columns are read in full.
pub(crate) fn repeated<T: Element>(samples: &[ArrayView2<'_, T>]) -> u64 {
    let rows = samples.iter().map(|sample| sample.nrows()).min().unwrap_or(0);
    let of = |row: usize, glance: usize| {
        samples.iter().fold(0, |seed, sample| {
            key(seed, sample.row(row), sample.ncols().div_ceil(glance).max(1))
        })
    };
    let mut keys: Vec<(u64, usize)> = (0..rows).map(|row| (of(row, GLANCE), row)).collect();
    keys.sort_unstable();
    let alike = keys.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1);
    let within = alike.map(|alike| {
        let mut keys: Vec<u64> = alike.iter().map(|&(_, row)| of(row, usize::MAX)).collect();
        keys.sort_unstable();
        keys.chunk_by(|a, b| a == b).map(|equal| equal.len() as u64 - 1).sum::<u64>()
    });
    within.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn equal_rows_find_each_other() {
        let rows = array![[1.0, 0.0], [2.0, 3.0], [1.0, -0.0], [0.0, 1.0], [1.0, 0.0]];
        assert_eq!(first_equal(rows.view()), [0, 1, 0, 3, 0]);
        assert_eq!(repeated(&[rows.view()]), 2);
    }

    #[test]
    fn rows_that_agree_at_a_glance_are_told_apart() {
        let mut rows = Array2::<f32>::zeros((5, 1000));
        (rows[[1, 999]], rows[[2, 1]], rows[[4, 1]]) = (1.0, 1.0, 1.0);
        assert_eq!(repeated(&[rows.view()]), 2); // 3 equals 0, and 4 equals 2
        assert_eq!(repeated::<f64>(&[]), 0);
    }
}
