//! What can go wrong in a tensor operation.

use crate::DType;

/// Result of a tensor operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A tensor operation was given operands it cannot compute with.
///
/// Every variant names the operation and carries the values that were wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two operands whose shapes must agree do not.
    #[error("{op}: shapes {lhs:?} and {rhs:?} do not match: {rule}")]
    ShapeMismatch {
        /// The operation.
        op: &'static str,
        /// Shape of the first operand.
        lhs: Box<[usize]>,
        /// Shape of the second operand.
        rhs: Box<[usize]>,
        /// What has to hold between the two.
        rule: &'static str,
    },
    /// A shape the operation does not take.
    #[error("{op}: shape {shape:?} does not fit: {rule}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The shape that was given.
        shape: Box<[usize]>,
        /// What the operation takes.
        rule: &'static str,
    },
    /// Operands of different dtype; nothing is converted silently.
    #[error("{op}: dtypes {lhs} and {rhs} differ; convert one with `to_dtype`")]
    DTypeMismatch {
        /// The operation.
        op: &'static str,
        /// Dtype of the first operand.
        lhs: DType,
        /// Dtype of the second operand.
        rhs: DType,
    },
    /// An axis beyond the tensor's rank.
    #[error("{op}: axis {axis} does not exist in a tensor of rank {rank}")]
    Axis {
        /// The operation.
        op: &'static str,
        /// The axis that was asked for.
        axis: usize,
        /// Number of axes there are.
        rank: usize,
    },
    /// An option outside its range.
    #[error("{op}: {name} = {value} is not possible: {rule}")]
    Value {
        /// The operation.
        op: &'static str,
        /// Name of the option.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What is possible.
        rule: &'static str,
    },
    /// The data handed over does not fill the shape.
    #[error("{op}: {len} elements cannot have shape {shape:?}, which holds {want}")]
    Length {
        /// The operation.
        op: &'static str,
        /// Elements that were given.
        len: usize,
        /// Elements the shape holds.
        want: usize,
        /// The shape that was asked for.
        shape: Box<[usize]>,
    },
}

impl Error {
    pub(crate) fn mismatch(
        op: &'static str,
        lhs: &[usize],
        rhs: &[usize],
        rule: &'static str,
    ) -> Self {
        Error::ShapeMismatch { op, lhs: lhs.into(), rhs: rhs.into(), rule }
    }

    pub(crate) fn shape(op: &'static str, shape: &[usize], rule: &'static str) -> Self {
        Error::Shape { op, shape: shape.into(), rule }
    }
}
