//! What is done to each row of a matrix: softmax, layer normalisation, cross entropy.

use crate::Kernel;

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[];
