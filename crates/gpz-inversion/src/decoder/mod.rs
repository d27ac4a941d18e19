//! Decoders: networks that learn the picture from the feature.
//!
//! A [`DecoderSpec`] names a family with its parameters, such as `residual:width=200,depth=2`; [`DecoderSpec::plan`] lays its stages out
//! from a feature to a picture, with what they cost; [`Decoder::new`] builds it. Features are maps `[c, h, w]`, vectors `[d]`, or tokens
//! `[t, d]`; a map may be as large as the picture.
//!
//! Each family is one file's function from stages to [`Layer`](gpz_nn::blueprint::Layer)s. A strengthened attacker that puts something
//! between the stages is one more such function; docs/decoders.md says how.

mod arrange;
mod memory;
mod plain;
mod plan;
mod residual;
mod spec;

pub use memory::LeastBytes;
pub use plan::{DecoderPlan, Growth, Stage};
pub use spec::{DecoderChoice, DecoderInfo, DecoderSpec, decoders};

use gpz_nn::blueprint::{Block, Cost};
use gpz_nn::{Entry, Module, Tape, Var};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;

/// A network from the feature at a split to the picture. Made by [`DecoderPlan::build`].
///
/// ```
/// use gpz_inversion::Decoder;
/// use gpz_nn::{Tape, Var, rng_for};
/// use gpz_tensor::{DType, Tensor};
///
/// let mut rng = rng_for(1, "decoder", 0);
/// let decoder = Decoder::new("per-tap".parse()?, &[64, 8, 8], [3, 32, 32], &mut rng)?;
/// let z = Var::constant(Tensor::zeros(&[2, 64, 8, 8], DType::F32)?);
/// assert_eq!(decoder.forward(&Tape::eval(), &z)?.shape(), [2, 3, 32, 32]);
/// # Ok::<(), gpz_inversion::Error>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    spec: DecoderSpec,
    cost: Cost,
    block: Block,
}

impl Decoder {
    /// A decoder from features of a shape to pictures `[c, h, w]`, with PyTorch's default initialisation.
    ///
    /// - `feature`: of one image, `[c, h, w]`, `[d]` or `[t, d]`
    ///
    /// # Errors
    /// As [`DecoderSpec::plan`]; weights that do not fit in memory.
    pub fn new(
        spec: DecoderSpec,
        feature: &[usize],
        picture: [usize; 3],
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        spec.plan(feature, picture)?.build(rng)
    }

    /// Its family and parameters.
    #[must_use]
    pub fn spec(&self) -> DecoderSpec {
        self.spec
    }

    /// Its parameters, and its multiply-accumulates for one image.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Pictures in [0, 1] from features.
    ///
    /// - `z`: `[n]` followed by the feature's shape; result `[n, c, h, w]`
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn forward(&self, tape: &Tape, z: &Var) -> Result<Var> {
        Ok(self.block.forward(tape, z)?)
    }
}

impl Module for Decoder {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry)) {
        self.block.visit(prefix, f);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry)) {
        self.block.visit_mut(prefix, f);
    }
}
