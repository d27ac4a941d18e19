//! Elementwise operations.

use gpz_kernels::{Kernel, elementwise as kernels};

use super::copy::{Axes, launch_over};
use super::driver::Argument;
use super::{CudaDevice, at, count, device_of, over_elements, unfilled};
use crate::Tensor;
use crate::elementwise::{BinaryOp, UnaryOp};
use crate::error::Result;
use crate::shape::Dims;

/// The kernel of an operation; the kernels' tests hold the two tables against each other.
fn found(kernel: Option<Kernel>) -> Kernel {
    kernel.expect("every operation of the table has a kernel")
}

pub(crate) fn unary(op: UnaryOp, x: &Tensor) -> Result<Tensor> {
    let (device, n) = (device_of(x), x.numel());
    let out = unfilled(op.name(), device, x.dims(), x.strides())?;
    let kernel = found(kernels::unary(op.name()));
    // SAFETY: argument order and types as in the headers of the operations' kernels; both buffers hold n elements.
    unsafe { over_elements(device, &kernel, n, &[at(x), at(&out), count(n)]) }?;
    Ok(out)
}

pub(crate) fn unary_backward(op: UnaryOp, saved: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (device, n) = (device_of(saved), saved.numel());
    let dx = unfilled(op.name(), device, saved.dims(), saved.strides())?;
    let kernel = found(kernels::unary_backward(op.name()));
    // SAFETY: argument order and types as in the headers of the operations' kernels; the three buffers hold n elements.
    unsafe { over_elements(device, &kernel, n, &[at(saved), at(dy), at(&dx), count(n)]) }?;
    Ok(dx)
}

pub(crate) fn affine(x: &Tensor, scale: f32, shift: f32) -> Result<Tensor> {
    let (device, n) = (device_of(x), x.numel());
    let out = unfilled("affine", device, x.dims(), x.strides())?;
    let arguments = [at(x), at(&out), count(n), Argument::F32(scale), Argument::F32(shift)];
    // SAFETY: argument order and types as in the header of affine_f32.ptx; both buffers hold n elements.
    unsafe { over_elements(device, &kernels::AFFINE_F32, n, &arguments) }?;
    Ok(out)
}

/// Operands with the strides under which they repeat over the result's shape.
pub(crate) fn binary(
    op: BinaryOp,
    (shape, strides): (Dims, Dims),
    (x, xs): (&Tensor, Dims),
    (y, ys): (&Tensor, Dims),
) -> Result<Tensor> {
    let (device, n) = (device_of(x), shape.numel());
    let out = unfilled(op.name(), device, shape, strides)?;
    let axes = Axes::new(&shape, &strides, [&xs, &ys]);
    if axes.is_flat() && x.is_aligned() && y.is_aligned() {
        let kernel = found(kernels::binary(op.name()));
        // SAFETY: argument order and types as in the headers of the operations' kernels; the three buffers hold n elements.
        unsafe { over_elements(device, &kernel, n, &[at(x), at(y), at(&out), count(n)]) }?;
        return Ok(out);
    }
    let kernel = found(kernels::binary_strided(op.name()));
    // SAFETY: argument order and types as in the headers of the operations' kernels: operands, result, n, and the axes with the
    // operands' strides, which lead to no element outside them.
    unsafe { launch_over(device, &kernel, n, &[at(x), at(y), at(&out)], &axes) }?;
    Ok(out)
}

pub(crate) fn dropout_mask(
    device: &CudaDevice,
    shape: Dims,
    threshold: u64,
    kept: f32,
    key: u64,
) -> Result<Tensor> {
    let n = shape.numel();
    let out = unfilled("dropout", device, shape, shape.row_major())?;
    let arguments =
        [at(&out), count(n), Argument::U64(threshold), Argument::F32(kept), Argument::U64(key)];
    // SAFETY: argument order and types as in the header of dropout_mask_f32.ptx; the buffer holds n elements.
    unsafe { over_elements(device, &kernels::DROPOUT_MASK_F32, n, &arguments) }?;
    Ok(out)
}
