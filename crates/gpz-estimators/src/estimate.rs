//! What every estimate of this crate says of itself.

use serde::{Serialize, Serializer};

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
        Self { value, kind, std_err: None, n_effective, ceiling: None, flags: Vec::new() }
    }

    /// With a flag more, if it applies.
    pub(crate) fn flag(mut self, applies: bool, flag: Flag) -> Self {
        if applies {
            self.flags.push(flag);
        }
        self
    }
}

/// Which way an estimate errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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
    /// A ratio whose denominator vanishes.
    #[error("all rows are equal: there is no variance to take a share of")]
    NoVariance,
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
