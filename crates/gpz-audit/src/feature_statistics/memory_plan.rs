//! The memory that statistics of features take, before they are begun.

use std::fmt;

use gpz_estimators::Error;
use gpz_estimators::plan::Needs;

use crate::feature_estimates::{Limits, Sample};
use crate::words::{bytes, counted};

/// The memory that statistics of features take, before they are begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What stays while the features stream past.
    needs: Needs,
    /// What streams beside it: bytes of a block of rows and of the labels.
    block: u128,
    labels: u128,
    /// Rows taken for what does not stream, and the bytes left for it.
    rows: usize,
    left: u64,
}

impl MemoryPlan {
    /// - `block`: rows read at once
    pub(super) fn of(
        classes: usize,
        (rows, width): (usize, usize),
        block: usize,
        limits: Limits,
    ) -> Result<Self, Error> {
        let needs = Needs::of_deviations(classes, width, rows, block)?;
        let mut plan = Self {
            needs,
            // As it is read, at most eight bytes an element, and as it is used.
            block: 12 * (block as u128) * (width as u128),
            // As they are read, as positions, and sorted.
            labels: 24 * rows as u128,
            rows: 0,
            left: limits.bytes,
        };
        if limits.strict {
            let streamed = u64::try_from(plan.streamed()).unwrap_or(u64::MAX);
            plan.left = limits.bytes.saturating_sub(streamed);
        }
        plan.rows = Sample::rows_of(rows, width, plan.limits(limits));
        Ok(plan)
    }

    /// Bytes of what streams and of what stays beside it, at most.
    pub(super) fn streamed(&self) -> u128 {
        self.needs.bytes() + self.block + self.labels
    }

    /// The limits with what is left for estimates of rows side by side.
    pub(super) fn limits(&self, limits: Limits) -> Limits {
        Limits { bytes: self.left, ..limits }
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces = self.needs.pieces().iter().map(|piece| (piece.what, piece.bytes));
        let others = [
            ("a block of rows, as it is read and as it is used", self.block),
            ("the labels, as they are read, as positions, and sorted", self.labels),
        ];
        for (what, n) in pieces.chain(others) {
            writeln!(f, "{:>10}  {what}", bytes(n))?;
        }
        let rows = counted(self.rows, "row");
        let what = format!("{rows} side by side and what is estimated from them");
        write!(f, "{:>10}  at most, afterwards: {what}", bytes(self.left))
    }
}
