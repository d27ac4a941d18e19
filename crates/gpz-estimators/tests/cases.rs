//! The project's reference cases: every stored quantity of class geometry and entropy bounds, from the tensors alone.

mod common;

use common::case::{Case, Outcome};
use gpz_estimators::{ClassGeometry, ClassMoments, Element, Error, Flag, Normalisation, entropy};
use ndarray::{Array2, ArrayView2, Axis};

/// In two batches, so that the cases also cross a commit.
fn moments<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<ClassMoments, Error> {
    let mut moments = ClassMoments::new(classes, features.ncols())?;
    let middle = features.nrows() / 3;
    let (first, second) = features.split_at(Axis(0), middle);
    moments.update(first, &labels[..middle])?;
    moments.update(second, &labels[middle..])?;
    Ok(moments)
}

/// From the width the features were stored in.
fn geometry(case: &Case, classes: usize) -> Outcome<ClassGeometry> {
    let z = case.matrix("z")?;
    let labels = case.labels().unwrap_or_else(|_| vec![0; z.nrows()]);
    let moments = if case.is_f32("z")? {
        moments(z.mapv(|value| value as f32).view(), &labels, classes)?
    } else {
        moments(z.view(), &labels, classes)?
    };
    Ok(moments.geometry()?)
}

fn answer(geometry: &ClassGeometry, quantity: &str) -> Outcome<Option<Vec<f64>>> {
    let present: Vec<usize> =
        (0..geometry.classes()).filter(|&class| geometry.counts()[class] > 0).collect();
    let indices = |indices: Vec<usize>| indices.into_iter().map(|index| index as f64).collect();
    Ok(Some(match quantity {
        "class_counts" => present.iter().map(|&class| geometry.counts()[class] as f64).collect(),
        // The cases count the plug-in of a class of one as zero.
        "radius2" => present
            .iter()
            .map(|&class| {
                geometry.sum_of_squares(class).map(|sum| sum / geometry.counts()[class] as f64)
            })
            .collect::<Option<_>>()
            .ok_or("a class with rows has a sum of squares")?,
        "within" => vec![geometry.within()],
        "between" => vec![geometry.between()],
        "global_trace_var" => {
            let by_dimension = geometry.variance_per_dim().sum();
            assert!((by_dimension - geometry.total()).abs() <= 1e-12 * by_dimension);
            vec![geometry.total()]
        }
        "global_sigma2" => vec![geometry.mean_variance()],
        "entropy_upper_iso" => vec![entropy::isotropic_bound_nats(geometry).value],
        "class_entropy_upper_iso" => present
            .iter()
            .map(|&class| entropy::class_bound_nats(geometry, class).map(|bound| bound.value))
            .collect::<Result<_, _>>()?,
        "empty_classes" => indices(geometry.empty_classes()),
        "singleton_classes" => indices(geometry.singleton_classes()),
        "constant_columns" => indices(geometry.constant_dimensions()),
        _ => return Ok(None),
    }))
}

/// Checks every entry that this crate answers and returns how many those were.
fn check(case: &Case, geometry: &ClassGeometry) -> Outcome<usize> {
    let mut checked = 0;
    for (quantity, _, entry) in case.entries() {
        if let Some(got) = answer(geometry, quantity)? {
            case.holds(entry, &got);
            checked += 1;
        }
    }
    Ok(checked)
}

#[test]
fn geometry_and_bounds_of_the_stored_cases() -> Outcome<()> {
    let cases = [
        ("gmm_1d_c3", 3, 11),
        ("gmm_2d_c2", 2, 11),
        ("gmm_identical_classes", 2, 11),
        ("cond_class_offset_f32", 6, 8),
        ("label_single_and_empty", 10, 10),
        ("degen_constant_collinear", 1, 4),
    ];
    for (id, classes, entries) in cases {
        let case = Case::open(id)?;
        let checked = check(&case, &geometry(&case, classes)?)?;
        assert_eq!(checked, entries, "{id}");
    }
    Ok(())
}

#[test]
fn singletons_are_flagged_and_empty_classes_absent() -> Outcome<()> {
    let geometry = geometry(&Case::open("label_single_and_empty")?, 10)?;
    assert_eq!(geometry.radius_sq(3, Normalisation::PlugIn), None);
    assert_eq!(geometry.radius_sq(7, Normalisation::PlugIn), None);
    assert_eq!(geometry.sum_of_squares(3), Some(0.0));
    assert_eq!(geometry.sum_of_squares(7), None);
    let single = entropy::class_bound_nats(&geometry, 3)?;
    assert!(single.flags.contains(&Flag::SingletonClass) && single.value == f64::NEG_INFINITY);
    assert!(entropy::class_bound_nats(&geometry, 7).is_err());
    assert!(entropy::mixture_bound_nats(&geometry).is_err());
    Ok(())
}

#[test]
fn contaminated_rows_are_named_and_change_nothing() -> Outcome<()> {
    let case = Case::open("contaminated_nan_inf")?;
    let (features, labels) = (case.matrix("z")?.mapv(|value| value as f32), case.labels()?);
    let mut moments = ClassMoments::new(4, 6)?;
    let (mut bad, mut clean) = (Vec::new(), Vec::new());
    for (row, values) in features.axis_chunks_iter(Axis(0), 1).enumerate() {
        let before = moments.clone();
        match moments.update(values, &labels[row..=row]) {
            Ok(()) => clean.push(row),
            Err(Error::NonFinite { row: 0, column, value }) => {
                assert!(!value.is_finite() && !features[[row, column]].is_finite());
                assert_eq!(moments, before);
                bad.push(row as f64);
            }
            Err(other) => return Err(other.into()),
        }
    }
    case.check("bad_rows", &bad);
    // All at once: the first of them is named, whichever way the batch is read.
    let first = Error::NonFinite { row: bad[0] as usize, column: 0, value: 0.0 };
    let mut whole = ClassMoments::new(4, 6)?;
    let refused = whole.update(features.view(), &labels);
    assert!(
        matches!((refused, first), (Err(Error::NonFinite { row: a, .. }), Error::NonFinite { row: b, .. }) if a == b)
    );
    assert_eq!(whole, ClassMoments::new(4, 6)?);
    // The rows that were taken give the statistics of the clean subset.
    let labels: Vec<usize> = clean.iter().map(|&row| labels[row]).collect();
    whole.update(features.select(Axis(0), &clean).view(), &labels)?;
    assert_eq!(check(&case, &moments.geometry()?)?, 8);
    assert_eq!(check(&case, &whole.geometry()?)?, 8);
    Ok(())
}

#[test]
fn width_262144_by_rule() -> Outcome<()> {
    const D: usize = 262_144;
    let mix = |counter: usize| {
        let mut s = (counter as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        s = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        s = (s ^ (s >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        s ^ (s >> 31)
    };
    let features = Array2::from_shape_fn((64, D), |(i, j)| {
        ((mix(i * D + j) >> 11) as f64 * 2.0_f64.powi(-53) - 0.5 + 0.25 * (i % 4) as f64) as f32
    });
    let labels: Vec<usize> = (0..64).map(|i| i % 4).collect();
    let mut moments = ClassMoments::new(4, D)?;
    moments.update(features.view(), &labels)?;
    let geometry = moments.geometry()?;
    let case = Case::open("procedural_64x262144")?;
    assert_eq!(check(&case, &geometry)?, 4);
    let radius = geometry.mean_radius_sq(Normalisation::Unbiased).ok_or("four classes of 16")?;
    case.check("radius2_population_unbiased", &[radius]);
    // The first three of the first row, and the last of the last.
    let values = [[0, 0], [0, 1], [0, 2], [63, D - 1]].map(|at| f64::from(features[at]));
    case.check("first_values", &values);
    Ok(())
}

#[cfg(feature = "lapack-base")]
mod lapack {
    use super::*;
    use gpz_estimators::gaussian;

    #[test]
    fn full_covariance_of_the_stored_cases() -> Outcome<()> {
        for (id, classes) in [("gmm_1d_c3", 3), ("gmm_2d_c2", 2), ("gmm_identical_classes", 2)] {
            let case = Case::open(id)?;
            let (z, y) = (case.matrix("z")?, case.labels()?);
            let within = gaussian::class_conditional_bound_nats(z.view(), &y, classes)??;
            case.check("class_cond_gauss_entropy", &[within.value]);
            let full = gaussian::full_bound_nats(z.view())??;
            case.check("gaussian_upper_full", &[full.value]);
        }
        Ok(())
    }

    /// Columns of scales from 1e-8 to 1e8: the determinant is as good as after standardising by hand.
    #[test]
    fn scales_do_not_matter() -> Outcome<()> {
        let case = Case::open("cond_scales_1e-8_1e8")?;
        let features = case.matrix("z")?;
        let bound = gaussian::full_bound_nats(features.view())??;
        let log_det =
            2.0 * bound.value - entropy::isotropic_gaussian_nats(features.ncols(), 1.0) * 2.0;
        case.check("logdet_cov", &[log_det]);
        Ok(())
    }

    #[test]
    fn singular_covariances_are_minus_infinity_and_say_why() -> Outcome<()> {
        let features = Case::open("degen_constant_collinear")?.matrix("z")?;
        let constant = gaussian::full_bound_nats(features.view())??;
        assert_eq!(constant.value, f64::NEG_INFINITY);
        assert!(constant.flags.contains(&Flag::ConstantDimensions(1)));
        let varying = features.select(Axis(1), &[0, 1, 3, 4, 5]);
        let collinear = gaussian::full_bound_nats(varying.view())??;
        assert_eq!(collinear.value, f64::NEG_INFINITY);
        assert!(collinear.flags.contains(&Flag::RankDeficient { rank: 4, width: 5 }));
        assert!(gaussian::full_bound_nats(features.slice(ndarray::s![..6, ..]))?.is_err());
        Ok(())
    }
}
