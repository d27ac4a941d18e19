//! The second pass: each image's squared distance to its class mean and to the mean of all.

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::batch::Batch;
use crate::error::Error;
use crate::geometry::ClassGeometry;
use crate::moments::ClassMoments;
use crate::simd::Element;

/// Rows of a piece of work.
const SHARD_ROWS: usize = 64;
/// Share by which the two passes' sums of squares may differ: forward passes need not repeat to the last bit on every device,
/// while another mode of the network or other images differ by far more.
const SAME_ROWS: f64 = 1e-3;

/// Reads the rows of finished moments again, in any batches, and keeps two numbers per image.
///
/// ```
/// use gpz_estimators::{ClassMoments, DeviationPass, Normalisation};
/// use ndarray::array;
///
/// let (features, labels) = (array![[0.0], [1.0], [5.0], [4.0], [6.0], [9.0]], [0, 0, 0, 1, 1, 1]);
/// let mut moments = ClassMoments::new(2, 1)?;
/// moments.update(features.view(), &labels)?;
/// let mut pass = DeviationPass::new(&moments)?;
/// pass.update(features.view(), &labels)?;
/// let radius = pass.finish()?.mean_radius_sq(Normalisation::Unbiased, 0.95)?.expect("three rows in each class");
/// assert!(radius.low < radius.value && radius.value < radius.high);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DeviationPass<'a> {
    moments: &'a ClassMoments,
    geometry: ClassGeometry,
    labels: Vec<usize>,
    distances: Vec<[f64; 2]>,
}

/// Squared distances of every image, in the order in which the second pass saw them.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviations {
    pub(crate) geometry: ClassGeometry,
    /// `[n]`
    pub(crate) labels: Vec<usize>,
    /// `[n]`: to the class mean, to the global mean.
    pub(crate) distances: Vec<[f64; 2]>,
}

impl<'a> DeviationPass<'a> {
    /// A second pass over the rows that made `moments`.
    ///
    /// # Errors
    /// [`Error::NoRows`] if the moments are empty.
    pub fn new(moments: &'a ClassMoments) -> Result<Self, Error> {
        Ok(Self {
            moments,
            geometry: moments.geometry()?,
            labels: Vec::new(),
            distances: Vec::new(),
        })
    }

    /// Adds a batch, as [`ClassMoments::update`] does; batches may be cut differently from those of the first pass.
    ///
    /// # Errors
    /// Those of [`ClassMoments::update`]; the pass is then what it was before.
    pub fn update<T: Element>(
        &mut self,
        features: ArrayView2<'_, T>,
        labels: &[usize],
    ) -> Result<(), Error> {
        let batch = Batch::new(features, labels, self.moments.classes(), self.moments.width())?;
        if T::CAN_OVERFLOW {
            batch.check_values()?;
        }
        let (moments, global) = (self.moments, self.geometry.mean_slice());
        let shards: Vec<_> = batch
            .present
            .iter()
            .flat_map(|rows| {
                let range = rows.range.clone();
                let class_mean = moments.mean_of(rows.class).unwrap_or(global);
                range
                    .clone()
                    .step_by(SHARD_ROWS)
                    .map(move |from| (class_mean, from..(from + SHARD_ROWS).min(range.end)))
            })
            .collect();
        let sums: Vec<Vec<[f64; 2]>> = shards
            .par_iter()
            .map(|(class_mean, shard)| {
                let mut out = vec![[0.0; 2]; shard.len()];
                batch.distances(moments.isa(), shard.clone(), class_mean, global, &mut out);
                out
            })
            .collect();
        if sums.iter().flatten().flatten().any(|distance| !distance.is_finite()) {
            batch.check_values()?;
        }
        let start = self.distances.len();
        self.distances.resize(start + batch.len(), [0.0; 2]);
        for (&row, distance) in batch.rows().iter().zip(sums.into_iter().flatten()) {
            self.distances[start + row] = distance;
        }
        self.labels.extend_from_slice(labels);
        Ok(())
    }

    /// Adds images whose distances were computed elsewhere, as a device does.
    ///
    /// - `distances`: squared distance of each image to its class mean ([`ClassMoments::class_mean`]) and to the mean of all
    ///   ([`DeviationPass::global_mean`])
    ///
    /// # Errors
    /// [`Error::LabelCount`] if there is not one label for each; [`Error::LabelOutOfRange`]; [`Error::Distance`] for the first that is no
    /// squared distance. The pass is then what it was before.
    pub fn update_distances(
        &mut self,
        distances: &[[f64; 2]],
        labels: &[usize],
    ) -> Result<(), Error> {
        if labels.len() != distances.len() {
            return Err(Error::LabelCount { rows: distances.len(), labels: labels.len() });
        }
        let classes = self.moments.classes();
        if let Some(row) = labels.iter().position(|&label| label >= classes) {
            return Err(Error::LabelOutOfRange { row, label: labels[row], classes });
        }
        for (row, distance) in distances.iter().enumerate() {
            if let Some(&value) =
                distance.iter().find(|value| !(value.is_finite() && **value >= 0.0))
            {
                return Err(Error::Distance { row, value });
            }
        }
        self.distances.extend_from_slice(distances);
        self.labels.extend_from_slice(labels);
        Ok(())
    }

    /// The mean of all rows, `[width]`.
    #[must_use]
    pub fn global_mean(&self) -> &[f64] {
        self.geometry.mean_slice()
    }

    /// The moments whose means the distances are taken to.
    #[must_use]
    pub fn moments(&self) -> &ClassMoments {
        self.moments
    }

    /// Adds the images of another pass over the same moments behind those seen here, as if they had been given here.
    ///
    /// # Errors
    /// [`Error::MergeShape`] if the moments differ in shape, [`Error::PassCounts`] if they differ in a class's rows, so that they are
    /// moments of other rows; the pass is then what it was before.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        let shape = |pass: &Self| (pass.moments.classes(), pass.moments.width());
        if shape(self) != shape(&other) {
            let ((classes, width), (other_classes, other_width)) = (shape(self), shape(&other));
            return Err(Error::MergeShape { classes, width, other_classes, other_width });
        }
        let counts = self.moments.counts().iter().zip(other.moments.counts()).enumerate();
        for (class, (&first, &second)) in counts {
            if first != second {
                return Err(Error::PassCounts { class, first, second });
            }
        }
        self.labels.extend(other.labels);
        self.distances.extend(other.distances);
        Ok(())
    }

    /// The distances of all images, once every row of the first pass has been seen.
    ///
    /// # Errors
    /// [`Error::PassCounts`] if a class had another number of rows in the first pass; [`Error::PassRows`] if its distances do
    /// not add up to the first pass's sum of squares (by more than a thousandth), so that these are other rows.
    pub fn finish(self) -> Result<Deviations, Error> {
        let mut counts = vec![0_u64; self.moments.classes()];
        let mut sums = vec![0.0; self.moments.classes()];
        for (&label, distance) in self.labels.iter().zip(&self.distances) {
            counts[label] += 1;
            sums[label] += distance[0];
        }
        for (class, (&first, second)) in self.moments.counts().iter().zip(counts).enumerate() {
            if first != second {
                return Err(Error::PassCounts { class, first, second });
            }
            let (Some(first), Some(mean)) =
                (self.geometry.sum_of_squares(class), self.moments.mean_of(class))
            else {
                continue;
            };
            // A mean is known to its last bit only, so that rows equal to it are at a distance of rounding.
            let rounding: f64 = second as f64
                * mean.iter().map(|mean| (mean * 4.0 * f64::EPSILON).powi(2)).sum::<f64>();
            let same = (sums[class] - first).abs() <= SAME_ROWS * first + rounding;
            if !same {
                return Err(Error::PassRows { class, first, second: sums[class] });
            }
        }
        Ok(Deviations { geometry: self.geometry, labels: self.labels, distances: self.distances })
    }
}

impl Deviations {
    /// Images, in the order of the second pass.
    #[must_use]
    pub fn images(&self) -> usize {
        self.labels.len()
    }

    /// The geometry of the first pass.
    #[must_use]
    pub fn geometry(&self) -> &ClassGeometry {
        &self.geometry
    }

    /// Class of each image, `[n]`.
    #[must_use]
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// `‖z_i − μ_{y_i}‖²` of each image, `[n]`, in squared feature units.
    pub fn to_class_mean(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.distances.iter().map(|distance| distance[0])
    }

    /// `‖z_i − μ‖²` of each image, `[n]`, in squared feature units.
    pub fn to_global_mean(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.distances.iter().map(|distance| distance[1])
    }

    /// Each image's share in the unbiased variances, for resampling over images with the same weights at every split.
    #[must_use]
    pub fn contributions(&self) -> ImageContributions {
        let n = self.geometry.rows() as f64;
        let images = self.labels.iter().zip(&self.distances).map(|(&class, distance)| {
            let count = self.geometry.counts()[class] as f64;
            ImageContribution {
                class,
                within: (count >= 2.0).then(|| count / (count - 1.0) * distance[0]),
                total: if n >= 2.0 { n / (n - 1.0) * distance[1] } else { 0.0 },
            }
        });
        ImageContributions { images: images.collect() }
    }
}

/// What one image adds to the unbiased variances; their means over the images are those variances.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ImageContribution {
    /// The image's class.
    pub class: usize,
    /// `a_i = N_c/(N_c − 1) ‖z_i − μ_c‖²`; none for the image of a class of one, which has no radius.
    pub within: Option<f64>,
    /// `t_i = N/(N − 1) ‖z_i − μ‖²`.
    pub total: f64,
}

/// Contributions of all images, in the order of the second pass.
///
/// Resampling draws weights `w_i` for the images once and evaluates every split with the same weights, so that splits are
/// compared in pairs. The means stay where they are: the statistic is linearised at the sample, hence centred on the unbiased
/// value. A percentile bootstrap of the plug-in is not: every resample repeats rows, which lowers its radius again by about
/// `1/N_c`, and where the width exceeds `N_c` by far that shift is many times the spread.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageContributions {
    images: Vec<ImageContribution>,
}

impl ImageContributions {
    /// The images.
    #[must_use]
    pub fn images(&self) -> &[ImageContribution] {
        &self.images
    }

    /// Unbiased within-class variance under weights, `Σ w_i a_i / Σ w_i` over the images that have an `a_i`; `None` where
    /// those weigh nothing.
    ///
    /// # Errors
    /// [`Error::WeightCount`] unless there is one weight per image.
    pub fn within(&self, weights: &[f64]) -> Result<Option<f64>, Error> {
        self.weighted(weights, |image| image.within)
    }

    /// Unbiased total variance under weights, `Σ w_i t_i / Σ w_i`; `None` where the images weigh nothing.
    ///
    /// # Errors
    /// [`Error::WeightCount`] unless there is one weight per image.
    pub fn total(&self, weights: &[f64]) -> Result<Option<f64>, Error> {
        self.weighted(weights, |image| Some(image.total))
    }

    /// Within over total, both unbiased, under weights; `None` where either is undefined or the total is zero.
    ///
    /// # Errors
    /// [`Error::WeightCount`] unless there is one weight per image.
    pub fn within_over_total(&self, weights: &[f64]) -> Result<Option<f64>, Error> {
        let (within, total) = (self.within(weights)?, self.total(weights)?);
        Ok(within
            .zip(total)
            .filter(|&(_, total)| total > 0.0)
            .map(|(within, total)| within / total))
    }

    fn weighted(
        &self,
        weights: &[f64],
        value: impl Fn(&ImageContribution) -> Option<f64>,
    ) -> Result<Option<f64>, Error> {
        if weights.len() != self.images.len() {
            return Err(Error::WeightCount { images: self.images.len(), weights: weights.len() });
        }
        let (mut sum, mut weight) = (0.0, 0.0);
        for (image, w) in self.images.iter().zip(weights) {
            if let Some(value) = value(image) {
                sum += w * value;
                weight += w;
            }
        }
        Ok((weight > 0.0).then(|| sum / weight))
    }
}
