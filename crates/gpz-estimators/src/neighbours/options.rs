//! How an estimator of nearest neighbours is run.

use serde::Serialize;

use crate::error::Error;

/// How an estimator of nearest neighbours is run: which neighbour, and how its standard error is found.
///
/// ```
/// use gpz_estimators::Neighbours;
///
/// assert_eq!(Neighbours::default(), Neighbours { k: 3, parts: 8 });
/// assert_eq!(Neighbours::nth(5).without_std_err(), Neighbours { k: 5, parts: 0 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbours {
    /// The neighbour whose distance counts. A larger one varies less and smooths more, so that it errs more where a density
    /// changes quickly.
    pub k: usize,
    /// Disjoint parts that the rows are dealt into: the estimate is repeated on each, and the spread gives the standard error.
    /// None with fewer than two parts, or where a part would have fewer than `4(k + 1)` rows.
    ///
    /// It is somewhat low where parts are small: for informations by a seventh with parts of 100 rows, a twentieth with 400.
    pub parts: usize,
}

/// How far two rows are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// `(Σ_j (x_j − y_j)²)^½`: rotations change nothing.
    Euclidean,
    /// `max_j |x_j − y_j|`: balls are cubes, whose volume in a product space is a product.
    Maximum,
}

impl Default for Neighbours {
    /// The third neighbour, eight parts.
    fn default() -> Self {
        Self { k: 3, parts: 8 }
    }
}

impl Neighbours {
    /// The `k`-th neighbour, eight parts.
    #[must_use]
    pub fn nth(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    /// Without the repetitions on parts, which cost once or twice as much again as the estimate: no standard error, and no look at whether
    /// the value grows with the rows.
    #[must_use]
    pub fn without_std_err(self) -> Self {
        Self { parts: 0, ..self }
    }

    /// Whether so many rows have a `k`-th neighbour.
    pub(crate) fn check(self, rows: usize) -> Result<(), Error> {
        if self.k == 0 {
            return Err(Error::Parameter {
                name: "k",
                value: 0.0,
                rule: "the first neighbour is k = 1",
            });
        }
        if rows <= self.k {
            return Err(Error::TooFewRows { neighbours: self.k, rows });
        }
        if u32::try_from(rows).is_err() {
            let rule = "neighbours are searched among fewer than 2^32 rows; take a part of them";
            return Err(Error::Parameter { name: "rows", value: rows as f64, rule });
        }
        Ok(())
    }

    /// The number of parts for so many rows; none where the parts would be too small to say anything.
    pub(crate) fn parts_of(self, rows: usize) -> Option<usize> {
        (self.parts >= 2 && rows / self.parts >= 4 * (self.k + 1)).then_some(self.parts)
    }
}
