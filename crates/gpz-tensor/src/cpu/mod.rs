//! Loops on the CPU, on plain slices.

pub(crate) mod attention;
pub(crate) mod columns;
pub(crate) mod conv;
pub(crate) mod map;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod rows;
