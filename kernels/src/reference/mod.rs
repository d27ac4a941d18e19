//! What each kernel computes, on the CPU in `f64`: the oracles of the tests.

mod channels;
mod elementwise;
mod images;
mod noise;
mod optimisers;
mod pairwise;
mod pooling;
mod reductions;
mod rows;
mod statistics;

pub use channels::{
    batch_norm_backward_apply, batch_norm_backward_few, batch_norm_backward_finish,
    batch_norm_backward_sums, batch_norm_finish, channel_affine, channel_apply, channel_epilogue,
    channel_moments, channel_sums, channel_sums_finish, prelu, prelu_backward, prelu_slope_sums,
};
pub use elementwise::{
    affine, binary, binary_strided, copy_strided, dropout_mask, fill, transpose, unary,
    unary_backward,
};
pub use images::{squared_errors, ssim, total_variation};
pub use noise::{noise, normals, philox};
pub use optimisers::{Adam, adam, non_finite, sgd, watch_loss};
pub use pairwise::{pairwise_gaussian, pairwise_nearest};
pub use pooling::{Pool, avg_pool, avg_pool_backward, max_pool, max_pool_backward};
pub use reductions::{finish_sums, max_backward, partial_dots, partial_sums, row_max, row_sums};
pub use rows::{
    layer_norm, layer_norm_backward, log_softmax, log_softmax_backward, soft_cross_entropy,
    softmax, softmax_backward,
};
pub use statistics::{class_distances, class_moments, quantise};
