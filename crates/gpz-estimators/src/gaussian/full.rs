//! Gaussian entropy with the full covariance.

use ndarray::{ArrayView2, Axis};

use crate::batch::{Batch, ClassRows};
use crate::entropy::isotropic_gaussian_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, Uncertainty};
use crate::gaussian::diagonal::mixture;
use crate::gaussian::log_det_variance;
use crate::gram::Sample;
use crate::lapack;
use crate::moments::ClassMoments;
use crate::oddities::Oddities;
use crate::simd::Element;

/// What is known of a sample's covariance with the divisor `n − 1`.
pub(crate) struct Covariance {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// `-inf` where the covariance is singular.
    pub(crate) log_det: f64,
    odd: Oddities,
    rank: usize,
}

impl Covariance {
    /// The estimate, marked if it is of a singular covariance; each mark once.
    pub(crate) fn flags(&self, estimate: Estimate) -> Estimate {
        let singular = self.log_det == f64::NEG_INFINITY;
        let deficient = Flag::RankDeficient { rank: self.rank, width: self.width };
        estimate
            .flag_once(singular, Flag::DegenerateSupport)
            .odd(&self.odd)
            .flag_once(singular, deficient)
    }

    /// `Var ln det S` of Gaussian rows.
    pub(crate) fn log_det_variance(&self) -> f64 {
        log_det_variance(self.width, self.rows as u64 - 1)
    }

    /// `½ ln det(2πe S)`.
    fn entropy(&self) -> f64 {
        isotropic_gaussian_nats(self.width, 1.0) + 0.5 * self.log_det
    }

    fn bound(&self) -> Estimate {
        let bound = Estimate::new(self.entropy(), Kind::Heuristic, self.rows as f64)
            .flag(true, Flag::PlugInOfUpperBound);
        self.flags(gaussian_error(bound, 0.25 * self.log_det_variance()))
    }
}

/// The log-determinant by standardised columns, so that scales do not matter.
///
/// # Errors
/// Those of [`Sample::of`], and [`Error::Factorisation`]. Inside: [`NotIdentifiable::TooFewRows`].
pub(crate) fn covariance<T: Element>(
    features: ArrayView2<'_, T>,
) -> Result<Result<Covariance, NotIdentifiable>, Error> {
    let sample = Sample::of(features)?;
    let (rows, width) = features.dim();
    if rows <= width {
        return Ok(Err(NotIdentifiable::TooFewRows {
            class: None,
            have: rows as u64,
            need: width as u64 + 1,
        }));
    }
    let correlation = sample.scatter(Some(&sample.unit_weights()));
    let eigenvalues = lapack::eigenvalues(&correlation, rows, width)?;
    let rank = lapack::rank(&eigenvalues, rows, width);
    let log_det = if rank < width {
        f64::NEG_INFINITY
    } else {
        let freedom = (rows - 1) as f64;
        let scales: f64 = sample.squares().iter().map(|squares| (squares / freedom).ln()).sum();
        scales + eigenvalues.iter().map(|value| value.ln()).sum::<f64>()
    };
    Ok(Ok(Covariance { rows, width, log_det, odd: sample.oddities(), rank }))
}

/// With the standard error that Gaussian rows would have, where the value is finite.
pub(crate) fn gaussian_error(estimate: Estimate, variance: f64) -> Estimate {
    if estimate.value.is_finite() && variance.is_finite() {
        estimate.std_err(variance.sqrt(), Uncertainty::GaussianFormula)
    } else {
        estimate
    }
}

/// Variance of `Σ_c N_c/N · v_c` where the classes' values vary by themselves, and the rows are drawn with their labels. For each class:
/// its share, what a row of it adds to the value, and the variance of its own value.
pub(crate) fn variance_over_classes(rows: f64, classes: &[(f64, f64, f64)]) -> f64 {
    let mean: f64 = classes.iter().map(|(share, value, _)| share * value).sum();
    let terms = classes.iter().map(|&(share, value, variance)| {
        share * share * variance + share * (value - mean).powi(2) / rows
    });
    terms.sum()
}

/// A class with its covariance, or why it has none.
type OfClass = (usize, Result<Covariance, NotIdentifiable>);

/// The covariance of each class that occurs, ascending, or why it has none.
///
/// # Errors
/// Those of [`covariance`] and of labels that do not fit.
pub(crate) fn each_class<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<Vec<OfClass>, Error> {
    let width = features.ncols();
    let batch = Batch::new(features, labels, classes, width)?;
    // All of them at once, so that a bad row is named by its place among all rows.
    batch.check_values()?;
    if batch.len() == 0 {
        return Err(Error::NoRows);
    }
    let of_class = |rows: &ClassRows| {
        let members = features.select(Axis(0), &batch.rows()[rows.range.clone()]);
        let found = covariance(members.view())?.map_err(|reason| match reason {
            NotIdentifiable::TooFewRows { have, need, .. } => {
                NotIdentifiable::TooFewRows { class: Some(rows.class), have, need }
            }
            other => other,
        });
        Ok((rows.class, found))
    };
    batch.present.iter().map(of_class).collect()
}

/// The covariance of each class that occurs, ascending; all of them or the first class's reason.
///
/// # Errors
/// Those of [`each_class`]. Inside: [`NotIdentifiable::TooFewRows`] of the first such class.
pub(crate) fn by_class<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<Result<Vec<(usize, Covariance)>, NotIdentifiable>, Error> {
    let each = each_class(features, labels, classes)?.into_iter();
    Ok(each.map(|(class, found)| found.map(|covariance| (class, covariance))).collect())
}

/// An estimate for each declared class, from its covariance.
pub(crate) fn of_each_class<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
    estimate: impl Fn(&Covariance) -> Estimate,
) -> Result<Vec<Estimated>, Error> {
    let empty = |class| Err(NotIdentifiable::EmptyClass { class });
    let mut answers: Vec<Estimated> = (0..classes).map(empty).collect();
    for (class, found) in each_class(features, labels, classes)? {
        answers[class] = found.map(|covariance| estimate(&covariance));
    }
    Ok(answers)
}

/// `½ ln det(2πe S)`, `S` the covariance of the rows with the divisor `n − 1`: the plug-in of the largest entropy that rows of
/// this covariance can have.
///
/// - `features`: `[n, d]`, `f32` or `f64`; computed in `f64` on standardised columns, so that scales do not matter
///
/// Tighter than the [isotropic](crate::entropy::isotropic_bound_nats) and the [diagonal](crate::gaussian::diagonal_bound_nats) bound, and
/// dearer: `8·d²` bytes and `d³` operations, and it asks for more rows than dimensions.
///
/// `-inf` and flagged where the covariance is singular. **Bias**: low by about `d(d + 1)/(4n)` nats;
/// [`entropy_corrected_nats`](crate::gaussian::entropy_corrected_nats) takes the exact bias of Gaussian rows away.
///
/// **Standard error**: half the root of [`log_det_variance`], exact for Gaussian rows and too small for heavier tails
/// ([`Uncertainty::GaussianFormula`]).
///
/// ```
/// use gpz_estimators::gaussian;
/// use ndarray::array;
///
/// let rows = array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]];
/// let bound = gaussian::full_bound_nats(rows.view())?.expect("four rows of two dimensions");
/// let variance = 1.0 / 3.0; // with the divisor n − 1
/// let two_pi_e = 2.0 * std::f64::consts::PI * std::f64::consts::E;
/// assert!((bound.value - (two_pi_e * variance).ln()).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::NonFinite`], [`Error::Magnitude`], [`Error::EmptyShape`], [`Error::NoRows`], [`Error::Factorisation`]. Inside:
/// [`NotIdentifiable::TooFewRows`] unless `n > d`, since the sample's covariance is singular then whatever the population's.
///
/// # Source
/// Maximum entropy under a given covariance: Cover and Thomas, Elements of Information Theory, theorem 8.6.5.
pub fn full_bound_nats<T: Element>(features: ArrayView2<'_, T>) -> Result<Estimated, Error> {
    Ok(covariance(features)?.map(|covariance| covariance.bound()))
}

/// `½ ln det(2πe S_c)` of each class by itself, `[classes]`, in nats: [`full_bound_nats`] of its rows.
///
/// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
///
/// Bias, standard error and failure as there, with the class's rows. A class without rows, or with no more than dimensions, is not
/// identifiable and does not keep the others from being so.
///
/// ```
/// use gpz_estimators::{NotIdentifiable, gaussian};
/// use ndarray::array;
///
/// let rows = array![[0.0], [1.0], [2.0], [50.0]];
/// let bounds = gaussian::class_full_bounds_nats(rows.view(), &[0, 0, 0, 2], 3)?;
/// let two_pi_e = 2.0 * std::f64::consts::PI * std::f64::consts::E;
/// assert!(bounds[0].as_ref().is_ok_and(|bound| (bound.value - 0.5 * two_pi_e.ln()).abs() < 1e-13));
/// assert_eq!(bounds[1], Err(NotIdentifiable::EmptyClass { class: 1 }));
/// assert_eq!(bounds[2], Err(NotIdentifiable::TooFewRows { class: Some(2), have: 1, need: 2 }));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// As [`full_bound_nats`], and [`Error::Width`], [`Error::LabelCount`], [`Error::LabelOutOfRange`], [`Error::NoRows`].
///
/// # Source
/// As [`full_bound_nats`], given the class.
pub fn class_full_bounds_nats<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<Vec<Estimated>, Error> {
    of_each_class(features, labels, classes, Covariance::bound)
}

/// `Σ_c N_c/N · ½ ln det(2πe S_c)`: the plug-in of an upper bound of `h(Z|Y)`, each class with its own covariance.
///
/// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
///
/// `-inf` as soon as one class has a singular covariance. **Bias**: low by about `K d(d + 1)/(4n)` nats for Gaussian classes;
/// [`class_conditional_corrected_nats`](crate::gaussian::class_conditional_corrected_nats) takes it away. **Standard error**: that of
/// Gaussian classes whose rows are drawn with their labels.
///
/// ```
/// use gpz_estimators::gaussian;
/// use ndarray::array;
///
/// let rows = array![[0.0], [1.0], [2.0], [50.0], [53.0], [56.0]]; // variances 1 and 9
/// let bound = gaussian::class_conditional_bound_nats(rows.view(), &[0, 0, 0, 1, 1, 1], 2)?.expect("three rows of each");
/// let two_pi_e = 2.0 * std::f64::consts::PI * std::f64::consts::E;
/// assert!((bound.value - 0.5 * (0.5 * two_pi_e.ln() + 0.5 * (9.0 * two_pi_e).ln())).abs() < 1e-13);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// As [`full_bound_nats`], given each class.
///
/// # Errors
/// As [`full_bound_nats`], and [`Error::Width`], [`Error::LabelCount`], [`Error::LabelOutOfRange`], [`Error::NoRows`]. Inside:
/// [`NotIdentifiable::TooFewRows`] names the first class with no more rows than dimensions.
pub fn class_conditional_bound_nats<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<Estimated, Error> {
    Ok(by_class(features, labels, classes)?.map(|parts| {
        let n = labels.len() as f64;
        let of = |part: &Covariance| {
            (part.rows as f64 / n, part.entropy(), 0.25 * part.log_det_variance())
        };
        let each: Vec<_> = parts.iter().map(|(_, part)| of(part)).collect();
        let value = each.iter().map(|(share, entropy, _)| share * entropy).sum();
        let estimate =
            Estimate::new(value, Kind::Heuristic, n).flag(true, Flag::PlugInOfUpperBound);
        let estimate = gaussian_error(estimate, variance_over_classes(n, &each));
        let empty = classes - parts.len();
        parts
            .iter()
            .fold(estimate, |estimate, (_, part)| part.flags(estimate))
            .flag(empty > 0, Flag::EmptyClasses(empty))
    }))
}

/// `h(Z) ≤ H(Y) + Σ_c p_c ½ ln det(2πe S_c)`, valid for the mixture of all classes, in nats; covariances with the divisor `N_c − 1`.
///
/// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
///
/// `-inf` as soon as one class has a singular covariance. **Bias** and **standard error** as [`class_conditional_bound_nats`], and low by
/// another `(K − 1)/(2n)` of the plug-in of `H(Y)`.
///
/// ```
/// use gpz_estimators::gaussian;
/// use ndarray::array;
///
/// let (rows, labels) = (array![[0.0], [1.0], [2.0], [50.0], [53.0], [56.0]], [0, 0, 0, 1, 1, 1]);
/// let mixture = gaussian::mixture_full_bound_nats(rows.view(), &labels, 2)?.expect("three rows of each");
/// let given = gaussian::class_conditional_bound_nats(rows.view(), &labels, 2)?.expect("three rows of each");
/// assert!((mixture.value - given.value - 2.0_f64.ln()).abs() < 1e-14); // H(Y) of two equal classes
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// As [`class_conditional_bound_nats`].
///
/// # Source
/// As [`mixture_diagonal_bound_nats`](crate::gaussian::mixture_diagonal_bound_nats).
pub fn mixture_full_bound_nats<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<Estimated, Error> {
    let parts = match by_class(features, labels, classes)? {
        Ok(parts) => parts,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut moments = ClassMoments::new(classes, 1)?;
    // Only the labels are counted: their entropy and the classes' shares.
    moments.update(ndarray::Array2::<f32>::zeros((labels.len(), 1)).view(), labels)?;
    let bound = |class: usize| {
        let part = parts.iter().find(|(of, _)| *of == class);
        part.map(|(_, part)| part.bound()).ok_or(NotIdentifiable::EmptyClass { class })
    };
    let n = labels.len() as f64;
    let of = |part: &Covariance| {
        let share = part.rows as f64 / n;
        (share, part.entropy() - share.ln(), 0.25 * part.log_det_variance())
    };
    let each: Vec<_> = parts.iter().map(|(_, part)| of(part)).collect();
    let variance = variance_over_classes(n, &each);
    Ok(mixture(&moments.geometry()?, bound).map(|bound| gaussian_error(bound, variance)))
}
