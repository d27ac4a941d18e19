//! Maximum-entropy bounds from class geometry.

use std::f64::consts::{E, PI};

use crate::deviations::Deviations;
use crate::entropy::discrete::x_ln_x;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::geometry::{ClassGeometry, Normalisation};
use crate::oddities::Oddities;

/// `(D/2) ln(2πe σ²)`: entropy of a Gaussian with the variance `σ²` in each of `width` dimensions, in nats; `-inf` at zero.
///
/// ```
/// let (pi, e) = (std::f64::consts::PI, std::f64::consts::E);
/// assert!((gpz_estimators::entropy::isotropic_gaussian_nats(4, 0.5) - 2.0 * (pi * e).ln()).abs() < 1e-14);
/// ```
#[must_use]
pub fn isotropic_gaussian_nats(width: usize, variance: f64) -> f64 {
    // The factors' logarithms apart: 2πe σ² itself may overflow.
    width as f64 / 2.0 * ((2.0 * PI * E).ln() + variance.ln())
}

/// Feature level: `h(Z) ≤ (D/2) ln(2πe σ²)`, σ² the mean variance of a dimension (divisor `N`), in nats.
///
/// - `geometry`: of features of any width `D`; scaling them by `a` adds `D ln|a|`
///
/// **It bounds h(Z), not leakage**: see the [module](crate::entropy). `-inf` if nothing varies. Constant dimensions make h(Z) itself `-inf`; the
/// bound stays true, and flagged.
///
/// **Bias**: low by about `(D + D/P)/(2N)` nats for Gaussian rows of participation ratio `P`: `D/(2N)` for the divisor, the rest for the
/// logarithm. A plug-in of an upper bound, hence [`Kind::Heuristic`]. **Standard error**: none from sums of squares alone;
/// [`Deviations::isotropic_bound_nats`] has it.
///
/// ```
/// use gpz_estimators::{ClassMoments, entropy};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(1, 2)?;
/// moments.update(array![[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]].view(), &[0; 4])?;
/// let bound = entropy::isotropic_bound_nats(&moments.geometry()?);
/// let (variance, e, pi) = (0.5, std::f64::consts::E, std::f64::consts::PI);
/// assert!((bound.value - (2.0 * pi * e * variance).ln()).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// arXiv 2506.15412, feature level; maximum entropy under a trace constraint.
#[must_use]
pub fn isotropic_bound_nats(geometry: &ClassGeometry) -> Estimate {
    let value = isotropic_gaussian_nats(geometry.width(), geometry.mean_variance());
    Estimate::new(value, Kind::Heuristic, geometry.rows() as f64)
        .flag(true, Flag::PlugInOfUpperBound)
        .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
        .odd(&Oddities::of_moments(geometry))
}

/// Decision level: `h(Z|Y=c) ≤ (D/2) ln(2πe R_c²/D)` of one class, `R_c²` with the divisor `N_c`, in nats.
///
/// - `geometry`: of features of any width `D`; `class`: below the number of classes
///
/// `-inf` for a class of zero radius. A class of one has no radius; its formal value is `-inf` and flagged as such. Dimensions flagged as
/// constant are so over all rows; those constant within the class alone do not show in its radius.
///
/// **Bias**: low by about `(D + D/P)/(2·N_c)` nats, as [`isotropic_bound_nats`] with the class's rows, which are few. Heuristic for the
/// same reason. **Standard error**: [`Deviations::class_bound_nats`].
///
/// ```
/// use gpz_estimators::{ClassMoments, entropy};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(2, 1)?;
/// moments.update(array![[3.0], [-3.0], [50.0]].view(), &[0, 0, 1])?;
/// let bound = entropy::class_bound_nats(&moments.geometry()?, 0).expect("two rows");
/// assert_eq!(bound.value, entropy::isotropic_gaussian_nats(1, 9.0));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`NotIdentifiable::EmptyClass`] for a class without rows.
///
/// # Source
/// arXiv 2506.15412, decision level.
pub fn class_bound_nats(geometry: &ClassGeometry, class: usize) -> Estimated {
    let sum_of_squares =
        geometry.sum_of_squares(class).ok_or(NotIdentifiable::EmptyClass { class })?;
    let count = geometry.counts()[class];
    let value = isotropic_gaussian_nats(
        geometry.width(),
        sum_of_squares / count as f64 / geometry.width() as f64,
    );
    Ok(Estimate::new(value, Kind::Heuristic, count as f64)
        .flag(true, Flag::PlugInOfUpperBound)
        .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
        .flag(count == 1, Flag::SingletonClass)
        .odd(&Oddities::of_moments(geometry)))
}

/// Valid for the mixture of all classes: `h(Z) ≤ H(Y) + Σ_c p_c (D/2) ln(2πe R_c²/D)`, in nats, `p_c` the classes' shares.
///
/// - `geometry`: of features of any width `D`; classes without rows take no part and are flagged
///
/// From `h(Z) ≤ h(Z, Y) = H(Y) + h(Z|Y)`. `-inf` if a class has zero radius: the bound is then empty of content.
///
/// **Bias**: low by about `K (D + D/P)/(2N)` nats over `K` classes for their radii, and by `(K − 1)/(2N)` for `H(Y)`. **Standard error**:
/// [`Deviations::mixture_bound_nats`].
///
/// ```
/// use gpz_estimators::{ClassMoments, entropy};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(2, 1)?;
/// moments.update(array![[3.0], [-3.0], [51.0], [49.0]].view(), &[0, 0, 1, 1])?;
/// let bound = entropy::mixture_bound_nats(&moments.geometry()?).expect("two rows of each class");
/// let gauss = entropy::isotropic_gaussian_nats;
/// assert!((bound.value - 2.0_f64.ln() - 0.5 * (gauss(1, 9.0) + gauss(1, 1.0))).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`NotIdentifiable::SingletonClasses`] if a class has one row: its radius is unknown, so the mixture's bound is too.
///
/// # Source
/// arXiv 2506.15412, decision level, with the chain rule of entropy: Cover and Thomas, chapter 8.
pub fn mixture_bound_nats(geometry: &ClassGeometry) -> Estimated {
    let singletons = geometry.singleton_classes();
    if let Some(&first) = singletons.first() {
        return Err(NotIdentifiable::SingletonClasses { count: singletons.len(), first });
    }
    let n = geometry.rows() as f64;
    let mut value = label_entropy_nats(geometry).value;
    for (class, &count) in geometry.counts().iter().enumerate() {
        if let Some(radius) = geometry.radius_sq(class, Normalisation::PlugIn) {
            value += count as f64 / n
                * isotropic_gaussian_nats(geometry.width(), radius / geometry.width() as f64);
        }
    }
    let empty = geometry.empty_classes().len();
    Ok(Estimate::new(value, Kind::Heuristic, n)
        .flag(true, Flag::PlugInOfUpperBound)
        .flag(value == f64::NEG_INFINITY, Flag::DegenerateSupport)
        .flag(empty > 0, Flag::EmptyClasses(empty))
        .odd(&Oddities::of_moments(geometry)))
}

impl Deviations {
    /// [`isotropic_bound_nats`] with its standard error, by the exact jackknife over images; three are needed for one.
    ///
    /// ```
    /// use gpz_estimators::{ClassMoments, DeviationPass, Uncertainty};
    /// use ndarray::array;
    ///
    /// let (rows, labels) = (array![[0.0], [1.0], [5.0], [4.0], [6.0], [9.0]], [0, 0, 0, 1, 1, 1]);
    /// let mut moments = ClassMoments::new(2, 1)?;
    /// moments.update(rows.view(), &labels)?;
    /// let mut pass = DeviationPass::new(&moments)?;
    /// pass.update(rows.view(), &labels)?;
    /// let deviations = pass.finish()?;
    /// assert_eq!(deviations.isotropic_bound_nats().uncertainty, Some(Uncertainty::Jackknife));
    /// assert!(deviations.mixture_bound_nats().expect("three rows of each class").std_err.is_some());
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    #[must_use]
    pub fn isotropic_bound_nats(&self) -> Estimate {
        let (n, squares) = (self.geometry.rows() as f64, self.geometry.total());
        let without =
            self.distances.iter().map(|distance| self.without(n * squares, n, distance[1]));
        isotropic_bound_nats(&self.geometry).jackknifed(&without.collect::<Vec<_>>())
    }

    /// [`class_bound_nats`] with its standard error, by the exact jackknife over the images of the class.
    ///
    /// # Errors
    /// [`NotIdentifiable::EmptyClass`] for a class without rows.
    pub fn class_bound_nats(&self, class: usize) -> Estimated {
        let bound = class_bound_nats(&self.geometry, class)?;
        let squares = self.geometry.sum_of_squares(class).unwrap_or(0.0);
        let members = self.labels.iter().zip(&self.distances).filter(|(label, _)| **label == class);
        let without =
            members.map(|(_, distance)| self.without(squares, bound.n_effective, distance[0]));
        let without: Vec<f64> = without.collect();
        Ok(bound.jackknifed(&without))
    }

    /// [`mixture_bound_nats`] with its standard error, by the exact jackknife over images; none where a class has fewer than three.
    ///
    /// # Errors
    /// [`NotIdentifiable::SingletonClasses`] if a class has one row.
    pub fn mixture_bound_nats(&self) -> Estimated {
        let bound = mixture_bound_nats(&self.geometry)?;
        let counts = self.geometry.counts();
        let width = self.geometry.width();
        let squares: Vec<f64> = (0..counts.len())
            .map(|class| self.geometry.sum_of_squares(class).unwrap_or(0.0))
            .collect();
        let of_class = |class: usize| {
            isotropic_gaussian_nats(width, squares[class] / counts[class] as f64 / width as f64)
        };
        let without = self.labels.iter().zip(&self.distances).map(|(&class, distance)| {
            self.without(squares[class], counts[class] as f64, distance[0])
        });
        Ok(bound.jackknifed(&mixture_without(counts, &self.labels, of_class, without)))
    }

    /// The isotropic bound of `n` rows less one at a squared distance from their mean.
    fn without(&self, squares: f64, n: f64, distance: f64) -> f64 {
        let left = (squares - n / (n - 1.0) * distance).max(0.0);
        isotropic_gaussian_nats(
            self.geometry.width(),
            left / (n - 1.0) / self.geometry.width() as f64,
        )
    }
}

/// `H(Y) + Σ_c p_c h_c` without each row in turn, from the classes' `h_c` and that of each row's class without it.
pub(crate) fn mixture_without(
    counts: &[u64],
    labels: &[usize],
    of_class: impl Fn(usize) -> f64,
    without: impl Iterator<Item = f64>,
) -> Vec<f64> {
    let present = || (0..counts.len()).filter(|&class| counts[class] > 0);
    let entropies: Vec<f64> = (0..counts.len())
        .map(|class| if counts[class] > 0 { of_class(class) } else { 0.0 })
        .collect();
    let n = labels.len() as f64;
    let sum: f64 = present().map(|class| counts[class] as f64 * entropies[class]).sum();
    let logarithms: f64 = present().map(|class| x_ln_x(counts[class])).sum();
    let value = |(&class, left): (&usize, f64)| {
        let count = counts[class];
        let sum = sum - count as f64 * entropies[class] + (count - 1) as f64 * left;
        let logarithms = logarithms - x_ln_x(count) + x_ln_x(count - 1);
        (n - 1.0).ln() + (sum - logarithms) / (n - 1.0)
    };
    labels.iter().zip(without).map(value).collect()
}

/// `H(Y) = −Σ_c p_c ln p_c` of the labels seen, in nats: exact for them, low by about `(K − 1)/(2N)` for their population.
///
/// The ceiling is `ln K` over the classes declared. [`plugin_entropy_nats`](crate::entropy::discrete::plugin_entropy_nats) of the labels is the
/// same number as an estimate for their population, with a standard error.
///
/// ```
/// use gpz_estimators::{ClassMoments, entropy};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(3, 1)?;
/// moments.update(array![[1.0], [2.0], [3.0], [4.0]].view(), &[0, 2, 2, 0])?;
/// assert!((entropy::label_entropy_nats(&moments.geometry()?).value - 2.0_f64.ln()).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// Shannon 1948.
#[must_use]
pub fn label_entropy_nats(geometry: &ClassGeometry) -> Estimate {
    let n = geometry.rows() as f64;
    let shares =
        geometry.counts().iter().filter(|&&count| count > 0).map(|&count| count as f64 / n);
    // One class gives 0 and not −0, as `−Σ` would.
    let sum: f64 = shares.map(|share| share * share.ln()).sum();
    let mut estimate = Estimate::new(0.0 - sum, Kind::Exact, n);
    estimate.ceiling = Some((geometry.classes() as f64).ln());
    estimate
}
