//! What is done to each row of a matrix `[rows, d]`: softmax, layer normalisation, cross entropy.

use gpz_kernels::{Kernel, rows as kernels};

use super::driver::Argument;
use super::reduce::finish_sums;
use super::{at, channel_sums, count, device_of, unfilled};
use crate::Tensor;
use crate::error::Result;
use crate::shape::Dims;
use crate::softmax::LayerNormGradients;

/// Launches a kernel that takes operands and then `rows` and `d`; a warp for each row.
///
/// # Safety
/// As [`super::CudaDevice::launch`].
unsafe fn by_rows(
    kernel: &Kernel,
    like: &Tensor,
    d: usize,
    operands: &[Argument<'_>],
    rest: &[Argument<'_>],
) -> Result<()> {
    let rows = like.numel().checked_div(d).unwrap_or(0);
    if rows == 0 {
        return Ok(());
    }
    let mut arguments = operands.to_vec();
    arguments.extend([count(rows), count(d)]);
    arguments.extend_from_slice(rest);
    let grid = [rows.div_ceil(kernel.tile as usize), 1, 1];
    // SAFETY: as the caller promises.
    unsafe { device_of(like).launch(kernel, grid, &arguments) }
}

/// The result of a kernel that makes a matrix of matrices of its shape.
fn mapped(op: &'static str, kernel: &Kernel, operands: &[&Tensor], d: usize) -> Result<Tensor> {
    let first = operands[0];
    let out = unfilled(op, device_of(first), first.dims(), first.strides())?;
    let mut arguments: Vec<Argument<'_>> = operands.iter().map(|operand| at(operand)).collect();
    arguments.push(at(&out));
    // SAFETY: argument order and types as in the headers of the four kernels this is called for: the operands, the result, rows, d; all
    // matrices have one shape.
    unsafe { by_rows(kernel, first, d, &arguments, &[]) }?;
    Ok(out)
}

pub(crate) fn softmax(x: &Tensor, d: usize) -> Result<Tensor> {
    mapped("softmax", &kernels::SOFTMAX_F32, &[x], d)
}

pub(crate) fn log_softmax(x: &Tensor, d: usize) -> Result<Tensor> {
    mapped("log_softmax", &kernels::LOG_SOFTMAX_F32, &[x], d)
}

pub(crate) fn softmax_backward(y: &Tensor, dy: &Tensor, d: usize) -> Result<Tensor> {
    mapped("softmax_backward", &kernels::SOFTMAX_BACKWARD_F32, &[y, dy], d)
}

pub(crate) fn log_softmax_backward(y: &Tensor, dy: &Tensor, d: usize) -> Result<Tensor> {
    mapped("log_softmax_backward", &kernels::LOG_SOFTMAX_BACKWARD_F32, &[y, dy], d)
}

pub(crate) fn layer_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    d: usize,
    eps: f64,
) -> Result<Tensor> {
    let out = unfilled("layer_norm", device_of(x), x.dims(), x.strides())?;
    let operands = [at(x), at(scale), at(shift), at(&out)];
    // SAFETY: argument order and types as in the header of layer_norm_f32.ptx; scale and shift hold d values, x and out one shape.
    unsafe { by_rows(&kernels::LAYER_NORM_F32, x, d, &operands, &[Argument::F64(eps)]) }?;
    Ok(out)
}

pub(crate) fn layer_norm_backward(
    x: &Tensor,
    dy: &Tensor,
    scale: &Tensor,
    d: usize,
    eps: f64,
) -> Result<LayerNormGradients> {
    const OP: &str = "layer_norm_backward";
    let dx = unfilled(OP, device_of(x), x.dims(), x.strides())?;
    let product = unfilled(OP, device_of(x), x.dims(), x.strides())?;
    let operands = [at(x), at(dy), at(scale), at(&dx), at(&product)];
    let kernel = &kernels::LAYER_NORM_BACKWARD_F32;
    // SAFETY: argument order and types as in the header of layer_norm_backward_f32.ptx; scale holds d values, the matrices have one shape.
    unsafe { by_rows(kernel, x, d, &operands, &[Argument::F64(eps)]) }?;
    let rows = x.numel().checked_div(d).unwrap_or(0);
    let column_sums = |t: &Tensor| channel_sums(&t.reshape(&[rows, d])?);
    Ok(LayerNormGradients { input: dx, scale: column_sums(&product)?, shift: column_sums(dy)? })
}

/// `scale` times the sum of `−Σ t ln softmax(x)` over the rows, as a tensor of rank 0, and the gradient of the unscaled sum.
pub(crate) fn soft_cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    d: usize,
    scale: f64,
) -> Result<(Tensor, Tensor)> {
    const OP: &str = "soft_cross_entropy";
    let device = device_of(logits);
    let rows = logits.numel().checked_div(d).unwrap_or(0);
    let gradient = unfilled(OP, device, logits.dims(), logits.strides())?;
    let scalar = Dims::from_short(&[]);
    if rows == 0 {
        return Ok((super::full(device, scalar, scalar, 0.0)?, gradient));
    }
    let losses = device.allocate(8 * rows)?;
    let operands = [at(logits), at(targets), Argument::Address(losses.address()), at(&gradient)];
    // SAFETY: argument order and types as in the header of soft_cross_entropy_f32.ptx; the matrices have one shape, losses one f64 a row.
    unsafe { by_rows(&kernels::SOFT_CROSS_ENTROPY_F32, logits, d, &operands, &[]) }?;
    let loss = unfilled(OP, device, scalar, scalar)?;
    finish_sums(&losses, &loss, 1, rows, scale)?;
    Ok((loss, gradient))
}
