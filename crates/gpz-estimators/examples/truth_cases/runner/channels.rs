//! Attackers behind a known linear map with Gaussian noise.

use gpz_estimators::channel::{
    Given, LinearGaussian, RidgeAttack, bound_crb_unbiased, bound_dfil_unbiased,
    bound_entropy_power, bound_van_trees, ridge_attack_mse,
};
use gpz_estimators::spectrum::Spectrum;
use ndarray::{Array2, Axis, concatenate};

use super::answers::{Answers, Finding};
use super::case::Case;

/// Names of the map and of the input's covariance.
pub(crate) const MAP: [&str; 4] = ["a", "A", "jacobian", "j"];
const COVARIANCE: [&str; 4] = ["sigma_x", "cov_x", "s_x", "sx"];

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    if let Some(map) = case.first_of(&MAP) {
        known(case, answers, &map);
    }
    if answers.wants("mmse_empirical_ridge")
        && let (Some(x), Some(z)) = (case.matrix("x"), case.matrix("z"))
    {
        answers.put("mmse_empirical_ridge", || {
            ridge_attack_mse(x.view(), z.view(), RidgeAttack::default())
        });
    }
    ranks(case, answers);
}

fn known(case: &Case, answers: &mut Answers<'_>, map: &Array2<f64>) {
    let width = map.ncols();
    // Without a covariance the input is taken to be standard; without noise the channel has none.
    let covariance = case.first_of(&COVARIANCE).unwrap_or_else(|| Array2::eye(width));
    let noise = case.noise_variance().unwrap_or(0.0);
    let model = match LinearGaussian::new(map.view(), covariance.view(), noise) {
        Ok(model) => model,
        Err(_) => return answers.behave(Finding::Error),
    };
    answers.put("h_x_given_z", || model.h_x_given_z_nats());
    answers.put("mi", || model.mi_nats());
    for name in ["mmse_per_dim", "mmse_per_pixel"] {
        answers.put(name, || model.mmse_per_dim());
    }
    answers.put_all("mmse_rank", || vec![model.mmse_rank() as f64]);
    answers.put_all("signal_rank", || vec![model.signal_rank() as f64]);
    answers.put("dfil", || model.dfil());
    let unbiased = bound_dfil_unbiased(Given::Known(model.dfil().value));
    if case.group == "reconstruction" {
        // A bound on unbiased attackers has to say so.
        answers.behave_as(&unbiased);
        answers.behave_by(|| model.mi_nats());
    }
    answers.put("bound_dfil_unbiased", || unbiased);
    answers.put("bound_entropy_power", || {
        bound_entropy_power(Given::Known(model.h_x_given_z_nats().value), width)
    });
    if let Ok(fisher) = model.fisher() {
        let bound = bound_crb_unbiased(fisher.view());
        if case.group == "reconstruction" {
            answers.behave_as(&bound);
        }
        answers.put("bound_crb_unbiased", || bound);
        answers.put("bound_van_trees", || {
            let prior = Given::Known(model.prior_fisher_trace());
            bound_van_trees(Given::Known(fisher.diag().sum()), prior, width)
        });
    }
}

/// Without a map, from samples of a noiseless linear one: what is left of `x` has the rank that `(x, z)` has beyond `z`.
fn ranks(case: &Case, answers: &mut Answers<'_>) {
    if case.group != "reconstruction"
        || !["mmse_rank", "signal_rank"].iter().any(|name| answers.wants(name))
    {
        return;
    }
    let (Some(x), Some(z)) = (case.matrix("x"), case.matrix("z")) else { return };
    let Ok(joint) = concatenate(Axis(1), &[x.view(), z.view()]) else { return };
    let rank = |rows: &Array2<f64>| Spectrum::of(rows.view()).map(|spectrum| spectrum.rank());
    if let (Ok(of_x), Ok(of_z), Ok(of_both)) = (rank(&x), rank(&z), rank(&joint)) {
        answers.put_all("mmse_rank", || vec![of_both.saturating_sub(of_z) as f64]);
        answers.put_all("signal_rank", || vec![(of_x + of_z).saturating_sub(of_both) as f64]);
    }
}
