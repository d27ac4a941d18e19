//! Neural collapse, NC1 to NC4, by a second pass over the features (feature `lapack`).
//!
//! With `K` classes that have rows, class means `μ_c`, their mean `μ_G` (each class alike) and centred means `m_c = μ_c − μ_G`:
//! `Σ_W = (1/N) Σ_i (z_i − μ_{y_i})(z_i − μ_{y_i})ᵀ` and `Σ_B = (1/K) Σ_c m_c m_cᵀ`.
//!
//! Neither is ever made. Everything follows from the `K × K` Gram matrix `G = MᵀM` of the centred means and from each row's products
//! with them: with `G = U Λ Uᵀ`, `tr(Σ_W Σ_B⁺) = (K/N) Σ_i ‖Λ⁻¹ Uᵀ Mᵀ(z_i − μ_{y_i})‖²`. Memory is the first pass's moments, `16·K²` bytes,
//! and blocks of a batch; one batch of `b` rows costs `b·K·D` multiply-adds.
//!
//! # Source
//! Papyan, Han and Donoho, Prevalence of neural collapse during the terminal phase of deep learning training, 2020.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use crate::batch::Batch;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable};
use crate::gram::{add_product, blocks, centred};
use crate::lapack;
use crate::moments::ClassMoments;
use crate::oddities::Oddities;
use crate::plan::{Needs, in_whole};
use crate::simd::Element;

/// Share by which the passes' sums of squares may differ, as in the pass of deviations.
const SAME_ROWS: f64 = 1e-3;

/// A linear classifier on top of the features, for NC3 and NC4: `logits = W z + b`.
#[derive(Debug, Clone, Copy)]
pub struct Classifier<'a> {
    /// `[classes, width]`
    pub weights: ArrayView2<'a, f64>,
    /// `[classes]`
    pub bias: ArrayView1<'a, f64>,
}

/// How far the features have collapsed, dimensionless; formulas and source: see the [module](self).
///
/// **Exact for the rows given**, and not of a population: class means of few rows scatter, which raises NC1's denominator (so NC1 is low)
/// and spoils NC2's lengths and angles (so those are high). **No standard error** for that reason; as estimates they have one by
/// [`grouped_jackknife`](crate::grouped_jackknife) over [`collapse`], as long as every group leaves rows of each class.
///
/// Columns that never change are flagged; rows that repeat are not seen by a pass in batches: [`RowReport`](crate::RowReport) counts them.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Collapse {
    /// NC1, `tr(Σ_W Σ_B⁺)/K`: variability within classes in the span of their means, per class. Zero when collapsed.
    pub nc1_trace: Estimated,
    /// NC2, standard deviation over mean of the lengths `‖m_c‖`. Zero when the means are equally long.
    pub nc2_equinorm: Estimated,
    /// NC2, mean over pairs of classes of `|cos(m_c, m_c′) + 1/(K − 1)|`. Zero for a simplex of means.
    pub nc2_equiangle: Estimated,
    /// NC2, standard deviation over pairs of `cos(m_c, m_c′)`. Zero when all angles are equal.
    pub nc2_angle_std: Estimated,
    /// NC3, `‖W/‖W‖ − M/‖M‖‖` in Frobenius norms, rows of `W` and `M` of the classes that have rows. Zero when each class's weights
    /// point along its mean. None without a classifier.
    pub nc3_self_duality: Option<Estimated>,
    /// NC4, share of rows for which the classifier decides for the class with the nearest mean. None without a classifier.
    pub nc4_agreement: Option<Estimated>,
    /// Share of rows whose nearest class mean is that of their label.
    pub nearest_mean_accuracy: Estimated,
    /// Classes with rows, `K`.
    pub classes: usize,
    /// Declared classes without a row; they take no part.
    pub empty_classes: Vec<usize>,
    /// Classes of one row. Their mean counts as any other, their deviation is zero by construction, which lowers NC1.
    pub singleton_classes: Vec<usize>,
}

/// Reads the rows of finished moments again, in any batches, and keeps a few sums per class.
///
/// ```
/// use gpz_estimators::ClassMoments;
/// use gpz_estimators::collapse::CollapsePass;
/// use ndarray::array;
///
/// let (features, labels) = (array![[1.0, 0.1], [1.0, -0.1], [-1.0, 0.1], [-1.0, -0.1]], [0, 0, 1, 1]);
/// let mut moments = ClassMoments::new(2, 2)?;
/// moments.update(features.view(), &labels)?;
/// let mut pass = CollapsePass::new(&moments, None)?;
/// pass.update(features.view(), &labels)?;
/// let collapse = pass.finish()?;
/// // All that varies within classes is orthogonal to the line of the means.
/// assert!(collapse.nc1_trace.expect("two classes").value < 1e-30);
/// assert_eq!(collapse.nearest_mean_accuracy.expect("two classes").value, 1.0);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CollapsePass<'a> {
    moments: &'a ClassMoments,
    classifier: Option<Classifier<'a>>,
    /// Classes with rows, ascending.
    present: Vec<usize>,
    /// Mean of the class means, `[width]`.
    centre: Vec<f64>,
    /// `[K, K]`
    gram: Array2<f64>,
    /// `[K, K]`: products with the centred means, to coordinates in which `Σ_B⁺` is `K` times the identity.
    whiten: Array2<f64>,
    rank: usize,
    sums: Sums,
}

/// What the rows add up to.
#[derive(Debug, Clone, PartialEq)]
struct Sums {
    /// `[classes]`
    counts: Vec<u64>,
    /// `[classes]`: `Σ ‖z_i − μ_c‖²`, to tell whether these are the first pass's rows.
    squares: Vec<f64>,
    /// `[classes]`: `Σ ‖Λ⁻¹ Uᵀ Mᵀ(z_i − μ_c)‖²`.
    spread: Vec<f64>,
    /// Rows for which classifier and nearest mean decide alike.
    agree: u64,
    /// Rows nearest to their own class's mean.
    nearest: u64,
}

impl<'a> CollapsePass<'a> {
    /// A second pass over the rows that made `moments`.
    ///
    /// # Errors
    /// [`Error::NoRows`]; [`Error::Shape`] unless the classifier has a row of weights and a bias for each declared class;
    /// [`Error::NonFinite`] for a classifier with NaN or an infinity, [`Error::Factorisation`].
    pub fn new(
        moments: &'a ClassMoments,
        classifier: Option<Classifier<'a>>,
    ) -> Result<Self, Error> {
        let (classes, width) = (moments.classes(), moments.width());
        let present: Vec<usize> =
            (0..classes).filter(|&class| moments.counts()[class] > 0).collect();
        if present.is_empty() {
            return Err(Error::NoRows);
        }
        if let Some(Classifier { weights, bias }) = classifier {
            let fits = |what, found: &[usize], expected: &[usize]| {
                let error =
                    || Error::Shape { what, found: found.to_vec(), expected: expected.to_vec() };
                (found == expected).then_some(()).ok_or_else(error)
            };
            fits("the classifier's weights", weights.shape(), &[classes, width])?;
            fits("the classifier's bias", bias.shape(), &[classes])?;
            crate::rows::checked(weights)?;
            crate::rows::checked(bias.insert_axis(Axis(0)))?;
        }
        let centre = centre(moments, &present);
        let gram = products(moments, &present, &centre);
        let k = present.len();
        let (values, vectors) = lapack::eigen(&gram, k, width)?;
        // Centring takes one dimension from the span of the means.
        let rank = lapack::rank(&values.to_vec(), k, width).min(k - 1);
        let mut whiten = vectors.t().to_owned();
        for (at, (mut row, value)) in whiten.rows_mut().into_iter().zip(&values).enumerate() {
            row *= if at + rank >= k { 1.0 / value } else { 0.0 };
        }
        let sums = Sums {
            counts: vec![0; classes],
            squares: vec![0.0; classes],
            spread: vec![0.0; classes],
            agree: 0,
            nearest: 0,
        };
        Ok(Self { moments, classifier, present, centre, gram, whiten, rank, sums })
    }

    /// Adds a batch, as [`ClassMoments::update`] does; batches may be cut differently from those of the first pass.
    ///
    /// # Errors
    /// Those of [`ClassMoments::update`], and [`Error::PassCounts`] for a row of a class that had none; the pass is then what it was
    /// before.
    pub fn update<T: Element>(
        &mut self,
        features: ArrayView2<'_, T>,
        labels: &[usize],
    ) -> Result<(), Error> {
        let (classes, width) = (self.moments.classes(), self.moments.width());
        let batch = Batch::new(features, labels, classes, width)?;
        batch.check_values()?;
        for rows in &batch.present {
            if self.moments.counts()[rows.class] == 0 {
                let second = rows.range.len() as u64;
                return Err(Error::PassCounts { class: rows.class, first: 0, second });
            }
        }
        let n = labels.len();
        let (mut to_means, mut logits) =
            (Array2::zeros((n, self.present.len())), Array2::zeros((n, classes)));
        let mut squares = vec![0.0; n];
        for columns in blocks(n + classes, width) {
            let rows =
                centred(features, 0..n, columns.clone(), |_| &self.centre[columns.clone()], None);
            let means = self.centred_means(columns.clone());
            add_product(&rows, &means, &mut to_means);
            if let Some(classifier) = self.classifier {
                let weights = classifier.weights.slice(s![.., columns.clone()]);
                add_product(&rows, &weights.as_standard_layout().to_owned(), &mut logits);
            }
            let own = |row: usize| {
                &self.moments.mean_of(labels[row]).unwrap_or(&self.centre)[columns.clone()]
            };
            let deviations = centred(features, 0..n, columns.clone(), own, None);
            for (sum, row) in squares.iter_mut().zip(deviations.rows()) {
                *sum += row.iter().map(|value| value * value).sum::<f64>();
            }
        }
        let offset = self.classifier.map(|Classifier { weights, bias }| {
            weights.dot(&ArrayView1::from(&self.centre)) + bias
        });
        let place: Vec<usize> = self.places();
        let lengths = self.gram.diag().to_owned();
        for (row, &label) in labels.iter().enumerate() {
            let products = to_means.row(row);
            let own = place[label];
            // ‖z − μ_c‖² but for what is the same for all classes.
            let nearest = first_largest((&products * 2.0 - &lengths).iter());
            self.sums.nearest += u64::from(nearest == own);
            if let Some(offset) = &offset {
                let decided = first_largest((&logits.row(row) + offset).iter());
                self.sums.agree += u64::from(decided == self.present[nearest]);
            }
            let deviation: Array1<f64> = &products - &self.gram.row(own);
            let spread = self.whiten.dot(&deviation).mapv(|value| value * value).sum();
            self.sums.counts[label] += 1;
            self.sums.squares[label] += squares[row];
            self.sums.spread[label] += spread;
        }
        Ok(())
    }

    /// Adds the rows of another pass over the same moments, as if they had been given here.
    ///
    /// # Errors
    /// [`Error::MergeShape`] if the moments differ in shape, [`Error::PassCounts`] if they differ in a class's rows, so that they are
    /// moments of other rows; the pass is then what it was before.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        let shape = |pass: &Self| (pass.moments.classes(), pass.moments.width());
        if shape(self) != shape(other) {
            let ((classes, width), (other_classes, other_width)) = (shape(self), shape(other));
            return Err(Error::MergeShape { classes, width, other_classes, other_width });
        }
        let counts = self.moments.counts().iter().zip(other.moments.counts()).enumerate();
        for (class, (&first, &second)) in counts {
            if first != second {
                return Err(Error::PassCounts { class, first, second });
            }
        }
        let Sums { counts, squares, spread, agree, nearest } = &mut self.sums;
        counts.iter_mut().zip(&other.sums.counts).for_each(|(a, b)| *a += b);
        squares.iter_mut().zip(&other.sums.squares).for_each(|(a, b)| *a += b);
        spread.iter_mut().zip(&other.sums.spread).for_each(|(a, b)| *a += b);
        *agree += other.sums.agree;
        *nearest += other.sums.nearest;
        Ok(())
    }

    /// The measures, once every row of the first pass has been seen.
    ///
    /// # Errors
    /// [`Error::PassCounts`] and [`Error::PassRows`] if these were not the rows of the first pass, to a thousandth of a class's
    /// sum of squares. Inside each measure: [`NotIdentifiable::TooFewClasses`] below two classes with rows,
    /// [`NotIdentifiable::Singular`] where all class means are equal.
    pub fn finish(self) -> Result<Collapse, Error> {
        self.check_rows()?;
        let geometry = self.moments.geometry()?;
        let (empty, singletons) = (geometry.empty_classes(), geometry.singleton_classes());
        let k = self.present.len();
        let n: u64 = self.sums.counts.iter().sum();
        let odd = Oddities::of_moments(&geometry);
        let few = self.present.iter().any(|&c| self.sums.counts[c] <= geometry.width() as u64);
        let estimate = |value: f64| {
            Estimate::new(value, Kind::Exact, n as f64)
                .odd(&odd)
                .flag(!empty.is_empty(), Flag::EmptyClasses(empty.len()))
                .flag(!singletons.is_empty(), Flag::SingletonClass)
                .flag(few, Flag::FewRowsPerClass)
        };
        let reason = if k < 2 {
            Some(NotIdentifiable::TooFewClasses { have: k })
        } else if self.rank == 0 {
            let mend = "all class means are equal, so no direction separates classes";
            Some(NotIdentifiable::Singular {
                what: "scatter between classes",
                rank: 0,
                width: k - 1,
                mend,
            })
        } else {
            None
        };
        let answer = |value: f64| match &reason {
            Some(reason) => Err(reason.clone()),
            None => Ok(estimate(value)),
        };
        let lengths: Vec<f64> = self.gram.diag().iter().map(|square| square.sqrt()).collect();
        let mut cosines = Vec::with_capacity(k * (k - 1) / 2);
        for i in 0..k {
            cosines.extend((0..i).map(|j| self.gram[[i, j]] / (lengths[i] * lengths[j])));
        }
        let ideal = -1.0 / (k as f64 - 1.0);
        let off = cosines.iter().map(|cosine| (cosine - ideal).abs()).sum::<f64>();
        let (mean_length, length_spread) = mean_and_spread(&lengths);
        let share = |count: u64| count as f64 / n as f64;
        let classifier = self.classifier.is_some();
        Ok(Collapse {
            nc1_trace: answer(self.sums.spread.iter().sum::<f64>() / n as f64),
            nc2_equinorm: answer(length_spread / mean_length),
            nc2_equiangle: answer(off / cosines.len() as f64),
            nc2_angle_std: answer(mean_and_spread(&cosines).1),
            nc3_self_duality: self.self_duality().map(answer),
            nc4_agreement: classifier.then(|| answer(share(self.sums.agree))),
            nearest_mean_accuracy: answer(share(self.sums.nearest)),
            classes: k,
            empty_classes: empty,
            singleton_classes: singletons,
        })
    }

    /// `‖W/‖W‖ − M/‖M‖‖` over the classes with rows.
    fn self_duality(&self) -> Option<f64> {
        let weights = self.classifier?.weights;
        let length = self.gram.diag().sum().sqrt();
        let own = weights.select(Axis(0), &self.present);
        let weights_length = own.iter().map(|value| value * value).sum::<f64>().sqrt();
        let mut sum = 0.0;
        for columns in blocks(self.present.len(), self.moments.width()) {
            let means = self.centred_means(columns.clone());
            let pairs = own.slice(s![.., columns]).into_iter().zip(&means);
            sum += pairs.map(|(w, m)| (w / weights_length - m / length).powi(2)).sum::<f64>();
        }
        Some(sum.sqrt())
    }

    fn centred_means(&self, columns: std::ops::Range<usize>) -> Array2<f64> {
        centred_means(self.moments, &self.present, &self.centre, columns)
    }

    /// Where a class stands among those present; those absent stand nowhere and have no row that asks.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.moments.classes()];
        self.present.iter().enumerate().for_each(|(at, &class)| places[class] = at);
        places
    }

    fn check_rows(&self) -> Result<(), Error> {
        let geometry = self.moments.geometry()?;
        for (class, &first) in self.moments.counts().iter().enumerate() {
            let second = self.sums.counts[class];
            if first != second {
                return Err(Error::PassCounts { class, first, second });
            }
            let (Some(first), Some(mean)) =
                (geometry.sum_of_squares(class), self.moments.mean_of(class))
            else {
                continue;
            };
            // A mean is known to its last bit only, so that rows equal to it are at a distance of rounding.
            let rounding: f64 = second as f64
                * mean.iter().map(|mean| (mean * 4.0 * f64::EPSILON).powi(2)).sum::<f64>();
            let second = self.sums.squares[class];
            if (second - first).abs() > SAME_ROWS * first + rounding {
                return Err(Error::PassRows { class, first, second });
            }
        }
        Ok(())
    }
}

/// All measures of features that are at hand at once.
///
/// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`; `classifier`: for NC3 and NC4
///
/// Its memory is that of [`Needs::of_collapse`] with batches of 1,024 rows; [`collapse_within`] keeps to a budget.
///
/// ```
/// use gpz_estimators::collapse::{Classifier, collapse};
/// use ndarray::array;
///
/// // Two classes on two opposite points, and a classifier that points at them.
/// let (features, labels) = (array![[2.0, 0.0], [2.0, 0.0], [-2.0, 0.0], [-2.0, 0.0]], [0, 0, 1, 1]);
/// let (weights, bias) = (array![[1.0, 0.0], [-1.0, 0.0]], array![0.0, 0.0]);
/// let classifier = Classifier { weights: weights.view(), bias: bias.view() };
/// let found = collapse(features.view(), &labels, 2, Some(classifier))?;
/// assert_eq!(found.nc1_trace.expect("two classes").value, 0.0);
/// assert_eq!(found.nc2_equiangle.expect("two classes").value, 0.0);
/// assert!(found.nc3_self_duality.is_some_and(|nc3| nc3.is_ok_and(|nc3| nc3.value < 1e-15)));
/// assert!(found.nc4_agreement.is_some_and(|nc4| nc4.is_ok_and(|nc4| nc4.value == 1.0)));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// Those of [`ClassMoments::new`], [`ClassMoments::update`] and [`CollapsePass::new`].
pub fn collapse<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
    classifier: Option<Classifier<'_>>,
) -> Result<Collapse, Error> {
    in_batches(features, labels, classes, classifier, MOST_ROWS)
}

/// [`collapse`] in batches of so many rows that all of its memory, beside the features and the classifier, fits a budget.
///
/// - `budget`: in bytes. The measures do not depend on it, but for rounding
///
/// # Errors
/// Those of [`collapse`], and [`Error::Budget`] if not even batches of one row fit: the moments and the classes' products are held
/// whole.
pub fn collapse_within<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
    classifier: Option<Classifier<'_>>,
    budget: u128,
) -> Result<Collapse, Error> {
    let needs =
        |rows: usize| Needs::of_collapse(classes, features.ncols(), rows, classifier.is_some());
    // Bytes grow with the rows of a batch, so halving finds one that fits.
    let mut rows = MOST_ROWS.min(features.nrows().max(1));
    while rows > 1 && needs(rows)?.bytes() > budget {
        rows /= 2;
    }
    needs(rows)?.within(budget)?;
    in_batches(features, labels, classes, classifier, rows)
}

/// Rows whose products with all means are held at once, at most.
const MOST_ROWS: usize = 1024;

fn in_batches<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
    classifier: Option<Classifier<'_>>,
    rows: usize,
) -> Result<Collapse, Error> {
    if labels.len() != features.nrows() {
        return Err(Error::LabelCount { rows: features.nrows(), labels: labels.len() });
    }
    let batches = || features.axis_chunks_iter(Axis(0), rows).zip(labels.chunks(rows)).enumerate();
    let mut moments = ClassMoments::new(classes, features.ncols())?;
    for (at, (features, labels)) in batches() {
        moments.update(features, labels).map_err(|error| in_whole(error, at * rows, 0))?;
    }
    // Views do not shorten their lifetimes by themselves.
    let classifier = classifier.map(|Classifier { weights, bias }| Classifier {
        weights: weights.reborrow(),
        bias: bias.reborrow(),
    });
    let mut pass = CollapsePass::new(&moments, classifier)?;
    for (_, (features, labels)) in batches() {
        pass.update(features, labels)?;
    }
    pass.finish()
}

/// Mean of the class means, about the first so that a common offset costs no digits.
fn centre(moments: &ClassMoments, present: &[usize]) -> Vec<f64> {
    let first = moments.mean_of(present[0]).unwrap_or_default();
    let mut shift = vec![0.0; first.len()];
    for mean in present.iter().filter_map(|&class| moments.mean_of(class)) {
        let cells = shift.iter_mut().zip(mean).zip(first);
        cells.for_each(|((shift, mean), first)| *shift += (mean - first) / present.len() as f64);
    }
    shift.iter().zip(first).map(|(shift, first)| first + shift).collect()
}

/// `m_c` of the classes present, for some columns.
fn centred_means(
    moments: &ClassMoments,
    present: &[usize],
    centre: &[f64],
    columns: std::ops::Range<usize>,
) -> Array2<f64> {
    let mut means = Array2::zeros((present.len(), columns.len()));
    for (mut out, &class) in means.rows_mut().into_iter().zip(present) {
        let mean = &moments.mean_of(class).unwrap_or(centre)[columns.clone()];
        let cells = out.iter_mut().zip(mean).zip(&centre[columns.clone()]);
        cells.for_each(|((out, mean), centre)| *out = mean - centre);
    }
    means
}

/// `G`, `[K, K]`.
fn products(moments: &ClassMoments, present: &[usize], centre: &[f64]) -> Array2<f64> {
    let mut gram = Array2::zeros((present.len(), present.len()));
    for columns in blocks(present.len(), centre.len()) {
        let means = centred_means(moments, present, centre, columns);
        add_product(&means, &means, &mut gram);
    }
    gram
}

/// Place of the largest value, the first of equals.
fn first_largest<'v>(values: impl Iterator<Item = &'v f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (at, &value) in values.enumerate() {
        if value > best.1 {
            best = (at, value);
        }
    }
    best.0
}

/// Mean, and standard deviation with the divisor `n`.
fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt())
}
