//! The four-block convolutional network of the method: 4 × [conv3×3 → batch norm → max pool 2 → ReLU], two linear layers.

use gpz_nn::blueprint::{Convolution, Layer, sequence};
use gpz_tensor::Pool2d;

use crate::error::Result;
use crate::network::Plan;
use crate::parameters::{Allowed, Parameter};
use crate::registry::{Asked, ModelInfo};

/// Number of blocks, each of which halves the picture.
const BLOCKS: usize = 4;

pub(crate) const CNN4: ModelInfo = ModelInfo {
    name: "cnn4",
    parameters: &[Parameter {
        key: "width",
        default: 64,
        allowed: Allowed::Range(1, 512),
        what: "a number of channels",
    }],
    description: "4 × [conv3×3, batch norm, max pool, ReLU] with width, 2, 4 and 8 times width channels; taps after each block",
    plan,
};

/// `[width]`: channels of the first block; each further block has twice as many.
fn plan(asked: &Asked<'_>) -> Result<Plan> {
    asked.sides_are_multiples_of(16)?;
    let (width, classes) = (asked.values[0], asked.classes);
    let mut plan = asked.begin();
    for i in 0..BLOCKS {
        let block = sequence([
            ("0", Convolution::same(width << i, 3).into()),
            ("1", Layer::BatchNorm),
            ("2", Layer::MaxPool(Pool2d::square(2))),
            ("3", Layer::Relu),
        ]);
        let name = format!("block{}", i + 1);
        plan.stage(name.clone(), name, block);
    }
    Ok(plan.ending_in(sequence([
        ("", Layer::Flatten),
        ("fc.0", Layer::linear(5 * classes)),
        ("fc.1", Layer::Dropout(0.5)),
        ("fc.2", Layer::linear(classes)),
    ])))
}
