//! The Gaussian family: entropy bounds by variances, by covariances, corrected for the sample's size, and shrunk. In nats.
//!
//! | what | needs |
//! |---|---|
//! | [`diagonal_bound_nats`], [`class_diagonal_bound_nats`], [`mixture_diagonal_bound_nats`] | moments |
//! | [`log_det_bias`], [`log_det_variance`]: what a Wishart covariance does to `ln det` | two numbers |
//! | `full_bound_nats`, `class_conditional_bound_nats`, `mixture_full_bound_nats` | feature `lapack` |
//! | `log_det_nats`, and corrected for the sample's size `log_det_corrected_nats`, `entropy_corrected_nats`, … | feature `lapack` |
//! | `MaximumEntropy`: isotropic, diagonal and full side by side, with the gaps | feature `lapack` |
//! | `ledoit_wolf`, `oas`: shrunk covariances, also of more dimensions than rows | feature `lapack` |
//!
//! Each is a plug-in: the formula bounds with the population's moments, and is given the sample's. Those from rows have standard errors, by
//! the jackknife or for Gaussian rows; moments alone have none.

mod diagonal;
#[cfg(feature = "lapack-base")]
mod full;
#[cfg(feature = "lapack-base")]
mod gaps;
#[cfg(feature = "lapack-base")]
mod shrinkage;
mod wishart;

pub use diagonal::*;
#[cfg(feature = "lapack-base")]
pub use full::*;
#[cfg(feature = "lapack-base")]
pub use gaps::*;
#[cfg(feature = "lapack-base")]
pub use shrinkage::*;
pub use wishart::*;
