//! The inversion trainer: what it learns, what it does not depend on, and how it goes on after a stop.

use gpz_data::{Dataset, ImageSet, ImageShape, Part, Parts, SplitPlan};
use gpz_inversion::{
    AttackPlan, DecoderChoice, Error, Exact, InversionTrainer, Keep, Observer, Sending, Silent,
    TrainingPlan, Wire, pictures, reconstruct,
};
use gpz_models::{ModelSpec, Normalisation, Target};
use gpz_nn::{Module, Rule, Schedule, checkpoint, rng_for};
use rand::RngExt;

type Fallible = Result<(), Box<dyn std::error::Error>>;

const SIDE: usize = 16;

/// Smooth random blobs, so that there is something to learn: two classes, left and right.
fn parts() -> Result<Parts, gpz_data::Error> {
    let mut rng = rng_for(11, "blobs", 0);
    let mut blobs = |count: usize| {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for i in 0..count {
            let label = i % 2;
            let (row, column) =
                (rng.random_range(3.0..13.0), rng.random_range(2.0..6.0) + 8.0 * label as f64);
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let d = (y as f64 - row).powi(2) + (x as f64 - column).powi(2);
                    images.push((255.0 * (-d / 8.0).exp()) as u8);
                }
            }
            labels.push(label);
        }
        (images, labels)
    };
    cut(blobs(200), blobs(20))
}

/// Cells of 2×2 random pixels: nothing about one tells of another, so what a layer lost cannot be guessed.
fn cells() -> Result<Parts, gpz_data::Error> {
    let mut rng = rng_for(12, "cells", 0);
    let mut cells = |count: usize| {
        let mut images = Vec::new();
        for _ in 0..count {
            let values: [u8; SIDE * SIDE / 4] = rng.random();
            let at = |pixel: usize| values[pixel / SIDE / 2 * (SIDE / 2) + pixel % SIDE / 2];
            images.extend((0..SIDE * SIDE).map(at));
        }
        (images, (0..count).map(|i| i % 2).collect())
    };
    cut(cells(200), cells(20))
}

fn cut(
    train: (Vec<u8>, Vec<usize>),
    test: (Vec<u8>, Vec<usize>),
) -> Result<Parts, gpz_data::Error> {
    let shape = ImageShape { height: SIDE, width: SIDE, channels: 1 };
    Dataset::from_arrays("drawn", shape, train, None, Some(test))?
        .split(&SplitPlan { resolution: (SIDE, SIDE), ..SplitPlan::default() })
}

fn plan(epochs: usize, learning_rate: f64) -> AttackPlan {
    let optimizer = Rule::Adam { betas: [0.5, 0.999], amsgrad: true, weight_decay: 0.0 };
    let schedule = Schedule::Plateau { factor: 0.5, patience: 4 };
    AttackPlan {
        training: TrainingPlan {
            epochs,
            batch: 8,
            learning_rate,
            stop_after: None,
            keep: Keep::LowestLoss,
            optimizer,
            schedule,
        },
        flip: true,
        decoder: DecoderChoice::Auto,
    }
}

fn target() -> gpz_models::Result<Box<dyn Target>> {
    "cnn4:width=8".parse::<ModelSpec>()?.build([1, 16, 16], 2, &mut rng_for(2, "target", 0))
}

fn weights(module: &dyn Module) -> Vec<f64> {
    module.entries().iter().flat_map(|(_, entry)| entry.value().to_vec::<f64>().unwrap()).collect()
}

fn save_nothing(_: &InversionTrainer<'_>) -> Result<(), Error> {
    Ok(())
}

/// Errors of the attacks on two splits at their best epoch, and the variance of the held-out pictures.
fn attacked(parts: &Parts, epochs: usize) -> Result<([f64; 2], f64), Box<dyn std::error::Error>> {
    let target = target()?;
    let mut trainer = InversionTrainer::new(&*target, &[1, 4], plan(epochs, 0.01), 1)?;
    let auxiliary = &parts.auxiliary;
    trainer.train(auxiliary.train(), auxiliary.held_out(), &mut Silent, save_nothing)?;
    let best = |i: usize| {
        let curve = trainer.attacks()[i].1.curve().iter().map(|e| e.held_out_loss);
        curve.fold(f64::INFINITY, f64::min)
    };
    let batch = gpz_data::ImageSet::batch(auxiliary.held_out(), &[0, 1, 2, 3])?;
    let x = pictures(&batch)?;
    let spread = x.sub(&x.mean(&[0, 1, 2, 3])?)?;
    Ok(([best(0), best(1)], spread.dot(&spread)? / x.numel() as f64))
}

/// A blob has few degrees of freedom, which every block keeps.
#[test]
fn decoders_learn_the_picture() -> Fallible {
    let ([shallow, deep], variance) = attacked(&parts()?, 150)?;
    assert!(shallow < 0.1 * variance, "block 1: {shallow} of variance {variance}");
    assert!(deep < 0.1 * variance, "block 4: {deep} of variance {variance}");
    Ok(())
}

#[test]
fn what_a_deep_block_lost_cannot_be_learned() -> Fallible {
    let ([shallow, deep], variance) = attacked(&cells()?, 40)?;
    assert!(shallow < 0.5 * deep, "block 1: {shallow}, block 4: {deep}, variance {variance}");
    Ok(())
}

#[test]
fn an_attack_does_not_depend_on_those_beside_it() -> Fallible {
    let (parts, target) = (parts()?, target()?);
    let train = |splits: &[usize]| -> Result<Vec<(usize, Vec<f64>)>, Error> {
        let mut trainer = InversionTrainer::new(&*target, splits, plan(2, 0.01), 9)?;
        let auxiliary = &parts.auxiliary;
        trainer.train(auxiliary.train(), auxiliary.held_out(), &mut Silent, save_nothing)?;
        Ok(trainer
            .into_decoders()?
            .iter()
            .map(|(split, decoder)| (*split, weights(decoder)))
            .collect())
    };
    let together = train(&[1, 2, 3, 4])?;
    let alone = train(&[3])?;
    assert_eq!(together[2], alone[0]);
    Ok(())
}

/// Asks for a stop after some steps.
struct StopAfter(std::cell::Cell<usize>);

impl Observer for StopAfter {
    fn advance(&mut self, steps: u64, _: &str) {
        if steps > 0 {
            self.0.set(self.0.get().saturating_sub(1));
        }
    }

    fn stop_requested(&self) -> bool {
        self.0.get() == 0
    }
}

#[test]
fn a_stopped_training_goes_on_to_the_same_bits() -> Fallible {
    let (parts, target) = (parts()?, target()?);
    let auxiliary = &parts.auxiliary;
    let (train, held_out) = (auxiliary.train(), auxiliary.held_out());
    let mut whole = InversionTrainer::new(&*target, &[2, 4], plan(3, 0.01), 4)?;
    whole.train(train, held_out, &mut Silent, save_nothing)?;
    let curves: Vec<_> =
        whole.attacks().iter().map(|(_, learner)| learner.curve().to_vec()).collect();
    let want: Vec<_> = whole.into_decoders()?.iter().map(|(_, d)| weights(d)).collect();
    // In the first epoch, at its end, and in the last epoch.
    for steps in [1, 7, 8, 17] {
        let mut saved = Vec::new();
        let mut first = InversionTrainer::new(&*target, &[2, 4], plan(3, 0.01), 4)?;
        let stopped = first.train(train, held_out, &mut StopAfter(steps.into()), |trainer| {
            saved = trainer.state()?;
            Ok::<(), Error>(())
        });
        assert!(matches!(stopped, Err(Error::Stopped)), "after {steps} steps");
        let mut second = InversionTrainer::new(&*target, &[2, 4], plan(3, 0.01), 4)?;
        second.restore(&saved)?;
        second.train(train, held_out, &mut Silent, save_nothing)?;
        for ((_, learner), curve) in second.attacks().iter().zip(&curves) {
            assert_eq!(learner.curve(), curve, "after {steps} steps");
        }
        let got: Vec<_> = second.into_decoders()?.iter().map(|(_, d)| weights(d)).collect();
        assert!(got == want, "after {steps} steps the decoders differ");
    }
    Ok(())
}

/// Epochs of an attack, whether it ended early, and its weights.
type Ended = (usize, bool, Vec<f64>);

/// A decoder that stopped early keeps its bits while another goes on, each as it would have alone; and a run that is interrupted
/// after the first has stopped goes on to the same bits.
#[test]
fn a_decoder_that_stopped_stays_what_it_is() -> Fallible {
    let (parts, target) = (cells()?, target()?);
    let auxiliary = &parts.auxiliary;
    let (train, held_out) = (auxiliary.train(), auxiliary.held_out());
    // A rate at which held-out errors go up and down.
    let mut stopping = plan(25, 0.05);
    stopping.training.stop_after = Some(2);
    let run = |splits: &[usize]| -> Result<Vec<Ended>, Box<dyn std::error::Error>> {
        let mut trainer = InversionTrainer::new(&*target, splits, stopping, 4)?;
        trainer.train(train, held_out, &mut Silent, save_nothing)?;
        let ends: Vec<_> = trainer
            .attacks()
            .iter()
            .map(|(_, learner)| (learner.epochs_done(), learner.stopped_early()))
            .collect();
        let decoders = trainer.into_decoders()?;
        let weights = decoders.iter().map(|(_, decoder)| weights(decoder));
        Ok(ends.into_iter().zip(weights).map(|((epochs, early), w)| (epochs, early, w)).collect())
    };
    let together = run(&[1, 4])?;
    let ends: Vec<usize> = together.iter().map(|(epochs, ..)| *epochs).collect();
    assert!(ends[0] != ends[1] && together.iter().any(|(_, early, _)| *early), "{ends:?}");
    assert!(together == [run(&[1])?.remove(0), run(&[4])?.remove(0)], "{ends:?}");

    let per_epoch = train.len().div_ceil(8);
    let between = ends[0].min(ends[1]) * per_epoch + 1;
    let mut saved = Vec::new();
    let mut first = InversionTrainer::new(&*target, &[1, 4], stopping, 4)?;
    let stopped = first.train(train, held_out, &mut StopAfter(between.into()), |trainer| {
        saved = trainer.state()?;
        Ok::<(), Error>(())
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    let mut second = InversionTrainer::new(&*target, &[1, 4], stopping, 4)?;
    second.restore(&saved)?;
    second.train(train, held_out, &mut Silent, save_nothing)?;
    let resumed: Vec<_> = second.into_decoders()?.iter().map(|(_, d)| weights(d)).collect();
    assert!(resumed.iter().zip(&together).all(|(w, (.., want))| w == want));
    Ok(())
}

#[test]
fn a_loss_that_is_no_number_names_the_split_and_the_step() -> Fallible {
    let (parts, mut target) = (parts()?, target()?);
    target.visit_mut("", &mut |name, entry| {
        if name == "block3.1.running_mean"
            && let Ok(value) =
                gpz_tensor::Tensor::full(entry.value().shape(), f64::NAN, entry.value().dtype())
        {
            *entry.value_mut() = value;
        }
    });
    let mut trainer = InversionTrainer::new(&*target, &[1, 3], plan(1, 0.01), 1)?;
    let auxiliary = &parts.auxiliary;
    let error = trainer
        .train(auxiliary.train(), auxiliary.held_out(), &mut Silent, save_nothing)
        .expect_err("the feature of block 3 is NaN");
    let message = error.to_string();
    assert!(message.contains("block3") && message.contains("step 1 of epoch 1"), "{message}");
    Ok(())
}

#[test]
fn splits_that_do_not_exist_or_come_twice_are_refused() -> Fallible {
    let target = target()?;
    let twice = InversionTrainer::new(&*target, &[2, 3, 2], plan(1, 0.01), 1).err();
    let want = "split block2 is named twice; name each split once";
    assert_eq!(twice.map(|e| e.to_string()).as_deref(), Some(want));
    let decoders = InversionTrainer::new(&*target, &[4], plan(1, 0.01), 1)?.into_decoders()?;
    let x = gpz_tensor::Tensor::zeros(&[2, 1, 16, 16], gpz_tensor::DType::F32)?;
    let normalisation = Normalisation::for_channels(1)?;
    let from = |split: usize| {
        reconstruct(&*target, &normalisation, decoders.iter().map(|(_, d)| (split, d)), &x)
    };
    assert_eq!(from(4)?.len(), 1);
    for split in [0, 5] {
        let error = from(split).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.starts_with(&format!("unknown split \"{split}\"")), "{error}");
    }
    assert!(reconstruct(&*target, &normalisation, std::iter::empty(), &x)?.is_empty());
    Ok(())
}

/// Split, part, epoch and positions of the images.
type Sent = (usize, Part, u64, Vec<usize>);

/// Sends nothing of what a feature holds, and notes for whom.
struct Silence(std::sync::Mutex<Vec<Sent>>);

impl Wire for Silence {
    fn receive(
        &self,
        split: usize,
        z: &gpz_tensor::Tensor,
        sending: &Sending<'_>,
    ) -> gpz_inversion::Result<gpz_tensor::Tensor> {
        let Sending { part, epoch, positions } = *sending;
        if let Ok(mut seen) = self.0.lock() {
            seen.push((split, part, epoch, positions.to_vec()));
        }
        Ok(gpz_tensor::Tensor::zeros(z.shape(), z.dtype())?)
    }
}

/// An attack behind a wire learns from, and is chosen by, what arrives there; every image is sent once in an epoch, under its own position.
#[test]
fn attacks_see_only_what_arrives() -> Fallible {
    let (parts, target, wire) = (cells()?, target()?, Silence(Default::default()));
    let auxiliary = &parts.auxiliary;
    let train = |wire: &dyn Wire| -> Result<f64, Box<dyn std::error::Error>> {
        let mut trainer = InversionTrainer::new(&*target, &[1], plan(12, 0.01), 3)?.behind(wire);
        trainer.train(auxiliary.train(), auxiliary.held_out(), &mut Silent, save_nothing)?;
        let best = trainer.attacks()[0].1.curve().iter().map(|epoch| epoch.held_out_loss);
        Ok(best.fold(f64::INFINITY, f64::min))
    };
    let (exact, silent) = (train(&Exact)?, train(&wire)?);
    // Uniform values guessed by their mean: variance 1/12.
    assert!((silent - 1.0 / 12.0).abs() < 0.015 && exact < 0.5 * silent, "{exact} {silent}");
    let seen = wire.0.lock().map_err(|_| "poisoned")?;
    for (part, len) in [
        (Part::AuxiliaryTrain, auxiliary.train().len()),
        (Part::AuxiliaryHeldOut, auxiliary.held_out().len()),
    ] {
        let mut positions: Vec<usize> = seen
            .iter()
            .filter(|(split, of, epoch, _)| (*split, *of, *epoch) == (1, part, 2))
            .flat_map(|(.., positions)| positions.clone())
            .collect();
        positions.sort_unstable();
        assert_eq!(positions, (0..len).collect::<Vec<_>>(), "{part}");
    }
    Ok(())
}

/// The first attack's part fits, the second's does not: neither is taken over.
#[test]
fn attacks_are_restored_together_or_not_at_all() -> Fallible {
    let target = target()?;
    let new = |seed| InversionTrainer::new(&*target, &[2, 4], plan(1, 0.01), seed);
    let (tensors, progress) = checkpoint::from_safetensors(&new(1)?.state()?)?;
    let kept = |name: &str| name != "4/now:decoder.0.weight";
    let damaged: Vec<_> = tensors.into_iter().filter(|(name, _)| kept(name)).collect();
    let damaged = checkpoint::to_safetensors(&damaged, progress.as_deref())?;
    let mut trainer = new(2)?;
    let before = trainer.state()?;
    assert!(matches!(trainer.restore(&damaged), Err(Error::State { .. })));
    assert!(trainer.state()? == before);
    Ok(())
}

#[test]
fn a_damaged_state_is_refused() -> Fallible {
    let target = target()?;
    let mut trainer = InversionTrainer::new(&*target, &[2], plan(1, 0.01), 1)?;
    let state = trainer.state()?;
    for cut in [0, 7, 8, state.len() / 2, state.len() - 1] {
        assert!(matches!(trainer.restore(&state[..cut]), Err(Error::State { .. })), "{cut} bytes");
    }
    for splits in [&[3][..], &[2, 3], &[]] {
        let mut other = InversionTrainer::new(&*target, splits, plan(1, 0.01), 1)?;
        assert!(matches!(other.restore(&state), Err(Error::State { .. })), "{splits:?}");
    }
    trainer.restore(&state)?;
    Ok(())
}
