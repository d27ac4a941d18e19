//! Entropy and information of symbols, and by binning.

use gpz_estimators::entropy::discrete::{
    Codes, guess_probability, miller_madow_entropy_nats, plugin_entropy_nats,
    plugin_entropy_per_dim_nats, zero_share_per_dim,
};
use gpz_estimators::information::discrete::{binned_mi_nats, miller_madow_mi_nats, plugin_mi_nats};
use ndarray::{Array2, s};

use crate::answers::Answers;
use crate::case::Case;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    entropies(case, answers);
    if let (Some(x), Some(y)) = (case.matrix("x"), case.matrix("y")) {
        pairs(case, answers, &x, &y);
    }
}

/// Of whole rows of the first of these tensors that the case has.
fn entropies(case: &Case, answers: &mut Answers<'_>) {
    let joint = [
        "plugin_entropy",
        "plugin_entropy_joint",
        "miller_madow_entropy",
        "unique_codes",
        "discrete_entropy",
        "discrete_entropy_joint",
        "guess_probability",
    ];
    let single = ["plugin_entropy_per_dim", "discrete_entropy_per_dim", "zero_prob_per_dim"];
    if !joint.iter().chain(&single).any(|name| answers.wants(name)) {
        return;
    }
    let Some(rows) = ["bits", "codes", "z", "x"].iter().find_map(|name| case.matrix(name)) else {
        return;
    };
    if joint.iter().any(|name| answers.wants(name)) {
        let about_codes = matches!(case.group.as_str(), "degenerate" | "quantised" | "discrete")
            && ["bits", "codes", "z"].iter().any(|name| case.holds_integers(name));
        let codes = Codes::of_rows(rows.view());
        if about_codes {
            answers.behave_as(&codes.as_ref().map(plugin_entropy_nats).map_err(Clone::clone));
        }
        if let Ok(codes) = codes {
            answers.put_all("unique_codes", || vec![codes.unique() as f64]);
            answers.put("plugin_entropy", || plugin_entropy_nats(&codes));
            answers.put("plugin_entropy_joint", || plugin_entropy_nats(&codes));
            answers.put("miller_madow_entropy", || miller_madow_entropy_nats(&codes));
            answers.put("discrete_entropy", || miller_madow_entropy_nats(&codes));
            answers.put("discrete_entropy_joint", || miller_madow_entropy_nats(&codes));
            answers.put("guess_probability", || guess_probability(&codes));
        }
    }
    // Per dimension: one number, the mean over dimensions, unless the entry asks for each.
    let mean_or_each = |quantity: &str, values: Vec<f64>| {
        let how = case.how(quantity);
        let each = ["each", "array", "list"].iter().any(|word| how.contains(word));
        if each { values } else { vec![values.iter().sum::<f64>() / values.len() as f64] }
    };
    if answers.wants("plugin_entropy_per_dim")
        && let Ok(estimates) = plugin_entropy_per_dim_nats(rows.view())
    {
        let values = estimates.iter().map(|estimate| estimate.value).collect();
        answers
            .put_all("plugin_entropy_per_dim", || mean_or_each("plugin_entropy_per_dim", values));
    }
    if answers.wants("discrete_entropy_per_dim") {
        let column = |j: usize| {
            let codes = Codes::of_rows(rows.slice(s![.., j..=j]));
            codes.map(|codes| miller_madow_entropy_nats(&codes).value)
        };
        if let Ok(values) = (0..rows.ncols()).map(column).collect::<Result<Vec<_>, _>>() {
            answers.put_all("discrete_entropy_per_dim", || {
                mean_or_each("discrete_entropy_per_dim", values)
            });
        }
    }
    if answers.wants("zero_prob_per_dim")
        && let Ok(values) = zero_share_per_dim(rows.view())
    {
        answers.put_all("zero_prob_per_dim", || mean_or_each("zero_prob_per_dim", values));
    }
}

fn pairs(case: &Case, answers: &mut Answers<'_>, x: &Array2<f64>, y: &Array2<f64>) {
    let names = ["plugin_mi", "miller_madow_mi", "plugin_entropy_x", "entropy_x", "mi"];
    let discrete = case.holds_integers("x") && case.holds_integers("y");
    if names.iter().any(|name| answers.wants(name))
        && let (Ok(x), Ok(y)) = (Codes::of_rows(x.view()), Codes::of_rows(y.view()))
    {
        answers.put("plugin_mi", || plugin_mi_nats(&x, &y));
        answers.put("miller_madow_mi", || miller_madow_mi_nats(&x, &y));
        answers.put("plugin_entropy_x", || plugin_entropy_nats(&x));
        if discrete {
            answers.put("entropy_x", || miller_madow_entropy_nats(&x));
            answers.put("mi", || miller_madow_mi_nats(&x, &y));
        }
    }
    let bins: Vec<usize> = case
        .asked
        .iter()
        .filter_map(|asked| asked.quantity.strip_prefix("binned_mi_")?.parse().ok())
        .collect();
    for bins in bins {
        let estimate = binned_mi_nats(x.view(), y.view(), bins);
        if case.group == "binning" {
            answers.behave_as(&estimate);
        }
        answers.put(&format!("binned_mi_{bins}"), || estimate);
    }
}
