//! VGG networks with batch normalisation, a tap after every layer of their features.

use gpz_nn::blueprint::{Convolution, Layer, sequence};
use gpz_tensor::Pool2d;

use crate::error::Result;
use crate::network::Plan;
use crate::parameters::{Allowed, Parameter};
use crate::registry::{Asked, ModelInfo};

/// Channels of the five groups.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];
/// Convolutions of each group: configurations A, B, D and E.
pub(crate) const A: [usize; 5] = [1, 1, 2, 2, 2];
pub(crate) const B: [usize; 5] = [2, 2, 2, 2, 2];
pub(crate) const D: [usize; 5] = [2, 2, 3, 3, 3];
pub(crate) const E: [usize; 5] = [2, 2, 4, 4, 4];

const HEAD: &[Parameter] = &[Parameter {
    key: "head",
    default: 2,
    allowed: Allowed::OneOf(&[2, 7]),
    what: "the head's input is 512·2·2 or 512·7·7",
}];

pub(crate) const VGG16_BN: ModelInfo = ModelInfo {
    name: "vgg16_bn",
    parameters: HEAD,
    description: "configuration D with batch norm, head 512·2·2 (or 512·7·7, head=7) → 4096 → 4096; taps after every layer of the features",
    plan: |asked| plan(asked, D),
};

pub(crate) const VGG19_BN: ModelInfo = ModelInfo {
    name: "vgg19_bn",
    parameters: HEAD,
    description: "configuration E with batch norm, head 512·2·2 (or 512·7·7, head=7) → 4096 → 4096; taps after every layer of the features",
    plan: |asked| plan(asked, E),
};

/// `[head]`: height and width in which the last feature goes into the head.
fn plan(asked: &Asked<'_>, groups: [usize; 5]) -> Result<Plan> {
    asked.sides_are_multiples_of(32)?;
    let mut plan = asked.begin();
    features(&mut plan, groups, true);
    let head = asked.values[0];
    // The method trains with less dropout than the networks of ImageNet.
    Ok(plan.ending_in(classifier(head, asked.classes, [0.3, 0.2])))
}

/// Appends convolutions, norms, activations and poolings, each with a tap: `conv1_1`, `norm1_1`, `relu1_1`, …, `pool5`.
pub(crate) fn features(plan: &mut Plan, groups: [usize; 5], norms: bool) {
    let mut position = 0;
    let mut stage = |name: String, layer: Layer| {
        plan.stage(name, format!("features.{position}"), layer);
        position += 1;
    };
    for (group, (convolutions, channels)) in groups.into_iter().zip(CHANNELS).enumerate() {
        let group = group + 1;
        for i in 1..=convolutions {
            stage(format!("conv{group}_{i}"), Convolution::same(channels, 3).into());
            if norms {
                stage(format!("norm{group}_{i}"), Layer::BatchNorm);
            }
            stage(format!("relu{group}_{i}"), Layer::Relu);
        }
        stage(format!("pool{group}"), Layer::MaxPool(Pool2d::square(2)));
    }
}

/// Three linear layers on features of `side`×`side`.
pub(crate) fn classifier(side: usize, classes: usize, dropout: [f64; 2]) -> Layer {
    sequence([
        ("", Layer::AdaptiveAvgPool([side; 2])),
        ("", Layer::Flatten),
        ("classifier.0", Layer::linear(4096)),
        ("classifier.1", Layer::Relu),
        ("classifier.2", Layer::Dropout(dropout[0])),
        ("classifier.3", Layer::linear(4096)),
        ("classifier.4", Layer::Relu),
        ("classifier.5", Layer::Dropout(dropout[1])),
        ("classifier.6", Layer::linear(classes)),
    ])
}
