//! The inversion trainer: decoders of several splits learn from one forward pass of the target per batch.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use gpz_data::{
    Augment, AuxiliaryHeldOut, AuxiliaryTrain, Batch, BatchOptions, Batches, ImageSet, Part,
    Selection,
};
use gpz_models::{Normalisation, Target};
use gpz_nn::{Module, Tape, Var, checkpoint, derive_seed, loss, rng_for};
use gpz_tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::cache::FeatureCache;
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

/// Where features come from: the target, and what a cache has kept of it.
struct Source<'a> {
    target: &'a dyn Target,
    /// Where the target lies, and with it the attacks.
    device: Device,
    normalisation: Normalisation,
    cache: Option<FeatureCache>,
}

impl Source<'_> {
    /// Visits the features of a batch's pictures at `splits` (ascending), from one forward pass over those that no cache has.
    ///
    /// - `x`: the batch on the device
    fn visit(
        &mut self,
        splits: &[usize],
        (part, batch): (Part, &Batch),
        x: &Tensor,
        mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let Some(&last) = splits.last() else { return Ok(()) };
        let cache = self.cache.as_mut().filter(|cache| cache.is_for(splits));
        let cached = cache.and_then(|cache| Some((cache.rows(part, batch)?, cache)));
        let Some((rows, cache)) = cached else {
            let normal = self.normalisation.apply(x)?;
            return self.target.visit_taps(&normal, last, |split, z| {
                if splits.contains(&split) { visit(split, z) } else { Ok(()) }
            });
        };
        let new: Vec<usize> = (0..rows.len()).filter(|&i| !cache.knows(rows[i])).collect();
        if !new.is_empty() {
            let x = match new.len() == rows.len() {
                true => x.clone(),
                false => some_pictures(batch, &new)?.to_device(&self.device)?,
            };
            let of: Vec<usize> = new.iter().map(|&i| rows[i]).collect();
            let keep = |split, z: &Tensor| cache.put(split, &of, z);
            self.target.visit_taps(&self.normalisation.apply(&x)?, last, keep)?;
            cache.complete(&of);
        }
        for &split in splits {
            if let Some(z) = cache.get(split, &rows, &self.device)? {
                visit(split, &z)?;
            }
        }
        Ok(())
    }
}

/// [`pictures`] of some images of a batch.
fn some_pictures(batch: &Batch, which: &[usize]) -> Result<Tensor> {
    let [_, h, w, c] = batch.shape;
    let len = h * w * c;
    let mut values = Vec::with_capacity(which.len() * len);
    which.iter().for_each(|&i| values.extend_from_slice(&batch.images[i * len..][..len]));
    Ok(Tensor::from_channels_last(&values, [which.len(), c, h, w])?)
}

/// One decoder for each attacked split, trained together.
pub struct InversionTrainer<'a> {
    source: Source<'a>,
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
        let source = Source { target, device, normalisation, cache: None };
        Ok(InversionTrainer { source, wire: &Exact, plan, seed, attacks })
    }

    /// The same attacks on features that arrive through `wire`: decoders learn from what is received, and are chosen by it.
    #[must_use]
    pub fn behind(self, wire: &'a dyn Wire) -> Self {
        InversionTrainer { wire, ..self }
    }

    /// The same attacks, with features kept in a cache made for their splits and their parts: the target runs once over each picture. A cache that
    /// is for other splits is not used. What passes a wire is kept before it does.
    #[must_use]
    pub fn caching(mut self, cache: FeatureCache) -> Self {
        self.source.cache = Some(cache);
        self
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
        let total = left as u64 * per_epoch;
        observer.begin("attacks", total.saturating_sub(self.steps_done() as u64));
        while let Some(epoch) = self.next_epoch() {
            let mut images = batches.epoch(epoch as u64);
            let together = self.learners().count();
            let detail = format!("{}/{epochs} epochs   {together} decoders together", epoch + 1);
            images.skip_batches(self.steps_done());
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

    /// Attacks that still learn.
    fn learners(&self) -> impl Iterator<Item = &(usize, Learner<Decoder>)> {
        self.attacks.iter().filter(|(_, learner)| !learner.is_finished())
    }

    /// The epoch, counted from 0, in which they are; none if all are finished.
    fn next_epoch(&self) -> Option<usize> {
        self.learners().map(|(_, learner)| learner.epochs_done()).min()
    }

    /// Steps they have done in it.
    fn steps_done(&self) -> usize {
        self.learners().map(|(_, learner)| learner.steps_done()).max().unwrap_or(0)
    }

    /// Their splits, ascending.
    fn learning(&self) -> Vec<usize> {
        let mut splits: Vec<usize> = self.learners().map(|(split, _)| *split).collect();
        splits.sort_unstable();
        splits
    }

    /// One forward pass of the target as far as the deepest attack that still learns; at each tap of one, one step of its decoder.
    fn step(&mut self, epoch: usize, part: Part, batch: &Batch) -> Result<()> {
        let x = pictures(batch)?.to_device(&self.source.device)?;
        let splits = self.learning();
        let (attacks, seed, wire) = (&mut self.attacks, self.seed, self.wire);
        let sending = Sending { part, epoch: epoch as u64, positions: &batch.positions };
        self.source.visit(&splits, (part, batch), &x, |split, z| {
            let z = wire.receive(split, z, &sending)?;
            for (_, learner) in attacks.iter_mut().filter(|(attacked, _)| *attacked == split) {
                decoder_step(learner, (seed, epoch), &z, &x)?;
            }
            Ok(())
        })
    }

    /// Mean squared error per element on held-out images, by which states are chosen, of every attack that still learns, with its place
    /// among the attacks.
    fn mean_errors(
        &mut self,
        epoch: usize,
        held_out: &impl Selection,
    ) -> Result<Vec<(usize, f64)>> {
        let options = BatchOptions::in_order(self.plan.training.batch);
        let batches = Batches::new(held_out, options, self.seed, "held out")?;
        let (splits, part) = (self.learning(), held_out.part());
        let mut sums = vec![0.0; self.attacks.len()];
        let (attacks, wire, tape) = (&self.attacks, self.wire, Tape::eval());
        for batch in batches.epoch(0) {
            let x = pictures(&batch)?.to_device(&self.source.device)?;
            let sending = Sending { part, epoch: epoch as u64, positions: &batch.positions };
            self.source.visit(&splits, (part, &batch), &x, |split, z| {
                let z = Var::constant(wire.receive(split, z, &sending)?);
                for ((attacked, learner), sum) in attacks.iter().zip(&mut sums) {
                    if *attacked == split {
                        let guess = learner.module().forward(&tape, &z)?;
                        let loss = loss::mse(&guess, &x)?;
                        *sum += loss.value().item()? * batch.len() as f64;
                    }
                }
                Ok(())
            })?;
        }
        let n = held_out.len().max(1) as f64;
        let learning = |(place, sum): (usize, f64)| {
            (!self.attacks[place].1.is_finished()).then_some((place, sum / n))
        };
        Ok(sums.into_iter().enumerate().filter_map(learning).collect())
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
        let mut state = Vec::new();
        self.write_state(&mut state)?;
        Ok(state)
    }

    /// [`InversionTrainer::state`], written as it is put together and never held as a whole.
    ///
    /// # Errors
    /// [`gpz_nn::Error::Write`].
    pub fn write_state(&self, out: &mut dyn Write) -> Result<()> {
        let (mut tensors, mut progress) = (Vec::new(), BTreeMap::new());
        for (split, learner) in &self.attacks {
            let named = learner.tensors().into_iter();
            tensors.extend(named.map(|(name, tensor)| (format!("{split}/{name}"), tensor)));
            progress.insert(split.to_string(), learner.progress_text()?);
        }
        let progress = serde_json::to_string(&progress).map_err(unusable)?;
        Ok(checkpoint::write_safetensors(&tensors, Some(&progress), out)?)
    }

    /// Goes back to a state that [`InversionTrainer::state`] gave.
    ///
    /// # Errors
    /// [`Error::State`] for a damaged file, or one of other splits or networks; nothing is changed then.
    pub fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.restore_from(&mut &*state)
    }

    /// [`InversionTrainer::restore`] from a file, which is never held as a whole.
    ///
    /// # Errors
    /// As [`InversionTrainer::restore`]; [`gpz_nn::Error::Read`].
    pub fn restore_from(&mut self, state: &mut dyn Read) -> Result<()> {
        let read = checkpoint::read_safetensors(state);
        let (tensors, progress) = read.map_err(|error| match error {
            gpz_nn::Error::Read(_) => error.into(),
            damaged => unusable(damaged),
        })?;
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
