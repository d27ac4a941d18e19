//! The first screen: verdict, recommended cut, price, grounds and objections, in plain words.

use gpz_estimators::Kind;
use serde::Serialize;

use super::ReportInput;
use super::grid::Example;
use crate::splits::SplitRecord;
use crate::words::{self, RECOGNISABLE};
use crate::zone::StepEvidence;

/// The first screen as the template sees it.
#[derive(Serialize)]
pub(super) struct Headline {
    /// Class of the verdict: `yes`, `partly` or `no`.
    tone: &'static str,
    label: &'static str,
    verdict: String,
    reason: String,
    /// Title of the card on the cut: a recommendation or, without one, the split that leaks least.
    cut_title: &'static str,
    cut: String,
    cut_reason: String,
    /// The best reconstruction from there beside its original.
    example: Option<Example>,
    cost: Vec<[String; 2]>,
    rests_on: Vec<String>,
    strongest_objection: String,
    objections: Vec<String>,
}

impl Headline {
    pub(super) fn new(input: &ReportInput) -> Self {
        let mut objections = objections(input);
        let strongest_objection =
            if objections.is_empty() { String::new() } else { objections.remove(0) };
        let (tone, label) = match zone_ssim(input) {
            Some(ssim) if ssim < RECOGNISABLE => ("yes", "Zone found"),
            Some(_) => ("partly", "Zone found, but pictures remain recognisable"),
            None => ("no", "No zone"),
        };
        let (cut_title, cut) =
            match input.choice.split.as_deref().and_then(|name| input.splits.split(name)) {
                Some(split) => ("Recommended cut", Some(split)),
                None => ("Leaks least, not recommended", least_leaking(input)),
            };
        Self {
            tone,
            label,
            verdict: verdict(input),
            reason: sentence(&input.splits.zone.evidence.reason),
            cut_title,
            cut: cut.map_or_else(|| "none".to_string(), |s| s.name.clone()),
            cut_reason: sentence(&input.choice.reason),
            example: cut.and_then(|s| Example::new(input, &s.name)),
            cost: cut.map_or_else(Vec::new, |s| cost(input, s)),
            rests_on: rests_on(input),
            strongest_objection,
            objections,
        }
    }
}

/// The best SSIM an attacker reaches in the zone; `None` without a zone.
fn zone_ssim(input: &ReportInput) -> Option<f64> {
    words::zone_figures(&input.splits).map(|(_, ssim)| ssim)
}

/// The verdict as one sentence for somebody who has never heard of zones. It never leaves out what an attacker still gets.
fn verdict(input: &ReportInput) -> String {
    let file = &input.splits;
    let model = &file.model;
    let gets = |ssim: f64| {
        format!("{} (SSIM {})", words::what_an_attacker_gets(ssim), words::significant(ssim, 2))
    };
    let ends = (file.zone.first_split.as_deref(), file.zone.last_split.as_deref());
    if let ((Some(first), Some(last)), Some((ratio, ssim))) = (ends, words::zone_figures(file)) {
        // Behind a channel a zone need not reach to the end.
        let place = match file.splits.last() {
            Some(deepest) if deepest.name == last => format!("From {first} on"),
            _ if first == last => format!("At {first}"),
            _ => format!("From {first} to {last}"),
        };
        let joint = if ssim < RECOGNISABLE { "and get" } else { "but still get" };
        return format!(
            "{place}, attacks on what {model} sends make at least {} times the error of those on any earlier cut, {joint} {}.",
            words::significant(ratio, 3),
            gets(ssim)
        );
    }
    match least_leaking(input) {
        Some(split) => format!(
            "No cut of {model} stands out. At the least leaky, {}, the attack on what is sent gets {}.",
            split.name,
            gets(split.attack.ssim_effective)
        ),
        None => format!("No cut of {model} stands out."),
    }
}

/// The split with the largest effective error; of equal ones the shallowest.
pub(super) fn least_leaking(input: &ReportInput) -> Option<&SplitRecord> {
    let mut best: Option<&SplitRecord> = None;
    for split in &input.splits.splits {
        if best.is_none_or(|b| split.attack.mse_effective > b.attack.mse_effective) {
            best = Some(split);
        }
    }
    best
}

fn cost(input: &ReportInput, split: &SplitRecord) -> Vec<[String; 2]> {
    let attack = &split.attack;
    let decimals = words::spread_decimals(attack.mse_effective, &attack.ci.mse_effective);
    let row = |name: &str, value: String| [name.to_string(), value];
    let mut rows = vec![
        row("sent per image", words::bytes(split.wire_bytes)),
        row("edge computes", format!("{} of the MACs", words::percent(split.edge_macs_fraction))),
        row(
            "edge stores",
            format!("{} of the parameters", words::percent(split.edge_params_fraction)),
        ),
        row(
            "attacker's MSE",
            words::with_spread(attack.mse_effective, &attack.ci.mse_effective, decimals),
        ),
    ];
    if let Some((kind, bound)) =
        split.leakage_bound.as_ref().and_then(|b| Some((b.mse_floor_kind?, b)))
    {
        rows.push(row(words::lower_end(kind), words::floor(Some(bound), 2)));
    }
    if let Some(accuracy) = split.accuracy_behind_channel {
        rows.push(row("accuracy behind the channel", words::percent(accuracy)));
    }
    if let Some(blind) = input.run.mean_image {
        rows.push(row(
            "of a blind guess's MSE",
            words::percent(attack.mse_effective / blind.mse_per_element),
        ));
    }
    rows.push(row("attacker's SSIM", words::significant(attack.ssim_effective, 2)));
    rows.push(row(
        "attacker gets",
        words::what_an_attacker_gets(attack.ssim_effective).to_string(),
    ));
    rows
}

fn rests_on(input: &ReportInput) -> Vec<String> {
    let (run, evidence) = (&input.run, &input.splits.zone.evidence);
    let mut out = Vec::new();
    let kinds = {
        let mut kinds: Vec<&str> = Vec::new();
        for a in &run.attacks {
            if !kinds.contains(&a.attack.as_str()) {
                kinds.push(&a.attack);
            }
        }
        kinds.join(", ")
    };
    if !run.attacks.is_empty() {
        let n = run.attacks.len();
        let trained = format!(
            "{} {} trained against this very network",
            words::count(n),
            if n == 1 { "attack" } else { "attacks" }
        );
        out.push(format!("{trained} ({kinds}), on images of their own"));
    }
    // Of weights that were brought along nobody here knows what they were trained on.
    let unseen = if run.target.loaded_from.is_some() { "no attack" } else { "nobody" };
    out.push(format!(
        "reconstruction of {} test images {unseen} trained on; intervals at {:.0} % by resampling them",
        words::thousands(evidence.attack_images as u64),
        100.0 * evidence.level
    ));
    out.push(format!(
        "variance of the features of {} images",
        words::thousands(evidence.statistics_images as u64)
    ));
    out.push(format!(
        "a network that classifies {} of the test images right",
        words::percent(run.target.accuracy_test)
    ));
    if let Some(step) = decisive_step(input) {
        out.push(format!(
            "the step to {}: error ×{}, within-class share of variance {} by {} (largest fall so far in {} of the resamples)",
            step.to,
            words::significant(step.error_ratio, 3),
            if step.drop < 0.0 { "up" } else { "down" },
            words::significant(step.drop.abs(), 2),
            words::percent(step.largest_drop_share)
        ));
    }
    out
}

/// The step to the zone or, without one, that with the largest rise of the error.
fn decisive_step(input: &ReportInput) -> Option<&StepEvidence> {
    let zone = &input.splits.zone;
    match &zone.first_split {
        Some(first) => zone.evidence.steps.iter().find(|s| s.to == *first),
        None => zone
            .evidence
            .steps
            .iter()
            .filter(|s| !s.error_ratio.is_nan())
            .max_by(|a, b| a.error_ratio.total_cmp(&b.error_ratio)),
    }
}

/// Loss of accuracy by the channel from which on it is an objection.
const FELT: f64 = 0.01;

/// Training accuracy from which on a network counts as one that fits its training images.
const FITTED: f64 = 0.95;

/// What speaks against relying on this audit, the strongest first. Never empty: no audit of attacks proves their absence.
fn objections(input: &ReportInput) -> Vec<String> {
    let evidence = &input.splits.zone.evidence;
    let mut out = Vec::new();
    let cut = input.choice.split.as_deref().and_then(|name| input.splits.split(name));
    if let Some(cut) = cut.filter(|s| s.attack.ssim_effective >= RECOGNISABLE) {
        out.push(format!(
            "At {} pictures are still recognisable: the best attack reaches SSIM {}, and only below {RECOGNISABLE} is a picture held to be \
             unrecognisable.",
            cut.name,
            words::significant(cut.attack.ssim_effective, 2)
        ));
    }
    let without = input.run.target.accuracy_test;
    if let Some((cut, behind)) = cut
        .or_else(|| least_leaking(input))
        .and_then(|cut| Some((cut, cut.accuracy_behind_channel?)))
        .filter(|(_, behind)| without - behind > FELT)
    {
        out.push(format!(
            "Behind the channel the network classifies {} of the test images right at {}, without it {}: what the attacker lacks, the network \
             lacks too.",
            words::percent(behind),
            cut.name,
            words::percent(without)
        ));
    }
    let fitted = input.run.target.accuracy_train;
    // As it will be read: tenths of a percent.
    if (1e3 * fitted).round() < 1e3 * FITTED {
        out.push(format!(
            "The network classifies {} of its training images right. What the method says of deep features it says of networks that fit theirs, \
             from {} on: this run speaks neither for it nor against it.",
            words::percent(fitted),
            words::percent(FITTED)
        ));
    }
    if let Some(path) = &input.run.target.loaded_from {
        out.push(format!(
            "The network was not trained here but loaded from {path}: if it has learnt from the test images, or from other images than the \
             parts say, its accuracy and its held-out statistics are flattered."
        ));
    }
    if evidence.few_taps {
        let taps = words::taps(evidence.taps);
        out.push(format!("{}: too few places to tell a turn from a trend. This is a demonstration, not an audit.", capital(&taps)));
    }
    let restless: Vec<&str> =
        input.run.attacks.iter().filter(|a| !a.converged).map(|a| a.split.as_str()).collect();
    if !restless.is_empty() {
        out.push(format!(
            "Attacks had not come to rest when training stopped ({}): a patient attacker does better than shown.",
            list(&restless)
        ));
    }
    let limited: Vec<&str> = input
        .splits
        .splits
        .iter()
        .filter(|s| s.attack.attack_limited)
        .map(|s| s.name.as_str())
        .collect();
    if !limited.is_empty() {
        out.push(format!(
            "The attack on {} does worse than one on a deeper split, which its holder could imitate: it learnt too little or its decoder \
             is too small, and its figure is replaced by the deeper one's.",
            list(&limited)
        ));
    }
    out.push(bound_objection(input));
    out.push("One training of the network and of each attack: the intervals cover the choice of images, not that of the seed.".to_string());
    if let Some(found) = input
        .splits
        .zone
        .first_split
        .as_ref()
        .and_then(|first| evidence.steps.iter().position(|s| s.to == *first))
    {
        let (found, later) = (&evidence.steps[found], &evidence.steps[found + 1..]);
        if let Some(larger) = later.iter().find(|s| s.drop > found.drop) {
            out.push(format!(
                "At {} the within-class share of the variance falls by {}, at {} only by {}: the turn may come later than the verdict says.",
                larger.to,
                words::significant(larger.drop, 2),
                found.to,
                words::significant(found.drop, 2)
            ));
        }
    }
    let released = &evidence.released_rule.splits;
    if !released.is_empty()
        && input.splits.zone.first_split.as_ref().is_none_or(|first| !released.contains(first))
    {
        out.push(format!(
            "The rule published with the method, which looks at R_c² alone and follows width and scale, would have named {}.",
            released.join(" and ")
        ));
    }
    out
}

/// What the measured errors do not prove, and what is proved beside them.
fn bound_objection(input: &ReportInput) -> String {
    let tried = "These are the errors of the attackers that were tried.";
    let cut = input.choice.split.as_deref().and_then(|name| input.splits.split(name));
    let bound = cut
        .or_else(|| least_leaking(input))
        .and_then(|s| Some((s, s.leakage_bound.as_ref()?)))
        .and_then(|(s, bound)| Some((s, words::useful_floor(bound), bound.mse_floor_kind?)));
    match bound {
        Some((split, None, _)) => format!(
            "{tried} The channel lets so much through at {} that nothing of use is proven there: nothing keeps a better attacker from coming closer.",
            split.name
        ),
        Some((split, Some(floor), Kind::Lower)) => format!(
            "{tried} What is certain for any attacker at {} is a mean error of {}, {} times less: a better attacker may come as close as that.",
            split.name,
            words::significant(floor, 2),
            words::significant(split.attack.mse_per_element / floor, 2)
        ),
        Some((split, Some(floor), _)) => format!(
            "{tried} The lower end of any attacker's mean error at {} is estimated at {} from the variances of the features: it is no bound.",
            split.name,
            words::significant(floor, 2)
        ),
        None if input.splits.channel().is_none() => format!(
            "{tried} No noise or quantisation of the wire was declared, so there is no bound on what a better attacker could do."
        ),
        None => format!(
            "{tried} The channel is declared but no prior is, so there is no bound on what a better attacker could do."
        ),
    }
}

/// Names in a sentence, no more than six of them.
fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => one.to_string(),
        many if many.len() > 6 => format!("{} and {} more", many[..5].join(", "), many.len() - 5),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// The text with a capital at its beginning and a full stop at its end.
fn sentence(text: &str) -> String {
    let text = capital(text);
    if text.ends_with('.') { text } else { text + "." }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
