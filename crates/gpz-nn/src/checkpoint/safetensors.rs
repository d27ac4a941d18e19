//! Safetensors files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use ::safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView};
use gpz_tensor::{DType, Tensor};

use super::element::{Element, Layout};
use super::{Checkpoint, Format, one_line};
use crate::error::{Error, Result};
use crate::module::{Kind, Module};

/// Named tensors in one safetensors file, with a metadata text.
///
/// - `tensors`: saved in their dtype, row-major
/// - `metadata`: kept under the key `gpz`, such as the configuration as JSON
///
/// # Errors
/// [`Error::Format`] if two tensors have one name.
pub fn to_safetensors(tensors: &[(String, Tensor)], metadata: Option<&str>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_safetensors(tensors, metadata, &mut bytes)?;
    Ok(bytes)
}

/// [`to_safetensors`], written tensor by tensor: beside the tensors it takes the memory of one, and on the processor not even that.
///
/// # Errors
/// As [`to_safetensors`]; [`Error::Write`] for what `out` fails with.
pub fn write_safetensors(
    tensors: &[(String, Tensor)],
    metadata: Option<&str>,
    out: &mut dyn Write,
) -> Result<()> {
    let saved = tensors
        .iter()
        .map(|(name, tensor)| Saved { name, content: Content::Floats(tensor) })
        .collect();
    write(saved, metadata, out)
}

struct Saved<'a> {
    name: &'a str,
    content: Content<'a>,
}

enum Content<'a> {
    Floats(&'a Tensor),
    Count(i64),
}

impl Content<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Content::Floats(tensor) if tensor.dtype() == DType::F32 => Dtype::F32,
            Content::Floats(_) => Dtype::F64,
            Content::Count(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Content::Floats(tensor) => tensor.shape(),
            Content::Count(_) => &[],
        }
    }

    fn write(&self, out: &mut dyn Write) -> Result<()> {
        match self {
            Content::Floats(tensor) if tensor.dtype() == DType::F32 => {
                write_floats(tensor, f32::to_le_bytes, out)
            }
            Content::Floats(tensor) => write_floats(tensor, f64::to_le_bytes, out),
            Content::Count(count) => out.write_all(&count.to_le_bytes()).map_err(Error::Write),
        }
    }
}

/// Values that are made bytes at once.
const PIECE: usize = 1 << 14;

fn write_floats<T: gpz_tensor::Element, const N: usize>(
    tensor: &Tensor,
    bytes: impl Fn(T) -> [u8; N],
    out: &mut dyn Write,
) -> Result<()> {
    let copied;
    let values = match tensor.as_row_major_slice::<T>() {
        Some(values) => values,
        None => {
            copied = tensor.to_vec::<T>()?;
            &copied
        }
    };
    let mut piece = Vec::with_capacity(N * PIECE.min(values.len()));
    for values in values.chunks(PIECE) {
        piece.clear();
        piece.extend(values.iter().flat_map(|&value| bytes(value)));
        out.write_all(&piece).map_err(Error::Write)?;
    }
    Ok(())
}

/// Length of the number that a file begins with, and what lengths of headers are multiples of.
const WORD: usize = 8;

fn write(mut saved: Vec<Saved<'_>>, metadata: Option<&str>, out: &mut dyn Write) -> Result<()> {
    // The order that the format asks for: by alignment, then by name.
    saved.sort_by(|a, b| (b.content.dtype().cmp(&a.content.dtype())).then(a.name.cmp(b.name)));
    let (mut names, mut infos, mut end) = (BTreeSet::new(), Vec::new(), 0);
    for Saved { name, content } in &saved {
        if !names.insert(*name) {
            return Err(Error::Format { reason: format!("two tensors are called {name}") });
        }
        let (dtype, shape, begin) = (content.dtype(), content.shape().to_vec(), end);
        end += shape.iter().product::<usize>() * (dtype.bitsize() / 8);
        infos.push(((*name).to_owned(), TensorInfo { dtype, shape, data_offsets: (begin, end) }));
    }
    let metadata = metadata.map(|text| [("gpz".to_owned(), text.to_owned())].into());
    let header = Metadata::new(metadata, infos).map_err(format_error)?;
    let mut header = serde_json::to_vec(&header).map_err(format_error)?;
    header.resize(header.len().next_multiple_of(WORD), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::Write)?;
    out.write_all(&header).map_err(Error::Write)?;
    saved.iter().try_for_each(|saved| saved.content.write(out))
}

fn format_error(error: impl std::fmt::Display) -> Error {
    Error::Format { reason: crate::error::reason(&error.to_string()) }
}

/// Reads what [`to_safetensors`] or any other writer of the format wrote.
///
/// Tensors of 32 and 64 bit floats keep their dtype; shorter floats, truth values and integers of 8 and 16 bits become f32, longer
/// integers f64.
///
/// # Errors
/// [`Error::Format`] for a file that is damaged or holds another element type.
pub fn from_safetensors(bytes: &[u8]) -> Result<(BTreeMap<String, Tensor>, Option<String>)> {
    let checkpoint = read(bytes)?;
    Ok((checkpoint.tensors, checkpoint.metadata))
}

/// [`from_safetensors`], read tensor by tensor: beside the tensors it takes the memory of one.
///
/// # Errors
/// As [`from_safetensors`]; [`Error::Read`] for what `file` fails with.
pub fn read_safetensors(file: &mut dyn Read) -> Result<(BTreeMap<String, Tensor>, Option<String>)> {
    let mut word = [0; WORD];
    file.read_exact(&mut word).map_err(read_error)?;
    let header_length = u64::from_le_bytes(word);
    if header_length > LONGEST_HEADER {
        return Err(format_error(format!("its header is said to be of {header_length} bytes")));
    }
    let header: Metadata =
        serde_json::from_slice(&read_bytes(file, header_length)?).map_err(format_error)?;
    let text = header.metadata().as_ref().and_then(|m| m.get("gpz").cloned());
    let (infos, mut tensors) = (header.tensors(), BTreeMap::new());
    for name in header.offset_keys() {
        let info = infos[&name];
        let (begin, end) = info.data_offsets;
        let bytes = read_bytes(file, (end - begin) as u64)?;
        let view = TensorView::new(info.dtype, info.shape.clone(), &bytes).map_err(format_error)?;
        let (tensor, _) = decode(&name, &view)?;
        tensors.insert(name, tensor);
    }
    match file.read(&mut word).map_err(read_error)? {
        0 => Ok((tensors, text)),
        _ => Err(format_error("it goes on after its last tensor")),
    }
}

/// The longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// A file that ends early is damaged, others could not be read.
fn read_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => format_error("it ends in its header"),
        _ => Error::Read(error),
    }
}

/// So many bytes; no more memory than there are, whatever a damaged file promises.
fn read_bytes(file: &mut dyn Read, length: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.take(length).read_to_end(&mut bytes).map_err(read_error)? as u64;
    match read == length {
        true => Ok(bytes),
        false => Err(format_error(format!("it ends {} bytes too early", length - read))),
    }
}

/// The tensors with their element types.
pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format_error)?;
    let text = header.metadata().as_ref().and_then(|m| m.get("gpz").cloned());
    let file = SafeTensors::deserialize(bytes).map_err(format_error)?;
    let mut checkpoint = Checkpoint { metadata: text, ..Checkpoint::new(Format::Safetensors) };
    for (name, view) in file.iter() {
        let (tensor, element) = decode(name, &view)?;
        checkpoint.insert(name.to_owned(), tensor, element);
    }
    Ok(checkpoint)
}

fn decode(name: &str, view: &TensorView<'_>) -> Result<(Tensor, Element)> {
    let element = match view.dtype() {
        Dtype::F32 => Element::Float32,
        Dtype::F64 => Element::Float64,
        Dtype::F16 => Element::Float16,
        Dtype::BF16 => Element::BFloat16,
        Dtype::I64 => Element::Int64,
        Dtype::I32 => Element::Int32,
        Dtype::I16 => Element::Int16,
        Dtype::I8 => Element::Int8,
        Dtype::U8 => Element::UInt8,
        Dtype::BOOL => Element::Bool,
        other => {
            let name = one_line(name);
            let reason = format!(
                "{name} is of type {other:?}; floats of 16, 32 or 64 bits and integers are read"
            );
            return Err(Error::Format { reason });
        }
    };
    let bytes = view.data();
    let layout = Layout::row_major(view.shape().iter().map(|size| *size as u64).collect());
    let fits = layout.check((bytes.len() / element.size()) as u64);
    fits.map_err(|reason| Error::Format { reason: format!("{} {reason}", one_line(name)) })?;
    Ok((layout.read(element, bytes)?, element))
}

/// A module's entries as a safetensors file, under PyTorch's key names.
///
/// # Errors
/// None for a module whose names differ.
pub fn save(module: &dyn Module, metadata: Option<&str>) -> Result<Vec<u8>> {
    let entries = module.entries();
    let saved: Vec<Saved> = entries
        .iter()
        .filter(|(_, entry)| !entry.is_vacant())
        .map(|(name, entry)| {
            let content = match entry.kind() {
                Kind::Counter => Content::Count(entry.value().to_vec::<f64>()?[0] as i64),
                _ => Content::Floats(entry.value()),
            };
            Ok(Saved { name, content })
        })
        .collect::<Result<_>>()?;
    let mut bytes = Vec::new();
    write(saved, metadata, &mut bytes)?;
    Ok(bytes)
}
