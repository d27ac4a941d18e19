//! The audit: sweep over splits, zone location, choice, run directory and report
#![forbid(unsafe_code)]

pub mod effective;
pub mod error;
pub mod intervals;
pub mod number;
pub mod zone;

pub use error::{Error, Result};
