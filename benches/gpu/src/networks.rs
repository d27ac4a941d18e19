//! Steps of whole networks: evaluation, and training with Adam and the watch over losses and gradients.

use anyhow::Result;
use gpz_inversion::{Keep, Learner, TrainingPlan};
use gpz_models::{ModelSpec, Target};
use gpz_nn::{Labels, Module, Rule, Schedule, Tape, Var, loss, rng_for};
use gpz_tensor::{DType, Device, Tensor};

use crate::measure::{Bench, Figure, Work, uniform};

const CLASSES: usize = 10;

/// Adds the figures of a model; one that fails, as where cuDNN is missing, says why.
pub(crate) fn measure(bench: &Bench, model: &str, all: &mut Vec<Figure>) {
    let (_, side, batch) = bench.sizes.networks;
    let shape = [batch, 3, side, side];
    let mut figure = |kind: &str, step: &dyn Fn(&mut Network) -> Result<()>| {
        let mut network = None;
        all.push(bench.figure(
            &format!("{model} {kind}"),
            &shape,
            Work::Images(batch as f64),
            || {
                let network = match &mut network {
                    Some(network) => network,
                    none => none.insert(Network::new(bench, model)?),
                };
                step(network)
            },
        ));
    };
    figure("evaluation", &Network::evaluate);
    figure("training", &Network::train);
}

struct Network {
    learner: Learner<Box<dyn Target>>,
    x: Var,
    goal: Tensor,
    steps: u64,
}

impl Network {
    fn new(bench: &Bench, model: &str) -> Result<Self> {
        let (_, side, batch) = bench.sizes.networks;
        let spec: ModelSpec = model.parse()?;
        let mut target = spec.build([3, side, side], CLASSES, &mut rng_for(1, "target", 0))?;
        let device = Device::Cuda(bench.device.clone());
        target.to_device(&device)?;
        let plan = TrainingPlan {
            epochs: 1,
            batch,
            learning_rate: 1e-4,
            stop_after: None,
            keep: Keep::LowestLoss,
            optimizer: Rule::Adam { betas: [0.5, 0.999], amsgrad: true, weight_decay: 5e-4 },
            schedule: Schedule::Constant,
        };
        let values = uniform(batch * 3 * side * side, 0.0, 1.0, 11);
        let x = bench.tensor(&values, &[batch, 3, side, side])?.channels_last()?;
        let labels: Vec<usize> = (0..batch).map(|i| i % CLASSES).collect();
        let goal =
            Labels::OneHot.distributions(&labels, CLASSES, DType::F32)?.to_device(&device)?;
        let learner = Learner::new(model, target, &plan);
        Ok(Network { learner, x: Var::constant(x), goal, steps: 0 })
    }

    fn evaluate(&mut self) -> Result<()> {
        self.learner.module().forward(&Tape::eval(), &self.x)?;
        Ok(())
    }

    fn train(&mut self) -> Result<()> {
        self.steps += 1;
        let tape = Tape::train(self.steps);
        let log_probs = self.learner.module().forward(&tape, &self.x)?;
        let loss = loss::cross_entropy(&log_probs, &self.goal)?;
        Ok(self.learner.step(&tape, &loss, self.goal.shape()[0])?)
    }
}
