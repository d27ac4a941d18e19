//! How close pictures come to each other, picture by picture, where they lie.

use gpz_kernels::statistics::{self as kernels, ssim_taps};

use super::driver::Argument;
use super::{at, count, device_given};
use crate::Tensor;
use crate::error::{Error, Result};

/// Side of the window of [`ssim`].
const WINDOW: usize = 11;

/// Pictures in the order in which kernels take them; they are on a device.
fn pictures(op: &'static str, x: &Tensor) -> Result<Tensor> {
    device_given(op, x)?;
    if x.rank() != 4 {
        return Err(Error::shape(op, x.shape(), "pictures [n, c, h, w] are needed"));
    }
    x.channels_last()
}

/// Pictures of one shape on one device.
fn pairs(op: &'static str, x: &Tensor, y: &Tensor) -> Result<[Tensor; 2]> {
    device_given(op, x)?;
    x.check_same(op, y)?;
    Ok([pictures(op, x)?, pictures(op, y)?])
}

/// Sum of squared differences of each pair of pictures, over channels and pixels. Waits for the device.
///
/// - `x`, `y`: `[n, c, h, w]` on one CUDA device; result: `n` sums in squared units of the pixels
///
/// Divided by `c · h · w` it is the mean squared error per element, by `h · w` that with the channels summed. In `f64`, in a fixed order.
///
/// # Errors
/// [`Error::NeedsCuda`], [`Error::DeviceMismatch`]; [`Error::Shape`] or [`Error::ShapeMismatch`] for what are no pictures of one shape.
pub fn squared_errors(x: &Tensor, y: &Tensor) -> Result<Vec<f64>> {
    let [x, y] = pairs("squared_errors", x, y)?;
    let n = x.shape()[0];
    if x.numel() == 0 {
        return Ok(vec![0.0; n]);
    }
    let device = device_given("squared_errors", &x)?;
    let out = device.allocate(8 * n)?;
    let sums = Argument::Address(out.address());
    let arguments = [at(&x), at(&y), sums, count(x.numel() / n)];
    // SAFETY: argument order and types as in the header of squared_errors_f32.ptx; out holds an f64 for each picture.
    unsafe { device.launch(&kernels::SQUARED_ERRORS_F32, [n, 1, 1], &arguments) }?;
    out.read(0, n)
}

/// Structural similarity of each pair of pictures: the mean over its channels. Waits for the device.
///
/// Gaussian window of σ = 1.5 truncated to 11×11, population covariances, K1 = 0.01, K2 = 0.03, mean over the pixels whose window lies
/// wholly inside; in `f64`. Pictures that are equal have exactly 1.
///
/// - `x`, `y`: `[n, c, h, w]` on one CUDA device; `range`: the distance between black and white in the pixels' units
///
/// # Errors
/// As [`squared_errors`]; [`Error::Shape`] for pictures without channels or smaller than the window; [`Error::Value`] unless the range is
/// finite and positive.
///
/// # Source
/// Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004.
pub fn ssim(x: &Tensor, y: &Tensor, range: f64) -> Result<Vec<f64>> {
    const OP: &str = "ssim";
    let [x, y] = pairs(OP, x, y)?;
    if !(range.is_finite() && range > 0.0) {
        let rule = "the distance between black and white is finite and positive";
        return Err(Error::Value { op: OP, name: "range", value: range, rule });
    }
    let &[n, c, h, w] = x.shape() else { unreachable!("pictures have four axes") };
    // Channels are blocks along an axis of the grid that ends there.
    if h.min(w) < WINDOW || !(1..=usize::from(u16::MAX)).contains(&c) {
        let rule =
            "pictures of at least 11 by 11 pixels, the window, and 1 to 65535 channels are needed";
        return Err(Error::shape(OP, x.shape(), rule));
    }
    if n == 0 {
        return Ok(Vec::new());
    }
    let taps: Vec<u8> = ssim_taps().into_iter().flat_map(f64::to_le_bytes).collect();
    let device = device_given(OP, &x)?;
    let out = device.allocate(8 * n * c)?;
    let arguments = [
        at(&x),
        at(&y),
        Argument::Bytes(&taps),
        Argument::Address(out.address()),
        count(h),
        count(w),
        count(c),
        Argument::F64((0.01 * range).powi(2)),
        Argument::F64((0.03 * range).powi(2)),
    ];
    // SAFETY: argument order and types as in the header of ssim_f32.ptx; out holds an f64 for each channel of each picture.
    unsafe { device.launch(&kernels::SSIM_F32, [n, c, 1], &arguments) }?;
    let channels = out.read::<f64>(0, n * c)?;
    Ok(channels.chunks_exact(c).map(|one| one.iter().sum::<f64>() / c as f64).collect())
}

/// Anisotropic total variation of each picture: the sum of the absolute differences of each pixel to the one on its right and the one below,
/// over channels. Waits for the device.
///
/// - `x`: `[n, c, h, w]` on a CUDA device; result: `n` sums in units of the pixels, in `f64`, in a fixed order
///
/// # Errors
/// [`Error::NeedsCuda`]; [`Error::Shape`] for what are no pictures.
pub fn total_variation(x: &Tensor) -> Result<Vec<f64>> {
    let x = pictures("total_variation", x)?;
    let &[n, c, h, w] = x.shape() else { unreachable!("pictures have four axes") };
    if x.numel() == 0 {
        return Ok(vec![0.0; n]);
    }
    let device = device_given("total_variation", &x)?;
    let out = device.allocate(8 * n)?;
    let arguments = [at(&x), Argument::Address(out.address()), count(h), count(w), count(c)];
    // SAFETY: argument order and types as in the header of total_variation_f32.ptx; out holds an f64 for each picture.
    unsafe { device.launch(&kernels::TOTAL_VARIATION_F32, [n, 1, 1], &arguments) }?;
    out.read(0, n)
}
