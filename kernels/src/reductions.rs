//! Sums and largest elements.

use crate::Kernel;

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[];
