//! Covariances shrunk towards a multiple of the identity.
//!
//! Everything needed of `S` follows from its eigenvalues and from the rows' lengths, so that with `D > N` the `N × N` Gram matrix is
//! enough and a `D × D` array is never made: the remaining `D − N` eigenvalues of the shrunk covariance are all `a μ`.

use ndarray::ArrayView2;

use crate::entropy::isotropic_gaussian_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Flag, Kind, NotIdentifiable};
use crate::gram::Sample;
use crate::lapack;
use crate::simd::Element;

/// A shrunk covariance by its summary numbers: `Σ̂ = (1 − a) S + a μ I`, with `S` the covariance of the divisor `N` and `μ = tr S/D`.
///
/// Made by [`ledoit_wolf`] or [`oas`], also of more dimensions than rows: a `D × D` array is never made then.
///
/// **Bias and failure.** Shrinking pulls eigenvalues together, which raises the log-determinant; the sample's spread lowered it before.
/// Neither cancels the other in general. With `D ≫ N` the value is mostly `(D − N) ln(a μ)`: it says what the shrinkage is, and hardly
/// anything of the covariance. Rotations change nothing; scaling single columns does: standardise where units differ.
///
/// **No standard error**: the weight depends on the rows as the eigenvalues do, and no formula holds without the population's
/// spectrum. [`grouped_jackknife`](crate::grouped_jackknife) gives one for as many further factorisations as there are groups.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Shrunk {
    /// `a`, the weight of the identity, in `[0, 1]`.
    pub shrinkage: f64,
    /// `μ`, the mean variance of a dimension, divisor `N`.
    pub mean_variance: f64,
    /// `ln det Σ̂`, in nats of squared feature units.
    pub log_det: Estimate,
    /// `½ ln det(2πe Σ̂)`, in nats.
    pub entropy: Estimate,
}

/// What a shrinkage function returns: bad input is an error, rows without variance are not.
pub type Shrinkage = Result<Result<Shrunk, NotIdentifiable>, Error>;

/// Ledoit and Wolf's shrinkage: the weight with the least expected squared error, estimated without assuming a law.
///
/// `a = min(β, δ)/δ`, `δ = ‖S − μI‖²/D`, `β = (Σ_k ‖x_k‖⁴/N − ‖S‖²)/(D N)`, with centred rows `x_k`: scikit-learn's convention.
///
/// - `features`: `[n, d]`; `8·min(n, d)²` bytes and blocks of 32 MiB are held beside them
///
/// Bias and failure of what follows: see [`Shrunk`]. The weight itself is consistent as rows and dimensions grow in proportion. Two rows give no shrinkage at all, and `-inf`: by this estimate their covariance is known without error.
///
/// ```
/// use gpz_estimators::gaussian;
/// use ndarray::array;
///
/// // Three rows of five dimensions: their covariance has no inverse, the shrunk one does.
/// let rows = array![[1.0, 0.0, 2.0, 0.5, 1.0], [0.0, 1.0, 1.0, 2.5, 1.5], [0.3, 0.2, 1.4, 0.1, 0.9]];
/// let shrunk = gaussian::ledoit_wolf(rows.view())?.expect("rows that differ");
/// assert!((0.0..=1.0).contains(&shrunk.shrinkage) && shrunk.log_det.value.is_finite());
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`], [`Error::Factorisation`]. Inside:
/// [`NotIdentifiable::NoVariance`] where all rows are equal.
///
/// # Source
/// Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004.
pub fn ledoit_wolf<T: Element>(features: ArrayView2<'_, T>) -> Shrinkage {
    let sample = Sample::of(features)?;
    shrunk(&sample, |parts| {
        let fourth: f64 = sample.row_squares().iter().map(|square| square * square).sum();
        // Of two rows it is zero exactly, and what rounding leaves of it must not decide a determinant.
        let excess = fourth / parts.n - parts.squares;
        let rounding = parts.n.max(parts.d) * f64::EPSILON * parts.squares;
        let some = parts.n > 2.0 && excess > rounding;
        let beta = if some { excess / parts.d / parts.n } else { 0.0 };
        let delta = parts.spread / parts.d;
        // One dimension has nothing to shrink towards but itself.
        if parts.d == 1.0 || delta == 0.0 { 0.0 } else { beta.min(delta) / delta }
    })
}

/// Chen, Wiesel, Eldar and Hero's shrinkage, which approximates the best weight for Gaussian rows (OAS).
///
/// `a = min(1, ((1 − 2/D) tr S² + (tr S)²) / ((N + 1 − 2/D)(tr S² − (tr S)²/D)))`, equation 23 of the source. scikit-learn leaves the
/// two terms `2/D` out, which matters at few dimensions only.
///
/// - `features`: `[n, d]`; memory as [`ledoit_wolf`]
///
/// Bias and failure of what follows: see [`Shrunk`]. For Gaussian rows the weight errs less than Ledoit and Wolf's where rows are few;
/// heavier tails want theirs.
///
/// ```
/// use gpz_estimators::gaussian;
/// use ndarray::array;
///
/// // tr S = 1 and tr S² = 1/2: an identity already, so that all weight may lie on it.
/// let rows = array![[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]];
/// let shrunk = gaussian::oas(rows.view())?.expect("rows that differ");
/// assert_eq!(shrunk.shrinkage, 1.0);
/// assert!((shrunk.log_det.value - 2.0 * 0.5_f64.ln()).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// As [`ledoit_wolf`].
///
/// # Source
/// Chen, Wiesel, Eldar and Hero, Shrinkage algorithms for MMSE covariance estimation, 2010.
pub fn oas<T: Element>(features: ArrayView2<'_, T>) -> Shrinkage {
    let sample = Sample::of(features)?;
    shrunk(&sample, |Parts { n, d, trace, squares, spread }| {
        let above = (1.0 - 2.0 / d) * squares + trace * trace;
        let below = (n + 1.0 - 2.0 / d) * spread;
        if *d == 1.0 {
            0.0
        } else if below > 0.0 {
            (above / below).min(1.0)
        } else {
            1.0
        }
    })
}

/// Sums over all `D` eigenvalues of `S`.
struct Parts {
    n: f64,
    d: f64,
    trace: f64,
    /// `tr S²`.
    squares: f64,
    /// `Σ (λ − μ)²`.
    spread: f64,
}

fn shrunk<T: Element>(sample: &Sample<'_, T>, weight: impl Fn(&Parts) -> f64) -> Shrinkage {
    let (rows, width) = (sample.rows(), sample.width());
    let (n, d) = (rows as f64, width as f64);
    let eigenvalues: Vec<f64> = lapack::eigenvalues(&sample.smaller_side(None), rows, width)?
        .into_iter()
        .map(|value| value.max(0.0) / n)
        .collect();
    let trace: f64 = sample.squares().iter().sum::<f64>() / n;
    let mean = trace / d;
    if mean == 0.0 {
        return Ok(Err(NotIdentifiable::NoVariance));
    }
    let zeros = (width - eigenvalues.len()) as f64;
    let squares = eigenvalues.iter().map(|value| value * value).sum();
    let spread =
        eigenvalues.iter().map(|value| (value - mean).powi(2)).sum::<f64>() + zeros * mean * mean;
    let shrinkage = weight(&Parts { n, d, trace, squares, spread });
    // Zero times an infinite logarithm is no number.
    let rest = if zeros > 0.0 { zeros * (shrinkage * mean).ln() } else { 0.0 };
    let mixed = eigenvalues.iter().map(|value| ((1.0 - shrinkage) * value + shrinkage * mean).ln());
    let odd = sample.oddities();
    let rank = lapack::rank(&eigenvalues, rows, width).min(rows - 1);
    // Of a covariance that is not shrunk, what rounding leaves in place of a zero is no variance.
    let degenerate = shrinkage == 0.0 && rank < width;
    let value = if degenerate { f64::NEG_INFINITY } else { mixed.sum::<f64>() + rest };
    let estimate = |value| {
        Estimate::new(value, Kind::Heuristic, n)
            .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
            .odd(&odd)
            .flag(rank < width, Flag::RankDeficient { rank, width })
    };
    let entropy = isotropic_gaussian_nats(width, 1.0) + 0.5 * value;
    Ok(Ok(Shrunk {
        shrinkage,
        mean_variance: mean,
        log_det: estimate(value),
        entropy: estimate(entropy).flag(true, Flag::PlugInOfUpperBound),
    }))
}
