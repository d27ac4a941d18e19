//! `splits.json` and `splits.csv`: what a run found out about every split.
//!
//! Both files are the same, byte for byte, whenever the same audit is run again: they hold no time, no latency, no path and no
//! host. Keys stand in a fixed order, numbers read back to the same bits, non-finite numbers are `"inf"`, `"-inf"`, `"nan"`.

use gpz_estimators::Kind;
use serde::{Deserialize, Serialize};

use crate::choice::ChoiceRecord;
use crate::declared::Declared;
use crate::error::{Error, Result};
use crate::intervals::Interval;
use crate::rank::RankCheck;
use crate::zone::ZoneRecord;
use crate::{json, words};

/// The contents of `splits.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitsFile {
    /// Name of the audited model.
    pub model: String,
    /// τ of the declared prior, in units of pixels in [0, 1]; `null` where none is declared.
    #[serde(with = "crate::number::option", default)]
    pub prior_tau: Option<f64>,
    /// Its splits, shallowest first.
    pub splits: Vec<SplitRecord>,
    /// How far the cheap probes rank the splits as the attacks do.
    #[serde(default)]
    pub rank_checks: Vec<RankCheck>,
    /// Whether there is a zone, and what says so.
    pub zone: ZoneRecord,
    /// The recommended split; `null` where nothing decides.
    pub choice: Option<ChoiceRecord>,
    /// Why this split, or why none.
    pub choice_reason: String,
}

/// One split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// 1-based index of the tap in its model.
    pub index: usize,
    /// Name of the tap.
    pub name: String,
    /// Shape of the feature of one image, channels first.
    pub shape: Vec<usize>,
    /// Number of values in it.
    pub width: usize,
    /// Bytes that cross the wire per image.
    pub wire_bytes: u64,
    /// Parameters of the part that runs on the edge.
    pub edge_params: u64,
    /// The same as a fraction of the model.
    #[serde(with = "crate::number")]
    pub edge_params_fraction: f64,
    /// Multiply-accumulates of the part that runs on the edge, as a fraction of the model's.
    #[serde(with = "crate::number")]
    pub edge_macs_fraction: f64,
    /// Intra-class mean-squared radius R_c², averaged over classes.
    pub radius_sq: RadiusRecord,
    /// Law of total variance.
    pub variance: VarianceRecord,
    /// Maximum-entropy bounds on h(Z). They bound the entropy of the feature, not what it leaks.
    pub entropy_bounds_nats: EntropyBounds,
    /// Radius and variance again, on images that trained nothing.
    #[serde(default)]
    pub held_out: Option<HeldOutRecord>,
    /// What the feature can tell about the image at most; `null` unless a channel is declared.
    pub leakage_bound: Option<LeakageBound>,
    /// Fraction of the test images classified right from what the channel lets through; `null` unless one is declared.
    #[serde(with = "crate::number::option", default)]
    pub accuracy_behind_channel: Option<f64>,
    /// What the attacks achieved.
    pub attack: AttackRecord,
}

/// R_c² in squared units of the feature, averaged over the classes of three images or more: of fewer, no interval is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RadiusRecord {
    /// Part of the data it was taken on.
    pub part: String,
    /// With `1/N_c`.
    #[serde(with = "crate::number")]
    pub value: f64,
    /// Interval of `value`.
    pub ci: Interval,
    /// `value` divided by the width.
    #[serde(with = "crate::number")]
    pub per_dim: f64,
    /// With `1/(N_c − 1)`.
    #[serde(with = "crate::number")]
    pub unbiased: f64,
}

/// Trace of the covariance of the feature, total = within + between, in squared units of the feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VarianceRecord {
    /// Part of the data it was taken on.
    pub part: String,
    /// Of all images about the global mean.
    #[serde(with = "crate::number")]
    pub total: f64,
    /// Of the images of each class about its mean.
    #[serde(with = "crate::number")]
    pub within: f64,
    /// Of the class means about the global mean.
    #[serde(with = "crate::number")]
    pub between: f64,
}

impl VarianceRecord {
    /// Share of the variance that lies within classes; NaN for a constant feature.
    #[must_use]
    pub fn within_over_total(&self) -> f64 {
        self.within / self.total
    }
}

/// Upper bounds on the differential entropy h(Z), in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntropyBounds {
    /// Part of the data they were taken on.
    pub part: String,
    /// `(d/2) ln(2πe σ²)`.
    #[serde(with = "crate::number")]
    pub isotropic: f64,
    /// `H(Y) + Σ_c p_c (D/2) ln(2πe R_c²/D)`.
    #[serde(with = "crate::number")]
    pub mixture: f64,
}

/// Statistics on images that trained neither the target nor an attacker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOutRecord {
    /// As [`SplitRecord::radius_sq`].
    pub radius_sq: RadiusRecord,
    /// As [`SplitRecord::variance`].
    pub variance: VarianceRecord,
}

/// What a declared channel, and with a declared prior any attacker behind it, is limited to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeakageBound {
    /// The channel.
    pub channel: Declared,
    /// What arrives of the picture at most, in nats.
    #[serde(with = "crate::number")]
    pub information_nats: f64,
    /// `upper`, or `heuristic` where it rests on estimated variances.
    pub information_kind: Kind,
    /// τ of the declared prior, in units of pixels in [0, 1].
    #[serde(with = "crate::number::option")]
    pub prior_tau: Option<f64>,
    /// No attacker's `mse_per_element` is below this on average over pictures and noise. A value far below τ² is of no use, and may underflow
    /// to zero.
    #[serde(with = "crate::number::option")]
    pub mse_floor: Option<f64>,
    /// `lower`, or `heuristic` where the information is.
    pub mse_floor_kind: Option<Kind>,
    /// Why there is no floor, where there is none.
    pub reason: Option<String>,
}

impl LeakageBound {
    /// One line: the channel, what it lets through, and what it leaves any attacker with.
    #[must_use]
    pub fn in_words(&self) -> String {
        let information = format!(
            "channel {}: {} {} nats arrive",
            self.channel,
            if self.information_kind == Kind::Heuristic { "an estimated" } else { "at most" },
            words::significant(self.information_nats, 4)
        );
        let proven = self.mse_floor_kind == Some(Kind::Lower);
        let floor = match (self.mse_floor, self.prior_tau) {
            (Some(_), Some(tau)) => format!(
                "with pictures known up to noise of τ = {tau} {}",
                match words::useful_floor(self).map(|floor| words::significant(floor, 3)) {
                    Some(floor) if proven => format!("no attacker's mean error is below {floor}"),
                    Some(floor) =>
                        format!("an estimate of any attacker's least mean error is {floor}"),
                    None => format!(
                        "nothing of use is {} about an attacker's error",
                        if proven { "proven" } else { "estimated" }
                    ),
                }
            ),
            _ => format!("no error is bounded: {}", self.reason.as_deref().unwrap_or("no prior")),
        };
        format!("{information}; {floor}")
    }
}

/// What the attacks on a split achieved on the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackRecord {
    /// Part of the data it was measured on.
    pub part: String,
    /// Mean squared error per element, pixels in [0, 1]. Under a declared prior it is the error in the picture with its noise, which is
    /// what a floor bounds.
    #[serde(with = "crate::number")]
    pub mse_per_element: f64,
    /// The same summed over channels, as the method's literature prints it.
    #[serde(with = "crate::number")]
    pub mse_channel_sum: f64,
    /// The smallest `mse_per_element` of this split and all deeper ones: what its holder is really left with. Behind a channel other
    /// than none it is `mse_per_element`, because what arrives at a deeper split does not follow from what arrives here.
    #[serde(with = "crate::number")]
    pub mse_effective: f64,
    /// Whether the attack on a deeper split does better, so that the one on this split cannot have converged.
    pub attack_limited: bool,
    /// Mean over images of the squared error per element against the picture with or without the prior's noise, whichever is closer; `null`
    /// without a prior, where it would be `mse_per_element`.
    #[serde(with = "crate::number::option", default)]
    pub mse_closest: Option<f64>,
    /// The smallest `mse_closest` of this split and all deeper ones; behind a channel, `mse_closest`.
    #[serde(with = "crate::number::option", default)]
    pub mse_closest_effective: Option<f64>,
    /// Peak signal-to-noise ratio in dB, of `mse_closest` under a prior, else of `mse_per_element`.
    #[serde(with = "crate::number")]
    pub psnr_db: f64,
    /// Mean structural similarity; under a prior with the picture with or without its noise, image by image whichever is larger.
    #[serde(with = "crate::number")]
    pub ssim: f64,
    /// The largest `ssim` of this split and all deeper ones; behind a channel, `ssim`.
    #[serde(with = "crate::number")]
    pub ssim_effective: f64,
    /// Mean LPIPS, version 0.1 with AlexNet; under a prior to the picture with or without its noise, image by image whichever is closer.
    /// Absent unless the metric's weights were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// Intervals over resampled test images.
    pub ci: AttackIntervals,
}

impl AttackRecord {
    /// The smallest error that says how much of the picture is recognised: see [`AttackRecord::mse_closest_effective`].
    #[must_use]
    pub fn recognition_error(&self) -> f64 {
        self.mse_closest_effective.unwrap_or(self.mse_effective)
    }
}

/// Intervals of the figures of an attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackIntervals {
    /// Of [`AttackRecord::mse_per_element`].
    pub mse_per_element: Interval,
    /// Of [`AttackRecord::mse_channel_sum`].
    pub mse_channel_sum: Interval,
    /// Of [`AttackRecord::mse_effective`].
    pub mse_effective: Interval,
    /// Of [`AttackRecord::psnr_db`].
    pub psnr_db: Interval,
    /// Of [`AttackRecord::ssim`].
    pub ssim: Interval,
    /// Of [`AttackRecord::lpips`]; absent where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<Interval>,
}

impl SplitsFile {
    /// The text of `splits.json`.
    ///
    /// # Errors
    /// [`Error::Json`]; does not occur for values of this type.
    pub fn to_json(&self) -> Result<String> {
        json::to_text(self, "splits.json")
    }

    /// Reads the text of `splits.json` back.
    ///
    /// # Errors
    /// The parser's, with line and column.
    pub fn from_json(text: &str) -> std::result::Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text of `splits.csv`: one row per split, the unit in the name of each column.
    ///
    /// # Errors
    /// [`Error::Csv`]; does not occur in memory.
    pub fn to_csv(&self) -> Result<String> {
        let fail = |reason: String| Error::Csv { what: "splits.csv", reason };
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        writer.write_record(&header).map_err(|e| fail(e.to_string()))?;
        for split in &self.splits {
            let row: Vec<String> = COLUMNS.iter().map(|(_, cell)| cell(split)).collect();
            writer.write_record(&row).map_err(|e| fail(e.to_string()))?;
        }
        let bytes = writer.into_inner().map_err(|e| fail(e.to_string()))?;
        String::from_utf8(bytes).map_err(|e| fail(e.to_string()))
    }

    /// The declared channel.
    #[must_use]
    pub fn channel(&self) -> Declared {
        declared_channel(self.splits.iter().map(|s| s.leakage_bound.as_ref()))
    }

    /// The split of that name.
    #[must_use]
    pub fn split(&self, name: &str) -> Option<&SplitRecord> {
        self.splits.iter().find(|s| s.name == name)
    }
}

/// The channel that stands at every split, or at none.
pub(crate) fn declared_channel<'a>(
    bounds: impl IntoIterator<Item = Option<&'a LeakageBound>>,
) -> Declared {
    bounds.into_iter().flatten().map(|bound| bound.channel).next().unwrap_or_default()
}

type Column = (&'static str, fn(&SplitRecord) -> String);

/// The columns of `splits.csv`.
const COLUMNS: &[Column] = &[
    ("index", |s| s.index.to_string()),
    ("name", |s| s.name.clone()),
    ("shape", |s| s.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")),
    ("width", |s| s.width.to_string()),
    ("wire_bytes", |s| s.wire_bytes.to_string()),
    ("edge_params", |s| s.edge_params.to_string()),
    ("edge_params_fraction", |s| number(s.edge_params_fraction)),
    ("edge_macs_fraction", |s| number(s.edge_macs_fraction)),
    ("statistics_part", |s| s.radius_sq.part.clone()),
    ("radius_sq", |s| number(s.radius_sq.value)),
    ("radius_sq_lo", |s| number(s.radius_sq.ci.lo)),
    ("radius_sq_hi", |s| number(s.radius_sq.ci.hi)),
    ("radius_sq_per_dim", |s| number(s.radius_sq.per_dim)),
    ("radius_sq_unbiased", |s| number(s.radius_sq.unbiased)),
    ("variance_total", |s| number(s.variance.total)),
    ("variance_within", |s| number(s.variance.within)),
    ("variance_between", |s| number(s.variance.between)),
    ("within_over_total", |s| number(s.variance.within_over_total())),
    ("entropy_bound_isotropic_nats", |s| number(s.entropy_bounds_nats.isotropic)),
    ("entropy_bound_mixture_nats", |s| number(s.entropy_bounds_nats.mixture)),
    ("channel", |s| bound(s, |b| Some(b.channel.to_string()))),
    ("information_nats", |s| bound(s, |b| Some(number(b.information_nats)))),
    ("information_kind", |s| bound(s, |b| Some(words::kind(b.information_kind).to_owned()))),
    ("prior_tau", |s| bound(s, |b| b.prior_tau.map(number))),
    ("mse_floor", |s| bound(s, |b| b.mse_floor.map(number))),
    ("mse_floor_kind", |s| bound(s, |b| Some(words::kind(b.mse_floor_kind?).to_owned()))),
    ("accuracy_behind_channel", |s| s.accuracy_behind_channel.map_or_else(String::new, number)),
    ("attack_part", |s| s.attack.part.clone()),
    ("mse_per_element", |s| number(s.attack.mse_per_element)),
    ("mse_per_element_lo", |s| number(s.attack.ci.mse_per_element.lo)),
    ("mse_per_element_hi", |s| number(s.attack.ci.mse_per_element.hi)),
    ("mse_channel_sum", |s| number(s.attack.mse_channel_sum)),
    ("mse_effective", |s| number(s.attack.mse_effective)),
    ("mse_effective_lo", |s| number(s.attack.ci.mse_effective.lo)),
    ("mse_effective_hi", |s| number(s.attack.ci.mse_effective.hi)),
    ("attack_limited", |s| s.attack.attack_limited.to_string()),
    ("mse_closest", |s| s.attack.mse_closest.map_or_else(String::new, number)),
    ("mse_closest_effective", |s| s.attack.mse_closest_effective.map_or_else(String::new, number)),
    ("psnr_db", |s| number(s.attack.psnr_db)),
    ("ssim", |s| number(s.attack.ssim)),
    ("ssim_effective", |s| number(s.attack.ssim_effective)),
    ("lpips", |s| s.attack.lpips.map_or_else(String::new, number)),
];

/// A cell of what is bounded; empty where nothing is.
fn bound(split: &SplitRecord, cell: fn(&LeakageBound) -> Option<String>) -> String {
    split.leakage_bound.as_ref().and_then(cell).unwrap_or_default()
}

/// Shortest decimal that reads back to the same bits.
fn number(value: f64) -> String {
    crate::number::non_finite_name(value).map_or_else(|| value.to_string(), str::to_string)
}
