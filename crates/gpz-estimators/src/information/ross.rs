//! Mutual information of features and labels from counts of neighbours, in nats.

use ndarray::{Array2, ArrayView2, Axis};

use crate::digamma::Digamma;
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, SATURATION};
use crate::jobs;
use crate::neighbours::{Euclidean, Neighbours, Space, rescale};
use crate::oddities::Oddities;
use crate::parts::deal;
use crate::rows::{self, KNN_DIMENSIONS};
use crate::simd::Element;

/// Ross's estimate of `I(Z;Y)` between continuous features and labels, in nats.
///
/// `ψ(n) + ⟨ψ(k_c)⟩ − ⟨ψ(n_c)⟩ − ⟨ψ(m_i)⟩`: `r_i` is the Euclidean distance of row `i` to its `k_c`-th neighbour among the `n_c`
/// rows of its own class, `m_i` counts the rows of any class strictly nearer than `r_i`, the row itself among them; averages are
/// over rows. A class of at most `k` rows has `k_c = n_c − 1`.
///
/// - `features`: `[n, d]`, `f32` or `f64`; `labels`: `n` numbers, of which only equality matters
///
/// A class of one row has no neighbour of its own class: it is left out, `n` with it, and [`Flag::LeftOut`] counts such rows. The
/// value is then of the law without those classes.
///
/// # Bias
/// Nearly none for independent labels: 0.004 nats with 4,000 rows in 5 dimensions. Where classes differ on scales finer than `r`
/// it errs low: two normal classes two deviations apart carry 0.337 nats, of which 5,000 rows show 0.32 in 10 dimensions and 0.28
/// in 32. More than ten are flagged as [`Flag::HighDimension`]; [`Projection::estimate`](crate::Projection::estimate) offers a way out. The
/// ceiling is `ψ(n) − ⟨ψ(n_c)⟩`, about the entropy of the labels, which is a true bound of `I(Z;Y)` also: a value near it says
/// that classes do not overlap as far as so many rows show. It is [`Flag::Saturated`] only near `ln n`, where nearly each row has
/// a class of its own.
///
/// # Failure
/// [`NotIdentifiable::Tied`] where a `k_c`-th neighbour is at distance zero: features that repeat are not draws from a density;
/// use [`gao_nats`](super::mixed::gao_nats) with the labels as a column, or the discrete estimators. [`Flag::Ties`] counts rows
/// that repeat without that. [`NotIdentifiable::SingletonClasses`] where all classes have one row.
///
/// # Errors
/// [`Error::LabelCount`], [`Error::Parameter`] for `k = 0`, and those of every estimator for bad rows.
///
/// # Source
/// Ross, PLoS ONE 9(2), e87357 (2014); strictness and small classes as in scikit-learn's `mutual_info_classif`, which adds noise
/// first. Nothing is added here.
///
/// ```
/// use gpz_estimators::{Neighbours, information::ross::ross_nats};
/// use ndarray::Array2;
///
/// // Two classes on [0, 1) and [10, 11): ln 2.
/// let labels: Vec<usize> = (0..400).map(|i| i % 2).collect();
/// let z = Array2::from_shape_fn((400, 1), |(i, _)| (i as f64 * 0.618_033_988_749_894_9).fract() + (i % 2) as f64 * 10.0);
/// let mi = ross_nats(z.view(), &labels, Neighbours::default())?.expect("no ties");
/// assert!((mi.value - 2.0_f64.ln()).abs() < 0.01);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
pub fn ross_nats<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    options: Neighbours,
) -> Result<Estimated, Error> {
    jobs::enter(|| estimate(features, labels, options))
}

fn estimate<T: Element>(
    features: ArrayView2<'_, T>,
    labels: &[usize],
    options: Neighbours,
) -> Result<Estimated, Error> {
    let mut rows = rows::checked(features)?;
    rescale(&mut rows);
    let n = rows.nrows();
    if labels.len() != n {
        return Err(Error::LabelCount { rows: n, labels: labels.len() });
    }
    // Small classes look at nearer neighbours, so the rows need not be more than k.
    options.check(n.max(options.k + 1))?;
    let found = match information(&rows, labels, options.k) {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    let d = rows.ncols();
    let kept = found.rows as f64;
    let mut estimate = Estimate::new(found.value, Kind::Heuristic, kept)
        .flag(found.left_out > 0, Flag::LeftOut(found.left_out))
        .flag(found.ties > 0, Flag::Ties(found.ties))
        .flag(d > KNN_DIMENSIONS, Flag::HighDimension(d))
        .odd(&Oddities::of_columns(&[rows.view()]))
        .flag(kept > 1.0 && found.value >= (1.0 - SATURATION) * kept.ln(), Flag::Saturated);
    estimate.ceiling = Some(found.ceiling);
    let parts = options.parts_of(found.rows / found.classes);
    let values: Vec<f64> = parts.map_or_else(Vec::new, |parts| {
        let on = |part: &Vec<usize>| {
            let labels: Vec<usize> = part.iter().map(|&row| labels[row]).collect();
            let found = information(&rows.select(Axis(0), part), &labels, options.k);
            found.map_or(f64::NAN, |found| found.value)
        };
        jobs::map(&deal(n, parts), on)
    });
    Ok(Ok(estimate.std_err_of_parts(&values)))
}

struct Found {
    value: f64,
    ceiling: f64,
    rows: usize,
    classes: usize,
    left_out: u64,
    /// Rows that have an equal.
    ties: u64,
}

fn information(rows: &Array2<f64>, labels: &[usize], k: usize) -> Result<Found, NotIdentifiable> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|&row| labels[row]);
    let mut members: Vec<&[usize]> = order.chunk_by(|&a, &b| labels[a] == labels[b]).collect();
    let all = members.len();
    let first = labels[members[0][0]];
    members.retain(|class| class.len() > 1);
    if members.is_empty() {
        return Err(NotIdentifiable::SingletonClasses { count: all, first });
    }
    let kept: Vec<usize> = members.concat();
    let (n, left_out) = (kept.len(), (all - members.len()) as u64);

    // Rows from here on are those kept, class after class.
    let rows = rows.select(Axis(0), &kept);
    let mut radius = Vec::with_capacity(n);
    let digamma = Digamma::up_to(n);
    let (mut of_k, mut of_class) = (0.0, 0.0);
    for class in &members {
        let first = radius.len();
        let k = k.min(class.len() - 1);
        let own = rows.slice(ndarray::s![first..first + class.len(), ..]);
        let nearest = Space::<Euclidean>::new(own).nearest(k);
        radius.extend(nearest.into_iter().skip(k - 1).step_by(k));
        of_k += class.len() as f64 * digamma.of(k);
        of_class += class.len() as f64 * digamma.of(class.len());
    }
    let tied = radius.iter().filter(|&&radius| radius == 0.0).count() as u64;
    if tied > 0 {
        return Err(NotIdentifiable::Tied { rows: tied, of: n as u64, neighbour: k });
    }
    let space = Space::<Euclidean>::new(rows.view());
    let ties = space.repeated().into_iter().filter(|&repeated| repeated).count() as u64;
    let counts = space.count_within(&radius);
    let of_counts: f64 = counts.into_iter().map(|count| digamma.of(count as usize)).sum();
    let ceiling = digamma.of(n) - of_class / n as f64;
    let value = ceiling + (of_k - of_counts) / n as f64;
    Ok(Found { value, ceiling, rows: n, classes: members.len(), left_out, ties })
}
