//! Mutual information, in nats.
//!
//! | module | what |
//! |---|---|
//! | [`critic`] | lower bounds from the scores of a critic: InfoNCE, NWJ, Donsker–Varadhan |
//! | [`discrete`] | of symbols: plug-in, Miller–Madow; of continuous rows by binning |
//! | `gaussian` | plug-in, corrected for the sample's size, and of a known linear channel (feature `lapack`) |
//! | [`ksg`] | between two continuous samples, after Kraskov, Stögbauer and Grassberger |
//! | [`mixed`] | between samples that may be discrete, continuous, or both at once, after Gao and others |
//! | `qda` | of features about labels, by Gaussian classes fitted on one half and scored on the other (feature `lapack`) |
//! | [`renyi`] | matrix-based Rényi entropy and information |
//! | [`ross`] | between features and labels, after Ross |

pub mod critic;
pub mod discrete;
#[cfg(feature = "lapack-base")]
pub mod gaussian;
pub mod ksg;
pub mod mixed;
#[cfg(feature = "lapack-base")]
pub mod qda;
pub mod renyi;
pub mod ross;
