//! Mutual information of symbols, in nats, and of continuous rows by binning.
//!
//! ```
//! use gpz_estimators::entropy::discrete::Codes;
//! use gpz_estimators::information::discrete::{miller_madow_mi_nats, plugin_mi_nats};
//!
//! let x: Vec<u8> = (0..800).map(|row| row as u8 % 4).collect();
//! let y: Vec<bool> = x.iter().map(|symbol| symbol % 2 == 0).collect();
//! let (x, y) = (Codes::of_symbols(&x)?, Codes::of_symbols(&y)?);
//! // y is a function of x, so I = H(y).
//! assert!((plugin_mi_nats(&x, &y)?.value - 2.0_f64.ln()).abs() < 1e-12);
//! // Four symbols and two, in four pairs: (4 + 2 − 4 − 1)/(2·800) more.
//! assert!((miller_madow_mi_nats(&x, &y)?.value - 2.0_f64.ln() - 0.000625).abs() < 1e-12);
//! # Ok::<(), gpz_estimators::Error>(())
//! ```

use ndarray::ArrayView2;

use crate::entropy::discrete::{Codes, counted_jackknife, finish, x_ln_x};
use crate::error::Error;
use crate::estimate::{Estimate, Kind};
use crate::oddities::Oddities;
use crate::rows::checked_pairs;
use crate::simd::Element;

/// `Σ p(x,y) ln p(x,y)/(p(x) p(y))` of the shares in the sample, in nats; never negative.
///
/// High by about `(K_xy − K_x − K_y + 1)/(2N)` where all symbols were seen: pairs that occur by chance look like dependence. Low
/// where `y` determines `x` and symbols are missing, since it is an entropy then. So it bounds nothing: [`Kind::Heuristic`]. The
/// standard error is the exact jackknife's; at independence it is not to be used as a test, as the plug-in is not normal there.
///
/// # Errors
/// [`Error::RowCount`].
///
/// # Source
/// L. Paninski, "Estimation of entropy and mutual information", 2003.
pub fn plugin_mi_nats(x: &Codes, y: &Codes) -> Result<Estimate, Error> {
    information(x, y, false)
}

/// Plug-in plus `(K_x + K_y − K_xy − 1)/(2N)`, in nats: Miller and Madow's correction of each entropy. May be negative.
///
/// The counts are of symbols and pairs seen; where most pairs that can occur did not ([`Flag::Undersampled`]), the rest of the
/// bias is of either sign. Standard error by the exact jackknife.
///
/// [`Flag::Undersampled`]: crate::Flag::Undersampled
///
/// # Errors
/// [`Error::RowCount`].
///
/// # Source
/// G. A. Miller, "Note on the bias of information estimates", 1955.
pub fn miller_madow_mi_nats(x: &Codes, y: &Codes) -> Result<Estimate, Error> {
    information(x, y, true)
}

/// Plug-in information of two samples cut into `bins` intervals of equal width per dimension, in nats.
///
/// - `x`: `[n, d_x]`, `y`: `[n, d_y]`; intervals as in [`Codes::of_bins`]
///
/// Two errors pull in opposite directions: coarse bins lose information, so the binned population's value is below the true
/// one; fine bins leave cells to chance, so the plug-in is above it, by about `(bins − 1)²/(2N)` in one dimension each. With a
/// cell per row the value says `ln N` and nothing else. The jackknife takes the edges as given.
///
/// ```
/// use gpz_estimators::information::discrete::binned_mi_nats;
/// use ndarray::Array2;
///
/// // x = y, evenly over four bins: the entropy of the bin.
/// let x = Array2::from_shape_fn((400, 1), |(i, _)| (i % 100) as f64);
/// assert!((binned_mi_nats(x.view(), x.view(), 4)?.value - 4.0_f64.ln()).abs() < 1e-12);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// Those of [`Codes::of_bins`], and [`Error::RowCount`].
///
/// # Source
/// Cover and Thomas, section 8.6, for the information of finer and finer bins; the two errors: Paninski 2003.
pub fn binned_mi_nats<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
    bins: usize,
) -> Result<Estimate, Error> {
    let (x, y) = checked_pairs(x, y)?;
    let mi = plugin_mi_nats(&Codes::of_bins(x.view(), bins)?, &Codes::of_bins(y.view(), bins)?)?;
    Ok(mi.odd(&Oddities::of(&[x.view(), y.view()])))
}

fn information(x: &Codes, y: &Codes, corrected: bool) -> Result<Estimate, Error> {
    let pairs = x.paired_with(y)?;
    let n = pairs.rows() as f64;
    // A pair's symbols are those of any of its rows.
    let mut cells = vec![(0, 0); pairs.unique()];
    for (row, &pair) in pairs.symbols().iter().enumerate() {
        cells[pair] = (x.symbols()[row], y.symbols()[row]);
    }
    let counts = |pair: usize| {
        let (x_symbol, y_symbol) = cells[pair];
        (pairs.counts()[pair], x.counts()[x_symbol], y.counts()[y_symbol])
    };
    let terms = (0..cells.len()).map(|pair| {
        let (both, left, right) = counts(pair);
        both as f64 / n * (both as f64 * n / (left as f64 * right as f64)).ln()
    });
    let plugin: f64 = terms.sum::<f64>() + 0.0;

    let correction = |kinds: f64, n: f64| if corrected { kinds / (2.0 * n) } else { 0.0 };
    let kinds = x.unique() as f64 + y.unique() as f64 - pairs.unique() as f64 - 1.0;
    let sum = pairs.sum_of_logs() - x.sum_of_logs() - y.sum_of_logs();
    let less = |count: u64| x_ln_x(count) - x_ln_x(count - 1);
    let once = |count: u64| f64::from(u8::from(count == 1));
    let without = |pair: usize| {
        let (both, left, right) = counts(pair);
        let sum = sum - less(both) + less(left) + less(right);
        let kinds = kinds - once(left) - once(right) + once(both);
        ((n - 1.0).ln() + sum / (n - 1.0) + correction(kinds, n - 1.0), both)
    };
    let without: Vec<_> = (0..cells.len()).map(without).collect();
    let std_err = counted_jackknife(pairs.rows(), &without);
    let (extra, most) = (correction(kinds, n), correction(n - 1.0, n));
    Ok(finish(plugin, extra, most, Kind::Heuristic, &pairs, std_err))
}
