//! Distance correlation.

use gpz_estimators::dependence::{distance_correlation_sq, distance_correlation_v};

use super::answers::Answers;
use super::case::Case;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    if case.group != "dcor" && !answers.asks(|name| name.starts_with("dcor_")) {
        return;
    }
    let (Some(x), Some(y)) = (case.matrix("x"), case.matrix("y")) else { return };
    answers.put("dcor_v", || distance_correlation_v(x.view(), y.view()));
    let squared = distance_correlation_sq(x.view(), y.view());
    if case.group == "dcor" {
        answers.behave_as(&squared);
    }
    if let Ok(Ok(squared)) = &squared {
        // The root of an estimate of the square, with the sign that the estimate has.
        let root = squared.value.abs().sqrt().copysign(squared.value);
        answers.put_all("dcor_population", || vec![root]);
    }
    answers.put("dcor_u_sqr", || squared);
}
