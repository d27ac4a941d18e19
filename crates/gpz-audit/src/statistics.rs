//! Class geometry of the feature at every split, from two passes of the frozen target over a part.

use gpz_data::{BatchOptions, Batches, ImageSet};
use gpz_estimators::channel::Spread;
use gpz_estimators::{
    ClassGeometry, ClassMoments, DeviationPass, Deviations, Normalisation as Divisor, entropy,
};
use gpz_inversion::{Observer, pictures};
use gpz_models::{Normalisation, Tap, Target};
use gpz_tensor::Tensor;
use ndarray::ArrayView2;

use crate::error::{Error, Result};
use crate::intervals::Interval;
use crate::splits::{EntropyBounds, HeldOutRecord, RadiusRecord, VarianceRecord};
use crate::training::{EVALUATION_BATCH, evaluation_batches};
use crate::wire::SentFeatures;

/// What the statistics of one split on one part come to.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitStatistics {
    /// R_c², averaged over classes, with its jackknife interval.
    pub radius_sq: RadiusRecord,
    /// Total, within and between, divided by the number of images.
    pub variance: VarianceRecord,
    /// Bounds on h(Z).
    pub entropy_bounds_nats: EntropyBounds,
    /// Contribution of each image to the unbiased within-class variance; images whose class has one are left out.
    pub within_i: Vec<f64>,
    /// Contribution of the same images to the unbiased total variance.
    pub total_i: Vec<f64>,
    /// What a channel is calibrated on.
    pub sent: SentFeatures,
}

impl SplitStatistics {
    /// What a held-out part is reported by.
    #[must_use]
    pub fn held_out(&self) -> HeldOutRecord {
        HeldOutRecord { radius_sq: self.radius_sq.clone(), variance: self.variance.clone() }
    }
}

/// Statistics at every split on a part, with its true labels, the target in evaluation mode.
///
/// The first pass makes the moments, the second each image's distances to its class mean and to the mean of all; no feature is kept.
///
/// # Errors
/// [`Error::Statistics`] and [`Error::NotIdentifiable`] name the split and the part; [`gpz_inversion::Error::Stopped`] after a stop was
/// asked for.
pub fn take(
    target: &dyn Target,
    set: &dyn ImageSet,
    level: f64,
    observer: &mut dyn Observer,
) -> Result<Vec<SplitStatistics>> {
    let part = set.part().name().to_owned();
    let named = |split: usize| {
        let (split, part) = (target.taps()[split - 1].name.clone(), part.clone());
        move |source| Error::Statistics { split, part, source: Box::new(source) }
    };
    let mut moments = Vec::new();
    for tap in target.taps() {
        let made = ClassMoments::new(set.classes(), tap.width());
        moments.push(made.map_err(named(tap.index))?);
    }
    let mut ranges = vec![NOTHING; moments.len()];
    each_feature(target, set, observer, target.taps().len(), |split, z, labels| {
        ranges[split - 1] = extended(ranges[split - 1], z);
        moments[split - 1].update(z, labels).map_err(named(split))
    })?;
    let mut passes = Vec::new();
    for (tap, moments) in target.taps().iter().zip(&moments) {
        passes.push(DeviationPass::new(moments).map_err(named(tap.index))?);
    }
    each_feature(target, set, observer, target.taps().len(), |split, z, labels| {
        passes[split - 1].update(z, labels).map_err(named(split))
    })?;
    let mut statistics = Vec::new();
    for ((tap, pass), range) in target.taps().iter().zip(passes).zip(ranges) {
        let deviations = pass.finish().map_err(named(tap.index))?;
        let sent = sent_features(tap, range, deviations.geometry());
        statistics.push(summarise(&deviations, level, (&tap.name, &part), sent)?);
    }
    Ok(statistics)
}

/// What a channel is calibrated on at one split (1-based), from one pass of the frozen target over a part: the same figures as those of
/// [`take`].
///
/// # Errors
/// As [`take`].
pub fn sent(
    target: &dyn Target,
    set: &dyn ImageSet,
    split: usize,
    observer: &mut dyn Observer,
) -> Result<SentFeatures> {
    let tap = &target.taps()[split - 1];
    let named = |source| Error::Statistics {
        split: tap.name.clone(),
        part: set.part().name().to_owned(),
        source: Box::new(source),
    };
    let mut moments = ClassMoments::new(set.classes(), tap.width()).map_err(named)?;
    let mut range = NOTHING;
    observer.begin("calibration", evaluation_batches(set));
    each_feature(target, set, observer, split, |at, z, labels| {
        if at == split {
            range = extended(range, z);
            moments.update(z, labels).map_err(named)?;
        }
        Ok(())
    })?;
    observer.end("");
    Ok(sent_features(tap, range, &moments.geometry().map_err(named)?))
}

/// The range of no element.
const NOTHING: (f64, f64) = (f64::INFINITY, f64::NEG_INFINITY);

fn extended((low, high): (f64, f64), z: ArrayView2<'_, f32>) -> (f64, f64) {
    let lowest = z.iter().copied().fold(f32::INFINITY, f32::min);
    let highest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (low.min(lowest.into()), high.max(highest.into()))
}

fn sent_features(tap: &Tap, range: (f64, f64), geometry: &ClassGeometry) -> SentFeatures {
    SentFeatures { split: tap.index, width: tap.width(), range, spread: Spread::of(geometry) }
}

/// Calls `f` with the features of each batch at each split (1-based) up to `last`, one row per image in NCHW order, and the labels.
fn each_feature(
    target: &dyn Target,
    set: &dyn ImageSet,
    observer: &mut dyn Observer,
    last: usize,
    mut f: impl FnMut(usize, ArrayView2<'_, f32>, &[usize]) -> Result<()>,
) -> Result<()> {
    let normalisation = Normalisation::for_channels(set.channels())?;
    let batches = Batches::new(set, BatchOptions::in_order(EVALUATION_BATCH), 0, "statistics")?;
    for batch in batches.epoch(0) {
        let x = normalisation.apply(&pictures(&batch)?)?;
        target.visit_taps(&x, last, |split, z| -> Result<()> {
            let rows = z.flatten_from(1)?;
            with_rows(&rows, |rows| f(split, rows, &batch.labels))
        })?;
        observer.advance(1, set.part().name());
        if observer.stop_requested() {
            return Err(gpz_inversion::Error::Stopped.into());
        }
    }
    Ok(())
}

fn with_rows(z: &Tensor, f: impl FnOnce(ArrayView2<'_, f32>) -> Result<()>) -> Result<()> {
    let shape = (z.shape()[0], z.shape()[1]);
    match z.as_row_major_slice::<f32>().and_then(|rows| ArrayView2::from_shape(shape, rows).ok()) {
        Some(rows) => f(rows),
        None => {
            let rows = z.to_vec::<f32>();
            let rows =
                ArrayView2::from_shape(shape, &rows).map_err(|_| gpz_tensor::Error::Shape {
                    op: "features",
                    shape: z.shape().into(),
                    rule: "one row per image is needed",
                })?;
            f(rows)
        }
    }
}

/// Passes of [`take`] over a part, as an observer counts them.
#[must_use]
pub fn batches_of(set: &dyn ImageSet) -> u64 {
    2 * evaluation_batches(set)
}

fn summarise(
    deviations: &Deviations,
    level: f64,
    (split, part): (&str, &str),
    sent: SentFeatures,
) -> Result<SplitStatistics> {
    let impossible = |reason: &dyn std::fmt::Display| Error::NotIdentifiable {
        split: split.to_owned(),
        part: part.to_owned(),
        reason: reason.to_string(),
    };
    let named = |source| Error::Statistics {
        split: split.to_owned(),
        part: part.to_owned(),
        source: Box::new(source),
    };
    let geometry = deviations.geometry();
    let radius = deviations
        .mean_radius_sq(Divisor::PlugIn, level)
        .map_err(named)?
        .map_err(|e| impossible(&e))?;
    // Both over the same classes: those of three images or more, whose interval is known.
    let unbiased = deviations
        .mean_radius_sq(Divisor::Unbiased, level)
        .map_err(named)?
        .map_err(|e| impossible(&e))?;
    let mixture = entropy::mixture_bound_nats(geometry).map_err(|e| impossible(&e))?;
    let contributions = deviations.contributions();
    let counted = contributions.images().iter().filter_map(|i| i.within.map(|w| (w, i.total)));
    let (within_i, total_i) = counted.unzip();
    let part = part.to_owned();
    Ok(SplitStatistics {
        radius_sq: RadiusRecord {
            part: part.clone(),
            value: radius.value,
            ci: Interval { lo: radius.low, hi: radius.high },
            per_dim: radius.value / geometry.width() as f64,
            unbiased: unbiased.value,
        },
        variance: VarianceRecord {
            part: part.clone(),
            total: geometry.total(),
            within: geometry.within(),
            between: geometry.between(),
        },
        entropy_bounds_nats: EntropyBounds {
            part,
            isotropic: entropy::isotropic_bound_nats(geometry).value,
            mixture: mixture.value,
        },
        within_i,
        total_i,
        sent,
    })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    /// A class of two images is in no average: neither in the radius with its interval nor in the unbiased one beside it.
    #[test]
    fn a_record_is_of_one_set_of_classes() -> Result<(), gpz_estimators::Error> {
        let z = array![[0.0], [1.0], [5.0], [100.0], [200.0]];
        let y = [0, 0, 0, 1, 1];
        let mut moments = ClassMoments::new(2, 1)?;
        moments.update(z.view(), &y)?;
        let mut pass = DeviationPass::new(&moments)?;
        pass.update(z.view(), &y)?;
        let deviations = pass.finish()?;
        let tap = Tap { index: 1, name: "block1".to_owned(), shape: vec![1] };
        let sent = sent_features(&tap, (0.0, 200.0), deviations.geometry());
        let radius =
            summarise(&deviations, 0.95, ("block1", "test"), sent).expect("three").radius_sq;
        // Mean 2; squared distances 4, 1 and 9.
        assert!((radius.value - 14.0 / 3.0).abs() < 1e-12, "{radius:?}");
        assert!((radius.unbiased - 7.0).abs() < 1e-12, "{radius:?}");
        Ok(())
    }
}
