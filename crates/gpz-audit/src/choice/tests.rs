use super::*;
use crate::assemble::assemble;
use crate::intervals::Resampling;
use crate::splits::SplitsFile;
use crate::testing::four_splits;
use proptest::prelude::*;

fn audited() -> SplitsFile {
    let resampling = Resampling { resamples: 200, ..Resampling::default() };
    assemble("cnn4", (1, None), &four_splits(), &Limits::default(), &resampling).unwrap().0
}

fn choose_under(limits: Limits) -> ChoiceRecord {
    let file = audited();
    choose(&file.splits, &file.zone, &limits).unwrap()
}

#[test]
fn without_limits_the_zone_decides() {
    let got = choose_under(Limits::default());
    assert_eq!((got.objective, got.split.as_deref()), (Objective::Zone, Some("block4")));

    let mut file = audited();
    file.zone.verdict = Verdict::NoZone;
    file.zone.first_split = None;
    let got = choose(&file.splits, &file.zone, &Limits::default()).unwrap();
    assert_eq!(got.split, None);
    assert!(
        got.reason.ends_with("nothing decides; set limits on cost or quality"),
        "{}",
        got.reason
    );
}

#[test]
fn a_limit_on_quality_takes_the_cheapest_that_protects() {
    let got = choose_under(Limits { min_mse_effective: Some(0.004), ..Limits::default() });
    assert_eq!((got.objective, got.split.as_deref()), (Objective::Cheapest, Some("block3")));
    // block1 measures 0.006, but the attack on block2 shows that 0.002 is possible there.
    let first = &got.candidates[0].ruled_out_by[0];
    assert_eq!((first.limit.as_str(), first.allowed), ("min_mse_effective", 0.004));
    assert!((first.actual - 0.002).abs() < 1e-12);

    // The SSIM of block1 (0.93) meets the limit, the best one on deeper splits (0.96) does not.
    let got = choose_under(Limits { max_ssim: Some(0.95), ..Limits::default() });
    assert_eq!(got.split.as_deref(), Some("block3"));
    let got = choose_under(Limits { max_psnr_db: Some(20.0), ..Limits::default() });
    assert_eq!(got.split.as_deref(), Some("block4"));
}

#[test]
fn limits_on_cost_take_the_most_resistant_that_is_affordable() {
    let got = choose_under(Limits { max_edge_macs_fraction: Some(0.8), ..Limits::default() });
    assert_eq!((got.objective, got.split.as_deref()), (Objective::MostResistant, Some("block3")));
    assert_eq!(got.candidates[3].ruled_out_by[0].limit, "max_edge_macs_fraction");
    // block1 and block2 leave the same effective error: the cheaper one is taken.
    let got = choose_under(Limits { max_edge_macs_fraction: Some(0.5), ..Limits::default() });
    assert_eq!(got.split.as_deref(), Some("block1"));
    assert!(got.reason.contains("cannot be told from"), "{}", got.reason);
    let got = choose_under(Limits { max_wire_bytes: Some(16384), ..Limits::default() });
    assert_eq!(got.split.as_deref(), Some("block4"));
}

#[test]
fn limits_that_contradict_each_other_decide_nothing() {
    let limits = Limits {
        max_edge_macs_fraction: Some(0.5),
        min_mse_effective: Some(0.004),
        ..Limits::default()
    };
    let got = choose_under(limits);
    assert_eq!(got.split, None);
    assert_eq!(
        got.reason,
        "no split meets every limit: of 4 min_mse_effective rules out 2, max_edge_macs_fraction rules out 2; relax \
         min_mse_effective first, which alone keeps out 2"
    );
    // The second limit in the list, but the one whose relaxing helps.
    let limits = Limits {
        max_wire_bytes: Some(8192),
        max_edge_macs_fraction: Some(0.05),
        min_mse_effective: Some(0.0),
        ..Limits::default()
    };
    let got = choose_under(limits).reason;
    assert!(got.ends_with("relax max_edge_macs_fraction first, which alone keeps out 1"), "{got}");
    let limits = Limits { max_wire_bytes: Some(1), max_edge_macs_fraction: Some(0.01), ..limits };
    let got = choose_under(limits).reason;
    assert!(got.ends_with("each split exceeds several, so relax more than one"), "{got}");
}

#[test]
fn limits_are_checked() {
    let bad = [
        Limits { max_wire_bytes: Some(0), ..Limits::default() },
        Limits { max_edge_macs_fraction: Some(1.5), ..Limits::default() },
        Limits { min_mse_effective: Some(f64::NAN), ..Limits::default() },
        Limits { max_ssim: Some(2.0), ..Limits::default() },
        Limits { max_psnr_db: Some(f64::INFINITY), ..Limits::default() },
    ];
    for limits in bad {
        assert!(matches!(limits.validate(), Err(Error::Limit { .. })), "{limits:?}");
    }
    let err = toml::from_str::<Limits>("max_sim = 0.3").unwrap_err().to_string();
    assert!(err.contains("max_sim") && err.contains("max_ssim"), "{err}");
}

#[test]
fn the_record_survives_json() {
    let got = choose_under(Limits {
        max_ssim: Some(0.9),
        max_wire_bytes: Some(40_000),
        ..Limits::default()
    });
    let text = got.to_json().unwrap();
    assert_eq!(serde_json::from_str::<ChoiceRecord>(&text).unwrap(), got);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is chosen meets every limit, and something is chosen whenever anything does.
    #[test]
    fn a_choice_meets_every_limit(
        wire in prop::option::of(1u64..80_000),
        macs in prop::option::of(0.01..1.0f64),
        mse in prop::option::of(0.0..0.02f64),
        ssim in prop::option::of(0.5..1.0f64),
    ) {
        let limits = Limits {
            max_wire_bytes: wire, max_edge_macs_fraction: macs, min_mse_effective: mse, max_ssim: ssim, max_psnr_db: None,
        };
        let file = audited();
        let got = choose(&file.splits, &file.zone, &limits).unwrap();
        let meets = |s: &SplitRecord| {
            wire.is_none_or(|w| s.wire_bytes <= w)
                && macs.is_none_or(|m| s.edge_macs_fraction <= m)
                && mse.is_none_or(|m| s.attack.mse_effective >= m)
                && ssim.is_none_or(|m| s.attack.ssim_effective <= m)
        };
        match got.split.as_deref() {
            Some(name) => prop_assert!(file.split(name).is_some_and(meets)),
            None => prop_assert!(!file.splits.iter().any(meets)),
        }
    }
}
