//! A target trained alone, without statistics and attacks: the first step of an audit, in a directory of its own.

use gpz_inversion::Observer;
use serde::{Deserialize, Serialize};

use crate::config::AuditConfig;
use crate::error::{Error, Result};
use crate::json;
use crate::run_dir::{RunDir, RunState, files, read_text};
use crate::run_record::{DataRecord, ModelRecord, Provenance, TargetRecord};
use crate::sweep::{
    Circumstances, Clock, begun_in, configuration_text, given_weights, model_record, obtain_target,
    open_data, prepare_target, remove_states, same_configuration,
};

use crate::statistics;
use crate::training::foresee_target;

/// The trained target.
pub const WEIGHTS: &str = "target.safetensors";
/// What the record of such a run calls itself.
const TASK: &str = "train";

/// `run.json` of a target that was trained alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetRun {
    /// `train`.
    pub task: String,
    /// Whether training came to its end.
    pub finished: bool,
    /// How and when it was computed.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The model.
    pub model: ModelRecord,
    /// The images.
    pub data: DataRecord,
    /// How training went, and the accuracy on validation and test images.
    pub target: TargetRecord,
}

impl TargetRun {
    /// The text of `run.json`.
    ///
    /// # Errors
    /// [`Error::Json`]; does not occur for values of this type.
    pub fn to_json(&self) -> Result<String> {
        json::to_text(self, "run.json")
    }
}

/// Trains a target in a directory, from wherever an earlier attempt there ended; writes `target.safetensors`, `config.toml` and
/// `run.json`. A finished run is left alone.
///
/// # Errors
/// [`Error::ConfigDiffers`] on resuming with another configuration; [`Error::is_stop`] after a stop was asked for, with everything
/// saved; whatever keeps the target from being trained.
pub fn train(
    config: &AuditConfig,
    dir: &RunDir,
    circumstances: &Circumstances,
    observer: &mut dyn Observer,
) -> Result<TargetRun> {
    config.validate()?;
    if let Some(text) = begun_in(dir.path(), TASK)? {
        same_configuration(dir, &AuditConfig::from_toml(&text)?.to_toml()?, &config.to_toml()?)?;
    }
    if dir.state() == RunState::Finished {
        return finished(dir);
    }
    let mut clock = Clock::new(dir);
    foresee_target(config.model, config.resolution)?;
    let weights = given_weights(config, dir)?;
    let data = open_data(config, observer)?;
    let parts = &data.parts;
    let target = prepare_target(config, weights.as_ref(), parts, &circumstances.device, observer)?;
    dir.write(files::CONFIG, configuration_text(TASK, &config.to_toml()?).as_bytes())?;
    clock.lap("data");
    let (target, mut target_record) = obtain_target(config, dir, WEIGHTS, target, parts, observer)?;
    observer.begin("collapse", statistics::batches_of_nc1(&parts.target_train));
    target_record.nc1 = statistics::nc1(&*target, &parts.target_train, observer)?;
    observer.end("");
    clock.lap("target");
    let run = TargetRun {
        task: TASK.to_owned(),
        finished: true,
        provenance: circumstances.provenance(config.seed, &clock),
        model: model_record(&*target),
        data: data.record(config),
        target: target_record,
    };
    dir.write(files::RUN_JSON, run.to_json()?.as_bytes())?;
    remove_states(dir);
    Ok(run)
}

fn finished(dir: &RunDir) -> Result<TargetRun> {
    let path = dir.file(files::RUN_JSON);
    let text = read_text(dir.path(), files::RUN_JSON)?;
    let run: TargetRun =
        serde_json::from_str(&text).map_err(|source| Error::Damaged { path, source })?;
    Ok(run)
}
