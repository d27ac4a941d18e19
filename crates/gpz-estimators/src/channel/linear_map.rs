//! A linear map of the input, for bounds on what is shown of it, such as a resized picture.

use ndarray::ArrayView2;
use serde::Serialize;

use super::cholesky::Standardised;
use crate::error::Error;

/// A linear map `y = U·x` by what a bound asks of it: its shape, its rank, and `ln pdet(U·Uᵀ)`, the logarithm of the product of the
/// eigenvalues that are not zero.
///
/// On the range of `U`, in an orthonormal basis of it, `y` has the entropy `h(x) + ½ ln pdet(U·Uᵀ)` where `U` loses nothing of `x`, and
/// white noise of variance τ² keeps `rank/2 · ln(2πe τ²) + ½ ln pdet(U·Uᵀ)` whatever it loses.
///
/// ```
/// use gpz_estimators::channel::LinearMap;
/// use ndarray::array;
///
/// // Two values to three, by linear interpolation; then the same along both axes of a picture of three channels.
/// let axis = LinearMap::of(array![[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]].view())?;
/// assert_eq!((axis.inputs(), axis.outputs(), axis.rank()), (2, 3, 2));
/// assert!((axis.log_pdet() - 1.5f64.ln()).abs() < 1e-15); // eigenvalues 1 and 3/2
/// let picture = axis.kronecker(&axis).kronecker(&LinearMap::identity(3)?);
/// assert_eq!((picture.inputs(), picture.outputs(), picture.rank()), (12, 27, 12));
/// assert!((picture.log_pdet() - 12.0 * 1.5f64.ln()).abs() < 1e-14);
/// # Ok::<(), gpz_estimators::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LinearMap {
    inputs: usize,
    outputs: usize,
    rank: usize,
    log_pdet: f64,
}

/// Share of a row's squared length that counts as none: far above the rounding of a Gram matrix, which is `ε` times the root of the
/// number of its terms and could pass for one direction more. One direction fewer only lowers a bound.
const LOST: f64 = 1e-12;

impl LinearMap {
    /// `y = x`.
    ///
    /// # Errors
    /// [`Error::EmptyShape`] for no dimension.
    pub fn identity(width: usize) -> Result<Self, Error> {
        super::width_of(width)?;
        Ok(Self { inputs: width, outputs: width, rank: width, log_pdet: 0.0 })
    }

    /// - `matrix`: `U`, `[outputs, inputs]`
    ///
    /// From the Gram matrix of the smaller side, by Cholesky: `outputs·inputs·k + k³/3` operations, `k` the smaller side. A row of that
    /// side of which less than 1e-6 of its length lies outside the others adds no rank: the rank is that of the map or lower. Units of
    /// a row do not matter, so that `diag(1, 1e-9)` has rank 2.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::NonFinite`]; [`Error::Parameter`] for a map that is zero.
    pub fn of(matrix: ArrayView2<'_, f64>) -> Result<Self, Error> {
        const NAME: &str = "Gram matrix of the map";
        let (outputs, inputs) = matrix.dim();
        if let Some(((row, column), &value)) = matrix.indexed_iter().find(|(_, v)| !v.is_finite()) {
            return Err(Error::NonFinite { row, column, value });
        }
        let gram = if outputs < inputs { matrix.dot(&matrix.t()) } else { matrix.t().dot(&matrix) };
        let factor = Standardised::above(NAME, gram.view(), LOST)?;
        let rank = factor.rank();
        if rank == 0 {
            let rule = "a map that is zero shows nothing";
            return Err(Error::Parameter { name: "rank of the map", value: 0.0, rule });
        }
        let log_pdet = if factor.is_regular() {
            factor.log_det()
        } else {
            // R·Rᵀ and Rᵀ·R have the same eigenvalues but for zeros.
            let root = factor.root();
            Standardised::of(NAME, root.t().dot(&root).view())?.log_det()
        };
        Ok(Self { inputs, outputs, rank, log_pdet })
    }

    /// `U ⊗ V`: this map along one axis and another one along the next, as for the rows and columns of a picture.
    ///
    /// `ln pdet = rank V · ln pdet U + rank U · ln pdet V`.
    #[must_use]
    pub fn kronecker(&self, other: &Self) -> Self {
        Self {
            inputs: self.inputs * other.inputs,
            outputs: self.outputs * other.outputs,
            rank: self.rank * other.rank,
            log_pdet: other.rank as f64 * self.log_pdet + self.rank as f64 * other.log_pdet,
        }
    }

    /// Dimensions of `x`.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Dimensions of `y`.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Dimensions of the space that `y` fills.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// `ln pdet(U·Uᵀ)`, in nats: the sum over the directions that are kept of the logarithm of the squared gain, in squared units of `y`
    /// per squared unit of `x`.
    #[must_use]
    pub fn log_pdet(&self) -> f64 {
        self.log_pdet
    }
}
