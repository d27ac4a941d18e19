//! Images per second of whole networks, in training and in evaluation, beside the machine's multiply-adds; and the step of an attack.
//!
//! `cargo bench -p gpz-benches --bench networks` measures all of them, `-- vit resnet18` some. `benches/peers/torch/networks.py` measures the
//! same networks in PyTorch; on a shared machine, run the two in turn.
#![allow(clippy::print_stdout)] // the table is the result

use std::hint::black_box;

use gpz_benches::clock::{Took, time};
use gpz_benches::fma::run_chains;
use gpz_inversion::{Decoder, DecoderSpec, Keep, Learner, TrainingPlan};
use gpz_models::{ModelSpec, Target};
use gpz_nn::{Init, Labels, Rule, Schedule, Tape, Var, loss, rng_for};
use gpz_tensor::{DType, Tensor};

type Fallible<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Images of a step; height and width of an image.
const BATCH: usize = 32;
const SIDE: usize = 64;
/// Steps of each kind; the first is not counted.
const STEPS: usize = 6;

/// Networks, with PyTorch 2.15's images per second in training and in evaluation on two Zen 4 cores.
const NETWORKS: [(&str, f64, f64); 5] = [
    ("cnn4:width=64", 97.0, 243.0),
    ("resnet18", 11.0, 44.0),
    ("vgg19_bn", 18.0, 48.0),
    ("ir152", 7.0, 20.0),
    ("vit", 8.0, 66.0),
];

fn pictures() -> Fallible<Tensor> {
    Ok(Init::Uniform(1.0).fill(&[BATCH, 3, SIDE, SIDE], DType::F32, &mut rng_for(1, "x", 0))?)
}

fn plan() -> TrainingPlan {
    TrainingPlan {
        epochs: 1,
        batch: BATCH,
        learning_rate: 1e-3,
        stop_after: None,
        keep: Keep::LowestLoss,
        optimizer: Rule::Adam { betas: [0.5, 0.999], amsgrad: true, weight_decay: 5e-4 },
        schedule: Schedule::Constant,
    }
}

/// Time of each step but the first.
fn steps(mut step: impl FnMut() -> Fallible) -> Fallible<Vec<Took>> {
    let mut took = Vec::new();
    for i in 0..STEPS {
        let mut outcome = Ok(());
        let one = time(|| outcome = step());
        outcome?;
        if i > 0 {
            took.push(one);
        }
    }
    Ok(took)
}

fn median(took: &[Took], of: impl Fn(&Took) -> f64) -> f64 {
    let mut values: Vec<f64> = took.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Images per second by the clock on the wall, its quickest step, and the part of the multiply-add limit by processor time.
fn report(name: &str, kind: &str, took: &[Took], macs: f64, per_second: f64, torch: f64) {
    let rate = BATCH as f64 / median(took, |took| took.wall);
    let best = took.iter().map(|took| BATCH as f64 / took.wall).fold(0.0, f64::max);
    let limit = 2.0 * macs * BATCH as f64 / median(took, |took| took.processor) / per_second;
    println!("{name:<15} {kind:<12} {rate:8.1} {best:8.1} {limit:8.2} {torch:8.1}");
}

fn network(model: &str, torch: (f64, f64)) -> Fallible {
    let spec: ModelSpec = model.parse()?;
    let target = spec.build([3, SIDE, SIDE], 10, &mut rng_for(1, "target", 0))?;
    let macs = spec.architecture([3, SIDE, SIDE], 10)?.macs() as f64;
    let x = pictures()?;
    let labels: Vec<usize> = (0..BATCH).map(|i| i % 10).collect();
    let goal = Labels::OneHot.distributions(&labels, 10, DType::F32)?;
    let mut flops = 0.0;
    let chains = time(|| flops = run_chains());
    let per_second = flops / chains.processor;
    let evaluated = steps(|| {
        black_box(target.forward(&Tape::eval(), &Var::constant(x.clone()))?);
        Ok(())
    })?;
    report(model, "evaluation", &evaluated, macs, per_second, torch.1);
    let mut learner: Learner<Box<dyn Target>> = Learner::new(model, target, &plan());
    let trained = steps(|| {
        let tape = Tape::train(1);
        let log_probs = learner.module().forward(&tape, &Var::constant(x.clone()))?;
        let loss = loss::cross_entropy(&log_probs, &goal)?;
        Ok(learner.step(&tape, &loss, BATCH)?)
    })?;
    report(model, "training", &trained, 3.0 * macs, per_second, torch.0);
    Ok(())
}

/// The attack on IR-152: the frozen target once, and a step of each decoder.
fn attack(splits: &[&str]) -> Fallible {
    let spec: ModelSpec = "ir152".parse()?;
    let target = spec.build([3, SIDE, SIDE], 10, &mut rng_for(1, "target", 0))?;
    let mut learners = Vec::new();
    for split in splits {
        let split = target.find_split(split)?;
        let shape = &target.taps()[split - 1].shape;
        let decoder = Decoder::new(
            DecoderSpec::auto_for("ir152", shape),
            shape,
            [3, SIDE, SIDE],
            &mut rng_for(1, "decoder", split as u64),
        )?;
        learners.push((split, Learner::new("decoder", decoder, &plan())));
    }
    let last = learners.iter().map(|(split, _)| *split).max().unwrap_or(1);
    let x = pictures()?;
    let took = steps(|| {
        target.visit_taps(&x, last, |split, z| -> gpz_inversion::Result<()> {
            for (_, learner) in learners.iter_mut().filter(|(attacked, _)| *attacked == split) {
                let tape = Tape::train(1);
                let guess = learner.module().forward(&tape, &Var::constant(z.clone()))?;
                learner.step(&tape, &loss::mse(&guess, &x)?, BATCH)?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    let rate = BATCH as f64 / median(&took, |took| took.wall);
    println!(
        "attack on ir152 at {} split(s): {rate:.1} images/s (PyTorch, one split: 18)",
        splits.len()
    );
    Ok(())
}

/// Most memory this process has held, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn main() -> Fallible {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| {
        asked.is_empty() || asked.iter().any(|word| name.split(':').next() == Some(word))
    };
    println!("batch {BATCH}, {SIDE}×{SIDE} RGB, {} threads", rayon::current_num_threads());
    println!(
        "{:<15} {:<12} {:>8} {:>8} {:>8} {:>8}",
        "network", "", "images/s", "best", "of limit", "PyTorch"
    );
    for (model, training, evaluation) in NETWORKS {
        if wanted(model) {
            network(model, (training, evaluation))?;
        }
    }
    if wanted("attack") {
        attack(&["block50"])?;
        attack(&["5", "10", "15", "20", "25", "30", "35", "40", "45", "50"])?;
    }
    if let Some(bytes) = peak_bytes() {
        println!("most memory held: {:.2} GiB", bytes as f64 / 2f64.powi(30));
    }
    Ok(())
}
