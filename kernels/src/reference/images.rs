//! How close images come to each other, channels-last.

/// Sum of squared differences of each pair of images.
///
/// - `x`, `y`: `[images, pixels]`
pub fn squared_errors(x: &[f32], y: &[f32], pixels: usize) -> Vec<f64> {
    let square = |(&x, &y): (&f32, &f32)| (f64::from(x) - f64::from(y)).powi(2);
    let pairs = x.chunks_exact(pixels).zip(y.chunks_exact(pixels));
    pairs.map(|(x, y)| x.iter().zip(y).map(square).sum()).collect()
}

/// Sum of the absolute differences of each pixel to the one on its right and the one below, channel by channel, of each image.
///
/// - `x`: `[images, h, w, c]`
pub fn total_variation(x: &[f32], [h, w, c]: [usize; 3]) -> Vec<f64> {
    x.chunks_exact(h * w * c)
        .map(|image| {
            let at = |row: usize, column: usize, channel: usize| {
                f64::from(image[(row * w + column) * c + channel])
            };
            let mut sum = 0.0;
            for row in 0..h {
                for column in 0..w {
                    for channel in 0..c {
                        let here = at(row, column, channel);
                        if column + 1 < w {
                            sum += (at(row, column + 1, channel) - here).abs();
                        }
                        if row + 1 < h {
                            sum += (at(row + 1, column, channel) - here).abs();
                        }
                    }
                }
            }
            sum
        })
        .collect()
}

/// Mean structural similarity of each channel of each pair of images, over the pixels whose window lies inside.
///
/// - `x`, `y`: `[images, h, w, c]`, `h` and `w` at least 11; `taps`: the window along one side; `constants`: `(0.01 range)²` and
///   `(0.03 range)²`
///
/// Result: `[images, c]`. As Wang et al. (2004) write it, with the covariances of the window as a distribution.
pub fn ssim(
    x: &[f32],
    y: &[f32],
    [h, w, c]: [usize; 3],
    taps: &[f64; 11],
    constants: [f64; 2],
) -> Vec<f64> {
    let images = x.chunks_exact(h * w * c).zip(y.chunks_exact(h * w * c));
    let [c1, c2] = constants;
    let mut out = Vec::new();
    for (x, y) in images {
        for channel in 0..c {
            let mut sum = 0.0;
            for row in 0..h - 10 {
                for column in 0..w - 10 {
                    let (mut mean, mut square, mut product) = ([0.0; 2], [0.0; 2], 0.0);
                    for (i, down) in taps.iter().enumerate() {
                        for (j, across) in taps.iter().enumerate() {
                            let at = ((row + i) * w + column + j) * c + channel;
                            let pair = [x[at], y[at]].map(f64::from);
                            for side in 0..2 {
                                mean[side] += down * across * pair[side];
                                square[side] += down * across * pair[side] * pair[side];
                            }
                            product += down * across * pair[0] * pair[1];
                        }
                    }
                    let [mx, my] = mean;
                    let (vx, vy) = (square[0] - mx * mx, square[1] - my * my);
                    let luminance = (2.0 * mx * my + c1) / (mx * mx + my * my + c1);
                    sum += luminance * (2.0 * (product - mx * my) + c2) / (vx + vy + c2);
                }
            }
            out.push(sum / ((h - 10) * (w - 10)) as f64);
        }
    }
    out
}
