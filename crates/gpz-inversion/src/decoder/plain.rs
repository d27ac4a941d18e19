//! Decoders of transposed convolutions alone, each but the last followed by a batch norm and an activation.

use gpz_nn::blueprint::Layer;

use super::plan::{Asked, Growth, SPREAD, Stage, transposed};
use super::spec::{DecoderInfo, WIDTH};

pub(super) const PER_TAP: DecoderInfo = DecoderInfo {
    name: "per-tap",
    parameters: &[WIDTH],
    description: "transposed convolutions 4×4 that halve the channels, batch norms, tanh and PReLU; 3×3 at the end",
    whole: false,
    spreads_pixels: false,
    stages: halving,
    layers: |_, stages, _| per_tap(stages, "deconv.", 0),
};

pub(super) const AUGMENTED: DecoderInfo = DecoderInfo {
    name: "augmented",
    description: "per-tap under the names of the method's decoder of 4×4 features",
    layers: |_, stages, _| per_tap(stages, "deconv_block", 1),
    ..PER_TAP
};

pub(super) const CNN: DecoderInfo = DecoderInfo {
    name: "cnn",
    parameters: &[WIDTH],
    description: "transposed convolutions 4×4 that halve the channels, batch norms and tanh; the last doubles to the picture",
    whole: false,
    spreads_pixels: false,
    stages: doubling_at_last,
    layers: |_, stages, _| all_tanh(stages),
};

pub(super) const VIT: DecoderInfo = DecoderInfo {
    name: "vit",
    description: "the whole feature as one vector, spread to 512 channels of 4×4; from there as cnn",
    whole: true,
    ..CNN
};

/// A vector is spread; then every stage doubles the map and halves the channels. Of more than three the last keeps them. Where nothing
/// is to be doubled, one stage of 3×3 stands before the last.
fn halving(asked: &Asked) -> Vec<Stage> {
    let (mut stages, channels) = spread(asked);
    let doublings = asked.doublings;
    for i in 1..=doublings {
        let halvings = if doublings > 3 { i.min(doublings - 1) } else { i };
        stages.push(hidden(asked, channels, halvings, Growth::Double));
    }
    if stages.is_empty() {
        stages.push(hidden(asked, channels, 1, Growth::Same));
    }
    stages.push(Stage { outputs: asked.colours, growth: Growth::Same });
    stages
}

/// As [`halving`], but the last stage doubles as well.
fn doubling_at_last(asked: &Asked) -> Vec<Stage> {
    let (mut stages, channels) = spread(asked);
    for i in 1..asked.doublings {
        stages.push(hidden(asked, channels, i, Growth::Double));
    }
    let growth = if asked.doublings > 0 { Growth::Double } else { Growth::Same };
    if stages.is_empty() && growth == Growth::Same {
        stages.push(hidden(asked, channels, 1, Growth::Same));
    }
    stages.push(Stage { outputs: asked.colours, growth });
    stages
}

/// The stage that spreads a vector, and the channels from which they are halved.
fn spread(asked: &Asked) -> (Vec<Stage>, usize) {
    if !asked.spread {
        return (Vec::new(), asked.channels);
    }
    (vec![Stage { outputs: asked.scaled(SPREAD), growth: Growth::Spread }], SPREAD)
}

fn hidden(asked: &Asked, channels: usize, halvings: u32, growth: Growth) -> Stage {
    let halved = channels.checked_shr(halvings).unwrap_or(0).max(1);
    Stage { outputs: asked.scaled(halved), growth }
}

/// `deconv.0.0`, `deconv.0.1`, … or `deconv_block1.0`, …: tanh after the first norm, a PReLU of one slope after the others.
fn per_tap(stages: &[Stage], prefix: &str, first: usize) -> Vec<(String, Layer)> {
    let mut layers = Vec::new();
    let last = stages.len().saturating_sub(1);
    for (i, stage) in stages.iter().enumerate() {
        let mut add = |part: usize, layer| {
            layers.push((format!("{prefix}{}.{part}", i + first), layer));
        };
        add(0, transposed(*stage, i < last));
        if i == last {
            add(1, Layer::Sigmoid);
        } else {
            add(1, Layer::BatchNorm);
            add(2, if i == 0 { Layer::Tanh } else { Layer::SharedPRelu });
        }
    }
    layers
}

/// `decoder.0`, `decoder.1`, …: PyTorch counts the entries of a sequence, activations included.
fn all_tanh(stages: &[Stage]) -> Vec<(String, Layer)> {
    let mut layers = Vec::new();
    for (i, stage) in stages.iter().enumerate() {
        layers.push(transposed(*stage, true));
        if i + 1 < stages.len() {
            layers.extend([Layer::BatchNorm, Layer::Tanh]);
        }
    }
    layers.push(Layer::Sigmoid);
    layers.into_iter().enumerate().map(|(i, layer)| (format!("decoder.{i}"), layer)).collect()
}
