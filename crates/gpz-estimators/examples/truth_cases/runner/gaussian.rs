//! Gaussian entropies, spectra, shrinkage, neural collapse: all rows at once, as they are stored.

use gpz_estimators::collapse::{Classifier, Collapse, collapse};
use gpz_estimators::gaussian::{self, ledoit_wolf};
use gpz_estimators::spectrum::{MarchenkoPastur, Spectrum};
use gpz_estimators::{Element, Error, Normalisation};
use ndarray::{Array1, ArrayView2};

use super::answers::{Answers, Finding};
use super::case::{Case, on_rows};

/// Least room above the edge of noise where the name of the quantity gives none.
const MARGIN: f64 = 1.02;
/// What Tracy and Widom's law of the largest eigenvalue of real noise exceeds in one sample of a hundred.
const ONE_IN_A_HUNDRED: f64 = 2.023;

/// Room above the edge that the largest eigenvalue of noise alone exceeds in one sample of a hundred (Johnstone 2001), and at least
/// [`MARGIN`].
fn margin(rows: usize, width: usize) -> f64 {
    let [n, d] = [rows.saturating_sub(1).max(1), width].map(|side| (side as f64).sqrt());
    let scale = (n + d) * (1.0 / n + 1.0 / d).cbrt();
    let edge = (1.0 + d / (rows as f64).sqrt()).powi(2) * n * n;
    MARGIN.max(((n + d).powi(2) + ONE_IN_A_HUNDRED * scale) / edge)
}

const ENTROPIES: [&str; 6] = [
    "gaussian_upper_full",
    "gaussian_plugin_entropy",
    "logdet_cov",
    "logdet_naive",
    "logdet_wishart_corrected",
    "logdet_population",
];

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    edges(case, answers);
    let named =
        |name: &str| ENTROPIES.contains(&name) || name.starts_with("ledoit_wolf") || spectral(name);
    let about_rows =
        matches!(case.group.as_str(), "degenerate" | "d_gg_n") && answers.wants_behaviour();
    if (about_rows || answers.asks(named))
        && let Some(z) = case.rows("z")
    {
        on_rows!(z, z => rows(case, answers, z));
    }
    let about_classes = case.group == "neural_collapse" && answers.wants_behaviour();
    if about_classes || answers.asks(|name| name.starts_with("nc")) {
        classes(case, answers);
    }
}

fn rows<T: Element>(case: &Case, answers: &mut Answers<'_>, z: ArrayView2<'_, T>) {
    spectra(case, answers, z);
    if case.group == "degenerate" {
        answers.behave_by(|| gaussian::full_bound_nats(z));
    }
    for name in ["gaussian_upper_full", "gaussian_plugin_entropy"] {
        answers.put(name, || gaussian::full_bound_nats(z));
    }
    for name in ["logdet_cov", "logdet_naive"] {
        answers.put(name, || gaussian::log_det_nats(z));
    }
    for name in ["logdet_wishart_corrected", "logdet_population"] {
        answers.put(name, || gaussian::log_det_corrected_nats(z));
    }
    let shrunken = ["ledoit_wolf_shrinkage", "ledoit_wolf_logdet", "ledoit_wolf_entropy"];
    // The population's, too, where rows are too few for a covariance.
    if shrunken.iter().chain(&["logdet_population"]).any(|name| answers.wants(name))
        && let Ok(Ok(shrunk)) = ledoit_wolf(z)
    {
        answers.put_all("ledoit_wolf_shrinkage", || vec![shrunk.shrinkage]);
        answers.put("logdet_population", || shrunk.log_det.clone());
        answers.put("ledoit_wolf_logdet", || shrunk.log_det);
        answers.put("ledoit_wolf_entropy", || shrunk.entropy);
    }
}

fn classes(case: &Case, answers: &mut Answers<'_>) {
    let (Some(z), Some(labels), Some((indices, present))) =
        (case.rows("z"), case.labels(), case.class_indices())
    else {
        return;
    };
    let classifier = case.matrix("w").zip(case.vector("b"));
    // A classifier has a row for each class declared, with or without rows here; labels are its rows' numbers unless it has
    // just as many rows as classes occur.
    let declared = classifier.as_ref().map_or(present.len(), |(weights, _)| weights.nrows());
    let rows: Option<Vec<usize>> =
        labels.iter().map(|&y| usize::try_from(y).ok().filter(|&y| y < declared)).collect();
    let (labels, classes) = match rows {
        Some(rows) if declared != present.len() => (rows, declared),
        _ => (indices, present.len()),
    };
    let classifier = classifier
        .filter(|(weights, _)| weights.nrows() == classes)
        .map(|(weights, bias)| (weights, Array1::from_vec(bias)));
    let classifier = classifier
        .as_ref()
        .map(|(weights, bias)| Classifier { weights: weights.view(), bias: bias.view() });
    let found: Result<Collapse, Error> =
        on_rows!(z, z => collapse(z, &labels, classes, classifier));
    if case.group == "neural_collapse" {
        answers
            .behave_as(&found.as_ref().map(|found| found.nc1_trace.clone()).map_err(Clone::clone));
    }
    let Ok(found) = found else { return };
    answers.put("nc1_trace", || found.nc1_trace);
    answers.put("nc2_equinorm", || found.nc2_equinorm);
    answers.put("nc2_equiangle", || found.nc2_equiangle);
    answers.put("nc2_angle_std", || found.nc2_angle_std);
    answers.put("nc3_self_duality", || found.nc3_self_duality);
    answers.put("nc4_agreement", || found.nc4_agreement);
}

/// Edges follow from shape and noise alone.
fn edges(case: &Case, answers: &mut Answers<'_>) {
    if answers.wants("mp_edges")
        && let Some((rows, width)) = case.dims("z")
        && let Ok(noise) = MarchenkoPastur::new(variance(case), width as f64 / rows.max(1) as f64)
    {
        let (low, high) = noise.edges();
        answers.put_all("mp_edges", || vec![low, high]);
    }
}

fn variance(case: &Case) -> f64 {
    case.noise_variance().unwrap_or(1.0)
}

fn spectral(name: &str) -> bool {
    ["participation_ratio", "effective_rank", "eigs_above_edge", "top"]
        .iter()
        .any(|start| name.starts_with(start))
        || ["cov_rank", "n_spikes_detectable"].contains(&name)
}

fn spectra<T: Element>(case: &Case, answers: &mut Answers<'_>, z: ArrayView2<'_, T>) {
    let wide = case.group == "d_gg_n" && answers.wants_behaviour();
    if !wide && !answers.asks(spectral) {
        return;
    }
    let spectrum = Spectrum::of(z);
    if wide {
        // Eigenvalues from the smaller side: a value where there is variance, and where it is one of noise as well.
        answers.behave(match &spectrum {
            Err(_) => Finding::Error,
            Ok(spectrum) if spectrum.rank() == 0 => Finding::Refusal,
            Ok(_) => Finding::Value,
        });
    }
    let Ok(spectrum) = spectrum else { return };
    answers.put("participation_ratio", || spectrum.participation_ratio());
    answers.put("participation_ratio_population", || spectrum.participation_ratio_corrected());
    answers.put("effective_rank_entropy", || spectrum.effective_rank());
    answers.put_all("cov_rank", || vec![spectrum.rank() as f64]);
    let above = |margin| spectrum.above_edge(variance(case), margin, Normalisation::Unbiased);
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
    let spikes = above(margin(z.nrows(), z.ncols())).unwrap_or(0);
    answers.put_all("n_spikes_detectable", || vec![spikes as f64]);
    let top = |count: usize| spectrum.eigenvalues().iter().take(count).copied().collect();
    answers.put_all("top_eigenvalues_expected", || top(spikes));
    for count in 1..=spectrum.eigenvalues().len().min(100) {
        answers.put_all(&format!("top{count}_eigenvalues"), || top(count));
    }
}
