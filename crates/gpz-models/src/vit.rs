//! Vision transformers that keep all patch tokens to the end.

use gpz_nn::blueprint::{Layer, sequence};

use crate::error::{Error, Result};
use crate::network::Plan;
use crate::parameters::{Allowed, Parameter};
use crate::registry::{Asked, ModelInfo};

/// Of the tokens, and of both ways of every block.
const DROPOUT: f64 = 0.1;
/// How much wider the hidden layer of a block is than its tokens.
const EXPANSION: usize = 4;

pub(crate) const VIT: ModelInfo = ModelInfo {
    name: "vit",
    parameters: &[
        Parameter {
            key: "patch",
            default: 4,
            allowed: Allowed::Range(1, 64),
            what: "height and width of a patch",
        },
        Parameter {
            key: "width",
            default: 128,
            allowed: Allowed::Range(1, 2048),
            what: "extent of a token",
        },
        Parameter {
            key: "depth",
            default: 6,
            allowed: Allowed::Range(1, 64),
            what: "a number of blocks",
        },
        Parameter {
            key: "heads",
            default: 8,
            allowed: Allowed::Range(1, 64),
            what: "a number of heads that divides the width",
        },
    ],
    description: "vision transformer, pre-norm, class token, hidden layers of 4 times width; taps after each block, all tokens",
    plan,
};

/// `[patch, width, depth, heads]`.
fn plan(asked: &Asked<'_>) -> Result<Plan> {
    let &[patch, width, depth, heads] = asked.values else {
        // The registry hands over as many values as there are parameters.
        return Err(Error::UnknownModel { name: asked.model.clone() });
    };
    asked.sides_are_multiples_of(patch)?;
    if width % heads != 0 {
        return Err(asked.parameter("heads", heads, "it must divide the width"));
    }
    let mut plan = asked.begin();
    for i in 0..depth {
        let name = format!("block{}", i + 1);
        let mut layers = Vec::new();
        if i == 0 {
            layers.push(("", Layer::Tokens { patch, width }));
            layers.push(("", Layer::Dropout(DROPOUT)));
        }
        let key = format!("blocks.{i}");
        layers.push((key.as_str(), block(width, heads)));
        plan.stage(name, "", sequence(layers));
    }
    Ok(plan.ending_in(sequence([
        // A layer norm sees one token at a time: those that are not looked at need none.
        ("", Layer::FirstToken),
        ("norm", Layer::LayerNorm),
        ("head", Layer::linear(asked.classes)),
    ])))
}

/// Attention and two linear layers, each added to what it was computed from.
fn block(width: usize, heads: usize) -> Layer {
    let attention = sequence([
        ("norm1", Layer::LayerNorm),
        ("attn", Layer::Attention { heads }),
        ("", Layer::Dropout(DROPOUT)),
    ]);
    let mlp = sequence([
        ("norm2", Layer::LayerNorm),
        ("mlp.fc1", Layer::linear(EXPANSION * width)),
        ("", Layer::Gelu),
        ("", Layer::Dropout(DROPOUT)),
        ("mlp.fc2", Layer::linear(width)),
        ("", Layer::Dropout(DROPOUT)),
    ]);
    sequence([("", Layer::residual(("", attention), None)), ("", Layer::residual(("", mlp), None))])
}
