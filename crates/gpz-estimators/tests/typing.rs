//! What every estimate says of itself: direction, interval, rows behind it, and what was odd about those.

mod common;

use std::error::Error;

use common::{close, normal, rng};
use gpz_estimators::channel::{
    Channel, Given, Received, RidgeAttack, SmoothedPrior, conditional_entropy_lower_nats,
    lattice_entropy_upper_nats, noise_information_classes_nats, noise_information_full_nats,
    noise_information_nats, ridge_attack_mse,
};
use gpz_estimators::dependence::{distance_correlation_sq, distance_correlation_v};
use gpz_estimators::dimension::{Averaging, levina_bickel, two_nn};
use gpz_estimators::entropy::kde::{Bandwidth, kde_entropy_loo_nats};
use gpz_estimators::entropy::mixture::noise_information_bounds_nats;
use gpz_estimators::entropy::{
    class_bound_nats, isotropic_bound_nats, kozachenko_leonenko_nats, mixture_bound_nats,
};
use gpz_estimators::gaussian::{diagonal_bound_nats, mixture_diagonal_bound_nats};
use gpz_estimators::information::critic::{donsker_varadhan_nats, nwj_nats};
use gpz_estimators::information::discrete::binned_mi_nats;
use gpz_estimators::information::ksg::ksg1_nats;
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::information::renyi::quadratic_information_nats;
use gpz_estimators::information::ross::ross_nats;
use gpz_estimators::{
    ClassMoments, DeviationPass, Deviations, Error as Refused, Estimate, Flag, Kind, Metric,
    Neighbours, Uncertainty, grouped_jackknife, project,
};
use ndarray::{Array2, Axis, array, concatenate, s};

type Outcome = Result<(), Box<dyn Error>>;

fn plain() -> Neighbours {
    Neighbours::default().without_std_err()
}

/// Forty rows of five columns: three that vary, one that is 2 and one that is 0 throughout; the last row equals the first.
fn odd_rows() -> Array2<f64> {
    let mut z = normal(&mut rng(1), (40, 5));
    z.column_mut(3).fill(2.0);
    z.column_mut(4).fill(0.0);
    let first = z.row(0).to_owned();
    z.row_mut(39).assign(&first);
    z
}

fn says(estimate: &Estimate, flags: &[Flag]) {
    for flag in flags {
        assert_eq!(estimate.flags.iter().filter(|has| *has == flag).count(), 1, "{estimate:?}");
    }
}

#[test]
fn every_estimator_says_what_is_odd_about_its_rows() -> Outcome {
    let z = odd_rows();
    let y = z.slice(s![.., ..1]).to_owned();
    let labels: Vec<usize> = (0..40).map(|row| row % 2).collect();
    let columns = [Flag::ConstantDimensions(2), Flag::DeadUnits(1)];
    let all = [columns[0].clone(), columns[1].clone(), Flag::DuplicateRows(1)];

    // From neighbours: ties stand for rows that repeat.
    says(&kozachenko_leonenko_nats(z.view(), Metric::Euclidean, plain())??, &columns);
    says(&ksg1_nats(z.view(), y.view(), plain())??, &columns);
    says(&gao_nats(z.view(), y.view(), plain())??, &columns);
    says(&ross_nats(z.view(), &labels, plain())??, &columns);
    for dimension in [
        two_nn(z.view(), 0)??,
        levina_bickel(z.view(), Neighbours { k: 5, parts: 0 }, Averaging::OfInverses)??,
    ] {
        says(&dimension, &all);
    }
    // From all rows.
    says(&kde_entropy_loo_nats(z.view(), Bandwidth::Scott)??, &all);
    says(&noise_information_bounds_nats(z.view(), 1.0)?.upper, &all);
    says(&noise_information_nats(z.view(), 1.0)??, &all);
    says(&noise_information_full_nats(z.view(), 1.0)??, &all);
    says(&distance_correlation_sq(z.view(), y.view())??, &all);
    says(&distance_correlation_v(z.view(), y.view())??, &all);
    says(&quadratic_information_nats(z.view(), y.view(), [1.0, 1.0])?, &all);
    says(&binned_mi_nats(z.view(), y.view(), 3)?, &all);
    says(&ridge_attack_mse(y.view(), z.view(), RidgeAttack::default())??, &all);
    // From moments: rows that repeat leave no trace in them.
    let mut moments = ClassMoments::new(2, 5)?;
    moments.update(z.view(), &labels)?;
    let geometry = moments.geometry()?;
    for bound in [
        isotropic_bound_nats(&geometry),
        class_bound_nats(&geometry, 1)?,
        mixture_bound_nats(&geometry)?,
        diagonal_bound_nats(&geometry),
        noise_information_classes_nats(&geometry, 1.0)??,
    ] {
        says(&bound, &columns);
    }
    says(&mixture_diagonal_bound_nats(&moments)??, &columns);
    Ok(())
}

#[cfg(feature = "lapack-base")]
#[test]
fn so_do_those_that_factorise() -> Outcome {
    use gpz_estimators::gaussian::{
        class_conditional_bound_nats, full_bound_nats, ledoit_wolf, oas,
    };
    use gpz_estimators::information::{gaussian::mi_plugin_nats, qda::crossfit_nats};
    use gpz_estimators::{collapse::collapse, spectrum::Spectrum};
    let z = odd_rows();
    let labels: Vec<usize> = (0..40).map(|row| row / 2 % 2).collect();
    let columns = [Flag::ConstantDimensions(2), Flag::DeadUnits(1)];
    let all = [columns[0].clone(), columns[1].clone(), Flag::DuplicateRows(1)];
    says(&full_bound_nats(z.view())??, &all);
    says(&class_conditional_bound_nats(z.view(), &labels, 2)??, &columns);
    says(&ledoit_wolf(z.view())??.entropy, &all);
    says(&oas(z.view())??.log_det, &all);
    let spectrum = Spectrum::of(z.view())?;
    says(&spectrum.participation_ratio()?, &all);
    says(&spectrum.participation_ratio_corrected()?, &all);
    says(&spectrum.effective_rank()?, &all);
    says(&collapse(z.view(), &labels, 2, None)?.nc1_trace?, &columns);
    let varying = z.slice(s![.., ..3]).to_owned();
    says(&crossfit_nats(varying.view(), &labels, 2)??, &[Flag::DuplicateRows(1)]);
    let (left, right) = varying.view().split_at(Axis(1), 1);
    says(&mi_plugin_nats(left, right)??, &[Flag::DuplicateRows(1)]);
    Ok(())
}

/// With eight parts the error has seven degrees of freedom. The normal quantile would cover 91 % of the time and not 95 %.
#[test]
fn intervals_from_few_parts_cover_as_often_as_they_say() -> Outcome {
    let truth = 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln();
    let (mut inside, mut too_narrow) = (0, 0);
    let replicates = 400;
    for seed in 0..replicates {
        let z = normal(&mut rng(1000 + seed), (320, 1));
        let h = kozachenko_leonenko_nats(z.view(), Metric::Euclidean, Neighbours::nth(4))??;
        assert_eq!(h.degrees_of_freedom, Some(7.0));
        let interval = h.interval(0.95)?.ok_or("parts of forty rows give an error")?;
        inside += i32::from(interval.contains(&truth));
        let normal = 1.959_964 * h.std_err.ok_or("as above")?;
        too_narrow += i32::from((h.value - truth).abs() <= normal);
    }
    // Four standard errors of a share of 0.95 over 400 are 0.044.
    let share = f64::from(inside) / replicates as f64;
    assert!((0.906..=0.994).contains(&share), "{share}");
    assert!(too_narrow < inside);
    Ok(())
}

#[test]
fn intervals_without_an_error_and_without_a_level() -> Outcome {
    let bound = gpz_estimators::channel::Spread::population(vec![1.0])?.information_nats(1.0)?;
    assert_eq!(bound.interval(0.9)?, None);
    for level in [0.0, 1.0, f64::NAN] {
        assert!(matches!(bound.interval(level), Err(Refused::Level { .. })));
    }
    // A formula's error has the normal quantile; that of many rows nearly so.
    let z = normal(&mut rng(2), (500, 1));
    let spread = noise_information_nats(z.view(), 1.0)??;
    assert_eq!(
        (spread.uncertainty, spread.degrees_of_freedom),
        (Some(Uncertainty::Jackknife), Some(499.0))
    );
    let interval = spread.interval(0.95)?.ok_or("an error")?;
    let reach = (interval.end() - spread.value) / spread.std_err.ok_or("an error")?;
    assert!((reach - 1.9647).abs() < 1e-3, "{reach}");
    Ok(())
}

/// Whatever is known has no rows behind it, and JSON reads it back.
#[test]
fn what_is_known_has_no_rows_and_reads_back() -> Outcome {
    let received = Received::enumerated(array![[0], [1], [1], [2]].view(), None)?;
    let channel = Channel::Noise { sigma: 1.0 }.limit_nats(3)?;
    for estimate in [received.h_x_nats(), channel?] {
        assert_eq!(estimate.n_effective, 0.0);
        let json = serde_json::to_value(&estimate)?;
        assert_eq!(json["n_effective"], 0.0);
        assert!(json["value"].is_number() || json["value"] == "inf", "{json}");
        assert!(json["degrees_of_freedom"].is_null());
    }
    Ok(())
}

/// Rows of a sample taken for the source: `ln n`, and it is said.
#[test]
fn a_listed_sample_saturates() -> Outcome {
    let codes = Array2::from_shape_fn((64, 1), |(row, _)| row as i64);
    let each = Received::enumerated(codes.view(), None)?.mi_nats();
    assert!(close(each.value, 64f64.ln(), 1e-14, 1.0) && each.flags.contains(&Flag::Saturated));
    let halves = Received::enumerated(codes.mapv(|code| code / 32).view(), None)?.mi_nats();
    assert!(!halves.flags.contains(&Flag::Saturated));
    Ok(())
}

/// What so many pairs cannot show is flagged, though the formulas have no ceiling.
#[test]
fn critics_that_claim_more_than_their_pairs_can_show() -> Outcome {
    let scores = Array2::<f64>::eye(16) * 2.7;
    for bound in [nwj_nats(scores.view())??, donsker_varadhan_nats(scores.view())??] {
        assert_eq!(bound.ceiling, Some(16f64.ln()));
        assert!(bound.value > 0.95 * 16f64.ln() && bound.flags.contains(&Flag::Saturated));
    }
    let modest = donsker_varadhan_nats((scores / 3.0).view())??;
    assert!(!modest.flags.contains(&Flag::Saturated));
    Ok(())
}

/// An attack that was run bounds the least error on average over samples, and no bound is built on an average.
#[test]
fn directions_in_expectation_are_kept_apart() -> Outcome {
    let x = normal(&mut rng(3), (60, 2));
    let z = &x + normal(&mut rng(4), (60, 2));
    let mse = ridge_attack_mse(x.view(), z.view(), RidgeAttack::default())??;
    assert_eq!(mse.kind, Kind::Upper);
    assert!(
        mse.flags.contains(&Flag::InExpectation) && !mse.flags.contains(&Flag::PlugInOfUpperBound)
    );
    let mut information = Channel::Cast(gpz_estimators::channel::Cast::Bf16).limit_nats(2)??;
    let left = |information: &Estimate| {
        conditional_entropy_lower_nats(Given::Known(30.0), &Ok(information.clone()))
    };
    assert_eq!(left(&information)??.kind, Kind::Lower);
    information.flags.push(Flag::InExpectation);
    assert_eq!(left(&information)??.kind, Kind::Heuristic);
    Ok(())
}

/// Sixty-four rows tell at most `ln 64` of themselves, whatever a source of more would tell: no floor is proven by it.
#[test]
fn a_sample_proves_no_floor() -> Outcome {
    let z = normal(&mut rng(9), (64, 2)) * 100.0;
    let codes = Array2::from_shape_fn((64, 1), |(row, _)| row as i64);
    let bounds = noise_information_bounds_nats(z.view(), 0.1)?;
    let mut of_few = bounds.upper.clone();
    (of_few.kind, of_few.flags) = (Kind::Upper, Vec::new());
    let prior = SmoothedPrior::new(8, 0.1)?;
    for information in [bounds.upper, of_few, Received::enumerated(codes.view(), None)?.mi_nats()] {
        assert!(close(information.value, 64f64.ln(), 1e-9, 1.0), "{information:?}");
        let floor = prior.mse_floor(&Ok(information), None)??;
        assert!(floor.kind == Kind::Heuristic && floor.flags.contains(&Flag::RestsOnEstimate));
    }
    // What was said of the information, its error and the freedom of that are said of the floor.
    let information = noise_information_full_nats(odd_rows().view(), 1.0)?;
    let floor = prior.mse_floor(&information, None)??;
    says(&floor, &[Flag::ConstantDimensions(2), Flag::DeadUnits(1), Flag::DuplicateRows(1)]);
    let information = noise_information_nats(z.view(), 1.0)?;
    let floor = prior.mse_floor(&information, None)??;
    assert_eq!((floor.degrees_of_freedom, floor.n_effective), (Some(63.0), 64.0));
    // A law that is known and keeps something back is rested on.
    let halves = Received::enumerated(codes.mapv(|code| code / 32).view(), None)?.mi_nats();
    assert_eq!(prior.mse_floor(&Ok(halves), None)??.kind, Kind::Lower);
    Ok(())
}

fn deviations(
    moments: &ClassMoments,
    z: &Array2<f64>,
    labels: &[usize],
) -> Result<Deviations, Refused> {
    let mut pass = DeviationPass::new(moments)?;
    pass.update(z.view(), labels)?;
    pass.finish()
}

/// Standard error of values without one row each, the plain way.
fn spread(without: &[f64]) -> f64 {
    let n = without.len() as f64;
    let mean = without.iter().sum::<f64>() / n;
    ((n - 1.0) / n * without.iter().map(|value| (value - mean).powi(2)).sum::<f64>()).sqrt()
}

#[test]
fn closed_jackknifes_are_those_of_leaving_rows_out() -> Outcome {
    let z = normal(&mut rng(5), (23, 4)) * 3.0 + 7.0;
    let labels: Vec<usize> = (0..23).map(|row| [0, 2, 2][row % 3]).collect();
    let moments_of = |kept: &[usize]| {
        let labels: Vec<usize> = kept.iter().map(|&row| labels[row]).collect();
        let mut moments = ClassMoments::new(3, 4)?;
        moments.update(z.select(Axis(0), kept).view(), &labels)?;
        Ok::<_, Refused>(moments)
    };
    let all: Vec<usize> = (0..23).collect();
    let moments = moments_of(&all)?;
    let deviations = deviations(&moments, &z, &labels)?;
    let (mut whole, mut class, mut mixture) = (Vec::new(), Vec::new(), Vec::new());
    for out in 0..23 {
        let kept: Vec<usize> = (0..23).filter(|&row| row != out).collect();
        let geometry = moments_of(&kept)?.geometry()?;
        whole.push(isotropic_bound_nats(&geometry).value);
        mixture.push(mixture_bound_nats(&geometry)?.value);
        if labels[out] == 2 {
            class.push(class_bound_nats(&geometry, 2)?.value);
        }
    }
    for (bound, without) in [
        (deviations.isotropic_bound_nats(), whole),
        (deviations.class_bound_nats(2)?, class),
        (deviations.mixture_bound_nats()?, mixture),
    ] {
        let std_err = bound.std_err.ok_or("an error")?;
        assert!(close(std_err, spread(&without), 1e-9, std_err), "{bound:?}");
        assert_eq!(bound.uncertainty, Some(Uncertainty::Jackknife));
    }
    assert_eq!(
        deviations.isotropic_bound_nats().value,
        isotropic_bound_nats(deviations.geometry()).value
    );

    let codes = z.mapv(|value| value.round() as i64);
    let bound = lattice_entropy_upper_nats(codes.view())??;
    let without: Vec<f64> = (0..23)
        .map(|out| {
            let kept: Vec<usize> = (0..23).filter(|&row| row != out).collect();
            Ok(lattice_entropy_upper_nats(codes.select(Axis(0), &kept).view())??.value)
        })
        .collect::<Result<_, Box<dyn Error>>>()?;
    let std_err = bound.std_err.ok_or("an error")?;
    assert!(close(std_err, spread(&without), 1e-9, std_err));
    Ok(())
}

/// A group for each row is the jackknife itself; groups of several rows find the error of a mean.
#[test]
fn groups_left_out_in_turn() -> Outcome {
    let z = normal(&mut rng(6), (200, 1));
    let bound = |kept: &[usize]| {
        let mut moments = ClassMoments::new(1, 1)?;
        moments.update(z.select(Axis(0), kept).view(), &vec![0; kept.len()])?;
        Ok(Ok(isotropic_bound_nats(&moments.geometry()?)))
    };
    let (each, groups) =
        (grouped_jackknife(200, 200, bound)??, grouped_jackknife(200, 20, bound)??);
    let mut moments = ClassMoments::new(1, 1)?;
    moments.update(z.view(), &[0; 200])?;
    let exact = deviations(&moments, &z, &[0; 200])?.isotropic_bound_nats();
    let std_err = exact.std_err.ok_or("an error")?;
    assert!(close(each.std_err.ok_or("an error")?, std_err, 1e-9, std_err));
    // A relative error of 1/√38 is usual for nineteen degrees of freedom; four of them are 0.65.
    assert!(close(groups.std_err.ok_or("an error")?, std_err, 0.65, std_err));
    assert_eq!((groups.value, groups.degrees_of_freedom), (exact.value, Some(19.0)));
    for groups in [0, 1, 201] {
        assert!(matches!(grouped_jackknife(200, groups, bound), Err(Refused::Parameter { .. })));
    }
    Ok(())
}

#[test]
fn passes_over_shards_are_one_pass() -> Outcome {
    let z = normal(&mut rng(7), (30, 3));
    let labels: Vec<usize> = (0..30).map(|row| row % 2).collect();
    let mut moments = ClassMoments::new(2, 3)?;
    moments.update(z.view(), &labels)?;
    let pass = |rows: std::ops::Range<usize>| {
        let mut pass = DeviationPass::new(&moments)?;
        pass.update(z.slice(s![rows.clone(), ..]), &labels[rows])?;
        Ok::<_, Refused>(pass)
    };
    let mut merged = pass(0..11)?;
    merged.merge(pass(11..30)?)?;
    assert_eq!(merged.finish()?, pass(0..30)?.finish()?);
    let mut others = ClassMoments::new(2, 3)?;
    others.update(z.slice(s![..20, ..]), &labels[..20])?;
    let before = pass(0..11)?;
    let mut kept = before.clone();
    let refused = kept.merge(DeviationPass::new(&others)?);
    assert!(matches!(refused, Err(Refused::PassCounts { class: 0, first: 15, second: 10 })));
    kept.merge(pass(11..30)?)?;
    assert_eq!(kept.finish()?.images(), 30);
    Ok(())
}

/// What was too wide is estimated from a projection, and says so; the flag's words say how.
#[test]
fn too_many_dimensions_are_offered_a_projection() -> Outcome {
    let z = normal(&mut rng(8), (300, 24));
    let y = z.slice(s![.., ..1]).to_owned();
    let wide = ksg1_nats(z.view(), y.view(), plain())??;
    let flag = wide.flags.iter().find(|flag| matches!(flag, Flag::HighDimension(25)));
    let words = flag.ok_or("twenty-five dimensions are too many")?.to_string();
    assert!(words.contains("project(rows, 10, seed)"), "{words}");
    let narrow = project(z.view(), 5, 1)?.estimate(|rows| ksg1_nats(rows, y.view(), plain()))??;
    assert_eq!(narrow.flags, [Flag::Projected { from: 24, to: 5 }]);
    // Pairs are projected alike.
    let both = concatenate![Axis(0), z, z];
    let tied = project(both.view(), 5, 1)?
        .estimate(|rows| kozachenko_leonenko_nats(rows, Metric::Euclidean, plain()))??;
    says(&tied, &[Flag::Ties(600), Flag::Projected { from: 24, to: 5 }]);
    Ok(())
}
