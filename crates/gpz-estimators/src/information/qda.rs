//! Information of features about labels from cross-fitted Gaussian classes (feature `lapack`). In nats.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::batch::Batch;
use crate::entropy::label_entropy_nats;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, Uncertainty};
use crate::gram::Sample;
use crate::lapack;
use crate::moments::ClassMoments;
use crate::oddities::Oddities;
use crate::simd::Element;

/// `H(Y) + (1/N) Σ_i ln q(y_i|z_i)`, each row under the classes fitted on the half it is not in, in nats.
///
/// - `features`: `[n, d]`; `labels`: `n` class indices below `classes`
///
/// Rows of even and odd place are the two halves. Each class `c` of a half is Gaussian with its mean, its covariance of divisor
/// `N_c − 1` and its share `π_c`, which give `q(y|z)` by Bayes' rule: quadratic discriminant analysis. `H(Y)` is that of all labels. The
/// order of rows must not follow parity.
///
/// **Direction.** For any fixed model `H(Y) + E ln q(y|z) ≤ I(Z;Y)`, because what is lacking is `E KL(p(y|z) ‖ q(y|z))`. Rows are scored by
/// a model that has not seen them and the plug-in of `H(Y)` is low on average, so this holds in expectation, whatever the law of the
/// features: [`Kind::Lower`] with [`Flag::InExpectation`], as the mean over a sample scatters about that expectation and may come to lie
/// above the truth by its standard error. It is low by about the model's parameters over `N`,
/// `K d(d + 3)/(2N)`, for Gaussian classes, and by what other laws lack of being Gaussian. Not clipped: independent labels come out
/// below zero. Rows that repeat may stand in both halves, so that a model has seen what it is scored on: flagged as
/// [`Flag::DuplicateRows`].
///
/// The standard error is the spread of the terms `ln q(y_i|z_i) − ln p_{y_i}` over `√N`; it leaves out that rows of a half share their
/// model. The ceiling is `H(Y)`.
///
/// ```
/// use gpz_estimators::information::qda;
/// use ndarray::Array2;
///
/// // Two classes far apart: the label is known from the feature, which is ln 2.
/// let rows = Array2::from_shape_fn((40, 1), |(i, _)| (i / 2 % 2) as f64 * 100.0 + (i * i % 7) as f64);
/// let labels: Vec<usize> = (0..40).map(|i| i / 2 % 2).collect();
/// let mi = qda::crossfit_nats(rows.view(), &labels, 2)?.expect("ten rows of each class in each half");
/// assert!((mi.value - 2.0_f64.ln()).abs() < 1e-9);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::LabelCount`], [`Error::LabelOutOfRange`], [`Error::NonFinite`],
/// [`Error::Magnitude`], [`Error::Factorisation`]. Inside: [`NotIdentifiable::TooFewRows`] if a class that occurs has no more rows than
/// dimensions in one of the halves, [`NotIdentifiable::Singular`] if its covariance there has no inverse.
///
/// # Source
/// The bound: Barber and Agakov, The IM algorithm, 2003. Cross-fitting: Chernozhukov et al., 2018.
pub fn crossfit_nats<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    classes: usize,
) -> Result<Estimated, Error> {
    let (n, d) = features.dim();
    if d == 0 || classes == 0 {
        return Err(Error::EmptyShape { classes, width: d });
    }
    let batch = Batch::new(features, labels, classes, d)?;
    batch.check_values()?;
    if n == 0 {
        return Err(Error::NoRows);
    }
    let mut terms = vec![0.0; n];
    for fold in 0..2 {
        let mut models = Vec::with_capacity(batch.present.len());
        for rows in &batch.present {
            let members: Vec<usize> = batch.rows()[rows.range.clone()]
                .iter()
                .copied()
                .filter(|row| row % 2 == fold)
                .collect();
            if members.len() <= d {
                return Ok(Err(NotIdentifiable::TooFewRows {
                    class: Some(rows.class),
                    have: members.len() as u64,
                    need: d as u64 + 1,
                }));
            }
            let share = members.len() as f64 / (n.div_ceil(2) - fold * (n % 2)) as f64;
            match ClassModel::fit(features.select(Axis(0), &members).view(), share)? {
                Ok(model) => models.push((rows.class, model)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let scored = terms.par_iter_mut().enumerate().filter(|(row, _)| row % 2 != fold);
        scored.for_each(|(row, term)| {
            let row_values: Vec<f64> =
                features.row(row).iter().map(|value| value.widen()).collect();
            let joint: Vec<f64> =
                models.iter().map(|(_, model)| model.log_joint(&row_values)).collect();
            let most = joint.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let all = most + joint.iter().map(|value| (value - most).exp()).sum::<f64>().ln();
            let own = models.iter().zip(&joint).find(|((class, _), _)| *class == labels[row]);
            if let Some((_, joint)) = own {
                *term = joint - all;
            }
        });
    }
    let rows = n as f64;
    let mut counts = ClassMoments::new(classes, 1)?;
    counts.update(Array2::<f32>::zeros((n, 1)).view(), labels)?;
    let geometry = counts.geometry()?;
    for (term, &label) in terms.iter_mut().zip(labels) {
        // The mean of −ln p over the rows is H(Y).
        *term -= (geometry.counts()[label] as f64 / rows).ln();
    }
    let value = terms.iter().sum::<f64>() / rows;
    let spread = terms.iter().map(|term| (term - value).powi(2)).sum::<f64>() / (rows - 1.0);
    let empty = classes - batch.present.len();
    let mut estimate = Estimate::new(value, Kind::Lower, rows)
        .std_err((spread / rows).sqrt(), Uncertainty::SpreadOfTerms)
        .flag(true, Flag::InExpectation)
        .odd(&Oddities::of(&[features]))
        .flag(empty > 0, Flag::EmptyClasses(empty));
    // At this ceiling the truth is at its own: nothing saturates.
    estimate.ceiling = Some(label_entropy_nats(&geometry).value);
    Ok(Ok(estimate))
}

/// A class as a Gaussian, in the form that scores rows.
struct ClassModel {
    mean: Vec<f64>,
    /// `[d, d]`: rows that whiten a deviation.
    whiten: Array2<f64>,
    /// `ln π − ½ ln det(2π S)`.
    constant: f64,
}

impl ClassModel {
    fn fit<T: Element>(
        rows: ArrayView2<'_, T>,
        share: f64,
    ) -> Result<Result<Self, NotIdentifiable>, Error> {
        let sample = Sample::of(rows)?;
        let (n, d) = rows.dim();
        let weights = sample.unit_weights();
        let correlation = sample.scatter(Some(&weights));
        let (values, vectors) = lapack::eigen(&correlation, n, d)?;
        let rank = lapack::rank(&values.to_vec(), n, d);
        if rank < d {
            let mend = "leave out constant and linearly dependent columns";
            let what = "covariance of a class in one half";
            return Ok(Err(NotIdentifiable::Singular { what, rank, width: d, mend }));
        }
        // S = W⁻¹ C W⁻¹/(n − 1) with unit weights W and correlation C, so its inverse root is √(n − 1) Λ^(−½) Uᵀ W.
        let freedom = (n - 1) as f64;
        let mut whiten = vectors.t().to_owned();
        for (mut row, value) in whiten.rows_mut().into_iter().zip(&values) {
            row *= &(Array1::from(weights.clone()) * (freedom / value).sqrt());
        }
        let log_det = values.mapv(f64::ln).sum()
            + sample.squares().iter().map(|squares| (squares / freedom).ln()).sum::<f64>();
        let two_pi = (2.0 * std::f64::consts::PI).ln();
        let constant = share.ln() - 0.5 * (d as f64 * two_pi + log_det);
        Ok(Ok(Self { mean: sample.mean().to_vec(), whiten, constant }))
    }

    /// `ln π q(z|c)`.
    fn log_joint(&self, row: &[f64]) -> f64 {
        let deviation: Vec<f64> =
            row.iter().zip(&self.mean).map(|(value, mean)| value - mean).collect();
        let distance: f64 = self
            .whiten
            .rows()
            .into_iter()
            .map(|whiten| whiten.iter().zip(&deviation).map(|(a, b)| a * b).sum::<f64>().powi(2))
            .sum();
        self.constant - 0.5 * distance
    }
}
