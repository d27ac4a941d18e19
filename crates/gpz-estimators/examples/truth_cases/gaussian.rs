//! Gaussian entropies and informations, spectra, shrinkage, neural collapse.

use gpz_estimators::collapse::{Classifier, collapse};
use gpz_estimators::gaussian::{self, ledoit_wolf};
use gpz_estimators::information::{gaussian as information, qda};
use gpz_estimators::spectrum::{MarchenkoPastur, Spectrum};
use gpz_estimators::{KNN_DIMENSIONS, Normalisation};
use ndarray::{Array1, Array2};

use crate::answers::{Answer, Answers};
use crate::case::Case;

/// Room above the edge of noise where the name of the quantity gives none.
const MARGIN: f64 = 1.02;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    if let (Some(x), Some(y)) = (case.matrix("x"), case.matrix("y")) {
        answers.put("gaussian_mi_plugin", || information::mi_plugin_nats(x.view(), y.view()));
        answers.put("mi_gaussian_behaviour", || information::mi_corrected_nats(x.view(), y.view()));
    }
    if let Some(z) = case.matrix("z") {
        entropies(case, answers, &z);
        classes(case, answers, &z);
        spectra(case, answers, &z);
        shrinkage(answers, &z);
    }
}

fn entropies(case: &Case, answers: &mut Answers<'_>, z: &Array2<f64>) {
    if case.group == "degenerate" && answers.wants_behaviour() {
        answers.behave_as(&gaussian::full_bound_nats(z.view()));
    }
    for name in ["gaussian_upper_full", "gaussian_plugin_entropy"] {
        answers.put(name, || gaussian::full_bound_nats(z.view()));
    }
    for name in ["logdet_cov", "logdet_naive"] {
        answers.put(name, || gaussian::log_det_nats(z.view()));
    }
    for name in ["logdet_wishart_corrected", "logdet_population"] {
        answers.put(name, || gaussian::log_det_corrected_nats(z.view()));
    }
    // Where distances between rows say little, for their number of dimensions or for scales that differ by many orders.
    if z.ncols() > KNN_DIMENSIONS || case.group == "conditioning" {
        answers.put("entropy_z", || gaussian::entropy_corrected_nats(z.view()));
    }
}

fn classes(case: &Case, answers: &mut Answers<'_>, z: &Array2<f64>) {
    let Some((labels, classes)) = case.class_indices() else { return };
    answers.put("class_cond_gauss_entropy", || {
        gaussian::class_conditional_bound_nats(z.view(), &labels, classes)
    });
    for name in ["class_cond_gauss_entropy_wishart", "entropy_z_given_y"] {
        answers
            .put(name, || gaussian::class_conditional_corrected_nats(z.view(), &labels, classes));
    }
    answers.put("qda_crossfit_mi", || qda::crossfit_nats(z.view(), &labels, classes));
    if !answers.asks(|name| name.starts_with("nc")) {
        return;
    }
    let classifier = case.matrix("w").zip(case.vector("b"));
    let classifier = classifier.map(|(weights, bias)| (weights, Array1::from_vec(bias)));
    let classifier = classifier
        .as_ref()
        .map(|(weights, bias)| Classifier { weights: weights.view(), bias: bias.view() });
    let Ok(found) = collapse(z.view(), &labels, classes, classifier) else { return };
    answers.put("nc1_trace", || found.nc1_trace);
    answers.put("nc2_equinorm", || found.nc2_equinorm);
    answers.put("nc2_equiangle", || found.nc2_equiangle);
    answers.put("nc2_angle_std", || found.nc2_angle_std);
    if let Some(duality) = found.nc3_self_duality {
        answers.put("nc3_self_duality", || duality);
    }
    if let Some(agreement) = found.nc4_agreement {
        answers.put("nc4_agreement", || agreement);
    }
}

fn spectra(case: &Case, answers: &mut Answers<'_>, z: &Array2<f64>) {
    let variance = case.scalar("sigma2").unwrap_or(1.0);
    let aspect = z.ncols() as f64 / z.nrows().max(1) as f64;
    if answers.wants("mp_edges")
        && let Ok(noise) = MarchenkoPastur::new(variance, aspect)
    {
        let (low, high) = noise.edges();
        answers.put_all("mp_edges", || vec![low, high]);
    }
    let named = |name: &str| {
        let spectral = ["participation_ratio", "effective_rank", "eigs_above_edge", "top"];
        spectral.iter().any(|start| name.starts_with(start))
            || ["cov_rank", "n_spikes_detectable"].contains(&name)
    };
    let wide = case.group == "d_gg_n" && answers.wants_behaviour();
    if !wide && !answers.asks(named) {
        return;
    }
    let spectrum = Spectrum::of(z.view());
    if wide {
        answers.behave_as(&spectrum.as_ref().map(Spectrum::effective_rank).map_err(Clone::clone));
    }
    let Ok(spectrum) = spectrum else { return };
    answers.put("participation_ratio", || spectrum.participation_ratio());
    answers.put("participation_ratio_population", || spectrum.participation_ratio_corrected());
    answers.put("effective_rank_entropy", || spectrum.effective_rank());
    answers.put_all("cov_rank", || vec![spectrum.rank() as f64]);
    let above = |margin| spectrum.above_edge(variance, margin, Normalisation::Unbiased);
    let counted: Vec<(String, f64)> = case
        .asked
        .iter()
        .filter_map(|asked| {
            let margin = asked.quantity.strip_prefix("eigs_above_edge_times_")?.parse().ok()?;
            Some((asked.quantity.clone(), margin))
        })
        .collect();
    for (name, margin) in counted {
        if let Ok(count) = above(margin) {
            answers.put_all(&name, || vec![count as f64]);
        }
    }
    let spikes = above(MARGIN).unwrap_or(0);
    answers.put_all("n_spikes_detectable", || vec![spikes as f64]);
    let top = |count: usize| spectrum.eigenvalues().iter().take(count).copied().collect();
    answers.put_all("top_eigenvalues_expected", || top(spikes));
    for count in 1..=spectrum.eigenvalues().len().min(20) {
        answers.put_all(&format!("top{count}_eigenvalues"), || top(count));
    }
}

fn shrinkage(answers: &mut Answers<'_>, z: &Array2<f64>) {
    if answers.asks(|name| name.starts_with("ledoit_wolf"))
        && let Ok(Ok(shrunk)) = ledoit_wolf(z.view())
    {
        answers.put_all("ledoit_wolf_shrinkage", || vec![shrunk.shrinkage]);
        answers.put_all("ledoit_wolf_logdet", || shrunk.log_det.split().0.into_iter().collect());
        answers.put_all("ledoit_wolf_entropy", || shrunk.entropy.split().0.into_iter().collect());
    }
}
