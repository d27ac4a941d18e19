//! Figures over epochs: the attacks while they learnt, and the features while the target did.

use serde::Serialize;

use super::ReportInput;
use super::charts::{Curve, EpochChart};
use crate::radius_history::{RadiusHistory, SplitHistory};
use crate::words::thousands;

/// More lines than this hide each other.
const LINES: usize = 8;

/// Held-out curves of the decoders, if they are few enough.
pub(super) fn training(input: &ReportInput) -> Option<String> {
    let curves: Vec<Curve<'_>> = input
        .run
        .attacks
        .iter()
        .filter(|a| a.curve.len() > 1)
        .map(|a| Curve {
            name: &a.split,
            points: a.curve.iter().map(|e| (e.epoch, e.held_out_loss)).collect(),
        })
        .collect();
    let chart = EpochChart {
        id: "training",
        title: "Held-out error of the decoders over epochs",
        axis: "held-out error of the decoders, MSE per element",
        size: (640.0, 300.0),
        log: true,
    };
    (1..=LINES).contains(&curves.len()).then(|| chart.draw(&curves))
}

/// The radius of each split while the target was trained.
#[derive(Serialize)]
pub(super) struct History {
    radius_per_dim: String,
    within_over_total: String,
    caption: String,
}

impl History {
    pub(super) fn new(input: &ReportInput) -> Option<Self> {
        // Before the first step batch norms normalise by nothing: those figures are of another order and would flatten the rest.
        let trained = |epoch: &usize| *epoch > 0;
        let history = input.radius.as_ref()?;
        if history.epochs.iter().filter(|epoch| trained(epoch)).count() < 2 {
            return None;
        }
        let shown = shown(history);
        let chart = |id, title, axis, log, values: fn(&SplitHistory) -> &[f64]| {
            let curves: Vec<Curve<'_>> = shown
                .iter()
                .map(|split| Curve {
                    name: &split.split,
                    points: history
                        .epochs
                        .iter()
                        .copied()
                        .zip(values(split).iter().copied())
                        .filter(|(epoch, _)| trained(epoch))
                        .collect(),
                })
                .collect();
            EpochChart { id, title, axis, log, size: (520.0, 300.0) }.draw(&curves)
        };
        let some = if shown.len() < history.splits.len() {
            format!(
                " {} of {} splits are shown, evenly spaced; the file has them all.",
                shown.len(),
                history.splits.len()
            )
        } else {
            String::new()
        };
        Some(History {
            radius_per_dim: chart(
                "history-radius",
                "R_c² per dimension over the epochs of the network's training",
                "R_c²/D, log scale",
                true,
                |split| &split.radius_sq_per_dim,
            ),
            within_over_total: chart(
                "history-share",
                "Within-class share of variance over the epochs of the network's training",
                "within/total variance",
                false,
                |split| &split.within_over_total,
            ),
            caption: format!(
                "The features while the network was trained with {} labels: each split on the {} images of the {} part, true labels, network \
                 in evaluation mode. The file has the untrained network as well. R_c² with 1/N_c, averaged over classes. The weights that are audited \
                 are those of epoch {}.{some}",
                history.labels,
                thousands(history.images as u64),
                history.part,
                input.run.target.chosen_epoch
            ),
        })
    }
}

/// At most so many splits as can be told apart, evenly spaced, the first and the last among them.
fn shown(history: &RadiusHistory) -> Vec<&SplitHistory> {
    let n = history.splits.len();
    if n <= LINES {
        return history.splits.iter().collect();
    }
    let place = |k: usize| (k * (n - 1) + (LINES - 1) / 2) / (LINES - 1);
    (0..LINES).map(|k| &history.splits[place(k)]).collect()
}
