//! What a channel does to the features that pass it: noise, and cells.

use gpz_kernels::statistics as kernels;

use super::driver::Argument;
use super::{at, count, device_given, over_elements, unfilled};
use crate::Tensor;
use crate::error::{Error, Result};

/// `x + sigma · g` with normal numbers `g` of a key, the same for the same key and place on every device.
///
/// - `x`: of any shape, on a CUDA device; the result is row-major
/// - `sigma`: standard deviation, in the units of `x`
/// - `key`: a seed; `offset`: where in its sequence the noise begins, in steps of four numbers
///
/// The place of an element is that in row-major order, whatever the memory order: elements `4i` to `4i + 3` have the numbers of counter
/// `offset + i`. What is to be independent takes another key, or an offset larger by `x.numel().div_ceil(4)` than the one before.
///
/// # Errors
/// [`Error::NeedsCuda`]; [`Error::Value`] for a negative or infinite `sigma`.
///
/// # Source
/// Philox 4x32-10 (Salmon et al., 2011) and Box and Muller: [`gpz_kernels::reference::noise`] has the same numbers in `f64`.
pub fn noise(x: &Tensor, sigma: f32, key: u64, offset: u64) -> Result<Tensor> {
    const OP: &str = "noise";
    let device = device_given(OP, x)?;
    if !(sigma.is_finite() && sigma >= 0.0) {
        let rule = "a standard deviation is finite and not negative";
        return Err(Error::Value { op: OP, name: "sigma", value: sigma.into(), rule });
    }
    let (x, n) = (x.row_major()?, x.numel());
    let out = unfilled(OP, device, x.dims(), x.strides())?;
    let (key, offset) = (Argument::U64(key), Argument::U64(offset));
    let arguments = [at(&x), at(&out), count(n), Argument::F32(sigma), key, offset];
    // SAFETY: argument order and types as in the header of noise_f32.ptx; x and out hold n elements.
    unsafe { over_elements(device, &kernels::NOISE_F32, n, &arguments) }?;
    Ok(out)
}

/// A uniform quantiser: each value becomes the middle of its cell, values outside the range that of the outermost one.
///
/// - `x`: of any shape, on a CUDA device
/// - `low`: where the first cell begins; `step`: width of a cell, both in the units of `x`; `cells`: their number
///
/// Cells and middles are computed in `f64` and rounded once. NaN counts as lying below all cells.
///
/// # Errors
/// [`Error::NeedsCuda`]; [`Error::Value`] unless `low` is finite, `step` finite and positive, and there is a cell.
pub fn quantise(x: &Tensor, low: f64, step: f64, cells: u32) -> Result<Tensor> {
    const OP: &str = "quantise";
    let device = device_given(OP, x)?;
    let wrong = |name, value, rule| Err(Error::Value { op: OP, name, value, rule });
    if !low.is_finite() {
        return wrong("low", low, "the first cell begins at a finite number");
    }
    if !(step.is_finite() && step > 0.0) {
        return wrong("step", step, "a cell's width is finite and positive");
    }
    if cells == 0 {
        return wrong("cells", 0.0, "at least one cell is needed");
    }
    let (x, n) = (x.densely()?, x.numel());
    let out = unfilled(OP, device, x.dims(), x.strides())?;
    let [low, step, last] = [low, step, f64::from(cells - 1)].map(Argument::F64);
    // SAFETY: argument order and types as in the header of quantise_f32.ptx; x and out hold n elements.
    unsafe {
        over_elements(
            device,
            &kernels::QUANTISE_F32,
            n,
            &[at(&x), at(&out), count(n), low, step, last],
        )
    }?;
    Ok(out)
}
