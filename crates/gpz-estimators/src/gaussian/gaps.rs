//! The three maximum-entropy bounds side by side.

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::deviations::{DeviationPass, Deviations};
use crate::entropy::{isotropic_gaussian_nats, mixture_without};
use crate::error::Error;
use crate::estimate::{Estimate, Estimated};
use crate::gaussian::{
    class_diagonal_bound_nats, diagonal_bound_nats, full_bound_nats, mixture_diagonal_bound_nats,
    mixture_full_bound_nats,
};
use crate::moments::ClassMoments;
use crate::simd::Element;

/// Isotropic, diagonal and full Gaussian bounds of `h(Z)` from the same moments, all with the divisor `N`, in nats.
///
/// With one divisor `isotropic ≥ diagonal ≥ full` holds for every sample. The first gap is what unequal variances cost, the second
/// what dimensions tell about one another, which is also the total correlation of a Gaussian with this covariance.
///
/// **Bias**: each is low, the full one by most, so the second gap is high: by about `d(d − 1)/(4n)` nats for independent Gaussian
/// dimensions. **Standard errors**: of the isotropic and the diagonal bound by the exact jackknife over rows, of the full one for Gaussian
/// rows. Those of the gaps are not theirs added: [`grouped_jackknife`](crate::grouped_jackknife) of a gap has it.
///
/// ```
/// use gpz_estimators::gaussian::MaximumEntropy;
/// use ndarray::array;
///
/// let rows = array![[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 5.0]];
/// let bounds = MaximumEntropy::of(rows.view())?;
/// assert!(bounds.isotropic_over_diagonal_nats().is_some_and(|gap| gap > 0.0));
/// assert!(bounds.diagonal_over_full_nats().is_some_and(|gap| gap > 0.0));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct MaximumEntropy {
    /// One variance for all dimensions.
    pub isotropic: Estimated,
    /// A variance for each dimension.
    pub diagonal: Estimated,
    /// The covariance; not identifiable unless there are more rows than dimensions, in each class where classes are given.
    pub full: Estimated,
}

impl MaximumEntropy {
    /// Bounds of all rows together.
    ///
    /// - `features`: `[n, d]`
    ///
    /// # Errors
    /// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`], [`Error::Factorisation`].
    pub fn of<T: Element>(features: ArrayView2<'_, T>) -> Result<Self, Error> {
        let mut moments = ClassMoments::new(1, features.ncols())?;
        moments.update(features, &vec![0; features.nrows()])?;
        let labels = vec![0; features.nrows()];
        let deviations = deviations(&moments, features, &labels)?;
        let full = full_bound_nats(features)?;
        let without = diagonal_without(&moments, features, &labels);
        Ok(Self {
            isotropic: Ok(deviations.isotropic_bound_nats()),
            diagonal: Ok(diagonal_bound_nats(deviations.geometry()).jackknifed(&without)),
            full: full.map(|full| divided_by_rows(full, features.ncols(), &[features.nrows()])),
        })
    }

    /// Bounds of the mixture of classes, `H(Y) + Σ_c p_c h_c`, each with its own moments.
    ///
    /// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
    ///
    /// # Errors
    /// As [`of`](Self::of), and [`Error::LabelCount`], [`Error::LabelOutOfRange`].
    pub fn of_classes<T: Element>(
        features: ArrayView2<'_, T>,
        labels: &[usize],
        classes: usize,
    ) -> Result<Self, Error> {
        let mut moments = ClassMoments::new(classes, features.ncols())?;
        moments.update(features, labels)?;
        let deviations = deviations(&moments, features, labels)?;
        let geometry = deviations.geometry();
        let counts: Vec<usize> = geometry.counts().iter().map(|&count| count as usize).collect();
        let full = mixture_full_bound_nats(features, labels, classes)?;
        Ok(Self {
            isotropic: deviations.mixture_bound_nats(),
            diagonal: mixture_diagonal_bound_nats(&moments)?.map(|bound| {
                let of_class = |class| {
                    class_diagonal_bound_nats(&moments, class).map_or(0.0, |bound| bound.value)
                };
                let left = diagonal_without(&moments, features, labels);
                let without = mixture_without(moments.counts(), labels, of_class, left.into_iter());
                bound.jackknifed(&without)
            }),
            full: full.map(|full| divided_by_rows(full, features.ncols(), &counts)),
        })
    }

    /// Isotropic less diagonal, in nats: `D/2` times the logarithm of arithmetic over geometric mean of the variances, never
    /// negative. Infinite where a dimension never changes; none where no dimension does.
    #[must_use]
    pub fn isotropic_over_diagonal_nats(&self) -> Option<f64> {
        gap(&self.isotropic, &self.diagonal)
    }

    /// Diagonal less full, in nats: `−½ ln det` of the correlation matrix, never negative. Infinite where the covariance is
    /// singular and no dimension is constant; none where the full bound is not identifiable or both are `-inf`.
    #[must_use]
    pub fn diagonal_over_full_nats(&self) -> Option<f64> {
        gap(&self.diagonal, &self.full)
    }
}

/// The squared distances of all rows.
fn deviations<T: Element>(
    moments: &ClassMoments,
    features: ArrayView2<'_, T>,
    labels: &[usize],
) -> Result<Deviations, Error> {
    let mut pass = DeviationPass::new(moments)?;
    pass.update(features, labels)?;
    pass.finish()
}

/// `Σ_j ½ ln(2πe σ_cj²)` of each row's class without that row, divisor `N_c − 1`.
fn diagonal_without<T: Element>(
    moments: &ClassMoments,
    features: ArrayView2<'_, T>,
    labels: &[usize],
) -> Vec<f64> {
    let of_row = |(row, &class): (usize, &usize)| {
        let n = moments.counts()[class] as f64;
        let mean = moments.mean_of(class).unwrap_or_default();
        let cells = features.row(row).into_iter().zip(mean).zip(moments.squares_of(class));
        let left = cells.map(|((value, mean), squares)| {
            squares - n / (n - 1.0) * (value.widen() - mean).powi(2)
        });
        left.map(|left| isotropic_gaussian_nats(1, left.max(0.0) / (n - 1.0))).sum()
    };
    labels.par_iter().enumerate().map(of_row).collect()
}

/// A bound with covariances divided by the number of rows instead of one less.
fn divided_by_rows(mut full: Estimate, width: usize, counts: &[usize]) -> Estimate {
    let n: usize = counts.iter().sum();
    for &count in counts.iter().filter(|&&count| count > 1) {
        let ratio = (count - 1) as f64 / count as f64;
        full.value += count as f64 / n as f64 * width as f64 / 2.0 * ratio.ln();
    }
    full
}

fn gap(above: &Estimated, below: &Estimated) -> Option<f64> {
    let gap = above.as_ref().ok()?.value - below.as_ref().ok()?.value;
    (!gap.is_nan()).then_some(gap)
}
