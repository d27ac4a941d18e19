//! Pooling over channels-last pictures.

use gpz_kernels::{Kernel, pooling as kernels};

use super::driver::Argument;
use super::{at, count, device_of, over_elements, unfilled};
use crate::Tensor;
use crate::cpu::pool::Geometry;
use crate::error::Result;
use crate::shape::Dims;

/// The result of a pooling kernel: its buffers, the elements of the result, the sizes, and what else it takes.
fn pooled(
    op: &'static str,
    kernel: &Kernel,
    geometry: &Geometry,
    operands: &[&Tensor],
    shape: Dims,
    rest: &[Argument<'static>],
) -> Result<Tensor> {
    let device = device_of(operands[0]);
    let out = unfilled(op, device, shape, shape.channels_last())?;
    let n = out.numel();
    let mut arguments: Vec<Argument<'static>> =
        operands.iter().map(|operand| at(operand)).collect();
    arguments.extend([at(&out), count(n)]);
    let Geometry { input, output, kernel: window, stride, padding, channels } = *geometry;
    let sizes = [input[0], input[1], channels, output[0], output[1]];
    arguments.extend(sizes.into_iter().chain(window).chain(stride).chain(padding).map(count));
    arguments.extend_from_slice(rest);
    // SAFETY: argument order and types as in the headers of the four pooling kernels: pictures of the geometry's sizes, channels-last.
    unsafe { over_elements(device, kernel, n, &arguments) }?;
    Ok(out)
}

/// What a mean multiplies its sum with.
fn share(geometry: &Geometry) -> Argument<'static> {
    let taps = (geometry.kernel[0] * geometry.kernel[1]) as f64;
    Argument::F32((1.0 / taps) as f32)
}

pub(crate) fn max_pool(geometry: &Geometry, x: &Tensor, shape: Dims) -> Result<Tensor> {
    pooled("max_pool2d", &kernels::MAX_POOL_F32, geometry, &[x], shape, &[])
}

pub(crate) fn max_pool_backward(
    geometry: &Geometry,
    x: &Tensor,
    y: &Tensor,
    dy: &Tensor,
) -> Result<Tensor> {
    let kernel = &kernels::MAX_POOL_BACKWARD_F32;
    pooled("max_pool2d_backward", kernel, geometry, &[x, y, dy], x.dims(), &[])
}

pub(crate) fn average_pool(geometry: &Geometry, x: &Tensor, shape: Dims) -> Result<Tensor> {
    let kernel = &kernels::AVG_POOL_F32;
    pooled("avg_pool2d", kernel, geometry, &[x], shape, &[share(geometry)])
}

pub(crate) fn average_pool_backward(
    geometry: &Geometry,
    dy: &Tensor,
    input: Dims,
) -> Result<Tensor> {
    let kernel = &kernels::AVG_POOL_BACKWARD_F32;
    pooled("avg_pool2d_backward", kernel, geometry, &[dy], input, &[share(geometry)])
}
