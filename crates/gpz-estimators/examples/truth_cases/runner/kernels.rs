//! Kernel densities, matrix-based Rényi quantities, critics.

use gpz_estimators::entropy::kde::{
    Bandwidth, kde_entropy_loo_nats, kde_entropy_resubstitution_nats,
};
use gpz_estimators::information::critic::{donsker_varadhan_nats, infonce_nats, nwj_nats};
use gpz_estimators::information::renyi::{matrix_entropy_nats, matrix_information_nats};

use super::answers::Answers;
use super::case::Case;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    densities(case, answers);
    matrices(case, answers);
    critics(case, answers);
}

fn densities(case: &Case, answers: &mut Answers<'_>) {
    if case.group != "kde" && !answers.asks(|name| name.starts_with("kde_")) {
        return;
    }
    let Some(z) = case.matrix("z") else { return };
    let estimate = kde_entropy_loo_nats(z.view(), Bandwidth::Scott);
    answers.put("kde_entropy_resubstitution", || {
        kde_entropy_resubstitution_nats(z.view(), Bandwidth::Scott)
    });
    if case.group == "kde" {
        answers.behave_as(&estimate);
        answers.put("entropy_z", || estimate.clone());
    }
    answers.put("kde_entropy_loo", || estimate);
}

/// The order and the bandwidth in a name such as `S_x_alpha1.01_sigma3.0`.
fn order_and_bandwidth(name: &str) -> Option<(f64, f64)> {
    let (alpha, sigma) = name.split_once("_sigma")?;
    Some((alpha.split_once("_alpha")?.1.parse().ok()?, sigma.parse().ok()?))
}

fn matrices(case: &Case, answers: &mut Answers<'_>) {
    if !answers.asks(|name| order_and_bandwidth(name).is_some()) {
        return;
    }
    let Some(x) = case.matrix("x") else { return };
    let y = case.matrix("y");
    for asked in &case.asked {
        let name = asked.quantity.as_str();
        let Some((alpha, sigma)) = order_and_bandwidth(name) else { continue };
        if name.starts_with("S_x_") {
            let entropy = matrix_entropy_nats(x.view(), alpha, sigma);
            // Without an order and a bandwidth: the first of the orders is as good as any.
            answers.put("S_x", || entropy.clone());
            answers.behave_as(&entropy);
            answers.put(name, || entropy);
        } else if let Some(y) = &y {
            if name.starts_with("S_y_") {
                answers.put(name, || matrix_entropy_nats(y.view(), alpha, sigma));
            } else if name.starts_with("I_xy_") {
                answers
                    .put(name, || matrix_information_nats(x.view(), y.view(), alpha, [sigma; 2]));
            }
        }
    }
}

fn critics(case: &Case, answers: &mut Answers<'_>) {
    let Some(scores) = case.matrix("scores") else { return };
    let infonce = infonce_nats(scores.view());
    answers.behave_as(&infonce);
    answers.put("infonce", || infonce);
    answers.put("nwj", || nwj_nats(scores.view()));
    answers.put("dv_mine", || donsker_varadhan_nats(scores.view()));
}
