//! The audit: sweep over splits, zone location, choice, run directory and report
#![forbid(unsafe_code)]

pub mod assemble;
mod attacks;
pub mod choice;
pub mod config;
pub mod data;
pub mod declared;
pub mod effective;
pub mod error;
pub mod evaluation;
pub mod feature_estimates;
pub mod feature_statistics;
pub mod features;
pub mod foreign_run;
pub mod image_comparison;
pub mod intervals;
pub mod inversion_run;
mod json;
pub mod leakage;
pub mod lpips;
mod memory;
pub mod number;
pub mod pictures;
pub mod radius_history;
pub mod rank;
pub mod report;
pub mod run_dir;
pub mod run_record;
pub mod splits;
pub mod statistics;
pub mod summary;
pub mod sweep;
pub mod target_run;
pub mod training;
pub mod weights;
pub mod wire;
pub mod words;
pub mod zone;

#[cfg(test)]
mod testing;

pub use error::{Error, Result};
