//! A declared prior: pictures known only up to noise.

use crate::images::Origin;
use crate::{Error, Result, rng};

/// Each picture `x` of every part is read as `x̃ = x + N(0, τ²·I)`, at the size it is stored in, before it is resized.
///
/// A picture as such has no density, so no bound on the error of whoever reconstructs it can rest on one; the smoothed picture has. The
/// noise is a picture's own: drawn once from the seed and the identity of the image, the same in every part, batch, epoch and process.
/// Values are **not** cut off at 0 and 1: what is cut off is no longer what the bound is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    tau: f64,
    seed: u64,
}

/// Smaller than this, and the noise drowns in the rounding of 32-bit pixels; larger than this, and nothing of a picture is left.
const TAU: std::ops::RangeInclusive<f64> = 1e-5..=10.0;

impl Smoothing {
    /// - `tau`: standard deviation of the noise, in units of pixels in [0, 1]; `seed`: of the noise
    ///
    /// # Errors
    /// [`Error::Smoothing`] unless τ lies between 0.00001 and 10.
    pub fn new(tau: f64, seed: u64) -> Result<Self> {
        if TAU.contains(&tau) { Ok(Self { tau, seed }) } else { Err(Error::Smoothing { tau }) }
    }

    /// τ.
    pub fn tau(&self) -> f64 {
        self.tau
    }

    /// The smoothed values of the stored picture `index`, in its order, over `out`.
    pub(crate) fn apply(&self, stored: &[u8], origin: Origin, index: u32, out: &mut Vec<f32>) {
        let mut stream = rng::stream(self.seed, "smoothing", origin as u64, u64::from(index));
        out.clear();
        for pair in stored.chunks(2) {
            let noise = rng::normal_pair(&mut stream);
            let value =
                |(byte, noise): (&u8, f64)| (f64::from(*byte) / 255.0 + self.tau * noise) as f32;
            out.extend(pair.iter().zip(noise).map(value));
        }
    }
}
