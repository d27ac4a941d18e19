//! Squeeze and excitation.

use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::layers::Conv2d;
use crate::module;
use crate::tape::{Tape, Var};

/// Each channel times a factor in (0, 1) that follows from the means of all.
///
/// # Source
/// Hu, Shen, Sun, 2018; without biases, as face-recognition networks have it.
#[derive(Debug)]
pub(super) struct Excitation {
    squeeze: Conv2d,
    excite: Conv2d,
}

module!(Excitation { "fc1" => squeeze, "fc2" => excite });

impl Excitation {
    pub(super) fn new(channels: usize, between: usize, rng: &mut ChaCha8Rng) -> Result<Self> {
        let options = gpz_tensor::Conv2dOptions::square(1, 0);
        Ok(Excitation {
            squeeze: Conv2d::new([channels, between], 1, options, false, rng)?,
            excite: Conv2d::new([between, channels], 1, options, false, rng)?,
        })
    }

    pub(super) fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let (n, channels) = (x.shape()[0], x.shape()[1]);
        let means = x.mean(&[2, 3])?.reshape(&[n, channels, 1, 1])?;
        let between = self.squeeze.forward(tape, &means)?.relu()?;
        x.mul(&self.excite.forward(tape, &between)?.sigmoid()?)
    }
}
