//! A step of an optimiser over all parameters at once, and the watch over its gradients.

use crate::Kernel;

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[];
