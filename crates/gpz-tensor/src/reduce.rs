//! Reductions over axes.

use crate::buffer::Buffer;
use crate::cpu::pool::larger;
use crate::cpu::rows;
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
        Ok((self.permute(&order)?.row_major(), kept, length))
    }

    /// Sum over the named axes, which the result no longer has.
    ///
    /// Lanes of 32 elements are added in the tensor's dtype, the lanes' sums in f64.
    ///
    /// # Errors
    /// [`crate::Error::Axis`] if one does not exist.
    pub fn sum(&self, axes: &[usize]) -> Result<Tensor> {
        let (source, shape, length) = self.rows_over("sum", axes)?;
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
        Ok(sum.affine(1.0 / count as f64, 0.0))
    }

    /// Largest element over the named axes, which the result no longer has; NaN wins.
    ///
    /// # Errors
    /// [`crate::Error::Axis`] if one does not exist.
    pub fn max(&self, axes: &[usize]) -> Result<Tensor> {
        let (source, shape, length) = self.rows_over("max", axes)?;
        Ok(dispatch!(self.dtype(), T => {
            reduce_rows::<T>(&source, shape, length, |row| {
                row.iter().fold(T::NEG_INFINITY, |best, &v| larger(best, v)).to_f64()
            })
        }))
    }

    /// Sum of all elements, in the order of memory; added up as in [`Tensor::sum`].
    pub fn sum_all(&self) -> f64 {
        let tensor = self.densely();
        dispatch!(self.dtype(), T => {
            let data = &tensor.data::<T>()[..tensor.numel()];
            rows::fold(data, data, #[inline(always)] |a, _| a)
        })
    }

    /// Sum of the products of two tensors' elements, in the order of this one's memory; added up as in [`Tensor::sum`].
    ///
    /// # Errors
    /// Shapes or dtypes that differ.
    pub fn dot(&self, other: &Tensor) -> Result<f64> {
        self.check_same("dot", other)?;
        let x = self.densely();
        let y = other.laid_out_like(&x);
        Ok(dispatch!(self.dtype(), T => {
            rows::fold(&x.data::<T>()[..x.numel()], &y.data::<T>()[..x.numel()], #[inline(always)] |a, b| a * b)
        }))
    }

    /// Position of the largest element of each row of the last axis; the first of equals.
    ///
    /// # Errors
    /// [`crate::Error::Axis`] for a tensor of rank 0.
    pub fn argmax_rows(&self) -> Result<Vec<usize>> {
        self.check_axis("argmax_rows", self.rank().saturating_sub(1))?;
        let columns = self.shape()[self.rank() - 1];
        let source = self.row_major();
        Ok(dispatch!(self.dtype(), T => {
            let data = &source.data::<T>()[..self.numel()];
            data.chunks_exact(columns.max(1))
                .map(|row| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }))
                .collect()
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
    rows::for_each(out.as_mut_slice(), 1, |row, out| {
        out[0] = T::from_f64(reduce(&data[row * length..][..length]));
    });
    Tensor::from_buffer(out, shape, shape.row_major())
}
