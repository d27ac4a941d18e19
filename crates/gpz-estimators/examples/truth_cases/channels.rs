//! Channels and bounds on attackers.

use crate::answers::Answers;
use crate::case::Case;

/// Answers nothing yet: the crate has no such bound.
pub(crate) fn answer(_case: &Case, _answers: &mut Answers<'_>) {}
