//! Element types of files, and how their bytes become a [`Tensor`].

use gpz_tensor::{MAX_RANK, Tensor};
use half::{bf16, f16};

use crate::error::Result;

/// What a file stores the values of a tensor as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Element {
    /// 16 bit float.
    Float16,
    /// 16 bit float with the exponent of a 32 bit one.
    BFloat16,
    /// 32 bit float.
    Float32,
    /// 64 bit float.
    Float64,
    /// 64 bit integer.
    Int64,
    /// 32 bit integer.
    Int32,
    /// 16 bit integer.
    Int16,
    /// 8 bit integer.
    Int8,
    /// 8 bit integer without a sign.
    UInt8,
    /// A truth value in a byte.
    Bool,
}

impl Element {
    /// Every type, with PyTorch's name.
    const NAMES: [(Element, &'static str); 10] = [
        (Element::Float16, "float16"),
        (Element::BFloat16, "bfloat16"),
        (Element::Float32, "float32"),
        (Element::Float64, "float64"),
        (Element::Int64, "int64"),
        (Element::Int32, "int32"),
        (Element::Int16, "int16"),
        (Element::Int8, "int8"),
        (Element::UInt8, "uint8"),
        (Element::Bool, "bool"),
    ];

    /// PyTorch's name, such as `float16`.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(element, _)| *element == self).map_or("", |(_, name)| name)
    }

    /// The type of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(element, _)| *element)
    }

    /// Bytes of a value.
    pub(super) fn size(self) -> usize {
        match self {
            Element::Float64 | Element::Int64 => 8,
            Element::Float32 | Element::Int32 => 4,
            Element::Float16 | Element::BFloat16 | Element::Int16 => 2,
            Element::Int8 | Element::UInt8 | Element::Bool => 1,
        }
    }

    /// Bytes of a value once it is read: f64 where f32 does not hold every value.
    pub(super) fn decoded_size(self) -> usize {
        if matches!(self, Element::Float64 | Element::Int64 | Element::Int32) { 8 } else { 4 }
    }

    /// Whether it is a float.
    pub(super) fn is_float(self) -> bool {
        use Element::{BFloat16, Float16, Float32, Float64};
        matches!(self, Float16 | BFloat16 | Float32 | Float64)
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the values of a tensor lie in its storage, counted in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    /// One for each axis; within the storage and without overlap once [`Layout::check`] passed.
    pub(super) strides: Vec<u64>,
}

impl Layout {
    /// Row-major from the storage's start.
    pub(super) fn row_major(shape: Vec<u64>) -> Self {
        let mut strides = vec![1u64; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
        }
        Layout { offset: 0, shape, strides }
    }

    /// Column-major from the storage's start: NumPy's Fortran order.
    pub(super) fn column_major(shape: Vec<u64>) -> Self {
        let mut layout = Self::row_major(shape.into_iter().rev().collect());
        layout.shape.reverse();
        layout.strides.reverse();
        layout
    }

    /// Number of values, if this machine can count them.
    pub(super) fn numel(&self) -> Option<u64> {
        // Sizes beside an empty axis have to be countable too.
        let whole = self.shape.iter().try_fold(1u64, |n, size| n.checked_mul((*size).max(1)))?;
        let countable = whole <= isize::MAX as u64 / 8;
        countable.then(|| if self.shape.contains(&0) { 0 } else { whole })
    }

    /// Why a storage of `len` elements cannot hold the tensor, if it cannot.
    ///
    /// Two values of the tensor have no element in common, so it is no larger than its storage.
    pub(super) fn check(&self, len: u64) -> Result<(), String> {
        let Layout { offset, shape, strides } = self;
        if shape.len() != strides.len() {
            return Err(format!("has {} sizes and {} strides", shape.len(), strides.len()));
        }
        if shape.len() > MAX_RANK {
            return Err(format!("has {} axes; {MAX_RANK} at most are read", shape.len()));
        }
        let Some(numel) = self.numel() else {
            return Err(format!("has the impossible shape {shape:?}"));
        };
        let mut axes: Vec<(u64, u64)> =
            shape.iter().zip(strides).filter(|(n, _)| **n > 1).map(|(n, s)| (*s, *n)).collect();
        axes.sort_unstable();
        // Elements from the first to the last value along the axes so far, both counted.
        let mut span = 1u128;
        for (stride, size) in axes {
            if numel > 0 && u128::from(stride) < span {
                return Err(format!(
                    "of shape {shape:?} overlaps itself by its strides {strides:?}"
                ));
            }
            span += u128::from(stride) * u128::from(size - 1);
        }
        if numel > 0 && u128::from(*offset) + span > u128::from(len) {
            return Err(format!(
                "of shape {shape:?}, strides {strides:?} from {offset} reaches beyond its storage of {len} values"
            ));
        }
        Ok(())
    }

    fn is_row_major(&self) -> bool {
        let dense = Self::row_major(self.shape.clone());
        let mut axes = self.shape.iter().zip(self.strides.iter().zip(&dense.strides));
        axes.all(|(size, (stride, dense))| *size <= 1 || stride == dense)
    }

    /// Hands the place of each value to `f`, row-major.
    fn each(&self, mut f: impl FnMut(usize)) {
        let mut index = vec![0u64; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..self.numel().unwrap_or(0) {
            f(at as usize);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
    }

    /// The tensor in a storage: floats of 32 and 64 bits as they are, shorter floats and integers as f32, longer integers as f64.
    ///
    /// # Errors
    /// None for a layout that passed [`Layout::check`] with the storage's length.
    pub(super) fn read(&self, element: Element, storage: &[u8]) -> Result<Tensor> {
        if cfg!(target_endian = "little") && self.is_row_major() && self.numel() > Some(0) {
            // Large weights lie in their file as they do in memory: no copy between is needed.
            match element {
                Element::Float32 => {
                    if let Ok(values) = bytemuck::try_cast_slice::<u8, f32>(storage) {
                        return self.slice(values);
                    }
                }
                Element::Float64 => {
                    if let Ok(values) = bytemuck::try_cast_slice::<u8, f64>(storage) {
                        return self.slice(values);
                    }
                }
                _ => {}
            }
        }
        match element {
            Element::Float32 => self.values(storage, f32::from_le_bytes),
            Element::Float64 => self.values(storage, f64::from_le_bytes),
            Element::Float16 => self.values(storage, |b| f16::from_le_bytes(b).to_f32()),
            Element::BFloat16 => self.values(storage, |b| bf16::from_le_bytes(b).to_f32()),
            Element::Int64 => self.values(storage, |b| i64::from_le_bytes(b) as f64),
            Element::Int32 => self.values(storage, |b| f64::from(i32::from_le_bytes(b))),
            Element::Int16 => self.values(storage, |b| f32::from(i16::from_le_bytes(b))),
            Element::Int8 => self.values(storage, |[b]| f32::from(b as i8)),
            Element::UInt8 => self.values(storage, |[b]| f32::from(b)),
            Element::Bool => self.values(storage, |[b]| f32::from(u8::from(b != 0))),
        }
    }

    fn extents(&self) -> Vec<usize> {
        self.shape.iter().map(|size| *size as usize).collect()
    }

    fn slice<T: gpz_tensor::Element>(&self, values: &[T]) -> Result<Tensor> {
        let numel = self.numel().unwrap_or(0) as usize;
        Ok(Tensor::from_slice(&values[self.offset as usize..][..numel], &self.extents())?)
    }

    fn values<const N: usize, T: gpz_tensor::Element>(
        &self,
        storage: &[u8],
        f: impl Fn([u8; N]) -> T,
    ) -> Result<Tensor> {
        let shape = self.extents();
        let numel = self.numel().unwrap_or(0) as usize;
        let chunks = storage.as_chunks::<N>().0;
        if numel > 0 && self.is_row_major() {
            let chunks = &chunks[self.offset as usize..][..numel];
            let values: Vec<T> = chunks.iter().map(|chunk| f(*chunk)).collect();
            return Ok(Tensor::from_slice(&values, &shape)?);
        }
        let mut values = Vec::with_capacity(numel);
        self.each(|at| values.push(f(chunks[at])));
        Ok(Tensor::from_slice(&values, &shape)?)
    }
}
