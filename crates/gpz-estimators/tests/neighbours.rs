//! Estimators of nearest neighbours: the reference cases.

mod common;

use common::case::{Case, Outcome};
use gpz_estimators::dimension::{self, Averaging};
use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::information::ksg::{ksg1_nats, ksg2_nats};
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::information::ross::ross_nats;
use gpz_estimators::{Error, Flag, Metric, Neighbours, NotIdentifiable};
use ndarray::s;

#[test]
fn entropies_of_the_stored_cases() -> Outcome<()> {
    for id in
        ["h_uniform_cube3", "h_exponential_1", "gmm_1d_c3", "gmm_2d_c2", "gmm_identical_classes"]
    {
        let case = Case::open(id)?;
        let z = case.matrix("z")?;
        let h = kozachenko_leonenko_nats(z.view(), Metric::Euclidean, Neighbours::default())??;
        case.check("kl_entropy_k3", &[h.value]);
        case.check_kind("population", "entropy_z", &[h.value]);
        if id.starts_with("gmm") {
            assert!(h.std_err.is_some_and(|error| error > 0.0 && error < 0.05));
            continue;
        }
        assert_eq!(h.flags, []);
        let h = kozachenko_leonenko_nats(z.view(), Metric::Maximum, Neighbours::default())??;
        case.check("kl_entropy_k3_maxnorm", &[h.value]);
    }
    Ok(())
}

#[test]
fn as_many_neighbours_as_rows_is_an_error() -> Outcome<()> {
    let case = Case::open("tiny_n3_k3")?;
    let z = case.matrix("z")?;
    let three = kozachenko_leonenko_nats(z.view(), Metric::Euclidean, Neighbours::nth(3));
    assert_eq!(three, Err(Error::TooFewRows { neighbours: 3, rows: 3 }));
    case.behaves("error");
    let two = kozachenko_leonenko_nats(z.view(), Metric::Euclidean, Neighbours::nth(2))??;
    case.check("kl_entropy_k2", &[two.value]);
    assert_eq!(two.std_err, None);
    Ok(())
}

#[test]
fn information_of_pairs_of_the_stored_cases() -> Outcome<()> {
    for id in ["mi_gauss_1v1_rho075", "mi_gauss_2pair_3v3", "mi_halfcube_1v1"] {
        let case = Case::open(id)?;
        let (x, y) = (case.matrix("x")?, case.matrix("y")?);
        let one = ksg1_nats(x.view(), y.view(), Neighbours::default())??;
        case.check("ksg1_k3", &[one.value]);
        case.check_kind("population", "mi", &[one.value]);
        case.check_kind("population", "mi_ksg1_behaviour", &[one.value]);
        let two = ksg2_nats(x.view(), y.view(), Neighbours::default())??;
        case.check("ksg2_k3", &[two.value]);
        // Without ties the same but for the logarithm of n in place of its digamma.
        let mixed = gao_nats(x.view(), y.view(), Neighbours::default())??;
        case.check_kind("population", "mi", &[mixed.value]);
        let n = x.nrows() as f64;
        assert!((mixed.value - one.value - 0.5 / n).abs() < 1.0 / n / n);
        for estimate in [one, two, mixed] {
            assert_eq!(estimate.flags, [], "{id}");
            assert!(estimate.std_err.is_some_and(|error| error > 0.001 && error < 0.05));
        }
    }
    Ok(())
}

#[test]
fn a_deterministic_relation_is_seen_to_grow() -> Outcome<()> {
    let case = Case::open("mi_deterministic_infinite")?;
    let (x, y) = (case.matrix("x")?, case.matrix("y")?);
    let first =
        |n: usize| ksg1_nats(x.slice(s![..n, ..]), y.slice(s![..n, ..]), Neighbours::default());
    let mut values = Vec::new();
    for n in [250, 500, 1000, 2000] {
        let estimate = first(n)??;
        assert!(estimate.flags.contains(&Flag::GrowsWithRows), "{n}");
        values.push(estimate.value);
    }
    case.check("ksg1_growth", &values);
    case.behaves("flag");
    for estimate in [
        ksg2_nats(x.view(), y.view(), Neighbours::default())??,
        gao_nats(x.view(), y.view(), Neighbours::nth(5))??,
    ] {
        assert!(estimate.flags.contains(&Flag::GrowsWithRows));
    }
    Ok(())
}

#[test]
fn quantised_pairs_are_refused_by_ksg_and_taken_by_gao() -> Outcome<()> {
    let case = Case::open("mi_quantised_gauss_ties")?;
    let (x, y) = (case.matrix("x")?, case.matrix("y")?);
    for refused in [
        ksg1_nats(x.view(), y.view(), Neighbours::default())?,
        ksg2_nats(x.view(), y.view(), Neighbours::default())?,
    ] {
        assert!(
            matches!(refused, Err(NotIdentifiable::Tied { rows, of: 20_000, neighbour: 3 }) if rows > 15_000)
        );
    }
    case.behaves("refuse");
    let mixed = gao_nats(x.view(), y.view(), Neighbours::nth(5))??;
    case.check_kind("population", "mi", &[mixed.value]);
    assert!(mixed.flags.iter().any(|flag| matches!(flag, Flag::Ties(rows) if *rows > 15_000)));
    assert!(!mixed.flags.contains(&Flag::GrowsWithRows));
    // So few rows that no three coincide: the repeated values give them away.
    let few = ksg1_nats(x.slice(s![..40, ..]), y.slice(s![..40, ..]), Neighbours::nth(9))??;
    assert!(few.flags.iter().any(|flag| matches!(flag, Flag::Ties(rows) if *rows > 30)));
    Ok(())
}

#[test]
fn information_of_labels_of_the_stored_cases() -> Outcome<()> {
    for id in ["mi_label_uniform_overlap", "gmm_1d_c3", "gmm_2d_c2", "gmm_identical_classes"] {
        let case = Case::open(id)?;
        let mi = ross_nats(case.matrix("z")?.view(), &case.labels()?, Neighbours::default())??;
        case.check("ross_k3", &[mi.value]);
        case.check_kind("population", "mi_label", &[mi.value]);
        case.check_kind("bound", "mi_label", &[mi.value]);
        assert!(mi.ceiling.is_some_and(|ceiling| mi.value < ceiling));
    }
    Ok(())
}

#[test]
fn dimensions_of_the_swiss_roll() -> Outcome<()> {
    let case = Case::open("id_swissroll")?;
    let z = case.matrix("z")?;
    let two = dimension::two_nn(z.view(), 8)?;
    let two = two?;
    case.check("twonn_mle", &[two.value]);
    let inverses = dimension::levina_bickel(z.view(), Neighbours::nth(20), Averaging::OfInverses)??;
    case.check("mle_levina_bickel_mackay_k20", &[inverses.value]);
    let mean = dimension::levina_bickel(z.view(), Neighbours::nth(20), Averaging::OfEstimates)??;
    case.check("mle_levina_bickel_mean_k20", &[mean.value]);
    for estimate in [two, inverses, mean] {
        case.check_kind("population", "intrinsic_dim", &[estimate.value]);
        assert_eq!(estimate.flags, []);
    }
    Ok(())
}
