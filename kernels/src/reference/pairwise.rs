//! What is made of the distances between all rows of two matrices.

/// Squared distance of two rows.
fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

/// Sum over the rows of `y` of `exp(−inverse ‖x − y‖²)`, for each row of `x`.
///
/// - `x`: `[n, d]`; `y`: `[m, d]`; `inverse`: `1/(2h²)`; `skip_self`: row `i` of `y` does not count for row `i` of `x`
pub fn pairwise_gaussian(
    x: &[f32],
    y: &[f32],
    d: usize,
    inverse: f64,
    skip_self: bool,
) -> Vec<f64> {
    let rows = x.chunks_exact(d).enumerate();
    rows.map(|(i, row)| {
        let others = y.chunks_exact(d).enumerate().filter(|(j, _)| !(skip_self && i == *j));
        others.map(|(_, other)| (-inverse * squared_distance(row, other)).exp()).sum()
    })
    .collect()
}

/// Squared distance and index of the `k` rows of `y` nearest to each row of `x`, the nearest first, of equal ones that of smaller index.
///
/// - `x`: `[n, d]`; `y`: `[m, d]`; `skip_self`: row `i` of `y` is no neighbour of row `i` of `x`
///
/// Result: `[n, k]`; infinity and `u32::MAX` where there are fewer neighbours at a finite distance.
pub fn pairwise_nearest(
    x: &[f32],
    y: &[f32],
    d: usize,
    k: usize,
    skip_self: bool,
) -> Vec<(f64, u32)> {
    let mut out = Vec::new();
    for (i, row) in x.chunks_exact(d).enumerate() {
        let others = y.chunks_exact(d).enumerate().filter(|(j, _)| !(skip_self && i == *j));
        let mut found: Vec<(f64, u32)> = others
            .map(|(j, other)| (squared_distance(row, other), j as u32))
            .filter(|(distance, _)| distance.is_finite())
            .collect();
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.resize(found.len().max(k), (f64::INFINITY, u32::MAX));
        out.extend_from_slice(&found[..k]);
    }
    out
}
