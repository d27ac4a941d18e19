//! Class geometry of the feature at every split, from two passes of the frozen target over a part.

use std::collections::BTreeMap;

use gpz_data::{BatchOptions, Batches, ImageSet};
use gpz_estimators::channel::Spread;
use gpz_estimators::{ClassGeometry, ClassMoments, Deviations, Normalisation as Divisor, entropy};
use gpz_inversion::{Observer, pictures};
use gpz_models::{Tap, Target};
use gpz_tensor::Tensor;

use crate::error::{Error, Result};
use crate::intervals::Interval;
use crate::splits::{EntropyBounds, HeldOutRecord, RadiusRecord, VarianceRecord};
use crate::training::{EVALUATION_BATCH, evaluation_batches};
use crate::wire::SentFeatures;
use crate::words::{bytes, counted};

mod gathering;

use gathering::{Collapsing, Distances, Failure, Gathering};

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

/// What [`take`] finds out about a part.
#[derive(Debug, Clone, PartialEq)]
pub struct PartStatistics {
    /// The measured splits, shallowest first.
    pub splits: Vec<SplitStatistics>,
    /// NC1 of the target's last tap, if it was measured, `tr(Σ_W Σ_B⁺)/K`; none where it is not identifiable, and from a build without the feature `lapack`.
    pub nc1: Option<f64>,
}

/// Splits in groups whose statistics are taken together, so that none takes more memory than there is to be used.
///
/// What one split takes follows from its width and from the number of classes: `16·classes·width` bytes, and up to `16·width` for each image
/// of a batch while it is added. Splits come in their order, as many to a group as fit; what they come to does not depend on the groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    groups: Vec<Vec<usize>>,
    /// Of the largest group.
    bytes: u128,
}

impl Groups {
    /// - `splits`: 1-based, ascending; `budget`: bytes, if there is a limit
    ///
    /// # Errors
    /// [`Error::Memory`] names the first split that is too wide by itself.
    pub fn new(
        target: &dyn Target,
        splits: &[usize],
        classes: usize,
        budget: Option<u64>,
    ) -> Result<Self> {
        let (mut groups, mut taken, mut bytes) = (vec![Vec::new()], 0u128, 0);
        for &split in splits {
            let tap = &target.taps()[split - 1];
            let needed =
                ClassMoments::memory_bytes_in_batches(classes, tap.width(), EVALUATION_BATCH);
            if let Some(budget) = budget.map(u128::from) {
                if needed > budget {
                    let what = format!("measuring {}", tap.name);
                    let mend = "raise --memory, or leave the split out of --splits";
                    return Err(Error::Memory { what, needed, available: budget, mend });
                }
                if taken + needed > budget {
                    groups.push(Vec::new());
                    taken = 0;
                }
            }
            taken += needed;
            bytes = taken.max(bytes);
            if let Some(group) = groups.last_mut() {
                group.push(split);
            }
        }
        Ok(Groups { groups, bytes })
    }

    /// Groups.
    #[must_use]
    pub fn count(&self) -> usize {
        self.groups.len()
    }

    /// Most bytes that the statistics of a group take.
    #[must_use]
    pub fn bytes(&self) -> u128 {
        self.bytes
    }

    /// Says beforehand that the target will run over the images several times, if it will.
    pub(crate) fn announce(&self, splits: usize, observer: &mut dyn Observer) {
        if self.count() > 1 {
            observer.note(&format!(
                "statistics of {} will be taken in {} groups, of up to {}: the target runs over the images as often",
                counted(splits, "split"),
                self.count(),
                bytes(self.bytes)
            ));
        }
    }

    /// What was done, for people.
    pub(crate) fn in_words(&self, splits: usize) -> String {
        let groups = if self.count() > 1 {
            format!(" for each of {} groups", self.count())
        } else {
            String::new()
        };
        format!("{}, two passes{groups}, up to {}", counted(splits, "split"), bytes(self.bytes))
    }

    /// Batches of [`take`] over a part, as an observer counts them.
    #[must_use]
    pub fn batches_of(&self, set: &dyn ImageSet) -> u64 {
        2 * self.count() as u64 * evaluation_batches(set)
    }
}

/// Statistics at the splits of `groups` on a part, with its true labels, the target in evaluation mode; in the splits' order.
///
/// For each group the first pass of the target makes the moments, the second each image's distances to its class mean and to the mean of
/// all; no feature is kept.
///
/// # Errors
/// [`Error::Statistics`] and [`Error::NotIdentifiable`] name the split and the part; [`gpz_inversion::Error::Stopped`] after a stop was
/// asked for.
pub fn take(
    target: &dyn Target,
    set: &dyn ImageSet,
    groups: &Groups,
    level: f64,
    observer: &mut dyn Observer,
) -> Result<PartStatistics> {
    let (mut splits, mut nc1) = (Vec::new(), None);
    for group in &groups.groups {
        let found = of_group(target, set, group, level, observer)?;
        splits.extend(found.splits);
        nc1 = nc1.or(found.nc1);
    }
    Ok(PartStatistics { splits, nc1 })
}

fn of_group(
    target: &dyn Target,
    set: &dyn ImageSet,
    group: &[usize],
    level: f64,
    observer: &mut dyn Observer,
) -> Result<PartStatistics> {
    let Some(&last) = group.last() else {
        return Ok(PartStatistics { splits: Vec::new(), nc1: None });
    };
    let part = set.part().name().to_owned();
    let named = |split: usize| {
        let (split, part) = (target.taps()[split - 1].name.clone(), part.clone());
        move |failure| in_statistics(split, part, failure)
    };
    let place = |split: usize| group.iter().position(|&measured| measured == split);
    let device = target.device();
    let mut gatherings = Vec::new();
    for &split in group {
        let width = target.taps()[split - 1].width();
        gatherings.push(Gathering::new(&device, set.classes(), width).map_err(named(split))?);
    }
    each_feature(target, set, observer, last, |split, z, labels| match place(split) {
        Some(at) => gatherings[at].add(z, labels).map_err(named(split)),
        None => Ok(()),
    })?;
    let (mut moments, mut ranges) = (Vec::new(), Vec::new());
    for (&split, gathering) in group.iter().zip(gatherings) {
        let (made, range) = gathering.finish().map_err(named(split))?;
        moments.push(made);
        ranges.push(range);
    }
    let mut passes = Vec::new();
    for (&split, moments) in group.iter().zip(&moments) {
        passes.push(Distances::new(&device, moments).map_err(named(split))?);
    }
    let whole = last == target.taps().len();
    let collapsing = moments.last().filter(|_| whole).map(Collapsing::new);
    let mut collapse = collapsing.transpose().map_err(named(last))?;
    each_feature(target, set, observer, last, |split, z, labels| {
        if let Some(collapse) = collapse.as_mut().filter(|_| split == last) {
            collapse.add(z, labels).map_err(named(split))?;
        }
        match place(split) {
            Some(at) => passes[at].add(z, labels).map_err(named(split)),
            None => Ok(()),
        }
    })?;
    let mut statistics = Vec::new();
    for ((&split, pass), range) in group.iter().zip(passes).zip(ranges) {
        let tap = &target.taps()[split - 1];
        let deviations = pass.finish().map_err(named(split))?;
        let sent = sent_features(tap, range, deviations.geometry());
        statistics.push(summarise(&deviations, level, (&tap.name, &part), sent)?);
    }
    let nc1 = collapse.map(Collapsing::nc1).transpose().map_err(named(last))?.flatten();
    Ok(PartStatistics { splits: statistics, nc1 })
}

/// NC1 of a target's last tap on a part, as [`take`] has it.
///
/// # Errors
/// As [`take`].
pub fn nc1(
    target: &dyn Target,
    set: &dyn ImageSet,
    observer: &mut dyn Observer,
) -> Result<Option<f64>> {
    let Some(tap) = target.taps().last() else { return Ok(None) };
    let last = tap.index;
    let named = |failure| in_statistics(tap.name.clone(), set.part().name().to_owned(), failure);
    let mut gathering =
        Gathering::new(&target.device(), set.classes(), tap.width()).map_err(named)?;
    each_feature(target, set, observer, last, |split, z, labels| {
        if split == last { gathering.add(z, labels).map_err(named) } else { Ok(()) }
    })?;
    let (moments, _) = gathering.finish().map_err(named)?;
    let mut collapse = Collapsing::new(&moments).map_err(named)?;
    each_feature(target, set, observer, last, |split, z, labels| {
        if split == last { collapse.add(z, labels).map_err(named) } else { Ok(()) }
    })?;
    collapse.nc1().map_err(named)
}

/// Batches of [`nc1`] over a part, as an observer counts them.
#[must_use]
pub fn batches_of_nc1(set: &dyn ImageSet) -> u64 {
    2 * evaluation_batches(set)
}

/// How far the features of a split are spread within classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Radius {
    /// R_c² with 1/N_c, averaged over the classes with images; NaN without any.
    pub radius_sq: f64,
    /// Share of the variance that lies within classes; NaN for a constant feature.
    pub within_over_total: f64,
}

/// The radius of some splits (1-based, ascending) on a part, with true labels and the target in evaluation mode, from one pass.
///
/// # Errors
/// As [`take`]; a split that the target does not have.
pub fn radii(
    target: &dyn Target,
    splits: &[usize],
    set: &dyn ImageSet,
    observer: &mut dyn Observer,
) -> Result<Vec<Radius>> {
    let (device, part) = (target.device(), set.part().name());
    let named = |tap: &Tap| {
        let (split, part) = (tap.name.clone(), part.to_owned());
        move |failure| in_statistics(split, part, failure)
    };
    let mut gatherings: BTreeMap<usize, (&Tap, Gathering)> = BTreeMap::new();
    for split in splits {
        let tap = &target.taps()[target.find_split(&split.to_string())? - 1];
        let gathering = Gathering::new(&device, set.classes(), tap.width()).map_err(named(tap))?;
        gatherings.insert(*split, (tap, gathering));
    }
    let last = splits.iter().copied().max().unwrap_or(0);
    each_feature(target, set, observer, last, |split, z, labels| {
        let Some((tap, gathering)) = gatherings.get_mut(&split) else { return Ok(()) };
        gathering.add(z, labels).map_err(named(tap))
    })?;
    let radius = |(tap, gathering): (&Tap, Gathering)| {
        let (moments, _) = gathering.finish().map_err(named(tap))?;
        let geometry = moments.geometry().map_err(|source| named(tap)(source.into()))?;
        Ok(Radius {
            radius_sq: geometry.mean_radius_sq(Divisor::PlugIn).unwrap_or(f64::NAN),
            within_over_total: geometry.within_over_total().unwrap_or(f64::NAN),
        })
    };
    gatherings.into_values().map(radius).collect()
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
    let named = |failure| in_statistics(tap.name.clone(), set.part().name().to_owned(), failure);
    let mut gathering =
        Gathering::new(&target.device(), set.classes(), tap.width()).map_err(named)?;
    observer.begin("calibration", evaluation_batches(set));
    each_feature(target, set, observer, split, |at, z, labels| {
        if at == split { gathering.add(z, labels).map_err(named) } else { Ok(()) }
    })?;
    observer.end("");
    let (moments, range) = gathering.finish().map_err(named)?;
    let geometry = moments.geometry().map_err(|source| named(source.into()))?;
    Ok(sent_features(tap, range, &geometry))
}

/// Names the split and the part of what the estimators refuse.
fn in_statistics(split: String, part: String, failure: Failure) -> Error {
    match failure {
        Failure::Estimator(source) => Error::Statistics { split, part, source: Box::new(source) },
        Failure::Tensor(error) => error.into(),
    }
}

fn sent_features(tap: &Tap, range: (f64, f64), geometry: &ClassGeometry) -> SentFeatures {
    SentFeatures { split: tap.index, width: tap.width(), range, spread: Spread::of(geometry) }
}

/// Calls `f` with the features `[n, ...]` of each batch at each split (1-based) up to `last`, and the labels.
fn each_feature(
    target: &dyn Target,
    set: &dyn ImageSet,
    observer: &mut dyn Observer,
    last: usize,
    mut f: impl FnMut(usize, &Tensor, &[usize]) -> Result<()>,
) -> Result<()> {
    let normalisation = target.normalisation()?;
    let device = target.device();
    let batches = Batches::new(set, BatchOptions::in_order(EVALUATION_BATCH), 0, "statistics")?;
    for batch in batches.epoch(0) {
        let x = normalisation.apply(&pictures(&batch)?.to_device(&device)?)?;
        target.visit_taps(&x, last, |split, z| f(split, z, &batch.labels))?;
        observer.advance(1, set.part().name());
        if observer.stop_requested() {
            return Err(gpz_inversion::Error::Stopped.into());
        }
    }
    Ok(())
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

    use gpz_estimators::DeviationPass;

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
