//! The feature statistics and the channels.

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

/// A uniform quantiser: each value becomes the middle of its cell, values outside the range that of the outermost one.
///
/// - `x`: changed in place; `low`: where the first cell begins; `step`: width of a cell; `last`: number of cells less one
///
/// NaN counts as lying below all cells.
pub fn quantise(x: &mut [f32], low: f64, step: f64, last: f64) {
    for value in x {
        // `max` and `min` of NaN and a number are the number, here and on the device.
        let cell = ((f64::from(*value) - low) / step).floor().max(0.0).min(last);
        *value = (low + (cell + 0.5) * step) as f32;
    }
}

/// Squared distance of each row to the mean of its class and to the mean of all.
///
/// - `x`: `[n, d]`, row-major; `labels`: `n` classes below `k`; `means`: `[k, d]`; `mean`: `[d]`
pub fn class_distances(x: &[f32], labels: &[usize], means: &[f64], mean: &[f64]) -> Vec<[f64; 2]> {
    let d = mean.len();
    let distance = |row: &[f32], to: &[f64]| {
        row.iter().zip(to).map(|(&value, to)| (f64::from(value) - to).powi(2)).sum()
    };
    let rows = x.chunks_exact(d).zip(labels);
    rows.map(|(row, &label)| [distance(row, &means[label * d..][..d]), distance(row, mean)])
        .collect()
}
