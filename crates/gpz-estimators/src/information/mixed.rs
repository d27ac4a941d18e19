//! Mutual information of samples that may be discrete, continuous, or both at once, in nats.

use ndarray::{Array2, ArrayView2, Axis};

use super::ksg::{Growth, side_by_side};
use crate::digamma::Digamma;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind};
use crate::jobs;
use crate::neighbours::{MaxNorm, Neighbours, Space, Tree};
use crate::oddities::Oddities;
use crate::rows::{self, KNN_DIMENSIONS};
use crate::simd::Element;

/// Gao, Kannan, Oh and Viswanath's estimate of `I(X;Y)` for any mixture of discrete and continuous, in nats.
///
/// `⟨ψ(k_i) + ln n − ψ(n_x) − ψ(n_y)⟩`. `ρ_i` is the distance of pair `i` to its `k`-th neighbour by the maximum norm. Where it is
/// positive, `k_i = k`, and `n_x`, `n_y` count the rows strictly nearer than `ρ_i`; where it is zero, `k_i` is the number of pairs
/// that coincide with `i`, and `n_x`, `n_y` those of rows. All counts include the row itself.
///
/// - `x`: `[n, d_x]`, `y`: `[n, d_y]`, `f32` or `f64`, rows being pairs, `n > k`; `Neighbours::nth(5)` is the authors' choice
///
/// # Bias
/// As [`ksg1_nats`](super::ksg::ksg1_nats) where the pairs are continuous. Where they are discrete it is nearly the plug-in less
/// `(K_xy − K_x − K_y)/2n`, `K` the numbers of distinct values, as `ψ(c) ≈ ln c − 1/2c`: hardly biased. Between the two, where
/// atoms hold fewer than `k + 1` rows or values lie on a lattice of the width of `ρ`, strict counts are short, and it errs high.
/// `ln n` for `ψ(n)` adds `1/(2n)`. The ceiling is `ln n − ψ(k)`. Dimensions, units and negative values: as there.
///
/// # Failure
/// A deterministic relation of continuous samples has infinite information; [`Flag::GrowsWithRows`] as there. [`Flag::Ties`]
/// counts the pairs that were treated as atoms: it is no fault here, but with none the samples are continuous.
///
/// # Errors
/// As [`ksg1_nats`](super::ksg::ksg1_nats).
///
/// # Source
/// Gao, Kannan, Oh and Viswanath, NeurIPS 2017, algorithm 1; strict counts, which include the row itself, as in the authors' code.
///
/// ```
/// use gpz_estimators::{Neighbours, information::mixed::gao_nats};
/// use ndarray::Array2;
///
/// // A fair coin and its copy: ln 2.
/// let coin = Array2::from_shape_fn((1000, 1), |(i, _)| (i % 2) as f64);
/// let mi = gao_nats(coin.view(), coin.view(), Neighbours::nth(5))?.expect("an estimate");
/// assert!((mi.value - 2.0_f64.ln()).abs() < 2e-3);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn gao_nats<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
    options: Neighbours,
) -> Result<Estimated, Error> {
    jobs::enter(|| estimate(x, y, options))
}

fn estimate<T: Element, U: Element>(
    x: ArrayView2<'_, T>,
    y: ArrayView2<'_, U>,
    options: Neighbours,
) -> Result<Estimated, Error> {
    let (x, y) = rows::checked_pairs(x, y)?;
    let (n, width) = (x.nrows(), x.ncols() + y.ncols());
    options.check(n)?;
    let k = options.k;
    let digamma = Digamma::up_to(n);
    let (value, atoms) = information(&x, &y, k, &digamma);
    let growth = options.parts_of(n).map(|parts| {
        Growth::of(n, parts, value, |part| {
            information(&x.select(Axis(0), part), &y.select(Axis(0), part), k, &digamma).0
        })
    });
    let estimate = Estimate::new(value, Kind::Heuristic, n as f64)
        .flag(atoms > 0, Flag::Ties(atoms))
        .flag(width > KNN_DIMENSIONS, Flag::HighDimension(width))
        .odd(&Oddities::of_columns(&[x.view(), y.view()]))
        .ceiling((n as f64).ln() - digamma.of(k));
    Ok(Ok(match growth {
        Some(growth) => growth.mark(estimate),
        None => estimate,
    }))
}

/// The estimate, and the number of pairs that belong to atoms.
fn information(x: &Array2<f64>, y: &Array2<f64>, k: usize, digamma: &Digamma) -> (f64, u64) {
    let n = x.nrows();
    let tree = Tree::<MaxNorm>::new(side_by_side(x, y).view());
    let mut radius: Vec<f64> = tree.nearest(k).into_iter().skip(k - 1).step_by(k).collect();
    let atom: Vec<bool> = radius.iter().map(|&radius| radius == 0.0).collect();
    let atoms = atom.iter().filter(|&&atom| atom).count() as u64;
    // Below the smallest number above zero are the rows at distance zero.
    for radius in radius.iter_mut().filter(|radius| **radius == 0.0) {
        *radius = radius.next_up();
    }
    let of_x = Space::<MaxNorm>::new(x.view()).count_within(&radius);
    let of_y = Space::<MaxNorm>::new(y.view()).count_within(&radius);
    let coincident = if atoms > 0 { tree.count_within(&radius) } else { vec![0; n] };
    let sum: f64 = (0..n)
        .map(|row| {
            let k = if atom[row] { coincident[row] as usize } else { k };
            digamma.of(k) - digamma.of(of_x[row] as usize) - digamma.of(of_y[row] as usize)
        })
        .sum();
    ((n as f64).ln() + sum / n as f64, atoms)
}
