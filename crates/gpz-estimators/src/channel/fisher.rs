//! Fisher information of a noisy feature: `z = f(x) + N(0, σ²·I)` has `F(x) = JᵀJ/σ²`, `J` the Jacobian of `f` at `x`.

use ndarray::{Array1, ArrayView1, ArrayView2};
use serde::Serialize;

use super::cholesky::Standardised;
use super::noisy_source::mix;
use super::{positive, width_of};
use crate::error::Error;
use crate::estimate::{Estimate, Estimated, Flag, Kind, NotIdentifiable, Uncertainty};

/// With which directions the Jacobian is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probes {
    /// Every unit vector: `d` products, exact.
    Exact,
    /// Random signs: unbiased, with a standard error of at most `√(2/probes)·‖JᵀJ‖_F` in the trace.
    Hutchinson {
        /// Products to take, at least two.
        probes: usize,
        /// Seed of the signs.
        seed: u64,
    },
}

/// `dFIL = tr(JᵀJ)/(d·σ²)` at one input, from products of the Jacobian with vectors.
///
/// - `width`: `d`, dimensions of `x`; `sigma`: in units of the feature
/// - `jvp`: `v ↦ J·v`, from `[d]` to the feature's width, at the input of interest; its errors are passed on
///
/// At one input: bounds ask for the average over inputs. In 1 / squared units of `x`, so that `1/dFIL` is a mean squared error per
/// dimension. [`Kind::Exact`] with all unit vectors; with random probes unbiased, and the standard error is that of their mean.
///
/// # Errors
/// [`Error::EmptyShape`], [`Error::Parameter`] for a σ that is not positive or fewer than two probes, [`Error::Shape`] if the products
/// differ in length, [`Error::NonFinite`] with the probe as the row.
///
/// # Source
/// Hannun et al., UAI 2021; Guo et al., ICML 2022; Hutchinson (1990).
///
/// ```
/// use gpz_estimators::{Error, channel::{Probes, dfil}};
/// use ndarray::array;
///
/// let jacobian = array![[1.0, 2.0], [0.0, 3.0]];
/// let value: Result<_, Error> = dfil(2, 0.5, Probes::Exact, |v| Ok(jacobian.dot(&v)));
/// assert_eq!(value?.value, 14.0 / (2.0 * 0.25));
/// # Ok::<(), Error>(())
/// ```
pub fn dfil<E: From<Error>>(
    width: usize,
    sigma: f64,
    probes: Probes,
    mut jvp: impl FnMut(ArrayView1<'_, f64>) -> Result<Array1<f64>, E>,
) -> Result<Estimate, E> {
    let d = width_of(width)?;
    let sigma = positive("sigma", sigma)?;
    let count = match probes {
        Probes::Exact => width,
        Probes::Hutchinson { probes, .. } if probes < 2 => {
            let value = probes as f64;
            let rule = "at least two are needed for a standard error";
            return Err(Error::Parameter { name: "probes", value, rule }.into());
        }
        Probes::Hutchinson { probes, .. } => probes,
    };
    let mut norms = Vec::with_capacity(count);
    let mut length = None;
    let mut direction = Array1::zeros(width);
    for probe in 0..count {
        match probes {
            Probes::Exact => {
                direction.fill(0.0);
                direction[probe] = 1.0;
            }
            Probes::Hutchinson { seed, .. } => signs(seed, probe as u64, &mut direction),
        }
        let product = jvp(direction.view())?;
        let expected = *length.get_or_insert(product.len());
        if product.len() != expected {
            let (found, expected) = (vec![product.len()], vec![expected]);
            return Err(Error::Shape { what: "Jacobian-vector product", found, expected }.into());
        }
        if let Some((column, &value)) = product.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NonFinite { row: probe, column, value }.into());
        }
        norms.push(product.iter().map(|value| (value / sigma).powi(2)).sum::<f64>());
    }
    let sum: f64 = norms.iter().sum();
    Ok(match probes {
        Probes::Exact => Estimate::new(sum / d, Kind::Exact, 1.0),
        Probes::Hutchinson { .. } => {
            let n = count as f64;
            let mean = sum / n;
            let spread = norms.iter().map(|norm| (norm - mean).powi(2)).sum::<f64>() / (n - 1.0);
            Estimate::new(mean / d, Kind::Heuristic, 1.0)
                .std_err((spread / n).sqrt() / d, Uncertainty::SpreadOfTerms)
                .freedom(n - 1.0)
        }
    })
}

/// Random signs from a seed and the probe's number, so that no probe depends on those before it (splitmix64).
fn signs(seed: u64, probe: u64, direction: &mut Array1<f64>) {
    let mix = |value: u64| mix(value.wrapping_add(0x9E37_79B9_7F4A_7C15));
    let stream = mix(seed ^ mix(probe));
    for (position, value) in direction.iter_mut().enumerate() {
        let word = mix(stream ^ mix((position / 64) as u64));
        *value = if word >> (position % 64) & 1 == 0 { 1.0 } else { -1.0 };
    }
}

/// `tr(F⁻¹)/d`, the Cramér–Rao bound per dimension: for **unbiased** attackers, and no bound on any other.
///
/// - `fisher`: `[d, d]`, symmetric and positive semidefinite; for a channel with noise `JᵀJ/σ²`, in 1 / squared units of `x`
///
/// At least `1/dFIL`, the harmonic mean. Flagged [`Flag::UnbiasedAttackersOnly`]. The matrix is taken for known: one averaged over a
/// sample gives an estimate, for which the inverse is high on average.
///
/// ```
/// use gpz_estimators::channel::bound_crb_unbiased;
/// use ndarray::array;
///
/// let bound = bound_crb_unbiased(array![[4.0, 0.0], [0.0, 1.0]].view())?.expect("an inverse"); // (1/4 + 1)/2
/// assert!((bound.value - 0.625).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`], [`Error::NonFinite`], [`Error::Parameter`] for what is no information matrix. Inside:
/// [`NotIdentifiable::Singular`]: some direction of `x` leaves no trace in `z`, and no attacker is unbiased there.
///
/// # Source
/// Cramér 1946, Rao 1945; for private inference Hannun et al., UAI 2021.
pub fn bound_crb_unbiased(fisher: ArrayView2<'_, f64>) -> Result<Estimated, Error> {
    let factor = Standardised::of("Fisher information", fisher)?;
    let width = fisher.nrows();
    if !factor.is_regular() {
        return Ok(Err(NotIdentifiable::Singular {
            what: "Fisher information",
            rank: factor.rank(),
            width,
            mend: "no attacker is unbiased; use the van Trees bound, which needs no inverse",
        }));
    }
    let value = factor.trace_of_inverse() / width as f64;
    Ok(Ok(Estimate::new(value, Kind::Lower, 0.0).flag(true, Flag::UnbiasedAttackersOnly)))
}

/// `tr[(E F + J)⁻¹]/d`, the van Trees bound by matrices: **any** attacker's mean squared error per dimension is at least this.
///
/// - `fisher`: `E[F(x)]` over `x`, `[d, d]`; `prior`: the Fisher information of the density of `x`, `[d, d]`
///
/// At least [`bound_van_trees`](super::bound_van_trees), which needs the traces alone. [`Kind::Lower`] for matrices that are known, or
/// known not to be exceeded; an average of Jacobians over a sample is neither.
///
/// ```
/// use gpz_estimators::channel::bound_van_trees_matrix;
/// use ndarray::array;
///
/// let (fisher, prior) = (array![[3.0, 0.0], [0.0, 0.0]], array![[1.0, 0.0], [0.0, 1.0]]);
/// let bound = bound_van_trees_matrix(fisher.view(), prior.view())?.expect("a prior in every dimension"); // (1/4 + 1)/2
/// assert!((bound.value - 0.625).abs() < 1e-15);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Errors
/// As [`bound_crb_unbiased`], and [`Error::Shape`] if the two differ in size. Inside: [`NotIdentifiable::Singular`] where neither says
/// anything of some direction.
///
/// # Source
/// van Trees 1968; Gill and Levit 1995, for the matrix form.
pub fn bound_van_trees_matrix(
    fisher: ArrayView2<'_, f64>,
    prior: ArrayView2<'_, f64>,
) -> Result<Estimated, Error> {
    let width = fisher.nrows();
    if prior.dim() != fisher.dim() {
        let (found, expected) = (prior.shape().to_vec(), fisher.shape().to_vec());
        return Err(Error::Shape { what: "prior's Fisher information", found, expected });
    }
    // Each by itself, so that an error in one is not hidden by the other.
    Standardised::of("Fisher information", fisher)?;
    Standardised::of("prior's Fisher information", prior)?;
    let factor = Standardised::of("sum of Fisher informations", (&fisher + &prior).view())?;
    if !factor.is_regular() {
        return Ok(Err(NotIdentifiable::Singular {
            what: "sum of Fisher informations",
            rank: factor.rank(),
            width,
            mend: "declare a prior in every dimension, such as by smoothing",
        }));
    }
    Ok(Ok(Estimate::new(factor.trace_of_inverse() / width as f64, Kind::Lower, 0.0)))
}
