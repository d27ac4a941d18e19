//! The estimators of rows that lie side by side, one entry each.
//!
//! An entry names the quantities it gives, what it costs and for which rows it is meant. Bounds come before estimates, and what needs no
//! labels before what does.

use gpz_estimators::{
    Error, Estimate, Estimated, Metric, Neighbours, RowReport, dependence, dimension, entropy,
    information, project,
};
use ndarray::{Array2, ArrayView2};

/// What an estimator is given.
pub(super) struct Rows<'a> {
    pub(super) rows: ArrayView2<'a, f64>,
    /// The rows' classes and how many there are.
    pub(super) labels: Option<(&'a [usize], usize)>,
    pub(super) report: &'a RowReport,
}

impl Rows<'_> {
    fn classes(&self) -> (&[usize], usize) {
        self.labels.unwrap_or_default()
    }

    fn wide(&self) -> bool {
        self.rows.ncols() > gpz_estimators::KNN_DIMENSIONS
    }

    /// One column for each class, 1 in that of the row's own.
    fn one_hot(&self) -> Array2<f64> {
        let (labels, classes) = self.classes();
        let mut columns = Array2::zeros((labels.len(), classes));
        for (mut row, &label) in columns.rows_mut().into_iter().zip(labels) {
            row[label] = 1.0;
        }
        columns
    }

    /// The classes as one column, wider apart than any two rows: neighbours are looked for within a class.
    fn class_column(&self) -> Array2<f64> {
        let (low, high) = self
            .rows
            .iter()
            .fold((0.0_f64, 0.0_f64), |(low, high), &value| (low.min(value), high.max(value)));
        let (labels, _) = self.classes();
        Array2::from_shape_fn((labels.len(), 1), |(row, _)| {
            labels[row] as f64 * 2.0 * (1.0 + high - low)
        })
    }
}

/// What an estimator says of one quantity.
pub(super) enum Answer {
    /// An estimate, or why there is none.
    Estimated(Estimated),
    /// A function of the rows and no more.
    Exact(f64),
}

impl From<Estimated> for Answer {
    fn from(estimated: Estimated) -> Self {
        Self::Estimated(estimated)
    }
}

impl From<Estimate> for Answer {
    fn from(estimate: Estimate) -> Self {
        Self::Estimated(Ok(estimate))
    }
}

impl From<f64> for Answer {
    fn from(value: f64) -> Self {
        Self::Exact(value)
    }
}

type Answers = Result<Vec<Answer>, Error>;

/// One estimator.
pub(super) struct Estimator {
    /// What it gives, in order.
    pub(super) quantities: &'static [&'static str],
    /// For which rows it is meant; for others it is not missed.
    pub(super) applies: fn(&Rows<'_>) -> bool,
    /// Bytes beside the rows, and operations, for `n` rows of `d` dimensions.
    pub(super) cost: fn(f64, f64) -> (f64, f64),
    pub(super) estimate: fn(&Rows<'_>) -> Answers,
}

fn always(_: &Rows<'_>) -> bool {
    true
}

/// Labels, and more than one class: a single one tells nothing apart.
fn of_classes(given: &Rows<'_>) -> bool {
    given.classes().1 > 1
}

/// Rows that repeat, as those of integers and of codes do.
fn repeated(given: &Rows<'_>) -> bool {
    given.report.duplicate_rows > 0
}

/// Bytes and operations where every row is compared with every other.
fn all_pairs(n: f64, d: f64) -> (f64, f64) {
    (8.0 * 2.0 * n * d, n * n * d)
}

/// Bytes and operations where every distance is an exponential too.
fn kernels(n: f64, d: f64) -> (f64, f64) {
    (8.0 * 2.0 * n * d, n * n * (d + 20.0))
}

/// Bytes and operations where rows are sorted.
fn sorted(n: f64, d: f64) -> (f64, f64) {
    (8.0 * n * (d + 2.0), n * d * (2.0 + n.log2()))
}

const NEAREST: &[Estimator] = &[
    Estimator {
        quantities: &["kl_entropy_k3", "kl_entropy_k3_maxnorm"],
        applies: always,
        cost: |n, d| twice(all_pairs(n, d)),
        estimate: |given| {
            let of =
                |metric| entropy::kozachenko_leonenko_nats(given.rows, metric, Neighbours::nth(3));
            Ok(vec![of(Metric::Euclidean)?.into(), of(Metric::Maximum)?.into()])
        },
    },
    Estimator {
        quantities: &["kde_entropy_loo"],
        applies: |given| !given.wide(),
        cost: kernels,
        estimate: |given| {
            let bandwidth = entropy::kde::Bandwidth::Scott;
            Ok(vec![entropy::kde::kde_entropy_loo_nats(given.rows, bandwidth)?.into()])
        },
    },
    Estimator {
        quantities: &["ross_k3"],
        applies: of_classes,
        cost: all_pairs,
        estimate: |given| {
            let (labels, _) = given.classes();
            Ok(vec![information::ross::ross_nats(given.rows, labels, Neighbours::nth(3))?.into()])
        },
    },
    // Of fewer dimensions, where distances in all of them say little.
    Estimator {
        quantities: &["ross_k3_projected"],
        applies: |given| of_classes(given) && given.wide(),
        cost: |n, d| (8.0 * (n + d) * PROJECTED as f64, n * d * PROJECTED as f64 + 8.0 * n * n),
        estimate: |given| {
            let projection = project(given.rows, PROJECTED, 0)?;
            let (labels, _) = given.classes();
            let estimate = projection
                .estimate(|rows| information::ross::ross_nats(rows, labels, Neighbours::nth(3)))?;
            Ok(vec![estimate.into()])
        },
    },
    // Rows that repeat are refused by Ross's estimate, or spoil it.
    Estimator {
        quantities: &["gao_k5"],
        applies: |given| of_classes(given) && repeated(given),
        cost: all_pairs,
        estimate: |given| {
            let classes = given.class_column();
            let neighbours = Neighbours::nth(5);
            Ok(vec![information::mixed::gao_nats(given.rows, classes.view(), neighbours)?.into()])
        },
    },
    Estimator {
        quantities: &["dcor_u_sqr", "dcor_v"],
        applies: of_classes,
        cost: |n, d| twice(all_pairs(n, d)),
        estimate: |given| {
            let classes = given.one_hot();
            let (rows, classes) = (given.rows, classes.view());
            Ok(vec![
                dependence::distance_correlation_sq(rows, classes)?.into(),
                dependence::distance_correlation_v(rows, classes)?.into(),
            ])
        },
    },
    Estimator {
        quantities: &["twonn_mle"],
        applies: always,
        cost: all_pairs,
        estimate: |given| {
            let parts = Neighbours::default().parts;
            Ok(vec![dimension::two_nn(given.rows, parts)?.into()])
        },
    },
    Estimator {
        quantities: &["mle_levina_bickel_mackay_k20", "mle_levina_bickel_mean_k20"],
        applies: always,
        cost: |n, d| twice(all_pairs(n, d)),
        estimate: |given| {
            let of =
                |averaging| dimension::levina_bickel(given.rows, Neighbours::nth(20), averaging);
            Ok(vec![
                of(dimension::Averaging::OfInverses)?.into(),
                of(dimension::Averaging::OfEstimates)?.into(),
            ])
        },
    },
];

/// Dimensions that distances still say something in, with room to spare.
const PROJECTED: usize = 8;

fn twice((bytes, operations): (f64, f64)) -> (f64, f64) {
    (bytes, 2.0 * operations)
}

const DISCRETE: &[Estimator] = &[
    Estimator {
        quantities: &["plugin_entropy", "miller_madow_entropy"],
        applies: repeated,
        cost: sorted,
        estimate: |given| {
            let codes = entropy::discrete::Codes::of_rows(given.rows)?;
            Ok(vec![
                entropy::discrete::plugin_entropy_nats(&codes).into(),
                entropy::discrete::miller_madow_entropy_nats(&codes).into(),
            ])
        },
    },
    Estimator {
        quantities: &["plugin_mi", "miller_madow_mi"],
        applies: |given| of_classes(given) && repeated(given),
        cost: sorted,
        estimate: |given| {
            let codes = entropy::discrete::Codes::of_rows(given.rows)?;
            let classes = entropy::discrete::Codes::of_symbols(given.classes().0)?;
            Ok(vec![
                information::discrete::plugin_mi_nats(&codes, &classes)?.into(),
                information::discrete::miller_madow_mi_nats(&codes, &classes)?.into(),
            ])
        },
    },
];

#[cfg(feature = "lapack")]
mod factorised {
    use gpz_estimators::{Normalisation, NotIdentifiable, collapse, gaussian, spectrum};

    use super::*;

    fn labelled(given: &Rows<'_>) -> bool {
        given.labels.is_some()
    }

    /// Bytes and operations of a spectrum from the smaller side.
    fn spectral(n: f64, d: f64) -> (f64, f64) {
        let side = n.min(d);
        (8.0 * 2.0 * side * side, n * d * side + 9.0 * side * side * side)
    }

    /// Bytes and operations of measures that project rows on class means.
    fn projected(n: f64, d: f64) -> (f64, f64) {
        // As if a tenth of the rows were classes.
        (8.0 * 0.2 * n * d, 0.1 * n * n * d)
    }

    /// Bytes and operations of one covariance and its factorisation.
    fn covariance(n: f64, d: f64) -> (f64, f64) {
        (8.0 * (2.0 * n * d + 3.0 * d * d), 2.0 * n * d * d + 9.0 * d * d * d)
    }

    /// The same for each class, as if each had few rows.
    fn covariances(n: f64, d: f64) -> (f64, f64) {
        (8.0 * (2.0 * n * d + 3.0 * d * d), 2.0 * n * d * d + 9.0 * n * d * d)
    }

    /// Share by which an eigenvalue must exceed the edge of noise.
    const MARGIN: f64 = 1.02;

    pub(super) const TABLE: &[Estimator] = &[
        Estimator {
            quantities: &["gaussian_upper_full"],
            applies: always,
            cost: covariance,
            estimate: |given| Ok(vec![gaussian::full_bound_nats(given.rows)?.into()]),
        },
        Estimator {
            quantities: &["logdet_cov", "logdet_wishart_corrected", "gaussian_entropy_wishart"],
            applies: always,
            cost: |n, d| twice(covariance(n, d)),
            estimate: |given| {
                Ok(vec![
                    gaussian::log_det_nats(given.rows)?.into(),
                    gaussian::log_det_corrected_nats(given.rows)?.into(),
                    gaussian::entropy_corrected_nats(given.rows)?.into(),
                ])
            },
        },
        Estimator {
            quantities: &["ledoit_wolf_entropy", "ledoit_wolf_logdet", "ledoit_wolf_shrinkage"],
            applies: always,
            cost: spectral,
            estimate: |given| Ok(shrunk(gaussian::ledoit_wolf(given.rows)?)),
        },
        Estimator {
            quantities: &["oas_entropy", "oas_logdet", "oas_shrinkage"],
            applies: always,
            cost: spectral,
            estimate: |given| Ok(shrunk(gaussian::oas(given.rows)?)),
        },
        Estimator {
            quantities: &[
                "cov_rank",
                "participation_ratio",
                "participation_ratio_corrected",
                "effective_rank_entropy",
                "mp_edge_low",
                "mp_edge_high",
                "eigs_above_edge_times_1.02",
            ],
            applies: always,
            cost: spectral,
            estimate: |given| {
                let spectrum = spectrum::Spectrum::of(given.rows)?;
                let mut found = vec![
                    Answer::Exact(spectrum.rank() as f64),
                    spectrum.participation_ratio().into(),
                    spectrum.participation_ratio_corrected().into(),
                    spectrum.effective_rank().into(),
                ];
                // As if everything were noise: with spikes in it the true edge lies lower.
                let variance = spectrum.trace() / spectrum.width() as f64;
                if variance > 0.0 {
                    let noise = spectrum::MarchenkoPastur::new(variance, spectrum.aspect())?;
                    let divisor = Normalisation::PlugIn;
                    let above = spectrum.above_edge(variance, MARGIN, divisor)?;
                    let (low, high) = noise.edges();
                    found.extend([low, high, above as f64].map(Answer::Exact));
                } else {
                    found.extend([0; 3].map(|_| Answer::from(Err(NotIdentifiable::NoVariance))));
                }
                Ok(found)
            },
        },
        Estimator {
            quantities: &["class_cond_gauss_entropy"],
            applies: labelled,
            cost: covariances,
            estimate: |given| {
                let (labels, classes) = given.classes();
                let bound = gaussian::class_conditional_bound_nats(given.rows, labels, classes)?;
                Ok(vec![bound.into()])
            },
        },
        Estimator {
            quantities: &["class_cond_gauss_entropy_wishart"],
            applies: labelled,
            cost: covariances,
            estimate: |given| {
                let (labels, classes) = given.classes();
                let corrected =
                    gaussian::class_conditional_corrected_nats(given.rows, labels, classes)?;
                Ok(vec![corrected.into()])
            },
        },
        Estimator {
            quantities: &["mixture_entropy_upper_full"],
            applies: of_classes,
            cost: covariances,
            estimate: |given| {
                let (labels, classes) = given.classes();
                Ok(vec![gaussian::mixture_full_bound_nats(given.rows, labels, classes)?.into()])
            },
        },
        Estimator {
            quantities: &["qda_crossfit_mi"],
            applies: of_classes,
            cost: covariances,
            estimate: |given| {
                let (labels, classes) = given.classes();
                Ok(vec![information::qda::crossfit_nats(given.rows, labels, classes)?.into()])
            },
        },
        Estimator {
            quantities: &[
                "nc1_trace",
                "nc2_equinorm",
                "nc2_equiangle",
                "nc2_angle_std",
                "nearest_mean_accuracy",
            ],
            applies: labelled,
            cost: projected,
            estimate: |given| {
                let (labels, classes) = given.classes();
                let found = collapse::collapse(given.rows, labels, classes, None)?;
                Ok(vec![
                    found.nc1_trace.into(),
                    found.nc2_equinorm.into(),
                    found.nc2_equiangle.into(),
                    found.nc2_angle_std.into(),
                    found.nearest_mean_accuracy.into(),
                ])
            },
        },
    ];

    fn shrunk(found: Result<gaussian::Shrunk, NotIdentifiable>) -> Vec<Answer> {
        match found {
            Ok(found) => vec![found.entropy.into(), found.log_det.into(), found.shrinkage.into()],
            Err(reason) => [0; 3].map(|_| Answer::from(Err(reason.clone()))).into(),
        }
    }
}

/// Every entry.
pub(super) fn estimators() -> impl Iterator<Item = &'static Estimator> {
    #[cfg(feature = "lapack")]
    let factorised = factorised::TABLE;
    #[cfg(not(feature = "lapack"))]
    let factorised: &[Estimator] = &[];
    factorised.iter().chain(NEAREST).chain(DISCRETE)
}
