//! `run.json`: how a run was done. Unlike `splits.json` it holds times and the machine's device, and differs between
//! repetitions of the same audit.

use std::time::SystemTime;

use gpz_inversion::Keep;
use serde::{Deserialize, Serialize};

use crate::declared::Declared;
use crate::error::Result;
use crate::json;

/// The contents of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Whether the run came to its end. Only a finished run is left alone by a resume.
    pub finished: bool,
    /// How and when it was computed.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// The audited model.
    pub model: ModelRecord,
    /// The images.
    pub data: DataRecord,
    /// The target network's training.
    pub target: TargetRecord,
    /// The attackers' training.
    pub attacks: Vec<AttackTraining>,
    /// What was declared to stand between the feature and the wire.
    #[serde(default)]
    pub channel: Declared,
    /// τ of the declared prior, in units of pixels in [0, 1].
    #[serde(with = "crate::number::option", default)]
    pub prior_tau: Option<f64>,
    /// How far off an attacker is who sees nothing and answers with the mean image.
    pub mean_image: Option<Baseline>,
    /// The pictures beside this file, in the order of their numbers.
    pub pictures: Vec<PictureRecord>,
    /// Anything a reader should know, one sentence each.
    pub notes: Vec<String>,
}

impl RunRecord {
    /// The text of `run.json`.
    ///
    /// # Errors
    /// [`crate::Error::Json`]; does not occur for values of this type.
    pub fn to_json(&self) -> Result<String> {
        json::to_text(self, "run.json")
    }

    /// Seconds of all phases together.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.provenance.phases.iter().map(|p| p.seconds).sum()
    }
}

/// How and when a run was computed, whatever its task. Its fields stand beside the others of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Versions of what computed it: gpz first, then whatever matters to repeat it.
    pub versions: Vec<Named>,
    /// The command that repeats the run.
    pub command: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Device the networks ran on.
    pub device: String,
    /// Number of threads; the figures do not depend on it.
    pub threads: usize,
    /// When it began, in UTC; see [`utc`].
    pub started_utc: String,
    /// Whether the run was begun by an earlier process: beginning and phases are then those of the last one alone.
    #[serde(default)]
    pub resumed: bool,
    /// How long each phase took.
    pub phases: Vec<Phase>,
}

/// A name with a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A phase of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// The audited model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Its name.
    pub name: String,
    /// Its options in words, such as `width 16`.
    pub detail: String,
    /// Shape of an input image, channels first.
    pub input_shape: Vec<usize>,
    /// Number of parameters.
    pub params: u64,
    /// Multiply-accumulates per image.
    pub macs: u64,
}

/// The images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// Name of the set.
    pub name: String,
    /// Where it comes from, in words.
    pub source: String,
    /// Licence or terms, as far as known.
    pub licence: String,
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Shape in which the images are stored, channels first.
    pub native_shape: Vec<usize>,
    /// Shape in which the networks see them, channels first.
    pub shown_shape: Vec<usize>,
    /// How one becomes the other.
    pub resize: String,
    /// The disjoint parts.
    pub parts: Vec<PartRecord>,
    /// The set the attacker's parts come from, if it is another one.
    #[serde(default)]
    pub auxiliary: Option<AuxiliaryRecord>,
}

/// Another set, whose pictures the attacker has in place of a part of the audited one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuxiliaryRecord {
    /// Name of the set.
    pub name: String,
    /// Where it comes from, in words.
    pub source: String,
    /// Licence or terms, as far as known.
    pub licence: String,
    /// The stored part of it that is used.
    pub stored_part: String,
    /// Shape in which its images are stored, channels first.
    pub native_shape: Vec<usize>,
    /// How they become what the networks see.
    pub conversion: String,
    /// Its pictures that the audited set holds as well; the attacker does not get them.
    pub shared: usize,
    /// Pictures of the audited set's own auxiliary part, which are used for nothing.
    pub left_out: usize,
}

/// One part of the images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Its name, as figures cite it.
    pub name: String,
    /// Number of images.
    pub images: usize,
    /// What it was used for, and nothing else.
    pub used_for: String,
}

/// One epoch of a training. Losses are means over images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// 1-based number.
    pub epoch: usize,
    /// On the images that were learned from.
    #[serde(with = "crate::number")]
    pub train_loss: f64,
    /// On the images that decide about checkpoints and schedules.
    #[serde(with = "crate::number")]
    pub held_out_loss: f64,
    /// Fraction of those classified right; absent for attackers.
    #[serde(with = "crate::number::option", default)]
    pub held_out_accuracy: Option<f64>,
}

/// The target network's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Label distribution, such as `one-hot`.
    pub labels: String,
    /// Where the weights came from if they were not trained here; the training fields are empty then.
    pub loaded_from: Option<String>,
    /// Optimiser and its settings in words.
    pub optimiser: String,
    /// Images per step.
    pub batch: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// Epoch whose weights were kept, chosen on the validation part.
    pub chosen_epoch: usize,
    /// By what it was chosen; by the lowest loss in records that do not say.
    #[serde(default)]
    pub kept_by: Keep,
    /// Whether training ended before the plan's last epoch, for want of a better one.
    #[serde(default)]
    pub stopped_early: bool,
    /// Whether training had come to rest; see [`converged`].
    pub converged: bool,
    /// Fraction of the training images classified right, without augmentation and in evaluation mode.
    #[serde(with = "crate::number", default = "crate::number::nan")]
    pub accuracy_train: f64,
    /// Fraction of the validation images classified right.
    #[serde(with = "crate::number")]
    pub accuracy_validation: f64,
    /// Fraction of the test images classified right.
    #[serde(with = "crate::number")]
    pub accuracy_test: f64,
    /// Neural collapse NC1, `tr(Σ_W Σ_B⁺)/K`, of the feature at the last tap, on the training part by true labels in evaluation mode; `null`
    /// where it is not identifiable, and from a build without the feature `lapack`.
    #[serde(with = "crate::number::option", default)]
    pub nc1: Option<f64>,
    /// Epoch by epoch.
    pub curve: Vec<Epoch>,
}

/// An attacker's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackTraining {
    /// The split attacked.
    pub split: String,
    /// Kind of attack.
    pub attack: String,
    /// Family and parameters of the decoder, such as `per-tap:width=100`; empty in records from before there were several.
    #[serde(default)]
    pub decoder: String,
    /// Parameters of the decoder.
    pub decoder_params: u64,
    /// Multiply-accumulates of the decoder for one image; 0 in records that do not say.
    #[serde(default)]
    pub decoder_macs: u64,
    /// Optimiser and its settings in words.
    pub optimiser: String,
    /// Images per step.
    pub batch: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// Epoch whose weights were kept, chosen on the held-out tenth of the attacker's own images.
    pub chosen_epoch: usize,
    /// Whether training ended before the plan's last epoch, for want of a better one.
    #[serde(default)]
    pub stopped_early: bool,
    /// Whether training had come to rest; see [`converged`].
    pub converged: bool,
    /// Epoch by epoch; losses are errors per element.
    pub curve: Vec<Epoch>,
}

/// An attacker that learns nothing from the feature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Mean squared error per element on the test images.
    #[serde(with = "crate::number")]
    pub mse_per_element: f64,
    /// Mean SSIM on the test images.
    #[serde(with = "crate::number")]
    pub ssim: f64,
}

/// The picture whose files carry its position in [`RunRecord::pictures`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureRecord {
    /// Index of the image in the test part.
    pub test_index: usize,
    /// Name of its class.
    pub class: String,
    /// How well each split's attack did on it.
    pub splits: Vec<PictureScore>,
}

/// How well one attack did on one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureScore {
    /// The split attacked.
    pub split: String,
    /// Squared error per element, under a prior in the picture with its noise.
    #[serde(with = "crate::number")]
    pub mse_per_element: f64,
    /// SSIM, under a prior with the picture with or without its noise, whichever is larger.
    #[serde(with = "crate::number")]
    pub ssim: f64,
}

/// Whether a training has come to rest: the best held-out figure of the last quarter of its epochs improves by less than 2 % on
/// the best before. The figure is the one that states are kept by: a loss, or the share of images classified wrong. Fewer than four epochs,
/// or a figure that is not a number, are never at rest.
#[must_use]
pub fn converged(held_out: &[f64]) -> bool {
    let n = held_out.len();
    if n < 4 || held_out.iter().any(|l| l.is_nan()) {
        return false;
    }
    let (before, last) = held_out.split_at(n - n.div_ceil(4));
    let best = |losses: &[f64]| losses.iter().copied().fold(f64::INFINITY, f64::min);
    best(last) > 0.98 * best(before)
}

/// A moment as `2026-01-31 23:59:58 UTC`. Moments before 1970 are shown as its beginning.
#[must_use]
pub fn utc(moment: SystemTime) -> String {
    let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!(
        "{year}-{month:02}-{:02} {:02}:{:02}:{:02} UTC",
        days + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rest_is_told_from_progress() {
        assert!(converged(&[1.0, 0.5, 0.4, 0.4, 0.41, 0.4, 0.399, 0.398]));
        assert!(!converged(&[1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]));
        assert!(converged(&[1.0, 0.4, 0.5, 0.6]), "getting worse is not progress");
        assert!(!converged(&[1.0, 1.0, 1.0]));
        assert!(!converged(&[1.0, 1.0, f64::NAN, 1.0]));
    }

    #[test]
    fn dates_follow_the_calendar() {
        // `date -u -d @SECONDS`
        for (seconds, want) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (1_709_164_800, "2024-02-29 00:00:00 UTC"),
            (4_102_444_799, "2099-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), want);
        }
    }
}
