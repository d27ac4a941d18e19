//! Random masks that depend on a key and a position alone, never on the order of work.

use crate::buffer::Buffer;
use crate::cpu::map;
use crate::cuda;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::shape::Dims;
use crate::simd::vectorised;
use crate::tensor::dispatch;
use crate::{DType, Element, Tensor};

impl Tensor {
    /// A mask of `1 / (1 − p)` with probability `1 − p` and 0 otherwise: what dropout multiplies with.
    ///
    /// Equal keys give equal masks, whatever the number of threads and the device.
    ///
    /// # Errors
    /// [`Error::Value`] unless `0 ≤ p < 1`; [`Error::Shape`] if the shape does not fit in memory.
    pub fn dropout_mask(shape: &[usize], p: f64, key: u64, dtype: DType) -> Result<Tensor> {
        Self::dropout_mask_on(shape, p, key, dtype, &Device::Cpu)
    }

    /// [`Tensor::dropout_mask`] on a device.
    ///
    /// # Errors
    /// As [`Tensor::dropout_mask`]; [`Error::DeviceDType`] for `f64` on a CUDA device, [`Error::DeviceMemory`].
    pub fn dropout_mask_on(
        shape: &[usize],
        p: f64,
        key: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        if !(0.0..1.0).contains(&p) {
            let rule = "a probability below 1 is needed";
            return Err(Error::Value { op: "dropout", name: "p", value: p, rule });
        }
        let dims = Dims::new(shape)?;
        // The threshold in units of 2⁻³²: p is met to that precision.
        let threshold = (p * 4_294_967_296.0) as u64;
        if let Device::Cuda(device) = device {
            if dtype != DType::F32 {
                return Err(Error::DeviceDType { op: "dropout", dtype });
            }
            return cuda::dropout_mask(device, dims, threshold, (1.0 / (1.0 - p)) as f32, key);
        }
        Ok(dispatch!(dtype, T => {
            let kept = T::from_f64(1.0 / (1.0 - p));
            let mut out = Buffer::<T>::unfilled(dims.numel());
            map::flat(out.as_mut_slice(), |part, start| {
                vectorised(
                    #[inline(always)]
                    || {
                        for (i, o) in part.iter_mut().enumerate() {
                            let random = mix(key, (start + i) as u64) >> 32;
                            *o = if random < threshold { T::ZERO } else { kept };
                        }
                    },
                );
            });
            Tensor::from_buffer(out, dims, dims.row_major())
        }))
    }
}

/// The `index`-th output of SplitMix64 (Steele, Lea and Flood, 2014) started at `key`.
#[inline(always)]
fn mix(key: u64, index: u64) -> u64 {
    let mut z = key.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
