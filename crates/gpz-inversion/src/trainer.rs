//! The inversion trainer: decoders of several splits learn from one forward pass of the target per batch.

use std::collections::BTreeMap;

use gpz_data::{
    Augment, AuxiliaryHeldOut, AuxiliaryTrain, Batch, BatchOptions, Batches, ImageSet, Part,
    Selection,
};
use gpz_models::{Normalisation, Target};
use gpz_nn::{Module, Tape, Var, checkpoint, derive_seed, loss, rng_for};
use gpz_tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::decoder::{Decoder, DecoderChoice};
use crate::error::{Error, Result};
use crate::learner::{Learner, TrainingPlan};
use crate::observer::Observer;
use crate::wire::{Exact, Sending, Wire};

/// How the attacks are trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackPlan {
    /// Epochs, batch, optimiser and schedule of each decoder.
    pub training: TrainingPlan,
    /// Whether auxiliary pictures are mirrored at random.
    pub flip: bool,
    /// Which decoder learns at each split.
    #[serde(default, skip_serializing_if = "DecoderChoice::is_auto")]
    pub decoder: DecoderChoice,
}

/// Pictures as a tensor `[n, c, h, w]` in [0, 1].
///
/// # Errors
/// None for batches a part gave.
pub fn pictures(batch: &Batch) -> Result<Tensor> {
    let [n, h, w, c] = batch.shape;
    Ok(Tensor::from_channels_last(&batch.images, [n, c, h, w])?)
}

/// One decoder for each attacked split, trained together.
pub struct InversionTrainer<'a> {
    target: &'a dyn Target,
    /// Where the target lies, and with it the attacks.
    device: Device,
    normalisation: Normalisation,
    wire: &'a dyn Wire,
    plan: AttackPlan,
    seed: u64,
    attacks: Vec<(usize, Learner<Decoder>)>,
}

impl<'a> InversionTrainer<'a> {
    /// Untrained decoders on the target's device for the given splits (1-based), each initialised from the seed and its split alone: a split's attack does
    /// not depend on which others are trained beside it.
    ///
    /// # Errors
    /// A split that does not exist, or that no decoder is defined for; [`Error::DuplicateSplit`].
    pub fn new(
        target: &'a dyn Target,
        splits: &[usize],
        plan: AttackPlan,
        seed: u64,
    ) -> Result<Self> {
        let (picture, device, model) = (target.input_shape(), target.device(), target.name());
        let family = model.split_once(':').map_or(&*model, |(family, _)| family);
        let mut attacks: Vec<(usize, Learner<Decoder>)> = Vec::new();
        for &split in splits {
            let split = target.find_split(&split.to_string())?;
            let tap = &target.taps()[split - 1];
            if attacks.iter().any(|(other, _)| *other == split) {
                return Err(Error::DuplicateSplit { split: tap.name.clone() });
            }
            let mut rng = rng_for(seed, "decoder", split as u64);
            let mut decoder =
                Decoder::new(plan.decoder.at(family, &tap.shape), &tap.shape, picture, &mut rng)?;
            decoder.to_device(&device)?;
            let name = format!("the attack on {}", tap.name);
            attacks.push((split, Learner::new(name, decoder, &plan.training)));
        }
        let normalisation = target.normalisation()?;
        Ok(InversionTrainer { target, device, normalisation, wire: &Exact, plan, seed, attacks })
    }

    /// The same attacks on features that arrive through `wire`: decoders learn from what is received, and are chosen by it.
    #[must_use]
    pub fn behind(self, wire: &'a dyn Wire) -> Self {
        InversionTrainer { wire, ..self }
    }

    /// The attacked splits (1-based) and where each attack stands.
    pub fn attacks(&self) -> &[(usize, Learner<Decoder>)] {
        &self.attacks
    }

    /// Trains all decoders to the end of the plan, from wherever they stand.
    ///
    /// A decoder that stops early, [`TrainingPlan::stop_after`], stays what it is while the others go on; training ends with the last.
    ///
    /// `save` is called after each epoch, and after the step in which a stop was asked for.
    ///
    /// # Errors
    /// [`Error::NonFiniteLoss`] and [`Error::NonFiniteGradient`] name the split and the step; [`Error::Stopped`] after a stop was asked for; what `save` fails with.
    pub fn train<E: From<Error>>(
        &mut self,
        train: &AuxiliaryTrain,
        held_out: &AuxiliaryHeldOut,
        observer: &mut dyn Observer,
        mut save: impl FnMut(&Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let flip = Augment { flip: if self.plan.flip { 0.5 } else { 0.0 }, ..Augment::none() };
        let options = BatchOptions::shuffled(self.plan.training.batch).with_augment(flip);
        let batches = Batches::new(train, options, self.seed, "attack").map_err(Error::from)?;
        let epochs = self.plan.training.epochs;
        if self.attacks.is_empty() {
            return Ok(());
        }
        let per_epoch = batches.per_epoch() as u64;
        let left = self.next_epoch().map_or(0, |done| epochs - done);
        observer.begin("attacks", left as u64 * per_epoch);
        while let Some(epoch) = self.next_epoch() {
            let mut images = batches.epoch(epoch as u64);
            let learning = || self.attacks.iter().filter(|(_, learner)| !learner.is_finished());
            let skipped = learning().map(|(_, learner)| learner.steps_done()).max().unwrap_or(0);
            let together = learning().count();
            let detail = format!("{}/{epochs} epochs   {together} decoders together", epoch + 1);
            images.skip_batches(skipped);
            observer.advance(skipped as u64, "");
            let mut batch = Batch::empty();
            while images.next_into(&mut batch) {
                self.step(epoch, train.part(), &batch)?;
                observer.advance(1, &detail);
                if observer.stop_requested() {
                    save(self)?;
                    return Err(Error::Stopped.into());
                }
            }
            for (i, error) in self.mean_errors(epoch, held_out)? {
                self.attacks[i].1.end_epoch(error, None)?;
            }
            save(self)?;
        }
        let n = self.attacks.len();
        let early = self.attacks.iter().filter(|(_, learner)| learner.stopped_early()).count();
        let early = if early == 0 { String::new() } else { format!(", {early} stopped early") };
        observer.end(&format!("{n} decoder{}{early}", if n == 1 { "" } else { "s" }));
        Ok(())
    }

    /// The epoch, counted from 0, in which the decoders that still learn are; none if all are finished.
    fn next_epoch(&self) -> Option<usize> {
        let learning = self.attacks.iter().filter(|(_, learner)| !learner.is_finished());
        learning.map(|(_, learner)| learner.epochs_done()).min()
    }

    /// One forward pass of the target as far as the deepest attack that still learns; at each tap of one, one step of its decoder.
    fn step(&mut self, epoch: usize, part: Part, batch: &Batch) -> Result<()> {
        let learning = self.attacks.iter().filter(|(_, learner)| !learner.is_finished());
        let Some(last) = learning.map(|(split, _)| *split).max() else {
            return Ok(());
        };
        let x = pictures(batch)?.to_device(&self.device)?;
        let normal = self.normalisation.apply(&x)?;
        let attacks = &mut self.attacks;
        let (seed, wire) = (self.seed, self.wire);
        let sending = Sending { part, epoch: epoch as u64, positions: &batch.positions };
        self.target.visit_taps(&normal, last, |split, z| -> Result<()> {
            let here =
                |attack: &(usize, Learner<Decoder>)| attack.0 == split && !attack.1.is_finished();
            if !attacks.iter().any(here) {
                return Ok(());
            }
            let z = wire.receive(split, z, &sending)?;
            for (_, learner) in attacks.iter_mut().filter(|attack| here(attack)) {
                decoder_step(learner, (seed, epoch), &z, &x)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Mean squared error per element on held-out images, by which states are chosen, of every attack that still learns, with its place
    /// among the attacks.
    fn mean_errors(&self, epoch: usize, held_out: &impl Selection) -> Result<Vec<(usize, f64)>> {
        let options = BatchOptions::in_order(self.plan.training.batch);
        let batches = Batches::new(held_out, options, self.seed, "held out")?;
        let learning = self.attacks.iter().enumerate();
        let learning: Vec<_> =
            learning.filter(|(_, (_, learner))| !learner.is_finished()).collect();
        let mut sums = vec![0.0; learning.len()];
        for batch in batches.epoch(0) {
            let x = pictures(&batch)?.to_device(&self.device)?;
            let decoders = learning.iter().map(|(_, (split, learner))| (*split, learner.module()));
            let sending =
                Sending { part: held_out.part(), epoch: epoch as u64, positions: &batch.positions };
            let guesses = reconstruct_received(
                self.target,
                &self.normalisation,
                decoders,
                (self.wire, &sending),
                &x,
            )?;
            for (sum, guess) in sums.iter_mut().zip(&guesses) {
                let loss = loss::mse(&Var::constant(guess.clone()), &x)?;
                *sum += loss.value().item()? * batch.len() as f64;
            }
        }
        let n = held_out.len().max(1) as f64;
        Ok(learning.iter().zip(sums).map(|((place, _), sum)| (*place, sum / n)).collect())
    }

    /// The decoders in their best state, by the held-out images, with their splits.
    ///
    /// # Errors
    /// None for states training made.
    pub fn into_decoders(self) -> Result<Vec<(usize, Decoder)>> {
        let best = |(split, learner): (usize, Learner<Decoder>)| Ok((split, learner.into_best()?));
        self.attacks.into_iter().map(best).collect()
    }

    /// The whole state of all attacks as one safetensors file, from which [`InversionTrainer::restore`] goes on to the same bits.
    ///
    /// One file, because attacks that learn together must also be found together.
    ///
    /// # Errors
    /// None for states training made.
    pub fn state(&self) -> Result<Vec<u8>> {
        let (mut tensors, mut progress) = (Vec::new(), BTreeMap::new());
        for (split, learner) in &self.attacks {
            let named = learner.tensors().into_iter();
            tensors.extend(named.map(|(name, tensor)| (format!("{split}/{name}"), tensor)));
            progress.insert(split.to_string(), learner.progress_text()?);
        }
        let progress = serde_json::to_string(&progress).map_err(unusable)?;
        Ok(checkpoint::to_safetensors(&tensors, Some(&progress))?)
    }

    /// Goes back to a state that [`InversionTrainer::state`] gave.
    ///
    /// # Errors
    /// [`Error::State`] for a damaged file, or one of other splits or networks; nothing is changed then.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        let (tensors, progress) = checkpoint::from_safetensors(state).map_err(unusable)?;
        let progress = progress.ok_or_else(|| unusable("the progress is missing"))?;
        let progress: BTreeMap<String, String> =
            serde_json::from_str(&progress).map_err(unusable)?;
        let mut parts: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
        for (name, tensor) in tensors {
            let (split, name) =
                name.split_once('/').ok_or_else(|| unusable("a key names no split"))?;
            parts.entry(split.to_owned()).or_default().insert(name.to_owned(), tensor);
        }
        let expected: Vec<String> =
            self.attacks.iter().map(|(split, _)| split.to_string()).collect();
        if progress.len() != expected.len() || !expected.iter().all(|s| progress.contains_key(s)) {
            return Err(unusable("it holds the attacks on other splits"));
        }
        let read = |(split, learner): &(usize, Learner<Decoder>)| {
            let key = split.to_string();
            learner.read(parts.remove(&key).unwrap_or_default(), &progress[&key])
        };
        let saved: Vec<_> = self.attacks.iter().map(read).collect::<Result<_>>()?;
        self.attacks.iter_mut().zip(saved).try_for_each(|((_, learner), s)| learner.adopt(s))
    }
}

/// One step of a decoder in an epoch (from 0): from features as they arrive, `[n, ...]`, to their pictures, `[n, c, h, w]`.
pub(crate) fn decoder_step(
    learner: &mut Learner<Decoder>,
    (seed, epoch): (u64, usize),
    z: &Tensor,
    x: &Tensor,
) -> Result<()> {
    let step = (epoch as u64) << 32 | learner.steps_done() as u64;
    let tape = Tape::train(derive_seed(seed, "decoder dropout", step));
    let guess = learner.module().forward(&tape, &Var::constant(z.clone()))?;
    let loss = loss::mse(&guess, x)?;
    learner.step(&tape, &loss, x.shape()[0])
}

fn unusable(reason: impl std::fmt::Display) -> Error {
    Error::State { learner: "the attacks".to_owned(), reason: reason.to_string() }
}

/// Reconstructions of pictures by decoders of several splits, from one forward pass of the target and features sent as they are.
///
/// - `decoders`: split (1-based) and decoder, in any order
/// - `x`: pictures `[n, c, h, w]` in [0, 1]; so are the reconstructions, in the decoders' order, on the target's device
///
/// # Errors
/// A decoder of a split that does not exist; shapes that do not fit.
pub fn reconstruct<'a>(
    target: &dyn Target,
    normalisation: &Normalisation,
    decoders: impl Iterator<Item = (usize, &'a Decoder)>,
    x: &Tensor,
) -> Result<Vec<Tensor>> {
    let sending = Sending { part: Part::Test, epoch: 0, positions: &[] };
    reconstruct_received(target, normalisation, decoders, (&Exact, &sending), x)
}

/// [`reconstruct`] from features that arrive through a wire.
///
/// # Errors
/// As [`reconstruct`]; [`Error::Wire`].
pub fn reconstruct_received<'a>(
    target: &dyn Target,
    normalisation: &Normalisation,
    decoders: impl Iterator<Item = (usize, &'a Decoder)>,
    (wire, sending): (&dyn Wire, &Sending<'_>),
    x: &Tensor,
) -> Result<Vec<Tensor>> {
    let decoders: Vec<(usize, &Decoder)> = decoders.collect();
    for (split, _) in &decoders {
        target.find_split(&split.to_string())?;
    }
    let Some(last) = decoders.iter().map(|(split, _)| *split).max() else {
        return Ok(Vec::new());
    };
    let mut guesses: Vec<Option<Tensor>> = vec![None; decoders.len()];
    let tape = Tape::eval();
    let x = x.to_device(&target.device())?;
    target.visit_taps(&normalisation.apply(&x)?, last, |split, z| -> Result<()> {
        if !decoders.iter().any(|(attacked, _)| *attacked == split) {
            return Ok(());
        }
        let z = Var::constant(wire.receive(split, z, sending)?);
        for (i, (attacked, decoder)) in decoders.iter().enumerate() {
            if *attacked == split {
                guesses[i] = Some(decoder.forward(&tape, &z)?.into_value());
            }
        }
        Ok(())
    })?;
    // Every split was visited, so none is missing.
    Ok(guesses.into_iter().flatten().collect())
}
