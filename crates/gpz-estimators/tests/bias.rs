//! The mean over sixteen samples, or over thousands where rows are few, lies within the known bias and four standard errors.
//!
//! Where the bias is small beside the scatter, the scatter's first order is taken off each value: a linear function of the sample whose
//! mean is zero, so that the mean stays what it is and shows what is left.

mod common;

use common::{mean_and_error, normal, rng};
use gpz_estimators::channel::{
    RidgeAttack, code_entropy_nats, code_entropy_sum_nats, lattice_entropy_upper_nats,
    noise_information_classes_nats, noise_information_full_nats, noise_information_nats,
    ridge_attack_mse,
};
use gpz_estimators::entropy::discrete::{Codes, guess_probability};
use gpz_estimators::entropy::kde::{Bandwidth, kde_entropy_loo_nats};
use gpz_estimators::entropy::{
    class_bound_nats, isotropic_bound_nats, isotropic_gaussian_nats, mixture_bound_nats,
};
use gpz_estimators::gaussian::{
    class_diagonal_bound_nats, diagonal_bound_nats, mixture_diagonal_bound_nats,
};
use gpz_estimators::information::discrete::binned_mi_nats;
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::{ClassMoments, Error, Estimated, Neighbours, Normalisation};
use ndarray::{Array2, Axis};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use statrs::function::gamma::digamma;

const REPLICATES: u64 = 16;

/// The mean over replicates, and its standard error.
fn sampled(
    replicates: u64,
    value: impl Fn(&mut ChaCha8Rng) -> Result<f64, Error>,
) -> Result<(f64, f64), Error> {
    let values: Vec<f64> =
        (0..replicates).map(|seed| value(&mut rng(700 + seed))).collect::<Result<_, _>>()?;
    Ok(mean_and_error(&values))
}

/// Asserts that the mean over many samples lies within four of its standard errors of `want`, and that it would reject `other`: what
/// the value would be with another divisor, or without its bias.
fn meets_and_not(
    what: &str,
    want: f64,
    other: f64,
    value: impl Fn(&mut ChaCha8Rng) -> Result<f64, Error>,
) -> Result<(), Error> {
    let (mean, error) = sampled(4000, value)?;
    assert!((mean - want).abs() <= 4.0 * error, "{what}: {mean} ± {error} for {want}");
    assert!((mean - other).abs() > 4.0 * error, "{what}: {mean} ± {error} is as good for {other}");
    Ok(())
}

/// Asserts that the mean lies within four of its standard errors of `low..=high`.
fn within(
    what: &str,
    (low, high): (f64, f64),
    value: impl Fn(&mut ChaCha8Rng) -> Result<f64, Error>,
) -> Result<(), Error> {
    let (mean, error) = sampled(REPLICATES, value)?;
    assert!(
        mean >= low - 4.0 * error && mean <= high + 4.0 * error,
        "{what}: {mean} ± {error} for {low} to {high}"
    );
    Ok(())
}

/// Asserts that the mean lies within `slack` and four standard errors of `want`.
fn meets(
    what: &str,
    want: f64,
    slack: f64,
    value: impl Fn(&mut ChaCha8Rng) -> Result<f64, Error>,
) -> Result<(), Error> {
    within(what, (want - slack, want + slack), value)
}

fn value(estimate: Estimated) -> f64 {
    estimate.map_or(f64::NAN, |estimate| estimate.value)
}

/// `E ln(χ²_ν/m)`.
fn log_chi(degrees: f64, divisor: f64) -> f64 {
    digamma(degrees / 2.0) + 2.0_f64.ln() - divisor.ln()
}

fn one_class(z: &Array2<f64>) -> Result<ClassMoments, Error> {
    let mut moments = ClassMoments::new(1, z.ncols())?;
    moments.update(z.view(), &vec![0; z.nrows()])?;
    Ok(moments)
}

/// Three classes of 4, 8 and 16 rows, deviations 1, 2 and ½ about means of their own.
fn classes(rng: &mut ChaCha8Rng, d: usize) -> (Array2<f64>, Vec<usize>) {
    let y: Vec<usize> = (0..28).map(|row| usize::from(row >= 4) + usize::from(row >= 12)).collect();
    let mut z = normal(rng, (28, d));
    for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
        row *= DEVIATIONS[label];
        row += 10.0 * label as f64;
    }
    (z, y)
}

const COUNTS: [f64; 3] = [4.0, 8.0, 16.0];
const DEVIATIONS: [f64; 3] = [1.0, 2.0, 0.5];

fn geometry_of_classes(
    rng: &mut ChaCha8Rng,
    d: usize,
) -> Result<(ClassMoments, gpz_estimators::ClassGeometry), Error> {
    let (z, y) = classes(rng, d);
    let mut moments = ClassMoments::new(3, d)?;
    moments.update(z.view(), &y)?;
    let geometry = moments.geometry()?;
    Ok((moments, geometry))
}

/// A mean that is estimated takes one of N_c degrees of freedom: the plug-in is low by 1/N_c of it, the other has no bias.
#[test]
fn radii() -> Result<(), Error> {
    let d = 6;
    for class in 0..3 {
        let truth = d as f64 * DEVIATIONS[class].powi(2);
        let low = truth * (1.0 - 1.0 / COUNTS[class]);
        for (normalisation, want, other) in
            [(Normalisation::PlugIn, low, truth), (Normalisation::Unbiased, truth, low)]
        {
            meets_and_not("a radius", want, other, |rng| {
                let (_, geometry) = geometry_of_classes(rng, d)?;
                Ok(geometry.radius_sq(class, normalisation).unwrap_or(f64::NAN))
            })?;
        }
    }
    // Weighted by rows: Σ N_c R_c²/N.
    let total = |factor: &dyn Fn(f64) -> f64| -> f64 {
        let parts = COUNTS.iter().zip(DEVIATIONS).map(|(n, s)| n / 28.0 * s * s * factor(*n));
        d as f64 * parts.sum::<f64>()
    };
    meets_and_not("within", total(&|n| 1.0 - 1.0 / n), total(&|_| 1.0), |rng| {
        Ok(geometry_of_classes(rng, d)?.1.within())
    })
}

/// White rows: `n·d` times the mean variance over σ² is χ² of `(n − 1)d` degrees, that of one dimension of `n − 1`.
#[test]
fn isotropic_and_diagonal_bounds() -> Result<(), Error> {
    let (n, d) = (8, 5);
    let (rows, width) = (n as f64, d as f64);
    let truth = isotropic_gaussian_nats(d, 1.0);
    let bias = width / 2.0 * log_chi((rows - 1.0) * width, rows * width);
    meets_and_not("isotropic", truth + bias, truth, |rng| {
        Ok(isotropic_bound_nats(&one_class(&normal(rng, (n, d)))?.geometry()?).value)
    })?;
    let bias = width / 2.0 * log_chi(rows - 1.0, rows);
    meets_and_not("diagonal", truth + bias, truth, |rng| {
        Ok(diagonal_bound_nats(&one_class(&normal(rng, (n, d)))?.geometry()?).value)
    })?;

    // The same in each class; the mixture's is their mean by rows, with labels that do not vary.
    let known = |class: usize| truth + width * DEVIATIONS[class].ln();
    let of = |class: usize, isotropic: bool| {
        let bias = if isotropic {
            log_chi((COUNTS[class] - 1.0) * width, COUNTS[class] * width)
        } else {
            log_chi(COUNTS[class] - 1.0, COUNTS[class])
        };
        known(class) + width / 2.0 * bias
    };
    let labels: f64 = COUNTS.iter().map(|n| -n / 28.0 * (n / 28.0).ln()).sum();
    let mixture = |of: &dyn Fn(usize) -> f64| {
        labels + (0..3).map(|class| COUNTS[class] / 28.0 * of(class)).sum::<f64>()
    };
    for class in 0..3 {
        meets_and_not("isotropic, a class", of(class, true), known(class), |rng| {
            Ok(value(class_bound_nats(&geometry_of_classes(rng, d)?.1, class)))
        })?;
        meets_and_not("diagonal, a class", of(class, false), known(class), |rng| {
            Ok(value(class_diagonal_bound_nats(&geometry_of_classes(rng, d)?.0, class)))
        })?;
    }
    meets_and_not(
        "isotropic mixture",
        mixture(&|class| of(class, true)),
        mixture(&known),
        |rng| Ok(value(mixture_bound_nats(&geometry_of_classes(rng, d)?.1))),
    )?;
    meets_and_not("diagonal mixture", mixture(&|class| of(class, false)), mixture(&known), |rng| {
        mixture_diagonal_bound_nats(&geometry_of_classes(rng, d)?.0).map(value)
    })
}

/// High by the kernel's smoothing, the divergence of N(0, 1) from N(0, 1 + σ²), and by the density's variance, `R(K)/(2nσ)` times the
/// length over which a row is expected within a kernel, `n φ(x) σ/R(K) ≥ 1`, which ends at `±e`.
///
/// A row beyond `e`, `2φ(e)/e` of them, has its neighbour a gap `t` inward and a surprise that exceeds the truth's by at most
/// `t²/2σ²`. Spacings of Gaussian extremes are exponential of mean `1/e`: `E t² = 2/e²`.
#[test]
fn kernel_density_by_scotts_rule() -> Result<(), Error> {
    let n = 500;
    let sigma = (n as f64).powf(-0.2);
    let wide = 1.0 + sigma * sigma;
    let smoothing = 0.5 * wide.ln() + 0.5 / wide - 0.5;
    let roughness = 0.5 / std::f64::consts::PI.sqrt();
    let expected = n as f64 * sigma / roughness;
    let end = (2.0 * (expected / (2.0 * std::f64::consts::PI).sqrt()).ln()).sqrt();
    let beyond = 2.0 / (expected * end) / (end * sigma).powi(2);
    let variance = 2.0 * end / (2.0 * expected) + beyond;
    // Less the truth's own mean surprise on these rows.
    within("Scott", (smoothing, smoothing + variance), |rng| {
        let z = normal(rng, (n, 1));
        let own = z.mapv(|v| 0.5 * (2.0 * std::f64::consts::PI).ln() + 0.5 * v * v).mean();
        Ok(value(kde_entropy_loo_nats(z.view(), Bandwidth::Scott)?) - own.unwrap_or(f64::NAN))
    })
}

/// Independent columns: `2N·I` is χ² of `(B − 1)²` degrees, times Williams' `1 + (B + 1)²/6N` for even margins. Dependent ones: what the
/// bins lose is not negative.
#[test]
fn binned_information() -> Result<(), Error> {
    let (n, bins) = (1000, 10);
    let (rows, b) = (n as f64, bins as f64);
    let chance = (b - 1.0).powi(2) / (2.0 * rows) * (1.0 + (b + 1.0).powi(2) / (6.0 * rows));
    meets("independent", chance, 0.0, |rng| {
        let z = Array2::from_shape_simple_fn((n, 2), || rng.random::<f64>());
        let (x, y) = z.view().split_at(Axis(1), 1);
        Ok(binned_mi_nats(x, y, bins)?.value)
    })?;
    let truth = -0.5 * (1.0 - 0.64_f64).ln();
    within("dependent", (0.0, truth + chance), |rng| {
        let (x, noise) = (normal(rng, (n, 1)), normal(rng, (n, 1)));
        Ok(binned_mi_nats(x.view(), (&x * 0.8 + noise * 0.6).view(), bins)?.value)
    })
}

/// Atoms: with `ψ(c) ≈ ln c − 1/2c` the estimate is the plug-in less `(K_xy − K_x − K_y)/2n`, whose bias is `(K_xy − K_x − K_y + 1)/2n`:
/// `1/2n` is left.
#[test]
fn gao_on_atoms() -> Result<(), Error> {
    let n = 800;
    for same in [0.2, 0.5_f64] {
        // Five symbols, of which y repeats x with one chance and is any of the others with the rest.
        let truth = 5.0_f64.ln() + same * same.ln() + (1.0 - same) * ((1.0 - same) / 4.0).ln();
        meets("atoms", truth + 0.5 / n as f64, 0.0, |rng| {
            let mut pairs = Array2::zeros((n, 2));
            let mut linear = 0.0;
            for mut pair in pairs.rows_mut() {
                let x = rng.random_range(0..5);
                let y = if rng.random_bool(same) { x } else { (x + rng.random_range(1..5)) % 5 };
                (pair[0], pair[1]) = (f64::from(x), f64::from(y));
                let given = if x == y { same } else { (1.0 - same) / 4.0 };
                linear += (5.0 * given).ln() / n as f64;
            }
            let (x, y) = pairs.view().split_at(Axis(1), 1);
            Ok(value(gao_nats(x, y, Neighbours::nth(3).without_std_err())?) - linear + truth)
        })?;
    }
    Ok(())
}

/// White rows, `t = 1/(1 + σ²)`, ν = n − 1: the mean of the Taylor series of `½ ln det(I + S/σ²)` by the Wishart moments
/// `E tr Δ² = d(d + 1)/ν` and `E tr Δ³ = d(d² + 3d + 4)/ν²`; the next is less than `t⁴d³/4ν²`.
#[test]
fn information_under_noise() -> Result<(), Error> {
    let (n, d, sigma) = (100, 4, 1.0_f64);
    let (width, nu) = (d as f64, n as f64 - 1.0);
    let t = 1.0 / (1.0 + sigma * sigma);
    let truth = width / 2.0 * (1.0 + 1.0 / (sigma * sigma)).ln();
    let bias = -t * t * width * (width + 1.0) / (4.0 * nu)
        + t.powi(3) * width * (width * width + 3.0 * width + 4.0) / (6.0 * nu * nu);
    let slack = t.powi(4) * width.powi(3) / (4.0 * nu * nu);
    // Less ½ t (tr S − d).
    let linear = |z: &Array2<f64>| -> Result<f64, Error> {
        let trace = one_class(z)?.geometry()?.total() * n as f64 / nu;
        Ok(0.5 * t * (trace - width))
    };
    meets("full", truth + bias, slack, |rng| {
        let z = normal(rng, (n, d));
        Ok(value(noise_information_full_nats(z.view(), sigma)?) - linear(&z)?)
    })?;
    // One dimension at a time: d terms of E Δ² = 2/ν, E Δ³ = 8/ν².
    let bias = width * (-t * t / (2.0 * nu) + 4.0 * t.powi(3) / (3.0 * nu * nu));
    meets("diagonal", truth + bias, slack, |rng| {
        let z = normal(rng, (n, d));
        Ok(value(noise_information_nats(z.view(), sigma)?) - linear(&z)?)
    })
}

/// Labels low by `(K − 1)/2N`; in each class the mean variance of `D` dimensions has a relative variance of `2/(D·N_c)`, so that
/// `D/2 ln(1 + ·)` is low by `t²/2N_c`, `K t²/2N` in all.
#[test]
fn information_under_noise_by_classes() -> Result<(), Error> {
    let (n, d, k, sigma) = (300, 4, 3, 1.0_f64);
    let (rows, width) = (n as f64, d as f64);
    let t = 1.0 / (1.0 + sigma * sigma);
    let truth = (k as f64).ln() + width / 2.0 * (1.0 + 1.0 / (sigma * sigma)).ln();
    let bias = -(k as f64 - 1.0) / (2.0 * rows) - k as f64 * t * t / (2.0 * rows);
    // The next order is smaller by the rows of a class.
    meets("by classes", truth + bias, bias.abs() * k as f64 / rows, |rng| {
        let y: Vec<usize> = (0..n).map(|_| rng.random_range(0..k)).collect();
        let mut z = normal(rng, (n, d));
        for (mut row, &label) in z.rows_mut().into_iter().zip(&y) {
            row += 5.0 * label as f64;
        }
        let mut moments = ClassMoments::new(k, d)?;
        moments.update(z.view(), &y)?;
        let geometry = moments.geometry()?;
        let linear: f64 = (0..k)
            .filter_map(|class| {
                let radius = geometry.radius_sq(class, Normalisation::Unbiased)?;
                Some(geometry.counts()[class] as f64 / rows * 0.5 * t * (radius - width))
            })
            .sum();
        Ok(value(noise_information_classes_nats(&geometry, sigma)?) - linear)
    })
}

/// A fair die by column: low by `(K − 1)/2N` for each, less Harris's next term `(Σ 1/p − 1)/12N²`.
#[test]
fn entropies_of_codes() -> Result<(), Error> {
    let (n, d, k) = (200, 3, 6.0_f64);
    let rows = n as f64;
    let bias = |k: f64| -(k - 1.0) / (2.0 * rows) - (k * k - 1.0) / (12.0 * rows * rows);
    meets("sum", d as f64 * (k.ln() + bias(k)), 0.0, |rng| {
        let codes = Array2::from_shape_simple_fn((n, d), || rng.random_range(0..k as i64));
        Ok(code_entropy_sum_nats(codes.view())?.value)
    })?;
    meets("joint", (k * k).ln() + bias(k * k), 0.001, |rng| {
        let codes = Array2::from_shape_simple_fn((n, 2), || rng.random_range(0..k as i64));
        Ok(code_entropy_nats(codes.view())?.value)
    })
}

/// A Gaussian of deviation 4 in whole numbers has the variance `v = 16 + 1/12` and no excess, both but for `e^(−2π²·16)`; then
/// `Var s² = 2v²/(n − 1)`, and the logarithm is low by `(v/(v + 1/12))²/(2(n − 1))` of half a nat for each dimension.
#[test]
fn entropies_of_a_lattice() -> Result<(), Error> {
    let (n, d) = (60, 2);
    let (v, nu) = (16.0 + 1.0 / 12.0, n as f64 - 1.0);
    let all = v + 1.0 / 12.0;
    let truth = d as f64 * 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E * all).ln();
    let share = v / all;
    // Third order: E (s² − v)³ = 8v³/ν².
    let bias = d as f64 * (-share.powi(2) / (2.0 * nu) + 4.0 * share.powi(3) / (3.0 * nu * nu));
    meets("lattice", truth + bias, 2.0 / (nu * nu), |rng| {
        let codes = normal(rng, (n, d)).mapv(|value| (4.0 * value).round() as i64);
        let s = one_class(&codes.mapv(|code| code as f64))?.geometry()?.total() * n as f64 / nu;
        let linear = 0.5 * (s - d as f64 * v) / all;
        Ok(value(lattice_entropy_upper_nats(codes.view())?) - linear)
    })
}

/// One symbol far ahead of the others: none. Ten alike: high by at most `√(2 ln K · p(1 − p)/n) + ln K/3n`, the maximal inequality with
/// Bernstein's bound.
#[test]
fn guesses() -> Result<(), Error> {
    let n = 400;
    meets("ahead", 0.5, 0.0, |rng| {
        let symbols: Vec<u8> = (0..n).map(|_| rng.random_range(0..4_u8).max(1)).collect();
        Ok(guess_probability(&Codes::of_symbols(&symbols)?).value)
    })?;
    let (rows, k) = (n as f64, 10.0_f64);
    let most = (2.0 * k.ln() * 0.09 / rows).sqrt() + k.ln() / (3.0 * rows);
    within("alike", (0.1, 0.1 + most), |rng| {
        let symbols: Vec<u8> = (0..n).map(|_| rng.random_range(0..10)).collect();
        Ok(guess_probability(&Codes::of_symbols(&symbols)?).value)
    })
}

/// Least squares with an intercept on `m` Gaussian columns and `n` rows errs by `(1 + 1/n)(n − 2)/(n − m − 2)` times the rest's variance
/// on new rows (Stein 1960); `n` are four fifths of all.
#[test]
fn ridge() -> Result<(), Error> {
    let (all, m, d) = (100, 8, 3);
    let n = 0.8 * all as f64;
    let factor = (1.0 + 1.0 / n) * (n - 2.0) / (n - m as f64 - 2.0);
    meets("ridge", 0.25 * factor, 0.0, |rng| {
        let (z, rest) = (normal(rng, (all, m)), normal(rng, (all, d)) * 0.5);
        let x = z.dot(&normal(rng, (m, d))) + &rest + 3.0;
        let own = rest.mapv(|v| v * v).mean().unwrap_or(f64::NAN) - 0.25;
        Ok(value(ridge_attack_mse(x.view(), z.view(), RidgeAttack::default())?) - own)
    })
}

#[cfg(feature = "lapack-base")]
mod lapack {
    use super::*;
    use gpz_estimators::gaussian::{self, MaximumEntropy, Shrunk};

    /// `E ln det` of a scatter of `ν` degrees over a divisor, white rows: χ² of ν, ν − 1, … degrees.
    fn log_det(d: usize, nu: f64, divisor: f64) -> f64 {
        (0..d).map(|i| log_chi(nu - i as f64, divisor)).sum()
    }

    /// Correlated rows; a linear map moves the bound by its determinant and the bias not at all.
    #[test]
    fn full_bounds() -> Result<(), Error> {
        let (n, d) = (12, 5);
        let mut mix = Array2::<f64>::eye(d) * 2.0;
        mix[[0, 4]] = 3.0;
        mix[[1, 2]] = -5.0;
        let truth = isotropic_gaussian_nats(d, 4.0);
        let nu = n as f64 - 1.0;
        meets("full", truth + 0.5 * log_det(d, nu, nu), 0.0, |rng| {
            gaussian::full_bound_nats(normal(rng, (n, d)).dot(&mix).view()).map(value)
        })?;
        meets("full, divisor N", truth + 0.5 * log_det(d, nu, n as f64), 0.0, |rng| {
            Ok(value(MaximumEntropy::of(normal(rng, (n, d)).dot(&mix).view())?.full))
        })?;
        let bias = |class: usize| {
            let nu = 2.0 * COUNTS[class] - 1.0;
            isotropic_gaussian_nats(d, DEVIATIONS[class].powi(2)) + 0.5 * log_det(d, nu, nu)
        };
        // Twice the rows of each class: the smallest must have more of them than dimensions.
        let want: f64 = (0..3).map(|class| COUNTS[class] / 28.0 * bias(class)).sum();
        let twice = |rng: &mut ChaCha8Rng| {
            let ((a, y), (b, _)) = (classes(rng, d), classes(rng, d));
            let z = ndarray::concatenate![Axis(0), a, b];
            (z, [y.clone(), y].concat())
        };
        meets("class-conditional", want, 0.0, |rng| {
            let (z, y) = twice(rng);
            gaussian::class_conditional_bound_nats(z.view(), &y, 3).map(value)
        })?;
        let labels: f64 = COUNTS.iter().map(|n| -n / 28.0 * (n / 28.0).ln()).sum();
        meets("mixture", labels + want, 0.0, |rng| {
            let (z, y) = twice(rng);
            gaussian::mixture_full_bound_nats(z.view(), &y, 3).map(value)
        })
    }

    /// White rows. `ln det` is concave, so shrinking towards the identity lies between the covariance as it is and the mean variance
    /// for all: between both their known biases, far above the first. The mean variance itself is low by 1/N, in the form for more
    /// dimensions than rows too.
    #[test]
    fn shrinkage() -> Result<(), Error> {
        let (n, d) = (25, 12);
        let (rows, width) = (n as f64, d as f64);
        let most = width * log_chi((rows - 1.0) * width, rows * width);
        let least = log_det(d, rows - 1.0, rows);
        type Method = fn(ndarray::ArrayView2<'_, f64>) -> gaussian::Shrinkage;
        for (what, method) in
            [("Ledoit and Wolf", gaussian::ledoit_wolf as Method), ("OAS", gaussian::oas)]
        {
            let of =
                |rng: &mut ChaCha8Rng, shape, what: fn(&Shrunk) -> f64| -> Result<f64, Error> {
                    Ok(method(normal(rng, shape).view())?.map_or(f64::NAN, |shrunk| what(&shrunk)))
                };
            within(what, (least, most), |rng| of(rng, (n, d), |shrunk| shrunk.log_det.value))?;
            // δ = ‖S − I‖²/D is all error here, so that the best weight is one; the estimate's error of the ratio is of the order of
            // δ's own relative deviation, 2/√(d(d + 1)/2).
            let slack = 2.0 / (width * (width + 1.0) / 2.0).sqrt();
            within(what, (1.0 - slack, 1.0), |rng| of(rng, (n, d), |shrunk| shrunk.shrinkage))?;
            for (n, d) in [(4, 60), (60, 3)] {
                let want = 1.0 - 1.0 / n as f64;
                meets(what, want, 0.0, |rng| of(rng, (n, d), |shrunk| shrunk.mean_variance))?;
            }
        }
        Ok(())
    }
}
