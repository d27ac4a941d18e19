//! What is made of the distances between all rows of two matrices, which are never stored.

use gpz_kernels::statistics as kernels;

use super::driver::Argument;
use super::{at, count, device_given};
use crate::Tensor;
use crate::error::{Error, Result};

/// Most neighbours that are looked for.
const MOST_NEIGHBOURS: usize = 16;
/// Columns that a block deals with at once.
const COLUMNS: usize = 64;
/// Blocks that keep a large device busy.
const BLOCKS: usize = 1024;

/// Two matrices of rows of one width, on one device.
struct Pair {
    x: Tensor,
    y: Tensor,
    n: usize,
    m: usize,
    d: usize,
}

impl Pair {
    fn new(op: &'static str, x: &Tensor, y: &Tensor, skip_self: bool) -> Result<Self> {
        device_given(op, x)?;
        x.check_dtype(op, y)?;
        let (&[n, d], &[m, other]) = (x.shape(), y.shape()) else {
            let rule = "both must be matrices of rows, [n, d] and [m, d]";
            return Err(Error::mismatch(op, x.shape(), y.shape(), rule));
        };
        if d != other {
            let rule = "their rows must be of one width";
            return Err(Error::mismatch(op, x.shape(), y.shape(), rule));
        }
        if skip_self && n != m {
            let rule =
                "`skip_self` leaves each row's own number out, so both must be the same rows";
            return Err(Error::mismatch(op, x.shape(), y.shape(), rule));
        }
        // As the kernels count; the number of elements is below 2^32 already.
        if d == 0 || n.max(m) >= 1 << 31 || d >= 1 << 30 {
            let rule = "less than 2^31 rows of 1 to 2^30 - 1 elements are needed; fewer rows at a time help";
            return Err(Error::mismatch(op, x.shape(), y.shape(), rule));
        }
        Ok(Pair { x: x.row_major()?, y: y.row_major()?, n, m, d })
    }
}

/// Parts that a row's sum is computed in: as many as fill the device, at most one for each tile of columns. A matter of the shapes alone,
/// as is the order in which a sum is added up.
fn parts(n: usize, m: usize) -> usize {
    let rows = n.div_ceil(kernels::PAIRWISE_GAUSSIAN_F32.tile as usize);
    BLOCKS.div_ceil(rows).min(m.div_ceil(COLUMNS))
}

/// Sum over the rows of `y` of a Gaussian kernel, `Σ_j exp(−‖x_i − y_j‖² / (2h²))`, for each row of `x`. Waits for the device.
///
/// - `x`: `[n, d]`, `y`: `[m, d]`, on one CUDA device; result: `n` sums, not normalised
/// - `bandwidth`: `h`, in the units of the features
/// - `skip_self`: where `y` is `x`: row `i` does not count itself
///
/// A weight is right to 2.1·10⁻⁶ of its exponent and 3·10⁻⁷ of itself; sums are `f64`, in an order that the shapes fix.
///
/// # Errors
/// [`Error::NeedsCuda`], [`Error::DeviceMismatch`]; [`Error::ShapeMismatch`] for rows of other widths, without elements, or too many;
/// [`Error::Value`] for a bandwidth that is not positive, or of which `1/(2h²)` is no number above 0.
pub fn pairwise_gaussian(
    x: &Tensor,
    y: &Tensor,
    bandwidth: f64,
    skip_self: bool,
) -> Result<Vec<f64>> {
    const OP: &str = "pairwise_gaussian";
    let Pair { x, y, n, m, d } = Pair::new(OP, x, y, skip_self)?;
    let inverse = 0.5 / (bandwidth * bandwidth);
    if !(bandwidth > 0.0 && inverse > 0.0 && inverse.is_finite()) {
        let rule = "a bandwidth h is positive, and 1/(2 h^2) neither 0 nor infinite in f64";
        return Err(Error::Value { op: OP, name: "bandwidth", value: bandwidth, rule });
    }
    if n * m == 0 {
        return Ok(vec![0.0; n]);
    }
    let device = device_given(OP, &x)?;
    let (kernel, parts) = (&kernels::PAIRWISE_GAUSSIAN_F32, parts(n, m));
    let out = device.allocate(8 * n * parts)?;
    let arguments = [
        at(&x),
        at(&y),
        Argument::Address(out.address()),
        count(n),
        count(m),
        count(d),
        Argument::F64(inverse),
        Argument::U32(u32::from(skip_self)),
    ];
    let grid = [n.div_ceil(kernel.tile as usize), parts, 1];
    // SAFETY: argument order and types as in the header of pairwise_gaussian_f32.ptx; out holds an f64 for each row and part.
    unsafe { device.launch(kernel, grid, &arguments) }?;
    let sums = out.read::<f64>(0, n * parts)?;
    Ok(sums.chunks_exact(parts).map(|parts| parts.iter().sum()).collect())
}

/// What [`pairwise_nearest`] finds: `k` neighbours of each row, the nearest first, of equally near ones that of smaller index.
///
/// Where a row has fewer neighbours at a finite distance, the last are at an infinite one, of index `u32::MAX`.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// `[n, k]`, row-major, in squared units of the features.
    pub squared_distances: Vec<f64>,
    /// `[n, k]`, row-major: rows of `y`.
    pub indices: Vec<u32>,
}

/// The `k` rows of `y` nearest to each row of `x`. Waits for the device.
///
/// - `x`: `[n, d]`, `y`: `[m, d]`, on one CUDA device; `k`: 1 to 16
/// - `skip_self`: where `y` is `x`: row `i` is not its own neighbour
///
/// Squared distances are right to 2.1·10⁻⁶ of themselves, and the order is theirs. A row with NaN has no neighbours and is nobody's.
///
/// # Errors
/// [`Error::NeedsCuda`], [`Error::DeviceMismatch`]; [`Error::ShapeMismatch`] for rows of other widths, without elements, or too many;
/// [`Error::Value`] for another `k`.
pub fn pairwise_nearest(x: &Tensor, y: &Tensor, k: usize, skip_self: bool) -> Result<Neighbours> {
    const OP: &str = "pairwise_nearest";
    let Pair { x, y, n, m, d } = Pair::new(OP, x, y, skip_self)?;
    if !(1..=MOST_NEIGHBOURS).contains(&k) {
        let rule = "from 1 to 16 neighbours can be asked for";
        return Err(Error::Value { op: OP, name: "k", value: k as f64, rule });
    }
    let found = n * k;
    if n * m == 0 {
        let squared_distances = vec![f64::INFINITY; found];
        return Ok(Neighbours { squared_distances, indices: vec![u32::MAX; found] });
    }
    let device = device_given(OP, &x)?;
    let (distances, indices) = (device.allocate(8 * found)?, device.allocate(4 * found)?);
    let kernel = &kernels::PAIRWISE_NEAREST_F32;
    let arguments = [
        at(&x),
        at(&y),
        Argument::Address(distances.address()),
        Argument::Address(indices.address()),
        count(n),
        count(m),
        count(d),
        count(k),
        Argument::U32(u32::from(skip_self)),
    ];
    let grid = [n.div_ceil(kernel.tile as usize), 1, 1];
    // SAFETY: argument order and types as in the header of pairwise_nearest_f32.ptx; both results hold k values for each row.
    unsafe { device.launch(kernel, grid, &arguments) }?;
    Ok(Neighbours {
        squared_distances: distances.read(0, found)?,
        indices: indices.read(0, found)?,
    })
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn parts_fill_the_device_and_have_columns_each() {
        assert_eq!(parts(1, 1), 1);
        assert_eq!(parts(64, 65), 2);
        assert_eq!(parts(640, 1 << 20), 103);
        assert_eq!(parts(1, 1 << 20), 1024);
        assert_eq!(parts(1 << 20, 1 << 20), 1);
    }
}
