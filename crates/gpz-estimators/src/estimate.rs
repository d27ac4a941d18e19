//! What every estimate of this crate says of itself.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize, Serializer};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::error::Error;
use crate::rows::KNN_DIMENSIONS;

/// An estimate, or the reason why the data cannot give one.
pub type Estimated = Result<Estimate, NotIdentifiable>;

/// A number with its direction: what it is, which way it errs, and when not to believe it.
///
/// Serialises to numbers, words and arrays that read back; infinities and NaN are the words `inf`, `-inf` and `nan`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Estimate {
    /// The value, in the unit its function names; not clipped, and infinite where the quantity is.
    #[serde(serialize_with = "number")]
    pub value: f64,
    /// Which way the value errs.
    pub kind: Kind,
    /// Standard error, where the function can tell it from what it was given.
    #[serde(serialize_with = "optional_number")]
    pub std_err: Option<f64>,
    /// How the standard error was found; none where there is none.
    pub uncertainty: Option<Uncertainty>,
    /// Degrees of freedom of the standard error, where it rests on few or countable terms: the disjoint parts less one, say. None
    /// where there is no standard error or a formula gave it.
    pub degrees_of_freedom: Option<f64>,
    /// Rows that carried information; fewer than the rows given where some were left out. **Zero where no row stands behind the
    /// value**: it follows from what was declared or known.
    #[serde(serialize_with = "number")]
    pub n_effective: f64,
    /// The largest value the estimator could have returned on so many rows, or that so many rows can show, such as `ln N`; none where
    /// there is no such ceiling.
    #[serde(serialize_with = "optional_number")]
    pub ceiling: Option<f64>,
    /// What a reader must know beside the number.
    pub flags: Vec<Flag>,
}

impl Estimate {
    pub(crate) fn new(value: f64, kind: Kind, n_effective: f64) -> Self {
        Self {
            value,
            kind,
            std_err: None,
            uncertainty: None,
            degrees_of_freedom: None,
            n_effective,
            ceiling: None,
            flags: Vec::new(),
        }
    }

    /// With a flag more, if it applies.
    pub(crate) fn flag(mut self, applies: bool, flag: Flag) -> Self {
        if applies {
            self.flags.push(flag);
        }
        self
    }

    /// With a flag more, if it applies and is not there yet.
    pub(crate) fn flag_once(self, applies: bool, flag: Flag) -> Self {
        let known = self.flags.contains(&flag);
        self.flag(applies && !known, flag)
    }

    /// With the largest value that so many rows can give; flagged as [`Flag::Saturated`] where the value is within 5 % of it.
    ///
    /// A ceiling of zero or less is none.
    pub(crate) fn ceiling(mut self, ceiling: f64) -> Self {
        self.ceiling = Some(ceiling);
        let saturated = ceiling > 0.0 && self.value >= (1.0 - SATURATION) * ceiling;
        self.flag(saturated, Flag::Saturated)
    }

    /// With a standard error and how it was found. What rests on the spread of the rows has one degree of freedom less than rows.
    /// An infinite value has none.
    pub(crate) fn std_err(mut self, std_err: f64, uncertainty: Uncertainty) -> Self {
        if !self.value.is_finite() {
            return self;
        }
        (self.std_err, self.uncertainty) = (Some(std_err), Some(uncertainty));
        let of_rows = matches!(uncertainty, Uncertainty::Jackknife | Uncertainty::SpreadOfTerms);
        let freedom = self.n_effective - 1.0;
        self.degrees_of_freedom = (of_rows && freedom >= 1.0).then_some(freedom);
        self
    }

    /// With the degrees of freedom of its standard error, where they are not those of the rows.
    pub(crate) fn freedom(mut self, degrees: f64) -> Self {
        self.degrees_of_freedom = (self.std_err.is_some() && degrees >= 1.0).then_some(degrees);
        self
    }

    /// The interval `value ± t · std_err` at a confidence level, such as 0.95; none where there is no standard error.
    ///
    /// `t` is Student's quantile with the [degrees of freedom](Self::degrees_of_freedom), the normal one where there are none stated:
    /// eight disjoint parts have seven, and the normal quantile would leave out 9 % where 5 % are meant.
    ///
    /// It covers the **estimator's expectation** on so many rows. Whatever bias the estimator's page states comes on top: an interval
    /// about a bound need not hold the truth, and at a ceiling it says nothing. Not clipped.
    ///
    /// # Errors
    /// [`Error::Level`] unless `0 < level < 1`.
    ///
    /// ```
    /// use gpz_estimators::{Metric, Neighbours, entropy::kozachenko_leonenko_nats};
    /// use ndarray::Array2;
    ///
    /// let rows = Array2::from_shape_fn((800, 1), |(i, _)| ((i * i) as f64 * 0.618_033_988_749_894_9).fract());
    /// let h = kozachenko_leonenko_nats(rows.view(), Metric::Euclidean, Neighbours::default())?.expect("no ties");
    /// assert_eq!(h.degrees_of_freedom, Some(7.0));
    /// let interval = h.interval(0.95)?.expect("800 rows make eight parts");
    /// let reach = (interval.end() - interval.start()) / 2.0;
    /// assert!((reach / h.std_err.expect("as above") - 2.364_624).abs() < 1e-6);
    /// # Ok::<(), gpz_estimators::Error>(())
    /// ```
    pub fn interval(&self, level: f64) -> Result<Option<RangeInclusive<f64>>, Error> {
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::Level { level });
        }
        let Some(std_err) = self.std_err else { return Ok(None) };
        let student = self.degrees_of_freedom.and_then(|df| StudentsT::new(0.0, 1.0, df).ok());
        let quantile = match student {
            // Beyond a million the two agree to 1e-6.
            Some(student) if student.freedom() < 1e6 => student.inverse_cdf(0.5 + level / 2.0),
            _ => Normal::standard().inverse_cdf(0.5 + level / 2.0),
        };
        let reach = quantile * std_err;
        Ok(Some(self.value - reach..=self.value + reach))
    }
}

/// Share of the ceiling below it from which on a value says how many rows there were and little else.
pub const SATURATION: f64 = 0.05;

/// How a standard error was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Uncertainty {
    /// From the values on disjoint parts of the rows, scaled to all of them. For estimators of nearest neighbours: rows that a
    /// bootstrap draws twice are neighbours at distance zero.
    DisjointSubsamples,
    /// Leaving out one row at a time.
    Jackknife,
    /// Leaving out a group of rows at a time: see [`grouped_jackknife`](crate::grouped_jackknife).
    GroupedJackknife,
    /// Drawing as many rows with replacement, many times.
    Bootstrap,
    /// The spread of the terms of a mean, which are independent or nearly so.
    SpreadOfTerms,
    /// A formula that holds for the law assumed, which is the one that the value itself rests on.
    Formula,
    /// A formula that holds for Gaussian rows, of a value that does not ask for them: heavier tails vary more than it says.
    GaussianFormula,
}

/// Which way an estimate errs.
///
/// **The rule.** `Upper` and `Lower` are said where it is proven, whatever the law of the rows, on which side of the true value the
/// *expectation* of the value lies. If the rows are a sample, a single value scatters about that expectation by its standard error
/// and may come to lie beyond: then [`Flag::InExpectation`] stands beside the kind. Without that flag the value itself is on that side.
///
/// A plug-in of an upper bound is **not** called an upper bound: the bound holds for the population's moments, and with the
/// sample's its expectation may lie below the true value. It is `Heuristic`, as is all that rests on an estimate where a bound asks for
/// a true value, or whose direction holds for some laws only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A function of the data or the law given, without a population behind it.
    Exact,
    /// At least the true value; on average over samples where [`Flag::InExpectation`] says so.
    Upper,
    /// At most the true value; on average over samples where [`Flag::InExpectation`] says so.
    Lower,
    /// An estimate that may err either way.
    Heuristic,
}

/// A condition under which an estimate wants care.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Flag {
    /// The formula bounds the quantity from above when given population moments; it was given the sample's.
    PlugInOfUpperBound,
    /// Nothing varies where the formula needs variation; the value is an infinity.
    DegenerateSupport,
    /// The class has one row, so its zero deviation says nothing.
    SingletonClass,
    /// A class has no more rows than there are dimensions: its mean scatters so far that labels without meaning look collapsed too.
    FewRowsPerClass,
    /// So many dimensions never change; a density over all dimensions does not exist.
    ConstantDimensions(usize),
    /// So many declared classes have no row and take no part.
    EmptyClasses(usize),
    /// So many dimensions are zero in every row.
    DeadUnits(usize),
    /// So many rows equal an earlier one. Continuous features repeat no row: these were rounded, clipped or copied.
    DuplicateRows(u64),
    /// So many rows have neighbours at distance zero where the estimator takes the logarithm of a distance.
    Ties(u64),
    /// The value is within 5 % of the largest that so many rows can give or show, or beyond: the truth may be anything above.
    Saturated,
    /// The value keeps growing with the number of rows, as it does where the true value is infinite. It bounds that one from
    /// below in expectation.
    GrowsWithRows,
    /// Distances of so many dimensions say little about a density. [`Projection::estimate`](crate::Projection::estimate) estimates from
    /// at most [`KNN_DIMENSIONS`](crate::KNN_DIMENSIONS) of them, and says so.
    HighDimension(usize),
    /// The rows were projected onto fewer dimensions; the estimate is of the projection.
    Projected {
        /// Width before.
        from: usize,
        /// Width after.
        to: usize,
    },
    /// A bound on unbiased attackers only. One that knows what pictures look like is biased, and may err less.
    UnbiasedAttackersOnly,
    /// Right if the rows are Gaussian, in each class where classes are given.
    AssumesGaussian,
    /// Rests on an estimate where the bound asks for the true value.
    RestsOnEstimate,
    /// So many rows or classes were left out, being too few to say anything.
    LeftOut(u64),
    /// The critic's scores overflow the exponential of the bound; its value is decided by few of them.
    HeavyTail,
    /// The direction that the [`Kind`] states holds for the mean over samples, not for each of them: this one's value may lie a few
    /// standard errors beyond.
    InExpectation,
    /// So many symbols occur once. By Good and Turing's rule about that many rows in `N` further ones show a symbol not seen here.
    Undersampled(u64),
    /// The covariance has this rank, below the width.
    RankDeficient {
        /// Numerical rank.
        rank: usize,
        /// Width of the features.
        width: usize,
    },
}

impl fmt::Display for Flag {
    /// One line for a reader of the number, with the mend where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlugInOfUpperBound => {
                write!(f, "an upper bound's formula with the sample's moments: no bound itself")
            }
            Self::DegenerateSupport => {
                write!(f, "nothing varies where the formula needs variation")
            }
            Self::SingletonClass => write!(f, "a class has one row, which shows no spread"),
            Self::FewRowsPerClass => {
                write!(f, "with so few rows of a class, labels without meaning look collapsed too")
            }
            Self::ConstantDimensions(count) => write!(f, "{count} dimensions never change"),
            Self::EmptyClasses(count) => write!(f, "{count} classes have no row and take no part"),
            Self::DeadUnits(count) => write!(f, "{count} dimensions are zero in every row"),
            Self::DuplicateRows(count) => write!(f, "{count} rows equal an earlier one"),
            Self::Ties(count) => write!(f, "{count} rows have a neighbour at distance zero"),
            Self::Saturated => {
                write!(f, "at the ceiling of so many rows: the truth may be anything above")
            }
            Self::GrowsWithRows => {
                write!(f, "grows with the number of rows, as where the truth is infinite")
            }
            Self::HighDimension(width) => write!(
                f,
                "distances in {width} dimensions say little of a density; \
                 project(rows, {KNN_DIMENSIONS}, seed) and estimate from the projection"
            ),
            Self::Projected { from, to } => {
                write!(f, "of a random projection of {from} dimensions onto {to}")
            }
            Self::UnbiasedAttackersOnly => {
                write!(
                    f,
                    "bounds unbiased attackers only: one that knows what x looks like may err less"
                )
            }
            Self::AssumesGaussian => write!(f, "right if the rows are Gaussian"),
            Self::RestsOnEstimate => {
                write!(f, "rests on an estimate where the bound asks for the true value")
            }
            Self::LeftOut(count) => write!(f, "{count} rows or classes were left out"),
            Self::HeavyTail => write!(f, "decided by few of the exponentials"),
            Self::InExpectation => {
                write!(f, "the direction holds on average over samples, not for each")
            }
            Self::Undersampled(count) => {
                write!(f, "{count} symbols occur once, so many others were not seen")
            }
            Self::RankDeficient { rank, width } => {
                write!(f, "the covariance has rank {rank} of {width}")
            }
        }
    }
}

/// Why the data at hand cannot give an estimate, however it is computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NotIdentifiable {
    /// A class has no rows.
    #[error("class {class} has no rows; no statement about it is possible")]
    EmptyClass {
        /// The class.
        class: usize,
    },
    /// Fewer rows than the statistic needs.
    #[error("{have} row{}{}, but at least {need} are needed", if *.have == 1 { "" } else { "s" }, match .class { Some(class) => format!(" of class {class}"), None => String::new() })]
    TooFewRows {
        /// The class, if one class is concerned.
        class: Option<usize>,
        /// Rows there are.
        have: u64,
        /// Rows there must be.
        need: u64,
    },
    /// A statement about all classes where some have a single row, hence no radius.
    #[error(
        "{count} {} a single row, the first is class {first}; add rows or leave these classes out",
        if *.count == 1 { "class has" } else { "classes have" }
    )]
    SingletonClasses {
        /// How many.
        count: usize,
        /// The first of them.
        first: usize,
    },
    /// A statement about how classes lie to one another where fewer than two have rows.
    #[error("{have} classes have rows, but at least 2 are needed to compare them")]
    TooFewClasses {
        /// Classes with rows.
        have: usize,
    },
    /// Rows that repeat, where the estimator takes rows to be draws from a density.
    #[error(
        "of {of} rows {rows} have neighbour number {neighbour} at distance zero: the rows are not draws from a density; \
         use an estimator for discrete or mixed rows"
    )]
    Tied {
        /// How many rows.
        rows: u64,
        /// Of how many.
        of: u64,
        /// Which neighbour was looked at.
        neighbour: usize,
    },
    /// A deterministic and unquantised feature carries infinite information: without a declared channel there is no bound.
    #[error(
        "no channel is declared: a feature sent exactly as computed carries infinite information, so that no bound follows; \
         declare noise or a number of bits"
    )]
    NoChannel,
    /// A covariance, Fisher information or scatter that has no inverse where one is needed.
    #[error("the {what} is singular (rank {rank} of {width}); {mend}")]
    Singular {
        /// What is singular.
        what: &'static str,
        /// Its numerical rank.
        rank: usize,
        /// Its width.
        width: usize,
        /// What can be done.
        mend: &'static str,
    },
    /// A ratio whose denominator vanishes.
    #[error("all rows are equal: there is no variance to take a share of")]
    NoVariance,
    /// Distances that all are the same, where their pattern is looked for.
    #[error(
        "all rows are equally far apart: their distances have no pattern that another sample's could share"
    )]
    Equidistant,
}

impl NotIdentifiable {
    /// The same with each class by another number: for labels that were counted from zero before they were handed over.
    ///
    /// - `labels`: the caller's name of each class; classes beyond it keep their number
    #[must_use]
    pub fn with_labels(self, labels: &[usize]) -> Self {
        let name = |class: usize| labels.get(class).copied().unwrap_or(class);
        match self {
            Self::EmptyClass { class } => Self::EmptyClass { class: name(class) },
            Self::TooFewRows { class: Some(class), have, need } => {
                Self::TooFewRows { class: Some(name(class)), have, need }
            }
            Self::SingletonClasses { count, first } => {
                Self::SingletonClasses { count, first: name(first) }
            }
            other => other,
        }
    }
}

/// Serialises a float; JSON has no infinities and no NaN, so those become the words `inf`, `-inf` and `nan`.
pub(crate) fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else if value.is_nan() {
        serializer.serialize_str("nan")
    } else {
        serializer.serialize_str(if *value > 0.0 { "inf" } else { "-inf" })
    }
}

fn optional_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}
