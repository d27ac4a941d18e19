//! Files of `torch.save`: the zip archive since PyTorch 1.6, the stream of pickles before it, and plain pickles of NumPy arrays.
//!
//! - archive: `NAME/data.pkl`, a pickle that refers to storages; `NAME/data/KEY`, the bytes of each; `NAME/byteorder`
//! - stream: pickles of a magic number, a version, the machine, the object and the storages' keys; then for each storage the number of
//!   elements as a 64-bit integer, and its bytes
//!
//! Source: `torch/serialization.py` and files it wrote.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use gpz_tensor::Tensor;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Id, Tree, Value};
use super::state_dict::{self, StateDict};
use super::tree::{Leaf, Storage, Stored, Values};
use super::{Checkpoint, Format, globals, one_line};
use crate::error::{Error, Result};

/// The number 0x1950a86a20f9469cfc6c, with which the stream begins.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;
const BIG_ENDIAN: &str =
    "load it with torch.load on any machine of today and save it again with torch.save";

/// Packed entries may unpack to so many times the file's length; PyTorch packs nothing, and trained weights hardly shrink.
const UNPACKED: u64 = 4;
/// Tensors may take so many times the bytes of their storages: one byte becomes four, and some storages are shared.
const DECODED: u64 = 8;
/// Below this nobody needs to be careful.
const SMALL: u64 = 64 << 10;

fn damaged(format: Format, reason: impl std::fmt::Display) -> Error {
    Error::Damaged { format, reason: crate::error::reason(&reason.to_string()) }
}

/// Where the bytes of storages are.
enum Storages<'a> {
    Archive(Archive<'a>),
    Listed(BTreeMap<String, &'a [u8]>),
    None,
}

struct Archive<'a> {
    bytes: &'a [u8],
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The folder of `data.pkl`, with its slash.
    folder: String,
    opened: BTreeMap<String, Cow<'a, [u8]>>,
    unpacked: u64,
}

impl<'a> Archive<'a> {
    /// # Errors
    /// [`Error::Damaged`]; [`Error::NotCheckpoint`] or [`Error::Unsupported`] for an archive of something else.
    fn open(bytes: &'a [u8]) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            let reason = format!(
                "the archive's list of contents, at its end, is not there or broken ({error})"
            );
            damaged(Format::Torch, reason)
        })?;
        let names: Vec<&str> =
            zip.file_names_raw().filter_map(|name| std::str::from_utf8(name).ok()).collect();
        let in_folder = |name: &str| {
            let folder = name.strip_suffix("data.pkl")?;
            let one = folder.is_empty() || folder.find('/') == Some(folder.len() - 1);
            one.then(|| folder.to_owned())
        };
        let holds = |part: &str| names.iter().any(|name| name.contains(part));
        let folder = names.iter().find_map(|name| in_folder(name));
        if holds("constants.pkl") || holds("/code/") {
            return Err(Error::Unsupported {
                found: "a TorchScript program, not a state_dict".into(),
                mend: "save torch.jit.load(FILE).state_dict() with torch.save",
            });
        }
        let Some(folder) = folder else {
            let arrays = names.iter().any(|name| name.ends_with(".npy"));
            let found = if arrays {
                "an archive of NumPy arrays"
            } else {
                "a zip archive without data.pkl"
            };
            return Err(Error::NotCheckpoint { found: found.into() });
        };
        Ok(Archive { bytes, zip, folder, opened: BTreeMap::new(), unpacked: 0 })
    }

    /// The bytes of an entry, borrowed where it is not packed; `None` if there is no such entry.
    fn entry(&mut self, name: &str) -> Result<Option<Cow<'a, [u8]>>> {
        let name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&name) else { return Ok(None) };
        let damaged =
            |reason: &dyn std::fmt::Display| damaged(Format::Torch, format!("{name}: {reason}"));
        let entry = self.zip.by_index(index).map_err(|error| damaged(&error))?;
        let size = entry.size();
        if entry.compression() == CompressionMethod::Stored {
            let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
            let rest = start.and_then(|start| self.bytes.get(start..)).unwrap_or(&[]);
            let stored = usize::try_from(size).ok().and_then(|size| rest.get(..size));
            let Some(stored) = stored else { return Err(damaged(&"it is truncated")) };
            if crc32fast::hash(stored) != entry.crc32() {
                return Err(damaged(
                    &"its checksum is another (or it was saved without, by set_crc32_options(False))",
                ));
            }
            return Ok(Some(Cow::Borrowed(stored)));
        }
        let most = (self.bytes.len() as u64).saturating_mul(UNPACKED).saturating_add(SMALL);
        self.unpacked = self.unpacked.saturating_add(size);
        if self.unpacked > most {
            return Err(Error::Unsupported {
                found: format!(
                    "{} unpacks to more than {UNPACKED} times the file's size",
                    one_line(&name)
                ),
                mend: "save it again with torch.save, which does not pack",
            });
        }
        let mut unpacked = Vec::new();
        entry.take(size.saturating_add(1)).read_to_end(&mut unpacked).map_err(|e| damaged(&e))?;
        if unpacked.len() as u64 != size {
            return Err(damaged(&"it unpacks to another length than it says"));
        }
        Ok(Some(Cow::Owned(unpacked)))
    }
}

impl Storages<'_> {
    /// The bytes of a storage, as many as the pickle says.
    fn get(&mut self, format: Format, storage: &Storage) -> Result<&[u8]> {
        let Storage { key, bytes: len, .. } = storage;
        let missing = || damaged(format, format!("storage {key} is not there"));
        let bytes = match self {
            Storages::Archive(archive) => {
                if !archive.opened.contains_key(key) {
                    let bytes = archive.entry(&format!("data/{key}"))?.ok_or_else(missing)?;
                    archive.opened.insert(key.clone(), bytes);
                }
                archive.opened.get(key).map(AsRef::as_ref)
            }
            Storages::Listed(storages) => storages.get(key).copied(),
            Storages::None => None,
        };
        let bytes = bytes.ok_or_else(missing)?;
        if bytes.len() as u64 != *len {
            let reason = format!("storage {key} has {} bytes instead of {len}", bytes.len());
            return Err(damaged(format, reason));
        }
        Ok(bytes)
    }

    fn unpacked(&self) -> u64 {
        match self {
            Storages::Archive(archive) => archive.unpacked,
            _ => 0,
        }
    }
}

/// Reads an archive.
pub(super) fn archive(bytes: &[u8]) -> Result<Checkpoint> {
    let mut archive = Archive::open(bytes)?;
    if let Some(order) = archive.entry("byteorder")?
        && order.trim_ascii() != b"little"
    {
        return Err(big_endian());
    }
    let pickle = archive.entry("data.pkl")?.unwrap_or_default();
    let (tree, _) = Tree::read(&pickle).map_err(|fault| damaged(Format::Torch, fault))?;
    weights(&tree, Format::Torch, bytes.len() as u64, &mut Storages::Archive(archive))
}

fn big_endian() -> Error {
    Error::Unsupported { found: "a big-endian file".into(), mend: BIG_ENDIAN }
}

/// Reads a stream of pickles, or a pickle alone; `None` if it does not begin with one.
pub(super) fn stream(bytes: &[u8]) -> Result<Option<Checkpoint>> {
    let (first, len) = match Tree::read(bytes) {
        Ok(read) => read,
        // Only the newer protocols begin with a mark of their own.
        Err(_) if !bytes.starts_with(&[0x80]) => return Ok(None),
        Err(fault) => return Err(damaged(Format::Pickle, fault)),
    };
    match first.value(first.root) {
        Value::Wide(number) if **number == MAGIC => {}
        Value::Dict(_) | Value::Object(_) => {
            let all = bytes.len() as u64;
            return weights(&first, Format::Pickle, all, &mut Storages::None).map(Some);
        }
        _ if !bytes.starts_with(&[0x80]) => return Ok(None),
        _ => return Err(Error::NoStateDict { found: "no mapping of names to tensors".into() }),
    }
    let format = Format::TorchLegacy;
    let mut at = len;
    let mut next = || -> Result<Tree<'_>> {
        let (tree, len) = Tree::read(&bytes[at..]).map_err(|fault| damaged(format, fault))?;
        at += len;
        Ok(tree)
    };
    let version = next()?;
    if !matches!(version.value(version.root), Value::Int(VERSION)) {
        return Err(damaged(format, "its version is none that PyTorch wrote"));
    }
    let system = next()?;
    let little = system.mapping(system.root).and_then(|items| {
        let entry = items.iter().find(|(key, _)| system.text(*key) == Some("little_endian"))?;
        Some(matches!(system.value(entry.1), Value::Bool(true)))
    });
    if little == Some(false) {
        return Err(big_endian());
    }
    let tree = next()?;
    let keys = next()?;
    // What is refused is refused by name, whatever the rest of the file.
    tree.refuse_unknown()?;
    let storages = listed(&tree, &keys, &bytes[at..])?;
    weights(&tree, format, bytes.len() as u64, &mut Storages::Listed(storages)).map(Some)
}

/// The storages behind the pickles of a stream.
fn listed<'a>(
    tree: &Tree<'_>,
    keys: &Tree<'_>,
    bytes: &'a [u8],
) -> Result<BTreeMap<String, &'a [u8]>> {
    let format = Format::TorchLegacy;
    let known: BTreeMap<String, Storage> = (0..tree.values.len())
        .filter_map(|id| tree.storage(id as Id))
        .map(|(storage, ..)| (storage.key.clone(), storage))
        .collect();
    let keys = keys.tuple(keys.root).unwrap_or(&[]).iter().map(|id| keys.text(*id));
    let (mut storages, mut rest) = (BTreeMap::new(), bytes);
    for key in keys {
        let storage = key.and_then(|key| known.get(key));
        let storage =
            storage.ok_or_else(|| damaged(format, "it lists a storage that nothing refers to"))?;
        let cut = || damaged(format, format!("storage {} is truncated", storage.key));
        let (count, values) = rest.split_at_checked(8).ok_or_else(cut)?;
        let count = u64::from_le_bytes(count.try_into().map_err(|_| cut())?);
        if count.checked_mul(storage.element_size) != Some(storage.bytes) {
            let Storage { key, bytes, element_size } = storage;
            let reason = format!(
                "storage {key} has {count} elements of {element_size} bytes instead of {bytes} bytes"
            );
            return Err(damaged(format, reason));
        }
        let len = usize::try_from(storage.bytes).map_err(|_| cut())?;
        let values = values.split_at_checked(len).ok_or_else(cut)?;
        storages.insert(storage.key.clone(), values.0);
        rest = values.1;
    }
    Ok(storages)
}

/// The weights that a pickle describes.
fn weights(
    tree: &Tree<'_>,
    format: Format,
    file_len: u64,
    storages: &mut Storages<'_>,
) -> Result<Checkpoint> {
    tree.refuse_unknown()?;
    let StateDict { wrapped_in, beside, entries } = state_dict::find(tree)?;
    let mut checkpoint = Checkpoint { wrapped_in, beside, ..Checkpoint::new(format) };
    let mut decoded = 0u64;
    for (key, id) in entries {
        let name = one_line(key);
        let stored = match tree.leaf(&name, id)? {
            Leaf::Tensor(stored) => stored,
            Leaf::Opaque(function) => {
                let (what, mend) = globals::unusable(&function);
                let found = format!("{name} is {what} ({function})");
                return Err(Error::Unsupported { found, mend });
            }
            Leaf::Other => {
                checkpoint.left_out.push(name);
                continue;
            }
        };
        // A storage that unpacks to too much is told from a tensor that is too large for it.
        if let Values::Storage(storage) = &stored.values {
            storages.get(format, storage)?;
        }
        let element = stored.element;
        let numel = stored.layout.numel().unwrap_or(u64::MAX);
        decoded = decoded.saturating_add(numel.saturating_mul(element.decoded_size() as u64));
        let most = file_len.saturating_add(storages.unpacked());
        if decoded > most.saturating_mul(DECODED).saturating_add(SMALL) {
            let reason = "the tensors up to this one are together larger than the file can hold";
            return Err(damaged(format, format!("{name}: {reason}")));
        }
        let tensor = read(tree, format, &name, &stored, storages)?;
        checkpoint.insert(key.to_owned(), tensor, element);
    }
    Ok(checkpoint)
}

fn read(
    tree: &Tree<'_>,
    format: Format,
    name: &str,
    stored: &Stored,
    storages: &mut Storages<'_>,
) -> Result<Tensor> {
    let Stored { element, layout, values } = stored;
    let size = element.size() as u64;
    let fits =
        |len: u64| layout.check(len).map_err(|reason| damaged(format, format!("{name} {reason}")));
    match values {
        Values::Storage(storage) => {
            fits(storage.bytes / size)?;
            layout.read(*element, storages.get(format, storage)?)
        }
        Values::Inside(id) => {
            let numel = layout.numel().unwrap_or(u64::MAX);
            fits(numel)?;
            let bytes = tree.bytes(*id, numel.saturating_mul(size));
            let bytes = bytes.ok_or_else(|| {
                damaged(format, format!("{name} has not as many bytes as its shape needs"))
            })?;
            layout.read(*element, &bytes)
        }
    }
}
