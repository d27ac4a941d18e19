//! Fewer dimensions, so that distances say something again.

use std::f64::consts::PI;

use ndarray::{Array2, ArrayView2};

use crate::error::Error;
use crate::estimate::{Estimated, Flag};
use crate::parts::mix;
use crate::rows;
use crate::simd::Element;

/// Rows projected onto fewer dimensions, and the flag that every estimate made from them must carry: [`estimate`](Self::estimate) puts it
/// there.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// The projected rows, `[n, to]`.
    pub rows: Array2<f64>,
    /// [`Flag::Projected`] with both widths.
    pub flag: Flag,
}

impl Projection {
    /// What an estimator says of the projected rows, flagged as being of the projection.
    ///
    /// # Errors
    /// The estimator's.
    ///
    /// ```
    /// use gpz_estimators::{Flag, Neighbours, information::ksg::ksg1_nats, project};
    /// use ndarray::Array2;
    ///
    /// let features = Array2::from_shape_fn((400, 64), |(i, j)| ((i * 64 + j) as f64).sin());
    /// let y = Array2::from_shape_fn((400, 1), |(i, _)| (i as f64 * 0.7).sin());
    /// let direct = ksg1_nats(features.view(), y.view(), Neighbours::default())?.expect("no ties");
    /// assert!(direct.flags.contains(&Flag::HighDimension(65)));
    /// let mi = project(features.view(), 4, 1)?
    ///     .estimate(|rows| ksg1_nats(rows, y.view(), Neighbours::default()))?
    ///     .expect("no ties");
    /// assert!(mi.flags.contains(&Flag::Projected { from: 64, to: 4 }));
    /// assert!(!mi.flags.contains(&Flag::HighDimension(65)));
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    pub fn estimate(
        &self,
        estimator: impl FnOnce(ArrayView2<'_, f64>) -> Result<Estimated, Error>,
    ) -> Result<Estimated, Error> {
        let estimated = estimator(self.rows.view())?;
        Ok(estimated.map(|estimate| estimate.flag_once(true, self.flag.clone())))
    }
}

/// Projects rows orthogonally onto a random subspace: `Q·z`, the rows of `Q` orthonormal, the subspace uniform among all of its
/// dimension and fixed by `seed`.
///
/// - `features`: `[n, d]`, `f32` or `f64`
/// - `to`: dimensions to keep, from 1 to `d`
///
/// What is estimated from the projection is a property of the projection:
/// - **mutual information** with anything is at most that of the features (data processing), so an estimate errs low by what the
///   projection loses, besides its own error;
/// - **entropy** is that of `Q·z`, a density in another number of dimensions. It neither bounds `h(z)` nor compares with one in
///   another number of dimensions;
/// - **dependence** may vanish. Several seeds show how much the subspace matters.
///
/// Scales matter: a random direction sees mostly the dimensions of large variance. Standardise first where units differ.
///
/// # Errors
/// Those of every estimator for bad rows; [`Error::Parameter`] unless `1 ≤ to ≤ d`.
///
/// # Source
/// The subspace is that of a Gaussian matrix, made orthonormal: Eaton 1983, *Multivariate Statistics*, ch. 7.
///
/// ```
/// use gpz_estimators::{Flag, Metric, Neighbours, entropy, project};
/// use ndarray::Array2;
///
/// let features = Array2::from_shape_fn((400, 64), |(i, j)| ((i * 64 + j) as f64).sin());
/// let h = project(features.view(), 4, 1)?
///     .estimate(|rows| entropy::kozachenko_leonenko_nats(rows, Metric::Euclidean, Neighbours::default()))?
///     .expect("no ties");
/// assert!(h.flags.contains(&Flag::Projected { from: 64, to: 4 }));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn project<T: Element>(
    features: ArrayView2<'_, T>,
    to: usize,
    seed: u64,
) -> Result<Projection, Error> {
    let from = features.ncols();
    let rows = rows::checked(features)?;
    if to == 0 || to > from {
        let rule = "a projection keeps at least one dimension and at most all";
        return Err(Error::Parameter { name: "to", value: to as f64, rule });
    }
    let directions = directions(to, from, seed);
    Ok(Projection { rows: rows.dot(&directions.t()), flag: Flag::Projected { from, to } })
}

/// `to` orthonormal rows of width `from`, `to ≤ from`.
fn directions(to: usize, from: usize, seed: u64) -> Array2<f64> {
    let mut counter = mix(seed);
    let mut next = || {
        counter = counter.wrapping_add(1);
        // In (0, 1], so that its logarithm is finite.
        ((mix(counter) >> 11) as f64 + 1.0) * 2.0_f64.powi(-53)
    };
    let mut normal = || (-2.0 * next().ln()).sqrt() * (2.0 * PI * next()).cos();
    let mut directions = Array2::zeros((to, from));
    for i in 0..to {
        let (done, mut rest) = directions.view_mut().split_at(ndarray::Axis(0), i);
        let mut row = rest.row_mut(0);
        // Twice: once leaves what cancellation left. A row that lies within the others' span has probability zero and is redrawn.
        loop {
            row.mapv_inplace(|_: f64| normal());
            let drawn = row.dot(&row).sqrt();
            for _ in 0..2 {
                for other in done.rows() {
                    let share = other.dot(&row);
                    row.scaled_add(-share, &other);
                }
            }
            let length = row.dot(&row).sqrt();
            if length > 1e-9 * drawn {
                row /= length;
                break;
            }
        }
    }
    directions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_orthonormal_and_follow_from_the_seed() {
        for (to, from) in [(1, 1), (3, 200), (20, 20)] {
            let q = directions(to, from, 7);
            let gram = q.dot(&q.t());
            assert!((&gram - &Array2::<f64>::eye(to)).iter().all(|error| error.abs() < 1e-13));
            assert_eq!(q, directions(to, from, 7));
            assert!(from == 1 || q != directions(to, from, 8));
        }
    }

    #[test]
    fn more_dimensions_than_there_are_is_an_error() {
        let rows = Array2::<f64>::zeros((3, 2));
        for to in [0, 3] {
            assert!(matches!(
                project(rows.view(), to, 0),
                Err(Error::Parameter { name: "to", .. })
            ));
        }
    }
}
