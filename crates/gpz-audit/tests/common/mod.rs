//! A made-up run whose figures hang together: pictures blurred more and more with depth, errors measured on them.

use gpz_audit::assemble::{SplitInput, assemble};
use gpz_audit::choice::Limits;
use gpz_audit::declared::Declared;
use gpz_audit::intervals::{Interval, Resampling};
use gpz_audit::pictures::{Picture, encode_png};
use gpz_audit::radius_history::{RadiusHistory, SplitHistory};
use gpz_audit::report::{PicturePngs, ReportInput};
use gpz_audit::run_record::{
    AttackTraining, Baseline, DataRecord, Epoch, ModelRecord, Named, PartRecord, Phase,
    PictureRecord, PictureScore, Provenance, RunRecord, TargetRecord, converged,
};
use gpz_audit::splits::{EntropyBounds, HeldOutRecord, LeakageBound, RadiusRecord, VarianceRecord};
use gpz_inversion::Keep;
use gpz_inversion::metrics::{ImageShape, compare};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SIDE: usize = 64;
const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// What a made-up run looks like.
pub(crate) struct Plan {
    /// Names of the splits.
    pub(crate) names: Vec<String>,
    /// Blur of each split's reconstructions, in passes of a 3×3 box.
    pub(crate) blur: Vec<usize>,
    /// Within-class share of variance at each split.
    pub(crate) share: Vec<f64>,
    /// 1 or 3.
    pub(crate) channels: usize,
    /// Pictures shown.
    pub(crate) pictures: usize,
    /// Limits on the choice.
    pub(crate) limits: Limits,
    /// Whether the target's training was watched.
    pub(crate) history: bool,
    /// What a declared channel bounds at each split, counted from 0.
    pub(crate) bound: Option<fn(usize) -> LeakageBound>,
}

impl Plan {
    /// Four blocks and no zone; the first attack lags.
    pub(crate) fn quick() -> Self {
        Self {
            names: (1..=4).map(|k| format!("block{k}")).collect(),
            blur: vec![3, 1, 6, 40],
            share: vec![0.69, 0.60, 0.55, 0.52],
            channels: 1,
            pictures: 8,
            limits: Limits::default(),
            history: true,
            bound: None,
        }
    }

    /// Twenty-six units with a turn at the nineteenth.
    pub(crate) fn deep() -> Self {
        let taps = 26;
        let blur = |k: usize| if k < 18 { 1 + k / 4 } else { 40 + 2 * (k - 18) };
        let share = |k: usize| if k < 18 { 0.8 - 0.008 * k as f64 } else { 0.3 - 0.01 * k as f64 };
        Self {
            names: (1..=taps).map(|k| format!("unit{k}")).collect(),
            blur: (0..taps).map(blur).collect(),
            share: (0..taps).map(share).collect(),
            channels: 3,
            pictures: 8,
            limits: Limits { max_edge_macs_fraction: Some(0.9), ..Limits::default() },
            history: false,
            bound: None,
        }
    }
}

/// Coloured shapes on a gradient, different for every image.
fn original(i: usize, channels: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(i as u64);
    let mut draw = || rng.random::<f32>();
    let discs: Vec<[f32; 6]> =
        (0..9).map(|_| [draw(), draw(), 0.04 + 0.16 * draw(), draw(), draw(), draw()]).collect();
    let tilt = draw();
    let mut out = Vec::with_capacity(SIDE * SIDE * channels);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (u, v) = (x as f32 / SIDE as f32, y as f32 / SIDE as f32);
            let mut pixel = [0.2 + 0.5 * (tilt * u + (1.0 - tilt) * v); 3];
            for [cx, cy, r, red, green, blue] in &discs {
                if (u - cx).hypot(v - cy) < *r {
                    pixel = [*red, *green, *blue];
                }
            }
            out.extend_from_slice(&pixel[..channels]);
        }
    }
    out
}

/// `passes` of a 3×3 box over each channel.
fn blurred(image: &[f32], channels: usize, passes: usize) -> Vec<f32> {
    let mut now = image.to_vec();
    for _ in 0..passes {
        let before = now.clone();
        for (i, v) in now.iter_mut().enumerate() {
            let (pixel, c) = (i / channels, i % channels);
            let (y, x) = (pixel / SIDE, pixel % SIDE);
            let (rows, columns) = (
                y.saturating_sub(1)..=(y + 1).min(SIDE - 1),
                x.saturating_sub(1)..=(x + 1).min(SIDE - 1),
            );
            let mut sum = 0.0;
            for yy in rows.clone() {
                for xx in columns.clone() {
                    sum += before[(yy * SIDE + xx) * channels + c];
                }
            }
            *v = sum / (rows.count() * columns.count()) as f32;
        }
    }
    now
}

/// Builds the run.
pub(crate) fn run(plan: &Plan) -> ReportInput {
    let (n, taps) = (24, plan.names.len());
    let shape = ImageShape::nhwc(1, SIDE, SIDE, plan.channels);
    let originals: Vec<Vec<f32>> = (0..n).map(|i| original(i, plan.channels)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let mut inputs = Vec::new();
    // How far each picture is blurred already: the next split goes on from there where it can.
    let mut reached: Vec<(usize, Vec<f32>)> = originals.iter().map(|x| (0, x.clone())).collect();
    let mut scores: Vec<Vec<PictureScore>> = vec![Vec::new(); plan.pictures];
    let mut pictures: Vec<PicturePngs> = originals
        .iter()
        .take(plan.pictures)
        .map(|x| PicturePngs { original: Some(png(x, plan.channels)), reconstructions: Vec::new() })
        .collect();
    for (k, name) in plan.names.iter().enumerate() {
        let (mut mse_i, mut ssim_i) = (Vec::new(), Vec::new());
        for (i, x) in originals.iter().enumerate() {
            let (done, from) =
                if reached[i].0 <= plan.blur[k] { (reached[i].0, &reached[i].1) } else { (0, x) };
            let y = blurred(from, plan.channels, plan.blur[k] - done);
            reached[i] = (plan.blur[k], y.clone());
            let m = compare(x, &y, &shape, 1.0).expect("two images of one shape")[0];
            mse_i.push(m.mse_per_element);
            ssim_i.push(m.ssim);
            if i < plan.pictures {
                pictures[i].reconstructions.push(Some(png(&y, plan.channels)));
                scores[i].push(PictureScore {
                    split: name.clone(),
                    mse_per_element: m.mse_per_element,
                    ssim: m.ssim,
                });
            }
        }
        let mut around = |mean: f64| -> Vec<f64> {
            (0..400).map(|_| mean * (0.6 + 0.8 * rng.random::<f64>())).collect()
        };
        let total = 900.0 / (1.0 + k as f64);
        let width = 65536usize >> (4 * k / taps);
        let depth = (k + 1) as f64 / taps as f64;
        let statistics = |part: &str, factor: f64| {
            let radius = factor * total * plan.share[k];
            let radius_sq = RadiusRecord {
                part: part.into(),
                value: radius,
                ci: Interval { lo: 0.96 * radius, hi: 1.04 * radius },
                per_dim: radius / width as f64,
                unbiased: radius * 300.0 / 299.0,
            };
            let variance = VarianceRecord {
                part: part.into(),
                total,
                within: radius,
                between: total - radius,
            };
            (radius_sq, variance)
        };
        let (radius_sq, variance) = statistics("target-train", 1.0);
        let held_out = statistics("target-validation", 1.03);
        inputs.push(SplitInput {
            index: k + 1,
            name: name.clone(),
            shape: vec![width / 256, 16, 16],
            wire_bytes: 4 * width as u64,
            edge_params: (90_000.0 * depth * depth) as u64 + 200,
            edge_params_fraction: 0.78 * depth * depth,
            edge_macs_fraction: (0.05 + 0.95 * depth).min(0.995),
            radius_sq,
            variance,
            entropy_bounds_nats: EntropyBounds {
                part: "target-train".into(),
                isotropic: -1234.5,
                mixture: -2345.6,
            },
            held_out: Some(HeldOutRecord { radius_sq: held_out.0, variance: held_out.1 }),
            leakage_bound: plan.bound.map(|bound| bound(k)),
            accuracy_behind_channel: plan.bound.map(|_| 0.8 - 0.01 * k as f64),
            within_i: around(total * plan.share[k]),
            total_i: around(total),
            mse_i,
            mse_closest_i: None,
            ssim_i,
            lpips_i: None,
        });
    }
    let model = if taps > 8 { "ir26" } else { "cnn4" };
    let prior_tau = plan.bound.and_then(|bound| bound(0).prior_tau);
    let (splits, choice) =
        assemble(model, (plan.channels, prior_tau), &inputs, &plan.limits, &Resampling::default())
            .expect("a sweep that hangs together");
    let pictures_index = scores.into_iter().enumerate().map(|(i, splits)| PictureRecord {
        test_index: i,
        class: CLASSES[i % 10].into(),
        splits,
    });
    let run = record(plan, model, pictures_index.collect());
    ReportInput { splits, choice, run, radius: plan.history.then(|| history(plan)), pictures }
}

/// Radii that shrink, the deeper the more.
fn history(plan: &Plan) -> RadiusHistory {
    let epochs: Vec<usize> = (0..=5).collect();
    let split = |(k, name): (usize, &String)| {
        let over = |from: f64, rate: f64| -> Vec<f64> {
            epochs.iter().map(|e| from * (-rate * *e as f64).exp()).collect()
        };
        let rate = 0.1 + 0.1 * k as f64;
        SplitHistory {
            split: name.clone(),
            width: 256,
            radius_sq: over(256.0, rate),
            radius_sq_per_dim: over(1.0, rate),
            within_over_total: over(0.95, 0.3 * rate),
        }
    };
    RadiusHistory {
        part: "target-validation".into(),
        images: 500,
        labels: "one-hot".into(),
        every: 1,
        splits: plan.names.iter().enumerate().map(split).collect(),
        epochs: epochs.clone(),
    }
}

fn png(pixels: &[f32], channels: usize) -> Vec<u8> {
    encode_png(&Picture { height: SIDE, width: SIDE, channels, pixels }).expect("a picture")
}

fn record(plan: &Plan, model: &str, pictures: Vec<PictureRecord>) -> RunRecord {
    let curve = |end: f64, epochs: usize| -> Vec<Epoch> {
        let loss = |e: usize| end * (1.0 + 4.0 * (-0.9 * e as f64).exp());
        (0..epochs)
            .map(|e| Epoch {
                epoch: e + 1,
                train_loss: 0.98 * loss(e),
                held_out_loss: loss(e),
                held_out_accuracy: None,
            })
            .collect()
    };
    let attack = |(k, name): (usize, &String)| {
        let curve = curve(0.002 * (1.0 + k as f64), if k == 0 { 5 } else { 8 });
        let losses: Vec<f64> = curve.iter().map(|e| e.held_out_loss).collect();
        AttackTraining {
            split: name.clone(),
            attack: "inverse network".into(),
            decoder: "cnn:width=100".into(),
            decoder_params: 18_000 << k.min(6),
            decoder_macs: 4_000_000,
            optimiser: "Adam (β 0.5, 0.999, amsgrad), learning rate 0.01, plateau ×0.5".into(),
            batch: 128,
            epochs: curve.len(),
            chosen_epoch: curve.len(),
            stopped_early: false,
            converged: converged(&losses),
            curve,
        }
    };
    let part = |name: &str, images: usize, used_for: &str| PartRecord {
        name: name.into(),
        images,
        used_for: used_for.into(),
    };
    RunRecord {
        finished: true,
        provenance: Provenance {
            versions: vec![
                Named { name: "gpz".into(), value: "0.1.0".into() },
                Named { name: "instruction set".into(), value: "AVX-512".into() },
            ],
            command: format!("gpz audit --preset quick --model {model} --seed 1"),
            seed: 1,
            device: "cpu".into(),
            threads: 2,
            started_utc: "2026-01-31 12:00:00 UTC".into(),
            resumed: false,
            phases: [("target", 61.5), ("statistics", 3.2), ("attacks", 122.0), ("report", 1.1)]
                .map(|(name, seconds)| Phase { name: name.into(), seconds })
                .to_vec(),
        },
        model: ModelRecord {
            name: model.into(),
            detail: "width 16".into(),
            input_shape: vec![plan.channels, SIDE, SIDE],
            params: 198_000,
            macs: 12_345_678,
        },
        data: DataRecord {
            name: "made-up discs".into(),
            source: "drawn by a formula, no photograph of anything".into(),
            licence: "no rights reserved".into(),
            class_names: CLASSES.map(String::from).to_vec(),
            native_shape: vec![plan.channels, SIDE, SIDE],
            shown_shape: vec![plan.channels, SIDE, SIDE],
            resize: "not resized".into(),
            parts: vec![
                part("target-train", 3000, "training the network; statistics of its features"),
                part("target-validation", 500, "choosing the network's epoch; held-out statistics"),
                part(
                    "auxiliary",
                    1500,
                    "training the attackers, a tenth of it for choosing their epochs",
                ),
                part("test", 24, "accuracy and the attacks' errors, once"),
            ],
            auxiliary: None,
        },
        target: TargetRecord {
            labels: "one-hot".into(),
            loaded_from: None,
            optimiser: "Adam (β 0.5, 0.999, amsgrad), learning rate 0.01".into(),
            batch: 128,
            epochs: 5,
            chosen_epoch: 5,
            kept_by: Keep::LowestLoss,
            stopped_early: false,
            converged: false,
            accuracy_train: 0.903,
            accuracy_validation: 0.834,
            accuracy_test: 0.831,
            nc1: Some(1.27),
            curve: curve(0.4, 5),
        },
        attacks: plan.names.iter().enumerate().map(attack).collect(),
        channel: plan.bound.map_or(Declared::None, |bound| bound(0).channel),
        prior_tau: plan.bound.and_then(|bound| bound(0).prior_tau),
        mean_image: Some(Baseline { mse_per_element: 0.061, ssim: 0.21 }),
        pictures,
        notes: vec![
            "The figures on this page are made up; it shows what a report looks like.".into(),
        ],
    }
}

/// Writes the run into a directory, file by file, as a sweep would.
pub(crate) fn write(
    input: &ReportInput,
    dir: &gpz_audit::run_dir::RunDir,
) -> gpz_audit::Result<()> {
    use gpz_audit::run_dir::files;
    dir.write(files::CONFIG, b"# the configuration of gpz audit\n")?;
    dir.write(files::SPLITS_JSON, input.splits.to_json()?.as_bytes())?;
    dir.write(files::SPLITS_CSV, input.splits.to_csv()?.as_bytes())?;
    dir.write(files::CHOICE_JSON, input.choice.to_json()?.as_bytes())?;
    for (i, picture) in input.pictures.iter().enumerate() {
        if let Some(png) = &picture.original {
            dir.write(&files::original_picture(i), png)?;
        }
        for (split, png) in input.splits.splits.iter().zip(&picture.reconstructions) {
            if let Some(png) = png {
                dir.write(&files::reconstruction_picture(&split.name, i), png)?;
            }
        }
    }
    if let Some(history) = &input.radius {
        let text = serde_json::to_string(history).expect("numbers and names");
        dir.write(files::RADIUS_HISTORY, text.as_bytes())?;
    }
    dir.write(files::RUN_JSON, input.run.to_json()?.as_bytes())
}
