//! Tape autograd, layers, losses, optimisers, schedules, initialisers and checkpoints.
//!
//! A forward pass takes a [`Tape`] and [`Var`]s. On a training tape every operation leaves its gradient rule, and
//! [`Tape::backward`] returns a [`Step`] with gradients and new running statistics; on an evaluation tape nothing is kept. Modules are
//! not changed by a pass: [`Optimizer::step`] is the one place where parameters change.
//!
//! ```
//! use gpz_nn::{Linear, Optimizer, Rule, Tape, Var, loss};
//! use gpz_tensor::Tensor;
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//!
//! let mut layer = Linear::new([2, 1], true, &mut ChaCha8Rng::seed_from_u64(1))?;
//! let mut optimizer = Optimizer::new(Rule::Sgd { momentum: 0.9, weight_decay: 0.0 }, 0.05);
//! let x = Tensor::from_slice(&[0.0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], &[4, 2])?;
//! let y = Tensor::from_slice(&[1.0f32, 3.0, 0.0, 2.0], &[4, 1])?; // 1 + 2 x₂ − x₁
//! for step in 0..500 {
//!     let tape = Tape::train(step);
//!     let loss = loss::mse(&layer.forward(&tape, &Var::constant(x.clone()))?, &y)?;
//!     optimizer.step(&mut layer, &tape.backward(&loss)?)?;
//! }
//! let weight = layer.weight.value().to_vec::<f64>()?;
//! assert!((weight[0] + 1.0).abs() < 1e-3 && (weight[1] - 2.0).abs() < 1e-3);
//! # Ok::<(), gpz_nn::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod blueprint;
pub mod checkpoint;
mod error;
mod init;
mod labels;
mod layers;
pub mod loss;
mod module;
mod ops;
mod optim;
mod seed;
mod tape;

pub use error::{Error, Result};
pub use init::Init;
pub use layers::{BatchNorm, Conv2d, ConvTranspose2d, Dropout, LayerNorm, Linear, PRelu};
pub use loss::Labels;
pub use module::{Entry, EntryId, Kind, Module, join};
pub use optim::{Optimizer, Rule, Schedule, Scheduler};
pub use seed::{derive_seed, rng_for};
pub use tape::{Mode, Step, Tape, Var};
