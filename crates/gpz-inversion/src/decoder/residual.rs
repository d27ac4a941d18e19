//! Decoders of residual units.

use gpz_nn::blueprint::{Convolution, Layer, numbered};

use super::plan::{Asked, Growth, SPREAD, Stage, transposed};
use super::spec::{DEPTH, DecoderInfo, WIDTH};

pub(super) const INVERSE_IR: DecoderInfo = DecoderInfo {
    name: "inverse-ir",
    parameters: &[WIDTH, DEPTH],
    description: "the units of an IR network turned round, channels halved down to 64, the last unit at the picture's channels",
    whole: false,
    spreads_pixels: true,
    stages: mirrored,
    layers: |_, stages, colours| inverse_ir(stages, colours),
};

pub(super) const RESIDUAL: DecoderInfo = DecoderInfo {
    name: "residual",
    parameters: &[WIDTH, DEPTH],
    description: "residual units before activation, 32 channels at the picture's size and twice as many at each half of it, up to 512",
    whole: false,
    spreads_pixels: true,
    stages: doubled_backwards,
    layers: residual,
};

/// Fewest channels to which an inverse IR network halves them: those of an IR network's stem.
const STEM: usize = 64;

/// As an IR network has them at each size, backwards: 512 at 4×4, 256, 128, 64, 64 at 64×64; then the picture's.
fn mirrored(asked: &Asked) -> Vec<Stage> {
    let (mut stages, mut channels) = (Vec::new(), asked.channels);
    if asked.spread {
        stages.push(Stage { outputs: asked.scaled(SPREAD), growth: Growth::Spread });
        channels = SPREAD;
    }
    let least = channels.min(STEM);
    let further =
        |outputs| std::iter::repeat_n(Stage { outputs, growth: Growth::Same }, asked.depth);
    for _ in 0..asked.doublings {
        channels = (channels / 2).max(least);
        let outputs = asked.scaled(channels);
        stages.push(Stage { outputs, growth: Growth::Double });
        stages.extend(further(outputs));
    }
    if asked.doublings == 0 && !asked.spread {
        let outputs = asked.scaled((channels / 2).max(least));
        stages.push(Stage { outputs, growth: Growth::Same });
        stages.extend(further(outputs));
    }
    stages.push(Stage { outputs: asked.colours, growth: Growth::Same });
    stages
}

/// `deconv_layers.0`, …, and `final_layers.0`; a vector is first spread by `spread`.
fn inverse_ir(stages: &[Stage], colours: usize) -> Vec<(String, Layer)> {
    let (mut layers, mut unit) = (Vec::new(), 0);
    for stage in stages {
        if stage.growth == Growth::Spread {
            layers.push(("spread".to_owned(), spread(*stage)));
        } else {
            layers.push((format!("deconv_layers.{unit}"), inverse_unit(*stage)));
            unit += 1;
        }
    }
    let last = Stage { outputs: colours, growth: Growth::Same };
    layers.push(("final_layers.0".to_owned(), transposed(last, true)));
    layers.push((String::new(), Layer::Sigmoid));
    layers
}

/// Norm, transposed 3×3, PReLU, the transposed convolution of the stage, norm; beside it the stage's convolution, or one of 1×1 with a
/// norm.
fn inverse_unit(stage: Stage) -> Layer {
    let long = numbered([
        Layer::BatchNorm,
        transposed(Stage { growth: Growth::Same, ..stage }, false),
        Layer::PRelu,
        transposed(stage, false),
        Layer::BatchNorm,
    ]);
    let short = match stage.growth {
        Growth::Same => {
            let pointwise = gpz_nn::blueprint::TransposedConvolution::same(stage.outputs, 1);
            numbered([pointwise.unbiased().into(), Layer::BatchNorm])
        }
        Growth::Double | Growth::Spread => transposed(stage, false),
    };
    Layer::residual(("res_layer", long), Some(("shortcut_layer", short)))
}

/// Channels of a residual decoder at the picture's own size.
const LEAST: usize = 32;
/// The most it has.
const MOST: usize = 512;

/// The first stage leads to the decoder's own channels; they depend on the size alone, so that the decoders of narrow features are no
/// weaker than others.
fn doubled_backwards(asked: &Asked) -> Vec<Stage> {
    let at = |halvings: u32| {
        let channels = LEAST.saturating_mul(1 << halvings.min(16)).min(MOST);
        asked.scaled(channels)
    };
    let growth = if asked.spread { Growth::Spread } else { Growth::Same };
    let mut stages = vec![Stage { outputs: at(asked.doublings), growth }];
    for left in (0..asked.doublings).rev() {
        stages.push(Stage { outputs: at(left), growth: Growth::Double });
    }
    stages
}

/// `entry`, `stages.0.up`, `stages.0.units.0`, …, `head`.
fn residual(depth: usize, stages: &[Stage], colours: usize) -> Vec<(String, Layer)> {
    let mut layers = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        let name = format!("stages.{i}");
        let up = match stage.growth {
            Growth::Spread => spread(*stage),
            // Taps differ in scale by orders of magnitude.
            Growth::Same => {
                numbered([Layer::BatchNorm, Convolution::same(stage.outputs, 3).into()])
            }
            Growth::Double => doubling_unit(*stage),
        };
        layers.push((format!("{name}.up"), up));
        for unit in 0..depth {
            layers.push((format!("{name}.units.{unit}"), unit_of(stage.outputs)));
        }
    }
    let [norm, activation, convolution] = activated(Convolution::same(colours, 3));
    layers.push(("head".to_owned(), numbered([norm, activation, convolution, Layer::Sigmoid])));
    layers
}

/// A unit whose sum needs no convolution.
fn unit_of(channels: usize) -> Layer {
    let [norm, activation, convolution] = activated(Convolution::same(channels, 3).unbiased());
    let [norm2, activation2, convolution2] = activated(Convolution::same(channels, 3));
    let long = [norm, activation, convolution, norm2, activation2, convolution2];
    Layer::residual(("", numbered(long)), None)
}

fn doubling_unit(stage: Stage) -> Layer {
    let [norm, activation, convolution] = activated(Convolution::same(stage.outputs, 3));
    let long = numbered([
        Layer::BatchNorm,
        Layer::PRelu,
        transposed(stage, false),
        norm,
        activation,
        convolution,
    ]);
    Layer::residual(("long", long), Some(("short", transposed(stage, false))))
}

/// A convolution with what stands before it.
fn activated(convolution: Convolution) -> [Layer; 3] {
    [Layer::BatchNorm, Layer::PRelu, convolution.into()]
}

/// A vector laid out over 4×4.
fn spread(stage: Stage) -> Layer {
    numbered([transposed(stage, false), Layer::BatchNorm, Layer::PRelu])
}
