//! Limits of the machine, measured beside every benchmark.

pub mod bandwidth;
pub mod fma;
