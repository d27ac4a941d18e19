//! The attack on features that stand in a file: of a network that gpz does not know, whatever framework runs it.
//!
//! A decoder needs pairs of feature and picture and nothing else. What cannot be had without the network is not done: pictures are not
//! mirrored, since nobody knows the feature of a mirrored one; no channel stands before the decoder; nothing is said of cost.

mod pictures;
mod reading;

use gpz_inversion::metrics::{ImageShape, LPIPS_LEAST, Lpips, compare_with};
use gpz_inversion::{
    Decoder, DecoderChoice, DecoderPlan, Learner, Observer, PairCut, Pairs, TestRows, TrainRows,
    TrainingPlan, train_on_pairs,
};
use gpz_nn::{Module, Tape, Var, checkpoint, rng_for};
use gpz_tensor::Device;
use serde::{Deserialize, Serialize};

use crate::config::plan_in_words;
use crate::error::{Error, Result};
use crate::evaluation::ImageFigures;
use crate::intervals::Resampling;
use crate::inversion_run::{Attack, Attacked, InversionMetrics, METRICS};
use crate::json;
use crate::lpips::given_lpips;
use crate::run_dir::{RunDir, RunState, files};
use crate::run_record::{
    AttackTraining, Baseline, PartRecord, PictureRecord, Provenance, converged,
};
use crate::sweep::{Circumstances, Clock, LEVEL, configuration_text, epochs, losses};
use crate::training::EVALUATION_BATCH;
use crate::words::counted;
use reading::Listed;

/// What the figures call a model of which only features are known.
pub const UNKNOWN_MODEL: &str = "unknown";
/// What the record of such a run calls itself; no other task goes on in its directory.
const TASK: &str = "invert --features";
/// Pictures have values from 0 to 1.
const RANGE: f64 = 1.0;
/// Fewest rows that are cut into three parts, and fewest of the attacker's where the test rows stand in a file of their own: two to learn
/// from and one to choose by.
const LEAST_ROWS: usize = 10;
const LEAST_ATTACK: usize = 3;
/// Height and width of the window of SSIM.
const SSIM_LEAST: usize = 11;

/// Where features and their pictures stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileNames {
    /// A `.npz`, `.safetensors` or `.npy` file of features `[n, ...]`.
    pub features: String,
    /// The file of their pictures, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
}

/// Everything that decides what such a run computes; its `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignConfig {
    /// Name of the features' array.
    pub key: String,
    /// Name of the pictures' array; `x` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_key: Option<String>,
    /// Name of the labels' array; `y`, where there is one, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_key: Option<String>,
    /// Weights of LPIPS; not measured without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips_weights: Option<String>,
    /// Seed of everything random, the cut into parts among it.
    pub seed: u64,
    /// Resamples over images behind each interval.
    pub resamples: usize,
    /// Which decoder learns.
    #[serde(default, skip_serializing_if = "DecoderChoice::is_auto")]
    pub decoder: DecoderChoice,
    /// The pairs the attack learns from; without `test`, a fifth of them is the test part.
    pub from: FileNames,
    /// The pairs it is judged on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<FileNames>,
    /// How it learns.
    pub training: TrainingPlan,
}

/// `run.json` of an attack on features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForeignRun {
    /// `invert --features`.
    pub task: String,
    /// Whether it came to its end.
    pub finished: bool,
    /// How and when it was computed.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// Where the features stand.
    pub features: FeaturesRecord,
    /// The disjoint parts of the rows.
    pub parts: Vec<PartRecord>,
    /// Rows that were taken from the attacker because their pictures are among those of the test part.
    pub shared: usize,
    /// The decoder's family and parameters.
    pub decoder: String,
    /// The attacker's training.
    pub attack: AttackTraining,
    /// The pictures beside this file, in the order of their numbers.
    pub pictures: Vec<PictureRecord>,
    /// Anything a reader should know, one sentence each.
    pub notes: Vec<String>,
}

/// The features that were attacked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeaturesRecord {
    /// File and array.
    pub from: String,
    /// File and array of the pictures.
    pub pictures: String,
    /// File and array of the test part, if it has its own.
    pub test: Option<String>,
    /// Shape of one feature.
    pub shape: Vec<usize>,
    /// Shape of one picture, channels first.
    pub picture_shape: [usize; 3],
}

/// Trains a decoder on features and their pictures, attacks the test rows with it, and writes decoder, `metrics.json`, pictures,
/// `config.toml` and `run.json` into an empty directory: all of them when everything is computed, or none.
///
/// # Errors
/// [`Error::HoldsRun`]; one line with file and mend for every array that is no features, pictures or labels, or does not fit the others;
/// [`Error::Memory`]; [`Error::is_stop`] after a stop was asked for, with nothing written.
pub fn invert_features(
    config: &ForeignConfig,
    dir: &RunDir,
    circumstances: &Circumstances,
    observer: &mut dyn Observer,
) -> Result<InversionMetrics> {
    if dir.state() != RunState::Empty {
        return Err(Error::HoldsRun { path: dir.path().to_path_buf() });
    }
    let mut clock = Clock::new(dir);
    let lpips = given_lpips(config.lpips_weights.as_deref(), &circumstances.device)?;
    let listed = Listed::open(&config.from, config)?;
    let tests = config.test.as_ref().map(|files| Listed::open(files, config)).transpose()?;
    let plan = foresee(config, &listed, tests.as_ref(), &circumstances.device)?;
    let pairs = reading::read(&listed, tests.as_ref(), observer)?;
    let (cut, shared) = cut_pairs(config, &listed, tests.as_ref(), &pairs)?;
    observer.note(&cut_in_words(config, &cut, shared));
    clock.lap("data");

    let mut decoder = plan.build(&mut rng_for(config.seed, "decoder", 0))?;
    decoder.to_device(&circumstances.device)?;
    let name = listed.name().to_owned();
    let mut learner = Learner::new(format!("the attack on {name}"), decoder, &config.training);
    let attacker = (&cut.train, &cut.held_out);
    train_on_pairs(&mut learner, &pairs, attacker, &config.training, config.seed, observer)
        .map_err(|error| Error::from(error).of_steps(config.training.batch))?;
    let attack = training_record(&name, &learner, config);
    let decoder = learner.into_best()?;
    clock.lap("attack");

    let judged = judge(&decoder, &pairs, &cut, lpips.as_ref(), observer)?;
    let attacked = Attacked {
        model: UNKNOWN_MODEL.to_owned(),
        index: None,
        split: name.clone(),
        attack: Attack::Inverse,
        prior_tau: None,
    };
    let resampling = Resampling { resamples: config.resamples, level: LEVEL, seed: config.seed };
    let metrics = InversionMetrics::of(attacked, &judged.figures, judged.mean_image, &resampling)?;
    let test_labels = match &tests {
        Some(tests) => tests.labels.clone(),
        None => listed.labels.as_ref().map(|labels| pick(labels, &cut.test)),
    };
    let shown = pictures::shown(&judged.figures, test_labels.as_deref());
    let drawn = pictures::draw(&name, &decoder, &pairs, &cut.test, &shown)?;
    let shown = pictures::records(&name, &judged.figures, test_labels.as_deref(), &shown);
    clock.lap("evaluation");

    let run = ForeignRun {
        task: TASK.to_owned(),
        finished: true,
        provenance: circumstances.provenance(config.seed, &clock),
        features: FeaturesRecord {
            from: listed.place(),
            pictures: listed.pictures_place(),
            test: tests.as_ref().map(Listed::place),
            shape: listed.feature().to_vec(),
            picture_shape: listed.picture(),
        },
        parts: part_records(config, &cut),
        shared,
        decoder: decoder.spec().to_string(),
        attack,
        pictures: shown,
        notes: notes(config, shared),
    };
    let texts = (config.to_toml()?, metrics.to_json()?, json::to_text(&run, files::RUN_JSON)?);
    let weights = checkpoint::save(&decoder, Some(UNKNOWN_MODEL))?;
    dir.write(files::CONFIG, configuration_text(TASK, &texts.0).as_bytes())?;
    dir.write(&files::decoder_checkpoint(&name), &weights)?;
    for (file, png) in &drawn {
        dir.write(file, png)?;
    }
    dir.write(METRICS, texts.1.as_bytes())?;
    // It says that the run is finished, so it comes last.
    dir.write(files::RUN_JSON, texts.2.as_bytes())?;
    Ok(metrics)
}

impl ForeignConfig {
    /// The text of `config.toml`.
    ///
    /// # Errors
    /// [`Error::Config`]; does not occur for values of this type.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(Error::config)
    }
}

/// The decoder, after everything that can be known before a value is read.
fn foresee(
    config: &ForeignConfig,
    listed: &Listed,
    tests: Option<&Listed>,
    device: &Device,
) -> Result<DecoderPlan> {
    let need = if tests.is_some() { LEAST_ATTACK } else { LEAST_ROWS };
    if listed.rows() < need {
        let (file, found) = (listed.place(), listed.rows());
        let whose = "rows to learn from, to choose by and to test on";
        return Err(Error::FewPairs { file, found, whose, need });
    }
    if let Some(tests) = tests {
        listed.same_shapes(tests)?;
    }
    let [_, height, width] = listed.picture();
    let small = |least: usize, metric: &str, mend: &str| {
        let reason = format!(
            "pictures of {height}x{width} are smaller than the {least}x{least} that {metric} needs; enlarge them{mend}"
        );
        Error::Images { file: listed.pictures_place(), reason }
    };
    if height.min(width) < SSIM_LEAST {
        return Err(small(SSIM_LEAST, "SSIM", ""));
    }
    if config.lpips_weights.is_some() && height.min(width) < LPIPS_LEAST {
        return Err(small(LPIPS_LEAST, "LPIPS", " or leave --lpips-weights out"));
    }
    let rows = listed.rows().saturating_add(tests.map_or(0, Listed::rows));
    listed.check_memory(rows, None)?;
    let no_decoder = |source| match source {
        source @ gpz_inversion::Error::Decoder { .. } => {
            Error::NoDecoder { file: listed.place(), source: Box::new(source) }
        }
        other => other.into(),
    };
    let spec = config.decoder.at("", listed.feature());
    let plan = spec.plan(listed.feature(), listed.picture()).map_err(no_decoder)?;
    let learning = match device {
        Device::Cpu => config.training.least_bytes(&[plan.cost()]).learning,
        // What it needs is the device's to give.
        _ => 0,
    };
    listed.check_memory(rows, Some((&plan, learning)))?;
    Ok(plan)
}

/// The parts, and how many rows the attacker lost because the test part shows their pictures.
fn cut_pairs(
    config: &ForeignConfig,
    listed: &Listed,
    tests: Option<&Listed>,
    pairs: &Pairs,
) -> Result<(PairCut, usize)> {
    let mut cut = match tests {
        Some(tests) => PairCut::with_test(listed.rows(), tests.rows(), config.seed),
        None => PairCut::new(listed.rows(), config.seed),
    };
    let shared = cut.leave_out_shared(pairs);
    let (train, held_out) = (cut.train.rows().len(), cut.held_out.rows().len());
    if train < LEAST_ATTACK - 1 || held_out == 0 {
        let whose = "rows whose pictures are not among those of the test part";
        let (found, need) = (train + held_out, LEAST_ATTACK);
        return Err(Error::FewPairs { file: listed.place(), found, whose, need });
    }
    Ok((cut, shared))
}

fn cut_in_words(config: &ForeignConfig, cut: &PairCut, shared: usize) -> String {
    let test = match config.test {
        Some(_) => "of their own file",
        None => "cut off by the seed",
    };
    let shared = match shared {
        0 => String::new(),
        n => format!("; {} left out, whose pictures are among the test's", counted(n, "row")),
    };
    format!(
        "{} to learn from, {} to choose by, {} to test on, {test}{shared}; pictures are not mirrored, the feature of a mirrored one is not known",
        counted(cut.train.rows().len(), "row"),
        cut.held_out.rows().len(),
        cut.test.rows().len(),
    )
}

fn training_record(
    name: &str,
    learner: &Learner<Decoder>,
    config: &ForeignConfig,
) -> AttackTraining {
    let curve = epochs(learner.curve());
    AttackTraining {
        split: name.to_owned(),
        attack: "inverse network".to_owned(),
        decoder: learner.module().spec().to_string(),
        decoder_params: learner.module().cost().params,
        decoder_macs: learner.module().cost().macs,
        optimiser: plan_in_words(&config.training),
        batch: config.training.batch,
        epochs: curve.len(),
        chosen_epoch: learner.best_epoch().unwrap_or(0),
        stopped_early: learner.stopped_early(),
        converged: converged(&losses(&curve)),
        curve,
    }
}

/// What the test rows say of the decoder.
struct Judged {
    /// Of each test row, in their order.
    figures: Vec<ImageFigures>,
    mean_image: Baseline,
}

/// Reconstructs every test row once, and compares the mean picture of what was learnt from as well.
fn judge(
    decoder: &Decoder,
    pairs: &Pairs,
    cut: &PairCut,
    lpips: Option<&Lpips>,
    observer: &mut dyn Observer,
) -> Result<Judged> {
    let [channels, height, width] = pairs.picture();
    let mean = mean_picture(pairs, &cut.train);
    let (mut figures, mut blind) = (Vec::new(), Vec::new());
    observer.begin("evaluation", cut.test.rows().len().div_ceil(EVALUATION_BATCH) as u64);
    for rows in cut.test.rows().chunks(EVALUATION_BATCH) {
        let shape = ImageShape::nhwc(rows.len(), height, width, channels);
        let originals = pairs.pixels_of(rows);
        let guess = reconstructed(decoder, pairs, rows)?;
        figures.extend(compare_with(&originals, &guess, &shape, RANGE, lpips)?);
        blind.extend(compare_with(&originals, &mean.repeat(rows.len()), &shape, RANGE, None)?);
        observer.advance(1, "");
        if observer.stop_requested() {
            return Err(gpz_inversion::Error::Stopped.into());
        }
    }
    observer.end(&counted(cut.test.rows().len(), "test image"));
    let n = blind.len().max(1) as f64;
    let mean_image = Baseline {
        mse_per_element: blind.iter().map(|m| m.mse_per_element).sum::<f64>() / n,
        ssim: blind.iter().map(|m| m.ssim).sum::<f64>() / n,
    };
    let figures = figures.into_iter().map(|seen| ImageFigures::new(seen, seen)).collect();
    Ok(Judged { figures, mean_image })
}

/// Reconstructions of some rows, channels last.
fn reconstructed(decoder: &Decoder, pairs: &Pairs, rows: &[usize]) -> Result<Vec<f32>> {
    let z = Var::constant(pairs.features_of(rows, &decoder.device())?);
    let guess = decoder.forward(&Tape::eval(), &z)?.into_value();
    Ok(guess.to_channels_last_vec::<f32>()?)
}

/// Mean of the pictures of some rows, `[h, w, c]`.
fn mean_picture(pairs: &Pairs, train: &TrainRows) -> Vec<f32> {
    let mut sums = vec![0.0f64; pairs.picture().iter().product()];
    for row in train.rows() {
        for (sum, value) in sums.iter_mut().zip(pairs.pixels_of(&[*row])) {
            *sum += f64::from(value);
        }
    }
    let n = train.rows().len().max(1) as f64;
    sums.into_iter().map(|sum| (sum / n) as f32).collect()
}

fn pick(labels: &[usize], test: &TestRows) -> Vec<usize> {
    test.rows().iter().map(|row| labels[*row]).collect()
}

fn part_records(config: &ForeignConfig, cut: &PairCut) -> Vec<PartRecord> {
    let part = |name: &str, rows: &[usize], used_for: &str| PartRecord {
        name: name.to_owned(),
        images: rows.len(),
        used_for: used_for.to_owned(),
    };
    let test = match config.test {
        Some(_) => "the figures of the attack, once; a file of its own",
        None => "the figures of the attack, once; a fifth of the rows",
    };
    vec![
        part("attack-train", cut.train.rows(), "training the attack; the mean image"),
        part(
            "attack-held-out",
            cut.held_out.rows(),
            "choosing the attack's checkpoint and learning rates; a tenth of what is not test",
        ),
        part("test", cut.test.rows(), test),
    ]
}

fn notes(config: &ForeignConfig, shared: usize) -> Vec<String> {
    let mut notes = vec![
        "The network is not known to gpz: whether the features were taken in evaluation mode, and whether it was trained on these \
         pictures, is up to whoever stored them."
            .to_owned(),
        "Pictures were not mirrored or changed while the attack learnt: the feature of another picture is not known.".to_owned(),
        "One kind of attack was tried: a decoder trained on pairs of feature and picture. Others may do better.".to_owned(),
        "One seed was run; intervals are over images, not over trainings.".to_owned(),
    ];
    if config.test.is_none() {
        notes.push(
            "The test rows were cut from the same file by the seed. Pictures of one scene or person may stand on both sides of the cut."
                .to_owned(),
        );
    }
    if shared > 0 {
        notes.push(format!(
            "{} of the attacker's show pictures of the test part, to the bit, and were used for nothing.",
            counted(shared, "row")
        ));
    }
    notes
}
