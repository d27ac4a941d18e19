//! Scaled dot-product attention and its gradient.
//!
//! On the processor a block of queries at a time is compared with all keys, and nothing of the size `queries × keys` is ever stored; a
//! CUDA device goes by products and a softmax, and keeps the latter for the gradient.

use ndarray::{ArrayViewMut4, ArrayViewMut5, Axis};

use crate::buffer::Buffer;
use crate::cpu::attention::{self as cpu, Extents, Heads, KEPT};
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::tensor::dispatch;
use crate::{Element, Tensor};

/// What [`Tensor::attention`] and [`Tensor::self_attention`] compute: the result, and what their gradients need beside the operands.
#[derive(Debug, Clone)]
pub struct Attention {
    /// The mixed values.
    pub output: Tensor,
    /// Of each query's softmax the largest score and the sum's reciprocal, `[b, h, n, 2]`; on a CUDA device the softmax itself,
    /// `[b, h, n, m]`.
    kept: Tensor,
}

impl Tensor {
    /// Scaled dot-product attention, `softmax(q kᵀ / √d) v`, for each batch and head.
    ///
    /// - `self`: queries `[b, h, n, d]`; `keys`: `[b, h, m, d]`; `values`: `[b, h, m, e]`; result `[b, h, n, e]`
    ///
    /// Views whose last axis is adjacent in memory are read as they lie.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    ///
    /// # Source
    /// Vaswani et al., 2017.
    pub fn attention(&self, keys: &Tensor, values: &Tensor) -> Result<Attention> {
        let extents = extents([self, keys, values])?;
        if !self.blockwise(&extents) {
            return composed([self, keys, values]);
        }
        let Extents { batch, heads, queries, value_width, .. } = extents;
        let (shape, kept) = (
            Dims::new(&[batch, heads, queries, value_width])?,
            Dims::new(&[batch, heads, queries, KEPT])?,
        );
        let operands = adjacent([self, keys, values])?;
        Ok(dispatch!(self.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(shape.numel());
            let mut stored = Buffer::<T>::unfilled(kept.numel());
            let view = view4(out.as_mut_slice(), [batch, heads, queries, value_width]);
            cpu::forward(extents, operands.each_ref().map(heads_of::<T>), view, stored.as_mut_slice());
            Attention {
                output: Tensor::from_buffer(out, shape, shape.row_major()),
                kept: Tensor::from_buffer(stored, kept, kept.row_major()),
            }
        }))
    }

    /// Gradients of [`Tensor::attention`] with respect to queries, keys and values.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn attention_backward(
        [queries, keys, values]: [&Tensor; 3],
        forward: &Attention,
        dy: &Tensor,
    ) -> Result<[Tensor; 3]> {
        let extents = extents([queries, keys, values])?;
        forward.output.check_same("attention_backward", dy)?;
        check_result(&extents, queries, &forward.output)?;
        if !queries.blockwise(&extents) {
            return composed_backward([queries, keys, values], forward, dy);
        }
        let operands = adjacent([queries, keys, values])?;
        let [out, dy] = adjacent([&forward.output, dy])?;
        Ok(dispatch!(queries.dtype(), T => {
            let shapes = [queries, keys, values].map(Tensor::dims);
            let mut buffers = shapes.map(|shape| Buffer::<T>::unfilled(shape.numel()));
            let [dq, dk, dv] = &mut buffers;
            let gradients = [(dq, shapes[0]), (dk, shapes[1]), (dv, shapes[2])]
                .map(|(buffer, s)| view4(buffer.as_mut_slice(), [s[0], s[1], s[2], s[3]]));
            let kept = forward.kept.data::<T>();
            let of = operands.each_ref().map(heads_of::<T>);
            cpu::backward(extents, of, [heads_of(&out), heads_of(&dy)], kept, gradients);
            let [dq, dk, dv] = buffers;
            [(dq, shapes[0]), (dk, shapes[1]), (dv, shapes[2])]
                .map(|(buffer, shape)| Tensor::from_buffer(buffer, shape, shape.row_major()))
        }))
    }

    /// [`Tensor::attention`] of tokens to each other, from one projection that holds queries, keys and values side by side.
    ///
    /// - `self`: `[b, n, 3·h·d]`: for each token the queries of all `h` heads, then their keys, then their values
    /// - result: `[b, n, h·d]`, the heads side by side
    ///
    /// # Errors
    /// [`Error::Shape`] for another rank; [`Error::Value`] if the last axis does not hold three parts of `heads` heads.
    pub fn self_attention(&self, heads: usize) -> Result<Attention> {
        let packed = self.row_major()?;
        let parts = packed.packed_heads(heads)?;
        let &[batch, _, tokens, width] = parts[0].shape() else { unreachable!("made above") };
        let shape = Dims::new(&[batch, tokens, heads * width])?;
        let extents = extents(parts.each_ref())?;
        if !self.blockwise(&extents) {
            let Attention { output, kept } = composed(parts.each_ref())?;
            let output = output.permute(&[0, 2, 1, 3])?.reshape(&shape)?;
            return Ok(Attention { output, kept });
        }
        let kept = Dims::new(&[batch, heads, tokens, KEPT])?;
        Ok(dispatch!(self.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(shape.numel());
            let mut stored = Buffer::<T>::unfilled(kept.numel());
            let view = view4(out.as_mut_slice(), [batch, tokens, heads, width]);
            let view = view.permuted_axes([0, 2, 1, 3]);
            cpu::forward(extents, parts.each_ref().map(heads_of::<T>), view, stored.as_mut_slice());
            Attention {
                output: Tensor::from_buffer(out, shape, shape.row_major()),
                kept: Tensor::from_buffer(stored, kept, kept.row_major()),
            }
        }))
    }

    /// Gradient of [`Tensor::self_attention`], of the shape of `packed`.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn self_attention_backward(
        packed: &Tensor,
        heads: usize,
        forward: &Attention,
        dy: &Tensor,
    ) -> Result<Tensor> {
        let packed = packed.row_major()?;
        let parts = packed.packed_heads(heads)?;
        let &[batch, _, tokens, width] = parts[0].shape() else { unreachable!("made above") };
        forward.output.check_same("attention_backward", dy)?;
        let apart = |t: &Tensor| t.reshape(&[batch, tokens, heads, width])?.permute(&[0, 2, 1, 3]);
        let extents = extents(parts.each_ref())?;
        let (out, dy) = (apart(&forward.output)?, apart(dy)?);
        check_result(&extents, &packed, &out)?;
        if !packed.blockwise(&extents) {
            let forward = Attention { output: out, kept: forward.kept.clone() };
            let gradients = composed_backward(parts.each_ref(), &forward, &dy)?;
            let mut beside = Vec::with_capacity(3);
            for gradient in gradients {
                beside.push(gradient.permute(&[0, 2, 1, 3])?.unsqueeze(2)?);
            }
            let beside: Vec<&Tensor> = beside.iter().collect();
            return Tensor::concat(&beside, 2)?.reshape(packed.shape());
        }
        Ok(dispatch!(packed.dtype(), T => {
            let mut gradient = Buffer::<T>::unfilled(packed.numel());
            let shape = (batch, tokens, 3, heads, width);
            let Ok(view) = ArrayViewMut5::from_shape(shape, gradient.as_mut_slice()) else {
                unreachable!("the gradient is dense")
            };
            let (dq, rest) = view.permuted_axes([2, 0, 3, 1, 4]).split_at(Axis(0), 1);
            let (dk, dv) = rest.split_at(Axis(0), 1);
            let gradients = [dq, dk, dv].map(|part| part.index_axis_move(Axis(0), 0));
            let of = parts.each_ref().map(heads_of::<T>);
            cpu::backward(extents, of, [heads_of(&out), heads_of(&dy)], forward.kept.data::<T>(), gradients);
            Tensor::from_buffer(gradient, packed.dims(), packed.strides())
        }))
    }

    /// Queries, keys and values `[b, h, n, d]` as views of a row-major `[b, n, 3·h·d]`.
    fn packed_heads(&self, heads: usize) -> Result<[Tensor; 3]> {
        const OP: &str = "self_attention";
        let &[batch, tokens, all] = self.shape() else {
            return Err(Error::shape(OP, self.shape(), "tokens [b, n, 3·h·d] are needed"));
        };
        if heads == 0 || !all.is_multiple_of(3) || !(all / 3).is_multiple_of(heads) {
            let rule = "the last axis must hold queries, keys and values of so many heads";
            return Err(Error::Value { op: OP, name: "heads", value: heads as f64, rule });
        }
        let width = all / 3 / heads;
        let shape = Dims::from_short(&[batch, heads, tokens, width]);
        let strides = Dims::from_short(&[tokens * all, width, all, 1]);
        let start = |i: usize| if self.numel() == 0 { 0 } else { i * heads * width };
        Ok([0, 1, 2].map(|i| self.view(shape, strides, start(i))))
    }

    /// Whether attention is computed block by block: on the processor, where there is something to compute.
    fn blockwise(&self, extents: &Extents) -> bool {
        let Extents { batch, heads, queries, keys, width, value_width } = *extents;
        let some = [batch, heads, queries, keys, width, value_width].iter().all(|&n| n > 0);
        some && self.on_cuda().is_none()
    }
}

/// Extents of queries, keys and values that fit together.
fn extents([queries, keys, values]: [&Tensor; 3]) -> Result<Extents> {
    const OP: &str = "attention";
    queries.check_dtype(OP, keys)?;
    queries.check_dtype(OP, values)?;
    let (&[b, h, n, d], &[bk, hk, m, dk]) = (queries.shape(), keys.shape()) else {
        let rule = "queries [b, h, n, d] and keys [b, h, m, d] are needed";
        return Err(Error::mismatch(OP, queries.shape(), keys.shape(), rule));
    };
    if [b, h, d] != [bk, hk, dk] {
        let rule = "queries and keys must agree in batch, heads and width";
        return Err(Error::mismatch(OP, queries.shape(), keys.shape(), rule));
    }
    match *values.shape() {
        [bv, hv, mv, e] if [b, h, m] == [bv, hv, mv] => {
            Ok(Extents { batch: b, heads: h, queries: n, keys: m, width: d, value_width: e })
        }
        _ => {
            let rule = "there must be one value [b, h, m, e] for each key";
            Err(Error::mismatch(OP, keys.shape(), values.shape(), rule))
        }
    }
}

/// The result must be that of the operands.
fn check_result(extents: &Extents, queries: &Tensor, output: &Tensor) -> Result<()> {
    let Extents { batch, heads, queries: n, value_width, .. } = *extents;
    if output.shape() != [batch, heads, n, value_width] {
        let rule = "the second must be what attention makes of the first";
        return Err(Error::mismatch("attention_backward", queries.shape(), output.shape(), rule));
    }
    queries.check_dtype("attention_backward", output)
}

/// Scores' factor, `1 / √d`.
fn scale(queries: &Tensor) -> f64 {
    1.0 / (queries.shape()[3].max(1) as f64).sqrt()
}

/// By products and a softmax.
fn composed([queries, keys, values]: [&Tensor; 3]) -> Result<Attention> {
    let scores = queries.matmul(&keys.transpose(2, 3)?)?.affine(scale(queries), 0.0)?;
    let kept = scores.softmax()?;
    Ok(Attention { output: kept.matmul(values)?, kept })
}

fn composed_backward(
    [queries, keys, values]: [&Tensor; 3],
    forward: &Attention,
    dy: &Tensor,
) -> Result<[Tensor; 3]> {
    let dv = forward.kept.transpose(2, 3)?.matmul(dy)?;
    let slopes = dy.matmul(&values.transpose(2, 3)?)?;
    let slopes = Tensor::softmax_backward(&forward.kept, &slopes)?.affine(scale(queries), 0.0)?;
    Ok([slopes.matmul(keys)?, slopes.transpose(2, 3)?.matmul(queries)?, dv])
}

/// The tensors with their last axes adjacent in memory.
fn adjacent<const N: usize>(tensors: [&Tensor; N]) -> Result<[Tensor; N]> {
    let mut adjacent = tensors.map(Tensor::clone);
    for tensor in &mut adjacent {
        if tensor.strides()[3] != 1 && tensor.shape()[3] != 1 {
            *tensor = tensor.row_major()?;
        }
    }
    Ok(adjacent)
}

fn heads_of<T: Element>(tensor: &Tensor) -> Heads<'_, T> {
    let strides = tensor.strides();
    Heads { data: tensor.data(), strides: [strides[0], strides[1], strides[2]] }
}

fn view4<T>(of: &mut [T], [a, b, c, d]: [usize; 4]) -> ArrayViewMut4<'_, T> {
    let Ok(view) = ArrayViewMut4::from_shape((a, b, c, d), of) else {
        unreachable!("a buffer of the shape's size")
    };
    view
}
