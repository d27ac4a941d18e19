//! Training a target, and its figures on a part of the data.

use gpz_data::{Batch, BatchOptions, Batches, ImageSet, Selection, TargetTrain, TargetValidation};
use gpz_inversion::{Learner, Observer, Silent, pictures};
use gpz_models::{Architecture, ModelSpec, Normalisation, Target};
use gpz_nn::{Labels, Module, Tape, Var, derive_seed, loss, rng_for};

use crate::config::TargetPlan;
use crate::error::Result;
use crate::memory;

/// Images of an evaluation's forward pass; its results do not depend on it.
pub(crate) const EVALUATION_BATCH: usize = 128;

/// A target with what its training needs to go on.
pub type TargetLearner = Learner<Box<dyn Target>>;

/// An untrained target for the pictures and classes of a part, initialised from the seed.
///
/// # Errors
/// Pictures the model does not take; [`Error::Memory`](crate::Error::Memory) for a network beyond what this machine holds.
pub fn build_target(model: ModelSpec, set: &dyn ImageSet, seed: u64) -> Result<Box<dyn Target>> {
    let shape = set.shape();
    let input = [shape.channels, shape.height, shape.width];
    check_memory(&model.architecture(input, set.classes())?, set.len().min(EVALUATION_BATCH))?;
    Ok(model.build(input, set.classes(), &mut rng_for(seed, "target", 0))?)
}

/// What a model will be for pictures of this height and width, before they are read: with one channel and two classes, the fewest
/// there are.
///
/// # Errors
/// As [`build_target`], as far as it can be known already.
pub fn foresee_target(model: ModelSpec, resolution: usize) -> Result<Architecture> {
    let least = model.architecture([1, resolution, resolution], 2)?;
    check_memory(&least, 1)?;
    Ok(least)
}

fn check_memory(architecture: &Architecture, images: usize) -> Result<()> {
    let [_, height, width] = architecture.input;
    let what = format!("{} on pictures of {height}×{width}", architecture.model);
    memory::check(&what, architecture.least_bytes(images), "choose a smaller resolution or width")
}

/// Trains a target to the end of its plan, or until it stops early by it, from wherever the learner stands.
///
/// The kept state is the one of the lowest loss on the validation part, or of the highest accuracy there
/// ([`gpz_inversion::TrainingPlan::keep`]). That loss is by one-hot labels if those of the plan are smoothed by a negative amount
/// ([`Labels::bounded`]).
///
/// No image of the test part can choose anything: a validation part is of its own type.
///
/// ```compile_fail,E0308
/// use gpz_audit::training::{TargetLearner, train_target};
/// use gpz_audit::config::TargetPlan;
/// use gpz_data::Parts;
///
/// fn chosen_on_test(learner: &mut TargetLearner, parts: &Parts, plan: &TargetPlan) -> gpz_audit::Result<()> {
///     let data = (&parts.target_train, &parts.test);
///     train_target(learner, data, plan, 1, &mut gpz_inversion::Silent, |_| Ok(()))
/// }
/// ```
///
/// `save` is called after each epoch, and after the step in which a stop was asked for.
///
/// # Errors
/// [`gpz_inversion::Error::NonFiniteLoss`] names the step; [`gpz_inversion::Error::Stopped`] after a stop was asked for; what `save` fails
/// with.
pub fn train_target(
    learner: &mut TargetLearner,
    (train, validation): (&TargetTrain, &TargetValidation),
    plan: &TargetPlan,
    seed: u64,
    observer: &mut dyn Observer,
    mut save: impl FnMut(&TargetLearner) -> Result<()>,
) -> Result<()> {
    let normalisation = learner.module().normalisation()?;
    let options =
        BatchOptions::shuffled(plan.training.batch).with_augment(plan.augmentation.augment());
    let batches = Batches::new(train, options, seed, "target")?;
    let (done, epochs) = (learner.epochs_done(), plan.training.epochs);
    let left = epochs.saturating_sub(done) * batches.per_epoch();
    observer.begin("target", left.saturating_sub(learner.steps_done()) as u64);
    for epoch in done..epochs {
        if learner.is_finished() {
            break;
        }
        let mut images = batches.epoch(epoch as u64);
        images.skip_batches(learner.steps_done());
        let mut batch = Batch::empty();
        while images.next_into(&mut batch) {
            // A single picture has no batch statistics; the next epoch's shuffle places it elsewhere.
            if batch.len() > 1 {
                step(learner, &normalisation, plan.labels, seed, epoch, &batch)
                    .map_err(|error| error.of_steps(plan.training.batch))?;
            }
            observer.advance(1, &format!("{}/{epochs} epochs", epoch + 1));
            if observer.stop_requested() {
                save(learner)?;
                return Err(gpz_inversion::Error::Stopped.into());
            }
        }
        let figures = figures_to_choose_by(&**learner.module(), validation, plan.labels)?;
        learner.end_epoch(figures.loss_nats, Some(figures.accuracy))?;
        save(learner)?;
    }
    let best = learner.best_epoch().and_then(|epoch| learner.curve().get(epoch - 1));
    let accuracy = best.and_then(|record| record.held_out_accuracy).unwrap_or(f64::NAN);
    let early = match learner.stopped_early() {
        true => format!(", ended after epoch {}", learner.epochs_done()),
        false => String::new(),
    };
    observer.end(&format!("accuracy {:.1} % on validation images{early}", 100.0 * accuracy));
    Ok(())
}

/// What may decide which state is kept; of no part that must not decide, and by a loss that has a lower end.
fn figures_to_choose_by(
    target: &dyn Target,
    set: &impl Selection,
    labels: Labels,
) -> Result<Figures> {
    evaluate(target, set, labels.bounded(), &mut Silent)
}

fn step(
    learner: &mut TargetLearner,
    normalisation: &Normalisation,
    labels: Labels,
    seed: u64,
    epoch: usize,
    batch: &Batch,
) -> Result<()> {
    let target = learner.module();
    let device = target.device();
    let x = Var::constant(normalisation.apply(&pictures(batch)?.to_device(&device)?)?);
    let place = (epoch as u64) << 32 | learner.steps_done() as u64;
    let tape = Tape::train(derive_seed(seed, "target dropout", place));
    let log_probs = target.forward(&tape, &x)?;
    let goal = labels.distributions(&batch.labels, target.classes(), log_probs.value().dtype())?;
    let goal = goal.to_device(&device)?;
    let loss = loss::cross_entropy(&log_probs, &goal)?;
    learner.step(&tape, &loss, batch.len())?;
    Ok(())
}

/// How well a target classifies a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Mean cross entropy with the label distribution, in nats.
    pub loss_nats: f64,
    /// Fraction classified right.
    pub accuracy: f64,
}

/// Batches of [`evaluate`], as an observer counts them.
pub(crate) fn evaluation_batches(set: &dyn ImageSet) -> u64 {
    set.len().div_ceil(EVALUATION_BATCH) as u64
}

/// Loss and accuracy of a target on a part, in evaluation mode.
///
/// # Errors
/// Pictures of another shape than the target's; [`gpz_inversion::Error::Stopped`] after a stop was asked for.
pub fn evaluate(
    target: &dyn Target,
    set: &dyn ImageSet,
    labels: Labels,
    observer: &mut dyn Observer,
) -> Result<Figures> {
    let normalisation = target.normalisation()?;
    let batches = Batches::new(set, BatchOptions::in_order(EVALUATION_BATCH), 0, "evaluation")?;
    let (mut loss_sum, mut right) = (0.0, 0.0);
    for batch in batches.epoch(0) {
        let device = target.device();
        let x = Var::constant(normalisation.apply(&pictures(&batch)?.to_device(&device)?)?);
        let log_probs = target.forward(&Tape::eval(), &x)?;
        let goal =
            labels.distributions(&batch.labels, target.classes(), log_probs.value().dtype())?;
        let goal = goal.to_device(&device)?;
        let n = batch.len() as f64;
        loss_sum += n * loss::cross_entropy(&log_probs, &goal)?.value().item()?;
        right += n * loss::accuracy(log_probs.value(), &batch.labels)?;
        observer.advance(1, set.part().name());
        if observer.stop_requested() {
            return Err(gpz_inversion::Error::Stopped.into());
        }
    }
    let n = set.len().max(1) as f64;
    Ok(Figures { loss_nats: loss_sum / n, accuracy: right / n })
}
