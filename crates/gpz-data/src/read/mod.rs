//! Readers: from bytes of unknown worth to [`RawSet`].
//!
//! No reader trusts a size it was told: what a header promises is compared with the bytes that are there before anything is
//! allocated by it, and memory grows with what was read, not with what was announced.

pub(crate) mod cifar;
pub(crate) mod folders;
pub(crate) mod idx;
pub(crate) mod npy;
pub(crate) mod npz;
pub(crate) mod picture;
pub(crate) mod safetensors;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{begins, place};
use crate::images::{ImageShape, Origin};
use crate::resize::MAX_SIDE;
use crate::{Error, Format, OpenOptions, Result, embedded};

/// A set as it was read, not yet checked.
pub(crate) struct RawSet {
    /// The training pool first.
    pub(crate) pools: Vec<RawPool>,
    /// Names, if the format has them; else the training labels number the classes.
    pub(crate) class_names: Option<Vec<String>>,
}

/// One part as it was read, not yet checked.
pub(crate) struct RawPool {
    pub(crate) origin: Origin,
    /// Where the images were read from, for messages.
    pub(crate) file: String,
    /// Where the labels were read from, if elsewhere.
    pub(crate) labels_file: Option<String>,
    pub(crate) shape: ImageShape,
    /// `[n, h, w, c]`.
    pub(crate) pixels: Vec<u8>,
    pub(crate) labels: Vec<i64>,
    /// Class names of this pool, if they are not those of the set.
    pub(crate) names: Option<Vec<String>>,
}

impl RawPool {
    /// Where to look for a wrong label.
    pub(crate) fn labels_place(&self) -> &str {
        self.labels_file.as_deref().unwrap_or(&self.file)
    }

    /// That there are images, that their shape is one, and that there are as many labels.
    pub(crate) fn check_counts(&self) -> Result<()> {
        let ImageShape { height, width, channels } = self.shape;
        if !(1..=MAX_SIDE).contains(&height)
            || !(1..=MAX_SIDE).contains(&width)
            || ![1, 3].contains(&channels)
        {
            return Err(Error::Unsupported {
                file: self.file.clone(),
                found: format!("images of {}", self.shape),
                mend: "use 1 or 3 channels (grey or RGB) and sides of 1 to 8192",
            });
        }
        if self.pixels.is_empty() {
            return Err(Error::Empty { file: self.file.clone() });
        }
        let elements = self.shape.elements();
        let images = self.pixels.len() / elements;
        if images != self.labels.len() || !self.pixels.len().is_multiple_of(elements) {
            return Err(Error::CountMismatch {
                images_file: self.file.clone(),
                images,
                labels_file: self.labels_place().into(),
                labels: self.labels.len(),
            });
        }
        if u32::try_from(images).is_err() {
            return Err(Error::Unsupported {
                file: self.file.clone(),
                found: format!("{images} images"),
                mend: "use at most 4,294,967,295",
            });
        }
        Ok(())
    }
}

/// Opens the file or folder at `path` by what it looks like.
pub(crate) fn open(
    path: &Path,
    options: &OpenOptions,
    watch: Watch<'_>,
) -> Result<(Format, RawSet)> {
    let metadata = fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            Error::UnknownSet { spec: place(path), built_in: embedded::names() }
        }
        _ => Error::Io { file: place(path), action: "open", source },
    })?;
    if !metadata.is_dir() {
        return open_file(path, watch);
    }
    let entries = list(path)?;
    if entries.is_empty() {
        return Err(Error::Empty { file: place(path) });
    }
    if entries.iter().any(|entry| cifar::is_training_batch(&entry.name)) {
        return Ok((Format::Cifar10, cifar::open(path, &entries, watch)?));
    }
    if entries.iter().any(|entry| !entry.is_folder && idx::role(&entry.name).is_some()) {
        return Ok((Format::Idx, idx::open(path, &entries, watch)?));
    }
    if entries.iter().any(|entry| entry.is_folder) {
        return Ok((Format::ClassFolders, folders::open(path, &entries, options, watch)?));
    }
    Err(Error::Unrecognised {
        file: place(path),
        detail: format!("no layout known here ({})", some_names(&entries)),
    })
}

fn open_file(path: &Path, watch: Watch<'_>) -> Result<(Format, RawSet)> {
    let mut head = Vec::new();
    open_for_reading(path)?.take(8).read_to_end(&mut head).map_err(|source| Error::Io {
        file: place(path),
        action: "read",
        source,
    })?;
    if head.starts_with(b"PK") {
        return Ok((Format::Npz, npz::open(path, watch)?));
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz")) {
        return Err(Error::NotA {
            file: place(path),
            expected: "zip archive",
            begins: begins(&head),
        });
    }
    let detail = if head.starts_with(&[0, 0, 8]) || head.starts_with(&GZIP) {
        "one file alone, images need their labels".into()
    } else {
        format!("neither an archive nor a folder (it begins with {})", begins(&head))
    };
    Err(Error::Unrecognised { file: place(path), detail })
}

/// The first bytes of gzip.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];

pub(crate) fn open_for_reading(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::Io { file: place(path), action: "open", source })
}

/// An entry of a folder.
pub(crate) struct Entry {
    /// The name, as text; what is not UTF-8 is replaced, and such names are no format's.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) is_folder: bool,
}

/// What a folder holds, sorted by the bytes of the names, hidden files left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<Entry>> {
    let failed = |source| Error::Io { file: place(folder), action: "list", source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
            continue;
        };
        if name.starts_with('.') || name == "Thumbs.db" {
            continue;
        }
        // Follows links, so that a set may be assembled from them.
        let metadata = fs::metadata(&path).map_err(|source| Error::Io {
            file: place(&path),
            action: "open",
            source,
        })?;
        entries.push(Entry { name, is_folder: metadata.is_dir(), path });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// The first few names of a folder, for a message about what is there instead.
pub(crate) fn some_names(entries: &[Entry]) -> String {
    let mut names: Vec<&str> = entries.iter().take(4).map(|entry| entry.name.as_str()).collect();
    if entries.len() > names.len() {
        names.push("…");
    }
    format!("it holds {}", crate::error::one_line(&names.join(", ")))
}

/// Where the reading of a set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading<'a> {
    /// The file or folder that is being read.
    pub file: &'a str,
    /// Pictures of a folder, or bytes of a file, that are read.
    pub done: u64,
    /// How many there will be.
    pub total: u64,
}

/// Watches a reading; one that answers `false` ends it.
pub type Watch<'a> = &'a dyn Fn(Reading<'_>) -> bool;

/// Tells a watcher, and ends the reading if it wants that.
pub(crate) fn tell(watch: Watch<'_>, reading: Reading<'_>) -> Result<()> {
    if watch(reading) { Ok(()) } else { Err(Error::Stopped { file: reading.file.into() }) }
}

/// Bytes between two words to a watcher.
const WATCHED_BYTES: u128 = 8 << 20;

/// Bytes on their way in, with the name messages call them by. Gzip is undone when the first bytes say so.
pub(crate) struct Input<'a> {
    pub(crate) file: String,
    reader: Box<dyn Read + 'a>,
    /// The packing that an error while reading shows to be damaged; without one it is the system that failed.
    packing: Option<&'static str>,
    read: u64,
    watch: Watch<'a>,
}

impl<'a> Input<'a> {
    /// From `reader`, whatever its name says.
    pub(crate) fn new(file: String, mut reader: impl Read + 'a) -> Result<Self> {
        let mut head = Vec::with_capacity(2);
        reader.by_ref().take(2).read_to_end(&mut head).map_err(|source| Error::Io {
            file: file.clone(),
            action: "read",
            source,
        })?;
        let gzipped = head == GZIP;
        let whole = io::Cursor::new(head).chain(reader);
        let reader: Box<dyn Read + 'a> = if gzipped {
            Box::new(flate2::read::MultiGzDecoder::new(whole))
        } else {
            Box::new(whole)
        };
        Ok(Self { file, reader, packing: gzipped.then_some("gzip"), read: 0, watch: &|_| true })
    }

    /// From `reader`, as it is.
    pub(crate) fn plain(file: String, reader: impl Read + 'a) -> Input<'a> {
        Input { file, reader: Box::new(reader), packing: None, read: 0, watch: &|_| true }
    }

    /// From a reader that undoes `packing` itself.
    pub(crate) fn packed(file: String, packing: &'static str, reader: impl Read + 'a) -> Input<'a> {
        Input { file, reader: Box::new(reader), packing: Some(packing), read: 0, watch: &|_| true }
    }

    pub(crate) fn open(path: &Path) -> Result<Input<'static>> {
        Input::new(place(path), io::BufReader::new(open_for_reading(path)?))
    }

    /// Watched where the number of bytes to come is known.
    pub(crate) fn watched(self, watch: Watch<'a>) -> Self {
        Self { watch, ..self }
    }

    /// At most `count` bytes; fewer only at the end. Memory grows with the bytes that arrive.
    pub(crate) fn take(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(count).read_to_end(&mut bytes) {
            Ok(_) => {
                self.read += bytes.len() as u64;
                Ok(bytes)
            }
            Err(source) => match self.packing {
                None => Err(Error::Io { file: self.file.clone(), action: "read", source }),
                Some(format) => Err(Error::Damaged {
                    file: self.file.clone(),
                    format,
                    detail: match source.kind() {
                        io::ErrorKind::UnexpectedEof => "it ends early".into(),
                        _ => crate::error::one_line(&source.to_string()),
                    },
                }),
            },
        }
    }

    /// Bytes read so far.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// Exactly `count` bytes.
    pub(crate) fn exactly(&mut self, count: u128) -> Result<Vec<u8>> {
        let before = u128::from(self.read);
        let mut bytes = Vec::new();
        loop {
            let missing = count - bytes.len() as u128;
            let more = self.take(missing.min(WATCHED_BYTES) as u64)?;
            let ended = (more.len() as u128) < missing.min(WATCHED_BYTES);
            // The first piece is the whole of a small array, and is not copied.
            if bytes.is_empty() {
                bytes = more;
            } else {
                bytes.extend_from_slice(&more);
            }
            if ended || bytes.len() as u128 == count {
                break;
            }
            let total = u64::try_from(count).unwrap_or(u64::MAX);
            tell(self.watch, Reading { file: &self.file, done: bytes.len() as u64, total })?;
        }
        if (bytes.len() as u128) < count {
            return Err(Error::Truncated {
                file: self.file.clone(),
                expected: before.saturating_add(count),
                found: self.read,
            });
        }
        Ok(bytes)
    }

    /// The end: a longer file is another file, and the checksum of gzip comes last.
    pub(crate) fn end(&mut self) -> Result<()> {
        let expected = u128::from(self.read);
        if self.take(1)?.is_empty() {
            Ok(())
        } else {
            Err(Error::TooLong { file: self.file.clone(), expected })
        }
    }

    /// Exactly `count` bytes, and then the end.
    pub(crate) fn rest(&mut self, count: u128) -> Result<Vec<u8>> {
        let bytes = self.exactly(count)?;
        self.end()?;
        Ok(bytes)
    }
}
