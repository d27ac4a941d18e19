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
    /// A gradient of another shape than its parameter.
    pub fn step(&mut self, module: &mut dyn Module, step: &Step) -> Result<()> {
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
        let slot = self.slots.entry(name).or_default();
        if slot.steps == 0 {
            let zeros = Tensor::zeros(value.shape(), value.dtype())?;
            slot.moments = vec![zeros; self.rule.moments()];
        }
        slot.steps += 1;
        let (moments, steps) = (&mut slot.moments, slot.steps);
        let c = T::from_f64;
        let lr = self.learning_rate;
        match self.rule {
            Rule::Sgd { momentum, weight_decay } => {
                let (rate, decay, momentum) = (c(lr), c(weight_decay), c(momentum));
                match moments.first_mut() {
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
                adam::<T>(value, gradient, moments, betas, lr, steps, (weight_decay, 0.0))?;
            }
            Rule::AdamW { betas, weight_decay, .. } => {
                adam::<T>(value, gradient, moments, betas, lr, steps, (0.0, weight_decay))?;
            }
        }
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
        for (name, slot) in &slots {
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
        }
        (self.learning_rate, self.slots) = (learning_rate, slots);
        Ok(())
    }
}

/// One step of Adam; `decay` is the share added to the gradient and the share taken off the weights.
fn adam<T: Element>(
    value: &mut Tensor,
    gradient: &Tensor,
    moments: &mut [Tensor],
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
    let [first, second, rest @ ..] = moments else {
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
