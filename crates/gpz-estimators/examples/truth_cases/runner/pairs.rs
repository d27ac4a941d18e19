//! Mutual information of paired samples.

use gpz_estimators::entropy::discrete::Codes;
use gpz_estimators::information::discrete::miller_madow_mi_nats;
use gpz_estimators::information::gaussian;
use gpz_estimators::information::ksg::{ksg1_nats, ksg2_nats};
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::{Error, Estimated, Neighbours};
use ndarray::{Array2, s};
use statrs::distribution::{ContinuousCDF, Normal};

use super::answers::{Answer, Answers, Finding};
use super::case::Case;
use super::labels::BEYOND;

/// Share of a column's values that equal another from which on the sample is no draw from a density.
const TIED: f64 = 0.05;
/// Rows per distinct row from which on a sample is one of symbols, however it is stored.
const OFTEN: usize = 20;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    let about_pairs = case.group == "mi" && answers.wants_behaviour();
    let pairs = |name: &str| {
        ["ksg", "mi", "gao_", "gaussian_mi"].iter().any(|start| name.starts_with(start))
            && name != "mi_label"
    };
    if !about_pairs && !answers.asks(pairs) {
        return;
    }
    let second = if case.has("y") { "y" } else { "z" };
    let (Some(x), Some(y)) = (case.matrix("x"), case.matrix(second)) else { return };
    answers.put("gaussian_mi_plugin", || gaussian::mi_plugin_nats(x.view(), y.view()));
    answers.put("mi_gaussian_behaviour", || gaussian::mi_corrected_nats(x.view(), y.view()));
    let wanted = ["mi", "mi_ksg1_behaviour", "ksg1_k3"];
    if about_pairs || wanted.iter().any(|name| answers.wants(name)) {
        let first = ksg1_nats(x.view(), y.view(), Neighbours::nth(3));
        if about_pairs {
            // Where rows repeat the estimate is refused and the one for mixed samples stands in; otherwise a warning has to show.
            answers.behave_as(&first);
            if matches!(first, Ok(Err(_))) {
                answers.behave(Finding::Mixed);
            }
            answers.behave_by(|| gaussian::mi_corrected_nats(x.view(), y.view()));
        }
        if answers.wants("mi")
            && let Some(mi) = information(&x, &y, &first)
        {
            answers.put_all("mi", || vec![mi]);
        }
        answers.put("mi_ksg1_behaviour", || first.clone());
        answers.put("ksg1_k3", || first);
    }
    answers.put("ksg2_k3", || ksg2_nats(x.view(), y.view(), Neighbours::nth(3).without_std_err()));
    if answers.wants("ksg1_growth") {
        let named = case.numbers_in("ksg1_growth", "first");
        let sizes: Vec<usize> = named.into_iter().filter(|&n| n > 3 && n <= x.nrows()).collect();
        let value = |n: usize| {
            let (x, y) = (x.slice(s![..n, ..]), y.slice(s![..n, ..]));
            ksg1_nats(x, y, Neighbours::nth(3).without_std_err()).split().0
        };
        if let Some(values) = sizes.into_iter().map(value).collect::<Option<Vec<_>>>() {
            answers.put_all("ksg1_growth", || values);
        }
    }
    answers.put("gao_mixed_k5_reference", || {
        gao_nats(x.view(), y.view(), Neighbours::nth(5).without_std_err())
    });
}

/// The estimate that suits the samples.
fn information(
    x: &Array2<f64>,
    y: &Array2<f64>,
    neighbours: &Result<Estimated, Error>,
) -> Option<f64> {
    let symbols = |rows: &Array2<f64>| {
        Codes::of_rows(rows.view()).ok().filter(|codes| codes.unique() * OFTEN <= codes.rows())
    };
    if let (Some(x), Some(y)) = (symbols(x), symbols(y)) {
        return miller_madow_mi_nats(&x, &y).split().0;
    }
    let mixed = || gao_nats(x.view(), y.view(), Neighbours::nth(5).without_std_err()).split().0;
    if tied(x) || tied(y) {
        return mixed();
    }
    let scores = gaussian::mi_corrected_nats(scores(x).view(), scores(y).view());
    match (scores, neighbours) {
        (Ok(Ok(scores)), Ok(Ok(near))) => {
            let margin = BEYOND * near.std_err.unwrap_or_default();
            Some(if near.value > scores.value + margin { near.value } else { scores.value })
        }
        (Ok(Ok(scores)), _) => Some(scores.value),
        (_, Ok(Ok(near))) => Some(near.value),
        _ => mixed(),
    }
}

/// Whether many values of some column repeat.
fn tied(rows: &Array2<f64>) -> bool {
    (0..rows.ncols()).any(|j| {
        let Ok(codes) = Codes::of_rows(rows.slice(s![.., j..=j])) else { return false };
        let repeated: u64 = codes.counts().iter().filter(|&&count| count > 1).sum();
        repeated as f64 > TIED * codes.rows() as f64
    })
}

/// Each column by its ranks as a standard normal one; equal values share their mean rank. Information stays as it is.
fn scores(rows: &Array2<f64>) -> Array2<f64> {
    let normal = Normal::standard();
    let n = rows.nrows() as f64;
    let mut scores = rows.clone();
    for mut column in scores.columns_mut() {
        let values = column.to_vec();
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
        let mut before = 0;
        for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
            let rank = before as f64 + (equal.len() + 1) as f64 / 2.0;
            equal.iter().for_each(|&row| column[row] = normal.inverse_cdf(rank / (n + 1.0)));
            before += equal.len();
        }
    }
    scores
}
