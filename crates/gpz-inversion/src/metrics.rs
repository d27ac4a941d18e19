//! How close a reconstruction comes to its image: MSE, PSNR and SSIM, per image, on plain slices; and LPIPS, where its weights are given.
//!
//! Two conventions of the literature are kept apart by name. `mse_per_element` is the mean over height, width and
//! channels; `mse_channel_sum` is the mean over height and width of the sum over channels, `channels` times as large,
//! and the one that Liu et al. (arXiv 2506.15412) print.
//!
//! ```
//! use gpz_inversion::metrics::{ImageShape, compare, summarise};
//!
//! let shape = ImageShape::nhwc(2, 16, 16, 1);
//! let originals: Vec<f32> = (0..512).map(|i| (i % 7) as f32 / 6.0).collect();
//! let guesses = vec![0.5f32; 512];
//! let per_image = compare(&originals, &guesses, &shape, 1.0)?;
//! let all = summarise(&per_image, 1.0);
//! assert!(all.is_some_and(|m| m.n == 2 && m.ssim < 0.1));
//! # Ok::<(), gpz_inversion::error::Error>(())
//! ```

mod lpips;
mod ssim;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use lpips::{LPIPS_LEAST, Lpips};
pub use ssim::{SSIM_SIGMA, SSIM_WINDOW};

/// A pixel value: anything that becomes an `f64` without loss (`f32`, `f64`, `u8`, `u16`, …).
pub trait Pixel: Copy + Into<f64> + Sync {}

impl<T: Copy + Into<f64> + Sync> Pixel for T {}

/// Where the channels of an image lie in memory. Either way images follow each other and rows are contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelOrder {
    /// `[n, height, width, channels]`: the channels of one pixel side by side.
    Nhwc,
    /// `[n, channels, height, width]`: one plane per channel.
    Nchw,
}

/// Shape and memory order of a set of images in one contiguous slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageShape {
    /// Number of images; zero is allowed and gives empty results.
    pub n: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Where the channels lie.
    pub order: PixelOrder,
}

impl ImageShape {
    /// `n` images stored channels-last, `[n, height, width, channels]`.
    pub fn nhwc(n: usize, height: usize, width: usize, channels: usize) -> Self {
        Self { n, height, width, channels, order: PixelOrder::Nhwc }
    }

    /// `n` images stored as planes, `[n, channels, height, width]`.
    pub fn nchw(n: usize, channels: usize, height: usize, width: usize) -> Self {
        Self { n, height, width, channels, order: PixelOrder::Nchw }
    }

    /// Values per image, or the reason why this is no shape.
    fn image_len(&self) -> Result<usize> {
        let bad = Error::ImageShape {
            images: self.n,
            height: self.height,
            width: self.width,
            channels: self.channels,
        };
        let len = self.height.checked_mul(self.width).and_then(|v| v.checked_mul(self.channels));
        match len {
            Some(len) if len > 0 && len.checked_mul(self.n).is_some() => Ok(len),
            _ => Err(bad),
        }
    }

    /// Offset of the first value of channel `c` within an image, and the step from one pixel of it to the next.
    fn channel_layout(&self, c: usize) -> (usize, usize) {
        match self.order {
            PixelOrder::Nhwc => (c, self.channels),
            PixelOrder::Nchw => (c * self.height * self.width, 1),
        }
    }
}

/// The metrics of one reconstruction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ImageMetrics {
    /// Mean squared error over height, width and channels, in squared units of the pixels.
    pub mse_per_element: f64,
    /// Mean over height and width of the squared error summed over channels.
    pub mse_channel_sum: f64,
    /// Peak signal-to-noise ratio in dB; infinite for identical images.
    pub psnr_db: f64,
    /// Structural similarity, at most 1, reached only by identical images.
    pub ssim: f64,
    /// Distance in the features of a network, [`Lpips`]; absent without its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
}

/// The metrics of a set of reconstructions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricsSummary {
    /// Number of images.
    pub n: usize,
    /// Mean over the images of [`ImageMetrics::mse_per_element`].
    pub mse_per_element: f64,
    /// Mean over the images of [`ImageMetrics::mse_channel_sum`].
    pub mse_channel_sum: f64,
    /// PSNR in dB **of the mean MSE**, so that it and `mse_per_element` say the same thing in two units. One perfect
    /// reconstruction among many does not make it infinite.
    pub psnr_db: f64,
    /// Mean over the images of the PSNR of each, in dB: never below `psnr_db`, infinite as soon as one image is exact.
    pub psnr_db_image_mean: f64,
    /// Mean over the images of [`ImageMetrics::ssim`].
    pub ssim: f64,
    /// Mean over the images of [`ImageMetrics::lpips`]; absent unless every image has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// The data range used for PSNR, SSIM and LPIPS.
    pub range: f64,
}

/// The metrics of each image of `candidate` against the image of the same index in `reference`, all but LPIPS.
///
/// - `reference`, `candidate`: `shape.n` images each, in the memory order of `shape`
/// - `range`: the distance between black and white in the pixels' units, 1 for `[0, 1]`, 255 for 8 bits
///
/// # Errors
/// [`Error::PixelCount`], [`Error::ImageShape`], [`Error::SmallerThanWindow`] (below 11×11), [`Error::NonFinitePixel`],
/// [`Error::Range`].
pub fn compare<T: Pixel>(
    reference: &[T],
    candidate: &[T],
    shape: &ImageShape,
    range: f64,
) -> Result<Vec<ImageMetrics>> {
    let mse = mse_per_image(reference, candidate, shape)?;
    let ssim = ssim_per_image(reference, candidate, shape, range)?;
    let channels = shape.channels as f64;
    let row = |(mse, ssim): (f64, f64)| ImageMetrics {
        mse_per_element: mse,
        mse_channel_sum: channels * mse,
        psnr_db: psnr_db(mse, range),
        ssim,
        lpips: None,
    };
    Ok(mse.into_iter().zip(ssim).map(row).collect())
}

/// As [`compare`], and LPIPS where it is given.
///
/// # Errors
/// As [`compare`], and as [`Lpips::per_image`].
pub fn compare_with<T: Pixel>(
    reference: &[T],
    candidate: &[T],
    shape: &ImageShape,
    range: f64,
    lpips: Option<&Lpips>,
) -> Result<Vec<ImageMetrics>> {
    let mut metrics = compare(reference, candidate, shape, range)?;
    if let Some(lpips) = lpips {
        let distances = lpips.per_image(reference, candidate, shape, range)?;
        for (metrics, distance) in metrics.iter_mut().zip(distances) {
            metrics.lpips = Some(distance);
        }
    }
    Ok(metrics)
}

/// Mean squared error per element of each image, in squared units of the pixels, summed in `f64`.
///
/// # Errors
/// [`Error::PixelCount`], [`Error::ImageShape`], [`Error::NonFinitePixel`].
pub fn mse_per_image<T: Pixel>(
    reference: &[T],
    candidate: &[T],
    shape: &ImageShape,
) -> Result<Vec<f64>> {
    let len = checked_image_len(reference, candidate, shape)?;
    pairs(reference, candidate, len)
        .map(|(image, (x, y))| {
            let sum: f64 = x
                .iter()
                .zip(y)
                .map(|(&x, &y)| {
                    let d: f64 = x.into() - y.into();
                    d * d
                })
                .sum();
            if sum.is_finite() { Ok(sum / len as f64) } else { Err(non_finite(image, x, y)) }
        })
        .collect::<Vec<_>>()
        .into_iter()
        .collect()
}

/// Structural similarity of each image: the mean over its channels.
///
/// Gaussian window of σ = 1.5 truncated to 11×11, population covariances, K1 = 0.01, K2 = 0.03, mean over the pixels whose
/// window lies wholly inside the image. These are Wang et al.'s settings and those of scikit-image's
/// `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`. Computed in `f64`, whatever
/// the pixels' type.
///
/// - `range`: the distance between black and white in the pixels' units
///
/// # Errors
/// As [`compare`].
///
/// # Source
/// Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004.
pub fn ssim_per_image<T: Pixel>(
    reference: &[T],
    candidate: &[T],
    shape: &ImageShape,
    range: f64,
) -> Result<Vec<f64>> {
    let len = checked_in_range(reference, candidate, shape, range)?;
    if shape.height.min(shape.width) < SSIM_WINDOW {
        return Err(Error::SmallerThanWindow {
            height: shape.height,
            width: shape.width,
            window: SSIM_WINDOW,
        });
    }
    pairs(reference, candidate, len)
        .map_init(
            || ssim::Workspace::new(shape.height, shape.width, range),
            |workspace, (image, (x, y))| {
                let mut sum = 0.0;
                for c in 0..shape.channels {
                    let (offset, step) = shape.channel_layout(c);
                    let pairs = x[offset..].iter().zip(&y[offset..]).step_by(step);
                    sum += workspace.mean_ssim(pairs.map(|(&x, &y)| (x.into(), y.into())));
                }
                if sum.is_finite() {
                    Ok(sum / shape.channels as f64)
                } else {
                    Err(non_finite(image, x, y))
                }
            },
        )
        .collect::<Vec<_>>()
        .into_iter()
        .collect()
}

/// Peak signal-to-noise ratio `10 log10(range² / mse)` in dB; infinite for `mse = 0`.
pub fn psnr_db(mse_per_element: f64, range: f64) -> f64 {
    10.0 * (range * range / mse_per_element).log10()
}

/// Means over a set of images; `None` for an empty one, which has no mean.
///
/// - `range`: the data range the per-image metrics were computed with
pub fn summarise(images: &[ImageMetrics], range: f64) -> Option<MetricsSummary> {
    if images.is_empty() {
        return None;
    }
    let mean =
        |f: fn(&ImageMetrics) -> f64| images.iter().map(f).sum::<f64>() / images.len() as f64;
    let mse_per_element = mean(|m| m.mse_per_element);
    let lpips: Option<f64> = images.iter().map(|m| m.lpips).sum();
    Some(MetricsSummary {
        n: images.len(),
        mse_per_element,
        mse_channel_sum: mean(|m| m.mse_channel_sum),
        psnr_db: psnr_db(mse_per_element, range),
        psnr_db_image_mean: mean(|m| m.psnr_db),
        ssim: mean(|m| m.ssim),
        lpips: lpips.map(|sum| sum / images.len() as f64),
        range,
    })
}

/// [`checked_image_len`], and whether white is a distance from black.
fn checked_in_range<T>(
    reference: &[T],
    candidate: &[T],
    shape: &ImageShape,
    range: f64,
) -> Result<usize> {
    let len = checked_image_len(reference, candidate, shape)?;
    if range.is_finite() && range > 0.0 { Ok(len) } else { Err(Error::Range { range }) }
}

/// Checks both lengths against the shape; returns the values per image.
fn checked_image_len<T>(reference: &[T], candidate: &[T], shape: &ImageShape) -> Result<usize> {
    let len = shape.image_len()?;
    for (which, values) in [("reference", reference), ("candidate", candidate)] {
        if values.len() != len * shape.n {
            return Err(Error::PixelCount {
                which,
                got: values.len(),
                want: len * shape.n,
                images: shape.n,
                height: shape.height,
                width: shape.width,
                channels: shape.channels,
            });
        }
    }
    Ok(len)
}

/// The images of both sets side by side, in parallel, each with its index. What is made of them is collected image by image before
/// errors are looked at: of several bad images the first is named, not the one a thread came to first.
fn pairs<'a, T: Sync>(
    reference: &'a [T],
    candidate: &'a [T],
    len: usize,
) -> impl IndexedParallelIterator<Item = (usize, (&'a [T], &'a [T]))> {
    reference.par_chunks_exact(len).zip(candidate.par_chunks_exact(len)).enumerate()
}

/// Says which pixel made a result non-finite. Finite pixels whose square overflows are reported by their difference.
fn non_finite<T: Pixel>(image: usize, x: &[T], y: &[T]) -> Error {
    let bad = |v: &[T]| v.iter().map(|&v| v.into()).find(|v: &f64| !v.is_finite());
    match (bad(x), bad(y)) {
        (Some(value), _) => Error::NonFinitePixel { which: "reference", image, value },
        (None, Some(value)) => Error::NonFinitePixel { which: "candidate", image, value },
        (None, None) => {
            Error::NonFinitePixel { which: "squared difference", image, value: f64::INFINITY }
        }
    }
}

#[cfg(test)]
mod tests;
