//! From the files of a run to what the template shows: finished texts, tables and charts.

use gpz_estimators::Kind;
use serde::Serialize;

use super::ReportInput;
use super::charts::{Offer, ParetoChart, Series, SplitChart, training_chart};
use super::grid::Grid;
use super::headline::Headline;
use super::svg::Mark;
use super::tables::{self, Table};
use crate::declared::Declared;
use crate::run_dir::files;
use crate::splits::SplitRecord;
use crate::words::{self, counted, percent, shape, significant, thousands};

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
}

#[derive(Serialize)]
struct Done {
    facts: Vec<[String; 2]>,
    parts: Vec<[String; 3]>,
    attacks: Vec<[String; 6]>,
    resumed: bool,
    phases: Vec<[String; 2]>,
    notes: Vec<String>,
    not_done: Vec<String>,
    conventions: Vec<&'static str>,
    command: String,
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
            done: done(input),
            tables: tables::figures(input),
            files: vec![
                [
                    files::SPLITS_JSON,
                    "every figure of every split; the same bytes whenever the run is repeated",
                ],
                [files::SPLITS_CSV, "the same as a table, units in the column names"],
                [
                    files::CHOICE_JSON,
                    "the recommendation, the limits, and what ruled each split out",
                ],
                [files::RUN_JSON, "parts, training curves, versions, times"],
                [files::CONFIG, "the configuration with all defaults written out"],
                ["checkpoints/", "the target network and the decoders (safetensors)"],
                ["pictures/", "originals and reconstructions (PNG)"],
            ],
        }
    }
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
            "R_c², in squared units of each feature",
            radius,
            true,
        ),
        radius_per_dim: chart(
            "radius-per-dim",
            "R_c² per dimension over splits",
            "R_c²/D, freed of the width",
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
        training: training(input),
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
        true => "effective MSE per element, higher is safer",
        false => "MSE per element, higher is safer",
    };
    let size = (520.0, 340.0);
    ParetoChart { id, title, cost_axis, error_axis, log_cost, offers, size }.draw()
}

/// Held-out curves of the decoders; with more than eight they would hide each other.
fn training(input: &ReportInput) -> Option<String> {
    let curves: Vec<(&str, Vec<f64>)> = input
        .run
        .attacks
        .iter()
        .filter(|a| a.curve.len() > 1)
        .map(|a| (a.split.as_str(), a.curve.iter().map(|e| e.held_out_loss).collect()))
        .collect();
    (1..=8).contains(&curves.len()).then(|| training_chart("training", &curves, (640.0, 300.0)))
}

fn done(input: &ReportInput) -> Done {
    let run = &input.run;
    let target = &run.target;
    let yes = |b: bool| if b { "yes" } else { "no" }.to_string();
    let training = match &target.loaded_from {
        Some(path) => format!("loaded from {path}"),
        None => format!(
            "{} labels, {} epochs of batch {}, {}; epoch {} kept, chosen on the validation part; at rest: {}",
            target.labels,
            target.epochs,
            target.batch,
            target.optimiser,
            target.chosen_epoch,
            yes(target.converged)
        ),
    };
    let versions: Vec<String> =
        run.provenance.versions.iter().map(|v| format!("{} {}", v.name, v.value)).collect();
    let facts = [
        (
            "Network",
            format!(
                "{} {}: input {}, {} parameters, {} million multiply-accumulates per image",
                run.model.name,
                run.model.detail,
                shape(&run.model.input_shape),
                thousands(run.model.params),
                significant(run.model.macs as f64 / 1e6, 3)
            ),
        ),
        ("Its training", training),
        (
            "Its accuracy",
            format!(
                "{} on validation, {} on test",
                percent(target.accuracy_validation),
                percent(target.accuracy_test)
            ),
        ),
        (
            "Images",
            format!(
                "{}: {}. {}. Stored as {}, shown as {} ({}); {} classes",
                run.data.name,
                run.data.source,
                run.data.licence,
                shape(&run.data.native_shape),
                shape(&run.data.shown_shape),
                run.data.resize,
                run.data.class_names.len()
            ),
        ),
        ("Channel", channel_in_words(input)),
        ("Prior", prior_in_words(input)),
        ("Seed", run.provenance.seed.to_string()),
        (
            "Device",
            format!(
                "{}, {} (the figures do not depend on their number)",
                run.provenance.device,
                counted(run.provenance.threads, "thread")
            ),
        ),
        ("Versions", versions.join(", ")),
    ];
    Done {
        facts: facts.map(|(name, value)| [name.to_string(), value]).to_vec(),
        parts: run
            .data
            .parts
            .iter()
            .map(|p| [p.name.clone(), thousands(p.images as u64), p.used_for.clone()])
            .collect(),
        attacks: run
            .attacks
            .iter()
            .map(|a| {
                [
                    a.split.clone(),
                    a.attack.clone(),
                    thousands(a.decoder_params),
                    format!("{}, batch {}", a.optimiser, a.batch),
                    format!("{} of {}", a.chosen_epoch, a.epochs),
                    yes(a.converged),
                ]
            })
            .collect(),
        resumed: run.provenance.resumed,
        phases: run
            .provenance
            .phases
            .iter()
            .map(|p| [p.name.clone(), format!("{:.1} s", p.seconds)])
            .collect(),
        notes: run.notes.clone(),
        not_done: not_done(input),
        conventions: conventions(input),
        command: run.provenance.command.clone(),
    }
}

fn channel_in_words(input: &ReportInput) -> String {
    match input.splits.channel() {
        Declared::None => "none: features are sent exactly as they were computed".to_owned(),
        channel => format!(
            "{channel}: attackers and the rest of the network get what arrives; statistics of features are those before it"
        ),
    }
}

fn prior_in_words(input: &ReportInput) -> String {
    match input.run.prior_tau {
        None => "none: pictures are read as they are stored".to_owned(),
        Some(tau) => format!(
            "each picture is read with Gaussian noise of its own, τ = {tau}, at the size it is stored in; values are cut off for display \
             alone"
        ),
    }
}

fn not_done(input: &ReportInput) -> Vec<String> {
    let channel = input.splits.channel();
    let no_bound = match (words::floor_kind(&input.splits), channel) {
        (Some(Kind::Lower), _) => None,
        (Some(_), _) => Some(
            "No proven bound on the error: behind noise it rests on estimated variances of the features.",
        ),
        (None, Declared::None) => Some(
            "No bound on leakage: for a feature that is sent exactly, every such bound is infinite. A bound needs a declared channel (noise or \
             quantisation), and noise declared on the pictures.",
        ),
        (None, _) => Some(
            "No bound on the error: what arrives is bounded, but no prior was declared, and a picture as such has no density.",
        ),
    };
    let defence = match channel {
        Declared::None => "No defence was tried: features were sent as they are.".to_owned(),
        channel => format!(
            "No defence was tried but the channel {channel}; the network was not trained for it."
        ),
    };
    let mut all: Vec<String> = no_bound.map(str::to_owned).into_iter().collect();
    all.extend(NOT_DONE[..2].iter().map(|text| (*text).to_owned()));
    all.push(defence);
    all.extend(NOT_DONE[2..].iter().map(|text| (*text).to_owned()));
    if !measured_lpips(input) {
        all.push("No perceptual distance (LPIPS): its weights were not given.".to_owned());
    }
    all
}

const NOT_DONE: [&str; 3] = [
    "No attack by optimisation of the input, no attack without access to the network, no attacker with a generative prior.",
    "No repetition over seeds: the spread between two trainings is not in the intervals.",
    "No measurement of latency or energy.",
];

fn measured_lpips(input: &ReportInput) -> bool {
    input.splits.splits.iter().any(|s| s.attack.lpips.is_some())
}

fn conventions(input: &ReportInput) -> Vec<&'static str> {
    let effective = match input.splits.channel() {
        Declared::None => {
            "The effective error of a split is the smallest error measured on it or on any deeper split, because its holder can compute every \
             deeper feature."
        }
        _ => {
            "Behind a channel the effective error of a split is the measured one: what arrives at a deeper split has noise or rounding of its \
             own, and does not follow from what arrives at an earlier one."
        }
    };
    let prior = input.splits.prior_tau.map(|_| {
        "Errors are errors in the picture with the prior's noise. SSIM, PSNR and LPIPS, and with them every word on what an attacker gets and every \
         limit on quality, are with the picture with or without that noise, whichever the attack came closer to."
    });
    let [first, rest @ ..] = CONVENTIONS;
    let lpips = measured_lpips(input).then_some(
        "LPIPS (Zhang et al. 2018): version 0.1 with AlexNet and its linear weights, pixels brought to [−1, 1], a grey picture as three \
         equal channels, mean over images.",
    );
    [first, effective].into_iter().chain(prior).chain(rest).chain(lpips).collect()
}

const CONVENTIONS: [&str; 5] = [
    "Error per element is the mean over height, width and channels; the channel sum is that times the number of channels.",
    "SSIM: Gaussian window σ = 1.5, 11×11, population covariances, range 1, mean over images and channels.",
    "R_c² is the mean squared distance to the class mean with 1/N_c, averaged over classes, by true labels; the unbiased form has \
     1/(N_c − 1). Its intervals are jackknife intervals.",
    "An attack is at rest if the last quarter of its epochs improves the best held-out error by less than 2 %.",
    "Splits are named as in the model and counted from 1; shapes are channels × height × width.",
];
