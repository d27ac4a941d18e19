//! The two factorisations that the crate asks LAPACK for (feature `lapack`).

use ndarray::{Array1, Array2};
use ndarray_linalg::{EigValsh, Eigh, UPLO};

use crate::error::Error;

/// Eigenvalues of a symmetric matrix, descending. `rows` and `width` of the sample are for the error.
///
/// # Errors
/// [`Error::Factorisation`].
pub(crate) fn eigenvalues(
    matrix: &Array2<f64>,
    rows: usize,
    width: usize,
) -> Result<Vec<f64>, Error> {
    let fail = |reason: ndarray_linalg::error::LinalgError| Error::Factorisation {
        rows,
        width,
        reason: reason.to_string(),
    };
    if let (1, Some(&only)) = (matrix.len(), matrix.first()) {
        // Whatever its strides, which LAPACK's layout has rules for.
        return Ok(vec![only]);
    }
    let mut values = matrix.eigvalsh(UPLO::Lower).map_err(fail)?.to_vec();
    values.reverse();
    Ok(values)
}

/// Eigenvalues, ascending, and eigenvectors as columns.
///
/// # Errors
/// [`Error::Factorisation`].
pub(crate) fn eigen(
    matrix: &Array2<f64>,
    rows: usize,
    width: usize,
) -> Result<(Array1<f64>, Array2<f64>), Error> {
    if let (1, Some(&only)) = (matrix.len(), matrix.first()) {
        return Ok((Array1::from_elem(1, only), Array2::from_elem((1, 1), 1.0)));
    }
    matrix.eigh(UPLO::Lower).map_err(|reason| Error::Factorisation {
        rows,
        width,
        reason: reason.to_string(),
    })
}

/// How many eigenvalues are more than rounding: above `max(rows, width)·ε` of the largest.
pub(crate) fn rank(eigenvalues: &[f64], rows: usize, width: usize) -> usize {
    let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
    let floor = largest * rows.max(width) as f64 * f64::EPSILON;
    eigenvalues.iter().filter(|&&value| value > floor).count()
}
