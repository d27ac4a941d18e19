//! Which algorithms cuDNN has for a pass of a convolution.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use cudarc::cudnn::sys::{
    self, cudnnConvolutionBwdDataAlgo_t, cudnnConvolutionBwdFilterAlgo_t,
    cudnnConvolutionFwdAlgo_t, cudnnDeterminism_t, cudnnMathType_t, cudnnStatus_t,
};

use super::convolution::{Descriptors, check};
use crate::cuda::driver::{ConvolutionPass, Outcome};

/// An algorithm of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Forward(cudnnConvolutionFwdAlgo_t),
    Data(cudnnConvolutionBwdDataAlgo_t),
    Filter(cudnnConvolutionBwdFilterAlgo_t),
}

/// An algorithm that may be used, and the workspace it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) algorithm: Algorithm,
    /// What it computes with, to be set in the descriptor.
    pub(super) math: cudnnMathType_t,
    pub(super) workspace_bytes: usize,
}

/// More than there are for any pass.
const MOST: usize = 16;

/// By which arithmetic an algorithm of cuDNN's list is to be used, if it works, gives the same bits each time, and rounds no more than was
/// asked for. The first three are as cuDNN wrote them: of an algorithm that does not work they may be anything.
fn arithmetic(
    status: u32,
    determinism: u32,
    listed: u32,
    wanted: cudnnMathType_t,
) -> Option<cudnnMathType_t> {
    use cudnnMathType_t::*;
    if status != cudnnStatus_t::CUDNN_STATUS_SUCCESS as u32
        || determinism != cudnnDeterminism_t::CUDNN_DETERMINISTIC as u32
    {
        return None;
    }
    let known = [CUDNN_DEFAULT_MATH, CUDNN_TENSOR_OP_MATH, CUDNN_FMA_MATH];
    let listed = known.into_iter().find(|&math| math as u32 == listed)?;
    match (wanted, listed) {
        // The list may leave open what an algorithm computes with; the descriptor then decides.
        (CUDNN_FMA_MATH, CUDNN_FMA_MATH | CUDNN_DEFAULT_MATH) => Some(CUDNN_FMA_MATH),
        (CUDNN_FMA_MATH, _) => None,
        _ => Some(listed),
    }
}

/// Declares the list of one pass: the three differ in types and in the order of arguments. At the end stands an algorithm of which NVIDIA's
/// manual says that it gives the same bits each time and takes any convolution, should the list hold none that fits.
macro_rules! list {
    ($name:ident, $entry:ty, $variant:ident, $get:ident, $size:ident, $last:expr, |$d:ident| ($($argument:expr),*)) => {
        fn $name(
            handle: sys::cudnnHandle_t,
            $d: &Descriptors,
            wanted: cudnnMathType_t,
        ) -> Outcome<Vec<Candidate>> {
            let mut count: c_int = 0;
            let mut entries = [const { MaybeUninit::<$entry>::uninit() }; MOST];
            let (room, first) = (MOST as c_int, entries.as_mut_ptr().cast());
            // SAFETY: the handle is open, the descriptors filled, and there is room for as many entries as said.
            let got = unsafe { sys::$get(handle, $($argument),*, room, &mut count, first) };
            check(stringify!($get), got)?;
            let mut listed = Vec::new();
            for entry in &entries[..(count.max(0) as usize).min(MOST)] {
                let entry = entry.as_ptr();
                // SAFETY: cuDNN wrote the entry. Its fields are read as numbers, which take whatever it wrote.
                let [status, determinism, math] = unsafe {
                    [
                        (&raw const (*entry).status).cast::<u32>().read(),
                        (&raw const (*entry).determinism).cast::<u32>().read(),
                        (&raw const (*entry).mathType).cast::<u32>().read(),
                    ]
                };
                if let Some(math) = arithmetic(status, determinism, math, wanted) {
                    // SAFETY: as above; an algorithm that works is one that cuDNN has a name for.
                    listed.push((unsafe { (&raw const (*entry).algo).read() }, math));
                }
            }
            listed.push(($last, wanted));
            let mut candidates = Vec::new();
            for (algorithm, math) in listed {
                $d.set_arithmetic(math)?;
                let mut workspace_bytes = 0;
                let size = &mut workspace_bytes;
                // SAFETY: as above; cuDNN writes one size.
                let status = unsafe { sys::$size(handle, $($argument),*, algorithm, size) };
                // An algorithm that has no size for its workspace is not to be used after all.
                if status == cudnnStatus_t::CUDNN_STATUS_SUCCESS {
                    let algorithm = Algorithm::$variant(algorithm);
                    candidates.push(Candidate { algorithm, math, workspace_bytes });
                }
            }
            Ok(candidates)
        }
    };
}

list! {
    forward, sys::cudnnConvolutionFwdAlgoPerf_t, Forward,
    cudnnGetConvolutionForwardAlgorithm_v7, cudnnGetConvolutionForwardWorkspaceSize,
    cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
    |d| (d.fine, d.weight, d.convolution, d.coarse)
}
list! {
    data, sys::cudnnConvolutionBwdDataAlgoPerf_t, Data,
    cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnGetConvolutionBackwardDataWorkspaceSize,
    cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
    |d| (d.weight, d.coarse, d.convolution, d.fine)
}
list! {
    filter, sys::cudnnConvolutionBwdFilterAlgoPerf_t, Filter,
    cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnGetConvolutionBackwardFilterWorkspaceSize,
    cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
    |d| (d.fine, d.coarse, d.convolution, d.weight)
}

/// Algorithms for a pass that give the same bits each time, the fastest first, as cuDNN expects it.
pub(super) fn candidates(
    handle: sys::cudnnHandle_t,
    descriptors: &Descriptors,
    pass: ConvolutionPass,
    math: cudnnMathType_t,
) -> Outcome<Vec<Candidate>> {
    match pass {
        ConvolutionPass::Coarse => forward(handle, descriptors, math),
        ConvolutionPass::Fine => data(handle, descriptors, math),
        ConvolutionPass::Weight => filter(handle, descriptors, math),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_must_work_repeat_itself_and_round_as_asked() {
        use cudnnDeterminism_t::*;
        use cudnnMathType_t::*;
        use cudnnStatus_t::*;
        let [works, repeats] = [CUDNN_STATUS_SUCCESS as u32, CUDNN_DETERMINISTIC as u32];
        let of = |listed, wanted| arithmetic(works, repeats, listed as u32, wanted);
        let fma = Some(CUDNN_FMA_MATH);
        assert_eq!(of(CUDNN_FMA_MATH, CUDNN_FMA_MATH), fma);
        assert_eq!(of(CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH), fma, "the default may be TF32");
        assert_eq!(of(CUDNN_TENSOR_OP_MATH, CUDNN_FMA_MATH), None);
        assert_eq!(of(CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH), fma, "better than asked for");
        assert_eq!(of(CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION, CUDNN_TENSOR_OP_MATH), None, "f16");
        let math = CUDNN_FMA_MATH as u32;
        let by_chance = CUDNN_NON_DETERMINISTIC as u32;
        assert_eq!(arithmetic(works, by_chance, math, CUDNN_FMA_MATH), None);
        let failed = CUDNN_STATUS_NOT_SUPPORTED as u32;
        assert_eq!(arithmetic(failed, u32::MAX, u32::MAX, CUDNN_FMA_MATH), None);
    }
}
