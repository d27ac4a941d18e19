//! Entropies, in nats: maximum-entropy bounds from moments, and estimates from the rows themselves.
//!
//! | module | what | needs |
//! |---|---|---|
//! | this one | maximum-entropy bounds of `h(Z)` from class geometry | moments |
//! | [`kozachenko_leonenko_nats`] | `h(Z)` from the distances to near rows | rows, up to about ten dimensions |
//! | [`discrete`] | entropy of symbols: plug-in, Miller–Madow; probability of the best guess | rows |
//! | [`kde`] | `h(Z)` by kernel densities, leave-one-out and resubstituted | rows |
//! | [`mixture`] | pairwise bounds of `h(Z)` and `I` for Gaussian mixtures after Kolchinsky and Tracey | parameters |

pub mod discrete;
pub mod kde;
mod knn;
mod maximum;
pub mod mixture;

pub use knn::*;
pub use maximum::*;
