//! Intervals by resampling images.
//!
//! Whatever is uncertain about an audit's figures is uncertain because another draw of images would have given others. So
//! images are resampled, with replacement, and one draw of weights is used at **every** split: figures of two splits are
//! compared on the same images, resample by resample.
//!
//! # Which interval
//! Percentile intervals of the resampled mean. For means of hundreds of per-image values the percentile interval holds its
//! level (a test measures it on skewed data); bias-corrected and accelerated intervals would refine the third digit but do
//! not exist in closed form for the effective error, a minimum over splits. The percentile interval is also the one that
//! commutes with monotone maps, so that the interval of a PSNR is the PSNR of the interval, and that keeps order: if one
//! figure is at most another in each resample, so are both ends of its interval.
//!
//! # Reproducible
//! Resample `b` draws from its own ChaCha8 stream, keyed by seed, purpose and `b`: the result does not depend on the number
//! of threads. Images are first brought into a canonical order by their values, so it does not depend on their order either.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A closed interval; written to JSON as `[lo, hi]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

impl Interval {
    /// Half of its length: what stands behind "±".
    pub fn half_width(&self) -> f64 {
        (self.hi - self.lo) / 2.0
    }

    /// Whether all of this interval lies above all of `other`. False if an end is NaN.
    pub fn is_above(&self, other: &Interval) -> bool {
        self.lo > other.hi
    }

    /// The interval of `f` of the figure, for a decreasing `f`: the ends change places.
    #[must_use]
    pub fn map_decreasing(&self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { lo: f(self.hi), hi: f(self.lo) }
    }

    /// The interval of `factor` times the figure, for a positive factor.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Interval {
        Interval { lo: factor * self.lo, hi: factor * self.hi }
    }
}

#[derive(Serialize, Deserialize)]
struct End(#[serde(with = "crate::number")] f64);

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        [End(self.lo), End(self.hi)].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let [End(lo), End(hi)] = <[End; 2]>::deserialize(deserializer)?;
        Ok(Interval { lo, hi })
    }
}

/// How images are resampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resampling {
    /// Number of resamples.
    pub resamples: usize,
    /// Confidence level of the intervals.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { resamples: 2000, level: 0.95, seed: 1 }
    }
}

/// What a draw is for. Different purposes draw independently from one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Images the features' statistics were taken on.
    Statistics = 1,
    /// Images the attacks were measured on.
    Attack = 2,
}

impl Resampling {
    /// Checks that the interval has two ends among the resamples.
    ///
    /// # Errors
    /// [`Error::Resampling`].
    pub fn validate(&self) -> Result<()> {
        let (least, most) = (100, 1_000_000);
        if self.resamples > most {
            return Err(Error::TooManyResamples { resamples: self.resamples, most });
        }
        if self.resamples >= least && (0.5..=0.999).contains(&self.level) && self.tail_rank() >= 1 {
            return Ok(());
        }
        let wanted = if (0.5..=0.999).contains(&self.level) {
            (2.0 / (1.0 - self.level)).ceil() as usize
        } else {
            0
        };
        Err(Error::Resampling {
            resamples: self.resamples,
            level: self.level,
            least: wanted.max(least),
        })
    }

    /// Applies `figure` to the weights of each resample of `n` images; the weights count how often an image was drawn.
    pub(crate) fn replicate<T: Send>(
        &self,
        n: usize,
        purpose: Purpose,
        figure: impl Fn(&[f64]) -> T + Sync,
    ) -> Vec<T> {
        let draw = |weights: &mut Vec<f64>, b: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(((purpose as u64) << 40) | b as u64);
            weights.clear();
            weights.resize(n, 0.0);
            for _ in 0..n {
                weights[rng.random_range(0..n as u64) as usize] += 1.0;
            }
            figure(weights)
        };
        (0..self.resamples).into_par_iter().map_init(Vec::new, draw).collect()
    }

    /// Percentile interval of resampled values: two order statistics, no interpolation. NaN among them makes both ends NaN.
    pub(crate) fn interval(&self, mut values: Vec<f64>) -> Interval {
        if values.is_empty() || values.iter().any(|v| v.is_nan()) {
            return Interval { lo: f64::NAN, hi: f64::NAN };
        }
        values.sort_unstable_by(f64::total_cmp);
        let rank = self.tail_rank().clamp(1, values.len());
        Interval { lo: values[rank - 1], hi: values[values.len() - rank] }
    }

    /// The `k` for which the interval ends at the `k`-th smallest and `k`-th largest value.
    fn tail_rank(&self) -> usize {
        // Written so that 0.95 means 0.025 in each tail in spite of rounding.
        ((self.resamples + 1) as f64 * (1.0 - self.level) / 2.0 + 1e-9).floor() as usize
    }

    /// The mean of per-image values with its interval.
    ///
    /// - `values`: one finite number per image
    ///
    /// # Errors
    /// [`Error::Resampling`]; [`Error::NoImages`] and [`Error::ImageFigure`] name `split` and `figure`.
    pub fn mean(
        &self,
        split: &str,
        figure: &'static str,
        values: &[f64],
    ) -> Result<(f64, Interval)> {
        self.validate()?;
        check_images(&[(split, values)], figure, true)?;
        let values = Paired::new(&[values]);
        let means = self.replicate(values.images(), Purpose::Attack, |w| {
            values.weighted_sums(w)[0] / w.len() as f64
        });
        Ok((values.means()[0], self.interval(means)))
    }
}

/// Per-image columns whose images are resampled together, in canonical order.
pub(crate) struct Paired {
    columns: Vec<Vec<f64>>,
    images: usize,
}

impl Paired {
    /// Takes columns of equal length, one value per image, and sorts the images by their values, first column first.
    pub(crate) fn new(columns: &[&[f64]]) -> Self {
        let images = columns.first().map_or(0, |c| c.len());
        let mut order: Vec<usize> = (0..images).collect();
        let compare = |&i: &usize, &j: &usize| {
            columns
                .iter()
                .map(|c| c[i].total_cmp(&c[j]))
                .find(|o| o.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        };
        order.sort_by(compare);
        Self {
            columns: columns.iter().map(|c| order.iter().map(|&i| c[i]).collect()).collect(),
            images,
        }
    }

    pub(crate) fn images(&self) -> usize {
        self.images
    }

    /// Mean of each column.
    pub(crate) fn means(&self) -> Vec<f64> {
        self.columns.iter().map(|c| c.iter().sum::<f64>() / self.images as f64).collect()
    }

    /// Sum of each column under the weights of one resample.
    pub(crate) fn weighted_sums(&self, weights: &[f64]) -> Vec<f64> {
        self.columns.iter().map(|c| dot(c, weights)).collect()
    }
}

/// Dot product in four partial sums, in a fixed order.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut acc = [0.0; 4];
    let (xs, ys) = (x.chunks_exact(4), y.chunks_exact(4));
    let tail: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for (acc, (x, y)) in acc.iter_mut().zip(x.iter().zip(y)) {
            *acc += x * y;
        }
    }
    (acc[0] + acc[1]) + (acc[2] + acc[3]) + tail
}

/// Checks that every split has the same, non-zero number of finite values (of at least 0 unless `signed`).
pub(crate) fn check_images(
    columns: &[(&str, &[f64])],
    figure: &'static str,
    signed: bool,
) -> Result<()> {
    let want = columns.first().map_or(0, |(_, c)| c.len());
    for &(split, column) in columns {
        if column.is_empty() {
            return Err(Error::NoImages { split: split.into(), figure });
        }
        if column.len() != want {
            return Err(Error::ImageCount { split: split.into(), figure, got: column.len(), want });
        }
        let good = |v: f64| v.is_finite() && (signed || v >= 0.0);
        if let Some((image, &value)) = column.iter().enumerate().find(|&(_, &v)| !good(v)) {
            return Err(Error::ImageFigure { split: split.into(), image, figure, value, signed });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect()
    }

    /// Per-image errors are skewed; the exponential law (skewness 2) is a hard case for the percentile interval.
    #[test]
    fn intervals_hold_their_level_on_skewed_data() {
        let resampling = Resampling { resamples: 400, level: 0.95, seed: 3 };
        let (trials, n) = (600, 200);
        let hits = (0..trials)
            .filter(|&t| {
                let (_, ci) = resampling.mean("s", "x", &exponential(n, 1000 + t)).unwrap();
                ci.lo <= 1.0 && 1.0 <= ci.hi
            })
            .count();
        let coverage = hits as f64 / trials as f64;
        assert!((0.925..=0.975).contains(&coverage), "coverage {coverage}");
    }

    /// The half width of a mean's interval is 1.96 standard errors.
    #[test]
    fn width_is_that_of_the_normal_interval() {
        let values = exponential(5000, 9);
        let (mean, ci) = Resampling::default().mean("s", "x", &values).unwrap();
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 5000.0).sqrt();
        let want = 1.96 * sd / 5000f64.sqrt();
        assert!((ci.half_width() / want - 1.0).abs() < 0.08, "{} vs {want}", ci.half_width());
        assert!(ci.lo < mean && mean < ci.hi);
    }

    #[test]
    fn neither_order_nor_threads_change_a_bit() {
        let values = exponential(501, 4);
        let reversed: Vec<f64> = values.iter().rev().copied().collect();
        let resampling = Resampling::default();
        let want = resampling.mean("s", "x", &values).unwrap();
        assert_eq!(resampling.mean("s", "x", &reversed).unwrap(), want);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(pool.install(|| resampling.mean("s", "x", &values).unwrap()), want);
        let other = Resampling { seed: 2, ..resampling };
        assert_ne!(other.mean("s", "x", &values).unwrap().1, want.1);
    }

    #[test]
    fn ends_are_order_statistics() {
        let resampling = Resampling { resamples: 2000, level: 0.95, seed: 0 };
        let ci = resampling.interval((0..2000).rev().map(f64::from).collect());
        assert_eq!((ci.lo, ci.hi), (49.0, 1950.0));
        let db = ci.map_decreasing(|v| -v);
        assert_eq!((db.lo, db.hi), (-1950.0, -49.0));
        assert!(resampling.interval(vec![1.0, f64::NAN]).lo.is_nan());
    }

    #[test]
    fn bad_input_is_named() {
        let resampling = Resampling::default();
        assert!(matches!(resampling.mean("b", "mse", &[]), Err(Error::NoImages { .. })));
        let err = resampling.mean("block2", "mse", &[1.0, f64::NAN]).unwrap_err();
        assert_eq!(
            err.to_string(),
            "split block2, image 1: mse is NaN; it must be a finite number"
        );
        for (resamples, level) in
            [(0, 0.95), (50, 0.95), (2000, 1.0), (2000, f64::NAN), (150, 0.99)]
        {
            let bad = Resampling { resamples, level, seed: 0 };
            assert!(matches!(bad.validate(), Err(Error::Resampling { .. })), "{bad:?}");
        }
    }
}
