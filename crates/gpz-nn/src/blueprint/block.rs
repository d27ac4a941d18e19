//! Layers with their parameters.

use gpz_tensor::{Conv2dOptions, ConvTranspose2dOptions, Pool2d, UnaryOp};
use rand_chacha::ChaCha8Rng;

use super::adaptive;
use super::excitation::Excitation;
use super::layer::Layer;
use super::tokens::{PatchTokens, SelfAttention};
use crate::error::Result;
use crate::layers::{BatchNorm, Conv2d, ConvTranspose2d, Dropout, LayerNorm, Linear, PRelu};
use crate::module::{Entry, Module, join};
use crate::tape::{Mode, Tape, Var};

/// A layer that can be run. Made by [`Layer::build`].
#[derive(Debug)]
pub struct Block(Part);

#[derive(Debug)]
enum Part {
    Conv(Conv2d),
    ConvTranspose(ConvTranspose2d),
    Linear(Linear),
    BatchNorm(BatchNorm),
    LayerNorm(LayerNorm),
    PRelu(PRelu),
    Unary(UnaryOp),
    Relu6,
    MaxPool(Pool2d),
    AvgPool(Pool2d),
    AdaptiveAvgPool([usize; 2]),
    Reshape(Vec<usize>),
    Flatten,
    Transpose,
    Dropout(Dropout),
    LogSoftmax,
    Sequence(Vec<(String, Block)>),
    Residual { main: Box<(String, Block)>, shortcut: Option<Box<(String, Block)>> },
    Excite(Excitation),
    Tokens(PatchTokens),
    Attention(SelfAttention),
    FirstToken,
    WithoutFirstToken,
    Unused(Vec<(String, Entry)>),
}

impl Layer {
    /// The layer with parameters for a feature of this shape, by PyTorch's default initialisation.
    ///
    /// - `input`: of one image, `[c, h, w]`, `[t, d]` or `[d]`
    ///
    /// # Errors
    /// As [`Layer::describe`]; weights that do not fit in memory.
    pub fn build(&self, input: &[usize], rng: &mut ChaCha8Rng) -> Result<Block> {
        // Whatever is refused is refused here; below, shapes fit.
        self.describe(input)?;
        let first = input.first().copied().unwrap_or(1);
        let last = input.last().copied().unwrap_or(1);
        let unary = |op| Ok(Block(Part::Unary(op)));
        Ok(Block(match self {
            Layer::Conv(c) => {
                let options = Conv2dOptions::square(c.stride, c.padding).grouped(c.groups);
                Part::Conv(Conv2d::new([first, c.outputs], c.kernel, options, c.bias, rng)?)
            }
            Layer::ConvTranspose(c) => {
                let options = ConvTranspose2dOptions::square(c.stride, c.padding);
                let channels = [first, c.outputs];
                Part::ConvTranspose(ConvTranspose2d::new(channels, c.kernel, options, c.bias, rng)?)
            }
            Layer::Linear { outputs, bias } => {
                Part::Linear(Linear::new([last, *outputs], *bias, rng)?)
            }
            Layer::BatchNorm => Part::BatchNorm(BatchNorm::new(first)?),
            Layer::LayerNorm => Part::LayerNorm(LayerNorm::new(last)?),
            Layer::PRelu => Part::PRelu(PRelu::new(first)?),
            Layer::SharedPRelu => Part::PRelu(PRelu::new(1)?),
            Layer::Relu => return unary(UnaryOp::Relu),
            Layer::Relu6 => Part::Relu6,
            Layer::Tanh => return unary(UnaryOp::Tanh),
            Layer::Sigmoid => return unary(UnaryOp::Sigmoid),
            Layer::Gelu => return unary(UnaryOp::Gelu),
            Layer::MaxPool(window) => Part::MaxPool(*window),
            Layer::AvgPool(window) => Part::AvgPool(*window),
            Layer::AdaptiveAvgPool(size) => Part::AdaptiveAvgPool(*size),
            Layer::Reshape(shape) => Part::Reshape(shape.clone()),
            Layer::Flatten => Part::Flatten,
            Layer::Transpose => Part::Transpose,
            Layer::Dropout(p) => Part::Dropout(Dropout { p: *p }),
            Layer::LogSoftmax => Part::LogSoftmax,
            Layer::Sequence(layers) => {
                let (mut shape, mut blocks) = (input.to_vec(), Vec::with_capacity(layers.len()));
                for (name, layer) in layers {
                    blocks.push((name.clone(), layer.build(&shape, rng)?));
                    shape = layer.describe(&shape)?.output;
                }
                Part::Sequence(blocks)
            }
            Layer::Residual { main, shortcut } => {
                let mut way = |way: &(String, Layer)| -> Result<Box<(String, Block)>> {
                    Ok(Box::new((way.0.clone(), way.1.build(input, rng)?)))
                };
                let main = way(main)?;
                Part::Residual { main, shortcut: shortcut.as_deref().map(way).transpose()? }
            }
            Layer::Excite { reduction } => {
                Part::Excite(Excitation::new(first, first / (*reduction).max(1), rng)?)
            }
            Layer::Tokens { patch, width } => {
                let picture = [first, input[1], input[2]];
                Part::Tokens(PatchTokens::new(picture, *patch, *width, rng)?)
            }
            Layer::Attention { heads } => Part::Attention(SelfAttention::new(last, *heads, rng)?),
            Layer::FirstToken => Part::FirstToken,
            Layer::WithoutFirstToken => Part::WithoutFirstToken,
            Layer::Unused(entries) => {
                let entry = |(name, shape): &(String, Vec<usize>)| {
                    Ok((name.clone(), Entry::unused(shape)?))
                };
                Part::Unused(entries.iter().map(entry).collect::<Result<_>>()?)
            }
        }))
    }
}

impl Block {
    /// Runs the layer on a batch of features.
    ///
    /// - `x`: `[n]` followed by the shape the layer was built for
    ///
    /// # Errors
    /// Shapes that do not fit; in training, batches too small for a batch norm.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        match &self.0 {
            Part::Conv(layer) => layer.forward(tape, x),
            Part::ConvTranspose(layer) => layer.forward(tape, x),
            Part::Linear(layer) => layer.forward(tape, x),
            Part::BatchNorm(layer) => layer.forward(tape, x),
            Part::LayerNorm(layer) => layer.forward(tape, x),
            Part::PRelu(layer) => layer.forward(tape, x),
            Part::Unary(op) => x.unary(*op),
            // Exact up to 12, and off by no more than the rounding of x beyond.
            Part::Relu6 => x.relu()?.sub(&x.affine(1.0, -6.0)?.relu()?),
            Part::MaxPool(window) => x.max_pool2d(*window),
            Part::AvgPool(window) => x.avg_pool2d(*window),
            Part::AdaptiveAvgPool(size) => adaptive::mean_pool(x, *size),
            Part::Reshape(shape) => x.reshape(&[&x.shape()[..1], shape].concat()),
            Part::Flatten => x.flatten_from(1),
            Part::Transpose => x.transpose(1, 2),
            Part::Dropout(layer) => layer.forward(tape, x),
            Part::LogSoftmax => x.log_softmax(),
            Part::Sequence(blocks) => in_sequence(blocks, tape, x),
            Part::Residual { main, shortcut } => {
                let long = main.1.forward(tape, x)?;
                match shortcut {
                    Some(shortcut) => long.add(&shortcut.1.forward(tape, x)?),
                    None => long.add(x),
                }
            }
            Part::Excite(layer) => layer.forward(tape, x),
            Part::Tokens(layer) => layer.forward(tape, x),
            Part::Attention(layer) => layer.forward(tape, x),
            Part::FirstToken => {
                let token = x.narrow(1, 0, 1)?;
                token.reshape(&[x.shape()[0], x.shape()[2]])
            }
            Part::WithoutFirstToken => x.narrow(1, 1, x.shape()[1].saturating_sub(1)),
            Part::Unused(_) => Ok(x.clone()),
        }
    }

    fn parts(&self) -> Vec<(&str, &dyn Module)> {
        match &self.0 {
            Part::Conv(layer) => vec![("", layer)],
            Part::ConvTranspose(layer) => vec![("", layer)],
            Part::Linear(layer) => vec![("", layer)],
            Part::BatchNorm(layer) => vec![("", layer)],
            Part::LayerNorm(layer) => vec![("", layer)],
            Part::PRelu(layer) => vec![("", layer)],
            Part::Excite(layer) => vec![("", layer)],
            Part::Tokens(layer) => vec![("", layer)],
            Part::Attention(layer) => vec![("", layer)],
            Part::Sequence(blocks) => {
                blocks.iter().map(|(name, block)| (name.as_str(), block as &dyn Module)).collect()
            }
            Part::Residual { main, shortcut } => [Some(main), shortcut.as_ref()]
                .into_iter()
                .flatten()
                .map(|way| (way.0.as_str(), &way.1 as &dyn Module))
                .collect(),
            Part::Unused(entries) => {
                entries.iter().map(|(name, entry)| (name.as_str(), entry as &dyn Module)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn parts_mut<'a>(&'a mut self) -> Vec<(&'a str, &'a mut dyn Module)> {
        match &mut self.0 {
            Part::Conv(layer) => vec![("", layer)],
            Part::ConvTranspose(layer) => vec![("", layer)],
            Part::Linear(layer) => vec![("", layer)],
            Part::BatchNorm(layer) => vec![("", layer)],
            Part::LayerNorm(layer) => vec![("", layer)],
            Part::PRelu(layer) => vec![("", layer)],
            Part::Excite(layer) => vec![("", layer)],
            Part::Tokens(layer) => vec![("", layer)],
            Part::Attention(layer) => vec![("", layer)],
            Part::Sequence(blocks) => {
                let named = |(name, block): &'a mut (String, Block)| {
                    (name.as_str(), block as &mut dyn Module)
                };
                blocks.iter_mut().map(named).collect()
            }
            Part::Residual { main, shortcut } => [Some(main), shortcut.as_mut()]
                .into_iter()
                .flatten()
                .map(|way| {
                    let (name, block) = &mut **way;
                    (name.as_str(), block as &mut dyn Module)
                })
                .collect(),
            Part::Unused(entries) => {
                let named = |(name, entry): &'a mut (String, Entry)| {
                    (name.as_str(), entry as &mut dyn Module)
                };
                entries.iter_mut().map(named).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Runs blocks one after the other; in evaluation, a convolution and the batch norm after it in one pass, which gives the same bits.
fn in_sequence(blocks: &[(String, Block)], tape: &Tape, x: &Var) -> Result<Var> {
    let (mut x, mut rest) = (x.clone(), blocks);
    while let Some(((_, block), after)) = rest.split_first() {
        rest = after;
        x = match (&block.0, after.first().map(|(_, next)| &next.0)) {
            (Part::Conv(conv), Some(Part::BatchNorm(norm))) if tape.mode() == Mode::Eval => {
                rest = &after[1..];
                conv.forward_normed(tape, &x, norm)?
            }
            _ => block.forward(tape, &x)?,
        };
    }
    Ok(x)
}

impl Module for Block {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry)) {
        for (name, part) in self.parts() {
            part.visit(&join(prefix, name), f);
        }
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry)) {
        for (name, part) in self.parts_mut() {
            part.visit_mut(&join(prefix, name), f);
        }
    }
}
