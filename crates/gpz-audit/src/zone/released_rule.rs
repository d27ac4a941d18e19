//! The rule by which the method's released code names a layer, kept for comparison and never used for a verdict.

use serde::{Deserialize, Serialize};

/// Drops in between that are smaller than this leave the answer to one layer alone.
const SMALL_DROP: f64 = 0.2;

/// What the released rule answers and the drops it answers from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleasedRule {
    /// The layers it names: one, two in order of depth, or none where no drop is defined (fewer than two taps).
    pub splits: Vec<String>,
    /// The relative drop of the class-averaged R_c² at each step, shallowest first.
    pub drops: Vec<RelativeDrop>,
}

/// One step of the released rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelativeDrop {
    /// The split before the step.
    pub from: String,
    /// The split after it, which a large drop names.
    pub to: String,
    /// `(R_from − R_to) / R_from`; negative for a rise, not a number where `R_from` is zero or either is not finite.
    #[serde(with = "crate::number")]
    pub relative_drop: f64,
}

/// The released rule over the listed taps.
///
/// The largest relative drop of the class-averaged R_c² names its layer. If every drop strictly between the two largest is
/// below 0.2 in size (none lies between neighbours), that layer is the answer alone, otherwise both are. R_c² halves with the
/// width and scales with the square of the feature's unit, which is why this is no verdict.
///
/// - `names`, `radius_sq`: the taps, shallowest first; pairs beyond the shorter list are left out
#[must_use]
pub fn released_rule(names: &[&str], radius_sq: &[f64]) -> ReleasedRule {
    let taps: Vec<(&str, f64)> = names.iter().copied().zip(radius_sq.iter().copied()).collect();
    let step = |pair: &[(&str, f64)]| RelativeDrop {
        from: pair[0].0.to_string(),
        to: pair[1].0.to_string(),
        relative_drop: relative_drop(pair[0].1, pair[1].1),
    };
    let drops: Vec<RelativeDrop> = taps.windows(2).map(step).collect();

    // Steps by falling drop; of equal drops the shallower one first, as a stable sort leaves them.
    let mut ranked: Vec<usize> =
        (0..drops.len()).filter(|&i| drops[i].relative_drop.is_finite()).collect();
    ranked.sort_by(|&i, &j| drops[j].relative_drop.total_cmp(&drops[i].relative_drop));
    let answer = match ranked[..] {
        [] => vec![],
        [only] => vec![only],
        [largest, second, ..] => {
            let (shallow, deep) = (largest.min(second), largest.max(second));
            let small = |d: &RelativeDrop| d.relative_drop.abs() < SMALL_DROP;
            if drops[shallow + 1..deep].iter().all(small) {
                vec![largest]
            } else {
                vec![shallow, deep]
            }
        }
    };
    ReleasedRule { splits: answer.into_iter().map(|i| drops[i].to.clone()).collect(), drops }
}

fn relative_drop(before: f64, after: f64) -> f64 {
    let drop = (before - after) / before;
    if drop.is_finite() { drop } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(radius_sq: &[f64]) -> Vec<String> {
        released_rule(&["a", "b", "c", "d", "e"][..radius_sq.len()], radius_sq).splits
    }

    #[test]
    fn names_one_layer_or_two() {
        // Drops .5 (b), .1 (c), .4 (d): only .1 lies between the two largest.
        assert_eq!(answer(&[10.0, 5.0, 4.5, 2.7]), ["b"]);
        // Drops .5 (b), .3 (c), .4 (d): .3 lies between.
        assert_eq!(answer(&[10.0, 5.0, 3.5, 2.1]), ["b", "d"]);
        // A rise by more than a fifth is not small either: drops .5 (b), −.3 (c), .6 (d).
        assert_eq!(answer(&[10.0, 5.0, 6.5, 2.6]), ["b", "d"]);
        // Neighbours: nothing lies between them.
        assert_eq!(answer(&[10.0, 9.0, 4.0, 1.0]), ["d"]);
    }

    #[test]
    fn undefined_drops_are_passed_over() {
        assert_eq!(answer(&[]), [""; 0]);
        assert_eq!(answer(&[3.0]), [""; 0]);
        assert_eq!(answer(&[3.0, 2.0]), ["b"]);
        assert_eq!(answer(&[0.0, 3.0, 2.0]), ["c"]);
        let rule = released_rule(&["a", "b"], &[0.0, 1.0]);
        assert!(rule.drops[0].relative_drop.is_nan() && rule.splits.is_empty());
    }

    /// The confound it falls for: halving the width halves R_c² and nothing else.
    #[test]
    fn a_narrower_tap_looks_like_a_drop() {
        assert_eq!(answer(&[8.0, 8.0, 4.0, 4.0]), ["c"]);
    }
}
