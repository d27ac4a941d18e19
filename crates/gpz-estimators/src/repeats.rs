//! Rows that equal another row.

use ndarray::ArrayView2;

use crate::parts::mix;

/// For each row the first row that equals it, which may be itself. `0` and `-0` are equal.
///
/// Rows are told apart by 64 mixed bits; two different rows share them with a probability of `n²/2⁶⁵`.
pub(crate) fn first_equal(rows: ArrayView2<'_, f64>) -> Vec<usize> {
    let key = |row: ndarray::ArrayView1<'_, f64>| {
        // Adding zero turns −0 into 0.
        row.iter().fold(0, |key: u64, value| mix(key.rotate_left(29) ^ (value + 0.0).to_bits()))
    };
    let mut keys: Vec<(u64, usize)> =
        rows.rows().into_iter().enumerate().map(|(row, values)| (key(values), row)).collect();
    keys.sort_unstable();
    let mut first = vec![0; keys.len()];
    for equal in keys.chunk_by(|a, b| a.0 == b.0) {
        for &(_, row) in equal {
            first[row] = equal[0].1;
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn equal_rows_find_each_other() {
        let rows = array![[1.0, 0.0], [2.0, 3.0], [1.0, -0.0], [0.0, 1.0], [1.0, 0.0]];
        assert_eq!(first_equal(rows.view()), [0, 1, 0, 3, 0]);
    }
}
