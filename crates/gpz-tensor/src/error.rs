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
    /// Operands that lie on different devices; nothing is moved silently.
    #[error("{op}: one operand lies on {lhs}, another on {rhs}; move one with `to_device`")]
    DeviceMismatch {
        /// The operation.
        op: &'static str,
        /// Device of the first operand.
        lhs: String,
        /// Device of the other.
        rhs: String,
    },
    /// A dtype that a CUDA device does not compute in.
    #[error(
        "{op}: a CUDA device computes in f32, not in {dtype}; convert with `to_dtype`, or stay on the cpu"
    )]
    DeviceDType {
        /// The operation.
        op: &'static str,
        /// The dtype that was given.
        dtype: DType,
    },
    /// A tensor on the processor, for what CUDA devices alone compute.
    #[error(
        "{op}: the tensor lies on the cpu, where this is not computed; move it with `to_device`"
    )]
    NeedsCuda {
        /// The operation.
        op: &'static str,
    },
    /// No memory on a device.
    #[error(
        "the CUDA device has no {} in one piece: {} are free{}, {} are in use; a smaller batch needs less{}",
        mebibytes(*needed_bytes), mebibytes(*free_bytes), if *limited { " within the limit that was set" } else { "" },
        mebibytes(*used_bytes), if *limited { ", and a larger limit gives more" } else { "" }
    )]
    DeviceMemory {
        /// Bytes of the block that was asked for.
        needed_bytes: u64,
        /// Bytes there are, within the limit.
        free_bytes: u64,
        /// Bytes that tensors hold.
        used_bytes: u64,
        /// Whether a limit was in the way, and not the device.
        limited: bool,
    },
    /// A CUDA device, or a library it needs, that is not there.
    #[error("no CUDA device can be used: {reason}")]
    NoCuda {
        /// What is missing, and where to get it.
        reason: String,
    },
    /// A CUDA device on which nothing works any more.
    #[error("{op}: {reason}")]
    DeviceLost {
        /// The operation that found it, or the kernel.
        op: &'static str,
        /// In the words of the driver.
        reason: String,
    },
    /// A call of a CUDA device that failed, alone.
    #[error("{op}: the CUDA device failed: {reason}")]
    Cuda {
        /// The operation, or the kernel.
        op: &'static str,
        /// In the words of the driver.
        reason: String,
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

fn mebibytes(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return format!("{:.1} KiB", bytes as f64 / f64::from(1 << 10));
    }
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
