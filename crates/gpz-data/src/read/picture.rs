//! One PNG or JPEG file.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::error::{begins, one_line, place};
use crate::images::ImageShape;
use crate::resize::MAX_SIDE;
use crate::{Error, Result};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";
/// The chunk that ends a PNG: its name and its checksum.
const PNG_END: &[u8] = b"IEND\xae\x42\x60\x82";
const JPEG_SCAN: &[u8] = &[0xff, 0xda];
const JPEG_END: &[u8] = &[0xff, 0xd9];

/// The format a name announces, with the word for it.
pub(crate) fn announced(name: &str) -> Option<(ImageFormat, &'static str)> {
    let (_, extension) = name.rsplit_once('.')?;
    match () {
        () if extension.eq_ignore_ascii_case("png") => Some((ImageFormat::Png, "PNG")),
        () if extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg") => {
            Some((ImageFormat::Jpeg, "JPEG"))
        }
        () => None,
    }
}

/// Shape and 8-bit pixels `[h, w, c]` of a PNG or JPEG file.
///
/// # Errors
/// One line that names the file and the mend, as [`Dataset::open`](crate::Dataset::open) says of a picture in a class folder.
pub fn read(path: &Path) -> Result<(ImageShape, Vec<u8>)> {
    let file = place(path);
    let Some(format) = announced(&file) else {
        return Err(Error::NotAPicture { file });
    };
    let bytes = std::fs::read(path).map_err(|source| Error::Io {
        file: file.clone(),
        action: "read",
        source,
    })?;
    decode(&file, format, &bytes, None)
}

/// Shape and 8-bit pixels `[h, w, c]` of the picture in `bytes`, which the name of `file` announces to be of `format`. A
/// picture of another height and width than `size` is refused before its pixels are decoded.
pub(crate) fn decode(
    file: &str,
    (format, word): (ImageFormat, &'static str),
    bytes: &[u8],
    size: Option<(usize, usize)>,
) -> Result<(ImageShape, Vec<u8>)> {
    let actual = match () {
        () if bytes.starts_with(PNG) => (ImageFormat::Png, "PNG"),
        () if bytes.starts_with(JPEG) => (ImageFormat::Jpeg, "JPEG"),
        () => return Err(Error::NotA { file: file.into(), expected: word, begins: begins(bytes) }),
    };
    if actual.0 != format {
        return Err(Error::Misnamed { file: file.into(), expected: word, actual: actual.1 });
    }
    // The decoders forgive a missing end; that of JPEG paints whatever is missing grey.
    let whole =
        if format == ImageFormat::Jpeg { jpeg_is_whole(bytes) } else { holds(bytes, PNG_END) };
    if !whole {
        return Err(Error::Damaged {
            file: file.into(),
            format: word,
            detail: "it ends early".into(),
        });
    }
    let damaged = |error: image::ImageError| Error::Damaged {
        file: file.into(),
        format: word,
        detail: one_line(&error.to_string()),
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    // Cameras store how they were held; whoever looked at the picture to label it saw it upright.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = decoder.dimensions();
    let mut found = (height as usize, width as usize);
    if swaps_sides(orientation) {
        found = (found.1, found.0);
    }
    if let Some(expected) = size.filter(|expected| *expected != found) {
        return Err(Error::ImageSize { file: file.into(), found, expected });
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);

    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(image) => (1, image.into_raw()),
        DynamicImage::ImageRgb8(image) => (3, image.into_raw()),
        DynamicImage::ImageLumaA8(image) => (1, opaque::<2>(file, &image.into_raw())?),
        DynamicImage::ImageRgba8(image) => (3, opaque::<4>(file, &image.into_raw())?),
        other => {
            return Err(Error::Unsupported {
                file: file.into(),
                found: format!("pixels of type {:?}", other.color()),
                mend: "convert it to 8 bits per channel",
            });
        }
    };
    Ok((ImageShape { height: found.0, width: found.1, channels }, pixels))
}

fn holds(bytes: &[u8], marker: &[u8]) -> bool {
    bytes.windows(marker.len()).any(|window| window == marker)
}

/// Whether an end marker, if not always at the file's end, follows the last scan. One before it is a thumbnail's: cameras put a
/// whole JPEG into the header. Pixels never look like a marker.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let last_scan = bytes.windows(JPEG_SCAN.len()).rposition(|window| window == JPEG_SCAN);
    last_scan.is_some_and(|at| holds(&bytes[at..], JPEG_END))
}

fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// Pixels of `N` channels, the last of which is opacity, without it. What a transparent pixel would show is not in the file.
fn opaque<const N: usize>(file: &str, pixels: &[u8]) -> Result<Vec<u8>> {
    let (pixels, _) = pixels.as_chunks::<N>();
    if pixels.iter().any(|pixel| pixel[N - 1] != u8::MAX) {
        return Err(Error::Unsupported {
            file: file.into(),
            found: "transparent pixels".into(),
            mend: "paint it on a background",
        });
    }
    Ok(pixels.iter().flat_map(|pixel| &pixel[..N - 1]).copied().collect())
}
