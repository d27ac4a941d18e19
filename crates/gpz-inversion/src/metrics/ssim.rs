//! SSIM of one channel by separable Gaussian filtering.
//!
//! With `p = x + y` and `q = x − y` every term of SSIM follows from the local moments of `p` and `q` alone:
//! `4·μx·μy = μp² − μq²`, `2(μx² + μy²) = μp² + μq²`, `4·cov(x, y) = var p − var q`, `2(var x + var y) = var p + var q`.
//! That is four filtered planes where the textbook form filters five, and identical images give exactly 1.

/// Standard deviation of the Gaussian window, in pixels.
pub const SSIM_SIGMA: f64 = 1.5;

/// Side of the window: the Gaussian is cut at 3.5 σ, rounded to whole pixels.
pub const SSIM_WINDOW: usize = 2 * RADIUS + 1;

const RADIUS: usize = 5;
const K1: f64 = 0.01;
const K2: f64 = 0.03;

/// Buffers for images of one size, reused from image to image.
pub(super) struct Workspace {
    height: usize,
    width: usize,
    c1: f64,
    c2: f64,
    /// One side of the symmetric window: `taps[0]` is the centre, `taps[k]` the weight `k` pixels away.
    taps: [f64; RADIUS + 1],
    /// The four planes p, q, p², q².
    planes: [Vec<f64>; 4],
    /// One plane filtered along its columns.
    columns: Vec<f64>,
    /// The four planes filtered both ways, the pixels with a whole window only.
    moments: [Vec<f64>; 4],
}

impl Workspace {
    /// Buffers for `height`×`width` channels (each at least [`SSIM_WINDOW`]) whose values span `range`.
    pub(super) fn new(height: usize, width: usize, range: f64) -> Self {
        let (inner_height, inner_width) = (height - 2 * RADIUS, width - 2 * RADIUS);
        Self {
            height,
            width,
            c1: (K1 * range).powi(2),
            c2: (K2 * range).powi(2),
            taps: gaussian_taps(),
            planes: std::array::from_fn(|_| vec![0.0; height * width]),
            columns: vec![0.0; inner_height * width],
            moments: std::array::from_fn(|_| vec![0.0; inner_height * inner_width]),
        }
    }

    /// Mean SSIM of two channels, given as their pixels side by side in rows; pixels beyond the first
    /// `height * width` are left alone.
    pub(super) fn mean_ssim(&mut self, pixels: impl Iterator<Item = (f64, f64)>) -> f64 {
        let [p, q, pp, qq] = &mut self.planes;
        for (i, (x, y)) in pixels.take(self.height * self.width).enumerate() {
            (p[i], q[i]) = (x + y, x - y);
            (pp[i], qq[i]) = (p[i] * p[i], q[i] * q[i]);
        }
        for (plane, moment) in self.planes.iter().zip(&mut self.moments) {
            filter_columns(plane, &self.taps, self.height, self.width, &mut self.columns);
            filter_rows(&self.columns, &self.taps, self.width, moment);
        }
        let [mean_p, mean_q, mean_pp, mean_qq] = &self.moments;
        let mut sum = 0.0;
        for (i, (mp, mq)) in mean_p.iter().zip(mean_q).enumerate() {
            let (mp, mq) = (mp * mp, mq * mq);
            let (var_p, var_q) = (mean_pp[i] - mp, mean_qq[i] - mq);
            let luminance = ((mp - mq) / 2.0 + self.c1) / ((mp + mq) / 2.0 + self.c1);
            let structure = ((var_p - var_q) / 2.0 + self.c2) / ((var_p + var_q) / 2.0 + self.c2);
            sum += luminance * structure;
        }
        sum / mean_p.len() as f64
    }
}

/// The centre and one side of the normalised Gaussian window.
fn gaussian_taps() -> [f64; RADIUS + 1] {
    let raw: [f64; RADIUS + 1] =
        std::array::from_fn(|k| (-0.5 * (k as f64 / SSIM_SIGMA).powi(2)).exp());
    let sum = raw[0] + 2.0 * raw[1..].iter().sum::<f64>();
    raw.map(|w| w / sum)
}

/// Filters along columns, whole windows only: `[height, width]` to `[height − 10, width]`.
fn filter_columns(
    plane: &[f64],
    taps: &[f64; RADIUS + 1],
    height: usize,
    width: usize,
    out: &mut [f64],
) {
    let row = |r: usize| &plane[r * width..(r + 1) * width];
    for (centre, out) in (RADIUS..height - RADIUS).zip(out.chunks_exact_mut(width)) {
        for (o, v) in out.iter_mut().zip(row(centre)) {
            *o = taps[0] * v;
        }
        for (k, tap) in taps.iter().enumerate().skip(1) {
            for ((o, above), below) in out.iter_mut().zip(row(centre - k)).zip(row(centre + k)) {
                *o += tap * (above + below);
            }
        }
    }
}

/// Filters along rows, whole windows only: `[rows, width]` to `[rows, width − 10]`.
fn filter_rows(plane: &[f64], taps: &[f64; RADIUS + 1], width: usize, out: &mut [f64]) {
    let inner = width - 2 * RADIUS;
    for (row, out) in plane.chunks_exact(width).zip(out.chunks_exact_mut(inner)) {
        for (o, v) in out.iter_mut().zip(&row[RADIUS..]) {
            *o = taps[0] * v;
        }
        for (k, tap) in taps.iter().enumerate().skip(1) {
            for ((o, left), right) in out.iter_mut().zip(&row[RADIUS - k..]).zip(&row[RADIUS + k..])
            {
                *o += tap * (left + right);
            }
        }
    }
}
