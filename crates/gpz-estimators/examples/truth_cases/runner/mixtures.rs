//! Gaussian mixtures whose parameters are stored with the rows.

use gpz_estimators::entropy::mixture::{Bounds, GaussianMixture};
use ndarray::{Array1, Array2, Axis};

use super::answers::{Answers, Finding};
use super::case::Case;

/// What follows from a stored law of its rows' entropy and of what they tell about their component.
pub(crate) struct Law {
    entropy: (f64, f64),
    information: (f64, f64),
}

impl Law {
    pub(crate) fn of(case: &Case) -> Option<Self> {
        let mixture = stored(case)?.ok()?;
        let weights = case.vector("weights")?;
        let of_weights = weights.iter().filter(|w| **w > 0.0).map(|w| -w * w.ln()).sum::<f64>();
        let (entropy, information) =
            (mixture.entropy_bounds_nats(), mixture.information_bounds_nats());
        let gaussian = maximum(case, &weights)?;
        let ends = |bounds: &Bounds| (bounds.lower.value, bounds.upper.value);
        let (low, high) = ends(&entropy);
        let (least, most) = ends(&information);
        Some(Self {
            entropy: (low, high.min(gaussian)),
            information: (least.max(0.0), most.min(of_weights)),
        })
    }

    pub(crate) fn within_entropy(&self, value: f64) -> f64 {
        // Where both ends are equal, rounding may have put them in the wrong order.
        value.max(self.entropy.0).min(self.entropy.1)
    }

    pub(crate) fn within_information(&self, value: f64) -> f64 {
        value.max(self.information.0).min(self.information.1)
    }
}

fn stored(case: &Case) -> Option<Result<GaussianMixture, gpz_estimators::Error>> {
    let (weights, means) = (case.vector("weights")?, case.matrix("means")?);
    Some(GaussianMixture::new(&weights, means.view(), case.stack("covs")?.view()))
}

/// Entropy of the Gaussian with the mixture's covariance, which is the most that it can be.
fn maximum(case: &Case, weights: &[f64]) -> Option<f64> {
    let (means, covariances) = (case.matrix("means")?, case.stack("covs")?);
    let mean = Array1::from_vec(weights.to_vec()).dot(&means);
    let mut total = Array2::<f64>::zeros((means.ncols(), means.ncols()));
    for ((weight, centre), own) in weights.iter().zip(means.rows()).zip(covariances.outer_iter()) {
        let apart = (&centre - &mean).insert_axis(Axis(1));
        total.scaled_add(*weight, &(&own + &apart.dot(&apart.t())));
    }
    let (one, centre) = ([1.0], mean.insert_axis(Axis(0)));
    let whole = GaussianMixture::new(&one, centre.view(), total.insert_axis(Axis(0)).view());
    Some(whole.ok()?.entropy_bounds_nats().upper.value)
}

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    match stored(case) {
        None => {}
        Some(Ok(mixture)) => {
            let bounds = match case.group.as_str() {
                "conditional_entropy" => mixture.information_bounds_nats(),
                _ => mixture.entropy_bounds_nats(),
            };
            answers.put("kt_lower_bd", || bounds.lower);
            answers.put("kt_upper_kl", || bounds.upper);
        }
        Some(Err(_)) => answers.behave(Finding::Error),
    }
}
