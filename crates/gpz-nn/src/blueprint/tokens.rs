//! What vision transformers have besides norms and linear layers: patches as tokens, and attention.

use gpz_tensor::{Conv2dOptions, DType, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::init::Init;
use crate::layers::{Conv2d, Linear};
use crate::module;
use crate::module::Entry;
use crate::tape::{Tape, Var};

/// Deviation of tokens and positions at the start.
const TOKEN_DEVIATION: f64 = 0.02;

/// Tokens of a picture: one per patch, and the class token.
pub(super) fn count(patch: usize, [height, width]: [usize; 2]) -> usize {
    (height / patch) * (width / patch) + 1
}

/// A picture as tokens: a linear map of each patch, the class token before them, a position added to each.
///
/// # Source
/// Dosovitskiy et al., 2021.
#[derive(Debug)]
pub(super) struct PatchTokens {
    class_token: Entry,
    positions: Entry,
    projection: Conv2d,
}

module!(PatchTokens {
    "cls_token" => class_token,
    "pos_embed" => positions,
    "patch_embed.proj" => projection,
});

impl PatchTokens {
    pub(super) fn new(
        [channels, height, width]: [usize; 3],
        patch: usize,
        token: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let tokens = count(patch, [height, width]);
        let learnt = |shape: &[usize], rng: &mut ChaCha8Rng| -> Result<Entry> {
            let value = Init::TruncatedNormal(TOKEN_DEVIATION).fill(shape, DType::F32, rng)?;
            Ok(Entry::parameter(value))
        };
        let options = Conv2dOptions::square(patch, 0);
        Ok(PatchTokens {
            class_token: learnt(&[1, 1, token], rng)?,
            positions: learnt(&[1, tokens, token], rng)?,
            projection: Conv2d::new([channels, token], patch, options, true, rng)?,
        })
    }

    /// `[n, c, h, w]` to `[n, t, d]`.
    pub(super) fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let patches = self.projection.forward(tape, x)?.flatten_from(2)?.transpose(1, 2)?;
        let class = tape.parameter(&self.class_token);
        let class = class.broadcast_to(&[x.shape()[0], 1, class.shape()[2]])?;
        Var::concat(&[&class, &patches], 1)?.add(&tape.parameter(&self.positions))
    }
}

/// Multi-head attention of tokens to each other, as PyTorch's `MultiheadAttention` names its entries.
///
/// # Source
/// Vaswani et al., 2017.
#[derive(Debug)]
pub(super) struct SelfAttention {
    weight: Entry,
    bias: Entry,
    output: Linear,
    heads: usize,
}

module!(SelfAttention { "in_proj_weight" => weight, "in_proj_bias" => bias, "out_proj" => output });

impl SelfAttention {
    pub(super) fn new(width: usize, heads: usize, rng: &mut ChaCha8Rng) -> Result<Self> {
        let weight = Init::XavierUniform.fill(&[3 * width, width], DType::F32, rng)?;
        // PyTorch's own start: both biases are zero.
        let bias = Tensor::zeros(&[3 * width], DType::F32)?;
        let mut output = Linear::new([width, width], true, rng)?;
        output.bias = Some(Entry::parameter(Tensor::zeros(&[width], DType::F32)?));
        Ok(SelfAttention {
            weight: Entry::parameter(weight),
            bias: Entry::parameter(bias),
            output,
            heads,
        })
    }

    /// `[n, t, d]` to `[n, t, d]`.
    pub(super) fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        if x.shape().len() != 3 {
            let (input, rule) = (x.shape().into(), "it takes tokens [n, t, d]");
            return Err(Error::Layer { layer: "attention", input, rule });
        }
        let (weight, bias) = (tape.parameter(&self.weight), tape.parameter(&self.bias));
        let mixed = x.linear(&weight, Some(&bias))?.self_attention(self.heads)?;
        self.output.forward(tape, &mixed)
    }
}
