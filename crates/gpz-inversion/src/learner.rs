//! A network that is being trained, with everything needed to go on after an interruption.

use std::collections::BTreeMap;

use gpz_nn::{Entry, Module, Optimizer, Rule, Schedule, Scheduler, Tape, Var, checkpoint};
use gpz_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a network is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingPlan {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images of a step.
    pub batch: usize,
    /// Initial learning rate.
    pub learning_rate: f64,
    /// How a gradient becomes a step.
    pub optimizer: Rule,
    /// How the learning rate changes between epochs.
    pub schedule: Schedule,
}

impl TrainingPlan {
    /// Sets the number of epochs; a learning rate that falls along a cosine falls over all of them.
    pub fn set_epochs(&mut self, epochs: usize) {
        self.epochs = epochs;
        if let Schedule::Cosine { epochs: length, .. } = &mut self.schedule {
            *length = epochs;
        }
    }
}

/// What one epoch came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// 1-based.
    pub epoch: usize,
    /// Mean loss over the epoch's steps, weighted by their images.
    pub train_loss: f64,
    /// Loss on the held-out images that the checkpoint is chosen by.
    pub held_out_loss: f64,
    /// Accuracy on them, for classifiers.
    pub held_out_accuracy: Option<f64>,
    /// Learning rate of the epoch.
    pub learning_rate: f64,
}

/// Where training stands, beside the tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    curve: Vec<EpochRecord>,
    /// Steps done in the present epoch, images seen in them, and the sum of their losses.
    steps: usize,
    images: u64,
    loss_sum: f64,
    best: Option<(usize, f64)>,
    scheduler: Scheduler,
}

/// A saved state that fits its learner.
pub(crate) struct Saved {
    now: BTreeMap<String, Tensor>,
    best: BTreeMap<String, Tensor>,
    optimizer: Optimizer,
    progress: Progress,
}

/// A network, its optimiser, its schedule, and the best state so far.
#[derive(Debug)]
pub struct Learner<M> {
    name: String,
    module: M,
    optimizer: Optimizer,
    progress: Progress,
    best: BTreeMap<String, Tensor>,
}

impl<M: Module> Learner<M> {
    /// `name` says in messages who is learning.
    pub fn new(name: impl Into<String>, module: M, plan: &TrainingPlan) -> Self {
        Learner {
            name: name.into(),
            module,
            optimizer: Optimizer::new(plan.optimizer, plan.learning_rate),
            progress: Progress {
                curve: Vec::new(),
                steps: 0,
                images: 0,
                loss_sum: 0.0,
                best: None,
                scheduler: Scheduler::new(plan.schedule, plan.learning_rate),
            },
            best: BTreeMap::new(),
        }
    }

    /// Who is learning.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network as it is now.
    pub fn module(&self) -> &M {
        &self.module
    }

    /// Finished epochs.
    pub fn epochs_done(&self) -> usize {
        self.progress.curve.len()
    }

    /// Steps done in the present epoch.
    pub fn steps_done(&self) -> usize {
        self.progress.steps
    }

    /// Every finished epoch.
    pub fn curve(&self) -> &[EpochRecord] {
        &self.progress.curve
    }

    /// The epoch whose state is the best so far, by the held-out loss; 1-based.
    pub fn best_epoch(&self) -> Option<usize> {
        self.progress.best.map(|(epoch, _)| epoch)
    }

    /// Takes one step down the gradient of a loss that was recorded on `tape` for `images` images.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] and [`Error::NonFiniteGradient`] name the epoch and the step, and change nothing.
    pub fn step(&mut self, tape: &Tape, loss: &Var, images: usize) -> Result<f64> {
        let value = loss.value().item()?;
        if !value.is_finite() {
            return Err(Error::NonFiniteLoss {
                learner: self.name.clone(),
                epoch: self.progress.curve.len() + 1,
                step: self.progress.steps + 1,
                loss: value,
            });
        }
        let step = tape.backward(loss)?;
        if !step.all_finite() {
            let is_bad = |entry: &Entry| step.gradient(entry).is_some_and(|g| !g.all_finite());
            let bad = self.module.entries().into_iter().find(|(_, entry)| is_bad(entry));
            return Err(Error::NonFiniteGradient {
                learner: self.name.clone(),
                parameter: bad.map(|(name, _)| name).unwrap_or_default(),
                epoch: self.progress.curve.len() + 1,
                step: self.progress.steps + 1,
                loss: value,
            });
        }
        self.optimizer.step(&mut self.module, &step)?;
        self.progress.steps += 1;
        self.progress.images += images as u64;
        self.progress.loss_sum += value * images as f64;
        Ok(value)
    }

    /// Ends an epoch: keeps the state if the loss on the held-out images is the lowest so far, and moves the schedule on.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] if the held-out loss is no number.
    pub fn end_epoch(&mut self, held_out_loss: f64, held_out_accuracy: Option<f64>) -> Result<()> {
        let progress = &mut self.progress;
        let epoch = progress.curve.len() + 1;
        if !held_out_loss.is_finite() {
            return Err(Error::NonFiniteLoss {
                learner: format!("{} on held-out images", self.name),
                epoch,
                step: progress.steps,
                loss: held_out_loss,
            });
        }
        progress.curve.push(EpochRecord {
            epoch,
            train_loss: progress.loss_sum / progress.images.max(1) as f64,
            held_out_loss,
            held_out_accuracy,
            learning_rate: self.optimizer.learning_rate(),
        });
        (progress.steps, progress.images, progress.loss_sum) = (0, 0, 0.0);
        if progress.best.is_none_or(|(_, best)| held_out_loss < best) {
            progress.best = Some((epoch, held_out_loss));
            self.best = snapshot(&self.module);
        }
        self.optimizer.set_learning_rate(progress.scheduler.after_epoch(held_out_loss));
        Ok(())
    }

    /// The network in its best state; in its present one if no epoch has ended.
    ///
    /// # Errors
    /// None for states this learner made.
    pub fn into_best(mut self) -> Result<M> {
        if !self.best.is_empty() {
            checkpoint::load(&mut self.module, &self.best)?;
        }
        Ok(self.module)
    }

    /// The whole state as a safetensors file, from which [`Learner::restore`] goes on to the same bits.
    ///
    /// # Errors
    /// None for networks whose names differ.
    pub fn state(&self) -> Result<Vec<u8>> {
        Ok(checkpoint::to_safetensors(&self.tensors(), Some(&self.progress_text()?))?)
    }

    /// Everything but the progress, by name.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        let prefixed = |prefix: &'static str| {
            move |(name, tensor): (String, Tensor)| (format!("{prefix}:{name}"), tensor)
        };
        snapshot(&self.module)
            .into_iter()
            .map(prefixed("now"))
            .chain(self.best.clone().into_iter().map(prefixed("best")))
            .chain(self.optimizer.state().into_iter().map(prefixed("optimizer")))
            .collect()
    }

    /// Where training stands, as JSON.
    pub(crate) fn progress_text(&self) -> Result<String> {
        serde_json::to_string(&self.progress).map_err(|e| self.unusable(e))
    }

    /// Goes back to a state that [`Learner::state`] gave.
    ///
    /// # Errors
    /// [`Error::State`] for a damaged file or another network's; the learner is unchanged then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (tensors, progress) =
            checkpoint::from_safetensors(bytes).map_err(|e| self.unusable(e))?;
        let progress = progress.ok_or_else(|| self.unusable("the progress is missing"))?;
        let saved = self.read(tensors, &progress)?;
        self.adopt(saved)
    }

    /// A state from its parts, if it fits.
    pub(crate) fn read(&self, tensors: BTreeMap<String, Tensor>, progress: &str) -> Result<Saved> {
        let mut parts: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
        for (name, tensor) in tensors {
            let (part, name) =
                name.split_once(':').ok_or_else(|| self.unusable("a key has no part"))?;
            parts.entry(part.to_owned()).or_default().insert(name.to_owned(), tensor);
        }
        let progress: Progress = serde_json::from_str(progress).map_err(|e| self.unusable(e))?;
        let mut part = |name: &str| parts.remove(name).unwrap_or_default();
        let (now, best, state) = (part("now"), part("best"), part("optimizer"));
        checkpoint::check(&self.module, &now).map_err(|e| self.unusable(e))?;
        if progress.best.is_some() {
            let wrong = |e| self.unusable(format!("in its best state {e}"));
            checkpoint::check(&self.module, &best).map_err(wrong)?;
        } else if !best.is_empty() {
            return Err(self.unusable("it has a best state before the end of its first epoch"));
        }
        let mut optimizer = self.optimizer.clone();
        optimizer.load_state(&self.module, &state).map_err(|e| self.unusable(e))?;
        Ok(Saved { now, best, optimizer, progress })
    }

    /// Goes on from a state that was found to fit.
    pub(crate) fn adopt(&mut self, saved: Saved) -> Result<()> {
        checkpoint::load(&mut self.module, &saved.now)?;
        (self.best, self.optimizer, self.progress) = (saved.best, saved.optimizer, saved.progress);
        Ok(())
    }

    fn unusable(&self, reason: impl std::fmt::Display) -> Error {
        Error::State { learner: self.name.clone(), reason: reason.to_string() }
    }
}

fn snapshot(module: &impl Module) -> BTreeMap<String, Tensor> {
    module.entries().into_iter().map(|(name, entry)| (name, entry.value().clone())).collect()
}
