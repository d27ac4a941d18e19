//! Attention of tokens to each other, without the matrix of their scores in memory.

use crate::Tensor;
use crate::buffer::Buffer;
use crate::cpu::attention::{self, Heads};
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::tensor::dispatch;

impl Tensor {
    /// Multi-head attention of tokens to each other, for tensors on the processor: `softmax(q kᵀ / √d) v` in each head.
    ///
    /// - `self`: `[n, t, 3·h·d]`, for each token the queries of all heads, then the keys, then the values
    /// - results: `[n, t, h·d]`; and `ln Σ eˢ` of the scores of each head and token, `[n, h, t]`, from which
    ///   [`Tensor::self_attention_backward`] computes the scores again
    ///
    /// # Errors
    /// [`Error::Shape`] unless the last axis holds three times a multiple of `heads`; [`Error::DeviceMismatch`] on a CUDA device.
    ///
    /// # Source
    /// Vaswani et al., 2017; scores computed again instead of kept after Dao et al., 2022.
    pub fn self_attention(&self, heads: usize) -> Result<(Tensor, Tensor)> {
        const OP: &str = "self_attention";
        let (sizes, [n, tokens]) = self.heads(OP, heads)?;
        let packed = self.row_major()?;
        dispatch!(self.dtype(), T => {
            let width = sizes.heads * sizes.width;
            let mut output = Buffer::<T>::unfilled(n * tokens * width);
            let mut sums = Buffer::<T>::unfilled(n * sizes.heads * tokens);
            let x = &packed.data::<T>()[..packed.numel()];
            attention::forward(sizes, x, output.as_mut_slice(), sums.as_mut_slice());
            let shape = Dims::new(&[n, tokens, width])?;
            let output = Tensor::from_buffer(output, shape, shape.row_major());
            let shape = Dims::new(&[n, sizes.heads, tokens])?;
            Ok((output, Tensor::from_buffer(sums, shape, shape.row_major())))
        })
    }

    /// Gradient of [`Tensor::self_attention`] with respect to its operand.
    ///
    /// - `packed`: the operand; `(output, sums)`: its results; `dy`: gradient of the output
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn self_attention_backward(
        packed: &Tensor,
        (output, sums): (&Tensor, &Tensor),
        dy: &Tensor,
        heads: usize,
    ) -> Result<Tensor> {
        const OP: &str = "self_attention_backward";
        let (sizes, [n, tokens]) = packed.heads(OP, heads)?;
        output.check_same(OP, dy)?;
        let width = sizes.heads * sizes.width;
        if output.shape() != [n, tokens, width] || sums.shape() != [n, sizes.heads, tokens] {
            let rule = "the results belong to another operand";
            return Err(Error::mismatch(OP, packed.shape(), output.shape(), rule));
        }
        packed.check_dtype(OP, output)?;
        packed.check_dtype(OP, sums)?;
        let (x, y, s, dy) =
            (packed.row_major()?, output.row_major()?, sums.row_major()?, dy.row_major()?);
        dispatch!(packed.dtype(), T => {
            let mut dx = Buffer::<T>::unfilled(x.numel());
            let results = [&y, &dy, &s].map(|t| &t.data::<T>()[..t.numel()]);
            attention::backward(sizes, &x.data::<T>()[..x.numel()], results, dx.as_mut_slice());
            Ok(Tensor::from_buffer(dx, x.dims(), x.strides()))
        })
    }

    /// How the last axis is shared among heads; pictures and tokens.
    fn heads(&self, op: &'static str, heads: usize) -> Result<(Heads, [usize; 2])> {
        let rule = "[n, t, 3·h·d] is needed, on the processor, for that number of heads h";
        let refused = || Error::shape(op, self.shape(), rule);
        let &[n, tokens, packed] = self.shape() else { return Err(refused()) };
        if heads == 0 || packed == 0 || packed % (3 * heads) != 0 || self.on_cuda().is_some() {
            return Err(refused());
        }
        Ok((Heads { tokens, heads, width: packed / (3 * heads) }, [n, tokens]))
    }
}
