//! Entropies, in nats: maximum-entropy bounds from moments, and estimates from the rows themselves.
//!
//! | module | what | needs |
//! |---|---|---|
//! | this one | maximum-entropy bounds of `h(Z)` from class geometry | moments |

mod maximum;

pub use maximum::*;
