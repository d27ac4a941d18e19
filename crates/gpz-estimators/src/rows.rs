//! Rows on plain arrays: what every estimator that looks at rows checks first.

use std::cmp::Ordering;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use serde::Serialize;

use crate::batch::Batch;
use crate::error::Error;
use crate::oddities::constant_columns;
use crate::simd::Element;

/// Dimensions from which on distances between rows say little: the nearest neighbour is hardly nearer than the farthest.
pub const KNN_DIMENSIONS: usize = 10;

/// Finite rows in `f64`, row-major and without gaps.
///
/// - `features`: `[n, d]`, `f32` or `f64`, of any strides
///
/// # Errors
/// [`Error::EmptyShape`] for no dimension, [`Error::NoRows`], and [`Error::NonFinite`] or [`Error::Magnitude`] of the first bad row.
pub(crate) fn checked<T: Element>(features: ArrayView2<'_, T>) -> Result<Array2<f64>, Error> {
    let (n, d) = features.dim();
    if d == 0 {
        return Err(Error::EmptyShape { classes: 1, width: d });
    }
    if n == 0 {
        return Err(Error::NoRows);
    }
    Batch::new(features, &vec![0; n], 1, d)?.check_values()?;
    let values = features.iter().map(|value| value.widen()).collect();
    Ok(Array2::from_shape_vec((n, d), values).unwrap_or_else(|_| Array2::zeros((n, d))))
}

/// Two samples whose rows are pairs, both [`checked`].
///
/// # Errors
/// Those of [`checked`], and [`Error::RowCount`].
pub(crate) fn checked_pairs<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
) -> Result<(Array2<f64>, Array2<f64>), Error> {
    if x.nrows() != y.nrows() {
        return Err(Error::RowCount { left: x.nrows(), right: y.nrows() });
    }
    Ok((checked(x)?, checked(y)?))
}

/// What a look at the rows shows before anything is estimated from them; estimates carry the same counts as flags.
///
/// ```
/// use gpz_estimators::RowReport;
/// use ndarray::array;
///
/// let report = RowReport::of(array![[1.0, 0.0, 3.0], [2.0, 0.0, 3.0], [1.0, 0.0, 3.0]].view())?;
/// assert_eq!(report.constant_columns, [1, 2]);
/// assert_eq!(report.dead_units, [1]);
/// assert_eq!(report.duplicate_rows, 1);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RowReport {
    /// Number of rows.
    pub rows: usize,
    /// Width of a row.
    pub width: usize,
    /// Dimensions that never change, ascending.
    pub constant_columns: Vec<usize>,
    /// Dimensions that are zero in every row, ascending: units that never fire. They are constant as well.
    pub dead_units: Vec<usize>,
    /// Rows that equal an earlier one.
    pub duplicate_rows: u64,
    /// Share of elements that are zero.
    pub zero_fraction: f64,
}

impl RowReport {
    /// Looks at rows.
    ///
    /// - `features`: `[n, d]`, `f32` or `f64`; `8·n` bytes are held beside them
    ///
    /// Equal means equal in value: `0` and `-0` are.
    ///
    /// # Errors
    /// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`].
    pub fn of<T: Element>(features: ArrayView2<'_, T>) -> Result<Self, Error> {
        let (n, d) = features.dim();
        if d == 0 {
            return Err(Error::EmptyShape { classes: 1, width: d });
        }
        if n == 0 {
            return Err(Error::NoRows);
        }
        Batch::new(features, &vec![0; n], 1, d)?.check_values()?;
        let first = features.row(0);
        let zeros = features.iter().filter(|value| value.widen() == 0.0).count();
        let constant_columns = constant_columns(&features);
        let dead = |&j: &usize| first[j].widen() == 0.0;
        let dead_units = constant_columns.iter().copied().filter(dead).collect();
        let compare = |a: &usize, b: &usize| compare_rows(&features, *a, *b);
        let mut order: Vec<usize> = (0..n).collect();
        order.par_sort_unstable_by(compare);
        let equal = |pair: &&[usize]| compare(&pair[0], &pair[1]) == Ordering::Equal;
        let duplicate_rows = order.windows(2).filter(equal).count() as u64;
        let zero_fraction = zeros as f64 / (n * d) as f64;
        Ok(Self { rows: n, width: d, constant_columns, dead_units, duplicate_rows, zero_fraction })
    }
}

/// Order of two rows by their values, first column first.
pub(crate) fn compare_rows<T: Element>(
    features: &ArrayView2<'_, T>,
    a: usize,
    b: usize,
) -> Ordering {
    let pairs = features.row(a).into_iter().zip(features.row(b));
    // Values are finite, so they compare; -0 equals 0, unlike in a total order.
    let mut unequal =
        pairs.filter_map(|(a, b)| a.widen().partial_cmp(&b.widen())).filter(|order| order.is_ne());
    unequal.next().unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_look_at_the_rows_finds_what_is_odd() -> Result<(), Error> {
        let rows = array![[1.0_f32, 0.0, 3.0], [2.0, -0.0, 3.0], [1.0, 0.0, 3.0], [1.0, -0.0, 3.0]];
        let report = RowReport::of(rows.view())?;
        assert_eq!((report.rows, report.width), (4, 3));
        assert_eq!(report.constant_columns, [1, 2]);
        assert_eq!(report.dead_units, [1]);
        assert_eq!(report.duplicate_rows, 2);
        assert_eq!(report.zero_fraction, 4.0 / 12.0);
        Ok(())
    }

    #[test]
    fn rows_that_cannot_be_used_are_named() {
        let bad = array![[1.0, 2.0], [f64::NAN, 2.0]];
        assert!(matches!(checked(bad.view()), Err(Error::NonFinite { row: 1, column: 0, .. })));
        assert!(matches!(RowReport::of(bad.view()), Err(Error::NonFinite { row: 1, .. })));
        assert_eq!(checked(Array2::<f64>::zeros((0, 2)).view()), Err(Error::NoRows));
        assert!(matches!(
            checked(Array2::<f64>::zeros((2, 0)).view()),
            Err(Error::EmptyShape { .. })
        ));
        let (x, y) = (Array2::<f64>::zeros((2, 1)), Array2::<f64>::zeros((3, 1)));
        assert_eq!(checked_pairs(x.view(), y.view()), Err(Error::RowCount { left: 2, right: 3 }));
    }

    #[test]
    fn strides_do_not_matter() -> Result<(), Error> {
        let rows = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        assert_eq!(checked(rows.t())?, rows.t().to_owned());
        assert_eq!(checked(rows.mapv(|v| v as f32).t())?, rows.t().to_owned());
        Ok(())
    }
}
