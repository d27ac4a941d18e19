//! Estimators of nearest neighbours of one sample: entropies and dimensions.

use gpz_estimators::dimension::{Averaging, levina_bickel, two_nn};
use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::gaussian;
use gpz_estimators::{KNN_DIMENSIONS, Metric, Neighbours};
use ndarray::{Array2, ArrayView2};

use super::answers::{Answer, Answers};
use super::case::Case;
use super::mixtures::Law;

/// Parts of the rows behind a standard error, where only the value is asked for: none.
const NO_PARTS: usize = 0;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    let named = |name: &str| {
        ["kl_entropy", "entropy_z", "twonn", "mle_levina", "intrinsic_dim"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let about_rows =
        matches!(case.group.as_str(), "labels" | "entropy" | "degenerate" | "intrinsic_dim")
            && answers.wants_behaviour();
    if !about_rows && !answers.asks(named) {
        return;
    }
    let Some(z) = case.matrix("z") else { return };
    let euclidean = |k| kozachenko_leonenko_nats(z.view(), Metric::Euclidean, options(k));
    if case.group == "intrinsic_dim" {
        answers.behave_by(|| two_nn(z.view(), NO_PARTS));
        answers.behave_by(|| averaged(z.view(), Averaging::OfEstimates));
    } else if about_rows && (case.group != "labels" || z.ncols() <= KNN_DIMENSIONS) {
        // Statements about classes take any width.
        answers.behave_by(|| euclidean(3));
    }
    answers.put("kl_entropy_k3", || euclidean(3));
    answers.put("kl_entropy_k2", || euclidean(2));
    answers.put("kl_entropy_k3_maxnorm", || {
        kozachenko_leonenko_nats(z.view(), Metric::Maximum, options(3))
    });
    for name in ["entropy_z", "entropy_z_population"] {
        if answers.wants(name)
            && let Some(value) = entropy(&z)
        {
            // What is known of the law narrows what is estimated from its rows.
            let value = Law::of(case).map_or(value, |law| law.within_entropy(value));
            answers.put_all(name, || vec![value]);
        }
    }
    answers.put("twonn_mle", || two_nn(z.view(), NO_PARTS));
    answers.put("intrinsic_dim", || two_nn(z.view(), NO_PARTS));
    answers.put("mle_levina_bickel_mackay_k20", || averaged(z.view(), Averaging::OfInverses));
    answers.put("mle_levina_bickel_mean_k20", || averaged(z.view(), Averaging::OfEstimates));
}

fn options(k: usize) -> Neighbours {
    Neighbours::nth(k).without_std_err()
}

fn averaged(
    z: ArrayView2<'_, f64>,
    averaging: Averaging,
) -> Result<gpz_estimators::Estimated, gpz_estimators::Error> {
    levina_bickel(z, options(20), averaging)
}

/// The smaller of two that err high: neighbours, on columns of unit deviation, by the number of dimensions, and the Gaussian entropy by
/// what the law is not Gaussian. Where rows are too few for a covariance, the shrunk one stands in.
fn entropy(z: &Array2<f64>) -> Option<f64> {
    let deviations = z.std_axis(ndarray::Axis(0), 1.0);
    let spread = deviations.iter().all(|&deviation| deviation > 0.0 && deviation.is_finite());
    let near = if spread {
        let standard = z / &deviations;
        let near = kozachenko_leonenko_nats(standard.view(), Metric::Euclidean, options(3));
        near.split().0.map(|near| near + deviations.mapv(f64::ln).sum())
    } else {
        kozachenko_leonenko_nats(z.view(), Metric::Euclidean, options(3)).split().0
    };
    let gaussian = gaussian::entropy_corrected_nats(z.view()).split().0.or_else(|| {
        let shrunk = gaussian::ledoit_wolf(z.view()).ok()?.ok()?;
        Some(shrunk.entropy.value)
    });
    match (near, gaussian) {
        (Some(near), Some(gaussian)) => Some(near.min(gaussian)),
        (near, gaussian) => near.or(gaussian),
    }
}
