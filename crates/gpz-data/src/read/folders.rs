//! Class folders: one folder per class with PNG or JPEG files, with or without a folder per part above.
//!
//! Classes and files are taken in the order of the bytes of their names.

use std::fs;
use std::path::{Path, PathBuf};

use image::ImageFormat;
use rayon::prelude::*;

use super::{Entry, RawPool, RawSet, Reading, Watch, list, picture, some_names, tell};
use crate::error::{one_line, place};
use crate::images::{ImageShape, Origin};
use crate::resize::{self, Scaler};
use crate::{Error, OpenOptions, Result};

/// The names under which parts are recognised.
fn part(name: &str) -> Option<Origin> {
    match name {
        "train" => Some(Origin::Train),
        "val" | "valid" | "validation" => Some(Origin::Validation),
        "aux" | "auxiliary" => Some(Origin::Auxiliary),
        "test" => Some(Origin::Test),
        _ => None,
    }
}

/// Pictures that are decoded together.
const PICTURES_AT_ONCE: usize = 128;

/// One picture that was found, not yet opened.
struct Found {
    path: PathBuf,
    format: (ImageFormat, &'static str),
    class: usize,
}

/// Reads every picture below `folder`.
pub(crate) fn open(
    folder: &Path,
    entries: &[Entry],
    options: &OpenOptions,
    watch: Watch<'_>,
) -> Result<RawSet> {
    if let Some(resolution) = options.resize_on_read {
        resize::check_resolution(resolution)?;
    }
    // A folder called "test" among class folders is a class; beside "train" it is a part.
    if !entries.iter().any(|entry| entry.is_folder && entry.name == "train") {
        let (class_names, pool) = pool(Origin::Train, folder, entries, options, watch)?;
        return Ok(RawSet { pools: vec![pool], class_names: Some(class_names) });
    }
    let mut by_part: Vec<(Origin, &Entry)> = Vec::new();
    for entry in entries {
        match part(&entry.name) {
            Some(origin)
                if entry.is_folder && by_part.iter().all(|(other, _)| *other != origin) =>
            {
                by_part.push((origin, entry));
            }
            _ if !entry.is_folder && picture::announced(&entry.name).is_none() => {} // a licence, a list, a readme
            _ => {
                return Err(Error::Unrecognised {
                    file: place(&entry.path),
                    detail: "beside train there may be validation, auxiliary and test, once each"
                        .into(),
                });
            }
        }
    }
    by_part.sort_by_key(|(origin, _)| *origin);

    let mut class_names: Option<Vec<String>> = None;
    let mut pools = Vec::new();
    for (origin, entry) in by_part {
        let (names, mut pool) = pool(origin, &entry.path, &list(&entry.path)?, options, watch)?;
        match &class_names {
            None => class_names = Some(names),
            Some(_) if origin == Origin::Auxiliary => pool.names = Some(names),
            Some(known) => renumber(&mut pool, &entry.path, &names, known)?,
        }
        pools.push(pool);
    }
    Ok(RawSet { pools, class_names })
}

/// Labels that count the classes of another part become labels that count those of the training part.
fn renumber(pool: &mut RawPool, folder: &Path, names: &[String], known: &[String]) -> Result<()> {
    let mut numbers = Vec::with_capacity(names.len());
    for name in names {
        match known.iter().position(|other| other == name) {
            Some(number) => numbers.push(number as i64),
            None => {
                return Err(Error::UnknownClass {
                    file: place(&folder.join(name)),
                    class: one_line(name),
                });
            }
        }
    }
    for label in &mut pool.labels {
        *label = numbers[*label as usize];
    }
    Ok(())
}

/// The class names below `folder` and its pictures, labelled by them.
fn pool(
    origin: Origin,
    folder: &Path,
    entries: &[Entry],
    options: &OpenOptions,
    watch: Watch<'_>,
) -> Result<(Vec<String>, RawPool)> {
    let (mut class_names, mut found) = (Vec::new(), Vec::new());
    for entry in entries {
        if !entry.is_folder {
            if picture::announced(&entry.name).is_some() {
                return Err(Error::Unrecognised {
                    file: place(&entry.path),
                    detail: "a picture outside the class folders has no class".into(),
                });
            }
            continue; // a licence, a list, a readme
        }
        let before = found.len();
        for file in list(&entry.path)? {
            let Some(format) = picture::announced(&file.name).filter(|_| !file.is_folder) else {
                return Err(Error::Unsupported {
                    file: place(&file.path),
                    found: if file.is_folder {
                        "a folder inside a class".into()
                    } else {
                        "no picture by its name".into()
                    },
                    mend: "keep nothing but .png, .jpg and .jpeg files in class folders",
                });
            };
            found.push(Found { path: file.path, format, class: class_names.len() });
        }
        if found.len() == before {
            return Err(Error::EmptyClass {
                file: place(&entry.path),
                class: one_line(&entry.name),
            });
        }
        class_names.push(entry.name.clone());
    }
    let Some(first) = found.first() else {
        return Err(Error::Missing {
            file: place(folder),
            missing: "class folders".into(),
            found: if entries.is_empty() { "it is empty".into() } else { some_names(entries) },
        });
    };

    let (shape, _) = read(first, None, options)?;
    let size = options.resize_on_read.is_none().then_some(shape.size());
    let mut pixels = Vec::new();
    // Batch by batch, so that the pixels are not held twice and the first error ends the work; within a batch the first by name
    // is reported, whichever thread met one first.
    let (whole, total) = (place(folder), found.len() as u64);
    for (number, batch) in found.chunks(PICTURES_AT_ONCE).enumerate() {
        let done = (number * PICTURES_AT_ONCE) as u64;
        tell(watch, Reading { file: &whole, done, total })?;
        let read: Vec<Result<(ImageShape, Vec<u8>)>> =
            batch.par_iter().map(|found| read(found, size, options)).collect();
        for (found, read) in batch.iter().zip(read) {
            let (this, bytes) = read?;
            if this.channels != shape.channels {
                let (file, found) = (place(&found.path), this.channels);
                return Err(Error::ImageChannels { file, found, expected: shape.channels });
            }
            pixels.extend_from_slice(&bytes);
        }
    }
    let labels = found.iter().map(|found| found.class as i64).collect();
    let pool = RawPool {
        origin,
        file: place(folder),
        labels_file: None,
        shape,
        pixels,
        labels,
        names: None,
    };
    Ok((class_names, pool))
}

/// One picture, resized if that was asked for, else of `size` if that is known.
fn read(
    found: &Found,
    size: Option<(usize, usize)>,
    options: &OpenOptions,
) -> Result<(ImageShape, Vec<u8>)> {
    let file = place(&found.path);
    let bytes = match fs::read(&found.path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(Error::Io { file, action: "read", source }),
    };
    let (stored, pixels) = picture::decode(&file, found.format, &bytes, size)?;
    let Some((height, width)) = options.resize_on_read else { return Ok((stored, pixels)) };
    let shape = ImageShape { height, width, channels: stored.channels };
    let mut resized = vec![0; shape.elements()];
    Scaler::new().resize(&pixels, stored, (height, width), &mut resized);
    Ok((shape, resized))
}
