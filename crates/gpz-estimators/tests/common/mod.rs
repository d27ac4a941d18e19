//! Oracles and inputs that the test files share.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod case;

use gpz_estimators::Error;
use gpz_estimators::channel::LinearGaussian;
use ndarray::{Array2, ArrayView2};
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub fn normal(rng: &mut impl Rng, shape: (usize, usize)) -> Array2<f64> {
    Array2::from_shape_simple_fn(shape, || StandardNormal.sample(rng))
}

pub fn labels(rng: &mut impl Rng, n: usize, classes: usize) -> Vec<usize> {
    (0..n).map(|_| rng.random_range(0..classes)).collect()
}

/// Two passes in `f64`, the plain way: count, mean and sums of squared deviations of each class.
pub struct Oracle {
    pub counts: Vec<u64>,
    pub means: Array2<f64>,
    pub squares: Array2<f64>,
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
}

impl Oracle {
    /// `offset` is subtracted first and added to the means, so that large offsets cost the oracle nothing.
    pub fn new(
        features: ArrayView2<'_, f64>,
        labels: &[usize],
        classes: usize,
        offset: f64,
    ) -> Self {
        let (n, d) = features.dim();
        let mut counts = vec![0; classes];
        let mut means = Array2::zeros((classes, d));
        let mut mean = vec![0.0; d];
        for (row, &label) in features.rows().into_iter().zip(labels) {
            counts[label] += 1;
            for (j, value) in row.iter().enumerate() {
                means[[label, j]] += value - offset;
                mean[j] += (value - offset) / n as f64;
            }
        }
        for (class, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
            means.row_mut(class).mapv_inplace(|sum: f64| sum / count as f64);
        }
        let mut squares = Array2::zeros((classes, d));
        let mut variance = vec![0.0; d];
        for (row, &label) in features.rows().into_iter().zip(labels) {
            for (j, value) in row.iter().enumerate() {
                squares[[label, j]] += (value - offset - means[[label, j]]).powi(2);
                variance[j] += (value - offset - mean[j]).powi(2) / n as f64;
            }
        }
        means += offset;
        mean.iter_mut().for_each(|mean| *mean += offset);
        Self { counts, means, squares, mean, variance }
    }
}

/// `|a − b| ≤ tolerance · scale`, false for NaN.
pub fn close(a: f64, b: f64, tolerance: f64, scale: f64) -> bool {
    (a - b).abs() <= tolerance * scale.abs()
}

/// An orthogonal matrix as a product of reflections.
pub fn rotation(seed: u64, width: usize) -> Array2<f64> {
    let mut rng = rng(seed);
    let mut q = Array2::eye(width);
    for _ in 0..3 {
        let v = normal(&mut rng, (width, 1));
        let norm = v.iter().map(|value| value * value).sum::<f64>();
        q = &q - &(q.dot(&v).dot(&v.t()) * (2.0 / norm));
    }
    q
}

/// Mean of replicates and its standard error.
pub fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

/// So many cases, the same in each run: for laws that hold but for the error of a sample.
pub fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::with_cases(cases) }
}

/// Random symmetric and positive definite.
pub fn covariance(seed: u64, width: usize) -> Array2<f64> {
    let root = normal(&mut rng(seed), (width, width + 2));
    root.dot(&root.t()) / width as f64
}

/// A random linear map of a Gaussian input behind noise: `d` dimensions to `m`.
pub fn linear_gaussian(seed: u64, d: usize, m: usize, noise: f64) -> Result<LinearGaussian, Error> {
    let map = normal(&mut rng(seed ^ 1), (m, d));
    LinearGaussian::new(map.view(), covariance(seed, d).view(), noise)
}
