//! Which split to take, under limits on what it may cost and on what it may give away.
//!
//! # The rule
//! 1. Every limit that is set rules out the splits that exceed it.
//! 2. Of those left, **if a limit on quality is set**, protection enough has been defined: the cheapest split wins, by edge MACs,
//!    then by wire bytes.
//! 3. If only costs are limited, the most resistant split that is affordable wins: the largest effective error; of the splits
//!    whose interval reaches into the largest one's, the cheapest, because the data do not tell them apart.
//! 4. Without any limit the zone decides: its first split, the cheapest place that is inside. Without a zone nothing decides.
//!
//! Quality is judged by what an attacker can really do: effective error, SSIM and PSNR, which are the best on this or any deeper split or,
//! behind a channel, those of the split itself. Under a declared prior all three are judged against the picture with or without the prior's
//! noise, whichever the attack came closer to: the noise alone protects nobody from being recognised.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::intervals::Interval;
use crate::json;
use crate::splits::SplitRecord;
use crate::zone::{Verdict, ZoneRecord};

/// Limits on a split. An absent one does not bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most bytes that may cross the wire per image.
    pub max_wire_bytes: Option<u64>,
    /// Largest fraction of the model's multiply-accumulates the edge can bear, in (0, 1].
    pub max_edge_macs_fraction: Option<f64>,
    /// Smallest effective mean squared error per element the attacker must be left with, the noise of a prior not counted.
    pub min_mse_effective: Option<f64>,
    /// Largest effective SSIM an attack may reach.
    pub max_ssim: Option<f64>,
    /// Largest PSNR, in dB, of the effective error an attack may reach.
    pub max_psnr_db: Option<f64>,
}

/// Name of a limit, its value, whether the value means something, and what it must be.
type Check = (&'static str, Option<f64>, fn(f64) -> bool, &'static str);

impl Limits {
    /// Whether no limit is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a limit on the quality of reconstructions is set.
    #[must_use]
    pub fn bounds_quality(&self) -> bool {
        self.min_mse_effective.is_some() || self.max_ssim.is_some() || self.max_psnr_db.is_some()
    }

    /// Checks that each limit lies where it can mean something.
    ///
    /// # Errors
    /// [`Error::Limit`] names the first that does not.
    pub fn validate(&self) -> Result<()> {
        let checks: [Check; 5] = [
            (
                "max_wire_bytes",
                self.max_wire_bytes.map(|b| b as f64),
                |v| v > 0.0,
                "give at least 1 byte",
            ),
            (
                "max_edge_macs_fraction",
                self.max_edge_macs_fraction,
                |v| v > 0.0 && v <= 1.0,
                "give a fraction above 0 and up to 1",
            ),
            (
                "min_mse_effective",
                self.min_mse_effective,
                |v| (0.0..=1.0).contains(&v),
                "give an error per element in [0, 1]",
            ),
            (
                "max_ssim",
                self.max_ssim,
                |v| (-1.0..=1.0).contains(&v),
                "give a similarity in [-1, 1]",
            ),
            ("max_psnr_db", self.max_psnr_db, |v| v.is_finite(), "give a number of decibels"),
        ];
        for (limit, value, good, mend) in checks {
            if let Some(value) = value.filter(|&v| !good(v)) {
                return Err(Error::Limit { limit, value, mend });
            }
        }
        Ok(())
    }

    /// The limits that `split` exceeds.
    fn exceeded_by(&self, split: &SplitRecord) -> Vec<Exceeded> {
        let attack = &split.attack;
        let most = |limit, allowed: Option<f64>, actual: f64| {
            (limit, allowed, actual, allowed.is_some_and(|a| actual <= a))
        };
        let least = |limit, allowed: Option<f64>, actual: f64| {
            (limit, allowed, actual, allowed.is_some_and(|a| actual >= a))
        };
        let psnr_db = gpz_inversion::metrics::psnr_db(attack.recognition_error(), 1.0);
        [
            most("max_wire_bytes", self.max_wire_bytes.map(|b| b as f64), split.wire_bytes as f64),
            most("max_edge_macs_fraction", self.max_edge_macs_fraction, split.edge_macs_fraction),
            least("min_mse_effective", self.min_mse_effective, attack.recognition_error()),
            most("max_ssim", self.max_ssim, attack.ssim_effective),
            most("max_psnr_db", self.max_psnr_db, psnr_db),
        ]
        .into_iter()
        .filter(|(_, _, _, met)| !met)
        .filter_map(|(limit, allowed, actual, _)| {
            Some(Exceeded { limit: limit.to_string(), allowed: allowed?, actual })
        })
        .collect()
    }
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The cheapest split that meets the limits on quality.
    Cheapest,
    /// The most resistant split that meets the limits on cost.
    MostResistant,
    /// The first split of the zone; no limits were set.
    Zone,
}

/// The contents of `choice.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceRecord {
    /// Name of the chosen split; `null` where nothing decides.
    pub split: Option<String>,
    /// Why this one, or why none, in one sentence.
    pub reason: String,
    /// By which rule.
    pub objective: Objective,
    /// The limits that were set.
    pub limits: Limits,
    /// Every split, shallowest first, with what ruled it out.
    pub candidates: Vec<Candidate>,
}

/// One split under the limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The split.
    pub split: String,
    /// Whether it meets every limit.
    pub feasible: bool,
    /// The limits it exceeds.
    pub ruled_out_by: Vec<Exceeded>,
}

/// A limit that a split exceeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exceeded {
    /// Name of the limit.
    pub limit: String,
    /// What it allows.
    #[serde(with = "crate::number")]
    pub allowed: f64,
    /// What the split has.
    #[serde(with = "crate::number")]
    pub actual: f64,
}

impl ChoiceRecord {
    /// The text of `choice.json`.
    ///
    /// # Errors
    /// [`Error::Json`]; does not occur for values of this type.
    pub fn to_json(&self) -> Result<String> {
        json::to_text(self, "choice.json")
    }
}

/// Chooses a split.
///
/// - `splits`: shallowest first
/// - `zone`: the verdict on the same splits; decides only where no limit is set
///
/// # Errors
/// [`Error::Limit`] for a limit outside its meaning.
pub fn choose(splits: &[SplitRecord], zone: &ZoneRecord, limits: &Limits) -> Result<ChoiceRecord> {
    limits.validate()?;
    let candidates: Vec<Candidate> = splits
        .iter()
        .map(|split| {
            let ruled_out_by = limits.exceeded_by(split);
            Candidate { split: split.name.clone(), feasible: ruled_out_by.is_empty(), ruled_out_by }
        })
        .collect();
    let feasible: Vec<&SplitRecord> =
        splits.iter().zip(&candidates).filter(|(_, c)| c.feasible).map(|(s, _)| s).collect();
    let (objective, split, reason) = if limits.is_empty() {
        by_zone(zone)
    } else if limits.bounds_quality() {
        cheapest(&feasible, &candidates)
    } else {
        most_resistant(&feasible, &candidates)
    };
    Ok(ChoiceRecord { split, reason, objective, limits: *limits, candidates })
}

type Decision = (Objective, Option<String>, String);

fn by_zone(zone: &ZoneRecord) -> Decision {
    let reason = match (&zone.verdict, &zone.first_split) {
        (Verdict::Zone, Some(first)) => format!("no limits were set and {first} is the first split of the zone"),
        _ => "no limits were set and there is no zone: nothing decides; set limits on cost or quality".to_string(),
    };
    (Objective::Zone, zone.first_split.clone(), reason)
}

fn cheapest(feasible: &[&SplitRecord], candidates: &[Candidate]) -> Decision {
    let Some(best) = feasible.iter().copied().min_by(|a, b| by_cost(a, b)) else {
        return (Objective::Cheapest, None, nothing_feasible(candidates));
    };
    let reason = format!(
        "of {} that meet every limit {} is the cheapest: {:.1} % of the MACs on the edge, {} bytes on the wire, effective error {:.4}",
        count(feasible.len()),
        best.name,
        100.0 * best.edge_macs_fraction,
        best.wire_bytes,
        best.attack.mse_effective
    );
    (Objective::Cheapest, Some(best.name.clone()), reason)
}

fn most_resistant(feasible: &[&SplitRecord], candidates: &[Candidate]) -> Decision {
    let error = |s: &SplitRecord| s.attack.mse_effective;
    let Some(strongest) = feasible.iter().copied().max_by(|a, b| error(a).total_cmp(&error(b)))
    else {
        return (Objective::MostResistant, None, nothing_feasible(candidates));
    };
    let interval = |s: &SplitRecord| -> Interval { s.attack.ci.mse_effective };
    let level = |s: &&&SplitRecord| !interval(strongest).is_above(&interval(s));
    let best =
        feasible.iter().filter(level).copied().min_by(|a, b| by_cost(a, b)).unwrap_or(strongest);
    let reason = if best.name == strongest.name {
        format!(
            "of {} within the limits {} leaves the largest effective error, {:.4}",
            count(feasible.len()),
            best.name,
            error(best)
        )
    } else {
        format!(
            "within the limits the largest effective error is {:.4} at {}; of the splits that cannot be told from it {} ({:.4}) is the \
             cheapest",
            error(strongest),
            strongest.name,
            best.name,
            error(best)
        )
    };
    (Objective::MostResistant, Some(best.name.clone()), reason)
}

fn by_cost(a: &SplitRecord, b: &SplitRecord) -> std::cmp::Ordering {
    a.edge_macs_fraction.total_cmp(&b.edge_macs_fraction).then(a.wire_bytes.cmp(&b.wire_bytes))
}

fn count(n: usize) -> String {
    if n == 1 { "1 split".to_string() } else { format!("{n} splits") }
}

/// Says which limit to relax first: the one that alone keeps most splits out.
fn nothing_feasible(candidates: &[Candidate]) -> String {
    /// Splits that exceed a limit, and those of them that exceed no other.
    struct Blocker<'a> {
        limit: &'a str,
        splits: usize,
        alone: usize,
    }
    let mut blockers: Vec<Blocker<'_>> = Vec::new();
    for candidate in candidates {
        let alone = usize::from(candidate.ruled_out_by.len() == 1);
        for Exceeded { limit, .. } in &candidate.ruled_out_by {
            match blockers.iter_mut().find(|blocker| blocker.limit == limit) {
                Some(blocker) => {
                    blocker.splits += 1;
                    blocker.alone += alone;
                }
                None => blockers.push(Blocker { limit, splits: 1, alone }),
            }
        }
    }
    let list: Vec<String> =
        blockers.iter().map(|b| format!("{} rules out {}", b.limit, b.splits)).collect();
    // Of equal ones the first, in the order in which limits are listed.
    let first = blockers.iter().rev().max_by_key(|blocker| blocker.alone);
    let mend = match first.filter(|blocker| blocker.alone > 0) {
        Some(Blocker { limit, alone, .. }) => {
            format!("relax {limit} first, which alone keeps out {alone}")
        }
        None => "each split exceeds several, so relax more than one".to_owned(),
    };
    format!("no split meets every limit: of {} {}; {mend}", candidates.len(), list.join(", "))
}

#[cfg(test)]
mod tests;
