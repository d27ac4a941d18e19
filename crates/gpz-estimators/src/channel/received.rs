//! What is known of a listed input after a discrete channel, by enumeration.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::cholesky::Standardised;
use crate::error::Error;
use crate::estimate::{Estimate, Flag, Kind};

/// How far probabilities may be from a sum of one.
const SUM: f64 = 1e-9;

/// A joint law of a listed input `X` and a discrete `Z`, such as all binary images of a few pixels and their codes.
///
/// Exact for the law given. The rows of a **sample** are not such a law: taken for one, nearly every row has a code of its own, and
/// `I(X;Z)` comes out as `ln n` whatever the encoder: flagged as [`Flag::Saturated`].
///
/// ```
/// use gpz_estimators::channel::Received;
/// use ndarray::array;
///
/// // Two bits, of which the channel sends the sum.
/// let x = array![[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];
/// let received = Received::enumerated(array![[0], [1], [1], [2]].view(), None)?;
/// assert!((received.h_x_given_z_nats().value - 0.5 * 2f64.ln()).abs() < 1e-15);
/// assert_eq!(received.guess_probability().value, 0.75);
/// // Half of the time either pixel is a coin toss, of variance 1/4.
/// assert_eq!(received.mmse_per_dim(x.view())?.value, 0.125);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
///
/// # Source
/// Cover and Thomas, Elements of Information Theory, chapter 2; the best guess: G. Smith, "On the foundations of quantitative information
/// flow", 2009.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Probability of each input.
    inputs: Vec<f64>,
    /// For each output, the inputs that may lead there with their joint probabilities.
    outputs: Vec<Vec<(usize, f64)>>,
}

impl Received {
    /// From joint probabilities.
    ///
    /// - `joint`: `[inputs, outputs]`, not negative, of sum one up to 1e-9
    ///
    /// # Errors
    /// [`Error::NoRows`] without inputs or outputs; [`Error::Parameter`] for a negative probability or another sum.
    pub fn from_joint(joint: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let sum = total("joint probability", joint.iter().copied())?;
        let inputs = joint.rows().into_iter().map(|row| row.sum() / sum).collect();
        let column = |column: ArrayView1<'_, f64>| {
            let cells = column.into_iter().enumerate().filter(|(_, p)| **p > 0.0);
            cells.map(|(x, p)| (x, p / sum)).collect::<Vec<_>>()
        };
        let outputs = joint.columns().into_iter().map(column).filter(|cells| !cells.is_empty());
        Ok(Self { inputs, outputs: outputs.collect() })
    }

    /// From the code of each input: `Z` follows from `X`.
    ///
    /// - `codes`: `[inputs, d]`; rows that are equal are one output
    /// - `probabilities`: of the inputs, of sum one up to 1e-9; all the same unless given
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::WeightCount`], and [`Error::Parameter`] for what are no probabilities.
    pub fn enumerated(
        codes: ArrayView2<'_, i64>,
        probabilities: Option<&[f64]>,
    ) -> Result<Self, Error> {
        let n = codes.nrows();
        let inputs = probabilities_of(n, probabilities)?;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| codes.row(a).iter().cmp(codes.row(b).iter()));
        let outputs = order
            .chunk_by(|&a, &b| codes.row(a) == codes.row(b))
            .map(|same| same.iter().map(|&x| (x, inputs[x])).filter(|(_, p)| *p > 0.0).collect())
            .filter(|cells: &Vec<_>| !cells.is_empty())
            .collect();
        Ok(Self { inputs, outputs })
    }

    fn output_probabilities(&self) -> impl Iterator<Item = f64> {
        self.outputs.iter().map(|cells| cells.iter().map(|(_, p)| p).sum())
    }

    /// Outputs that occur.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// `H(X)` in nats.
    #[must_use]
    pub fn h_x_nats(&self) -> Estimate {
        self.exact(self.inputs.iter().copied().map(term).sum())
    }

    /// `H(Z)` in nats.
    #[must_use]
    pub fn h_z_nats(&self) -> Estimate {
        self.exact(self.output_probabilities().map(term).sum())
    }

    /// `H(X|Z)` in nats, never negative.
    #[must_use]
    pub fn h_x_given_z_nats(&self) -> Estimate {
        let left = self
            .outputs
            .iter()
            .zip(self.output_probabilities())
            .map(|(cells, sum)| cells.iter().map(|(_, p)| sum * term(p / sum)).sum::<f64>());
        self.exact(left.sum())
    }

    /// `I(X;Z) = H(X) − H(X|Z)` in nats, of the law given exactly. Its ceiling is `H(X)`, where `Z` gives `X` away.
    ///
    /// [`Flag::Saturated`] within 5 % of it. For all inputs that there are, that is the plain truth; if the inputs are the rows of a
    /// sample, it says that nearly each has an output of its own: the value is `ln n`, whatever the encoder.
    #[must_use]
    pub fn mi_nats(&self) -> Estimate {
        let h_x = self.h_x_nats().value;
        self.exact(h_x - self.h_x_given_z_nats().value).ceiling(h_x)
    }

    /// `Σ_z max_x p(x, z)`: how often the best guess of `X` from `Z` is right.
    #[must_use]
    pub fn guess_probability(&self) -> Estimate {
        let best = |cells: &Vec<(usize, f64)>| cells.iter().map(|(_, p)| *p).fold(0.0, f64::max);
        self.exact(self.outputs.iter().map(best).sum())
    }

    /// The least mean squared error per dimension that any attacker reaches, that of the conditional mean.
    ///
    /// - `values`: `[inputs, d]`, the input's values, such as pixels
    ///
    /// # Errors
    /// [`Error::RowCount`], [`Error::EmptyShape`], [`Error::NonFinite`].
    pub fn mmse_per_dim(&self, values: ArrayView2<'_, f64>) -> Result<Estimate, Error> {
        self.check(values)?;
        let width = values.ncols() as f64;
        let sum = self.posteriors(values).map(|(rows, weights)| {
            rows.rows().into_iter().zip(&weights).map(|(row, p)| p * row.dot(&row)).sum::<f64>()
        });
        Ok(self.exact(sum.sum::<f64>() / width))
    }

    /// `E[Cov(x|z)]`, `[d, d]`: its trace over `d` is [`mmse_per_dim`](Self::mmse_per_dim).
    ///
    /// # Errors
    /// As [`mmse_per_dim`](Self::mmse_per_dim).
    pub fn posterior_covariance(&self, values: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        self.check(values)?;
        let mut covariance = Array2::zeros((values.ncols(), values.ncols()));
        for (rows, weights) in self.posteriors(values) {
            let mut weighted = rows.clone();
            for (mut row, p) in weighted.rows_mut().into_iter().zip(&weights) {
                row *= *p;
            }
            covariance += &rows.t().dot(&weighted);
        }
        Ok(covariance)
    }

    /// Rank of `E[Cov(x|z)]`: in so many directions something is left to know.
    ///
    /// # Errors
    /// As [`mmse_per_dim`](Self::mmse_per_dim).
    pub fn mmse_rank(&self, values: ArrayView2<'_, f64>) -> Result<usize, Error> {
        let covariance = self.posterior_covariance(values)?;
        Ok(Standardised::of("posterior covariance", covariance.view())?.rank())
    }

    /// For each output, the values of its inputs about their conditional mean, and the joint probabilities.
    fn posteriors<'a>(
        &'a self,
        values: ArrayView2<'a, f64>,
    ) -> impl Iterator<Item = (Array2<f64>, Vec<f64>)> + 'a {
        self.outputs.iter().map(move |cells| {
            let inputs: Vec<usize> = cells.iter().map(|(x, _)| *x).collect();
            let weights: Vec<f64> = cells.iter().map(|(_, p)| *p).collect();
            let mut rows = values.select(ndarray::Axis(0), &inputs);
            // About the first, so that a single input leaves exact zeros.
            let first = rows.row(0).to_owned();
            rows -= &first;
            let mut mean = Array1::<f64>::zeros(values.ncols());
            let sum: f64 = weights.iter().sum();
            for (row, p) in rows.rows().into_iter().zip(&weights) {
                mean.scaled_add(p / sum, &row);
            }
            rows -= &mean;
            (rows, weights)
        })
    }

    fn check(&self, values: ArrayView2<'_, f64>) -> Result<(), Error> {
        if values.nrows() != self.inputs.len() {
            return Err(Error::RowCount { left: self.inputs.len(), right: values.nrows() });
        }
        crate::rows::checked(values).map(|_| ())
    }

    fn exact(&self, value: f64) -> Estimate {
        Estimate::new(value, Kind::Exact, 0.0).flag(self.inputs.len() == 1, Flag::DegenerateSupport)
    }
}

/// `−p ln p`, continued by zero; never a negative zero.
fn term(p: f64) -> f64 {
    if p > 0.0 { -p * p.ln() + 0.0 } else { 0.0 }
}

pub(super) fn probabilities_of(n: usize, given: Option<&[f64]>) -> Result<Vec<f64>, Error> {
    let Some(given) = given else {
        return if n == 0 { Err(Error::NoRows) } else { Ok(vec![1.0 / n as f64; n]) };
    };
    if given.len() != n {
        return Err(Error::WeightCount { images: n, weights: given.len() });
    }
    let sum = total("probability", given.iter().copied())?;
    Ok(given.iter().map(|p| p / sum).collect())
}

fn total(name: &'static str, mut values: impl Iterator<Item = f64> + Clone) -> Result<f64, Error> {
    if values.clone().next().is_none() {
        return Err(Error::NoRows);
    }
    let sum: f64 = values.clone().sum();
    if let Some(value) = values.find(|p| !(*p >= 0.0 && p.is_finite())) {
        return Err(Error::Parameter { name, value, rule: "it must be finite and not negative" });
    }
    if (sum - 1.0).abs() > SUM {
        let rule = "all of them must sum to one";
        return Err(Error::Parameter { name: "sum of probabilities", value: sum, rule });
    }
    Ok(sum)
}
