//! Matrix products.

use crate::Tensor;
use crate::buffer::Buffer;
use crate::cpu::matmul::{Operand, matmul};
use crate::cuda;
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
        let shape = Dims::new(&[outer, &[m, n]].concat())
            .map_err(|_| rule("the product must be one that fits in memory"))?;
        // One matrix for all: the batch's rows are rows of one product.
        let (a, batch, rows) = if shared && !outer.is_empty() {
            (self.row_major()?, 1, outer.iter().product::<usize>() * m)
        } else {
            (self.batched()?, outer.iter().product(), m)
        };
        let b = other.batched()?;
        if a.on_cuda().is_some() {
            return cuda::matmul(batch, [rows, k, n], &a, &b, shape);
        }
        dispatch!(self.dtype(), T => {
            let mut c = Buffer::<T>::unfilled(shape.numel());
            matmul(
                batch,
                [rows, k, n],
                a.operand::<T>(),
                b.operand::<T>(),
                None,
                false,
                c.as_mut_slice(),
            );
            Ok(Tensor::from_buffer(c, shape, shape.row_major()))
        })
    }

    /// This tensor itself if a single stride leads from matrix to matrix, else a row-major copy.
    fn batched(&self) -> Result<Tensor> {
        let axes: Vec<(usize, usize)> = self.batch_axes().collect();
        let regular = axes.windows(2).all(|pair| pair[0].1 == pair[1].0 * pair[1].1);
        if regular { Ok(self.clone()) } else { self.row_major() }
    }

    /// Extents and strides of the axes before the matrices; what an axis of extent 1 has as its stride means nothing.
    fn batch_axes(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> {
        let (shape, strides, outer) = (self.dims(), self.strides(), self.rank() - 2);
        (0..outer).map(move |i| (shape[i], strides[i])).filter(|&(extent, _)| extent != 1)
    }

    fn operand<T: crate::Element>(&self) -> Operand<'_, T> {
        let [row, column, batch] = self.matrix_strides();
        Operand { data: self.data::<T>(), row, column, batch }
    }

    /// Elements from row to row, from column to column, and from matrix to matrix.
    pub(crate) fn matrix_strides(&self) -> [usize; 3] {
        let (rank, strides) = (self.rank(), self.strides());
        let batch = self.batch_axes().next_back().map_or(0, |(_, stride)| stride);
        [strides[rank - 2], strides[rank - 1], batch]
    }
}
