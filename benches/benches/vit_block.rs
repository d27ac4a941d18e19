//! A block of a vision transformer, and each of its parts: milliseconds forward and with the gradients, beside the machine's multiply-adds.
//!
//! `cargo bench -p gpz-benches --bench vit_block`. 32 pictures of 257 tokens of 128, 8 heads of 16, a perceptron of 512: the block of which
//! the network `vit` of the bench `networks` has six. *Composed* attention is the same formula by products and a softmax, which store the
//! scores; what it takes beside the other is the figure that does not drift with a shared machine.
#![allow(clippy::print_stdout)] // the table is the result

use std::hint::black_box;

use gpz_benches::clock::{Took, time};
use gpz_benches::fma::run_chains;
use gpz_nn::{Entry, Init, LayerNorm, Linear, Result, Tape, Var, rng_for};
use gpz_tensor::{DType, Tensor};

const BATCH: usize = 32;
const TOKENS: usize = 257;
const WIDTH: usize = 128;
const HEADS: usize = 8;
const HIDDEN: usize = 4 * WIDTH;
/// Repetitions; the table shows medians.
const REPETITIONS: usize = 9;

struct Block {
    norms: [LayerNorm; 2],
    projection: Linear,
    output: Linear,
    perceptron: [Linear; 2],
}

impl Block {
    fn new() -> Result<Self> {
        let rng = &mut rng_for(1, "block", 0);
        Ok(Block {
            norms: [LayerNorm::new(WIDTH)?, LayerNorm::new(WIDTH)?],
            projection: Linear::new([WIDTH, 3 * WIDTH], true, rng)?,
            output: Linear::new([WIDTH, WIDTH], true, rng)?,
            perceptron: [
                Linear::new([WIDTH, HIDDEN], true, rng)?,
                Linear::new([HIDDEN, WIDTH], true, rng)?,
            ],
        })
    }

    fn forward(&self, tape: &Tape, x: &Var) -> Result<Var> {
        let packed = self.projection.forward(tape, &self.norms[0].forward(tape, x)?)?;
        let x = x.add(&self.output.forward(tape, &packed.self_attention(HEADS)?)?)?;
        let y = self.perceptron[0].forward(tape, &self.norms[1].forward(tape, &x)?)?.gelu()?;
        x.add(&self.perceptron[1].forward(tape, &y)?)
    }
}

/// Attention that stores its scores.
fn composed(packed: &Var) -> Result<Var> {
    let width = WIDTH / HEADS;
    let heads = packed.reshape(&[BATCH, TOKENS, 3, HEADS, width])?.permute(&[2, 0, 3, 1, 4])?;
    let part = |i| heads.narrow(0, i, 1)?.reshape(&[BATCH, HEADS, TOKENS, width]);
    let scores = part(0)?.matmul(&part(1)?.transpose(2, 3)?)?;
    let weights = scores.affine(1.0 / (width as f64).sqrt(), 0.0)?.softmax()?;
    let mixed = weights.matmul(&part(2)?)?;
    mixed.permute(&[0, 2, 1, 3])?.reshape(&[BATCH, TOKENS, WIDTH])
}

fn median(took: &[Took], of: impl Fn(&Took) -> f64) -> f64 {
    let mut values: Vec<f64> = took.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn repeated(mut f: impl FnMut() -> Result<()>) -> Result<Vec<Took>> {
    let mut took = Vec::new();
    for i in 0..=REPETITIONS {
        let mut outcome = Ok(());
        let one = time(|| outcome = f());
        outcome?;
        if i > 0 {
            took.push(one);
        }
    }
    Ok(took)
}

/// One row of the table: `macs` multiply-adds forward, twice as many more with the gradients.
fn row(name: &str, macs: f64, width: usize, f: impl Fn(&Tape, &Var) -> Result<Var>) -> Result<()> {
    let rng = &mut rng_for(2, "input", 0);
    let x = Init::Uniform(1.0).fill(&[BATCH, TOKENS, width], DType::F32, rng)?;
    let input = Entry::parameter(x);
    let mut flops = 0.0;
    let chains = time(|| flops = run_chains());
    let limit = |macs: f64, took: &[Took]| {
        let rate = 2.0 * macs / median(took, |took| took.processor);
        if macs > 0.0 {
            format!("{:.2}", rate / (flops / chains.processor))
        } else {
            "-".to_owned()
        }
    };
    let forward = repeated(|| {
        let tape = Tape::eval();
        black_box(f(&tape, &tape.parameter(&input))?);
        Ok(())
    })?;
    let both = repeated(|| {
        let tape = Tape::train(1);
        let y = f(&tape, &tape.parameter(&input))?;
        black_box(tape.backward(&y.sum(&[0, 1, 2])?)?);
        Ok(())
    })?;
    let milliseconds = |took: &[Took]| 1e3 * median(took, |took| took.wall);
    println!(
        "{name:<24} {:8.1} {:>8} {:14.1} {:>8}",
        milliseconds(&forward),
        limit(macs, &forward),
        milliseconds(&both),
        limit(3.0 * macs, &both),
    );
    Ok(())
}

fn main() -> Result<()> {
    println!("{} threads; milliseconds", rayon::current_num_threads());
    let [limit, gradients] = ["of limit", "with gradients"];
    println!("{:<24} {:>8} {limit:>8} {gradients:>14} {limit:>8}", "", "forward");
    let rows = (BATCH * TOKENS) as f64;
    let linear = |inputs: usize, outputs: usize| rows * (inputs * outputs) as f64;
    let attention = 2.0 * rows * (TOKENS * WIDTH) as f64;
    let block = Block::new()?;
    let all = linear(WIDTH, 4 * WIDTH) + 2.0 * linear(WIDTH, HIDDEN) + attention;
    row("block", all, WIDTH, |tape, x| block.forward(tape, x))?;
    row("linear 128 to 512", linear(WIDTH, HIDDEN), WIDTH, |tape, x| {
        block.perceptron[0].forward(tape, x)
    })?;
    row("linear 512 to 128", linear(HIDDEN, WIDTH), HIDDEN, |tape, x| {
        block.perceptron[1].forward(tape, x)
    })?;
    row("attention", attention, 3 * WIDTH, |_, x| x.self_attention(HEADS))?;
    row("attention, composed", attention, 3 * WIDTH, |_, x| composed(x))?;
    row("layer norm", 0.0, WIDTH, |tape, x| block.norms[0].forward(tape, x))?;
    row("gelu of 512", 0.0, HIDDEN, |_, x| x.gelu())?;
    let residual = Var::constant(Tensor::zeros(&[BATCH, TOKENS, WIDTH], DType::F32)?);
    row("sum", 0.0, WIDTH, |_, x| x.add(&residual))
}
