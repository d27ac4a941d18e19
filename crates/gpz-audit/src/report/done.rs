//! What was done and what was not: the facts of a run, in words.

use gpz_estimators::Kind;
use gpz_inversion::Keep;
use gpz_nn::Labels;
use serde::Serialize;

use super::ReportInput;
use crate::declared::Declared;
use crate::run_record::{AttackTraining, AuxiliaryRecord};
use crate::words::{self, counted, percent, shape, significant, thousands};

/// The section as the template sees it.
#[derive(Serialize)]
pub(super) struct Done {
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

impl Done {
    pub(super) fn new(input: &ReportInput) -> Self {
        let run = &input.run;
        let target = &run.target;
        let yes = |b: bool| if b { "yes" } else { "no" }.to_string();
        let training = match &target.loaded_from {
            Some(path) => format!("loaded from {path}"),
            None => format!(
                "{} epochs of batch {}{}, {}; epoch {} kept, the one of the {} on the validation part{}; at rest: {}",
                target.epochs,
                target.batch,
                if target.stopped_early { ", ended early" } else { "" },
                target.optimiser,
                target.chosen_epoch,
                target.kept_by.in_words(),
                match (target.kept_by, target.labels.parse::<Labels>()) {
                    (Keep::LowestLoss, Ok(labels)) if labels.bounded() != labels =>
                        " by one-hot labels",
                    _ => "",
                },
                yes(target.converged)
            ),
        };
        let versions: Vec<String> =
            run.provenance.versions.iter().map(|v| format!("{} {}", v.name, v.value)).collect();
        let fact = |name: &str, value: String| [name.to_owned(), value];
        let mut facts = vec![
            fact(
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
            fact("Its training", training),
        ];
        if target.loaded_from.is_none() {
            facts.push(fact("Its labels", labels_in_words(&target.labels)));
        }
        facts.extend([
            fact(
                "Its accuracy",
                format!(
                    "{} on the training images, {} on validation, {} on test",
                    percent(target.accuracy_train),
                    percent(target.accuracy_validation),
                    percent(target.accuracy_test)
                ),
            ),
            fact("Its collapse", collapse_in_words(target.nc1)),
            fact(
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
        ]);
        if let Some(auxiliary) = &run.data.auxiliary {
            facts.push(fact("The attacker's", auxiliary_in_words(auxiliary)));
        }
        facts.extend([
            fact("Channel", channel_in_words(input)),
            fact("Prior", prior_in_words(input)),
            fact("Seed", run.provenance.seed.to_string()),
            fact(
                "Device",
                format!(
                    "{}, {} (the figures do not depend on their number)",
                    run.provenance.device,
                    counted(run.provenance.threads, "thread")
                ),
            ),
            fact("Versions", versions.join(", ")),
        ]);
        Self {
            facts,
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
                        attacker(a),
                        thousands(a.decoder_params),
                        format!("{}, batch {}", a.optimiser, a.batch),
                        format!(
                            "{} of {}{}",
                            a.chosen_epoch,
                            a.epochs,
                            if a.stopped_early { ", ended early" } else { "" }
                        ),
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
}

/// What a label distribution puts where, for conventions differ.
fn labels_in_words(labels: &str) -> String {
    match labels.parse() {
        Ok(Labels::OneHot) => format!("{labels}: 1 on the true class, 0 on every other"),
        Ok(Labels::Smoothed(alpha)) => format!(
            "{labels}: 1 − α on the true class, α/(K − 1) on each of the K − 1 others, α = {alpha} (the convention of the method's released code)"
        ),
        Ok(Labels::SmoothedUniform(alpha)) => format!(
            "{labels}: 1 − α + α/K on the true class, α/K on each of the K − 1 others, α = {alpha} (smoothing towards the uniform distribution)"
        ),
        Err(_) => labels.to_owned(),
    }
}

fn collapse_in_words(nc1: Option<f64>) -> String {
    match nc1 {
        Some(nc1) => format!(
            "NC1 = tr(Σ_W Σ_B⁺)/K = {} at the last tap, on the target-train part, true labels, evaluation mode; 0 is full collapse",
            significant(nc1, 3)
        ),
        None => {
            "NC1 is not known: not identifiable on these features, or this gpz was built without LAPACK"
                .to_owned()
        }
    }
}

fn auxiliary_in_words(auxiliary: &AuxiliaryRecord) -> String {
    let shared = match auxiliary.shared {
        0 => String::new(),
        n => format!("; {} that the audited set holds as well are left out", counted(n, "picture")),
    };
    format!(
        "{}, {}: {}. {}. Stored as {}, {}{shared}. The {} of the audited set's own auxiliary part are used for nothing",
        auxiliary.name,
        auxiliary.stored_part,
        auxiliary.source,
        auxiliary.licence,
        shape(&auxiliary.native_shape),
        auxiliary.conversion,
        counted(auxiliary.left_out, "picture")
    )
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

fn measured_lpips(input: &ReportInput) -> bool {
    input.splits.splits.iter().any(|s| s.attack.lpips.is_some())
}

const NOT_DONE: [&str; 3] = [
    "No attack by optimisation of the input, no attack without access to the network, no attacker with a generative prior.",
    "No repetition over seeds: the spread between two trainings is not in the intervals.",
    "No measurement of latency or energy.",
];

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
    "MSE without a further word is per element: the mean of the squared error over images, height, width and channels, pixels in [0, 1]. The \
     channel sum, the convention of the method's literature, is that times the number of channels; a channel sum below 0.02 on RGB is called high \
     fidelity there.",
    "SSIM: Gaussian window σ = 1.5, 11×11, population covariances, range 1, mean over images and channels.",
    "R_c² is the mean squared distance to the class mean with 1/N_c, averaged over the classes of three images or more, by true labels; the \
     unbiased form has 1/(N_c − 1). Its intervals are jackknife intervals. Total, within and between variance are divided by the number of images.",
    "An attack is at rest if the last quarter of its epochs improves the best held-out error by less than 2 %.",
    "Splits are named as in the model and counted from 1; shapes are channels × height × width.",
];

/// The attack and its decoder.
fn attacker(attack: &AttackTraining) -> String {
    if attack.decoder.is_empty() {
        return attack.attack.clone();
    }
    format!("{}, {}", attack.attack, attack.decoder)
}
