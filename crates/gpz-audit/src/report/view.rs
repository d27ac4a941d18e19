//! From the files of a run to what the template shows: finished texts, tables and charts.

use gpz_estimators::Kind;
use serde::Serialize;

use super::ReportInput;
use super::charts::{Offer, ParetoChart, Series, SplitChart};
use super::curves::{self, History};
use super::done::Done;
use super::grid::Grid;
use super::headline::Headline;
use super::svg::Mark;
use super::tables::{self, Table};
use crate::run_dir::files;
use crate::splits::SplitRecord;
use crate::words::{self, significant};

/// Everything the template refers to.
#[derive(Serialize)]
pub(super) struct View {
    style: &'static str,
    title: String,
    subtitle: String,
    headline: Headline,
    grid: Option<Grid>,
    charts: Charts,
    floor: Option<String>,
    /// What is bounded, or why nothing is.
    bound: Bound,
    /// Behind a channel effective figures are the measured ones.
    effective: bool,
    price: Table,
    done: Done,
    tables: Vec<Table>,
    files: Vec<[&'static str; 2]>,
}

#[derive(Serialize)]
struct Charts {
    error: String,
    radius: String,
    radius_per_dim: String,
    within_over_total: String,
    pareto_wire: String,
    pareto_macs: String,
    training: Option<String>,
    /// R_c²/D and within/total over the target's epochs.
    history: Option<History>,
}

/// What the figure of the error says of bounds.
#[derive(Serialize)]
struct Bound {
    /// In bold.
    label: String,
    text: String,
}

impl Bound {
    fn new(input: &ReportInput) -> Self {
        let (label, text) = match words::floor_kind(&input.splits) {
            Some(Kind::Lower) => (
                "Triangles: no attacker's mean error is below, known or unknown.",
                "It follows from the bits that are sent and from the noise on the pictures alone, and holds on average over pictures and \
                 noise, not for each of them. Where it lies far below, an arrow points to it.",
            ),
            Some(_) => (
                "Triangles: the estimated lower end of any attacker's error.",
                "It rests on estimated variances of the features: an estimate, not a bound. Where it lies far below, an arrow points to it.",
            ),
            None if input.splits.channel().is_none() => {
                ("No bound: no channel declared.", no_channel(input))
            }
            None => (
                "No bound on the error: no prior declared.",
                "What arrives is limited, but a picture as such has no density: as long as anything may be expected of it, nothing \
                 keeps an attacker from guessing it. A bound needs noise declared on the pictures (--prior-tau).",
            ),
        };
        Self { label: label.to_owned(), text: text.to_owned() }
    }
}

fn no_channel(input: &ReportInput) -> &'static str {
    match input.run.prior_tau {
        Some(_) => {
            "A prior is declared, but a feature that is sent exactly carries infinite information all the same (--channel)."
        }
        None => {
            "A feature that is sent exactly carries infinite information, and a picture as such has no density: a bound needs a declared \
             channel (--channel) and noise declared on the pictures (--prior-tau)."
        }
    }
}

impl View {
    pub(super) fn new(input: &ReportInput) -> Self {
        let run = &input.run;
        let seconds = run.seconds();
        let took = if seconds < 120.0 {
            format!("{seconds:.0} s")
        } else {
            format!("{:.0} min", seconds / 60.0)
        };
        Self {
            style: include_str!("style.css"),
            title: format!("Where to cut {}", input.splits.model),
            subtitle: format!(
                "{} {} · {} · {} · seed {} · {} · {took}",
                run.model.name,
                run.model.detail,
                run.data.name,
                run.provenance.device,
                run.provenance.seed,
                run.provenance.started_utc
            ),
            headline: Headline::new(input),
            grid: Grid::new(input),
            charts: charts(input),
            floor: run.mean_image.map(|m| significant(m.mse_per_element, 3)),
            bound: Bound::new(input),
            effective: input.splits.channel().is_none(),
            price: tables::price(input),
            done: Done::new(input),
            tables: tables::figures(input),
            files: files_of(input),
        }
    }
}

fn files_of(input: &ReportInput) -> Vec<[&'static str; 2]> {
    let mut all = vec![
        [
            files::SPLITS_JSON,
            "every figure of every split; the same bytes whenever the run is repeated",
        ],
        [files::SPLITS_CSV, "the same as a table, units in the column names"],
        [files::CHOICE_JSON, "the recommendation, the limits, and what ruled each split out"],
        [files::RUN_JSON, "parts, training curves, accuracies, NC1, versions, times"],
        [files::CONFIG, "the configuration with all defaults written out"],
        ["checkpoints/", "the target network and the decoders (safetensors)"],
        ["pictures/", "originals and reconstructions (PNG)"],
    ];
    if input.radius.is_some() {
        all.insert(
            4,
            [files::RADIUS_HISTORY, "the radius of each split while the network was trained"],
        );
    }
    all
}

fn charts(input: &ReportInput) -> Charts {
    let splits = &input.splits.splits;
    let names: Vec<&str> = splits.iter().map(|s| s.name.as_str()).collect();
    let position =
        |name: &Option<String>| name.as_deref().and_then(|n| names.iter().position(|s| *s == n));
    let zone =
        position(&input.splits.zone.first_split).zip(position(&input.splits.zone.last_split));
    let recommended = position(&input.choice.split);
    let all = |f: fn(&SplitRecord) -> f64| splits.iter().map(f).collect::<Vec<f64>>();
    let chart = |id: &'static str,
                 title: &'static str,
                 axis: &'static str,
                 series: Vec<Series<'_>>,
                 log: bool| {
        SplitChart {
            id,
            title,
            axis,
            splits: &names,
            series,
            floor: None,
            zone,
            recommended,
            log,
            size: (420.0, 150.0),
            full: false,
        }
        .draw()
    };
    let single = |values: Vec<f64>, mark: Mark| {
        vec![Series {
            name: "value",
            values,
            intervals: None,
            mark,
            class: "third",
            to_edge: false,
        }]
    };
    let mut series = vec![Series {
        name: "measured",
        values: all(|s| s.attack.mse_per_element),
        intervals: Some(splits.iter().map(|s| s.attack.ci.mse_per_element).collect()),
        mark: Mark::Circle,
        class: "measured",
        to_edge: false,
    }];
    if input.splits.channel().is_none() {
        series.push(Series {
            name: "effective",
            values: all(|s| s.attack.mse_effective),
            intervals: Some(splits.iter().map(|s| s.attack.ci.mse_effective).collect()),
            mark: Mark::Square,
            class: "effective",
            to_edge: false,
        });
    }
    if let Some(kind) = words::floor_kind(&input.splits) {
        let floor = |s: &SplitRecord| s.leakage_bound.as_ref().and_then(|bound| bound.mse_floor);
        series.push(Series {
            name: match kind {
                Kind::Lower => "no attacker comes below",
                _ => "estimated lower end",
            },
            values: splits.iter().map(|s| floor(s).unwrap_or(f64::NAN)).collect(),
            intervals: None,
            mark: Mark::Triangle,
            class: "bound",
            to_edge: true,
        });
    }
    let error = SplitChart {
        id: "error",
        title: "Error the attackers are left with, over splits",
        axis: "mean squared error per element, log scale; higher is safer",
        splits: &names,
        series,
        floor: input.run.mean_image.map(|m| ("answering with the mean image", m.mse_per_element)),
        zone,
        recommended,
        log: true,
        size: (640.0, 470.0),
        full: true,
    };
    let mut radius = single(all(|s| s.radius_sq.value), Mark::Diamond);
    radius[0].intervals = Some(splits.iter().map(|s| s.radius_sq.ci).collect());
    let mut share = single(all(|s| s.variance.within_over_total()), Mark::Square);
    let taps = &input.splits.zone.evidence.per_tap;
    if taps.len() == splits.len() {
        share[0].values = taps.iter().map(|t| t.within_over_total).collect();
        share[0].intervals = Some(taps.iter().map(|t| t.within_over_total_ci).collect());
    }
    Charts {
        error: error.draw(),
        radius: chart(
            "radius",
            "R_c² over splits",
            "R_c², in squared units of each feature, log scale",
            radius,
            true,
        ),
        radius_per_dim: chart(
            "radius-per-dim",
            "R_c² per dimension over splits",
            "R_c²/D, freed of the width, log scale",
            single(all(|s| s.radius_sq.per_dim), Mark::Triangle),
            true,
        ),
        within_over_total: chart(
            "share",
            "Within-class share of variance over splits",
            "within/total variance, freed of width and scale",
            share,
            false,
        ),
        pareto_wire: pareto(
            input,
            "pareto-wire",
            "Protection against bytes on the wire",
            "KiB on the wire per image, log scale",
            true,
            |s| s.wire_bytes as f64 / 1024.0,
        ),
        pareto_macs: pareto(
            input,
            "pareto-macs",
            "Protection against work on the edge",
            "% of the computation on the edge",
            false,
            |s| 100.0 * s.edge_macs_fraction,
        ),
        training: curves::training(input),
        history: History::new(input),
    }
}

fn pareto(
    input: &ReportInput,
    id: &str,
    title: &str,
    cost_axis: &str,
    log_cost: bool,
    cost: fn(&SplitRecord) -> f64,
) -> String {
    let offer = |s: &'_ SplitRecord| -> (String, f64, bool) {
        (s.name.clone(), cost(s), input.choice.split.as_deref() == Some(s.name.as_str()))
    };
    let rows: Vec<(String, f64, bool)> = input.splits.splits.iter().map(offer).collect();
    let offers = rows
        .iter()
        .zip(&input.splits.splits)
        .map(|((name, cost, recommended), s)| Offer {
            name,
            cost: *cost,
            error: s.attack.mse_effective,
            interval: s.attack.ci.mse_effective,
            recommended: *recommended,
        })
        .collect();
    let error_axis = match input.splits.channel().is_none() {
        true => "effective MSE per element, log scale; higher is safer",
        false => "MSE per element, log scale; higher is safer",
    };
    let size = (520.0, 340.0);
    ParetoChart { id, title, cost_axis, error_axis, log_cost, offers, size }.draw()
}
