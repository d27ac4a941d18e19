//! What comes of a feature, and what it costs: arithmetic alone.

use gpz_tensor::Pool2d;

use super::layer::{Convolution, Layer, TransposedConvolution};
use super::tokens;
use crate::error::{Error, Result};

/// What a layer asks of a device for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Learnt values.
    pub params: u64,
    /// Multiply-accumulates of convolutions, linear layers and the two products of attention; norms, activations and pooling are not
    /// counted.
    pub macs: u64,
    /// Values of the largest feature on the way.
    pub largest: u64,
}

/// A feature's shape and what it took to come to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Shape of one image's feature.
    pub output: Vec<usize>,
    /// What that costs.
    pub cost: Cost,
}

fn product(extents: &[usize]) -> u64 {
    extents.iter().fold(1, |n, &extent| n.saturating_mul(extent as u64))
}

impl Layer {
    /// What the layer makes of a feature of this shape, and what it costs.
    ///
    /// - `input`: of one image, `[c, h, w]`, `[t, d]` or `[d]`
    ///
    /// # Errors
    /// [`Error::Layer`] for a feature the layer does not take.
    pub fn describe(&self, input: &[usize]) -> Result<Described> {
        let (output, params, macs) = self.step(input)?;
        let (inner, params, macs) = match (self, params, macs) {
            (Layer::Sequence(_) | Layer::Residual { .. }, ..) => self.inner(input)?,
            (_, params, macs) => (0, params, macs),
        };
        let largest = inner.max(product(&output));
        Ok(Described { output, cost: Cost { params, macs, largest } })
    }

    /// Largest feature, parameters and multiply-accumulates of what is made of layers.
    fn inner(&self, input: &[usize]) -> Result<(u64, u64, u64)> {
        let mut sum = Cost::default();
        let mut add = |cost: Cost| {
            sum.params = sum.params.saturating_add(cost.params);
            sum.macs = sum.macs.saturating_add(cost.macs);
            sum.largest = sum.largest.max(cost.largest);
        };
        match self {
            Layer::Sequence(layers) => {
                let mut shape = input.to_vec();
                for (_, layer) in layers {
                    let described = layer.describe(&shape)?;
                    add(described.cost);
                    shape = described.output;
                }
            }
            Layer::Residual { main, shortcut } => {
                add(main.1.describe(input)?.cost);
                if let Some(shortcut) = shortcut {
                    add(shortcut.1.describe(input)?.cost);
                }
            }
            _ => {}
        }
        Ok((sum.largest, sum.params, sum.macs))
    }

    /// Shape of the result, parameters and multiply-accumulates; of what is made of layers the shape alone.
    fn step(&self, input: &[usize]) -> Result<(Vec<usize>, u64, u64)> {
        let free = |shape: Vec<usize>| Ok((shape, 0, 0));
        match self {
            Layer::Conv(convolution) => self.convolution(convolution, input),
            Layer::ConvTranspose(convolution) => self.transposed(convolution, input),
            Layer::Linear { outputs, bias } => {
                let Some((&inputs, rows)) = input.split_last() else {
                    return Err(self.refused(input, "it takes features of one axis at least"));
                };
                let weights = product(&[inputs, *outputs]);
                let params = weights.saturating_add(if *bias { *outputs as u64 } else { 0 });
                let shape = [rows, &[*outputs]].concat();
                Ok((shape, params, weights.saturating_mul(product(rows))))
            }
            Layer::BatchNorm => {
                let channels = self.channels(input)?;
                Ok((input.to_vec(), 2 * channels as u64, 0))
            }
            Layer::LayerNorm => match input.last() {
                Some(&width) => Ok((input.to_vec(), 2 * width as u64, 0)),
                None => Err(self.refused(input, "it takes features of one axis at least")),
            },
            Layer::PRelu => Ok((input.to_vec(), self.channels(input)? as u64, 0)),
            Layer::SharedPRelu => {
                self.channels(input)?;
                Ok((input.to_vec(), 1, 0))
            }
            Layer::MaxPool(window) | Layer::AvgPool(window) => free(self.pooled(*window, input)?),
            Layer::AdaptiveAvgPool([height, width]) => {
                let [channels, h, w] = self.picture(input)?;
                if [h, w, *height, *width].contains(&0) {
                    return Err(self.refused(input, "no extent may be 0"));
                }
                free(vec![channels, *height, *width])
            }
            Layer::Reshape(shape) if product(shape) == product(input) => free(shape.clone()),
            Layer::Reshape(_) => {
                Err(self.refused(input, "the new shape has another number of elements"))
            }
            Layer::Flatten => free(vec![input.iter().product()]),
            Layer::Transpose => match input {
                &[tokens, width] => free(vec![width, tokens]),
                _ => Err(self.refused(input, "it takes tokens [t, d]")),
            },
            Layer::Sequence(layers) => {
                let mut shape = input.to_vec();
                for (_, layer) in layers {
                    shape = layer.describe(&shape)?.output;
                }
                free(shape)
            }
            Layer::Residual { main, shortcut } => {
                let long = main.1.describe(input)?.output;
                let short = match shortcut {
                    Some(shortcut) => shortcut.1.describe(input)?.output,
                    None => input.to_vec(),
                };
                if long != short {
                    return Err(self.refused(input, "its two ways lead to different shapes"));
                }
                free(long)
            }
            Layer::Excite { reduction } => {
                let [channels, ..] = self.picture(input)?;
                let between = channels / (*reduction).max(1);
                if between == 0 {
                    return Err(self.refused(input, "fewer channels than they are reduced by"));
                }
                let weights = 2 * product(&[channels, between]);
                Ok((input.to_vec(), weights, weights))
            }
            Layer::Tokens { patch, width } => {
                let [channels, h, w] = self.picture(input)?;
                if *patch == 0 || h % patch != 0 || w % patch != 0 || h == 0 || w == 0 {
                    let rule = "height and width must be multiples of the patch";
                    return Err(self.refused(input, rule));
                }
                let tokens = tokens::count(*patch, [h, w]);
                let weights = product(&[*width, channels, *patch, *patch]);
                let params = weights + product(&[*width]) * (2 + tokens as u64);
                let macs = weights.saturating_mul(tokens as u64 - 1);
                Ok((vec![tokens, *width], params, macs))
            }
            Layer::Attention { heads } => {
                let &[tokens, width] = input else {
                    return Err(self.refused(input, "it takes tokens [t, d]"));
                };
                if *heads == 0 || width % heads != 0 || width == 0 {
                    return Err(self.refused(input, "the width must be a multiple of the heads"));
                }
                let weights = 4 * product(&[width, width]);
                let products = 2 * product(&[tokens, tokens, width]);
                let macs = weights.saturating_mul(tokens as u64).saturating_add(products);
                Ok((input.to_vec(), weights + 4 * width as u64, macs))
            }
            Layer::FirstToken => match input {
                &[tokens, width] if tokens > 0 => free(vec![width]),
                _ => Err(self.refused(input, "it takes tokens [t, d]")),
            },
            Layer::WithoutFirstToken => match input {
                &[tokens, width] if tokens > 1 => free(vec![tokens - 1, width]),
                _ => Err(self.refused(input, "it takes two tokens [t, d] at least")),
            },
            Layer::Relu
            | Layer::Relu6
            | Layer::Tanh
            | Layer::Sigmoid
            | Layer::Gelu
            | Layer::Dropout(_)
            | Layer::LogSoftmax
            | Layer::Unused(_) => free(input.to_vec()),
        }
    }

    fn refused(&self, input: &[usize], rule: &'static str) -> Error {
        Error::Layer { layer: self.name(), input: input.into(), rule }
    }

    fn picture(&self, input: &[usize]) -> Result<[usize; 3]> {
        input.try_into().map_err(|_| self.refused(input, "it takes feature maps [c, h, w]"))
    }

    fn channels(&self, input: &[usize]) -> Result<usize> {
        match *input {
            [channels] | [channels, _, _] => Ok(channels),
            _ => Err(self.refused(input, "it takes feature maps [c, h, w] or vectors [c]")),
        }
    }

    fn pooled(&self, window: Pool2d, input: &[usize]) -> Result<Vec<usize>> {
        let [channels, height, width] = self.picture(input)?;
        let pooled = window.output_shape(self.name(), &[1, channels, height, width]);
        let [_, channels, height, width] =
            pooled.map_err(|_| self.refused(input, "the window is larger than the feature"))?;
        Ok(vec![channels, height, width])
    }

    fn convolution(
        &self,
        convolution: &Convolution,
        input: &[usize],
    ) -> Result<(Vec<usize>, u64, u64)> {
        let &Convolution { outputs, kernel, stride, padding, bias, groups } = convolution;
        let [inputs, height, width] = self.picture(input)?;
        if groups == 0 || inputs % groups != 0 || outputs % groups != 0 {
            return Err(self.refused(input, "the groups must divide the channels"));
        }
        let extent = |size: usize| {
            let room = (size + 2 * padding).checked_sub(kernel).filter(|_| size > 0 && stride > 0);
            room.map(|room| room / stride + 1)
                .ok_or_else(|| self.refused(input, "the kernel is larger than the feature"))
        };
        let shape = vec![outputs, extent(height)?, extent(width)?];
        let weights = product(&[outputs, inputs / groups, kernel, kernel]);
        let params = weights.saturating_add(if bias { outputs as u64 } else { 0 });
        let macs = weights.saturating_mul(product(&shape[1..]));
        Ok((shape, params, macs))
    }

    fn transposed(
        &self,
        convolution: &TransposedConvolution,
        input: &[usize],
    ) -> Result<(Vec<usize>, u64, u64)> {
        let &TransposedConvolution { outputs, kernel, stride, padding, bias } = convolution;
        let [inputs, height, width] = self.picture(input)?;
        let extent = |size: usize| {
            let full = size.checked_sub(1).map(|steps| steps * stride + kernel);
            full.and_then(|full| full.checked_sub(2 * padding))
                .filter(|&extent| extent > 0)
                .ok_or_else(|| self.refused(input, "nothing is left of the feature"))
        };
        let shape = vec![outputs, extent(height)?, extent(width)?];
        let weights = product(&[outputs, inputs, kernel, kernel]);
        let params = weights.saturating_add(if bias { outputs as u64 } else { 0 });
        // Every element that goes in meets every weight once.
        Ok((shape, params, weights.saturating_mul(product(&input[1..]))))
    }
}
