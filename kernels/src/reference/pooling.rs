//! Pooling of pictures `[p, h, w, c]`.

/// Sizes of pooling; pairs are height and width.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Pictures.
    pub pictures: usize,
    /// Extent of a picture.
    pub input: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Extent of a window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Rows and columns added at each side.
    pub padding: [usize; 2],
}

impl Pool {
    /// Extent of the result.
    #[must_use]
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            (self.input[axis] + 2 * self.padding[axis] - self.kernel[axis]) / self.stride[axis] + 1
        })
    }

    /// Calls `f` with the place of each element of the result, in their order, and those of its window that lie in the picture.
    fn for_windows(&self, mut f: impl FnMut(usize, &[usize])) {
        let ([h, w], [oh, ow]) = (self.input, self.output());
        let within = |at: usize, axis: usize| {
            let from = at * self.stride[axis];
            (from..from + self.kernel[axis])
                .filter_map(move |at| at.checked_sub(self.padding[axis]))
                .filter(move |&at| at < self.input[axis])
        };
        let mut at = 0;
        for picture in 0..self.pictures {
            for oy in 0..oh {
                for ox in 0..ow {
                    for channel in 0..self.channels {
                        let place = |y, x| ((picture * h + y) * w + x) * self.channels + channel;
                        let window: Vec<usize> = within(oy, 0)
                            .flat_map(|y| within(ox, 1).map(move |x| place(y, x)))
                            .collect();
                        f(at, &window);
                        at += 1;
                    }
                }
            }
        }
    }
}

/// Largest element of each window: of equal ones the first, NaN before all.
///
/// - `x`: `[p, h, w, c]`; result: `[p, oh, ow, c]`
pub fn max_pool(pool: &Pool, x: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    pool.for_windows(|_, window| {
        let larger = |best: f32, &at: &usize| {
            if x[at] > best || x[at].is_nan() { x[at] } else { best }
        };
        out.push(f64::from(window.iter().fold(f32::NEG_INFINITY, larger)));
    });
    out
}

/// The gradient of each window goes to the first of its elements that equals the largest; to none if that is NaN.
///
/// - `x`: `[p, h, w, c]`; `y`: of [`max_pool`]; `dy`: `[p, oh, ow, c]`; result: as `x`
pub fn max_pool_backward(pool: &Pool, x: &[f32], y: &[f32], dy: &[f32]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    pool.for_windows(|at, window| {
        if let Some(&first) = window.iter().find(|&&place| x[place] == y[at]) {
            dx[first] += f64::from(dy[at]);
        }
    });
    dx
}

/// Mean of each window; what lies outside the picture counts as zero.
///
/// - `x`: `[p, h, w, c]`; result: `[p, oh, ow, c]`
pub fn avg_pool(pool: &Pool, x: &[f32]) -> Vec<f64> {
    let mut out = Vec::new();
    let count = (pool.kernel[0] * pool.kernel[1]) as f64;
    pool.for_windows(|_, window| {
        out.push(window.iter().map(|&at| f64::from(x[at])).sum::<f64>() / count);
    });
    out
}

/// The gradient of each window, spread evenly over it.
///
/// - `dy`: `[p, oh, ow, c]`; result: `[p, h, w, c]`
pub fn avg_pool_backward(pool: &Pool, dy: &[f32]) -> Vec<f64> {
    let mut dx = vec![0.0; pool.pictures * pool.input[0] * pool.input[1] * pool.channels];
    let count = (pool.kernel[0] * pool.kernel[1]) as f64;
    pool.for_windows(|at, window| {
        window.iter().for_each(|&place| dx[place] += f64::from(dy[at]) / count);
    });
    dx
}
