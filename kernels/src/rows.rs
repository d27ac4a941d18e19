//! What is done to each row of a matrix: softmax, layer normalisation, cross entropy.
//!
//! Inputs are read past the coherent caches: no output may overlap an input.

use crate::{Kernel, kernel};

/// [`softmax`](crate::reference::softmax).
pub const SOFTMAX_F32: Kernel = kernel!("softmax_f32", [32, 8, 1], 8);
/// [`softmax_backward`](crate::reference::softmax_backward).
pub const SOFTMAX_BACKWARD_F32: Kernel = kernel!("softmax_backward_f32", [32, 8, 1], 8);
/// [`log_softmax`](crate::reference::log_softmax).
pub const LOG_SOFTMAX_F32: Kernel = kernel!("log_softmax_f32", [32, 8, 1], 8);
/// [`log_softmax_backward`](crate::reference::log_softmax_backward).
pub const LOG_SOFTMAX_BACKWARD_F32: Kernel = kernel!("log_softmax_backward_f32", [32, 8, 1], 8);
/// [`layer_norm`](crate::reference::layer_norm).
pub const LAYER_NORM_F32: Kernel = kernel!("layer_norm_f32", [32, 8, 1], 8);
/// [`layer_norm_backward`](crate::reference::layer_norm_backward).
pub const LAYER_NORM_BACKWARD_F32: Kernel = kernel!("layer_norm_backward_f32", [32, 8, 1], 8);
/// [`soft_cross_entropy`](crate::reference::soft_cross_entropy).
pub const SOFT_CROSS_ENTROPY_F32: Kernel = kernel!("soft_cross_entropy_f32", [32, 8, 1], 8);

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[
    SOFTMAX_F32,
    SOFTMAX_BACKWARD_F32,
    LOG_SOFTMAX_F32,
    LOG_SOFTMAX_BACKWARD_F32,
    LAYER_NORM_F32,
    LAYER_NORM_BACKWARD_F32,
    SOFT_CROSS_ENTROPY_F32,
];
