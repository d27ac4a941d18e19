//! From measurements to the record of a run: effective errors, intervals, the zone, the choice.

use gpz_inversion::metrics::psnr_db;

use crate::choice::{ChoiceRecord, Limits, choose};
use crate::effective::{Deeper, SplitError, split_errors};
use crate::error::{Error, Result};
use crate::intervals::{Interval, Resampling, check_images};
use crate::rank::rank_checks;
use crate::splits::{
    AttackIntervals, AttackRecord, EntropyBounds, HeldOutRecord, LeakageBound, RadiusRecord,
    SplitRecord, SplitsFile, VarianceRecord, declared_channel,
};
use crate::zone::{TapEvidence, locate};

/// What a sweep measures at one split. Per-image figures hold the same images in the same order at every split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitInput {
    /// 1-based index of the tap.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Shape of the feature of one image, channels first.
    pub shape: Vec<usize>,
    /// Bytes that cross the wire per image.
    pub wire_bytes: u64,
    /// Parameters on the edge.
    pub edge_params: u64,
    /// The same as a fraction of the model.
    pub edge_params_fraction: f64,
    /// Multiply-accumulates on the edge as a fraction of the model's.
    pub edge_macs_fraction: f64,
    /// R_c² on the statistics part.
    pub radius_sq: RadiusRecord,
    /// Variances on the statistics part.
    pub variance: VarianceRecord,
    /// Bounds on h(Z) from the statistics part.
    pub entropy_bounds_nats: EntropyBounds,
    /// The statistics again on held-out images.
    pub held_out: Option<HeldOutRecord>,
    /// What arrives at most; of all splits or of none, because without a channel deeper features follow from shallower ones.
    pub leakage_bound: Option<LeakageBound>,
    /// Accuracy of the network on what arrives.
    pub accuracy_behind_channel: Option<f64>,
    /// Contribution of each image of the statistics part to the unbiased within-class variance.
    pub within_i: Vec<f64>,
    /// Contribution of each image of the statistics part to the unbiased total variance.
    pub total_i: Vec<f64>,
    /// Squared error per element of the reconstruction of each test image, pixels in [0, 1].
    pub mse_i: Vec<f64>,
    /// The same against the closer of the picture with and without the noise of a declared prior; none without a prior.
    pub mse_closest_i: Option<Vec<f64>>,
    /// SSIM of the reconstruction of each test image, range 1; under a prior the larger of that with the picture with and without its noise.
    pub ssim_i: Vec<f64>,
    /// LPIPS of the reconstruction of each test image; under a prior the smaller of that to the picture with and without its noise. None
    /// without the metric's weights.
    pub lpips_i: Option<Vec<f64>>,
}

impl SplitInput {
    /// Without a prior there is one picture to come close to.
    fn closest(&self) -> &[f64] {
        self.mse_closest_i.as_deref().unwrap_or(&self.mse_i)
    }
}

/// Builds the contents of `splits.json` and of `choice.json`.
///
/// - `channels`: of the images, for the channel-summed error; `prior_tau`: of the declared prior
/// - `splits`: shallowest first
///
/// # Errors
/// [`Error::NoSplits`]; [`Error::Resampling`]; [`Error::Limit`]; [`Error::NoImages`], [`Error::ImageCount`] and
/// [`Error::ImageFigure`] name the split.
pub fn assemble(
    model: &str,
    (channels, prior_tau): (usize, Option<f64>),
    splits: &[SplitInput],
    limits: &Limits,
    resampling: &Resampling,
) -> Result<(SplitsFile, ChoiceRecord)> {
    if splits.is_empty() {
        return Err(Error::NoSplits);
    }
    limits.validate()?;
    let columns = |f: fn(&SplitInput) -> &[f64]| -> Vec<(&str, &[f64])> {
        splits.iter().map(|s| (s.name.as_str(), f(s))).collect()
    };
    let channel = declared_channel(splits.iter().map(|s| s.leakage_bound.as_ref()));
    let deeper = Deeper::behind(channel);
    let errors = split_errors(&columns(|s| &s.mse_i), deeper, resampling)?;
    let closest = split_errors(&columns(SplitInput::closest), deeper, resampling)?;
    // SSIM is measured on the same images as the error.
    let both: Vec<(&str, &[f64])> =
        columns(|s| &s.mse_i).into_iter().chain(columns(|s| &s.ssim_i)).collect();
    check_images(&both, "SSIM", true)?;
    let ssim = splits
        .iter()
        .map(|s| resampling.mean(&s.name, "SSIM", &s.ssim_i))
        .collect::<Result<Vec<_>>>()?;
    let ssim_effective = largest(&ssim, deeper);
    let lpips = splits
        .iter()
        .map(|s| {
            let Some(values) = &s.lpips_i else { return Ok(None) };
            check_images(&[(&s.name, &s.mse_i), (&s.name, values)], "LPIPS", true)?;
            resampling.mean(&s.name, "LPIPS", values).map(Some)
        })
        .collect::<Result<Vec<_>>>()?;

    let taps: Vec<TapEvidence<'_>> = splits.iter().map(tap_evidence).collect();
    let zone = locate(&taps, deeper, resampling)?;

    let records: Vec<SplitRecord> = splits
        .iter()
        .enumerate()
        .map(|(k, s)| {
            let closest = (&closest[k], prior_tau.is_some());
            let seen = (ssim[k], ssim_effective[k], lpips[k]);
            record(s, attack_record(channels, &errors[k], closest, seen))
        })
        .collect();
    let choice = choose(&records, &zone, limits)?;
    let file = SplitsFile {
        model: model.to_string(),
        prior_tau,
        rank_checks: rank_checks(&records),
        splits: records,
        zone,
        choice: choice.split.is_some().then(|| choice.clone()),
        choice_reason: choice.reason.clone(),
    };
    Ok((file, choice))
}

fn tap_evidence(s: &SplitInput) -> TapEvidence<'_> {
    TapEvidence {
        name: &s.name,
        within_i: &s.within_i,
        total_i: &s.total_i,
        mse_i: &s.mse_i,
        radius_sq: s.radius_sq.value,
    }
}

fn record(s: &SplitInput, attack: AttackRecord) -> SplitRecord {
    SplitRecord {
        index: s.index,
        name: s.name.clone(),
        shape: s.shape.clone(),
        width: s.shape.iter().product(),
        wire_bytes: s.wire_bytes,
        edge_params: s.edge_params,
        edge_params_fraction: s.edge_params_fraction,
        edge_macs_fraction: s.edge_macs_fraction,
        radius_sq: s.radius_sq.clone(),
        variance: s.variance.clone(),
        entropy_bounds_nats: s.entropy_bounds_nats.clone(),
        held_out: s.held_out.clone(),
        leakage_bound: s.leakage_bound.clone(),
        accuracy_behind_channel: s.accuracy_behind_channel,
        attack,
    }
}

fn attack_record(
    channels: usize,
    error: &SplitError,
    (closest, prior): (&SplitError, bool),
    ((ssim, ssim_ci), ssim_effective, lpips): ((f64, Interval), f64, Option<(f64, Interval)>),
) -> AttackRecord {
    let decibels = |mse: f64| psnr_db(mse, 1.0);
    AttackRecord {
        part: "test".to_string(),
        mse_per_element: error.measured,
        mse_channel_sum: channels as f64 * error.measured,
        mse_effective: error.effective,
        mse_closest: prior.then_some(closest.measured),
        mse_closest_effective: prior.then_some(closest.effective),
        attack_limited: error.attack_limited,
        psnr_db: decibels(closest.measured),
        ssim,
        ssim_effective,
        lpips: lpips.map(|(mean, _)| mean),
        ci: AttackIntervals {
            mse_per_element: error.measured_ci,
            mse_channel_sum: error.measured_ci.scaled(channels as f64),
            mse_effective: error.effective_ci,
            psnr_db: closest.measured_ci.map_decreasing(decibels),
            ssim: ssim_ci,
            lpips: lpips.map(|(_, ci)| ci),
        },
    }
}

/// For each split the largest mean SSIM that its holder reaches.
fn largest(ssim: &[(f64, Interval)], deeper: Deeper) -> Vec<f64> {
    let negated: Vec<f64> = ssim.iter().map(|(mean, _)| -mean).collect();
    deeper.smallest(&negated).into_iter().map(|v| -v).collect()
}

#[cfg(test)]
mod tests;
