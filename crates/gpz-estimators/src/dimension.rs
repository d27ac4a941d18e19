//! Intrinsic dimension of rows from the distances to near rows.
//!
//! Rows of width `d` may lie on or near a surface of fewer dimensions. Both estimators assume that within the distances looked at
//! the density is constant and the surface flat. They see the dimension at that scale: noise across the surface counts as soon as
//! rows are near enough to resolve it, and curvature as long as they are not. Both err low by more the larger the dimension is: of
//! 5,000 normal rows TwoNN finds 9.8 dimensions for 10, 17 for 20 and 25 for 32, and Levina and Bickel's, averaged by inverses,
//! 8.9, 15 and 21. Values beyond ten are flagged as [`Flag::HighDimension`].
//!
//! Rows that equal an earlier one are left out, counted by [`Flag::DuplicateRows`] and [`Flag::LeftOut`]: at distance zero there is
//! no ratio of distances. Rounded features have many equal distances, which read as any dimension; [`Flag::Ties`] counts the rows
//! whose neighbours are all equally far.
//!
//! ```
//! use gpz_estimators::{Neighbours, dimension};
//! use ndarray::Array2;
//!
//! // A sheet in five dimensions.
//! let u = |i: usize, step: f64| (i as f64 * step).fract();
//! let rows = Array2::from_shape_fn((2000, 5), |(i, j)| {
//!     let (a, b) = (u(i * i, 0.618_033_988_749_894_9), u(i * i, 0.754_877_666_246_692_7));
//!     [a, b, a + b, a - b, 2.0 * a][j]
//! });
//! let two = dimension::two_nn(rows.view(), Neighbours::default().parts)?.expect("distinct rows");
//! assert!((two.value - 2.0).abs() < 0.3);
//! let average = dimension::Averaging::OfInverses;
//! let local = dimension::levina_bickel(rows.view(), Neighbours::nth(20), average)?.expect("distinct rows");
//! assert!((local.value - 2.0).abs() < 0.3);
//! # Ok::<(), gpz_estimators::Error>(())
//! ```

use ndarray::{Array2, ArrayView2, Axis};

use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::jobs;
use crate::neighbours::{Euclidean, Neighbours, Space, rescale};
use crate::oddities::Oddities;
use crate::parts::deal;
use crate::repeats::first_equal;
use crate::rows::{self, KNN_DIMENSIONS};
use crate::simd::Element;

/// How the local dimensions of Levina and Bickel become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Averaging {
    /// The inverse of the mean inverse, after MacKay and Ghahramani: the maximum of the likelihood of all rows together.
    OfInverses,
    /// The mean, as Levina and Bickel wrote: each local value is unbiased where its assumptions hold, but a few large ones count
    /// for much.
    OfEstimates,
}

/// The dimension by the ratio of the distances to the second and the first neighbour (TwoNN).
///
/// `(n − 1)/Σ_i ln(r₂/r₁)`, the maximum of the likelihood of a Pareto law, made unbiased; no row is discarded for a large ratio.
///
/// - `features`: `[n, d]`, `f32` or `f64`, at least three distinct rows
/// - `parts`: disjoint parts of the rows for the standard error, as [`Neighbours::parts`]
///
/// Bias, failure and flags: see the [module](self). Looks at the smallest scale there is, hence also at that of the noise.
/// Infinite where the two distances are equal for all rows, as on a lattice.
///
/// # Errors
/// Those of every estimator for bad rows. Inside: [`NotIdentifiable::TooFewRows`] with fewer than three distinct rows.
///
/// # Source
/// Facco, d'Errico, Rodriguez and Laio, Scientific Reports 7, 12140 (2017); unbiased form: Denti and others, 2022.
pub fn two_nn<T: Element>(features: ArrayView2<'_, T>, parts: usize) -> Result<Estimated, Error> {
    let options = Neighbours { k: 2, parts };
    estimate(features, options, |rows| {
        let nearest = Space::<Euclidean>::new(rows.view()).nearest(2);
        // Squares: their logarithm is twice as large.
        let logarithms: f64 = nearest.chunks(2).map(|r| (r[1] / r[0]).ln() / 2.0).sum();
        let ties = nearest.chunks(2).filter(|r| r[0] == r[1]).count() as u64;
        ((rows.nrows() - 1) as f64 / logarithms, ties)
    })
}

/// The dimension by Levina and Bickel's likelihood of the distances to `k` neighbours.
///
/// Locally `m_i = (k − 2)/Σ_{j<k} ln(T_k/T_j)`, `T_j` the distance of row `i` to its `j`-th neighbour; `averaging` says how one
/// number is made of them.
///
/// - `features`: `[n, d]`, `f32` or `f64`, more than `k` distinct rows; `options.k` at least 3, often 20
///
/// Bias, failure and flags: see the [module](self). The larger `k`, the smaller the variance and the larger the scale. With the
/// divisor `k − 2` each local value is unbiased where its assumptions hold, and the average of inverses is low by the factor
/// `(k − 2)/(k − 1)`; that is the convention kept here.
///
/// # Errors
/// [`Error::Parameter`] for `k` below 3, [`Error::TooFewRows`] unless there are more than `k` rows, and those of every estimator
/// for bad rows. Inside: [`NotIdentifiable::TooFewRows`] with no more than `k` distinct rows.
///
/// # Source
/// Levina and Bickel, NIPS 2004; MacKay and Ghahramani, comments on it, 2005.
pub fn levina_bickel<T: Element>(
    features: ArrayView2<'_, T>,
    options: Neighbours,
    averaging: Averaging,
) -> Result<Estimated, Error> {
    let k = options.k;
    if k < 3 {
        let rule = "the divisor k − 2 asks for at least 3 neighbours";
        return Err(Error::Parameter { name: "k", value: k as f64, rule });
    }
    options.check(features.nrows())?;
    estimate(features, options, |rows| {
        let nearest = Space::<Euclidean>::new(rows.view()).nearest(k);
        let inverses = nearest.chunks(k).map(|t| {
            let logarithms = t[..k - 1].iter().map(|t_j| (t[k - 1] / t_j).ln() / 2.0);
            logarithms.sum::<f64>() / (k - 2) as f64
        });
        let n = rows.nrows() as f64;
        let value = match averaging {
            Averaging::OfInverses => n / inverses.sum::<f64>(),
            Averaging::OfEstimates => inverses.map(|inverse| 1.0 / inverse).sum::<f64>() / n,
        };
        let ties = nearest.chunks(k).filter(|t| t[0] == t[k - 1]).count() as u64;
        (value, ties)
    })
}

/// What both do: distinct rows, flags, repetitions on parts. `dimension` gives the value and the number of ties.
fn estimate<T: Element>(
    features: ArrayView2<'_, T>,
    options: Neighbours,
    dimension: impl Fn(&Array2<f64>) -> (f64, u64) + Send + Sync,
) -> Result<Estimated, Error> {
    let mut rows = rows::checked(features)?;
    rescale(&mut rows);
    options.check(rows.nrows().max(options.k + 1))?;
    let odd = Oddities::of_columns(&[rows.view()]);
    let first = first_equal(rows.view());
    let distinct: Vec<usize> = (0..rows.nrows()).filter(|&row| first[row] == row).collect();
    let (n, repeats) = (distinct.len(), (rows.nrows() - distinct.len()) as u64);
    if n <= options.k {
        let need = options.k as u64 + 1;
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: n as u64, need }));
    }
    let rows = if repeats > 0 { rows.select(Axis(0), &distinct) } else { rows };
    let ((value, ties), values) = jobs::enter(|| {
        let values = options.parts_of(n).map_or_else(Vec::new, |parts| {
            let on = |part: &Vec<usize>| dimension(&rows.select(Axis(0), part)).0;
            jobs::map(&deal(n, parts), on)
        });
        (dimension(&rows), values)
    });
    Ok(Ok(Estimate::new(value, Kind::Heuristic, n as f64)
        .flag(repeats > 0, Flag::DuplicateRows(repeats))
        .flag(repeats > 0, Flag::LeftOut(repeats))
        .flag(ties > 0, Flag::Ties(ties))
        .odd(&odd)
        .flag(value > KNN_DIMENSIONS as f64, Flag::HighDimension(value.round() as usize))
        .std_err_of_parts(&values)))
}
