//! What each kernel computes, on the CPU in `f64`: the oracles of the tests.

/// Sums and sums of squares of each class's rows about its pivot, added to running ones.
///
/// - `x`: `[n, d]`, row-major; `labels`: `n` classes below `k`; `pivot`: `[k, d]`; `sums`, `squares`: `[k, d]`
///
/// With `p` the pivot and `N` the rows of a class: mean `p + Σ/N`, sum of squared deviations `Q − Σ²/N`. A pivot near the class's rows,
/// such as the first of them, keeps both free of cancellation; batches with the same pivots add up.
pub fn class_moments(
    x: &[f32],
    labels: &[usize],
    pivot: &[f32],
    sums: &mut [f64],
    squares: &mut [f64],
) {
    let d = x.len() / labels.len().max(1);
    for (row, &label) in x.chunks_exact(d.max(1)).zip(labels) {
        let class = label * d..(label + 1) * d;
        let cells = sums[class.clone()].iter_mut().zip(&mut squares[class.clone()]);
        for (((sum, square), &value), &pivot) in cells.zip(row).zip(&pivot[class]) {
            let deviation = f64::from(value) - f64::from(pivot);
            *sum += deviation;
            *square += deviation * deviation;
        }
    }
}
