//! Random numbers that depend on what they are for and on nothing else.
//!
//! Every draw comes from a ChaCha8 stream whose 32-byte key is (seed, purpose, a, b): which thread asks, and what was asked
//! before, cannot change it. The few distributions are written out because their results are part of a run's identity and
//! must not move with a library's version.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The stream of `purpose` at `(a, b)`, for instance (epoch, image).
pub(crate) fn stream(seed: u64, purpose: &str, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, fnv1a(purpose.as_bytes()), a, b]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// 64-bit FNV-1a.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Uniform in `[0, 1)`, 24 bits.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Two independent standard normal numbers (Box and Muller), from 53 bits each.
pub(crate) fn normal_pair(rng: &mut ChaCha8Rng) -> [f64; 2] {
    // In the middle of its cell, so never 0.
    let mut open_unit = || ((rng.next_u64() >> 11) as f64 + 0.5) * (-53f64).exp2();
    let (radius, angle) = ((-2.0 * open_unit().ln()).sqrt(), std::f64::consts::TAU * open_unit());
    [radius * angle.cos(), radius * angle.sin()]
}

/// Uniform in `0..n` without bias; `n` is at least 1.
fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    // Draws beyond the last whole multiple of n would favour the small remainders.
    let excess = (u64::MAX % n + 1) % n;
    loop {
        let draw = rng.next_u64();
        if draw <= u64::MAX - excess {
            return draw % n;
        }
    }
}

/// Every order equally likely (Fisher and Yates).
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        let chosen = below(rng, last as u64 + 1) as usize;
        items.swap(last, chosen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of the 24 orders of four items comes up about as often as the others: chi-square with 23 degrees of freedom.
    #[test]
    fn every_order_is_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        let rounds = 24_000;
        for round in 0..rounds {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, &mut stream(7, "order", round, 0));
            *counts.entry(items).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 24);
        let expected = rounds as f64 / 24.0;
        let chi2: f64 =
            counts.values().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        assert!(chi2 < 60.0, "chi-square {chi2} (0.9999 quantile: 58.6)");
    }

    #[test]
    fn unit_fills_the_interval_evenly() {
        let mut rng = stream(1, "unit", 0, 0);
        let draws: Vec<f64> = (0..20_000).map(|_| f64::from(unit(&mut rng))).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(
            (mean - 0.5).abs() < 0.01 && (variance - 1.0 / 12.0).abs() < 0.002,
            "mean {mean}, variance {variance}"
        );
    }

    /// Moments of 100,000 pairs, each within five standard errors, and the two of a pair uncorrelated.
    #[test]
    fn normal_numbers_have_the_moments_of_theirs() {
        let mut rng = stream(5, "normal", 0, 0);
        let pairs: Vec<[f64; 2]> = (0..100_000).map(|_| normal_pair(&mut rng)).collect();
        let n = pairs.len() as f64;
        let mean = |f: fn(&[f64; 2]) -> f64| pairs.iter().map(f).sum::<f64>() / n;
        for (got, want, variance) in [
            (mean(|p| p[0]), 0.0, 1.0),
            (mean(|p| p[1]), 0.0, 1.0),
            (mean(|p| p[0] * p[0]), 1.0, 2.0),
            (mean(|p| p[1] * p[1]), 1.0, 2.0),
            (mean(|p| p[0] * p[1]), 0.0, 1.0),
            (mean(|p| p[0].powi(4)), 3.0, 96.0),
        ] {
            assert!((got - want).abs() < 5.0 * (variance / n).sqrt(), "{got} for {want}");
        }
    }

    /// Each of the four words of the key opens a stream of its own, and the same key the same one.
    #[test]
    fn streams_differ_in_every_word_of_the_key() {
        let first = |seed, purpose, a, b| stream(seed, purpose, a, b).next_u64();
        let keys = [
            first(1, "x", 2, 3),
            first(2, "x", 2, 3),
            first(1, "y", 2, 3),
            first(1, "x", 3, 3),
            first(1, "x", 2, 2),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|b| a != b));
        }
        assert_eq!(keys[0], first(1, "x", 2, 3));
    }
}
