//! IDX, the format of MNIST and its relatives, plain or gzipped.
//!
//! Two zero bytes, the element type (8: unsigned byte), the number of sizes, each size as a big-endian u32, the elements in
//! row-major order. Images have three sizes (grey) or four (the last is 1 or 3 channels), labels one.

use std::path::Path;

use super::{Entry, Input, RawPool, RawSet, Watch};
use crate::error::{begins, one_line, place};
use crate::images::{ImageShape, Origin};
use crate::{Error, Result};

/// What an IDX file is for, by its name; only the role is taken from the name, whether it is gzipped from the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Images(Origin),
    Labels(Origin),
}

/// The role of `train-images-idx3-ubyte`, `emnist-letters-test-labels-idx1-ubyte.gz` and the like.
pub(crate) fn role(name: &str) -> Option<Role> {
    let name = name.to_ascii_lowercase();
    if !name.contains("idx") && !name.contains("ubyte") {
        return None;
    }
    let origin = match () {
        () if name.contains("train") => Origin::Train,
        () if name.contains("t10k") || name.contains("test") => Origin::Test,
        () if name.contains("aux") => Origin::Auxiliary,
        () if name.contains("val") => Origin::Validation,
        () => return None,
    };
    match () {
        () if name.contains("images") => Some(Role::Images(origin)),
        () if name.contains("labels") => Some(Role::Labels(origin)),
        () => None,
    }
}

/// All pairs of files in a folder.
pub(crate) fn open(folder: &Path, entries: &[Entry], watch: Watch<'_>) -> Result<RawSet> {
    let find = |role: Role| -> Result<Option<&Entry>> {
        let mut found = entries
            .iter()
            .filter(|entry| !entry.is_folder && self::role(&entry.name) == Some(role));
        let first = found.next();
        // A file beside its own unpacked copy is one file; sorting puts the plain one first.
        match (
            first,
            found.find(|other| first.is_some_and(|first| !same_file_gzipped(first, other))),
        ) {
            (Some(first), Some(other)) => Err(Error::Unrecognised {
                file: place(folder),
                detail: one_line(&format!("{} and {} claim the same part", first.name, other.name)),
            }),
            (first, _) => Ok(first),
        }
    };
    let mut pools = Vec::new();
    for origin in [Origin::Train, Origin::Validation, Origin::Auxiliary, Origin::Test] {
        match (find(Role::Images(origin))?, find(Role::Labels(origin))?) {
            (None, None) => {}
            (Some(images), Some(labels)) => {
                let input = Input::open(&images.path)?.watched(watch);
                pools.push(pool(origin, input, Input::open(&labels.path)?)?);
            }
            (images, _) => {
                let missing = if images.is_some() { "labels" } else { "images" };
                return Err(Error::Missing {
                    file: place(folder),
                    missing: format!("{} {missing}", origin.name()),
                    found: super::some_names(entries),
                });
            }
        }
    }
    Ok(RawSet { pools, class_names: None })
}

fn same_file_gzipped(plain: &Entry, other: &Entry) -> bool {
    other.name.strip_suffix(".gz") == Some(plain.name.as_str())
}

/// One part from its two files.
pub(crate) fn pool(
    origin: Origin,
    mut images: Input<'_>,
    mut labels: Input<'_>,
) -> Result<RawPool> {
    let sizes = header(&mut images)?;
    let (count, shape) = match sizes[..] {
        [count, height, width] => (count, ImageShape { height, width, channels: 1 }),
        [count, height, width, channels] => (count, ImageShape { height, width, channels }),
        _ => {
            return Err(unsupported(
                &images,
                sizes.len(),
                "images have three sizes, or four with the channels last",
            ));
        }
    };
    let promised = [shape.height, shape.width, shape.channels]
        .iter()
        .fold(count as u128, |n, size| n * *size as u128);
    let pixels = images.rest(promised)?;

    let sizes = header(&mut labels)?;
    let [label_count] = sizes[..] else {
        return Err(unsupported(&labels, sizes.len(), "labels have one"));
    };
    let values = labels.rest(label_count as u128)?;
    // Said here because images of no size would make any count agree.
    if count != label_count {
        return Err(Error::CountMismatch {
            images_file: images.file,
            images: count,
            labels_file: labels.file,
            labels: label_count,
        });
    }
    Ok(RawPool {
        origin,
        file: images.file,
        labels_file: Some(labels.file),
        shape,
        pixels,
        labels: values.into_iter().map(i64::from).collect(),
        names: None,
    })
}

fn unsupported(input: &Input<'_>, rank: usize, mend: &'static str) -> Error {
    Error::Unsupported {
        file: input.file.clone(),
        found: format!("an IDX array with {rank} sizes"),
        mend,
    }
}

/// The sizes; each fits a u32.
fn header(input: &mut Input<'_>) -> Result<Vec<usize>> {
    let head = input.take(4)?;
    match head[..] {
        [0, 0, 8, rank @ 1..=8] => {
            let sizes = input.take(4 * u64::from(rank))?;
            if sizes.len() < 4 * usize::from(rank) {
                let (expected, found) = (4 + 4 * u128::from(rank), 4 + sizes.len() as u64);
                return Err(Error::Truncated { file: input.file.clone(), expected, found });
            }
            Ok(sizes
                .chunks_exact(4)
                .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize)
                .collect())
        }
        [0, 0, 9..=14, 1..=8] => Err(Error::Unsupported {
            file: input.file.clone(),
            found: format!("an IDX array of element type {:#04x}", head[2]),
            mend: "store unsigned bytes (type 0x08)",
        }),
        _ => Err(Error::NotA {
            file: input.file.clone(),
            expected: "IDX file",
            begins: begins(&head),
        }),
    }
}
