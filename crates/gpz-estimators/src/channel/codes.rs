//! What a deterministic channel sends: codes, and the values they stand for.

use half::{bf16, f16};
use ndarray::{Array2, ArrayView2};
use serde::Serialize;

use super::{Channel, positive};
use crate::error::Error;
use crate::rows::checked;
use crate::simd::Element;

/// Most bits of a quantiser: the codes of more are no longer exact in an `f64`'s arithmetic of cells.
const MOST_BITS: u32 = 32;

/// A uniform quantiser: `2^bits` cells of equal width from `low` to `high`, the same for every dimension.
///
/// The code of `v` is `⌊(v − low)/step⌋`, values outside the range take the code of the outermost cell; the code stands for the
/// middle of its cell. `low` and `high` are part of the declaration: a range taken from the very feature that is sent would have to
/// be sent as well.
///
/// ```
/// use gpz_estimators::channel::Quantiser;
///
/// let quantiser = Quantiser::new(2, 0.0, 4.0)?;
/// assert_eq!([-1.0, 0.0, 1.5, 9.0].map(|value| quantiser.code(value)), [0, 0, 1, 3]);
/// assert_eq!(quantiser.decoded(1), 1.5);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiser {
    bits: u32,
    low: f64,
    high: f64,
}

impl Quantiser {
    /// `bits` for each dimension, over `low..high`.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `1 ≤ bits ≤ 32` and `low < high` with cells that are finite and not zero.
    pub fn new(bits: u32, low: f64, high: f64) -> Result<Self, Error> {
        if bits == 0 || bits > MOST_BITS {
            let value = f64::from(bits);
            return Err(Error::Parameter { name: "bits", value, rule: "1 to 32 are possible" });
        }
        let quantiser = Self { bits, low, high };
        let step = quantiser.step();
        if step > 0.0 && step.is_finite() && low + step > low && high - step < high {
            Ok(quantiser)
        } else {
            let rule = "the range must be finite and so wide that neighbouring cells differ";
            Err(Error::Parameter { name: "high − low", value: high - low, rule })
        }
    }

    /// Over the smallest and the largest of all elements: for a range that is fixed once, on rows of which none is sent.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), also where all elements are equal, and those of a check of the rows.
    pub fn covering<T: Element>(bits: u32, features: ArrayView2<'_, T>) -> Result<Self, Error> {
        let rows = checked(features)?;
        let low = rows.iter().copied().fold(f64::INFINITY, f64::min);
        let high = rows.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self::new(bits, low, high)
    }

    /// Bits for each dimension.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The range.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Width of a cell.
    #[must_use]
    pub fn step(&self) -> f64 {
        (self.high - self.low) / self.cells()
    }

    fn cells(&self) -> f64 {
        f64::from(self.bits).exp2()
    }

    /// The code of a value, from 0 to `2^bits − 1`.
    #[must_use]
    pub fn code(&self, value: f64) -> i64 {
        ((value - self.low) / self.step()).floor().clamp(0.0, self.cells() - 1.0) as i64
    }

    /// The value a code stands for: the middle of its cell.
    #[must_use]
    pub fn decoded(&self, code: i64) -> f64 {
        self.low + (code as f64 + 0.5) * self.step()
    }
}

/// A cast to a narrower type. Halves round to nearest, ties to even, straight from the value's own precision; what is too large
/// becomes an infinity, as in hardware.
///
/// ```
/// use gpz_estimators::channel::Cast;
///
/// let cast = Cast::Int8 { scale: 0.5 };
/// assert_eq!((cast.code(1.3), cast.decoded(3), cast.code(1e9)), (3, 1.5, 127));
/// // Half of the last of eight binary digits goes to the even neighbour.
/// assert_eq!(Cast::Bf16.decoded(Cast::Bf16.code(1.0 + 1.0 / 256.0)), 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cast {
    /// Brain float: 8 bits of exponent, 7 of mantissa.
    Bf16,
    /// IEEE half: 5 bits of exponent, 10 of mantissa.
    F16,
    /// Symmetric: `code = round(v/scale)`, ties to even, within −127…127; one scale for the whole tensor, part of the declaration.
    Int8 {
        /// Width of a step.
        scale: f64,
    },
}

impl Cast {
    /// Int8 with `scale = max|v|/127`, over all elements.
    ///
    /// # Errors
    /// [`Error::Parameter`] where all elements are zero, and those of a check of the rows.
    pub fn int8_covering<T: Element>(features: ArrayView2<'_, T>) -> Result<Self, Error> {
        let largest = checked(features)?.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        Ok(Self::Int8 { scale: positive("int8 scale", largest / 127.0)? })
    }

    /// The code of a value: the bit pattern of a half, the integer of int8.
    #[must_use]
    pub fn code(&self, value: f64) -> i64 {
        match *self {
            Self::Bf16 => i64::from(bf16::from_f32(to_odd(value)).to_bits()),
            Self::F16 => i64::from(f16::from_f32(to_odd(value)).to_bits()),
            Self::Int8 { scale } => (value / scale).round_ties_even().clamp(-127.0, 127.0) as i64,
        }
    }

    /// The value a code stands for; NaN for what is no code of this cast.
    #[must_use]
    pub fn decoded(&self, code: i64) -> f64 {
        let bits = u16::try_from(code);
        match *self {
            Self::Bf16 => bits.map_or(f64::NAN, |bits| bf16::from_bits(bits).to_f64()),
            Self::F16 => bits.map_or(f64::NAN, |bits| f16::from_bits(bits).to_f64()),
            Self::Int8 { scale } => code as f64 * scale,
        }
    }

    fn symbols(&self) -> f64 {
        match self {
            Self::Bf16 | Self::F16 => 65_536.0,
            Self::Int8 { .. } => 255.0,
        }
    }
}

/// Single precision by rounding to odd: towards zero, and where that is not exact, to the neighbour with an odd mantissa.
///
/// A second rounding, to half as many digits or fewer, then gives what a single one would have given.
fn to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let inexact = f64::from(nearest) != value;
    let beyond = f64::from(nearest.abs()) > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(beyond)) | u32::from(inexact))
}

impl Channel {
    /// The codes this channel sends for features, `[n, d]`; none for noise, which sends real numbers, and without a channel.
    ///
    /// # Errors
    /// [`Error::NonFinite`] and the like of the first bad row; [`Error::Parameter`] for an int8 scale that is not positive.
    pub fn codes<T: Element>(
        &self,
        features: ArrayView2<'_, T>,
    ) -> Result<Option<Array2<i64>>, Error> {
        let rows = checked(features)?;
        self.check()?;
        Ok(match self {
            Self::None | Self::Noise { .. } => None,
            Self::Bits(quantiser) => Some(rows.mapv(|value| quantiser.code(value))),
            Self::Cast(cast) => Some(rows.mapv(|value| cast.code(value))),
        })
    }

    /// The values that the other side reads from the codes; as [`codes`](Self::codes).
    ///
    /// # Errors
    /// Those of [`codes`](Self::codes).
    pub fn decoded<T: Element>(
        &self,
        features: ArrayView2<'_, T>,
    ) -> Result<Option<Array2<f64>>, Error> {
        Ok(self.codes(features)?.map(|codes| match self {
            Self::Bits(quantiser) => codes.mapv(|code| quantiser.decoded(code)),
            Self::Cast(cast) => codes.mapv(|code| cast.decoded(code)),
            Self::None | Self::Noise { .. } => codes.mapv(|code| code as f64),
        }))
    }

    /// How many different codes one dimension can take; none for what sends real numbers.
    pub(super) fn symbols(&self) -> Option<f64> {
        match self {
            Self::None | Self::Noise { .. } => None,
            Self::Bits(quantiser) => Some(quantiser.cells()),
            Self::Cast(cast) => Some(cast.symbols()),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Noise { sigma } => positive("sigma", sigma).map(|_| ()),
            Self::Cast(Cast::Int8 { scale }) => positive("int8 scale", scale).map(|_| ()),
            Self::None | Self::Bits(_) | Self::Cast(_) => Ok(()),
        }
    }
}

/// Integer multiples of a step: `round(v/step)`, ties to even; a quantiser without a range, hence without a number of bits.
///
/// - `features`: `[n, d]`; `step` in their units
///
/// ```
/// use gpz_estimators::channel::rounded_codes;
/// use ndarray::array;
///
/// assert_eq!(rounded_codes(array![[0.12, -0.7]].view(), 0.25)?, array![[0, -3]]);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] unless the step is positive and every code fits 53 bits; those of a check of the rows.
pub fn rounded_codes<T: Element>(
    features: ArrayView2<'_, T>,
    step: f64,
) -> Result<Array2<i64>, Error> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let step = positive("step", step)?;
    let codes = checked(features)?.mapv(|value| (value / step).round_ties_even());
    if codes.iter().any(|code| code.abs() > EXACT) {
        let rule = "it is too fine for these values: codes beyond 2^53 are not exact";
        return Err(Error::Parameter { name: "step", value: step, rule });
    }
    Ok(codes.mapv(|code| code as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn cells_are_half_open_and_the_outermost_catch_the_rest() -> Result<(), Error> {
        let quantiser = Quantiser::new(2, -1.0, 1.0)?;
        let codes = [-9.0, -1.0, -0.5, -0.1, 0.0, 0.5, 1.0, 9.0].map(|value| quantiser.code(value));
        assert_eq!(codes, [0, 0, 1, 1, 2, 3, 3, 3]);
        assert_eq!([0, 3].map(|code| quantiser.decoded(code)), [-0.75, 0.75]);
        for (bits, low, high) in [
            (0, 0.0, 1.0),
            (33, 0.0, 1.0),
            (8, 1.0, 1.0),
            (8, f64::NAN, 1.0),
            (8, 0.0, f64::INFINITY),
            (30, 1e9, 1e9 + 1e-3),
        ] {
            assert!(Quantiser::new(bits, low, high).is_err(), "{bits} {low} {high}");
        }
        Ok(())
    }

    #[test]
    fn halves_round_once() {
        // Just above the middle of two neighbours: by way of f32 it would be the middle, and go to the even one below.
        for (cast, half_step) in [(Cast::Bf16, 2f64.powi(-8)), (Cast::F16, 2f64.powi(-11))] {
            let (middle, above) = (1.0 + half_step, 1.0 + half_step + 2f64.powi(-40));
            assert_eq!(cast.decoded(cast.code(middle)), 1.0);
            assert_eq!(cast.decoded(cast.code(above)), 1.0 + 2.0 * half_step);
        }
        assert_eq!(Cast::F16.decoded(Cast::F16.code(1e6)), f64::INFINITY);
        assert_ne!(Cast::Bf16.code(0.0), Cast::Bf16.code(-0.0));
    }

    #[test]
    fn int8_is_symmetric_and_rounds_to_even() -> Result<(), Error> {
        let cast = Cast::int8_covering(array![[-254.0_f32, 3.0], [1.0, 5.0]].view())?;
        assert_eq!(cast, Cast::Int8 { scale: 2.0 });
        assert_eq!(
            [-1e9, -254.0, 1.0, 3.0, 5.0, 254.0].map(|v| cast.code(v)),
            [-127, -127, 0, 2, 2, 127]
        );
        assert!(Cast::int8_covering(array![[0.0, 0.0]].view()).is_err());
        let broken = Channel::Cast(Cast::Int8 { scale: 0.0 });
        assert!(broken.codes(array![[1.0]].view()).is_err());
        Ok(())
    }

    #[test]
    fn rounding_takes_the_nearest_multiple() -> Result<(), Error> {
        assert_eq!(rounded_codes(array![[0.12, 0.13, -0.125]].view(), 0.25)?, array![[0, 1, 0]]);
        assert!(rounded_codes(array![[1.0]].view(), 0.0).is_err());
        assert!(rounded_codes(array![[1e10]].view(), 1e-10).is_err());
        Ok(())
    }
}
