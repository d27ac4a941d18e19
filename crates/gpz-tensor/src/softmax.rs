//! Operations along the last axis: softmax, log-softmax, layer normalisation.

use crate::buffer::Buffer;
use crate::cpu::rows;
use crate::cuda;
use crate::error::{Error, Result};
use crate::tensor::dispatch;
use crate::{Element, Tensor};

/// Gradients of [`Tensor::layer_norm`].
pub struct LayerNormGradients {
    /// With respect to the input; shape of the input.
    pub input: Tensor,
    /// With respect to the scale, `[d]`.
    pub scale: Tensor,
    /// With respect to the shift, `[d]`.
    pub shift: Tensor,
}

impl Tensor {
    /// This tensor row-major, and the length of its last axis.
    fn last_axis(&self, op: &'static str) -> Result<(Tensor, usize)> {
        self.check_axis(op, self.rank().saturating_sub(1))?;
        Ok((self.row_major()?, self.shape()[self.rank() - 1]))
    }

    fn map_rows<T: Element>(&self, columns: usize, f: impl Fn(&mut [T], &[T]) + Sync) -> Tensor {
        let data = &self.data::<T>()[..self.numel()];
        let mut out = Buffer::<T>::unfilled(self.numel());
        rows::for_each(out.as_mut_slice(), columns, |r, out| {
            f(out, &data[r * columns..][..columns])
        });
        Tensor::from_buffer(out, self.dims(), self.strides())
    }

    fn map_row_pairs<T: Element>(
        &self,
        other: &Tensor,
        columns: usize,
        f: impl Fn(&mut [T], &[T], &[T]) + Sync,
    ) -> Tensor {
        let data = &other.data::<T>()[..other.numel()];
        let next = |out: &mut [T], x: &[T], at: usize| f(out, x, &data[at..at + columns]);
        let xs = &self.data::<T>()[..self.numel()];
        let mut out = Buffer::<T>::unfilled(self.numel());
        rows::for_each(out.as_mut_slice(), columns, |r, out| {
            next(out, &xs[r * columns..][..columns], r * columns);
        });
        Tensor::from_buffer(out, self.dims(), self.strides())
    }

    /// `eˣ / Σ eˣ` along the last axis.
    ///
    /// # Errors
    /// [`Error::Axis`] for a tensor of rank 0.
    pub fn softmax(&self) -> Result<Tensor> {
        let (x, d) = self.last_axis("softmax")?;
        if x.on_cuda().is_some() {
            return cuda::softmax(&x, d);
        }
        Ok(dispatch!(x.dtype(), T => x.map_rows::<T>(d, rows::softmax)))
    }

    /// Gradient of [`Tensor::softmax`]: `y · (dy − Σ y dy)`.
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn softmax_backward(output: &Tensor, dy: &Tensor) -> Result<Tensor> {
        output.check_same("softmax_backward", dy)?;
        let (y, d) = output.last_axis("softmax_backward")?;
        let dy = dy.row_major()?;
        if y.on_cuda().is_some() {
            return cuda::softmax_backward(&y, &dy, d);
        }
        Ok(dispatch!(y.dtype(), T => y.map_row_pairs::<T>(&dy, d, |dx, y, dy| {
            let product = T::from_f64(rows::fold(y, dy, #[inline(always)] |a, b| a * b));
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = y * (dy - product);
            }
        })))
    }

    /// `x − ln Σ eˣ` along the last axis.
    ///
    /// # Errors
    /// [`Error::Axis`] for a tensor of rank 0.
    pub fn log_softmax(&self) -> Result<Tensor> {
        let (x, d) = self.last_axis("log_softmax")?;
        if x.on_cuda().is_some() {
            return cuda::log_softmax(&x, d);
        }
        Ok(dispatch!(x.dtype(), T => x.map_rows::<T>(d, rows::log_softmax)))
    }

    /// Gradient of [`Tensor::log_softmax`]: `dy − e^y Σ dy`.
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn log_softmax_backward(output: &Tensor, dy: &Tensor) -> Result<Tensor> {
        output.check_same("log_softmax_backward", dy)?;
        let (y, d) = output.last_axis("log_softmax_backward")?;
        let dy = dy.row_major()?;
        if y.on_cuda().is_some() {
            return cuda::log_softmax_backward(&y, &dy, d);
        }
        Ok(dispatch!(y.dtype(), T => y.map_row_pairs::<T>(&dy, d, |dx, y, dy| {
            let sum = T::from_f64(rows::fold(dy, dy, #[inline(always)] |a, _| a));
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = dy - y.exp() * sum;
            }
        })))
    }

    /// `scale` times the sum over the rows of `−Σ t ln softmax(x)`, in nats, as a tensor of rank 0; and the gradient of the unscaled sum,
    /// `softmax(x) Σ t − t`, in the same pass.
    ///
    /// - `self`: `x`, `[..., classes]`; `targets`: `t`, of the same shape
    ///
    /// # Errors
    /// Shapes or dtypes that differ; [`Error::Axis`] for a tensor of rank 0.
    pub fn soft_cross_entropy(&self, targets: &Tensor, scale: f64) -> Result<(Tensor, Tensor)> {
        self.check_same("soft_cross_entropy", targets)?;
        let (x, d) = self.last_axis("soft_cross_entropy")?;
        let targets = targets.row_major()?;
        if x.on_cuda().is_some() {
            return cuda::soft_cross_entropy(&x, &targets, d, scale);
        }
        let log_probs = x.log_softmax()?;
        let loss = -scale * log_probs.dot(&targets)?;
        let gradient = dispatch!(x.dtype(), T => log_probs.map_row_pairs::<T>(&targets, d, |dx, p, t| {
            let sum = T::from_f64(rows::fold(t, t, #[inline(always)] |a, _| a));
            for ((dx, &p), &t) in dx.iter_mut().zip(p).zip(t) {
                *dx = p.exp() * sum - t;
            }
        }));
        Ok((Tensor::scalar(loss, x.dtype()), gradient))
    }

    /// Normalises each row of the last axis to mean 0 and variance 1, then scales and shifts:
    /// `(x − mean) / √(var + eps) · scale + shift`, the variance divided by the count.
    ///
    /// - `self`: `[..., d]`; `scale`, `shift`: `[d]`
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    ///
    /// # Source
    /// Ba, Kiros and Hinton, 2016.
    pub fn layer_norm(&self, scale: &Tensor, shift: &Tensor, eps: f64) -> Result<Tensor> {
        let (x, d) = self.last_axis("layer_norm")?;
        x.check_normal(d, &[scale, shift])?;
        if x.on_cuda().is_some() {
            return cuda::layer_norm(&x, &scale.row_major()?, &shift.row_major()?, d, eps);
        }
        x.normal_rows(d, eps).mul(scale)?.add(shift)
    }

    fn check_normal(&self, d: usize, parameters: &[&Tensor]) -> Result<()> {
        let x = self;
        for parameter in parameters {
            x.check_dtype("layer_norm", parameter)?;
            if parameter.shape() != [d] {
                let rule = "the second must hold one value per entry of the first's last axis";
                return Err(Error::mismatch("layer_norm", x.shape(), parameter.shape(), rule));
            }
        }
        Ok(())
    }

    /// Rows of mean 0 and variance 1.
    fn normal_rows(&self, d: usize, eps: f64) -> Tensor {
        dispatch!(self.dtype(), T => self.map_rows::<T>(d, |out, row| {
            let Moments { pivot, shift, inverse } = Moments::of(row, eps);
            for (o, &x) in out.iter_mut().zip(row) {
                *o = ((x - pivot) - shift) * inverse;
            }
        }))
    }

    /// Gradients of [`Tensor::layer_norm`].
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn layer_norm_backward(
        input: &Tensor,
        dy: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<LayerNormGradients> {
        input.check_same("layer_norm_backward", dy)?;
        let (x, d) = input.last_axis("layer_norm_backward")?;
        x.check_normal(d, &[scale])?;
        if x.on_cuda().is_some() {
            return cuda::layer_norm_backward(&x, &dy.row_major()?, &scale.row_major()?, d, eps);
        }
        let normal = x.normal_rows(d, eps);
        let count: usize = x.shape()[..x.rank() - 1].iter().product();
        let as_matrix = |t: &Tensor| t.reshape(&[count, d]);
        let scaled = dy.mul(scale)?.row_major()?;
        let dx = dispatch!(x.dtype(), T => scaled.map_row_pairs::<T>(&x, d, |dx, g, x| {
            let Moments { pivot, shift, inverse } = Moments::of(x, eps);
            let count = d as f64;
            let mean_g = T::from_f64(rows::fold(g, g, #[inline(always)] |a, _| a) / count);
            let slope = rows::fold(g, x, #[inline(always)] |g, x| g * (((x - pivot) - shift) * inverse)) / count;
            let slope = T::from_f64(slope);
            for ((dx, &g), &x) in dx.iter_mut().zip(g).zip(x) {
                *dx = ((g - mean_g) - ((x - pivot) - shift) * inverse * slope) * inverse;
            }
        }));
        Ok(LayerNormGradients {
            input: dx,
            scale: as_matrix(&dy.mul(&normal)?)?.channel_sums()?,
            shift: as_matrix(dy)?.channel_sums()?,
        })
    }
}

/// A variance without the rounding error that makes it negative; NaN stays NaN, which `f64::max` would hide.
pub(crate) fn non_negative(variance: f64) -> f64 {
    if variance < 0.0 { 0.0 } else { variance }
}

/// Mean and reciprocal standard deviation of a row.
struct Moments<T> {
    /// The mean as the dtype holds it.
    pivot: T,
    /// What the mean's rounding left over.
    shift: T,
    /// `1 / √(var + eps)`.
    inverse: T,
}

impl<T: Element> Moments<T> {
    fn of(row: &[T], eps: f64) -> Self {
        let count = row.len() as f64;
        let sum = rows::fold(
            row,
            row,
            #[inline(always)]
            |a, _| a,
        );
        let pivot = T::from_f64(sum / count);
        let (deviation, square) = rows::deviations(row, pivot);
        let shift = deviation / count;
        let variance = non_negative(square / count - shift * shift);
        Moments {
            pivot,
            shift: T::from_f64(shift),
            inverse: T::from_f64(1.0 / (variance + eps).sqrt()),
        }
    }
}
