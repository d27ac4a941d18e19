//! The operations on CUDA devices: hand-written kernels, matrix products and convolutions of NVIDIA's libraries behind a [`driver`].
//!
//! Every operation has a twin on the processor that it is tested against. Work is done in the order it is asked for; an operation returns
//! before it is done, and what went wrong with it is reported by whatever waits next.
//!
//! What networks do not need has no method on [`crate::Tensor`] but a function here, for tensors that lie on a device already: statistics of
//! features ([`ClassSums`], [`pairwise_gaussian`], [`pairwise_nearest`]), channels ([`noise()`], [`quantise`]) and how close pictures come to
//! each other ([`squared_errors`], [`ssim`], [`total_variation`]).
//!
//! Operations that load 16 bytes at once are given dense tensors whose first element lies at a multiple of them: [`crate::Tensor`] copies
//! what lies otherwise.

mod channels;
mod conv;
mod copy;
mod device;
pub mod driver;
mod elementwise;
mod halves;
mod images;
mod matmul;
mod noise;
pub(crate) mod nvidia;
mod optimise;
mod pairwise;
mod pool;
mod pooling;
mod reduce;
mod rows;
mod statistics;

pub use device::CudaDevice;
pub use halves::HalfMatrix;
pub use images::{squared_errors, ssim, total_variation};
pub use noise::{noise, quantise};
pub use nvidia::{
    Library, Options, Precision, complete, driver_version, libraries, list, open, open_driver,
    unfit,
};
pub use pairwise::{Neighbours, pairwise_gaussian, pairwise_nearest};
pub use statistics::{ClassMeans, ClassSums, PivotedSums};

pub(crate) use channels::{
    batch_norm, batch_norm_backward, batch_norm_backward_of_few, channel_affine, channel_sums,
    prelu, prelu_backward,
};
pub(crate) use conv::{
    Epilogue, convolution, convolution_input_gradient, convolution_weight_gradient,
};
pub(crate) use copy::{concat, copied, full};
pub(crate) use device::DeviceBuffer;
pub(crate) use elementwise::{affine, binary, dropout_mask, unary, unary_backward};
pub(crate) use matmul::matmul;
pub(crate) use optimise::{Watch, all_finite, optimise};
pub(crate) use pooling::{average_pool, average_pool_backward, max_pool, max_pool_backward};
pub(crate) use reduce::{dot, dot_scaled, row_max, row_max_backward, row_sums, sum_all};
pub(crate) use rows::{
    layer_norm, layer_norm_backward, log_softmax, log_softmax_backward, soft_cross_entropy,
    softmax, softmax_backward,
};

use driver::Argument;

use gpz_kernels::Kernel;

use crate::Tensor;
use crate::error::{Error, Result};
use crate::shape::Dims;

/// Kernels count elements in 32 bits.
pub(crate) fn check_count(op: &'static str, shape: &Dims) -> Result<()> {
    if u32::try_from(shape.numel()).is_err() {
        let rule = "a tensor on a CUDA device has less than 2^32 elements; a smaller batch helps";
        return Err(Error::shape(op, shape, rule));
    }
    Ok(())
}

/// A tensor on a device whose elements are still to be written.
fn unfilled(op: &'static str, device: &CudaDevice, shape: Dims, strides: Dims) -> Result<Tensor> {
    check_count(op, &shape)?;
    Ok(Tensor::from_device_buffer(device.allocate(4 * shape.numel())?, shape, strides))
}

/// The device of a tensor that a caller may have left on the processor.
fn device_given<'a>(op: &'static str, tensor: &'a Tensor) -> Result<&'a CudaDevice> {
    tensor.on_cuda().map(|(buffer, _)| buffer.device()).ok_or(Error::NeedsCuda { op })
}

/// The device of an operand.
fn device_of(tensor: &Tensor) -> &CudaDevice {
    tensor.on_cuda().expect("callers look where the operand lies").0.device()
}

/// The address of an operand's first element.
fn at(tensor: &Tensor) -> Argument<'static> {
    Argument::Address(tensor.on_cuda().expect("operands lie on one device").1)
}

/// A count that [`check_count`] let pass, or one that is smaller.
fn count(n: usize) -> Argument<'static> {
    Argument::U32(n as u32)
}

/// Launches a kernel on `n` elements, a block for each tile.
///
/// # Safety
/// As [`CudaDevice::launch`].
unsafe fn over_elements(
    device: &CudaDevice,
    kernel: &Kernel,
    n: usize,
    arguments: &[Argument<'_>],
) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    // SAFETY: as the caller promises.
    unsafe { device.launch(kernel, [n.div_ceil(kernel.tile as usize), 1, 1], arguments) }
}
