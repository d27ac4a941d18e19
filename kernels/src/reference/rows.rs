//! Rows of a matrix. Here `d` is always their length.

/// What `f` makes of each row, one after the other.
fn each(x: &[f32], d: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    x.chunks(d).flat_map(|row| f(&wide(row))).collect()
}

/// What `f` makes of each two rows, one after the other.
fn each_two(x: &[f32], y: &[f32], d: usize, f: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Vec<f64> {
    x.chunks(d).zip(y.chunks(d)).flat_map(|(x, y)| f(&wide(x), &wide(y))).collect()
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|&x| f64::from(x)).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

/// `x − ln Σ eˣ`, shifted by the largest; NaN counts as that.
fn log_softmax_row(x: &[f64]) -> Vec<f64> {
    let larger = |best: f64, &x: &f64| if x > best || x.is_nan() { x } else { best };
    let largest = x.iter().fold(f64::NEG_INFINITY, larger);
    let log_sum = x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
    x.iter().map(|x| (x - largest) - log_sum).collect()
}

/// `eˣ / Σ eˣ` of each row.
///
/// - `x`: `[rows, d]`
pub fn softmax(x: &[f32], d: usize) -> Vec<f64> {
    each(x, d, |x| log_softmax_row(x).iter().map(|x| x.exp()).collect())
}

/// `y (dy − Σ y dy)` of each row.
///
/// - `y`: of [`softmax`]; `dy`: `[rows, d]`
pub fn softmax_backward(y: &[f32], dy: &[f32], d: usize) -> Vec<f64> {
    each_two(y, dy, d, |y, dy| {
        let product = dot(y, dy);
        y.iter().zip(dy).map(|(y, dy)| y * (dy - product)).collect()
    })
}

/// `x − ln Σ eˣ` of each row.
///
/// - `x`: `[rows, d]`
pub fn log_softmax(x: &[f32], d: usize) -> Vec<f64> {
    each(x, d, log_softmax_row)
}

/// `dy − e^y Σ dy` of each row.
///
/// - `y`: of [`log_softmax`]; `dy`: `[rows, d]`
pub fn log_softmax_backward(y: &[f32], dy: &[f32], d: usize) -> Vec<f64> {
    each_two(y, dy, d, |y, dy| {
        let sum: f64 = dy.iter().sum();
        y.iter().zip(dy).map(|(y, dy)| dy - y.exp() * sum).collect()
    })
}

/// A row of mean 0 and variance 1, and the reciprocal standard deviation. The variance is divided by the count.
fn normal_row(x: &[f64], eps: f64) -> (Vec<f64>, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let inverse = 1.0 / (variance + eps).sqrt();
    (x.iter().map(|x| (x - mean) * inverse).collect(), inverse)
}

/// `(x − mean) / √(var + eps) · scale + shift` with mean and variance of each row.
///
/// - `x`: `[rows, d]`; `scale`, `shift`: `[d]`
pub fn layer_norm(x: &[f32], scale: &[f32], shift: &[f32], eps: f64) -> Vec<f64> {
    let (scale, shift) = (wide(scale), wide(shift));
    each(x, scale.len(), |x| {
        let normal = normal_row(x, eps).0;
        normal.iter().zip(&scale).zip(&shift).map(|((x, scale), shift)| x * scale + shift).collect()
    })
}

/// Gradient of [`layer_norm`] with respect to its input, and `dy` times the normalised rows: the sums of its columns are the gradient of
/// the scale.
///
/// - `x`, `dy`: `[rows, d]`; `scale`: `[d]`; result: twice `[rows, d]`
pub fn layer_norm_backward(x: &[f32], dy: &[f32], scale: &[f32], eps: f64) -> [Vec<f64>; 2] {
    let (scale, d) = (wide(scale), scale.len());
    let dx = each_two(x, dy, d, |x, dy| {
        let (normal, inverse) = normal_row(x, eps);
        let g: Vec<f64> = dy.iter().zip(&scale).map(|(dy, scale)| dy * scale).collect();
        let mean = g.iter().sum::<f64>() / d as f64;
        let slope = dot(&g, &normal) / d as f64;
        g.iter().zip(&normal).map(|(g, x)| (g - mean - x * slope) * inverse).collect()
    });
    let product = each_two(x, dy, d, |x, dy| {
        normal_row(x, eps).0.iter().zip(dy).map(|(x, dy)| x * dy).collect()
    });
    [dx, product]
}

/// `−Σ t ln p` of each row with `p` the softmax of its logits, and its gradient `p Σ t − t`.
///
/// - `logits`, `targets`: `[rows, d]`; result: `[rows]`, `[rows, d]`
pub fn soft_cross_entropy(logits: &[f32], targets: &[f32], d: usize) -> [Vec<f64>; 2] {
    let loss = each_two(logits, targets, d, |x, t| vec![-dot(t, &log_softmax_row(x))]);
    let gradient = each_two(logits, targets, d, |x, t| {
        let total: f64 = t.iter().sum();
        log_softmax_row(x).iter().zip(t).map(|(x, t)| x.exp() * total - t).collect()
    });
    [loss, gradient]
}
