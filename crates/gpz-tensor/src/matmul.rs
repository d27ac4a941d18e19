//! Matrix products.

use crate::Tensor;
use crate::buffer::Buffer;
use crate::cpu::matmul::{Operand, matmul};
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::tensor::dispatch;

impl Tensor {
    /// Matrix product over the last two axes: `[..., m, k] · [..., k, n] = [..., m, n]`.
    ///
    /// The axes before them must be equal, or `other` is one matrix for all. Transposed views are multiplied as they lie.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] names both shapes; dtypes must be equal.
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        self.check_dtype("matmul", other)?;
        let rule = |rule| Error::mismatch("matmul", self.shape(), other.shape(), rule);
        if self.rank() < 2 || other.rank() < 2 {
            return Err(rule("both must be matrices or batches of them"));
        }
        let (outer, other_outer) =
            (&self.shape()[..self.rank() - 2], &other.shape()[..other.rank() - 2]);
        let (m, k) = (self.shape()[self.rank() - 2], self.shape()[self.rank() - 1]);
        let (k2, n) = (other.shape()[other.rank() - 2], other.shape()[other.rank() - 1]);
        if k != k2 {
            return Err(rule("the inner dimensions must be equal"));
        }
        let shared = other_outer.is_empty();
        if !shared && outer != other_outer {
            return Err(rule(
                "the axes before the matrices must be equal, or the second be one matrix",
            ));
        }
        let mut shape = Dims::from_short(outer);
        shape.push(m);
        shape.push(n);
        // One matrix for all: the batch's rows are rows of one product.
        let (a, batch, rows) = if shared && !outer.is_empty() {
            (self.row_major(), 1, outer.iter().product::<usize>() * m)
        } else {
            (self.batched(), outer.iter().product(), m)
        };
        let b = other.batched();
        dispatch!(self.dtype(), T => {
            let mut c = Buffer::<T>::unfilled(shape.numel());
            matmul(
                batch,
                [rows, k, n],
                a.operand::<T>(m),
                b.operand::<T>(k),
                None,
                false,
                c.as_mut_slice(),
            );
            Ok(Tensor::from_buffer(c, shape, shape.row_major()))
        })
    }

    /// This tensor itself if a single stride leads from matrix to matrix, else a row-major copy.
    fn batched(&self) -> Tensor {
        let outer = self.rank() - 2;
        let (shape, strides) = (self.dims(), self.strides());
        let regular =
            (1..outer).all(|i| strides[i - 1] == strides[i] * shape[i] || shape[i - 1] == 1);
        if regular { self.clone() } else { self.row_major() }
    }

    fn operand<T: crate::Element>(&self, rows: usize) -> Operand<'_, T> {
        let (rank, strides) = (self.rank(), self.strides());
        let batch = if rank > 2 { strides[rank - 3] } else { rows * strides[rank - 2] };
        Operand { data: self.data::<T>(), row: strides[rank - 2], column: strides[rank - 1], batch }
    }
}
