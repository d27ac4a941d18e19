//! Mean pooling to a given height and width.

use gpz_tensor::{Pool2d, Tensor};

use crate::error::Result;
use crate::tape::Var;

/// Means over the windows of PyTorch's `AdaptiveAvgPool2d`: window `i` of `n` over `size` pixels begins at `⌊i · size / n⌋` and ends before
/// `⌈(i + 1) · size / n⌉`.
///
/// - `x`: `[n, c, h, w]`; result `[n, c, height, width]`
pub(super) fn mean_pool(x: &Var, [height, width]: [usize; 2]) -> Result<Var> {
    let (h, w) = (x.shape()[2], x.shape()[3]);
    if [h, w] == [height, width] {
        return Ok(x.clone());
    }
    if h % height == 0 && w % width == 0 {
        let kernel = [h / height, w / width];
        return x.avg_pool2d(Pool2d { kernel, stride: kernel, padding: [0; 2] });
    }
    // Windows that overlap are two products with matrices of weights: [n, c, h, w] · [w, width], and the same for the height.
    let columns = x.matmul(&windows(x.value(), w, width)?)?;
    columns.transpose(2, 3)?.matmul(&windows(x.value(), h, height)?)?.transpose(2, 3)
}

/// Weights `[size, count]` of the windows, as `like` is.
fn windows(like: &Tensor, size: usize, count: usize) -> Result<Var> {
    let mut weights = vec![0.0f64; size * count];
    for window in 0..count {
        let (from, to) = (window * size / count, ((window + 1) * size).div_ceil(count));
        for pixel in from..to {
            weights[pixel * count + window] = 1.0 / (to - from) as f64;
        }
    }
    let weights = Tensor::from_slice(&weights, &[size, count])?;
    Ok(Var::constant(weights.to_dtype(like.dtype())?.to_device(&like.device())?))
}
