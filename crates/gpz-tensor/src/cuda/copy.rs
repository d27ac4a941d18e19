//! Copies between memory orders, and what walks over operands that lie otherwise than the result.

use gpz_kernels::{Kernel, elementwise as kernels};

use super::device::cuda;
use super::driver::Argument;
use super::{CudaDevice, at, count, device_of, unfilled};
use crate::Tensor;
use crate::error::Result;
use crate::shape::{Dims, MAX_RANK};

/// Axes of a walk over `K` arrays and a result, the result's fastest first; axes that follow one another in all of them are one.
pub(super) struct Axes<const K: usize> {
    extents: Vec<usize>,
    /// Strides of the result.
    out: Vec<usize>,
    strides: [Vec<usize>; K],
}

impl<const K: usize> Axes<K> {
    pub(super) fn new(shape: &Dims, out: &Dims, strides: [&Dims; K]) -> Self {
        let mut order: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
        order.sort_by_key(|&axis| out[axis]);
        let mut axes = Axes {
            extents: Vec::new(),
            out: Vec::new(),
            strides: std::array::from_fn(|_| Vec::new()),
        };
        for axis in order {
            let last = axes.extents.len().checked_sub(1);
            let follows = |of: &[usize], stride: usize| {
                last.is_some_and(|last| stride == of[last] * axes.extents[last])
            };
            let joins = follows(&axes.out, out[axis])
                && axes.strides.iter().zip(strides).all(|(own, given)| follows(own, given[axis]));
            match last {
                Some(last) if joins => axes.extents[last] *= shape[axis],
                _ => {
                    axes.extents.push(shape[axis]);
                    axes.out.push(out[axis]);
                    for (own, given) in axes.strides.iter_mut().zip(strides) {
                        own.push(given[axis]);
                    }
                }
            }
        }
        if axes.extents.is_empty() {
            axes.extents.push(1);
            axes.out.push(1);
            axes.strides.iter_mut().for_each(|own| own.push(1));
        }
        axes
    }

    /// Whether all arrays lie as the result does, without gaps.
    pub(super) fn is_flat(&self) -> bool {
        self.extents.len() == 1 && self.out[0] == 1 && self.strides.iter().all(|own| own[0] == 1)
    }

    /// Rank, six extents, and six strides of each array, as kernels take them; what lies beyond the rank is not looked at.
    fn arguments(&self) -> Vec<Argument<'static>> {
        let padded = |values: &[usize]| {
            let values = values.to_vec();
            (0..MAX_RANK).map(move |axis| count(values.get(axis).copied().unwrap_or(1)))
        };
        let mut arguments = vec![count(self.extents.len())];
        arguments.extend(padded(&self.extents));
        self.strides.iter().for_each(|own| arguments.extend(padded(own)));
        arguments
    }
}

impl Axes<1> {
    /// Batch, rows and columns of the source, if this is a transposition of matrices that lie without gaps on both sides.
    fn transposition(&self) -> Option<[usize; 3]> {
        let (source, extents) = (&self.strides[0], &self.extents);
        let (&[rows, columns], &[row, column]) = (extents.get(..2)?, source.get(..2)?) else {
            return None;
        };
        let batch = match extents[2..] {
            [] => 1,
            [batch] if self.out[2] == rows * columns && source[2] == rows * columns => batch,
            _ => return None,
        };
        let turned = self.out[..2] == [1, rows] && [row, column] == [columns, 1];
        // The result's fastest axis runs along the source's rows.
        turned.then_some([batch, rows, columns])
    }
}

/// Launches a kernel that takes `buffers`, a number of elements, and axes; one thread for each element.
///
/// # Safety
/// As [`CudaDevice::launch`].
pub(super) unsafe fn launch_over<const K: usize>(
    device: &CudaDevice,
    kernel: &Kernel,
    n: usize,
    buffers: &[Argument<'_>],
    axes: &Axes<K>,
) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    let mut arguments = buffers.to_vec();
    arguments.push(count(n));
    arguments.extend(axes.arguments());
    // SAFETY: as the caller promises.
    unsafe { device.launch(kernel, [n.div_ceil(kernel.tile as usize), 1, 1], &arguments) }
}

/// The elements of a tensor under other dense strides.
pub(crate) fn copied(x: &Tensor, strides: Dims) -> Result<Tensor> {
    let device = device_of(x);
    let out = unfilled("copy", device, x.dims(), strides)?;
    copy_to(device, x, at(&out), &strides)?;
    Ok(out)
}

/// Copies a tensor to an address, where it lies under the given strides.
pub(super) fn copy_to(
    device: &CudaDevice,
    x: &Tensor,
    out: Argument<'static>,
    strides: &Dims,
) -> Result<()> {
    let (shape, n) = (x.dims(), x.numel());
    if n == 0 {
        return Ok(());
    }
    let axes = Axes::new(&shape, strides, [&x.strides()]);
    if axes.is_flat()
        && let (Some((_, from)), Argument::Address(to)) = (x.on_cuda(), out)
    {
        // SAFETY: both sides hold n elements, and the result is memory of its own.
        return unsafe { device.driver().copy(from, to, 4 * n) }.map_err(cuda("copy"));
    }
    // A tile of 32 by 32 with less than half its rows used reads less well than the plain walk.
    if let Some([batch, rows, columns]) = axes.transposition()
        && rows.min(columns) >= 16
    {
        let kernel = &kernels::TRANSPOSE_F32;
        let tile = kernel.tile as usize;
        let most = usize::from(u16::MAX);
        let grid = [columns.div_ceil(tile), rows.div_ceil(tile).min(most), batch.min(most)];
        let arguments = [at(x), out, count(batch), count(rows), count(columns)];
        // SAFETY: argument order and types as in the header of transpose_f32.ptx; both sides hold batch · rows · columns elements.
        return unsafe { device.launch(kernel, grid, &arguments) };
    }
    // Strides of the source and of the result, in the order in which the kernel takes them.
    let axes = Axes::new(&shape, strides, [&x.strides(), strides]);
    // SAFETY: argument order and types as in the header of copy_strided_f32.ptx; the strides lead to no element outside either side.
    unsafe { launch_over(device, &kernels::COPY_STRIDED_F32, n, &[at(x), out], &axes) }
}

/// Tensors joined along an axis, of which the result has `shape`.
pub(crate) fn concat(tensors: &[&Tensor], axis: usize, shape: Dims) -> Result<Tensor> {
    let device = device_of(tensors[0]);
    let strides = shape.row_major();
    let out = unfilled("concat", device, shape, strides)?;
    let mut start = 0;
    for tensor in tensors {
        let part = out.view(tensor.dims(), strides, start * strides[axis]);
        copy_to(device, tensor, at(&part), &strides)?;
        start += tensor.shape()[axis];
    }
    Ok(out)
}

/// A tensor of one value.
pub(crate) fn full(device: &CudaDevice, shape: Dims, strides: Dims, value: f32) -> Result<Tensor> {
    let n = shape.numel();
    if value.to_bits() == 0 {
        super::check_count("full", &shape)?;
        return Ok(Tensor::from_device_buffer(device.zeroed(4 * n)?, shape, strides));
    }
    let out = unfilled("full", device, shape, strides)?;
    if n > 0 {
        let kernel = &kernels::FILL_F32;
        let grid = [n.div_ceil(kernel.tile as usize), 1, 1];
        // SAFETY: argument order and types as in the header of fill_f32.ptx; the buffer holds n elements.
        unsafe { device.launch(kernel, grid, &[at(&out), count(n), Argument::F32(value)]) }?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(shape: &[usize], out: &[usize], source: &[usize]) -> Axes<1> {
        let dims = Dims::from_short;
        Axes::new(&dims(shape), &dims(out), [&dims(source)])
    }

    #[test]
    fn axes_that_follow_one_another_are_one() {
        let same = axes(&[2, 3, 1, 4], &[12, 4, 4, 1], &[12, 4, 99, 1]);
        assert_eq!((same.extents.as_slice(), same.is_flat()), (&[24][..], true));
        let stretched = axes(&[5, 3], &[3, 1], &[0, 1]);
        assert_eq!((stretched.extents.as_slice(), stretched.is_flat()), (&[3, 5][..], false));
        assert_eq!(stretched.strides[0], [1, 0]);
        assert!(axes(&[], &[], &[]).is_flat());
    }

    #[test]
    fn pictures_turn_from_one_order_to_the_other() {
        // [2, 3, 4, 5] row-major to channels-last, and back.
        let (rows, last) = ([60, 20, 5, 1], [60, 1, 15, 3]);
        assert_eq!(axes(&[2, 3, 4, 5], &last, &rows).transposition(), Some([2, 3, 20]));
        assert_eq!(axes(&[2, 3, 4, 5], &rows, &last).transposition(), Some([2, 20, 3]));
        assert_eq!(axes(&[7, 9], &[1, 7], &[9, 1]).transposition(), Some([1, 7, 9]));
        assert_eq!(axes(&[7, 9], &[9, 1], &[18, 1]).transposition(), None, "a slice of wider rows");
        assert_eq!(axes(&[2, 3, 4], &[12, 4, 1], &[1, 2, 6]).transposition(), None);
    }
}
