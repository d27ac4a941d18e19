use super::*;
use crate::testing::{bound, four_splits};
use crate::zone::Verdict;

fn run(splits: &[SplitInput], limits: &Limits) -> Result<(SplitsFile, ChoiceRecord)> {
    assemble(
        "cnn4",
        (3, None),
        splits,
        limits,
        &Resampling { resamples: 400, ..Resampling::default() },
    )
}

#[test]
fn records_follow_from_the_measurements() {
    let (file, choice) = run(&four_splits(), &Limits::default()).unwrap();
    let [first, second, .., last] = &file.splits[..] else { panic!("four splits") };
    assert_eq!((first.width, first.shape.as_slice()), (16384, &[16, 32, 32][..]));
    assert!(first.attack.attack_limited && !second.attack.attack_limited);
    assert_eq!(first.attack.mse_effective, second.attack.mse_per_element);
    assert_eq!(first.attack.ssim_effective, second.attack.ssim);
    assert!(
        (first.attack.ssim - 0.93).abs() < 1e-12
            && (last.attack.mse_per_element - 0.012).abs() < 1e-15
    );
    for s in &file.splits {
        let a = &s.attack;
        assert_eq!(a.mse_channel_sum, 3.0 * a.mse_per_element);
        assert!((a.psnr_db + 10.0 * a.mse_per_element.log10()).abs() < 1e-9);
        for (value, ci) in [
            (a.mse_per_element, a.ci.mse_per_element),
            (a.mse_channel_sum, a.ci.mse_channel_sum),
            (a.mse_effective, a.ci.mse_effective),
            (a.psnr_db, a.ci.psnr_db),
            (a.ssim, a.ci.ssim),
        ] {
            assert!(ci.lo < value && value < ci.hi, "{}: {value} in {ci:?}", s.name);
        }
        // The zone looks at the very same effective errors.
        let tap = &file.zone.evidence.per_tap[s.index - 1];
        assert_eq!(
            (tap.mse_effective, tap.mse_effective_ci),
            (a.mse_effective, a.ci.mse_effective)
        );
    }
    assert_eq!(file.zone.verdict, Verdict::Zone);
    assert_eq!(file.zone.first_split.as_deref(), Some("block4"));
    assert_eq!(file.choice.as_ref(), Some(&choice));
}

#[test]
fn an_undecided_choice_is_null_with_its_reason() {
    let limits = Limits { max_ssim: Some(0.1), ..Limits::default() };
    let (file, choice) = run(&four_splits(), &limits).unwrap();
    assert_eq!((&file.choice, &choice.split), (&None, &None));
    assert!(file.choice_reason.contains("max_ssim rules out 4"), "{}", file.choice_reason);
    let text = file.to_json().unwrap();
    assert!(
        text.contains("\"choice\": null") && text.contains("\"choice_reason\": \"no split"),
        "{text}"
    );
}

/// A declared channel takes away what links the splits: effective figures are the measured ones, everywhere.
#[test]
fn behind_a_channel_every_split_stands_for_itself() {
    let mut splits = four_splits();
    for split in &mut splits {
        split.leakage_bound = Some(bound(Some(1e-6), gpz_estimators::Kind::Lower));
        split.accuracy_behind_channel = Some(0.5);
    }
    let (file, _) = run(&splits, &Limits::default()).unwrap();
    assert_eq!(file.channel(), crate::declared::Declared::Bits(1));
    for (s, tap) in file.splits.iter().zip(&file.zone.evidence.per_tap) {
        let a = &s.attack;
        assert_eq!((a.mse_effective, a.ssim_effective), (a.mse_per_element, a.ssim));
        assert!(!a.attack_limited && a.ci.mse_effective == a.ci.mse_per_element);
        assert_eq!(tap.mse_effective, a.mse_effective);
    }
    let text = file.to_json().unwrap();
    assert_eq!(SplitsFile::from_json(&text).unwrap(), file);
    for part in [
        "\"channel\": \"bits:1\"",
        "\"information_kind\": \"upper\"",
        "\"mse_floor\": 1e-6",
        "\"mse_floor_kind\": \"lower\"",
        "\"reason\": null",
        "\"accuracy_behind_channel\": 0.5",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let csv = file.to_csv().unwrap();
    assert!(csv.contains(",bits:1,90,upper,0.1,0.000001,lower,0.5,test,"), "{csv}");
    let plain = run(&four_splits(), &Limits::default()).unwrap().0.to_csv().unwrap();
    assert!(plain.contains(",,,,,,,test,"), "{plain}");
}

/// Under a prior what is recognised is judged by the closer picture, what is bounded by the error in the noisy one.
#[test]
fn noise_of_a_prior_meets_no_limit() {
    let mut splits = four_splits();
    for split in &mut splits {
        split.mse_closest_i = Some(split.mse_i.iter().map(|mse| 0.1 * mse).collect());
    }
    let resampling = Resampling { resamples: 100, ..Resampling::default() };
    let limits = Limits { max_psnr_db: Some(20.0), ..Limits::default() };
    let (file, choice) = assemble("cnn4", (1, Some(0.1)), &splits, &limits, &resampling).unwrap();
    let a = &file.splits[0].attack;
    let near = |got: Option<f64>, want: f64| (got.unwrap() / want - 1.0).abs() < 1e-12;
    assert!(near(Some(a.mse_per_element), 0.006) && near(Some(a.mse_effective), 0.002));
    assert!(near(a.mse_closest, 0.0006) && near(a.mse_closest_effective, 0.0002), "{a:?}");
    assert!((a.psnr_db + 10.0 * 0.0006f64.log10()).abs() < 1e-9);
    assert!(a.ci.psnr_db.lo < a.psnr_db && a.psnr_db < a.ci.psnr_db.hi);
    // Of block4 the error in the noisy picture, 0.012, is below 20 dB; what is recognised is at 29 dB.
    assert_eq!(choice.split, None);
    let limits = Limits { min_mse_effective: Some(0.002), ..Limits::default() };
    let choice = assemble("cnn4", (1, Some(0.1)), &splits, &limits, &resampling).unwrap().1;
    assert_eq!(choice.split, None);
    let text = file.to_json().unwrap();
    assert_eq!(SplitsFile::from_json(&text).unwrap(), file);
    assert!(text.contains("\"prior_tau\": 0.1") && text.contains("\"mse_closest\": 0.000"));
    let plain = run(&four_splits(), &Limits::default()).unwrap().0;
    assert_eq!((plain.prior_tau, plain.splits[0].attack.mse_closest), (None, None));
}

/// The file reads back to itself, has the keys it is documented to have, in that order, and no NaN in disguise.
#[test]
fn splits_json_reads_back_to_the_same_bytes() {
    let (mut file, _) = run(&four_splits(), &Limits::default()).unwrap();
    file.splits[1].attack.psnr_db = f64::INFINITY;
    file.splits[2].radius_sq.value = f64::NAN;
    let text = file.to_json().unwrap();
    assert_eq!(SplitsFile::from_json(&text).unwrap().to_json().unwrap(), text);
    assert!(text.contains("\"psnr_db\": \"inf\"") && text.contains("\"value\": \"nan\""));
    assert!(text.contains("\"mixture\": \"-inf\"") && text.contains("\"shape\": [16, 32, 32]"));
    let keys = [
        "\"model\"",
        "\"splits\"",
        "\"index\"",
        "\"name\"",
        "\"shape\"",
        "\"width\"",
        "\"wire_bytes\"",
        "\"edge_params\"",
        "\"edge_params_fraction\"",
        "\"edge_macs_fraction\"",
        "\"radius_sq\"",
        "\"part\"",
        "\"value\"",
        "\"ci\"",
        "\"per_dim\"",
        "\"unbiased\"",
        "\"variance\"",
        "\"total\"",
        "\"within\"",
        "\"between\"",
        "\"entropy_bounds_nats\"",
        "\"isotropic\"",
        "\"mixture\"",
        "\"leakage_bound\"",
        "\"attack\"",
        "\"mse_per_element\"",
        "\"mse_channel_sum\"",
        "\"mse_effective\"",
        "\"attack_limited\"",
        "\"psnr_db\"",
        "\"ssim\"",
        "\"zone\"",
        "\"verdict\"",
        "\"first_split\"",
        "\"last_split\"",
        "\"evidence\"",
        "\"few_taps\"",
        "\"released_rule\"",
        "\"choice\"",
    ];
    let mut at = 0;
    for key in keys {
        at += text[at..].find(key).unwrap_or_else(|| panic!("{key} is missing or out of order"));
    }
}

#[test]
fn the_same_audit_gives_the_same_bytes_on_any_number_of_threads() {
    let text = || run(&four_splits(), &Limits::default()).unwrap().0.to_json().unwrap();
    let want = text();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(text), want, "{threads} threads");
    }
}

#[test]
fn the_table_has_a_row_per_split() {
    let (file, _) = run(&four_splits(), &Limits::default()).unwrap();
    let text = file.to_csv().unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(|r| r.unwrap()).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(&rows[0][column("shape")], "16x32x32");
    assert_eq!(&rows[3][column("entropy_bound_mixture_nats")], "-inf");
    for (row, split) in rows.iter().zip(&file.splits) {
        assert_eq!(row[column("mse_effective")].parse(), Ok(split.attack.mse_effective));
        assert_eq!(
            row[column("within_over_total")].parse(),
            Ok(split.variance.within_over_total())
        );
    }
}

/// LPIPS stands where it was measured; elsewhere nothing does, as in files from before there was any.
#[test]
fn lpips_is_there_or_not() {
    let mut splits = four_splits();
    let (without, _) = run(&splits, &Limits::default()).unwrap();
    let text = without.to_json().unwrap();
    assert!(!text.contains("lpips"), "{text}");
    assert_eq!(SplitsFile::from_json(&text).unwrap(), without);
    for (k, split) in splits.iter_mut().enumerate() {
        split.lpips_i = Some(crate::testing::spread(200, 0.1 * (k + 1) as f64));
    }
    let (with, _) = run(&splits, &Limits::default()).unwrap();
    let deepest = &with.splits[3].attack;
    let (lpips, ci) = (deepest.lpips.unwrap(), deepest.ci.lpips.unwrap());
    assert!((lpips - 0.4).abs() < 1e-12 && ci.lo < lpips && lpips < ci.hi, "{lpips} in {ci:?}");
    assert_eq!(SplitsFile::from_json(&with.to_json().unwrap()).unwrap(), with);
    let last = |file: &SplitsFile| {
        let csv = file.to_csv().unwrap();
        let cells = csv.lines().map(|line| line.rsplit(',').next().unwrap_or_default().to_owned());
        cells.collect::<Vec<_>>()
    };
    assert_eq!(last(&without), ["lpips", "", "", "", ""]);
    assert_eq!(last(&with)[4].parse(), Ok(lpips));
    // Nothing else hangs on it.
    let mut other = with.clone();
    for split in &mut other.splits {
        (split.attack.lpips, split.attack.ci.lpips) = (None, None);
    }
    assert_eq!(other, without);
    splits[1].lpips_i.as_mut().unwrap().pop();
    let err = run(&splits, &Limits::default()).unwrap_err().to_string();
    assert!(err.starts_with("split block2: 199 values of LPIPS"), "{err}");
    splits[1].lpips_i.as_mut().unwrap().push(f64::NAN);
    let err = run(&splits, &Limits::default()).unwrap_err().to_string();
    assert!(err.starts_with("split block2, image 199: LPIPS is NaN"), "{err}");
}

#[test]
fn bad_measurements_are_named() {
    assert!(matches!(run(&[], &Limits::default()), Err(Error::NoSplits)));
    let mut splits = four_splits();
    splits[2].ssim_i.pop();
    let err = run(&splits, &Limits::default()).unwrap_err().to_string();
    assert!(
        err.starts_with("split block3: 199 values of SSIM where the first split has 200"),
        "{err}"
    );
    let mut splits = four_splits();
    splits[1].mse_i[7] = f64::NAN;
    let err = run(&splits, &Limits::default()).unwrap_err().to_string();
    assert!(err.starts_with("split block2, image 7: squared error is NaN"), "{err}");
}
