//! What an attacker behind a channel can reach at best, and what an attack that was run shows.

use std::f64::consts::{E, PI};

use serde::Serialize;

use super::{Given, LinearMap, positive, width_of};
use crate::entropy::isotropic_gaussian_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};

/// A bound from what was given: of the kind stated if that was known, an estimate otherwise.
pub(super) fn from_given(value: f64, kind: Kind, known: bool) -> Estimate {
    let kind = if known { kind } else { Kind::Heuristic };
    Estimate::new(value, kind, 0.0).flag(!known, Flag::RestsOnEstimate)
}

fn not_nan(given: Given, name: &'static str) -> Result<Given, Error> {
    given.checked(name, "it must be a number", |value| !value.is_nan())
}

fn not_negative(given: Given, name: &'static str) -> Result<Given, Error> {
    given.checked(name, "it must not be negative", |value| value >= 0.0)
}

/// `exp(2 h(x|z)/d)/(2πe)`: **any** attacker's mean squared error per dimension is at least this.
///
/// - `entropy`: `h(x|z)` in nats, or a number known to be below it; `width`: `d`, dimensions of `x`
///
/// Reached by the conditional mean where `x` given `z` is Gaussian with the same isotropic covariance for each `z`; otherwise below
/// the least error, far below it where the posterior is nearly degenerate in some dimensions. Zero for `h = −∞`.
///
/// # Errors
/// [`Error::EmptyShape`] for `d = 0`, [`Error::Parameter`] for NaN.
///
/// # Source
/// Entropy power; Xia et al., CVPR 2025, for inversion attacks.
///
/// ```
/// use gpz_estimators::channel::{Given, bound_entropy_power, entropy_upper_from_mse_nats};
///
/// let entropy = entropy_upper_from_mse_nats(Given::Known(0.02), 3072)?;
/// let error = bound_entropy_power(Given::Known(entropy.value), 3072)?;
/// assert!((error.value - 0.02).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn bound_entropy_power(entropy: Given, width: usize) -> Result<Estimate, Error> {
    let d = width_of(width)?;
    let entropy = not_nan(entropy, "h(x|z)")?;
    let value = (2.0 * entropy.value() / d - (2.0 * PI * E).ln()).exp();
    Ok(from_given(value, Kind::Lower, entropy.is_known()))
}

/// `d/2 · ln(2πe·MSE)` in nats: an attack that reaches this error per dimension shows `h(x|z)` to be at most this.
///
/// - `mse`: mean squared error per dimension. On a test set it is [`Given::Estimated`]; its expectation would be known
///
/// [`Kind::Upper`] for a known error. For an estimated one it is low by about `d/4` times the squared relative standard error of the
/// mean, as the logarithm is concave: a plug-in, flagged. A weak attack shows a large value and nothing else.
///
/// ```
/// use gpz_estimators::{Kind, channel::{Given, entropy_upper_from_mse_nats}};
///
/// let entropy = entropy_upper_from_mse_nats(Given::Known(0.02), 4)?;
/// let (pi, e) = (std::f64::consts::PI, std::f64::consts::E);
/// assert!((entropy.value - 2.0 * (2.0 * pi * e * 0.02).ln()).abs() < 1e-14 && entropy.kind == Kind::Upper);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::EmptyShape`] for `d = 0`, [`Error::Parameter`] for a negative error or NaN.
///
/// # Source
/// Cover and Thomas, theorem 8.6.6 (estimation error and differential entropy), turned round.
pub fn entropy_upper_from_mse_nats(mse: Given, width: usize) -> Result<Estimate, Error> {
    width_of(width)?;
    let mse = not_negative(mse, "mean squared error")?;
    let value = isotropic_gaussian_nats(width, mse.value());
    Ok(from_given(value, Kind::Upper, mse.is_known())
        .flag(mse.value() == 0.0, Flag::DegenerateSupport))
}

/// `H(X) − C` in nats, `C` the information a channel lets through: at least so much about `X` stays unknown, `H(X|Z') ≥ H(X) − C`.
///
/// - `entropy`: `H(X)`, or `h(X)` for a density, or a number known to be below it
/// - `information`: an upper bound of `I(X;Z')`, as of [`Channel::information_nats`](super::Channel::information_nats)
///
/// [`Kind::Lower`] only if both may be rested on: of the information that asks for an upper bound behind which no rows stand, and which
/// is not [saturated](Flag::Saturated), as that of a sample taken for the source is. What else is flagged of the information is flagged
/// here. Not clipped: a value below zero says nothing of a discrete `X`, and of a density it says what it says. Errs by as much as the information does, the other way: an information that is high leaves too little.
///
/// ```
/// use gpz_estimators::{Kind, channel::{Channel, Given, Quantiser, conditional_entropy_lower_nats}};
///
/// // Ten bits of x through two dimensions of three bits: four are left.
/// let channel = Channel::Bits(Quantiser::new(3, 0.0, 1.0)?);
/// let h_x = Given::Known(10.0 * 2.0_f64.ln());
/// let left = conditional_entropy_lower_nats(h_x, &channel.limit_nats(2)?)?.expect("a channel is declared");
/// assert!((left.value - 4.0 * 2.0_f64.ln()).abs() < 1e-14 && left.kind == Kind::Lower);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// `I(X;Z) = H(X) − H(X|Z)` and data processing: Cover and Thomas, theorems 2.4.1 and 2.8.1.
///
/// # Errors
/// [`Error::Parameter`] for NaN. Inside: the reason why there is no bound on the information, such as
/// [`NotIdentifiable::NoChannel`].
pub fn conditional_entropy_lower_nats(
    entropy: Given,
    information: &Estimated,
) -> Result<Estimated, Error> {
    let entropy = not_nan(entropy, "entropy of x")?;
    Ok(information.as_ref().map_err(Clone::clone).map(|information| {
        let known = entropy.is_known() && is_upper(information);
        let mut bound = from_given(entropy.value() - information.value, Kind::Lower, known);
        bound.n_effective = information.n_effective;
        // What is said of the information's own direction would point the wrong way here; that it is no bound has been said.
        for flag in &information.flags {
            let turned = matches!(flag, Flag::Saturated | Flag::GrowsWithRows);
            bound = bound.flag_once(!turned, flag.clone());
        }
        // An estimate's own error is that of the difference, where the entropy adds none.
        if entropy.is_known() {
            (bound.std_err, bound.uncertainty) = (information.std_err, information.uncertainty);
            bound.degrees_of_freedom = information.degrees_of_freedom;
        }
        bound
    }))
}

/// Whether the value itself is an upper bound whatever the source, and not only its expectation or for the rows at hand.
///
/// A listed law that is saturated may be a sample taken for the source: `ln n`, however much the encoder tells.
fn is_upper(information: &Estimate) -> bool {
    matches!(information.kind, Kind::Upper | Kind::Exact)
        && information.n_effective == 0.0
        && !information.flags.iter().any(|flag| {
            matches!(flag, Flag::InExpectation | Flag::Saturated | Flag::RestsOnEstimate)
        })
}

/// `d/(tr F + tr J)`: **any** attacker's mean squared error per dimension is at least this (van Trees).
///
/// - `fisher_trace`: `tr E[F(x)]`, the Fisher information of `z` about `x` averaged over `x`: `d·E[dFIL]`, or a number above it
/// - `prior_trace`: `tr J`, the Fisher information of the prior density of `x`, or a number above it;
///   see [`SmoothedPrior::fisher_trace_upper`]
///
/// Below `tr[(E F + J)⁻¹]/d`, and equal to it if that matrix is a multiple of the identity.
///
/// # Errors
/// [`Error::EmptyShape`] for `d = 0`, [`Error::Parameter`] for a negative trace or NaN.
///
/// # Source
/// van Trees (1968); Gill and Levit (1995).
///
/// ```
/// use gpz_estimators::channel::{Given, bound_van_trees};
///
/// // One dimension, x ~ N(0, 1), z = x + N(0, 1): the least error is 1/2, and reached.
/// assert_eq!(bound_van_trees(Given::Known(1.0), Given::Known(1.0), 1)?.value, 0.5);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn bound_van_trees(
    fisher_trace: Given,
    prior_trace: Given,
    width: usize,
) -> Result<Estimate, Error> {
    let d = width_of(width)?;
    let fisher = not_negative(fisher_trace, "trace of the Fisher information")?;
    let prior = not_negative(prior_trace, "trace of the prior's Fisher information")?;
    let value = d / (fisher.value() + prior.value());
    Ok(from_given(value, Kind::Lower, fisher.is_known() && prior.is_known()))
}

/// `1/dFIL`: a bound on **unbiased** attackers, and no bound on any other.
///
/// - `dfil`: `tr F/d`, see [`dfil`](super::dfil())
///
/// A decoder that has learned what pictures look like is biased and may err less; so may one that always answers the mean picture.
/// Flagged [`Flag::UnbiasedAttackersOnly`]; for any attacker see [`bound_van_trees`]. In squared units of `x` per dimension. An estimated dFIL
/// makes it an estimate, high on average as `1/x` is convex.
///
/// ```
/// use gpz_estimators::{Flag, channel::{Given, bound_dfil_unbiased}};
///
/// let bound = bound_dfil_unbiased(Given::Known(4.0))?;
/// assert_eq!((bound.value, bound.flags), (0.25, vec![Flag::UnbiasedAttackersOnly]));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for a negative value or NaN.
///
/// # Source
/// Guo et al., ICML 2022; Hannun et al., UAI 2021.
pub fn bound_dfil_unbiased(dfil: Given) -> Result<Estimate, Error> {
    let dfil = not_negative(dfil, "dFIL")?;
    Ok(from_given(1.0 / dfil.value(), Kind::Lower, dfil.is_known())
        .flag(true, Flag::UnbiasedAttackersOnly))
}

/// A declared prior: `x` is known only up to noise, `x̃ = x + N(0, τ²·I)`, and `x̃` is what is sent and what the attacker wants.
///
/// Declared because pictures as such have no density: without one, a bound for any attacker has nothing to stand on. The smoothed
/// one has a Fisher information of at most `d/τ²` and an entropy of at least `d/2 · ln(2πe τ²)`, whatever `x` is. Bounds that are
/// combined with it must describe the network at **smoothed** inputs: variances of its features and Jacobians at `x̃`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SmoothedPrior {
    width: usize,
    tau: f64,
}

impl SmoothedPrior {
    /// - `width`: dimensions of `x` in its native resolution; `tau`: in units of `x`
    ///
    /// # Errors
    /// [`Error::EmptyShape`] for no dimension, [`Error::Parameter`] unless τ is positive and finite.
    pub fn new(width: usize, tau: f64) -> Result<Self, Error> {
        width_of(width)?;
        Ok(Self { width, tau: positive("tau", tau)? })
    }

    /// Dimensions of `x`.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// τ.
    #[must_use]
    pub fn tau(&self) -> f64 {
        self.tau
    }

    /// `d/τ²`: the trace of the prior's Fisher information is at most this.
    #[must_use]
    pub fn fisher_trace_upper(&self) -> f64 {
        self.width as f64 / self.tau / self.tau
    }

    /// `d/2 · ln(2πe τ²)` in nats: `h(x̃)` is at least this, that of the noise alone.
    #[must_use]
    pub fn entropy_lower_nats(&self) -> f64 {
        white_noise_nats(self.width, self.tau)
    }

    /// The lower end of any attacker's mean squared error per dimension of `x̃`, from the information a channel lets through:
    /// `exp(2 (h − C)/d)/(2πe)`.
    ///
    /// - `information`: an upper bound of `I(X̃;Z')`, as of [`Channel::information_nats`](super::Channel::information_nats) for
    ///   features of smoothed inputs
    /// - `entropy`: `h(x̃)`. None takes [`entropy_lower_nats`](Self::entropy_lower_nats), and the result is `τ²·exp(−2C/d)`: it
    ///   needs no estimate, and is never above τ². An estimated `h(x̃)` gives more and is [`Kind::Heuristic`]
    ///
    /// [`Kind::Lower`] only if nothing that went in is an estimate.
    ///
    /// # Errors
    /// [`Error::Parameter`] for NaN. Inside: why there is no bound, such as [`NotIdentifiable::NoChannel`].
    pub fn mse_floor(
        &self,
        information: &Estimated,
        entropy: Option<Given>,
    ) -> Result<Estimated, Error> {
        self.mse_floor_through(information, entropy, &LinearMap::identity(self.width)?)
    }

    /// The lower end of any attacker's mean squared error per dimension of `y = U·x̃`, what is shown of the input, such as a resized
    /// picture: `(k/W) · τ² · pdet(U·Uᵀ)^(1/k) · exp(−2C/k)`, `k` the rank of `U` and `W` the width of `y`.
    ///
    /// - `information`: `C`, an upper bound of `I(X̃;Z')` in nats, as in [`mse_floor`](Self::mse_floor)
    /// - `entropy`: `h(y)` in nats, in an orthonormal basis of the range of `U`. None takes that of the smoothing alone,
    ///   `k/2 · ln(2πe τ²) + ½ ln pdet(U·Uᵀ)`
    /// - `map`: `U`, from as many dimensions as the prior has
    ///
    /// In squared units of `y`. Within the range of `U` entropy power bounds the error; beside it, where `y` never is, an error only
    /// adds. Hence `k/W`: an attacker who knows `U` makes none there. Reached where the posterior of `y` is Gaussian and isotropic on
    /// the range; far below the least error where `U` stretches some directions much more than others.
    ///
    /// [`Kind::Lower`] only if nothing that went in is an estimate.
    ///
    /// # Errors
    /// [`Error::Parameter`] for NaN, [`Error::Shape`] for a map of another width. Inside: why there is no bound, such as
    /// [`NotIdentifiable::NoChannel`].
    ///
    /// # Source
    /// Entropy power as in [`bound_entropy_power`]; entropy under a linear map: Cover and Thomas, *Elements of Information Theory*, ch. 8.
    ///
    /// ```
    /// use gpz_estimators::channel::{Cast, Channel, LinearMap, SmoothedPrior};
    /// use ndarray::array;
    ///
    /// // A line of two pixels is shown as three, and a feature of one dimension is sent in half precision.
    /// let shown = LinearMap::of(array![[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]].view())?;
    /// let information = Channel::Cast(Cast::F16).limit_nats(1)?;
    /// let floor = SmoothedPrior::new(2, 0.1)?.mse_floor_through(&information, None, &shown)?;
    /// let want = 2.0 / 3.0 * 0.01 * 1.5f64.sqrt() / 65_536.0;
    /// assert!(floor.is_ok_and(|floor| (floor.value / want - 1.0).abs() < 1e-12));
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    pub fn mse_floor_through(
        &self,
        information: &Estimated,
        entropy: Option<Given>,
        map: &LinearMap,
    ) -> Result<Estimated, Error> {
        if map.inputs() != self.width {
            let (found, expected) =
                (vec![map.outputs(), map.inputs()], vec![map.outputs(), self.width]);
            return Err(Error::Shape { what: "map", found, expected });
        }
        let (rank, outputs) = (map.rank(), map.outputs() as f64);
        let least = white_noise_nats(rank, self.tau) + 0.5 * map.log_pdet();
        let entropy = match entropy {
            None => Given::Known(least),
            Some(Given::Known(value)) if value < least => Given::Known(least),
            Some(given) => given,
        };
        conditional_entropy_lower_nats(entropy, information)?.map_or_else(
            |reason: NotIdentifiable| Ok(Err(reason)),
            |left| {
                let given = match left.kind {
                    Kind::Lower => Given::Known(left.value),
                    _ => Given::Estimated(left.value),
                };
                let mut floor = bound_entropy_power(given, rank)?;
                floor.value *= rank as f64 / outputs;
                floor.n_effective = left.n_effective;
                for flag in left.flags {
                    floor = floor.flag_once(true, flag);
                }
                if let (Some(error), Some(how)) = (left.std_err, left.uncertainty) {
                    // d exp(2h/k) = 2/k · exp(2h/k) · dh
                    let error = 2.0 / rank as f64 * floor.value * error;
                    floor = floor.std_err(error, how);
                    floor.degrees_of_freedom = left.degrees_of_freedom;
                }
                Ok(Ok(floor))
            },
        )
    }

    /// The lower end of any attacker's mean squared error per dimension of `x̃`, from the Fisher information of a noisy channel:
    /// `1/(E[dFIL] + 1/τ²)`.
    ///
    /// - `mean_dfil`: `E[dFIL]` over smoothed inputs, see [`dfil`](super::dfil()); an average over images is an estimate
    ///
    /// # Errors
    /// [`Error::Parameter`] for a negative value or NaN.
    pub fn mse_floor_van_trees(&self, mean_dfil: Given) -> Result<Estimate, Error> {
        let d = self.width as f64;
        let trace = match mean_dfil {
            Given::Known(value) => Given::Known(value * d),
            Given::Estimated(value) => Given::Estimated(value * d),
        };
        bound_van_trees(trace, Given::Known(self.fisher_trace_upper()), self.width)
    }
}

/// `d/2 · ln(2πe τ²)` in nats.
fn white_noise_nats(width: usize, tau: f64) -> f64 {
    width as f64 / 2.0 * ((2.0 * PI * E).ln() + 2.0 * tau.ln())
}
