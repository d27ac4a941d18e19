//! Safetensors files.

use std::collections::BTreeMap;

use ::safetensors::tensor::{Dtype, SafeTensors, TensorView};
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
    let saved: Vec<Saved> =
        tensors.iter().map(|(name, tensor)| Saved::new(name, tensor)).collect::<Result<_>>()?;
    serialise(&saved, metadata)
}

struct Saved<'a> {
    name: &'a str,
    dtype: Dtype,
    shape: &'a [usize],
    bytes: Vec<u8>,
}

impl<'a> Saved<'a> {
    fn new(name: &'a str, tensor: &'a Tensor) -> Result<Self> {
        let (dtype, bytes) = match tensor.dtype() {
            DType::F32 => {
                (Dtype::F32, tensor.to_vec::<f32>()?.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            DType::F64 => {
                (Dtype::F64, tensor.to_vec::<f64>()?.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
        };
        Ok(Saved { name, dtype, shape: tensor.shape(), bytes })
    }
}

fn serialise(saved: &[Saved<'_>], metadata: Option<&str>) -> Result<Vec<u8>> {
    let mut views = BTreeMap::new();
    for entry in saved {
        let view = TensorView::new(entry.dtype, entry.shape.to_vec(), &entry.bytes)
            .map_err(format_error)?;
        if views.insert(entry.name, view).is_some() {
            let reason = format!("two tensors are called {}", entry.name);
            return Err(Error::Format { reason });
        }
    }
    let metadata = metadata.map(|text| [("gpz".to_owned(), text.to_owned())].into());
    ::safetensors::serialize(views, metadata).map_err(format_error)
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
            if entry.kind() == Kind::Counter {
                let count = entry.value().to_vec::<f64>()?[0] as i64;
                let bytes = count.to_le_bytes().to_vec();
                return Ok(Saved { name, dtype: Dtype::I64, shape: &[], bytes });
            }
            Saved::new(name, entry.value())
        })
        .collect::<Result<_>>()?;
    serialise(&saved, metadata)
}
