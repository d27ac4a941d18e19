//! Plans of memory: the bytes they state, the limits they keep, and the same geometry by blocks of columns.

mod common;

use common::{close, labels, normal, rng};
use gpz_estimators::plan::Plan;
use gpz_estimators::{ClassMoments, Error, Normalisation};
use ndarray::Array2;
use proptest::prelude::*;

#[test]
fn widest_features_of_most_classes() -> Result<(), Error> {
    let plan = Plan::of(530, 262_144, 128)?;
    assert_eq!(plan.pieces()[0].bytes, 16 * 530 * 262_144 + 8 * 530);
    assert_eq!((plan.passes(), plan.column_blocks().len()), (1, 1));
    assert!(plan.bytes() <= ClassMoments::memory_bytes(530, 262_144) + 8 * (128 + 530));
    let text = plan.to_string();
    assert!(text.contains("2120.0 MiB") && text.ends_with("read once"), "{text}");

    let half = plan.clone().within(1 << 30)?;
    assert!(half.bytes() <= 1 << 30 && half.passes() > 1);
    let blocks: Vec<_> = half.column_blocks().collect();
    assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert_eq!((blocks[0].start, blocks[blocks.len() - 1].end), (0, 262_144));
    assert!(half.to_string().contains("times"));
    // One more step of columns would not have fitted.
    let wider = Plan::of(530, blocks[0].len() + 64, 128)?;
    assert!(wider.bytes() + 16 * 262_144 > 1 << 30);

    let refused = plan.within(1 << 20);
    assert!(
        matches!(refused, Err(Error::Budget { budget: 1_048_576, needed, .. }) if needed > 1 << 20)
    );
    assert!(matches!(Plan::of(0, 4, 1), Err(Error::EmptyShape { .. })));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the limit, the geometry is that of all columns at once.
    #[test]
    fn blocks_of_columns_give_the_same_geometry(seed in any::<u64>(), n in 2..40_usize, d in 65..400_usize, k in 1..5_usize, batch in 1..50_usize, share in 0.1..1.2_f64) {
        let mut rng = rng(seed);
        let (z, y) = (normal(&mut rng, (n, d)) + 10.0, labels(&mut rng, n, k));
        let whole = Plan::of(k, d, batch)?;
        let budget = (whole.bytes() as f64 * share) as u128;
        let plan = match whole.clone().within(budget) {
            Ok(plan) => plan,
            Err(Error::Budget { needed, .. }) => {
                prop_assert!(needed > budget);
                return Ok(());
            }
            Err(other) => return Err(other.into()),
        };
        prop_assert!(plan.bytes() <= budget);
        let mut moments = ClassMoments::new(k, d)?;
        moments.update(z.view(), &y)?;
        let (got, want) = (plan.geometry(z.view(), &y)?, moments.geometry()?);
        prop_assert_eq!(got.counts(), want.counts());
        prop_assert_eq!(got.width(), d);
        prop_assert!(close(got.within(), want.within(), 1e-12, want.total()));
        prop_assert!(close(got.between(), want.between(), 1e-12, want.total()));
        for class in 0..k {
            let radii = [&got, &want].map(|geometry| geometry.radius_sq(class, Normalisation::Unbiased));
            prop_assert!(radii[0].zip(radii[1]).is_none_or(|(a, b)| close(a, b, 1e-12, b)));
        }
        for j in 0..d {
            prop_assert!(close(got.variance_per_dim()[j], want.variance_per_dim()[j], 1e-11, want.variance_per_dim()[j]));
            prop_assert!(close(got.mean()[j], want.mean()[j], 1e-13, want.mean()[j]));
        }
    }
}

/// Places of bad values are counted in the whole, in whichever batch and block they are found.
#[test]
fn bad_rows_are_named_in_the_whole() -> Result<(), Error> {
    let mut z = Array2::<f32>::ones((20, 200));
    z[[13, 130]] = f32::NAN;
    let whole = Plan::of(2, 200, 4)?;
    let least = (0..).map(|step| Plan::of(2, 200, 4).and_then(|plan| plan.within(step * 512)));
    let plan = least.flatten().next().expect("some budget is enough");
    assert_eq!(plan.passes(), 4);
    for plan in [&whole, &plan] {
        let error = plan.geometry(z.view(), &[0; 20]);
        assert!(matches!(error, Err(Error::NonFinite { row: 13, column: 130, .. })), "{error:?}");
        assert!(matches!(plan.geometry(z.view(), &[0; 3]), Err(Error::LabelCount { .. })));
        let mut y = [0; 20];
        y[17] = 2;
        z[[13, 130]] = 1.0;
        let error = plan.geometry(z.view(), &y);
        assert!(matches!(error, Err(Error::LabelOutOfRange { row: 17, .. })), "{error:?}");
        z[[13, 130]] = f32::NAN;
    }
    let none = Array2::<f32>::zeros((0, 200));
    assert_eq!(whole.geometry(none.view(), &[]), Err(Error::NoRows));
    assert!(matches!(
        whole.geometry(Array2::<f32>::zeros((1, 3)).view(), &[0]),
        Err(Error::Width { .. })
    ));
    Ok(())
}
