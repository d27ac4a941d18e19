//! Differential entropy from the distances to near rows.

use std::f64::consts::PI;

use ndarray::{ArrayView2, Axis};
use statrs::function::gamma::ln_gamma;

use crate::digamma::Digamma;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind};
use crate::jobs;
use crate::neighbours::{Euclidean, MaxNorm, Metric, Neighbours, Norm, Space, rescale};
use crate::oddities::{Oddities, rank};
use crate::parts::deal;
use crate::rows::{self, KNN_DIMENSIONS};
use crate::simd::Element;

/// Kozachenko and Leonenko's estimate of the differential entropy `h(Z)`, in nats.
///
/// `ψ(n) − ψ(k) + ln V_d + (d/n)·Σ_i ln ε_i`, `ε_i` the distance of row `i` to its `k`-th neighbour, `V_d` the volume of the unit
/// ball: `π^(d/2)/Γ(d/2 + 1)` for the Euclidean norm, `2^d` for the maximum norm.
///
/// - `features`: `[n, d]`, `f32` or `f64`, `n > k`; 32·n·d bytes are held beside them
///
/// # Bias
/// Assumes a density that is constant within `ε_i` of each row. At the edge of a sharp support the ball reaches outside, and the
/// estimate is high: for 5,000 uniform rows in a cube of 3, 5, 10 and 20 dimensions by 0.08, 0.36, 1.4 and 4.4 nats. For as many
/// normal rows it is within 0.1 nats up to ten dimensions, and high by 0.3 in 16 and 2.6 in 32. More than ten are flagged as
/// [`Flag::HighDimension`]; [`Projection::estimate`](crate::Projection::estimate) offers a way out. Scaling by `a` adds exactly
/// `d·ln|a|`; rotations change the Euclidean form by rounding alone.
///
/// The standard error is that of the variance alone, from the values on disjoint parts of the rows, with as many degrees of freedom
/// as parts less one. A bootstrap would draw rows twice, and those are neighbours at distance zero.
///
/// # Failure
/// `-inf`, with [`Flag::DegenerateSupport`], where no density exists: a constant column, columns that depend on each other
/// linearly (looked for up to 64 of them), or `k + 1` equal rows. Rows with an equal one are counted by [`Flag::Ties`]: rounded
/// features, such as those of bfloat16, have no density, and what comes out says how they were rounded. Rows on a curved surface
/// have none either; it is not noticed here, and the value falls without end as rows are added:
/// see [`dimension`](crate::dimension).
///
/// # Errors
/// [`Error::TooFewRows`] unless `n > k`, [`Error::Parameter`] for `k = 0`, and those of every estimator for bad rows.
///
/// # Source
/// Kozachenko and Leonenko 1987; in this form Kraskov, Stögbauer and Grassberger 2004, equation 20.
///
/// ```
/// use gpz_estimators::{Metric, Neighbours, entropy::kozachenko_leonenko_nats};
/// use ndarray::Array2;
///
/// // Evenly spread over [0, 2): h = ln 2.
/// let rows = Array2::from_shape_fn((2000, 1), |(i, _)| (i as f64 * 0.618_033_988_749_894_9).fract() * 2.0);
/// let h = kozachenko_leonenko_nats(rows.view(), Metric::Euclidean, Neighbours::default())?.expect("an estimate");
/// assert!((h.value - 2.0_f64.ln()).abs() < 0.3);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn kozachenko_leonenko_nats<T: Element>(
    features: ArrayView2<'_, T>,
    metric: Metric,
    options: Neighbours,
) -> Result<Estimated, Error> {
    jobs::enter(|| estimate(features, metric, options))
}

fn estimate<T: Element>(
    features: ArrayView2<'_, T>,
    metric: Metric,
    options: Neighbours,
) -> Result<Estimated, Error> {
    let mut rows = rows::checked(features)?;
    let (n, d) = rows.dim();
    options.check(n)?;
    let exponent = rescale(&mut rows);
    let odd = Oddities::of_columns(&[rows.view()]);
    let rank = if odd.constant == 0 { rank(rows.view()) } else { d };

    let (value, ties) = entropy_of(rows.view(), metric, options.k);
    let degenerate = odd.constant > 0 || rank < d || value == f64::NEG_INFINITY;
    let value =
        if degenerate { f64::NEG_INFINITY } else { value - d as f64 * exponent * 2.0_f64.ln() };
    let estimate = Estimate::new(value, Kind::Heuristic, n as f64)
        .flag(degenerate, Flag::DegenerateSupport)
        .odd(&odd)
        .flag(rank < d, Flag::RankDeficient { rank, width: d })
        .flag(ties > 0, Flag::Ties(ties))
        .flag(d > KNN_DIMENSIONS, Flag::HighDimension(d));
    let parts = options.parts_of(n).filter(|_| !degenerate);
    let values: Vec<f64> = parts.map_or_else(Vec::new, |parts| {
        jobs::map(&deal(n, parts), |part| {
            entropy_of(rows.select(Axis(0), part).view(), metric, options.k).0
        })
    });
    Ok(Ok(estimate.std_err_of_parts(&values)))
}

/// The estimate, and the number of rows that equal another.
fn entropy_of(rows: ArrayView2<'_, f64>, metric: Metric, k: usize) -> (f64, u64) {
    let d = rows.ncols() as f64;
    match metric {
        Metric::Euclidean => {
            let ball = d / 2.0 * PI.ln() - ln_gamma(d / 2.0 + 1.0);
            entropy_in::<Euclidean>(rows, k, ball)
        }
        Metric::Maximum => entropy_in::<MaxNorm>(rows, k, d * 2.0_f64.ln()),
    }
}

fn entropy_in<M: Norm>(rows: ArrayView2<'_, f64>, k: usize, ln_ball: f64) -> (f64, u64) {
    let (n, d) = rows.dim();
    let nearest = Space::<M>::new(rows).nearest(k);
    let ties = nearest.chunks(k).filter(|found| found[0] == 0.0).count() as u64;
    let logarithms: f64 = nearest.chunks(k).map(|found| found[k - 1].ln()).sum();
    let digamma = Digamma::up_to(n);
    let value =
        digamma.of(n) - digamma.of(k) + ln_ball + d as f64 * (logarithms / M::POWER / n as f64);
    (value, ties)
}
