//! Declared channels: what they let through, and the error below which no attacker behind them can come.
//!
//! A network is deterministic and its features are real numbers, so a feature sent exactly as computed carries infinite
//! information about the input, and every bound is empty: [`NotIdentifiable::NoChannel`]. Something finite follows only once it is
//! *declared* what happens to the feature on its way: noise of a stated σ, or a stated number of bits.
//!
//! ```text
//! X ─ network ─► Z ─ channel ─► Z' ─ attacker ─► X̂
//! I(X;Z') ≤ C          H(X|Z') ≥ H(X) − C          MSE ≥ exp(2 h(X|Z')/d)/(2πe)
//! ```
//!
//! | channel | bound of I(X;Z') | kind |
//! |---|---|---|
//! | [`Channel::Noise`] | [`noise_information_nats`]: `Σ_j ½ ln(1 + var_j/σ²)`, and its isotropic, full and per-class forms | plug-in of the sample's variances |
//! | [`Channel::Bits`], [`Channel::Cast`] | [`Channel::information_nats`]: `D·b·ln 2` | upper bound, whatever the features |
//! | the same | [`code_entropy_sum_nats`]: `Σ_j H(code_j)`; [`code_entropy_nats`]: `H(code)` | plug-in |
//! | [`Channel::None`] | none | |
//!
//! - [`Received`] computes `H(X|Z)`, the probability of guessing and the least error exactly where inputs can be listed; [`NoisySource`]
//!   does so behind noise, by simulation.
//! - [`LinearGaussian`] has every quantity in closed form: the yardstick of the bounds.
//! - The attacker's side: [`bound_entropy_power`] and [`bound_van_trees`] hold for any attacker, [`bound_dfil_unbiased`] and
//!   [`bound_crb_unbiased`] for unbiased ones only, which an attacker with a decoder is not. [`SmoothedPrior`] needs no more than a
//!   declaration; [`LinearMap`] carries its bound over to what is shown of the input, such as a resized picture.
//!
//! Informations and entropies are in nats. Errors are mean squared errors per dimension of `x`, in squared units of `x`; `d` is the width of
//! `x` in its native resolution: an image that was upsampled lies on a subspace and has no density in the larger one. With
//! [`Given::Known`] inputs the results bound; with [`Given::Estimated`] ones they are estimates and flagged.
//!
//! ```
//! use gpz_estimators::NotIdentifiable;
//! use gpz_estimators::channel::{Channel, Quantiser, SmoothedPrior};
//! use ndarray::array;
//!
//! let z = array![[0.0, 1.0], [2.0, 3.0], [1.0, 5.0], [3.0, 3.0]];
//! assert_eq!(Channel::None.information_nats(z.view())?, Err(NotIdentifiable::NoChannel));
//!
//! let channel = Channel::Bits(Quantiser::new(4, 0.0, 8.0)?);
//! let information = channel.information_nats(z.view())?;
//! assert_eq!(information.as_ref().map(|bound| bound.value), Ok(2.0 * 4.0 * std::f64::consts::LN_2));
//! // An input of 12 dimensions, known only up to noise of 0.1: no attacker's error per dimension is below this.
//! let floor = SmoothedPrior::new(12, 0.1)?.mse_floor(&information, None)?;
//! assert!(floor.is_ok_and(|floor| (floor.value - 0.01 * 2f64.powf(-16.0 / 12.0)).abs() < 1e-15));
//! # Ok::<(), gpz_estimators::Error>(())
//! ```

mod attacker;
mod capacity;
mod cholesky;
mod code_entropy;
mod codes;
mod fisher;
mod linear_gaussian;
mod linear_map;
mod noisy_source;
mod received;
mod ridge;
mod sweep;

pub use attacker::*;
pub use capacity::*;
pub use code_entropy::*;
pub use codes::*;
pub use fisher::*;
pub use linear_gaussian::*;
pub use linear_map::*;
pub use noisy_source::*;
pub use received::*;
pub use ridge::*;
pub use sweep::*;

use serde::Serialize;

use crate::error::Error;
#[cfg(doc)]
use crate::estimate::NotIdentifiable;

/// What happens to a feature between the network and whoever sees it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Channel {
    /// Nothing is declared: no bound.
    None,
    /// `Z' = Z + N(0, σ²·I)`, drawn afresh for each feature that is sent and independent of everything else.
    Noise {
        /// σ, in the feature's units.
        sigma: f64,
    },
    /// A uniform quantiser of a stated number of bits for each dimension.
    Bits(Quantiser),
    /// A cast to a narrower type.
    Cast(Cast),
}

/// A number that goes into a bound, and whether the bound may rest on it.
///
/// Known is a true value, or one that errs to the side on which the bound stays true.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    /// By declaration or by proof.
    Known(f64),
    /// From data: the result is an estimate, not a bound.
    Estimated(f64),
}

impl Given {
    /// The number.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Known(value) | Self::Estimated(value) => value,
        }
    }

    fn is_known(self) -> bool {
        matches!(self, Self::Known(_))
    }

    fn checked(
        self,
        name: &'static str,
        rule: &'static str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<Self, Error> {
        let value = self.value();
        if fits(value) { Ok(self) } else { Err(Error::Parameter { name, value, rule }) }
    }
}

fn positive(name: &'static str, value: f64) -> Result<f64, Error> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(Error::Parameter { name, value, rule: "it must be positive and finite" })
    }
}

fn width_of(width: usize) -> Result<f64, Error> {
    if width == 0 { Err(Error::EmptyShape { classes: 1, width }) } else { Ok(width as f64) }
}
