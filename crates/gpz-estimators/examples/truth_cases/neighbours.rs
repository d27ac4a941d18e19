//! Estimators of nearest neighbours: entropies, informations, dimensions.

use gpz_estimators::dimension::{Averaging, levina_bickel, two_nn};
use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::information::ksg::{ksg1_nats, ksg2_nats};
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::information::ross::ross_nats;
use gpz_estimators::{KNN_DIMENSIONS, Metric, Neighbours};
use ndarray::{Array2, s};

use crate::answers::{Answer, Answers};
use crate::case::Case;
use crate::mixtures;

/// Parts of the rows behind a standard error, where only the value is asked for: none.
const NO_PARTS: usize = 0;

pub(crate) fn answer(case: &Case, answers: &mut Answers<'_>) {
    if let (Some(x), Some(y)) = (case.matrix("x"), case.matrix("y")) {
        pairs(case, answers, &x, &y);
    }
    if let Some(z) = case.matrix("z") {
        rows(case, answers, &z);
    }
}

/// Mutual information of paired samples.
fn pairs(case: &Case, answers: &mut Answers<'_>, x: &Array2<f64>, y: &Array2<f64>) {
    let about_pairs = case.group == "mi" && answers.wants_behaviour();
    if about_pairs || answers.asks(|name| name.starts_with("ksg") || name.starts_with("mi")) {
        let first = ksg1_nats(x.view(), y.view(), Neighbours::nth(3));
        if about_pairs {
            // Where rows repeat the estimate is refused, and the one for mixed samples may stand in; otherwise a warning has to show.
            answers.behave_as(&first);
        }
        for name in ["mi_ksg1_behaviour", "mi"] {
            answers.put(name, || first.clone());
        }
        answers.put("ksg1_k3", || first);
        answers
            .put("ksg2_k3", || ksg2_nats(x.view(), y.view(), Neighbours::nth(3).without_std_err()));
    }
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

/// Entropy, information about labels and dimension of one sample.
fn rows(case: &Case, answers: &mut Answers<'_>, z: &Array2<f64>) {
    let options = |k| Neighbours::nth(k).without_std_err();
    let third = || kozachenko_leonenko_nats(z.view(), Metric::Euclidean, options(3));
    if case.group == "labels" && answers.asks(|name| name.starts_with("kl_entropy")) {
        answers.behave_as(&third());
    }
    answers.put("kl_entropy_k3", third);
    answers
        .put("kl_entropy_k2", || kozachenko_leonenko_nats(z.view(), Metric::Euclidean, options(2)));
    answers.put("kl_entropy_k3_maxnorm", || {
        kozachenko_leonenko_nats(z.view(), Metric::Maximum, options(3))
    });
    if z.ncols() <= KNN_DIMENSIONS {
        for name in ["entropy_z", "entropy_z_population"] {
            if answers.wants(name)
                && let (Some(value), _) = third().split()
            {
                // What is known of the law narrows what is estimated from its rows.
                let (low, high) = mixtures::entropy_bounds(case).unwrap_or((value, value));
                answers.put_all(name, || vec![value.max(low).min(high)]);
            }
        }
    }
    if let Some((labels, _)) = case.class_indices() {
        let labelled = || ross_nats(z.view(), &labels, options(3));
        answers.put("ross_k3", labelled);
        answers.put("mi_label", labelled);
    }
    dimensions(case, answers, z);
}

fn dimensions(case: &Case, answers: &mut Answers<'_>, z: &Array2<f64>) {
    if case.group == "intrinsic_dim" && answers.wants_behaviour() {
        let result = two_nn(z.view(), NO_PARTS);
        answers.behave(result.split().1);
    }
    answers.put("twonn_mle", || two_nn(z.view(), NO_PARTS));
    answers.put("intrinsic_dim", || two_nn(z.view(), NO_PARTS));
    let averaged =
        |averaging| levina_bickel(z.view(), Neighbours::nth(20).without_std_err(), averaging);
    answers.put("mle_levina_bickel_mackay_k20", || averaged(Averaging::OfInverses));
    answers.put("mle_levina_bickel_mean_k20", || averaged(Averaging::OfEstimates));
}
