//! Bounds on attackers: the reference case, closed forms and laws.

mod common;

use std::f64::consts::LN_2;

use common::case::{Case, Outcome};
use common::{close, covariance, linear_gaussian, normal, rng};
use gpz_estimators::channel::{
    Channel, Given, LinearGaussian, Probes, Quantiser, RidgeAttack, SmoothedPrior,
    bound_crb_unbiased, bound_dfil_unbiased, bound_entropy_power, bound_van_trees,
    bound_van_trees_matrix, conditional_entropy_lower_nats, dfil, entropy_upper_from_mse_nats,
    ridge_attack_mse,
};
use gpz_estimators::{Error, Estimate, Flag, Kind, NotIdentifiable};
use ndarray::{Array1, Array2, Axis, array};
use proptest::prelude::*;
use rand::RngExt;

#[test]
fn linear_gaussian_reference_case() -> Outcome<()> {
    let case = Case::open("recon_linear_gaussian")?;
    let noise = case.scalar("sigma2")?;
    let a = case.matrix("a")?;
    let d = a.ncols();
    let model = LinearGaussian::new(a.view(), case.matrix("sigma_x")?.view(), noise)?;
    let information: Result<_, Error> = dfil(d, noise.sqrt(), Probes::Exact, |v| Ok(a.dot(&v)));
    let information = information?;
    assert_eq!(information.kind, Kind::Exact);
    let fisher = model.fisher()?;
    let trace = Given::Known(fisher.diag().sum());
    let (x, z) = (case.matrix("x")?, case.matrix("z")?);
    let ridge = ridge_attack_mse(x.view(), z.view(), RidgeAttack::default())??;
    let unbiased = [
        bound_dfil_unbiased(Given::Known(information.value))?,
        bound_crb_unbiased(fisher.view())??,
    ];
    assert!(unbiased.iter().all(|bound| bound.flags == [Flag::UnbiasedAttackersOnly]));
    // One of them above the least error, the other below: neither bounds an attacker who knows the prior.
    assert!(
        unbiased[0].value < model.mmse_per_dim().value
            && model.mmse_per_dim().value < unbiased[1].value
    );
    let mut checked = 0;
    for (quantity, _, entry) in case.entries() {
        let got = match quantity {
            "h_x_given_z" => model.h_x_given_z_nats(),
            "mi" => model.mi_nats(),
            "mmse_per_dim" => model.mmse_per_dim(),
            "dfil" => {
                assert!(close(model.dfil().value, information.value, 1e-13, information.value));
                information.clone()
            }
            "bound_dfil_unbiased" => unbiased[0].clone(),
            "bound_crb_unbiased" => unbiased[1].clone(),
            "bound_van_trees" => {
                bound_van_trees(trace, Given::Known(model.prior_fisher_trace()), d)?
            }
            "bound_entropy_power" => {
                bound_entropy_power(Given::Known(model.h_x_given_z_nats().value), d)?
            }
            "mmse_empirical_ridge" => ridge.clone(),
            "behaviour" => continue,
            other => return Err(format!("{other} is not answered").into()),
        };
        case.holds(entry, &[got.value]);
        checked += 1;
    }
    assert_eq!(checked, 11);
    Ok(())
}

#[test]
fn probes_of_random_signs_are_unbiased() -> Outcome<()> {
    let (d, m, sigma, replicates) = (40, 30, 0.5, 16);
    let jacobian = normal(&mut rng(4), (m, d));
    let run = |probes| -> Result<Estimate, Error> {
        dfil(d, sigma, probes, |v| Ok::<_, Error>(jacobian.dot(&v)))
    };
    let truth = run(Probes::Exact)?.value;
    let want = jacobian.iter().map(|v| v * v).sum::<f64>() / (d as f64 * sigma * sigma);
    assert!(close(truth, want, 1e-13, want));
    let (mut sum, mut error_sq, mut covered) = (0.0, 0.0, 0);
    for seed in 0..replicates {
        let estimate = run(Probes::Hutchinson { probes: 50, seed })?;
        let error = estimate.std_err.ok_or("an error")?;
        sum += estimate.value;
        error_sq += error * error;
        covered += usize::from((estimate.value - truth).abs() <= 2.0 * error);
    }
    let n = replicates as f64;
    assert!((sum / n - truth).abs() <= 4.0 * (error_sq / n).sqrt() / n.sqrt());
    assert!(covered >= 13, "{covered}");
    assert_eq!(
        run(Probes::Hutchinson { probes: 5, seed: 1 })?,
        run(Probes::Hutchinson { probes: 5, seed: 1 })?
    );
    assert!(run(Probes::Hutchinson { probes: 1, seed: 1 }).is_err());
    let broken: Result<_, Error> = dfil(2, 1.0, Probes::Exact, |v| Ok(array![f64::NAN * v[0]]));
    assert!(matches!(broken, Err(Error::NonFinite { row: 0, column: 0, .. })));
    let ragged: Result<_, Error> =
        dfil(2, 1.0, Probes::Exact, |v| Ok(Array1::ones(1 + v[0] as usize)));
    assert!(matches!(ragged, Err(Error::Shape { .. })));
    // The closure's own error comes through.
    let failed: Result<_, Box<dyn std::error::Error>> =
        dfil(2, 1.0, Probes::Exact, |_| Err("no gradient".into()));
    assert_eq!(failed.err().map(|error| error.to_string()), Some("no gradient".to_owned()));
    Ok(())
}

#[test]
fn singular_information_says_what_to_do() -> Outcome<()> {
    let fisher = array![[1.0, 1.0], [1.0, 1.0]];
    let refused = bound_crb_unbiased(fisher.view())?;
    assert!(matches!(refused, Err(NotIdentifiable::Singular { rank: 1, width: 2, .. })));
    // With a prior there is a bound again.
    let prior = Array2::eye(2);
    let bound = bound_van_trees_matrix(fisher.view(), prior.view())??;
    assert!(close(bound.value, (1.0 / 3.0 + 1.0) / 2.0, 1e-14, 1.0) && bound.kind == Kind::Lower);
    assert!(bound_van_trees(Given::Known(2.0), Given::Known(2.0), 2)?.value <= bound.value);
    let none = bound_van_trees_matrix(fisher.view(), Array2::zeros((2, 2)).view())?;
    assert!(matches!(none, Err(NotIdentifiable::Singular { .. })));
    assert!(bound_van_trees(Given::Known(-1.0), Given::Known(2.0), 2).is_err());
    assert!(bound_entropy_power(Given::Known(f64::NAN), 2).is_err());
    assert!(bound_entropy_power(Given::Known(0.0), 0).is_err());
    assert_eq!(bound_entropy_power(Given::Known(f64::NEG_INFINITY), 2)?.value, 0.0);
    Ok(())
}

/// What rests on an estimate is an estimate.
#[test]
fn estimates_do_not_become_bounds() -> Outcome<()> {
    let prior = SmoothedPrior::new(4, 0.2)?;
    let z = normal(&mut rng(8), (50, 3));
    let noise = Channel::Noise { sigma: 0.5 }.information_nats(z.view())?;
    let heuristic = prior.mse_floor(&noise, None)??;
    assert_eq!(heuristic.kind, Kind::Heuristic);
    assert!(heuristic.flags.contains(&Flag::RestsOnEstimate) && heuristic.std_err.is_some());
    let bits = Channel::Bits(Quantiser::new(3, -4.0, 4.0)?).information_nats(z.view())?;
    let lower = prior.mse_floor(&bits, None)??;
    assert_eq!(lower.kind, Kind::Lower);
    assert!(close(lower.value, 0.04 * (-2.0 * 9.0 * LN_2 / 4.0_f64).exp(), 1e-13, lower.value));
    let estimated = prior.mse_floor(&bits, Some(Given::Estimated(1.0)))??;
    assert_eq!(estimated.kind, Kind::Heuristic);
    // Known, but below what the smoothing alone gives.
    let known = prior.mse_floor(&bits, Some(Given::Known(-1e3)))??;
    assert_eq!(known, lower);
    let trees = prior.mse_floor_van_trees(Given::Known(10.0))?;
    assert!(close(trees.value, 1.0 / (10.0 + 25.0), 1e-14, 1.0) && trees.kind == Kind::Lower);
    assert_eq!(prior.mse_floor_van_trees(Given::Estimated(10.0))?.kind, Kind::Heuristic);
    assert_eq!(entropy_upper_from_mse_nats(Given::Estimated(0.1), 4)?.kind, Kind::Heuristic);
    assert_eq!(bound_dfil_unbiased(Given::Estimated(2.0))?.kind, Kind::Heuristic);
    Ok(())
}

/// A noiseless map leaves its null space.
#[test]
fn without_noise_the_null_space_is_left() -> Outcome<()> {
    let covariance = covariance(11, 5);
    let map = normal(&mut rng(12), (2, 5));
    let model = LinearGaussian::new(map.view(), covariance.view(), 0.0)?;
    assert_eq!((model.mmse_rank(), model.signal_rank()), (3, 2));
    assert_eq!(model.mi_nats().value, f64::INFINITY);
    assert_eq!(model.h_x_given_z_nats().value, f64::NEG_INFINITY);
    // Σ − ΣAᵀ(AΣAᵀ)⁻¹AΣ, the inverse of two by two by hand.
    let cross = map.dot(&covariance);
    let m = cross.dot(&map.t());
    let det = m[[0, 0]] * m[[1, 1]] - m[[0, 1]] * m[[1, 0]];
    let inverse = array![[m[[1, 1]], -m[[0, 1]]], [-m[[1, 0]], m[[0, 0]]]] / det;
    let want = &covariance - &cross.t().dot(&inverse).dot(&cross);
    for (got, want) in model.posterior_covariance().iter().zip(&want) {
        assert!((got - want).abs() < 1e-12);
    }
    // Little noise comes close.
    let nearly = LinearGaussian::new(map.view(), covariance.view(), 1e-9)?;
    assert!(close(nearly.mmse_per_dim().value, model.mmse_per_dim().value, 1e-6, 1.0));
    assert!(model.fisher().is_err());
    assert!(LinearGaussian::new(map.view(), covariance.view(), 1e-30).is_err());
    assert!(LinearGaussian::new(map.view(), covariance.view(), -1.0).is_err());
    assert!(LinearGaussian::new(array![[1.0]].view(), covariance.view(), 1.0).is_err());
    let silent = LinearGaussian::new(Array2::zeros((2, 5)).view(), covariance.view(), 0.0)?;
    assert_eq!((silent.mmse_rank(), silent.mi_nats().value), (5, 0.0));
    Ok(())
}

#[test]
fn ridge_finds_nothing_where_there_is_nothing() -> Outcome<()> {
    let mut rng = rng(13);
    let (x, z) = (normal(&mut rng, (400, 3)) + 5.0, normal(&mut rng, (400, 4)));
    let error = ridge_attack_mse(x.view(), z.view(), RidgeAttack::default())??;
    let se = error.std_err.ok_or("an error")?;
    assert!((error.value - 1.0).abs() < 4.0 * se + 4.0 / 320.0, "{error:?}");
    // More features than rows, some of them copies and constants: the dual side agrees with what is possible.
    let wide =
        ndarray::concatenate![Axis(1), x, x, Array2::zeros((400, 2)), normal(&mut rng, (400, 600))];
    let exact = ridge_attack_mse(x.view(), x.view(), RidgeAttack::default())??;
    assert!(exact.value < 1e-10);
    let strong = ridge_attack_mse(x.view(), wide.view(), RidgeAttack { folds: 4, penalty: 1.0 })??;
    assert!(strong.value > 0.1 && strong.value < 1.0, "{strong:?}");
    assert!(matches!(
        ridge_attack_mse(
            x.slice(ndarray::s![..9, ..]),
            z.slice(ndarray::s![..9, ..]),
            RidgeAttack::default()
        )?,
        Err(NotIdentifiable::TooFewRows { have: 9, need: 10, .. })
    ));
    assert!(ridge_attack_mse(x.view(), z.view(), RidgeAttack { folds: 1, penalty: 1.0 }).is_err());
    assert!(ridge_attack_mse(x.view(), z.view(), RidgeAttack { folds: 2, penalty: 0.0 }).is_err());
    Ok(())
}

/// The side that is factorised must not matter.
#[test]
fn both_sides_of_the_ridge_agree() -> Outcome<()> {
    let mut rng = rng(14);
    let z = normal(&mut rng, (30, 24));
    let x = z.slice(ndarray::s![.., ..2]).to_owned() + normal(&mut rng, (30, 2)) * 0.1;
    // 24 rows of 30 are fitted with 5 folds: columns of zeros push it to the other side and change nothing.
    let padded = ndarray::concatenate![Axis(1), z, Array2::zeros((30, 5))];
    let options = RidgeAttack { folds: 5, penalty: 0.1 };
    let (primal, dual) = (
        ridge_attack_mse(x.view(), z.view(), options)??,
        ridge_attack_mse(x.view(), padded.view(), options)??,
    );
    assert!(close(primal.value, dual.value, 1e-9, primal.value), "{} {}", primal.value, dual.value);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every bound on any attacker lies below the least error; van Trees by traces below that by matrices, reached here.
    #[test]
    fn bounds_are_ordered(seed in any::<u64>(), d in 1..7_usize, m in 1..7_usize, noise in 1e-3..10.0_f64) {
        let model = linear_gaussian(seed, d, m, noise)?;
        let least = model.mmse_per_dim().value;
        let tolerance = 1e-9 * least;
        let power = bound_entropy_power(Given::Known(model.h_x_given_z_nats().value), d)?;
        prop_assert!(power.kind == Kind::Lower && power.value <= least + tolerance, "{} {least}", power.value);
        let fisher = model.fisher()?;
        let trees = bound_van_trees(Given::Known(fisher.diag().sum()), Given::Known(model.prior_fisher_trace()), d)?;
        let prior = covariance(seed, d);
        // Σ⁻¹ by the posterior of an identity: J = Σ⁻¹ solves F + J with F = 0 through the closed form's trace.
        prop_assert!(trees.value <= least + tolerance);
        // Entropy power is a geometric mean of posterior variances and van Trees a harmonic one.
        prop_assert!(trees.value <= power.value + tolerance);
        let h = entropy_upper_from_mse_nats(Given::Known(least), d)?;
        prop_assert!(h.kind == Kind::Upper && h.value >= model.h_x_given_z_nats().value - 1e-9);
        let mi = model.mi_nats().value;
        prop_assert!(mi >= 0.0);
        let left = conditional_entropy_lower_nats(Given::Known(model.h_x_nats().value), &Ok(model.mi_nats()))?;
        prop_assert!(left.is_ok_and(|left| left.kind == Kind::Lower && close(left.value, model.h_x_given_z_nats().value, 1e-12, 1.0 + mi)));
        // Any attacker includes those who ignore z.
        prop_assert!(least <= prior.diag().sum() / d as f64 + tolerance);
        if let (Ok(crb), unbiased) = (bound_crb_unbiased(fisher.view())?, bound_dfil_unbiased(Given::Known(model.dfil().value))?) {
            prop_assert!(unbiased.value <= crb.value * (1.0 + 1e-9));
        }
    }

    /// Without noise in the prior's covariance the matrix bound is the least error: x and z are jointly Gaussian.
    #[test]
    fn van_trees_by_matrices_is_reached(seed in any::<u64>(), d in 1..6_usize, noise in 1e-2..10.0_f64) {
        let map = normal(&mut rng(seed), (d, d));
        let variances: Vec<f64> = (0..d).map(|_| rng(seed ^ 7).random_range(0.1..3.0)).collect();
        let prior = Array2::from_diag(&Array1::from(variances.iter().map(|v| 1.0 / v).collect::<Vec<_>>()));
        let model = LinearGaussian::new(map.view(), Array2::from_diag(&Array1::from(variances)).view(), noise)?;
        let bound = bound_van_trees_matrix(model.fisher()?.view(), prior.view())?;
        prop_assert!(bound.is_ok_and(|bound| close(bound.value, model.mmse_per_dim().value, 1e-9, bound.value)));
    }
}
