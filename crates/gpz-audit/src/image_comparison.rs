//! Image metrics of two files or folders of images: what `gpz metrics` prints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gpz_data::{ArrayFile, ArrayInfo, Block, read_picture};
use gpz_inversion::metrics::{
    ImageMetrics, ImageShape, Lpips, MetricsSummary, compare_with, summarise,
};
use gpz_inversion::{Error as InversionError, Observer};

use crate::error::{Error, Result};

/// Values of the arrays' images that are compared at once.
const VALUES_AT_ONCE: usize = 1 << 24;
/// What a picture file may end in.
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

/// Where images stand, and which array of a file they are.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    /// A PNG or JPEG file, a folder of them, or a `.npy`, `.npz` or `.safetensors` file.
    pub path: &'a Path,
    /// Name of the array; the only one, or `x`, unless given.
    pub key: Option<&'a str>,
}

/// Metrics of each image of `candidate` against its image in `reference`, and their means.
///
/// Two files are compared with each other, two folders by the names of their pictures without the ending, two arrays by position.
/// Arrays are `[n, h, w, c]`, `[n, c, h, w]`, `[n, h, w]`, one image `[h, w, c]`, `[c, h, w]` or `[h, w]`, with one or three channels.
/// Where both readings are possible, 8-bit arrays have their channels last and others first.
///
/// - `range`: the distance from black to white. 8-bit values are scaled to it, floats are taken as they are.
/// - `lpips`: measured too where it is given
///
/// # Errors
/// [`Error::Images`] names the file and the mend for whatever cannot be compared; errors of the readers and of the metrics.
pub fn compare_images(
    reference: Images<'_>,
    candidate: Images<'_>,
    range: f64,
    lpips: Option<&Lpips>,
    observer: &mut dyn Observer,
) -> Result<MetricsSummary> {
    let scale = (range, lpips);
    let figures = match (Source::open(reference)?, Source::open(candidate)?) {
        (Source::Pictures(a), Source::Pictures(b)) => pictures(&a, &b, scale, observer)?,
        (Source::Array(a), Source::Array(b)) => arrays(&a, &b, scale, observer)?,
        _ => {
            let reason = format!(
                "it is not of the kind of {}; give two picture files, two folders or two arrays",
                place(candidate.path)
            );
            return Err(unusable(reference.path, reason));
        }
    };
    summarise(&figures, range)
        .ok_or_else(|| unusable(reference.path, "it holds no images".to_owned()))
}

fn place(path: &Path) -> String {
    path.display().to_string()
}

fn unusable(path: &Path, reason: String) -> Error {
    Error::Images { file: place(path), reason }
}

/// Pictures by name, or an array.
enum Source {
    Pictures(BTreeMap<String, PathBuf>),
    Array(ImageArray),
}

impl Source {
    fn open(images: Images<'_>) -> Result<Self> {
        let path = images.path;
        if path.is_dir() {
            return Ok(Source::Pictures(folder(path)?));
        }
        if is_picture(path) {
            // One file matches one file, whatever their names.
            return Ok(Source::Pictures([(String::new(), path.to_path_buf())].into()));
        }
        let file = ArrayFile::open(path)?;
        let array = match (images.key, file.arrays()) {
            (Some(key), _) => file.find(key)?.clone(),
            (None, [only]) if !file.holds("x") => only.clone(),
            (None, _) => file.find("x")?.clone(),
        };
        let layout = Layout::of(&array).ok_or_else(|| Error::Images {
            file: format!("{}:{}", file.file(), array.name),
            reason: format!("shape {:?} is none of images; store [n, h, w, c] or [n, c, h, w] with 1 or 3 channels", array.shape),
        })?;
        Ok(Source::Array(ImageArray { path: path.to_path_buf(), file, array, layout }))
    }
}

fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|end| PICTURES.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

/// The pictures of a folder by name without ending.
fn folder(path: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let cannot =
        |source| unusable(path, format!("it cannot be read: {source}; mend its permissions"));
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        let name =
            file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with('.') || !is_picture(&file) {
            continue;
        }
        if let Some(other) = found.insert(name, file.clone()) {
            return Err(unusable(
                &file,
                format!("it has the name of {}; rename or remove one", place(&other)),
            ));
        }
    }
    if found.is_empty() {
        return Err(unusable(
            path,
            "it holds no PNG or JPEG files; name another folder".to_owned(),
        ));
    }
    Ok(found)
}

fn pictures(
    reference: &BTreeMap<String, PathBuf>,
    candidate: &BTreeMap<String, PathBuf>,
    (range, lpips): (f64, Option<&Lpips>),
    observer: &mut dyn Observer,
) -> Result<Vec<ImageMetrics>> {
    for (these, those) in [(reference, candidate), (candidate, reference)] {
        if let Some((_, lonely)) = these.iter().find(|(name, _)| !those.contains_key(*name)) {
            let reason =
                "no picture of this name stands on the other side; add it there or remove this one";
            return Err(unusable(lonely, reason.to_owned()));
        }
    }
    observer.begin("metrics", reference.len() as u64);
    let mut figures = Vec::with_capacity(reference.len());
    for (a, b) in reference.values().zip(candidate.values()) {
        stop_if_asked(observer)?;
        let ((a_shape, a_pixels), (b_shape, b_pixels)) = (read_picture(a)?, read_picture(b)?);
        if a_shape != b_shape {
            return Err(unusable(
                b,
                format!(
                    "it is {b_shape} (height x width x channels), {} is {a_shape}; resize or convert one",
                    place(a)
                ),
            ));
        }
        let shape = ImageShape::nhwc(1, a_shape.height, a_shape.width, a_shape.channels);
        let scaled = |pixels: Vec<u8>| -> Vec<f64> {
            pixels.iter().map(|&v| scale(f64::from(v), range)).collect()
        };
        let compared = compare_with(&scaled(a_pixels), &scaled(b_pixels), &shape, range, lpips);
        figures.extend(compared.map_err(|error| in_files(error, [&place(a), &place(b)], 0))?);
        observer.advance(1, "");
    }
    observer.end("");
    Ok(figures)
}

/// An 8-bit value on a scale from 0 to `range`.
fn scale(value: f64, range: f64) -> f64 {
    if range == 255.0 { value } else { value * range / 255.0 }
}

/// How an array holds images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) images: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) channels_first: bool,
}

impl Layout {
    fn of(array: &ArrayInfo) -> Option<Self> {
        let is_channels = |size: usize| size == 1 || size == 3;
        let layout = |images, height, width, channels, channels_first| {
            let positive = images > 0 && height > 0 && width > 0;
            positive.then_some(Layout { images, height, width, channels, channels_first })
        };
        match array.shape[..] {
            [h, w] => layout(1, h, w, 1, false),
            [h, w, c] if is_channels(c) && (array.element.is_u8() || !is_channels(h)) => {
                layout(1, h, w, c, false)
            }
            [c, h, w] if is_channels(c) && !array.element.is_u8() => layout(1, h, w, c, true),
            [n, h, w] => layout(n, h, w, 1, false),
            [n, h, w, c] if is_channels(c) && (array.element.is_u8() || !is_channels(h)) => {
                layout(n, h, w, c, false)
            }
            [n, c, h, w] if is_channels(c) => layout(n, h, w, c, true),
            _ => None,
        }
    }

    /// Of an array whose rows are one image each, whatever single image its shape could be.
    pub(crate) fn of_rows(array: &ArrayInfo) -> Option<Self> {
        match array.shape[..] {
            [images, height, width] if images > 0 && height > 0 && width > 0 => {
                Some(Layout { images, height, width, channels: 1, channels_first: false })
            }
            [_, _, _, _] => Self::of(array),
            _ => None,
        }
    }

    pub(crate) fn values(&self) -> usize {
        self.height.saturating_mul(self.width).saturating_mul(self.channels)
    }

    fn describe(&self) -> String {
        format!(
            "{} images of {}x{}x{} (height x width x channels)",
            self.images, self.height, self.width, self.channels
        )
    }
}

struct ImageArray {
    path: PathBuf,
    file: ArrayFile,
    array: ArrayInfo,
    layout: Layout,
}

impl ImageArray {
    /// Rows of the array that make one image: one where the first size counts images, all where it is part of a single image.
    fn rows_per_image(&self) -> usize {
        self.array.rows() / self.layout.images
    }

    /// Channels-last values of some images of a block.
    fn channels_last(&self, values: impl Iterator<Item = f64>, range: f64) -> Vec<f64> {
        let values: Vec<f64> = if self.array.element.is_u8() {
            values.map(|v| scale(v, range)).collect()
        } else {
            values.collect()
        };
        let Layout { channels, .. } = self.layout;
        if !self.layout.channels_first || channels == 1 {
            return values;
        }
        let pixels = self.layout.height * self.layout.width;
        let mut out = Vec::with_capacity(values.len());
        for image in values.chunks_exact(self.layout.values()) {
            out.extend((0..pixels).flat_map(|i| (0..channels).map(move |c| image[c * pixels + i])));
        }
        out
    }
}

/// The reference is held as it is stored, the candidate passes by in blocks.
fn arrays(
    a: &ImageArray,
    b: &ImageArray,
    (range, lpips): (f64, Option<&Lpips>),
    observer: &mut dyn Observer,
) -> Result<Vec<ImageMetrics>> {
    let of_one_kind = Layout { channels_first: b.layout.channels_first, ..a.layout } == b.layout;
    if !of_one_kind {
        let (mine, other) = (b.layout.describe(), a.layout.describe());
        return Err(unusable(
            &b.path,
            format!("it holds {mine}, {} holds {other}; compare sets of one shape", place(&a.path)),
        ));
    }
    let values = a.layout.values();
    let at_once = (VALUES_AT_ONCE / values).max(1);
    // Both arrays are read in blocks of the same images.
    observer.begin("metrics", 2 * b.layout.images.div_ceil(at_once) as u64);
    let mut reference = Vec::new();
    a.file.each_block(&a.array, a.rows_per_image() * at_once, |_, block| -> Result<()> {
        reference.push(block);
        observer.advance(1, "");
        stop_if_asked(observer)
    })?;
    let mut reference = reference.into_iter();
    let rows = b.rows_per_image();
    let files = [a, b].map(|images| format!("{}:{}", images.file.file(), images.array.name));
    let mut figures = Vec::with_capacity(b.layout.images);
    b.file.each_block(&b.array, rows * at_once, |first_row, block| -> Result<()> {
        let guesses = b.channels_last(block.into_f64().into_iter(), range);
        let (first, n) = (first_row / rows, guesses.len() / values);
        let originals = reference.next().map_or_else(Vec::new, Block::into_f64);
        let originals = a.channels_last(originals.into_iter(), range);
        let shape = ImageShape::nhwc(n, a.layout.height, a.layout.width, a.layout.channels);
        figures.extend(
            compare_with(&originals, &guesses, &shape, range, lpips)
                .map_err(|error| in_files(error, files.each_ref().map(String::as_str), first))?,
        );
        observer.advance(1, "");
        stop_if_asked(observer)
    })?;
    observer.end("");
    Ok(figures)
}

fn stop_if_asked(observer: &dyn Observer) -> Result<()> {
    if observer.stop_requested() { Err(InversionError::Stopped.into()) } else { Ok(()) }
}

/// What is wrong with a pixel or a size, under the name of the file it stands in. Images are counted from `first` on.
fn in_files(error: InversionError, [reference, candidate]: [&str; 2], first: usize) -> Error {
    match error {
        InversionError::NonFinitePixel { which, image, value } => Error::Images {
            file: if which == "reference" { reference } else { candidate }.to_owned(),
            reason: format!(
                "image {} holds the value {value}; pixels must be finite numbers",
                first + image
            ),
        },
        InversionError::SmallerThanWindow { height, width, window } => Error::Images {
            file: candidate.to_owned(),
            reason: format!(
                "images of {height}x{width} are smaller than the {window}x{window} window of SSIM; enlarge both sets"
            ),
        },
        InversionError::LpipsPictures { height, width, least, .. } => Error::Images {
            file: candidate.to_owned(),
            reason: format!(
                "images of {height}x{width} are smaller than the {least}x{least} that LPIPS needs; enlarge both sets or leave \
                 --lpips-weights out"
            ),
        },
        other => other.into(),
    }
}
