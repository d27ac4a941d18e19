//! Matrices whose columns are channels.

/// `out[i] = f(i, i % c)`.
fn each(n: usize, c: usize, f: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..n).map(|at| f(at, at % c)).collect()
}

/// Sums of the columns of what `f` gives for each element of a `[rows, c]` matrix.
fn column_sums(n: usize, c: usize, f: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..c).map(|column| (column..n).step_by(c).map(|at| f(at, column)).sum()).collect()
}

/// Sum of each column.
///
/// - `x`: `[rows, c]`; result: `[c]`
pub fn channel_sums(x: &[f32], c: usize) -> Vec<f64> {
    column_sums(x.len(), c, |at, _| f64::from(x[at]))
}

/// Sum of each column of partial sums.
///
/// - `partial`: `[chunks, c]`; result: `[c]`
pub fn channel_sums_finish(partial: &[f64], c: usize) -> Vec<f64> {
    column_sums(partial.len(), c, |at, _| partial[at])
}

/// Sums and sums of squares of each column's deviations from a pivot.
///
/// - `x`: `[rows, c]`; `pivot`: `[c]`; result: twice `[c]`
pub fn channel_moments(x: &[f32], pivot: &[f32]) -> [Vec<f64>; 2] {
    let deviation = |at: usize, column: usize| f64::from(x[at]) - f64::from(pivot[column]);
    let c = pivot.len();
    [
        column_sums(x.len(), c, deviation),
        column_sums(x.len(), c, |at, column| deviation(at, column).powi(2)),
    ]
}

/// Mean, variance, factor and offset of each channel: `(x − mean) · factor + offset` is normalised, scaled and shifted.
///
/// - `moments`: of [`channel_moments`]; `pivot`, `scale`, `shift`: `[c]`; result: four times `[c]`
///
/// The offset takes up what rounding the mean to `f32` leaves over. The variance is divided by the count.
pub fn batch_norm_finish(
    [sums, squares]: [&[f64]; 2],
    pivot: &[f32],
    [scale, shift]: [&[f32]; 2],
    rows: usize,
    eps: f64,
) -> [Vec<f64>; 4] {
    let n = rows as f64;
    let mut out = [const { Vec::new() }; 4];
    for column in 0..pivot.len() {
        let mean = f64::from(pivot[column]) + sums[column] / n;
        let variance = squares[column] / n - (sums[column] / n).powi(2);
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let factor = f64::from(scale[column]) / (variance + eps).sqrt();
        let left_over = mean - f64::from(mean as f32);
        let offset = f64::from(shift[column]) - left_over * factor;
        // Infinite less infinite is no number, and so is then the mean.
        let values = [mean + 0.0 * left_over, variance, factor, offset];
        out.iter_mut().zip(values).for_each(|(out, value)| out.push(value));
    }
    out
}

/// `(x − pivot) · factor + offset`.
///
/// - `x`: `[rows, c]`; the others: `[c]`
pub fn channel_apply(x: &[f32], pivot: &[f32], factor: &[f32], offset: &[f32]) -> Vec<f64> {
    each(x.len(), pivot.len(), |at, column| {
        (f64::from(x[at]) - f64::from(pivot[column])) * f64::from(factor[column])
            + f64::from(offset[column])
    })
}

/// `x · scale + shift`.
///
/// - `x`: `[rows, c]`; `scale`, `shift`: `[c]`
pub fn channel_affine(x: &[f32], scale: &[f32], shift: &[f32]) -> Vec<f64> {
    each(x.len(), scale.len(), |at, column| {
        f64::from(x[at]) * f64::from(scale[column]) + f64::from(shift[column])
    })
}

/// `((y + bias) · scale + shift) + residual`, and 0 for what is negative if `relu`; what is absent is left out.
///
/// - `y`, `residual`: `[rows, c]`, the former changed in place; `bias`, scale and shift: `[c]`
///
/// In `f32`, each operation rounded by itself, so that the bits are those of the operations one after the other.
pub fn channel_epilogue(
    y: &mut [f32],
    c: usize,
    bias: Option<&[f32]>,
    affine: Option<[&[f32]; 2]>,
    residual: Option<&[f32]>,
    relu: bool,
) {
    for (at, y) in y.iter_mut().enumerate() {
        if let Some(bias) = bias {
            *y += bias[at % c];
        }
        if let Some([scale, shift]) = affine {
            *y = *y * scale[at % c] + shift[at % c];
        }
        if let Some(residual) = residual {
            *y += residual[at];
        }
        if relu && *y < 0.0 {
            *y = 0.0;
        }
    }
}

/// Sums of `dy`, `dy (x − mean)` and `x − mean` over each column.
///
/// - `x`, `dy`: `[rows, c]`; `mean`: `[c]`; result: three times `[c]`
pub fn batch_norm_backward_sums(x: &[f32], dy: &[f32], mean: &[f32]) -> [Vec<f64>; 3] {
    let deviation = |at: usize, column: usize| f64::from(x[at]) - f64::from(mean[column]);
    let (n, c) = (x.len(), mean.len());
    [
        column_sums(n, c, |at, _| f64::from(dy[at])),
        column_sums(n, c, |at, column| f64::from(dy[at]) * deviation(at, column)),
        column_sums(n, c, deviation),
    ]
}

/// Gradients of scale and shift; factor, mean and slope that [`batch_norm_backward_apply`] takes.
///
/// - `sums`: of [`batch_norm_backward_sums`]; `variance`, `scale`: `[c]`; result: five times `[c]`
pub fn batch_norm_backward_finish(
    [shift, product, deviations]: [&[f64]; 3],
    variance: &[f32],
    scale: &[f32],
    rows: usize,
    eps: f64,
) -> [Vec<f64>; 5] {
    let n = rows as f64;
    let mut out = [const { Vec::new() }; 5];
    for column in 0..scale.len() {
        let left_over = deviations[column] / n;
        let product = product[column] - left_over * shift[column];
        let variance = f64::from(variance[column]) + eps;
        let slope = product / (variance * n);
        let values = [
            product / variance.sqrt(),
            shift[column],
            f64::from(scale[column]) / variance.sqrt(),
            shift[column] / n - left_over * slope,
            slope,
        ];
        out.iter_mut().zip(values).for_each(|(out, value)| out.push(value));
    }
    out
}

/// `factor ((dy − mean_dy) − (x − mean) slope)`.
///
/// - `x`, `dy`: `[rows, c]`; the others: `[c]`
pub fn batch_norm_backward_apply(
    [x, dy]: [&[f32]; 2],
    [mean, factor, mean_dy, slope]: [&[f32]; 4],
) -> Vec<f64> {
    each(x.len(), mean.len(), |at, column| {
        let deviation = f64::from(x[at]) - f64::from(mean[column]);
        let rest = f64::from(dy[at]) - f64::from(mean_dy[column]);
        f64::from(factor[column]) * (rest - deviation * f64::from(slope[column]))
    })
}

/// Gradients of the input, of scale and of shift, with the mean of `x` taken anew.
///
/// - `x`, `dy`: `[rows, c]`; `variance`, `scale`: `[c]`; results: `[rows, c]` and twice `[c]`
pub fn batch_norm_backward_few(
    [x, dy]: [&[f32]; 2],
    variance: &[f32],
    scale: &[f32],
    eps: f64,
) -> [Vec<f64>; 3] {
    let (n, c) = (x.len(), scale.len());
    let rows = (n / c) as f64;
    let mean: Vec<f64> =
        column_sums(n, c, |at, _| f64::from(x[at])).iter().map(|sum| sum / rows).collect();
    let shift = column_sums(n, c, |at, _| f64::from(dy[at]));
    let product =
        column_sums(n, c, |at, column| f64::from(dy[at]) * (f64::from(x[at]) - mean[column]));
    let variance: Vec<f64> = variance.iter().map(|&variance| f64::from(variance) + eps).collect();
    let input = each(n, c, |at, column| {
        let along = (f64::from(x[at]) - mean[column]) * product[column] / (variance[column] * rows);
        let centred = f64::from(dy[at]) - shift[column] / rows;
        f64::from(scale[column]) / variance[column].sqrt() * (centred - along)
    });
    let scale = product.iter().zip(&variance).map(|(sum, variance)| sum / variance.sqrt());
    [input, scale.collect(), shift]
}

/// `x` where it is positive, `slope · x` elsewhere.
///
/// - `x`: `[rows, c]`; `slope`: `[c]`
pub fn prelu(x: &[f32], slope: &[f32]) -> Vec<f64> {
    prelu_backward(x, slope, x)
}

/// `dy` where `x` is positive, `slope · dy` elsewhere.
///
/// - `x`, `dy`: `[rows, c]`; `slope`: `[c]`
pub fn prelu_backward(x: &[f32], slope: &[f32], dy: &[f32]) -> Vec<f64> {
    each(x.len(), slope.len(), |at, column| {
        f64::from(dy[at]) * if x[at] > 0.0 { 1.0 } else { f64::from(slope[column]) }
    })
}

/// Sum of `x dy` over the elements of each column that are not positive: the slope's gradient.
///
/// - `x`, `dy`: `[rows, c]`; result: `[c]`
pub fn prelu_slope_sums(x: &[f32], dy: &[f32], c: usize) -> Vec<f64> {
    column_sums(
        x.len(),
        c,
        |at, _| {
            if x[at] > 0.0 { 0.0 } else { f64::from(x[at]) * f64::from(dy[at]) }
        },
    )
}
