//! Mutual information, in nats.
//!
//! | module | what |
//! |---|---|
//! | [`critic`] | lower bounds from the scores of a critic: InfoNCE, NWJ, Donsker–Varadhan |
//! | [`discrete`] | of symbols: plug-in, Miller–Madow; of continuous rows by binning |
//! | [`ksg`] | between two continuous samples, after Kraskov, Stögbauer and Grassberger |
//! | [`mixed`] | between samples that may be discrete, continuous, or both at once, after Gao and others |
//! | [`renyi`] | matrix-based Rényi entropy and information |
//! | [`ross`] | between features and labels, after Ross |

pub mod critic;
pub mod discrete;
pub mod ksg;
pub mod mixed;
pub mod renyi;
pub mod ross;
