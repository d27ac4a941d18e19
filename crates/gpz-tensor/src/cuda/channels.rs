//! Operations with one parameter per channel, on matrices `[rows, c]`.

use gpz_kernels::{Kernel, channels as kernels};

use super::conv::Epilogue;
use super::driver::Argument;
use super::{CudaDevice, DeviceBuffer, at, count, device_of, full, over_elements, unfilled};
use crate::Tensor;
use crate::channels::{BatchNorm, BatchNormGradients};
use crate::error::Result;
use crate::shape::Dims;

/// Columns that a block deals with.
const COLUMNS: usize = 256;
/// Elements that one block adds up, at least.
const CHUNK_ELEMENTS: usize = 1 << 12;
/// Most blocks of a launch: each leaves sums that another launch has to add up.
const MOST_CHUNKS: usize = 2048;

/// Rows and columns of the matrix a tensor is, and how its rows are cut for sums: number of chunks, rows of each.
struct Matrix {
    rows: usize,
    c: usize,
    chunks: usize,
    chunk: usize,
}

impl Matrix {
    fn of(x: &Tensor) -> Self {
        let c = x.shape()[1];
        Self::new(x.numel().checked_div(c).unwrap_or(0), c)
    }

    fn new(rows: usize, c: usize) -> Self {
        let most = MOST_CHUNKS / c.div_ceil(COLUMNS).clamp(1, 64);
        let chunk = (CHUNK_ELEMENTS / c.clamp(1, COLUMNS)).max(rows.div_ceil(most)).max(1);
        Matrix { rows, c, chunks: rows.div_ceil(chunk), chunk }
    }

    fn is_empty(&self) -> bool {
        self.rows * self.c == 0
    }

    /// Runs a kernel that leaves `terms` sums per chunk and channel: `operands`, the sums, rows, c, chunk.
    ///
    /// # Safety
    /// As [`CudaDevice::launch`].
    unsafe fn sums(
        &self,
        device: &CudaDevice,
        kernel: &Kernel,
        operands: &[Argument<'_>],
        terms: usize,
    ) -> Result<DeviceBuffer> {
        let partial = device.allocate(8 * self.chunks * terms * self.c)?;
        let mut arguments = operands.to_vec();
        arguments.push(Argument::Address(partial.address()));
        arguments.extend([count(self.rows), count(self.c), count(self.chunk)]);
        let grid = [self.c.div_ceil(COLUMNS), self.chunks, 1];
        // SAFETY: as the caller promises; the sums have room for each chunk's.
        unsafe { device.launch(kernel, grid, &arguments) }?;
        Ok(partial)
    }
}

/// Blocks of a kernel that adds chunks up: few columns each, so that many threads share the chunks.
fn finish_grid(kernel: &Kernel, c: usize) -> [usize; 3] {
    [c.div_ceil(kernel.tile as usize), 1, 1]
}

fn per_channel(op: &'static str, device: &CudaDevice, c: usize) -> Result<Tensor> {
    let shape = Dims::from_short(&[c]);
    unfilled(op, device, shape, shape.row_major())
}

/// `x · scale + shift`.
pub(crate) fn channel_affine(x: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let device = device_of(x);
    let out = unfilled("channel_affine", device, x.dims(), x.strides())?;
    let (n, c) = (x.numel(), x.shape()[1]);
    let arguments = [at(x), at(scale), at(shift), at(&out), count(n), count(c)];
    // SAFETY: argument order and types as in the header of channel_affine_f32.ptx; x and out hold n elements, scale and shift c.
    unsafe { over_elements(device, &kernels::CHANNEL_AFFINE_F32, n, &arguments) }?;
    Ok(out)
}

/// Normalisation with the statistics of the batch; each channel has at least two values.
pub(crate) fn batch_norm(
    x: &Tensor,
    scale: &Tensor,
    shift: &Tensor,
    eps: f64,
) -> Result<BatchNorm> {
    const OP: &str = "batch_norm";
    let (device, matrix) = (device_of(x), Matrix::of(x));
    let Matrix { rows, c, chunks, .. } = matrix;
    // SAFETY: argument order and types as in the header of channel_moments_f32.ptx: the matrix, its sums, and how it is cut.
    let partial = unsafe { matrix.sums(device, &kernels::CHANNEL_MOMENTS_F32, &[at(x)], 2) }?;
    let [mean, variance, factor, offset] = vectors(OP, device, c)?;
    let kernel = &kernels::BATCH_NORM_FINISH_F32;
    let arguments = [
        Argument::Address(partial.address()),
        at(x),
        at(scale),
        at(shift),
        at(&mean),
        at(&variance),
        at(&factor),
        at(&offset),
        count(rows),
        count(chunks),
        count(c),
        Argument::F64(eps),
    ];
    // SAFETY: argument order and types as in the header of batch_norm_finish_f32.ptx; every parameter and result holds c values.
    unsafe { device.launch(kernel, finish_grid(kernel, c), &arguments) }?;
    let output = unfilled(OP, device, x.dims(), x.strides())?;
    let n = x.numel();
    let arguments = [at(x), at(&mean), at(&factor), at(&offset), at(&output), count(n), count(c)];
    // SAFETY: argument order and types as in the header of channel_apply_f32.ptx; x and output hold n elements, the others c.
    unsafe { over_elements(device, &kernels::CHANNEL_APPLY_F32, n, &arguments) }?;
    Ok(BatchNorm { output, mean, variance, count: rows })
}

fn vectors<const K: usize>(op: &'static str, device: &CudaDevice, c: usize) -> Result<[Tensor; K]> {
    let made = (0..K).map(|_| per_channel(op, device, c)).collect::<Result<Vec<_>>>()?;
    Ok(made.try_into().unwrap_or_else(|_| unreachable!("K were made")))
}

pub(crate) fn batch_norm_backward(
    x: &Tensor,
    dy: &Tensor,
    scale: &Tensor,
    (mean, variance): (&Tensor, &Tensor),
    eps: f64,
) -> Result<BatchNormGradients> {
    const OP: &str = "batch_norm_backward";
    let (device, matrix) = (device_of(x), Matrix::of(x));
    let Matrix { rows, c, chunks, .. } = matrix;
    if matrix.is_empty() {
        let zeros = || full(device, scale.dims(), scale.strides(), 0.0);
        return Ok(BatchNormGradients { input: dy.clone(), scale: zeros()?, shift: zeros()? });
    }
    let operands = [at(x), at(dy), at(mean)];
    let sums = &kernels::BATCH_NORM_BACKWARD_SUMS_F32;
    // SAFETY: argument order and types as in the header of batch_norm_backward_sums_f32.ptx: both matrices, the means, the sums, and how
    // the matrices are cut.
    let partial = unsafe { matrix.sums(device, sums, &operands, 3) }?;
    let [dscale, dshift, factor, mean_dy, slope] = vectors(OP, device, c)?;
    let kernel = &kernels::BATCH_NORM_BACKWARD_FINISH_F32;
    let arguments = [
        Argument::Address(partial.address()),
        at(variance),
        at(scale),
        at(&dscale),
        at(&dshift),
        at(&factor),
        at(&mean_dy),
        at(&slope),
        count(rows),
        count(chunks),
        count(c),
        Argument::F64(eps),
    ];
    // SAFETY: argument order and types as in the header of batch_norm_backward_finish_f32.ptx; every parameter and result holds c values.
    unsafe { device.launch(kernel, finish_grid(kernel, c), &arguments) }?;
    let dx = unfilled(OP, device, x.dims(), x.strides())?;
    let n = x.numel();
    let arguments = [
        at(x),
        at(dy),
        at(mean),
        at(&factor),
        at(&mean_dy),
        at(&slope),
        at(&dx),
        count(n),
        count(c),
    ];
    // SAFETY: argument order and types as in the header of batch_norm_backward_apply_f32.ptx; x, dy and dx hold n elements, the others c.
    unsafe { over_elements(device, &kernels::BATCH_NORM_BACKWARD_APPLY_F32, n, &arguments) }?;
    Ok(BatchNormGradients { input: dx, scale: dscale, shift: dshift })
}

/// [`batch_norm_backward`] of few rows, at least one, in f64.
pub(crate) fn batch_norm_backward_of_few(
    x: &Tensor,
    dy: &Tensor,
    scale: &Tensor,
    variance: &Tensor,
    eps: f64,
) -> Result<BatchNormGradients> {
    const OP: &str = "batch_norm_backward";
    let (device, Matrix { rows, c, .. }) = (device_of(x), Matrix::of(x));
    let [dscale, dshift] = vectors(OP, device, c)?;
    let dx = unfilled(OP, device, x.dims(), x.strides())?;
    let arguments = [
        at(x),
        at(dy),
        at(variance),
        at(scale),
        at(&dx),
        at(&dscale),
        at(&dshift),
        count(rows),
        count(c),
        Argument::F64(eps),
    ];
    let kernel = &kernels::BATCH_NORM_BACKWARD_FEW_F32;
    let grid = [c.div_ceil(kernel.tile as usize), 1, 1];
    // SAFETY: argument order and types as in the header of batch_norm_backward_few_f32.ptx; x, dy and dx hold rows · c elements in one
    // order, the others c.
    unsafe { device.launch(kernel, grid, &arguments) }?;
    Ok(BatchNormGradients { input: dx, scale: dscale, shift: dshift })
}

/// Adds the sums of all chunks up.
fn finish_sums(partial: &DeviceBuffer, chunks: usize, c: usize) -> Result<Tensor> {
    let device = partial.device();
    let out = per_channel("channel_sums", device, c)?;
    let kernel = &kernels::CHANNEL_SUMS_FINISH_F32;
    let arguments = [Argument::Address(partial.address()), at(&out), count(chunks), count(c)];
    // SAFETY: argument order and types as in the header of channel_sums_finish_f32.ptx; partial holds chunks · c sums.
    unsafe { device.launch(kernel, finish_grid(kernel, c), &arguments) }?;
    Ok(out)
}

pub(crate) fn channel_sums(x: &Tensor) -> Result<Tensor> {
    let (device, matrix) = (device_of(x), Matrix::of(x));
    if matrix.is_empty() {
        let shape = Dims::from_short(&[matrix.c]);
        return full(device, shape, shape.row_major(), 0.0);
    }
    // SAFETY: argument order and types as in the header of channel_sums_f32.ptx: the matrix, its sums, and how it is cut.
    let partial = unsafe { matrix.sums(device, &kernels::CHANNEL_SUMS_F32, &[at(x)], 1) }?;
    finish_sums(&partial, matrix.chunks, matrix.c)
}

/// `slope` holds one value for all channels, or one for each.
pub(crate) fn prelu(x: &Tensor, slope: &Tensor) -> Result<Tensor> {
    let (device, n) = (device_of(x), x.numel());
    let out = unfilled("prelu", device, x.dims(), x.strides())?;
    let arguments = [at(x), at(slope), at(&out), count(n), count(slope.numel())];
    // SAFETY: argument order and types as in the header of prelu_f32.ptx; x and out hold n elements.
    unsafe { over_elements(device, &kernels::PRELU_F32, n, &arguments) }?;
    Ok(out)
}

/// Gradients of the input and of the slope.
pub(crate) fn prelu_backward(x: &Tensor, slope: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
    let (device, n, slopes) = (device_of(x), x.numel(), slope.numel());
    let dx = unfilled("prelu", device, x.dims(), x.strides())?;
    if n == 0 {
        return Ok((dx, full(device, slope.dims(), slope.strides(), 0.0)?));
    }
    let arguments = [at(x), at(slope), at(dy), at(&dx), count(n), count(slopes)];
    // SAFETY: argument order and types as in the header of prelu_backward_f32.ptx; x, dy and dx hold n elements.
    unsafe { over_elements(device, &kernels::PRELU_BACKWARD_F32, n, &arguments) }?;
    // One slope belongs to a matrix of one column.
    let matrix = Matrix::new(n / slopes, slopes);
    let operands = [at(x), at(dy)];
    // SAFETY: argument order and types as in the header of prelu_slope_sums_f32.ptx: both matrices, the sums, and how they are cut.
    let partial = unsafe { matrix.sums(device, &kernels::PRELU_SLOPE_SUMS_F32, &operands, 1) }?;
    Ok((dx, finish_sums(&partial, matrix.chunks, slopes)?))
}

/// What follows a convolution, on its result, which lies channels-last and is changed in place.
pub(crate) fn finish_convolution(mut y: Tensor, epilogue: &Epilogue) -> Result<Tensor> {
    let Epilogue { bias, affine, residual, relu } = epilogue;
    if bias.is_none() && affine.is_none() && residual.is_none() && !relu {
        return Ok(y);
    }
    // A convolution's result is nobody else's yet, so that nothing is copied.
    y.make_unique()?;
    let (n, c) = (y.numel(), y.shape()[1]);
    let or_absent = |part: Option<&Tensor>| part.map_or(Argument::Address(0), at);
    let arguments = [
        at(&y),
        or_absent(bias.as_ref()),
        or_absent(affine.as_ref().map(|(scale, _)| scale)),
        or_absent(affine.as_ref().map(|(_, shift)| shift)),
        or_absent(residual.as_ref()),
        Argument::U32(u32::from(*relu)),
        count(n),
        count(c),
    ];
    // SAFETY: argument order and types as in the header of channel_epilogue_f32.ptx; y and the residual hold n elements in one order, the
    // others c, and nothing else sees y's memory.
    unsafe { over_elements(device_of(&y), &kernels::CHANNEL_EPILOGUE_F32, n, &arguments) }?;
    Ok(y)
}
