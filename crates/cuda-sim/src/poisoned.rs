//! A device on which stale memory shows.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gpz_kernels::Kernel;
use gpz_tensor::cuda::driver::{
    Argument, Convolution, Driver, Failure, Outcome, Product, Properties,
};

/// A driver whose blocks hold the byte 0xFF throughout whenever they are handed out: NaN as f32 and as f64, the largest index as u32. A
/// result that depends on what nobody wrote is wrong then, every time.
#[derive(Debug)]
pub struct Poisoned<D> {
    driver: D,
    /// Bytes of each block by its address.
    blocks: Mutex<HashMap<u64, usize>>,
    launched: Mutex<Launched>,
}

#[derive(Debug, Default)]
struct Launched {
    kernels: HashSet<&'static str>,
    list: Option<File>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Driver> Poisoned<D> {
    /// Poisons the blocks of a driver.
    pub fn new(driver: D) -> Self {
        Poisoned { driver, blocks: Mutex::default(), launched: Mutex::default() }
    }

    /// Adds the name of each kernel to a file when it was launched for the first time.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn listing(self, file: &Path) -> std::io::Result<Self> {
        let list = File::options().create(true).append(true).open(file)?;
        lock(&self.launched).list = Some(list);
        Ok(self)
    }

    fn poison(&self, address: u64, bytes: usize) -> Outcome {
        // SAFETY: the block is that large, and its new holder has not seen it yet.
        unsafe { self.driver.upload(address, &vec![0xFF; bytes]) }
    }
}

impl<D: Driver> Driver for Poisoned<D> {
    fn properties(&self) -> &Properties {
        self.driver.properties()
    }

    fn free_bytes(&self) -> Outcome<u64> {
        self.driver.free_bytes()
    }

    fn allocate(&self, bytes: usize) -> Outcome<Option<u64>> {
        let block = self.driver.allocate(bytes)?;
        if let Some(address) = block {
            lock(&self.blocks).insert(address, bytes);
            self.poison(address, bytes)?;
        }
        Ok(block)
    }

    unsafe fn release(&self, address: u64, bytes: usize) {
        lock(&self.blocks).remove(&address);
        // SAFETY: as the caller promises.
        unsafe { self.driver.release(address, bytes) }
    }

    fn reused(&self, address: u64) {
        self.driver.reused(address);
        let bytes = lock(&self.blocks).get(&address).copied();
        // A device that is lost says so at the next call.
        let _ = bytes.map(|bytes| self.poison(address, bytes));
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { self.driver.upload(address, bytes) }
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { self.driver.download(address, bytes) }
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { self.driver.copy(from, to, bytes) }
    }

    unsafe fn zero(&self, address: u64, bytes: usize) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { self.driver.zero(address, bytes) }
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: [u32; 3],
        arguments: &[Argument<'_>],
    ) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { self.driver.launch(kernel, grid, arguments) }?;
        let mut launched = lock(&self.launched);
        if launched.kernels.insert(kernel.entry)
            && let Some(list) = &mut launched.list
        {
            // One write, so that lines of several processes do not mix.
            let line = format!("{}\n", kernel.entry);
            list.write_all(line.as_bytes()).map_err(|error| Failure::new(error.to_string()))?;
        }
        Ok(())
    }

    unsafe fn multiply(&self, product: &Product) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { self.driver.multiply(product) }
    }

    unsafe fn convolve(&self, convolution: &Convolution) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { self.driver.convolve(convolution) }
    }

    fn synchronize(&self) -> Outcome {
        self.driver.synchronize()
    }

    fn timed(&self, work: &mut dyn FnMut() -> Outcome) -> Outcome<Duration> {
        self.driver.timed(work)
    }

    fn clock(&self) -> &'static str {
        self.driver.clock()
    }
}
