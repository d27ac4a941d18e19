//! Operations on recorded values: each is its value and its gradient rule, side by side.

use gpz_tensor::{
    BinaryOp, Conv2dOptions, ConvEpilogue, ConvTranspose2dOptions, Pool2d, Saves, Tensor, UnaryOp,
};

use crate::error::Result;
use crate::tape::{Kept, Var};

/// Computes a gradient only if it is wanted.
fn wanted(
    want: bool,
    gradient: impl FnOnce() -> gpz_tensor::Result<Tensor>,
) -> Result<Option<Tensor>> {
    Ok(want.then(gradient).transpose()?)
}

/// [`wanted`] with a kept operand, which is computed again only then.
fn wanted_of(
    want: bool,
    operand: &Kept,
    gradient: impl FnOnce(&Tensor) -> gpz_tensor::Result<Tensor>,
) -> Result<Option<Tensor>> {
    if want { Ok(Some(gradient(&operand.get()?)?)) } else { Ok(None) }
}

/// A gradient behind a scale per channel.
fn scaled(dy: &Tensor, scale: &Tensor) -> gpz_tensor::Result<Tensor> {
    dy.channel_affine(scale, &scale.full_like(0.0)?)
}

impl Var {
    /// Applies an elementwise function; see [`UnaryOp`] for the table.
    ///
    /// # Errors
    /// None of its own.
    pub fn unary(&self, op: UnaryOp) -> Result<Var> {
        let y = self.value().unary(op)?;
        let saved = match op.saves() {
            Saves::Input => self.value().clone(),
            Saves::Output => y.clone(),
        };
        Ok(Var::record(y, [self], move |dy, [x]| {
            Ok([wanted(x, || Tensor::unary_backward(op, &saved, dy))?])
        }))
    }

    /// `max(x, 0)`.
    ///
    /// # Errors
    /// None of its own.
    pub fn relu(&self) -> Result<Var> {
        self.unary(UnaryOp::Relu)
    }

    /// Hyperbolic tangent.
    ///
    /// # Errors
    /// None of its own.
    pub fn tanh(&self) -> Result<Var> {
        self.unary(UnaryOp::Tanh)
    }

    /// `1 / (1 + e⁻ˣ)`.
    ///
    /// # Errors
    /// None of its own.
    pub fn sigmoid(&self) -> Result<Var> {
        self.unary(UnaryOp::Sigmoid)
    }

    /// `x · Φ(x)`.
    ///
    /// # Errors
    /// None of its own.
    pub fn gelu(&self) -> Result<Var> {
        self.unary(UnaryOp::Gelu)
    }

    /// `self + other`, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub fn add(&self, other: &Var) -> Result<Var> {
        self.linear_binary(BinaryOp::Add, other)
    }

    /// `self - other`, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub fn sub(&self, other: &Var) -> Result<Var> {
        self.linear_binary(BinaryOp::Sub, other)
    }

    fn linear_binary(&self, op: BinaryOp, other: &Var) -> Result<Var> {
        let z = self.value().binary(op, other.value())?;
        let (xs, ys) = (self.value().shape().to_vec(), other.value().shape().to_vec());
        Ok(Var::record(z, [self, other], move |dz, [x, y]| {
            Ok([
                wanted(x, || dz.sum_to(&xs))?,
                wanted(y, || {
                    let dy = dz.sum_to(&ys)?;
                    Ok(if op == BinaryOp::Sub { dy.unary(UnaryOp::Neg)? } else { dy })
                })?,
            ])
        }))
    }

    /// `self · other`, elementwise, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub fn mul(&self, other: &Var) -> Result<Var> {
        let (a, b) = (self.value().clone(), other.value().clone());
        let z = a.mul(&b)?;
        Ok(Var::record(z, [self, other], move |dz, [x, y]| {
            Ok([
                wanted(x, || dz.mul(&b)?.sum_to(a.shape()))?,
                wanted(y, || dz.mul(&a)?.sum_to(b.shape()))?,
            ])
        }))
    }

    /// `self / other`, elementwise, broadcasting.
    ///
    /// # Errors
    /// Shapes that do not broadcast.
    pub fn div(&self, other: &Var) -> Result<Var> {
        let (a, b) = (self.value().clone(), other.value().clone());
        let z = a.div(&b)?;
        let quotient = z.clone();
        Ok(Var::record(z, [self, other], move |dz, [x, y]| {
            Ok([
                wanted(x, || dz.div(&b)?.sum_to(a.shape()))?,
                wanted(y, || dz.mul(&quotient)?.div(&b)?.unary(UnaryOp::Neg)?.sum_to(b.shape()))?,
            ])
        }))
    }

    /// `self · scale + shift` with numbers.
    ///
    /// # Errors
    /// None of its own.
    pub fn affine(&self, scale: f64, shift: f64) -> Result<Var> {
        let y = self.value().affine(scale, shift)?;
        Ok(Var::record(y, [self], move |dy, [x]| Ok([wanted(x, || dy.affine(scale, 0.0))?])))
    }

    /// The same elements, row-major, under another shape.
    ///
    /// # Errors
    /// Another number of elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Var> {
        let y = self.value().reshape(shape)?;
        let from = self.shape().to_vec();
        Ok(Var::record(y, [self], move |dy, [x]| Ok([wanted(x, || dy.reshape(&from))?])))
    }

    /// All axes from `first` on become one.
    ///
    /// # Errors
    /// No such axis.
    pub fn flatten_from(&self, first: usize) -> Result<Var> {
        if first >= self.shape().len() {
            let (op, rank) = ("flatten_from", self.shape().len());
            return Err(gpz_tensor::Error::Axis { op, axis: first, rank }.into());
        }
        let (kept, flat) = self.shape().split_at(first);
        self.reshape(&[kept, &[flat.iter().product()]].concat())
    }

    /// Axis `i` of the result is axis `axes[i]`.
    ///
    /// # Errors
    /// Not a permutation.
    pub fn permute(&self, axes: &[usize]) -> Result<Var> {
        let y = self.value().permute(axes)?;
        let mut back = vec![0; axes.len()];
        for (i, &axis) in axes.iter().enumerate() {
            back[axis] = i;
        }
        Ok(Var::record(y, [self], move |dy, [x]| Ok([wanted(x, || dy.permute(&back))?])))
    }

    /// `len` entries of an axis from `start` on.
    ///
    /// # Errors
    /// A range outside the axis.
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Var> {
        let y = self.value().narrow(axis, start, len)?;
        let shape = self.shape().to_vec();
        Ok(Var::record(y, [self], move |dy, [x]| {
            Ok([wanted(x, || {
                let zeros = |extent: usize| {
                    let mut part = shape.clone();
                    part[axis] = extent;
                    Tensor::full_on(&part, 0.0, dy.dtype(), &dy.device())
                };
                let (before, after) = (zeros(start)?, zeros(shape[axis] - start - len)?);
                Tensor::concat(&[&before, dy, &after], axis)
            })?])
        }))
    }

    /// Two axes exchanged.
    ///
    /// # Errors
    /// No such axis.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Var> {
        let y = self.value().transpose(a, b)?;
        Ok(Var::record(y, [self], move |dy, [x]| Ok([wanted(x, || dy.transpose(a, b))?])))
    }

    /// A new axis of extent 1 before axis `axis`.
    ///
    /// # Errors
    /// No such place, or too many axes.
    pub fn unsqueeze(&self, axis: usize) -> Result<Var> {
        let y = self.value().unsqueeze(axis)?;
        let from = self.shape().to_vec();
        Ok(Var::record(y, [self], move |dy, [x]| Ok([wanted(x, || dy.reshape(&from))?])))
    }

    /// Stretched to a shape: aligned at the right, an extent of 1 is repeated.
    ///
    /// # Errors
    /// A shape this one does not broadcast to.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Var> {
        let y = self.value().broadcast_to(shape)?;
        let from = self.shape().to_vec();
        Ok(Var::record(y, [self], move |dy, [x]| Ok([wanted(x, || dy.sum_to(&from))?])))
    }

    /// Values joined along an axis, in their order.
    ///
    /// # Errors
    /// None given; axes other than the joined one differ.
    pub fn concat(parts: &[&Var], axis: usize) -> Result<Var> {
        let values: Vec<&Tensor> = parts.iter().map(|part| part.value()).collect();
        let z = Tensor::concat(&values, axis)?;
        let extents: Vec<usize> = values.iter().map(|value| value.shape()[axis]).collect();
        Ok(Var::record_all(z, parts, move |dz, want| {
            let mut start = 0;
            let part = |(&extent, &want): (&usize, &bool)| {
                start += extent;
                wanted(want, || dz.narrow(axis, start - extent, extent))
            };
            extents.iter().zip(want).map(part).collect()
        }))
    }

    /// Largest element over the named axes, which the result no longer has; NaN wins. The gradient goes to the first of equals.
    ///
    /// # Errors
    /// No such axis.
    pub fn max(&self, axes: &[usize]) -> Result<Var> {
        let x = self.value().clone();
        let y = x.max(axes)?;
        let axes = axes.to_vec();
        Ok(Var::record(y, [self], move |dy, [want]| {
            Ok([wanted(want, || Tensor::max_backward(&x, dy, &axes))?])
        }))
    }

    /// Sum over the named axes, which the result no longer has.
    ///
    /// # Errors
    /// No such axis.
    pub fn sum(&self, axes: &[usize]) -> Result<Var> {
        let y = self.value().sum(axes)?;
        let shape = self.shape().to_vec();
        let mut stretched = shape.clone();
        for &axis in axes {
            stretched[axis] = 1;
        }
        Ok(Var::record(y, [self], move |dy, [x]| {
            Ok([wanted(x, || dy.reshape(&stretched)?.broadcast_to(&shape))?])
        }))
    }

    /// Mean over the named axes, which the result no longer has.
    ///
    /// # Errors
    /// No such axis.
    pub fn mean(&self, axes: &[usize]) -> Result<Var> {
        let sum = self.sum(axes)?;
        let count = self.value().numel() as f64 / sum.value().numel() as f64;
        sum.affine(1.0 / count, 0.0)
    }

    /// Matrix product over the last two axes; the axes before them must be equal, or `other` is one matrix for all.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn matmul(&self, other: &Var) -> Result<Var> {
        let (a, b) = (self.value().clone(), other.value().clone());
        let z = a.matmul(&b)?;
        Ok(Var::record(z, [self, other], move |dz, [x, y]| {
            let swapped = |t: &Tensor| t.transpose(t.rank() - 2, t.rank() - 1);
            Ok([
                wanted(x, || dz.matmul(&swapped(&b)?))?,
                wanted(y, || {
                    if b.rank() == 2 && a.rank() > 2 {
                        let rows = |t: &Tensor| {
                            let columns = t.shape()[t.rank() - 1];
                            t.reshape(&[t.numel().checked_div(columns).unwrap_or(0), columns])
                        };
                        return swapped(&rows(&a)?)?.matmul(&rows(dz)?);
                    }
                    swapped(&a)?.matmul(dz)
                })?,
            ])
        }))
    }

    /// Affine map of the last axis, `x Wᵀ + b`; see [`Tensor::linear`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn linear(&self, weight: &Var, bias: Option<&Var>) -> Result<Var> {
        let (x, shape) = (self.kept(), self.shape().to_vec());
        let w = weight.value().clone();
        let y = self.value().linear(&w, bias.map(Var::value))?;
        let count = y.shape()[..y.rank() - 1].iter().product::<usize>();
        let rows = move |dy: &Tensor| dy.reshape(&[count, dy.shape()[dy.rank() - 1]]);
        let bias = bias.cloned().unwrap_or_else(|| Var::constant(Tensor::scalar(0.0, y.dtype())));
        Ok(Var::record(y, [self, weight, &bias], move |dy, [want_x, want_w, want_b]| {
            Ok([
                wanted(want_x, || rows(dy)?.matmul(&w)?.reshape(&shape))?,
                wanted_of(want_w, &x, |x| Tensor::linear_weight_grad(x, dy))?,
                wanted(want_b, || rows(dy)?.channel_sums())?,
            ])
        }))
    }

    /// Convolution; see [`Tensor::conv2d`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn conv2d(&self, weight: &Var, bias: Option<&Var>, options: Conv2dOptions) -> Result<Var> {
        self.convolve(weight, bias, None, options)
    }

    /// [`Var::conv2d`] and then [`Var::channel_affine`] in one pass, to the same bits.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn conv2d_affine(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        (scale, shift): (&Tensor, &Tensor),
        options: Conv2dOptions,
    ) -> Result<Var> {
        self.convolve(weight, bias, Some((scale, shift)), options)
    }

    fn convolve(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        affine: Option<(&Tensor, &Tensor)>,
        options: Conv2dOptions,
    ) -> Result<Var> {
        let (x, shape) = (self.kept(), self.shape().to_vec());
        let w = weight.value().clone();
        let bias_value = bias.map(Var::value);
        let epilogue = ConvEpilogue { bias: bias_value, affine, ..ConvEpilogue::default() };
        let y = self.value().conv2d_fused(&w, epilogue, options)?;
        let scale = affine.map(|(scale, _)| scale.clone());
        let bias = bias.cloned().unwrap_or_else(|| Var::constant(Tensor::scalar(0.0, y.dtype())));
        Ok(Var::record(y, [self, weight, &bias], move |dy, [want_x, want_w, want_b]| {
            let dy = match &scale {
                Some(scale) => scaled(dy, scale)?,
                None => dy.clone(),
            };
            Ok([
                wanted(want_x, || Tensor::conv2d_input_grad(&dy, &w, &shape, options))?,
                wanted_of(want_w, &x, |x| Tensor::conv2d_weight_grad(x, &dy, w.shape(), options))?,
                wanted(want_b, || dy.channel_sums())?,
            ])
        }))
    }

    /// Transposed convolution; see [`Tensor::conv_transpose2d`].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn conv_transpose2d(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        options: ConvTranspose2dOptions,
    ) -> Result<Var> {
        let (x, shape) = (self.kept(), self.shape().to_vec());
        let w = weight.value().clone();
        let y = self.value().conv_transpose2d(&w, bias.map(Var::value), options)?;
        let bias = bias.cloned().unwrap_or_else(|| Var::constant(Tensor::scalar(0.0, y.dtype())));
        Ok(Var::record(y, [self, weight, &bias], move |dy, [want_x, want_w, want_b]| {
            Ok([
                wanted(want_x, || Tensor::conv_transpose2d_input_grad(dy, &w, &shape, options))?,
                wanted_of(want_w, &x, |x| {
                    Tensor::conv_transpose2d_weight_grad(x, dy, w.shape(), options)
                })?,
                wanted(want_b, || dy.channel_sums())?,
            ])
        }))
    }

    /// Largest element of each window.
    ///
    /// # Errors
    /// A window that does not fit.
    pub fn max_pool2d(&self, window: Pool2d) -> Result<Var> {
        let x = self.value().clone();
        let y = x.max_pool2d(window)?;
        let output = y.clone();
        Ok(Var::record(y, [self], move |dy, [want]| {
            Ok([wanted(want, || Tensor::max_pool2d_backward(&x, &output, dy, window))?])
        }))
    }

    /// Mean of each window.
    ///
    /// # Errors
    /// A window that does not fit.
    pub fn avg_pool2d(&self, window: Pool2d) -> Result<Var> {
        let y = self.value().avg_pool2d(window)?;
        let shape = self.shape().to_vec();
        Ok(Var::record(y, [self], move |dy, [x]| {
            Ok([wanted(x, || Tensor::avg_pool2d_backward(dy, &shape, window))?])
        }))
    }

    /// `x · scale + shift` with one constant per channel: a batch normalisation whose statistics are fixed.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn channel_affine(&self, scale: &Tensor, shift: &Tensor) -> Result<Var> {
        let y = self.value().channel_affine(scale, shift)?;
        let scale = scale.clone();
        Ok(Var::record(y, [self], move |dy, [x]| Ok([wanted(x, || scaled(dy, &scale))?])))
    }

    /// `x` where it is positive, `slope · x` elsewhere.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn prelu(&self, slope: &Var) -> Result<Var> {
        let (x, a) = (self.value().clone(), slope.value().clone());
        let y = x.prelu(&a)?;
        let (input, slopes) = (x.clone(), a.clone());
        let y = Var::record(y, [self, slope], move |dy, [want_x, want_a]| {
            let (dx, da) = Tensor::prelu_backward(&x, &a, dy)?;
            Ok([want_x.then_some(dx), want_a.then_some(da)])
        });
        Ok(y.or_again(move || Ok(input.prelu(&slopes)?)))
    }

    /// `eˣ / Σ eˣ` along the last axis.
    ///
    /// # Errors
    /// A tensor of rank 0.
    pub fn softmax(&self) -> Result<Var> {
        let y = self.value().softmax()?;
        let output = y.clone();
        Ok(Var::record(y, [self], move |dy, [x]| {
            Ok([wanted(x, || Tensor::softmax_backward(&output, dy))?])
        }))
    }

    /// `x − ln Σ eˣ` along the last axis.
    ///
    /// # Errors
    /// A tensor of rank 0.
    pub fn log_softmax(&self) -> Result<Var> {
        let y = self.value().log_softmax()?;
        let output = y.clone();
        Ok(Var::record(y, [self], move |dy, [x]| {
            Ok([wanted(x, || Tensor::log_softmax_backward(&output, dy))?])
        }))
    }

    /// Rows of the last axis normalised, scaled and shifted.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn layer_norm(&self, scale: &Var, shift: &Var, eps: f64) -> Result<Var> {
        let (x, s) = (self.value().clone(), scale.value().clone());
        let y = x.layer_norm(&s, shift.value(), eps)?;
        Ok(Var::record(y, [self, scale, shift], move |dy, [want_x, want_s, want_t]| {
            let g = Tensor::layer_norm_backward(&x, dy, &s, eps)?;
            Ok([want_x.then_some(g.input), want_s.then_some(g.scale), want_t.then_some(g.shift)])
        }))
    }

    /// Scaled dot-product attention, `softmax(q kᵀ / √d) v`.
    ///
    /// - `self`: queries `[b, h, n, d]`; `keys`: `[b, h, m, d]`; `values`: `[b, h, m, e]`; result `[b, h, n, e]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    ///
    /// # Source
    /// Vaswani et al., 2017.
    pub fn attention(&self, keys: &Var, values: &Var) -> Result<Var> {
        let [q, k, v] = [self, keys, values].map(|operand| operand.value().clone());
        let forward = q.attention(&k, &v)?;
        let y = forward.output.clone();
        Ok(Var::record(y, [self, keys, values], move |dy, wanted| {
            let gradients = Tensor::attention_backward([&q, &k, &v], &forward, dy)?;
            let mut wanted = wanted.into_iter();
            Ok(gradients.map(|gradient| wanted.next().unwrap_or(false).then_some(gradient)))
        }))
    }

    /// [`Var::attention`] of tokens to each other, from one projection that holds queries, keys and values side by side; see
    /// [`Tensor::self_attention`].
    ///
    /// - `self`: `[b, n, 3·h·d]`; result `[b, n, h·d]`
    ///
    /// # Errors
    /// A last axis that does not hold three parts of `heads` heads.
    pub fn self_attention(&self, heads: usize) -> Result<Var> {
        let packed = self.value().clone();
        let forward = packed.self_attention(heads)?;
        let y = forward.output.clone();
        Ok(Var::record(y, [self], move |dy, [want]| {
            Ok([wanted(want, || Tensor::self_attention_backward(&packed, heads, &forward, dy))?])
        }))
    }
}
