//! Statistics under a limit of memory.

use gpz_audit::Error;
use gpz_audit::statistics::{Groups, take};
use gpz_data::{Dataset, ImageShape, Parts, SplitPlan};
use gpz_inversion::Silent;
use gpz_models::{ModelSpec, Target};
use gpz_nn::rng_for;

/// Stripes, a direction for each class.
fn parts() -> Parts {
    let shape = ImageShape { height: 16, width: 16, channels: 1 };
    let labels: Vec<usize> = (0..120).map(|i| i % 2).collect();
    let mut pixels = Vec::new();
    for (i, class) in labels.iter().enumerate() {
        for y in 0..16 {
            for x in 0..16 {
                let along = if *class == 0 { x } else { y };
                pixels.push((((along * (3 + i % 5) + i) * 37) % 251) as u8);
            }
        }
    }
    let set = Dataset::from_arrays("stripes", shape, (pixels, labels), None, None).unwrap();
    set.split(&SplitPlan { resolution: (16, 16), ..SplitPlan::default() }).unwrap()
}

fn target() -> Box<dyn Target> {
    let spec: ModelSpec = "resnet18".parse().unwrap();
    spec.build([1, 32, 32], 2, &mut rng_for(1, "target", 0)).unwrap()
}

/// Splits measured together or one after the other come to the same figures, to the bit; and to a subset belongs a subset of them.
#[test]
fn groups_change_nothing_but_the_memory() {
    let parts = parts();
    let spec: ModelSpec = "cnn4:width=3".parse().unwrap();
    let target = spec.build([1, 16, 16], 2, &mut rng_for(1, "target", 0)).unwrap();
    let measure = |splits: &[usize], budget: Option<u64>| {
        let groups = Groups::new(&*target, splits, 2, budget).unwrap();
        let taken = take(&*target, &parts.target_train, &groups, 0.95, &mut Silent).unwrap();
        (groups.count(), taken)
    };
    let (one, together) = measure(&[1, 2, 3, 4], None);
    let least = Groups::new(&*target, &[1], 2, None).unwrap().bytes();
    let (several, apart) = measure(&[1, 2, 3, 4], Some(least as u64));
    assert_eq!(one, 1);
    assert!(several > 1, "{several}");
    assert_eq!(together, apart);
    let (_, some) = measure(&[2, 4], None);
    assert_eq!(some.splits, [together.splits[1].clone(), together.splits[3].clone()]);
    assert_eq!(some.nc1, together.nc1);
}

/// A split that is too wide by itself is named, with the mend; no group takes more than there is to be used.
#[test]
fn a_split_beyond_the_budget_is_named() {
    let target = target();
    let all: Vec<usize> = (1..=target.taps().len()).collect();
    let whole = Groups::new(&*target, &all, 2, None).unwrap();
    let widest = Groups::new(&*target, &[1], 2, None).unwrap().bytes();
    assert!(whole.bytes() > widest);
    for budget in [widest, widest + widest / 2, 2 * widest, whole.bytes()] {
        let groups = Groups::new(&*target, &all, 2, Some(budget as u64)).unwrap();
        assert!(groups.bytes() <= budget, "{} of {budget}", groups.bytes());
    }
    let error = Groups::new(&*target, &all, 2, Some(widest as u64 - 1)).expect_err("too wide");
    assert!(matches!(&error, Error::Memory { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("stem") && said.contains("--memory"), "{said}");
}
