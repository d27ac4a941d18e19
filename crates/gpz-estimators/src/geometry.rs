//! What follows from finished class moments: radii and the parts of the variance.

use ndarray::ArrayView1;
use rayon::prelude::*;

use crate::error::Error;
use crate::moments::ClassMoments;

/// Columns of a piece of work.
pub(crate) const BLOCK_COLUMNS: usize = 512;

/// Which divisor a mean of squared deviations has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// `1/N`: the sample's own mean. Its expectation is `(N − 1)/N` times the population's, which is 3 % low at 30 rows.
    PlugIn,
    /// `1/(N − 1)`: its expectation is the population's.
    Unbiased,
}

/// Radii of the classes and the parts of the variance, in squared feature units.
///
/// `total = within + between` holds with the divisor `N` (law of total variance). Radii of splits of different width are
/// comparable only per dimension or as [`within_over_total`](Self::within_over_total), which no rescaling changes.
///
/// A class without rows has no radius; neither has a class of one, whose squared deviation is zero by construction.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassGeometry {
    counts: Vec<u64>,
    /// `[classes]`
    sums_of_squares: Vec<f64>,
    /// `[width]`
    mean: Vec<f64>,
    /// `[width]`, divisor N.
    variance: Vec<f64>,
    /// Σ_c N_c ‖μ_c − μ‖².
    between: f64,
}

/// What one block of columns contributes.
struct Block {
    mean: Vec<f64>,
    /// Sums of squares about the global mean.
    squares: Vec<f64>,
    /// `[classes]`
    within: Vec<f64>,
    between: f64,
}

/// A sum in eight lanes: a fixed order that vectors can follow.
fn sum(values: &[f64]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in eights {
        lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}

impl ClassGeometry {
    pub(crate) fn of(moments: &ClassMoments) -> Result<Self, Error> {
        let counts = moments.counts().to_vec();
        let n = moments.rows() as f64;
        let members: Vec<(usize, &[f64])> =
            (0..counts.len()).filter_map(|class| Some((class, moments.mean_of(class)?))).collect();
        let Some(&(_, reference)) = members.first() else {
            return Err(Error::NoRows);
        };
        let width = moments.width();
        let blocks: Vec<_> = (0..width)
            .step_by(BLOCK_COLUMNS)
            .map(|from| from..(from + BLOCK_COLUMNS).min(width))
            .collect();
        let blocks: Vec<Block> = blocks
            .into_par_iter()
            .map(|columns| {
                // About the first class's mean, so that an offset common to all classes costs no digits.
                let reference = &reference[columns.clone()];
                let mut shift = vec![0.0; columns.len()];
                for &(class, mean) in &members {
                    let share = counts[class] as f64 / n;
                    let cells = shift.iter_mut().zip(&mean[columns.clone()]).zip(reference);
                    cells.for_each(|((shift, mean), reference)| {
                        *shift += share * (mean - reference)
                    });
                }
                let mean: Vec<f64> = shift
                    .iter()
                    .zip(reference)
                    .map(|(shift, reference)| reference + shift)
                    .collect();
                let mut block = Block {
                    squares: vec![0.0; mean.len()],
                    within: vec![0.0; counts.len()],
                    between: 0.0,
                    mean,
                };
                let mut moved = vec![0.0; shift.len()];
                for &(class, class_mean) in &members {
                    let count = counts[class] as f64;
                    let means = class_mean[columns.clone()].iter().zip(reference).zip(&shift);
                    for (moved, ((class_mean, reference), shift)) in moved.iter_mut().zip(means) {
                        let step = (class_mean - reference) - shift;
                        *moved = count * step * step;
                    }
                    let squares = &moments.squares_of(class)[columns.clone()];
                    let cells = block.squares.iter_mut().zip(squares).zip(&moved);
                    cells.for_each(|((total, squares), moved)| *total += squares + moved);
                    block.within[class] = sum(squares);
                    block.between += sum(&moved);
                }
                block
            })
            .collect();
        let mut geometry = Self {
            sums_of_squares: vec![0.0; counts.len()],
            counts,
            mean: Vec::with_capacity(moments.width()),
            variance: Vec::with_capacity(moments.width()),
            between: 0.0,
        };
        for block in blocks {
            geometry.mean.extend(&block.mean);
            geometry.variance.extend(block.squares.iter().map(|squares| squares / n));
            geometry
                .sums_of_squares
                .iter_mut()
                .zip(&block.within)
                .for_each(|(sum, part)| *sum += part);
            geometry.between += block.between;
        }
        Ok(geometry)
    }

    /// This geometry with the columns of another behind its own: moments of the same rows, made of blocks of columns.
    ///
    /// Radii and variances add over columns. Rows are the same if they were given with the same labels; only the counts can tell.
    ///
    /// # Errors
    /// [`Error::MergeShape`] if the numbers of classes differ, [`Error::PassCounts`] if a class has another number of rows.
    pub fn join(mut self, other: &Self) -> Result<Self, Error> {
        if self.classes() != other.classes() {
            return Err(Error::MergeShape {
                classes: self.classes(),
                width: self.width(),
                other_classes: other.classes(),
                other_width: other.width(),
            });
        }
        for (class, (&first, &second)) in self.counts.iter().zip(&other.counts).enumerate() {
            if first != second {
                return Err(Error::PassCounts { class, first, second });
            }
        }
        let sums = self.sums_of_squares.iter_mut().zip(&other.sums_of_squares);
        sums.for_each(|(sum, other)| *sum += other);
        self.mean.extend_from_slice(&other.mean);
        self.variance.extend_from_slice(&other.variance);
        self.between += other.between;
        Ok(self)
    }

    /// Number of classes declared, with and without rows.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// Width of a feature.
    #[must_use]
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// Rows over all classes, at least 1.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Rows of each class, `[classes]`.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Declared classes without a row, ascending.
    #[must_use]
    pub fn empty_classes(&self) -> Vec<usize> {
        self.classes_where(|count| count == 0)
    }

    /// Classes of one row, ascending: they count in every variance, but have no radius.
    #[must_use]
    pub fn singleton_classes(&self) -> Vec<usize> {
        self.classes_where(|count| count == 1)
    }

    /// Dimensions that never change over all rows, ascending.
    #[must_use]
    pub fn constant_dimensions(&self) -> Vec<usize> {
        (0..self.width()).filter(|&j| self.variance[j] == 0.0).collect()
    }

    /// `Σ_{i: y_i = c} ‖z_i − μ_c‖²`; zero for a class of one, `None` for a class without rows or beyond the last.
    #[must_use]
    pub fn sum_of_squares(&self, class: usize) -> Option<f64> {
        self.counts.get(class).filter(|&&count| count > 0)?;
        Some(self.sums_of_squares[class])
    }

    /// R_c², the mean squared distance of a class's rows to their mean: `(1/N_c) Σ ‖z_i − μ_c‖²`, or with `N_c − 1`.
    ///
    /// `None` for a class of fewer than two rows.
    ///
    /// # Source
    /// arXiv 2506.15412, intra-class mean-squared radius.
    #[must_use]
    pub fn radius_sq(&self, class: usize, normalisation: Normalisation) -> Option<f64> {
        let count = *self.counts.get(class).filter(|&&count| count >= 2)? as f64;
        Some(match normalisation {
            Normalisation::PlugIn => self.sums_of_squares[class] / count,
            Normalisation::Unbiased => self.sums_of_squares[class] / (count - 1.0),
        })
    }

    /// R_c² averaged, each class alike, over the classes that have a radius; `None` if none has.
    #[must_use]
    pub fn mean_radius_sq(&self, normalisation: Normalisation) -> Option<f64> {
        let radii: Vec<f64> =
            (0..self.classes()).filter_map(|class| self.radius_sq(class, normalisation)).collect();
        (!radii.is_empty()).then(|| radii.iter().sum::<f64>() / radii.len() as f64)
    }

    /// [`mean_radius_sq`](Self::mean_radius_sq) per dimension of the feature.
    #[must_use]
    pub fn mean_radius_sq_per_dim(&self, normalisation: Normalisation) -> Option<f64> {
        Some(self.mean_radius_sq(normalisation)? / self.width() as f64)
    }

    /// Within-class variance, `(1/N) Σ_c Σ_{i: y_i = c} ‖z_i − μ_c‖²`.
    #[must_use]
    pub fn within(&self) -> f64 {
        self.sums_of_squares.iter().sum::<f64>() / self.rows() as f64
    }

    /// Between-class variance, `(1/N) Σ_c N_c ‖μ_c − μ‖²`, summed directly and not as a difference.
    #[must_use]
    pub fn between(&self) -> f64 {
        self.between / self.rows() as f64
    }

    /// Trace of the total covariance with the divisor `N`: within plus between.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.within() + self.between()
    }

    /// Share of the variance that lies within classes, in `[0, 1]`; `None` where nothing varies at all.
    #[must_use]
    pub fn within_over_total(&self) -> Option<f64> {
        let total = self.total();
        (total > 0.0).then(|| self.within() / total)
    }

    /// σ², the mean variance of a dimension: trace over width, divisor `N`.
    #[must_use]
    pub fn mean_variance(&self) -> f64 {
        self.total() / self.width() as f64
    }

    /// Mean over all rows, `[width]`.
    #[must_use]
    pub fn mean(&self) -> ArrayView1<'_, f64> {
        ArrayView1::from(&self.mean)
    }

    /// Variance of each dimension over all rows, `[width]`, divisor `N`.
    #[must_use]
    pub fn variance_per_dim(&self) -> ArrayView1<'_, f64> {
        ArrayView1::from(&self.variance)
    }

    pub(crate) fn mean_slice(&self) -> &[f64] {
        &self.mean
    }

    fn classes_where(&self, holds: impl Fn(u64) -> bool) -> Vec<usize> {
        (0..self.classes()).filter(|&class| holds(self.counts[class])).collect()
    }
}
