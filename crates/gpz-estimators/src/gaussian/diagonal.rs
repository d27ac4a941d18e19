//! Maximum-entropy bounds from the variance of each dimension.

use ndarray::Array1;

use crate::entropy::{isotropic_gaussian_nats, label_entropy_nats};
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::geometry::ClassGeometry;
use crate::moments::ClassMoments;
use crate::oddities::Oddities;

/// `h(Z) ≤ Σ_j ½ ln(2πe σ_j²)`, `σ_j²` the variance of dimension `j` with the divisor `N`, in nats.
///
/// Tighter than [`isotropic_bound_nats`](crate::entropy::isotropic_bound_nats) by half of `D` times the logarithm of the ratio of
/// the variances' arithmetic to their geometric mean. `-inf` if a dimension never changes: h(Z) is then `-inf` itself.
///
/// - `geometry`: of features of any width `D`; the value is in nats, of features in whatever units they are
///
/// **Bias**: low by about `D/N` nats for Gaussian rows. The divisor makes `E ln σ̂²` low by `1/N` and the logarithm by another `1/N`; half
/// of either counts, for each dimension. A plug-in of an upper bound, hence heuristic.
///
/// **No standard error**: sums of squares do not tell how they came about. From the rows,
/// `MaximumEntropy` (feature `lapack`) has it by the jackknife. Rows that repeat are not seen either.
///
/// ```
/// use gpz_estimators::{ClassMoments, gaussian};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(1, 2)?;
/// moments.update(array![[1.0, 3.0], [-1.0, -3.0]].view(), &[0, 0])?;
/// let bound = gaussian::diagonal_bound_nats(&moments.geometry()?);
/// let two_pi_e = 2.0 * std::f64::consts::PI * std::f64::consts::E;
/// assert!((bound.value - 0.5 * ((two_pi_e * 1.0).ln() + (two_pi_e * 9.0).ln())).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// Maximum entropy under given variances (Cover and Thomas, Elements of Information Theory, theorem 8.6.5, and Hadamard's inequality).
#[must_use]
pub fn diagonal_bound_nats(geometry: &ClassGeometry) -> Estimate {
    let moments = geometry.variance_per_dim();
    estimate(moments.iter(), geometry.rows()).odd(&Oddities::of_moments(geometry))
}

/// `h(Z|Y=c) ≤ Σ_j ½ ln(2πe σ_cj²)` of one class, with the divisor `N_c`, in nats.
///
/// - `moments`: `16·K·D` bytes hold what this reads; `class`: below `K`
///
/// `-inf` where a dimension never changes within the class; a class of one row has the formal value `-inf` and is flagged. Constant
/// dimensions and dead units are counted within the class.
///
/// **Bias**: low by about `D/N_c` nats for Gaussian rows, as [`diagonal_bound_nats`] with the rows of the class, which are few: at 30 rows
/// and 1,000 dimensions 33 nats. No standard error, for the reason given there.
///
/// ```
/// use gpz_estimators::{ClassMoments, gaussian};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(2, 2)?;
/// moments.update(array![[1.0, 3.0], [-1.0, -3.0], [7.0, 7.0]].view(), &[0, 0, 1])?;
/// let bound = gaussian::class_diagonal_bound_nats(&moments, 0).expect("two rows");
/// let two_pi_e = 2.0 * std::f64::consts::PI * std::f64::consts::E;
/// assert!((bound.value - 0.5 * (two_pi_e.ln() + (two_pi_e * 9.0).ln())).abs() < 1e-14); // variances 1 and 9
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`NotIdentifiable::EmptyClass`] for a class without rows or beyond the last.
///
/// # Source
/// As [`diagonal_bound_nats`], given the class.
pub fn class_diagonal_bound_nats(moments: &ClassMoments, class: usize) -> Estimated {
    let variance: Array1<f64> =
        moments.class_variance(class).ok_or(NotIdentifiable::EmptyClass { class })?;
    let count = moments.counts()[class];
    let means = moments.mean_of(class).unwrap_or_default();
    let dead = means.iter().zip(&variance).filter(|cell| *cell == (&0.0, &0.0)).count();
    Ok(estimate(variance.iter(), count)
        .flag(dead > 0, Flag::DeadUnits(dead))
        .flag(count == 1, Flag::SingletonClass))
}

/// `h(Z) ≤ H(Y) + Σ_c p_c Σ_j ½ ln(2πe σ_cj²)`, valid for the mixture of all classes, in nats.
///
/// From `h(Z) ≤ h(Z, Y) = H(Y) + h(Z|Y)`: tighter than [`diagonal_bound_nats`] where classes lie far apart, above it by at most `H(Y)`
/// elsewhere. `-inf` as soon as one dimension never changes within one class, as dead units do.
///
/// **Bias**: low by about `K·D/N` nats for Gaussian classes, the sum of the classes' shares in theirs, and by `(K − 1)/(2N)` of the plug-in
/// of `H(Y)`. No standard error, as for [`diagonal_bound_nats`].
///
/// ```
/// use gpz_estimators::{ClassMoments, gaussian};
/// use ndarray::array;
///
/// let mut moments = ClassMoments::new(2, 1)?;
/// moments.update(array![[1.0], [-1.0], [93.0], [87.0]].view(), &[0, 0, 1, 1])?;
/// let bound = gaussian::mixture_diagonal_bound_nats(&moments)?.expect("two rows of each class");
/// let two_pi_e = 2.0 * std::f64::consts::PI * std::f64::consts::E;
/// let classes = 0.5 * (0.5 * two_pi_e.ln() + 0.5 * (two_pi_e * 9.0).ln());
/// assert!((bound.value - 2.0_f64.ln() - classes).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoRows`]. Inside: [`NotIdentifiable::SingletonClasses`].
///
/// # Source
/// The chain rule of entropy: Cover and Thomas, chapter 8; the bound of a mixture by its classes as in arXiv 2506.15412.
pub fn mixture_diagonal_bound_nats(moments: &ClassMoments) -> Result<Estimated, Error> {
    let geometry = moments.geometry()?;
    Ok(mixture(&geometry, |class| class_diagonal_bound_nats(moments, class)))
}

/// `H(Y) + Σ_c p_c h_c` over the classes that occur, with the flags of all of them.
pub(crate) fn mixture(geometry: &ClassGeometry, bound: impl Fn(usize) -> Estimated) -> Estimated {
    let singletons = geometry.singleton_classes();
    if let Some(&first) = singletons.first() {
        return Err(NotIdentifiable::SingletonClasses { count: singletons.len(), first });
    }
    let n = geometry.rows() as f64;
    let mut all = Estimate::new(label_entropy_nats(geometry).value, Kind::Heuristic, n);
    for (class, &count) in geometry.counts().iter().enumerate().filter(|(_, count)| **count > 0) {
        let one = bound(class)?;
        all.value += count as f64 / n * one.value;
        for flag in one.flags {
            all = all.flag_once(true, flag);
        }
    }
    let empty = geometry.empty_classes().len();
    Ok(all.flag(empty > 0, Flag::EmptyClasses(empty)))
}

fn estimate<'v>(variances: impl Iterator<Item = &'v f64> + Clone, rows: u64) -> Estimate {
    let constant = variances.clone().filter(|&&variance| variance == 0.0).count();
    let value = variances.map(|&variance| isotropic_gaussian_nats(1, variance)).sum();
    Estimate::new(value, Kind::Heuristic, rows as f64)
        .flag(true, Flag::PlugInOfUpperBound)
        .flag(constant > 0, Flag::DegenerateSupport)
        .flag(constant > 0, Flag::ConstantDimensions(constant))
}
