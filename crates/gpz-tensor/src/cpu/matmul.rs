//! Matrix products on the register tile of the convolutions.

use crate::Element;

/// A matrix, or several of one shape, in memory: element `(i, j)` of the `k`-th stands at `k · batch + i · row + j · column`.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a, T> {
    /// The memory, beginning with element (0, 0).
    pub data: &'a [T],
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub column: usize,
    /// From one matrix to the next; 0 where all are the same one.
    pub batch: usize,
}

/// `c = a · b`, or `c += a · b`, for each of `batch` pairs of matrices.
///
/// - `[m, k, n]`: rows of `a`; columns of `a`, which are rows of `b`; columns of `b`
/// - `bias`: `[n]`, added to each row after the sum
/// - `accumulate`: begin the sum with what `c` holds; otherwise that is never read
/// - `c`: `[batch, m, n]`, row-major; every element is written
///
/// # Panics
/// If an element lies outside its slice.
pub fn matmul<T: Element>(
    batch: usize,
    [m, k, n]: [usize; 3],
    a: Operand<'_, T>,
    b: Operand<'_, T>,
    bias: Option<&[T]>,
    accumulate: bool,
    c: &mut [T],
) {
    for i in 0..batch {
        for r in 0..m {
            for col in 0..n {
                let at = (i * m + r) * n + col;
                let mut sum = if accumulate { c[at] } else { T::ZERO };
                for j in 0..k {
                    sum += a.data[i * a.batch + r * a.row + j * a.column]
                        * b.data[i * b.batch + j * b.row + col * b.column];
                }
                c[at] = bias.map_or(sum, |bias| sum + bias[col]);
            }
        }
    }
}
