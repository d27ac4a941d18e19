//! Training steps of the decoder: forward, backward, Adam, and the watch over losses and gradients.

use anyhow::Result;
use gpz_inversion::{Decoder, Keep, Learner, TrainingPlan};
use gpz_nn::{Module, Rule, Schedule, Tape, Var, loss};
use gpz_tensor::Device;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::measure::{Bench, Figure, Work, uniform};

/// Adds its figure; one that fails, as where cuDNN is missing, says why.
pub(crate) fn measure(bench: &Bench, all: &mut Vec<Figure>) {
    let (feature, picture, batch) = bench.sizes.decoder;
    let images = (bench.sizes.steps * batch) as f64;
    let shape: Vec<usize> = [batch].into_iter().chain(feature).chain(picture).collect();
    let mut training = None;
    all.push(bench.figure("decoder training", &shape, Work::Images(images), || {
        let training = match &mut training {
            Some(training) => training,
            none => none.insert(Training::new(bench, feature, picture, batch)?),
        };
        (0..bench.sizes.steps).try_for_each(|_| training.step())
    }));
}

struct Training {
    learner: Learner<Decoder>,
    z: Var,
    x: gpz_tensor::Tensor,
    steps: u64,
}

impl Training {
    fn new(bench: &Bench, feature: [usize; 3], picture: [usize; 3], batch: usize) -> Result<Self> {
        let mut decoder =
            Decoder::new("cnn".parse()?, &feature, picture, &mut ChaCha8Rng::seed_from_u64(1))?;
        decoder.to_device(&Device::Cuda(bench.device.clone()))?;
        let plan = TrainingPlan {
            epochs: 1,
            batch,
            learning_rate: 1e-3,
            stop_after: None,
            keep: Keep::LowestLoss,
            optimizer: Rule::Adam { betas: [0.9, 0.999], amsgrad: false, weight_decay: 0.0 },
            schedule: Schedule::Constant,
        };
        let drawn = |[c, h, w]: [usize; 3], seed| {
            let values = uniform(batch * c * h * w, 0.0, 1.0, seed);
            bench.tensor(&values, &[batch, c, h, w])
        };
        let (z, x) = (drawn(feature, 9)?.channels_last()?, drawn(picture, 10)?.channels_last()?);
        let learner = Learner::new("decoder", decoder, &plan);
        Ok(Training { learner, z: Var::constant(z), x, steps: 0 })
    }

    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        let tape = Tape::train(self.steps);
        let made = self.learner.module().forward(&tape, &self.z)?;
        let loss = loss::mse(&made, &self.x)?;
        Ok(self.learner.step(&tape, &loss, self.x.shape()[0])?)
    }
}
