//! Tensors on the CPU and on CUDA devices: shapes, dtypes, and each operation once.
//!
//! A [`Tensor`] is immutable and cheap to clone. Shapes, axes and flattening are NCHW, row-major, whatever the memory layout; pictures lie
//! channels-last in memory once a convolution or a pooling has touched them. Operands that do not fit are an [`Error`] that names both
//! shapes. Results are the same bits for any number of threads: work is cut by the size of the problem, and sums have a fixed order.
//!
//! ```
//! use gpz_tensor::{Tensor, UnaryOp};
//!
//! let x = Tensor::from_slice(&[-1.0f32, 0.5, 2.0], &[3])?;
//! let bias = Tensor::scalar(1.0, x.dtype());
//! assert_eq!(x.unary(UnaryOp::Relu)?.add(&bias)?.to_vec::<f32>()?, [1.0, 1.5, 3.0]);
//! # Ok::<(), gpz_tensor::Error>(())
//! ```
#![deny(unsafe_code)]

mod attention;
mod buffer;
mod channels;
mod conv;
mod cpu;
#[allow(unsafe_code)]
pub mod cuda;
mod device;
mod dropout;
mod element;
mod elementwise;
mod error;
mod matmul;
mod optimise;
mod pool;
mod reduce;
mod shape;
#[allow(unsafe_code)]
mod simd;
mod softmax;
mod tensor;
mod view;

pub use attention::Attention;
pub use buffer::{bytes_in_use, set_pool_limit};
pub use channels::{BatchNorm, BatchNormGradients};
pub use conv::{Conv2dOptions, ConvEpilogue, ConvTranspose2dOptions};
pub use cuda::CudaDevice;
pub use device::Device;
pub use element::{DType, Element};
pub use elementwise::{BinaryOp, Saves, UnaryOp};
pub use error::{Error, Result};
pub use optimise::{AdamStep, Bad, Learnt, OptimiserStep, SgdStep, Watch, Watched};
pub use pool::Pool2d;
pub use shape::{Dims, MAX_RANK, broadcast_shape};
pub use simd::isa_name;
pub use softmax::LayerNormGradients;
pub use tensor::Tensor;

/// The kernels under the tensors, for benchmarks: no part of the interface.
#[doc(hidden)]
pub mod bench_api {
    pub use crate::cpu::conv::{
        Epilogue, Geometry, PackedWeights, Window, forward, forward_packed, input_gradient,
        weight_gradient,
    };
    pub use crate::cpu::matmul::{Operand, matmul};
    pub use crate::simd::{Isa, with_isa};
}
