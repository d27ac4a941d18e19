//! Bounds on attackers behind a linear map with noise.

use gpz_estimators::channel::{
    Given, LinearGaussian, RidgeAttack, bound_crb_unbiased, bound_dfil_unbiased,
    bound_entropy_power, bound_van_trees, ridge_attack_mse,
};

use crate::answers::{Answers, Finding};
use crate::case::Case;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    let noise = case.scalar("sigma2").or(case.scalar("sigma").map(|sigma| sigma * sigma));
    let (Some(map), Some(covariance), Some(noise)) =
        (case.matrix("a"), case.matrix("sigma_x"), noise)
    else {
        return;
    };
    let width = map.ncols();
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
    // A bound on unbiased attackers has to say so.
    answers.behave_as(&unbiased);
    answers.put("bound_dfil_unbiased", || unbiased);
    answers.put("bound_entropy_power", || {
        bound_entropy_power(Given::Known(model.h_x_given_z_nats().value), width)
    });
    if let Ok(fisher) = model.fisher() {
        answers.put("bound_crb_unbiased", || bound_crb_unbiased(fisher.view()));
        answers.put("bound_van_trees", || {
            let prior = Given::Known(model.prior_fisher_trace());
            bound_van_trees(Given::Known(fisher.diag().sum()), prior, width)
        });
    }
    if let (Some(x), Some(z)) = (case.matrix("x"), case.matrix("z")) {
        answers.put("mmse_empirical_ridge", || {
            ridge_attack_mse(x.view(), z.view(), RidgeAttack::default())
        });
    }
}
