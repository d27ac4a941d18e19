//! NumPy archives: `train_data`, `train_labels`, and where they exist `test_*` and `auxiliary_*`.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::{Input, RawPool, RawSet, Watch, npy};
use crate::arrays::Archive;
use crate::error::{one_line, place};
use crate::images::{ImageShape, Origin};
use crate::{Error, Result};

/// Opens the archive at `path`.
pub(crate) fn open(path: &Path, watch: Watch<'_>) -> Result<RawSet> {
    read(&place(path), archive(path)?, watch)
}

/// The archive at `path`, its entries still packed.
pub(crate) fn archive(path: &Path) -> Result<Archive> {
    archive_of(&place(path), super::open_for_reading(path)?)
}

/// The archive in an open file.
pub(crate) fn archive_of(file: &str, reader: File) -> Result<Archive> {
    ZipArchive::new(io::BufReader::new(reader)).map_err(|error| damaged(file, &error))
}

fn read(file: &str, mut archive: ZipArchive<impl Read + Seek>, watch: Watch<'_>) -> Result<RawSet> {
    let mut pools = Vec::new();
    for origin in [Origin::Train, Origin::Validation, Origin::Auxiliary, Origin::Test] {
        let [data, labels] = ["data", "labels"].map(|kind| format!("{}_{kind}", origin.name()));
        match (has(&archive, &data), has(&archive, &labels)) {
            (true, true) => pools.push(pool(file, origin, &mut archive, [&data, &labels], watch)?),
            (false, false) if origin != Origin::Train => {}
            (has_data, _) => {
                let missing = if has_data { labels } else { data };
                return Err(Error::Missing { file: file.into(), missing, found: arrays(&archive) });
            }
        }
    }
    Ok(RawSet { pools, class_names: None })
}

fn has(archive: &ZipArchive<impl Read + Seek>, array: &str) -> bool {
    archive.index_for_name(&format!("{array}.npy")).is_some()
}

/// The names of the arrays, for a message about what is there instead.
fn arrays(archive: &ZipArchive<impl Read + Seek>) -> String {
    let names: Vec<String> = names(archive).iter().take(8).map(|name| one_line(name)).collect();
    if names.is_empty() { "it is empty".into() } else { format!("it holds {}", names.join(", ")) }
}

/// The names of all arrays, sorted.
pub(crate) fn names(archive: &ZipArchive<impl Read + Seek>) -> Vec<String> {
    let array = |name: &str| name.strip_suffix(".npy").map(str::to_owned);
    let mut names: Vec<String> =
        archive.file_names().filter_map(|name| array(&name.ok()?)).collect();
    names.sort_unstable();
    names
}

fn pool(
    file: &str,
    origin: Origin,
    archive: &mut ZipArchive<impl Read + Seek>,
    [data, labels]: [&str; 2],
    watch: Watch<'_>,
) -> Result<RawPool> {
    let data_file = format!("{file}:{data}");
    let labels_file = format!("{file}:{labels}");
    let (sizes, pixels) = npy::bytes(array(file, archive, data)?.watched(watch))?;
    // Sizes beyond what memory addresses cannot have been filled, so the conversions hold.
    let sizes: Vec<usize> =
        sizes.into_iter().map(|size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    let (count, shape) = match sizes[..] {
        [count, height, width] => (count, ImageShape { height, width, channels: 1 }),
        [count, height, width, channels @ (1 | 3)] => {
            (count, ImageShape { height, width, channels })
        }
        [_, 1 | 3, _, _] => {
            return Err(Error::Unsupported {
                file: data_file,
                found: format!("images of shape {sizes:?}, channels first"),
                mend: "store them channels last: transpose(0, 2, 3, 1)",
            });
        }
        _ => {
            return Err(Error::Unsupported {
                file: data_file,
                found: format!("images of shape {sizes:?}"),
                mend: "store [n, height, width] or [n, height, width, 1 or 3]",
            });
        }
    };
    let labels = npy::integers(array(file, archive, labels)?)?;
    if count != labels.len() {
        return Err(Error::CountMismatch {
            images_file: data_file,
            images: count,
            labels_file,
            labels: labels.len(),
        });
    }
    Ok(RawPool {
        origin,
        file: data_file,
        labels_file: Some(labels_file),
        shape,
        pixels,
        labels,
        names: None,
    })
}

/// An array's bytes, unpacked. What the archive says about their number is not asked.
pub(crate) fn array<'a>(
    file: &str,
    archive: &'a mut ZipArchive<impl Read + Seek>,
    name: &str,
) -> Result<Input<'a>> {
    let entry = archive.by_name(&format!("{name}.npy")).map_err(|error| damaged(file, &error))?;
    Ok(Input::packed(format!("{file}:{name}"), "zip entry", entry))
}

fn damaged(file: &str, error: &ZipError) -> Error {
    Error::Damaged {
        file: file.into(),
        format: "zip archive",
        detail: one_line(&error.to_string()),
    }
}
