//! What careful estimators say of rows that no topic was about.

use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::{Metric, Neighbours, RowReport, gaussian};

use super::answers::{Answers, Finding};
use super::case::{Case, on_rows};

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    if !answers.wants_behaviour() || !answers.found_nothing() {
        return;
    }
    let Some(rows) = ["z", "x", "codes", "bits"].iter().find_map(|name| case.rows(name)) else {
        return answers.behave(Finding::Error);
    };
    let report = on_rows!(rows, rows => RowReport::of(rows));
    match report {
        Err(_) => answers.behave(Finding::Error),
        Ok(report) if report.duplicate_rows > 0 || !report.constant_columns.is_empty() => {
            answers.behave(Finding::Flag);
        }
        Ok(_) => {
            let options = Neighbours::nth(3).without_std_err();
            answers.behave_as(
                &on_rows!(rows, z => kozachenko_leonenko_nats(z, Metric::Euclidean, options)),
            );
            answers.behave_by(|| on_rows!(rows, z => gaussian::full_bound_nats(z)));
        }
    }
}
