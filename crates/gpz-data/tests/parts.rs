//! The cut: disjoint, complete, even over the classes, the same every time.

mod common;

use std::collections::BTreeSet;

use common::*;
use gpz_data::{
    Dataset, Error, ImageId, ImageSet, ImageShape, Part, Selection, SplitPlan, Summary,
};
use proptest::prelude::*;

const SHAPE: ImageShape = ImageShape { height: 1, width: 2, channels: 1 };

/// A set of `counts[class]` images of each class; `parts` says whether it brings an auxiliary and a test part along.
fn set(counts: &[usize], parts: (bool, bool)) -> Dataset {
    let labels: Vec<usize> =
        counts.iter().enumerate().flat_map(|(class, n)| vec![class; *n]).collect();
    let arrays = || {
        (
            labels.iter().enumerate().flat_map(|(i, _)| (i as u16).to_le_bytes()).collect(),
            labels.clone(),
        )
    };
    Dataset::from_arrays("set", SHAPE, arrays(), parts.0.then(arrays), parts.1.then(arrays))
        .unwrap()
}

fn ids(part: &dyn ImageSet) -> Vec<ImageId> {
    (0..part.len()).map(|position| part.id(position)).collect()
}

proptest! {
    /// Every image is in exactly one part, the attacker's halves make up the attacker's part, and every class gives its share
    /// to each cut, give or take what rounding of this cut and of those before it costs.
    #[test]
    fn a_cut_is_a_partition_and_even(
        counts in prop::collection::vec(8usize..60, 1..6),
        brings in any::<(bool, bool)>(),
        seed in any::<u64>(),
        auxiliary_share in 0.1..0.4f64,
        validation_share in 0.1..0.4f64,
    ) {
        let set = set(&counts, brings);
        let plan = SplitPlan { seed, auxiliary_share, validation_share, held_out_share: 0.3, ..SplitPlan::default() };
        let parts = match set.split(&plan) {
            Ok(parts) => parts,
            // A class of eight may lose all to three cuts of up to 40 %.
            Err(Error::TooFewImages { .. }) => return Ok(()),
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        };
        let total: usize = counts.iter().sum();
        let all: Vec<ImageId> = disjoint(&parts).into_iter().flat_map(ids).collect();
        prop_assert_eq!(all.len(), total * (1 + usize::from(brings.0) + usize::from(brings.1)));
        prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "an image is in two parts");
        let halves: BTreeSet<ImageId> = ids(parts.auxiliary.train()).into_iter().chain(ids(parts.auxiliary.held_out())).collect();
        prop_assert_eq!(halves.len(), parts.auxiliary.train().len() + parts.auxiliary.held_out().len());
        prop_assert_eq!(halves, ids(&parts.auxiliary).into_iter().collect());

        let test_share = if brings.1 { 0.0 } else { plan.test_share };
        for (class, count) in counts.iter().enumerate() {
            let training = *count as f64 * (1.0 - test_share);
            let check = |part: &dyn ImageSet, want: f64| {
                let got = part.per_class()[class] as f64;
                prop_assert!((got - want).abs() <= 2.01, "{} of class {class}: {got} for {want}", part.part());
                Ok(())
            };
            check(&parts.target_validation, training * validation_share)?;
            if !brings.0 {
                check(&parts.auxiliary, training * auxiliary_share)?;
            }
            if !brings.1 {
                check(&parts.test, *count as f64 * test_share)?;
            }
        }
    }

    /// The same plan gives the same parts, another seed others, and an image keeps its pixels and label wherever it goes.
    #[test]
    fn a_cut_depends_on_its_seed_alone(seed in any::<u64>()) {
        let set = set(&[60, 60, 60], (false, false));
        let cut = |seed| set.split(&SplitPlan { seed, resolution: (1, 2), ..SplitPlan::default() }).unwrap();
        let (first, second, other) = (cut(seed), cut(seed), cut(seed.wrapping_add(1)));
        for (a, b) in disjoint(&first).into_iter().zip(disjoint(&second)) {
            prop_assert_eq!(ids(a), ids(b));
            for position in 0..a.len() {
                let index = a.id(position).index;
                prop_assert_eq!(a.image(position), (index as u16).to_le_bytes().to_vec());
                prop_assert_eq!(a.label(position), index / 60);
            }
        }
        prop_assert_ne!(ids(&first.test), ids(&other.test));
        prop_assert_ne!(ids(&first.target_validation), ids(&other.target_validation));
    }
}

#[test]
fn unusable_plans_are_refused() {
    let set = set(&[40, 40], (false, false));
    let refused = |plan: SplitPlan| set.split(&plan).unwrap_err().to_string();
    let default = SplitPlan::default;
    assert_eq!(
        refused(SplitPlan { auxiliary_share: 1.5, ..default() }),
        "auxiliary_share is 1.5; shares lie between 0 and 1, and auxiliary_share and validation_share together below 1"
    );
    for plan in [
        SplitPlan { test_share: 0.0, ..default() },
        SplitPlan { held_out_share: f64::NAN, ..default() },
        SplitPlan { validation_share: -0.1, ..default() },
        SplitPlan { auxiliary_share: 0.6, validation_share: 0.4, ..default() },
    ] {
        assert!(matches!(set.split(&plan), Err(Error::Share { .. })), "{plan:?}");
    }
    assert_eq!(
        refused(SplitPlan { resolution: (64, 0), ..default() }),
        "resolution 64x0 is not usable; height and width lie between 1 and 8192"
    );
}

#[test]
fn a_part_or_class_that_would_stay_empty_is_named() {
    let error = set(&[40, 1], (true, true))
        .split(&SplitPlan { validation_share: 0.5, ..SplitPlan::default() });
    // The one image of class 1 goes one way or the other; with this seed it validates.
    match error.map(|parts| parts.target_train.per_class()) {
        Err(Error::TooFewImages { class, images: 1, part: Part::TargetTrain }) => {
            assert_eq!(class, "class 1")
        }
        other => panic!("{other:?}"),
    }
    let error = set(&[2], (false, false)).split(&SplitPlan::default()).unwrap_err();
    assert_eq!(error.to_string(), "the set has too few images (2) for part test; add images to it");
}

/// What a checkpoint may be chosen on is known to the compiler; that the test part is not among it, a doc test shows.
#[test]
fn only_validation_and_held_out_images_select() {
    fn chosen_on(set: &impl Selection) -> Part {
        set.part()
    }
    let parts = set(&[60, 60], (false, false)).split(&SplitPlan::default()).unwrap();
    assert_eq!(chosen_on(&parts.target_validation), Part::TargetValidation);
    assert_eq!(chosen_on(parts.auxiliary.held_out()), Part::AuxiliaryHeldOut);
}

/// Equal pictures are counted, in one part and across two.
#[test]
fn pictures_that_occur_twice_are_reported() {
    let set = |train: Vec<u8>, test: Vec<u8>| {
        let labels = |pixels: &[u8]| (0..pixels.len()).map(|i| i % 2).collect::<Vec<usize>>();
        let shape = ImageShape { height: 1, width: 1, channels: 1 };
        let arrays = |pixels: Vec<u8>| {
            let labels = labels(&pixels);
            (pixels, labels)
        };
        let set = Dataset::from_arrays(
            "set",
            shape,
            arrays(train.clone()),
            Some(arrays((100..120).collect())),
            Some(arrays(test)),
        )
        .unwrap();
        let parts = set.split(&SplitPlan::default()).unwrap();
        Summary::of(&set, &parts).duplicates
    };
    let none = set((0..60).collect(), (200..220).collect());
    assert_eq!(none, gpz_data::Duplicates::default());

    // 100, 101 and 102 are the attacker's; 200 is there twice among the test images.
    let found = set((0..60).collect(), vec![200, 200, 102, 101, 100, 210]);
    assert_eq!(found.within_parts, 1);
    let [shared] = &found.across_parts[..] else { panic!("{found:?}") };
    assert_eq!((shared.a, shared.b, shared.pictures), (Part::Auxiliary, Part::Test, 3));
    assert_eq!((shared.example.0.index, shared.example.1.index), (0, 4));
}
