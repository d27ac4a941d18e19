//! The feature statistics, and what a channel does to a feature.

use crate::{Kernel, kernel};

/// [`class_moments`](crate::reference::class_moments) of `f32` features.
pub const CLASS_MOMENTS_F32: Kernel = kernel!("class_moments_f32", [32, 8, 1], 128);
/// [`class_moments`](crate::reference::class_moments) of `f16` features.
pub const CLASS_MOMENTS_F16: Kernel = kernel!("class_moments_f16", [32, 8, 1], 256);
/// [`class_moments`](crate::reference::class_moments) of `bf16` features.
pub const CLASS_MOMENTS_BF16: Kernel = kernel!("class_moments_bf16", [32, 8, 1], 256);
/// [`quantise`](crate::reference::quantise).
pub const QUANTISE_F32: Kernel = kernel!("quantise_f32", [256, 1, 1], 1024);

/// Every kernel of the family.
pub const ALL: &[Kernel] =
    &[CLASS_MOMENTS_F32, CLASS_MOMENTS_F16, CLASS_MOMENTS_BF16, QUANTISE_F32];
