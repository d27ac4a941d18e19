//! What channels of increasing strength let through, side by side.

use ndarray::ArrayView2;
use serde::Serialize;

use super::{
    Channel, Given, Quantiser, SmoothedPrior, code_entropy_sum_nats, conditional_entropy_lower_nats,
};
use crate::error::Error;
use crate::estimate::{Estimate, Estimated};
use crate::simd::Element;

/// One channel's line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SweepPoint {
    /// The channel.
    pub channel: Channel,
    /// [`Channel::information_nats`]: an upper bound of `I(X;Z')`, in nats.
    pub information_nats: Estimated,
    /// [`code_entropy_sum_nats`]; none for what sends no codes.
    pub code_entropy_sum_nats: Option<Estimate>,
    /// `H(X|Z')` from below, in nats; none without `H(X)`.
    pub conditional_entropy_nats: Option<Estimated>,
    /// Any attacker's mean squared error per dimension of the smoothed input from below; none without a prior.
    pub mse_floor: Option<Estimated>,
}

impl Channel {
    /// Noise of each σ.
    #[must_use]
    pub fn of_sigmas(sigmas: &[f64]) -> Vec<Self> {
        sigmas.iter().map(|&sigma| Self::Noise { sigma }).collect()
    }

    /// Quantisers over one range, of each number of bits.
    ///
    /// # Errors
    /// Those of [`Quantiser::new`].
    pub fn of_bits(
        bits: impl IntoIterator<Item = u32>,
        low: f64,
        high: f64,
    ) -> Result<Vec<Self>, Error> {
        bits.into_iter().map(|bits| Quantiser::new(bits, low, high).map(Self::Bits)).collect()
    }
}

/// What each of the channels lets through of the same features.
///
/// - `features`: `[n, d]`; `entropy`: `H(X)` in nats, where it is known or estimated; `prior`: where one is declared
///
/// More noise or fewer bits never let through more, nor raise the entropy of codes over the same range: cells of `b + 1` bits refine
/// those of `b`.
///
/// # Errors
/// Those of [`Channel::information_nats`], of the first channel that has one.
///
/// ```
/// use gpz_estimators::channel::{Channel, sweep};
/// use ndarray::array;
///
/// let z = array![[0.0, 1.0], [2.0, 3.0], [1.0, 5.0], [3.0, 3.0]];
/// let points = sweep(z.view(), &Channel::of_sigmas(&[0.1, 1.0]), None, None)?;
/// let information = |at: usize| points[at].information_nats.as_ref().map_or(f64::NAN, |bound| bound.value);
/// assert!(information(0) > information(1));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn sweep<T: Element>(
    features: ArrayView2<'_, T>,
    channels: &[Channel],
    entropy: Option<Given>,
    prior: Option<&SmoothedPrior>,
) -> Result<Vec<SweepPoint>, Error> {
    let point = |channel: &Channel| {
        let information_nats = channel.information_nats(features)?;
        let codes = channel.codes(features)?;
        let left = |entropy| conditional_entropy_lower_nats(entropy, &information_nats);
        Ok(SweepPoint {
            channel: *channel,
            code_entropy_sum_nats: codes
                .map(|codes| code_entropy_sum_nats(codes.view()))
                .transpose()?,
            conditional_entropy_nats: entropy.map(left).transpose()?,
            mse_floor: prior.map(|prior| prior.mse_floor(&information_nats, None)).transpose()?,
            information_nats,
        })
    };
    channels.iter().map(point).collect()
}
