//! Kernel densities, matrix-based entropies, and bounds from critics.

mod common;

use std::f64::consts::{E, PI};

use common::case::{Case, Outcome};
use common::{close, normal, rng};
use gpz_estimators::entropy::kde::{
    Bandwidth, kde_entropy_loo_nats, kde_entropy_resubstitution_nats,
};
use gpz_estimators::information::critic::{donsker_varadhan_nats, infonce_nats, nwj_nats};
use gpz_estimators::information::renyi::{quadratic_entropy_nats, quadratic_information_nats};
use gpz_estimators::{Error, Estimated, Flag, Kind, NotIdentifiable};
use ndarray::{Array2, ArrayView2, Axis, array, s};
use proptest::prelude::*;

#[test]
fn kde_of_the_stored_case() -> Outcome<()> {
    let case = Case::open("kde_1d_scott")?;
    let z = case.matrix("z")?;
    for bandwidth in [Bandwidth::Scott, Bandwidth::ScottFull] {
        let out = kde_entropy_loo_nats(z.view(), bandwidth)??;
        case.check("kde_entropy_loo", &[out.value]);
        case.check("entropy_z", &[out.value]);
        let with = kde_entropy_resubstitution_nats(z.view(), bandwidth)??.value;
        case.check("kde_entropy_resubstitution", &[with]);
    }
    Ok(())
}

/// The sums as the formula has them.
fn kde_oracle(z: ArrayView2<'_, f64>, sigma: f64, leave_one_out: bool) -> f64 {
    let (n, d) = z.dim();
    let norm = (2.0 * PI).sqrt().powi(d as i32) * sigma.powi(d as i32);
    let density = |i: usize| {
        let others = (0..n).filter(|&j| !leave_one_out || i != j);
        let kernel = |j: usize| {
            let squares = z.row(i).iter().zip(z.row(j)).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            (-0.5 * squares / sigma / sigma).exp()
        };
        let count = if leave_one_out { n - 1 } else { n } as f64;
        others.map(kernel).sum::<f64>() / count / norm
    };
    -(0..n).map(|i| density(i).ln()).sum::<f64>() / n as f64
}

#[test]
fn kde_is_its_formula() -> Outcome<()> {
    let z = normal(&mut rng(1), (60, 3));
    let fixed = Bandwidth::Fixed(0.7);
    let out = kde_entropy_loo_nats(z.view(), fixed)??;
    assert!(close(out.value, kde_oracle(z.view(), 0.7, true), 1e-12, 1.0));
    let with = kde_entropy_resubstitution_nats(z.view(), fixed)??;
    assert!(close(with.value, kde_oracle(z.view(), 0.7, false), 1e-12, 1.0));
    assert!(matches!((out.kind, with.kind), (Kind::Upper, Kind::Heuristic)));
    Ok(())
}

/// A fixed bandwidth's leave-one-out value estimates a cross-entropy: of N(0, 1) against N(0, 1 + σ²) as n grows, never below h.
#[test]
fn kde_is_high_on_average_by_what_is_known() -> Outcome<()> {
    let (truth, sigma) = (0.5 * (2.0 * PI * E).ln(), 0.4_f64);
    let wide = 1.0 + sigma * sigma;
    let smoothing = 0.5 * wide.ln() + 0.5 / wide - 0.5;
    let values: Vec<f64> = (0..16)
        .map(|seed| {
            let z = normal(&mut rng(seed), (500, 1));
            Ok(kde_entropy_loo_nats(z.view(), Bandwidth::Fixed(sigma))??.value)
        })
        .collect::<Outcome<_>>()?;
    let mean = values.iter().sum::<f64>() / 16.0;
    let error = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 15.0 / 16.0).sqrt();
    // The variance of the density adds 1/(2·n·σ·√π·|support|)-like terms; a hundredth covers them at this n and σ.
    assert!(mean >= truth + smoothing - 4.0 * error, "{mean} {truth}");
    assert!(mean <= truth + smoothing + 0.01 + 4.0 * error, "{mean} {truth}");
    Ok(())
}

#[test]
fn kde_interval_covers_its_expectation() -> Outcome<()> {
    let estimates: Vec<(f64, f64)> = (0..200)
        .map(|seed| {
            let z = normal(&mut rng(seed), (120, 1));
            let out = kde_entropy_loo_nats(z.view(), Bandwidth::Scott)??;
            Ok((out.value, out.std_err.ok_or("a spread")?))
        })
        .collect::<Outcome<_>>()?;
    let mean = estimates.iter().map(|(value, _)| value).sum::<f64>() / 200.0;
    let inside = estimates.iter().filter(|(value, error)| (value - mean).abs() <= 1.96 * error);
    assert!((178..=200).contains(&inside.count()));
    Ok(())
}

#[test]
fn kde_says_when_it_cannot() -> Outcome<()> {
    let mut z = normal(&mut rng(5), (30, 3));
    z.column_mut(1).fill(4.0);
    let flat = kde_entropy_loo_nats(z.view(), Bandwidth::Scott)??;
    assert_eq!(flat.value, f64::NEG_INFINITY);
    assert!(flat.flags.contains(&Flag::DegenerateSupport));
    assert!(flat.flags.contains(&Flag::ConstantDimensions(1)));
    let twice = z.column(0).mapv(|value| 2.0 * value);
    z.column_mut(1).assign(&twice);
    for bandwidth in [Bandwidth::Scott, Bandwidth::ScottFull] {
        let collinear = kde_entropy_loo_nats(z.view(), bandwidth)??;
        assert_eq!(collinear.value, f64::NEG_INFINITY);
        assert!(collinear.flags.contains(&Flag::DegenerateSupport));
        assert!(collinear.flags.contains(&Flag::RankDeficient { rank: 2, width: 3 }));
    }
    // A kernel of its own width smooths what has no density; that it has none is said all the same.
    let smoothed = kde_entropy_loo_nats(z.view(), Bandwidth::Fixed(0.5))??;
    assert!(smoothed.value.is_finite());
    assert!(smoothed.flags.contains(&Flag::RankDeficient { rank: 2, width: 3 }));
    let few = kde_entropy_loo_nats(z.slice(s![..3, ..]), Bandwidth::ScottFull)?;
    assert_eq!(few, Err(NotIdentifiable::TooFewRows { class: None, have: 3, need: 4 }));
    let one = kde_entropy_loo_nats(z.slice(s![..1, ..]), Bandwidth::Scott)?;
    assert_eq!(one, Err(NotIdentifiable::TooFewRows { class: None, have: 1, need: 2 }));
    let none = kde_entropy_loo_nats(z.slice(s![..0, ..]), Bandwidth::Scott);
    assert_eq!(none, Err(Error::NoRows));
    let bad = kde_entropy_loo_nats(z.view(), Bandwidth::Fixed(-1.0));
    assert!(matches!(bad, Err(Error::Parameter { name: "bandwidth", .. })));
    // A row far from all others: its density underflows, its logarithm does not.
    let far = array![[0.0], [1.0], [1e5]];
    assert!(kde_entropy_loo_nats(far.view(), Bandwidth::Fixed(1.0))??.value > 1e9 / 10.0);
    let wide = kde_entropy_loo_nats(normal(&mut rng(6), (40, 12)).view(), Bandwidth::Scott)??;
    assert!(wide.flags.contains(&Flag::HighDimension(12)));
    Ok(())
}

#[test]
fn quadratic_entropies_of_the_stored_case() -> Outcome<()> {
    let case = Case::open("renyi_matrix")?;
    let (x, y) = (case.matrix("x")?, case.matrix("y")?);
    for sigma in [1.0, 3.0] {
        let entropy = quadratic_entropy_nats(x.view(), sigma)?;
        case.check(&format!("S_x_alpha2_sigma{sigma:.1}"), &[entropy.value]);
        case.check("S_x", &[entropy.value]);
        let information = quadratic_information_nats(x.view(), y.view(), [sigma; 2])?;
        case.check(&format!("I_xy_alpha2_sigma{sigma:.1}"), &[information.value]);
    }
    Ok(())
}

#[cfg(feature = "lapack-base")]
mod lapack {
    use super::*;
    use gpz_estimators::information::renyi::{matrix_entropy_nats, matrix_information_nats};

    #[test]
    fn matrix_entropies_of_the_stored_case() -> Outcome<()> {
        let case = Case::open("renyi_matrix")?;
        let (x, y) = (case.matrix("x")?, case.matrix("y")?);
        for alpha in [1.0, 1.01, 2.0] {
            for sigma in [1.0, 3.0] {
                let entropy = matrix_entropy_nats(x.view(), alpha, sigma)?;
                assert_eq!(entropy.kind, Kind::Exact);
                case.check("S_x", &[entropy.value]);
                case.check(&format!("S_x_alpha{alpha}_sigma{sigma:.1}"), &[entropy.value]);
                let information = matrix_information_nats(x.view(), y.view(), alpha, [sigma; 2])?;
                case.check(&format!("I_xy_alpha{alpha}_sigma{sigma:.1}"), &[information.value]);
            }
        }
        Ok(())
    }

    #[test]
    fn orders_join_up() -> Outcome<()> {
        let x = normal(&mut rng(9), (40, 2));
        let at = |alpha| matrix_entropy_nats(x.view(), alpha, 0.8).map(|entropy| entropy.value);
        let one = at(1.0)?;
        for alpha in [1.0 - 1e-9, 1.0 + 1e-9, 1.0 + 1e-15] {
            assert!(close(at(alpha)?, one, 1e-7, 1.0), "{alpha}: {} {one}", at(alpha)?);
        }
        // The sum of squares is the sum of squared eigenvalues.
        assert!(close(at(2.0)?, at(2.0 + 1e-12)?, 1e-10, 1.0));
        let orders = [0.3, 0.9, 1.0, 1.5, 2.0, 5.0, f64::INFINITY];
        let values = orders.map(at).into_iter().collect::<Result<Vec<_>, _>>()?;
        assert!(values.windows(2).all(|pair| pair[0] > pair[1]), "{values:?}");
        for alpha in [0.0, -1.0, f64::NAN] {
            let refused = matrix_entropy_nats(x.view(), alpha, 1.0);
            assert!(matches!(refused, Err(Error::Parameter { name: "alpha", .. })));
        }
        Ok(())
    }
}

#[test]
fn bandwidths_at_their_ends() -> Result<(), Error> {
    let x = normal(&mut rng(3), (50, 2));
    let narrow = quadratic_entropy_nats(x.view(), 1e-6)?;
    assert!(close(narrow.value, 50.0_f64.ln(), 1e-12, 1.0));
    assert!(narrow.flags.contains(&Flag::Saturated));
    let wide = quadratic_entropy_nats(x.view(), 1e6)?;
    assert!(wide.value.abs() < 1e-9 && wide.flags.is_empty());
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = quadratic_entropy_nats(x.view(), sigma);
        assert!(matches!(refused, Err(Error::Parameter { name: "sigma", .. })));
    }
    assert_eq!(quadratic_entropy_nats(x.slice(s![..1, ..]), 1.0)?.value, 0.0);
    Ok(())
}

#[test]
fn critic_of_the_stored_case() -> Outcome<()> {
    let case = Case::open("critic_optimal_d10_rho05")?;
    let scores = case.matrix("scores")?;
    let (infonce, nwj, dv) = (
        infonce_nats(scores.view())??,
        nwj_nats(scores.view())??,
        donsker_varadhan_nats(scores.view())??,
    );
    case.check("infonce", &[infonce.value]);
    case.check("nwj", &[nwj.value]);
    case.check("dv_mine", &[dv.value]);
    assert_eq!([infonce.kind, nwj.kind, dv.kind], [Kind::Lower, Kind::Lower, Kind::Heuristic]);
    for estimate in [infonce, nwj, dv] {
        assert!(!estimate.flags.iter().any(|f| matches!(f, Flag::Saturated | Flag::HeavyTail)));
    }
    Ok(())
}

/// `[B, B]` log density ratios of Gaussian pairs with correlation `rho` in each of `d` dimensions.
fn optimal_scores(seed: u64, b: usize, d: usize, rho: f64) -> Array2<f64> {
    let mut rng = rng(seed);
    let x = normal(&mut rng, (b, d));
    let y = &x * rho + normal(&mut rng, (b, d)) * (1.0 - rho * rho).sqrt();
    Array2::from_shape_fn((b, b), |(i, j)| {
        let term = |(x, y): (&f64, &f64)| {
            let given = (y - rho * x).powi(2) / (1.0 - rho * rho);
            -0.5 * (1.0 - rho * rho).ln() - 0.5 * given + 0.5 * y * y
        };
        x.row(i).iter().zip(y.row(j)).map(term).sum()
    })
}

/// With the best critic NWJ and DV are right on average, InfoNCE is low; none exceeds the truth beyond chance.
#[test]
fn critics_bound_on_average() -> Outcome<()> {
    let truth = -(1.0 - 0.36_f64).ln();
    let run = |estimator: fn(ArrayView2<'_, f64>) -> Result<Estimated, Error>| {
        let value = |seed| Ok(estimator(optimal_scores(seed, 64, 2, 0.6).view())??.value);
        let values = (0..16).map(value).collect::<Outcome<Vec<f64>>>()?;
        let mean = values.iter().sum::<f64>() / 16.0;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Ok::<_, Box<dyn std::error::Error>>((mean, (squares / 15.0 / 16.0).sqrt()))
    };
    for estimator in [infonce_nats::<f64>, nwj_nats::<f64>, donsker_varadhan_nats::<f64>] {
        let (mean, error) = run(estimator)?;
        assert!((mean - truth).abs() <= 0.02 + 4.0 * error, "{mean} {truth} {error}");
    }
    // A poor critic is below the truth.
    let poor = |scores: Array2<f64>| nwj_nats((scores * 0.3).view());
    let value = |seed| Ok(poor(optimal_scores(seed, 64, 2, 0.6))??.value);
    let mean = (0..16).map(value).collect::<Outcome<Vec<f64>>>()?.iter().sum::<f64>() / 16.0;
    assert!(mean < truth - 0.1, "{mean} {truth}");
    Ok(())
}

/// NWJ and DV cover the truth. InfoNCE is low by more than its error where pairs are few: it covers what it is on average.
#[test]
fn critic_intervals_cover() -> Outcome<()> {
    let truth = -(1.0 - 0.36_f64).ln();
    let run = |estimator: fn(ArrayView2<'_, f64>) -> Result<Estimated, Error>| {
        let of = |seed| -> Outcome<(f64, f64)> {
            let estimate = estimator(optimal_scores(seed, 100, 2, 0.6).view())??;
            Ok((estimate.value, estimate.std_err.ok_or("an error")?))
        };
        (0..200).map(of).collect::<Outcome<Vec<_>>>()
    };
    let covered = |what: &str, found: &[(f64, f64)], truth: f64| {
        let inside = found.iter().filter(|(value, error)| (value - truth).abs() <= 1.96 * error);
        let count = inside.count();
        // 95 % of 200 with a binomial deviation of 3.1.
        assert!((178..=200).contains(&count), "{what}: {count} of 200");
    };
    covered("NWJ", &run(nwj_nats)?, truth);
    covered("DV", &run(donsker_varadhan_nats)?, truth);
    let infonce = run(infonce_nats)?;
    covered("InfoNCE", &infonce, infonce.iter().map(|(value, _)| value).sum::<f64>() / 200.0);
    Ok(())
}

/// Leaving out a pair takes its row and its column.
#[test]
fn critic_jackknife_is_the_plain_one() -> Outcome<()> {
    let mut scores = optimal_scores(1, 12, 2, 0.6);
    for round in 0..2 {
        for estimator in [nwj_nats::<f64>, donsker_varadhan_nats::<f64>] {
            let without = |pair: usize| {
                let kept: Vec<usize> = (0..12).filter(|&other| other != pair).collect();
                let scores = scores.select(Axis(0), &kept).select(Axis(1), &kept);
                Ok(estimator(scores.view())??.value)
            };
            let values = (0..12).map(without).collect::<Outcome<Vec<f64>>>()?;
            let mean = values.iter().sum::<f64>() / 12.0;
            let spread: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let want = (11.0 / 12.0 * spread).sqrt();
            let estimate = estimator(scores.view())??;
            let got = estimate.std_err.ok_or("a jackknife")?;
            assert!(close(got, want, 1e-9, want), "round {round}: {got} {want}");
            assert_eq!(estimate.flags.contains(&Flag::HeavyTail), round == 1);
        }
        // One pair of others' scores outweighs all.
        scores[[3, 5]] = 40.0;
    }
    Ok(())
}

#[test]
fn critics_at_their_ends() -> Outcome<()> {
    let apart = Array2::<f64>::eye(20) * 1000.0;
    let infonce = infonce_nats(apart.view())??;
    assert!(close(infonce.value, 20.0_f64.ln(), 1e-12, 1.0));
    assert!(infonce.flags.contains(&Flag::Saturated));
    let mut tail = Array2::<f64>::zeros((20, 20));
    tail[[0, 1]] = 2000.0;
    let (nwj, dv) = (nwj_nats(tail.view())??, donsker_varadhan_nats(tail.view())??);
    assert_eq!((nwj.value, nwj.std_err), (f64::NEG_INFINITY, None));
    assert!(dv.value.is_finite() && dv.flags.contains(&Flag::HeavyTail));
    assert!(nwj.flags.contains(&Flag::HeavyTail));
    let few = |b: usize| infonce_nats(Array2::<f64>::zeros((b, b)).view());
    assert_eq!(few(1)?, Err(NotIdentifiable::TooFewRows { class: None, have: 1, need: 2 }));
    assert_eq!(few(0), Err(Error::NoRows));
    assert!(matches!(nwj_nats(Array2::<f64>::zeros((2, 3)).view()), Err(Error::Shape { .. })));
    assert_eq!(nwj_nats(Array2::<f64>::zeros((2, 2)).view())??.std_err, None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// h(aZ + b) = h(Z) + d ln|a| for each rule of the bandwidth; any linear map for the full one.
    #[test]
    fn kde_laws(seed in any::<u64>(), n in 5..40_usize, d in 1..4_usize, scale in 1e-6..1e6_f64, shift in -1e3..1e3_f64) {
        let z = normal(&mut rng(seed), (n, d));
        let moved = z.mapv(|value| scale * (value + shift));
        let map = normal(&mut rng(seed ^ 1), (d, d)) + Array2::<f64>::eye(d) * 4.0;
        let ln_det = match d {
            1 => map[[0, 0]].abs().ln(),
            2 => (map[[0, 0]] * map[[1, 1]] - map[[0, 1]] * map[[1, 0]]).abs().ln(),
            _ => {
                let minor = |a: usize, b: usize| map[[1, a]] * map[[2, b]] - map[[1, b]] * map[[2, a]];
                (map[[0, 0]] * minor(1, 2) - map[[0, 1]] * minor(0, 2) + map[[0, 2]] * minor(0, 1)).abs().ln()
            }
        };
        let value = |z: &Array2<f64>, bandwidth| kde_entropy_loo_nats(z.view(), bandwidth).map(|entropy| entropy.map_or(f64::NAN, |e| e.value));
        for bandwidth in [Bandwidth::Scott, Bandwidth::ScottFull] {
            let want = value(&z, bandwidth)? + d as f64 * scale.ln();
            let got = value(&moved, bandwidth)?;
            // An offset of a thousand standard deviations costs three digits, more is for the rounding of small n.
            prop_assert!(close(got, want, 1e-8, 1.0 + want.abs()), "{} {}", got, want);
        }
        if n > d + 2 && ln_det > -2.0 {
            let (got, want) = (value(&z.dot(&map), Bandwidth::ScottFull)?, value(&z, Bandwidth::ScottFull)? + ln_det);
            prop_assert!(close(got, want, 1e-8, 1.0 + want.abs()), "{} {}", got, want);
        }
        let with = kde_entropy_resubstitution_nats(z.view(), Bandwidth::Fixed(0.5))?.map_or(f64::NAN, |e| e.value);
        let out = value(&z, Bandwidth::Fixed(0.5))?;
        prop_assert!(with <= out, "{} {}", with, out);
    }

    #[test]
    fn quadratic_laws(seed in any::<u64>(), n in 2..40_usize, sigma in 0.1..5.0_f64, shift in -100.0..100.0_f64) {
        let (x, y) = (normal(&mut rng(seed), (n, 2)), normal(&mut rng(seed ^ 1), (n, 3)));
        let entropy = quadratic_entropy_nats(x.view(), sigma)?.value;
        prop_assert!((-1e-12..=(n as f64).ln() + 1e-12).contains(&entropy));
        let moved = x.mapv(|value| 3.0 * (value + shift));
        prop_assert!(close(quadratic_entropy_nats(moved.view(), 3.0 * sigma)?.value, entropy, 1e-9, 1.0));
        let turned = quadratic_information_nats(y.view(), x.view(), [1.0, sigma])?.value;
        let information = quadratic_information_nats(x.view(), y.view(), [sigma, 1.0])?.value;
        prop_assert!(close(information, turned, 1e-12, 1.0));
        // A constant says nothing.
        let flat = Array2::<f64>::ones((n, 1));
        prop_assert!(quadratic_information_nats(x.view(), flat.view(), [sigma, 1.0])?.value.abs() < 1e-12);
    }

    #[test]
    fn infonce_laws(seed in any::<u64>(), b in 2..30_usize, scale in 0.0..50.0_f64, shift in -500.0..500.0_f64) {
        let scores = normal(&mut rng(seed), (b, b)) * scale;
        let value = infonce_nats(scores.view())?.map_or(f64::NAN, |e| e.value);
        prop_assert!(value <= (b as f64).ln() + 1e-12);
        // A constant per row says nothing about which y belongs to x.
        let mut moved = scores.clone();
        for (i, mut row) in moved.rows_mut().into_iter().enumerate() {
            row += shift * i as f64;
        }
        let again = infonce_nats(moved.view())?.map_or(f64::NAN, |e| e.value);
        prop_assert!(close(value, again, 1e-9, 1.0 + value.abs()));
        // DV knows no constant added to all.
        let dv = |scores: &Array2<f64>| donsker_varadhan_nats(scores.view()).map(|e| e.map_or(f64::NAN, |e| e.value));
        prop_assert!(close(dv(&scores)?, dv(&scores.mapv(|score| score + shift))?, 1e-9, 1.0 + value.abs()));
    }
}
