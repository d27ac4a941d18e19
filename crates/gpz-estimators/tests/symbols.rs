//! Entropy and information of symbols, and of binned rows.

mod common;

use common::case::{Case, Outcome};
use common::{close, mean_and_error, normal, rng};
use gpz_estimators::entropy::discrete::{
    Codes, guess_probability, miller_madow_entropy_nats, plugin_entropy_joint_nats,
    plugin_entropy_nats, plugin_entropy_per_dim_nats, zero_share_per_dim,
};
use gpz_estimators::information::discrete::{binned_mi_nats, miller_madow_mi_nats, plugin_mi_nats};
use gpz_estimators::{Error, Estimate, Flag, Kind};
use ndarray::{Array2, array};
use proptest::prelude::*;
use rand::RngExt;

#[test]
fn bit_patterns_of_a_rounded_gaussian() -> Outcome<()> {
    let case = Case::open("degen_bf16_features")?;
    let bits: Vec<u16> = case.vector("bits")?.iter().map(|&bits| bits as u16).collect();
    let codes = Codes::of_symbols(&bits)?;
    let (plugin, corrected) = (plugin_entropy_nats(&codes), miller_madow_entropy_nats(&codes));
    case.check("unique_codes", &[codes.unique() as f64]);
    case.check("plugin_entropy", &[plugin.value]);
    case.check("miller_madow_entropy", &[corrected.value]);
    case.check("discrete_entropy", &[corrected.value]);
    assert!(matches!((plugin.kind, corrected.kind), (Kind::Lower, Kind::Heuristic)));
    assert!(plugin.flags.contains(&Flag::InExpectation));
    Ok(())
}

#[test]
fn quantised_gaussian_pairs() -> Outcome<()> {
    let case = Case::open("mi_quantised_gauss_ties")?;
    let (x, y) =
        (Codes::of_rows(case.matrix("x")?.view())?, Codes::of_rows(case.matrix("y")?.view())?);
    case.check("plugin_entropy_x", &[plugin_entropy_nats(&x).value]);
    case.check("entropy_x", &[miller_madow_entropy_nats(&x).value]);
    case.check("plugin_mi", &[plugin_mi_nats(&x, &y)?.value]);
    let corrected = miller_madow_mi_nats(&x, &y)?;
    case.check("miller_madow_mi", &[corrected.value]);
    case.check("mi", &[corrected.value]);
    Ok(())
}

#[test]
fn bins_are_those_of_numpy() -> Outcome<()> {
    let case = Case::open("binning_gauss")?;
    let (x, y) = (case.matrix("x")?, case.matrix("y")?);
    for bins in [5, 10, 30, 100] {
        let value = binned_mi_nats(x.view(), y.view(), bins)?.value;
        case.check(&format!("binned_mi_{bins}"), &[value]);
    }
    Ok(())
}

/// Edges belong to the bin on their right, the last to the last; a constant column is one bin.
#[test]
fn edges_of_bins() -> Result<(), Error> {
    let x = array![[0.0], [0.9], [1.0], [1.9], [2.0], [2.9], [3.0], [4.0]];
    assert_eq!(Codes::of_bins(x.view(), 4)?.symbols(), [0, 0, 1, 1, 2, 2, 3, 3]);
    // 0.1·3 is not 0.3: an edge is what the steps make it.
    let tenths = Array2::from_shape_fn((11, 1), |(i, _)| i as f64 * 0.1);
    let want: Vec<usize> = (0..11).map(|i| i.min(9)).collect();
    assert_eq!(Codes::of_bins(tenths.view(), 10)?.symbols(), want);
    assert_eq!(Codes::of_bins(array![[5.0], [5.0]].view(), 7)?.unique(), 1);
    assert_eq!(Codes::of_bins((&x * 1e-320).view(), 4)?.unique(), 4);
    assert!(matches!(Codes::of_bins(x.view(), 0), Err(Error::Parameter { name: "bins", .. })));
    Ok(())
}

#[test]
fn what_equals_what() -> Result<(), Error> {
    let rows = array![[0.0_f32, 1.0], [-0.0, 1.0], [1.0, 0.0]];
    let codes = Codes::of_rows(rows.view())?;
    assert_eq!((codes.symbols(), codes.counts()), ([0, 0, 1].as_slice(), [2, 1].as_slice()));
    let bits: Vec<u32> = rows.column(0).iter().map(|value| value.to_bits()).collect();
    assert_eq!(Codes::of_symbols(&bits)?.unique(), 3);
    assert_eq!(zero_share_per_dim(rows.view())?, [2.0 / 3.0, 1.0 / 3.0]);
    assert_eq!(Codes::of_symbols::<u8>(&[]), Err(Error::NoRows));
    let bad = array![[1.0], [f64::NAN]];
    assert!(matches!(Codes::of_rows(bad.view()), Err(Error::NonFinite { row: 1, .. })));
    let short = Codes::of_symbols(&[1])?;
    assert_eq!(plugin_mi_nats(&codes, &short), Err(Error::RowCount { left: 3, right: 1 }));
    Ok(())
}

#[test]
fn extremes_say_what_they_are() -> Result<(), Error> {
    let one = plugin_entropy_nats(&Codes::of_symbols(&[7])?);
    assert_eq!((one.value, one.std_err), (0.0, None));
    let distinct = Codes::of_symbols(&(0..50).collect::<Vec<_>>())?;
    for estimate in [
        plugin_entropy_nats(&distinct),
        miller_madow_entropy_nats(&distinct),
        plugin_mi_nats(&distinct, &distinct)?,
        miller_madow_mi_nats(&distinct, &distinct)?,
    ] {
        assert!(estimate.flags.contains(&Flag::Saturated), "{estimate:?}");
        assert!(estimate.flags.contains(&Flag::Undersampled(50)));
        let ceiling = estimate.ceiling.expect("ln N and what the correction adds");
        assert!(close(estimate.value, ceiling, 1e-12, 1.0), "{estimate:?}");
    }
    let (many, few) = (Codes::of_symbols(&[0, 1].repeat(50))?, Codes::of_symbols(&[0, 0, 1])?);
    assert!(!plugin_entropy_nats(&many).flags.contains(&Flag::Saturated));
    assert!(close(guess_probability(&few).value, 2.0 / 3.0, 1e-15, 1.0));
    Ok(())
}

fn geometric(seed: u64, n: usize) -> Vec<u32> {
    let mut rng = rng(seed);
    (0..n).map(|_| (0..6).find(|_| rng.random_bool(0.4)).unwrap_or(6)).collect()
}

/// `H` of [`geometric`], and its number of symbols.
fn geometric_entropy() -> (f64, f64) {
    let last = 0.6_f64.powi(6);
    let shares = (0..6).map(|symbol| 0.4 * 0.6_f64.powi(symbol)).chain([last]);
    (-shares.map(|share| share * share.ln()).sum::<f64>(), 7.0)
}

/// Plug-in: `−(K − 1)/2N` and no more. Corrected: nothing of that order.
#[test]
fn biases_are_the_known_ones() -> Result<(), Error> {
    let (truth, kinds) = geometric_entropy();
    let (n, known) = (400, (kinds - 1.0) / 800.0);
    let of = |estimator: fn(&Codes) -> Estimate| {
        let value =
            |seed| Codes::of_symbols(&geometric(seed, n)).map(|codes| estimator(&codes).value);
        (0..16).map(value).collect::<Result<Vec<_>, _>>()
    };
    let (mean, error) = mean_and_error(&of(plugin_entropy_nats)?);
    assert!((mean - truth).abs() <= known + 4.0 * error, "{mean} {truth}");
    let (mean, error) = mean_and_error(&of(miller_madow_entropy_nats)?);
    assert!((mean - truth).abs() <= 1e-3 + 4.0 * error, "{mean} {truth}");
    // Independent symbols: (K_x − 1)(K_y − 1)/2N of information by chance.
    let pairs = |seed| -> Result<[f64; 2], Error> {
        let (x, y) = (geometric(seed, n), geometric(seed + 1000, n));
        let (x, y) = (Codes::of_symbols(&x)?, Codes::of_symbols(&y)?);
        Ok([plugin_mi_nats(&x, &y)?.value, miller_madow_mi_nats(&x, &y)?.value])
    };
    let values: Vec<[f64; 2]> = (0..16).map(pairs).collect::<Result<_, _>>()?;
    let (plugin, error) = mean_and_error(&values.iter().map(|v| v[0]).collect::<Vec<_>>());
    let known = 36.0 / 800.0;
    assert!((0.0..=known + 4.0 * error).contains(&plugin), "{plugin} {known}");
    let (corrected, _) = mean_and_error(&values.iter().map(|v| v[1]).collect::<Vec<_>>());
    assert!(corrected.abs() < plugin / 3.0, "{corrected} {plugin}");
    Ok(())
}

#[test]
fn intervals_cover() -> Result<(), Error> {
    let (truth, _) = geometric_entropy();
    let mut covered = 0;
    for seed in 0..400 {
        let entropy = miller_madow_entropy_nats(&Codes::of_symbols(&geometric(seed, 300))?);
        let reach = 1.96 * entropy.std_err.expect("300 rows");
        covered += usize::from((entropy.value - truth).abs() <= reach);
    }
    // 95 % nominal; 400 draws have a standard error of 1.1 %.
    assert!((366..=396).contains(&covered), "{covered} of 400");
    Ok(())
}

/// The grouped formula against leaving out each row in turn.
#[test]
fn jackknife_is_the_plain_one() -> Result<(), Error> {
    let (x, y) = (geometric(3, 40), geometric(4, 40));
    let without = |row: usize| {
        let drop = |symbols: &[u32]| {
            let kept = symbols.iter().enumerate().filter(|&(other, _)| other != row);
            Codes::of_symbols(&kept.map(|(_, &symbol)| symbol).collect::<Vec<_>>())
        };
        let (x, y) = (drop(&x)?, drop(&y)?);
        Ok::<_, Error>([
            plugin_entropy_nats(&x).value,
            miller_madow_entropy_nats(&x).value,
            plugin_mi_nats(&x, &y)?.value,
            miller_madow_mi_nats(&x, &y)?.value,
        ])
    };
    let values: Vec<[f64; 4]> = (0..40).map(without).collect::<Result<_, _>>()?;
    let (x, y) = (Codes::of_symbols(&x)?, Codes::of_symbols(&y)?);
    let estimates = [
        plugin_entropy_nats(&x),
        miller_madow_entropy_nats(&x),
        plugin_mi_nats(&x, &y)?,
        miller_madow_mi_nats(&x, &y)?,
    ];
    for (which, estimate) in estimates.iter().enumerate() {
        let mean = values.iter().map(|value| value[which]).sum::<f64>() / 40.0;
        let spread: f64 = values.iter().map(|value| (value[which] - mean).powi(2)).sum();
        let want = (39.0 / 40.0 * spread).sqrt();
        assert!(close(estimate.std_err.expect("40 rows"), want, 1e-9, want), "{which}");
    }
    Ok(())
}

/// Coarse bins lose information, fine ones find it in chance.
#[test]
fn fine_bins_find_information_in_chance() -> Result<(), Error> {
    let (x, y) = (normal(&mut rng(1), (1000, 1)), normal(&mut rng(2), (1000, 1)));
    let coarse = binned_mi_nats(x.view(), y.view(), 5)?;
    let fine = binned_mi_nats(x.view(), y.view(), 300)?;
    assert!(coarse.value < 0.02 && fine.value > 2.0, "{} {}", coarse.value, fine.value);
    assert!(!coarse.flags.iter().any(|flag| matches!(flag, Flag::Undersampled(_))));
    assert!(fine.flags.iter().any(|flag| matches!(flag, Flag::Undersampled(_))));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn laws_of_information(pairs in prop::collection::vec((0..5_u8, 0..4_u8), 2..80), shift in 1..5_u8) {
        let x: Vec<u8> = pairs.iter().map(|pair| pair.0).collect();
        let y: Vec<u8> = pairs.iter().map(|pair| pair.1).collect();
        let renamed: Vec<u8> = x.iter().map(|symbol| (symbol + shift) % 5).collect();
        let [x, y, renamed] = [&x, &y, &renamed].map(|symbols| Codes::of_symbols(symbols));
        let (x, y, renamed) = (x?, y?, renamed?);
        let (h_x, h_y) = (plugin_entropy_nats(&x).value, plugin_entropy_nats(&y).value);
        let both = plugin_entropy_nats(&x.paired_with(&y)?).value;
        let mi = plugin_mi_nats(&x, &y)?.value;
        prop_assert!(mi >= -1e-13 && mi <= h_x.min(h_y) + 1e-13);
        prop_assert!(close(mi, h_x + h_y - both, 1e-12, 1.0));
        prop_assert!(close(mi, plugin_mi_nats(&y, &x)?.value, 1e-13, 1.0));
        prop_assert!(close(mi, plugin_mi_nats(&renamed, &y)?.value, 1e-13, 1.0));
        prop_assert!(close(plugin_mi_nats(&x, &x)?.value, h_x, 1e-13, 1.0));
        prop_assert!(h_x <= (x.unique() as f64).ln() + 1e-13);
        // Rows as arrays, and rows of both.
        let rows = Array2::from_shape_fn((pairs.len(), 2), |(i, j)| if j == 0 { f64::from(pairs[i].0) } else { f64::from(pairs[i].1) });
        let per_dim = plugin_entropy_per_dim_nats(rows.view())?;
        prop_assert_eq!(per_dim[0].value, h_x);
        prop_assert_eq!(per_dim[1].value, h_y);
        prop_assert!(close(plugin_entropy_joint_nats(rows.view())?.value, both, 1e-13, 1.0));
        // The min-entropy is at most the entropy.
        prop_assert!(-guess_probability(&x).value.ln() <= h_x + 1e-13);
    }
}
