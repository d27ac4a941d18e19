//! What has one parameter per channel: batch normalisation, PReLU, bias, sums over all else.

use crate::Kernel;

/// Every kernel of the family.
pub const ALL: &[Kernel] = &[];
