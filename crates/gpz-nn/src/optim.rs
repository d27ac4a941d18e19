//! Optimisers and learning rate schedules, in PyTorch's definitions.

use std::collections::BTreeMap;

use gpz_tensor::{AdamStep, DType, Learnt, OptimiserStep, SgdStep, Tensor, Watch};
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
    /// Tensors kept per parameter, each of its shape.
    #[must_use]
    pub fn moments(self) -> usize {
        match self {
            Rule::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            Rule::Adam { amsgrad, .. } | Rule::AdamW { amsgrad, .. } => 2 + usize::from(amsgrad),
        }
    }

    /// The step of a parameter that takes its `steps`-th.
    fn at(self, steps: u64, learning_rate: f64) -> OptimiserStep {
        match self {
            Rule::Sgd { momentum, weight_decay } => {
                OptimiserStep::Sgd(SgdStep { momentum, decay: weight_decay, rate: learning_rate })
            }
            Rule::Adam { betas, weight_decay, .. } => {
                OptimiserStep::Adam(adam(betas, steps, learning_rate, (weight_decay, 0.0)))
            }
            Rule::AdamW { betas, weight_decay, .. } => {
                OptimiserStep::Adam(adam(betas, steps, learning_rate, (0.0, weight_decay)))
            }
        }
    }
}

/// Added to the root of the second moment.
const EPS: f64 = 1e-8;
/// A step of Adam; `decay` is the share added to the gradient and the share taken off the weights.
fn adam(betas: [f64; 2], steps: u64, learning_rate: f64, decay: (f64, f64)) -> AdamStep {
    let corrections = betas.map(|beta| 1.0 - beta.powi(steps.min(i32::MAX as u64) as i32));
    AdamStep {
        betas,
        l2: decay.0,
        shrink: 1.0 - learning_rate * decay.1,
        rate: learning_rate / corrections[0],
        root: 1.0 / corrections[1].sqrt(),
        eps: EPS,
    }
}

/// Names in a saved state.
const STEPS: &str = "steps";
const LEARNING_RATE: &str = "learning_rate";

/// A rule with its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    rule: Rule,
    learning_rate: f64,
    /// By the parameter's name.
    slots: BTreeMap<String, Slot>,
}

/// What is kept of one parameter.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// Steps it took: one that joins late begins at 1, or its first steps would be taken for well averaged.
    steps: u64,
    moments: Vec<Tensor>,
}

impl Optimizer {
    /// An optimiser that has not stepped yet.
    pub fn new(rule: Rule, learning_rate: f64) -> Self {
        Optimizer { rule, learning_rate, slots: BTreeMap::new() }
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
    /// A gradient of another shape or device than its parameter.
    pub fn step(&mut self, module: &mut dyn Module, step: &Step) -> Result<()> {
        self.step_under(module, step, None)
    }

    /// [`Optimizer::step`], which leaves all parameters and moments as they are from the first step on that `watch` found not to be
    /// finite. Running statistics and counts of steps go on: who finds a bad step goes back to a saved state.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step_under(
        &mut self,
        module: &mut dyn Module,
        step: &Step,
        watch: Option<&Watch>,
    ) -> Result<()> {
        let mut parameters = BTreeMap::new();
        module.visit_mut("", &mut |name, entry| {
            if let Some(gradient) = step.gradient(entry) {
                debug_assert_eq!(entry.kind(), Kind::Parameter);
                self.slots.entry(name.clone()).or_default();
                parameters.insert(name, (entry.value_mut(), gradient));
            }
        });
        for (name, (value, _)) in &parameters {
            // Slots and parameters have the same names.
            let Some(slot) = self.slots.get_mut(name) else { continue };
            if slot.moments.len() < self.rule.moments() {
                let zeros = (0..self.rule.moments()).map(|_| value.full_like(0.0));
                slot.moments = zeros.collect::<gpz_tensor::Result<_>>()?;
            }
            for moment in &mut slot.moments {
                // The network may have been moved since the last step.
                *moment = moment.to_device(&value.device())?;
            }
        }
        let names: Vec<String> = parameters.keys().cloned().collect();
        // Parameters that took as many steps take this one together.
        let mut together: BTreeMap<u64, Vec<Learnt<'_>>> = BTreeMap::new();
        for (name, slot) in &mut self.slots {
            if let Some((value, gradient)) = parameters.remove(name) {
                let moments = &mut slot.moments;
                together.entry(slot.steps + 1).or_default().push(Learnt {
                    value,
                    gradient,
                    moments,
                });
            }
        }
        for (steps, mut learnt) in together {
            self.rule.at(steps, self.learning_rate).take(&mut learnt, watch)?;
        }
        for name in &names {
            if let Some(slot) = self.slots.get_mut(name) {
                slot.steps += 1;
            }
        }
        module.apply_updates(step);
        Ok(())
    }

    /// State as named tensors, for a checkpoint: `<parameter>.<number of the moment>`, `<parameter>.steps` and `learning_rate`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let slots = self.slots.iter().flat_map(|(name, slot)| {
            let moments = slot.moments.iter().enumerate();
            let steps = Tensor::scalar(slot.steps as f64, DType::F64);
            moments
                .map(move |(i, moment)| (format!("{name}.{i}"), moment.clone()))
                .chain([(format!("{name}.{STEPS}"), steps)])
        });
        let rate = Tensor::scalar(self.learning_rate, DType::F64);
        slots.chain([(LEARNING_RATE.to_owned(), rate)]).collect()
    }

    /// Takes over a state that [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// [`Error::State`] if entries are missing, too many for the rule, or not `module`'s; the optimiser is unchanged then.
    pub fn load_state(
        &mut self,
        module: &dyn Module,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let wrong = |reason: String| Err(Error::State { reason });
        let Some(learning_rate) = state.get(LEARNING_RATE) else {
            return wrong(format!("{LEARNING_RATE} is missing"));
        };
        let learning_rate = learning_rate.item()?;
        let mut slots = BTreeMap::<String, Slot>::new();
        // Sorted by name, the moments of a parameter come in their order, for there are at most three, and its steps after them.
        for (name, value) in state.iter().filter(|(name, _)| *name != LEARNING_RATE) {
            let (parameter, entry) = name.rsplit_once('.').unwrap_or((name, ""));
            let slot = slots.entry(parameter.to_owned()).or_default();
            let number = slot.moments.len();
            if entry == STEPS {
                let steps = value.item()?;
                if steps < 1.0 || steps.fract() != 0.0 {
                    return wrong(format!("{name} is {steps}, not a count"));
                }
                slot.steps = steps as u64;
            } else if number < self.rule.moments() && entry.parse() == Ok(number) {
                slot.moments.push(value.clone());
            } else {
                return wrong(format!("{name} does not belong to it"));
            }
        }
        let entries: BTreeMap<String, &Entry> = module.entries().into_iter().collect();
        for (name, slot) in &mut slots {
            if slot.moments.len() < self.rule.moments() {
                return wrong(format!("{name}.{} is missing", slot.moments.len()));
            }
            if slot.steps == 0 {
                return wrong(format!("{name}.{STEPS} is missing"));
            }
            let Some(entry) = entries.get(name).filter(|e| e.kind() == Kind::Parameter) else {
                return wrong(format!("the network has no parameter {name}"));
            };
            let value = entry.value();
            for (i, moment) in slot.moments.iter().enumerate() {
                if (moment.shape(), moment.dtype()) != (value.shape(), value.dtype()) {
                    return wrong(format!(
                        "{name}.{i} is {:?} in {}, the parameter {:?} in {}",
                        moment.shape(),
                        moment.dtype(),
                        value.shape(),
                        value.dtype()
                    ));
                }
            }
            for moment in &mut slot.moments {
                *moment = moment.to_device(&value.device())?;
            }
        }
        (self.learning_rate, self.slots) = (learning_rate, slots);
        Ok(())
    }
}

/// How the learning rate changes between epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum Schedule {
    /// It does not.
    #[serde(deserialize_with = "no_fields")]
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

/// Refuses fields, which serde lets pass beside the tag of a variant that has none.
fn no_fields<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    Nothing::deserialize(deserializer).map(|Nothing {}| ())
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
