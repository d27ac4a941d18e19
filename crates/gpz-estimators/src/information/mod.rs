//! Mutual information, in nats.

/// Lower bounds from the scores of a critic: InfoNCE, NWJ, Donsker–Varadhan.
pub mod critic;
/// Of symbols: plug-in, Miller–Madow, and of continuous rows by binning.
pub mod discrete;
/// Matrix-based Rényi entropy and information.
pub mod renyi;
