//! Checkpoints: files of named tensors, written as safetensors and read from whatever PyTorch users save.
//!
//! [`read`] takes a file's bytes and tells by them what the file is; [`Checkpoint::load`] fills a module and says what it did for that.
//! Nothing in a file is ever executed: see `docs/checkpoints.md`.

mod element;
mod globals;
mod names;
mod pickle;
mod safetensors;
mod sniff;
mod state_dict;
mod torch;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use gpz_tensor::Tensor;

pub use self::element::Element;
pub use self::safetensors::{
    from_safetensors, read_safetensors, save, to_safetensors, write_safetensors,
};
use crate::error::{Error, Result, counted, one_line};
use crate::module::{Kind, Module, placed};

/// What a checkpoint was stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// The zip archive of `torch.save` since PyTorch 1.6.
    Torch,
    /// The stream of pickles of `torch.save` before PyTorch 1.6.
    TorchLegacy,
    /// A pickle of NumPy arrays.
    Pickle,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Safetensors => "safetensors file",
            Format::Torch => "PyTorch file",
            Format::TorchLegacy => "PyTorch file (of the format before 1.6)",
            Format::Pickle => "pickle",
        })
    }
}

/// The named tensors of a file.
#[derive(Debug)]
pub struct Checkpoint {
    format: Format,
    wrapped_in: Vec<String>,
    beside: Vec<String>,
    left_out: Vec<String>,
    metadata: Option<String>,
    tensors: BTreeMap<String, Tensor>,
    /// What the file stores each tensor as.
    elements: BTreeMap<String, Element>,
}

/// How a checkpoint was made to fit a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the file is.
    pub format: Format,
    /// Keys of the mappings around the weights, outermost first.
    pub wrapped_in: Vec<String>,
    /// Keys beside the last of them that hold tensors too and were not used, such as a moving average.
    pub beside: Vec<String>,
    /// Prefix that was dropped from the names; empty if none.
    pub stripped: String,
    /// Tensors that the module holds in another type than the file; counters are none of them.
    pub converted: Vec<Converted>,
    /// Names among the weights that were not used: no tensors, or tensors that files may hold without use.
    pub left_out: Vec<String>,
}

/// Tensors that were converted alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// How many.
    pub tensors: usize,
    /// Their type in the file.
    pub from: Element,
    /// Their type in the module: `float32` or `float64`.
    pub to: &'static str,
}

impl Loaded {
    /// What a person should know, in a few words: `weights under "state_dict", prefix "module." dropped, 62 tensors of float16 converted
    /// to float32`. `None` if the file was taken as it is.
    pub fn in_words(&self) -> Option<String> {
        let quoted = |keys: &[String]| {
            keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ")
        };
        let mut parts = Vec::new();
        if let Some((inner, around)) = self.wrapped_in.split_last() {
            let within = around.iter().rev().map(|key| format!(" in {key:?}")).collect::<String>();
            parts.push(format!("weights under {inner:?}{within}"));
        }
        if !self.beside.is_empty() {
            parts.push(format!("{} beside them not used", quoted(&self.beside)));
        }
        if !self.stripped.is_empty() {
            parts.push(format!("prefix {:?} dropped", self.stripped));
        }
        for Converted { tensors, from, to } in &self.converted {
            parts.push(format!("{} of {from} converted to {to}", counted(*tensors, "tensor")));
        }
        if let Some((first, rest)) = self.left_out.split_first() {
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            parts.push(format!("{first:?}{more} left out"));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Reads a checkpoint of any of the formats of [`Format`]; which, its first bytes tell. Nothing in it is executed.
///
/// Of the file's contents only the weights are unpacked. Beside the file's bytes this takes the memory of the tensors: floats of 32 and
/// 64 bits keep their type, shorter floats and integers become f32, longer integers f64.
///
/// # Errors
/// [`Error::NotCheckpoint`] says what the file is instead; [`Error::Damaged`], [`Error::Format`]; [`Error::Calls`],
/// [`Error::WholeNetwork`] and [`Error::Object`] for a pickle of more than data; [`Error::NoStateDict`]; [`Error::Unsupported`].
pub fn read(bytes: &[u8]) -> Result<Checkpoint> {
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return torch::archive(bytes);
    }
    if sniff::may_be_a_pickle(bytes)
        && let Some(checkpoint) = torch::stream(bytes)?
    {
        return Ok(checkpoint);
    }
    if sniff::may_be_safetensors(bytes) {
        return safetensors::read(bytes);
    }
    Err(sniff::refuse(bytes))
}

impl Checkpoint {
    fn new(format: Format) -> Self {
        Checkpoint {
            format,
            wrapped_in: Vec::new(),
            beside: Vec::new(),
            left_out: Vec::new(),
            metadata: None,
            tensors: BTreeMap::new(),
            elements: BTreeMap::new(),
        }
    }

    fn insert(&mut self, name: String, tensor: Tensor, element: Element) {
        self.elements.insert(name.clone(), element);
        self.tensors.insert(name, tensor);
    }

    /// What the file is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Keys of the mappings around the weights, outermost first.
    pub fn wrapped_in(&self) -> &[String] {
        &self.wrapped_in
    }

    /// The tensors under the names they have in the file.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// What the file stores a tensor as.
    pub fn element(&self, name: &str) -> Option<Element> {
        self.elements.get(name).copied()
    }

    /// Fills a module, as [`load`], once prefixes that wrappers put before the names are dropped.
    ///
    /// # Errors
    /// [`Error::Mismatch`], as [`load`]; [`Error::Unsupported`] for integers where the module learns floats. The module is unchanged then.
    pub fn load(&self, module: &mut dyn Module) -> Result<Loaded> {
        self.load_except(module, &|_| false)
    }

    /// As [`Checkpoint::load`]; names in the file that the module lacks are no error where `optional` holds, as for a layer that only
    /// training uses. They are asked for without the dropped prefix.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load_except(
        &self,
        module: &mut dyn Module,
        optional: &dyn Fn(&str) -> bool,
    ) -> Result<Loaded> {
        let known: BTreeSet<String> = module.entries().into_iter().map(|(name, _)| name).collect();
        let stripped = names::prefix(&self.tensors, &known);
        let mut tensors = names::strip(&self.tensors, stripped);
        let elements = names::strip(&self.elements, stripped);
        let mut left_out = self.left_out.clone();
        tensors.retain(|name, _| {
            let used = known.contains(name) || !optional(name);
            if !used {
                left_out.push(one_line(name));
            }
            used
        });
        check(module, &tensors)?;
        let mut converted: BTreeMap<(Element, &'static str), usize> = BTreeMap::new();
        for (name, entry) in module.entries() {
            let (Some(element), false) = (elements.get(&name), entry.kind() == Kind::Counter)
            else {
                continue;
            };
            if !element.is_float() && entry.kind() == Kind::Parameter {
                let found =
                    format!("{} is of type {element}, where the model has floats", one_line(&name));
                return Err(Error::Unsupported {
                    found,
                    mend: "save the float network, not a quantised one",
                });
            }
            let to = match entry.value().dtype() {
                gpz_tensor::DType::F32 => Element::Float32,
                gpz_tensor::DType::F64 => Element::Float64,
            };
            if to != *element {
                *converted.entry((*element, to.name())).or_default() += 1;
            }
        }
        load(module, &tensors)?;
        let converted = converted.into_iter();
        Ok(Loaded {
            format: self.format,
            wrapped_in: self.wrapped_in.clone(),
            beside: self.beside.clone(),
            stripped: stripped.to_owned(),
            converted: converted
                .map(|((from, to), tensors)| Converted { tensors, from, to })
                .collect(),
            left_out,
        })
    }
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
    let mut known = BTreeSet::new();
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
