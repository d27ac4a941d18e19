//! The tables of the report: what is shown of each split, with units.

use gpz_estimators::Kind;
use serde::Serialize;

use super::ReportInput;
use crate::declared::Declared;
use crate::intervals::Interval;
use crate::rank::Probe;
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
    let all = [
        attack_table(input),
        bound_table(input),
        feature_table(input),
        held_out_table(input),
        rank_table(input),
        steps_table(input),
    ];
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
        error_name(input),
    ];
    let caption = match input.splits.channel() {
        Declared::None => {
            "What each cut costs, per image. The feature is sent as 32-bit floats, which changes no prediction. Accuracy and the attacks' effective MSE, \
             per element, are those on the test part."
                .to_owned()
        }
        channel => format!(
            "What each cut costs, per image. The feature is sent through the channel {channel}, and the accuracy is that of the network \
             behind it; it is {accuracy} without the channel. Accuracy and MSE, per element, are those on the test part."
        ),
    };
    let decimals = input
        .splits
        .splits
        .iter()
        .map(|s| words::spread_decimals(s.attack.mse_effective, &s.attack.ci.mse_effective))
        .max()
        .unwrap_or(0);
    per_split(input, &caption, head, |s| {
        Some(vec![
            shape(&s.shape),
            words::bytes(s.wire_bytes),
            thousands(s.edge_params),
            percent(s.edge_params_fraction),
            percent(s.edge_macs_fraction),
            s.accuracy_behind_channel.map_or_else(|| accuracy.clone(), percent),
            words::with_spread(s.attack.mse_effective, &s.attack.ci.mse_effective, decimals),
        ])
    })
}

/// Behind a channel nothing but the measured error stands for a split.
fn error_name(input: &ReportInput) -> &'static str {
    if input.splits.channel().is_none() { "effective MSE" } else { "MSE" }
}

/// What is bounded behind a declared channel.
fn bound_table(input: &ReportInput) -> Table {
    let caption = "Behind the declared channel: what arrives of the picture, in nats, and the mean error per element that any attacker is left with \
                   if pictures are known up to noise of the declared τ, pixels in [0, 1]. A bound is certain; an estimate rests on the \
                   sample's variances and may err either way.";
    let head = vec![
        "split",
        "channel",
        "information",
        "which is",
        "τ",
        "lower end of the MSE",
        "which is",
        "measured MSE",
    ];
    let what = |kind: Kind, bound: &'static str| match kind {
        Kind::Heuristic => "an estimate",
        _ => bound,
    };
    per_split(input, caption, head, |s| {
        let bound = s.leakage_bound.as_ref()?;
        let none = || "none".to_owned();
        Some(vec![
            bound.channel.to_string(),
            significant(bound.information_nats, 4),
            what(bound.information_kind, "an upper bound").to_owned(),
            bound.prior_tau.map_or_else(none, |tau| tau.to_string()),
            words::floor(Some(bound), 3),
            match bound.mse_floor_kind {
                Some(kind) => what(kind, "a bound for any attacker").to_owned(),
                None => bound.reason.clone().unwrap_or_default(),
            },
            significant(s.attack.mse_per_element, 4),
        ])
    })
}

fn attack_table(input: &ReportInput) -> Table {
    let part = input.splits.splits.first().map_or("test", |s| s.attack.part.as_str());
    let prior = input.splits.prior_tau.is_some();
    let caption = format!(
        "Attacks, on the {part} part: pixels in [0, 1], {:.0} % intervals over resampled images, decoders of the epoch that was best on the attacker's own \
         held-out images. MSE per element is the mean over channels too; the channel sum is what the method's literature prints, and is {}. {}",
        100.0 * input.splits.zone.evidence.level,
        match input.run.data.shown_shape.first() {
            Some(1) | None => "the same on grey pictures".to_owned(),
            Some(channels) => format!("{channels} times that"),
        },
        if prior {
            "MSE is the error in the picture with the prior's noise, which lower ends are about. The closest MSE, its PSNR and SSIM are with \
             the picture with or without that noise, whichever the attack came closer to: they say what is recognised."
        } else {
            "PSNR is that of the mean error."
        }
    );
    let measured_lpips = input.splits.splits.iter().any(|s| s.attack.lpips.is_some());
    let caption = if measured_lpips {
        caption + " LPIPS is version 0.1 with AlexNet: 0 for equal pictures, larger the less alike."
    } else {
        caption
    };
    // Behind a channel each attack stands for itself: nothing is effective, and none lags.
    let effective = input.splits.channel().is_none();
    let cells = |s: &SplitRecord| {
        let a = &s.attack;
        let mut cells = vec![
            ("MSE per element", significant(a.mse_per_element, 4)),
            ("interval", interval(&a.ci.mse_per_element)),
            ("MSE, channel sum", significant(a.mse_channel_sum, 4)),
        ];
        if effective {
            cells.push(("effective MSE", significant(a.mse_effective, 4)));
        }
        if prior {
            let closest = a.mse_closest.map_or_else(String::new, |mse| significant(mse, 4));
            cells.push(("closest MSE", closest));
        }
        cells.extend([
            ("PSNR (dB)", significant(a.psnr_db, 4)),
            ("SSIM", significant(a.ssim, 3)),
            ("interval", interval(&a.ci.ssim)),
        ]);
        if let (Some(lpips), Some(ci)) = (a.lpips, &a.ci.lpips) {
            cells.extend([("LPIPS", significant(lpips, 3)), ("interval", interval(ci))]);
        }
        if effective {
            cells.push(("attack lags", if a.attack_limited { "yes" } else { "no" }.to_string()));
        }
        cells
    };
    let titles = input.splits.splits.first().map(cells).unwrap_or_default();
    let head = std::iter::once("split").chain(titles.into_iter().map(|(title, _)| title)).collect();
    per_split(input, &caption, head, |s| Some(cells(s).into_iter().map(|(_, cell)| cell).collect()))
}

fn feature_table(input: &ReportInput) -> Table {
    let part = input.splits.splits.first().map_or("", |s| s.radius_sq.part.as_str());
    let before = if input.splits.channel().is_none() { "" } else { " before the channel" };
    let caption = format!(
        "Features{before}, on the {part} part, true labels, network in evaluation mode. R_c² with 1/N_c and, unbiased, with 1/(N_c − 1), averaged over \
         classes, {:.0} % jackknife intervals; R_c²/D and the variances are of the form with 1/N. R_c² and variances in squared units of each feature; \
         entropies in nats bound h(Z) from above. They neither bound what leaks nor rank splits by it: H(X|Z) ≥ H(X) − h(Z) − κ, and κ is unknown and \
         another at each layer.",
        100.0 * input.splits.zone.evidence.level
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

/// Whether the cheap probes rank the splits as the attacks do.
fn rank_table(input: &ReportInput) -> Table {
    let checks = &input.splits.rank_checks;
    let taps = checks.first().map_or(0, |check| check.taps);
    let part = input.splits.splits.first().map_or("test", |s| s.attack.part.as_str());
    let effective = input.splits.channel().is_none();
    let caption = format!(
        "Do the probes, which need no attack, rank the splits as the attacks do? Spearman's rank correlation over {} with the attacks' MSE on the \
         {part} part, ties at their mean rank: −1 where a smaller spread goes with a larger error throughout, as the method expects; 0 for no \
         relation.{}",
        words::taps(taps),
        if input.splits.zone.evidence.few_taps {
            " Over so few taps it shows next to nothing."
        } else {
            ""
        }
    );
    let value = |correlation: Option<f64>| {
        correlation.map_or_else(|| "not defined".to_owned(), |r| format!("{r:.2}"))
    };
    let rows = checks.iter().map(|check| {
        let probe = match check.probe {
            Probe::RadiusSqPerDim => "R_c²/D",
            Probe::WithinOverTotal => "within/total",
        };
        let mut cells = vec![
            probe.to_owned(),
            check.part.clone(),
            check.taps.to_string(),
            value(check.with_mse_per_element),
        ];
        if effective {
            cells.push(value(check.with_mse_effective));
        }
        TableRow { cells, recommended: false }
    });
    let mut head = vec!["probe", "taken on", "taps", "with the measured MSE"];
    if effective {
        head.push("with the effective MSE");
    }
    Table { caption, head, rows: rows.collect(), file: files::SPLITS_JSON }
}

fn steps_table(input: &ReportInput) -> Table {
    let evidence = &input.splits.zone.evidence;
    let released = &evidence.released_rule;
    let yes = |b: bool| if b { "yes" } else { "no" }.to_string();
    let error = if input.splits.channel().is_none() { "effective error" } else { "error" };
    let caption = format!(
        "What the verdict rests on, step by step: (a) within/total, unbiased, by true labels, on the {} part, falls more than on every earlier step in at least {} of {} resamples; \
         (b) the {error} per element on the {} part is at least {} times every earlier one, intervals disjoint. The last column is the published rule's \
         relative drop of R_c², which names {} and is not used.",
        input.splits.splits.first().map_or("", |s| s.radius_sq.part.as_str()),
        percent(evidence.required_share),
        thousands(evidence.resamples as u64),
        input.splits.splits.first().map_or("", |s| s.attack.part.as_str()),
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
