//! Optimisers against PyTorch's definitions written out in f64, their state across an interruption, and learning rate schedules.

mod common;

use std::collections::BTreeMap;

use common::{rng, uniform};
use gpz_nn::{Entry, Optimizer, Result, Rule, Schedule, Scheduler, Step, Tape, checkpoint, module};
use gpz_tensor::{DType, Tensor};

/// Two parameters of different shape.
struct Pair {
    a: Entry,
    b: Entry,
}

module!(Pair { "layer.a" => a, "b" => b });

impl Pair {
    fn new(dtype: DType) -> Self {
        let rng = &mut rng(1);
        let mut draw = |shape: &[usize]| {
            Entry::parameter(uniform(rng, shape, -1.0..1.0).to_dtype(dtype).unwrap())
        };
        Pair { a: draw(&[2, 3]), b: draw(&[5]) }
    }

    fn gradients(&self, number: u64) -> Result<Step> {
        self.gradients_of(&[&self.a, &self.b], number)
    }

    /// The step whose gradient of `a` is `dloss/da` of Σ w·tanh(a), with weights of the step's number.
    fn gradients_of(&self, entries: &[&Entry], number: u64) -> Result<Step> {
        let rng = &mut rng(100 + number);
        let tape = Tape::train(0);
        let mut total = None;
        for entry in entries {
            let x = tape.parameter(entry);
            let weights = uniform(rng, x.shape(), -2.0..2.0).to_dtype(x.value().dtype()).unwrap();
            let axes: Vec<usize> = (0..x.shape().len()).collect();
            let part = x.tanh()?.mul(&gpz_nn::Var::constant(weights))?.sum(&axes)?;
            total = Some(match total {
                Some(sum) => part.add(&sum)?,
                None => part,
            });
        }
        tape.backward(&total.unwrap())
    }

    fn values(&self) -> Vec<f64> {
        [&self.a, &self.b].into_iter().flat_map(|e| e.value().to_vec::<f64>().unwrap()).collect()
    }
}

/// One number's share of an optimiser, as PyTorch's documentation writes it down.
#[derive(Default, Clone)]
struct Reference {
    buffer: Option<f64>,
    m: f64,
    v: f64,
    v_max: f64,
}

impl Reference {
    fn step(&mut self, rule: Rule, lr: f64, t: i32, mut p: f64, mut g: f64) -> f64 {
        match rule {
            Rule::Sgd { momentum, weight_decay } => {
                g += weight_decay * p;
                if momentum != 0.0 {
                    let buffer = self.buffer.map_or(g, |b| momentum * b + g);
                    self.buffer = Some(buffer);
                    g = buffer;
                }
                p - lr * g
            }
            Rule::Adam { betas, amsgrad, weight_decay } => {
                self.adam(betas, amsgrad, lr, t, p, g + weight_decay * p)
            }
            Rule::AdamW { betas, amsgrad, weight_decay } => {
                p -= lr * weight_decay * p;
                self.adam(betas, amsgrad, lr, t, p, g)
            }
        }
    }

    fn adam(&mut self, betas: [f64; 2], amsgrad: bool, lr: f64, t: i32, p: f64, g: f64) -> f64 {
        let [b1, b2] = betas;
        self.m = b1 * self.m + (1.0 - b1) * g;
        self.v = b2 * self.v + (1.0 - b2) * g.powi(2);
        let m_hat = self.m / (1.0 - b1.powi(t));
        self.v_max = self.v_max.max(self.v);
        let v = if amsgrad { self.v_max } else { self.v };
        p - lr * m_hat / ((v / (1.0 - b2.powi(t))).sqrt() + 1e-8)
    }
}

fn rules() -> Vec<Rule> {
    let mut rules = vec![
        Rule::Sgd { momentum: 0.0, weight_decay: 0.0 },
        Rule::Sgd { momentum: 0.0, weight_decay: 0.1 },
        Rule::Sgd { momentum: 0.9, weight_decay: 0.0 },
        Rule::Sgd { momentum: 0.85, weight_decay: 0.05 },
    ];
    for amsgrad in [false, true] {
        for weight_decay in [0.0, 0.1] {
            for betas in [[0.9, 0.999], [0.5, 0.99]] {
                rules.push(Rule::Adam { betas, amsgrad, weight_decay });
                rules.push(Rule::AdamW { betas, amsgrad, weight_decay });
            }
        }
    }
    rules
}

#[test]
fn steps_follow_pytorch_s_definitions() -> Result<()> {
    for rule in rules() {
        for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 3e-6)] {
            let mut pair = Pair::new(dtype);
            let mut optimizer = Optimizer::new(rule, 0.05);
            let mut want = pair.values();
            let start = want.clone();
            let mut reference = vec![Reference::default(); want.len()];
            for t in 1..=12 {
                if t == 7 {
                    optimizer.set_learning_rate(0.02);
                }
                let step = pair.gradients(t)?;
                let gradients =
                    [&pair.a, &pair.b].map(|e| step.gradient(e).unwrap().to_vec::<f64>().unwrap());
                let lr = if t < 7 { 0.05 } else { 0.02 };
                for (i, g) in gradients.iter().flatten().enumerate() {
                    want[i] = reference[i].step(rule, lr, t as i32, want[i], *g);
                }
                optimizer.step(&mut pair, &step)?;
                for (got, want) in pair.values().iter().zip(&want) {
                    assert!(
                        (got - want).abs() <= tolerance,
                        "{rule:?} {dtype}, step {t}: {got} instead of {want}"
                    );
                }
            }
            let far = want.iter().zip(&start).filter(|(a, b)| (*a - *b).abs() > 0.01).count();
            assert!(far > want.len() / 2, "{rule:?}: hardly anything moved");
        }
    }
    Ok(())
}

/// A parameter that joins later takes its own first step: as in PyTorch, steps are counted for each.
#[test]
fn a_parameter_that_joins_late_begins_at_its_first_step() -> Result<()> {
    for rule in rules() {
        let mut pair = Pair::new(DType::F64);
        let mut optimizer = Optimizer::new(rule, 0.05);
        let mut want = pair.values();
        let mut reference = vec![Reference::default(); want.len()];
        let mut own_steps = [0; 2];
        for t in 1..=9 {
            // The first of the two rests now and then, too.
            let present = [t % 3 != 0, t > 4];
            let all = [&pair.a, &pair.b];
            let taking_part: Vec<&Entry> = (0..2).filter(|&i| present[i]).map(|i| all[i]).collect();
            if taking_part.is_empty() {
                continue;
            }
            let step = pair.gradients_of(&taking_part, t)?;
            for (i, range) in [(0, 0..6), (1, 6..11)].into_iter().filter(|(i, _)| present[*i]) {
                own_steps[i] += 1;
                let gradient = step.gradient(all[i]).unwrap().to_vec::<f64>().unwrap();
                for (k, g) in range.zip(gradient) {
                    want[k] = reference[k].step(rule, 0.05, own_steps[i], want[k], g);
                }
            }
            optimizer.step(&mut pair, &step)?;
            for (got, want) in pair.values().iter().zip(&want) {
                assert!((got - want).abs() <= 1e-13, "{rule:?}, step {t}: {got} for {want}");
            }
            // Through a saved state, the counts stay.
            let mut other = Optimizer::new(rule, 1.0);
            other.load_state(&pair, &optimizer.state().into_iter().collect())?;
            optimizer = other;
        }
        assert_eq!(own_steps, [6, 5]);
    }
    Ok(())
}

#[test]
fn parameters_without_a_gradient_stay() -> Result<()> {
    for rule in rules() {
        let mut pair = Pair::new(DType::F32);
        let before = pair.b.value().to_vec::<f32>().unwrap();
        let mut optimizer = Optimizer::new(rule, 0.05);
        let tape = Tape::train(0);
        let loss = tape.parameter(&pair.a).sum(&[0, 1])?;
        optimizer.step(&mut pair, &tape.backward(&loss)?)?;
        assert_eq!(pair.b.value().to_vec::<f32>().unwrap(), before, "{rule:?}: not even decayed");
        assert_ne!(
            pair.a.value().to_vec::<f32>().unwrap(),
            Pair::new(DType::F32).a.value().to_vec::<f32>().unwrap()
        );
    }
    Ok(())
}

/// Through the bytes of a checkpoint, halfway, into new objects: the same bits as without the interruption.
#[test]
fn a_resumed_run_is_the_same_run() -> Result<()> {
    for rule in rules() {
        let mut whole = Pair::new(DType::F32);
        let mut optimizer = Optimizer::new(rule, 0.05);
        let mut resumed = None;
        for t in 1..=10 {
            if t == 5 {
                let weights = checkpoint::save(&whole, None)?;
                let state = checkpoint::to_safetensors(&optimizer.state(), None)?;
                let mut pair = Pair::new(DType::F32);
                pair.a.value_mut().clone_from(&Tensor::zeros(&[2, 3], DType::F32)?);
                checkpoint::load(&mut pair, &checkpoint::from_safetensors(&weights)?.0)?;
                let mut other = Optimizer::new(rule, 123.0);
                other.load_state(&pair, &checkpoint::from_safetensors(&state)?.0)?;
                assert_eq!(other.learning_rate(), 0.05);
                resumed = Some((pair, other));
            }
            let step = whole.gradients(t)?;
            optimizer.step(&mut whole, &step)?;
            if let Some((pair, optimizer)) = &mut resumed {
                let step = pair.gradients(t)?;
                optimizer.step(pair, &step)?;
            }
        }
        let (pair, other) = resumed.unwrap();
        assert_eq!(pair.values(), whole.values(), "{rule:?}");
        let bytes = |o: &Optimizer| checkpoint::to_safetensors(&o.state(), None);
        assert_eq!(bytes(&other)?, bytes(&optimizer)?, "{rule:?}");
    }
    Ok(())
}

/// A state that does not fit is refused as a whole: half of it would train on in silence.
#[test]
fn states_of_another_rule_are_refused() -> Result<()> {
    let adam = |amsgrad| Rule::Adam { betas: [0.9, 0.999], amsgrad, weight_decay: 0.0 };
    let sgd = |momentum| Rule::Sgd { momentum, weight_decay: 0.0 };
    let state_of = |rule| -> Result<BTreeMap<String, Tensor>> {
        let mut pair = Pair::new(DType::F32);
        let mut optimizer = Optimizer::new(rule, 0.05);
        let step = pair.gradients(1)?;
        optimizer.step(&mut pair, &step)?;
        Ok(optimizer.state().into_iter().collect())
    };
    let refusal = |rule, state: &BTreeMap<String, Tensor>| {
        let mut optimizer = Optimizer::new(rule, 0.5);
        let pair = Pair::new(DType::F32);
        let text = optimizer.load_state(&pair, state).unwrap_err().to_string();
        assert_eq!(
            (optimizer.learning_rate(), optimizer.state().len()),
            (0.5, 1),
            "changed by a refused state"
        );
        text
    };
    let text = |reason: &str| {
        format!(
            "the optimiser's state does not fit its rule: {reason}; resume with the configuration it was saved under"
        )
    };
    assert_eq!(refusal(adam(true), &state_of(adam(false))?), text("b.2 is missing"));
    assert_eq!(refusal(adam(false), &state_of(adam(true))?), text("b.2 does not belong to it"));
    assert_eq!(refusal(adam(false), &state_of(sgd(0.9))?), text("b.1 is missing"));
    assert_eq!(refusal(sgd(0.0), &state_of(sgd(0.9))?), text("b.0 does not belong to it"));
    for name in ["b.steps", "layer.a.steps", "learning_rate", "b.0", "layer.a.1"] {
        let mut state = state_of(adam(false))?;
        state.remove(name);
        assert!(refusal(adam(false), &state).contains("the optimiser's state does not fit"));
    }
    let mut state = state_of(adam(false))?;
    state.insert("noise".to_owned(), Tensor::scalar(0.0, DType::F32));
    assert_eq!(refusal(adam(false), &state), text("noise does not belong to it"));
    let with = |name: &str, value: Tensor| -> Result<BTreeMap<String, Tensor>> {
        let mut state = state_of(sgd(0.9))?;
        state.insert(name.to_owned(), value);
        Ok(state)
    };
    let refused = |state: Result<BTreeMap<String, Tensor>>| Ok(refusal(sgd(0.9), &state?));
    let result: Result<String> = refused(with("b.0", Tensor::zeros(&[4], DType::F32)?));
    assert_eq!(result?, text("b.0 is [4] in f32, the parameter [5] in f32"));
    let result: Result<String> = refused(with("b.0", Tensor::zeros(&[5], DType::F64)?));
    assert_eq!(result?, text("b.0 is [5] in f64, the parameter [5] in f32"));
    let result: Result<String> = refused(with("b.steps", Tensor::scalar(1.5, DType::F64)));
    assert_eq!(result?, text("b.steps is 1.5, not a count"));
    let mut state = with("c.0", Tensor::zeros(&[5], DType::F32)?)?;
    state.insert("c.steps".to_owned(), Tensor::scalar(1.0, DType::F64));
    assert_eq!(refusal(sgd(0.9), &state), text("the network has no parameter c"));
    Ok(())
}

fn rates(schedule: Schedule, initial: f64, losses: &[f64]) -> Vec<f64> {
    let mut scheduler = Scheduler::new(schedule, initial);
    losses.iter().map(|&loss| scheduler.after_epoch(loss)).collect()
}

#[test]
fn plateaus_are_noticed_as_pytorch_notices_them() {
    let plateau = |patience| Schedule::Plateau { factor: 0.5, patience };
    // Patience 2: the third epoch without improvement halves, and counting starts anew.
    let losses = [1.0, 0.9, 0.95, 0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8];
    let want = [1., 1., 1., 1., 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125];
    assert_eq!(rates(plateau(2), 1.0, &losses), want);
    // Patience 0: every epoch without improvement. Less than a ten-thousandth is none; what it is compared with stays.
    let losses = [1.0, 0.99995, 0.99991, 0.9998, 0.5];
    assert_eq!(rates(plateau(0), 8.0, &losses), [8.0, 4.0, 2.0, 2.0, 2.0]);
    // A first loss that is no number is not the best so far.
    let losses = [f64::NAN, 1.0, 0.5, f64::NAN, 0.4];
    assert_eq!(rates(plateau(0), 8.0, &losses), [4.0, 4.0, 4.0, 2.0, 2.0]);
}

#[test]
fn the_cosine_falls_to_its_floor_and_stays() {
    let got = rates(Schedule::Cosine { epochs: 4, floor: 0.2 }, 1.0, &[0.0; 6]);
    let quarter = 0.5 * (1.0 + std::f64::consts::FRAC_1_SQRT_2);
    let want = [0.2 + 0.8 * quarter, 0.6, 0.2 + 0.8 * (1.0 - quarter), 0.2, 0.2, 0.2];
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= 1e-15, "{got} instead of {want}");
    }
    assert_eq!(rates(Schedule::Constant, 0.3, &[1.0, 2.0]), [0.3, 0.3]);
}

/// A scheduler saved as JSON and read back goes on as if nothing had happened.
#[test]
fn schedulers_survive_an_interruption() {
    let losses = [1.0, 0.7, 0.8, 0.9, 0.7, 0.69, 0.7, 0.7, 0.7];
    for schedule in [
        Schedule::Constant,
        Schedule::Plateau { factor: 0.3, patience: 1 },
        Schedule::Cosine { epochs: 7, floor: 0.01 },
    ] {
        let whole = rates(schedule, 0.7, &losses);
        let mut scheduler = Scheduler::new(schedule, 0.7);
        for (epoch, &loss) in losses.iter().enumerate() {
            let text = serde_json::to_string(&scheduler).unwrap();
            scheduler = serde_json::from_str(&text).unwrap();
            assert_eq!(scheduler.after_epoch(loss), whole[epoch], "{schedule:?}, epoch {epoch}");
        }
    }
}

/// Rules and schedules are read from configurations: a misspelt field is refused.
#[test]
fn rules_and_schedules_are_read_from_configurations() {
    for rule in rules() {
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule);
    }
    let misspelt = r#"{"name":"sgd","momentum":0.9,"weight_decay":0.0,"nesterow":true}"#;
    assert!(serde_json::from_str::<Rule>(misspelt).is_err());
    let plateau = r#"{"name":"plateau","factor":0.5,"patience":8}"#;
    let want = Schedule::Plateau { factor: 0.5, patience: 8 };
    assert_eq!(serde_json::from_str::<Schedule>(plateau).unwrap(), want);
    assert!(serde_json::from_str::<Schedule>(r#"{"name":"plateu"}"#).is_err());
    let constant = r#"{"name":"constant"}"#;
    assert_eq!(serde_json::from_str::<Schedule>(constant).unwrap(), Schedule::Constant);
    assert_eq!(serde_json::to_string(&Schedule::Constant).unwrap(), constant);
    let error = serde_json::from_str::<Schedule>(r#"{"name":"constant","patince":8}"#);
    assert!(error.unwrap_err().to_string().contains("patince"));
}
