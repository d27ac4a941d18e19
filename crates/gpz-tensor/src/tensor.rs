//! The tensor: shared memory, a shape and strides.

use std::fmt;
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::cuda::{self, CudaDevice, DeviceBuffer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::{DType, Element};

/// Elements of one dtype, shared between the tensors that view them.
#[derive(Clone)]
pub enum Storage {
    F32(Arc<Buffer<f32>>),
    F64(Arc<Buffer<f64>>),
    /// `f32` in the memory of a CUDA device.
    Cuda(Arc<DeviceBuffer>),
}

/// Runs `$body` with `$T` bound to the element type of a dtype: for tensors on the processor, whose memory `$body` may look at.
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}
pub(crate) use dispatch;

/// An n-dimensional array, immutable and cheap to clone.
///
/// Shapes, axes and flattening are row-major in the logical order (NCHW for pictures), whatever the memory layout. Convolutions and
/// what works on their results lay pictures out channels-last; a view may have any strides. Operations return new tensors, on the device
/// of their operands, which must be one.
#[derive(Clone)]
pub struct Tensor {
    storage: Storage,
    shape: Dims,
    strides: Dims,
    offset: usize,
}

impl Tensor {
    /// Takes `shape.product()` values in row-major order.
    ///
    /// # Errors
    /// [`Error::Length`] if the count differs.
    pub fn from_slice<T: Element>(values: &[T], shape: &[usize]) -> Result<Self> {
        let dims = Dims::new(shape)?;
        check_length("from_slice", values.len(), &dims)?;
        Ok(Self::from_buffer(Buffer::from_slice(values), dims, dims.row_major()))
    }

    /// Takes pictures `[n, h, w, c]` as they lie in most files; the tensor's shape is `[n, c, h, w]`.
    ///
    /// # Errors
    /// [`Error::Length`] if the count differs.
    pub fn from_channels_last<T: Element>(values: &[T], shape: [usize; 4]) -> Result<Self> {
        let dims = Dims::new(&shape)?;
        check_length("from_channels_last", values.len(), &dims)?;
        Ok(Self::from_buffer(Buffer::from_slice(values), dims, dims.channels_last()))
    }

    /// Every element is `value`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape does not fit in memory.
    pub fn full(shape: &[usize], value: f64, dtype: DType) -> Result<Self> {
        let dims = Dims::new(shape)?;
        dispatch!(dtype, T => {
            let filled = Buffer::try_filled(dims.numel(), T::from_f64(value));
            let buffer = filled.ok_or_else(|| Error::shape("full", shape, "there is no memory for so many elements"))?;
            Ok(Self::from_buffer(buffer, dims, dims.row_major()))
        })
    }

    /// Every element is zero.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape does not fit in memory.
    pub fn zeros(shape: &[usize], dtype: DType) -> Result<Self> {
        Self::full(shape, 0.0, dtype)
    }

    /// Every element is `value`, on a device.
    ///
    /// # Errors
    /// As [`Tensor::full`]; [`Error::DeviceDType`] for `f64` on a CUDA device, [`Error::DeviceMemory`].
    pub fn full_on(shape: &[usize], value: f64, dtype: DType, device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Self::full(shape, value, dtype),
            Device::Cuda(_) if dtype != DType::F32 => Err(Error::DeviceDType { op: "full", dtype }),
            Device::Cuda(device) => {
                let dims = Dims::new(shape)?;
                cuda::full(device, dims, dims.row_major(), value as f32)
            }
        }
    }

    /// A tensor of this one's shape, memory order, dtype and device, every element of which is `value`.
    ///
    /// # Errors
    /// As [`Tensor::full_on`].
    pub fn full_like(&self, value: f64) -> Result<Self> {
        let strides = if self.is_dense() { self.strides } else { self.shape.row_major() };
        match &self.storage {
            Storage::Cuda(buffer) => cuda::full(buffer.device(), self.shape, strides, value as f32),
            _ => Ok(Self::full(&self.shape, value, self.dtype())?.with_strides(strides)),
        }
    }

    /// A tensor of rank 0.
    pub fn scalar(value: f64, dtype: DType) -> Self {
        dispatch!(dtype, T => {
            Self::from_buffer(Buffer::filled(1, T::from_f64(value)), Dims::from_short(&[]), Dims::from_short(&[]))
        })
    }

    pub(crate) fn from_buffer<T: Element>(buffer: Buffer<T>, shape: Dims, strides: Dims) -> Self {
        debug_assert_eq!(buffer.as_slice().len(), shape.numel());
        Tensor { storage: T::wrap(Arc::new(buffer)), shape, strides, offset: 0 }
    }

    /// Extents of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn dims(&self) -> Dims {
        self.shape
    }

    pub(crate) fn strides(&self) -> Dims {
        self.strides
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.numel()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match self.storage {
            Storage::F32(_) | Storage::Cuda(_) => DType::F32,
            Storage::F64(_) => DType::F64,
        }
    }

    /// Where the elements lie.
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::F32(_) | Storage::F64(_) => Device::Cpu,
            Storage::Cuda(buffer) => Device::Cuda(buffer.device().clone()),
        }
    }

    /// This tensor on another device, in the same memory order; itself if it lies there already.
    ///
    /// # Errors
    /// [`Error::DeviceDType`] for `f64` to a CUDA device, [`Error::DeviceMemory`], [`Error::Cuda`].
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        if self.device() == *device {
            return Ok(self.clone());
        }
        let source = self.densely()?;
        let host = match &source.storage {
            Storage::Cuda(buffer) => {
                let values = buffer.read::<f32>(4 * source.offset, source.numel())?;
                Self::from_buffer(Buffer::from_slice(&values), source.shape, source.strides)
            }
            _ => source,
        };
        match device {
            Device::Cpu => Ok(host),
            Device::Cuda(device) => {
                if host.dtype() != DType::F32 {
                    return Err(Error::DeviceDType { op: "to_device", dtype: host.dtype() });
                }
                cuda::check_count("to_device", &host.shape)?;
                let buffer = device.upload(&host.data::<f32>()[..host.numel()])?;
                Ok(Self::from_device_buffer(buffer, host.shape, host.strides))
            }
        }
    }

    pub(crate) fn from_device_buffer(buffer: DeviceBuffer, shape: Dims, strides: Dims) -> Self {
        debug_assert!(buffer.bytes() >= 4 * shape.numel());
        Tensor { storage: Storage::Cuda(Arc::new(buffer)), shape, strides, offset: 0 }
    }

    /// The buffer on a CUDA device, and the address of this view's first element.
    pub(crate) fn on_cuda(&self) -> Option<(&DeviceBuffer, u64)> {
        match &self.storage {
            Storage::Cuda(buffer) => Some((buffer, buffer.address() + 4 * self.offset as u64)),
            _ => None,
        }
    }

    /// The elements from this view's first one on, to be addressed by strides.
    pub(crate) fn data<T: Element>(&self) -> &[T] {
        let buffer = T::buffer(&self.storage).expect("callers dispatch on the dtype");
        &buffer.as_slice()[self.offset.min(buffer.as_slice().len())..]
    }

    /// Whether the elements lie without gaps or overlap under some order of the axes.
    pub(crate) fn is_dense(&self) -> bool {
        let mut axes: [(usize, usize); crate::shape::MAX_RANK] = Default::default();
        let mut count = 0;
        for (&extent, &stride) in self.shape.iter().zip(self.strides.iter()) {
            if extent == 0 {
                return true;
            }
            if extent > 1 {
                axes[count] = (stride, extent);
                count += 1;
            }
        }
        axes[..count].sort_unstable();
        let mut step = 1;
        for &(stride, extent) in &axes[..count] {
            if stride != step {
                return false;
            }
            step *= extent;
        }
        true
    }

    fn has_strides(&self, want: &Dims) -> bool {
        let pairs = self.strides.iter().zip(want.iter());
        self.numel() == 0
            || pairs.zip(self.shape.iter()).all(|((a, b), &extent)| extent == 1 || a == b)
    }

    /// Whether the elements lie in row-major order without gaps.
    pub fn is_row_major(&self) -> bool {
        self.has_strides(&self.shape.row_major())
    }

    /// Whether this is `[n, c, h, w]` and lies in memory as `[n, h, w, c]` without gaps.
    pub fn is_channels_last(&self) -> bool {
        self.rank() == 4 && self.has_strides(&self.shape.channels_last())
    }

    /// This tensor in row-major memory order; itself if it is so already.
    ///
    /// # Errors
    /// None on the processor; what a CUDA device fails with.
    pub fn row_major(&self) -> Result<Tensor> {
        self.in_strides(self.shape.row_major())
    }

    /// This `[n, c, h, w]` tensor in channels-last memory order; itself if it is so already.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the rank is 4.
    pub fn channels_last(&self) -> Result<Tensor> {
        if self.rank() != 4 {
            return Err(Error::shape(
                "channels_last",
                &self.shape,
                "rank 4, [n, c, h, w], is needed",
            ));
        }
        self.in_strides(self.shape.channels_last())
    }

    /// The same elements, dense under some order of the axes.
    pub(crate) fn densely(&self) -> Result<Tensor> {
        let strides = if self.is_dense() { self.strides } else { self.shape.row_major() };
        self.in_strides(strides)
    }

    /// Whether kernels can load 16 bytes at once from the first element on.
    pub(crate) fn is_aligned(&self) -> bool {
        !matches!(self.storage, Storage::Cuda(_)) || self.offset.is_multiple_of(4)
    }

    pub(crate) fn with_strides(&self, strides: Dims) -> Tensor {
        Tensor { strides, ..self.clone() }
    }

    /// This tensor under given dense strides; a copy if it lies otherwise.
    pub(crate) fn in_strides(&self, strides: Dims) -> Result<Tensor> {
        if self.has_strides(&strides) && self.is_aligned() {
            return Ok(self.with_strides(strides));
        }
        self.copied(strides)
    }

    fn copied(&self, strides: Dims) -> Result<Tensor> {
        if self.on_cuda().is_some() {
            return cuda::copied(self, strides);
        }
        Ok(dispatch!(self.dtype(), T => {
            let mut out = Buffer::<T>::unfilled(self.numel());
            crate::cpu::map::copy(&self.shape, out.as_mut_slice(), &strides, self.data(), &self.strides);
            Self::from_buffer(out, self.shape, strides)
        }))
    }

    /// The elements in row-major order, converted to `T`. Waits for a CUDA device.
    ///
    /// # Errors
    /// None on the processor; what a CUDA device fails with, now or in earlier work.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let rows = self.to_device(&Device::Cpu)?.row_major()?;
        Ok(dispatch!(self.dtype(), S => {
            rows.data::<S>()[..self.numel()].iter().map(|v| T::from_f64(v.to_f64())).collect()
        }))
    }

    /// The pictures of an `[n, c, h, w]` tensor in `[n, h, w, c]` order, converted to `T`.
    ///
    /// # Errors
    /// [`Error::Shape`] unless the rank is 4.
    pub fn to_channels_last_vec<T: Element>(&self) -> Result<Vec<T>> {
        let pictures = self.channels_last()?.to_device(&Device::Cpu)?;
        Ok(dispatch!(self.dtype(), S => {
            pictures.data::<S>()[..self.numel()].iter().map(|v| T::from_f64(v.to_f64())).collect()
        }))
    }

    /// The row-major elements as they lie, without a copy; `None` for another dtype, memory order or device.
    pub fn as_row_major_slice<T: Element>(&self) -> Option<&[T]> {
        (T::buffer(&self.storage).is_some() && self.is_row_major())
            .then(|| &self.data::<T>()[..self.numel()])
    }

    /// The only element. Waits for a CUDA device.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not exactly one.
    pub fn item(&self) -> Result<f64> {
        if self.numel() != 1 {
            return Err(Error::shape("item", &self.shape, "exactly one element is needed"));
        }
        Ok(self.to_vec::<f64>()?[0])
    }

    /// Whether no element is infinite or NaN. Waits for a CUDA device.
    ///
    /// # Errors
    /// None on the processor; what a CUDA device fails with.
    pub fn all_finite(&self) -> Result<bool> {
        let tensor = self.densely()?;
        if tensor.on_cuda().is_some() {
            return cuda::all_finite(&tensor);
        }
        Ok(dispatch!(self.dtype(), T => {
            crate::cpu::rows::all_finite(&tensor.data::<T>()[..self.numel()])
        }))
    }

    /// This tensor in another dtype, rounded to nearest.
    ///
    /// # Errors
    /// None on the processor; [`Error::DeviceDType`] for `f64` on a CUDA device.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        if self.on_cuda().is_some() {
            return Err(Error::DeviceDType { op: "to_dtype", dtype });
        }
        let source = self.densely()?;
        Ok(dispatch!(self.dtype(), S => dispatch!(dtype, D => {
            let mut out = Buffer::<D>::unfilled(self.numel());
            for (to, from) in out.as_mut_slice().iter_mut().zip(source.data::<S>()) {
                *to = D::from_f64(from.to_f64());
            }
            Self::from_buffer(out, source.shape, source.strides)
        })))
    }

    /// For tensors on the processor: rewrites the elements in memory order with those of the operands, which are brought to this tensor's
    /// layout. In place if nothing else shares the memory, otherwise on a copy. What optimisers do on a CUDA device is
    /// [`crate::OptimiserStep`].
    ///
    /// `f` is handed pieces that belong together, in parallel where the tensor is large: what becomes of an element may depend on the
    /// operands' elements at its place alone.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::DTypeMismatch`] if an operand differs; [`Error::DeviceMismatch`] for a tensor on a CUDA device.
    pub fn update<T: Element, const K: usize>(
        &mut self,
        operands: [&Tensor; K],
        f: impl Fn(&mut [T], [&[T]; K]) + Sync,
    ) -> Result<()> {
        if T::DTYPE != self.dtype() {
            return Err(Error::DTypeMismatch { op: "update", lhs: self.dtype(), rhs: T::DTYPE });
        }
        if self.on_cuda().is_some() {
            let (lhs, rhs) = (self.device().to_string(), Device::Cpu.to_string());
            return Err(Error::DeviceMismatch { op: "update", lhs, rhs });
        }
        if !self.is_dense() {
            *self = self.row_major()?;
        }
        let mut aligned = operands.map(Tensor::clone);
        for operand in &mut aligned {
            self.check_same("update", operand)?;
            if !operand.has_strides(&self.strides) {
                *operand = operand.copied(self.strides)?;
            }
        }
        let count = self.numel();
        let buffer = Arc::make_mut(T::buffer_mut(&mut self.storage).expect("checked above"));
        let slices: [&[T]; K] = std::array::from_fn(|k| &aligned[k].data::<T>()[..count]);
        let own = &mut buffer.as_mut_slice()[self.offset..][..count];
        crate::cpu::map::flat(own, |own, at| f(own, slices.map(|s| &s[at..][..own.len()])));
        Ok(())
    }

    pub(crate) fn check_same(&self, op: &'static str, other: &Tensor) -> Result<()> {
        self.check_dtype(op, other)?;
        if self.shape != other.shape {
            return Err(Error::mismatch(op, &self.shape, &other.shape, "they must be equal"));
        }
        Ok(())
    }

    pub(crate) fn check_dtype(&self, op: &'static str, other: &Tensor) -> Result<()> {
        if self.dtype() != other.dtype() {
            return Err(Error::DTypeMismatch { op, lhs: self.dtype(), rhs: other.dtype() });
        }
        if self.cuda_device() != other.cuda_device() {
            let (lhs, rhs) = (self.device().to_string(), other.device().to_string());
            return Err(Error::DeviceMismatch { op, lhs, rhs });
        }
        Ok(())
    }

    fn cuda_device(&self) -> Option<&CudaDevice> {
        self.on_cuda().map(|(buffer, _)| buffer.device())
    }

    pub(crate) fn check_device(&self, op: &'static str, device: &CudaDevice) -> Result<()> {
        if self.cuda_device() != Some(device) {
            let (lhs, rhs) = (self.device().to_string(), Device::Cuda(device.clone()).to_string());
            return Err(Error::DeviceMismatch { op, lhs, rhs });
        }
        Ok(())
    }

    /// Makes this tensor the only one that sees its memory on a CUDA device, dense: by a copy if it is not.
    pub(crate) fn make_unique(&mut self) -> Result<()> {
        let dense = self.is_dense() && self.is_aligned();
        let alone = match &mut self.storage {
            Storage::Cuda(buffer) => Arc::get_mut(buffer).is_some(),
            _ => true,
        };
        if !(dense && alone) {
            let strides = if self.is_dense() { self.strides } else { self.shape.row_major() };
            *self = self.copied(strides)?;
        }
        Ok(())
    }

    pub(crate) fn view(&self, shape: Dims, strides: Dims, offset: usize) -> Tensor {
        Tensor { storage: self.storage.clone(), shape, strides, offset: self.offset + offset }
    }
}

fn check_length(op: &'static str, len: usize, dims: &Dims) -> Result<()> {
    if len != dims.numel() {
        return Err(Error::Length { op, len, want: dims.numel(), shape: dims[..].into() });
    }
    Ok(())
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?}, {}", self.shape, self.dtype())?;
        if self.on_cuda().is_some() {
            write!(f, ", on {}", self.device())?;
        } else if self.numel() <= 8
            && let Ok(values) = self.to_vec::<f64>()
        {
            write!(f, ", {values:?}")?;
        }
        write!(f, ")")
    }
}
