//! Mutual information of jointly Gaussian variables (feature `lapack`). In nats.
//!
//! `I = ½ (ln det Σ_x + ln det Σ_y − ln det Σ_xy)`, also `−½ Σ ln(1 − ρ_i²)` over the canonical correlations.
//!
//! Right for jointly Gaussian variables. Otherwise it sees linear dependence only and may err either way: `y = x²` gives zero, a
//! sample with heavy tails too much. No choice of the joint law given the covariance makes it a bound, unless both margins are
//! Gaussian: then it is at most the truth.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};

use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, Uncertainty};
use crate::gaussian::log_det_bias;
use crate::gram::Sample;
use crate::lapack;
use crate::rows::checked_pairs;
use crate::simd::Element;

/// `½ (ln det S_x + ln det S_y − ln det S_xy)`, the sample's covariances as they are, in nats.
///
/// - `x`: `[n, p]`, `y`: `[n, q]`, rows in pairs; scales do not matter
///
/// **Bias**: high by about `p·q/(2n)`; see [`mi_corrected_nats`]. **Standard error**: `√(Σ ρ_i²/n + pq/(2n²))`, of Gaussian rows, the
/// sum less the `pq/n` that it is by chance.
/// `+inf` and flagged where an exact linear relation joins x and y.
///
/// ```
/// use gpz_estimators::information::gaussian;
/// use ndarray::array;
///
/// let x = array![[1.0], [2.0], [3.0], [4.0]];
/// let y = array![[1.0], [3.0], [2.0], [4.0]];
/// let mi = gaussian::mi_plugin_nats(x.view(), y.view())?.expect("four pairs");
/// assert!((mi.value + 0.5 * (1.0 - 0.8_f64.powi(2)).ln()).abs() < 1e-14); // a correlation of 0.8
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::RowCount`], [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`],
/// [`Error::Factorisation`]. Inside: [`NotIdentifiable::TooFewRows`] unless `n > p + q`, [`NotIdentifiable::Singular`] if x alone or
/// y alone has a constant or linearly dependent column.
///
/// # Source
/// Cover and Thomas, Elements of Information Theory, chapter 8; the error by the delta method from Anderson, An Introduction to
/// Multivariate Statistical Analysis, on canonical correlations.
pub fn mi_plugin_nats<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
) -> Result<Estimated, Error> {
    mutual(x, y, false)
}

/// [`mi_plugin_nats`] less its exact bias for Gaussian rows, by the three Wishart log-determinants. In nats.
///
/// Unbiased for jointly Gaussian rows, so that independent ones are negative half of the time; not clipped.
///
/// Shapes, standard error, errors and failure as there.
///
/// ```
/// use gpz_estimators::{gaussian::log_det_bias, information::gaussian};
/// use ndarray::array;
///
/// let (x, y) = (array![[1.0], [2.0], [3.0], [4.0]], array![[1.0], [3.0], [2.0], [4.0]]);
/// let plugin = gaussian::mi_plugin_nats(x.view(), y.view())?.expect("four pairs");
/// let corrected = gaussian::mi_corrected_nats(x.view(), y.view())?.expect("four pairs");
/// let bias = 0.5 * (2.0 * log_det_bias(1, 3) - log_det_bias(2, 3));
/// assert!((plugin.value - corrected.value - bias).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// As [`mi_plugin_nats`].
///
/// # Source
/// As [`log_det_bias`].
pub fn mi_corrected_nats<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
) -> Result<Estimated, Error> {
    mutual(x, y, true)
}

/// `I(x; Ax + ε) = ½ ln det(I + A Σ Aᵀ/σ²)` of a known linear map and a known Gaussian `x`, in nats. Exact.
///
/// - `map`: `A`, `[m, d]`; `covariance`: `Σ` of x, `[d, d]`, symmetric; `noise_variance`: `σ²` of each of the m outputs
///
/// For any `x` of this covariance it is the most that it can be (Gaussian inputs fill a Gaussian channel). No rows stand behind it.
///
/// ```
/// use gpz_estimators::information::gaussian::linear_channel_nats;
/// use ndarray::array;
///
/// let mi = linear_channel_nats(array![[2.0]].view(), array![[1.0]].view(), 4.0)?; // signal and noise alike
/// assert!((mi.value - 0.5 * 2.0_f64.ln()).abs() < 1e-15 && mi.n_effective == 0.0);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`], [`Error::Parameter`] for a noise variance that is not positive or a covariance with a negative eigenvalue,
/// [`Error::NonFinite`], [`Error::EmptyShape`], [`Error::NoRows`], [`Error::Factorisation`].
///
/// # Source
/// Cover and Thomas, Elements of Information Theory, section 9.4.
pub fn linear_channel_nats(
    map: ArrayView2<'_, f64>,
    covariance: ArrayView2<'_, f64>,
    noise_variance: f64,
) -> Result<Estimate, Error> {
    let (m, d) = map.dim();
    if covariance.dim() != (d, d) {
        let found = covariance.shape().to_vec();
        return Err(Error::Shape { what: "the covariance of x", found, expected: vec![d, d] });
    }
    if !(noise_variance > 0.0 && noise_variance.is_finite()) {
        let rule = "without noise of a positive variance the information is infinite";
        return Err(Error::Parameter { name: "noise variance", value: noise_variance, rule });
    }
    let (map, covariance) = (crate::rows::checked(map)?, crate::rows::checked(covariance)?);
    // The root of Σ, so that the matrix whose eigenvalues are taken is symmetric.
    let (values, vectors) = lapack::eigen(&covariance, d, d)?;
    let largest = values.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    if let Some(&value) = values.iter().find(|&&value| value < -1e-9 * largest) {
        let rule = "a covariance has none below zero";
        return Err(Error::Parameter { name: "an eigenvalue of the covariance", value, rule });
    }
    let root = &vectors * &values.mapv(|value| value.max(0.0).sqrt());
    let signal = map.dot(&root);
    let gram = if m <= d { signal.dot(&signal.t()) } else { signal.t().dot(&signal) };
    let eigenvalues = lapack::eigenvalues(&gram, m, d)?;
    let value =
        eigenvalues.iter().map(|value| 0.5 * (value.max(0.0) / noise_variance).ln_1p()).sum();
    Ok(Estimate::new(value, Kind::Exact, 0.0))
}

fn mutual<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
    correct: bool,
) -> Result<Estimated, Error> {
    let (x, y) = checked_pairs(x, y)?;
    let (n, p, q) = (x.nrows(), x.ncols(), y.ncols());
    let width = p + q;
    if n <= width {
        let need = width as u64 + 1;
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: n as u64, need }));
    }
    let shape = |found: ndarray::ShapeError| Error::Factorisation {
        rows: n,
        width,
        reason: found.to_string(),
    };
    let joint = concatenate(Axis(1), &[x.view(), y.view()]).map_err(shape)?;
    let sample = Sample::of(joint.view())?;
    let odd = sample.oddities();
    let correlation = sample.scatter(Some(&sample.unit_weights()));
    let mut whiten = Vec::new();
    for (what, columns) in [("covariance of x", 0..p), ("covariance of y", p..width)] {
        let own = correlation.slice(s![columns.clone(), columns.clone()]).to_owned();
        let (values, vectors) = lapack::eigen(&own, n, columns.len())?;
        let rank = lapack::rank(&values.to_vec(), n, columns.len());
        if rank < columns.len() {
            let mend = "leave out constant and linearly dependent columns";
            let width = columns.len();
            return Ok(Err(NotIdentifiable::Singular { what, rank, width, mend }));
        }
        whiten.push((values, vectors));
    }
    let cross = correlation.slice(s![..p, p..]).to_owned();
    let canonical = whitened(&whiten[0]).t().dot(&cross).dot(&whitened(&whiten[1]));
    // Σ ρ_i².
    let explained: f64 = canonical.iter().map(|value| value * value).sum();
    let all = lapack::eigenvalues(&correlation, n, width)?;
    let rank = lapack::rank(&all, n, width);
    let (rows, pairs) = (n as f64, (p * q) as f64);
    if rank < width {
        return Ok(Ok(Estimate::new(f64::INFINITY, Kind::Heuristic, rows)
            .flag(true, Flag::DegenerateSupport)
            .flag(true, Flag::RankDeficient { rank, width })
            .odd(&odd)));
    }
    let log_det = |values: &[f64]| values.iter().map(|value| value.ln()).sum::<f64>();
    let mut value =
        0.5 * (log_det(&whiten[0].0.to_vec()) + log_det(&whiten[1].0.to_vec()) - log_det(&all));
    if correct {
        let degrees = n as u64 - 1;
        let bias = |width| log_det_bias(width, degrees);
        value -= 0.5 * (bias(p) + bias(q) - bias(width));
    }
    // Of independent rows it is pq/n by chance alone.
    let beyond_chance = (explained - pairs / rows).max(0.0);
    let std_err = (beyond_chance / rows + pairs / (2.0 * rows * rows)).sqrt();
    Ok(Ok(Estimate::new(value, Kind::Heuristic, rows)
        .std_err(std_err, Uncertainty::Formula)
        .flag(true, Flag::AssumesGaussian)
        .odd(&odd)))
}

/// Columns that turn a correlation matrix into the identity.
fn whitened((values, vectors): &(Array1<f64>, Array2<f64>)) -> Array2<f64> {
    vectors / &values.mapv(f64::sqrt)
}
