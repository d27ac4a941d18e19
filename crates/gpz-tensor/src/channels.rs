//! Operations with one parameter per channel: batch normalisation, PReLU.
//!
//! Channels are axis 1. A `[n, c, h, w]` picture lies channels-last, an `[n, c]` matrix row-major; to the loops both are matrices of
//! `c` columns.

use crate::buffer::Buffer;
use crate::cpu::columns::{self, Params};
use crate::cuda;
use crate::error::{Error, Result};
use crate::softmax::non_negative;
use crate::tensor::dispatch;
use crate::{DType, Element, Tensor};

/// What [`Tensor::batch_norm`] computes: the result and the statistics of the batch.
pub struct BatchNorm {
    /// Normalised, scaled and shifted.
    pub output: Tensor,
    /// Mean of each channel, `[c]`.
    pub mean: Tensor,
    /// Variance of each channel over the batch, divided by the count, `[c]`.
    pub variance: Tensor,
    /// Values per channel.
    pub count: usize,
}

/// Gradients of [`Tensor::batch_norm`].
pub struct BatchNormGradients {
    /// With respect to the input; shape of the input.
    pub input: Tensor,
    /// With respect to the scale, `[c]`.
    pub scale: Tensor,
    /// With respect to the shift, `[c]`.
    pub shift: Tensor,
}

/// Values per channel up to which gradients of a batch norm are computed in f64. The fewer there are, the more of the gradient cancels:
/// of two values per channel, all but `eps / (variance + eps)` of it.
const FEW: usize = 64;

/// [`Tensor::batch_norm_backward`] of few rows, in f64: fills `dx`, and returns the gradients of scale and shift.
fn backward_of_few<T: Element>(
    dx: &mut [T],
    (xs, dys): (&[T], &[T]),
    mean: &[f64],
    deviation: &[f64],
    weight: &[f64],
) -> [Vec<f64>; 2] {
    let c = mean.len();
    let count = (xs.len() / c.max(1)) as f64;
    let (mut exact_mean, mut shift, mut product) = (vec![0.0; c], vec![0.0; c], vec![0.0; c]);
    for row in xs.chunks_exact(c.max(1)) {
        for (sum, x) in exact_mean.iter_mut().zip(row) {
            *sum += x.to_f64() / count;
        }
    }
    for (row, dy) in xs.chunks_exact(c.max(1)).zip(dys.chunks_exact(c.max(1))) {
        for i in 0..c {
            shift[i] += dy[i].to_f64();
            product[i] += dy[i].to_f64() * (row[i].to_f64() - exact_mean[i]);
        }
    }
    let slope: Vec<f64> =
        (0..c).map(|i| product[i] / (deviation[i] * deviation[i] * count)).collect();
    for (out, (x, dy)) in
        dx.chunks_exact_mut(c.max(1)).zip(xs.chunks_exact(c.max(1)).zip(dys.chunks_exact(c.max(1))))
    {
        for i in 0..c {
            let centred = dy[i].to_f64() - shift[i] / count;
            let along = (x[i].to_f64() - exact_mean[i]) * slope[i];
            out[i] = T::from_f64(weight[i] / deviation[i] * (centred - along));
        }
    }
    let scale = (0..c).map(|i| product[i] / deviation[i]).collect();
    [scale, shift]
}

impl Tensor {
    /// This tensor laid out so that its channels are the columns of a matrix.
    fn channel_matrix(&self, op: &'static str) -> Result<Tensor> {
        match self.rank() {
            2 => self.row_major(),
            4 => self.channels_last(),
            _ => Err(Error::shape(op, self.shape(), "[n, c] or [n, c, h, w] is needed")),
        }
    }

    fn check_channels(&self, op: &'static str, parameter: &Tensor) -> Result<()> {
        self.check_dtype(op, parameter)?;
        if parameter.shape() != [self.shape()[1]] {
            return Err(Error::mismatch(
                op,
                self.shape(),
                parameter.shape(),
                "the second must hold one value per channel, axis 1 of the first",
            ));
        }
        Ok(())
    }

    /// `x · scale + shift` with one scale and shift per channel, the product rounded before the sum.
    ///
    /// - `self`: `[n, c]` or `[n, c, h, w]`
    /// - `scale`, `shift`: `[c]`
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn channel_affine(&self, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
        let x = self.channel_matrix("channel_affine")?;
        x.check_channels("channel_affine", scale)?;
        x.check_channels("channel_affine", shift)?;
        let (scale, shift) = (scale.row_major()?, shift.row_major()?);
        if x.on_cuda().is_some() {
            return cuda::channel_affine(&x, &scale, &shift);
        }
        dispatch!(x.dtype(), T => {
            let c = x.shape()[1];
            let mut out = Buffer::<T>::unfilled(x.numel());
            columns::map(
                out.as_mut_slice(),
                &x.data::<T>()[..x.numel()],
                &Params::new(&scale.data::<T>()[..c]),
                &Params::new(&shift.data::<T>()[..c]),
                #[inline(always)] |x, s, t| x * s + t,
            );
            Ok(Tensor::from_buffer(out, x.dims(), x.strides()))
        })
    }

    /// Batch normalisation with the statistics of the batch: `(x − mean) / √(var + eps) · scale + shift` per channel.
    ///
    /// - `self`: `[n, c]` or `[n, c, h, w]`
    /// - `scale`, `shift`: `[c]`
    ///
    /// # Errors
    /// Shapes or dtypes that differ; [`Error::Shape`] if a channel has fewer than two values.
    ///
    /// # Source
    /// Ioffe and Szegedy, 2015. Means and variances are added up in f64.
    pub fn batch_norm(&self, scale: &Tensor, shift: &Tensor, eps: f64) -> Result<BatchNorm> {
        let x = self.channel_matrix("batch_norm")?;
        x.check_channels("batch_norm", scale)?;
        x.check_channels("batch_norm", shift)?;
        let c = x.shape()[1];
        let count = x.numel().checked_div(c).unwrap_or(0);
        if count < 2 {
            return Err(Error::shape(
                "batch_norm",
                self.shape(),
                "at least two values per channel are needed for a variance",
            ));
        }
        if x.on_cuda().is_some() {
            return cuda::batch_norm(&x, &scale.row_major()?, &shift.row_major()?, eps);
        }
        let (mean, variance) = dispatch!(x.dtype(), T => channel_statistics::<T>(&x, c, count));
        let (weight, bias) = (scale.to_vec::<f64>()?, shift.to_vec::<f64>()?);
        let output = dispatch!(x.dtype(), T => {
            // The mean comes off before the scale goes on: where it is large beside the deviation, x · scale would round the
            // difference away. What its own rounding left over goes into the shift.
            let pivot = narrow::<T>(&mean);
            let scale: Vec<f64> = (0..c).map(|i| weight[i] / (variance[i] + eps).sqrt()).collect();
            let shift: Vec<f64> =
                (0..c).map(|i| bias[i] - (mean[i] - pivot[i].to_f64()) * scale[i]).collect();
            let [pivot, scale, shift] =
                [pivot, narrow(&scale), narrow(&shift)].map(|p| Params::new(&p));
            let xs = &x.data::<T>()[..x.numel()];
            let mut out = Buffer::<T>::unfilled(x.numel());
            columns::map_pair(
                out.as_mut_slice(),
                (xs, xs),
                [&pivot, &scale, &shift, &shift],
                #[inline(always)] |x, _, [pivot, scale, shift, _]| (x - pivot) * scale + shift,
            );
            Tensor::from_buffer(out, x.dims(), x.strides())
        });
        Ok(BatchNorm {
            output,
            mean: vector(&mean, x.dtype()),
            variance: vector(&variance, x.dtype()),
            count,
        })
    }

    /// Gradients of [`Tensor::batch_norm`], the statistics being functions of the input.
    ///
    /// - `input`, `dy`: `[n, c]` or `[n, c, h, w]`; `mean`, `variance`: as the forward pass returned them
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn batch_norm_backward(
        input: &Tensor,
        dy: &Tensor,
        scale: &Tensor,
        statistics: (&Tensor, &Tensor),
        eps: f64,
    ) -> Result<BatchNormGradients> {
        const OP: &str = "batch_norm_backward";
        input.check_same(OP, dy)?;
        let x = input.channel_matrix(OP)?;
        let dy = dy.channel_matrix(OP)?;
        for parameter in [scale, statistics.0, statistics.1] {
            x.check_channels(OP, parameter)?;
        }
        if x.on_cuda().is_some() {
            let (mean, variance) = (statistics.0.row_major()?, statistics.1.row_major()?);
            let scale = scale.row_major()?;
            return if (1..=FEW).contains(&x.numel().checked_div(x.shape()[1]).unwrap_or(0)) {
                cuda::batch_norm_backward_of_few(&x, &dy, &scale, &variance, eps)
            } else {
                cuda::batch_norm_backward(&x, &dy, &scale, (&mean, &variance), eps)
            };
        }
        let c = x.shape()[1];
        let count = x.numel().checked_div(c).unwrap_or(0);
        let mean = statistics.0.to_vec::<f64>()?;
        let deviation: Vec<f64> =
            statistics.1.to_vec::<f64>()?.iter().map(|v| (v + eps).sqrt()).collect();
        let weight = scale.to_vec::<f64>()?;
        dispatch!(x.dtype(), T => {
            let n = x.numel();
            let (xs, dys) = (&x.data::<T>()[..n], &dy.data::<T>()[..n]);
            if count <= FEW {
                let mut dx = Buffer::<T>::unfilled(n);
                let [scale, shift] =
                    backward_of_few(dx.as_mut_slice(), (xs, dys), &mean, &deviation, &weight);
                return Ok(BatchNormGradients {
                    input: Tensor::from_buffer(dx, x.dims(), x.strides()),
                    scale: vector(&scale, x.dtype()),
                    shift: vector(&shift, x.dtype()),
                });
            }
            let means = Params::new(&narrow::<T>(&mean));
            let [shift, product, left_over] = columns::sums(
                (xs, dys),
                &means,
                #[inline(always)] |x, dy, mean| [dy, dy * (x - mean), x - mean],
            );
            // As in the forward pass, what the mean's rounding left over is taken off where it is no longer rounded away.
            let left_over: Vec<f64> = left_over.iter().map(|sum| sum / count as f64).collect();
            let product: Vec<f64> = (0..c).map(|i| product[i] - left_over[i] * shift[i]).collect();
            let slopes: Vec<f64> =
                (0..c).map(|i| product[i] / (deviation[i] * deviation[i] * count as f64)).collect();
            let per_column = |f: &dyn Fn(usize) -> f64| Params::new(&narrow::<T>(&(0..c).map(f).collect::<Vec<_>>()));
            let factor = per_column(&|i| weight[i] / deviation[i]);
            let mean_dy = per_column(&|i| shift[i] / count as f64 - left_over[i] * slopes[i]);
            let slope = per_column(&|i| slopes[i]);
            let mut dx = Buffer::<T>::unfilled(n);
            columns::map_pair(
                dx.as_mut_slice(),
                (xs, dys),
                [&factor, &mean_dy, &means, &slope],
                #[inline(always)] |x, dy, [factor, mean_dy, mean, slope]| factor * ((dy - mean_dy) - (x - mean) * slope),
            );
            let scale: Vec<f64> = (0..c).map(|i| product[i] / deviation[i]).collect();
            Ok(BatchNormGradients {
                input: Tensor::from_buffer(dx, x.dims(), x.strides()),
                scale: vector(&scale, x.dtype()),
                shift: vector(&shift, x.dtype()),
            })
        })
    }

    /// Sum over all axes but the channels': `[c]`, the gradient of a bias.
    ///
    /// # Errors
    /// [`Error::Shape`] unless this is `[n, c]` or `[n, c, h, w]`.
    pub fn channel_sums(&self) -> Result<Tensor> {
        let x = self.channel_matrix("channel_sums")?;
        if x.on_cuda().is_some() {
            return cuda::channel_sums(&x);
        }
        let c = x.shape()[1];
        dispatch!(x.dtype(), T => {
            let xs = &x.data::<T>()[..x.numel()];
            let zeros = Params::new(&vec![T::ZERO; c]);
            let [sums] = columns::sums((xs, xs), &zeros, #[inline(always)] |x, _, _| [x]);
            Ok(vector(&sums, x.dtype()))
        })
    }

    /// `x` where it is positive, `slope · x` elsewhere.
    ///
    /// - `self`: `[n, c]` or `[n, c, h, w]`
    /// - `slope`: `[c]`, or `[1]` for all channels
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn prelu(&self, slope: &Tensor) -> Result<Tensor> {
        let (x, slopes) = self.prelu_operands(slope)?;
        if x.on_cuda().is_some() {
            return cuda::prelu(&x, &slope.row_major()?);
        }
        dispatch!(x.dtype(), T => {
            let slopes = Params::new(&slopes.to_vec::<T>()?);
            let mut out = Buffer::<T>::unfilled(x.numel());
            columns::map(
                out.as_mut_slice(),
                &x.data::<T>()[..x.numel()],
                &slopes,
                &slopes,
                #[inline(always)] |x, a, _| if x > T::ZERO { x } else { a * x },
            );
            Ok(Tensor::from_buffer(out, x.dims(), x.strides()))
        })
    }

    /// Gradients of [`Tensor::prelu`] with respect to its input and its slope.
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn prelu_backward(input: &Tensor, slope: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
        input.check_same("prelu_backward", dy)?;
        let (x, slopes) = input.prelu_operands(slope)?;
        let dy = dy.laid_out_like(&x)?;
        if x.on_cuda().is_some() {
            return cuda::prelu_backward(&x, &slope.row_major()?, &dy);
        }
        dispatch!(x.dtype(), T => {
            let n = x.numel();
            let (xs, dys) = (&x.data::<T>()[..n], &dy.data::<T>()[..n]);
            let slopes = Params::new(&slopes.to_vec::<T>()?);
            let mut dx = Buffer::<T>::unfilled(n);
            columns::map_pair(
                dx.as_mut_slice(),
                (xs, dys),
                [&slopes; 4],
                #[inline(always)] |x, dy, [a, ..]| if x > T::ZERO { dy } else { a * dy },
            );
            let [mut gradient] = columns::sums(
                (xs, dys),
                &slopes,
                #[inline(always)] |x, dy, _| [if x > T::ZERO { T::ZERO } else { x * dy }],
            );
            if slope.numel() == 1 {
                gradient = vec![gradient.iter().sum()];
            }
            Ok((
                Tensor::from_buffer(dx, x.dims(), x.strides()),
                vector(&gradient, x.dtype()),
            ))
        })
    }

    fn prelu_operands(&self, slope: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = self.channel_matrix("prelu")?;
        self.check_dtype("prelu", slope)?;
        let slope =
            if slope.shape() == [1] { slope.broadcast_to(&[x.shape()[1]])? } else { slope.clone() };
        x.check_channels("prelu", &slope)?;
        Ok((x, slope))
    }
}

/// Mean and biased variance of each column, in two passes.
fn channel_statistics<T: Element>(x: &Tensor, c: usize, count: usize) -> (Vec<f64>, Vec<f64>) {
    let xs = &x.data::<T>()[..x.numel()];
    let zeros = Params::new(&vec![T::ZERO; c]);
    let [sums] = columns::sums(
        (xs, xs),
        &zeros,
        #[inline(always)]
        |x, _, _| [x],
    );
    // The mean as rounded to T is what the second pass subtracts; the sum of those deviations corrects for the rounding.
    let pivot: Vec<T> = sums.iter().map(|s| T::from_f64(s / count as f64)).collect();
    let [first, second] = columns::sums(
        (xs, xs),
        &Params::new(&pivot),
        #[inline(always)]
        |x, _, p| [x - p, (x - p) * (x - p)],
    );
    let mut mean = Vec::with_capacity(c);
    let mut variance = Vec::with_capacity(c);
    for i in 0..c {
        let shift = first[i] / count as f64;
        mean.push(pivot[i].to_f64() + shift);
        variance.push(non_negative(second[i] / count as f64 - shift * shift));
    }
    (mean, variance)
}

fn narrow<T: Element>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&v| T::from_f64(v)).collect()
}

/// A tensor of rank 1.
fn vector(values: &[f64], dtype: DType) -> Tensor {
    let dims = crate::shape::Dims::from_short(&[values.len()]);
    dispatch!(dtype, T => Tensor::from_buffer(Buffer::from_slice(&narrow::<T>(values)), dims, dims.row_major()))
}
