//! What the values of a pickle mean: mappings, tensors, arrays, and what must not be in a checkpoint.

use std::borrow::Cow;

use super::element::{Element, Layout};
use super::globals::{self, Verdict};
use super::one_line;
use super::pickle::{Id, Object, Tree, Value};
use crate::error::{Error, Result};

/// A value where a tensor may stand.
pub(super) enum Leaf {
    Tensor(Stored),
    /// What another function would make of a tensor: the function.
    Opaque(String),
    /// No tensor: a number, a text, a mapping.
    Other,
}

/// A tensor that is not yet read.
pub(super) struct Stored {
    pub(super) element: Element,
    pub(super) layout: Layout,
    pub(super) values: Values,
}

/// Where the bytes of a tensor are.
pub(super) enum Values {
    Storage(Storage),
    /// In the pickle itself.
    Inside(Id),
}

/// A storage as a pickle refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) key: String,
    /// Bytes of the whole storage.
    pub(super) bytes: u64,
    /// Bytes of an element, by which old files count.
    pub(super) element_size: u64,
}

/// What PyTorch's storage classes hold, without the ending `Storage`, and the bytes of an element.
const STORAGES: [(&str, Option<Element>, u64); 18] = [
    ("Half", Some(Element::Float16), 2),
    ("BFloat16", Some(Element::BFloat16), 2),
    ("Float", Some(Element::Float32), 4),
    ("Double", Some(Element::Float64), 8),
    ("Long", Some(Element::Int64), 8),
    ("Int", Some(Element::Int32), 4),
    ("Short", Some(Element::Int16), 2),
    ("Char", Some(Element::Int8), 1),
    ("Byte", Some(Element::UInt8), 1),
    ("Bool", Some(Element::Bool), 1),
    ("Untyped", None, 1),
    ("ComplexFloat", None, 8),
    ("ComplexDouble", None, 16),
    ("QInt8", None, 1),
    ("QUInt8", None, 1),
    ("QInt32", None, 4),
    ("QUInt4x2", None, 1),
    ("QUInt2x4", None, 1),
];

/// Longest name of a tensor or storage that is believed.
const MAX_NAME: usize = 1024;

fn entry(what: impl Into<String>, mend: &'static str) -> Error {
    Error::Unsupported { found: what.into(), mend }
}

const SAVE_AGAIN: &str = "fetch the file again, or save it again with torch.save";

impl<'a> Tree<'a> {
    /// Module and name of a function or class.
    pub(super) fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.value(id) {
            Value::Global { module, name } => {
                Some((globals::modern(self.text(*module)?), self.text(*name)?))
            }
            _ => None,
        }
    }

    fn global_name(&self, id: Id) -> Option<String> {
        self.global(id).map(|(module, name)| one_line(&format!("{module}.{name}")))
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            // The strings of Python 2.
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn count(&self, id: Id) -> Option<u64> {
        match self.value(id) {
            Value::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    fn object(&self, id: Id) -> Option<&Object> {
        match self.value(id) {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// A call of a function that is known by its name: module, name, arguments.
    fn call(&self, id: Id) -> Option<(&str, &str, &[Id])> {
        let object = self.object(id)?;
        let (module, name) = self.global(object.callee)?;
        Some((module, name, self.tuple(object.arguments).unwrap_or(&[])))
    }

    /// The members of a tuple, a list or a torch.Size.
    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            Value::Object(object) if self.global(object.callee) == Some(("torch", "Size")) => {
                match self.value(object.arguments) {
                    Value::Tuple(arguments) => match self.value(*arguments.first()?) {
                        Value::Tuple(items) => Some(items),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn counts(&self, id: Id) -> Option<Vec<u64>> {
        self.tuple(id)?.iter().map(|id| self.count(*id)).collect()
    }

    /// The entries of a mapping, in their order.
    pub(super) fn mapping(&self, id: Id) -> Option<Cow<'_, [(Id, Id)]>> {
        if let Value::Dict(items) = self.value(id) {
            return Some(Cow::Borrowed(items));
        }
        let object = self.object(id)?;
        match self.global(object.callee)? {
            ("collections", "OrderedDict") if object.items.is_empty() => {
                // Python 2 hands the entries over as a list of pairs.
                let arguments = self.tuple(object.arguments)?;
                let Some(pairs) = arguments.first().and_then(|list| self.tuple(*list)) else {
                    return Some(Cow::Borrowed(&[]));
                };
                let pair = |id: &Id| match self.tuple(*id)? {
                    [key, value] => Some((*key, *value)),
                    _ => None,
                };
                pairs.iter().map(pair).collect::<Option<Vec<_>>>().map(Cow::Owned)
            }
            (
                "collections" | "builtins" | "pytorch_lightning.utilities.parsing",
                "OrderedDict" | "defaultdict" | "dict" | "AttributeDict",
            ) => Some(Cow::Borrowed(&object.items)),
            _ => None,
        }
    }

    /// The class of an object that was pickled whole.
    pub(super) fn class(&self, id: Id) -> Option<String> {
        let object = self.object(id)?;
        // Files before PyTorch 1.6 refer to a network's class as to a storage: ("module", class, file, source).
        if let Value::Persistent(to) = self.value(object.callee)
            && let Some([kind, class, ..]) = self.tuple(*to)
            && self.text(*kind) == Some("module")
        {
            return self.global_name(*class);
        }
        let (module, name) = self.global(object.callee)?;
        if (module, name) == ("copyreg", "_reconstructor") {
            return self.global_name(*self.tuple(object.arguments)?.first()?);
        }
        (object.instance && globals::verdict(module, name) != Verdict::Harmless)
            .then(|| self.global_name(object.callee))?
    }

    /// Refuses a pickle that names anything outside of [`globals::verdict`]'s list. What would be called comes first, a network that was
    /// pickled whole next, then a mere name.
    ///
    /// # Errors
    /// [`Error::Calls`], [`Error::WholeNetwork`], [`Error::Object`].
    pub(super) fn refuse_unknown(&self) -> Result<()> {
        let unknown = |id: Id| {
            let (module, name) = self.global(id)?;
            let verdict = globals::verdict(module, name);
            (verdict != Verdict::Harmless).then_some(verdict)
        };
        let (mut network, mut object) = (None, None);
        for (id, value) in self.values.iter().enumerate() {
            match value {
                Value::Object(called)
                    if !called.instance && unknown(called.callee) == Some(Verdict::Unknown) =>
                {
                    let function = self.global_name(called.callee).unwrap_or_default();
                    return Err(Error::Calls { function });
                }
                Value::Global { .. } => match unknown(id as Id) {
                    Some(Verdict::Network) => network = network.or(Some(id as Id)),
                    Some(_) => object = object.or(Some(id as Id)),
                    None => {}
                },
                _ => {}
            }
        }
        if let Some(class) = self.class(self.root) {
            return Err(Error::WholeNetwork { class });
        }
        let name = |id| self.global_name(id).unwrap_or_default();
        match (network, object) {
            (Some(id), _) => Err(Error::WholeNetwork { class: name(id) }),
            (_, Some(id)) => Err(Error::Object { class: name(id) }),
            _ => Ok(()),
        }
    }

    /// The storage that a persistent id refers to, its element type, and the first element of the view of it that is meant.
    pub(super) fn storage(&self, id: Id) -> Option<(Storage, Option<Element>, u64)> {
        let Value::Persistent(to) = self.value(id) else { return None };
        let [kind, class, key, _device, len, view @ ..] = self.tuple(*to)? else { return None };
        let (module, class) = self.global(*class)?;
        let class = class.strip_suffix("Storage").filter(|_| module.starts_with("torch"))?;
        let (_, element, size) = STORAGES.iter().find(|(name, _, _)| *name == class)?;
        let key = self.text(*key).filter(|key| key.len() <= MAX_NAME)?;
        if self.text(*kind) != Some("storage") {
            return None;
        }
        let offset = match view.first().map(|view| self.value(*view)) {
            Some(Value::Tuple(view)) => self.count(*view.get(1)?)?,
            _ => 0,
        };
        let bytes = self.count(*len)?.checked_mul(*size)?;
        Some((Storage { key: key.to_owned(), bytes, element_size: *size }, *element, offset))
    }

    /// What stands where a tensor may stand under the name `key`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a tensor that is malformed or of a type that is not read.
    pub(super) fn leaf(&self, key: &str, mut id: Id) -> Result<Leaf> {
        // A parameter is a tensor in a wrapping; more than a few around each other are nobody's.
        for _ in 0..4 {
            let Some((module, name, arguments)) = self.call(id) else {
                return Ok(self.class(id).map_or(Leaf::Other, Leaf::Opaque));
            };
            match (module, name) {
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                    let Some(data) = arguments.first() else { break };
                    id = *data;
                }
                ("torch._utils", _) => return self.tensor(key, name, arguments),
                ("torch._tensor", "_rebuild_from_type_v2") => {
                    let [function, _class, arguments, ..] = arguments else { break };
                    return match (self.global(*function), self.tuple(*arguments)) {
                        (Some(("torch._utils", name)), Some(arguments)) => {
                            self.tensor(key, name, arguments)
                        }
                        _ => Ok(Leaf::Opaque(format!("{module}.{name}"))),
                    };
                }
                ("numpy.core.multiarray" | "numpy._core.multiarray", _)
                | ("numpy.core.numeric" | "numpy._core.numeric", _) => {
                    return self.array(key, id, name, arguments);
                }
                _ => return Ok(self.class(id).map_or(Leaf::Other, Leaf::Opaque)),
            }
        }
        Err(entry(format!("{key} is a malformed parameter"), SAVE_AGAIN))
    }

    fn tensor(&self, key: &str, function: &str, arguments: &[Id]) -> Result<Leaf> {
        let malformed = || entry(format!("{key} is a malformed tensor"), SAVE_AGAIN);
        let [storage, offset, shape, strides, rest @ ..] = arguments else {
            return Ok(Leaf::Opaque(format!("torch._utils.{function}")));
        };
        let named = match (function, rest) {
            ("_rebuild_tensor" | "_rebuild_tensor_v2", _) => None,
            ("_rebuild_tensor_v3", [_grad, _hooks, dtype, ..]) => Some(*dtype),
            _ => return Ok(Leaf::Opaque(format!("torch._utils.{function}"))),
        };
        let (storage, element, view) = self.storage(*storage).ok_or_else(malformed)?;
        let unknown = |name: &str| {
            entry(
                format!("{key} is of type {}; floats and integers are read", one_line(name)),
                "save it as float32",
            )
        };
        let element = match named.map(|dtype| self.global(dtype)) {
            None => element.ok_or_else(|| unknown("that PyTorch stores untyped"))?,
            Some(Some(("torch", name))) => Element::from_name(name).ok_or_else(|| unknown(name))?,
            Some(_) => return Err(malformed()),
        };
        let offset = self.count(*offset).and_then(|offset| offset.checked_add(view));
        let (Some(offset), Some(shape), Some(strides)) =
            (offset, self.counts(*shape), self.counts(*strides))
        else {
            return Err(entry(format!("{key} has a negative size, stride or offset"), SAVE_AGAIN));
        };
        let layout = Layout { offset, shape, strides };
        Ok(Leaf::Tensor(Stored { element, layout, values: Values::Storage(storage) }))
    }

    /// An array or a number of NumPy.
    fn array(&self, key: &str, id: Id, function: &str, arguments: &[Id]) -> Result<Leaf> {
        let malformed = || entry(format!("{key} is a malformed NumPy array"), SAVE_AGAIN);
        let (dtype, shape, fortran, values) = match (function, arguments) {
            ("scalar", [dtype, values]) => (*dtype, Vec::new(), false, *values),
            ("_frombuffer", [values, dtype, shape, order]) => {
                let shape = self.counts(*shape).ok_or_else(malformed)?;
                (*dtype, shape, self.text(*order) == Some("F"), *values)
            }
            ("_reconstruct", _) => {
                let state = self.object(id).and_then(|object| object.state);
                let state = state.and_then(|state| self.tuple(state));
                let Some([_version, shape, dtype, fortran, values]) = state else {
                    return Err(malformed());
                };
                let shape = self.counts(*shape).ok_or_else(malformed)?;
                (*dtype, shape, matches!(self.value(*fortran), Value::Bool(true)), *values)
            }
            _ => return Err(malformed()),
        };
        let element = self.dtype(key, dtype)?;
        let layout = if fortran { Layout::column_major(shape) } else { Layout::row_major(shape) };
        Ok(Leaf::Tensor(Stored { element, layout, values: Values::Inside(values) }))
    }

    fn dtype(&self, key: &str, id: Id) -> Result<Element> {
        let Some(("numpy", "dtype", [name, ..])) = self.call(id) else {
            return Err(entry(format!("{key} is a malformed NumPy array"), SAVE_AGAIN));
        };
        let name = self.text(*name).unwrap_or("");
        let state = self.object(id).and_then(|object| self.tuple(object.state?));
        let order = state.and_then(|state| self.text(*state.get(1)?));
        if order == Some(">") {
            let found = format!("{key} is a big-endian NumPy array");
            return Err(entry(found, "save it in little-endian order, by its astype('<f4')"));
        }
        Ok(match name {
            "f2" => Element::Float16,
            "f4" => Element::Float32,
            "f8" => Element::Float64,
            "i8" => Element::Int64,
            "i4" => Element::Int32,
            "i2" => Element::Int16,
            "i1" => Element::Int8,
            "u1" => Element::UInt8,
            "b1" => Element::Bool,
            other => {
                let found = format!("{key} is a NumPy array of type {}", one_line(other));
                return Err(entry(found, "save it as float32"));
            }
        })
    }

    /// The `len` bytes of an array inside the pickle. Protocols below 3 write them as a text in Latin-1.
    pub(super) fn bytes(&self, id: Id, len: u64) -> Option<Cow<'a, [u8]>> {
        let bytes = match self.value(id) {
            Value::Bytes(bytes) => Cow::Borrowed(*bytes),
            _ => match self.call(id)? {
                ("_codecs", "encode", [text, ..]) => {
                    // At most two bytes of UTF-8 to a character of Latin-1: nothing longer is worth a look.
                    let text = self.text(*text).filter(|text| text.len() as u64 <= 2 * len)?;
                    let byte = |c| u8::try_from(u32::from(c)).ok();
                    Cow::Owned(text.chars().map(byte).collect::<Option<Vec<u8>>>()?)
                }
                // Python 3 writes empty bytes as a call without arguments.
                ("builtins", "bytes", []) => Cow::Borrowed(&[][..]),
                _ => return None,
            },
        };
        (bytes.len() as u64 == len).then_some(bytes)
    }

    /// Whether a value is a tensor or an array, whatever may be wrong with it.
    pub(super) fn is_tensor(&self, id: Id) -> bool {
        let Some((module, name, _)) = self.call(id) else { return false };
        match module {
            "torch._utils" | "torch._tensor" => true,
            "numpy.core.multiarray" | "numpy._core.multiarray" => name != "scalar",
            "numpy.core.numeric" | "numpy._core.numeric" => true,
            _ => false,
        }
    }
}

/// Whether a name is short enough to be one.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
}
