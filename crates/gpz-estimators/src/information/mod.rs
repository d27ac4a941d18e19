//! Mutual information, in nats.
//!
//! | module | what |
//! |---|---|
//! | [`critic`] | lower bounds from the scores of a critic: InfoNCE, NWJ, Donsker–Varadhan |
//! | [`discrete`] | of symbols: plug-in, Miller–Madow; of continuous rows by binning |
//! | [`renyi`] | matrix-based Rényi entropy and information |

pub mod critic;
pub mod discrete;
pub mod renyi;
