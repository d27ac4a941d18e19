//! Checkpoints: safetensors files with PyTorch's key names.

use std::collections::BTreeMap;

use gpz_tensor::{DType, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Error, Result};
use crate::module::{Kind, Module, placed};

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
    safetensors::serialize(views, metadata).map_err(format_error)
}

fn format_error(error: impl std::fmt::Display) -> Error {
    Error::Format { reason: error.to_string() }
}

/// Reads what [`to_safetensors`] or any other writer of the format wrote.
///
/// Tensors of 32 and 64 bit floats keep their dtype; 16 bit floats and brain floats become f32, 64 bit integers f64.
///
/// # Errors
/// [`Error::Format`] for a file that is damaged or holds another element type.
pub fn from_safetensors(bytes: &[u8]) -> Result<(BTreeMap<String, Tensor>, Option<String>)> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format_error)?;
    let text = header.metadata().as_ref().and_then(|m| m.get("gpz").cloned());
    let file = SafeTensors::deserialize(bytes).map_err(format_error)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        tensors.insert(name.to_owned(), decode(name, &view)?);
    }
    Ok((tensors, text))
}

fn decode(name: &str, view: &TensorView<'_>) -> Result<Tensor> {
    fn values<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| f(*chunk)).collect()
    }
    let (bytes, shape) = (view.data(), view.shape());
    let tensor = match view.dtype() {
        Dtype::F32 => Tensor::from_slice(&values(bytes, f32::from_le_bytes), shape),
        Dtype::F64 => Tensor::from_slice(&values(bytes, f64::from_le_bytes), shape),
        Dtype::I64 => Tensor::from_slice(&values(bytes, |b| i64::from_le_bytes(b) as f64), shape),
        Dtype::F16 => {
            let value = |b| half::f16::from_le_bytes(b).to_f32();
            Tensor::from_slice(&values(bytes, value), shape)
        }
        Dtype::BF16 => {
            let value = |b| half::bf16::from_le_bytes(b).to_f32();
            Tensor::from_slice(&values(bytes, value), shape)
        }
        other => {
            let reason =
                format!("{name} is of type {other:?}; floats of 16, 32 or 64 bits are read");
            return Err(Error::Format { reason });
        }
    };
    Ok(tensor?)
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

/// Fills a module from named tensors, converted to the module's dtype, on its device. On an error of the names and shapes the module is
/// unchanged.
///
/// Counters may be missing, as files of inference weights leave them out, and so may entries that nobody uses.
///
/// # Errors
/// [`Error::Mismatch`] lists missing and unexpected keys and those of another shape; no memory on a CUDA device.
pub fn load(module: &mut dyn Module, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    check(module, tensors)?;
    let mut result = Ok(());
    module.visit_mut("", &mut |name, entry| {
        if let (Some(tensor), true) = (tensors.get(&name), result.is_ok()) {
            let (dtype, device) = (entry.value().dtype(), entry.value().device());
            let placed = tensor.to_dtype(dtype).and_then(|tensor| placed(&tensor, &device));
            result = placed.map(|value| *entry.value_mut() = value);
        }
    });
    Ok(result?)
}

/// Whether [`load`] would fill the module.
///
/// # Errors
/// As [`load`].
pub fn check(module: &dyn Module, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let (mut missing, mut wrong_shape) = (Vec::new(), Vec::new());
    let mut known = std::collections::BTreeSet::new();
    module.visit("", &mut |name, entry| {
        match tensors.get(&name) {
            Some(tensor) if tensor.shape() != entry.value().shape() => {
                let shapes = (entry.value().shape().to_vec(), tensor.shape().to_vec());
                wrong_shape.push((name.clone(), shapes.0, shapes.1));
            }
            Some(_) => {}
            None if matches!(entry.kind(), Kind::Counter | Kind::Unused) => {}
            None => missing.push(name.clone()),
        }
        known.insert(name);
    });
    let unexpected: Vec<String> =
        tensors.keys().filter(|name| !known.contains(*name)).cloned().collect();
    if !(missing.is_empty() && unexpected.is_empty() && wrong_shape.is_empty()) {
        return Err(Error::Mismatch { missing, unexpected, wrong_shape });
    }
    Ok(())
}
