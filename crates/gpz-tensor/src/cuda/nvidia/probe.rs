//! What there is: the driver, GPUs, and whether they will do.

use std::ffi::CStr;

use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

use super::context::{status, words};
use super::libraries::require;
use crate::cuda::driver::{Failure, Outcome, Properties};
use crate::error::{Error, Result};

/// Least version of CUDA: the kernels are PTX 7.8.
const LEAST_CUDA: [u32; 2] = [11, 8];
/// Least architecture: the kernels are for sm_80.
const LEAST_ARCHITECTURE: [u32; 2] = [8, 0];

/// What is called of the driver: all of it must be there.
pub(super) const FUNCTIONS: &[&str] = &[
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamQuery",
    "cuStreamSynchronize",
];

const DRIVER_PACKAGE: &str = "comes with NVIDIA's driver (Debian: packages `nvidia-driver` and `libcuda1`, Ubuntu: `nvidia-driver-580` or \
                              `libnvidia-compute-580`); a container is given it by `--gpus all`";

/// Newest version of CUDA that the driver knows: `[13, 0]`; nothing if there is no driver.
pub fn driver_version() -> Option<[u32; 2]> {
    driver().ok()
}

/// What is called where it is there: drivers have it since CUDA 12.8.
pub(super) const OPTIONAL: &[&str] = &["cuEventElapsedTime_v2"];

/// Whether the time between two events can be had.
pub(super) fn times_events() -> bool {
    // SAFETY: a device is open, so the library is present.
    require(unsafe { sys::culib() }, "libcuda.so.1", OPTIONAL).is_ok()
}

/// The driver's version, with all that is called found to be there.
fn driver() -> Outcome<[u32; 2]> {
    // SAFETY: opens the driver's library, and may close it again.
    if !unsafe { sys::is_culib_present() } {
        return Err(Failure::new(format!("libcuda.so.1 is not found: it {DRIVER_PACKAGE}")));
    }
    // SAFETY: the library is present, as just seen.
    require(unsafe { sys::culib() }, "libcuda.so.1, NVIDIA's driver,", FUNCTIONS)?;
    let mut version = 0;
    // SAFETY: CUDA writes one number, and needs no start for it.
    status("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut version) })?;
    let version = version.unsigned_abs();
    Ok([version / 1000, version % 1000 / 10])
}

/// Starts CUDA: the driver's version, and how many GPUs there are.
fn start() -> Outcome<([u32; 2], usize)> {
    let version @ [major, minor] = driver()?;
    if version < LEAST_CUDA {
        let [least_major, least_minor] = LEAST_CUDA;
        return Err(Failure::new(format!(
            "the NVIDIA driver is that of CUDA {major}.{minor}, the kernels (PTX 7.8) need one of CUDA {least_major}.{least_minor} or \
             newer (520)"
        )));
    }
    // SAFETY: takes nothing but the number 0.
    match unsafe { sys::cuInit(0) } {
        CUresult::CUDA_SUCCESS => {}
        CUresult::CUDA_ERROR_NO_DEVICE => return Err(no_gpu()),
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            let stub = "the libcuda.so that was found is a stub of CUDA's toolkit";
            return Err(Failure::new(format!("{stub}; the right one {DRIVER_PACKAGE}")));
        }
        result => {
            let mends =
                "`nvidia-smi` tells more; a driver that was updated needs a restart of the machine";
            return Err(Failure::new(format!(
                "the NVIDIA driver does not start: {}; {mends}",
                words(result)
            )));
        }
    }
    let mut count = 0;
    // SAFETY: CUDA writes one number.
    status("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&mut count) })?;
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok((version, count)),
        _ => Err(no_gpu()),
    }
}

fn no_gpu() -> Failure {
    let reason = "the NVIDIA driver is there, but sees no GPU in this machine";
    let hidden = match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(value) => format!("; CUDA_VISIBLE_DEVICES={value} may hide it"),
        Err(_) => String::new(),
    };
    Failure::new(format!("{reason}{hidden}"))
}

/// A device that will do, and what it is.
pub(super) fn device(ordinal: usize) -> Outcome<(sys::CUdevice, Properties)> {
    let (version, count) = start()?;
    if ordinal >= count {
        let there = match count {
            1 => "there is one, device 0".to_owned(),
            _ => format!("there are {count}, from 0 to {}", count - 1),
        };
        return Err(Failure::new(format!("there is no CUDA device {ordinal}: {there}")));
    }
    let (device, properties) = describe(ordinal, version)?;
    match unfit(&properties) {
        Some(reason) => Err(Failure::new(reason)),
        None => Ok((device, properties)),
    }
}

/// Why a device of these properties cannot be used, if it cannot.
pub fn unfit(properties: &Properties) -> Option<String> {
    let Properties { name, compute_capability: [major, minor], .. } = properties;
    let [least_major, least_minor] = LEAST_ARCHITECTURE;
    ([*major, *minor] < LEAST_ARCHITECTURE).then(|| {
        format!(
            "{name} is of architecture sm_{major}{minor}, the kernels need sm_{least_major}{least_minor} (Ampere) or newer"
        )
    })
}

/// What a device is, of those that there are.
fn describe(ordinal: usize, [major, minor]: [u32; 2]) -> Outcome<(sys::CUdevice, Properties)> {
    let (mut device, mut memory, mut name) = (0, 0, [0; 256]);
    let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
    // SAFETY: CUDA is started; it writes one handle, one number, and a name with a zero byte at its end that has room.
    unsafe {
        status("cuDeviceGet", sys::cuDeviceGet(&mut device, ordinal))?;
        status("cuDeviceTotalMem", sys::cuDeviceTotalMem_v2(&mut memory, device))?;
        let room = name.len() as i32;
        status("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), room, device))?;
    }
    let attribute = |attribute| {
        let mut value = 0;
        // SAFETY: CUDA writes one number.
        let got = unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) };
        status("cuDeviceGetAttribute", got).map(|()| value.unsigned_abs())
    };
    use CUdevice_attribute::*;
    let compute_capability = [
        attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ];
    // SAFETY: there is a zero byte: the array began as zeros, and CUDA writes one at the end of the name.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let software = format!("CUDA {major}.{minor}");
    Ok((device, Properties { name, compute_capability, memory_bytes: memory as u64, software }))
}

/// The CUDA devices of this machine, in CUDA's order; at least one. [`unfit`] tells which of them cannot be used.
///
/// # Errors
/// [`Error::NoCuda`] says why there is none.
pub fn list() -> Result<Vec<Properties>> {
    let no_cuda = |Failure { reason, .. }| Error::NoCuda { reason };
    let (version, count) = start().map_err(no_cuda)?;
    let devices = (0..count).map(|ordinal| describe(ordinal, version));
    devices.map(|device| device.map(|(_, properties)| properties).map_err(no_cuda)).collect()
}
