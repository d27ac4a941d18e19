//! What rows show that every estimate made from them says: columns that never change, units that never fire, rows that repeat.

use ndarray::ArrayView2;

use crate::estimate::{Estimate, Flag};
use crate::geometry::ClassGeometry;
use crate::repeats::repeated;
use crate::simd::Element;

/// Widths up to which linear dependence of the columns is looked for: it costs `n·d²` operations.
const DEPENDENCE_WIDTH: usize = 64;

/// How many columns and rows are odd, over one sample or over two side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Oddities {
    /// Columns that never change.
    pub(crate) constant: usize,
    /// Those of them that are zero.
    dead: usize,
    /// Rows that equal an earlier one.
    duplicates: u64,
}

impl Oddities {
    /// Columns and rows of samples with as many rows each, none empty.
    pub(crate) fn of<T: Element>(samples: &[ArrayView2<'_, T>]) -> Self {
        Self { duplicates: repeated(samples), ..Self::of_columns(samples) }
    }

    /// Columns only, for estimators that count equal rows as [`Flag::Ties`].
    pub(crate) fn of_columns<T: Element>(samples: &[ArrayView2<'_, T>]) -> Self {
        let mut odd = Self::default();
        for sample in samples {
            let constant = constant_columns(sample);
            odd.dead += constant.iter().filter(|&&j| sample[[0, j]].widen() == 0.0).count();
            odd.constant += constant.len();
        }
        odd
    }

    /// What moments can tell: nothing of rows that repeat.
    pub(crate) fn of_moments(geometry: &ClassGeometry) -> Self {
        let constant = geometry.constant_dimensions();
        let dead = constant.iter().filter(|&&j| geometry.mean()[j] == 0.0).count();
        Self { constant: constant.len(), dead, duplicates: 0 }
    }
}

impl Estimate {
    /// With a flag for each kind of oddity that there is; those it has already stay single.
    pub(crate) fn odd(self, odd: &Oddities) -> Self {
        let Oddities { constant, dead, duplicates } = *odd;
        self.flag_once(constant > 0, Flag::ConstantDimensions(constant))
            .flag_once(dead > 0, Flag::DeadUnits(dead))
            .flag_once(duplicates > 0, Flag::DuplicateRows(duplicates))
    }
}

/// Columns that never change, ascending; there must be a row.
pub(crate) fn constant_columns<T: Element>(rows: &ArrayView2<'_, T>) -> Vec<usize> {
    let first = rows.row(0);
    let mut constant: Vec<usize> = (0..rows.ncols()).collect();
    for row in rows.rows() {
        constant.retain(|&j| row[j].widen() == first[j].widen());
        if constant.is_empty() {
            break;
        }
    }
    constant
}

/// Numerical rank of the columns about their mean: the whole width where it was not looked at, because it is too large or the
/// rows are too few to tell.
pub(crate) fn rank(rows: ArrayView2<'_, f64>) -> usize {
    let (n, d) = rows.dim();
    if d == 1 || d > DEPENDENCE_WIDTH || n <= d {
        return d;
    }
    let mut columns: Vec<Vec<f64>> = rows
        .columns()
        .into_iter()
        .map(|column| {
            let mean = column.iter().map(|v| v - column[0]).sum::<f64>() / n as f64;
            column.iter().map(|v| v - column[0] - mean).collect()
        })
        .collect();
    let length = |column: &[f64]| column.iter().map(|v| v * v).sum::<f64>().sqrt();
    for column in &mut columns {
        let length = length(column);
        column.iter_mut().for_each(|v| *v /= length);
    }
    // Gram and Schmidt, the longest rest next.
    for done in 0..d {
        let lengths: Vec<f64> = columns[done..].iter().map(|column| length(column)).collect();
        let longest =
            (0..lengths.len()).fold(0, |a, b| if lengths[b] > lengths[a] { b } else { a });
        // What rounding leaves of a column that depends on others.
        if lengths[longest] <= 1e-13 * d as f64 {
            return done;
        }
        columns.swap(done, done + longest);
        let (taken, rest) = columns.split_at_mut(done + 1);
        let taken = &mut taken[done];
        taken.iter_mut().for_each(|v| *v /= lengths[longest]);
        for column in rest {
            let share: f64 = taken.iter().zip(column.iter()).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(taken.iter()).for_each(|(v, t)| *v -= share * t);
        }
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn each_oddity_is_counted_and_said_once() {
        let x = array![[1.0, 0.0, 3.0], [2.0, -0.0, 3.0], [1.0, 0.0, 3.0]];
        let y = array![[5.0], [6.0], [7.0]];
        let alone = Oddities { constant: 2, dead: 1, duplicates: 1 };
        assert_eq!(Oddities::of(&[x.view()]), alone);
        // As pairs the rows differ.
        assert_eq!(Oddities::of(&[x.view(), y.view()]), Oddities { duplicates: 0, ..alone });
        let estimate = Estimate::new(0.0, crate::Kind::Heuristic, 3.0);
        let flags = [Flag::ConstantDimensions(2), Flag::DeadUnits(1), Flag::DuplicateRows(1)];
        assert_eq!(estimate.odd(&alone).odd(&alone).flags, flags);
    }
}
