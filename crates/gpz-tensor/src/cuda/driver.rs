//! What a CUDA device is asked to do, one call each: the seam between the operations and whoever executes them.
//!
//! The program opens NVIDIA's driver behind it; tests put the interpreter of the kernels' texts there, so that every operation of the
//! device runs where there is no GPU.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpz_kernels::Kernel;

/// Why a driver could not do what it was asked, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// The driver's words.
    pub reason: String,
}

/// What a failure means for what comes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The device is lost: nothing works on it any more.
    Lost,
    /// No memory for what the call needs beside its operands; with more of it free, it may work.
    Memory,
    /// This call failed, others may not.
    Call,
}

impl Failure {
    /// Of this call alone.
    pub fn new(reason: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Call, reason: reason.into() }
    }

    /// Of everything from here on.
    pub fn lost(reason: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Lost, reason: reason.into() }
    }

    /// For want of memory.
    pub fn memory(reason: impl Into<String>) -> Self {
        Failure { kind: FailureKind::Memory, reason: reason.into() }
    }
}

/// Result of a call.
pub type Outcome<T = ()> = std::result::Result<T, Failure>;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// As the maker calls it.
    pub name: String,
    /// Architecture: `[9, 0]` for sm_90.
    pub compute_capability: [u32; 2],
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Version of the driver and of the libraries, for the record of a run.
    pub software: String,
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument<'a> {
    /// Address of a buffer, or of a place within it.
    Address(u64),
    /// `.param .u32`
    U32(u32),
    /// `.param .u64` that is no address
    U64(u64),
    /// `.param .f32`
    F32(f32),
    /// `.param .f64`
    F64(f64),
    /// `.param .b8 [n]`
    Bytes(&'a [u8]),
}

/// A matrix of a [`Product`]: element `(i, j)` of matrix `b` lies at `address + 4·(b·batch + i·row + j·column)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Of the first element.
    pub address: u64,
    /// Elements from row to row.
    pub row: usize,
    /// Elements from column to column; one of the two is 1.
    pub column: usize,
    /// Elements from matrix to matrix.
    pub batch: usize,
}

/// `batch` products `a · b = c` of f32 matrices `[m, k] · [k, n] = [m, n]`; `c` is row-major, its matrices one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Number of products.
    pub batch: usize,
    /// `m`, `k` and `n`, at least 1 each.
    pub size: [usize; 3],
    /// First factor.
    pub a: Matrix,
    /// Second factor.
    pub b: Matrix,
    /// Address of the product.
    pub c: u64,
}

/// Which of the three arrays of a [`Convolution`] is computed from the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvolutionPass {
    /// `coarse`: a convolution, or the gradient of a transposed one's input.
    Coarse,
    /// `fine`: a transposed convolution, or the gradient of a convolution's input.
    Fine,
    /// `weight`: the gradient of either one's weight.
    Weight,
}

/// A convolution from pictures of `fine` extent to pictures of `coarse` extent, or one of the two passes that belong to it. A transposed
/// convolution is the pass to `fine`. All arrays are f32 and lie channels-last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// What is computed.
    pub pass: ConvolutionPass,
    /// Pictures.
    pub batch: usize,
    /// Height and width of the side with the full resolution.
    pub fine: [usize; 2],
    /// Height and width of the other side.
    pub coarse: [usize; 2],
    /// Channels of the pictures at full resolution.
    pub fine_channels: usize,
    /// Channels of the others.
    pub coarse_channels: usize,
    /// Equal runs of both sides' channels; each run is connected with its counterpart alone.
    pub groups: usize,
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros around the fine pictures.
    pub padding: [usize; 2],
    /// Distance between a window's taps.
    pub dilation: [usize; 2],
    /// Address of `[batch, h, w, fine_channels]`.
    pub fine_address: u64,
    /// Address of `[batch, h', w', coarse_channels]`.
    pub coarse_address: u64,
    /// Address of `[coarse_channels, kh, kw, fine_channels / groups]`.
    pub weight_address: u64,
}

/// Executes what a CUDA device is asked to do, in the order of the calls.
///
/// Calls may return before the work is done; [`Driver::download`] and [`Driver::synchronize`] wait for all of it.
///
/// # Safety of the calls
/// Addresses must lie in blocks that [`Driver::allocate`] gave and [`Driver::release`] has not taken back, with room for what the call
/// reads and writes. A device does not check it.
pub trait Driver: Debug + Send + Sync {
    /// What the device is.
    fn properties(&self) -> &Properties;

    /// Free bytes of the device's memory at present.
    ///
    /// # Errors
    /// A device that is lost.
    fn free_bytes(&self) -> Outcome<u64>;

    /// Address of a new block, a multiple of 256; `None` if there is no memory for it.
    ///
    /// # Errors
    /// A device that is lost.
    fn allocate(&self, bytes: usize) -> Outcome<Option<u64>>;

    /// Takes a block back.
    ///
    /// # Safety
    /// The block is one of this driver's, and nothing uses it any more, but for work asked for earlier.
    unsafe fn release(&self, address: u64, bytes: usize);

    /// Says that a block is handed out anew: what it holds means nothing from here on.
    fn reused(&self, _address: u64) {}

    /// Copies bytes to the device. They may be changed as soon as the call returns.
    ///
    /// # Errors
    /// A device that is lost.
    /// # Safety
    /// As said of all calls.
    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Outcome;

    /// Copies bytes from the device.
    ///
    /// # Errors
    /// A device that is lost, by this call or by earlier work.
    /// # Safety
    /// As said of all calls.
    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Outcome;

    /// Copies bytes from one place of the device to another; the two do not overlap.
    ///
    /// # Errors
    /// A device that is lost.
    /// # Safety
    /// As said of all calls.
    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Outcome;

    /// Sets bytes to zero.
    ///
    /// # Errors
    /// A device that is lost.
    /// # Safety
    /// As said of all calls.
    unsafe fn zero(&self, address: u64, bytes: usize) -> Outcome;

    /// Runs a kernel on `grid` blocks.
    ///
    /// # Errors
    /// A text that does not assemble, a driver older than it, a device that is lost.
    /// # Safety
    /// The arguments are those of the kernel's header, in order, number and type, and the buffers as large as it says.
    unsafe fn launch(&self, kernel: &Kernel, grid: [u32; 3], arguments: &[Argument<'_>])
    -> Outcome;

    /// Multiplies matrices.
    ///
    /// # Errors
    /// A library that is missing, a device that is lost.
    /// # Safety
    /// As said of all calls.
    unsafe fn multiply(&self, product: &Product) -> Outcome;

    /// Computes a pass of a convolution.
    ///
    /// # Errors
    /// A library that is missing, no memory for its workspace, a device that is lost.
    /// # Safety
    /// As said of all calls.
    unsafe fn convolve(&self, convolution: &Convolution) -> Outcome;

    /// Waits until everything asked for is done.
    ///
    /// # Errors
    /// A device that is lost.
    fn synchronize(&self) -> Outcome;

    /// How long the device takes for what `work` asks of it. Nothing is under way when it begins, and all is done when this returns.
    ///
    /// A driver that has events measures between two of them, and says so in [`Driver::clock`]; this one measures on the processor, with
    /// the time that a wait takes.
    ///
    /// # Errors
    /// Those of the work; a device that is lost.
    fn timed(&self, work: &mut dyn FnMut() -> Outcome) -> Outcome<Duration> {
        self.synchronize()?;
        let start = Instant::now();
        work()?;
        self.synchronize()?;
        Ok(start.elapsed())
    }

    /// What [`Driver::timed`] reads: `events` of the device, or the `host`'s clock.
    fn clock(&self) -> &'static str {
        "host"
    }
}

/// A driver that several hold.
impl<D: Driver + ?Sized> Driver for Arc<D> {
    fn properties(&self) -> &Properties {
        (**self).properties()
    }

    fn free_bytes(&self) -> Outcome<u64> {
        (**self).free_bytes()
    }

    fn allocate(&self, bytes: usize) -> Outcome<Option<u64>> {
        (**self).allocate(bytes)
    }

    unsafe fn release(&self, address: u64, bytes: usize) {
        // SAFETY: as the caller promises.
        unsafe { (**self).release(address, bytes) }
    }

    fn reused(&self, address: u64) {
        (**self).reused(address);
    }

    unsafe fn upload(&self, address: u64, bytes: &[u8]) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { (**self).upload(address, bytes) }
    }

    unsafe fn download(&self, address: u64, bytes: &mut [u8]) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { (**self).download(address, bytes) }
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { (**self).copy(from, to, bytes) }
    }

    unsafe fn zero(&self, address: u64, bytes: usize) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { (**self).zero(address, bytes) }
    }

    unsafe fn launch(
        &self,
        kernel: &Kernel,
        grid: [u32; 3],
        arguments: &[Argument<'_>],
    ) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { (**self).launch(kernel, grid, arguments) }
    }

    unsafe fn multiply(&self, product: &Product) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { (**self).multiply(product) }
    }

    unsafe fn convolve(&self, convolution: &Convolution) -> Outcome {
        // SAFETY: as the caller promises.
        unsafe { (**self).convolve(convolution) }
    }

    fn synchronize(&self) -> Outcome {
        (**self).synchronize()
    }

    fn timed(&self, work: &mut dyn FnMut() -> Outcome) -> Outcome<Duration> {
        (**self).timed(work)
    }

    fn clock(&self) -> &'static str {
        (**self).clock()
    }
}
