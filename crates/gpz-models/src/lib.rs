//! Target networks with named taps and splits, and what each split costs.
//!
//! ```
//! use gpz_models::ModelSpec;
//! use gpz_nn::{Tape, Var};
//! use gpz_tensor::{DType, Tensor};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//!
//! let spec: ModelSpec = "cnn4:width=8".parse()?;
//! let target = spec.build([1, 32, 32], 10, &mut ChaCha8Rng::seed_from_u64(1))?;
//! let pictures = Tensor::full(&[2, 1, 32, 32], 0.7, DType::F32)?; // in [0, 1]
//! let x = Var::constant(target.normalisation()?.apply(&pictures)?);
//! let split = target.find_split("block2")?;
//! let z = target.head(&Tape::eval(), split, &x)?;
//! assert_eq!(z.shape(), [2, 16, 8, 8]);
//! assert_eq!(target.split_cost(split)?.wire_bytes, 4 * 16 * 8 * 8);
//! let whole = target.forward(&Tape::eval(), &x)?;
//! let halves = target.tail(&Tape::eval(), split, &z)?;
//! assert_eq!(whole.value().to_vec::<f32>()?, halves.value().to_vec::<f32>()?);
//! # Ok::<(), gpz_models::Error>(())
//! ```
#![forbid(unsafe_code)]

mod architecture;
mod cnn4;
mod error;
mod ir;
mod network;
mod normalise;
pub mod parameters;
mod registry;
mod resnet;
mod target;
mod torchvision;
mod vgg;
mod vit;

pub use architecture::Architecture;
pub use error::{Error, Result};
pub use network::{Network, Plan};
pub use normalise::Normalisation;
pub use parameters::{Allowed, Parameter};
pub use registry::{ModelInfo, ModelSpec, models};
pub use target::{SplitCost, StageCost, Tap, Target};
