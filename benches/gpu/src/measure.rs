//! Repetitions, and what is made of their times.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use gpz_tensor::cuda::driver::Driver;
use gpz_tensor::{CudaDevice, Device, Tensor};
use serde_json::{Map, Value, json};

use crate::Sizes;

/// Runs before those that count.
const WARM_UPS: usize = 3;

/// What a run of a figure does, once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Bytes that must at least be read and written.
    Bytes(f64),
    /// Multiplications and additions.
    Flops(f64),
    /// Pictures that are trained on.
    Images(f64),
}

/// Times of an operation, or why there are none.
#[derive(Debug)]
pub(crate) struct Figure {
    name: String,
    work: Work,
    /// Sorted.
    seconds: Result<Vec<f64>>,
    /// Shape of the operands.
    shape: Vec<usize>,
}

impl Figure {
    /// A figure that there is not, and why.
    pub(crate) fn missing(name: &str, reason: anyhow::Error) -> Self {
        let (name, shape) = (name.to_owned(), Vec::new());
        Figure { name, work: Work::Bytes(0.0), seconds: Err(reason), shape }
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    fn quartiles(&self) -> Option<[f64; 3]> {
        let seconds = self.seconds.as_ref().ok().filter(|seconds| !seconds.is_empty())?;
        Some([1, 2, 3].map(|quarter| seconds[(seconds.len() - 1) * quarter / 4]))
    }

    /// Bytes, operations or pictures per second, by the median.
    pub(crate) fn rate(&self) -> Option<f64> {
        let (Work::Bytes(amount) | Work::Flops(amount) | Work::Images(amount)) = self.work;
        self.quartiles().map(|[_, median, _]| amount / median)
    }

    pub(crate) fn json(&self, copy_rate: f64) -> Value {
        let mut object = Map::new();
        object.insert("name".to_owned(), json!(self.name));
        object.insert("shape".to_owned(), json!(self.shape));
        let seconds = match (&self.seconds, self.quartiles()) {
            (Ok(seconds), Some(quartiles)) => {
                object.insert("repetitions".to_owned(), json!(seconds.len()));
                quartiles
            }
            (Err(reason), _) => {
                object.insert("failed".to_owned(), json!(format!("{reason:#}")));
                return Value::Object(object);
            }
            (Ok(_), None) => return Value::Object(object),
        };
        object.insert("seconds_quartiles".to_owned(), json!(seconds));
        let rate = self.rate();
        match self.work {
            Work::Bytes(bytes) => {
                object.insert("bytes".to_owned(), json!(bytes));
                object.insert("bytes_per_second".to_owned(), json!(rate));
                let fraction = rate.map(|rate| rate / copy_rate);
                object.insert("fraction_of_copy".to_owned(), json!(fraction));
            }
            Work::Flops(flops) => {
                object.insert("flops".to_owned(), json!(flops));
                object.insert("flops_per_second".to_owned(), json!(rate));
            }
            Work::Images(images) => {
                object.insert("images".to_owned(), json!(images));
                object.insert("images_per_second".to_owned(), json!(rate));
            }
        }
        Value::Object(object)
    }
}

/// A device with what is measured on it.
pub(crate) struct Bench {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) device: CudaDevice,
    pub(crate) sizes: Sizes,
}

impl Bench {
    pub(crate) fn new(driver: Arc<dyn Driver>, sizes: Sizes) -> Self {
        let device = CudaDevice::with_driver(Arc::clone(&driver));
        let sizes = sizes.fitting(device.properties().memory_bytes);
        Bench { driver, device, sizes }
    }

    /// Times of `work`, of which each run does what is said.
    pub(crate) fn figure(
        &self,
        name: &str,
        shape: &[usize],
        amount: Work,
        mut work: impl FnMut() -> Result<()>,
    ) -> Figure {
        let _ = writeln!(std::io::stderr(), "  {name}");
        let seconds = self.seconds(&mut work);
        Figure { name: name.to_owned(), work: amount, seconds, shape: shape.to_vec() }
    }

    fn seconds(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Vec<f64>> {
        for _ in 0..WARM_UPS {
            work()?;
        }
        let mut seconds = Vec::with_capacity(self.sizes.repetitions);
        for _ in 0..self.sizes.repetitions {
            let mut failed = None;
            let took = self.driver.timed(&mut || {
                work().map_err(|error| {
                    let failure = gpz_tensor::cuda::driver::Failure::new(error.to_string());
                    failed = Some(error);
                    failure
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            seconds.push(took.context("timing")?.as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds)
    }

    /// A copy from the device to itself; each byte is read and written.
    pub(crate) fn copy(&self) -> Result<Figure> {
        let bytes = 4 * self.sizes.elements;
        let blocks = [self.block(bytes)?, self.block(bytes)?];
        let shape = [self.sizes.elements];
        let figure = self.figure("copy", &shape, Work::Bytes(2.0 * bytes as f64), || {
            // SAFETY: both blocks have so many bytes.
            Ok(unsafe { self.driver.copy(blocks[0].address, blocks[1].address, bytes) }?)
        });
        Ok(figure)
    }

    /// A block of the driver's own, all zero.
    pub(crate) fn block(&self, bytes: usize) -> Result<Block> {
        let address = self.driver.allocate(bytes)?.context("no memory left on the device")?;
        let block = Block { driver: Arc::clone(&self.driver), address, bytes };
        // SAFETY: the block is that large.
        unsafe { self.driver.zero(address, bytes) }?;
        Ok(block)
    }

    /// A block that holds values.
    pub(crate) fn block_of(&self, bytes: &[u8]) -> Result<Block> {
        let block = self.block(bytes.len())?;
        // SAFETY: the block is as large as the values.
        unsafe { self.driver.upload(block.address, bytes) }?;
        Ok(block)
    }

    /// Values on the device.
    pub(crate) fn tensor(&self, values: &[f32], shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_slice(values, shape)?.to_device(&Device::Cuda(self.device.clone()))?)
    }
}

/// Memory that goes back when it is dropped.
pub(crate) struct Block {
    driver: Arc<dyn Driver>,
    pub(crate) address: u64,
    bytes: usize,
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block is the driver's, and what uses it was asked for earlier.
        unsafe { self.driver.release(self.address, self.bytes) }
    }
}

/// Uniform values in a range from a fixed generator.
pub(crate) fn uniform(n: usize, from: f32, to: f32, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| from + (to - from) * next()).collect()
}
