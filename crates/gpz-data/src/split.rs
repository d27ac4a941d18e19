//! The one function that makes the parts.

use std::sync::Arc;

use crate::images::{Origin, Pool};
use crate::parts::{
    Auxiliary, AuxiliaryHeldOut, AuxiliaryTrain, Part, Parts, TargetTrain, TargetValidation, Test,
    View,
};
use crate::smoothing::Smoothing;
use crate::{Dataset, Error, Result, resize, rng};

/// How the parts of a set are cut where the set does not bring them along.
///
/// The seed is not a run's seed: with the default plan a set always gives the same parts, so that a target trained by one
/// command and attacked by another never meets the attacker's images in its training set.
///
/// Shares count to one ten-thousandth. A cut takes its share of every class: classes are walked in order, each in a random
/// order of its own, and every image at which the running total of `share` passes a half integer is taken. A class therefore
/// gives its exact share, rounded by less than one image, and all classes together too.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitPlan {
    /// Which images go where. Default 0.
    pub seed: u64,
    /// Share of all images that test, if the set has no test part. Default 0.2.
    pub test_share: f64,
    /// Share of the training images that go to the attacker, if the set has no auxiliary part. Default 0.3.
    pub auxiliary_share: f64,
    /// Share of the training images that validate the target, if the set has no validation part. Default 0.1.
    pub validation_share: f64,
    /// Share of the auxiliary part the attacker's checkpoints are chosen on. Default 0.1.
    pub held_out_share: f64,
    /// Height and width shown to models. Default 64 by 64.
    pub resolution: (usize, usize),
    /// Noise that belongs to every picture of every part. Default none.
    pub smoothing: Option<Smoothing>,
}

impl Default for SplitPlan {
    fn default() -> Self {
        Self {
            seed: 0,
            test_share: 0.2,
            auxiliary_share: 0.3,
            validation_share: 0.1,
            held_out_share: 0.1,
            resolution: (64, 64),
            smoothing: None,
        }
    }
}

/// A share as a fraction of integers, so that cuts are the same on every machine.
#[derive(Clone, Copy)]
struct Share {
    taken: u64,
    of: u64,
}

/// Ten-thousandths of 1.
const UNITS: u64 = 10_000;

impl SplitPlan {
    /// A share in ten-thousandths, strictly between none and all.
    fn units(name: &'static str, value: f64) -> Result<u64> {
        let units = (value * UNITS as f64).round();
        // NaN fails this comparison as well.
        if units >= 1.0 && units < UNITS as f64 {
            Ok(units as u64)
        } else {
            Err(Error::Share { name, value })
        }
    }
}

/// Cuts the parts of `set`; see [`SplitPlan`].
pub(crate) fn split(set: &Dataset, plan: &SplitPlan) -> Result<Parts> {
    resize::check_resolution(plan.resolution)?;
    let test_units = SplitPlan::units("test_share", plan.test_share)?;
    let auxiliary_units = SplitPlan::units("auxiliary_share", plan.auxiliary_share)?;
    let validation_units = SplitPlan::units("validation_share", plan.validation_share)?;
    SplitPlan::units("held_out_share", plan.held_out_share)?;

    // Both shares are of the training images: once the attacker has taken its part, the whole they are counted in is smaller.
    let whole =
        if set.stored(Origin::Auxiliary).is_some() { UNITS } else { UNITS - auxiliary_units };
    if set.stored(Origin::Validation).is_none() && validation_units >= whole {
        return Err(Error::Share { name: "validation_share", value: plan.validation_share });
    }

    let train_pool = set.train();
    let stored = |origin| set.stored(origin).map(|pool| (Arc::clone(pool), everything(pool)));
    let mut rest = everything(train_pool);
    let mut take = |part: Part, taken: u64, of: u64, purpose| -> Result<(Arc<Pool>, Vec<u32>)> {
        let (kept, cut) = cut(train_pool, &rest, Share { taken, of }, plan.seed, purpose);
        if cut.is_empty() {
            return Err(Error::TooFewImages { class: "the set".into(), images: rest.len(), part });
        }
        rest = kept;
        Ok((Arc::clone(train_pool), cut))
    };

    let test = match stored(Origin::Test) {
        Some(test) => test,
        None => take(Part::Test, test_units, UNITS, "split/test")?,
    };
    let auxiliary = match stored(Origin::Auxiliary) {
        Some(auxiliary) => auxiliary,
        None => take(Part::Auxiliary, auxiliary_units, UNITS, "split/auxiliary")?,
    };
    let validation = match stored(Origin::Validation) {
        Some(validation) => validation,
        None => take(Part::TargetValidation, validation_units, whole, "split/validation")?,
    };
    every_class_is_left(train_pool, &rest)?;

    let view = |part| view(part, plan);
    Ok(Parts {
        target_train: TargetTrain(view((Arc::clone(train_pool), rest))),
        target_validation: TargetValidation(view(validation)),
        auxiliary: self::auxiliary("the auxiliary part", auxiliary, plan)?,
        test: Test(view(test)),
    })
}

/// The attacker's part from some images of a pool; an error calls them `what`.
pub(crate) fn auxiliary(
    what: &str,
    (pool, members): (Arc<Pool>, Vec<u32>),
    plan: &SplitPlan,
) -> Result<Auxiliary> {
    let held_out_units = SplitPlan::units("held_out_share", plan.held_out_share)?;
    let share = Share { taken: held_out_units, of: UNITS };
    let (kept, held_out) = cut(&pool, &members, share, plan.seed, "split/held-out");
    for (cut, part) in [(&kept, Part::AuxiliaryTrain), (&held_out, Part::AuxiliaryHeldOut)] {
        if cut.is_empty() {
            return Err(Error::TooFewImages { class: what.into(), images: members.len(), part });
        }
    }
    let view = |members| view((Arc::clone(&pool), members), plan);
    Ok(Auxiliary {
        train: AuxiliaryTrain(view(kept)),
        held_out: AuxiliaryHeldOut(view(held_out)),
        whole: view(members),
    })
}

/// Images of a pool as a plan shows them.
fn view((pool, members): (Arc<Pool>, Vec<u32>), plan: &SplitPlan) -> View {
    View { pool, members, resolution: plan.resolution, smoothing: plan.smoothing }
}

/// Every image of a pool.
pub(crate) fn everything(pool: &Pool) -> Vec<u32> {
    (0..pool.len() as u32).collect()
}

/// Divides `members` into those that stay and those that are taken, both ascending, class by class.
fn cut(
    pool: &Pool,
    members: &[u32],
    share: Share,
    seed: u64,
    purpose: &str,
) -> (Vec<u32>, Vec<u32>) {
    let mut by_class = vec![Vec::new(); pool.classes.len()];
    for member in members {
        by_class[pool.labels[*member as usize] as usize].push(*member);
    }
    let (mut kept, mut taken) = (Vec::with_capacity(members.len()), Vec::new());
    let total = |images: u64| (images * share.taken + share.of / 2) / share.of;
    let mut seen = 0;
    for (class, mut images) in by_class.into_iter().enumerate() {
        rng::shuffle(&mut images, &mut rng::stream(seed, purpose, class as u64, 0));
        for image in images {
            seen += 1;
            if total(seen) > total(seen - 1) { taken.push(image) } else { kept.push(image) }
        }
    }
    kept.sort_unstable();
    taken.sort_unstable();
    (kept, taken)
}

/// The target cannot learn a class of which the cuts took every image.
fn every_class_is_left(pool: &Pool, members: &[u32]) -> Result<()> {
    let count = |indices: &mut dyn Iterator<Item = usize>| {
        let mut counts = vec![0usize; pool.classes.len()];
        for index in indices {
            counts[pool.labels[index] as usize] += 1;
        }
        counts
    };
    let left = count(&mut members.iter().map(|m| *m as usize));
    match left.iter().position(|n| *n == 0) {
        None => Ok(()),
        Some(class) => Err(Error::TooFewImages {
            class: format!("class {}", pool.classes[class]),
            images: count(&mut (0..pool.len()))[class],
            part: Part::TargetTrain,
        }),
    }
}
