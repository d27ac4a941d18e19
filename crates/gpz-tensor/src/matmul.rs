//! Matrix products.

use crate::Tensor;
use crate::buffer::Buffer;
use crate::cpu::conv::{self, Geometry, Window};
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

    /// `x Wᵀ + b` along the last axis, the bias added before the result is stored.
    ///
    /// - `self`: `[..., in]`; `weight`: `[out, in]`; `bias`: `[out]`; result `[..., out]`
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        const OP: &str = "linear";
        self.check_dtype(OP, weight)?;
        let (&[.., inner], &[outputs, inputs]) = (self.shape(), weight.shape()) else {
            let rule = "the first needs an axis, the second must be [out, in]";
            return Err(Error::mismatch(OP, self.shape(), weight.shape(), rule));
        };
        if inner != inputs {
            let rule = "the last axes must be equal";
            return Err(Error::mismatch(OP, self.shape(), weight.shape(), rule));
        }
        if let Some(bias) = bias {
            self.check_dtype(OP, bias)?;
            if bias.shape() != [outputs] {
                let rule = "the second must hold one value per row of the first";
                return Err(Error::mismatch(OP, weight.shape(), bias.shape(), rule));
            }
        }
        let outer = &self.shape()[..self.rank() - 1];
        let shape = Dims::new(&[outer, &[outputs]].concat()).map_err(|_| {
            let rule = "the product must be one that fits in memory";
            Error::mismatch(OP, self.shape(), weight.shape(), rule)
        })?;
        let rows = outer.iter().product::<usize>();
        let x = self.row_major()?;
        if x.on_cuda().is_some() {
            let y = x.reshape(&[rows, inputs])?.matmul(&weight.transpose(0, 1)?)?;
            let y = bias.map(|bias| y.add(bias)).transpose()?.unwrap_or(y);
            return y.reshape(&shape);
        }
        let bias = bias.map(Tensor::row_major).transpose()?;
        dispatch!(self.dtype(), T => {
            let mut y = Buffer::<T>::unfilled(shape.numel());
            let [out_stride, in_stride, _] = weight.matrix_strides();
            matmul(
                1,
                [rows, inputs, outputs],
                Operand { data: x.data::<T>(), row: inputs, column: 1, batch: 0 },
                Operand { data: weight.data::<T>(), row: in_stride, column: out_stride, batch: 0 },
                bias.as_ref().map(|bias| &bias.data::<T>()[..outputs]),
                false,
                y.as_mut_slice(),
            );
            Ok(Tensor::from_buffer(y, shape, shape.row_major()))
        })
    }

    /// Gradient of [`Tensor::linear`] with respect to its weight: the sum over the rows of `dyᵀ x`, `[out, in]`.
    ///
    /// - `input`: `[..., in]`; `dy`: `[..., out]`
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn linear_weight_grad(input: &Tensor, dy: &Tensor) -> Result<Tensor> {
        const OP: &str = "linear_weight_grad";
        input.check_dtype(OP, dy)?;
        let (&[ref outer @ .., inputs], &[ref dy_outer @ .., outputs]) =
            (input.shape(), dy.shape())
        else {
            let rule = "both need an axis";
            return Err(Error::mismatch(OP, input.shape(), dy.shape(), rule));
        };
        if outer != dy_outer {
            let rule = "all axes but the last must be equal";
            return Err(Error::mismatch(OP, input.shape(), dy.shape(), rule));
        }
        let shape = Dims::new(&[outputs, inputs])?;
        let rows = outer.iter().product::<usize>();
        let (x, dy) = (input.row_major()?, dy.row_major()?);
        if x.on_cuda().is_some() {
            let dy = dy.reshape(&[rows, outputs])?.transpose(0, 1)?;
            return dy.matmul(&x.reshape(&[rows, inputs])?);
        }
        dispatch!(x.dtype(), T => {
            let mut dw = Buffer::<T>::unfilled(shape.numel());
            let sides = (&x.data::<T>()[..x.numel()], &dy.data::<T>()[..dy.numel()]);
            outer_products([rows, inputs, outputs], sides, dw.as_mut_slice())?;
            Ok(Tensor::from_buffer(dw, shape, shape.row_major()))
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

/// Rows of a picture of [`outer_products`].
const PICTURE_WIDTH: usize = 128;

/// `dw = Σ_rows dyᵀ x`: the weight gradient of a convolution whose pixels are the rows and whose window is one pixel.
fn outer_products<T: crate::Element>(
    [rows, inputs, outputs]: [usize; 3],
    (x, dy): (&[T], &[T]),
    dw: &mut [T],
) -> Result<()> {
    // A picture as wide as its sums stay in registers for, and the rows that are too few for a line of it.
    let whole = rows / PICTURE_WIDTH * PICTURE_WIDTH;
    let picture = |rows: usize, width: usize| {
        let size = [rows / width.max(1), width];
        Geometry::conv2d(1, size, [inputs, outputs], Window::square(1, 1, 0))
    };
    if dw.is_empty() || rows == 0 {
        dw.fill(T::ZERO);
        return Ok(());
    }
    let (first, last) = (x.split_at(whole * inputs), dy.split_at(whole * outputs));
    if whole > 0 {
        conv::weight_gradient(&picture(whole, PICTURE_WIDTH)?, first.0, last.0, dw);
    }
    let rest = rows - whole;
    if rest > 0 {
        let mut few = Buffer::<T>::unfilled(dw.len());
        conv::weight_gradient(&picture(rest, rest)?, first.1, last.1, few.as_mut_slice());
        match whole {
            0 => dw.copy_from_slice(few.as_slice()),
            _ => dw.iter_mut().zip(few.as_slice()).for_each(|(sum, &part)| *sum += part),
        }
    }
    Ok(())
}
