//! Reductions over axes.

use crate::buffer::Buffer;
use crate::cpu::rows;
use crate::cuda;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::shape::{Dims, broadcast_shape};
use crate::tensor::dispatch;
use crate::{Element, Tensor};

impl Tensor {
    /// Brings the named axes to the end, so that each result is made from one adjacent row; the row's length comes with it.
    fn rows_over(&self, op: &'static str, axes: &[usize]) -> Result<(Tensor, Dims, usize)> {
        for &axis in axes {
            self.check_axis(op, axis)?;
        }
        let mut order = Dims::from_short(&[]);
        let mut kept = Dims::from_short(&[]);
        for axis in (0..self.rank()).filter(|axis| !axes.contains(axis)) {
            order.push(axis);
            kept.push(self.shape()[axis]);
        }
        for axis in (0..self.rank()).filter(|axis| axes.contains(axis)) {
            order.push(axis);
        }
        let length = order[kept.len()..].iter().map(|&axis| self.shape()[axis]).product();
        Ok((self.permute(&order)?.row_major()?, kept, length))
    }

    /// Sum over the named axes, which the result no longer has.
    ///
    /// Lanes of 32 elements are added in the tensor's dtype, the lanes' sums in f64.
    ///
    /// # Errors
    /// [`crate::Error::Axis`] if one does not exist.
    pub fn sum(&self, axes: &[usize]) -> Result<Tensor> {
        let (source, shape, length) = self.rows_over("sum", axes)?;
        if source.on_cuda().is_some() {
            return cuda::row_sums(&source, shape, length);
        }
        Ok(dispatch!(self.dtype(), T => {
            reduce_rows::<T>(&source, shape, length, |row| rows::fold(row, row, #[inline(always)] |a, _| a))
        }))
    }

    /// Mean over the named axes, which the result no longer has.
    ///
    /// # Errors
    /// [`crate::Error::Axis`] if one does not exist.
    pub fn mean(&self, axes: &[usize]) -> Result<Tensor> {
        let sum = self.sum(axes)?;
        let count: usize =
            (0..self.rank()).filter(|a| axes.contains(a)).map(|a| self.shape()[a]).product();
        sum.affine(1.0 / count as f64, 0.0)
    }

    /// Largest element over the named axes, which the result no longer has; NaN wins.
    ///
    /// # Errors
    /// [`crate::Error::Axis`] if one does not exist.
    pub fn max(&self, axes: &[usize]) -> Result<Tensor> {
        let (source, shape, length) = self.rows_over("max", axes)?;
        if source.on_cuda().is_some() {
            return cuda::row_max(&source, shape, length);
        }
        Ok(dispatch!(self.dtype(), T => {
            reduce_rows::<T>(&source, shape, length, |row| rows::largest(row).to_f64())
        }))
    }

    /// Gradient of [`Tensor::max`] over `axes`: it goes to the first largest element, in row-major order.
    ///
    /// - `input`: as [`Tensor::max`] was given it; `dy`: the shape of its result
    ///
    /// # Errors
    /// [`crate::Error::Axis`] if an axis does not exist; shapes or dtypes that differ.
    pub fn max_backward(input: &Tensor, dy: &Tensor, axes: &[usize]) -> Result<Tensor> {
        const OP: &str = "max_backward";
        input.check_dtype(OP, dy)?;
        let (source, shape, length) = input.rows_over(OP, axes)?;
        if dy.dims() != shape {
            let rule = "the second must be what the maximum makes of the first";
            return Err(Error::mismatch(OP, input.shape(), dy.shape(), rule));
        }
        let gone = (0..input.rank()).filter(|axis| axes.contains(axis));
        let order = (0..input.rank()).filter(|axis| !axes.contains(axis)).chain(gone);
        let mut back = input.dims();
        for (place, axis) in order.enumerate() {
            back[axis] = place;
        }
        let dy = dy.row_major()?;
        if source.on_cuda().is_some() {
            return cuda::row_max_backward(&source, &dy, length)?.permute(&back);
        }
        dispatch!(input.dtype(), T => {
            let (n, xs, dys) = (input.numel(), source.data::<T>(), dy.data::<T>());
            let mut dx = Buffer::<T>::filled(n, T::ZERO);
            if length > 0 {
                rows::for_each(dx.as_mut_slice(), length, |row, dx| {
                    dx[rows::first_largest(&xs[row * length..][..length])] = dys[row];
                });
            }
            Tensor::from_buffer(dx, source.dims(), source.strides()).permute(&back)
        })
    }

    /// Sum of all elements, in the order of memory; added up as in [`Tensor::sum`]. Waits for a CUDA device.
    ///
    /// # Errors
    /// None on the processor; what a CUDA device fails with.
    pub fn sum_all(&self) -> Result<f64> {
        let tensor = self.densely()?;
        if tensor.on_cuda().is_some() {
            return cuda::sum_all(&tensor);
        }
        Ok(dispatch!(self.dtype(), T => {
            let data = &tensor.data::<T>()[..tensor.numel()];
            rows::fold(data, data, #[inline(always)] |a, _| a)
        }))
    }

    /// Sum of the products of two tensors' elements, in the order of this one's memory; added up as in [`Tensor::sum`]. Waits for a CUDA
    /// device; [`Tensor::dot_scaled`] does not.
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn dot(&self, other: &Tensor) -> Result<f64> {
        self.check_same("dot", other)?;
        let x = self.densely()?;
        let y = other.laid_out_like(&x)?;
        if x.on_cuda().is_some() {
            return cuda::dot(&x, &y);
        }
        Ok(dispatch!(self.dtype(), T => {
            rows::fold(&x.data::<T>()[..x.numel()], &y.data::<T>()[..x.numel()], #[inline(always)] |a, b| a * b)
        }))
    }

    /// [`Tensor::dot`] times a number, as a tensor of rank 0 on the operands' device: a loss that nobody waits for.
    ///
    /// # Errors
    /// Shapes, dtypes or devices that differ.
    pub fn dot_scaled(&self, other: &Tensor, scale: f64) -> Result<Tensor> {
        if self.on_cuda().is_none() {
            return Ok(Tensor::scalar(self.dot(other)? * scale, self.dtype()));
        }
        self.check_same("dot", other)?;
        let x = self.densely()?;
        cuda::dot_scaled(&x, &other.laid_out_like(&x)?, scale)
    }

    /// Position of the largest element of each row of the last axis; the first of equals, and the first NaN of a row that has one.
    ///
    /// # Errors
    /// [`crate::Error::Axis`] for a tensor of rank 0; [`crate::Error::Shape`] for rows without elements.
    pub fn argmax_rows(&self) -> Result<Vec<usize>> {
        self.check_axis("argmax_rows", self.rank().saturating_sub(1))?;
        let columns = self.shape()[self.rank() - 1];
        if columns == 0 {
            let rule = "an empty last axis has no largest element";
            return Err(Error::shape("argmax_rows", self.shape(), rule));
        }
        let source = self.row_major()?.to_device(&Device::Cpu)?;
        Ok(dispatch!(self.dtype(), T => {
            let data = &source.data::<T>()[..self.numel()];
            data.chunks_exact(columns).map(rows::first_largest).collect()
        }))
    }

    /// Sums a gradient over the axes along which an operand of `shape` was stretched to this shape.
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`] if `shape` does not broadcast to this one.
    pub fn sum_to(&self, shape: &[usize]) -> Result<Tensor> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        if broadcast_shape("sum_to", shape, self.shape())? != self.dims() {
            let rule = "the second must broadcast to the first";
            return Err(Error::mismatch("sum_to", self.shape(), shape, rule));
        }
        let missing = self.rank() - shape.len();
        let axes: Vec<usize> = (0..self.rank())
            .filter(|&axis| {
                axis < missing || (shape[axis - missing] == 1 && self.shape()[axis] != 1)
            })
            .collect();
        self.sum(&axes)?.reshape(shape)
    }
}

/// One result per row of `length` elements.
fn reduce_rows<T: Element>(
    source: &Tensor,
    shape: Dims,
    length: usize,
    reduce: impl Fn(&[T]) -> f64 + Sync,
) -> Tensor {
    let data = &source.data::<T>()[..source.numel()];
    let mut out = Buffer::<T>::unfilled(shape.numel());
    rows::reduce(out.as_mut_slice(), data, length, reduce);
    Tensor::from_buffer(out, shape, shape.row_major())
}
