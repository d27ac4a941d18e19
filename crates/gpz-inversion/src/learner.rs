//! A network that is being trained, with everything needed to go on after an interruption.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use gpz_nn::{Module, Optimizer, Rule, Schedule, Scheduler, Step, Tape, Var, checkpoint};
use gpz_tensor::{Bad, Device, Tensor, Watch};
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
    /// Epochs without a new best held-out figure ([`TrainingPlan::keep`]) after which training ends early; never, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<usize>,
    /// Which epoch's state is kept; the schedule and the early end follow the same figure.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
    /// How a gradient becomes a step.
    pub optimizer: Rule,
    /// How the learning rate changes between epochs.
    pub schedule: Schedule,
}

/// The figure of the held-out images that decides which epoch's state is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The first epoch of the lowest loss.
    #[default]
    LowestLoss,
    /// The first epoch of the highest accuracy; for classifiers. A network that goes on to fit every training image grows too sure of the
    /// held-out ones it errs on, so that their loss rises long before their accuracy falls: this keeps such a network's late epochs.
    HighestAccuracy,
}

impl Keep {
    fn is_default(&self) -> bool {
        *self == Keep::default()
    }

    /// What is kept, in words.
    pub fn in_words(self) -> &'static str {
        match self {
            Keep::LowestLoss => "lowest loss",
            Keep::HighestAccuracy => "highest accuracy",
        }
    }

    /// The figure, the lower the better: a loss, or the share of images classified wrong; none if it was not measured.
    pub fn figure(self, loss: f64, accuracy: Option<f64>) -> Option<f64> {
        match self {
            Keep::LowestLoss => Some(loss),
            Keep::HighestAccuracy => {
                accuracy.filter(|accuracy| accuracy.is_finite()).map(|accuracy| 1.0 - accuracy)
            }
        }
    }
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
    /// Loss on the held-out images.
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
    /// Its epoch, and the figure that it was kept by.
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
    /// Epochs of the plan.
    epochs: usize,
    /// As in the plan.
    stop_after: Option<usize>,
    keep: Keep,
    /// Over the steps of the present epoch, since the learner was made or restored.
    watch: Option<Watch>,
    /// Steps of the present epoch before that.
    unwatched: usize,
}

/// Steps after which a watch that has to be waited for is read.
const STEPS_UNREAD: usize = 64;

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
            epochs: plan.epochs,
            stop_after: plan.stop_after,
            keep: plan.keep,
            watch: None,
            unwatched: 0,
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

    /// The epoch whose state is the best so far, by the figure of [`TrainingPlan::keep`]; 1-based.
    pub fn best_epoch(&self) -> Option<usize> {
        self.progress.best.map(|(epoch, _)| epoch)
    }

    /// Whether there is nothing left to learn: the plan's epochs are done, or so many have passed without a new best one that it
    /// ends early. Follows from the finished epochs alone, so that a restored learner knows it as well.
    pub fn is_finished(&self) -> bool {
        self.epochs_done() >= self.epochs || self.is_stale()
    }

    /// Whether training ended before the plan's last epoch.
    pub fn stopped_early(&self) -> bool {
        self.epochs_done() < self.epochs && self.is_stale()
    }

    fn is_stale(&self) -> bool {
        self.best_epoch()
            .zip(self.stop_after)
            .is_some_and(|(best, n)| self.epochs_done() >= best + n)
    }

    /// Where the network lies.
    pub fn device(&self) -> Device {
        self.module.device()
    }

    /// Takes one step down the gradient of a loss that was recorded on `tape` for `images` images.
    ///
    /// On a CUDA device nobody waits for the loss: whether it was finite is looked at every so many steps, and before the state is saved.
    /// The step that was not will have moved no parameter, nor will those after it.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] and [`Error::NonFiniteGradient`] name the epoch and the step. On the processor they change nothing. On a
    /// CUDA device every later look fails with them, and so do [`Learner::state`] and [`Learner::end_epoch`], until a saved state is
    /// restored.
    pub fn step(&mut self, tape: &Tape, loss: &Var, images: usize) -> Result<()> {
        if self.watch.is_none() {
            self.watch = Some(Watch::new(&self.device(), self.progress.loss_sum)?);
            self.unwatched = self.progress.steps;
        }
        let step = tape.backward(loss)?;
        if let Some(watch) = &mut self.watch {
            watch.observe(loss.value(), images as f64, &step.gradients())?;
        }
        let at_once = self.watch.as_ref().is_some_and(Watch::reads_at_once);
        if at_once {
            self.look(Some(&step))?;
        }
        self.optimizer.step_under(&mut self.module, &step, self.watch.as_ref())?;
        self.progress.steps += 1;
        self.progress.images += images as u64;
        if !at_once && self.progress.steps.is_multiple_of(STEPS_UNREAD) {
            self.look(None)?;
        }
        Ok(())
    }

    /// Takes over what the watch has seen; `last` is the last step, if the watch was read at once.
    fn look(&mut self, last: Option<&Step>) -> Result<()> {
        let verdict = self.verdict(last);
        if let Ok(Some(loss_sum)) = verdict {
            self.progress.loss_sum = loss_sum;
        }
        // On the processor a bad step has changed nothing, and another may follow. Elsewhere later steps have been counted, and running
        // statistics have moved: only a saved state leads on.
        if verdict.is_err() && self.watch.as_ref().is_some_and(Watch::reads_at_once) {
            self.watch = None;
        }
        verdict.map(drop)
    }

    /// The sum of the losses that the watch has seen, if there is one; the step that was not finite is an error.
    fn verdict(&self, last: Option<&Step>) -> Result<Option<f64>> {
        let Some(watch) = &self.watch else { return Ok(None) };
        let watched = watch.read()?;
        let Some((number, bad)) = watched.bad else {
            return Ok(Some(watched.loss_sum));
        };
        let (step, loss) = (self.unwatched + number as usize, watched.last_loss);
        let (learner, epoch) = (self.name.clone(), self.progress.curve.len() + 1);
        if bad == Bad::Loss {
            return Err(Error::NonFiniteLoss { learner, epoch, step, loss });
        }
        // Which parameter it was is known only while its gradient is at hand.
        let mut parameter = "a parameter".to_owned();
        for (name, entry) in self.module.entries() {
            if let Some(gradient) = last.and_then(|last| last.gradient(entry))
                && !gradient.all_finite()?
            {
                parameter = name;
                break;
            }
        }
        Err(Error::NonFiniteGradient { learner, parameter, epoch, step, loss })
    }

    /// Ends an epoch: keeps the state if the held-out images' loss, or their accuracy as [`TrainingPlan::keep`] says, is the best so far, and
    /// moves the schedule on.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] if the held-out loss is no number; [`Error::NoAccuracy`] if what is to be kept is decided by an accuracy and
    /// there is none.
    pub fn end_epoch(&mut self, held_out_loss: f64, held_out_accuracy: Option<f64>) -> Result<()> {
        self.look(None)?;
        self.watch = None;
        let figure = self.keep.figure(held_out_loss, held_out_accuracy);
        let figure = figure.ok_or_else(|| Error::NoAccuracy { learner: self.name.clone() })?;
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
        if progress.best.is_none_or(|(_, best)| figure < best) {
            progress.best = Some((epoch, figure));
            self.best = snapshot(&self.module);
        }
        self.optimizer.set_learning_rate(progress.scheduler.after_epoch(figure));
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
    /// None for networks whose names differ, on the processor; on a CUDA device those of a step that nobody has looked at yet.
    pub fn state(&self) -> Result<Vec<u8>> {
        let mut state = Vec::new();
        self.write_state(&mut state)?;
        Ok(state)
    }

    /// [`Learner::state`], written as it is put together and never held as a whole.
    ///
    /// # Errors
    /// As [`Learner::state`]; [`gpz_nn::Error::Write`].
    pub fn write_state(&self, out: &mut dyn Write) -> Result<()> {
        Ok(checkpoint::write_safetensors(&self.tensors(), Some(&self.progress_text()?), out)?)
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
        let mut progress = self.progress.clone();
        if let Some(loss_sum) = self.verdict(None)? {
            progress.loss_sum = loss_sum;
        }
        serde_json::to_string(&progress).map_err(|e| self.unusable(e))
    }

    /// Goes back to a state that [`Learner::state`] gave.
    ///
    /// # Errors
    /// [`Error::State`] for a damaged file or another network's; the learner is unchanged then.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.restore_from(&mut &*state)
    }

    /// [`Learner::restore`] from a file, which is never held as a whole.
    ///
    /// # Errors
    /// As [`Learner::restore`]; [`gpz_nn::Error::Read`].
    pub fn restore_from(&mut self, state: &mut dyn Read) -> Result<()> {
        let (tensors, progress) =
            checkpoint::read_safetensors(state).map_err(|error| self.unread(error))?;
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
        self.watch = None;
        Ok(())
    }

    /// A file that could not be read may be a good one.
    fn unread(&self, error: gpz_nn::Error) -> Error {
        match error {
            gpz_nn::Error::Read(_) => error.into(),
            damaged => self.unusable(damaged),
        }
    }

    fn unusable(&self, reason: impl std::fmt::Display) -> Error {
        Error::State { learner: self.name.clone(), reason: reason.to_string() }
    }
}

fn snapshot(module: &impl Module) -> BTreeMap<String, Tensor> {
    module.entries().into_iter().map(|(name, entry)| (name, entry.value().clone())).collect()
}
