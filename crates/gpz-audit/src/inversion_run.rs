//! One split attacked alone, with weights that are given: the attack's step of an audit, in a directory of its own.

use gpz_data::{Dataset, Parts};
use gpz_inversion::metrics::{psnr_db, summarise};
use gpz_inversion::{Observer, Wire};
use gpz_models::Target;
use serde::{Deserialize, Serialize};

use crate::attacks::{AttackGroups, train_attacks};
use crate::config::AuditConfig;
use crate::declared::Declared;
use crate::error::{Error, Result};
use crate::evaluation::ImageFigures;
use crate::intervals::{Interval, Resampling};
use crate::leakage::Declaration;
use crate::lpips::given_lpips;
use crate::run_dir::{RunDir, RunState, files, read_text};
use crate::run_record::{
    AttackTraining, Baseline, DataRecord, ModelRecord, PictureRecord, Provenance,
};
use crate::splits::LeakageBound;
use crate::sweep::{
    Circumstances, Clock, LEVEL, begun_in, configuration_text, given_weights, model_record,
    open_data, prepare_target, remove_states, same_configuration, write_target,
};
use crate::training::foresee_target;
use crate::wire::ChannelWire;
use crate::{evaluation, json, statistics};

/// The attack's figures; no time, path or host stands in it.
pub const METRICS: &str = "metrics.json";
/// What the record of such a run calls itself.
const TASK: &str = "invert";
/// Pictures have values from 0 to 1.
const RANGE: f64 = 1.0;

/// Kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// A network that learns the picture from the feature.
    Inverse,
}

/// Everything that decides what such a run computes; its `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InversionConfig {
    /// Name of the attacked split.
    pub split: String,
    /// Kind of attack.
    pub attack: Attack,
    /// Model, weights, data, seed and plans, as in an audit.
    pub audit: AuditConfig,
}

impl InversionConfig {
    /// Reads what [`InversionConfig::to_toml`] wrote.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn from_toml(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(Error::config)
    }

    /// Whether a text is meant as one of these and not as an audit's configuration.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("audit"))
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    /// [`Error::Config`]; does not occur for values of this type.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(Error::config)
    }
}

/// `metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InversionMetrics {
    /// The attacked model; `unknown` where only its features are at hand.
    pub model: String,
    /// The split's 1-based index; `null` in a model that is not known.
    pub index: Option<usize>,
    /// The split's name; of features in a file, their array's.
    pub split: String,
    /// Kind of attack.
    pub attack: Attack,
    /// The part the figures are of.
    pub part: String,
    /// Images in it.
    pub n: usize,
    /// τ of the declared prior, in units of pixels in [0, 1]; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior_tau: Option<f64>,
    /// Mean squared error over images, height, width and channels; under a prior that in the picture with its noise, which a floor bounds.
    #[serde(with = "crate::number")]
    pub mse_per_element: f64,
    /// The same summed over channels instead, the convention of the literature on the method.
    #[serde(with = "crate::number")]
    pub mse_channel_sum: f64,
    /// Mean squared error against the picture with or without the prior's noise, image by image whichever is closer; absent without a prior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mse_closest: Option<f64>,
    /// PSNR of the mean error, of `mse_closest` under a prior.
    #[serde(with = "crate::number")]
    pub psnr_db: f64,
    /// Mean structural similarity; under a prior with the picture with or without its noise, whichever is larger.
    #[serde(with = "crate::number")]
    pub ssim: f64,
    /// Mean LPIPS, version 0.1 with AlexNet; under a prior to the picture with or without its noise, whichever is closer. Absent unless the
    /// metric's weights were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// Distance from black to white.
    pub range: f64,
    /// Intervals over images at level 0.95.
    pub ci: MetricIntervals,
    /// An attacker who sees nothing.
    pub mean_image: Baseline,
    /// What the declared channel lets through, and what it leaves any attacker with; absent without a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leakage_bound: Option<LeakageBound>,
}

/// Intervals over images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricIntervals {
    /// Of the mean squared error per element.
    pub mse_per_element: Interval,
    /// Of the PSNR of the mean error.
    pub psnr_db: Interval,
    /// Of the mean structural similarity.
    pub ssim: Interval,
    /// Of the mean LPIPS; absent where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<Interval>,
}

/// `run.json` of a split that was attacked alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InversionRun {
    /// `invert`.
    pub task: String,
    /// Whether it came to its end.
    pub finished: bool,
    /// How and when it was computed.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The attacked model.
    pub model: ModelRecord,
    /// The images.
    pub data: DataRecord,
    /// What was declared to stand between the feature and the wire.
    #[serde(default)]
    pub channel: Declared,
    /// τ of the declared prior, in units of pixels in [0, 1].
    #[serde(with = "crate::number::option", default)]
    pub prior_tau: Option<f64>,
    /// The attacker's training.
    pub attack: AttackTraining,
    /// The pictures beside this file, in the order of their numbers.
    pub pictures: Vec<PictureRecord>,
}

/// Trains a decoder for one split on the auxiliary part, attacks the test part with it, and writes decoder, `metrics.json`, pictures,
/// `config.toml` and `run.json`; from wherever an earlier attempt in the directory ended. A finished run is left alone.
///
/// # Errors
/// [`Error::NoWeights`]; a split the model does not have; otherwise as [`crate::sweep::audit`].
pub fn invert(
    config: &InversionConfig,
    dir: &RunDir,
    circumstances: &Circumstances,
    observer: &mut dyn Observer,
) -> Result<InversionMetrics> {
    let audit = &config.audit;
    audit.validate()?;
    if audit.weights.is_none() {
        return Err(Error::NoWeights);
    }
    if let Some(begun) = begun_in(dir.path(), TASK)? {
        same_configuration(
            dir,
            &InversionConfig::from_toml(&begun)?.to_toml()?,
            &config.to_toml()?,
        )?;
    }
    if dir.state() == RunState::Finished {
        return finished(dir);
    }
    let mut clock = Clock::new(dir);
    let foreseen = foresee_target(audit.model, audit.resolution)?;
    let split = foreseen.find_split(&config.split)?;
    let attacker = AttackGroups::foresee(audit, &foreseen, &[split], circumstances)?;
    attacker.announce(observer);
    let weights = given_weights(audit, dir)?;
    let lpips = given_lpips(audit.lpips_weights.as_deref(), &circumstances.device)?;
    let data = open_data(audit, observer)?;
    let (dataset, parts) = (&data.dataset, &data.parts);
    let target = prepare_target(audit, weights.as_ref(), parts, &circumstances.device, observer)?;
    let target = &*target;
    attacker.announce_cache(audit, target, parts, observer)?;
    dir.write(files::CONFIG, configuration_text(TASK, &config.to_toml()?).as_bytes())?;
    write_target(dir, files::TARGET_CHECKPOINT, target)?;
    clock.lap("data");
    let (wire, leakage_bound) = channel_at(split, audit, target, (dataset, parts), observer)?;
    let wire: &dyn Wire = &wire;
    let attacked = (&attacker, wire);
    let (decoders, mut records) = train_attacks(audit, dir, target, attacked, parts, observer)?;
    clock.lap("attack");
    let evaluation =
        evaluation::evaluate(target, &decoders, wire, parts, lpips.as_ref(), observer)?;
    let attackers = (&decoders[..], wire);
    let pictures = evaluation::write_pictures(dir, target, attackers, &parts.test, &evaluation)?;
    clock.lap("evaluation");

    let tap = &target.taps()[split - 1];
    let figures = evaluation.metrics.first().map_or(&[][..], |figures| figures);
    let resampling = Resampling { resamples: audit.resamples, level: LEVEL, seed: audit.seed };
    let attacked = Attacked {
        model: target.name(),
        index: Some(split),
        split: tap.name.clone(),
        attack: config.attack,
        prior_tau: audit.prior_tau,
    };
    let metrics = InversionMetrics {
        leakage_bound,
        ..InversionMetrics::of(attacked, figures, evaluation.mean_image, &resampling)?
    };
    let none = || Error::NoImages { split: tap.name.clone(), figure: "reconstructions" };
    let Some(attack) = records.pop() else { return Err(none()) };
    let run = InversionRun {
        task: TASK.to_owned(),
        finished: true,
        provenance: circumstances.provenance(audit.seed, &clock),
        model: model_record(target),
        data: data.record(audit),
        channel: audit.channel,
        prior_tau: audit.prior_tau,
        attack,
        pictures,
    };
    dir.write(METRICS, metrics.to_json()?.as_bytes())?;
    dir.write(files::RUN_JSON, json::to_text(&run, "run.json")?.as_bytes())?;
    remove_states(dir);
    Ok(metrics)
}

/// The declared channel at the attacked split, calibrated on the target's training part where it needs to be, and what it bounds.
fn channel_at(
    split: usize,
    audit: &AuditConfig,
    target: &dyn Target,
    (dataset, parts): (&Dataset, &Parts),
    observer: &mut dyn Observer,
) -> Result<(ChannelWire, Option<LeakageBound>)> {
    if audit.channel.is_none() {
        return Ok((ChannelWire::new(audit.seed, []), None));
    }
    let sent = statistics::sent(target, &parts.target_train, split, observer)?;
    let (wire, mut bounds) = Declaration::new(audit, dataset, parts)?.at(target, &[&sent])?;
    Ok((wire, bounds.pop().flatten()))
}

fn finished(dir: &RunDir) -> Result<InversionMetrics> {
    let text = read_text(dir.path(), METRICS)?;
    serde_json::from_str(&text).map_err(|source| Error::Damaged { path: dir.file(METRICS), source })
}

/// What was attacked, and how.
pub(crate) struct Attacked {
    pub(crate) model: String,
    pub(crate) index: Option<usize>,
    pub(crate) split: String,
    pub(crate) attack: Attack,
    pub(crate) prior_tau: Option<f64>,
}

impl InversionMetrics {
    /// Means and intervals over the images of the test part.
    ///
    /// # Errors
    /// [`Error::NoImages`] without figures; [`Error::ImageFigure`] for one that is no number.
    pub(crate) fn of(
        attacked: Attacked,
        figures: &[ImageFigures],
        mean_image: Baseline,
        resampling: &Resampling,
    ) -> Result<Self> {
        let Attacked { model, index, split, attack, prior_tau } = attacked;
        let none = || Error::NoImages { split: split.clone(), figure: "reconstructions" };
        let seen: Vec<_> = figures.iter().map(|figures| figures.seen).collect();
        let closest: Vec<_> = figures.iter().map(|figures| figures.closest).collect();
        let summary = summarise(&seen, RANGE).ok_or_else(none)?;
        let recognised = summarise(&closest, RANGE).ok_or_else(none)?;
        let interval =
            |figure, values: Vec<f64>| resampling.mean(&split, figure, &values).map(|(_, ci)| ci);
        let mse = interval("mse_per_element", seen.iter().map(|m| m.mse_per_element).collect())?;
        let mse_closest =
            interval("mse_closest", closest.iter().map(|m| m.mse_per_element).collect())?;
        let ssim = interval("ssim", closest.iter().map(|m| m.ssim).collect())?;
        let distances: Option<Vec<f64>> = closest.iter().map(|m| m.lpips).collect();
        let lpips = distances.map(|values| interval("lpips", values)).transpose()?;
        Ok(InversionMetrics {
            model,
            index,
            attack,
            part: gpz_data::Part::Test.name().to_owned(),
            n: summary.n,
            prior_tau,
            mse_per_element: summary.mse_per_element,
            mse_channel_sum: summary.mse_channel_sum,
            mse_closest: prior_tau.map(|_| recognised.mse_per_element),
            psnr_db: recognised.psnr_db,
            ssim: recognised.ssim,
            lpips: recognised.lpips,
            range: summary.range,
            ci: MetricIntervals {
                mse_per_element: mse,
                psnr_db: mse_closest.map_decreasing(|m| psnr_db(m, RANGE)),
                ssim,
                lpips,
            },
            mean_image,
            leakage_bound: None,
            split,
        })
    }

    /// The text of `metrics.json`.
    ///
    /// # Errors
    /// [`Error::Json`]; does not occur for values of this type.
    pub fn to_json(&self) -> Result<String> {
        json::to_text(self, METRICS)
    }
}
