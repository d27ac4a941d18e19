//! Blueprints: networks as descriptions, whose shapes and costs are known before any weight is set aside.
//!
//! A [`Layer`] says what is done; [`Layer::describe`] what comes of a feature of a given shape and what that costs; [`Layer::build`] makes
//! the [`Block`] that does it, with parameters under PyTorch's names. What a layer takes in is told by the layer before it, so that a
//! network is written down as in its paper:
//!
//! ```
//! use gpz_nn::blueprint::{Convolution, Layer, sequence};
//! use gpz_nn::{Module, Tape, Var, rng_for};
//! use gpz_tensor::{DType, Pool2d, Tensor};
//!
//! let block = sequence([
//!     ("0", Convolution::same(64, 3).into()),
//!     ("1", Layer::BatchNorm),
//!     ("2", Layer::Relu),
//!     ("3", Layer::MaxPool(Pool2d::square(2))),
//! ]);
//! let described = block.describe(&[3, 32, 32])?;
//! assert_eq!(described.output, [64, 16, 16]);
//! assert_eq!(described.cost.macs, 32 * 32 * 64 * 27);
//! let built = block.build(&[3, 32, 32], &mut rng_for(1, "block", 0))?;
//! assert_eq!(built.parameter_count() as u64, described.cost.params);
//! let x = Var::constant(Tensor::zeros(&[2, 3, 32, 32], DType::F32)?);
//! assert_eq!(built.forward(&Tape::eval(), &x)?.shape(), [2, 64, 16, 16]);
//! # Ok::<(), gpz_nn::Error>(())
//! ```

mod adaptive;
mod block;
mod excitation;
mod layer;
mod shapes;
mod tokens;

pub use block::Block;
pub use layer::{Convolution, Layer, TransposedConvolution, numbered, sequence};
pub use shapes::{Cost, Described};
