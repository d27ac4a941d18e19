//! Residual networks as the method uses them: a stem of 3×3 that keeps the picture's size, and means over 4×4 at the end.

use gpz_nn::blueprint::{Convolution, Layer, numbered, sequence};
use gpz_tensor::Pool2d;

use crate::error::Result;
use crate::network::Plan;
use crate::registry::{Asked, ModelInfo};

pub(crate) const RESNET18: ModelInfo = ModelInfo {
    name: "resnet18",
    parameters: &[],
    description: "stem of 3×3, 2·2·2·2 basic blocks of 64 to 512 channels, means over 4×4; taps at the stem, each block and the pooled vector",
    plan: |asked| plan(asked, [2, 2, 2, 2], basic_block),
};

pub(crate) const RESNET50: ModelInfo = ModelInfo {
    name: "resnet50",
    parameters: &[],
    description: "as resnet18, with 3·4·6·3 bottleneck blocks of 256 to 2048 channels",
    plan: |asked| plan(asked, [3, 4, 6, 3], bottleneck),
};

/// A convolution without bias, and a batch norm.
pub(crate) fn normed(convolution: Convolution) -> [Layer; 2] {
    [convolution.unbiased().into(), Layer::BatchNorm]
}

fn plan(
    asked: &Asked<'_>,
    blocks: [usize; 4],
    block: fn(usize, usize, usize) -> (Layer, usize),
) -> Result<Plan> {
    asked.sides_are_multiples_of(32)?;
    let mut plan = asked.begin();
    let [conv, norm] = normed(Convolution::same(64, 3));
    plan.stage("stem", "conv1", numbered([conv, norm, Layer::Relu]));
    let (mut inputs, mut count) = (64, 0);
    for (stage, blocks) in blocks.into_iter().enumerate() {
        for i in 0..blocks {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let (layer, outputs) = block(inputs, 64 << stage, stride);
            count += 1;
            plan.stage(format!("block{count}"), format!("layer{}.{i}", stage + 1), layer);
            inputs = outputs;
        }
    }
    let pooling = sequence([("", Layer::AvgPool(Pool2d::square(4))), ("", Layer::Flatten)]);
    plan.stage("pooled", "", pooling);
    Ok(plan.ending_in(sequence([("fc", Layer::linear(asked.classes))])))
}

/// The sum of a long way and of the feature, which takes a 1×1 convolution where the shape changes; then a ReLU.
fn joined(left: Layer, [inputs, outputs]: [usize; 2], stride: usize) -> Layer {
    let straight = stride == 1 && inputs == outputs;
    let shortcut = numbered(normed(Convolution::same(outputs, 1).stride(stride)));
    let shortcut = (!straight).then_some(("shortcut", shortcut));
    sequence([("", Layer::residual(("left", left), shortcut)), ("", Layer::Relu)])
}

/// Two convolutions of 3×3; returned with its channels.
fn basic_block(inputs: usize, channels: usize, stride: usize) -> (Layer, usize) {
    let [first, first_norm] = normed(Convolution::same(channels, 3).stride(stride));
    let [second, second_norm] = normed(Convolution::same(channels, 3));
    let left = numbered([first, first_norm, Layer::Relu, second, second_norm]);
    (joined(left, [inputs, channels], stride), channels)
}

/// A 3×3 convolution between two of 1×1, with four times as many channels at the end; the stride is the middle one's.
fn bottleneck(inputs: usize, channels: usize, stride: usize) -> (Layer, usize) {
    let outputs = 4 * channels;
    let [reduce, reduce_norm] = normed(Convolution::same(channels, 1));
    let [middle, middle_norm] = normed(Convolution::same(channels, 3).stride(stride));
    let [expand, expand_norm] = normed(Convolution::same(outputs, 1));
    let left = numbered([
        reduce,
        reduce_norm,
        Layer::Relu,
        middle,
        middle_norm,
        Layer::Relu,
        expand,
        expand_norm,
    ]);
    (joined(left, [inputs, outputs], stride), outputs)
}
