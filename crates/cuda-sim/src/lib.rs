//! A CUDA device where there is no GPU: kernels run on the interpreter `ptx-sim`, matrix products and convolutions on the processor.
//!
//! What an operation of `gpz-tensor` launches, and in which order, with which arguments on which grid, is executed here as on a GPU, and
//! checked more strictly: an address outside its block, an element that nothing wrote, a race or a wrong argument is an error that names
//! the kernel's line. Blocks that a pool hands out anew count as unwritten. It is slow, and meant for tests.
//!
//! ```
//! use gpz_tensor::{Tensor, UnaryOp};
//!
//! let gpu = gpz_cuda_sim::device();
//! let x = Tensor::from_slice(&[-1.0f32, 0.5, 2.0], &[3])?.to_device(&gpu)?;
//! assert_eq!(x.unary(UnaryOp::Relu)?.to_vec::<f32>()?, [0.0, 0.5, 2.0]);
//! # Ok::<(), gpz_tensor::Error>(())
//! ```
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpz_kernels::Kernel;
use gpz_tensor::cuda::driver::{
    Argument, Convolution, Driver, Failure, Outcome, Product, Properties,
};
use gpz_tensor::{CudaDevice, Device};
use ptx_sim::{Arg, Buffer, Launch, Module};

mod choice;
mod library;
mod poisoned;

pub use choice::{device_of_tests, driver_of_tests, nvidia, seed_of_tests};
pub use poisoned::Poisoned;

/// Calls a driver has served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Calls {
    /// Blocks allocated.
    pub allocations: u64,
    /// Kernels launched.
    pub launches: u64,
    /// Matrix products.
    pub products: u64,
    /// Passes of convolutions.
    pub convolutions: u64,
    /// Copies to the device.
    pub uploads: u64,
    /// Calls that wait for the device: copies from it, and waiting itself.
    pub waits: u64,
    /// Instructions that kernels executed.
    pub instructions: u64,
}

/// A simulated device with so much memory that tests do not meet its end.
pub fn device() -> Device {
    Device::Cuda(CudaDevice::with_driver(Simulator::new()))
}

/// The driver. Clones are the same device, so that a test keeps one to count calls, or to let them fail.
#[derive(Clone)]
pub struct Simulator(Arc<Inner>);

struct Inner {
    properties: Properties,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    device: ptx_sim::Device,
    modules: HashMap<&'static str, Module>,
    /// Blocks by address, with their sizes.
    blocks: HashMap<u64, (Buffer, usize)>,
    allocated: u64,
    calls: Calls,
    /// Calls until the device is lost.
    lost_after: Option<u64>,
}

/// Bytes of memory of a device made by [`Simulator::new`].
const MEMORY: u64 = 1 << 30;
/// Addresses of a block begin so far apart, and end with so many zeros.
const SPACING: u64 = 1 << 32;

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Simulator {
    /// A device with 1 GiB of memory.
    pub fn new() -> Self {
        Self::with_memory(MEMORY)
    }

    /// A device with so much memory.
    pub fn with_memory(memory_bytes: u64) -> Self {
        let properties = Properties {
            name: "simulated device".to_owned(),
            compute_capability: [8, 0],
            memory_bytes,
            software: "ptx-sim".to_owned(),
        };
        Simulator(Arc::new(Inner { properties, state: Mutex::default() }))
    }

    /// Calls served so far.
    pub fn calls(&self) -> Calls {
        self.state().calls
    }

    /// After so many more launches, products and convolutions every call fails, as on a GPU that fell off its bus.
    pub fn lose_after(&self, calls: u64) {
        self.state().lost_after = Some(calls);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Simulator").field(&self.calls()).finish()
    }
}

fn failure(error: impl fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

impl State {
    /// Fails if the device is lost.
    fn alive(&self) -> Outcome {
        if self.lost_after == Some(0) {
            return Err(Failure::lost("the device is lost"));
        }
        Ok(())
    }

    /// [`State::alive`], and one more piece of work.
    fn work(&mut self) -> Outcome {
        self.alive()?;
        self.lost_after = self.lost_after.map(|left| left - 1);
        Ok(())
    }

    /// The buffer an address lies in, and the offset within it.
    fn place(&self, address: u64) -> Outcome<(Buffer, u64)> {
        let base = address / SPACING * SPACING;
        let known = self.blocks.get(&base);
        let (buffer, _) =
            known.ok_or_else(|| failure(format!("{address:#x} is no block's address")))?;
        Ok((*buffer, address - base))
    }

    fn read(&self, address: u64, bytes: usize) -> Outcome<&[u8]> {
        let (buffer, from) = self.place(address)?;
        self.device.read_bytes(buffer, from, bytes).map_err(failure)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Outcome {
        let (buffer, from) = self.place(address)?;
        self.device.write_bytes(buffer, from, bytes).map_err(failure)
    }

    fn floats(&self, address: u64, count: usize) -> Outcome<Vec<f32>> {
        let bytes = self.read(address, 4 * count)?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn store(&mut self, address: u64, values: &[f32]) -> Outcome {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.write(address, &bytes)
    }
}

impl Driver for Simulator {
    fn properties(&self) -> &Properties {
        &self.0.properties
    }

    fn free_bytes(&self) -> Outcome<u64> {
        let state = self.state();
        state.alive()?;
        Ok(self.0.properties.memory_bytes - state.allocated)
    }

    fn allocate(&self, bytes: usize) -> Outcome<Option<u64>> {
        let mut state = self.state();
        state.alive()?;
        if state.allocated + bytes as u64 > self.0.properties.memory_bytes {
            return Ok(None);
        }
        state.allocated += bytes as u64;
        state.calls.allocations += 1;
        let buffer = state.device.unwritten::<f32>(bytes.div_ceil(4));
        state.blocks.insert(buffer.address(), (buffer, bytes));
        Ok(Some(buffer.address()))
    }

    unsafe fn release(&self, address: u64, bytes: usize) {
        let mut state = self.state();
        if let Some((buffer, _)) = state.blocks.remove(&address) {
            state.device.release(buffer);
            state.allocated -= bytes as u64;
        }
    }

    fn reused(&self, address: u64) {
        let mut state = self.state();
        if let Ok((buffer, _)) = state.place(address) {
            state.device.forget(buffer);
        }
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Outcome {
        let mut state = self.state();
        state.alive()?;
        state.calls.uploads += 1;
        state.write(address, bytes)
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Outcome {
        let mut state = self.state();
        state.alive()?;
        state.calls.waits += 1;
        bytes.copy_from_slice(state.read(address, bytes.len())?);
        Ok(())
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Outcome {
        let mut state = self.state();
        state.alive()?;
        let copied = state.read(from, bytes)?.to_vec();
        state.write(to, &copied)
    }

    unsafe fn zero(&self, address: u64, bytes: usize) -> Outcome {
        let mut state = self.state();
        state.alive()?;
        state.write(address, &vec![0; bytes])
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: [u32; 3],
        arguments: &[Argument<'_>],
    ) -> Outcome {
        let mut state = self.state();
        state.work()?;
        state.calls.launches += 1;
        let State { device, modules, calls, .. } = &mut *state;
        if !modules.contains_key(kernel.entry) {
            modules.insert(kernel.entry, Module::parse(kernel.text).map_err(failure)?);
        }
        let arguments: Vec<Arg> = arguments
            .iter()
            .map(|argument| match *argument {
                Argument::Address(value) | Argument::U64(value) => Arg::from(value),
                Argument::U32(value) => Arg::from(value),
                Argument::F32(value) => Arg::from(value),
                Argument::F64(value) => Arg::from(value),
                Argument::Bytes(bytes) => Arg::from(bytes.to_vec()),
            })
            .collect();
        // Another order of blocks and threads at every launch.
        let launch = Launch::new(grid, kernel.block).seed(calls.launches);
        let module = &modules[kernel.entry];
        let work = device.launch(module, kernel.entry, &launch, &arguments).map_err(failure)?;
        calls.instructions += work.instructions;
        Ok(())
    }

    unsafe fn multiply(&self, product: &Product) -> Outcome {
        let mut state = self.state();
        state.work()?;
        state.calls.products += 1;
        library::multiply(&mut state, product)
    }

    unsafe fn convolve(&self, convolution: &Convolution) -> Outcome {
        let mut state = self.state();
        state.work()?;
        state.calls.convolutions += 1;
        library::convolve(&mut state, convolution)
    }

    fn synchronize(&self) -> Outcome {
        let mut state = self.state();
        state.calls.waits += 1;
        state.alive()
    }
}
