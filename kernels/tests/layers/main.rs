//! The kernels of layers on the interpreter, against their references.

#[path = "../common/mod.rs"]
mod common;

mod channels;
mod harness;
mod pooling;
mod rows;
