//! What each kernel computes, on the CPU in `f64`: the oracles of the tests.

mod statistics;

pub use statistics::{class_moments, quantise};
