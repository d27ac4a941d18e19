//! The error that an attacker on a split is really left with.
//!
//! Whoever holds the feature of a split can compute the feature of every deeper split, so an optimal attacker is never worse
//! off at a shallower one. A measured attack that says otherwise has not converged. The effective error of a split is
//! therefore the smallest error measured on it or on any deeper split, and it never falls with depth.
//!
//! Behind a channel that adds noise or rounds, this no longer holds for what arrives: the noise at a shallow split is not that of a
//! deeper one. The effective error is the measured one there.

use crate::declared::Declared;
use crate::error::Result;
use crate::intervals::{Interval, Paired, Purpose, Resampling, check_images};

/// Whether what arrives at deeper splits follows from what arrives at a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deeper {
    /// Features are sent exactly: whoever holds one can compute every deeper one.
    Follows,
    /// Each feature is sent through a channel of its own.
    Differs,
}

impl Deeper {
    /// Behind a channel as it is declared.
    #[must_use]
    pub fn behind(channel: Declared) -> Self {
        if channel.is_none() { Self::Follows } else { Self::Differs }
    }

    /// For each split the smallest value that its holder is left with.
    pub(crate) fn smallest(self, values: &[f64]) -> Vec<f64> {
        match self {
            Self::Follows => smallest_from_here_on(values),
            Self::Differs => values.to_vec(),
        }
    }
}

/// The measured and the effective error of one split, each with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitError {
    /// Mean over the images of the error of the attack on this split.
    pub measured: f64,
    /// Its interval.
    pub measured_ci: Interval,
    /// The smallest `measured` of this and all deeper splits, where these follow.
    pub effective: f64,
    /// Its interval: the minimum is taken anew in each resample.
    pub effective_ci: Interval,
    /// Whether an attack on a deeper split does better than the one on this split.
    pub attack_limited: bool,
}

/// Measured and effective errors of all splits from their per-image errors.
///
/// - `splits`: name and per-image error of each split, shallowest first; the same images in the same order at every split
/// - `deeper`: whether deeper features follow from shallower ones
///
/// # Errors
/// [`crate::Error::Resampling`]; [`crate::Error::NoImages`], [`crate::Error::ImageCount`] and [`crate::Error::ImageFigure`]
/// (negative or not finite) name the split.
pub fn split_errors(
    splits: &[(&str, &[f64])],
    deeper: Deeper,
    resampling: &Resampling,
) -> Result<Vec<SplitError>> {
    resampling.validate()?;
    check_images(splits, "squared error", false)?;
    let columns: Vec<&[f64]> = splits.iter().map(|(_, c)| *c).collect();
    let images = Paired::new(&columns);
    let measured = images.means();
    let effective = deeper.smallest(&measured);
    let replicates = resampling.replicate(images.images(), Purpose::Attack, |w| {
        let means: Vec<f64> = images.weighted_sums(w).iter().map(|s| s / w.len() as f64).collect();
        let effective = deeper.smallest(&means);
        (means, effective)
    });
    let record = |(k, (&measured, &effective)): (usize, (&f64, &f64))| SplitError {
        measured,
        measured_ci: resampling.interval(replicates.iter().map(|(m, _)| m[k]).collect()),
        effective,
        effective_ci: resampling.interval(replicates.iter().map(|(_, e)| e[k]).collect()),
        attack_limited: effective < measured,
    };
    Ok(measured.iter().zip(&effective).enumerate().map(record).collect())
}

/// For each position the smallest value from there on.
fn smallest_from_here_on(values: &[f64]) -> Vec<f64> {
    let mut out = values.to_vec();
    for k in (1..out.len()).rev() {
        out[k - 1] = out[k - 1].min(out[k]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_shallow_attack_that_lags_is_limited_by_the_deeper_ones() {
        let errors = [vec![0.006; 8], vec![0.002; 8], vec![0.004; 8]];
        let splits: Vec<(&str, &[f64])> =
            ["a", "b", "c"].into_iter().zip(errors.iter().map(Vec::as_slice)).collect();
        let got = split_errors(&splits, Deeper::Follows, &Resampling::default()).unwrap();
        let effective: Vec<f64> = got.iter().map(|e| e.effective).collect();
        assert_eq!(effective, [0.002, 0.002, 0.004]);
        let limited: Vec<bool> = got.iter().map(|e| e.attack_limited).collect();
        assert_eq!(limited, [true, false, false]);
        assert_eq!(got[0].effective_ci, got[1].measured_ci);
        // Behind a channel of its own, each attack stands for itself.
        let apart = split_errors(&splits, Deeper::Differs, &Resampling::default()).unwrap();
        for error in apart {
            assert!(error.effective == error.measured && !error.attack_limited);
            assert_eq!(error.effective_ci, error.measured_ci);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Effective errors and both ends of their intervals never fall with depth, and never exceed the measured ones.
        #[test]
        fn effective_never_falls_with_depth(values in prop::collection::vec(prop::collection::vec(0.0..1.0f64, 12), 1..6)) {
            let splits: Vec<(&str, &[f64])> = values.iter().map(|v| ("s", v.as_slice())).collect();
            let got = split_errors(&splits, Deeper::Follows, &Resampling { resamples: 200, ..Resampling::default() }).unwrap();
            for e in &got {
                prop_assert!(e.effective <= e.measured && e.effective_ci.hi <= e.measured_ci.hi);
            }
            for pair in got.windows(2) {
                prop_assert!(pair[0].effective <= pair[1].effective);
                prop_assert!(pair[0].effective_ci.lo <= pair[1].effective_ci.lo);
                prop_assert!(pair[0].effective_ci.hi <= pair[1].effective_ci.hi);
            }
        }
    }
}
