//! Resizing of 8-bit images: antialiased bilinear convolution.
//!
//! The filter is a triangle as wide as the larger of a source and a target pixel, as in Pillow's `BILINEAR` and in torchvision's
//! `Resize` on Pillow images, the protocol of the method's authors. `fast_image_resize` does it in 16-bit fixed point with
//! weights computed by correctly rounded operations, so its x86-64 paths (none, SSE 4.1, AVX2) agree bit for bit; a test pins
//! the resized embedded set for every machine it runs on.
//!
//! Smoothed pictures have values that no byte holds: they are resized by the filter's own weights in floating point, a linear map without
//! rounding to levels and without cutting off.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3};
use fast_image_resize::{FilterType, ResizeAlg, ResizeError, ResizeOptions, Resizer};

use crate::images::ImageShape;
use crate::{Error, Result};

/// The longest side an image may have, stored or shown.
pub(crate) const MAX_SIDE: usize = 8_192;

/// Whether `(height, width)` can be drawn.
pub(crate) fn check_resolution((height, width): (usize, usize)) -> Result<()> {
    if [height, width].iter().all(|side| (1..=MAX_SIDE).contains(side)) {
        Ok(())
    } else {
        Err(Error::Resolution { height, width, limit: MAX_SIDE })
    }
}

/// A resizer with its scratch memory; one per thread.
pub(crate) struct Scaler {
    resizer: Resizer,
    options: ResizeOptions,
}

impl Scaler {
    pub(crate) fn new() -> Self {
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .use_alpha(false);
        Self { resizer: Resizer::new(), options }
    }

    /// `source` `[h, w, c]` of `shape` into `target` `[height, width, c]`.
    ///
    /// Callers have checked that both sizes are within [`MAX_SIDE`], that the buffers have exactly these sizes and that there
    /// are one or three channels.
    pub(crate) fn resize(
        &mut self,
        source: &[u8],
        shape: ImageShape,
        (height, width): (usize, usize),
        target: &mut [u8],
    ) {
        if shape.size() == (height, width) {
            target.copy_from_slice(source);
            return;
        }
        let done = match shape.channels {
            1 => self.typed::<U8>(source, shape, (height, width), target),
            _ => self.typed::<U8x3>(source, shape, (height, width), target),
        };
        // The library fails on buffers that do not fit their sizes; these do, whatever was read.
        assert!(done.is_ok(), "resizing {shape} to {height}x{width}: buffers of another size");
    }

    fn typed<P>(
        &mut self,
        source: &[u8],
        shape: ImageShape,
        (height, width): (usize, usize),
        target: &mut [u8],
    ) -> Result<(), ResizeError>
    where
        P: InnerPixel + fast_image_resize::PixelTrait,
    {
        let source =
            TypedImageRef::<P>::from_buffer(shape.width as u32, shape.height as u32, source)
                .map_err(|_| ResizeError::PixelTypesAreDifferent)?;
        let mut target = TypedImage::<P>::from_buffer(width as u32, height as u32, target)
            .map_err(|_| ResizeError::PixelTypesAreDifferent)?;
        self.resizer.resize_typed(&source, &mut target, &self.options)
    }
}

/// How one axis is resized: for each target position the first source position that counts, and the weights from there on.
struct Axis(Vec<(usize, Vec<f64>)>);

impl Axis {
    /// The triangle filter, as wide as the larger of a source and a target pixel, each row of sum one.
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let reach = scale.max(1.0);
        let row = |target: usize| {
            let centre = (target as f64 + 0.5) * scale;
            let weight =
                |source: usize| (1.0 - ((source as f64 + 0.5 - centre) / reach).abs()).max(0.0);
            let first = (centre - reach - 0.5).ceil().max(0.0) as usize;
            let end = ((centre + reach - 0.5).floor() as usize + 1).min(from);
            let raw: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = raw.iter().sum();
            (first, raw.into_iter().map(|w| w / sum).collect())
        };
        Self((0..to).map(row).collect())
    }
}

/// The weights with which one axis of a picture is resized: `weights[t][s]` is the share of source pixel `s` in target pixel `t`.
///
/// A smoothed picture of `h` by `w` becomes `Σ rows[y'][y] · columns[x'][x] · picture[y][x]` in each channel, exactly this linear map but
/// for the rounding of 32-bit floats. Bytes that are not smoothed are resized by the same filter in fixed point, rounded to 8 bits.
///
/// # Errors
/// [`Error::Resolution`] unless both sizes can be drawn.
///
/// ```
/// // Two pixels shown as three; as many as there are change nothing.
/// assert_eq!(gpz_data::resize_weights(2, 3)?, [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]);
/// assert_eq!(gpz_data::resize_weights(2, 2)?, [[1.0, 0.0], [0.0, 1.0]]);
/// # Ok::<(), gpz_data::Error>(())
/// ```
pub fn resize_weights(from: usize, to: usize) -> Result<Vec<Vec<f64>>> {
    check_resolution((from, to))?;
    let dense = |(first, weights): (usize, Vec<f64>)| {
        let mut row = vec![0.0; from];
        row[first..first + weights.len()].copy_from_slice(&weights);
        row
    };
    Ok(Axis::new(from, to).0.into_iter().map(dense).collect())
}

/// Resizes floating-point pictures of one size; one per thread.
pub(crate) struct LinearScaler {
    shape: ImageShape,
    rows: Axis,
    columns: Axis,
    /// `[source height, target width, channels]`.
    between: Vec<f64>,
}

impl LinearScaler {
    /// Callers have checked both sizes.
    pub(crate) fn new(shape: ImageShape, (height, width): (usize, usize)) -> Self {
        let (rows, columns) = (Axis::new(shape.height, height), Axis::new(shape.width, width));
        Self { shape, rows, columns, between: Vec::new() }
    }

    /// `source` `[h, w, c]` into `target` `[height, width, c]`, both of exactly the sizes the scaler was made for.
    pub(crate) fn resize(&mut self, source: &[f32], target: &mut [f32]) {
        let channels = self.shape.channels;
        let narrow = self.columns.0.len() * channels;
        self.between.clear();
        for line in source.chunks_exact(self.shape.width * channels) {
            for (first, weights) in &self.columns.0 {
                for c in 0..channels {
                    let pixels = line.iter().skip(first * channels + c).step_by(channels);
                    let sum = weights.iter().zip(pixels).map(|(w, v)| w * f64::from(*v)).sum();
                    self.between.push(sum);
                }
            }
        }
        for (line, (first, weights)) in target.chunks_exact_mut(narrow).zip(&self.rows.0) {
            for (at, value) in line.iter_mut().enumerate() {
                let lines = self.between.iter().skip(first * narrow + at).step_by(narrow);
                *value = weights.iter().zip(lines).map(|(w, v)| w * v).sum::<f64>() as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;
    use rand::Rng;

    /// The triangle filter in f64, axis by axis, rounding only at the end.
    fn oracle(source: &[u8], shape: ImageShape, (height, width): (usize, usize)) -> Vec<f64> {
        let weights = |from: usize, to: usize| -> Vec<Vec<f64>> {
            let scale = from as f64 / to as f64;
            let reach = scale.max(1.0);
            (0..to)
                .map(|t| {
                    let centre = (t as f64 + 0.5) * scale;
                    let raw: Vec<f64> = (0..from)
                        .map(|s| (1.0 - ((s as f64 + 0.5 - centre) / reach).abs()).max(0.0))
                        .collect();
                    let sum: f64 = raw.iter().sum();
                    raw.iter().map(|w| w / sum).collect()
                })
                .collect()
        };
        let (rows, columns) = (weights(shape.height, height), weights(shape.width, width));
        let mut out = Vec::new();
        for row in &rows {
            for column in &columns {
                for c in 0..shape.channels {
                    let mut sum = 0.0;
                    for (y, wy) in row.iter().enumerate() {
                        for (x, wx) in column.iter().enumerate() {
                            sum += wy
                                * wx
                                * f64::from(source[(y * shape.width + x) * shape.channels + c]);
                        }
                    }
                    out.push(sum);
                }
            }
        }
        out
    }

    /// Up, down, unequal sides, grey and RGB, against the filter's definition; two roundings to 8 bits cost at most 1.
    #[test]
    fn agrees_with_the_triangle_filter() {
        let mut rng = rng::stream(3, "resize", 0, 0);
        for (from, to, channels) in [
            ((28, 28), (64, 64), 1),
            ((32, 32), (64, 64), 3),
            ((50, 41), (16, 23), 3),
            ((7, 90), (64, 64), 1),
            ((1, 1), (5, 3), 3),
        ] {
            let shape = ImageShape { height: from.0, width: from.1, channels };
            let mut source = vec![0; shape.elements()];
            rng.fill_bytes(&mut source);
            let mut target = vec![0; to.0 * to.1 * channels];
            Scaler::new().resize(&source, shape, to, &mut target);
            for (got, want) in target.iter().zip(oracle(&source, shape, to)) {
                assert!(
                    (f64::from(*got) - want).abs() <= 1.01,
                    "{from:?} to {to:?}: {got} for {want}"
                );
            }
        }
    }

    /// The floating-point scaler against the same definition: up, down, unequal sides, one pixel; values beyond [0, 1] stay.
    #[test]
    fn floats_follow_the_filter_without_rounding() {
        let mut rng = rng::stream(4, "resize", 0, 0);
        for (from, to, channels) in [
            ((28, 28), (64, 64), 1),
            ((50, 41), (16, 23), 3),
            ((7, 90), (64, 64), 1),
            ((1, 3), (5, 3), 3),
        ] {
            let shape = ImageShape { height: from.0, width: from.1, channels };
            let mut bytes = vec![0; shape.elements()];
            rng.fill_bytes(&mut bytes);
            let source: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) - 100.0).collect();
            let mut target = vec![0.0; to.0 * to.1 * channels];
            LinearScaler::new(shape, to).resize(&source, &mut target);
            for (got, want) in target.iter().zip(oracle(&bytes, shape, to)) {
                assert!((f64::from(*got) - (want - 100.0)).abs() < 2e-5, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn weights_of_an_axis_are_shares() -> Result<()> {
        for (from, to) in [(28, 64), (64, 28), (9, 9), (1, 4), (4, 1), (90, 64), (5, 8_192)] {
            let weights = resize_weights(from, to)?;
            assert_eq!((weights.len(), weights[0].len()), (to, from));
            for row in &weights {
                assert!(row.iter().all(|w| (0.0..=1.0).contains(w)));
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
        assert!(matches!(resize_weights(0, 4), Err(Error::Resolution { .. })));
        Ok(())
    }

    #[test]
    fn the_same_size_is_a_copy() {
        let shape = ImageShape { height: 2, width: 3, channels: 1 };
        let mut target = [0; 6];
        Scaler::new().resize(&[9, 8, 7, 6, 5, 4], shape, (2, 3), &mut target);
        assert_eq!(target, [9, 8, 7, 6, 5, 4]);
    }

    #[test]
    fn sizes_nobody_can_draw_are_refused() {
        for (height, width) in [(0, 64), (64, 0), (MAX_SIDE + 1, 64)] {
            assert!(matches!(check_resolution((height, width)), Err(Error::Resolution { .. })));
        }
        assert!(check_resolution((MAX_SIDE, 1)).is_ok());
    }
}
