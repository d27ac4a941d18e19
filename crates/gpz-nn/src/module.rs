//! Modules: what holds parameters under names, as PyTorch's state dictionaries do.

use std::sync::atomic::{AtomicU64, Ordering};

use gpz_tensor::{Device, Tensor};

use crate::error::Result;
use crate::tape::Step;

/// Identity of an entry, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId(u64);

/// What an entry is to training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Learnt by gradients.
    Parameter,
    /// A running statistic.
    Buffer,
    /// A count of batches; saved as a 64-bit integer of rank 0.
    Counter,
    /// What files hold and no pass uses: kept as it came, and missed by nobody.
    Unused,
}

/// One named tensor of a module.
#[derive(Debug)]
pub struct Entry {
    id: EntryId,
    kind: Kind,
    value: Tensor,
    /// Of an entry that nobody uses: whether nothing has filled it.
    vacant: bool,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Entry {
    /// A tensor learnt by gradients.
    pub fn parameter(value: Tensor) -> Self {
        Self::new(Kind::Parameter, value)
    }

    /// A running statistic.
    pub fn buffer(value: Tensor) -> Self {
        Self::new(Kind::Buffer, value)
    }

    /// A count of batches, starting at 0.
    pub fn counter() -> Self {
        Self::new(Kind::Counter, Tensor::scalar(0.0, gpz_tensor::DType::F64))
    }

    /// What files hold and no pass uses. It takes no memory before it is filled.
    ///
    /// # Errors
    /// A shape of more elements than can be counted.
    pub fn unused(shape: &[usize]) -> Result<Self> {
        let zero = Tensor::scalar(0.0, gpz_tensor::DType::F32);
        Ok(Entry { vacant: true, ..Self::new(Kind::Unused, zero.broadcast_to(shape)?) })
    }

    /// Whether this is an unused entry that nothing has filled: left out of files.
    pub fn is_vacant(&self) -> bool {
        self.vacant
    }

    fn new(kind: Kind, value: Tensor) -> Self {
        Entry { id: EntryId(NEXT_ID.fetch_add(1, Ordering::Relaxed)), kind, value, vacant: false }
    }

    /// Identity, the same for the entry's whole life.
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// What the entry is to training.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The tensor, to be changed in place.
    pub fn value_mut(&mut self) -> &mut Tensor {
        self.vacant = false;
        &mut self.value
    }
}

/// Something that holds entries: a layer, a network, a list of them.
pub trait Module {
    /// Calls `f` with the name and value of each entry, in the order of definition.
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry));

    /// Calls `f` with the name and value of each entry, to be changed, in the order of definition.
    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry));

    /// All entries with their names.
    fn entries(&self) -> Vec<(String, &Entry)> {
        let mut entries = Vec::new();
        self.visit("", &mut |name, entry| entries.push((name, entry)));
        entries
    }

    /// All entries with their names, to be changed.
    fn entries_mut(&mut self) -> Vec<(String, &mut Entry)> {
        let mut entries = Vec::new();
        self.visit_mut("", &mut |name, entry| entries.push((name, entry)));
        entries
    }

    /// Number of learnt values.
    fn parameter_count(&self) -> usize {
        let mut count = 0;
        self.visit("", &mut |_, entry| {
            if entry.kind() == Kind::Parameter {
                count += entry.value().numel();
            }
        });
        count
    }

    /// Takes over the running statistics of a training step.
    fn apply_updates(&mut self, step: &Step) {
        self.visit_mut("", &mut |_, entry| {
            if let Some(value) = step.update(entry) {
                entry.value = value.clone();
            }
        });
    }

    /// Converts every parameter and statistic to a dtype.
    ///
    /// # Errors
    /// `f64` on a CUDA device; some are converted then, and others not.
    fn convert(&mut self, dtype: gpz_tensor::DType) -> Result<()> {
        self.change(&mut |value| value.to_dtype(dtype))
    }

    /// Moves every parameter and statistic to a device. Kernels of convolutions lie there as its library wants them.
    ///
    /// # Errors
    /// No memory on the device, or a dtype it does not compute in; some are moved then, and others not.
    fn to_device(&mut self, device: &Device) -> Result<()> {
        self.change(&mut |value| placed(value, device))
    }

    /// The device of its parameters; the processor if there are none.
    fn device(&self) -> Device {
        let entries = self.entries();
        let mut parameters = entries.iter().filter(|(_, entry)| entry.kind() == Kind::Parameter);
        parameters.next().map_or(Device::Cpu, |(_, entry)| entry.value().device())
    }

    /// Puts another tensor in place of every parameter and statistic.
    ///
    /// # Errors
    /// The first that `f` fails with.
    fn change(&mut self, f: &mut dyn FnMut(&Tensor) -> gpz_tensor::Result<Tensor>) -> Result<()> {
        let mut result = Ok(());
        self.visit_mut("", &mut |_, entry| {
            if !matches!(entry.kind, Kind::Counter | Kind::Unused) && result.is_ok() {
                result = f(&entry.value).map(|value| entry.value = value);
            }
        });
        Ok(result?)
    }
}

/// A tensor on a device; a kernel of a convolution in the order in which a CUDA device's library wants it, and gives its gradient.
pub(crate) fn placed(value: &Tensor, device: &Device) -> gpz_tensor::Result<Tensor> {
    let moved = value.to_device(device)?;
    if value.rank() == 4 && *device != Device::Cpu { moved.channels_last() } else { Ok(moved) }
}

/// `prefix.name`, or one of them if the other is empty.
pub fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}

impl Module for Entry {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry)) {
        f(prefix.to_owned(), self);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry)) {
        f(prefix.to_owned(), self);
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry)) {
        (**self).visit(prefix, f);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry)) {
        (**self).visit_mut(prefix, f);
    }
}

impl<M: Module> Module for Option<M> {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry)) {
        if let Some(module) = self {
            module.visit(prefix, f);
        }
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry)) {
        if let Some(module) = self {
            module.visit_mut(prefix, f);
        }
    }
}

impl<M: Module> Module for Vec<M> {
    fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a Entry)) {
        for (i, module) in self.iter().enumerate() {
            module.visit(&join(prefix, &i.to_string()), f);
        }
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, f: &mut dyn FnMut(String, &'a mut Entry)) {
        for (i, module) in self.iter_mut().enumerate() {
            module.visit_mut(&join(prefix, &i.to_string()), f);
        }
    }
}

/// Implements [`Module`] for a struct: `module!(Block { "0" => conv, "1" => norm });`
///
/// The names are those of PyTorch's state dictionaries; an empty name passes the field's own names on.
#[macro_export]
macro_rules! module {
    ($type:ty { $($name:expr => $field:tt),* $(,)? }) => {
        impl $crate::Module for $type {
            fn visit<'a>(&'a self, prefix: &str, f: &mut dyn FnMut(String, &'a $crate::Entry)) {
                $($crate::Module::visit(&self.$field, &$crate::join(prefix, $name), f);)*
            }

            fn visit_mut<'a>(
                &'a mut self,
                prefix: &str,
                f: &mut dyn FnMut(String, &'a mut $crate::Entry),
            ) {
                $($crate::Module::visit_mut(&mut self.$field, &$crate::join(prefix, $name), f);)*
            }
        }
    };
}
