//! Estimators of nearest neighbours against laws whose values are known: bias, standard errors, and when growth is seen.

mod common;

use std::f64::consts::{E, PI};

use common::{mean_and_error, normal, rng};
use gpz_estimators::dimension::{Averaging, levina_bickel, two_nn};
use gpz_estimators::entropy::kozachenko_leonenko_nats;
use gpz_estimators::information::ksg::{ksg1_nats, ksg2_nats};
use gpz_estimators::information::mixed::gao_nats;
use gpz_estimators::information::ross::ross_nats;
use gpz_estimators::{Error, Estimate, Flag, Metric, Neighbours};
use ndarray::Array2;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StudentT};

const REPLICATES: u64 = 16;

/// Asserts that the mean over replicates lies within `bias` and four standard errors of `truth`.
fn unbiased(
    what: &str,
    truth: f64,
    bias: f64,
    estimate: impl Fn(&mut ChaCha8Rng) -> Result<f64, Error>,
) -> Result<(), Error> {
    let values: Vec<f64> =
        (0..REPLICATES).map(|seed| estimate(&mut rng(1000 + seed))).collect::<Result<_, _>>()?;
    let (mean, error) = mean_and_error(&values);
    assert!(
        (mean - truth).abs() <= bias + 4.0 * error,
        "{what}: {mean} for {truth}, standard error {error}"
    );
    Ok(())
}

fn value(estimate: gpz_estimators::Estimated) -> f64 {
    estimate.map_or(f64::NAN, |estimate| estimate.value)
}

fn plain(k: usize) -> Neighbours {
    Neighbours::nth(k).without_std_err()
}

fn uniform(rng: &mut ChaCha8Rng, shape: (usize, usize)) -> Array2<f64> {
    Array2::from_shape_simple_fn(shape, || rng.random())
}

/// Gaussian pairs, each column of one sample of correlation `rho` with that of the other.
fn gaussian(rng: &mut ChaCha8Rng, n: usize, d: usize, rho: f64) -> (Array2<f64>, Array2<f64>) {
    let (x, noise) = (normal(rng, (n, d)), normal(rng, (n, d)));
    let y = &x * rho + noise * (1.0 - rho * rho).sqrt();
    (x, y)
}

#[test]
fn entropies_of_known_laws() -> Result<(), Error> {
    for metric in [Metric::Euclidean, Metric::Maximum] {
        let h = |z: &Array2<f64>| kozachenko_leonenko_nats(z.view(), metric, plain(3)).map(value);
        for (d, bias) in [(1, 0.002), (2, 0.01), (3, 0.03)] {
            let truth = d as f64 / 2.0 * (2.0 * PI * E).ln();
            unbiased("normal", truth, bias, |rng| h(&normal(rng, (2000, d))))?;
        }
        unbiased("exponential", 1.0, 0.002, |rng| {
            h(&Array2::from_shape_simple_fn((2000, 1), || Exp1.sample(rng)))
        })?;
        // Laplace: the sign is a coin.
        unbiased("Laplace", 1.0 + 2.0_f64.ln(), 0.002, |rng| {
            h(&Array2::from_shape_simple_fn((2000, 1), || {
                let size: f64 = Exp1.sample(rng);
                if rng.random::<bool>() { size } else { -size }
            }))
        })?;
        // Student with 3 degrees: ψ terms and the beta function give 1.7734757.
        let student = StudentT::new(3.0).expect("a law");
        unbiased("Student", 1.773_475_7, 0.004, |rng| {
            h(&Array2::from_shape_simple_fn((2000, 1), || student.sample(rng)))
        })?;
        unbiased("uniform", 0.0, 0.004, |rng| h(&uniform(rng, (2000, 1))))?;
        // At the faces of a cube the balls reach outside.
        unbiased("cube", 0.105, 0.02, |rng| h(&uniform(rng, (2000, 3))))?;
    }
    Ok(())
}

#[test]
fn information_of_known_laws() -> Result<(), Error> {
    for estimate in [ksg1_nats, ksg2_nats, gao_nats] {
        for (d, rho, bias) in [(1, 0.0, 0.004), (3, 0.0, 0.01), (1, 0.75, 0.012), (1, 0.95, 0.02)] {
            let truth = -0.5 * d as f64 * (1.0_f64 - rho * rho).ln();
            unbiased("normal", truth, bias, |rng| {
                let (x, y) = gaussian(rng, 2000, d, rho);
                estimate(x.view(), y.view(), plain(3)).map(value)
            })?;
        }
    }
    // A coin beside a uniform number moved by it: I = ln 2 − (what the overlap hides) = ln 2 / 2.
    unbiased("mixed", 2.0_f64.ln() / 2.0, 0.01, |rng| {
        let coin = Array2::from_shape_simple_fn((2000, 1), || f64::from(rng.random::<bool>()));
        let y = uniform(rng, (2000, 1)) + &coin * 0.5;
        gao_nats(coin.view(), y.view(), plain(5)).map(value)
    })
}

#[test]
fn information_of_labels_of_known_laws() -> Result<(), Error> {
    let labels = |rng: &mut ChaCha8Rng, classes: usize| -> Vec<usize> {
        (0..2000).map(|_| rng.random_range(0..classes)).collect()
    };
    unbiased("independent", 0.0, 0.006, |rng| {
        let y = labels(rng, 3);
        ross_nats(normal(rng, (2000, 2)).view(), &y, plain(3)).map(value)
    })?;
    // Intervals of length two, one apart: ln m − (m − 1) ln 2 / m.
    let truth = 5.0_f64.ln() - 4.0 * 2.0_f64.ln() / 5.0;
    unbiased("overlapping intervals", truth, 0.006, |rng| {
        let y = labels(rng, 5);
        let z = Array2::from_shape_fn((2000, 1), |(i, _)| y[i] as f64 + 2.0 * rng.random::<f64>());
        ross_nats(z.view(), &y, plain(3)).map(value)
    })
}

#[test]
fn dimensions_of_known_surfaces() -> Result<(), Error> {
    for (d, bias) in [(1, 0.01), (2, 0.04), (5, 0.3)] {
        // Uniform on a torus, which has no edge, in twice as many dimensions.
        let torus = |rng: &mut ChaCha8Rng| {
            let angles = uniform(rng, (2000, d)) * (2.0 * PI);
            Array2::from_shape_fn((2000, 2 * d), |(i, j)| {
                if j < d { angles[[i, j]].cos() } else { angles[[i, j - d]].sin() }
            })
        };
        unbiased("TwoNN", d as f64, bias, |rng| two_nn(torus(rng).view(), 0).map(value))?;
        let mean = |rng: &mut ChaCha8Rng, averaging, k| {
            levina_bickel(torus(rng).view(), plain(k), averaging).map(value)
        };
        let bias = bias + 0.05 * d as f64;
        unbiased("mean", d as f64, bias, |rng| mean(rng, Averaging::OfEstimates, 20))?;
        // The convention's factor (k − 2)/(k − 1).
        let truth = d as f64 * 18.0 / 19.0;
        unbiased("inverses", truth, bias, |rng| mean(rng, Averaging::OfInverses, 20))?;
    }
    Ok(())
}

/// The standard error is about the spread over samples, and intervals from it cover as often as they say.
#[test]
fn standard_errors_are_about_right() -> Result<(), Error> {
    type Sampler = fn(&mut ChaCha8Rng) -> Result<gpz_estimators::Estimated, Error>;
    let samplers: [(&str, f64, Sampler); 7] = [
        ("entropy", 1.0, |rng| {
            let z = Array2::from_shape_simple_fn((800, 1), || Exp1.sample(rng));
            kozachenko_leonenko_nats::<f64>(z.view(), Metric::Euclidean, Neighbours::default())
        }),
        ("ksg", 0.0, |rng| {
            let (x, y) = gaussian(rng, 800, 1, 0.0);
            ksg1_nats(x.view(), y.view(), Neighbours::default())
        }),
        // Parts of a hundred rows would give an error that is a seventh too low.
        ("second ksg", 0.0, |rng| {
            let (x, y) = gaussian(rng, 1600, 1, 0.0);
            ksg2_nats(x.view(), y.view(), Neighbours::default())
        }),
        // A coin and a uniform number moved by it by half its length: ln 2 / 2.
        ("gao", 2.0_f64.ln() / 2.0, |rng| {
            let coin = Array2::from_shape_simple_fn((800, 1), || f64::from(rng.random::<bool>()));
            let y = uniform(rng, (800, 1)) + &coin * 0.5;
            gao_nats(coin.view(), y.view(), Neighbours::nth(5))
        }),
        ("Levina and Bickel", 1.0, |rng| {
            let turn = uniform(rng, (800, 1)) * (2.0 * PI);
            let circle = Array2::from_shape_fn((800, 2), |(i, j)| {
                if j == 0 { turn[[i, 0]].cos() } else { turn[[i, 0]].sin() }
            });
            levina_bickel(circle.view(), Neighbours::nth(10), Averaging::OfEstimates)
        }),
        ("ross", 0.0, |rng| {
            let labels: Vec<usize> = (0..800).map(|_| rng.random_range(0..2)).collect();
            ross_nats(normal(rng, (800, 1)).view(), &labels, Neighbours::default())
        }),
        ("TwoNN", 1.0, |rng| {
            let turn = uniform(rng, (800, 1)) * (2.0 * PI);
            let circle = Array2::from_shape_fn((800, 2), |(i, j)| {
                if j == 0 { turn[[i, 0]].cos() } else { turn[[i, 0]].sin() }
            });
            two_nn(circle.view(), 8)
        }),
    ];
    /// The 97.5 % point of Student's law with seven degrees of freedom: eight parts.
    const T7: f64 = 2.365;
    for (what, truth, sample) in samplers {
        let count = 200;
        let estimates: Vec<Estimate> = (0..count)
            .map(|seed| Ok(sample(&mut rng(5000 + seed))?.expect("an estimate")))
            .collect::<Result<_, Error>>()?;
        let error = |e: &Estimate| e.std_err.expect("a standard error");
        let covered = estimates.iter().filter(|e| (e.value - truth).abs() <= T7 * error(e)).count()
            as f64
            / count as f64;
        // Binomial, three standard deviations below 95 %, and some bias.
        assert!(covered > 0.89, "{what} covers {covered}");
        let n = count as f64;
        let mean = estimates.iter().map(|e| e.value).sum::<f64>() / n;
        let spread = estimates.iter().map(|e| (e.value - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let claimed = estimates.iter().map(|e| error(e).powi(2)).sum::<f64>() / n;
        assert!((0.6..1.8).contains(&(claimed / spread)), "{what}: {claimed} for {spread}");
    }
    Ok(())
}

#[test]
fn growth_is_seen_where_it_is_and_nowhere_else() -> Result<(), Error> {
    let grows = |x: &Array2<f64>, y: &Array2<f64>| {
        let estimates = [
            ksg1_nats(x.view(), y.view(), Neighbours::default()),
            ksg2_nats(x.view(), y.view(), Neighbours::default()),
            gao_nats(x.view(), y.view(), Neighbours::nth(5)),
        ];
        estimates.map(|estimate| {
            estimate.is_ok_and(|e| e.is_ok_and(|e| e.flags.contains(&Flag::GrowsWithRows)))
        })
    };
    for seed in 0..4 {
        let mut rng = rng(9000 + seed);
        for n in [400, 2000] {
            for (d, rho) in [(1, 0.0), (1, 0.75), (1, 0.95), (3, 0.0), (3, 0.6), (8, 0.0)] {
                let (x, y) = gaussian(&mut rng, n, d, rho);
                assert_eq!(grows(&x, &y), [false; 3], "{n} rows, {d} dimensions, {rho}");
            }
            let x = normal(&mut rng, (n, 1));
            assert_eq!(grows(&x, &x.mapv(|v| v.powi(3))), [true; 3], "cube, {n} rows");
            let x = normal(&mut rng, (n, 2));
            let y = x.dot(&ndarray::array![[1.0, 0.5], [-0.5, 1.0]]).mapv(f64::tanh);
            assert_eq!(grows(&x, &y), [true; 3], "bijection, {n} rows");
            // Three features of one cause.
            let x = normal(&mut rng, (n, 1));
            let y = Array2::from_shape_fn((n, 3), |(i, j)| (x[[i, 0]] * (j + 1) as f64).sin());
            assert_eq!(grows(&x, &y), [true; 3], "curve, {n} rows");
        }
    }
    Ok(())
}

/// Strong dependence in many dimensions: the truth is finite, the estimate far below it and still rising with the rows, which is what
/// the flag says. It does not say that the truth is infinite.
#[test]
fn growth_in_many_dimensions() -> Result<(), Error> {
    for (d, rho) in [(5, 0.9), (8, 0.99)] {
        let truth = -0.5 * d as f64 * (1.0_f64 - rho * rho).ln();
        let run = |n: usize| -> Result<Vec<f64>, Error> {
            let (x, y) = gaussian(&mut rng(9100), n, d, rho);
            let estimates = [
                ksg1_nats(x.view(), y.view(), Neighbours::default())?,
                ksg2_nats(x.view(), y.view(), Neighbours::default())?,
                gao_nats(x.view(), y.view(), Neighbours::nth(5))?,
            ];
            let values = estimates.map(|estimate| {
                let estimate = estimate.expect("no ties");
                assert!(estimate.flags.contains(&Flag::GrowsWithRows), "{d} {rho}: {estimate:?}");
                estimate.value
            });
            Ok(values.to_vec())
        };
        for (few, many) in run(400)?.into_iter().zip(run(2000)?) {
            assert!(few + 0.2 < many && many + 0.2 < truth, "{few} {many} {truth}");
        }
    }
    Ok(())
}

/// Classes that do not overlap give exactly the ceiling. It is the entropy of the labels with its bias taken off, so that it lies above
/// their plug-in entropy, by `(K − 1)/2n`, and meets that of the law on average; never is the value above the ceiling.
#[test]
fn classes_apart_give_the_entropy_of_the_law() -> Result<(), Error> {
    let (n, shares) = (200, [0.2, 0.3, 0.5]);
    let h = |shares: &[f64]| shares.iter().map(|p| -p * p.ln()).sum::<f64>();
    for gap in [0.5, 2.0] {
        let mut values = Vec::new();
        for seed in 0..REPLICATES {
            let mut rng = rng(9200 + seed);
            let labels: Vec<usize> = (0..n)
                .map(|_| {
                    let at: f64 = rng.random();
                    usize::from(at > shares[0]) + usize::from(at > shares[0] + shares[1])
                })
                .collect();
            let z = Array2::from_shape_fn((n, 1), |(i, _)| {
                gap * labels[i] as f64 + rng.random::<f64>()
            });
            let estimate = ross_nats(z.view(), &labels, Neighbours::default())?.expect("no ties");
            let ceiling = estimate.ceiling.expect("a ceiling");
            let mut seen = [0.0; 3];
            labels.iter().for_each(|&label| seen[label] += 1.0 / n as f64);
            let above = ceiling - h(&seen);
            assert!((above - 2.0 / (2.0 * n as f64)).abs() < 5e-4, "{above}");
            assert!(estimate.value <= ceiling + 1e-12, "{} {ceiling}", estimate.value);
            assert_eq!((estimate.value - ceiling).abs() < 1e-12, gap > 1.0);
            values.push(estimate.value);
        }
        let (mean, error) = mean_and_error(&values);
        assert_eq!((mean - h(&shares)).abs() <= 4.0 * error, gap > 1.0, "{mean} {error}");
    }
    Ok(())
}
