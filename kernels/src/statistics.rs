//! The feature statistics, and what a channel does to a feature.

use crate::{Kernel, kernel};

/// [`class_moments`](crate::reference::class_moments) of `f32` features.
pub const CLASS_MOMENTS_F32: Kernel = kernel!("class_moments_f32", [32, 8, 1], 128);
/// [`class_moments`](crate::reference::class_moments) of `f16` features.
pub const CLASS_MOMENTS_F16: Kernel = kernel!("class_moments_f16", [32, 8, 1], 256);
/// [`class_moments`](crate::reference::class_moments) of `bf16` features.
pub const CLASS_MOMENTS_BF16: Kernel = kernel!("class_moments_bf16", [32, 8, 1], 256);
/// [`class_moments`](crate::reference::class_moments) of `f32` features whose rows are no multiple of 4 wide.
pub const CLASS_MOMENTS_ANY_F32: Kernel = kernel!("class_moments_any_f32", [32, 8, 1], 32);
/// [`class_moments`](crate::reference::class_moments) of `f16` features whose rows are no multiple of 8 wide.
pub const CLASS_MOMENTS_ANY_F16: Kernel = kernel!("class_moments_any_f16", [32, 8, 1], 32);
/// [`class_moments`](crate::reference::class_moments) of `bf16` features whose rows are no multiple of 8 wide.
pub const CLASS_MOMENTS_ANY_BF16: Kernel = kernel!("class_moments_any_bf16", [32, 8, 1], 32);
/// [`quantise`](crate::reference::quantise).
pub const QUANTISE_F32: Kernel = kernel!("quantise_f32", [256, 1, 1], 1024);

/// [`class_distances`](crate::reference::class_distances).
pub const CLASS_DISTANCES_F32: Kernel = kernel!("class_distances_f32", [256, 1, 1], 1);

/// [`squared_errors`](crate::reference::squared_errors).
pub const SQUARED_ERRORS_F32: Kernel = kernel!("squared_errors_f32", [256, 1, 1], 1);
/// [`total_variation`](crate::reference::total_variation).
pub const TOTAL_VARIATION_F32: Kernel = kernel!("total_variation_f32", [256, 1, 1], 1);
/// [`ssim`](crate::reference::ssim), with the window of [`ssim_taps`].
pub const SSIM_F32: Kernel = kernel!("ssim_f32", [32, 8, 1], 1);

/// [`noise`](crate::reference::noise).
pub const NOISE_F32: Kernel = kernel!("noise_f32", [256, 1, 1], 1024);

/// [`pairwise_gaussian`](crate::reference::pairwise_gaussian).
pub const PAIRWISE_GAUSSIAN_F32: Kernel = kernel!("pairwise_gaussian_f32", [16, 16, 1], 64);
/// [`pairwise_nearest`](crate::reference::pairwise_nearest).
pub const PAIRWISE_NEAREST_F32: Kernel = kernel!("pairwise_nearest_f32", [16, 16, 1], 64);

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[
    CLASS_MOMENTS_F32,
    CLASS_MOMENTS_F16,
    CLASS_MOMENTS_BF16,
    CLASS_MOMENTS_ANY_F32,
    CLASS_MOMENTS_ANY_F16,
    CLASS_MOMENTS_ANY_BF16,
    CLASS_DISTANCES_F32,
    QUANTISE_F32,
    SQUARED_ERRORS_F32,
    TOTAL_VARIATION_F32,
    SSIM_F32,
    NOISE_F32,
    PAIRWISE_GAUSSIAN_F32,
    PAIRWISE_NEAREST_F32,
];

/// One side of the Gaussian window of the structural similarity: eleven pixels, standard deviation 1.5, sum 1.
pub fn ssim_taps() -> [f64; 11] {
    let raw: [f64; 11] = std::array::from_fn(|at| (-0.5 * ((at as f64 - 5.0) / 1.5).powi(2)).exp());
    let sum: f64 = raw.iter().sum();
    raw.map(|tap| tap / sum)
}
