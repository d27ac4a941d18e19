//! Pooling of pictures that lie channels-last.
//!
//! Inputs are read past the coherent caches: no output may overlap an input.

use crate::{Kernel, kernel};

/// [`max_pool`](crate::reference::max_pool).
pub const MAX_POOL_F32: Kernel = kernel!("max_pool_f32", [256, 1, 1], 256);
/// [`max_pool_backward`](crate::reference::max_pool_backward).
pub const MAX_POOL_BACKWARD_F32: Kernel = kernel!("max_pool_backward_f32", [256, 1, 1], 256);
/// [`avg_pool`](crate::reference::avg_pool).
pub const AVG_POOL_F32: Kernel = kernel!("avg_pool_f32", [256, 1, 1], 256);
/// [`avg_pool_backward`](crate::reference::avg_pool_backward).
pub const AVG_POOL_BACKWARD_F32: Kernel = kernel!("avg_pool_backward_f32", [256, 1, 1], 256);

/// Every kernel of the family.
pub const ALL: &[Kernel] =
    &[MAX_POOL_F32, MAX_POOL_BACKWARD_F32, AVG_POOL_F32, AVG_POOL_BACKWARD_F32];
