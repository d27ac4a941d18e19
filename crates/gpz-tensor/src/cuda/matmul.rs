//! Matrix products.

use super::driver::{Matrix, Product};
use super::{device_of, full, unfilled};
use crate::Tensor;
use crate::error::Result;
use crate::shape::Dims;

/// `batch` products of matrices `[m, k]` and `[k, n]`, whose result has `shape`.
pub(crate) fn matmul(
    batch: usize,
    [m, k, n]: [usize; 3],
    a: &Tensor,
    b: &Tensor,
    shape: Dims,
) -> Result<Tensor> {
    let device = device_of(a);
    if shape.numel() == 0 || k == 0 {
        return full(device, shape, shape.row_major(), 0.0);
    }
    let ((a, a_matrix), (b, b_matrix)) = (readable(a)?, readable(b)?);
    let out = unfilled("matmul", device, shape, shape.row_major())?;
    let c = out.on_cuda().map_or(0, |(_, address)| address);
    let product = Product { batch, size: [m, k, n], a: a_matrix, b: b_matrix, c };
    // SAFETY: the addresses are those of the operands' elements, the strides lead to no other, and the result has room for the product.
    device.ask("matmul", |driver| unsafe { driver.multiply(&product) })?;
    // The operands live until the product was asked for; the device keeps the order of what comes later.
    drop((a, b));
    Ok(out)
}

/// This tensor if its matrices lie by rows or by columns, else a row-major copy; with the strides to read it by.
fn readable(t: &Tensor) -> Result<(Tensor, Matrix)> {
    let [rows, columns] = [t.shape()[t.rank() - 2], t.shape()[t.rank() - 1]];
    let [row, column, batch] = t.matrix_strides();
    let address = t.on_cuda().map_or(0, |(_, address)| address);
    // The stride along an axis of one entry means nothing.
    if (column == 1 || columns == 1) && (row >= columns || rows == 1) {
        let row = if rows == 1 { columns } else { row };
        return Ok((t.clone(), Matrix { address, row, column: 1, batch }));
    }
    if (row == 1 || rows == 1) && (column >= rows || columns == 1) {
        let column = if columns == 1 { rows } else { column };
        return Ok((t.clone(), Matrix { address, row: 1, column, batch }));
    }
    readable(&t.row_major()?)
}
