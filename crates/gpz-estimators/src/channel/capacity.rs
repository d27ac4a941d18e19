//! Upper bounds of the information that a channel lets through.

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::cholesky::pivoted;
use super::{Channel, positive};
use crate::entropy::label_entropy_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::geometry::{ClassGeometry, Normalisation};
use crate::oddities::Oddities;
use crate::rows::checked;
use crate::simd::Element;

impl Channel {
    /// An upper bound of `I(X;Z')` in nats, `X` whatever the feature was computed from.
    ///
    /// - `features`: `[n, d]`
    /// - noise: [`noise_information_nats`], which rests on the sample's variances
    /// - bits and casts: `d·ln(codes)`, that is `d·b·ln 2`: [`Kind::Upper`] without any assumption, and without a look at the values.
    ///   [`code_entropy_sum_nats`](super::code_entropy_sum_nats) is smaller, and an estimate
    ///
    /// For an example see the [module](super).
    ///
    /// # Errors
    /// [`Error::NonFinite`] and the like of the first bad row, [`Error::Parameter`] for a σ or scale that is not positive. Inside:
    /// [`NotIdentifiable::NoChannel`] where nothing is declared.
    pub fn information_nats<T: Element>(
        &self,
        features: ArrayView2<'_, T>,
    ) -> Result<Estimated, Error> {
        match *self {
            Self::Noise { sigma } => noise_information_nats(features, sigma),
            _ => {
                checked(features)?;
                self.limit_nats(features.ncols())
            }
        }
    }

    /// `width·ln(codes)` in nats: what the channel can carry, whatever is sent. Infinite for noise, whose power is not limited.
    ///
    /// ```
    /// use gpz_estimators::channel::{Cast, Channel};
    ///
    /// let limit = Channel::Cast(Cast::Bf16).limit_nats(10)?.expect("a channel is declared");
    /// assert!((limit.value - 160.0 * 2.0_f64.ln()).abs() < 1e-12 && limit.n_effective == 0.0);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] for a σ or scale that is not positive. Inside: [`NotIdentifiable::NoChannel`].
    pub fn limit_nats(&self, width: usize) -> Result<Estimated, Error> {
        self.check()?;
        Ok(match (self, self.symbols()) {
            (Self::None, _) => Err(NotIdentifiable::NoChannel),
            (_, Some(symbols)) => Ok(Estimate::new(width as f64 * symbols.ln(), Kind::Upper, 0.0)),
            (_, None) => Ok(Estimate::new(f64::INFINITY, Kind::Upper, 0.0)),
        })
    }
}

/// Variances of the dimensions, in squared feature units, and where they are from: what they let through at most.
///
/// ```
/// use gpz_estimators::{Kind, channel::Spread};
///
/// let known = Spread::population(vec![3.0, 0.0])?.information_nats(1.0)?; // ½ ln(1 + 3)
/// assert!((known.value - 2.0_f64.ln()).abs() < 1e-15 && known.kind == Kind::Upper);
/// // A sigmoid's features have a variance of at most 1/4 each.
/// let bounded = Spread::bounded(10, 0.0, 1.0)?.isotropic_information_nats(0.5)?;
/// assert!((bounded.value - 5.0 * 2.0_f64.ln()).abs() < 1e-14 && bounded.kind == Kind::Upper);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    variances: Vec<f64>,
    /// Rows behind the variances and what is odd about them; none if they are the population's.
    sample: Option<(u64, Oddities)>,
}

impl Spread {
    /// Variances that are known, or known not to be exceeded.
    ///
    /// # Errors
    /// [`Error::EmptyShape`]; [`Error::Parameter`] for a variance that is negative or not finite.
    pub fn population(variances: Vec<f64>) -> Result<Self, Error> {
        super::width_of(variances.len())?;
        match variances.iter().find(|value| !(**value >= 0.0 && value.is_finite())) {
            Some(&value) => Err(Error::Parameter {
                name: "variance",
                value,
                rule: "it must be finite and not negative",
            }),
            None => Ok(Self { variances, sample: None }),
        }
    }

    /// Features of which no element leaves `low..high`, by construction (a sigmoid, a clip): no variance exceeds `(high − low)²/4`.
    ///
    /// # Errors
    /// Those of [`population`](Self::population).
    pub fn bounded(width: usize, low: f64, high: f64) -> Result<Self, Error> {
        let half = (high - low) / 2.0;
        Self::population(vec![half * half; width])
    }

    /// The sample's, with the divisor `n − 1`. What follows is a plug-in without a standard error, which
    /// [`noise_information_nats`] of the rows has.
    ///
    /// ```
    /// use gpz_estimators::{ClassMoments, Kind, channel::Spread};
    /// use ndarray::array;
    ///
    /// let mut moments = ClassMoments::new(1, 1)?;
    /// moments.update(array![[0.0], [2.0], [4.0]].view(), &[0; 3])?; // variance 4
    /// let spread = Spread::of(&moments.geometry()?).expect("three rows");
    /// let information = spread.information_nats(2.0)?;
    /// assert!((information.value - 0.5 * 2.0_f64.ln()).abs() < 1e-15 && information.kind == Kind::Heuristic);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotIdentifiable::TooFewRows`] for one row.
    pub fn of(geometry: &ClassGeometry) -> Result<Self, NotIdentifiable> {
        let rows = geometry.rows();
        if rows < 2 {
            return Err(NotIdentifiable::TooFewRows { class: None, have: rows, need: 2 });
        }
        let unbiased = rows as f64 / (rows - 1) as f64;
        let variances =
            geometry.variance_per_dim().iter().map(|variance| variance * unbiased).collect();
        Ok(Self { variances, sample: Some((rows, Oddities::of_moments(geometry))) })
    }

    /// `Σ_j ½ ln(1 + var_j/σ²)` in nats: the most that a feature of these variances tells through noise of `σ`.
    ///
    /// A Gaussian feature of independent dimensions reaches it. [`Kind::Upper`] for the population's variances, otherwise a plug-in, low
    /// as [`noise_information_nats`] says.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless σ is positive and finite.
    ///
    /// # Source
    /// As [`noise_information_nats`].
    pub fn information_nats(&self, sigma: f64) -> Result<Estimate, Error> {
        let sigma = positive("sigma", sigma)?;
        Ok(self.estimate(self.variances.iter().map(|variance| half_log(*variance, sigma)).sum()))
    }

    /// `d/2 · ln(1 + σ_z²/σ²)` in nats, `σ_z²` the mean variance: looser than [`information_nats`](Self::information_nats), and what
    /// follows from the trace alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless σ is positive and finite.
    ///
    /// # Source
    /// As [`noise_information_nats`], by Jensen's inequality.
    pub fn isotropic_information_nats(&self, sigma: f64) -> Result<Estimate, Error> {
        let (sigma, width) = (positive("sigma", sigma)?, self.variances.len() as f64);
        Ok(self.estimate(width * half_log(self.variances.iter().sum::<f64>() / width, sigma)))
    }

    fn estimate(&self, value: f64) -> Estimate {
        match &self.sample {
            None => Estimate::new(value, Kind::Upper, 0.0),
            Some((rows, odd)) => plug_in(value, *rows as f64).odd(odd),
        }
    }
}

fn plug_in(value: f64, rows: f64) -> Estimate {
    Estimate::new(value, Kind::Heuristic, rows).flag(true, Flag::PlugInOfUpperBound)
}

/// `½ ln(1 + variance/σ²)`; by the ratio of the roots, since either square may leave the range of an `f64`.
fn half_log(variance: f64, sigma: f64) -> f64 {
    let ratio = variance.sqrt() / sigma;
    if ratio < 1e150 { 0.5 * (ratio * ratio).ln_1p() } else { ratio.ln() }
}

/// Columns about their means, in `f64`, and sums of squares; offsets common to all rows cost no digits.
struct Centred {
    rows: Array2<f64>,
    squares: Vec<f64>,
}

impl Centred {
    fn of<T: Element>(features: ArrayView2<'_, T>) -> Result<Self, Error> {
        let mut rows = checked(features)?;
        let first = rows.row(0).to_owned();
        rows -= &first;
        let mean = rows.sum_axis(Axis(0)) / rows.nrows() as f64;
        rows -= &mean;
        let mut squares = vec![0.0; rows.ncols()];
        for row in rows.rows() {
            squares.iter_mut().zip(row).for_each(|(sum, value)| *sum += value * value);
        }
        Ok(Self { rows, squares })
    }
}

/// `Σ_j ½ ln(1 + s_j²/σ²)` in nats, `s_j²` with the divisor `n − 1`: plug-in of the upper bound of `I(X;Z')` under noise of `σ`.
///
/// - `features`: `[n, d]`, `f32` or `f64`, in the units of `σ`; `8·n·d` bytes
///
/// `I(X;Z') = h(Z') − h(N)`, and of all densities with these variances the Gaussian with independent dimensions has the largest
/// `h(Z')`. The plug-in is low, by about `Σ_j (κ_j/4)·(var_j/(var_j + σ²))²/n` nats with `κ_j` the variance of `(z_j − μ_j)²/var_j`
/// (2 for a Gaussian). The standard error is the jackknife's over rows; it needs three.
///
/// # Errors
/// [`Error::NonFinite`], [`Error::Magnitude`], [`Error::EmptyShape`], [`Error::NoRows`], [`Error::Parameter`]. Inside:
/// [`NotIdentifiable::TooFewRows`] for one row.
///
/// # Source
/// Shannon (1948), capacity of the Gaussian channel; Cover and Thomas, *Elements of Information Theory*, ch. 9.
///
/// ```
/// use gpz_estimators::channel::noise_information_nats;
/// use ndarray::array;
///
/// let z = array![[1.0], [-1.0], [1.0], [-1.0]]; // variance 4/3
/// let bound = noise_information_nats(z.view(), 1.0)?;
/// assert!(bound.is_ok_and(|bound| (bound.value - 0.5 * (7.0f64 / 3.0).ln()).abs() < 1e-15));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn noise_information_nats<T: Element>(
    features: ArrayView2<'_, T>,
    sigma: f64,
) -> Result<Estimated, Error> {
    let sigma = positive("sigma", sigma)?;
    let centred = Centred::of(features)?;
    let rows = centred.rows.nrows();
    if rows < 2 {
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: rows as u64, need: 2 }));
    }
    let n = rows as f64;
    let value = centred.squares.iter().map(|squares| half_log(squares / (n - 1.0), sigma)).sum();
    let estimate = plug_in(value, n).odd(&Oddities::of(&[features]));
    if rows < 3 {
        return Ok(Ok(estimate));
    }
    // Without row i a sum of squares is SS − n/(n − 1)·d_i², exactly.
    let without: Vec<f64> = (0..rows)
        .into_par_iter()
        .map(|row| {
            let cells = centred.rows.row(row);
            let left = centred.squares.iter().zip(cells).map(|(squares, d)| {
                half_log((squares - n / (n - 1.0) * d * d).max(0.0) / (n - 2.0), sigma)
            });
            left.sum()
        })
        .collect();
    Ok(Ok(estimate.jackknifed(&without)))
}

/// `½ ln det(I + S/σ²)` in nats, `S` the sample's covariance with the divisor `n − 1`: the tightest bound that second moments give.
///
/// - `features`: `[n, d]`, in the units of `σ`; `8·(n·d + 2·min(n, d)²)` bytes and `min(n, d)³/3` operations, so for thousands of
///   rows or of dimensions, not of both
///
/// At most [`noise_information_nats`]. **Bias**: low by up to `d(d + 1)/(4n)` nats for Gaussian rows, which is reached where σ is small
/// beside every eigenvalue; in general by `(s² + s₂)/(4n)` with `s = Σ λ/(λ + σ²)` and `s₂ = Σ (λ/(λ + σ²))²`, `s` being the number of
/// dimensions above the noise. `S` has rank `n − 1` at most: with fewer rows than a few times the width, what it leaves out is the sample's
/// size, not the encoder's; [`Flag::RankDeficient`] says so where `n ≤ d`. Computed by a Cholesky factorisation of the smaller side.
///
/// **No standard error**: leaving one row out is another factorisation. [`grouped_jackknife`](crate::grouped_jackknife) gives one for as
/// many of them as there are groups.
///
/// ```
/// use gpz_estimators::channel::noise_information_full_nats;
/// use ndarray::array;
///
/// // Two equal columns of variance 4/3 are one of 8/3.
/// let z = array![[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]];
/// let bound = noise_information_full_nats(z.view(), 1.0)?.expect("four rows");
/// assert!((bound.value - 0.5 * (11.0_f64 / 3.0).ln()).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// As [`noise_information_nats`].
///
/// # Source
/// Telatar, Capacity of multi-antenna Gaussian channels, 1999; Cover and Thomas, section 9.5, for Gaussian vectors.
pub fn noise_information_full_nats<T: Element>(
    features: ArrayView2<'_, T>,
    sigma: f64,
) -> Result<Estimated, Error> {
    let sigma = positive("sigma", sigma)?;
    let Centred { mut rows, .. } = Centred::of(features)?;
    let (n, width) = rows.dim();
    if n < 2 {
        return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: n as u64, need: 2 }));
    }
    rows /= sigma * ((n - 1) as f64).sqrt();
    let mut matrix = if n <= width { rows.dot(&rows.t()) } else { rows.t().dot(&rows) };
    matrix.diag_mut().iter_mut().for_each(|value| *value += 1.0);
    let largest = matrix.diag().iter().copied().fold(0.0, f64::max);
    if !largest.is_finite() {
        let rule = "it is so small beside the features that their ratio's square overflows";
        return Err(Error::Parameter { name: "sigma", value: sigma, rule });
    }
    let factor = pivoted(matrix.view(), largest * matrix.nrows() as f64 * f64::EPSILON);
    let roots = factor.pivots.iter().enumerate().map(|(k, &p)| factor.lower[[p, k]].max(1.0).ln());
    // Schur complements of I + S are at least 1. Where σ is so small that rounding hides the 1, Hadamard's inequality keeps
    // what is left an upper bound.
    let hidden = factor.residual.iter().map(|left| 0.5 * left.max(1.0).ln());
    let value = roots.sum::<f64>() + hidden.sum::<f64>();
    Ok(Ok(plug_in(value, n as f64)
        .flag(n <= width, Flag::RankDeficient { rank: n - 1, width })
        .odd(&Oddities::of(&[features]))))
}

/// `H(Y) + Σ_c p_c · D/2 · ln(1 + R_c²/(D·σ²))` in nats, `R_c²` unbiased: the bound at the decision level, where a feature says little
/// beyond its class.
///
/// From `h(Z') ≤ H(Y) + h(Z'|Y)` and the isotropic bound in each class. It is below [`Spread::isotropic_information_nats`] where the
/// classes lie far apart beside their radii, and above it by at most `H(Y)` elsewhere.
///
/// - `geometry`: of features of any width `D`; `sigma`: in their units
///
/// **Bias**: low by about `(K − 1)/(2N)` for the plug-in of `H(Y)`, and for Gaussian classes of equal variances by
/// `(K/2N)·(r/(r + σ²))²`, `r = R_c²/D`, for the logarithm. A plug-in: [`Kind::Heuristic`]. **No standard error** from sums of squares.
///
/// ```
/// use gpz_estimators::{ClassMoments, channel::noise_information_classes_nats};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(2, 1)?;
/// moments.update(array![[0.0], [2.0], [90.0], [92.0]].view(), &[0, 0, 1, 1])?; // R_c² = 2 in both
/// let bound = noise_information_classes_nats(&moments.geometry()?, 1.0)?.expect("two rows of each");
/// assert!((bound.value - 2.0_f64.ln() - 0.5 * 3.0_f64.ln()).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] unless σ is positive and finite. Inside: [`NotIdentifiable::SingletonClasses`], whose radius is unknown.
///
/// # Source
/// The decision-level radius of arXiv 2506.15412 in the capacity of a Gaussian channel, by the chain rule of entropy.
pub fn noise_information_classes_nats(
    geometry: &ClassGeometry,
    sigma: f64,
) -> Result<Estimated, Error> {
    let sigma = positive("sigma", sigma)?;
    let singletons = geometry.singleton_classes();
    if let Some(&first) = singletons.first() {
        return Ok(Err(NotIdentifiable::SingletonClasses { count: singletons.len(), first }));
    }
    let (n, width) = (geometry.rows() as f64, geometry.width() as f64);
    let mut value = label_entropy_nats(geometry).value;
    for (class, &count) in geometry.counts().iter().enumerate() {
        if let Some(radius) = geometry.radius_sq(class, Normalisation::Unbiased) {
            value += count as f64 / n * width * half_log(radius / width, sigma);
        }
    }
    let empty = geometry.empty_classes().len();
    Ok(Ok(plug_in(value, n)
        .flag(empty > 0, Flag::EmptyClasses(empty))
        .odd(&Oddities::of_moments(geometry))))
}
