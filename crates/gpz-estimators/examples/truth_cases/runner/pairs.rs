//! Mutual information of paired samples.

use gpz_estimators::entropy::discrete::Codes;
use gpz_estimators::information::discrete::miller_madow_mi_nats;
use gpz_estimators::information::gaussian;
use gpz_estimators::information::ksg::{ksg1_nats, ksg2_nats};
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::{Error, Estimated, Flag, Neighbours};
use ndarray::{Array2, s};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, Normal};

use super::answers::{Answer, Answers, Finding};
use super::case::Case;
use super::labels::BEYOND;
use super::symbols::unseen;

/// Share of the rows from which on a repeated value is an atom of the law; less often than that it was rounded to.
const ATOM: f64 = 0.05;
/// Squared correlation with its normal scores from which on a column is taken for Gaussian (Shapiro and Francia's statistic): 0.954 for
/// a uniform one, 0.999 for a Gaussian one of some thousand rows.
const GAUSSIAN: f64 = 0.995;
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
            match first {
                Ok(Err(_)) => answers.behave(Finding::Mixed),
                _ => answers.behave_as(&first),
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
    if let (Some(x), Some(y)) = (symbols(x), symbols(y))
        && let Ok(found) = miller_madow_mi_nats(&x, &y)
        && !found.flags.iter().any(unseen)
    {
        return Some(found.value);
    }
    let mixed = || gao_nats(x.view(), y.view(), Neighbours::nth(5).without_std_err()).split().0;
    let often = most_frequent(x).max(most_frequent(y));
    if often >= ATOM {
        return mixed();
    }
    let (x_scores, y_scores) = (scores(x, 0), scores(y, x.ncols()));
    let raw = gaussian::mi_corrected_nats(x.view(), y.view());
    // As they are where they look Gaussian, and where a linear relation is exact.
    let exact = matches!(&raw, Ok(Ok(raw)) if raw.value == f64::INFINITY);
    let linear = if exact || (likeness(x, &x_scores) && likeness(y, &y_scores)) {
        raw
    } else {
        gaussian::mi_corrected_nats(x_scores.view(), y_scores.view())
    };
    let rounded = neighbours.as_ref().is_ok_and(|near| match near {
        Ok(near) => near.flags.iter().any(|flag| matches!(flag, Flag::Ties(_))),
        Err(_) => true,
    });
    let broken = rounded.then(|| ksg1_nats(x_scores.view(), y_scores.view(), Neighbours::nth(3)));
    match (linear, broken.as_ref().unwrap_or(neighbours)) {
        (Ok(Ok(linear)), Ok(Ok(near))) => {
            let margin = BEYOND * near.std_err.unwrap_or_default();
            Some(if near.value > linear.value + margin { near.value } else { linear.value })
        }
        (Ok(Ok(linear)), _) => Some(linear.value),
        (_, Ok(Ok(near))) => Some(near.value),
        _ => mixed(),
    }
}

/// Whether each column correlates with its normal scores as a Gaussian one does.
fn likeness(rows: &Array2<f64>, scores: &Array2<f64>) -> bool {
    let columns = rows.columns().into_iter().zip(scores.columns());
    columns.into_iter().all(|(column, scores)| {
        // Scores have a mean of zero.
        let centred = &column - column.mean().unwrap_or_default();
        let both = centred.dot(&scores);
        both * both >= GAUSSIAN * centred.dot(&centred) * scores.dot(&scores)
    })
}

/// The largest share of rows that agree in some column.
fn most_frequent(rows: &Array2<f64>) -> f64 {
    let share = |j: usize| {
        let codes = Codes::of_rows(rows.slice(s![.., j..=j])).ok()?;
        let most = codes.counts().iter().copied().max().filter(|&most| most > 1)?;
        Some(most as f64 / codes.rows() as f64)
    };
    (0..rows.ncols()).filter_map(share).fold(0.0, f64::max)
}

/// Each column by its ranks as a standard normal one, ties broken at random, which leaves information as it is: the order within a
/// tie is independent of everything. `seed` differs from column to column.
fn scores(rows: &Array2<f64>, seed: usize) -> Array2<f64> {
    let normal = Normal::standard();
    let n = rows.nrows() as f64;
    let mut scores = rows.clone();
    for (j, mut column) in scores.columns_mut().into_iter().enumerate() {
        let values = column.to_vec();
        let mut generator = ChaCha8Rng::seed_from_u64((seed + j) as u64);
        let lots: Vec<u64> = values.iter().map(|_| generator.next_u64()).collect();
        let mut order: Vec<usize> = (0..values.len()).collect();
        // Adding zero turns −0 into 0.
        let key = |row: usize| values[row] + 0.0;
        order.sort_unstable_by(|&a, &b| {
            key(a).total_cmp(&key(b)).then_with(|| lots[a].cmp(&lots[b]))
        });
        for (rank, &row) in order.iter().enumerate() {
            column[row] = normal.inverse_cdf((rank as f64 + 1.0) / (n + 1.0));
        }
    }
    scores
}
