//! The tables of the report: what is shown of each split, with units.

use serde::Serialize;

use super::ReportInput;
use crate::intervals::Interval;
use crate::run_dir::files;
use crate::splits::{RadiusRecord, SplitRecord, VarianceRecord};
use crate::words::{self, percent, shape, significant, thousands};

/// A table whose cells are finished texts. The first column names the row.
#[derive(Serialize)]
pub(super) struct Table {
    caption: String,
    head: Vec<&'static str>,
    rows: Vec<TableRow>,
    file: &'static str,
}

#[derive(Serialize)]
struct TableRow {
    cells: Vec<String>,
    recommended: bool,
}

/// The tables of figures; those without a row are left out.
pub(super) fn figures(input: &ReportInput) -> Vec<Table> {
    let all =
        [attack_table(input), feature_table(input), held_out_table(input), steps_table(input)];
    all.into_iter().filter(|t| !t.rows.is_empty()).collect()
}

/// A table with one row per split.
fn per_split(
    input: &ReportInput,
    caption: &str,
    head: Vec<&'static str>,
    cells: impl Fn(&SplitRecord) -> Option<Vec<String>>,
) -> Table {
    let row = |s: &SplitRecord| {
        let mut all = vec![s.name.clone()];
        all.extend(cells(s)?);
        Some(TableRow {
            cells: all,
            recommended: input.choice.split.as_deref() == Some(s.name.as_str()),
        })
    };
    Table {
        caption: caption.to_string(),
        head,
        rows: input.splits.splits.iter().filter_map(row).collect(),
        file: files::SPLITS_JSON,
    }
}

/// What each cut costs.
pub(super) fn price(input: &ReportInput) -> Table {
    let accuracy = percent(input.run.target.accuracy_test);
    let head = vec![
        "split",
        "feature (C×H×W)",
        "on the wire",
        "edge parameters",
        "of the model",
        "edge MACs",
        "accuracy",
        "effective MSE",
    ];
    let caption = "What each cut costs, per image. The feature is sent as 32-bit floats, which changes no prediction.";
    let decimals = input
        .splits
        .splits
        .iter()
        .map(|s| words::spread_decimals(s.attack.mse_effective, &s.attack.ci.mse_effective))
        .max()
        .unwrap_or(0);
    per_split(input, caption, head, |s| {
        Some(vec![
            shape(&s.shape),
            words::bytes(s.wire_bytes),
            thousands(s.edge_params),
            percent(s.edge_params_fraction),
            percent(s.edge_macs_fraction),
            accuracy.clone(),
            words::with_spread(s.attack.mse_effective, &s.attack.ci.mse_effective, decimals),
        ])
    })
}

fn attack_table(input: &ReportInput) -> Table {
    let part = input.splits.splits.first().map_or("test", |s| s.attack.part.as_str());
    let caption = format!(
        "Attacks, on the {part} part: pixels in [0, 1], {:.0} % intervals over resampled images. PSNR is that of the mean error.",
        100.0 * input.splits.zone.evidence.level
    );
    let head = vec![
        "split",
        "MSE per element",
        "interval",
        "MSE, channel sum",
        "effective MSE",
        "PSNR (dB)",
        "SSIM",
        "interval",
        "attack lags",
    ];
    per_split(input, &caption, head, |s| {
        let a = &s.attack;
        Some(vec![
            significant(a.mse_per_element, 4),
            interval(&a.ci.mse_per_element),
            significant(a.mse_channel_sum, 4),
            significant(a.mse_effective, 4),
            significant(a.psnr_db, 4),
            significant(a.ssim, 3),
            interval(&a.ci.ssim),
            if a.attack_limited { "yes" } else { "no" }.to_string(),
        ])
    })
}

fn feature_table(input: &ReportInput) -> Table {
    let part = input.splits.splits.first().map_or("", |s| s.radius_sq.part.as_str());
    let caption = format!(
        "Features, on the {part} part, network in evaluation mode. R_c² and variances in squared units of each feature; entropies in \
         nats bound h(Z) from above. They neither bound what leaks nor rank splits by it: H(X|Z) ≥ H(X) − h(Z) − κ, and κ is unknown and \
         another at each layer."
    );
    let head = vec![
        "split",
        "width D",
        "R_c²",
        "interval",
        "R_c² unbiased",
        "R_c²/D",
        "total",
        "within",
        "within/total",
        "h(Z) isotropic ≤",
        "h(Z) mixture ≤",
    ];
    per_split(input, &caption, head, |s| {
        let mut cells = vec![thousands(s.width as u64)];
        cells.extend(radius_cells(&s.radius_sq));
        cells.extend(variance_cells(&s.variance));
        cells.push(significant(s.entropy_bounds_nats.isotropic, 4));
        cells.push(significant(s.entropy_bounds_nats.mixture, 4));
        Some(cells)
    })
}

fn held_out_table(input: &ReportInput) -> Table {
    let part = input
        .splits
        .splits
        .iter()
        .find_map(|s| s.held_out.as_ref())
        .map_or("", |h| h.radius_sq.part.as_str());
    let caption = match input.run.target.loaded_from {
        None => format!("The same on the {part} part, which the network was not trained on."),
        Some(_) => format!(
            "The same on the {part} part. What the network was trained on is not known: its weights were loaded."
        ),
    };
    let head = vec![
        "split",
        "R_c²",
        "interval",
        "R_c² unbiased",
        "R_c²/D",
        "total",
        "within",
        "within/total",
    ];
    per_split(input, &caption, head, |s| {
        let held_out = s.held_out.as_ref()?;
        let mut cells = radius_cells(&held_out.radius_sq).to_vec();
        cells.extend(variance_cells(&held_out.variance));
        Some(cells)
    })
}

fn radius_cells(radius: &RadiusRecord) -> [String; 4] {
    [
        significant(radius.value, 4),
        interval(&radius.ci),
        significant(radius.unbiased, 4),
        significant(radius.per_dim, 3),
    ]
}

fn variance_cells(variance: &VarianceRecord) -> [String; 3] {
    [
        significant(variance.total, 4),
        significant(variance.within, 4),
        significant(variance.within_over_total(), 3),
    ]
}

fn steps_table(input: &ReportInput) -> Table {
    let evidence = &input.splits.zone.evidence;
    let released = &evidence.released_rule;
    let yes = |b: bool| if b { "yes" } else { "no" }.to_string();
    let caption = format!(
        "What the verdict rests on, step by step: (a) within/total falls more than on every earlier step in at least {} of {} resamples; \
         (b) the effective error is at least {} times every earlier one, intervals disjoint. The last column is the published rule's \
         relative drop of R_c², which names {} and is not used.",
        percent(evidence.required_share),
        thousands(evidence.resamples as u64),
        evidence.required_error_ratio,
        if released.splits.is_empty() {
            "nothing".to_string()
        } else {
            released.splits.join(" and ")
        }
    );
    let rows = evidence.steps.iter().enumerate().map(|(k, s)| TableRow {
        cells: vec![
            format!("{} → {}", s.from, s.to),
            significant(s.drop, 3),
            interval(&s.drop_ci),
            percent(s.largest_drop_share),
            if k == 0 { "first step".to_string() } else { yes(s.variance_condition) },
            format!("×{}", significant(s.error_ratio, 3)),
            yes(s.intervals_disjoint),
            yes(s.error_condition),
            released.drops.get(k).map_or_else(String::new, |d| significant(d.relative_drop, 2)),
        ],
        recommended: s.holds(),
    });
    Table {
        caption,
        head: vec![
            "step",
            "fall of within/total",
            "interval",
            "largest so far in",
            "(a)",
            "error",
            "disjoint",
            "(b)",
            "R_c² drop",
        ],
        rows: rows.collect(),
        file: files::SPLITS_JSON,
    }
}

fn interval(ci: &Interval) -> String {
    format!("{} … {}", significant(ci.lo, 3), significant(ci.hi, 3))
}
