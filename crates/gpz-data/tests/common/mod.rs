//! Small sets in every format, made of random pixels, and ways to look at what was read.
#![allow(dead_code, reason = "each test binary uses its share")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use gpz_data::{Dataset, ImageId, ImageSet, Origin, Parts, SplitPlan};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use npyz::WriterBuilder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Images and labels as a format stores them.
#[derive(Clone, Debug)]
pub(crate) struct Arrays {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    /// `[n, h, w, c]`
    pub(crate) pixels: Vec<u8>,
    pub(crate) labels: Vec<usize>,
}

/// `per_class` random images of each class, classes interleaved.
pub(crate) fn arrays(
    (height, width, channels): (usize, usize, usize),
    classes: usize,
    per_class: usize,
    seed: u64,
) -> Arrays {
    let count = classes * per_class;
    let mut pixels = vec![0; count * height * width * channels];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut pixels);
    Arrays { height, width, channels, pixels, labels: (0..count).map(|i| i % classes).collect() }
}

impl Arrays {
    pub(crate) fn image(&self, index: usize) -> &[u8] {
        let elements = self.height * self.width * self.channels;
        &self.pixels[index * elements..(index + 1) * elements]
    }

    pub(crate) fn idx_images(&self) -> Vec<u8> {
        let mut sizes = vec![self.labels.len(), self.height, self.width];
        if self.channels != 1 {
            sizes.push(self.channels);
        }
        idx(&sizes, &self.pixels)
    }

    pub(crate) fn idx_labels(&self) -> Vec<u8> {
        let labels: Vec<u8> = self.labels.iter().map(|label| *label as u8).collect();
        idx(&[labels.len()], &labels)
    }

    /// CIFAR records: label, then the three planes.
    pub(crate) fn cifar(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, label) in self.labels.iter().enumerate() {
            bytes.push(*label as u8);
            for channel in 0..3 {
                bytes.extend(self.image(index).iter().skip(channel).step_by(3));
            }
        }
        bytes
    }

    /// Class folders `<letter>` with files `<index>.<extension>`.
    pub(crate) fn folders(&self, below: &Path, format: ImageFormat) {
        for (index, label) in self.labels.iter().enumerate() {
            let folder = below.join(char::from(b'a' + *label as u8).to_string());
            fs::create_dir_all(&folder).unwrap();
            let extension = if format == ImageFormat::Png { "png" } else { "jpg" };
            self.picture(index)
                .save_with_format(folder.join(format!("{index:04}.{extension}")), format)
                .unwrap();
        }
    }

    pub(crate) fn picture(&self, index: usize) -> DynamicImage {
        let (width, height, pixels) =
            (self.width as u32, self.height as u32, self.image(index).to_vec());
        match self.channels {
            1 => DynamicImage::from(GrayImage::from_raw(width, height, pixels).unwrap()),
            _ => DynamicImage::from(RgbImage::from_raw(width, height, pixels).unwrap()),
        }
    }

    /// `<part>_data` and `<part>_labels` (i64) for an archive.
    pub(crate) fn npy(&self, part: &str) -> Vec<(String, Vec<u8>)> {
        let mut shape = vec![self.labels.len() as u64, self.height as u64, self.width as u64];
        if self.channels != 1 {
            shape.push(self.channels as u64);
        }
        let labels: Vec<i64> = self.labels.iter().map(|label| *label as i64).collect();
        vec![
            (format!("{part}_data"), npy(&shape, &self.pixels)),
            (format!("{part}_labels"), npy(&[labels.len() as u64], &labels)),
        ]
    }
}

pub(crate) fn idx(sizes: &[usize], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    for size in sizes {
        bytes.extend((*size as u32).to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An array as the crate `npyz` writes it.
pub(crate) fn npy<T: npyz::Serialize + npyz::AutoSerialize + Copy>(
    shape: &[u64],
    data: &[T],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(shape)
        .writer(&mut bytes)
        .begin_nd()
        .unwrap();
    writer.extend(data.iter().copied()).unwrap();
    writer.finish().unwrap();
    bytes
}

/// An archive with the given members, `.npy` added to their names.
pub(crate) fn npz(members: &[(String, Vec<u8>)], compressed: bool) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let method =
        if compressed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

pub(crate) fn write(path: impl AsRef<Path>, bytes: &[u8]) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn open(path: &Path) -> gpz_data::Result<Dataset> {
    Dataset::open(path.to_str().unwrap())
}

/// The message for what is below `path`, which must be an error on one line.
pub(crate) fn message(path: &Path) -> String {
    let text = open(path).expect_err("an error was expected").to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    text.replace(path.to_str().unwrap(), "SET")
}

/// The four disjoint parts.
pub(crate) fn disjoint(parts: &Parts) -> [&dyn ImageSet; 4] {
    [&parts.target_train, &parts.target_validation, &parts.auxiliary, &parts.test]
}

/// Every image of a set at its stored size, by identity, with the name of its class; fails if two parts share one.
pub(crate) fn everything(set: &Dataset) -> BTreeMap<ImageId, (Vec<u8>, String)> {
    let plan = SplitPlan {
        // Half, so that sets of a dozen images can be cut at all.
        held_out_share: 0.5,
        resolution: set.native_shape().size(),
        ..SplitPlan::default()
    };
    let mut images = BTreeMap::new();
    for part in disjoint(&set.split(&plan).unwrap()) {
        for position in 0..part.len() {
            let class = part.class_names()[part.label(position)].clone();
            let before = images.insert(part.id(position), (part.image(position), class));
            assert!(before.is_none(), "{:?} is in two parts", part.id(position));
        }
    }
    images
}

/// That `set` holds exactly `arrays` in the stored part `origin`, in that order, with `name` giving the class names.
pub(crate) fn assert_holds(
    set: &Dataset,
    origin: Origin,
    arrays: &Arrays,
    name: impl Fn(usize) -> String,
) {
    let images = everything(set);
    let stored: Vec<_> = images.iter().filter(|(id, _)| id.origin == origin).collect();
    assert_eq!(stored.len(), arrays.labels.len());
    for (index, (id, (pixels, class))) in stored.into_iter().enumerate() {
        assert_eq!(id.index, index);
        assert_eq!(pixels, arrays.image(index), "image {index}");
        assert_eq!(*class, name(arrays.labels[index]), "label {index}");
    }
}
