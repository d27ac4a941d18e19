//! Elementwise functions and their gradients, copies between layouts, masks.

use crate::Kernel;

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[];
