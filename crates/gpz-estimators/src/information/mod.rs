//! Mutual information, in nats.

/// Gaussian: plug-in, corrected for the sample's size, and of a known linear channel.
#[cfg(feature = "lapack")]
pub mod gaussian;
/// Of features about labels, by Gaussian classes fitted on one half and scored on the other.
#[cfg(feature = "lapack")]
pub mod qda;
