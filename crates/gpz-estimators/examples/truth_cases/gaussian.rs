//! Gaussian entropies and informations, spectra, shrinkage, neural collapse.

use gpz_estimators::gaussian;

use crate::answers::Answers;
use crate::case::Case;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    let asked = answers.asks(|name| name == "gaussian_upper_full");
    let degenerate = case.group == "degenerate" && answers.wants_behaviour();
    let within = answers.wants("class_cond_gauss_entropy");
    let Some(z) = case.matrix("z").filter(|_| asked || degenerate || within) else { return };
    if asked || degenerate {
        let bound = gaussian::full_bound_nats(z.view());
        if degenerate {
            answers.behave_as(&bound);
        }
        answers.put("gaussian_upper_full", || bound);
    }
    if within && let Some(labels) = case.labels() {
        let labels: Option<Vec<usize>> = labels.iter().map(|&l| usize::try_from(l).ok()).collect();
        if let Some(labels) = labels {
            let classes = labels.iter().copied().max().unwrap_or(0) + 1;
            answers.put("class_cond_gauss_entropy", || {
                gaussian::class_conditional_bound_nats(z.view(), &labels, classes)
            });
        }
    }
}
