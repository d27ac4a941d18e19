//! Tensors on the CPU: shapes, dtypes, and each operation once.
//!
//! Shapes and flattening are NCHW, row-major, whatever the memory layout; feature maps lie channels-last in memory.
#![deny(unsafe_code)]

mod element;

pub use element::{DType, Element};
