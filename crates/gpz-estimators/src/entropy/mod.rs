//! Entropies, in nats: maximum-entropy bounds from moments, and estimates from the rows themselves.
//!
//! | module | what | needs |
//! |---|---|---|
//! | this one | maximum-entropy bounds of `h(Z)` from class geometry | moments |
//! | [`kozachenko_leonenko_nats`] | `h(Z)` from the distances to near rows | rows, up to about ten dimensions |

mod knn;
mod maximum;

pub use knn::*;
pub use maximum::*;
