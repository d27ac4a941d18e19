//! Decoders: networks that learn the picture from the feature.

use gpz_nn::{BatchNorm, ConvTranspose2d, Module, Tape, Var, join};
use gpz_tensor::ConvTranspose2dOptions;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};

#[derive(Debug)]
struct Stage {
    conv: ConvTranspose2d,
    norm: BatchNorm,
}

/// The method's decoder for the four-block network: transposed convolutions 4×4 of stride 2 double the picture and halve the channels,
/// each followed by batch normalisation and tanh; the last leads to the picture's channels and a sigmoid.
///
/// From block 4 of width 16: 128×4² → 64×8² → 32×16² → 16×32² → 1×64².
#[derive(Debug)]
pub struct Decoder {
    stages: Vec<Stage>,
    last: ConvTranspose2d,
}

impl Module for Decoder {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a gpz_nn::Entry)) {
        // PyTorch counts the entries of a sequence, activations included: 0 and 1 of 3 have parameters.
        for (i, stage) in self.stages.iter().enumerate() {
            stage.conv.visit(&join(prefix, &format!("decoder.{}", 3 * i)), f);
            stage.norm.visit(&join(prefix, &format!("decoder.{}", 3 * i + 1)), f);
        }
        self.last.visit(&join(prefix, &format!("decoder.{}", 3 * self.stages.len())), f);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut gpz_nn::Entry)) {
        let last = 3 * self.stages.len();
        for (i, stage) in self.stages.iter_mut().enumerate() {
            stage.conv.visit_mut(&join(prefix, &format!("decoder.{}", 3 * i)), f);
            stage.norm.visit_mut(&join(prefix, &format!("decoder.{}", 3 * i + 1)), f);
        }
        self.last.visit_mut(&join(prefix, &format!("decoder.{last}")), f);
    }
}

impl Decoder {
    /// A decoder from features `[c, h, w]` to pictures `[c', h', w']`, with PyTorch's default initialisation.
    ///
    /// # Errors
    /// [`Error::Decoder`] unless the picture is the feature's size times a power of two, at least 2, in both directions.
    pub fn new(feature: &[usize], picture: [usize; 3], rng: &mut ChaCha8Rng) -> Result<Self> {
        let impossible = |rule| Error::Decoder { feature: feature.to_vec(), picture, rule };
        let &[channels, height, width] = feature else {
            return Err(impossible("a feature map [c, h, w] is needed"));
        };
        if channels == 0 || height == 0 || width == 0 || picture[0] == 0 {
            return Err(impossible("no extent may be 0"));
        }
        let factor = picture[1] / height;
        let doubles = factor >= 2
            && factor.is_power_of_two()
            && picture[1] == factor * height
            && picture[2] == factor * width;
        if !doubles {
            return Err(impossible("the picture must be the feature's size times 2, 4, 8, …"));
        }
        let doubling = ConvTranspose2dOptions::square(2, 1);
        let mut stages = Vec::new();
        let mut inputs = channels;
        for _ in 1..factor.ilog2() {
            let outputs = (inputs / 2).max(1);
            stages.push(Stage {
                conv: ConvTranspose2d::new([inputs, outputs], 4, doubling, true, rng)?,
                norm: BatchNorm::new(outputs)?,
            });
            inputs = outputs;
        }
        let last = ConvTranspose2d::new([inputs, picture[0]], 4, doubling, true, rng)?;
        Ok(Decoder { stages, last })
    }

    /// Pictures in [0, 1] from features.
    ///
    /// - `z`: `[n, c, h, w]`; result `[n, c', h', w']`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, tape: &Tape, z: &Var) -> Result<Var> {
        let mut x = z.clone();
        for stage in &self.stages {
            x = stage.norm.forward(tape, &stage.conv.forward(tape, &x)?)?.tanh()?;
        }
        Ok(self.last.forward(tape, &x)?.sigmoid()?)
    }
}
