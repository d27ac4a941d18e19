//! Where the zone begins, if there is one.
//!
//! A tap is where the zone begins if two things happen at once on the step that leads to it:
//!
//! - **(a)** the share of the feature's variance that lies within classes, within/total, falls more on this step than on any
//!   earlier one, in at least 95 % of the resamples over images: the representation turns from features to decisions;
//! - **(b)** the effective error of the attackers is at least twice that of every earlier tap, with disjoint intervals: the turn
//!   is felt by those it should stop.
//!
//! The first tap that passes both is `first_split`; if none does, the verdict is no zone. Both figures are free of scale:
//! multiplying the feature of a tap by a constant, or halving its width by dropping half of equally informative units, changes
//! neither, although it changes R_c² and every bound on h(Z).
//!
//! # Decisions at the edges
//! - *A fall* is the plain difference of the two ratios, not a relative one: once classes have collapsed, 0.01 → 0.001 is a
//!   fall by 90 % of nothing. It must be positive and must exceed the earlier ones by more than rounding (1e-9).
//! - *The second tap* has one step and nothing earlier to compare it with, so (a) cannot be shown there; a zone begins at the
//!   third tap at the earliest, and fewer than three taps never have one. Absence of evidence is no evidence.
//! - *Dead taps* (no variance at all) have no ratio; no step that touches or follows one can pass (a).
//! - *The end of the zone*: `last_split` is the deepest tap up to which (b) keeps holding against everything before
//!   `first_split`. Where features are sent exactly the effective error never falls with depth, nor does either end of its interval,
//!   so this is always the deepest tap audited: a zone is a tail of the network. Behind a channel it may end earlier.
//!
//! # Why the resampling is linear
//! The images `i` contribute `a_i` to the unbiased within-class variance and `t_i` to the unbiased total one, distances to means
//! that stay fixed. A resample weighs the images (multinomial weights, the same at every tap) and takes
//! `Σ wᵢ aᵢ / Σ wᵢ tᵢ`. Recomputing the class means in each resample instead would draw some images twice, pull the means towards
//! them, and shrink every resampled within-class variance by about `1 − 1/N_c`; where the width is much larger than `N_c` that
//! shift exceeds the spread, and a percentile interval of the plug-in misses its own centre. The linear form is centred by
//! construction and is the first-order (infinitesimal jackknife) approximation of the same sampling error.

mod released_rule;

use serde::{Deserialize, Serialize};

use crate::effective::{Deeper, SplitError, split_errors};
use crate::error::{Error, Result};
use crate::intervals::{Interval, Paired, Purpose, Resampling, check_images};

pub use released_rule::{RelativeDrop, ReleasedRule, released_rule};

/// Share of resamples in which the fall must be the largest so far.
pub const REQUIRED_SHARE: f64 = 0.95;

/// How many times the effective error of every earlier tap is required.
pub const REQUIRED_ERROR_RATIO: f64 = 2.0;

/// Fewer taps than this are a demonstration, not an audit.
pub const FEW_TAPS: usize = 8;

/// Differences of ratios below this are rounding.
const ROUNDING: f64 = 1e-9;

/// What is known about one tap. All taps hold the same images in the same order, per kind of image.
#[derive(Debug, Clone, Copy)]
pub struct TapEvidence<'a> {
    /// The tap's name.
    pub name: &'a str,
    /// Per image of the statistics part its contribution `a_i` to the unbiased within-class variance.
    pub within_i: &'a [f64],
    /// Per image of the statistics part its contribution `t_i` to the unbiased total variance.
    pub total_i: &'a [f64],
    /// Per test image the squared error per element of the attack on this tap.
    pub mse_i: &'a [f64],
    /// Class-averaged R_c², for the released rule alone.
    pub radius_sq: f64,
}

/// Whether there is a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Both conditions hold at some tap.
    Zone,
    /// They do not hold together at any.
    NoZone,
}

/// The verdict with everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZoneRecord {
    /// Whether there is a zone.
    pub verdict: Verdict,
    /// Name of the split at which it begins.
    pub first_split: Option<String>,
    /// Name of the last split that belongs to it.
    pub last_split: Option<String>,
    /// What the verdict rests on.
    pub evidence: ZoneEvidence,
}

/// What a verdict rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZoneEvidence {
    /// Why the verdict is what it is, in one sentence.
    pub reason: String,
    /// Number of taps looked at.
    pub taps: usize,
    /// Whether these are too few (fewer than 8) for more than a demonstration.
    pub few_taps: bool,
    /// Number of resamples.
    pub resamples: usize,
    /// Level of the intervals.
    pub level: f64,
    /// Share of resamples that condition (a) requires.
    pub required_share: f64,
    /// Ratio of effective errors that condition (b) requires.
    pub required_error_ratio: f64,
    /// Images the variances were taken on.
    pub statistics_images: usize,
    /// Images the attacks were measured on.
    pub attack_images: usize,
    /// Each tap's figures, shallowest first.
    pub per_tap: Vec<TapFigures>,
    /// Each step between neighbouring taps, shallowest first.
    pub steps: Vec<StepEvidence>,
    /// What the released rule would have answered. Not part of the verdict.
    pub released_rule: ReleasedRule,
}

/// The two scale-free figures of a tap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TapFigures {
    /// The tap.
    pub split: String,
    /// Within-class over total variance, unbiased.
    #[serde(with = "crate::number")]
    pub within_over_total: f64,
    /// Its interval.
    pub within_over_total_ci: Interval,
    /// Effective error per element.
    #[serde(with = "crate::number")]
    pub mse_effective: f64,
    /// Its interval.
    pub mse_effective_ci: Interval,
}

/// What happens between two neighbouring taps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepEvidence {
    /// The tap before the step.
    pub from: String,
    /// The tap after it, the candidate.
    pub to: String,
    /// Fall of within/total; negative for a rise.
    #[serde(with = "crate::number")]
    pub drop: f64,
    /// Its interval.
    pub drop_ci: Interval,
    /// Share of resamples in which within/total falls here, and by more than on every earlier step.
    pub largest_drop_share: f64,
    /// Condition (a). Never true on the first step, which has no earlier one.
    pub variance_condition: bool,
    /// Effective error after the step over the largest before it.
    #[serde(with = "crate::number")]
    pub error_ratio: f64,
    /// Whether the interval of the effective error lies wholly above those of all earlier taps.
    pub intervals_disjoint: bool,
    /// Condition (b).
    pub error_condition: bool,
}

impl StepEvidence {
    /// Whether the zone may begin after this step.
    pub fn holds(&self) -> bool {
        self.variance_condition && self.error_condition
    }
}

/// Locates the zone.
///
/// - `taps`: shallowest first; `deeper`: whether deeper features follow from shallower ones
///
/// # Errors
/// [`Error::NoSplits`]; [`Error::Resampling`]; [`Error::NoImages`], [`Error::ImageCount`] and [`Error::ImageFigure`] (negative or
/// not finite) name the tap.
pub fn locate(
    taps: &[TapEvidence<'_>],
    deeper: Deeper,
    resampling: &Resampling,
) -> Result<ZoneRecord> {
    if taps.is_empty() {
        return Err(Error::NoSplits);
    }
    let columns = |f: for<'a> fn(&TapEvidence<'a>) -> &'a [f64]| -> Vec<(&str, &[f64])> {
        taps.iter().map(|t| (t.name, f(t))).collect()
    };
    let errors = split_errors(&columns(|t| t.mse_i), deeper, resampling)?;
    let ratios = Ratios::new(&columns(|t| t.within_i), &columns(|t| t.total_i), resampling)?;
    let steps: Vec<StepEvidence> =
        (1..taps.len()).map(|k| step(taps, k, &ratios, &errors, resampling)).collect();

    let names: Vec<&str> = taps.iter().map(|t| t.name).collect();
    // The step to tap k is the k-th.
    let first = steps.iter().position(|s| s.holds()).map(|step| step + 1);
    let last = first.and_then(|first| {
        (first..taps.len()).take_while(|&k| Rise::new(&errors[..first], &errors[k]).holds()).last()
    });
    let named = |k: usize| names[k].to_owned();
    let first = first.map(named);
    let radius_sq: Vec<f64> = taps.iter().map(|t| t.radius_sq).collect();
    let figures = |(k, tap): (usize, &TapEvidence<'_>)| TapFigures {
        split: tap.name.to_string(),
        within_over_total: ratios.plain[k],
        within_over_total_ci: resampling.interval(ratios.resampled.iter().map(|r| r[k]).collect()),
        mse_effective: errors[k].effective,
        mse_effective_ci: errors[k].effective_ci,
    };
    Ok(ZoneRecord {
        verdict: if first.is_some() { Verdict::Zone } else { Verdict::NoZone },
        last_split: last.map(named),
        evidence: ZoneEvidence {
            reason: reason(&steps, first.as_deref(), deeper),
            taps: taps.len(),
            few_taps: taps.len() < FEW_TAPS,
            resamples: resampling.resamples,
            level: resampling.level,
            required_share: REQUIRED_SHARE,
            required_error_ratio: REQUIRED_ERROR_RATIO,
            statistics_images: taps[0].within_i.len(),
            attack_images: taps[0].mse_i.len(),
            per_tap: taps.iter().enumerate().map(figures).collect(),
            steps,
            released_rule: released_rule(&names, &radius_sq),
        },
        first_split: first,
    })
}

/// Within/total of every tap, as measured and in each resample.
struct Ratios {
    plain: Vec<f64>,
    resampled: Vec<Vec<f64>>,
}

impl Ratios {
    fn new(
        within: &[(&str, &[f64])],
        total: &[(&str, &[f64])],
        resampling: &Resampling,
    ) -> Result<Self> {
        let both: Vec<(&str, &[f64])> = within.iter().chain(total).copied().collect();
        check_images(&both, "variance contribution", false)?;
        let columns: Vec<&[f64]> = both.iter().map(|(_, c)| *c).collect();
        let images = Paired::new(&columns);
        let ratios = |sums: &[f64]| -> Vec<f64> {
            let (within, total) = sums.split_at(sums.len() / 2);
            within.iter().zip(total).map(|(w, t)| w / t).collect()
        };
        Ok(Self {
            plain: ratios(&images.means()),
            resampled: resampling.replicate(images.images(), Purpose::Statistics, |w| {
                ratios(&images.weighted_sums(w))
            }),
        })
    }
}

/// Evidence for the step that leads to tap `k`.
fn step(
    taps: &[TapEvidence<'_>],
    k: usize,
    ratios: &Ratios,
    errors: &[SplitError],
    resampling: &Resampling,
) -> StepEvidence {
    let drop = |r: &[f64], k: usize| r[k - 1] - r[k];
    let leads =
        |r: &&Vec<f64>| drop(r, k) > ROUNDING && (1..k).all(|e| drop(r, k) > drop(r, e) + ROUNDING);
    let largest_drop_share =
        ratios.resampled.iter().filter(leads).count() as f64 / ratios.resampled.len() as f64;

    let rise = Rise::new(&errors[..k], &errors[k]);
    StepEvidence {
        from: taps[k - 1].name.to_string(),
        to: taps[k].name.to_string(),
        drop: drop(&ratios.plain, k),
        drop_ci: resampling.interval(ratios.resampled.iter().map(|r| drop(r, k)).collect()),
        largest_drop_share,
        variance_condition: k >= 2 && largest_drop_share >= REQUIRED_SHARE,
        error_ratio: rise.ratio,
        intervals_disjoint: rise.disjoint,
        error_condition: rise.holds(),
    }
}

/// How far an error lies above every one of some others.
struct Rise {
    ratio: f64,
    disjoint: bool,
}

impl Rise {
    fn new(before: &[SplitError], here: &SplitError) -> Self {
        let largest = before.iter().map(|error| error.effective).fold(0.0, f64::max);
        Self {
            ratio: here.effective / largest,
            disjoint: before.iter().all(|error| here.effective_ci.is_above(&error.effective_ci)),
        }
    }

    fn holds(&self) -> bool {
        self.ratio >= REQUIRED_ERROR_RATIO && self.disjoint
    }
}

/// The verdict's reason in one sentence.
fn reason(steps: &[StepEvidence], first: Option<&str>, deeper: Deeper) -> String {
    let error = match deeper {
        Deeper::Follows => "effective error",
        Deeper::Differs => "error",
    };
    if let Some(found) = first.and_then(|name| steps.iter().find(|s| s.to == name)) {
        return format!(
            "at {} the within-class share of the variance falls more than on any earlier step (in {:.1} % of the resamples), and the \
             {error} is at least {:.2} times that of every earlier split, intervals disjoint",
            found.to,
            100.0 * found.largest_drop_share,
            found.error_ratio
        );
    }
    if steps.len() < 2 {
        return "fewer than three taps: no step has an earlier one to be compared with".to_string();
    }
    let list = |f: fn(&StepEvidence) -> bool| -> String {
        let names: Vec<&str> = steps.iter().filter(|s| f(s)).map(|s| s.to.as_str()).collect();
        if names.is_empty() {
            "at no split".to_string()
        } else {
            format!("at {}", names.join(", "))
        }
    };
    format!(
        "two things would have to happen at the same split: the within-class share of the variance falls more than on any earlier step \
         ({}), and the {error} at least doubles ({})",
        list(|s| s.variance_condition),
        list(|s| s.error_condition)
    )
}

#[cfg(test)]
mod tests;
