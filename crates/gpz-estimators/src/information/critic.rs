//! Lower bounds of mutual information from a critic's scores, in nats.
//!
//! A critic `f(x, y)` was trained elsewhere. Its scores on a batch of `B` independent pairs that it was **not** trained on are a
//! matrix `f_ij = f(x_i, y_j)`: joint draws on the diagonal, products of marginals off it. Scored on its own training pairs, each
//! value below is too high, and the numbers cannot show it.
//!
//! ```
//! use gpz_estimators::{Flag, information::critic};
//! use ndarray::Array2;
//!
//! // A critic that tells the pairs of a batch of eight apart: InfoNCE can say ln 8 and no more.
//! let scores = Array2::<f64>::eye(8) * 50.0;
//! let bound = critic::infonce_nats(scores.view())??;
//! assert!((bound.value - 8.0_f64.ln()).abs() < 1e-12);
//! assert!(bound.flags.contains(&Flag::Saturated));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use ndarray::{Array2, ArrayView2};

use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, Uncertainty};
use crate::rows::checked;
use crate::simd::Element;

/// `mean_i [f_ii − ln mean_j exp f_ij]`, in nats; [`Kind::Lower`] in expectation, and at most `ln B`.
///
/// - `scores`: `[B, B]`; row `i` holds the scores of `x_i` against each `y_j`, its own in the mean
///
/// Within 5 % of `ln B` it is flagged [`Flag::Saturated`]: the information may be anything above. The standard error is the spread of
/// the rows' terms, which share the `y_j` and so are nearly independent. Besides what the critic lacks it is low by the more the nearer the
/// truth is to `ln B`. For an example see the [module](self).
///
/// # Errors
/// [`Error::Shape`] unless square; [`Error::NonFinite`], [`Error::NoRows`]. Inside: [`NotIdentifiable::TooFewRows`] below two pairs.
///
/// # Source
/// van den Oord, Li, Vinyals, arXiv 1807.03748; the bound: Poole et al., arXiv 1905.06922.
pub fn infonce_nats<T: Element>(scores: ArrayView2<'_, T>) -> Result<Estimated, Error> {
    let scores = square(scores)?;
    let b = scores.nrows();
    if b < 2 {
        return Ok(Err(too_few(b)));
    }
    let count = b as f64;
    let term = |(i, row): (usize, ndarray::ArrayView1<'_, f64>)| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|score| (score - most).exp()).sum();
        row[i] - most - (sum / count).ln()
    };
    let terms: Vec<f64> = scores.rows().into_iter().enumerate().map(term).collect();
    let mean = terms.iter().sum::<f64>() / count;
    let spread: f64 = terms.iter().map(|term| (term - mean).powi(2)).sum();
    Ok(Ok(Estimate::new(mean, Kind::Lower, count)
        .flag(true, Flag::InExpectation)
        .ceiling(count.ln())
        .std_err((spread / (count - 1.0) / count).sqrt(), Uncertainty::SpreadOfTerms)))
}

/// Nguyen, Wainwright and Jordan's bound with `T = 1 + f`: `mean_i T_ii − mean_{i≠j} exp(T_ij − 1)`, in nats; [`Kind::Lower`] in
/// expectation.
///
/// - `scores`: `[B, B]`; best where `f` is the log density ratio
///
/// Both means are unbiased, so for a critic fixed beforehand the value is at most the information on average. Its variance grows
/// like `e^I`: [`Flag::HeavyTail`] says that the exponentials weigh as little as fewer than `B` equal ones would, and `-inf` that
/// they overflow. Standard error by the jackknife over pairs.
///
/// The formula has no ceiling, yet no lower bound that holds for every law can show more than about `ln B` from `B` pairs with any
/// confidence: scores of rare pairs, which decide the exponentials' mean, are not among them. `ln B` stands as the
/// [ceiling](field@Estimate::ceiling), and a value near it or beyond is [`Flag::Saturated`]: it is on average right and in this sample worth
/// little.
///
/// ```
/// use gpz_estimators::information::critic::nwj_nats;
/// use ndarray::Array2;
///
/// // A critic that says nothing, f = 0: 1 + 0 − e⁰.
/// assert_eq!(nwj_nats(Array2::<f64>::zeros((8, 8)).view())??.value, 0.0);
/// // Twice as much on the diagonal, with the density ratio at ln 2: 1 + ln 2 − 1.
/// let scores = Array2::from_shape_fn((8, 8), |(i, j)| if i == j { 2.0_f64.ln() } else { 0.0 });
/// assert!((nwj_nats(scores.view())??.value - 2.0_f64.ln()).abs() < 1e-15);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`infonce_nats`].
///
/// # Source
/// Nguyen, Wainwright, Jordan, arXiv 0809.0853; Poole et al., arXiv 1905.06922; McAllester and Stratos, arXiv 1811.04251, for `ln B`.
pub fn nwj_nats<T: Element>(scores: ArrayView2<'_, T>) -> Result<Estimated, Error> {
    off_diagonal(scores, Kind::Lower, |diagonal, shift, mean| {
        1.0 + diagonal - (mean.ln() + shift).exp()
    })
}

/// Donsker and Varadhan's formula on one batch, as MINE has it: `mean_i f_ii − ln mean_{i≠j} exp f_ij`, in nats.
///
/// - `scores`: `[B, B]`
///
/// With the expectation inside the logarithm it would bound the information from below. The mean of a batch stands there instead,
/// and `E[−ln mean] ≥ −ln E[mean]`: on average the value exceeds that bound, and may exceed the information. It is no bound:
/// [`Kind::Heuristic`]. [`Flag::HeavyTail`], the ceiling `ln B` and [`Flag::Saturated`] as for [`nwj_nats`]; standard error by the jackknife
/// over pairs.
///
/// ```
/// use gpz_estimators::{Flag, information::critic::donsker_varadhan_nats};
/// use ndarray::Array2;
///
/// // Scores of 50 on the diagonal alone give 50, of which eight pairs can show ln 8.
/// let value = donsker_varadhan_nats((Array2::<f64>::eye(8) * 50.0).view())??;
/// assert!((value.value - 50.0).abs() < 1e-13 && value.flags.contains(&Flag::Saturated));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`infonce_nats`].
///
/// # Source
/// Belghazi et al., arXiv 1801.04062; McAllester and Stratos, arXiv 1811.04251.
pub fn donsker_varadhan_nats<T: Element>(scores: ArrayView2<'_, T>) -> Result<Estimated, Error> {
    off_diagonal(scores, Kind::Heuristic, |diagonal, shift, mean| diagonal - shift - mean.ln())
}

/// A value of the mean score of the pairs, a shift, and the mean of the others' exponentials divided by `exp(shift)`.
fn off_diagonal<T: Element>(
    scores: ArrayView2<'_, T>,
    kind: Kind,
    value: impl Fn(f64, f64, f64) -> f64,
) -> Result<Estimated, Error> {
    let mut weights = square(scores)?;
    let b = weights.nrows();
    if b < 2 {
        return Ok(Err(too_few(b)));
    }
    let count = b as f64;
    let pairs: Vec<f64> = weights.diag().to_vec();
    weights.diag_mut().fill(f64::NEG_INFINITY);
    let shift = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    weights.mapv_inplace(|score| (score - shift).exp());
    let mut rows = vec![0.0; b];
    let mut columns = vec![0.0; b];
    let mut squares = 0.0;
    for ((i, j), weight) in weights.indexed_iter() {
        rows[i] += weight;
        columns[j] += weight;
        squares += weight * weight;
    }
    let total: f64 = rows.iter().sum();
    let diagonal = pairs.iter().sum::<f64>() / count;
    let mean = total / (count * (count - 1.0));
    let estimate = Estimate::new(value(diagonal, shift, mean), kind, count)
        .flag(kind == Kind::Lower, Flag::InExpectation)
        // Kish's effective number of equal weights.
        .flag(total * total < count * squares, Flag::HeavyTail)
        .ceiling(count.ln());
    if b < 3 {
        return Ok(Ok(estimate));
    }
    let without = |i: usize| {
        let mut left = total - rows[i] - columns[i];
        if left < 1e-6 * total {
            // The difference has lost its digits; this can be so for a pair or two that outweigh all others.
            let others =
                weights.indexed_iter().filter(|&((row, column), _)| row != i && column != i);
            left = others.map(|(_, weight)| weight).sum();
        }
        let diagonal = (diagonal * count - pairs[i]) / (count - 1.0);
        value(diagonal, shift, left / ((count - 1.0) * (count - 2.0)))
    };
    let without: Vec<f64> = (0..b).map(without).collect();
    let center = without.iter().sum::<f64>() / count;
    let spread: f64 = without.iter().map(|value| (value - center).powi(2)).sum();
    let std_err = ((count - 1.0) / count * spread).sqrt();
    Ok(Ok(if std_err.is_finite() {
        estimate.std_err(std_err, Uncertainty::Jackknife)
    } else {
        estimate
    }))
}

fn square<T: Element>(scores: ArrayView2<'_, T>) -> Result<Array2<f64>, Error> {
    let (rows, columns) = scores.dim();
    if rows != columns {
        let found = vec![rows, columns];
        return Err(Error::Shape {
            what: "the critic's scores",
            found,
            expected: vec![rows, rows],
        });
    }
    if rows == 0 {
        return Err(Error::NoRows);
    }
    checked(scores)
}

fn too_few(pairs: usize) -> NotIdentifiable {
    NotIdentifiable::TooFewRows { class: None, have: pairs as u64, need: 2 }
}
