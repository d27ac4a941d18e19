//! The audit itself: train or load the target, measure every split, attack every split, write the run's directory.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use gpz_data::{ImageSet, Part, Parts};
use gpz_inversion::{Keep, Observer, Wire};
use gpz_models::Target;
use gpz_nn::{Module, checkpoint};
use gpz_tensor::Device;

use crate::assemble::{SplitInput, assemble};
use crate::attacks::{self, AttackGroups, train_attacks};
use crate::config::{AuditConfig, plan_in_words};
use crate::data::OpenedData;
use crate::error::{Error, Result};
use crate::evaluation::{self, Evaluation};
use crate::intervals::Resampling;
use crate::leakage::Declaration;
use crate::lpips::given_lpips;
use crate::radius_history::Tracker;
use crate::report;
use crate::run_dir::{RunDir, RunState, files, read_text};
use crate::run_record::{
    Epoch, ModelRecord, Named, Phase, Provenance, RunRecord, TargetRecord, converged, utc,
};
use crate::splits::{LeakageBound, SplitsFile};
use crate::statistics::{self, Groups, SplitStatistics};
use crate::training::{self, TargetLearner, foresee_target};
use crate::weights::Weights;
use crate::wire::SentFeatures;
use crate::words::{counted, thousands};

pub use crate::data::{READING, open_data, open_dataset, watched};

/// Confidence level of every interval.
pub(crate) const LEVEL: f64 = 0.95;

/// What a directory of this task calls it.
pub(crate) const TASK: &str = "audit";

/// What the caller knows and the configuration does not: it stands in `run.json` alone.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The command that repeats the run.
    pub command: String,
    /// Where the networks run.
    pub device: Device,
    /// Threads of the processor.
    pub threads: usize,
    /// Bytes that statistics, and decoders that learn together with the target they attack, may take; no limit unless there is one.
    pub memory: Option<u64>,
    /// Folder in which the features that decoders learn from are kept while they do; computed anew in each epoch unless there is one.
    pub cache: Option<PathBuf>,
    /// Versions of the program and of what matters to repeat the run; the program first.
    pub versions: Vec<Named>,
}

impl Circumstances {
    pub(crate) fn provenance(&self, seed: u64, clock: &Clock) -> Provenance {
        Provenance {
            versions: self.versions.clone(),
            command: self.command.clone(),
            seed,
            device: self.device.to_string(),
            threads: self.threads,
            started_utc: utc(clock.started),
            resumed: clock.resumed,
            phases: clock.phases.clone(),
        }
    }
}

/// Runs an audit in a directory, from wherever an earlier attempt there ended. A finished run is left alone, but for its report.
///
/// # Errors
/// [`Error::ConfigDiffers`] on resuming with another configuration; [`Error::is_stop`] after a stop was asked for, with everything
/// saved; whatever keeps the audit from being done.
pub fn audit(
    config: &AuditConfig,
    dir: &RunDir,
    circumstances: &Circumstances,
    observer: &mut dyn Observer,
) -> Result<SplitsFile> {
    check_configuration(config, dir)?;
    if dir.state() == RunState::Finished {
        remove_states(dir);
        report::build(dir)?;
        return Ok(report::load(dir.path())?.splits);
    }
    let mut clock = Clock::new(dir);
    let foreseen = foresee_target(config.model, config.resolution)?;
    let splits = config.chosen_splits(foreseen.taps.len(), |name| foreseen.find_split(name))?;
    let attackers = AttackGroups::foresee(config, &foreseen, &splits, circumstances)?;
    let weights = given_weights(config, dir)?;
    let lpips = given_lpips(config.lpips_weights.as_deref(), &circumstances.device)?;
    attackers.announce(observer);
    let data = open_data(config, observer)?;
    let parts = &data.parts;
    check_classes(parts)?;
    // What cannot be built or loaded is said before anything is written.
    let target = prepare_target(config, weights.as_ref(), parts, &circumstances.device, observer)?;
    let classes = parts.target_train.classes();
    let groups = Groups::new(&*target, &splits, classes, circumstances.memory)?;
    groups.announce(splits.len(), observer);
    attackers.announce_cache(config, &*target, parts, observer)?;
    dir.write(files::CONFIG, configuration_text(TASK, &config.to_toml()?).as_bytes())?;
    clock.lap("data");

    let (target, mut target_record) =
        obtain_target(config, dir, files::TARGET_CHECKPOINT, target, parts, observer)?;
    let target = &*target;
    clock.lap("target");

    let steps =
        groups.batches_of(&parts.target_train) + groups.batches_of(&parts.target_validation);
    observer.begin("statistics", steps);
    let on_train = statistics::take(target, &parts.target_train, &groups, LEVEL, observer)?;
    let held_out = statistics::take(target, &parts.target_validation, &groups, LEVEL, observer)?;
    let (trained_on, held_out) = (on_train.splits, held_out.splits);
    observer.end(&groups.in_words(splits.len()));
    target_record.nc1 = match on_train.nc1 {
        None if splits.last() != Some(&target.taps().len()) => {
            statistics::nc1(target, &parts.target_train, observer)?
        }
        measured => measured,
    };
    clock.lap("statistics");

    let declaration = Declaration::new(config, &data.dataset, parts)?;
    let sent: Vec<&SentFeatures> = trained_on.iter().map(|statistics| &statistics.sent).collect();
    let (wire, bounds) = declaration.at(target, &sent)?;
    let (decoders, attack_records) =
        train_attacks(config, dir, target, (&attackers, &wire), parts, observer)?;
    clock.lap("attacks");

    let evaluation =
        evaluation::evaluate(target, &decoders, &wire, parts, lpips.as_ref(), observer)?;
    let accuracies = if config.channel.is_none() {
        vec![None; splits.len()]
    } else {
        let accuracies = evaluation::accuracies(target, &splits, &wire, &parts.test, observer)?;
        accuracies.into_iter().map(Some).collect()
    };
    let behind = bounds.into_iter().zip(accuracies).collect();
    let inputs =
        split_inputs(config, (target, &splits), trained_on, held_out, behind, &evaluation)?;
    let resampling = Resampling { resamples: config.resamples, level: LEVEL, seed: config.seed };
    let channels = parts.test.channels();
    let (splits, choice) = assemble(
        &target.name(),
        (channels, config.prior_tau),
        &inputs,
        &config.limits,
        &resampling,
    )?;
    let attackers = (&decoders[..], &wire as &dyn Wire);
    let pictures = evaluation::write_pictures(dir, target, attackers, &parts.test, &evaluation)?;
    clock.lap("evaluation");

    dir.write(files::SPLITS_JSON, splits.to_json()?.as_bytes())?;
    dir.write(files::SPLITS_CSV, splits.to_csv()?.as_bytes())?;
    dir.write(files::CHOICE_JSON, choice.to_json()?.as_bytes())?;
    let record = RunRecord {
        finished: true,
        provenance: circumstances.provenance(config.seed, &clock),
        model: model_record(target),
        data: data.record(config),
        target: target_record,
        attacks: attack_records,
        channel: config.channel,
        prior_tau: config.prior_tau,
        mean_image: Some(evaluation.mean_image),
        pictures,
        notes: notes(config, &data),
    };
    // The record says that the run is finished, so it comes last but for what is made from it.
    dir.write(files::RUN_JSON, record.to_json()?.as_bytes())?;
    report::build(dir)?;
    remove_states(dir);
    Ok(splits)
}

/// A run goes on only under the configuration it was begun with.
fn check_configuration(config: &AuditConfig, dir: &RunDir) -> Result<()> {
    config.validate()?;
    match begun_in(dir.path(), TASK)? {
        Some(text) => {
            same_configuration(dir, &AuditConfig::from_toml(&text)?.to_toml()?, &config.to_toml()?)
        }
        None => Ok(()),
    }
}

/// The text of `config.toml`: its first line says what the run does, so that no other task goes on in its directory.
pub(crate) fn configuration_text(task: &str, toml: &str) -> String {
    format!("{}\n{toml}", task_line(task))
}

fn task_line(task: &str) -> String {
    format!("# the configuration of gpz {task}")
}

/// The text of the configuration with which `gpz TASK` has begun in a directory; none where nothing has.
///
/// # Errors
/// [`Error::OtherTask`] where another command has; [`Error::CannotRead`].
pub fn begun_in(directory: &Path, task: &'static str) -> Result<Option<String>> {
    if !directory.join(files::CONFIG).exists() {
        return Ok(None);
    }
    let text = read_text(directory, files::CONFIG)?;
    if text.lines().next() != Some(task_line(task).as_str()) {
        return Err(Error::OtherTask { path: directory.to_path_buf(), task });
    }
    Ok(Some(text))
}

/// Compares two configurations, and names the first field that differs.
pub(crate) fn same_configuration(dir: &RunDir, begun: &str, now: &str) -> Result<()> {
    let parse = |text: &str| text.parse::<toml::Table>().map_err(Error::config);
    match first_difference(&parse(begun)?, &parse(now)?) {
        None => Ok(()),
        Some(field) => Err(Error::ConfigDiffers { path: dir.path().to_path_buf(), field }),
    }
}

/// Dotted name of the first field that is not the same in both.
fn first_difference(begun: &toml::Table, now: &toml::Table) -> Option<String> {
    let keys: std::collections::BTreeSet<&String> = begun.keys().chain(now.keys()).collect();
    keys.into_iter().find_map(|key| match (begun.get(key), now.get(key)) {
        (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => {
            first_difference(a, b).map(|field| format!("{key}.{field}"))
        }
        (a, b) => (a != b).then(|| key.clone()),
    })
}

/// Images a class must have where its spread is measured: a radius and its jackknife interval need three. With fewer, classes would
/// silently drop out of the averages over them.
const CLASS_IMAGES: usize = 3;
/// Training images of each class from which the default plan cuts so many for every measured part: of a set with test images, and of
/// one whose test images are cut from them too.
const TRAINING_IMAGES: [usize; 2] = [30, 38];

/// Whether an audit can measure every class; better known before the training than after.
///
/// # Errors
/// [`Error::FewImages`] names the first class that is too small, and the mend. A class without images in a part is no error there.
pub fn check_classes(parts: &Parts) -> Result<()> {
    let measured: [&dyn ImageSet; 2] = [&parts.target_train, &parts.target_validation];
    for set in measured {
        let counts = set.per_class();
        if let Some(class) = counts.iter().position(|n| (1..CLASS_IMAGES).contains(n)) {
            let [with_test, without_test] = TRAINING_IMAGES;
            return Err(Error::FewImages {
                part: set.part().name(),
                class: set.class_names()[class].clone(),
                images: counts[class],
                need: CLASS_IMAGES,
                with_test,
                without_test,
            });
        }
    }
    Ok(())
}

/// Reads the state of a training, if there is one.
pub(crate) fn read_state(
    dir: &RunDir,
    name: &str,
    read: impl FnOnce(&mut dyn Read) -> gpz_inversion::Result<()>,
) -> Result<()> {
    let path = dir.file(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::CannotRead { path, source }),
    };
    read(&mut BufReader::new(file)).map_err(|error| match error {
        gpz_inversion::Error::Nn(gpz_nn::Error::Read(source)) => Error::CannotRead { path, source },
        other => other.into(),
    })
}

/// Writes the state of a training as it is put together, whole or not at all.
pub(crate) fn write_state(
    dir: &RunDir,
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> gpz_inversion::Result<()>,
) -> Result<()> {
    let mut failure = None;
    let written = dir.write_with(name, |out| {
        write(out).map_err(|error| match error {
            gpz_inversion::Error::Nn(gpz_nn::Error::Write(source)) => source,
            other => io::Error::other(failure.insert(other).to_string()),
        })
    });
    match failure {
        Some(error) => Err(error.into()),
        None => written,
    }
}

/// State of an unfinished training, beside the checkpoints.
pub(crate) fn state_file(name: &str) -> String {
    format!("{}/{name}.state.safetensors", files::CHECKPOINTS)
}

/// The weights that a configuration names, read before anything that takes long. A run that has begun keeps a copy of them: what has
/// become of the file since does not matter.
pub(crate) fn given_weights(config: &AuditConfig, dir: &RunDir) -> Result<Option<Weights>> {
    let read = |given: &String| {
        let copy = dir.file(files::TARGET_CHECKPOINT);
        Weights::read(if copy.exists() { &copy } else { Path::new(given) })
    };
    config.weights.as_ref().map(read).transpose()
}

/// The target for the pictures of the parts on a device, with its weights where they are given.
pub(crate) fn prepare_target(
    config: &AuditConfig,
    weights: Option<&Weights>,
    parts: &Parts,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Box<dyn Target>> {
    let mut target = training::build_target(config.model, &parts.target_train, config.seed)?;
    if let Some(weights) = weights {
        let loaded = weights.fill(&mut *target)?;
        if let Some(words) = weights.in_words(&loaded) {
            observer.note(&words);
        }
    }
    target.to_device(device)?;
    Ok(target)
}

/// Writes a target's weights into a run's directory.
pub(crate) fn write_target(dir: &RunDir, file: &str, target: &dyn Target) -> Result<()> {
    dir.write(file, &checkpoint::save(target, Some(&target.name()))?)
}

/// The target in the state it is audited in: as given, as trained earlier in this run, or trained now. It is written to `file`.
pub(crate) fn obtain_target(
    config: &AuditConfig,
    dir: &RunDir,
    file: &str,
    mut target: Box<dyn Target>,
    parts: &Parts,
    observer: &mut dyn Observer,
) -> Result<(Box<dyn Target>, TargetRecord)> {
    let plan = &config.target;
    let (mut chosen_epoch, mut stopped_early, mut curve) = (0, false, Vec::new());
    if config.weights.is_none() {
        let mut learner = TargetLearner::new("the target", target, &plan.training);
        let state = state_file("target");
        read_state(dir, &state, |file| learner.restore_from(file))?;
        let data = (&parts.target_train, &parts.target_validation);
        let mut tracker = Tracker::new(config, dir, &learner, data.1)?;
        training::train_target(&mut learner, data, plan, config.seed, observer, |learner| {
            if let Some(tracker) = &mut tracker {
                tracker.before_save(learner)?;
            }
            write_state(dir, &state, |out| learner.write_state(out))
        })?;
        stopped_early = learner.stopped_early();
        chosen_epoch = learner.best_epoch().unwrap_or(0);
        curve = epochs(learner.curve());
        target = learner.into_best()?;
    }
    write_target(dir, file, &*target)?;
    let measured: [&dyn ImageSet; 3] = [&parts.target_train, &parts.target_validation, &parts.test];
    observer.begin("accuracy", measured.map(training::evaluation_batches).iter().sum());
    let [on_train, on_validation, on_test] =
        measured.map(|set| training::evaluate(&*target, set, plan.labels, observer));
    let (on_train, on_validation, on_test) = (on_train?, on_validation?, on_test?);
    observer.end("");
    let record = TargetRecord {
        labels: plan.labels.to_string(),
        loaded_from: config.weights.clone(),
        optimiser: plan_in_words(&plan.training),
        batch: plan.training.batch,
        epochs: curve.len(),
        chosen_epoch,
        kept_by: plan.training.keep,
        stopped_early,
        converged: converged(&kept_by(plan.training.keep, &curve)),
        accuracy_train: on_train.accuracy,
        accuracy_validation: on_validation.accuracy,
        accuracy_test: on_test.accuracy,
        nc1: None,
        curve,
    };
    Ok((target, record))
}

/// States are of use only while the run is unfinished. What cannot be removed stays; the results do not depend on it.
pub(crate) fn remove_states(dir: &RunDir) {
    let _ = std::fs::remove_file(dir.file(&state_file("target")));
    attacks::remove_states(dir);
}

/// What stands behind a declared channel at one split: the bound, and the accuracy of the network.
type Behind = (Option<LeakageBound>, Option<f64>);

fn split_inputs(
    config: &AuditConfig,
    (target, splits): (&dyn Target, &[usize]),
    trained_on: Vec<SplitStatistics>,
    held_out: Vec<SplitStatistics>,
    behind: Vec<Behind>,
    evaluation: &Evaluation,
) -> Result<Vec<SplitInput>> {
    let mut inputs = Vec::new();
    let measured = trained_on.into_iter().zip(held_out).zip(behind);
    for ((&split, metrics), ((statistics, held_out), (leakage_bound, accuracy))) in
        splits.iter().zip(&evaluation.metrics).zip(measured)
    {
        let (tap, cost) = (&target.taps()[split - 1], target.split_cost(split)?);
        inputs.push(SplitInput {
            index: tap.index,
            name: tap.name.clone(),
            shape: tap.shape.clone(),
            wire_bytes: config.channel.wire_bytes(tap.width()),
            edge_params: cost.edge_params,
            edge_params_fraction: cost.edge_params_fraction,
            edge_macs_fraction: cost.edge_macs_fraction,
            radius_sq: statistics.radius_sq,
            variance: statistics.variance,
            entropy_bounds_nats: statistics.entropy_bounds_nats,
            held_out: Some(held_out.held_out()),
            leakage_bound,
            accuracy_behind_channel: accuracy,
            within_i: statistics.within_i,
            total_i: statistics.total_i,
            mse_i: metrics.iter().map(|m| m.seen.mse_per_element).collect(),
            mse_closest_i: config
                .prior_tau
                .map(|_| metrics.iter().map(|m| m.closest.mse_per_element).collect()),
            ssim_i: metrics.iter().map(|m| m.closest.ssim).collect(),
            lpips_i: config
                .lpips_weights
                .as_ref()
                .and_then(|_| metrics.iter().map(|m| m.closest.lpips).collect()),
        });
    }
    Ok(inputs)
}

pub(crate) fn epochs(curve: &[gpz_inversion::EpochRecord]) -> Vec<Epoch> {
    let epoch = |record: &gpz_inversion::EpochRecord| Epoch {
        epoch: record.epoch,
        train_loss: record.train_loss,
        held_out_loss: record.held_out_loss,
        held_out_accuracy: record.held_out_accuracy,
    };
    curve.iter().map(epoch).collect()
}

/// The figures by which a state was kept, the lower the better.
fn kept_by(keep: Keep, curve: &[Epoch]) -> Vec<f64> {
    let figure = |epoch: &Epoch| keep.figure(epoch.held_out_loss, epoch.held_out_accuracy);
    curve.iter().map(|epoch| figure(epoch).unwrap_or(f64::NAN)).collect()
}

pub(crate) fn losses(curve: &[Epoch]) -> Vec<f64> {
    curve.iter().map(|epoch| epoch.held_out_loss).collect()
}

pub(crate) fn model_record(target: &dyn Target) -> ModelRecord {
    let name = target.name();
    let (name, detail) = name.split_once(':').unwrap_or((&name, ""));
    let costs = target.stage_costs();
    ModelRecord {
        name: name.to_owned(),
        detail: detail.replace('=', " ").replace(',', ", "),
        input_shape: target.input_shape().to_vec(),
        params: costs.iter().map(|c| c.params).sum(),
        macs: costs.iter().map(|c| c.macs).sum(),
    }
}

fn notes(config: &AuditConfig, data: &OpenedData) -> Vec<String> {
    let mut notes = vec![
        format!("Statistics are taken in evaluation mode with true labels, on {}, and again on {}.", Part::TargetTrain, Part::TargetValidation),
        "One kind of attack was tried: a decoder trained on pairs of feature and picture. Others may do better.".to_owned(),
        "One seed was run; intervals are over images, not over trainings.".to_owned(),
    ];
    if let Some(other) = &data.other {
        notes.push(format!(
            "The attacker's pictures are those of {}, not of {}: {} pictures that would have been the audited set's auxiliary part are left out \
             and used for nothing{}.",
            other.name,
            data.dataset.name(),
            thousands(other.left_out as u64),
            match other.shared {
                0 => String::new(),
                n => format!(", and so are {} that both sets hold", counted(n, "picture")),
            }
        ));
    }
    if !config.channel.is_none() {
        notes.push(format!(
            "Features go through the channel {}: attacks learn from, and are tested on, what arrives. Ranges of quantisers and scales of \
             int8 are those of the features of {}, split by split.",
            config.channel,
            Part::TargetTrain
        ));
    }
    if let Some(tau) = config.prior_tau {
        notes.push(format!(
            "Each picture is read with noise of its own, of standard deviation {tau} of the range of a pixel: the network and the \
             attacks see the picture with it, and errors per element are errors in it. SSIM, PSNR and LPIPS, which say what is recognised, are with the \
             picture with or without the noise, whichever an attack came closer to."
        ));
    }
    if config.data == "fashion-mnist" {
        notes.push("Pictures of 28×28 pixels are enlarged: errors per element are those of smooth pictures.".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests;

/// When a run began, and the seconds of each of its phases.
pub(crate) struct Clock {
    started: SystemTime,
    last: Instant,
    /// Whether an earlier process did a part of the run, whose time is not known here.
    resumed: bool,
    phases: Vec<Phase>,
}

impl Clock {
    pub(crate) fn new(dir: &RunDir) -> Self {
        let resumed = dir.state() == RunState::Unfinished;
        Clock { started: SystemTime::now(), last: Instant::now(), resumed, phases: Vec::new() }
    }

    pub(crate) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.phases.push(Phase { name: name.to_owned(), seconds });
        self.last = now;
    }
}
