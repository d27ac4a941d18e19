//! Whether the cheap probes rank the splits as the attacks do.
//!
//! A probe is worth something if splits on which it is small are those on which attackers err most. That is a matter of ranks, so it is
//! measured by Spearman's rank correlation over the taps: −1 where the probe ranks exactly against the error, which is what the method
//! claims of R_c², 0 where it says nothing, +1 where it ranks the wrong way round. Over few taps even ±1 comes about by chance.

use serde::{Deserialize, Serialize};

use crate::splits::{SplitRecord, VarianceRecord};

/// A quantity that is read off features without any attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// R_c²/D.
    RadiusSqPerDim,
    /// Within-class over total variance.
    WithinOverTotal,
}

/// A probe, taken on a part, against the errors of the attacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankCheck {
    /// The probe.
    pub probe: Probe,
    /// Part of the data it was taken on.
    pub part: String,
    /// Number of taps that are ranked.
    pub taps: usize,
    /// Spearman's rank correlation with `mse_per_element`, ties at their mean rank; `null` below two taps, where all of either are equal,
    /// and where one is no number.
    #[serde(with = "crate::number::option")]
    pub with_mse_per_element: Option<f64>,
    /// The same with `mse_effective`.
    #[serde(with = "crate::number::option")]
    pub with_mse_effective: Option<f64>,
}

/// Both probes on every part on which they were taken.
pub(crate) fn rank_checks(splits: &[SplitRecord]) -> Vec<RankCheck> {
    let column = |f: &dyn Fn(&SplitRecord) -> f64| -> Vec<f64> { splits.iter().map(f).collect() };
    let measured = column(&|s| s.attack.mse_per_element);
    let effective = column(&|s| s.attack.mse_effective);
    let check = |probe, part: &str, values: Vec<f64>| RankCheck {
        probe,
        part: part.to_owned(),
        taps: splits.len(),
        with_mse_per_element: spearman(&values, &measured),
        with_mse_effective: spearman(&values, &effective),
    };
    let Some(first) = splits.first() else { return Vec::new() };
    let share = VarianceRecord::within_over_total;
    let mut checks = vec![
        check(Probe::RadiusSqPerDim, &first.radius_sq.part, column(&|s| s.radius_sq.per_dim)),
        check(Probe::WithinOverTotal, &first.variance.part, column(&|s| share(&s.variance))),
    ];
    let held_out: Option<Vec<_>> = splits.iter().map(|s| s.held_out.as_ref()).collect();
    if let Some(held_out) = held_out {
        let part = &held_out[0].radius_sq.part;
        let radii = held_out.iter().map(|h| h.radius_sq.per_dim).collect();
        checks.push(check(Probe::RadiusSqPerDim, part, radii));
        let shares = held_out.iter().map(|h| share(&h.variance)).collect();
        checks.push(check(Probe::WithinOverTotal, part, shares));
    }
    checks
}

/// Spearman's rank correlation: that of Pearson between ranks, where equal values share their mean rank.
///
/// None below two pairs, where all values of a list are equal, and where one is NaN.
///
/// # Source
/// Spearman, The proof and measurement of association between two things, 1904.
#[must_use]
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 2 || a.iter().chain(b).any(|v| v.is_nan()) {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    // Ranks always have this mean, ties or none.
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum()
    };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.0).then(|| product(&a, &b) / scale)
}

/// 1 for the smallest; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |v: &f64| values.iter().filter(|w| *w < v).count() as f64;
    let equal = |v: &f64| values.iter().filter(|w| *w == v).count() as f64;
    values.iter().map(|v| below(v) + (equal(v) + 1.0) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_their_ties() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, -2.0, 3.0]), [4.0, 2.0, 4.0, 1.0, 4.0]);
        assert_eq!(ranks(&[f64::INFINITY, 0.0, f64::NEG_INFINITY]), [3.0, 2.0, 1.0]);
    }

    /// By hand: without ties 1 − 6 Σ d²/(n (n² − 1)); with them Pearson's correlation of the ranks.
    #[test]
    fn correlations_by_hand() {
        let close = |got: Option<f64>, want: f64| {
            assert!(got.is_some_and(|got| (got - want).abs() < 1e-15), "{got:?} for {want}");
        };
        let falling = [9.0, 4.0, 1.0, 0.5];
        close(spearman(&falling, &[1.0, 2.0, 3.0, 400.0]), -1.0);
        close(spearman(&falling, &falling), 1.0);
        // Differences of ranks 1, 1, 1, 1 of four: 1 − 6 · 4/60.
        close(spearman(&[1.0, 2.0, 3.0, 4.0], &[20.0, 10.0, 40.0, 30.0]), 0.6);
        // Ranks 1, 2, 3 and 1.5, 1.5, 3: deviations −1, 0, 1 and −0.5, −0.5, 1, so 1.5/√(2 · 1.5).
        close(spearman(&[1.0, 2.0, 3.0], &[5.0, 5.0, 6.0]), 1.5 / 3f64.sqrt());
        for (a, b) in [
            (&[1.0][..], &[1.0][..]),
            (&[1.0, 2.0], &[3.0, 3.0]),
            (&[1.0, f64::NAN], &[1.0, 2.0]),
            (&[1.0, 2.0], &[1.0, 2.0, 3.0]),
            (&[], &[]),
        ] {
            assert_eq!(spearman(a, b), None);
        }
    }
}
