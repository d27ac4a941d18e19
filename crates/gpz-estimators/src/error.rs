//! The crate's one error type: what was wrong with the input, and what mends it.

/// Why an input was refused. Whatever state was being updated is as it was before the call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Moments over no class or of features without a dimension.
    #[error("{classes} classes of width {width}: both must be at least 1")]
    EmptyShape {
        /// Declared number of classes.
        classes: usize,
        /// Declared width of a feature.
        width: usize,
    },
    /// The state for so many classes and dimensions is beyond the address space.
    #[error(
        "moments of {classes} classes x {width} dimensions do not fit in memory; pool the features or split the classes"
    )]
    StateTooLarge {
        /// Declared number of classes.
        classes: usize,
        /// Declared width of a feature.
        width: usize,
    },
    /// A batch whose rows are not as wide as the moments.
    #[error("features have width {found}, these statistics were made for width {expected}")]
    Width {
        /// The width fixed at construction.
        expected: usize,
        /// The width of the batch.
        found: usize,
    },
    /// A batch with another number of labels than rows.
    #[error("{rows} feature rows but {labels} labels: one label per row is needed")]
    LabelCount {
        /// Rows of the batch.
        rows: usize,
        /// Labels given.
        labels: usize,
    },
    /// A label that names no class.
    #[error("label {label} of row {row} is not below the number of classes, {classes}")]
    LabelOutOfRange {
        /// The row, counted within the batch.
        row: usize,
        /// Its label.
        label: usize,
        /// The number of classes fixed at construction.
        classes: usize,
    },
    /// NaN or an infinity in the features.
    #[error(
        "row {row}, column {column} of the batch is {value}; remove the row or find where the feature overflowed"
    )]
    NonFinite {
        /// The first bad row, counted within the batch.
        row: usize,
        /// Its first bad column.
        column: usize,
        /// What stands there.
        value: f64,
    },
    /// A finite value whose square no longer fits an `f64`.
    #[error(
        "row {row}, column {column} of the batch is {value}, beyond 1e150, so squares overflow; rescale the features"
    )]
    Magnitude {
        /// The first such row, counted within the batch.
        row: usize,
        /// Its first such column.
        column: usize,
        /// What stands there.
        value: f64,
    },
    /// A squared distance that is negative or not finite.
    #[error(
        "the squared distance of row {row} of the batch is {value}; find where its feature overflowed"
    )]
    Distance {
        /// The row, counted within the batch.
        row: usize,
        /// What was given.
        value: f64,
    },
    /// Sums about pivots of another length than classes and width ask for.
    #[error("{length} pivots or sums where {classes} classes of width {width} have {}", classes * width)]
    PivotedLength {
        /// The length that was given.
        length: usize,
        /// Number of classes.
        classes: usize,
        /// Features of a row.
        width: usize,
    },
    /// A sum about a pivot that is not finite.
    #[error(
        "column {column} of class {class} has a value that is NaN, infinite or too large to be squared; check the network that made the features"
    )]
    PivotedSum {
        /// The class.
        class: usize,
        /// The column.
        column: usize,
    },
    /// Two states that describe different things were to be merged.
    #[error(
        "cannot merge moments of {other_classes} classes x width {other_width} into {classes} classes x width {width}"
    )]
    MergeShape {
        /// Classes of the receiving state.
        classes: usize,
        /// Width of the receiving state.
        width: usize,
        /// Classes of the other state.
        other_classes: usize,
        /// Width of the other state.
        other_width: usize,
    },
    /// Statistics were asked of no rows.
    #[error("there are no rows; at least one is needed")]
    NoRows,
    /// The second pass saw another number of rows of a class than the first.
    #[error(
        "class {class} had {first} rows in the first pass and {second} in the second; feed the same rows to both"
    )]
    PassCounts {
        /// The first class that differs.
        class: usize,
        /// Rows in the first pass.
        first: u64,
        /// Rows in the second pass.
        second: u64,
    },
    /// The second pass saw rows that do not belong to the moments of the first.
    #[error(
        "class {class}: squared distances sum to {second} in the second pass but to {first} in the first; \
         feed the same rows to both, from a network in evaluation mode"
    )]
    PassRows {
        /// The first class that differs.
        class: usize,
        /// Sum of squared deviations by the first pass.
        first: f64,
        /// The same by the second pass.
        second: f64,
    },
    /// Resampling weights that do not fit the images.
    #[error("{weights} weights for {images} images: one weight per image is needed")]
    WeightCount {
        /// Images of the pass.
        images: usize,
        /// Weights given.
        weights: usize,
    },
    /// A confidence level outside the open interval from 0 to 1.
    #[error("confidence level {level} must lie strictly between 0 and 1, for example 0.95")]
    Level {
        /// The level given.
        level: f64,
    },
    /// Two samples whose rows belong together differ in number.
    #[error(
        "{left} rows of the one and {right} of the other: rows are pairs, so both need as many"
    )]
    RowCount {
        /// Rows of the first.
        left: usize,
        /// Rows of the second.
        right: usize,
    },
    /// A parameter out of its range.
    #[error("{name} is {value}; {rule}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// The value given.
        value: f64,
        /// What is possible.
        rule: &'static str,
    },
    /// More neighbours asked for than there are other rows.
    #[error("{neighbours} neighbours of {rows} rows: at least {} rows are needed, or fewer neighbours", .neighbours + 1)]
    TooFewRows {
        /// Neighbours asked for.
        neighbours: usize,
        /// Rows there are.
        rows: usize,
    },
    /// An array of another shape than its companions ask for.
    #[error("{what} has shape {found:?}, but {expected:?} is needed")]
    Shape {
        /// Which array.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that fits.
        expected: Vec<usize>,
    },
    /// The plan of a computation exceeds the memory it was allowed.
    #[error("{what} takes {needed} bytes, but {budget} are allowed; {mend}")]
    Budget {
        /// What would be computed.
        what: &'static str,
        /// Bytes it takes.
        needed: u128,
        /// Bytes allowed.
        budget: u128,
        /// What can be done.
        mend: &'static str,
    },
    /// A covariance that is none.
    #[error(
        "covariance {index} is not symmetric and positive definite; a component of a mixture needs a density"
    )]
    NotPositiveDefinite {
        /// Which of the covariances given.
        index: usize,
    },
    /// A factorisation failed inside LAPACK.
    #[error("LAPACK could not factorise the covariance of {rows} rows of width {width}: {reason}")]
    Factorisation {
        /// Rows of the sample.
        rows: usize,
        /// Width of the sample.
        width: usize,
        /// LAPACK's own words.
        reason: String,
    },
}
