//! Pooling of pictures that lie channels-last.

use crate::Kernel;

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[];
