//! Optimisers and learning rate schedules, in PyTorch's definitions.

use std::collections::BTreeMap;

use gpz_tensor::{DType, Element, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::module::{Entry, Kind, Module};
use crate::tape::Step;

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Rule {
    /// Stochastic gradient descent; weight decay is added to the gradient.
    Sgd {
        /// Share of the last step that is kept.
        momentum: f64,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Kingma and Ba, 2015; weight decay is added to the gradient.
    Adam {
        /// Decay of the first and second moment.
        betas: [f64; 2],
        /// Divides by the largest second moment so far (Reddi et al., 2018).
        amsgrad: bool,
        /// L2 penalty.
        weight_decay: f64,
    },
    /// Loshchilov and Hutter, 2019: weight decay shrinks the weights, apart from the gradient.
    AdamW {
        /// Decay of the first and second moment.
        betas: [f64; 2],
        /// Divides by the largest second moment so far (Reddi et al., 2018).
        amsgrad: bool,
        /// Share of the weights taken off per unit of learning rate.
        weight_decay: f64,
    },
}

impl Rule {
    /// Tensors kept per parameter.
    fn moments(self) -> usize {
        match self {
            Rule::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            Rule::Adam { amsgrad, .. } | Rule::AdamW { amsgrad, .. } => 2 + usize::from(amsgrad),
        }
    }
}

/// Added to the root of the second moment.
const EPS: f64 = 1e-8;

/// A rule with its state.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    learning_rate: f64,
    steps: u64,
    /// Moments of each parameter, by name.
    slots: BTreeMap<String, Vec<Tensor>>,
}

impl Optimizer {
    /// An optimiser that has not stepped yet.
    pub fn new(rule: Rule, learning_rate: f64) -> Self {
        Optimizer { rule, learning_rate, steps: 0, slots: BTreeMap::new() }
    }

    /// Present learning rate.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Changes the learning rate from the next step on.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.learning_rate = learning_rate;
    }

    /// Changes every parameter that has a gradient, and takes over the running statistics.
    ///
    /// # Errors
    /// A gradient of another shape than its parameter.
    pub fn step(&mut self, module: &mut dyn Module, step: &Step) -> Result<()> {
        self.steps += 1;
        let mut result = Ok(());
        module.visit_mut("", &mut |name, entry| {
            let gradient = step.gradient(entry).cloned();
            if let (Some(gradient), Ok(())) = (gradient, &result) {
                result = self.step_entry(name, entry, &gradient);
            }
        });
        module.apply_updates(step);
        result
    }

    fn step_entry(&mut self, name: String, entry: &mut Entry, gradient: &Tensor) -> Result<()> {
        debug_assert_eq!(entry.kind(), Kind::Parameter);
        match entry.value().dtype() {
            DType::F32 => self.step_typed::<f32>(name, entry.value_mut(), gradient),
            DType::F64 => self.step_typed::<f64>(name, entry.value_mut(), gradient),
        }
    }

    fn step_typed<T: Element>(
        &mut self,
        name: String,
        value: &mut Tensor,
        gradient: &Tensor,
    ) -> Result<()> {
        let first = !self.slots.contains_key(&name);
        if first {
            let zeros = Tensor::zeros(value.shape(), value.dtype())?;
            self.slots.insert(name.clone(), vec![zeros; self.rule.moments()]);
        }
        let Some(slots) = self.slots.get_mut(&name) else {
            return Ok(());
        };
        let c = T::from_f64;
        let lr = self.learning_rate;
        match self.rule {
            Rule::Sgd { momentum, weight_decay } => {
                let (rate, decay, momentum) = (c(lr), c(weight_decay), c(momentum));
                match slots.first_mut() {
                    Some(velocity) => {
                        velocity.update::<T, 2>([gradient, value], |v, [g, p]| {
                            for i in 0..v.len() {
                                v[i] = momentum * v[i] + (g[i] + decay * p[i]);
                            }
                        })?;
                        let velocity = &*velocity;
                        value.update::<T, 1>([velocity], |p, [v]| {
                            for i in 0..p.len() {
                                p[i] = p[i] - rate * v[i];
                            }
                        })?;
                    }
                    None => value.update::<T, 1>([gradient], |p, [g]| {
                        for i in 0..p.len() {
                            p[i] = p[i] - rate * (g[i] + decay * p[i]);
                        }
                    })?,
                }
            }
            Rule::Adam { betas, weight_decay, .. } => {
                adam::<T>(value, gradient, slots, betas, lr, self.steps, (weight_decay, 0.0))?;
            }
            Rule::AdamW { betas, weight_decay, .. } => {
                adam::<T>(value, gradient, slots, betas, lr, self.steps, (0.0, weight_decay))?;
            }
        }
        Ok(())
    }

    /// State as named tensors, for a checkpoint: `<parameter>.<slot number>` and `steps`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let slots = self.slots.iter().flat_map(|(name, slots)| {
            slots.iter().enumerate().map(move |(i, slot)| (format!("{name}.{i}"), slot.clone()))
        });
        let counters = [
            ("steps".to_owned(), Tensor::scalar(self.steps as f64, DType::F64)),
            ("learning_rate".to_owned(), Tensor::scalar(self.learning_rate, DType::F64)),
        ];
        slots.chain(counters).collect()
    }

    /// Takes over a state that [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// [`Error::State`] if entries are missing or too many for the rule; the optimiser is unchanged then.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let number = |name: &str| match state.get(name) {
            Some(value) => Ok(value.item()?),
            None => Err(Error::State { reason: format!("{name} is missing") }),
        };
        let (steps, learning_rate) = (number("steps")?, number("learning_rate")?);
        let mut slots = BTreeMap::<String, Vec<Tensor>>::new();
        let (counters, moments) = (["steps", "learning_rate"], self.rule.moments());
        // Sorted by name, the slots of a parameter come in their order: there are at most three.
        for (name, value) in state.iter().filter(|(name, _)| !counters.contains(&name.as_str())) {
            let (parameter, slot) = name.rsplit_once('.').unwrap_or((name, ""));
            let own = slots.entry(parameter.to_owned()).or_default();
            if own.len() >= moments || slot.parse() != Ok(own.len()) {
                return Err(Error::State { reason: format!("{name} does not belong to it") });
            }
            own.push(value.clone());
        }
        if let Some((parameter, own)) = slots.iter().find(|(_, own)| own.len() < moments) {
            return Err(Error::State { reason: format!("{parameter}.{} is missing", own.len()) });
        }
        (self.steps, self.learning_rate, self.slots) = (steps as u64, learning_rate, slots);
        Ok(())
    }
}

/// One step of Adam; `decay` is the share added to the gradient and the share taken off the weights.
fn adam<T: Element>(
    value: &mut Tensor,
    gradient: &Tensor,
    slots: &mut [Tensor],
    betas: [f64; 2],
    learning_rate: f64,
    steps: u64,
    decay: (f64, f64),
) -> Result<()> {
    let c = T::from_f64;
    let [b1, b2] = betas.map(c);
    let [r1, r2] = betas.map(|b| c(1.0 - b));
    let l2 = c(decay.0);
    let corrections = betas.map(|b| 1.0 - b.powi(steps.min(i32::MAX as u64) as i32));
    let rate = c(learning_rate / corrections[0]);
    let root = c(1.0 / corrections[1].sqrt());
    let shrink = c(1.0 - learning_rate * decay.1);
    let eps = c(EPS);
    let [first, second, rest @ ..] = slots else {
        return Ok(());
    };
    first.update::<T, 2>([gradient, value], |m, [g, p]| {
        for i in 0..m.len() {
            m[i] = b1 * m[i] + r1 * (g[i] + l2 * p[i]);
        }
    })?;
    second.update::<T, 2>([gradient, value], |v, [g, p]| {
        for i in 0..v.len() {
            let g = g[i] + l2 * p[i];
            v[i] = b2 * v[i] + r2 * (g * g);
        }
    })?;
    let divisor = match rest {
        [largest, ..] => {
            largest.update::<T, 1>([second], |largest, [v]| {
                for i in 0..v.len() {
                    largest[i] = if v[i] > largest[i] { v[i] } else { largest[i] };
                }
            })?;
            &*largest
        }
        [] => &*second,
    };
    value.update::<T, 2>([first, divisor], |p, [m, v]| {
        for i in 0..p.len() {
            p[i] = p[i] * shrink - rate * m[i] / (v[i].sqrt() * root + eps);
        }
    })?;
    Ok(())
}

/// How the learning rate changes between epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// Multiplied by `factor` after more than `patience` epochs in which the watched loss did not fall by more than a ten-thousandth.
    Plateau {
        /// Multiplier, below 1.
        factor: f64,
        /// Epochs without improvement that are let pass.
        patience: usize,
    },
    /// Falls along half a cosine from the initial rate to `floor` over `epochs`.
    Cosine {
        /// Epochs until the floor.
        epochs: usize,
        /// Last learning rate.
        floor: f64,
    },
}

/// A schedule with its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduler {
    schedule: Schedule,
    initial: f64,
    rate: f64,
    epoch: usize,
    best: Option<f64>,
    stale: usize,
}

impl Scheduler {
    /// Starts at a learning rate.
    pub fn new(schedule: Schedule, learning_rate: f64) -> Self {
        Scheduler {
            schedule,
            initial: learning_rate,
            rate: learning_rate,
            epoch: 0,
            best: None,
            stale: 0,
        }
    }

    /// Learning rate of the next epoch, given the watched loss of the one just ended (on held-out data, never on test).
    pub fn after_epoch(&mut self, held_out_loss: f64) -> f64 {
        self.epoch += 1;
        match self.schedule {
            Schedule::Constant => {}
            Schedule::Plateau { factor, patience } => {
                // A first loss that is no number must not be the one to beat.
                let beaten = self.best.map_or(f64::INFINITY, |best| best * (1.0 - 1e-4));
                if held_out_loss < beaten {
                    self.best = Some(held_out_loss);
                    self.stale = 0;
                } else {
                    self.stale += 1;
                }
                if self.stale > patience {
                    self.rate *= factor;
                    self.stale = 0;
                }
            }
            Schedule::Cosine { epochs, floor } => {
                let progress = (self.epoch as f64 / epochs.max(1) as f64).min(1.0);
                let height = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                self.rate = floor + (self.initial - floor) * height;
            }
        }
        self.rate
    }
}
