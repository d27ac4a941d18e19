//! Mutual information, in nats.

/// Between two continuous samples, after Kraskov, Stögbauer and Grassberger.
pub mod ksg;
/// Between samples that may be discrete, continuous, or both at once, after Gao and others.
pub mod mixed;
/// Between features and labels, after Ross.
pub mod ross;
