//! NVIDIA's driver, and its libraries for matrix products and convolutions, all opened while the program runs: without them it still runs
//! on the processor, and says what is missing.
//!
//! Whatever is called through cudarc is looked for first, since cudarc panics where a library or a function is absent.

mod algorithms;
mod blas;
mod context;
mod convolution;
mod kernels;
mod libraries;
mod probe;
mod search;
mod staging;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cudarc::driver::sys;
use gpz_kernels::Kernel;

use super::CudaDevice;
use super::driver::{Argument, Convolution, Driver, Failure, Outcome, Product, Properties};
use crate::error::{Error, Result};
use blas::Blas;
use context::Context;
use convolution::Dnn;
use kernels::Kernels;
use staging::Staging;

pub use libraries::{Library, libraries};
pub use probe::{driver_version, list, unfit};

/// How matrix products and convolutions round the numbers they multiply. Sums are f32 in any case, and so are all other operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// As they are: 24 bits. What results are compared with.
    #[default]
    F32,
    /// To 11 bits, on tensor cores: several times as fast.
    Tf32,
    /// To 8 bits in matrix products, on tensor cores; convolutions as for [`Precision::Tf32`], since cuDNN has no such mode for f32.
    Bf16,
}

/// How a device is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// How products round.
    pub precision: Precision,
}

/// Opens a CUDA device, counted from 0 as CUDA counts (`CUDA_VISIBLE_DEVICES` has a say in it).
///
/// cuBLAS and cuDNN need not be there: without them matrix products and convolutions fail, and say what is missing.
///
/// # Errors
/// [`Error::NoCuda`] says what is missing, and where it comes from: the driver, a GPU, a GPU of that number, a GPU new enough (sm_80), a
/// driver new enough (CUDA 11.8).
pub fn open(ordinal: usize, options: Options) -> Result<CudaDevice> {
    let no_cuda = |Failure { reason, .. }| Error::NoCuda { reason };
    Nvidia::open(ordinal, options).map(CudaDevice::with_driver).map_err(no_cuda)
}

/// The driver behind [`open`], for whoever puts something before it, as tests do.
///
/// # Errors
/// As [`open`].
pub fn open_driver(ordinal: usize, options: Options) -> Result<Arc<dyn Driver>> {
    let no_cuda = |Failure { reason, .. }| Error::NoCuda { reason };
    Ok(Arc::new(Nvidia::open(ordinal, options).map_err(no_cuda)?))
}

/// Whether the libraries are there that products and convolutions need.
///
/// # Errors
/// [`Error::NoCuda`] names the first that is missing, and where it comes from.
pub fn complete() -> Result<()> {
    let missing = libraries().iter().find_map(|library| library.usable().err());
    missing.map_or(Ok(()), |Failure { reason, .. }| Err(Error::NoCuda { reason }))
}

/// A device behind NVIDIA's driver.
struct Nvidia {
    properties: Properties,
    options: Options,
    kernels: Mutex<Kernels>,
    staging: Mutex<Staging>,
    /// Opened when first needed.
    blas: Mutex<Option<Blas>>,
    dnn: Mutex<Option<Dnn>>,
    context: Context,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nvidia {
    fn open(ordinal: usize, options: Options) -> Outcome<Self> {
        let (device, mut properties) = probe::device(ordinal)?;
        for library in libraries() {
            let version = library.version.as_deref().unwrap_or("absent");
            properties.software += &format!(", {} {version}", library.name);
        }
        let in_use = |Failure { reason, .. }| {
            Failure::new(format!("{} ({ordinal}) cannot be opened: {reason}", properties.name))
        };
        let context = Context::new(device).map_err(in_use)?;
        Ok(Nvidia {
            properties,
            options,
            kernels: Mutex::default(),
            staging: Mutex::default(),
            blas: Mutex::default(),
            dnn: Mutex::default(),
            context,
        })
    }
}

impl fmt::Debug for Nvidia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nvidia")
            .field("properties", &self.properties)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Driver for Nvidia {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn free_bytes(&self) -> Outcome<u64> {
        self.context.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: CUDA writes the two numbers.
        let status = unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) };
        self.context.check("cuMemGetInfo", status).map(|()| free as u64)
    }

    fn allocate(&self, bytes: usize) -> Outcome<Option<u64>> {
        self.context.enter()?;
        self.context.allocate(bytes)
    }

    unsafe fn release(&self, address: u64, _bytes: usize) {
        // SAFETY: as the caller promises.
        unsafe { self.context.free(address) }
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Outcome {
        self.context.enter()?;
        // SAFETY: the context is entered; the rest as the caller promises.
        unsafe { lock(&self.staging).upload(&self.context, address, bytes) }
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Outcome {
        self.context.enter()?;
        let (to, stream) = (bytes.as_mut_ptr().cast(), self.context.stream());
        // SAFETY: the bytes are the caller's until this returns, which waits for the copy.
        let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to, address, bytes.len(), stream) };
        self.context.check("cuMemcpyDtoH", copied)?;
        self.context.synchronize("cuMemcpyDtoH")
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Outcome {
        self.context.enter()?;
        let stream = self.context.stream();
        // SAFETY: as the caller promises.
        let copied = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, stream) };
        self.context.check("cuMemcpyDtoD", copied)
    }

    unsafe fn zero(&self, address: u64, bytes: usize) -> Outcome {
        self.context.enter()?;
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        let set = unsafe { sys::cuMemsetD8Async(address, 0, bytes, self.context.stream()) };
        self.context.check("cuMemsetD8Async", set)
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: [u32; 3],
        arguments: &[Argument<'_>],
    ) -> Outcome {
        self.context.enter()?;
        let function = lock(&self.kernels).function(&self.context, kernel)?;
        let mut slots = kernels::slots(arguments);
        let mut pointers = kernels::pointers(arguments, &mut slots);
        let ([gx, gy, gz], [bx, by, bz]) = (grid, kernel.block);
        let stream = self.context.stream();
        // SAFETY: argument order and types as in the kernel's header, as the caller promises; CUDA copies them before it returns.
        let launched = unsafe {
            let (parameters, none) = (pointers.as_mut_ptr(), std::ptr::null_mut());
            sys::cuLaunchKernel(function, gx, gy, gz, bx, by, bz, 0, stream, parameters, none)
        };
        self.context.check("cuLaunchKernel", launched)
    }

    unsafe fn multiply(&self, product: &Product) -> Outcome {
        self.context.enter()?;
        let mut blas = lock(&self.blas);
        let blas = match &mut *blas {
            Some(blas) => blas,
            none => none.insert(Blas::new(&self.context, self.properties.compute_capability)?),
        };
        // SAFETY: as the caller promises.
        let outcome = unsafe { blas.multiply(product, self.options.precision) };
        outcome.map_err(|failure| self.context.blame("cuBLAS", failure))
    }

    unsafe fn convolve(&self, convolution: &Convolution) -> Outcome {
        self.context.enter()?;
        let mut dnn = lock(&self.dnn);
        let (memory, precision) = (self.properties.memory_bytes, self.options.precision);
        let dnn = match &mut *dnn {
            Some(dnn) => dnn,
            none => none.insert(Dnn::new(&self.context, memory, precision)?),
        };
        // SAFETY: as the caller promises.
        let outcome = unsafe { dnn.convolve(&self.context, convolution) };
        outcome.map_err(|failure| self.context.blame("cuDNN", failure))
    }

    fn synchronize(&self) -> Outcome {
        self.context.enter()?;
        self.context.synchronize("cuStreamSynchronize")
    }

    fn timed(&self, work: &mut dyn FnMut() -> Outcome) -> Outcome<Duration> {
        self.synchronize()?;
        if !probe::times_events() {
            let start = Instant::now();
            work()?;
            self.synchronize()?;
            return Ok(start.elapsed());
        }
        self.context.timed(work)
    }

    fn clock(&self) -> &'static str {
        if probe::times_events() { "events" } else { "host" }
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        let context = &self.context;
        // What a lost device held is lost with it, and calls to free it may hang.
        if context.enter().and_then(|()| context.synchronize("cuStreamSynchronize")).is_err() {
            return;
        }
        // SAFETY: the context is entered, all work is done, and nobody asks for more.
        unsafe {
            if let Some(dnn) = lock(&self.dnn).take() {
                dnn.close(context);
            }
            if let Some(blas) = lock(&self.blas).take() {
                blas.close(context);
            }
            lock(&self.kernels).empty();
            lock(&self.staging).empty();
        }
    }
}

#[cfg(test)]
mod tests {
    /// A function that is called and not looked for first would be a panic where it is absent.
    #[test]
    fn all_functions_that_are_called_are_looked_for() {
        let sources = [
            include_str!("algorithms.rs"),
            include_str!("blas.rs"),
            include_str!("context.rs"),
            include_str!("convolution.rs"),
            include_str!("kernels.rs"),
            include_str!("libraries.rs"),
            include_str!("mod.rs"),
            include_str!("probe.rs"),
            include_str!("staging.rs"),
        ];
        let looked_for = [
            super::probe::FUNCTIONS,
            super::probe::OPTIONAL,
            super::blas::FUNCTIONS,
            super::convolution::FUNCTIONS,
        ]
        .concat();
        let mut called = Vec::new();
        for source in sources {
            let word = |text: &str| {
                let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
                text[..end.unwrap_or(text.len())].to_owned()
            };
            // Functions that are called, and those whose names a macro is given.
            let given =
                source.split([' ', ',']).filter(|text| text.starts_with("cudnnGetConvolution"));
            let names = source.split("::").skip(1).chain(given).map(word);
            called.extend(names.filter(|name| {
                let library =
                    ["cublas", "cudnn", "cu"].into_iter().find_map(|l| name.strip_prefix(l));
                library.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
                    && !name.ends_with("_t")
            }));
        }
        assert!(called.len() > 50, "{called:?}");
        for function in called {
            assert!(looked_for.contains(&function.as_str()), "{function}");
        }
    }
}
