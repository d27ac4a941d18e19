//! Matrices of 16-bit numbers in a device's memory. Tensors are of `f32`; these are for what takes halves as they are.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::driver::Argument;
use super::{CudaDevice, DeviceBuffer, check_count};
use crate::error::{Error, Result};
use crate::shape::Dims;

/// The two formats of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    F16,
    Bf16,
}

/// A row-major matrix of `f16` or `bf16` on a CUDA device, such as features that a network on it left in 16 bits: half the memory of
/// `f32`, and half the time to read.
#[derive(Debug)]
pub struct HalfMatrix {
    format: Format,
    shape: [usize; 2],
    values: DeviceBuffer,
}

impl HalfMatrix {
    /// Takes `n · d` values in row-major order to a device.
    ///
    /// # Errors
    /// [`Error::Length`] if the count differs; [`Error::Shape`] for more values than kernels count; [`Error::DeviceMemory`].
    pub fn from_f16(device: &CudaDevice, values: &[f16], shape: [usize; 2]) -> Result<Self> {
        Self::upload(device, Format::F16, values.reinterpret_cast(), shape)
    }

    /// As [`HalfMatrix::from_f16`].
    ///
    /// # Errors
    /// The same.
    pub fn from_bf16(device: &CudaDevice, values: &[bf16], shape: [usize; 2]) -> Result<Self> {
        Self::upload(device, Format::Bf16, values.reinterpret_cast(), shape)
    }

    fn upload(
        device: &CudaDevice,
        format: Format,
        bits: &[u16],
        shape: [usize; 2],
    ) -> Result<Self> {
        const OP: &str = "half_matrix";
        let dims = Dims::new(&shape)?;
        check_count(OP, &dims)?;
        let (len, want) = (bits.len(), dims.numel());
        if len != want {
            return Err(Error::Length { op: OP, len, want, shape: shape.into() });
        }
        Ok(HalfMatrix { format, shape, values: device.upload(bits)? })
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Where the values lie.
    pub fn device(&self) -> &CudaDevice {
        self.values.device()
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn at(&self) -> Argument<'static> {
        Argument::Address(self.values.address())
    }

    /// The values of a row, which `f32` holds exactly. Waits for the device.
    pub(super) fn row(&self, row: usize) -> Result<Vec<f32>> {
        let width = self.shape[1];
        let bits: Vec<u16> = self.values.read(2 * row * width, width)?;
        Ok(match self.format {
            Format::F16 => bits.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect(),
            Format::Bf16 => bits.into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect(),
        })
    }
}
