//! Inversion attacks: decoders, the trainer for all splits at once, image metrics
#![forbid(unsafe_code)]

pub mod error;
pub mod metrics;

pub use error::{Error, Result};
