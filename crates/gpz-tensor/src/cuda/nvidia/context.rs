//! A device's context and its one stream, and what CUDA's status codes mean.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use cudarc::driver::sys::{self, CUresult};

use crate::cuda::driver::{Failure, Outcome};

/// CUDA's words for a status, and its name.
pub(super) fn words(status: CUresult) -> String {
    let ask = |f: unsafe fn(CUresult, *mut *const c_char) -> CUresult| {
        let mut text = ptr::null();
        // SAFETY: CUDA writes the address of a text that lives as long as the library, or null for a status it does not know.
        let status = unsafe { f(status, &mut text) };
        if status != CUresult::CUDA_SUCCESS || text.is_null() {
            return None;
        }
        // SAFETY: as above.
        Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    match (ask(sys::cuGetErrorString), ask(sys::cuGetErrorName)) {
        (Some(text), Some(name)) => format!("{text} ({name})"),
        _ => format!("{status:?}"),
    }
}

/// Turns a status into an outcome that names the call.
pub(super) fn status(call: &str, status: CUresult) -> Outcome {
    match status {
        CUresult::CUDA_SUCCESS => Ok(()),
        _ => Err(Failure::new(format!("{call}: {}", words(status)))),
    }
}

/// Whether nothing on the device works after this status: CUDA reports it for every later call, whatever that asks for.
fn is_fatal(status: CUresult) -> bool {
    use CUresult::*;
    matches!(
        status,
        CUDA_ERROR_DEINITIALIZED
            | CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
            | CUDA_ERROR_EXTERNAL_DEVICE
            | CUDA_ERROR_CONTAINED
            | CUDA_ERROR_UNKNOWN
    )
}

/// The context of a device, and the stream that all work goes to, in order.
#[derive(Debug)]
pub(super) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    /// Why nothing works any more.
    lost: OnceLock<Failure>,
}

// SAFETY: the handles are names of things within CUDA, which takes them from any thread; each call binds the context to its own.
unsafe impl Send for Context {}
// SAFETY: as above; CUDA locks what its calls share.
unsafe impl Sync for Context {}

impl Context {
    /// The context that CUDA's libraries share on a device, with a stream of its own.
    pub(super) fn new(device: sys::CUdevice) -> Outcome<Self> {
        let mut context = ptr::null_mut();
        // SAFETY: CUDA writes one handle. `Drop` gives it back.
        let retained = unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, device) };
        status("cuDevicePrimaryCtxRetain", retained)?;
        let mut this = Context { device, context, stream: ptr::null_mut(), lost: OnceLock::new() };
        this.enter()?;
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: CUDA writes one handle, in the context just entered.
        let created = unsafe { sys::cuStreamCreate(&mut this.stream, flags) };
        this.check("cuStreamCreate", created)?;
        Ok(this)
    }

    pub(super) fn stream(&self) -> sys::CUstream {
        self.stream
    }

    /// Makes the context that of the calling thread, before other calls; fails if the device is lost.
    pub(super) fn enter(&self) -> Outcome {
        if let Some(lost) = self.lost.get() {
            return Err(lost.clone());
        }
        // SAFETY: the context is retained for as long as this lives.
        self.check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }

    /// An outcome that names the call; notes if the device is lost with it.
    pub(super) fn check(&self, call: &str, result: CUresult) -> Outcome {
        if !is_fatal(result) {
            return status(call, result);
        }
        let lost = || {
            Failure::lost(format!(
                "the device is lost: {}, reported at {call} by this call or by work asked for earlier; nothing works on it until the \
                 program starts anew",
                words(result)
            ))
        };
        Err(self.lost.get_or_init(lost).clone())
    }

    /// What a library's failure is: the device's, if that is lost, else as given.
    pub(super) fn blame(&self, call: &str, failure: Failure) -> Failure {
        // SAFETY: the stream is this context's own, and only asked whether it is done.
        let state = unsafe { sys::cuStreamQuery(self.stream) };
        match state {
            CUresult::CUDA_ERROR_NOT_READY => failure,
            _ => self.check(call, state).err().unwrap_or(failure),
        }
    }

    /// Waits for all work.
    pub(super) fn synchronize(&self, call: &str) -> Outcome {
        // SAFETY: the stream is this context's own.
        self.check(call, unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// How long the device takes for what `work` puts on the stream, which must be empty. The context is entered.
    pub(super) fn timed(&self, work: &mut dyn FnMut() -> Outcome) -> Outcome<Duration> {
        let (begin, end) = (Event::new(self)?, Event::new(self)?);
        begin.record(self)?;
        work()?;
        // The work may have bound other contexts to this thread.
        self.enter()?;
        end.record(self)?;
        self.synchronize("cuStreamSynchronize")?;
        let mut milliseconds = 0.0;
        // SAFETY: both events have happened, and CUDA writes one number.
        let elapsed = unsafe { sys::cuEventElapsedTime_v2(&mut milliseconds, begin.0, end.0) };
        self.check("cuEventElapsedTime", elapsed)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }

    /// A block of device memory; `None` if there is none.
    ///
    /// Not in the order of the stream (`cuMemAllocAsync`): the tensors' pool keeps blocks, so that allocations are rare, and a second pool
    /// within the driver would hold back memory that the first has returned.
    pub(super) fn allocate(&self, bytes: usize) -> Outcome<Option<u64>> {
        let mut address = 0;
        // SAFETY: CUDA writes one address.
        match unsafe { sys::cuMemAlloc_v2(&mut address, bytes.max(1)) } {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Ok(None),
            result => self.check("cuMemAlloc", result).map(|()| Some(address)),
        }
    }

    /// Gives a block back once work that was asked for is done: CUDA does not promise that freeing waits.
    ///
    /// # Safety
    /// The block is from [`Context::allocate`], and no work that is asked for later uses it.
    pub(super) unsafe fn free(&self, address: u64) {
        // On a device that is lost the memory is lost as well, and whoever frees has nobody to tell.
        if self.enter().and_then(|()| self.synchronize("cuMemFree")).is_ok() {
            // SAFETY: as the caller promises; nothing uses the block after the wait.
            self.check("cuMemFree", unsafe { sys::cuMemFree_v2(address) }).ok();
        }
    }
}

/// A moment on the stream.
struct Event(sys::CUevent);

impl Event {
    fn new(context: &Context) -> Outcome<Self> {
        let mut event = ptr::null_mut();
        // SAFETY: CUDA writes one handle. `Drop` gives it back.
        let created = unsafe { sys::cuEventCreate(&mut event, 0) };
        context.check("cuEventCreate", created).map(|()| Event(event))
    }

    fn record(&self, context: &Context) -> Outcome {
        // SAFETY: the event and the stream are of one context.
        context.check("cuEventRecord", unsafe { sys::cuEventRecord(self.0, context.stream()) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is this one's own; CUDA keeps it until it has happened.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the handles are this context's own, and nothing has them any more. On a lost device the calls fail and do nothing.
        unsafe {
            sys::cuCtxSetCurrent(self.context);
            if !self.stream.is_null() {
                sys::cuStreamDestroy_v2(self.stream);
            }
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}
