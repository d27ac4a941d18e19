//! Spectra against stored cases, from both sides, and their laws.
#![cfg(feature = "lapack-base")]

mod common;

use common::case::{Case, Outcome};
use common::{close, normal, rng};
use gpz_estimators::spectrum::{MarchenkoPastur, Spectrum};
use gpz_estimators::{Error, Flag, Normalisation, NotIdentifiable};
use ndarray::{Array2, Axis, concatenate};
use proptest::prelude::*;

#[test]
fn stored_spiked_covariance() -> Outcome<()> {
    let case = Case::open("mp_spiked_1000x250")?;
    let spectrum = Spectrum::of(case.matrix("z")?.view())?;
    case.check("top5_eigenvalues", &spectrum.eigenvalues()[..5]);
    case.check("cov_rank", &[spectrum.rank() as f64]);
    case.check("participation_ratio", &[spectrum.participation_ratio()?.value]);
    case.check("effective_rank_entropy", &[spectrum.effective_rank()?.value]);
    let above = spectrum.above_edge(1.0, 1.02, Normalisation::Unbiased)?;
    case.check("eigs_above_edge_times_1.02", &[above as f64]);
    let noise = MarchenkoPastur::new(1.0, spectrum.aspect())?;
    let (low, high) = noise.edges();
    case.check("mp_edges", &[low, high]);
    let spikes = [6.0, 3.0, 1.2];
    case.check_kind("population", "n_spikes_detectable", &[noise.detectable(&spikes) as f64]);
    let expected: Vec<f64> =
        spikes.iter().filter_map(|&spike| noise.sample_eigenvalue(spike)).collect();
    case.check_kind("population", "top_eigenvalues_expected", &expected);
    case.check_kind("population", "top_eigenvalues_expected", &spectrum.eigenvalues()[..2]);
    Ok(())
}

#[test]
fn stored_constant_and_collinear_columns() -> Outcome<()> {
    let case = Case::open("degen_constant_collinear")?;
    let z = case.matrix("z")?;
    let spectrum = Spectrum::of(z.view())?;
    case.check("cov_rank", &[spectrum.rank() as f64]);
    case.check(
        "constant_columns",
        &spectrum.constant_dimensions().iter().map(|&j| j as f64).collect::<Vec<_>>(),
    );
    // Neither scales nor an offset hide or make a lack of rank.
    let scales = ndarray::array![1e-8, 1.0, 1e4, 1e8, 1e-4, 1e2];
    assert_eq!(Spectrum::of((&z * &scales).view())?.rank(), 4);
    let wide = Case::open("cond_scales_1e-8_1e8")?.matrix("z")?;
    assert_eq!(Spectrum::of(wide.view())?.rank(), 9);
    let effective = spectrum.effective_rank()?;
    assert!(effective.flags.contains(&Flag::ConstantDimensions(1)) && effective.value < 4.0);
    Ok(())
}

/// 64 rows of 262,144 dimensions: the covariance would take 512 GiB.
#[test]
fn width_262144_by_rule() -> Outcome<()> {
    const D: usize = 262_144;
    let mix = |counter: usize| {
        let mut s = (counter as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        s = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        s = (s ^ (s >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        s ^ (s >> 31)
    };
    let features = Array2::from_shape_fn((64, D), |(i, j)| {
        ((mix(i * D + j) >> 11) as f64 * 2.0_f64.powi(-53) - 0.5 + 0.25 * (i % 4) as f64) as f32
    });
    let spectrum = Spectrum::of(features.view())?;
    let case = Case::open("procedural_64x262144")?;
    case.check("top3_eigenvalues", &spectrum.eigenvalues()[..3]);
    case.check("global_trace_var", &[spectrum.trace()]);
    assert_eq!((spectrum.rank(), spectrum.eigenvalues().len()), (63, 64));
    Ok(())
}

/// The noise's ratio `D/(1 + D/n)` is corrected to `D`, within four standard errors over 16 replicates.
#[test]
fn corrected_participation_ratio_counts_the_dimensions() -> Outcome<()> {
    let mut rng = rng(80);
    for (n, d) in [(60, 40), (40, 120)] {
        let (mut corrected, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            let spectrum = Spectrum::of(normal(&mut rng, (n, d)).view())?;
            corrected.push(spectrum.participation_ratio_corrected()?.value);
            plain.push(spectrum.participation_ratio()?.value);
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / 16.0;
        let centre = mean(&corrected);
        let spread = corrected.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / 15.0;
        // The ratio's own bias is of the order of its relative variance.
        let bias = d as f64 * 3.0 * spread / (d as f64).powi(2);
        assert!(
            (centre - d as f64).abs() <= bias + 4.0 * (spread / 16.0).sqrt(),
            "{n} x {d}: {centre}"
        );
        assert!(mean(&plain) < 0.7 * d as f64);
    }
    Ok(())
}

#[test]
fn rows_that_say_nothing() -> Outcome<()> {
    let one = Spectrum::of(Array2::<f64>::ones((1, 4)).view())?;
    assert_eq!((one.rank(), one.trace()), (0, 0.0));
    assert_eq!(one.participation_ratio(), Err(NotIdentifiable::NoVariance));
    assert_eq!(one.effective_rank(), Err(NotIdentifiable::NoVariance));
    assert_eq!(one.participation_ratio_corrected(), Err(NotIdentifiable::NoVariance));
    assert_eq!(Spectrum::of(Array2::<f64>::ones((0, 4)).view()), Err(Error::NoRows));
    assert!(matches!(MarchenkoPastur::new(0.0, 1.0), Err(Error::Parameter { .. })));
    assert!(matches!(MarchenkoPastur::new(1.0, f64::NAN), Err(Error::Parameter { .. })));
    // White noise of more dimensions than rows: the ratio counts the rows, and says so.
    let wide = Spectrum::of(normal(&mut rng(81), (20, 20_000)).view())?;
    assert!(wide.participation_ratio()?.flags.contains(&Flag::Saturated));
    let deep = Spectrum::of(normal(&mut rng(82), (20_000, 4)).view())?;
    assert!(!deep.participation_ratio()?.flags.contains(&Flag::Saturated));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Rows given twice have the same covariance; where that takes the width below the rows, the other side is used.
    #[test]
    fn gram_equals_covariance(seed in any::<u64>(), n in 2..20_usize, d in 1..40_usize) {
        let z = normal(&mut rng(seed), (n, d)) + 1e3;
        let copies = d / n + 1;
        let many = concatenate(Axis(0), &vec![z.view(); copies]).expect("equal widths");
        let (few, many) = (Spectrum::of(z.view())?, Spectrum::of(many.view())?);
        let scale = few.eigenvalues()[0];
        for at in 0..d.min(n) {
            prop_assert!(close(few.eigenvalues()[at], many.eigenvalues()[at], 1e-11, scale));
        }
        prop_assert_eq!(few.rank(), d.min(n - 1));
        prop_assert_eq!(many.rank(), few.rank());
    }

    #[test]
    fn rotation_translation_and_scale(seed in any::<u64>(), n in 2..20_usize, d in 1..30_usize, scale in 1e-3..1e3_f64) {
        let mut rng = rng(seed);
        let z = normal(&mut rng, (n, d));
        let v = normal(&mut rng, (d, 1));
        let norm = v.iter().map(|value| value * value).sum::<f64>();
        let turned = (&z - &(z.dot(&v).dot(&v.t()) * (2.0 / norm))) * scale + 5.0;
        let (plain, moved) = (Spectrum::of(z.view())?, Spectrum::of(turned.view())?);
        for (a, b) in plain.eigenvalues().iter().zip(moved.eigenvalues()) {
            prop_assert!(close(a * scale * scale, *b, 1e-9, moved.eigenvalues()[0]));
        }
        prop_assert_eq!(plain.rank(), moved.rank());
        let ratios = [&plain, &moved].map(|s| (s.participation_ratio().expect("rows differ").value, s.effective_rank().expect("rows differ").value));
        prop_assert!(close(ratios[0].0, ratios[1].0, 1e-8, ratios[0].0) && close(ratios[0].1, ratios[1].1, 1e-6, ratios[0].1));
        // 1 ≤ participation ratio ≤ effective rank ≤ rank.
        prop_assert!(ratios[0].0 >= 1.0 - 1e-12 && ratios[0].0 <= ratios[0].1 + 1e-9 && ratios[0].1 <= plain.rank() as f64 + 1e-6);
    }

    #[test]
    fn spikes_come_back(variance in 0.1..10.0_f64, aspect in 0.01..5.0_f64, above in 1.01..20.0_f64) {
        let noise = MarchenkoPastur::new(variance, aspect)?;
        let spike = noise.threshold() * above;
        let shown = noise.sample_eigenvalue(spike).expect("above the threshold");
        prop_assert!(shown > noise.edges().1);
        prop_assert!(noise.spike(shown).is_some_and(|back| close(back, spike, 1e-6, spike)));
        prop_assert_eq!(noise.sample_eigenvalue(noise.threshold() / above), None);
        prop_assert_eq!(noise.spike(noise.edges().1 / above), None);
    }
}
