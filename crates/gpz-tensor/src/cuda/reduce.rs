//! Sums and largest elements.

use gpz_kernels::reductions as kernels;

use super::driver::Argument;
use super::{DeviceBuffer, at, count, device_of, full, unfilled};
use crate::Tensor;
use crate::error::Result;
use crate::shape::Dims;

/// Rows of at most so many elements are summed by one warp each.
const SHORT_ROW: usize = 2048;
/// Elements that one block sums of a long row, at least: a multiple of 4.
const CHUNK: usize = 8192;
/// Most blocks for a long row.
const MOST_CHUNKS: usize = 1024;

/// Blocks for a long row, and elements of each.
fn chunks(length: usize) -> (usize, usize) {
    let chunk = CHUNK.max(length.div_ceil(MOST_CHUNKS).next_multiple_of(4));
    (length.div_ceil(chunk), chunk)
}

/// Sum of each row of `length` elements.
pub(crate) fn row_sums(x: &Tensor, shape: Dims, length: usize) -> Result<Tensor> {
    let (device, rows) = (device_of(x), shape.numel());
    if rows == 0 || length == 0 {
        return full(device, shape, shape.row_major(), 0.0);
    }
    let out = unfilled("sum", device, shape, shape.row_major())?;
    if length <= SHORT_ROW || rows > usize::from(u16::MAX) {
        let kernel = &kernels::ROW_SUMS_F32;
        let grid = [rows.div_ceil(kernel.tile as usize), 1, 1];
        // SAFETY: argument order and types as in the header of row_sums_f32.ptx; x holds rows · length elements, out one for each row.
        unsafe { device.launch(kernel, grid, &[at(x), at(&out), count(rows), count(length)]) }?;
        return Ok(out);
    }
    let partial = partial_sums(x, rows, length)?;
    finish_sums(&partial, &out, rows, chunks(length).0, 1.0)?;
    Ok(out)
}

fn partial_sums(x: &Tensor, rows: usize, length: usize) -> Result<DeviceBuffer> {
    let device = device_of(x);
    let (blocks, chunk) = chunks(length);
    let partial = device.allocate(8 * rows * blocks)?;
    let arguments = [at(x), Argument::Address(partial.address()), count(length), count(chunk)];
    // SAFETY: argument order and types as in the header of partial_sums_f32.ptx; partial holds an f64 for each block.
    unsafe { device.launch(&kernels::PARTIAL_SUMS_F32, [blocks, rows, 1], &arguments) }?;
    Ok(partial)
}

fn partial_dots(x: &Tensor, y: &Tensor) -> Result<(DeviceBuffer, usize)> {
    let (device, n) = (device_of(x), x.numel());
    let (blocks, chunk) = chunks(n);
    let partial = device.allocate(8 * blocks)?;
    let arguments = [at(x), at(y), Argument::Address(partial.address()), count(n), count(chunk)];
    // SAFETY: argument order and types as in the header of partial_dots_f32.ptx; partial holds an f64 for each block.
    unsafe { device.launch(&kernels::PARTIAL_DOTS_F32, [blocks, 1, 1], &arguments) }?;
    Ok((partial, blocks))
}

/// Adds `blocks` partial sums of each row up, and scales them.
pub(super) fn finish_sums(
    partial: &DeviceBuffer,
    out: &Tensor,
    rows: usize,
    blocks: usize,
    scale: f64,
) -> Result<()> {
    let kernel = &kernels::FINISH_SUMS_F32;
    let grid = [rows.div_ceil(kernel.tile as usize), 1, 1];
    let partial = Argument::Address(partial.address());
    let arguments = [partial, at(out), count(rows), count(blocks), Argument::F64(scale)];
    // SAFETY: argument order and types as in the header of finish_sums_f32.ptx; partial holds rows · blocks sums, out one for each row.
    unsafe { device_of(out).launch(kernel, grid, &arguments) }
}

/// Sum of all elements, in f64 to the end.
pub(crate) fn sum_all(x: &Tensor) -> Result<f64> {
    if x.numel() == 0 {
        return Ok(0.0);
    }
    let partial = partial_sums(x, 1, x.numel())?;
    Ok(partial.read::<f64>(0, chunks(x.numel()).0)?.iter().sum())
}

/// Sum of products, in f64 to the end.
pub(crate) fn dot(x: &Tensor, y: &Tensor) -> Result<f64> {
    if x.numel() == 0 {
        return Ok(0.0);
    }
    let (partial, blocks) = partial_dots(x, y)?;
    Ok(partial.read::<f64>(0, blocks)?.iter().sum())
}

/// Sum of products times a number, without waiting for it.
pub(crate) fn dot_scaled(x: &Tensor, y: &Tensor, scale: f64) -> Result<Tensor> {
    let (device, shape) = (device_of(x), Dims::from_short(&[]));
    if x.numel() == 0 {
        return full(device, shape, shape, 0.0);
    }
    let (partial, blocks) = partial_dots(x, y)?;
    let out = unfilled("dot", device, shape, shape)?;
    finish_sums(&partial, &out, 1, blocks, scale)?;
    Ok(out)
}

/// Largest element of each row, and where it stands.
fn row_max_with_index(x: &Tensor, shape: Dims, length: usize) -> Result<(Tensor, DeviceBuffer)> {
    let (device, rows) = (device_of(x), shape.numel());
    let out = unfilled("max", device, shape, shape.row_major())?;
    let index = device.allocate(4 * rows)?;
    let kernel = &kernels::ROW_MAX_F32;
    let grid = [rows.div_ceil(kernel.tile as usize), 1, 1];
    let places = Argument::Address(index.address());
    let arguments = [at(x), at(&out), places, count(rows), count(length)];
    // SAFETY: argument order and types as in the header of row_max_f32.ptx; x holds rows · length elements, the others one for each row.
    unsafe { device.launch(kernel, grid, &arguments) }?;
    Ok((out, index))
}

pub(crate) fn row_max(x: &Tensor, shape: Dims, length: usize) -> Result<Tensor> {
    if shape.numel() == 0 || length == 0 {
        return full(device_of(x), shape, shape.row_major(), f32::NEG_INFINITY);
    }
    let rows = shape.numel();
    let Some(pieces) = pieces(rows, length) else {
        return Ok(row_max_with_index(x, shape, length)?.0);
    };
    // The largest of the pieces' largest, which is exact, NaN and the first of equals included.
    let partial = Dims::from_short(&[rows * pieces]);
    let largest = row_max_with_index(x, partial, length / pieces)?.0;
    Ok(row_max_with_index(&largest, shape, pieces)?.0)
}

/// Into how many equal pieces few long rows are cut, so that more than a warp for each is at work.
fn pieces(rows: usize, length: usize) -> Option<usize> {
    const WARPS: usize = 8192;
    const LEAST: usize = 256;
    let most = WARPS.checked_div(rows)?.min(length / LEAST);
    (2..=most).rev().find(|pieces| length.is_multiple_of(*pieces))
}

/// Gradient of [`row_max`], of the shape and order of `x`.
pub(crate) fn row_max_backward(x: &Tensor, dy: &Tensor, length: usize) -> Result<Tensor> {
    let (device, n) = (device_of(x), x.numel());
    if n == 0 {
        return full(device, x.dims(), x.strides(), 0.0);
    }
    let (_, index) = row_max_with_index(x, dy.dims(), length)?;
    let dx = unfilled("max_backward", device, x.dims(), x.strides())?;
    let kernel = &kernels::MAX_BACKWARD_F32;
    let grid = [n.div_ceil(kernel.tile as usize), 1, 1];
    let places = Argument::Address(index.address());
    let arguments = [places, at(dy), at(&dx), count(n), count(length)];
    // SAFETY: argument order and types as in the header of max_backward_f32.ptx; dx holds n elements, the others one for each row.
    unsafe { device.launch(kernel, grid, &arguments) }?;
    Ok(dx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_long_rows_are_cut_evenly_and_not_too_small() {
        assert_eq!(pieces(128, 65_536), Some(64));
        assert_eq!(pieces(1, 3 * 1024), Some(12));
        assert_eq!(pieces(10_000, 65_536), None, "rows enough");
        assert_eq!(pieces(4, 300), None, "too short");
        assert_eq!(pieces(4, 65_537), None, "a prime");
        assert_eq!(pieces(0, 8), None);
    }
}
