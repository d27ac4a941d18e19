//! Limits of the machine, measured beside every benchmark.

pub mod bandwidth;
pub mod clock;
pub mod fma;
