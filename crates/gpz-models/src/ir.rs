//! Improved residual networks, as face recognition uses them: norms before the convolutions, PReLU, no activation after the sum.

use gpz_nn::blueprint::{Convolution, Layer, numbered, sequence};
use gpz_tensor::Pool2d;

use crate::error::Result;
use crate::network::Plan;
use crate::registry::{Asked, ModelInfo};
use crate::resnet::normed;

/// Units at 64, 128, 256 and 512 channels.
const IR50: [usize; 4] = [3, 4, 14, 3];
const IR100: [usize; 4] = [3, 13, 30, 3];
const IR152: [usize; 4] = [3, 8, 36, 3];

/// By how much squeeze and excitation reduces the channels in between.
const REDUCTION: usize = 16;
/// Of the head; half, as in face recognition.
const DROPOUT: f64 = 0.5;
/// What the unused head of released checkpoints takes in: 512 channels of 14×14.
const UNUSED_WIDTH: usize = 512 * 14 * 14;

macro_rules! model {
    ($name:literal, $description:literal, $units:ident, $excitation:literal) => {
        ModelInfo {
            name: $name,
            parameters: &[],
            description: $description,
            plan: |asked| plan(asked, $units, $excitation),
        }
    };
}

pub(crate) const MODELS: &[ModelInfo] = &[
    model!(
        "ir50",
        "stem of 3×3, 3·4·14·3 units of 64 to 512 channels; taps at the stem (1) and units 2 to 25",
        IR50,
        false
    ),
    model!("ir100", "as ir50, 3·13·30·3 units; taps 1 to 50", IR100, false),
    model!("ir152", "as ir50, 3·8·36·3 units; taps 1 to 51", IR152, false),
    model!("ir_se50", "ir50 with squeeze and excitation in every unit", IR50, true),
    model!("ir_se100", "ir100 with squeeze and excitation in every unit", IR100, true),
    model!("ir_se152", "ir152 with squeeze and excitation in every unit", IR152, true),
];

fn plan(asked: &Asked<'_>, units: [usize; 4], excitation: bool) -> Result<Plan> {
    asked.sides_are_multiples_of(16)?;
    let mut plan = asked.begin();
    let [conv, norm] = normed(Convolution::same(64, 3));
    plan.stage("stem", "feature.input_layer", numbered([conv, norm, Layer::PRelu]));
    let (mut inputs, mut count) = (64, 0);
    for (stage, units) in units.into_iter().enumerate() {
        let outputs = 64 << stage;
        for i in 0..units {
            let stride = if i == 0 { 2 } else { 1 };
            let layer = unit([inputs, outputs], stride, excitation);
            // The stem is tap 1, so that a unit's name is its tap's number.
            plan.stage(format!("block{}", count + 2), format!("feature.body.{count}"), layer);
            (inputs, count) = (outputs, count + 1);
        }
    }
    Ok(plan.ending_in(sequence([
        ("feature.output_layer", unused_head(asked.classes)),
        ("output_layer.0", Layer::BatchNorm),
        ("output_layer.1", Layer::Dropout(DROPOUT)),
        ("output_layer.2", Layer::Flatten),
        ("output_layer.3", Layer::linear(512)),
        ("output_layer.4", Layer::BatchNorm),
        ("fc_layer", Layer::linear(asked.classes)),
    ])))
}

/// Norm, convolution, PReLU, strided convolution, norm; beside it the feature, subsampled where it has to be.
fn unit([inputs, outputs]: [usize; 2], stride: usize, excitation: bool) -> Layer {
    let mut long = vec![
        Layer::BatchNorm,
        Convolution::same(outputs, 3).unbiased().into(),
        Layer::PRelu,
        Convolution::same(outputs, 3).stride(stride).unbiased().into(),
        Layer::BatchNorm,
    ];
    if excitation {
        long.push(Layer::Excite { reduction: REDUCTION });
    }
    let short = if inputs != outputs {
        Some(numbered(normed(Convolution::same(outputs, 1).stride(stride))))
    } else {
        // A maximum over one pixel: every `stride`-th of them.
        (stride > 1).then_some(Layer::MaxPool(Pool2d {
            kernel: [1; 2],
            stride: [stride; 2],
            padding: [0; 2],
        }))
    };
    Layer::residual(("res_layer", numbered(long)), short.map(|short| ("shortcut_layer", short)))
}

/// Released checkpoints hold a head that was made and never used.
fn unused_head(classes: usize) -> Layer {
    let mut entries = vec![
        ("3.weight".to_owned(), vec![classes, UNUSED_WIDTH]),
        ("3.bias".to_owned(), vec![classes]),
    ];
    for norm in ["0", "4"] {
        for name in ["weight", "bias", "running_mean", "running_var"] {
            entries.push((format!("{norm}.{name}"), vec![512]));
        }
        entries.push((format!("{norm}.num_batches_tracked"), Vec::new()));
    }
    Layer::Unused(entries)
}
