//! A learner on a network of two numbers: what it keeps, what it refuses, and how it goes on.

use std::collections::BTreeMap;

use gpz_inversion::{Error, Keep, Learner, Result, TrainingPlan};
use gpz_nn::{Entry, Module, Rule, Schedule, Tape, Var, checkpoint, module};
use gpz_tensor::{DType, Tensor};

struct Two {
    a: Entry,
    b: Entry,
}

module!(Two { "a" => a, "b" => b });

fn two() -> Result<Two> {
    let number = |value| Entry::parameter(Tensor::scalar(value, DType::F64));
    Ok(Two { a: number(1.0), b: number(2.0) })
}

fn learner() -> Result<Learner<Two>> {
    learner_that_stops(None)
}

fn learner_that_stops(stop_after: Option<usize>) -> Result<Learner<Two>> {
    Ok(Learner::new("the pair", two()?, &plan(stop_after)))
}

fn plan(stop_after: Option<usize>) -> TrainingPlan {
    TrainingPlan {
        epochs: 9,
        batch: 1,
        learning_rate: 0.1,
        stop_after,
        keep: Keep::LowestLoss,
        optimizer: Rule::Sgd { momentum: 0.9, weight_decay: 0.0 },
        schedule: Schedule::Constant,
    }
}

fn values(module: &Two) -> [f64; 2] {
    [&module.a, &module.b].map(|entry| entry.value().item().unwrap_or(f64::NAN))
}

/// A step, and to the end of the epoch.
fn epoch(learner: &mut Learner<Two>, held_out_loss: f64) -> Result<()> {
    a_step(learner)?;
    learner.end_epoch(held_out_loss, None)
}

/// Down the slope of a + 2b.
fn a_step(learner: &mut Learner<Two>) -> Result<()> {
    let tape = Tape::train(0);
    let [a, b] = [&learner.module().a, &learner.module().b].map(|entry| tape.parameter(entry));
    let loss = a.add(&b.affine(2.0, 0.0)?)?;
    learner.step(&tape, &loss, 1)
}

#[test]
fn the_best_epoch_is_kept_not_the_last() -> Result<()> {
    let mut learner = learner()?;
    let mut after = Vec::new();
    for loss in [0.5, 0.2, 0.9, 0.2, 0.3] {
        epoch(&mut learner, loss)?;
        after.push(values(learner.module()));
    }
    // Equally good is not better.
    assert_eq!(learner.best_epoch(), Some(2));
    assert_ne!(after[1], after[4]);
    let mut resumed = self::learner()?;
    resumed.restore(&learner.state()?)?;
    assert_eq!(values(resumed.module()), after[4], "training goes on from the last epoch");
    epoch(&mut resumed, 0.25)?;
    epoch(&mut learner, 0.25)?;
    assert_eq!(values(&learner.into_best()?), after[1]);
    assert_eq!(values(&resumed.into_best()?), after[1]);
    Ok(())
}

/// Three epochs without a new lowest loss end it, an equal one is none; a restored learner knows what the first one knew.
#[test]
fn staleness_ends_training_and_survives_a_restart() -> Result<()> {
    let losses = [0.5, 0.2, 0.2, 0.9, 0.1, 0.3, 0.1, 0.2];
    let finished = |learner: &Learner<Two>| (learner.is_finished(), learner.stopped_early());
    let mut learner = learner_that_stops(Some(3))?;
    assert_eq!(finished(&learner), (false, false));
    for (at, loss) in losses.into_iter().enumerate() {
        epoch(&mut learner, loss)?;
        let stale = at == 7;
        assert_eq!(finished(&learner), (stale, stale), "epoch {}", at + 1);
        let mut restored = learner_that_stops(Some(3))?;
        restored.restore(&learner.state()?)?;
        assert_eq!(finished(&restored), (stale, stale));
    }
    assert_eq!(learner.best_epoch(), Some(5));
    // The plan's last epoch is no early stop, and without the rule nothing else ends it.
    let mut learner = self::learner()?;
    for at in 1..=9 {
        assert_eq!(finished(&learner), (false, false), "epoch {at}");
        epoch(&mut learner, 0.5)?;
    }
    assert_eq!(finished(&learner), (true, false));
    Ok(())
}

/// The loss rises from the first epoch on: what is kept, the schedule and the early end go by the accuracy, of which an equal one is no better.
#[test]
fn what_is_kept_by_accuracy_does_not_look_at_the_loss() -> Result<()> {
    let plan = TrainingPlan {
        stop_after: Some(2),
        keep: Keep::HighestAccuracy,
        schedule: Schedule::Plateau { factor: 0.5, patience: 1 },
        ..plan(None)
    };
    let new = || Ok::<_, Error>(Learner::new("the pair", two()?, &plan));
    let mut learner = new()?;
    let mut after = Vec::new();
    for (loss, accuracy) in [(0.1, 0.25), (0.2, 0.5), (0.3, 0.75), (0.4, 0.75), (0.5, 0.5)] {
        assert!(!learner.is_finished());
        a_step(&mut learner)?;
        learner.end_epoch(loss, Some(accuracy))?;
        after.push(values(learner.module()));
    }
    assert!(learner.stopped_early() && learner.best_epoch() == Some(3));
    let rates: Vec<f64> = learner.curve().iter().map(|epoch| epoch.learning_rate).collect();
    assert_eq!(rates, [0.1; 5]);
    let mut restored = new()?;
    restored.restore(&learner.state()?)?;
    assert_eq!(values(&restored.into_best()?), after[2]);
    for missing in [None, Some(f64::NAN)] {
        let found = learner.end_epoch(0.1, missing).err().map(|error| error.to_string());
        let want = "the pair has no accuracy on held-out images, and its state is to be kept by the highest one; keep by lowest-loss";
        assert_eq!(found.as_deref(), Some(want));
    }
    Ok(())
}

#[test]
fn without_an_epoch_the_present_state_is_the_best() -> Result<()> {
    assert_eq!(values(&learner()?.into_best()?), [1.0, 2.0]);
    Ok(())
}

/// The root's slope at 0 is infinite where its value is not: the step would leave NaN, and the next be blamed.
#[test]
fn a_gradient_that_is_no_number_names_its_own_step() -> Result<()> {
    let mut learner = learner()?;
    epoch(&mut learner, 1.0)?;
    let before = learner.state()?;
    let tape = Tape::train(0);
    let [a, b] = [&learner.module().a, &learner.module().b].map(|entry| tape.parameter(entry));
    let zero = b.sub(&Var::constant(b.value().clone()))?;
    let loss = a.add(&zero.unary(gpz_tensor::UnaryOp::Sqrt)?)?;
    let error = learner.step(&tape, &loss, 1).err().map(|e| e.to_string());
    let want = "the gradient of b of the pair is not finite in step 1 of epoch 2, at a loss of 0.9; lower its learning \
                rate and run again";
    assert_eq!(error.as_deref(), Some(want));
    assert!(learner.state()? == before, "nothing may have changed");
    Ok(())
}

/// On a CUDA device a step that was not finite is found later, but never saved: the state before it is what leads on.
#[test]
fn a_bad_step_on_a_device_is_found_before_it_is_saved() -> Result<()> {
    let device = gpz_cuda_sim::device_of_tests();
    let plan = TrainingPlan {
        epochs: 9,
        batch: 1,
        learning_rate: 0.1,
        stop_after: None,
        keep: Keep::LowestLoss,
        optimizer: Rule::Adam { betas: [0.9, 0.99], amsgrad: false, weight_decay: 0.0 },
        schedule: Schedule::Constant,
    };
    let mut module = two()?;
    module.convert(DType::F32)?;
    module.to_device(&device)?;
    let mut learner = Learner::new("the pair", module, &plan);
    let step = |learner: &mut Learner<Two>, scale: f64| {
        let tape = Tape::train(0);
        let loss = tape.parameter(&learner.module().a).affine(scale, 0.0)?;
        learner.step(&tape, &loss, 1)
    };
    step(&mut learner, 1.0)?;
    let (before, saved) = (values(learner.module()), learner.state()?);
    step(&mut learner, f64::INFINITY)?;
    step(&mut learner, 1.0)?;
    assert_eq!(values(learner.module()), before);
    let found = |result: Result<()>| {
        let error = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("the pair became inf in step 2 of epoch 1"), "{error}");
    };
    found(learner.state().map(drop));
    found(learner.end_epoch(0.5, None));
    found(learner.end_epoch(0.5, None));
    learner.restore(&saved)?;
    step(&mut learner, 1.0)?;
    learner.end_epoch(0.5, None)?;
    assert_ne!(values(learner.module()), before);
    assert_eq!(learner.device(), device);
    Ok(())
}

/// Whatever part of a state does not fit, the learner stays what it was.
#[test]
fn a_state_that_does_not_fit_changes_nothing() -> Result<()> {
    let mut trained = learner()?;
    epoch(&mut trained, 0.5)?;
    let (tensors, progress) = checkpoint::from_safetensors(&trained.state()?)?;
    let progress = progress.unwrap_or_default();
    let wide = Tensor::zeros(&[2], DType::F32)?;
    let mut learner = learner()?;
    let before = learner.state()?;
    type Change<'a> = &'a dyn Fn(&mut BTreeMap<String, Tensor>);
    let changes: [(&str, Change<'_>); 7] = [
        ("missing: b", &|t| drop(t.remove("now:b"))),
        ("in its best state", &|t| drop(t.remove("best:b"))),
        ("in its best state", &|t| drop(t.insert("best:a".into(), wide.clone()))),
        ("in its best state", &|t| t.retain(|name, _| !name.starts_with("best"))),
        ("a.0 is missing", &|t| drop(t.remove("optimizer:a.0"))),
        ("b.0 is [2]", &|t| drop(t.insert("optimizer:b.0".into(), wide.clone()))),
        ("learning_rate is missing", &|t| drop(t.remove("optimizer:learning_rate"))),
    ];
    for (reason, change) in changes {
        let mut damaged = tensors.clone();
        change(&mut damaged);
        let damaged: Vec<(String, Tensor)> = damaged.into_iter().collect();
        let bytes = checkpoint::to_safetensors(&damaged, Some(&progress))?;
        match learner.restore(&bytes) {
            Err(Error::State { reason: found, .. }) => {
                assert!(found.contains(reason), "{found} instead of {reason}");
            }
            other => panic!("{reason}: {other:?}"),
        }
        assert!(learner.state()? == before, "{reason}: something was changed");
    }
    learner.restore(&checkpoint::to_safetensors(
        &tensors.into_iter().collect::<Vec<_>>(),
        Some(&progress),
    )?)?;
    assert!(learner.state()? == trained.state()?);
    Ok(())
}
