//! Inversion attacks: decoders, the trainer for all splits at once, image metrics
#![deny(unsafe_code)]

mod cache;
mod decoder;
pub mod error;
mod learner;
pub mod metrics;
mod observer;
mod pairs;
mod trainer;
mod wire;

pub use cache::{CachePlan, FeatureCache};
pub use decoder::{
    Decoder, DecoderChoice, DecoderInfo, DecoderPlan, DecoderSpec, Growth, LeastBytes, Stage,
    decoders,
};
pub use error::{Error, Result};
pub use learner::{EpochRecord, Keep, Learner, TrainingPlan};
pub use observer::{Observer, Silent};
pub use pairs::{HeldOutRows, PairCut, Pairs, TestRows, TrainRows, train_on_pairs};
pub use trainer::{AttackPlan, InversionTrainer, pictures, reconstruct, reconstruct_received};
pub use wire::{Exact, Sending, Wire};
