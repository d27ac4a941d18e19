//! Pooling over the height and width of pictures.

use crate::Tensor;
use crate::buffer::Buffer;
use crate::cpu::pool::{self, Geometry};
use crate::cuda;
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::tensor::dispatch;

/// Window of a pooling operation, height before width. Positions beyond the picture take no part in a maximum and count as zeros in
/// a mean, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2d {
    /// Extent of the window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Rows and columns added at each side; at most half the window.
    pub padding: [usize; 2],
}

impl Pool2d {
    /// Square windows side by side.
    pub fn square(size: usize) -> Self {
        Pool2d { kernel: [size; 2], stride: [size; 2], padding: [0; 2] }
    }

    /// Shape of the result for pictures `[n, c, h, w]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if no window fits, [`Error::Value`] for a window or stride of 0 or padding beyond half the window.
    pub fn output_shape(&self, op: &'static str, input: &[usize]) -> Result<[usize; 4]> {
        let &[n, c, h, w] = input else {
            return Err(Error::shape(op, input, "[n, c, h, w] is needed"));
        };
        let extent = |size: usize, axis: usize| {
            let (k, s, p) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
            if k == 0 || s == 0 {
                let value = k.min(s) as f64;
                return Err(Error::Value {
                    op,
                    name: "kernel or stride",
                    value,
                    rule: "at least 1",
                });
            }
            if p > k / 2 {
                let rule = "at most half the window";
                return Err(Error::Value { op, name: "padding", value: p as f64, rule });
            }
            let padded = size.checked_add(2 * p).filter(|_| size > 0);
            let room = padded
                .and_then(|padded| padded.checked_sub(k))
                .ok_or_else(|| Error::shape(op, input, "the window is larger than the picture"))?;
            Ok(room / s + 1)
        };
        Ok([n, c, extent(h, 0)?, extent(w, 1)?])
    }

    fn geometry(&self, op: &'static str, input: &[usize]) -> Result<(Geometry, Dims)> {
        let [n, c, h, w] = self.output_shape(op, input)?;
        let geometry = Geometry {
            input: [input[2], input[3]],
            output: [h, w],
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            channels: c,
        };
        Ok((geometry, Dims::from_short(&[n, c, h, w])))
    }
}

impl Tensor {
    /// Largest element of each window; NaN wins.
    ///
    /// - `self`: `[n, c, h, w]`
    ///
    /// # Errors
    /// As [`Pool2d::output_shape`].
    pub fn max_pool2d(&self, window: Pool2d) -> Result<Tensor> {
        let (geometry, shape) = window.geometry("max_pool2d", self.shape())?;
        let x = self.channels_last()?;
        if x.on_cuda().is_some() {
            return cuda::max_pool(&geometry, &x, shape);
        }
        Ok(dispatch!(x.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(shape.numel());
            pool::max_forward(&geometry, out.as_mut_slice(), x.data());
            Tensor::from_buffer(out, shape, shape.channels_last())
        }))
    }

    /// Gradient of [`Tensor::max_pool2d`]: it goes to the first largest element of each window.
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn max_pool2d_backward(
        input: &Tensor,
        output: &Tensor,
        dy: &Tensor,
        window: Pool2d,
    ) -> Result<Tensor> {
        input.check_dtype("max_pool2d_backward", output)?;
        output.check_same("max_pool2d_backward", dy)?;
        let (geometry, shape) = window.geometry("max_pool2d_backward", input.shape())?;
        check_pooled(output, &shape)?;
        let (x, y, dy) = (input.channels_last()?, output.channels_last()?, dy.channels_last()?);
        if x.on_cuda().is_some() {
            return cuda::max_pool_backward(&geometry, &x, &y, &dy);
        }
        Ok(dispatch!(x.dtype(), T => {
            let mut dx = Buffer::<T>::unfilled(x.numel());
            pool::max_backward(&geometry, dx.as_mut_slice(), x.data(), y.data(), dy.data());
            Tensor::from_buffer(dx, x.dims(), x.strides())
        }))
    }

    /// Mean of each window; positions beyond the picture count as zeros.
    ///
    /// - `self`: `[n, c, h, w]`
    ///
    /// # Errors
    /// As [`Pool2d::output_shape`].
    pub fn avg_pool2d(&self, window: Pool2d) -> Result<Tensor> {
        let (geometry, shape) = window.geometry("avg_pool2d", self.shape())?;
        let x = self.channels_last()?;
        if x.on_cuda().is_some() {
            return cuda::average_pool(&geometry, &x, shape);
        }
        Ok(dispatch!(x.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(shape.numel());
            pool::average_forward(&geometry, out.as_mut_slice(), x.data());
            Tensor::from_buffer(out, shape, shape.channels_last())
        }))
    }

    /// Gradient of [`Tensor::avg_pool2d`] for an input of the given shape.
    ///
    /// # Errors
    /// Shapes that do not belong together.
    pub fn avg_pool2d_backward(
        dy: &Tensor,
        input_shape: &[usize],
        window: Pool2d,
    ) -> Result<Tensor> {
        let (geometry, shape) = window.geometry("avg_pool2d_backward", input_shape)?;
        check_pooled(dy, &shape)?;
        let dy = dy.channels_last()?;
        let input = Dims::new(input_shape)?;
        if dy.on_cuda().is_some() {
            return cuda::average_pool_backward(&geometry, &dy, input);
        }
        Ok(dispatch!(dy.dtype(), T => {
            let mut dx = Buffer::<T>::unfilled(input.numel());
            pool::average_backward(&geometry, dx.as_mut_slice(), dy.data());
            Tensor::from_buffer(dx, input, input.channels_last())
        }))
    }
}

fn check_pooled(tensor: &Tensor, shape: &Dims) -> Result<()> {
    if tensor.dims() != *shape {
        let rule = "the first must be what pooling makes of the input";
        return Err(Error::mismatch("pool2d_backward", tensor.shape(), shape, rule));
    }
    Ok(())
}
