//! The resolved configuration of an audit: presets, and files that change parts of them.

use std::collections::BTreeSet;

use gpz_data::Smoothing;
use gpz_inversion::{AttackPlan, Keep, TrainingPlan};
use gpz_models::ModelSpec;
use gpz_nn::{Labels, Rule, Schedule};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::choice::Limits;
use crate::declared::Declared;
use crate::error::{Error, Result};
use crate::intervals::Resampling;
use crate::words::counted;

mod presets;

pub use presets::{PRESETS, Preset};

/// Everything that decides what an audit computes. Written into the run's directory; equal configurations give equal `splits.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// The audited model, such as `cnn4:width=16`.
    pub model: ModelSpec,
    /// A built-in data set or a path.
    pub data: String,
    /// A set of other pictures, built in or a path, that the attacker learns from in place of a part of `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<String>,
    /// A safetensors file with the target's weights; trained here if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// A safetensors file with the weights of LPIPS, `scripts/make-lpips-weights`; without it LPIPS is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips_weights: Option<String>,
    /// Seed of everything random but the cut of the data into parts.
    pub seed: u64,
    /// Height and width in which pictures are shown to the networks.
    pub resolution: usize,
    /// Resamples over images behind each interval and the zone's verdict.
    pub resamples: usize,
    /// What stands between the feature and the wire, such as `bits:4`.
    #[serde(default, skip_serializing_if = "Declared::is_none")]
    pub channel: Declared,
    /// τ of the declared prior: each picture is read with noise of this standard deviation, in units of pixels in [0, 1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior_tau: Option<f64>,
    /// Splits that are measured and attacked, by name or number; all of them unless some are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<String>,
    /// How the target is trained.
    pub target: TargetPlan,
    /// How the attacks are trained.
    pub attack: AttackPlan,
    /// What a split must respect to be recommended.
    #[serde(default)]
    pub limits: Limits,
}

/// How a target is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetPlan {
    /// Distribution over classes that a label stands for.
    pub labels: Labels,
    /// How training pictures are changed at random.
    pub augmentation: Augmentation,
    /// Every how many epochs the radius of each split is measured on the validation part; never, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track_radius: Option<usize>,
    /// Epochs, batch, optimiser and schedule.
    pub training: TrainingPlan,
}

/// How training pictures are changed at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Augmentation {
    /// Not at all.
    None,
    /// Mirrored half of the time.
    Flip,
    /// Mirrored half of the time; brightness, contrast, saturation and hue changed by up to 0.2.
    FlipAndJitter,
}

impl Augmentation {
    /// The data set's own description of it.
    #[must_use]
    pub fn augment(self) -> gpz_data::Augment {
        match self {
            Augmentation::None => gpz_data::Augment::none(),
            Augmentation::Flip => gpz_data::Augment { flip: 0.5, ..gpz_data::Augment::none() },
            Augmentation::FlipAndJitter => gpz_data::Augment::paper(),
        }
    }
}

impl AuditConfig {
    /// This configuration with the fields a TOML text names replaced.
    ///
    /// Tables are merged field by field, but a table with a `name`, such as an optimiser, is replaced as a whole.
    ///
    /// # Errors
    /// [`Error::Config`] names the line and the field that is misspelt or has an impossible value.
    pub fn overlaid(&self, text: &str) -> Result<Self> {
        let changes: Table = text.parse().map_err(Error::config)?;
        let mut table = Table::try_from(self).map_err(Error::config)?;
        let names_schedule = |stage: &str| {
            let training = changes.get(stage).and_then(|stage| stage.get("training"));
            training.is_some_and(|training| training.get("schedule").is_some())
        };
        let named = [names_schedule("target"), names_schedule("attack")];
        merge(&mut table, changes);
        let mut config: AuditConfig = table.try_into().map_err(Error::config)?;
        // A schedule that is not named goes along with the number of epochs.
        let plans = [&mut config.target.training, &mut config.attack.training];
        for (plan, named) in plans.into_iter().zip(named) {
            if let (Schedule::Cosine { epochs, .. }, false) = (&mut plan.schedule, named) {
                *epochs = plan.epochs;
            }
        }
        config.validate()?;
        Ok(config)
    }

    /// Reads a configuration that [`AuditConfig::to_toml`] wrote.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn from_toml(text: &str) -> Result<Self> {
        let config: AuditConfig = toml::from_str(text).map_err(Error::config)?;
        config.validate()?;
        Ok(config)
    }

    /// The text of `config.toml`.
    ///
    /// # Errors
    /// [`Error::Config`]; does not occur for values of this type.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(Error::config)
    }

    /// The splits that are measured and attacked, 1-based and ascending, of a model.
    ///
    /// # Errors
    /// [`gpz_models::Error::UnknownSplit`] lists what there is.
    pub fn chosen_splits(
        &self,
        taps: usize,
        find: impl Fn(&str) -> Result<usize, gpz_models::Error>,
    ) -> Result<Vec<usize>> {
        if self.splits.is_empty() {
            return Ok((1..=taps).collect());
        }
        let found = self.splits.iter().map(|name| find(name));
        let found: BTreeSet<usize> = found.collect::<Result<_, _>>()?;
        Ok(found.into_iter().collect())
    }

    /// The noise that belongs to every picture under the declared prior.
    ///
    /// # Errors
    /// [`gpz_data::Error::Smoothing`].
    pub fn smoothing(&self) -> Result<Option<Smoothing>, gpz_data::Error> {
        self.prior_tau.map(|tau| Smoothing::new(tau, self.seed)).transpose()
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Config`] names the field.
    pub fn validate(&self) -> Result<()> {
        for (name, plan) in [("target", &self.target.training), ("attack", &self.attack.training)] {
            let rate = plan.learning_rate;
            if plan.epochs == 0 || plan.batch == 0 {
                return Err(Error::config(format!(
                    "{name}.training: epochs and batch must be at least 1"
                )));
            }
            if plan.batch == 1 {
                return Err(Error::config(format!(
                    "{name}.training.batch: 1 picture has no batch statistics; use at least 2"
                )));
            }
            if plan.stop_after == Some(0) {
                return Err(Error::config(format!(
                    "{name}.training.stop_after: 0 epochs would end it before the first; use at least 1"
                )));
            }
            if !(rate.is_finite() && rate > 0.0) {
                return Err(Error::config(format!(
                    "{name}.training.learning_rate: {rate} is not a positive number"
                )));
            }
        }
        if self.attack.training.keep == Keep::HighestAccuracy {
            return Err(Error::config(
                "attack.training.keep: an attack has an error and no accuracy; use \"lowest-loss\"",
            ));
        }
        for (name, plan) in [("target", &self.target.training), ("attack", &self.attack.training)] {
            check_rule(name, plan)?;
        }
        if i64::try_from(self.seed).is_err() {
            return Err(Error::config(format!("seed: {} is beyond {}", self.seed, i64::MAX)));
        }
        if self.target.track_radius == Some(0) {
            return Err(Error::config(
                "target.track_radius: 0 is no number of epochs; use 1 or more",
            ));
        }
        if self.resolution == 0 {
            return Err(Error::config("resolution: pictures of 0 pixels; 64 is usual"));
        }
        let least = gpz_inversion::metrics::LPIPS_LEAST;
        if self.lpips_weights.is_some() && self.resolution < least {
            return Err(Error::config(format!(
                "lpips_weights: LPIPS takes pictures of {least}x{least} or more, and the resolution is {}; raise it or leave LPIPS out",
                self.resolution
            )));
        }
        self.smoothing().map_err(|error| Error::config(format!("prior_tau: {error}")))?;
        let (resamples, seed) = (self.resamples, self.seed);
        Resampling { resamples, seed, ..Resampling::default() }.validate()?;
        self.limits.validate()
    }
}

/// τ of a declared prior, as it is written on the command line.
///
/// # Errors
/// What is wrong, and what is possible.
pub fn parse_prior_tau(text: &str) -> Result<f64, String> {
    let tau = text.parse().map_err(|_| format!("{text:?} is no number; 0.1 is usual"))?;
    Smoothing::new(tau, 0).map(|_| tau).map_err(|error| error.to_string())
}

/// Optimiser and schedule within their ranges.
fn check_rule(stage: &str, plan: &TrainingPlan) -> Result<()> {
    let (shares, decay): (&[f64], f64) = match &plan.optimizer {
        Rule::Sgd { momentum, weight_decay } => (std::slice::from_ref(momentum), *weight_decay),
        Rule::Adam { betas, weight_decay, .. } | Rule::AdamW { betas, weight_decay, .. } => {
            (betas, *weight_decay)
        }
    };
    let at = |field: &str, value: f64, rule: &str| {
        Err(Error::config(format!("{stage}.training.{field}: {value} is not possible, {rule}")))
    };
    if let Some(share) = shares.iter().find(|share| !(0.0..1.0).contains(*share)) {
        return at("optimizer", *share, "momentum and betas are at least 0 and below 1");
    }
    if !(decay.is_finite() && decay >= 0.0) {
        return at("optimizer.weight_decay", decay, "it is at least 0");
    }
    match plan.schedule {
        Schedule::Plateau { factor, .. } if !(factor > 0.0 && factor < 1.0) => {
            at("schedule.factor", factor, "it lies between 0 and 1")
        }
        Schedule::Cosine { floor, .. } if !(floor.is_finite() && floor >= 0.0) => {
            at("schedule.floor", floor, "it is at least 0")
        }
        _ => Ok(()),
    }
}

fn merge(base: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (base.get_mut(&key), change) {
            (Some(Value::Table(old)), Value::Table(new)) if !new.contains_key("name") => {
                merge(old, new)
            }
            (_, change) => {
                base.insert(key, change);
            }
        }
    }
}

/// A training plan in words, for a report.
#[must_use]
pub fn plan_in_words(plan: &TrainingPlan) -> String {
    let rule = match plan.optimizer {
        Rule::Sgd { momentum, weight_decay } => {
            format!("SGD, momentum {momentum}, weight decay {weight_decay}")
        }
        Rule::Adam { betas, amsgrad, weight_decay } => {
            let name = if amsgrad { "Adam (amsgrad)" } else { "Adam" };
            format!("{name}, betas {} and {}, weight decay {weight_decay}", betas[0], betas[1])
        }
        Rule::AdamW { betas, amsgrad, weight_decay } => {
            let name = if amsgrad { "AdamW (amsgrad)" } else { "AdamW" };
            format!("{name}, betas {} and {}, weight decay {weight_decay}", betas[0], betas[1])
        }
    };
    let schedule = match plan.schedule {
        Schedule::Constant => "constant".to_owned(),
        Schedule::Plateau { factor, patience } => {
            format!("× {factor} after {patience} epochs without progress")
        }
        Schedule::Cosine { floor, .. } => format!("falling along a cosine to {floor}"),
    };
    let stop = plan.stop_after.map_or_else(String::new, |n| {
        format!(
            "; ends early after {} without a new {} on held-out images",
            counted(n, "epoch"),
            plan.keep.in_words()
        )
    });
    format!("{rule}; learning rate {}, {schedule}{stop}", plan.learning_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() -> Result<()> {
        let base = AuditConfig::preset("quick", None)?;
        let text = "seed = 7\n[attack.training]\nepochs = 3\noptimizer = { name = \"sgd\", momentum = 0.9, weight_decay = 0.0 }";
        let changed = base.overlaid(text)?;
        let mut want = base;
        want.seed = 7;
        want.attack.training.epochs = 3;
        want.attack.training.schedule = Schedule::Cosine { epochs: 3, floor: 0.0 };
        want.attack.training.optimizer = Rule::Sgd { momentum: 0.9, weight_decay: 0.0 };
        assert_eq!(changed, want);
        Ok(())
    }

    /// A declaration is kept as it is written; without one, a file says nothing of it, as files did before there was any.
    #[test]
    fn declarations_read_back_and_are_silent_when_absent() -> Result<()> {
        let base = AuditConfig::preset("quick", None)?;
        let text = base.to_toml()?;
        assert!(!text.contains("channel") && !text.contains("prior_tau"), "{text}");
        let declared = base.overlaid("channel = \"noise:0.1\"\nprior_tau = 0.05")?;
        assert_eq!((declared.channel, declared.prior_tau), (Declared::Noise(0.1), Some(0.05)));
        let text = declared.to_toml()?;
        assert!(text.contains("channel = \"noise:0.1\"\nprior_tau = 0.05\n"), "{text}");
        assert_eq!(AuditConfig::from_toml(&text)?, declared);
        assert_eq!(parse_prior_tau("0.05"), Ok(0.05));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "much"] {
            assert!(parse_prior_tau(wrong).is_err_and(|rule| rule.contains("0.1")), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_misspelt_field_is_named() -> Result<()> {
        let base = AuditConfig::preset("quick", None)?;
        for (text, named) in [
            ("sed = 7", "sed"),
            ("[attack.training]\nepoch = 3", "epoch"),
            ("[limits]\nmax_wire = 3", "max_wire"),
            ("[target]\nlabels = \"smooth\"", "smooth"),
            ("[target.training]\noptimizer = { name = \"adamx\" }", "adamx"),
            ("model = \"cnn5\"", "cnn5"),
            ("[attack.training]\nlearning_rate = -1.0", "learning_rate"),
            ("[target.training.optimizer]\nbetas = [1.0, 0.9]", "target.training.optimizer"),
            ("[target.training.optimizer]\nweight_decay = nan", "weight_decay"),
            ("[attack.training]\nstop_after = 0", "attack.training.stop_after"),
            ("[attack.training]\nkeep = \"highest-accuracy\"", "attack.training.keep"),
            ("[target.training]\nkeep = \"last\"", "lowest-loss"),
            ("[target]\ntrack_radius = 0", "target.track_radius"),
            ("seed = ", "line 1"),
            ("channel = \"fp8\"", "channel \"fp8\": no such channel"),
            ("channel = 4", "channel"),
            ("prior_tau = -0.5", "prior_tau: a smoothing of -0.5"),
            ("prior_tau = nan", "prior_tau"),
        ] {
            let message = base.overlaid(text).expect_err(text).to_string();
            assert!(message.contains(named), "{text}: {message}");
            assert!(!message.contains('\n'), "one line: {message}");
        }
        Ok(())
    }
}
