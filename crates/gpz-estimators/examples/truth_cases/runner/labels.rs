//! What features tell about labels, and the entropies that follow.

use gpz_estimators::entropy::discrete::{Codes, miller_madow_entropy_nats, plugin_entropy_nats};
use gpz_estimators::gaussian;
use gpz_estimators::information::discrete::miller_madow_mi_nats;
use gpz_estimators::information::{mixed::gao_nats, qda, ross::ross_nats};
use gpz_estimators::{KNN_DIMENSIONS, Neighbours};
use ndarray::Array2;

use super::answers::{Answer, Answers};
use super::case::{Case, on_rows};
use super::mixtures::Law;

/// Standard errors by which neighbours must exceed a parametric estimate to be believed instead.
pub(crate) const BEYOND: f64 = 3.0;
/// Products that distances may take where they are a second opinion.
const WORK: f64 = 1e11;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    if !case.has("z") {
        return;
    }
    let Some((labels, named)) = case.class_indices() else { return };
    let classes = named.len();
    let conditional = |corrected| {
        let z = case.rows("z")?;
        Some(on_rows!(z, z => if corrected {
            gaussian::class_conditional_corrected_nats(z, &labels, classes)
        } else {
            gaussian::class_conditional_bound_nats(z, &labels, classes)
        }))
    };
    answers.put("class_cond_gauss_entropy", || conditional(false));
    for name in ["class_cond_gauss_entropy_wishart", "entropy_z_given_y"] {
        answers.put(name, || conditional(true));
    }
    let fitted = || Some(on_rows!(case.rows("z")?, z => qda::crossfit_nats(z, &labels, classes)));
    answers.put("qda_crossfit_mi", fitted);
    let neighbours = || {
        let options = Neighbours::nth(3).without_std_err();
        Some(on_rows!(case.rows("z")?, z => ross_nats(z, &labels, options)))
    };
    answers.put("ross_k3", neighbours);
    answers.put("gao_mixed_k5_reference", || {
        let options = Neighbours::nth(5).without_std_err();
        let labels = labels.iter().map(|&label| label as f64).collect();
        let labels = Array2::from_shape_vec((case.dims("z")?.0, 1), labels).ok()?;
        Some(on_rows!(case.rows("z")?, z => gao_nats(z, labels.view(), options)))
    });
    if case.group == "mixture" {
        answers.behave_by(|| conditional(true));
        answers.behave_by(fitted);
        answers.behave_by(neighbours);
    }
    let law = Law::of(case);
    let about_entropy = (law.is_some() || case.dims("z").is_some_and(|(_, d)| d > KNN_DIMENSIONS))
        && ["entropy_z", "entropy_z_population"].iter().any(|name| answers.wants(name));
    let about_labels =
        answers.wants("mi_label") || (answers.wants("mi") && !case.has("x") && !case.has("y"));
    if !about_entropy && !about_labels {
        return;
    }
    let Some(mi) = information(case, &labels, classes) else { return };
    let mi = law.as_ref().map_or(mi, |law| law.within_information(mi));
    for name in ["mi_label", "mi"] {
        if name == "mi_label" || about_labels {
            answers.put_all(name, || vec![mi]);
        }
    }
    if about_entropy && let Some(given) = conditional(true).split().0 {
        let entropy = law.map_or(given + mi, |law| law.within_entropy(given + mi));
        for name in ["entropy_z", "entropy_z_population"] {
            answers.put_all(name, || vec![entropy]);
        }
    }
}

/// `I(Z;Y)` by the estimator that suits the rows, at most the entropy of the labels.
pub(crate) fn information(case: &Case, labels: &[usize], classes: usize) -> Option<f64> {
    let (_, width) = case.dims("z")?;
    let z = case.rows("z")?;
    let of_labels = Codes::of_symbols(labels).ok()?;
    if case.holds_integers("z") {
        let codes = on_rows!(z, z => Codes::of_rows(z)).ok()?;
        return miller_madow_mi_nats(&codes, &of_labels).split().0;
    }
    let fitted = on_rows!(z, z => qda::crossfit_nats(z, labels, classes)).ok().and_then(Result::ok);
    let near = || on_rows!(z, z => ross_nats(z, labels, Neighbours::nth(3))).ok();
    let value = match fitted {
        // Distances cost n²·d.
        Some(fitted) if (labels.len() as f64).powi(2) * width as f64 > WORK => fitted.value,
        Some(fitted) => match near() {
            Some(Ok(near))
                if near.value > fitted.value + BEYOND * near.std_err.unwrap_or_default() =>
            {
                near.value
            }
            _ => fitted.value,
        },
        None => match near()? {
            Ok(near) => near.value,
            // Rows that repeat.
            Err(_) => {
                let column = labels.iter().map(|&label| label as f64).collect();
                let column = Array2::from_shape_vec((labels.len(), 1), column).ok()?;
                let options = Neighbours::nth(5).without_std_err();
                on_rows!(z, z => gao_nats(z, column.view(), options)).split().0?
            }
        },
    };
    let most =
        plugin_entropy_nats(&of_labels).value.max(miller_madow_entropy_nats(&of_labels).value);
    Some(value.min(most))
}
