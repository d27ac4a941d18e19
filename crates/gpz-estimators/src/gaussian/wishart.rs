//! What the size of a sample does to the log-determinant of its covariance, exactly, for Gaussian rows.

use statrs::function::gamma::digamma;

/// `E ln det S − ln det Σ` for a covariance `S` of Gaussian rows with so many degrees of freedom, in nats:
/// `Σ_{i=0}^{d−1} ψ((ν − i)/2) + d ln(2/ν)`.
///
/// - `width`: `d`
/// - `degrees`: `ν`, the divisor of `S`; `n − 1` for `n` rows about their own mean
///
/// Exact for any `ν ≥ d`; always negative; about `−d(d + 1)/(2ν)` while `d` is far below `ν`. `-inf` below: `S` is singular then.
///
/// ```
/// use gpz_estimators::gaussian::log_det_bias;
///
/// // One dimension, two degrees: S is exponential, and E ln S = −γ for mean 1.
/// assert!((log_det_bias(1, 2) + 0.577_215_664_901_532_9).abs() < 1e-13);
/// ```
///
/// # Source
/// Goodman 1963; Misra, Singh and Demchuk, Estimation of the entropy of a multivariate normal distribution, 2005.
#[must_use]
pub fn log_det_bias(width: usize, degrees: u64) -> f64 {
    if degrees < width as u64 {
        return f64::NEG_INFINITY;
    }
    let nu = degrees as f64;
    (0..width).map(|i| digamma((nu - i as f64) / 2.0) + (2.0 / nu).ln()).sum()
}

/// `Var ln det S` for Gaussian rows: `Σ_{i=0}^{d−1} ψ₁((ν − i)/2)`, in squared nats; infinite for `ν < d`.
///
/// - `width`: `d`; `degrees`: `ν`, as in [`log_det_bias`]
///
/// About `2d/ν`, and `−2 ln(1 − d/ν)` where `d` is a share of `ν`.
///
/// ```
/// use gpz_estimators::gaussian::log_det_variance;
///
/// // One dimension, two degrees: the variance of the logarithm of an exponential.
/// assert!((log_det_variance(1, 2) - std::f64::consts::PI.powi(2) / 6.0).abs() < 1e-13);
/// ```
///
/// # Source
/// As [`log_det_bias`].
#[must_use]
pub fn log_det_variance(width: usize, degrees: u64) -> f64 {
    if degrees < width as u64 {
        return f64::INFINITY;
    }
    (0..width).map(|i| trigamma((degrees as f64 - i as f64) / 2.0)).sum()
}

/// `ψ₁`, the derivative of digamma, of a positive number, to fourteen digits.
fn trigamma(mut x: f64) -> f64 {
    let mut value = 0.0;
    while x < 15.0 {
        value += 1.0 / (x * x);
        x += 1.0;
    }
    let (inverse, square) = (1.0 / x, 1.0 / (x * x));
    // The asymptotic series with the Bernoulli numbers 1/6, −1/30, 1/42, −1/30, 5/66.
    let series = square
        * (1.0 / 6.0
            + square
                * (-1.0 / 30.0
                    + square * (1.0 / 42.0 + square * (-1.0 / 30.0 + square * 5.0 / 66.0))));
    value + inverse * (1.0 + 0.5 * inverse + series)
}

#[cfg(feature = "lapack-base")]
pub use corrected::*;

#[cfg(feature = "lapack-base")]
mod corrected {
    use super::log_det_bias;
    use crate::entropy::isotropic_gaussian_nats;
    use crate::error::Error;
    use crate::estimate::{Estimate, Estimated, Flag, Kind, Uncertainty};
    use crate::gaussian::full::{
        Covariance, by_class, covariance, gaussian_error, of_each_class, variance_over_classes,
    };
    use crate::simd::Element;
    use ndarray::ArrayView2;

    /// `ln det S`, `S` the covariance of the rows with the divisor `n − 1`, in nats of squared feature units: as it is.
    ///
    /// - `features`: `[n, d]`, `f32` or `f64`; columns are standardised first and their scales added back as `2 Σ ln s_j`, so that
    ///   a covariance with a condition number of `1e32` for its scales alone costs no digits
    ///
    /// `-inf` and flagged where the covariance is singular. As an estimate of the population's value it is low by
    /// [`log_det_bias`], which grows with `d²/n`: 34 nats at 250 dimensions and 1,000 rows. The standard error is the root of
    /// [`log_det_variance`](crate::gaussian::log_det_variance), that of Gaussian rows: heavier tails vary more.
    ///
    /// ```
    /// use gpz_estimators::gaussian;
    /// use ndarray::array;
    ///
    /// let rows = array![[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]]; // variances 4/3 and 16/3, no correlation
    /// let log_det = gaussian::log_det_nats(rows.view())?.expect("four rows of two dimensions");
    /// assert!((log_det.value - (64.0_f64 / 9.0).ln()).abs() < 1e-14);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NonFinite`], [`Error::Magnitude`], [`Error::EmptyShape`], [`Error::NoRows`], [`Error::Factorisation`]. Inside:
    /// [`NotIdentifiable::TooFewRows`](crate::NotIdentifiable::TooFewRows) unless `n > d`.
    ///
    /// # Source
    /// As [`log_det_bias`].
    pub fn log_det_nats<T: Element>(features: ArrayView2<'_, T>) -> Result<Estimated, Error> {
        Ok(covariance(features)?.map(|covariance| {
            let value = covariance.log_det;
            let estimate = Estimate::new(value, Kind::Heuristic, covariance.rows as f64);
            covariance.flags(gaussian_error(estimate, covariance.log_det_variance()))
        }))
    }

    /// `ln det S` less its exact bias for Gaussian rows, in nats; the standard error is theirs too.
    ///
    /// Unbiased if the rows are Gaussian and independent. Heavier tails than theirs leave it low.
    ///
    /// ```
    /// use gpz_estimators::gaussian;
    /// use ndarray::array;
    ///
    /// let rows = array![[0.0], [1.0], [3.0], [4.0]];
    /// let naive = gaussian::log_det_nats(rows.view())?.expect("four rows of one dimension");
    /// let corrected = gaussian::log_det_corrected_nats(rows.view())?.expect("four rows of one dimension");
    /// assert!((corrected.value - naive.value + gaussian::log_det_bias(1, 3)).abs() < 1e-14);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`log_det_nats`].
    ///
    /// # Source
    /// As [`log_det_bias`].
    pub fn log_det_corrected_nats<T: Element>(
        features: ArrayView2<'_, T>,
    ) -> Result<Estimated, Error> {
        Ok(covariance(features)?.map(|covariance| {
            let (value, variance) = corrected(&covariance);
            let estimate = Estimate::new(value, Kind::Heuristic, covariance.rows as f64)
                .std_err(variance.sqrt(), Uncertainty::Formula)
                .flag(true, Flag::AssumesGaussian);
            covariance.flags(estimate)
        }))
    }

    /// `½ (d ln 2πe + ln det S)` less the bias of `ln det S`: entropy of Gaussian rows without bias, in nats.
    ///
    /// - `features`: `[n, d]`; the standard error is exact for Gaussian rows
    ///
    /// For rows that are not Gaussian it estimates an upper bound of `h(Z)`, no longer without bias.
    ///
    /// ```
    /// use gpz_estimators::gaussian;
    /// use ndarray::array;
    ///
    /// let rows = array![[0.0], [1.0], [3.0], [4.0]];
    /// let plugin = gaussian::full_bound_nats(rows.view())?.expect("four rows of one dimension");
    /// let corrected = gaussian::entropy_corrected_nats(rows.view())?.expect("four rows of one dimension");
    /// assert!((corrected.value - plugin.value + 0.5 * gaussian::log_det_bias(1, 3)).abs() < 1e-14);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`log_det_nats`].
    ///
    /// # Source
    /// As [`log_det_bias`].
    pub fn entropy_corrected_nats<T: Element>(
        features: ArrayView2<'_, T>,
    ) -> Result<Estimated, Error> {
        Ok(covariance(features)?.map(|covariance| corrected_entropy(&covariance)))
    }

    /// [`entropy_corrected_nats`] of each class by itself, `[classes]`, in nats.
    ///
    /// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
    ///
    /// Bias, standard error and failure as there, with the class's rows. A class without rows, or with no more than dimensions, is not
    /// identifiable and does not keep the others from being so.
    ///
    /// ```
    /// use gpz_estimators::gaussian;
    /// use ndarray::array;
    ///
    /// let (rows, labels) = (array![[0.0], [1.0], [2.0], [50.0]], [0, 0, 0, 1]);
    /// let entropies = gaussian::class_entropies_corrected_nats(rows.view(), &labels, 2)?;
    /// let own = gaussian::entropy_corrected_nats(array![[0.0], [1.0], [2.0]].view())?;
    /// assert_eq!(entropies[0], own);
    /// assert!(entropies[1].is_err());
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`class_full_bounds_nats`](crate::gaussian::class_full_bounds_nats).
    ///
    /// # Source
    /// As [`log_det_bias`], applied to each class.
    pub fn class_entropies_corrected_nats<T: Element>(
        features: ArrayView2<'_, T>,
        labels: &[usize],
        classes: usize,
    ) -> Result<Vec<Estimated>, Error> {
        of_each_class(features, labels, classes, corrected_entropy)
    }

    /// `Σ_c N_c/N · h_c`, each class's entropy corrected as by [`entropy_corrected_nats`]: `h(Z|Y)` of classes that are Gaussian,
    /// in nats.
    ///
    /// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
    ///
    /// At 16 to 32 dimensions this still meets `h(Z|Y)` of Gaussian classes, where nearest neighbours no longer do. The standard
    /// error is that of Gaussian classes, drawn with their labels. For classes that are not Gaussian: as [`entropy_corrected_nats`].
    ///
    /// ```
    /// use gpz_estimators::gaussian;
    /// use ndarray::array;
    ///
    /// let (rows, labels) = (array![[0.0], [1.0], [2.0], [50.0], [53.0], [56.0]], [0, 0, 0, 1, 1, 1]);
    /// let plugin = gaussian::class_conditional_bound_nats(rows.view(), &labels, 2)?.expect("three rows of each");
    /// let corrected = gaussian::class_conditional_corrected_nats(rows.view(), &labels, 2)?.expect("three rows of each");
    /// assert!((corrected.value - plugin.value + 0.5 * gaussian::log_det_bias(1, 2)).abs() < 1e-13);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`class_conditional_bound_nats`](crate::gaussian::class_conditional_bound_nats).
    ///
    /// # Source
    /// As [`log_det_bias`], applied to each class.
    pub fn class_conditional_corrected_nats<T: Element>(
        features: ArrayView2<'_, T>,
        labels: &[usize],
        classes: usize,
    ) -> Result<Estimated, Error> {
        let parts = match by_class(features, labels, classes)? {
            Ok(parts) => parts,
            Err(reason) => return Ok(Err(reason)),
        };
        let n = labels.len() as f64;
        let each: Vec<_> = parts
            .iter()
            .map(|(_, covariance)| {
                let (value, std_err) = entropy(covariance);
                (covariance.rows as f64 / n, value, std_err * std_err)
            })
            .collect();
        let value: f64 = each.iter().map(|(share, value, _)| share * value).sum();
        let mut estimate = Estimate::new(value, Kind::Heuristic, n)
            .flag(true, Flag::AssumesGaussian)
            .flag(true, Flag::PlugInOfUpperBound);
        if value.is_finite() {
            let std_err = variance_over_classes(n, &each).sqrt();
            estimate = estimate.std_err(std_err, Uncertainty::Formula);
        }
        let empty = classes - parts.len();
        for (_, covariance) in &parts {
            estimate = covariance.flags(estimate);
        }
        Ok(Ok(estimate.flag(empty > 0, Flag::EmptyClasses(empty))))
    }

    /// The entropy of Gaussian rows of this covariance, as an estimate.
    fn corrected_entropy(covariance: &Covariance) -> Estimate {
        let (value, std_err) = entropy(covariance);
        let estimate = Estimate::new(value, Kind::Heuristic, covariance.rows as f64)
            .std_err(std_err, Uncertainty::Formula)
            .flag(true, Flag::AssumesGaussian)
            .flag(true, Flag::PlugInOfUpperBound);
        covariance.flags(estimate)
    }

    /// Log-determinant without its bias, and its variance.
    fn corrected(covariance: &Covariance) -> (f64, f64) {
        let bias = log_det_bias(covariance.width, covariance.rows as u64 - 1);
        (covariance.log_det - bias, covariance.log_det_variance())
    }

    /// Entropy without its bias, and its standard error.
    fn entropy(covariance: &Covariance) -> (f64, f64) {
        let (log_det, variance) = corrected(covariance);
        (isotropic_gaussian_nats(covariance.width, 1.0) + 0.5 * log_det, 0.5 * variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_values_and_recurrences() {
        let pi_sq = std::f64::consts::PI.powi(2);
        for (x, want) in [(1.0, pi_sq / 6.0), (0.5, pi_sq / 2.0), (2.0, pi_sq / 6.0 - 1.0)] {
            assert!((trigamma(x) - want).abs() < 1e-13 * want, "{x}");
        }
        // d = 1, ν = 2: S is exponential, E ln S = −γ.
        assert!((log_det_bias(1, 2) + 0.577_215_664_901_532_9).abs() < 1e-13);
        assert_eq!(log_det_bias(3, 2), f64::NEG_INFINITY);
        // For many rows: −d(d + 1)/(2ν) and 2d/ν.
        assert!((log_det_bias(5, 1_000_000) * 1e6 + 15.0).abs() < 1e-3);
        assert!((log_det_variance(5, 1_000_000) * 1e6 - 10.0).abs() < 1e-3);
    }
}
