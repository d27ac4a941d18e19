//! Features and their pictures from files, by rows, into memory that was planned before.

use std::path::Path;

use gpz_data::{ArrayFile, ArrayInfo, Block};
use gpz_inversion::{DecoderPlan, Observer, Pairs};

use super::{FileNames, ForeignConfig};
use crate::error::{Error, Result};
use crate::feature_statistics::read_labels;
use crate::image_comparison::Layout;
use crate::memory;
use crate::sweep::READING;
use crate::words::counted;

/// Name of the pictures' array.
const PICTURES: &str = "x";
/// Name of the labels' array unless another is given.
const LABELS: &str = "y";
/// Bytes of a block of rows.
const BLOCK_BYTES: usize = 64 << 20;
/// Bytes of a value while it is read: as it is stored, as it is decoded, and as it is kept.
const READ_BYTES: u128 = 8 + 8 + 4;
/// How far a float may be outside of [0, 1] by rounding.
const ROUNDING: f32 = 1e-3;

/// Features, pictures and labels that are listed and fit together; no value of the first two has been read.
#[derive(Debug)]
pub(super) struct Listed {
    features: Array,
    pictures: Array,
    layout: Layout,
    /// Class index of each row.
    pub(super) labels: Option<Vec<usize>>,
}

#[derive(Debug)]
struct Array {
    file: ArrayFile,
    info: ArrayInfo,
}

impl Array {
    fn place(&self) -> String {
        format!("{}:{}", self.file.file(), self.info.name)
    }

    /// Hands every row to `f`, values in single precision and as they are stored, with the row's index.
    fn each_row(
        &self,
        observer: &mut dyn Observer,
        mut f: impl FnMut(usize, &[f32], &dyn Fn(usize) -> f64) -> Result<()>,
    ) -> Result<()> {
        let width = self.info.row_len().unwrap_or(usize::MAX);
        let at_once = (BLOCK_BYTES / width.saturating_mul(8)).max(1);
        observer.begin(READING, self.info.rows() as u64);
        self.file.each_block(&self.info, at_once, |first, block| -> Result<()> {
            let (single, double) = match block {
                Block::F32(values) => (values, None),
                Block::F64(values) => (values.iter().map(|&v| v as f32).collect(), Some(values)),
            };
            for (i, row) in single.chunks_exact(width).enumerate() {
                let stored = |at: usize| match &double {
                    Some(values) => values[i * width + at],
                    None => f64::from(row[at]),
                };
                f(first + i, row, &stored)?;
            }
            observer.advance((single.len() / width) as u64, &self.place());
            match observer.stop_requested() {
                true => Err(gpz_inversion::Error::Stopped.into()),
                false => Ok(()),
            }
        })?;
        observer.end("");
        Ok(())
    }
}

impl Listed {
    /// Lists a file of features and, where they stand in another, that of their pictures.
    ///
    /// # Errors
    /// Those of [`ArrayFile`]; [`Error::OneArray`], [`Error::FeatureRows`], [`Error::PictureCount`], [`Error::FeatureLabels`],
    /// [`Error::Images`].
    pub(super) fn open(files: &FileNames, config: &ForeignConfig) -> Result<Self> {
        let file = ArrayFile::open(Path::new(&files.features))?;
        let info = file.find(&config.key)?.clone();
        let labels_key = match &config.labels_key {
            Some(_) if file.is_nameless() => {
                let mend = "leave --labels-key out or store both in one .npz";
                return Err(Error::OneArray { file: file.file(), what: "labels", mend });
            }
            None if file.is_nameless() || !file.holds(LABELS) => None,
            given => Some(given.as_deref().unwrap_or(LABELS)),
        };
        let images_key = config.images_key.as_deref().unwrap_or(PICTURES);
        let with_pictures = match &files.images {
            Some(path) => ArrayFile::open(Path::new(path))?,
            None if file.is_nameless() => {
                let mend = "name the pictures' file with --images (--test-images), or store both in one .npz";
                return Err(Error::OneArray { file: file.file(), what: "pictures", mend });
            }
            None => ArrayFile::open(Path::new(&files.features))?,
        };
        let pictures = with_pictures.find(images_key)?.clone();
        let pictures = Array { file: with_pictures, info: pictures };
        let features = Array { file, info };
        let (shape, rows) = (&features.info.shape, features.info.rows());
        let width = features.info.row_len();
        if shape.len() < 2 || rows == 0 || width.is_none_or(|width| width == 0) {
            return Err(Error::FeatureRows { file: features.place(), shape: shape.clone() });
        }
        let unusable = |reason| Error::Images { file: pictures.place(), reason };
        let element = pictures.info.element;
        if element.is_integer() && !element.is_u8() {
            let reason = "pictures are uint8, or floats from 0 to 1; store them as one of these";
            return Err(unusable(reason.to_owned()));
        }
        let Some(layout) = Layout::of_rows(&pictures.info) else {
            let shape = &pictures.info.shape;
            return Err(unusable(format!(
                "shape {shape:?} is none of pictures; store [n, c, h, w] or [n, h, w, c] with 1 or 3 channels, or [n, h, w]"
            )));
        };
        if layout.images != rows {
            let (file, pictures) = (pictures.place(), layout.images);
            return Err(Error::PictureCount { file, pictures, rows });
        }
        let labels = labels_key
            .map(|key| read_labels(&features.file, features.file.find(key)?, rows))
            .transpose()?;
        Ok(Listed { features, pictures, layout, labels })
    }

    /// The place of the features, for messages.
    pub(super) fn place(&self) -> String {
        self.features.place()
    }

    /// The place of the pictures, for messages.
    pub(super) fn pictures_place(&self) -> String {
        self.pictures.place()
    }

    /// Name of the features' array.
    pub(super) fn name(&self) -> &str {
        &self.features.info.name
    }

    pub(super) fn rows(&self) -> usize {
        self.features.info.rows()
    }

    /// Shape of one feature.
    pub(super) fn feature(&self) -> &[usize] {
        &self.features.info.shape[1..]
    }

    /// Shape of one picture, `[c, h, w]`.
    pub(super) fn picture(&self) -> [usize; 3] {
        [self.layout.channels, self.layout.height, self.layout.width]
    }

    /// Refuses test rows of another shape than those learnt from.
    pub(super) fn same_shapes(&self, test: &Listed) -> Result<()> {
        let differs = |what, found: &[usize], want: &[usize], place: [String; 2]| {
            let [file, other] = place;
            let (found, want) = (found.into(), want.into());
            Error::OtherShape { file, what, found, other, want }
        };
        if self.feature() != test.feature() {
            let places = [test.place(), self.place()];
            return Err(differs("features", test.feature(), self.feature(), places));
        }
        if self.picture() != test.picture() {
            let places = [test.pictures_place(), self.pictures_place()];
            return Err(differs("pictures", &test.picture(), &self.picture(), places));
        }
        Ok(())
    }

    /// Bytes that the pairs of all files take, and a block of their rows while it is read.
    fn bytes(&self, rows: usize) -> u128 {
        let width = self.features.info.row_len().unwrap_or(usize::MAX) as u128;
        let pixels = self.layout.values() as u128;
        let rows = rows.max(1) as u128;
        let block = |len: u128| (BLOCK_BYTES as u128 / 8).clamp(len, len.saturating_mul(rows));
        let read = READ_BYTES.saturating_mul(block(width).max(block(pixels)));
        (4 * rows).saturating_mul(width + pixels).saturating_add(read)
    }

    /// Refuses what this machine cannot hold: the pairs alone, or with the decoder that learns from them.
    ///
    /// - `rows`: of all files
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(super) fn check_memory(
        &self,
        rows: usize,
        decoder: Option<(&DecoderPlan, u128)>,
    ) -> Result<()> {
        let width = self.features.info.row_len().unwrap_or(usize::MAX);
        let pairs = format!("{}: {} of {width} numbers", self.place(), counted(rows, "feature"));
        let needed = self.bytes(rows);
        match decoder {
            None => memory::check(
                &format!("{pairs} with their pictures"),
                needed,
                "store fewer rows, or pool the feature before it is stored",
            ),
            Some((plan, learning)) => memory::check(
                &format!("{pairs} with the decoder {}", plan.spec()),
                needed.saturating_add(learning),
                "store fewer rows, pool the feature before it is stored, or choose a smaller --decoder",
            ),
        }
    }

    /// Reads features and pictures behind those that are there.
    ///
    /// # Errors
    /// Those of [`ArrayFile::each_block`]; [`Error::FeatureValue`], [`Error::PictureRange`] and [`Error::Images`] for values that are no
    /// features or pixels; [`gpz_inversion::Error::Stopped`].
    fn read_behind(
        &self,
        (features, pictures): (&mut Vec<f32>, &mut Vec<f32>),
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.features.each_row(observer, |row, values, stored| {
            if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                let file = self.features.place();
                return Err(Error::FeatureValue { file, row, column, value: stored(column) });
            }
            extend(features, values.iter().copied(), self.rows() - row);
            Ok(())
        })?;
        let Layout { height, width, channels, channels_first, .. } = self.layout;
        let scale = if self.pictures.info.element.is_u8() { 255.0 } else { 1.0 };
        let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
        self.pictures.each_row(observer, |row, values, stored| {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (file, value) = (self.pictures.place(), stored(at));
                let reason = format!(
                    "the picture of row {row} holds the value {value:?}; pixels must be finite: remove the row from all arrays"
                );
                return Err(Error::Images { file, reason });
            }
            for &value in values {
                (least, most) = (least.min(value / scale), most.max(value / scale));
            }
            let pixels = height * width;
            let last = (0..values.len()).map(|i| match channels_first {
                true => values[(i % channels) * pixels + i / channels],
                false => values[i],
            });
            extend(pictures, last.map(|v| (v / scale).clamp(0.0, 1.0)), self.rows() - row);
            Ok(())
        })?;
        if least < -ROUNDING || most > 1.0 + ROUNDING {
            let (least, most) = (f64::from(least), f64::from(most));
            return Err(Error::PictureRange { file: self.pictures.place(), least, most });
        }
        Ok(())
    }
}

/// Appends a row, after memory for it and as many of those that follow as a block has.
fn extend(all: &mut Vec<f32>, row: impl ExactSizeIterator<Item = f32>, left: usize) {
    if all.capacity() - all.len() < row.len() {
        // Not doubled, as a vector would: what is planned is exact. Nor all at once: a header's word is not enough.
        let block = (BLOCK_BYTES / (4 * row.len())).clamp(1, left.max(1));
        all.reserve_exact(row.len().saturating_mul(block));
    }
    all.extend(row);
}

/// The pairs of a file, and behind them those of another.
///
/// # Errors
/// As [`Listed::read_behind`].
pub(super) fn read(
    first: &Listed,
    then: Option<&Listed>,
    observer: &mut dyn Observer,
) -> Result<Pairs> {
    let (mut features, mut pictures) = (Vec::new(), Vec::new());
    for file in [Some(first), then].into_iter().flatten() {
        file.read_behind((&mut features, &mut pictures), observer)?;
    }
    Ok(Pairs::new(first.feature().to_vec(), first.picture(), features, pictures)?)
}
