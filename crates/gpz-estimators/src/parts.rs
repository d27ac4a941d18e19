//! Disjoint parts of the rows, for the standard errors of estimators that look at neighbours.

use crate::estimate::{Estimate, Uncertainty};

/// Mixes a counter into 64 bits (SplitMix64).
pub(crate) fn mix(counter: u64) -> u64 {
    let mut s = counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    s = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    s = (s ^ (s >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    s ^ (s >> 31)
}

/// Deals rows `0..n` into `parts` of equal size or one more, at random but always the same way; ascending in each.
///
/// At random, because rows often come sorted, or with classes in turn.
pub(crate) fn deal(n: usize, parts: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_cached_key(|&row| mix(row as u64));
    (0..parts)
        .map(|part| {
            let mut rows = order[part * n / parts..(part + 1) * n / parts].to_vec();
            rows.sort_unstable();
            rows
        })
        .collect()
}

/// Standard error of the estimate on all rows from those on disjoint parts: the parts' variance is as many times that of the whole
/// as there are parts. None from fewer than two parts or where one has no finite value.
pub(crate) fn std_err(values: &[f64]) -> Option<f64> {
    let m = values.len() as f64;
    if values.len() < 2 || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / m;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((squares / (m - 1.0) / m).sqrt())
}

impl Estimate {
    /// With the standard error that the values on disjoint parts give, if they give one.
    pub(crate) fn std_err_of_parts(self, values: &[f64]) -> Self {
        match std_err(values) {
            Some(error) => self
                .std_err(error, Uncertainty::DisjointSubsamples)
                .freedom(values.len() as f64 - 1.0),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_dealt_once() {
        for (n, parts) in [(0, 3), (2, 3), (17, 4), (1000, 8)] {
            let dealt = deal(n, parts);
            let mut all: Vec<usize> = dealt.concat();
            all.sort_unstable();
            assert_eq!(all, (0..n).collect::<Vec<_>>());
            assert!(
                dealt.iter().all(|part| part.len() == n / parts || part.len() == n / parts + 1)
            );
        }
    }

    #[test]
    fn the_error_of_a_mean_is_that_of_the_mean() {
        assert_eq!(std_err(&[1.0, 3.0]), Some(1.0));
        assert_eq!(std_err(&[1.0]), None);
        assert_eq!(std_err(&[1.0, f64::NEG_INFINITY]), None);
    }
}
