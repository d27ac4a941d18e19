//! Pictures of a run as PNG.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::error::{Error, Result};

/// One picture, channels last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture<'a> {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// `[height, width, channels]`, black at 0 and white at 1; values outside are cut off, NaN is black.
    pub pixels: &'a [f32],
}

/// Encodes a picture as PNG with 8 bits per channel.
///
/// # Errors
/// [`Error::Picture`] if the pixels do not have the shape; [`Error::Png`] if the encoder fails.
pub fn encode_png(picture: &Picture<'_>) -> Result<Vec<u8>> {
    let &Picture { height, width, channels, pixels } = picture;
    let bad = || Error::Picture { height, width, channels, got: pixels.len() };
    let color = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => return Err(bad()),
    };
    let (Ok(columns), Ok(rows)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(bad());
    };
    let len = height.checked_mul(width).and_then(|v| v.checked_mul(channels));
    if len != Some(pixels.len()) || pixels.is_empty() {
        return Err(bad());
    }
    // A float becomes an integer by saturation: NaN is 0.
    let bytes: Vec<u8> = pixels.iter().map(|v| (v * 255.0).round() as u8).collect();
    let mut out = Vec::new();
    PngEncoder::new_with_quality(&mut out, CompressionType::Best, FilterType::Adaptive)
        .write_image(&bytes, columns, rows, color)
        .map_err(|source| Error::Png { source })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive() {
        let pixels = [0.0, 1.0, 0.5, -3.0, 7.0, f32::NAN, 0.2, 0.4, 0.6, 1.0, 0.0, 0.0];
        let png =
            encode_png(&Picture { height: 2, width: 2, channels: 3, pixels: &pixels }).unwrap();
        let back = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(back.dimensions(), (2, 2));
        assert_eq!(back.into_raw(), [0, 255, 128, 0, 255, 0, 51, 102, 153, 255, 0, 0]);
        let grey =
            encode_png(&Picture { height: 1, width: 2, channels: 1, pixels: &[0.0, 1.0] }).unwrap();
        assert_eq!(image::load_from_memory(&grey).unwrap().into_luma8().into_raw(), [0, 255]);
    }

    #[test]
    fn other_shapes_are_refused() {
        for (height, width, channels, n) in
            [(2, 2, 2, 8), (2, 2, 1, 5), (0, 2, 1, 0), (usize::MAX, 2, 1, 3)]
        {
            let pixels = vec![0.0; n];
            let got = encode_png(&Picture { height, width, channels, pixels: &pixels });
            assert!(matches!(got, Err(Error::Picture { .. })), "{height} {width} {channels}");
        }
    }
}
