//! The four-block convolutional network of the method: 4 × [conv3×3 → batch norm → max pool 2 → ReLU], two linear layers.

use std::ops::RangeInclusive;

use gpz_nn::{BatchNorm, Conv2d, Dropout, Linear, Module, Tape, Var, module};
use gpz_tensor::{Conv2dOptions, Pool2d};
use rand_chacha::ChaCha8Rng;

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::target::{StageCost, Tap, Target};

/// Number of blocks, each of which halves the picture.
const BLOCKS: usize = 4;
/// Widest first block; the published network has 64 channels.
pub(crate) const MAX_WIDTH: usize = 512;

/// Parameters of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cnn4Config {
    /// Channels of the first block; each further block has twice as many.
    pub width: usize,
    /// Shape of the pictures, `[c, h, w]`; height and width are multiples of 16.
    pub input: [usize; 3],
    /// Number of classes.
    pub classes: usize,
}

impl Cnn4Config {
    /// What the network is, without building it.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Parameter`] if it cannot be built.
    pub fn architecture(self) -> Result<Architecture> {
        let [channels, height, width] = self.input;
        if channels == 0 || height == 0 || height % 16 != 0 || width == 0 || width % 16 != 0 {
            let rule = "height and width must be multiples of 16, with at least one channel";
            return Err(Error::Input { model: "cnn4", channels, height, width, rule });
        }
        let parameter = |key: &str, value: usize, range: RangeInclusive<usize>, rule| {
            if !range.contains(&value) {
                let value = value.to_string();
                return Err(Error::Parameter { model: "cnn4", key: key.into(), value, rule });
            }
            Ok(())
        };
        parameter("width", self.width, 1..=MAX_WIDTH, "1 to 512 channels")?;
        parameter("classes", self.classes, 2..=4096, "2 to 4096 classes")?;
        let (mut taps, mut stages, mut work) = (Vec::new(), Vec::new(), Vec::new());
        let mut inputs = channels as u64;
        for i in 0..BLOCKS {
            let outputs = (self.width << i) as u64;
            // The convolution works at the resolution before the pooling.
            let pixels = (height >> i) as u64 * (width >> i) as u64;
            let weights = 9 * inputs * outputs;
            // A bias for the convolution, scale and shift for the norm.
            stages.push(StageCost { params: weights + 3 * outputs, macs: weights * pixels });
            work.push(outputs * pixels);
            let shape = vec![self.width << i, height >> (i + 1), width >> (i + 1)];
            taps.push(Tap { index: i + 1, name: format!("block{}", i + 1), shape });
            inputs = outputs;
        }
        let (hidden, classes) = (self.hidden() as u64, self.classes as u64);
        let weights = taps[BLOCKS - 1].width() as u64 * hidden + hidden * classes;
        stages.push(StageCost { params: weights + hidden + classes, macs: weights });
        Ok(Architecture {
            model: format!("cnn4:width={}", self.width),
            input: self.input,
            classes: self.classes,
            taps,
            stages,
            largest_feature: work.into_iter().max().unwrap_or(0),
        })
    }

    /// Units of the hidden layer: five per class.
    fn hidden(self) -> usize {
        5 * self.classes
    }
}

#[derive(Debug)]
struct Block {
    conv: Conv2d,
    norm: BatchNorm,
}

module!(Block { "0" => conv, "1" => norm });

impl Block {
    fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let y = self.conv.forward_normed(tape, x, &self.norm)?;
        Ok(y.max_pool2d(Pool2d::square(2))?.relu()?)
    }
}

/// The network.
#[derive(Debug)]
pub struct Cnn4 {
    architecture: Architecture,
    blocks: Vec<Block>,
    hidden: Linear,
    dropout: Dropout,
    output: Linear,
}

impl Module for Cnn4 {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a gpz_nn::Entry)) {
        for (i, block) in self.blocks.iter().enumerate() {
            block.visit(&gpz_nn::join(prefix, &format!("block{}", i + 1)), f);
        }
        self.hidden.visit(&gpz_nn::join(prefix, "fc.0"), f);
        self.output.visit(&gpz_nn::join(prefix, "fc.2"), f);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut gpz_nn::Entry)) {
        for (i, block) in self.blocks.iter_mut().enumerate() {
            block.visit_mut(&gpz_nn::join(prefix, &format!("block{}", i + 1)), f);
        }
        self.hidden.visit_mut(&gpz_nn::join(prefix, "fc.0"), f);
        self.output.visit_mut(&gpz_nn::join(prefix, "fc.2"), f);
    }
}

impl Cnn4 {
    /// A network with PyTorch's default initialisation; the hidden layer has five units per class.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::Parameter`] if it cannot be built.
    pub fn new(config: Cnn4Config, rng: &mut ChaCha8Rng) -> Result<Self> {
        let architecture = config.architecture()?;
        let taps = &architecture.taps;
        let mut blocks = Vec::new();
        let mut inputs = config.input[0];
        for tap in taps {
            let outputs = tap.shape[0];
            blocks.push(Block {
                conv: Conv2d::new([inputs, outputs], 3, Conv2dOptions::square(1, 1), true, rng)?,
                norm: BatchNorm::new(outputs)?,
            });
            inputs = outputs;
        }
        let hidden = config.hidden();
        Ok(Cnn4 {
            hidden: Linear::new([taps[BLOCKS - 1].width(), hidden], true, rng)?,
            dropout: Dropout { p: 0.5 },
            output: Linear::new([hidden, config.classes], true, rng)?,
            architecture,
            blocks,
        })
    }

    /// Sets the probability of the dropout before the last layer; 0.5 as published.
    pub fn set_dropout(&mut self, p: f64) {
        self.dropout.p = p;
    }
}

impl Target for Cnn4 {
    fn name(&self) -> String {
        self.architecture.model.clone()
    }

    fn input_shape(&self) -> [usize; 3] {
        self.architecture.input
    }

    fn classes(&self) -> usize {
        self.architecture.classes
    }

    fn taps(&self) -> &[Tap] {
        &self.architecture.taps
    }

    fn stage_costs(&self) -> Vec<StageCost> {
        self.architecture.stages.clone()
    }

    fn stage(&self, tape: &Tape, index: usize, x: &Var) -> Result<Var> {
        if let Some(block) = self.blocks.get(index) {
            return block.forward(tape, x);
        }
        if index > BLOCKS {
            return Err(Error::Stage { model: self.name(), index, last: BLOCKS });
        }
        let hidden = self.hidden.forward(tape, &x.flatten_from(1)?)?;
        let hidden = self.dropout.forward(tape, &hidden)?;
        Ok(self.output.forward(tape, &hidden)?.log_softmax()?)
    }
}
