//! Bounds on what is shown of the input through a linear map: closed forms, and never above the exact least error.

mod common;

use common::{close, normal, rng};
use gpz_estimators::channel::{
    Channel, Given, LinearGaussian, LinearMap, Quantiser, SmoothedPrior,
};
use gpz_estimators::{Error, Kind, NotIdentifiable};
use ndarray::{Array1, Array2, array};
use proptest::prelude::*;

/// Eigenvalues by hand: a map and its transpose, regular or not, and one that stretches by powers of ten.
#[test]
fn rank_and_pseudo_determinant() -> Result<(), Error> {
    let stretch = array![[1e3, 0.0, 0.0], [0.0, 1e-3, 0.0]];
    for matrix in [stretch.clone(), stretch.t().to_owned()] {
        let map = LinearMap::of(matrix.view())?;
        assert_eq!((map.outputs(), map.inputs(), map.rank()), (matrix.nrows(), matrix.ncols(), 2));
        assert!(map.log_pdet().abs() < 1e-12, "{map:?}");
    }
    // Rank 1: the eigenvalue is the squared norm, (1 + 4)·(9 + 16 + 4).
    let single = array![[3.0, 4.0, 2.0], [6.0, 8.0, 4.0]];
    let map = LinearMap::of(single.view())?;
    assert_eq!(map.rank(), 1);
    assert!(close(map.log_pdet(), 145f64.ln(), 1e-12, 1.0));
    // A product of axes has the products of their eigenvalues.
    let both =
        Array2::from_shape_fn((4, 9), |(i, j)| single[[i / 2, j / 3]] * stretch[[i % 2, j % 3]]);
    let (by_parts, whole) =
        (map.kronecker(&LinearMap::of(stretch.view())?), LinearMap::of(both.view())?);
    assert_eq!((by_parts.rank(), by_parts.inputs(), by_parts.outputs()), (2, 9, 4));
    assert_eq!(whole.rank(), 2);
    assert!(close(by_parts.log_pdet(), whole.log_pdet(), 1e-9, 1.0));
    assert!(LinearMap::of(Array2::zeros((2, 2)).view()).is_err());
    assert!(LinearMap::of(Array2::zeros((0, 2)).view()).is_err());
    assert!(matches!(
        LinearMap::of(array![[1.0, f64::NAN]].view()),
        Err(Error::NonFinite { column: 1, .. })
    ));
    assert!(LinearMap::identity(0).is_err());
    Ok(())
}

/// A rank too high would raise a floor; products of thin random maps round to many near one.
#[test]
fn rounding_adds_no_rank() -> Result<(), Error> {
    let mut rng = rng(11);
    for draw in 0..40_000 {
        let (width, inner, d) = (1 + draw % 7, 1 + draw / 7 % 5, 1 + draw / 35 % 5);
        let shown = normal(&mut rng, (width, inner)).dot(&normal(&mut rng, (inner, d)));
        let map = LinearMap::of(shown.view())?;
        assert_eq!(map.rank(), width.min(inner).min(d), "{shown}");
        assert!(map.log_pdet().is_finite());
    }
    for draw in 0..200 {
        let single = normal(&mut rng, (40, 1)).dot(&normal(&mut rng, (1, 300 + draw)));
        assert_eq!(LinearMap::of(single.view())?.rank(), 1);
    }
    // Units are no directions.
    assert_eq!(LinearMap::of(array![[1.0, 0.0], [0.0, 1e-9]].view())?.rank(), 2);
    Ok(())
}

#[test]
fn the_identity_changes_nothing() -> Result<(), Error> {
    let prior = SmoothedPrior::new(6, 0.2)?;
    let bits = Channel::Bits(Quantiser::new(3, -1.0, 1.0)?).limit_nats(2)?;
    let (identity, made) = (LinearMap::identity(6)?, LinearMap::of(Array2::eye(6).view())?);
    assert_eq!(identity, made);
    for entropy in [None, Some(Given::Known(-3.0)), Some(Given::Estimated(1.0))] {
        let plain = prior.mse_floor(&bits, entropy)?;
        assert_eq!(prior.mse_floor_through(&bits, entropy, &identity)?, plain);
    }
    let none = prior.mse_floor_through(&Err(NotIdentifiable::NoChannel), None, &identity)?;
    assert_eq!(none, Err(NotIdentifiable::NoChannel));
    let narrow = prior.mse_floor_through(&bits, None, &LinearMap::identity(5)?);
    assert!(matches!(narrow, Err(Error::Shape { what: "map", .. })));
    Ok(())
}

/// White input, white noise, a map that stretches each axis: the posterior is isotropic before the map, so the bound falls short of the
/// least error by arithmetic over geometric mean of the squared stretches, exactly.
#[test]
fn a_diagonal_map_has_a_closed_form() -> Result<(), Error> {
    let (tau, gain, noise) = (0.3, 1.7, 0.2);
    let stretches = [0.5, 1.0, 4.0];
    let covariance = Array2::eye(3) * (tau * tau);
    let model =
        LinearGaussian::new((Array2::eye(3) * gain).view(), covariance.view(), noise * noise)?;
    let left = tau * tau * noise * noise / (noise * noise + gain * gain * tau * tau);
    let map = LinearMap::of(Array2::from_diag(&Array1::from(stretches.to_vec())).view())?;
    let floor = SmoothedPrior::new(3, tau)?.mse_floor_through(&Ok(model.mi_nats()), None, &map)?;
    let geometric = left * stretches.iter().product::<f64>().powf(2.0 / 3.0);
    let arithmetic = left * stretches.iter().map(|s| s * s).sum::<f64>() / 3.0;
    assert!(floor.is_ok_and(|floor| {
        floor.kind == Kind::Lower
            && close(floor.value, geometric, 1e-12, geometric)
            && floor.value < arithmetic
    }));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any Gaussian input smoothed by τ, any encoder, any map of any rank: the floor is at most the exact least error of what is shown.
    #[test]
    fn no_floor_exceeds_the_least_error(
        seed in any::<u64>(), d in 1..6_usize, m in 1..6_usize, width in 1..8_usize, inner in 1..6_usize,
        tau in 1e-2..3.0_f64, noise in 1e-2..10.0_f64,
    ) {
        let mut rng = rng(seed);
        let root = normal(&mut rng, (d, d));
        let covariance = root.dot(&root.t()) + Array2::<f64>::eye(d) * (tau * tau);
        let encoder = normal(&mut rng, (m, d));
        let shown = normal(&mut rng, (width, inner)).dot(&normal(&mut rng, (inner, d)));
        let model = LinearGaussian::new(encoder.view(), covariance.view(), noise)?;
        let map = LinearMap::of(shown.view())?;
        // Never higher; lower where a draw comes within 1e-6 of losing a direction.
        prop_assert!(map.rank() >= 1 && map.rank() <= width.min(inner).min(d));
        let least = shown.dot(&model.posterior_covariance()).dot(&shown.t()).diag().sum() / width as f64;
        let prior = SmoothedPrior::new(d, tau)?;
        let information = Ok(model.mi_nats());
        let floor = prior.mse_floor_through(&information, None, &map)?;
        let value = floor.as_ref().map_or(f64::NAN, |floor| floor.value);
        prop_assert!(value > 0.0 && value <= least * (1.0 + 1e-9), "{value} above {least}");
        if map.rank() == d {
            // Nothing is lost: h(y) = h(x̃) + ½ ln pdet, and the bound with it lies between.
            let known = Given::Known(model.h_x_nats().value + 0.5 * map.log_pdet());
            let tighter = prior.mse_floor_through(&information, Some(known), &map)?;
            let tighter = tighter.as_ref().map_or(f64::NAN, |floor| floor.value);
            prop_assert!(tighter >= value * (1.0 - 1e-9) && tighter <= least * (1.0 + 1e-9), "{value} {tighter} {least}");
        }
    }
}
