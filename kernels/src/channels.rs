//! What has one parameter per channel: batch normalisation, PReLU, bias, sums over all else.
//!
//! Channels are the columns of a row-major matrix. Sums over the rows take two launches: the first leaves a partial sum for each chunk of
//! rows, the second adds the chunks up and makes of them what the layer needs. [`BATCH_NORM_BACKWARD_FEW_F32`] does all at once.
//!
//! Inputs are read past the coherent caches: no output may overlap an input. [`CHANNEL_EPILOGUE_F32`] alone changes an operand in place.

use crate::{Kernel, kernel};

/// [`channel_sums`](crate::reference::channel_sums) of each chunk of rows.
pub const CHANNEL_SUMS_F32: Kernel = kernel!("channel_sums_f32", [256, 1, 1], 256);
/// [`channel_sums_finish`](crate::reference::channel_sums_finish): the chunks added up.
pub const CHANNEL_SUMS_FINISH_F32: Kernel = kernel!("channel_sums_finish_f32", [256, 1, 1], 4);
/// [`channel_moments`](crate::reference::channel_moments) of each chunk of rows.
pub const CHANNEL_MOMENTS_F32: Kernel = kernel!("channel_moments_f32", [256, 1, 1], 256);
/// [`batch_norm_finish`](crate::reference::batch_norm_finish): statistics of the batch, and what normalises it.
pub const BATCH_NORM_FINISH_F32: Kernel = kernel!("batch_norm_finish_f32", [256, 1, 1], 4);
/// [`channel_apply`](crate::reference::channel_apply).
pub const CHANNEL_APPLY_F32: Kernel = kernel!("channel_apply_f32", [256, 1, 1], 1024);
/// [`channel_affine`](crate::reference::channel_affine).
pub const CHANNEL_AFFINE_F32: Kernel = kernel!("channel_affine_f32", [256, 1, 1], 1024);
/// [`channel_epilogue`](crate::reference::channel_epilogue), in place: what follows a convolution.
pub const CHANNEL_EPILOGUE_F32: Kernel = kernel!("channel_epilogue_f32", [256, 1, 1], 1024);
/// [`batch_norm_backward_sums`](crate::reference::batch_norm_backward_sums) of each chunk of rows.
pub const BATCH_NORM_BACKWARD_SUMS_F32: Kernel =
    kernel!("batch_norm_backward_sums_f32", [256, 1, 1], 256);
/// [`batch_norm_backward_finish`](crate::reference::batch_norm_backward_finish): gradients of the parameters.
pub const BATCH_NORM_BACKWARD_FINISH_F32: Kernel =
    kernel!("batch_norm_backward_finish_f32", [256, 1, 1], 4);
/// [`batch_norm_backward_apply`](crate::reference::batch_norm_backward_apply): gradient of the input.
pub const BATCH_NORM_BACKWARD_APPLY_F32: Kernel =
    kernel!("batch_norm_backward_apply_f32", [256, 1, 1], 1024);
/// [`batch_norm_backward_few`](crate::reference::batch_norm_backward_few): all gradients over few rows.
pub const BATCH_NORM_BACKWARD_FEW_F32: Kernel =
    kernel!("batch_norm_backward_few_f32", [64, 1, 1], 64);
/// [`prelu`](crate::reference::prelu).
pub const PRELU_F32: Kernel = kernel!("prelu_f32", [256, 1, 1], 1024);
/// [`prelu_backward`](crate::reference::prelu_backward).
pub const PRELU_BACKWARD_F32: Kernel = kernel!("prelu_backward_f32", [256, 1, 1], 1024);
/// [`prelu_slope_sums`](crate::reference::prelu_slope_sums) of each chunk of rows.
pub const PRELU_SLOPE_SUMS_F32: Kernel = kernel!("prelu_slope_sums_f32", [256, 1, 1], 256);

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[
    CHANNEL_SUMS_F32,
    CHANNEL_SUMS_FINISH_F32,
    CHANNEL_MOMENTS_F32,
    BATCH_NORM_FINISH_F32,
    CHANNEL_APPLY_F32,
    CHANNEL_AFFINE_F32,
    CHANNEL_EPILOGUE_F32,
    BATCH_NORM_BACKWARD_SUMS_F32,
    BATCH_NORM_BACKWARD_FINISH_F32,
    BATCH_NORM_BACKWARD_APPLY_F32,
    BATCH_NORM_BACKWARD_FEW_F32,
    PRELU_F32,
    PRELU_BACKWARD_F32,
    PRELU_SLOPE_SUMS_F32,
];
