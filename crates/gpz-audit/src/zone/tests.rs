//! Synthetic sweeps with a known answer, and the laws of the verdict.

use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const NAMES: [&str; 10] = ["t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9", "t10"];

/// Per-image figures of a sweep, as a run would measure them.
#[derive(Debug, Clone)]
struct Sweep {
    within: Vec<Vec<f64>>,
    total: Vec<Vec<f64>>,
    mse: Vec<Vec<f64>>,
    radius_sq: Vec<f64>,
}

impl Sweep {
    /// A sweep whose taps have the given within/total ratios and mean errors; `noise` is the relative spread over images.
    fn new(ratios: &[f64], errors: &[f64], noise: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut spread = |n: usize, mean: f64| -> Vec<f64> {
            (0..n).map(|_| mean * (1.0 + noise * (2.0 * rng.random::<f64>() - 1.0))).collect()
        };
        Self {
            within: ratios.iter().map(|&r| spread(300, 40.0 * r)).collect(),
            total: ratios.iter().map(|_| spread(300, 40.0)).collect(),
            mse: errors.iter().map(|&e| spread(200, e)).collect(),
            radius_sq: ratios.iter().map(|&r| 40.0 * r).collect(),
        }
    }

    /// Ten taps, nothing happens until the seventh, where the variance collapses and the error triples.
    fn planted(noise: f64, seed: u64) -> Self {
        let ratios = [0.80, 0.78, 0.77, 0.74, 0.73, 0.70, 0.35, 0.30, 0.28, 0.27];
        let errors = [0.002, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.015, 0.017, 0.018, 0.02];
        Self::new(&ratios, &errors, noise, seed)
    }

    /// Multiplies the feature of tap `k` by `factor`.
    fn rescale(&mut self, k: usize, factor: f64) {
        for v in self.within[k].iter_mut().chain(&mut self.total[k]) {
            *v *= factor * factor;
        }
        self.radius_sq[k] *= factor * factor;
    }

    fn locate(&self) -> ZoneRecord {
        self.try_locate().unwrap()
    }

    fn try_locate(&self) -> Result<ZoneRecord> {
        self.locate_where(Deeper::Follows)
    }

    fn locate_where(&self, deeper: Deeper) -> Result<ZoneRecord> {
        let tap = |k: usize| TapEvidence {
            name: NAMES[k],
            within_i: &self.within[k],
            total_i: &self.total[k],
            mse_i: &self.mse[k],
            radius_sq: self.radius_sq[k],
        };
        let taps: Vec<TapEvidence<'_>> = (0..self.within.len()).map(tap).collect();
        locate(&taps, deeper, &Resampling { resamples: 400, ..Resampling::default() })
    }
}

/// What a verdict says, without the figures behind it.
fn answer(record: &ZoneRecord) -> (Verdict, Option<&str>, Option<&str>) {
    (record.verdict, record.first_split.as_deref(), record.last_split.as_deref())
}

const NO_ZONE: (Verdict, Option<&str>, Option<&str>) = (Verdict::NoZone, None, None);

#[test]
fn a_planted_zone_is_found() {
    let got = Sweep::planted(0.5, 1).locate();
    assert_eq!(answer(&got), (Verdict::Zone, Some("t7"), Some("t10")));
    assert!(
        !got.evidence.few_taps && got.evidence.reason.starts_with("at t7 the within-class share"),
        "{:?}",
        got.evidence.reason
    );
    let step = &got.evidence.steps[5];
    assert!((step.drop - 0.35).abs() < 0.05 && (step.error_ratio - 3.0).abs() < 0.4, "{step:?}");
    assert!(step.drop_ci.lo < step.drop && step.drop < step.drop_ci.hi, "{step:?}");
    assert_eq!(got.evidence.steps.iter().filter(|s| s.holds()).count(), 1);
}

/// Half of equally informative units are dropped at the seventh tap: R_c² and total variance halve, and so does nothing else.
#[test]
fn a_width_that_merely_halves_is_no_zone() {
    let mut sweep = Sweep::new(&[0.7; 10], &[0.004; 10], 0.3, 2);
    for k in 6..10 {
        sweep.rescale(k, 0.5f64.sqrt());
    }
    let got = sweep.locate();
    assert_eq!(answer(&got), NO_ZONE);
    assert_eq!(got.evidence.released_rule.splits, ["t7"], "the released rule falls for it");
}

#[test]
fn one_condition_alone_is_not_enough() {
    let planted = Sweep::planted(0.5, 3);
    let variance_only =
        Sweep { mse: Sweep::new(&[0.7; 10], &[0.004; 10], 0.3, 4).mse, ..planted.clone() };
    let got = variance_only.locate();
    assert_eq!(answer(&got), NO_ZONE);
    assert!(got.evidence.steps[5].variance_condition && !got.evidence.steps[5].error_condition);

    let flat = Sweep::new(&[0.7; 10], &[0.004; 10], 0.3, 5);
    let error_only = Sweep { within: flat.within, total: flat.total, ..planted };
    let got = error_only.locate();
    assert_eq!(answer(&got), NO_ZONE);
    assert!(got.evidence.steps[5].error_condition && !got.evidence.steps[5].variance_condition);
    assert!(got.evidence.reason.ends_with("at least doubles (at t7)"), "{}", got.evidence.reason);
}

/// Behind a channel every tap stands for itself: an earlier error counts as it was measured, and a zone ends where an error falls back.
#[test]
fn behind_a_channel_a_zone_need_not_be_a_tail() {
    let mut sweep = Sweep::planted(0.5, 8);
    sweep.mse[8] = Sweep::new(&[0.3], &[0.006], 0.5, 9).mse.remove(0);
    let apart = sweep.locate_where(Deeper::Differs).unwrap();
    assert_eq!(answer(&apart), (Verdict::Zone, Some("t7"), Some("t8")));
    // Where features follow, the ninth shows that those before it do no better.
    assert_eq!(answer(&sweep.locate()), NO_ZONE);
    // An early error that is large is not talked down by a deeper one.
    let mut early = Sweep::planted(0.5, 8);
    early.mse[2] = Sweep::new(&[0.3], &[0.01], 0.5, 10).mse.remove(0);
    let apart = early.locate_where(Deeper::Differs).unwrap();
    assert_eq!(answer(&apart), NO_ZONE);
    assert!((apart.evidence.steps[5].error_ratio - 1.5).abs() < 0.2);
    assert_eq!(answer(&early.locate()), (Verdict::Zone, Some("t7"), Some("t10")));
}

/// Shallow attacks that have not converged look strong until the effective error corrects them.
#[test]
fn attack_limited_splits_neither_make_nor_hide_a_zone() {
    let mut sweep = Sweep::planted(0.3, 6);
    // The attack on t6 lags far behind what the attack on t7 shows to be possible: it hides nothing.
    sweep.mse[5] = sweep.mse[7].clone();
    assert_eq!(sweep.locate().first_split.as_deref(), None, "t7 does only as well as t6 then");
    // The attack on t7 lags behind the attack on t8, which equals that on t6: no zone can begin at t7.
    let mut sweep = Sweep::planted(0.3, 6);
    let shallow = sweep.mse[5].clone();
    sweep.mse[9] = shallow;
    let got = sweep.locate();
    assert_eq!(answer(&got), NO_ZONE);
    assert_eq!(got.evidence.per_tap[6].mse_effective, got.evidence.per_tap[9].mse_effective);
    // A shallow attack that lags, with a good one just behind it, changes nothing.
    let mut sweep = Sweep::planted(0.3, 6);
    sweep.mse[0] = sweep.mse[9].clone();
    assert_eq!(answer(&sweep.locate()), (Verdict::Zone, Some("t7"), Some("t10")));
}

/// Two equal falls: with little noise either leads half of the resamples at best, so neither passes at 95 %.
#[test]
fn a_fall_within_the_noise_does_not_pass() {
    let ratios = [0.80, 0.79, 0.78, 0.53, 0.53, 0.53, 0.275, 0.27, 0.27, 0.27];
    let errors = [0.002, 0.002, 0.002, 0.003, 0.003, 0.003, 0.015, 0.015, 0.015, 0.015];
    let quiet = Sweep::new(&ratios, &errors, 0.01, 7).locate();
    assert_eq!(
        quiet.first_split.as_deref(),
        Some("t7"),
        "0.255 beats 0.25 where images hardly differ"
    );
    let noisy = Sweep::new(&ratios, &errors, 0.9, 7).locate();
    let share = noisy.evidence.steps[5].largest_drop_share;
    assert!((0.05..0.95).contains(&share), "{share}");
    assert_eq!(answer(&noisy), NO_ZONE);
}

#[test]
fn a_doubling_with_overlapping_intervals_does_not_pass() {
    let mut sweep = Sweep::planted(0.1, 8);
    // One image in two hundred carries all of the error behind the step.
    for k in 6..10 {
        sweep.mse[k].fill(0.005);
        sweep.mse[k][0] = 3.0;
    }
    let step = &sweep.locate().evidence.steps[5];
    assert!(
        step.error_ratio >= 2.0 && !step.intervals_disjoint && !step.error_condition,
        "{step:?}"
    );
}

#[test]
fn the_edges_are_decided() {
    // A zone planted on the very first step has nothing earlier to be compared with.
    let second = Sweep::new(&[0.8, 0.2, 0.19], &[0.001, 0.02, 0.02], 0.2, 9).locate();
    assert_eq!(answer(&second), NO_ZONE);
    assert!(second.evidence.few_taps && second.evidence.steps[0].error_condition);
    assert_eq!(second.evidence.steps[0].largest_drop_share, 1.0);
    let third = Sweep::new(&[0.8, 0.79, 0.2], &[0.001, 0.001, 0.02], 0.2, 9).locate();
    assert_eq!(answer(&third), (Verdict::Zone, Some("t3"), Some("t3")));

    let one = Sweep::new(&[0.8], &[0.001], 0.2, 9).locate();
    assert_eq!(answer(&one), NO_ZONE);
    assert!(one.evidence.steps.is_empty() && one.evidence.reason.starts_with("fewer than three"));

    // A tap that is constant, and attacks that are perfect, divide zero by zero.
    let mut dead = Sweep::planted(0.3, 10);
    dead.within[2].fill(0.0);
    dead.total[2].fill(0.0);
    let got = dead.locate();
    assert_eq!(answer(&got), NO_ZONE);
    assert!(got.evidence.per_tap[2].within_over_total.is_nan());
    let mut perfect = Sweep::planted(0.3, 10);
    perfect.mse.iter_mut().for_each(|m| m.fill(0.0));
    assert_eq!(answer(&perfect.locate()), NO_ZONE);
}

#[test]
fn bad_input_is_named() {
    assert!(matches!(locate(&[], Deeper::Follows, &Resampling::default()), Err(Error::NoSplits)));
    let good = Sweep::planted(0.3, 11);
    let mut short = good.clone();
    short.mse[3].pop();
    assert!(
        matches!(short.try_locate(), Err(Error::ImageCount { split, got: 199, want: 200, .. }) if split == "t4")
    );
    for bad in [f64::NAN, f64::INFINITY, -1e-3] {
        let mut broken = good.clone();
        broken.total[1][5] = bad;
        assert!(
            matches!(broken.try_locate(), Err(Error::ImageFigure { split, image: 5, .. }) if split == "t2"),
            "{bad}"
        );
    }
}

#[test]
fn the_record_survives_json() {
    let mut sweep = Sweep::planted(0.4, 12);
    sweep.total[2].fill(0.0);
    sweep.mse[0].fill(0.0);
    let record = sweep.locate();
    let text = serde_json::to_string(&record).unwrap();
    assert!(
        text.starts_with(
            r#"{"verdict":"no-zone","first_split":null,"last_split":null,"evidence":{"#
        ),
        "{text}"
    );
    assert!(text.contains(r#""within_over_total":"inf""#) || text.contains(r#""nan""#));
    let back: ZoneRecord = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Units do not matter: rescaling any tap changes R_c² and leaves the verdict and its shares alone.
    #[test]
    fn a_rescaled_tap_changes_nothing(
        ratios in prop::collection::vec(0.05..0.95f64, 3..10),
        jumps in prop::collection::vec(1.0..3.0f64, 10),
        scales in prop::collection::vec(1e-4..1e4f64, 10),
        seed: u64,
    ) {
        let errors: Vec<f64> = jumps.iter().take(ratios.len()).scan(1e-3, |e, j| { *e *= j; Some(*e) }).collect();
        let plain = Sweep::new(&ratios, &errors, 0.5, seed);
        let mut rescaled = plain.clone();
        for (k, scale) in scales.iter().take(ratios.len()).enumerate() {
            rescaled.rescale(k, *scale);
        }
        let (plain, rescaled) = (plain.locate(), rescaled.locate());
        prop_assert_eq!(answer(&plain), answer(&rescaled));
        for (a, b) in plain.evidence.steps.iter().zip(&rescaled.evidence.steps) {
            prop_assert_eq!(a.largest_drop_share, b.largest_drop_share);
            prop_assert!((a.drop - b.drop).abs() < 1e-12);
        }
    }

    /// The order of the images does not matter, to the last bit.
    #[test]
    fn permuted_images_change_nothing(
        ratios in prop::collection::vec(0.05..0.95f64, 3..8),
        noise in 0.1..0.9f64,
        seed: u64,
    ) {
        let errors: Vec<f64> = (0..ratios.len()).map(|k| 1e-3 * 1.9f64.powi(k as i32)).collect();
        let plain = Sweep::new(&ratios, &errors, noise, seed);
        let mut permuted = plain.clone();
        let mut rng = ChaCha8Rng::seed_from_u64(!seed);
        for (columns, n) in [(vec![&mut permuted.within, &mut permuted.total], 300), (vec![&mut permuted.mse], 200)] {
            let mut order: Vec<usize> = (0..n).collect();
            order.shuffle(&mut rng);
            for column in columns.into_iter().flatten() {
                *column = order.iter().map(|&i| column[i]).collect();
            }
        }
        prop_assert_eq!(plain.locate(), permuted.locate());
    }
}
