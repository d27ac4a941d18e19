//! A transformer block put together from the parts, as vision transformers have it: its gradients against central differences.

mod common;

use common::{check_layer, rng, uniform};
use gpz_nn::{Dropout, Entry, LayerNorm, Linear, Result, Tape, Var, module};
use gpz_tensor::{DType, Tensor};

const WIDTH: usize = 4;
const HEADS: usize = 2;
const PATCHES: usize = 3;

/// `[b, n, d]` patches, a class token before them, a position added, then attention and a perceptron, each beside a shortcut and
/// after a norm.
struct Block {
    class: Entry,
    position: Entry,
    norms: Vec<LayerNorm>,
    projection: Linear,
    output: Linear,
    perceptron: Vec<Linear>,
    dropout: Dropout,
}

module!(Block {
    "class" => class, "position" => position, "norms" => norms, "attention.in" => projection, "attention.out" => output,
    "mlp" => perceptron,
});

impl Block {
    fn new() -> Result<Self> {
        let rng = &mut rng(1);
        let token = |shape: &[usize]| Ok(Entry::parameter(Tensor::zeros(shape, DType::F32)?));
        let class: Result<Entry> = token(&[1, 1, WIDTH]);
        let position: Result<Entry> = token(&[1, PATCHES + 1, WIDTH]);
        Ok(Block {
            class: class?,
            position: position?,
            norms: vec![LayerNorm::new(WIDTH)?, LayerNorm::new(WIDTH)?],
            projection: Linear::new([WIDTH, 3 * WIDTH], true, rng)?,
            output: Linear::new([WIDTH, WIDTH], true, rng)?,
            perceptron: vec![
                Linear::new([WIDTH, 2 * WIDTH], true, rng)?,
                Linear::new([2 * WIDTH, WIDTH], true, rng)?,
            ],
            dropout: Dropout { p: 0.0 },
        })
    }

    fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let batch = x.shape()[0];
        let class = tape.parameter(&self.class).broadcast_to(&[batch, 1, WIDTH])?;
        let x = Var::concat(&[&class, x], 1)?.add(&tape.parameter(&self.position))?;
        let y = self.attend(tape, &self.norms[0].forward(tape, &x)?)?;
        let x = x.add(&self.dropout.forward(tape, &y)?)?;
        let y = self.perceptron[0].forward(tape, &self.norms[1].forward(tape, &x)?)?.gelu()?;
        x.add(&self.perceptron[1].forward(tape, &y)?)
    }

    fn attend(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let [batch, n, d] = [x.shape()[0], x.shape()[1], WIDTH / HEADS];
        let parts = self.projection.forward(tape, x)?.reshape(&[batch, n, 3, HEADS, d])?;
        let parts = parts.permute(&[2, 0, 3, 1, 4])?;
        let part = |i| parts.narrow(0, i, 1)?.reshape(&[batch, HEADS, n, d]);
        let y = part(0)?.attention(&part(1)?, &part(2)?)?;
        self.output.forward(tape, &y.transpose(1, 2)?.reshape(&[batch, n, WIDTH])?)
    }
}

#[test]
fn a_transformer_block_passes_finite_differences() {
    let x = uniform(&mut rng(2), &[2, PATCHES, WIDTH], -1.0..1.0);
    check_layer("block", Block::new().unwrap(), &x, Block::forward);
}
