//! Entropies, in nats: maximum-entropy bounds from moments, and estimates from the rows themselves.
//!
//! | module | what | needs |
//! |---|---|---|
//! | this one | maximum-entropy bounds of `h(Z)` from class geometry | moments |
//! | [`kozachenko_leonenko_nats`] | `h(Z)` from the distances to near rows | rows, up to about ten dimensions |
//! | [`discrete`] | entropy of symbols: plug-in, Miller–Madow; probability of the best guess | rows |
//! | [`kde`] | `h(Z)` by kernel densities, leave-one-out and resubstituted | rows |
//! | [`mixture`] | pairwise bounds of `h(Z)` and `I` for Gaussian mixtures after Kolchinsky and Tracey | parameters |
//!
//! # Maximum-entropy bounds
//! Among all densities of a given second moment the Gaussian has the largest entropy, so a variance bounds `h(Z)` from above.
//! **These bound h(Z), not leakage.** `H(X|Z) ≥ H(X) − h(Z) − κ` holds with a constant κ that is unknown and differs by layer, and
//! rescaling Z moves h(Z) at will: they neither bound what an attacker learns nor rank layers.
//!
//! The values are plug-ins: the sample's moments in a formula that bounds with the population's. Their kind is therefore
//! [`Kind::Heuristic`](crate::Kind::Heuristic), with [`Flag::PlugInOfUpperBound`](crate::Flag::PlugInOfUpperBound). With the divisor `N` a
//! radius is low by `1/N_c` on average, so that a per-class value is low by `D/(2·N_c)` nats at least. Moments alone give no standard
//! error: [`Deviations`](crate::Deviations) of a second pass do, and the bounds from rows in [`gaussian`](crate::gaussian).

pub mod discrete;
pub mod kde;
mod knn;
mod maximum;
pub mod mixture;

pub use knn::*;
pub use maximum::*;
