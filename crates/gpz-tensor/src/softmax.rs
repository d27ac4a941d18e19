//! Operations along the last axis: softmax, log-softmax, layer normalisation.

use crate::buffer::Buffer;
use crate::cpu::{norm, rows};
use crate::cuda;
use crate::error::{Error, Result};
use crate::shape::Dims;
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
        let (scale, shift) = (scale.row_major()?, shift.row_major()?);
        Ok(dispatch!(x.dtype(), T => {
            let parameters = [&scale.data::<T>()[..d], &shift.data::<T>()[..d]];
            let mut out = Buffer::<T>::unfilled(x.numel());
            norm::forward(out.as_mut_slice(), &x.data::<T>()[..x.numel()], parameters, eps);
            Tensor::from_buffer(out, x.dims(), x.strides())
        }))
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
        let (dy, scale) = (dy.row_major()?, scale.row_major()?);
        Ok(dispatch!(x.dtype(), T => {
            let rows = [&x, &dy].map(|t| &t.data::<T>()[..x.numel()]);
            let mut dx = Buffer::<T>::unfilled(x.numel());
            let parameters =
                norm::backward(dx.as_mut_slice(), rows, &scale.data::<T>()[..d], eps).map(|sums| {
                    let sums: Vec<T> = sums.into_iter().map(T::from_f64).collect();
                    let shape = Dims::from_short(&[d]);
                    Tensor::from_buffer(Buffer::from_slice(&sums), shape, shape.row_major())
                });
            let [scale, shift] = parameters;
            let input = Tensor::from_buffer(dx, x.dims(), x.strides());
            LayerNormGradients { input, scale, shift }
        }))
    }
}

/// A variance without the rounding error that makes it negative; NaN stays NaN, which `f64::max` would hide.
pub(crate) fn non_negative(variance: f64) -> f64 {
    if variance < 0.0 { 0.0 } else { variance }
}
