//! Layers: parameters with a forward pass, named and initialised as PyTorch's.

use gpz_tensor::{Conv2dOptions, ConvTranspose2dOptions, DType, Device, Tensor, UnaryOp};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;
use crate::init::Init;
use crate::module;
use crate::module::Entry;
use crate::tape::{Mode, Tape, Var};

/// Parameters are made in this type; [`crate::Module::convert`] changes it.
const DTYPE: DType = DType::F32;

fn weight_and_bias(
    shape: &[usize],
    outputs: usize,
    bias: bool,
    rng: &mut ChaCha8Rng,
) -> Result<(Entry, Option<Entry>)> {
    let fan_in = shape[1..].iter().product();
    let weight = Init::default_weight().fill(shape, DTYPE, rng)?;
    let bias = bias.then(|| Init::default_bias(fan_in).fill(&[outputs], DTYPE, rng)).transpose()?;
    Ok((Entry::parameter(weight), bias.map(Entry::parameter)))
}

/// Two-dimensional convolution.
#[derive(Debug)]
pub struct Conv2d {
    /// `[out, in / groups, kh, kw]`.
    pub weight: Entry,
    /// `[out]`.
    pub bias: Option<Entry>,
    /// Stride, padding, dilation, groups.
    pub options: Conv2dOptions,
}

module!(Conv2d { "weight" => weight, "bias" => bias });

impl Conv2d {
    /// A square convolution with PyTorch's default initialisation.
    ///
    /// # Errors
    /// A shape that does not fit in memory. Groups that do not divide the channels are [`Conv2d::forward`]'s error.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        options: Conv2dOptions,
        bias: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let inputs = inputs / options.groups.max(1);
        let (weight, bias) =
            weight_and_bias(&[outputs, inputs, kernel, kernel], outputs, bias, rng)?;
        Ok(Conv2d { weight, bias, options })
    }

    /// - `x`: `[n, in, h, w]`; result `[n, out, h', w']`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(|b| tape.parameter(b));
        x.conv2d(&tape.parameter(&self.weight), bias.as_ref(), self.options)
    }

    /// The convolution and a batch norm after it, in evaluation in one pass: the same bits as the one layer after the other.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`].
    pub fn forward_normed(&self, tape: &Tape, x: &Var, norm: &BatchNorm) -> Result<Var> {
        if tape.mode() == Mode::Train {
            return norm.forward(tape, &self.forward(tape, x)?);
        }
        let bias = self.bias.as_ref().map(|b| tape.parameter(b));
        let (scale, shift) = norm.folded()?;
        let weight = tape.parameter(&self.weight);
        x.conv2d_affine(&weight, bias.as_ref(), (&scale, &shift), self.options)
    }
}

/// Two-dimensional transposed convolution.
#[derive(Debug)]
pub struct ConvTranspose2d {
    /// `[in, out, kh, kw]`.
    pub weight: Entry,
    /// `[out]`.
    pub bias: Option<Entry>,
    /// Stride, padding, output padding, dilation.
    pub options: ConvTranspose2dOptions,
}

module!(ConvTranspose2d { "weight" => weight, "bias" => bias });

impl ConvTranspose2d {
    /// A square transposed convolution with PyTorch's default initialisation.
    ///
    /// # Errors
    /// A shape that does not fit in memory.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        options: ConvTranspose2dOptions,
        bias: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let (weight, bias) =
            weight_and_bias(&[inputs, outputs, kernel, kernel], outputs, bias, rng)?;
        Ok(ConvTranspose2d { weight, bias, options })
    }

    /// - `x`: `[n, in, h, w]`; result `[n, out, h', w']`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(|b| tape.parameter(b));
        x.conv_transpose2d(&tape.parameter(&self.weight), bias.as_ref(), self.options)
    }
}

/// Affine map of the last axis: `x Wᵀ + b`.
#[derive(Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Entry,
    /// `[out]`.
    pub bias: Option<Entry>,
}

module!(Linear { "weight" => weight, "bias" => bias });

impl Linear {
    /// A linear layer with PyTorch's default initialisation.
    ///
    /// # Errors
    /// A shape that does not fit in memory.
    pub fn new([inputs, outputs]: [usize; 2], bias: bool, rng: &mut ChaCha8Rng) -> Result<Self> {
        let (weight, bias) = weight_and_bias(&[outputs, inputs], outputs, bias, rng)?;
        Ok(Linear { weight, bias })
    }

    /// - `x`: `[..., in]`; result `[..., out]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(|bias| tape.parameter(bias));
        x.linear(&tape.parameter(&self.weight), bias.as_ref())
    }
}

/// Batch normalisation of `[n, c]` or `[n, c, h, w]`.
#[derive(Debug)]
pub struct BatchNorm {
    /// Scale, `[c]`, initially 1.
    pub weight: Entry,
    /// Shift, `[c]`, initially 0.
    pub bias: Entry,
    /// Running mean, `[c]`.
    pub running_mean: Entry,
    /// Running variance, unbiased, `[c]`.
    pub running_var: Entry,
    /// Batches seen in training.
    pub num_batches_tracked: Entry,
    /// Added to the variance.
    pub eps: f64,
    /// Weight of the newest batch in the running statistics.
    pub momentum: f64,
}

module!(BatchNorm {
    "weight" => weight,
    "bias" => bias,
    "running_mean" => running_mean,
    "running_var" => running_var,
    "num_batches_tracked" => num_batches_tracked,
});

impl BatchNorm {
    /// PyTorch's defaults: eps 1e-5, momentum 0.1.
    ///
    /// # Errors
    /// A shape that does not fit in memory.
    pub fn new(channels: usize) -> Result<Self> {
        let full = |value| Tensor::full(&[channels], value, DTYPE);
        Ok(BatchNorm {
            weight: Entry::parameter(full(1.0)?),
            bias: Entry::parameter(full(0.0)?),
            running_mean: Entry::buffer(full(0.0)?),
            running_var: Entry::buffer(full(1.0)?),
            num_batches_tracked: Entry::counter(),
            eps: 1e-5,
            momentum: 0.1,
        })
    }

    /// With the batch's statistics in training, which are noted on the tape, and the running ones in evaluation.
    ///
    /// # Errors
    /// Shapes that do not fit; in training fewer than two values per channel.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        match tape.mode() {
            Mode::Train => self.forward_train(tape, x),
            Mode::Eval => {
                let (scale, shift) = self.folded()?;
                x.channel_affine(&scale, &shift)
            }
        }
    }

    fn forward_train(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let (weight, bias) = (tape.parameter(&self.weight), tape.parameter(&self.bias));
        let norm = x.value().batch_norm(weight.value(), bias.value(), self.eps)?;
        let blend = |running: &Entry, batch: &Tensor, factor: f64| {
            let kept = running.value().affine(1.0 - self.momentum, 0.0)?;
            kept.add(&batch.affine(self.momentum * factor, 0.0)?)
        };
        let unbiased = norm.count as f64 / (norm.count - 1) as f64;
        tape.note_update(&self.running_mean, blend(&self.running_mean, &norm.mean, 1.0)?);
        tape.note_update(&self.running_var, blend(&self.running_var, &norm.variance, unbiased)?);
        let seen = &self.num_batches_tracked;
        tape.note_update(seen, seen.value().affine(1.0, 1.0)?);
        let (input, scale, eps) = (x.value().clone(), weight.value().clone(), self.eps);
        Ok(Var::record(norm.output, [x, &weight, &bias], move |dy, [want_x, want_s, want_t]| {
            let g =
                Tensor::batch_norm_backward(&input, dy, &scale, (&norm.mean, &norm.variance), eps)?;
            Ok([want_x.then_some(g.input), want_s.then_some(g.scale), want_t.then_some(g.shift)])
        }))
    }

    /// Scale and shift per channel that evaluation amounts to.
    ///
    /// # Errors
    /// None of its own.
    pub fn folded(&self) -> Result<(Tensor, Tensor)> {
        let dtype = self.weight.value().dtype();
        if self.weight.value().device() != Device::Cpu {
            // Where they lie, so that nobody waits for them.
            let deviation = self.running_var.value().affine(1.0, self.eps)?.unary(UnaryOp::Sqrt)?;
            let scale = self.weight.value().div(&deviation)?;
            let shift = self.bias.value().sub(&self.running_mean.value().mul(&scale)?)?;
            return Ok((scale, shift));
        }
        let values = |entry: &Entry| entry.value().to_vec::<f64>();
        let (weight, bias) = (values(&self.weight)?, values(&self.bias)?);
        let (mean, variance) = (values(&self.running_mean)?, values(&self.running_var)?);
        let scale: Vec<f64> =
            weight.iter().zip(&variance).map(|(w, v)| w / (v + self.eps).sqrt()).collect();
        let shift: Vec<f64> =
            bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        let tensor = |v: &[f64]| Tensor::from_slice(v, &[v.len()])?.to_dtype(dtype);
        Ok((tensor(&scale)?, tensor(&shift)?))
    }
}

/// Layer normalisation of the last axis.
#[derive(Debug)]
pub struct LayerNorm {
    /// Scale, `[d]`, initially 1.
    pub weight: Entry,
    /// Shift, `[d]`, initially 0.
    pub bias: Entry,
    /// Added to the variance.
    pub eps: f64,
}

module!(LayerNorm { "weight" => weight, "bias" => bias });

impl LayerNorm {
    /// PyTorch's default: eps 1e-5.
    ///
    /// # Errors
    /// A shape that does not fit in memory.
    pub fn new(width: usize) -> Result<Self> {
        Ok(LayerNorm {
            weight: Entry::parameter(Tensor::full(&[width], 1.0, DTYPE)?),
            bias: Entry::parameter(Tensor::zeros(&[width], DTYPE)?),
            eps: 1e-5,
        })
    }

    /// - `x`: `[..., d]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        x.layer_norm(&tape.parameter(&self.weight), &tape.parameter(&self.bias), self.eps)
    }
}

/// Leaky activation with a learnt slope.
#[derive(Debug)]
pub struct PRelu {
    /// `[1]` for all channels or `[c]`, initially 0.25.
    pub weight: Entry,
}

module!(PRelu { "weight" => weight });

impl PRelu {
    /// `slopes` is 1 or the number of channels.
    ///
    /// # Errors
    /// A shape that does not fit in memory.
    pub fn new(slopes: usize) -> Result<Self> {
        Ok(PRelu { weight: Entry::parameter(Tensor::full(&[slopes], 0.25, DTYPE)?) })
    }

    /// - `x`: `[n, c]` or `[n, c, h, w]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        x.prelu(&tape.parameter(&self.weight))
    }
}

/// In training, sets each element to 0 with probability `p` and scales the others by `1 / (1 − p)`.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Probability of 0.
    pub p: f64,
}

impl Dropout {
    /// The masks follow from the tape's key and the layer's place in the pass.
    ///
    /// # Errors
    /// A probability outside `[0, 1)`.
    pub fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        if tape.mode() == Mode::Eval || self.p == 0.0 {
            return Ok(x.clone());
        }
        let (key, value) = (tape.next_mask_key(), x.value());
        let mask = Tensor::dropout_mask_on(x.shape(), self.p, key, value.dtype(), &value.device())?;
        x.mul(&Var::constant(mask))
    }
}
