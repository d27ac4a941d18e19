//! What every estimate of this crate says of itself.

use serde::{Deserialize, Serialize, Serializer};

/// An estimate, or the reason why the data cannot give one.
pub type Estimated = Result<Estimate, NotIdentifiable>;

/// A number with its direction: what it is, which way it errs, and when not to believe it.
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
    /// Rows that carried information; fewer than the rows given where some were left out.
    pub n_effective: f64,
    /// The largest value the estimator could have returned on so many rows, such as `ln N`; none where it has no such ceiling.
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

    /// With the largest value that so many rows can give; flagged as [`Flag::Saturated`] where the value is within 5 % of it.
    ///
    /// A ceiling of zero or less is none.
    pub(crate) fn ceiling(mut self, ceiling: f64) -> Self {
        self.ceiling = Some(ceiling);
        let saturated = ceiling > 0.0 && self.value >= (1.0 - SATURATION) * ceiling;
        self.flag(saturated, Flag::Saturated)
    }

    /// With a standard error and how it was found.
    pub(crate) fn std_err(mut self, std_err: f64, uncertainty: Uncertainty) -> Self {
        (self.std_err, self.uncertainty) = (Some(std_err), Some(uncertainty));
        self
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
    /// Drawing as many rows with replacement, many times.
    Bootstrap,
    /// The spread of the terms of a mean, which are independent or nearly so.
    SpreadOfTerms,
    /// A formula that holds for the law assumed.
    Formula,
}

/// Which way an estimate errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A function of the data given, without a population behind it.
    Exact,
    /// At least the true value.
    Upper,
    /// At most the true value.
    Lower,
    /// An estimate that may err either way. So is the plug-in of an upper bound: the bound holds for the population's
    /// variance, the sample's may be smaller.
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
    /// The value is within 5 % of the largest that so many rows can give: the truth may be anything above.
    Saturated,
    /// The value keeps growing with the number of rows, as it does where the true value is infinite. It bounds that one from
    /// below in expectation.
    GrowsWithRows,
    /// Distances of so many dimensions say little about a density; project onto at most [`KNN_DIMENSIONS`] first and say so.
    ///
    /// [`KNN_DIMENSIONS`]: crate::KNN_DIMENSIONS
    HighDimension(usize),
    /// The rows were projected onto fewer dimensions; the estimate is of the projection.
    Projected {
        /// Width before.
        from: usize,
        /// Width after.
        to: usize,
    },
    /// The expectation is at most the true value; this sample's value scatters about it by its standard error, and may lie above.
    LowerInExpectation,
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
    /// The direction holds for the mean over samples, not for each of them: this one's value may lie a few standard errors beyond.
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
    #[error("{have} rows{}, but at least {need} are needed", match .class { Some(class) => format!(" of class {class}"), None => String::new() })]
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
        "{count} classes have a single row, the first is class {first}; add rows or leave these classes out"
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
        "{rows} of {of} rows have their {neighbour}th neighbour at distance zero: the rows are not draws from a density; \
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
