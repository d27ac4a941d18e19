//! Entropy of symbols, in nats: rows of integers or floats, or bit patterns, each distinct one a symbol.
//!
//! A feature sent in a stated number of bits has a discrete entropy, and no differential one. Both estimators here see only the
//! symbols that occurred, so that neither can pass `ln N` by more than half a nat. [`Flag::Saturated`] says that a value is near
//! that ceiling, [`Flag::Undersampled`] that symbols seen once are more than a twentieth of the rows: the truth may then be
//! anything above.
//!
//! ```
//! use gpz_estimators::entropy::discrete::{Codes, miller_madow_entropy_nats, plugin_entropy_nats};
//!
//! let bits: Vec<u16> = (0..400).map(|row| row % 4).collect();
//! let codes = Codes::of_symbols(&bits)?;
//! assert_eq!(codes.unique(), 4);
//! assert!((plugin_entropy_nats(&codes).value - 4.0_f64.ln()).abs() < 1e-14);
//! // Four symbols, 400 rows: (4 − 1)/(2·400) more.
//! assert!((miller_madow_entropy_nats(&codes).value - 4.0_f64.ln() - 0.00375).abs() < 1e-14);
//! # Ok::<(), gpz_estimators::Error>(())
//! ```

use std::cmp::Ordering;

use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use crate::error::Error;
use crate::estimate::{Estimate, Flag, Kind, Uncertainty};
use crate::rows::{checked, compare_rows};
use crate::simd::Element;

/// Share of rows with a symbol seen once from which on the sample is called too small for its alphabet.
const UNDERSAMPLED: f64 = 0.05;

/// Rows as symbols: which distinct value each row has, and how often each occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codes {
    /// The symbol of each row, below `counts.len()`; symbols ascend with the values they stand for.
    symbols: Vec<usize>,
    counts: Vec<u64>,
}

impl Codes {
    /// Each distinct value is a symbol: bit patterns, integers, labels, or rows as slices.
    ///
    /// Bit patterns are compared as such: the two zeros of a float format are two symbols, as they are on a wire.
    ///
    /// # Errors
    /// [`Error::NoRows`].
    pub fn of_symbols<S: Ord + Sync>(symbols: &[S]) -> Result<Self, Error> {
        Self::by(symbols.len(), |&a, &b| symbols[a].cmp(&symbols[b]))
    }

    /// Each distinct row is a symbol; rows are equal if their values are, so `0` and `-0` are one.
    ///
    /// - `features`: `[n, d]`, `f32` or `f64`
    ///
    /// # Errors
    /// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`].
    pub fn of_rows<T: Element>(features: ArrayView2<'_, T>) -> Result<Self, Error> {
        let rows = checked(features)?;
        Self::by(rows.nrows(), |&a, &b| compare_rows(&rows.view(), a, b))
    }

    /// Each occupied cell of a grid is a symbol: `bins` intervals of equal width per dimension, from its least to its largest value.
    ///
    /// Intervals are closed on the left, the last on both sides; edges are those of `numpy.histogram2d`. A constant dimension
    /// has one interval.
    ///
    /// # Errors
    /// Those of [`of_rows`](Self::of_rows), and [`Error::Parameter`] for no bin.
    pub fn of_bins<T: Element>(features: ArrayView2<'_, T>, bins: usize) -> Result<Self, Error> {
        if bins == 0 {
            return Err(Error::Parameter {
                name: "bins",
                value: 0.0,
                rule: "at least 1 is needed",
            });
        }
        let mut rows = checked(features)?;
        for mut column in rows.columns_mut() {
            let least = column.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let step = (largest - least) / bins as f64;
            let edge = |index: usize| {
                if index == bins { largest } else { index as f64 * step + least }
            };
            column.mapv_inplace(|value| {
                if step <= 0.0 {
                    return 0.0;
                }
                // Rounding may be off by one either way; the edges decide.
                let mut bin = (((value - least) / step) as usize).min(bins - 1);
                while bin > 0 && value < edge(bin) {
                    bin -= 1;
                }
                while bin + 1 < bins && value >= edge(bin + 1) {
                    bin += 1;
                }
                bin as f64
            });
        }
        Self::by(rows.nrows(), |&a, &b| compare_rows(&rows.view(), a, b))
    }

    /// The pairs of two samples' symbols as symbols.
    ///
    /// # Errors
    /// [`Error::RowCount`].
    pub fn paired_with(&self, other: &Self) -> Result<Self, Error> {
        if self.rows() != other.rows() {
            return Err(Error::RowCount { left: self.rows(), right: other.rows() });
        }
        let pair = |row: usize| (self.symbols[row], other.symbols[row]);
        Self::by(self.rows(), |&a, &b| pair(a).cmp(&pair(b)))
    }

    /// Rows `0..n` that compare as equal are one symbol.
    ///
    /// # Errors
    /// [`Error::NoRows`].
    pub(crate) fn by(
        n: usize,
        compare: impl Fn(&usize, &usize) -> Ordering + Sync,
    ) -> Result<Self, Error> {
        if n == 0 {
            return Err(Error::NoRows);
        }
        let mut order: Vec<usize> = (0..n).collect();
        order.par_sort_unstable_by(&compare);
        let (mut symbols, mut counts) = (vec![0; n], Vec::new());
        for group in order.chunk_by(|a, b| compare(a, b).is_eq()) {
            group.iter().for_each(|&row| symbols[row] = counts.len());
            counts.push(group.len() as u64);
        }
        Ok(Self { symbols, counts })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.symbols.len()
    }

    /// Number of distinct symbols that occur.
    #[must_use]
    pub fn unique(&self) -> usize {
        self.counts.len()
    }

    /// How often each symbol occurs, `[unique]`, ascending by the value that it stands for.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The symbol of each row, `[rows]`, below [`unique`](Self::unique).
    #[must_use]
    pub fn symbols(&self) -> &[usize] {
        &self.symbols
    }

    /// Symbols that occur once.
    #[must_use]
    pub fn singletons(&self) -> u64 {
        self.counts.iter().filter(|&&count| count == 1).count() as u64
    }

    /// `Σ c ln c` over the symbols' counts.
    pub(crate) fn sum_of_logs(&self) -> f64 {
        self.counts.iter().map(|&count| x_ln_x(count)).sum()
    }

    /// The number of singletons, if they are many.
    pub(crate) fn undersampled(&self) -> Option<Flag> {
        let singletons = self.singletons();
        (singletons as f64 > UNDERSAMPLED * self.rows() as f64)
            .then_some(Flag::Undersampled(singletons))
    }
}

/// `x ln x`, zero at zero.
pub(crate) fn x_ln_x(count: u64) -> f64 {
    if count == 0 { 0.0 } else { count as f64 * (count as f64).ln() }
}

/// Delete-one jackknife: from pairs of a value without one row and the number of rows that this holds for.
pub(crate) fn counted_jackknife(n: usize, without: &[(f64, u64)]) -> Option<f64> {
    if n < 2 {
        return None;
    }
    let n = n as f64;
    let mean = without.iter().map(|&(value, times)| value * times as f64).sum::<f64>() / n;
    let spread: f64 =
        without.iter().map(|&(value, times)| (value - mean).powi(2) * times as f64).sum();
    Some(((n - 1.0) / n * spread).sqrt())
}

/// Flags and standard error that entropies and informations of symbols share. `cells` are the symbols that were counted,
/// `correction` what was added to the plug-in value and `most` the largest that could have been.
pub(crate) fn finish(
    plugin: f64,
    correction: f64,
    most: f64,
    kind: Kind,
    cells: &Codes,
    std_err: Option<f64>,
) -> Estimate {
    let n = cells.rows() as f64;
    let mut estimate = Estimate::new(plugin, kind, n)
        .flag(kind != Kind::Heuristic, Flag::InExpectation)
        .ceiling(n.ln());
    estimate.value += correction;
    estimate.ceiling = estimate.ceiling.map(|ceiling| ceiling + most);
    if let Some(flag) = cells.undersampled() {
        estimate = estimate.flag(true, flag);
    }
    match std_err {
        Some(std_err) => estimate.std_err(std_err, Uncertainty::Jackknife),
        None => estimate,
    }
}

/// `−Σ p ln p` of the shares in the sample, in nats; [`Kind::Lower`] in expectation.
///
/// The entropy is concave in `p`, so the plug-in is low on average whatever the law: by about `(K − 1)/(2N)` for an alphabet of
/// `K ≪ N` symbols, by much more where most symbols were not seen. The standard error is the exact jackknife's. Rows that repeat are
/// what is counted here, and no oddity.
///
/// # Source
/// G. A. Miller 1955; L. Paninski 2003 for the bias.
#[must_use]
pub fn plugin_entropy_nats(codes: &Codes) -> Estimate {
    entropy(codes, false)
}

/// Plug-in plus `(K − 1)/(2N)`, `K` the symbols seen, in nats: the first term of the bias undone.
///
/// Still low where many symbols were not seen, as the correction counts only those that were; and high by chance elsewhere,
/// hence [`Kind::Heuristic`]. The standard error is the exact jackknife's.
///
/// # Source
/// G. A. Miller, "Note on the bias of information estimates", 1955.
#[must_use]
pub fn miller_madow_entropy_nats(codes: &Codes) -> Estimate {
    entropy(codes, true)
}

fn entropy(codes: &Codes, corrected: bool) -> Estimate {
    let n = codes.rows() as f64;
    let correction = |kinds: f64, n: f64| if corrected { (kinds - 1.0) / (2.0 * n) } else { 0.0 };
    let shares = codes.counts.iter().map(|&count| count as f64 / n);
    let plugin = -shares.map(|share| share * share.ln()).sum::<f64>() + 0.0;
    let (sum, kinds) = (codes.sum_of_logs(), codes.unique() as f64);
    let without = |&count: &u64| {
        let left = sum - x_ln_x(count) + x_ln_x(count - 1);
        let kinds = if count == 1 { kinds - 1.0 } else { kinds };
        ((n - 1.0).ln() - left / (n - 1.0) + correction(kinds, n - 1.0), count)
    };
    let without: Vec<_> = codes.counts.iter().map(without).collect();
    let std_err = counted_jackknife(codes.rows(), &without);
    let kind = if corrected { Kind::Heuristic } else { Kind::Lower };
    finish(plugin, correction(kinds, n), correction(n, n), kind, codes, std_err)
}

/// [`plugin_entropy_nats`] of each dimension by itself, `[d]`. Their sum bounds the joint entropy from above.
///
/// - `features`: `[n, d]`; a distinct value of a column is a symbol
///
/// Each is low on average, by about `(K_j − 1)/(2N)`, so their sum is a plug-in of an upper bound and no bound.
///
/// ```
/// use gpz_estimators::entropy::discrete::plugin_entropy_per_dim_nats;
/// use ndarray::array;
///
/// let entropies = plugin_entropy_per_dim_nats(array![[0.0, 7.0], [1.0, 7.0], [2.0, 7.0], [3.0, 7.0]].view())?;
/// assert!((entropies[0].value - 4.0_f64.ln()).abs() < 1e-15 && entropies[1].value == 0.0);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// Those of [`Codes::of_rows`].
///
/// # Source
/// As [`plugin_entropy_nats`]; the sum's bound: Cover and Thomas, theorem 2.6.6.
pub fn plugin_entropy_per_dim_nats<T: Element>(
    features: ArrayView2<'_, T>,
) -> Result<Vec<Estimate>, Error> {
    let rows = checked(features)?;
    let column = |j: usize| {
        Codes::of_rows(rows.slice(s![.., j..=j])).map(|codes| plugin_entropy_nats(&codes))
    };
    (0..rows.ncols()).into_par_iter().map(column).collect()
}

/// [`plugin_entropy_nats`] of whole rows, in nats. Saturates at `ln N` soon as dimensions grow.
///
/// - `features`: `[n, d]`; a distinct row is a symbol. Bias and standard error: as there
///
/// ```
/// use gpz_estimators::entropy::discrete::plugin_entropy_joint_nats;
/// use ndarray::array;
///
/// let entropy = plugin_entropy_joint_nats(array![[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]].view())?;
/// assert!((entropy.value - 2.0_f64.ln()).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// Those of [`Codes::of_rows`].
///
/// # Source
/// As [`plugin_entropy_nats`].
pub fn plugin_entropy_joint_nats<T: Element>(
    features: ArrayView2<'_, T>,
) -> Result<Estimate, Error> {
    Codes::of_rows(features).map(|codes| plugin_entropy_nats(&codes))
}

/// Share of the most frequent symbol: the chance of guessing a symbol without any help, `e^−H∞` of the min-entropy `H∞` in nats.
///
/// The largest share is convex in `p`, so the plug-in is high on average: [`Kind::Upper`] in expectation. The standard error is
/// the binomial formula's.
///
/// High by about the largest of `K` nearly equal shares' chance, `√(2 ln K/(K N))`, where all symbols are about as frequent, and by little
/// where one stands out. A symbol for each row makes it `1/N` whatever the law.
///
/// ```
/// use gpz_estimators::entropy::discrete::{Codes, guess_probability};
///
/// let guess = guess_probability(&Codes::of_symbols(b"aaab")?);
/// assert_eq!((guess.value, guess.std_err), (0.75, Some(0.1875_f64.sqrt() / 2.0)));
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// Rényi's entropy of infinite order; G. Smith, "On the foundations of quantitative information flow", 2009, for the guess.
#[must_use]
pub fn guess_probability(codes: &Codes) -> Estimate {
    let n = codes.rows() as f64;
    let share = codes.counts.iter().copied().max().unwrap_or(0) as f64 / n;
    Estimate::new(share, Kind::Upper, n)
        .flag(true, Flag::InExpectation)
        .std_err((share * (1.0 - share) / n).sqrt(), Uncertainty::Formula)
}

/// Share of zeros in each dimension, `[d]`; `-0` is a zero. Of the rows given, exactly.
///
/// - `features`: `[n, d]`, `f32` or `f64`
///
/// ```
/// use gpz_estimators::entropy::discrete::zero_share_per_dim;
/// use ndarray::array;
///
/// assert_eq!(zero_share_per_dim(array![[0.0, 1.0], [-0.0, 0.0]].view())?, [1.0, 0.5]);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::NoRows`], [`Error::NonFinite`], [`Error::Magnitude`].
pub fn zero_share_per_dim<T: Element>(features: ArrayView2<'_, T>) -> Result<Vec<f64>, Error> {
    let rows = checked(features)?;
    let mut zeros = vec![0_u64; rows.ncols()];
    for row in rows.rows() {
        zeros.iter_mut().zip(row).for_each(|(zeros, &value)| *zeros += u64::from(value == 0.0));
    }
    Ok(zeros.into_iter().map(|zeros| zeros as f64 / rows.nrows() as f64).collect())
}
