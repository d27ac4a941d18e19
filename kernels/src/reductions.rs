//! Sums and largest elements.

use crate::{Kernel, kernel};

/// [`row_sums`](crate::reference::row_sums).
pub const ROW_SUMS_F32: Kernel = kernel!("row_sums_f32", [32, 8, 1], 8);
/// [`partial_sums`](crate::reference::partial_sums): the first of two launches for few and long rows.
pub const PARTIAL_SUMS_F32: Kernel = kernel!("partial_sums_f32", [256, 1, 1], 1);
/// [`partial_dots`](crate::reference::partial_dots): the first of two launches.
pub const PARTIAL_DOTS_F32: Kernel = kernel!("partial_dots_f32", [256, 1, 1], 1);
/// [`finish_sums`](crate::reference::finish_sums): the second of two launches.
pub const FINISH_SUMS_F32: Kernel = kernel!("finish_sums_f32", [32, 8, 1], 8);
/// [`row_max`](crate::reference::row_max).
pub const ROW_MAX_F32: Kernel = kernel!("row_max_f32", [32, 8, 1], 8);
/// [`max_backward`](crate::reference::max_backward).
pub const MAX_BACKWARD_F32: Kernel = kernel!("max_backward_f32", [256, 1, 1], 256);

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[
    ROW_SUMS_F32,
    PARTIAL_SUMS_F32,
    PARTIAL_DOTS_F32,
    FINISH_SUMS_F32,
    ROW_MAX_F32,
    MAX_BACKWARD_F32,
];
