//! A decoder on paper: its stages from a feature to a picture, and what they cost.

use gpz_nn::blueprint::{Cost, Layer, TransposedConvolution, sequence};
use rand_chacha::ChaCha8Rng;

use super::Decoder;
use super::arrange::{Arranged, as_map, as_vector};
use super::spec::DecoderSpec;
use crate::error::{Error, Result};

/// What a stage does to height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Keeps them.
    Same,
    /// Doubles them: a transposed convolution of 4×4, stride 2, padding 1.
    Double,
    /// Lays a vector out over 4×4: a transposed convolution of 4×4, stride 1, no padding.
    Spread,
}

/// One stage of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Channels of its result.
    pub outputs: usize,
    /// What it does to height and width.
    pub growth: Growth,
}

/// A decoder that need not have been built.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderPlan {
    spec: DecoderSpec,
    feature: Vec<usize>,
    picture: [usize; 3],
    stages: Vec<Stage>,
    layer: Layer,
    cost: Cost,
}

/// What a family lays its stages out from.
pub(super) struct Asked {
    /// Channels of the feature's map.
    pub(super) channels: usize,
    /// Whether the map is a vector that must be spread first.
    pub(super) spread: bool,
    /// How often the map is doubled, after it was spread.
    pub(super) doublings: u32,
    /// Channels of the picture.
    pub(super) colours: usize,
    /// Per cent.
    pub(super) width: usize,
    /// Further units of each stage.
    pub(super) depth: usize,
}

impl Asked {
    /// A number of channels at the width that is asked for.
    pub(super) fn scaled(&self, channels: usize) -> usize {
        (channels.saturating_mul(self.width) / 100).max(1)
    }
}

/// Channels to which a vector is spread.
pub(super) const SPREAD: usize = 512;

impl DecoderPlan {
    pub(super) fn new(spec: DecoderSpec, feature: &[usize], picture: [usize; 3]) -> Result<Self> {
        let impossible = |rule| Error::Decoder { feature: feature.to_vec(), picture, rule };
        if feature.contains(&0) || picture.contains(&0) {
            return Err(impossible("no extent may be 0"));
        }
        let arranged = arranged(spec, feature, picture).map_err(impossible)?;
        let (doublings, spread) = growths(&arranged, picture, spec).map_err(impossible)?;
        let stages = spec.stages(&Asked {
            channels: arranged.map[0],
            spread,
            doublings,
            colours: picture[0],
            width: spec.width(),
            depth: spec.depth(),
        });
        Self::from_stages(spec, feature, picture, stages)
    }

    /// The family's network with other stages than those it has by itself, the last of which must lead to the picture: for checkpoints
    /// whose channels follow another rule.
    ///
    /// # Errors
    /// [`Error::Decoder`] if the stages do not lead from the feature to the picture.
    pub fn from_stages(
        spec: DecoderSpec,
        feature: &[usize],
        picture: [usize; 3],
        stages: Vec<Stage>,
    ) -> Result<Self> {
        let impossible = |rule| Error::Decoder { feature: feature.to_vec(), picture, rule };
        if stages.is_empty() || stages.iter().any(|stage| stage.outputs == 0) {
            return Err(impossible("stages with one channel at least are needed"));
        }
        let Arranged { layers, .. } = arranged(spec, feature, picture).map_err(impossible)?;
        let mut named: Vec<(String, Layer)> =
            layers.into_iter().map(|layer| (String::new(), layer)).collect();
        named.extend(spec.layers(&stages, picture[0]));
        let layer = sequence(named);
        let described = layer.describe(feature)?;
        if described.output != picture {
            return Err(impossible("the stages do not lead to the picture"));
        }
        let (feature, cost) = (feature.to_vec(), described.cost);
        Ok(DecoderPlan { spec, feature, picture, stages, layer, cost })
    }

    /// Its family and parameters.
    #[must_use]
    pub fn spec(&self) -> DecoderSpec {
        self.spec
    }

    /// Shape of the pictures, `[c, h, w]`.
    #[must_use]
    pub fn picture(&self) -> [usize; 3] {
        self.picture
    }

    /// Its stages, from the feature on.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Its parameters, and its multiply-accumulates for one image.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Builds the network, initialised from `rng`.
    ///
    /// # Errors
    /// Weights that do not fit in memory.
    pub fn build(&self, rng: &mut ChaCha8Rng) -> Result<Decoder> {
        let block = self.layer.build(&self.feature, rng)?;
        Ok(Decoder { spec: self.spec, cost: self.cost, block })
    }
}

fn arranged(
    spec: DecoderSpec,
    feature: &[usize],
    picture: [usize; 3],
) -> Result<Arranged, &'static str> {
    if spec.sees_a_vector() { as_vector(feature, picture) } else { as_map(feature, picture) }
}

/// How often the map is doubled, and whether it is spread before.
fn growths(
    arranged: &Arranged,
    [_, height, width]: [usize; 3],
    spec: DecoderSpec,
) -> Result<(u32, bool), &'static str> {
    let [_, rows, columns] = arranged.map;
    let small = rows == 1 && columns == 1;
    if arranged.vector || (small && spec.spreads_pixels()) {
        let factor = height / 4;
        let fits = height == width && height == 4 * factor && factor.is_power_of_two();
        return if fits {
            Ok((factor.ilog2(), true))
        } else {
            Err("from a vector, the picture must be a square of 4, 8, 16, … pixels")
        };
    }
    let factor = height / rows;
    let fits = factor.is_power_of_two()
        && factor.checked_mul(rows) == Some(height)
        && factor.checked_mul(columns) == Some(width);
    if fits {
        Ok((factor.ilog2(), false))
    } else {
        Err(
            "the picture must be the feature's size times 1, 2, 4, 8, …, the same in both directions",
        )
    }
}

/// The transposed convolution of a stage; 3×3 where height and width stay.
pub(super) fn transposed(stage: Stage, bias: bool) -> Layer {
    let Stage { outputs, growth } = stage;
    let convolution = match growth {
        Growth::Same => TransposedConvolution::same(outputs, 3),
        Growth::Double => TransposedConvolution::doubling(outputs),
        Growth::Spread => {
            TransposedConvolution { outputs, kernel: 4, stride: 1, padding: 0, bias: true }
        }
    };
    TransposedConvolution { bias, ..convolution }.into()
}
