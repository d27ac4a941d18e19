//! Jackknives: exact delete-one intervals of variances, the spread of leave-one-out values, and groups left out in turn.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::deviations::Deviations;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, NotIdentifiable, Uncertainty, number};
use crate::geometry::Normalisation;
use crate::parts::deal;

/// A jackknife interval `value ± t · std_err`, with Student's quantile: what [`Deviations`] gives for radii and variances.
///
/// Exact and cheap: removing image `i` from a class of `N` rows moves the mean, and the sum of squares becomes exactly
/// `SS₋ᵢ = SS − N/(N − 1) · d_i²`. So every leave-one-out value costs one multiplication, and no features are needed again.
///
/// Student's and not the normal's: the spread comes from `N` pseudo-values, and at 30 rows the normal quantile is 4 % short.
/// Not clipped at zero: an interval that reaches below says that the data cannot tell the quantity from zero.
///
/// An interval for [`Normalisation::Unbiased`] covers the population's value. One for [`Normalisation::PlugIn`] covers that
/// statistic's own expectation at this sample size, which is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Interval {
    /// The statistic on all rows.
    #[serde(serialize_with = "number")]
    pub value: f64,
    /// Jackknife standard error.
    #[serde(serialize_with = "number")]
    pub std_err: f64,
    /// Lower end.
    #[serde(serialize_with = "number")]
    pub low: f64,
    /// Upper end.
    #[serde(serialize_with = "number")]
    pub high: f64,
    /// Confidence level, such as 0.95.
    pub level: f64,
    /// Degrees of freedom of the quantile.
    pub degrees_of_freedom: f64,
    /// Rows behind the value.
    pub n: u64,
    /// Classes behind the value.
    pub classes: usize,
    /// Which divisor.
    pub normalisation: Normalisation,
}

impl Interval {
    /// The interval of this quantity divided by a constant, such as the width: `R_c²/D` from `R_c²`.
    #[must_use]
    pub fn per(self, divisor: f64) -> Self {
        Self {
            value: self.value / divisor,
            std_err: self.std_err / divisor,
            low: self.low / divisor,
            high: self.high / divisor,
            ..self
        }
    }

    fn new(
        value: f64,
        variance: f64,
        degrees_of_freedom: f64,
        n: u64,
        classes: usize,
        normalisation: Normalisation,
        level: f64,
    ) -> Result<Self, Error> {
        let quantile = StudentsT::new(0.0, 1.0, degrees_of_freedom)
            .map_err(|_| Error::Level { level })?
            .inverse_cdf(0.5 + level / 2.0);
        let std_err = variance.sqrt();
        let reach = quantile * std_err;
        let (low, high) = (value - reach, value + reach);
        Ok(Self { value, std_err, low, high, level, degrees_of_freedom, n, classes, normalisation })
    }
}

/// Standard error from the values that leave out one row each.
pub(crate) fn jackknife(without: &[f64]) -> f64 {
    let n = without.len() as f64;
    // About the first: the values agree in most of their digits.
    let deviation = |value: &f64| value - without[0];
    let mean = without.iter().map(deviation).sum::<f64>() / n;
    let squares = without.iter().map(|value| (deviation(value) - mean).powi(2));
    ((n - 1.0) / n * squares.sum::<f64>()).sqrt()
}

impl Estimate {
    /// With the standard error that the values without one row each give; none if there are too few, or one is infinite.
    pub(crate) fn jackknifed(self, without: &[f64]) -> Self {
        let told = without.len() > 2 && self.value.is_finite();
        match if told { jackknife(without) } else { f64::NAN } {
            std_err if std_err.is_finite() => self.std_err(std_err, Uncertainty::Jackknife),
            _ => self,
        }
    }
}

/// Any estimate with a standard error by the jackknife over groups of rows: each of the groups left out in turn.
///
/// `√((g − 1)/g · Σ (v₋ₖ − v̄)²)` over `g` groups, dealt at random but always alike, with `g − 1` degrees of freedom. For what has no formula
/// and is dear to leave one row out of, such as all that factorises a matrix: shrunk covariances, effective rank, class means.
///
/// - `n`: rows there are; `groups`: from 2 to `n`, 20 is usual. The statistic is computed `groups + 1` times
/// - `statistic`: of the rows at these places, ascending; first of all of them
///
/// Sound where the statistic changes smoothly with the rows; not for medians, and not where a row more or less changes what is
/// counted, as with ranks and empty classes. Estimators of nearest neighbours bring their own error. A value whose leave-outs are
/// not identifiable or infinite comes without one.
///
/// # Errors
/// [`Error::Parameter`] unless `2 ≤ groups ≤ n`, and what the statistic returns.
///
/// # Source
/// Quenouille 1949; Efron and Tibshirani, An Introduction to the Bootstrap, chapter 11.
///
/// ```
/// use gpz_estimators::{Error, Estimated, Uncertainty, entropy, grouped_jackknife, ClassMoments};
/// use ndarray::{Array2, Axis};
///
/// let rows = Array2::from_shape_fn((200, 3), |(i, j)| ((i * i + j) as f64 * 0.618_033_988_749_894_9).fract());
/// let bound = grouped_jackknife(200, 20, |kept| {
///     let mut moments = ClassMoments::new(1, 3)?;
///     moments.update(rows.select(Axis(0), kept).view(), &vec![0; kept.len()])?;
///     Ok(Ok(entropy::isotropic_bound_nats(&moments.geometry()?)))
/// })?.expect("rows that vary");
/// assert_eq!(bound.uncertainty, Some(Uncertainty::GroupedJackknife));
/// assert!(bound.std_err.is_some_and(|std_err| std_err > 0.0) && bound.degrees_of_freedom == Some(19.0));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn grouped_jackknife(
    n: usize,
    groups: usize,
    statistic: impl Fn(&[usize]) -> Result<Estimated, Error>,
) -> Result<Estimated, Error> {
    if groups < 2 || groups > n {
        let rule = "at least two groups are needed, and a row for each";
        return Err(Error::Parameter { name: "groups", value: groups as f64, rule });
    }
    let mut group_of = vec![0; n];
    for (group, rows) in deal(n, groups).into_iter().enumerate() {
        rows.into_iter().for_each(|row| group_of[row] = group);
    }
    let kept = |out: usize| (0..n).filter(|&row| group_of[row] != out).collect::<Vec<_>>();
    let estimate = match statistic(&kept(groups))? {
        Ok(estimate) => estimate,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut without = Vec::with_capacity(groups);
    for group in 0..groups {
        without.push(statistic(&kept(group))?.map_or(f64::NAN, |left| left.value));
    }
    let std_err = jackknife(&without);
    Ok(Ok(if std_err.is_finite() {
        estimate.std_err(std_err, Uncertainty::GroupedJackknife).freedom(groups as f64 - 1.0)
    } else {
        estimate
    }))
}

/// What an interval function returns: bad parameters are errors, data that cannot tell are not.
type Answer = Result<Result<Interval, NotIdentifiable>, Error>;

/// A class's radius with its jackknife variance.
struct Radius {
    value: f64,
    variance: f64,
    n: u64,
}

/// Sums from which every leave-one-out variance of the whole sample follows.
#[derive(Clone, Copy)]
struct Parts {
    /// Numerator and denominator of the within-class variance.
    within: [f64; 2],
    /// Numerator and denominator of the total variance.
    total: [f64; 2],
}

impl Deviations {
    /// R_c² of one class with its interval; Student with `N_c − 1` degrees of freedom. Needs three rows.
    ///
    /// For many classes, [`radii_sq`](Self::radii_sq) walks the images once for all of them.
    ///
    /// # Errors
    /// [`Error::Level`] unless `0 < level < 1`. Inside: [`NotIdentifiable::EmptyClass`], [`NotIdentifiable::TooFewRows`].
    pub fn radius_sq(&self, class: usize, normalisation: Normalisation, level: f64) -> Answer {
        let of_class = self.radii_sq(normalisation, level)?.into_iter().nth(class);
        Ok(of_class.unwrap_or(Err(NotIdentifiable::EmptyClass { class })))
    }

    /// R_c² of every class with its interval, `[classes]`; each as [`radius_sq`](Self::radius_sq) gives it.
    ///
    /// # Errors
    /// [`Error::Level`] unless `0 < level < 1`. Inside: [`NotIdentifiable::EmptyClass`], [`NotIdentifiable::TooFewRows`].
    pub fn radii_sq(
        &self,
        normalisation: Normalisation,
        level: f64,
    ) -> Result<Vec<Result<Interval, NotIdentifiable>>, Error> {
        check(level)?;
        let interval = |(class, radius): (usize, Option<Radius>)| {
            let have = self.geometry.counts()[class];
            let Some(Radius { value, variance, n }) = radius else {
                return Ok(Err(match have {
                    0 => NotIdentifiable::EmptyClass { class },
                    have => NotIdentifiable::TooFewRows { class: Some(class), have, need: 3 },
                }));
            };
            let freedom = n as f64 - 1.0;
            Interval::new(value, variance, freedom, n, 1, normalisation, level).map(Ok)
        };
        self.radii(normalisation).into_iter().enumerate().map(interval).collect()
    }

    /// R_c² averaged over the classes of at least three rows, each class alike, with its interval.
    ///
    /// Classes are independent samples, so their jackknife variances add; the degrees of freedom are Welch and Satterthwaite's.
    /// [`Interval::classes`] tells how many classes took part: fewer than in
    /// [`ClassGeometry::mean_radius_sq`](crate::ClassGeometry::mean_radius_sq) where a class has two rows, whose radius has no
    /// measurable spread.
    ///
    /// # Errors
    /// [`Error::Level`] unless `0 < level < 1`. Inside: [`NotIdentifiable::TooFewRows`] if no class has three rows.
    pub fn mean_radius_sq(&self, normalisation: Normalisation, level: f64) -> Answer {
        check(level)?;
        let radii: Vec<Radius> = self.radii(normalisation).into_iter().flatten().collect();
        if radii.is_empty() {
            let most = self.geometry.counts().iter().copied().max().unwrap_or(0);
            return Ok(Err(NotIdentifiable::TooFewRows { class: None, have: most, need: 3 }));
        }
        let k = radii.len() as f64;
        let value = radii.iter().map(|radius| radius.value).sum::<f64>() / k;
        let variance: f64 = radii.iter().map(|radius| radius.variance).sum();
        let spread: f64 =
            radii.iter().map(|radius| radius.variance.powi(2) / (radius.n as f64 - 1.0)).sum();
        let n = radii.iter().map(|radius| radius.n).sum();
        let freedom = if spread > 0.0 { variance * variance / spread } else { n as f64 - k };
        Interval::new(value, variance / (k * k), freedom, n, radii.len(), normalisation, level)
            .map(Ok)
    }

    /// Within-class variance with its interval, leaving out one image of the whole sample at a time.
    ///
    /// Plug-in: `Σ_c SS_c / N`. Unbiased: `Σ_c N_c/(N_c − 1)·SS_c` over the number of images in classes of at least two.
    ///
    /// # Errors
    /// [`Error::Level`] unless `0 < level < 1`. Inside: [`NotIdentifiable::TooFewRows`].
    pub fn within(&self, normalisation: Normalisation, level: f64) -> Answer {
        self.whole(normalisation, level, |parts| ratio(parts.within))
    }

    /// Total variance (trace of the covariance of all rows) with its interval.
    ///
    /// # Errors
    /// As [`within`](Self::within).
    pub fn total(&self, normalisation: Normalisation, level: f64) -> Answer {
        self.whole(normalisation, level, |parts| ratio(parts.total))
    }

    /// Between-class variance, total minus within, with its interval.
    ///
    /// # Errors
    /// As [`within`](Self::within).
    pub fn between(&self, normalisation: Normalisation, level: f64) -> Answer {
        self.whole(normalisation, level, |parts| ratio(parts.total) - ratio(parts.within))
    }

    /// Within over total with its interval.
    ///
    /// # Errors
    /// As [`within`](Self::within); also [`NotIdentifiable::NoVariance`] where all rows are equal.
    pub fn within_over_total(&self, normalisation: Normalisation, level: f64) -> Answer {
        if self.geometry.total() == 0.0 {
            check(level)?;
            return Ok(Err(NotIdentifiable::NoVariance));
        }
        self.whole(normalisation, level, |parts| ratio(parts.within) / ratio(parts.total))
    }

    /// Radius and jackknife variance of each class, `[classes]`; none below three rows.
    fn radii(&self, normalisation: Normalisation) -> Vec<Option<Radius>> {
        // The leave-one-out radii are linear in the squared distances, so only the distances' spread is needed.
        let mut spreads = vec![0.0; self.geometry.classes()];
        for (&class, distance) in self.labels.iter().zip(&self.distances) {
            let count = self.geometry.counts()[class] as f64;
            let mean = self.geometry.sum_of_squares(class).unwrap_or(0.0) / count;
            spreads[class] += (distance[0] - mean).powi(2);
        }
        let radius = |(class, spread): (usize, f64)| {
            let n = self.geometry.counts()[class];
            let value = self.geometry.radius_sq(class, normalisation).filter(|_| n >= 3)?;
            let count = n as f64;
            // d θ₋ᵢ / d d_i² = −N/(N − 1) over the divisor that N − 1 rows have.
            let divisor = match normalisation {
                Normalisation::PlugIn => count - 1.0,
                Normalisation::Unbiased => count - 2.0,
            };
            let slope = count / (count - 1.0) / divisor;
            Some(Radius { value, variance: (count - 1.0) / count * slope * slope * spread, n })
        };
        spreads.into_iter().enumerate().map(radius).collect()
    }

    /// The jackknife of a function of the whole sample's variances.
    fn whole(
        &self,
        normalisation: Normalisation,
        level: f64,
        statistic: impl Fn(Parts) -> f64,
    ) -> Answer {
        check(level)?;
        let n = self.geometry.rows();
        let unbiased = normalisation == Normalisation::Unbiased;
        let largest = self.geometry.counts().iter().copied().max().unwrap_or(0);
        if n < 3 || unbiased && largest < 3 {
            let have = if n < 3 { n } else { largest };
            return Ok(Err(NotIdentifiable::TooFewRows { class: None, have, need: 3 }));
        }
        let all = self.parts(normalisation);
        let without: Vec<f64> = self
            .labels
            .iter()
            .zip(&self.distances)
            .map(|(&class, distance)| {
                statistic(self.parts_without(all, class, *distance, normalisation))
            })
            .collect();
        let count = n as f64;
        let mean = without.iter().sum::<f64>() / count;
        let spread: f64 = without.iter().map(|value| (value - mean).powi(2)).sum();
        let classes = self.geometry.counts().iter().filter(|&&count| count > 0).count();
        let variance = (count - 1.0) / count * spread;
        Interval::new(statistic(all), variance, count - 1.0, n, classes, normalisation, level)
            .map(Ok)
    }

    /// Sum of squares of a class in the numerator of the within-class variance, and its rows in the denominator.
    fn class_part(count: f64, sum_of_squares: f64, normalisation: Normalisation) -> [f64; 2] {
        match normalisation {
            Normalisation::PlugIn => [sum_of_squares, count],
            Normalisation::Unbiased if count >= 2.0 => {
                [count / (count - 1.0) * sum_of_squares, count]
            }
            Normalisation::Unbiased => [0.0, 0.0],
        }
    }

    fn total_divisor(n: f64, normalisation: Normalisation) -> f64 {
        match normalisation {
            Normalisation::PlugIn => n,
            Normalisation::Unbiased => n - 1.0,
        }
    }

    fn parts(&self, normalisation: Normalisation) -> Parts {
        let n = self.geometry.rows() as f64;
        let mut within = [0.0; 2];
        for (class, &count) in self.geometry.counts().iter().enumerate() {
            let sum_of_squares = self.geometry.sum_of_squares(class).unwrap_or(0.0);
            let part = Self::class_part(count as f64, sum_of_squares, normalisation);
            within = [within[0] + part[0], within[1] + part[1]];
        }
        Parts { within, total: [self.geometry.total() * n, Self::total_divisor(n, normalisation)] }
    }

    /// The parts after removing one image of `class` at the given squared distances.
    fn parts_without(
        &self,
        all: Parts,
        class: usize,
        distance: [f64; 2],
        normalisation: Normalisation,
    ) -> Parts {
        let n = self.geometry.rows() as f64;
        let count = self.geometry.counts()[class] as f64;
        let sum_of_squares = self.geometry.sum_of_squares(class).unwrap_or(0.0);
        let left =
            if count > 1.0 { sum_of_squares - count / (count - 1.0) * distance[0] } else { 0.0 };
        let before = Self::class_part(count, sum_of_squares, normalisation);
        let after = Self::class_part(count - 1.0, left, normalisation);
        Parts {
            within: [all.within[0] - before[0] + after[0], all.within[1] - before[1] + after[1]],
            total: [all.total[0] - n / (n - 1.0) * distance[1], all.total[1] - 1.0],
        }
    }
}

fn ratio([numerator, denominator]: [f64; 2]) -> f64 {
    numerator / denominator
}

fn check(level: f64) -> Result<(), Error> {
    if level > 0.0 && level < 1.0 { Ok(()) } else { Err(Error::Level { level }) }
}
