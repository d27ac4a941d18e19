//! Convolutions by cuDNN.
//!
//! The fine side of a [`Convolution`] is `x` of cuDNN's forward convolution, the coarse side its `y`: the pass to `coarse` is forward, that
//! to `fine` backward to the data, that to `weight` backward to the filter.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::ptr;

use cudarc::cudnn::sys::{
    self, cudnnConvolutionMode_t, cudnnDataType_t, cudnnMathType_t, cudnnStatus_t,
    cudnnTensorFormat_t,
};

use super::Precision;
use super::algorithms::{self, Algorithm, Candidate};
use super::context::Context;
use super::libraries;
use crate::cuda::driver::{Convolution, Failure, Outcome};

/// What is called, here and for the choice of algorithms: all of it must be there.
pub(super) const FUNCTIONS: &[&str] = &[
    "cudnnConvolutionBackwardData",
    "cudnnConvolutionBackwardFilter",
    "cudnnConvolutionForward",
    "cudnnCreate",
    "cudnnCreateConvolutionDescriptor",
    "cudnnCreateFilterDescriptor",
    "cudnnCreateTensorDescriptor",
    "cudnnDestroy",
    "cudnnDestroyConvolutionDescriptor",
    "cudnnDestroyFilterDescriptor",
    "cudnnDestroyTensorDescriptor",
    "cudnnGetConvolutionBackwardDataAlgorithm_v7",
    "cudnnGetConvolutionBackwardDataWorkspaceSize",
    "cudnnGetConvolutionBackwardFilterAlgorithm_v7",
    "cudnnGetConvolutionBackwardFilterWorkspaceSize",
    "cudnnGetConvolutionForwardAlgorithm_v7",
    "cudnnGetConvolutionForwardWorkspaceSize",
    "cudnnGetCudartVersion",
    "cudnnGetErrorString",
    "cudnnGetLastErrorString",
    "cudnnGetVersion",
    "cudnnSetConvolution2dDescriptor",
    "cudnnSetConvolutionGroupCount",
    "cudnnSetConvolutionMathType",
    "cudnnSetFilter4dDescriptor",
    "cudnnSetStream",
    "cudnnSetTensor4dDescriptor",
];

/// Most bytes of workspace, and most as a part of the device's memory: some algorithms ask for much and gain little.
const MOST_WORKSPACE: usize = 1 << 30;
const PART_OF_MEMORY: u64 = 8;

/// Everything of a convolution but where its arrays lie.
type Geometry = [usize; 17];

fn geometry(c: &Convolution) -> Geometry {
    let [[fh, fw], [ch, cw], [kh, kw], [sh, sw]] = [c.fine, c.coarse, c.kernel, c.stride];
    let [[ph, pw], [dh, dw]] = [c.padding, c.dilation];
    let (pass, batch) = (c.pass as usize, c.batch);
    [
        pass,
        batch,
        fh,
        fw,
        ch,
        cw,
        c.fine_channels,
        c.coarse_channels,
        c.groups,
        kh,
        kw,
        sh,
        sw,
        ph,
        pw,
        dh,
        dw,
    ]
}

/// Extents of the coarse side, as cuDNN computes them from the fine one.
fn coarse_extents(c: &Convolution) -> Option<[usize; 2]> {
    let mut extents = [0; 2];
    for axis in 0..2 {
        let reach = c.dilation[axis] * (c.kernel[axis] - 1) + 1;
        let room = (c.fine[axis] + 2 * c.padding[axis]).checked_sub(reach)?;
        extents[axis] = room / c.stride[axis] + 1;
    }
    Some(extents)
}

/// cuDNN's descriptors of a convolution.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) fine: sys::cudnnTensorDescriptor_t,
    pub(super) coarse: sys::cudnnTensorDescriptor_t,
    pub(super) weight: sys::cudnnFilterDescriptor_t,
    pub(super) convolution: sys::cudnnConvolutionDescriptor_t,
}

impl Descriptors {
    fn new(c: &Convolution, math: cudnnMathType_t) -> Outcome<Self> {
        let mut this = Descriptors {
            fine: ptr::null_mut(),
            coarse: ptr::null_mut(),
            weight: ptr::null_mut(),
            convolution: ptr::null_mut(),
        };
        let number = |n: usize| {
            let rule = "cuDNN takes extents below 2^31; a smaller batch helps";
            i32::try_from(n).map_err(|_| Failure::new(format!("{n} is too much: {rule}")))
        };
        let pair = |[a, b]: [usize; 2]| Ok::<_, Failure>([number(a)?, number(b)?]);
        let [fine, coarse, kernel] = [pair(c.fine)?, pair(c.coarse)?, pair(c.kernel)?];
        let [stride, padding, dilation] = [pair(c.stride)?, pair(c.padding)?, pair(c.dilation)?];
        let (n, ci, co) = (number(c.batch)?, number(c.fine_channels)?, number(c.coarse_channels)?);
        let groups = number(c.groups)?;
        let (float, nhwc) =
            (cudnnDataType_t::CUDNN_DATA_FLOAT, cudnnTensorFormat_t::CUDNN_TENSOR_NHWC);
        let correlation = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        // SAFETY: cuDNN is there with all its functions; each descriptor is made before it is filled, and destroyed by `Drop`.
        unsafe {
            check("cudnnCreateTensorDescriptor", sys::cudnnCreateTensorDescriptor(&mut this.fine))?;
            check(
                "cudnnCreateTensorDescriptor",
                sys::cudnnCreateTensorDescriptor(&mut this.coarse),
            )?;
            check(
                "cudnnCreateFilterDescriptor",
                sys::cudnnCreateFilterDescriptor(&mut this.weight),
            )?;
            let made = sys::cudnnCreateConvolutionDescriptor(&mut this.convolution);
            check("cudnnCreateConvolutionDescriptor", made)?;
            for (tensor, channels, [h, w]) in [(this.fine, ci, fine), (this.coarse, co, coarse)] {
                let set = sys::cudnnSetTensor4dDescriptor(tensor, nhwc, float, n, channels, h, w);
                check("cudnnSetTensor4dDescriptor", set)?;
            }
            let [h, w] = kernel;
            let set =
                sys::cudnnSetFilter4dDescriptor(this.weight, float, nhwc, co, ci / groups, h, w);
            check("cudnnSetFilter4dDescriptor", set)?;
            let ([ph, pw], [sh, sw], [dh, dw]) = (padding, stride, dilation);
            let set = sys::cudnnSetConvolution2dDescriptor(
                this.convolution,
                ph,
                pw,
                sh,
                sw,
                dh,
                dw,
                correlation,
                float,
            );
            check("cudnnSetConvolution2dDescriptor", set)?;
            let set = sys::cudnnSetConvolutionGroupCount(this.convolution, groups);
            check("cudnnSetConvolutionGroupCount", set)?;
        }
        this.set_arithmetic(math)?;
        Ok(this)
    }

    /// What the convolution computes with.
    pub(super) fn set_arithmetic(&self, math: cudnnMathType_t) -> Outcome {
        // SAFETY: the descriptor is made.
        let set = unsafe { sys::cudnnSetConvolutionMathType(self.convolution, math) };
        check("cudnnSetConvolutionMathType", set)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: the descriptors are this one's own; those that were never made are null.
        unsafe {
            for tensor in [self.fine, self.coarse].into_iter().filter(|tensor| !tensor.is_null()) {
                sys::cudnnDestroyTensorDescriptor(tensor);
            }
            if !self.weight.is_null() {
                sys::cudnnDestroyFilterDescriptor(self.weight);
            }
            if !self.convolution.is_null() {
                sys::cudnnDestroyConvolutionDescriptor(self.convolution);
            }
        }
    }
}

/// A convolution that was met before: how it is computed.
#[derive(Debug)]
struct Plan {
    descriptors: Descriptors,
    chosen: Candidate,
}

/// cuDNN in a context.
#[derive(Debug)]
pub(super) struct Dnn {
    handle: sys::cudnnHandle_t,
    math: cudnnMathType_t,
    most_workspace: usize,
    plans: HashMap<Geometry, Plan>,
    /// Address and size of a block that convolutions use one after the other; it only grows.
    workspace: (u64, usize),
}

// SAFETY: the handles are names within cuDNN, which takes them from any thread, one at a time.
unsafe impl Send for Dnn {}

impl Dnn {
    /// Opens cuDNN in the context that is entered.
    pub(super) fn new(context: &Context, memory_bytes: u64, precision: Precision) -> Outcome<Self> {
        libraries::dnn().usable()?;
        let mut handle = ptr::null_mut();
        // SAFETY: cuDNN is there with all its functions, and writes one handle.
        check("cudnnCreate", unsafe { sys::cudnnCreate(&mut handle) })?;
        let math = match precision {
            // Not the default, by which cuDNN takes tensor cores and TF32 for f32.
            Precision::F32 => cudnnMathType_t::CUDNN_FMA_MATH,
            Precision::Tf32 | Precision::Bf16 => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        let part = usize::try_from(memory_bytes / PART_OF_MEMORY).unwrap_or(usize::MAX);
        let most_workspace = part.min(MOST_WORKSPACE);
        let this = Dnn { handle, math, most_workspace, plans: HashMap::new(), workspace: (0, 0) };
        // SAFETY: the handle is open, and the stream the context's.
        let set = check("cudnnSetStream", unsafe {
            sys::cudnnSetStream(handle, context.stream().cast())
        });
        if let Err(failure) = set {
            // SAFETY: the caller has entered the context, and nothing was asked of cuDNN yet.
            unsafe { this.close(context) };
            return Err(failure);
        }
        Ok(this)
    }

    /// Computes a pass, in the context that is entered.
    ///
    /// # Safety
    /// As [`crate::cuda::driver::Driver::convolve`].
    pub(super) unsafe fn convolve(&mut self, context: &Context, c: &Convolution) -> Outcome {
        let key = geometry(c);
        if let Some(plan) = self.plans.get(&key) {
            // SAFETY: as the caller promises; the workspace grew to what the plan needs when it was made.
            return unsafe { self.run(c, &plan.descriptors, &plan.chosen) };
        }
        // SAFETY: as the caller promises.
        let plan = unsafe { self.run_first(context, c) }?;
        self.plans.insert(key, plan);
        Ok(())
    }

    /// Runs an algorithm, whose arithmetic is set in the descriptors.
    ///
    /// # Safety
    /// As [`Dnn::convolve`]; the workspace is as large as the algorithm needs.
    unsafe fn run(&self, c: &Convolution, d: &Descriptors, chosen: &Candidate) -> Outcome {
        let pointer = |address: u64| ptr::with_exposed_provenance_mut::<c_void>(address as usize);
        let [x, y, w] = [c.fine_address, c.coarse_address, c.weight_address].map(pointer);
        let (workspace, bytes) = (pointer(self.workspace.0), chosen.workspace_bytes);
        let workspace = if bytes == 0 { ptr::null_mut() } else { workspace };
        let (one, zero) = (1.0f32, 0.0f32);
        let (alpha, beta) = (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast());
        let (handle, conv) = (self.handle, d.convolution);
        // SAFETY: the descriptors say what lies at the caller's addresses, the workspace is at least as large as said, and cuDNN reads the
        // two scalars at the call.
        unsafe {
            match chosen.algorithm {
                Algorithm::Forward(algorithm) => check(
                    "cudnnConvolutionForward",
                    sys::cudnnConvolutionForward(
                        handle, alpha, d.fine, x, d.weight, w, conv, algorithm, workspace, bytes,
                        beta, d.coarse, y,
                    ),
                ),
                Algorithm::Data(algorithm) => check(
                    "cudnnConvolutionBackwardData",
                    sys::cudnnConvolutionBackwardData(
                        handle, alpha, d.weight, w, d.coarse, y, conv, algorithm, workspace, bytes,
                        beta, d.fine, x,
                    ),
                ),
                Algorithm::Filter(algorithm) => check(
                    "cudnnConvolutionBackwardFilter",
                    sys::cudnnConvolutionBackwardFilter(
                        handle, alpha, d.fine, x, d.coarse, y, conv, algorithm, workspace, bytes,
                        beta, d.weight, w,
                    ),
                ),
            }
        }
    }

    /// Computes a convolution that was not met before, by the algorithm that cuDNN expects to be fastest among those that give the same
    /// bits each time, whose workspace can be had, and that do run.
    ///
    /// # Safety
    /// As [`Dnn::convolve`].
    unsafe fn run_first(&mut self, context: &Context, c: &Convolution) -> Outcome<Plan> {
        if coarse_extents(c) != Some(c.coarse) {
            let rule = "cuDNN has no convolution whose output padding is as large as its stride; the cpu has";
            return Err(Failure::new(format!(
                "extents {:?} and {:?} do not fit: {rule}",
                c.fine, c.coarse
            )));
        }
        let descriptors = Descriptors::new(c, self.math)?;
        let candidates = algorithms::candidates(self.handle, &descriptors, c.pass, self.math)?;
        let (mut least, mut refused) = (usize::MAX, None);
        for chosen in candidates {
            let bytes = chosen.workspace_bytes;
            least = least.min(bytes);
            if bytes > self.most_workspace || !self.grow(context, bytes)? {
                continue;
            }
            descriptors.set_arithmetic(chosen.math)?;
            // cuDNN lists algorithms by what it knows without looking closely, and may find out now that one does not do.
            // SAFETY: as the caller promises; the workspace has grown.
            match unsafe { self.run(c, &descriptors, &chosen) } {
                Ok(()) => return Ok(Plan { descriptors, chosen }),
                Err(failure) => refused = refused.or(Some(failure)),
            }
        }
        let mebibytes = least.div_ceil(1 << 20);
        Err(refused.unwrap_or_else(|| {
            Failure::memory(format!(
                "the device has no memory left for the workspace of a convolution, {mebibytes} MiB at least; a smaller batch needs less"
            ))
        }))
    }

    /// Makes the workspace at least so large; whether there was memory for it.
    fn grow(&mut self, context: &Context, bytes: usize) -> Outcome<bool> {
        let (address, size) = self.workspace;
        if bytes <= size {
            return Ok(true);
        }
        // The new one first: plans that were made before rely on the old one.
        let Some(larger) = context.allocate(bytes)? else { return Ok(false) };
        self.workspace = (larger, bytes);
        if size > 0 {
            // SAFETY: work that uses the block was asked for earlier, and later work uses the new one.
            unsafe { context.free(address) };
        }
        Ok(true)
    }

    /// Gives everything back.
    ///
    /// # Safety
    /// The context is entered, and the device does nothing any more.
    pub(super) unsafe fn close(mut self, context: &Context) {
        self.plans.clear();
        // SAFETY: nobody has the handle or the workspace any more.
        unsafe {
            sys::cudnnDestroy(self.handle);
            if self.workspace.1 > 0 {
                context.free(self.workspace.0);
            }
        }
    }
}

/// Turns a status into an outcome that names the call.
pub(super) fn check(call: &str, status: cudnnStatus_t) -> Outcome {
    if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    // SAFETY: cuDNN knows its status, and the text lives as long as the library.
    let text = unsafe { CStr::from_ptr(sys::cudnnGetErrorString(status)) }.to_string_lossy();
    let mut details = [0u8; 512];
    // SAFETY: cuDNN writes no more bytes than there is room for.
    unsafe { sys::cudnnGetLastErrorString(details.as_mut_ptr().cast(), details.len()) };
    let details = CStr::from_bytes_until_nul(&details).unwrap_or_default().to_string_lossy();
    let details = details.trim();
    Err(Failure::new(format!(
        "{call}: {text}{}{details}",
        if details.is_empty() { "" } else { ": " }
    )))
}
