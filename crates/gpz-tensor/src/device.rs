//! Where tensors lie and operations run.

use std::fmt;

use crate::cuda::CudaDevice;
use crate::cuda::nvidia::{self, Options};
use crate::error::Result;

/// Where a tensor lies, and operations on it run.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor: all dtypes, the reference of every other device.
    #[default]
    Cpu,
    /// A CUDA device: `f32`.
    Cuda(CudaDevice),
}

impl Device {
    /// The CUDA device of this number, counted from 0, for products in full f32.
    ///
    /// Open a device once and clone it: tensors of two openings lie on two devices, even if the hardware is one.
    ///
    /// # Errors
    /// [`crate::Error::NoCuda`] says what is missing, and where it comes from.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        Self::cuda_with(ordinal, Options::default())
    }

    /// The CUDA device of this number, counted from 0.
    ///
    /// # Errors
    /// [`crate::Error::NoCuda`] says what is missing, and where it comes from.
    pub fn cuda_with(ordinal: usize, options: Options) -> Result<Self> {
        nvidia::open(ordinal, options).map(Device::Cuda)
    }

    /// CUDA device 0, if everything runs on it, else the processor; with one line that says why it is the processor.
    pub fn auto() -> (Self, Option<String>) {
        Self::auto_with(Options::default())
    }

    /// [`Device::auto`], where it is a CUDA device with these options.
    pub fn auto_with(options: Options) -> (Self, Option<String>) {
        let device = Self::cuda_with(0, options);
        match device.and_then(|device| nvidia::complete().map(|()| device)) {
            Ok(device) => (device, None),
            Err(reason) => (Device::Cpu, Some(reason.to_string())),
        }
    }

    /// The device as a CUDA device.
    pub fn as_cuda(&self) -> Option<&CudaDevice> {
        match self {
            Device::Cpu => None,
            Device::Cuda(device) => Some(device),
        }
    }

    /// Waits until everything asked for is done. On the processor nothing is ever left to do.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for a device that is lost.
    pub fn synchronize(&self) -> Result<()> {
        self.as_cuda().map_or(Ok(()), CudaDevice::synchronize)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(device) => write!(f, "cuda ({})", device.properties().name),
        }
    }
}
