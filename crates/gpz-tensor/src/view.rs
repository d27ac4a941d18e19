//! Views: other shapes and orders over the same memory, and joining tensors.

use crate::Tensor;
use crate::buffer::Buffer;
use crate::cuda;
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::tensor::dispatch;

impl Tensor {
    /// The same elements in row-major order under another shape; a copy only if the memory order demands it.
    ///
    /// # Errors
    /// [`Error::Length`] if the shape holds another number of elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        let dims = Dims::new(shape)?;
        if dims.numel() != self.numel() {
            return Err(Error::Length {
                op: "reshape",
                len: self.numel(),
                want: dims.numel(),
                shape: shape.into(),
            });
        }
        Ok(self.row_major()?.view(dims, dims.row_major(), 0))
    }

    /// All axes from `first` on become one.
    ///
    /// # Errors
    /// [`Error::Axis`] if there is no such axis.
    pub fn flatten_from(&self, first: usize) -> Result<Tensor> {
        self.check_axis("flatten_from", first)?;
        let mut shape = Dims::from_short(&self.shape()[..first]);
        shape.push(self.shape()[first..].iter().product());
        self.reshape(&shape)
    }

    /// Axis `i` of the result is axis `axes[i]` of this tensor; a view.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if `axes` is not a permutation.
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor> {
        let mut seen = [false; crate::shape::MAX_RANK];
        let valid = axes.len() == self.rank()
            && axes.iter().all(|&a| a < self.rank() && !std::mem::replace(&mut seen[a], true));
        if !valid {
            let rule = "the second must name each axis of the first once";
            return Err(Error::mismatch("permute", self.shape(), axes, rule));
        }
        let mut shape = Dims::from_short(&[]);
        let mut strides = Dims::from_short(&[]);
        for &axis in axes {
            shape.push(self.shape()[axis]);
            strides.push(self.strides()[axis]);
        }
        Ok(self.view(shape, strides, 0))
    }

    /// Two axes exchanged; a view.
    ///
    /// # Errors
    /// [`Error::Axis`] if one does not exist.
    pub fn transpose(&self, a: usize, b: usize) -> Result<Tensor> {
        self.check_axis("transpose", a)?;
        self.check_axis("transpose", b)?;
        let (mut shape, mut strides) = (self.dims(), self.strides());
        shape.swap(a, b);
        strides.swap(a, b);
        Ok(self.view(shape, strides, 0))
    }

    /// `len` entries of an axis from `start` on; a view.
    ///
    /// # Errors
    /// [`Error::Axis`] or [`Error::Value`] if they do not exist.
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Tensor> {
        self.check_axis("narrow", axis)?;
        let extent = self.shape()[axis];
        if start.checked_add(len).is_none_or(|end| end > extent) {
            return Err(Error::Value {
                op: "narrow",
                name: "start + len",
                value: start as f64 + len as f64,
                rule: "the range must lie inside the axis",
            });
        }
        let mut shape = self.dims();
        shape[axis] = len;
        let offset = if shape.numel() == 0 { 0 } else { start * self.strides()[axis] };
        Ok(self.view(shape, self.strides(), offset))
    }

    /// A new axis of extent 1 before `axis`; a view.
    ///
    /// # Errors
    /// [`Error::Axis`] beyond the end, [`Error::Shape`] if the rank is at its limit.
    pub fn unsqueeze(&self, axis: usize) -> Result<Tensor> {
        if axis > self.rank() {
            return Err(Error::Axis { op: "unsqueeze", axis, rank: self.rank() });
        }
        if self.rank() == crate::shape::MAX_RANK {
            return Err(Error::shape("unsqueeze", self.shape(), "at most 6 axes"));
        }
        let (mut shape, mut strides) = (self.dims(), self.strides());
        shape.insert(axis, 1);
        strides.insert(axis, 1);
        Ok(self.view(shape, strides, 0))
    }

    /// This tensor stretched to `shape` without a copy: axes are aligned at the right, extents of one repeat.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the shape cannot be reached.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Tensor> {
        let dims = Dims::new(shape)?;
        let fits = self.rank() <= dims.len()
            && self.shape().iter().rev().zip(dims.iter().rev()).all(|(&a, &b)| a == b || a == 1);
        if !fits {
            return Err(Error::mismatch(
                "broadcast_to",
                self.shape(),
                shape,
                "aligned at the right, each extent must be equal or 1",
            ));
        }
        Ok(self.view(dims, self.stretched_strides(&dims), 0))
    }

    /// Strides under which this tensor repeats over a shape it broadcasts to.
    pub(crate) fn stretched_strides(&self, shape: &Dims) -> Dims {
        let mut strides = *shape;
        let missing = shape.len() - self.rank();
        for axis in 0..shape.len() {
            strides[axis] = match axis.checked_sub(missing) {
                Some(own) if self.shape()[own] == shape[axis] => self.strides()[own],
                _ => 0,
            };
        }
        strides
    }

    /// Tensors joined along an axis.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if other axes differ, [`Error::Shape`] for an empty list or a result that does not fit in memory.
    pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        let Some(first) = tensors.first() else {
            return Err(Error::shape("concat", &[], "at least one tensor is needed"));
        };
        first.check_axis("concat", axis)?;
        let mut shape = first.dims();
        shape[axis] = 0;
        for tensor in tensors {
            first.check_dtype("concat", tensor)?;
            if tensor.rank() != first.rank()
                || tensor.dims().without(axis) != first.dims().without(axis)
            {
                return Err(Error::mismatch(
                    "concat",
                    first.shape(),
                    tensor.shape(),
                    "all axes but the joined one must be equal",
                ));
            }
            shape[axis] = shape[axis].saturating_add(tensor.shape()[axis]);
        }
        let shape = Dims::new(&shape)?;
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let row = shape[axis] * inner;
        if first.on_cuda().is_some() {
            return cuda::concat(tensors, axis, shape);
        }
        dispatch!(first.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(shape.numel());
            let mut start = 0;
            for tensor in tensors {
                let source = tensor.row_major()?;
                let width = tensor.shape()[axis] * inner;
                for o in 0..outer {
                    out.as_mut_slice()[o * row + start..][..width]
                        .copy_from_slice(&source.data::<T>()[o * width..][..width]);
                }
                start += width;
            }
            Ok(Tensor::from_buffer(out, shape, shape.row_major()))
        })
    }

    pub(crate) fn check_axis(&self, op: &'static str, axis: usize) -> Result<()> {
        if axis >= self.rank() {
            return Err(Error::Axis { op, axis, rank: self.rank() });
        }
        Ok(())
    }
}
