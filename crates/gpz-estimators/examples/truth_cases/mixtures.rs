//! Pairwise bounds: mixtures with stored parameters, and points sent through noise.

use gpz_estimators::entropy::mixture::{GaussianMixture, noise_information_bounds_nats};

use crate::answers::{Answer, Answers, Finding};
use crate::case::Case;

/// Bounds of `h(Z)` that follow from the law where its parameters are stored with the rows.
pub(crate) fn entropy_bounds(case: &Case) -> Option<(f64, f64)> {
    let (weights, means) = (case.vector("weights")?, case.matrix("means")?);
    let mixture = GaussianMixture::new(&weights, means.view(), case.stack("covs")?.view()).ok()?;
    let bounds = mixture.entropy_bounds_nats();
    Some((bounds.lower.split().0?, bounds.upper.split().0?))
}

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    if let (Some(weights), Some(means), Some(covariances)) =
        (case.vector("weights"), case.matrix("means"), case.stack("covs"))
    {
        match GaussianMixture::new(&weights, means.view(), covariances.view()) {
            Ok(mixture) => {
                let bounds = mixture.entropy_bounds_nats();
                answers.put("kt_lower_bd", || bounds.lower);
                answers.put("kt_upper_kl", || bounds.upper);
            }
            Err(_) => answers.behave(Finding::Error),
        }
    }
    // Rows as the source's points, the noise declared.
    let sigma = case.scalar("sigma").or(case.scalar("sigma2").map(f64::sqrt));
    let asked = answers.asks(|name| matches!(name, "mi_saturated" | "kt_lower_bd" | "kt_upper_kl"));
    if let (Some(z), Some(sigma), true) = (case.matrix("z"), sigma, asked) {
        match noise_information_bounds_nats(z.view(), sigma) {
            Ok(bounds) => {
                // Of two bounds the worse news.
                answers.behave_as(&bounds.upper);
                answers.put("kt_lower_bd", || bounds.lower.clone());
                answers.put("kt_upper_kl", || bounds.upper.clone());
                answers.put("mi_saturated", || bounds.lower);
            }
            Err(_) => answers.behave(Finding::Error),
        }
    }
}
