//! A CUDA device, and memory on it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gpz_kernels::Kernel;

use super::driver::{Argument, Driver, Failure, FailureKind, Outcome, Properties};
use super::pool::{Pool, size_class};
use crate::error::{Error, Result};

/// A CUDA device that is in use. Clones are the same device.
#[derive(Clone)]
pub struct CudaDevice(Arc<Context>);

struct Context {
    driver: Box<dyn Driver>,
    pool: Mutex<Pool>,
}

impl CudaDevice {
    /// A device behind a driver of one's own; [`crate::Device::cuda`] opens NVIDIA's.
    pub fn with_driver(driver: impl Driver + 'static) -> Self {
        CudaDevice(Arc::new(Context { driver: Box::new(driver), pool: Mutex::default() }))
    }

    /// What the device is.
    pub fn properties(&self) -> &Properties {
        self.0.driver.properties()
    }

    /// Lets tensors, and what is kept for reuse, take no more than so many bytes of the device's memory.
    pub fn set_memory_limit(&self, bytes: u64) {
        let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut pool = self.pool();
        pool.limit = Some(limit);
        if pool.allocated > limit {
            self.release_free(&mut pool);
        }
    }

    /// Bytes that tensors take at present.
    pub fn memory_in_use(&self) -> u64 {
        self.pool().in_use() as u64
    }

    /// Waits until everything asked for is done.
    ///
    /// # Errors
    /// [`Error::Cuda`] for a device that is lost.
    pub fn synchronize(&self) -> Result<()> {
        self.0.driver.synchronize().map_err(cuda("synchronize"))
    }

    /// How long the device takes for what `work` asks of it, by its own events where the driver has them. Waits before and after.
    ///
    /// # Errors
    /// Those of the work; [`Error::Cuda`] for a device that is lost.
    pub fn timed(&self, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
        let mut failed = None;
        let took = self.0.driver.timed(&mut || {
            work().map_err(|error| {
                let failure = Failure::new(error.to_string());
                failed = Some(error);
                failure
            })
        });
        took.map_err(|failure| failed.take().unwrap_or_else(|| cuda("timed")(failure)))
    }

    /// What [`CudaDevice::timed`] reads: `events` of the device, or the `host`'s clock.
    pub fn clock(&self) -> &'static str {
        self.0.driver.clock()
    }

    pub(super) fn driver(&self) -> &dyn Driver {
        &*self.0.driver
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for so many bytes, whose contents mean nothing.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<DeviceBuffer> {
        let size = size_class(bytes);
        let mut pool = self.pool();
        let address = match pool.take(size) {
            Some(address) => {
                self.driver().reused(address);
                address
            }
            None => self.allocate_anew(&mut pool, size)?,
        };
        drop(pool);
        Ok(DeviceBuffer { device: self.clone(), address, size, bytes })
    }

    fn allocate_anew(&self, pool: &mut Pool, size: usize) -> Result<u64> {
        for last in [false, true] {
            if pool.has_room(size)
                && let Some(address) = self.driver().allocate(size).map_err(cuda("allocate"))?
            {
                pool.allocated += size;
                return Ok(address);
            }
            if !last {
                self.release_free(pool);
            }
        }
        let free = self.driver().free_bytes().map_err(cuda("allocate"))?;
        let left = pool.limit.map(|limit| limit.saturating_sub(pool.allocated) as u64);
        Err(Error::DeviceMemory {
            needed_bytes: size as u64,
            free_bytes: left.map_or(free, |left| left.min(free)),
            used_bytes: pool.in_use() as u64,
            limited: !pool.has_room(size),
        })
    }

    /// Gives the driver back what is kept for reuse.
    fn release_free(&self, pool: &mut Pool) {
        for (address, size) in pool.empty() {
            // SAFETY: the block was this driver's, and on a shelf: no buffer has it.
            unsafe { self.driver().release(address, size) };
        }
    }

    /// Asks a library for something. If it has no memory for what it needs beside its operands, what is kept for reuse is given back and it
    /// is asked again.
    pub(super) fn ask(
        &self,
        op: &'static str,
        call: impl Fn(&dyn Driver) -> Outcome,
    ) -> Result<()> {
        let mut outcome = call(self.driver());
        if matches!(&outcome, Err(Failure { kind: FailureKind::Memory, .. })) {
            self.release_free(&mut self.pool());
            outcome = call(self.driver());
        }
        outcome.map_err(cuda(op))
    }

    /// Memory that holds values.
    pub(crate) fn upload<T: bytemuck::NoUninit>(&self, values: &[T]) -> Result<DeviceBuffer> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buffer = self.allocate(bytes.len())?;
        if !bytes.is_empty() {
            // SAFETY: the buffer is as large as the values.
            unsafe { self.driver().upload(buffer.address, bytes) }.map_err(cuda("upload"))?;
        }
        Ok(buffer)
    }

    /// Memory for so many bytes, all zero.
    pub(crate) fn zeroed(&self, bytes: usize) -> Result<DeviceBuffer> {
        let buffer = self.allocate(bytes)?;
        if bytes > 0 {
            // SAFETY: the buffer is that large.
            unsafe { self.driver().zero(buffer.address, bytes) }.map_err(cuda("zero"))?;
        }
        Ok(buffer)
    }

    /// Runs a kernel on a grid of blocks.
    ///
    /// # Safety
    /// The arguments are those of the kernel's header, in order, number and type, and the buffers as large as it says.
    pub(crate) unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: [usize; 3],
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        let grid = grid.map(|blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
        // SAFETY: as the caller promises.
        unsafe { self.driver().launch(kernel, grid, arguments) }.map_err(cuda(kernel.entry))
    }
}

/// Two names of one device are equal.
impl PartialEq for CudaDevice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CudaDevice {}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaDevice({})", self.properties().name)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let pool = self.pool.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (address, size) in pool.empty() {
            // SAFETY: the block was this driver's; every buffer keeps the context alive, so that all blocks are on the shelves.
            unsafe { self.driver.release(address, size) };
        }
    }
}

/// Turns a driver's failure into an error that names the operation.
pub(super) fn cuda(op: &'static str) -> impl Fn(Failure) -> Error {
    move |Failure { kind, reason }| match kind {
        FailureKind::Lost => Error::DeviceLost { op, reason },
        FailureKind::Memory | FailureKind::Call => Error::Cuda { op, reason },
    }
}

/// A block of a device's memory, returned to its pool when dropped.
pub struct DeviceBuffer {
    device: CudaDevice,
    address: u64,
    /// Of the block.
    size: usize,
    /// That were asked for.
    bytes: usize,
}

impl DeviceBuffer {
    pub(crate) fn device(&self) -> &CudaDevice {
        &self.device
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Replaces the values from a byte on.
    pub(crate) fn write<T: bytemuck::NoUninit>(
        &self,
        from_byte: usize,
        values: &[T],
    ) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert!(from_byte + bytes.len() <= self.bytes, "callers know what the buffer holds");
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range lies in the buffer.
        unsafe { self.device.driver().upload(self.address + from_byte as u64, bytes) }
            .map_err(cuda("upload"))
    }

    /// The values from a byte on.
    pub(crate) fn read<T: bytemuck::AnyBitPattern + bytemuck::NoUninit + bytemuck::Zeroable>(
        &self,
        from_byte: usize,
        count: usize,
    ) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); count];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        assert!(from_byte + bytes.len() <= self.bytes, "callers know what the buffer holds");
        if !bytes.is_empty() {
            // SAFETY: the range lies in the buffer.
            unsafe { self.device.driver().download(self.address + from_byte as u64, bytes) }
                .map_err(cuda("download"))?;
        }
        Ok(values)
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        // Work already asked for may still use the block; whoever gets it next asks later, and the device keeps the order.
        self.device.pool().give(self.address, self.size);
    }
}

impl fmt::Debug for DeviceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B on {:?}", self.bytes, self.device)
    }
}
