//! Jackknife intervals: exact against leaving rows out one by one, and covering as often as they say.

mod common;

use common::{close, labels, normal, rng};
use gpz_estimators::{
    ClassGeometry, ClassMoments, DeviationPass, Deviations, Error, Normalisation, NotIdentifiable,
};
use ndarray::{Array2, Axis, s};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

type ChaCha = rand_chacha::ChaCha8Rng;

const BOTH: [Normalisation; 2] = [Normalisation::PlugIn, Normalisation::Unbiased];

fn geometry(
    features: &Array2<f64>,
    labels: &[usize],
    classes: usize,
) -> Result<ClassGeometry, Error> {
    let mut moments = ClassMoments::new(classes, features.ncols())?;
    moments.update(features.view(), labels)?;
    moments.geometry()
}

fn deviations(
    features: &Array2<f64>,
    labels: &[usize],
    classes: usize,
) -> Result<Deviations, Error> {
    let mut moments = ClassMoments::new(classes, features.ncols())?;
    moments.update(features.view(), labels)?;
    let mut pass = DeviationPass::new(&moments)?;
    // Other batches than the first pass had.
    for (batch, labels) in features.axis_chunks_iter(Axis(0), 7).zip(labels.chunks(7)) {
        pass.update(batch, labels)?;
    }
    pass.finish()
}

/// What the whole-sample intervals estimate, computed from a geometry alone.
fn whole(geometry: &ClassGeometry, normalisation: Normalisation) -> [f64; 4] {
    let n = geometry.rows() as f64;
    let (within, total) = match normalisation {
        Normalisation::PlugIn => (geometry.within(), geometry.total()),
        Normalisation::Unbiased => {
            let radii = (0..geometry.classes()).filter_map(|class| {
                Some((geometry.counts()[class] as f64, geometry.radius_sq(class, normalisation)?))
            });
            let (sum, rows) = radii.fold((0.0, 0.0), |(sum, rows), (count, radius)| {
                (sum + count * radius, rows + count)
            });
            (sum / rows, geometry.total() * n / (n - 1.0))
        }
    };
    [within, total, total - within, within / total]
}

/// Brute force: the statistic without each row in turn, and the jackknife standard error.
fn leave_one_out<const M: usize>(
    features: &Array2<f64>,
    labels: &[usize],
    classes: usize,
    rows: &[usize],
    statistic: impl Fn(&ClassGeometry) -> [f64; M],
) -> Result<[f64; M], Error> {
    let mut values = Vec::new();
    for &out in rows {
        let kept: Vec<usize> = (0..labels.len()).filter(|&row| row != out).collect();
        let kept_labels: Vec<usize> = kept.iter().map(|&row| labels[row]).collect();
        values.push(statistic(&geometry(&features.select(Axis(0), &kept), &kept_labels, classes)?));
    }
    let n = values.len() as f64;
    Ok(std::array::from_fn(|m| {
        let mean = values.iter().map(|value| value[m]).sum::<f64>() / n;
        ((n - 1.0) / n * values.iter().map(|value| (value[m] - mean).powi(2)).sum::<f64>()).sqrt()
    }))
}

#[test]
fn equals_leaving_out_one_by_one() -> Result<(), Error> {
    let mut rng = rng(31);
    for classes in [1, 3] {
        let (z, mut y) = (normal(&mut rng, (40, 12)) * 2.0 + 100.0, labels(&mut rng, 40, classes));
        if classes > 1 {
            // Classes of one, two and no rows besides: 3, 4 and 5.
            (y[5], y[6], y[7]) = (3, 4, 4);
        }
        let all = deviations(&z, &y, 6)?;
        let everything: Vec<usize> = (0..40).collect();
        for normalisation in BOTH {
            for class in 0..classes {
                let members: Vec<usize> = (0..40).filter(|&row| y[row] == class).collect();
                let want = leave_one_out(&z, &y, 6, &members, |g| {
                    [g.radius_sq(class, normalisation).unwrap_or(f64::NAN)]
                })?[0];
                let got = all.radius_sq(class, normalisation, 0.95)?.expect("many rows");
                assert!(close(got.std_err, want, 1e-9, want), "{got:?} for {want}");
                assert_eq!(Some(got.value), all.geometry().radius_sq(class, normalisation));
            }
            let want = leave_one_out(&z, &y, 6, &everything, |g| whole(g, normalisation))?;
            let values = whole(all.geometry(), normalisation);
            let got = [
                all.within(normalisation, 0.95)?,
                all.total(normalisation, 0.95)?,
                all.between(normalisation, 0.95)?,
                all.within_over_total(normalisation, 0.95)?,
            ];
            for ((got, want), value) in got.into_iter().zip(want).zip(values) {
                let got = got.expect("many rows");
                // With one class, within equals total, so that the others' spread is rounding.
                let scale = want + 1e-5 * values[1];
                assert!(close(got.std_err, want, 1e-8, scale), "{got:?} for {want}");
                assert!(close(got.value, value, 1e-12, value.abs() + values[1]));
            }
        }
    }
    Ok(())
}

/// Stratified: class variances add. Checked on the classes' own intervals.
#[test]
fn the_average_combines_the_classes() -> Result<(), Error> {
    let mut rng = rng(32);
    let y: Vec<usize> = (0..60).map(|i| [0, 0, 0, 1, 1, 2][i % 6]).chain([3, 3, 4]).collect();
    let z = normal(&mut rng, (63, 5));
    let all = deviations(&z, &y, 6)?;
    let classes = [0, 1, 2].map(|class| all.radius_sq(class, Normalisation::Unbiased, 0.9));
    let mut parts = Vec::new();
    for class in classes {
        parts.push(class?.expect("ten rows or more"));
    }
    // In one walk over the images, and with a reason where there is no interval.
    let at_once = all.radii_sq(Normalisation::Unbiased, 0.9)?;
    assert_eq!(at_once.len(), 6);
    assert!(at_once.iter().zip(&parts).all(|(got, want)| got.as_ref() == Ok(want)));
    let too_few =
        |class, have| Err(NotIdentifiable::TooFewRows { class: Some(class), have, need: 3 });
    assert_eq!(
        at_once[3..],
        [too_few(3, 2), too_few(4, 1), Err(NotIdentifiable::EmptyClass { class: 5 })]
    );
    assert!(matches!(all.radii_sq(Normalisation::Unbiased, 1.0), Err(Error::Level { .. })));
    let mean = all.mean_radius_sq(Normalisation::Unbiased, 0.9)?.expect("three classes");
    let variance: f64 = parts.iter().map(|part| part.std_err.powi(2)).sum();
    assert!(close(
        mean.value,
        parts.iter().map(|part| part.value).sum::<f64>() / 3.0,
        1e-14,
        mean.value
    ));
    assert!(close(mean.std_err, variance.sqrt() / 3.0, 1e-13, mean.std_err));
    let freedom = variance.powi(2)
        / parts.iter().map(|p| p.std_err.powi(4) / p.degrees_of_freedom).sum::<f64>();
    assert!(close(mean.degrees_of_freedom, freedom, 1e-12, freedom));
    assert_eq!((mean.classes, mean.n), (3, 60));
    let per_dim = mean.per(5.0);
    assert!(close(per_dim.high - per_dim.low, (mean.high - mean.low) / 5.0, 1e-14, per_dim.high));
    Ok(())
}

/// Student's two-sided 95 % quantiles, from tables.
#[test]
fn quantiles_are_students() -> Result<(), Error> {
    let mut rng = rng(33);
    for (n, quantile) in
        [(3, 4.302_652_73), (11, 2.228_138_85), (30, 2.045_229_64), (1001, 1.962_339_08)]
    {
        let all = deviations(&normal(&mut rng, (n, 2)), &vec![0; n], 1)?;
        let interval = all.radius_sq(0, Normalisation::PlugIn, 0.95)?.expect("three rows");
        let got = (interval.high - interval.value) / interval.std_err;
        assert!(close(got, quantile, 1e-7, quantile), "{got} for {quantile}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_known_is_said() -> Result<(), Error> {
    let z = normal(&mut rng(34), (3, 4));
    let all = deviations(&z, &[0, 0, 1], 3)?;
    let few = |class, have| Err(NotIdentifiable::TooFewRows { class, have, need: 3 });
    assert_eq!(all.radius_sq(0, Normalisation::PlugIn, 0.95)?, few(Some(0), 2));
    assert_eq!(
        all.radius_sq(2, Normalisation::PlugIn, 0.95)?,
        Err(NotIdentifiable::EmptyClass { class: 2 })
    );
    assert_eq!(
        all.radius_sq(9, Normalisation::PlugIn, 0.95)?,
        Err(NotIdentifiable::EmptyClass { class: 9 })
    );
    assert_eq!(all.mean_radius_sq(Normalisation::PlugIn, 0.95)?, few(None, 2));
    assert_eq!(all.within(Normalisation::Unbiased, 0.95)?, few(None, 2));
    assert!(all.within(Normalisation::PlugIn, 0.95)?.is_ok());
    for level in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(matches!(all.total(Normalisation::PlugIn, level), Err(Error::Level { .. })));
        assert!(matches!(all.radius_sq(0, Normalisation::PlugIn, level), Err(Error::Level { .. })));
    }
    let flat = deviations(&Array2::from_elem((9, 2), 0.1), &[0; 9], 1)?;
    assert_eq!(
        flat.within_over_total(Normalisation::PlugIn, 0.95)?,
        Err(NotIdentifiable::NoVariance)
    );
    let still = flat.radius_sq(0, Normalisation::Unbiased, 0.95)?.expect("nine rows");
    assert_eq!((still.value, still.low, still.high), (0.0, 0.0, 0.0));
    let average = flat.mean_radius_sq(Normalisation::Unbiased, 0.95)?.expect("nine rows");
    assert_eq!((average.std_err, average.degrees_of_freedom), (0.0, 8.0));
    assert_eq!(
        all.contributions().within(&[1.0]),
        Err(Error::WeightCount { images: 3, weights: 1 })
    );
    assert_eq!(all.contributions().within(&[0.0, 0.0, 1.0]), Ok(None));
    Ok(())
}

#[test]
fn the_second_pass_must_see_the_same_rows() -> Result<(), Error> {
    let mut rng = rng(35);
    let (z, y) = (normal(&mut rng, (30, 8)), labels(&mut rng, 30, 2));
    let mut moments = ClassMoments::new(2, 8)?;
    moments.update(z.view(), &y)?;
    let pass = |features: &Array2<f64>, labels: &[usize]| {
        let mut pass = DeviationPass::new(&moments)?;
        pass.update(features.view(), labels)?;
        pass.finish()
    };
    assert!(pass(&z, &y).is_ok());
    assert!(matches!(
        pass(&z.slice(s![1.., ..]).to_owned(), &y[1..]),
        Err(Error::PassCounts { .. })
    ));
    assert!(matches!(pass(&normal(&mut rng, (30, 8)), &y), Err(Error::PassRows { .. })));
    let mut bad = z.clone();
    bad[[4, 3]] = f64::NAN;
    assert!(matches!(pass(&bad, &y), Err(Error::NonFinite { row: 4, column: 3, .. })));
    let mut single = DeviationPass::new(&moments)?;
    assert!(matches!(
        single.update(bad.mapv(|v| v as f32).view(), &y),
        Err(Error::NonFinite { row: 4, column: 3, .. })
    ));
    single.update(z.mapv(|v| v as f32).view(), &y)?;
    assert!(single.finish().is_ok(), "the refused batch left nothing behind");
    Ok(())
}

/// Distances in every width and on rows of both types agree with the plain sum, in the order of the images.
#[test]
fn distances_are_in_the_order_of_the_images() -> Result<(), Error> {
    let mut rng = rng(36);
    for width in [1, 5, 8, 63, 4100] {
        let (z, y) = (normal(&mut rng, (70, width)), labels(&mut rng, 70, 3));
        let mut moments = ClassMoments::new(3, width)?;
        moments.update(z.view(), &y)?;
        let mut pass = DeviationPass::new(&moments)?;
        pass.update(z.view(), &y)?;
        let all = pass.finish()?;
        for (row, (near, far)) in all.to_class_mean().zip(all.to_global_mean()).enumerate() {
            let mean = moments.class_mean(y[row]).expect("the row's class");
            let want = z.row(row).iter().zip(mean).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            assert!(close(near, want, 1e-12, want));
            let want = z
                .row(row)
                .iter()
                .zip(all.geometry().mean())
                .map(|(a, b)| (a - b).powi(2))
                .sum::<f64>();
            assert!(close(far, want, 1e-12, want));
        }
        assert_eq!(all.labels(), y);
    }
    Ok(())
}

/// How often the 95 % interval of the averaged radius covers, over replicates of `classes` classes of `rows` rows.
fn coverage(
    (classes, rows, width): (usize, usize, usize),
    replicates: usize,
    truth: f64,
    fill: impl Fn(&mut ChaCha, &mut [f32]),
    seed: u64,
) -> Result<[f64; 2], Error> {
    let mut rng = rng(seed);
    let y: Vec<usize> = (0..classes * rows).map(|i| i % classes).collect();
    let mut covered = [0; 2];
    for _ in 0..replicates {
        let mut z = Array2::<f32>::zeros((classes * rows, width));
        for mut row in z.rows_mut() {
            fill(&mut rng, row.as_slice_mut().unwrap_or_default());
        }
        let mut moments = ClassMoments::new(classes, width)?;
        moments.update(z.view(), &y)?;
        let mut pass = DeviationPass::new(&moments)?;
        pass.update(z.view(), &y)?;
        let all = pass.finish()?;
        let unbiased = all.mean_radius_sq(Normalisation::Unbiased, 0.95)?.expect("many rows");
        let plug_in = all.mean_radius_sq(Normalisation::PlugIn, 0.95)?.expect("many rows");
        let expected = truth * (rows as f64 - 1.0) / rows as f64;
        covered[0] += usize::from(unbiased.low <= truth && truth <= unbiased.high);
        covered[1] += usize::from(plug_in.low <= expected && expected <= plug_in.high);
    }
    Ok(covered.map(|count| count as f64 / replicates as f64))
}

/// D = 4096 and 30 Gaussian rows, where a percentile bootstrap of the plug-in cannot cover: its centre is 3 % low, its spread
/// 0.4 %. And rows whose energy differs by image, as that of features does.
#[test]
fn covers_where_the_width_exceeds_the_rows() -> Result<(), Error> {
    const D: usize = 4096;
    let gaussian = |rng: &mut ChaCha, row: &mut [f32]| {
        row.iter_mut().for_each(|value| *value = StandardNormal.sample(rng));
    };
    // With s uniform on [0.5, 1.5], E s² = 13/12.
    let energies = |rng: &mut ChaCha, row: &mut [f32]| {
        let scale = rng.random_range(0.5..1.5_f32);
        gaussian(rng, row);
        row.iter_mut().for_each(|value| *value *= scale);
    };
    let width = D as f64;
    let covered = [
        coverage((1, 30, D), 300, width, gaussian, 40)?,
        coverage((1, 30, D), 300, width * 13.0 / 12.0, energies, 41)?,
    ];
    // Three standard errors of 300 draws at 0.95 are 0.038.
    assert!(covered.iter().flatten().all(|share| (0.912..=0.988).contains(share)), "{covered:?}");
    Ok(())
}

/// Ten classes of 30: the average of the radii, Welch and Satterthwaite's degrees of freedom.
#[test]
fn covers_on_average_over_classes() -> Result<(), Error> {
    let fill = |rng: &mut ChaCha, row: &mut [f32]| {
        row.iter_mut().for_each(|value| *value = StandardNormal.sample(rng))
    };
    let covered = coverage((10, 30, 64), 400, 64.0, fill, 42)?;
    assert!(covered.iter().all(|share| (0.917..=0.983).contains(share)), "{covered:?}");
    Ok(())
}
