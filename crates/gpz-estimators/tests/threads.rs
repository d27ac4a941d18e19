//! The number of threads changes no bit of any estimate: the same process with one thread and with three.
#![cfg(feature = "lapack-base")]

mod common;

use std::process::Command;

use common::case::Outcome;
use common::{labels, normal, rng};
use gpz_estimators::channel::{
    Channel, NoisySource, RidgeAttack, code_entropy_nats, code_entropy_sum_nats,
    noise_information_full_nats, noise_information_nats, ridge_attack_mse,
};
use gpz_estimators::collapse::collapse;
use gpz_estimators::dependence::{distance_correlation_sq, distance_correlation_v};
use gpz_estimators::dimension::{Averaging, levina_bickel, two_nn};
use gpz_estimators::entropy::discrete::{Codes, miller_madow_entropy_nats};
use gpz_estimators::entropy::kde::{Bandwidth, kde_entropy_loo_nats};
use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::entropy::mixture::noise_information_bounds_nats;
use gpz_estimators::gaussian::{self, MaximumEntropy};
use gpz_estimators::information::discrete::binned_mi_nats;
use gpz_estimators::information::gaussian::mi_corrected_nats;
use gpz_estimators::information::ksg::{ksg1_nats, ksg2_nats};
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::information::qda;
use gpz_estimators::information::ross::ross_nats;
use gpz_estimators::spectrum::Spectrum;
use gpz_estimators::{ClassMoments, Estimate, Metric, Neighbours, project};
use ndarray::Axis;

/// The estimates' bits, one line each.
fn all() -> Outcome<String> {
    let mut rng = rng(77);
    let z = normal(&mut rng, (1500, 6));
    let y = labels(&mut rng, 1500, 4);
    let (a, b) = z.view().split_at(Axis(1), 3);
    let (one, other) = (z.slice(ndarray::s![.., ..1]), z.slice(ndarray::s![.., 1..2]));
    let k = Neighbours::default();
    let wide = normal(&mut rng, (60, 5000)).mapv(|value| value as f32);
    let mut moments = ClassMoments::new(4, 6)?;
    moments.update(z.view(), &y)?;
    let geometry = moments.geometry()?;
    let bounds = MaximumEntropy::of_classes(z.view(), &y, 4)?;
    let noisy = NoisySource::simulate(z.slice(ndarray::s![..40, ..]), None, 0.7, 20, 3)?;
    let codes = Channel::of_bits(3..4, -4.0, 4.0)?[0].codes(z.view())?.ok_or("codes")?;
    let mixture = noise_information_bounds_nats(z.view(), 0.5)?;
    let collapsed = collapse(z.view(), &y, 4, None)?;
    let shrunk = gaussian::ledoit_wolf(wide.view())??;
    let estimates: Vec<Estimate> = vec![
        kozachenko_leonenko_nats(z.view(), Metric::Euclidean, k)??,
        kozachenko_leonenko_nats(one, Metric::Maximum, k)??,
        ksg1_nats(a, b, k)??,
        ksg1_nats(one, other, k)??,
        ksg2_nats(a, b, k)??,
        gao_nats(a, b, k)??,
        ross_nats(z.view(), &y, k)??,
        two_nn(z.view(), 8)??,
        levina_bickel(z.view(), k, Averaging::OfInverses)??,
        distance_correlation_sq(a, b)??,
        distance_correlation_v(one, other)??,
        kde_entropy_loo_nats(z.view(), Bandwidth::Scott)??,
        miller_madow_entropy_nats(&Codes::of_bins(z.view(), 5)?),
        binned_mi_nats(one, other, 8)?,
        mi_corrected_nats(a, b)??,
        qda::crossfit_nats(z.view(), &y, 4)??,
        bounds.isotropic?,
        bounds.diagonal?,
        bounds.full?,
        gaussian::class_conditional_corrected_nats(z.view(), &y, 4)??,
        shrunk.log_det,
        gaussian::oas(wide.view())??.log_det,
        Spectrum::of(wide.view())?.effective_rank()?,
        Spectrum::of(z.view())?.participation_ratio()?,
        collapsed.nc1_trace?,
        collapsed.nc2_equiangle?,
        noise_information_nats(z.view(), 0.5)??,
        noise_information_full_nats(wide.view(), 0.5)??,
        ridge_attack_mse(a, b, RidgeAttack::default())??,
        noisy.mi_nats(),
        mixture.lower,
        mixture.upper,
        code_entropy_nats(codes.view())?,
        code_entropy_sum_nats(codes.view())?,
    ];
    let bits = |value: f64| format!("{:016x}", value.to_bits());
    let mut lines: Vec<String> = estimates
        .iter()
        .map(|e| format!("{} {}", bits(e.value), bits(e.std_err.unwrap_or(0.0))))
        .collect();
    lines.push(bits(geometry.within()));
    let projected = project(wide.view(), 4, 9)?;
    lines.extend(projected.rows.iter().map(|value| bits(*value)));
    Ok(lines.join("\n"))
}

/// Where a run with a set number of threads writes its bits; set in none but those.
const WRITE_TO: &str = "GPZ_ESTIMATORS_WRITE_BITS_TO";

#[test]
fn no_bit_depends_on_the_number_of_threads() -> Outcome<()> {
    if let Some(path) = std::env::var_os(WRITE_TO) {
        return Ok(std::fs::write(path, all()?)?);
    }
    let with = |threads: &str| -> Outcome<String> {
        let path = format!("{}/bits-{threads}-threads", env!("CARGO_TARGET_TMPDIR"));
        let run = Command::new(std::env::current_exe()?)
            .args(["--exact", "no_bit_depends_on_the_number_of_threads"])
            .env(WRITE_TO, &path)
            .env("RAYON_NUM_THREADS", threads)
            .output()?;
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        Ok(std::fs::read_to_string(path)?)
    };
    let (one, three) = (with("1")?, with("3")?);
    let lines = one.lines().zip(three.lines()).enumerate();
    let differ: Vec<usize> = lines.filter(|(_, (a, b))| a != b).map(|(line, _)| line).collect();
    assert!(differ.is_empty() && one.lines().count() > 30, "lines {differ:?} differ");
    Ok(())
}
