//! Entropy and information of symbols, and by binning.

use gpz_estimators::channel::rounded_codes;
use gpz_estimators::entropy::discrete::{
    Codes, guess_probability, miller_madow_entropy_nats, plugin_entropy_nats,
    plugin_entropy_per_dim_nats, zero_share_per_dim,
};
use gpz_estimators::information::discrete::{binned_mi_nats, miller_madow_mi_nats, plugin_mi_nats};
use gpz_estimators::{Flag, gaussian};
use ndarray::{Array2, s};

use super::answers::{Answer, Answers};
use super::case::Case;
use super::sources::step;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    entropies(case, answers);
    let names = ["plugin_mi", "miller_madow_mi", "plugin_entropy_x", "entropy_x", "mi"];
    if names.iter().any(|name| answers.wants(name))
        || answers.asks(|name| name.starts_with("binned_mi_"))
    {
        let second = if case.has("y") { "y" } else { "z" };
        if let (Some(x), Some(y)) = (case.matrix("x"), case.matrix(second)) {
            pairs(case, answers, &x, &y, second);
        }
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
    let integers = ["bits", "codes", "z"].iter().any(|name| case.holds_integers(name));
    let about_codes = matches!(case.group.as_str(), "degenerate" | "quantised" | "discrete")
        && integers
        && answers.wants_behaviour();
    let also = ["plugin_H_z", "H_z"];
    if !about_codes && !joint.iter().chain(&single).chain(&also).any(|name| answers.wants(name)) {
        return;
    }
    let Some(rows) = case.first_of(&["bits", "codes", "z", "x"]) else { return };
    // Real numbers with a declared step are sent as its multiples.
    let rows = match step(case).filter(|_| !integers) {
        Some(step) => match rounded_codes(rows.view(), step) {
            Ok(codes) => codes.mapv(|code| code as f64),
            Err(_) => rows,
        },
        None => rows,
    };
    if about_codes || joint.iter().chain(&also).any(|name| answers.wants(name)) {
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
            answers.put_all("discrete_entropy_joint", || vec![joint_entropy(&codes, &rows)]);
            answers.put("plugin_H_z", || plugin_entropy_nats(&codes));
            answers.put("H_z", || miller_madow_entropy_nats(&codes));
            answers.put("guess_probability", || guess_probability(&codes));
        }
    }
    if answers.wants("plugin_entropy_per_dim")
        && let Ok(estimates) = plugin_entropy_per_dim_nats(rows.view())
    {
        let values = estimates.iter().map(|estimate| estimate.value).collect();
        answers.put_all("plugin_entropy_per_dim", || {
            case.mean_or_each("plugin_entropy_per_dim", values)
        });
    }
    if answers.wants("discrete_entropy_per_dim") {
        let column = |j: usize| {
            let codes = Codes::of_rows(rows.slice(s![.., j..=j]));
            codes.map(|codes| miller_madow_entropy_nats(&codes).value)
        };
        if let Ok(values) = (0..rows.ncols()).map(column).collect::<Result<Vec<_>, _>>() {
            answers.put_all("discrete_entropy_per_dim", || {
                case.mean_or_each("discrete_entropy_per_dim", values)
            });
        }
    }
    if answers.wants("zero_prob_per_dim")
        && let Ok(values) = zero_share_per_dim(rows.view())
    {
        answers.put_all("zero_prob_per_dim", || case.mean_or_each("zero_prob_per_dim", values));
    }
}

/// The joint entropy of rows of many columns: where most rows occur once, that of the columns less the information that columns of such
/// correlations share if they are Gaussian, a sample being too small to see more.
fn joint_entropy(codes: &Codes, rows: &Array2<f64>) -> f64 {
    let joint = miller_madow_entropy_nats(codes);
    if rows.ncols() == 1 || !joint.flags.iter().any(unseen) {
        return joint.value;
    }
    let columns = (0..rows.ncols()).map(|j| Codes::of_rows(rows.slice(s![.., j..=j])));
    let columns = columns.map(|codes| codes.map(|codes| miller_madow_entropy_nats(&codes).value));
    let scaled =
        rows / &rows.std_axis(ndarray::Axis(0), 1.0).mapv(|s| if s > 0.0 { s } else { 1.0 });
    let shared = gaussian::log_det_corrected_nats(scaled.view()).split().0;
    match (columns.collect::<Result<Vec<f64>, _>>(), shared) {
        (Ok(columns), Some(shared)) if shared.is_finite() => {
            columns.iter().sum::<f64>() + 0.5 * shared
        }
        _ => joint.value,
    }
}

/// Whether a flag says that many symbols were not seen.
pub(crate) fn unseen(flag: &Flag) -> bool {
    matches!(flag, Flag::Undersampled(_) | Flag::Saturated)
}

fn pairs(case: &Case, answers: &mut Answers<'_>, x: &Array2<f64>, y: &Array2<f64>, second: &str) {
    let discrete = case.holds_integers("x") && case.holds_integers(second);
    if let (Ok(x), Ok(y)) = (Codes::of_rows(x.view()), Codes::of_rows(y.view())) {
        answers.put("plugin_mi", || plugin_mi_nats(&x, &y));
        answers.put("miller_madow_mi", || miller_madow_mi_nats(&x, &y));
        answers.put("plugin_entropy_x", || plugin_entropy_nats(&x));
        if discrete {
            answers.put("entropy_x", || miller_madow_entropy_nats(&x));
            // Where many pairs were not seen another estimator may see more.
            let joint = miller_madow_mi_nats(&x, &y);
            if joint.as_ref().is_ok_and(|joint| !joint.flags.iter().any(unseen)) {
                answers.put("mi", || joint);
            }
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
