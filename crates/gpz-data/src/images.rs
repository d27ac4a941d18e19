//! Pixels and labels as they were read, and the identity of an image.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Height, width and channels of an image; 1 channel is grey, 3 are RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
}

impl ImageShape {
    /// Numbers in one image: `height * width * channels`.
    pub fn elements(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Height and width.
    pub fn size(self) -> (usize, usize) {
        (self.height, self.width)
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// The part of the stored set an image was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The training images, or all images of a set without parts.
    Train,
    /// Images the set itself sets apart for validation.
    Validation,
    /// Images the set itself sets apart for the attacker.
    Auxiliary,
    /// The test images.
    Test,
}

impl Origin {
    /// The name in messages: "train", "validation", "auxiliary" or "test".
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Auxiliary => "auxiliary",
            Self::Test => "test",
        }
    }
}

/// Which image of the stored set this is, whatever part it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ImageId {
    /// The stored part.
    pub origin: Origin,
    /// Index in the order of the files (arrays and IDX: their order; folders: classes, then names, sorted by bytes).
    pub index: usize,
}

/// One stored part, checked: every image has `shape`, every label is below `classes.len()`, there is at least one image.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) origin: Origin,
    pub(crate) shape: ImageShape,
    /// `[n, h, w, c]`, row-major.
    pub(crate) pixels: Vec<u8>,
    pub(crate) labels: Vec<u32>,
    pub(crate) classes: Arc<[String]>,
}

impl Pool {
    /// The stored pixels of image `index`, `[h, w, c]`.
    pub(crate) fn image(&self, index: usize) -> &[u8] {
        let elements = self.shape.elements();
        &self.pixels[index * elements..(index + 1) * elements]
    }

    /// Number of images.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}
