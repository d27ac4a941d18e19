//! The element types a tensor computes in.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32, the type networks are trained in.
    F32,
    /// IEEE 754 binary64, the type gradients and parity are checked in.
    F64,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F64 => 8,
        }
    }

    /// Name as written in messages and files: `f32`, `f64`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
        }
    }
}

impl Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A floating point type the kernels are written for: `f32` and `f64`, no other.
pub trait Element:
    bytemuck::Pod
    + Debug
    + Display
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + crate::simd::SimdElement
    + sealed::Sealed
    + 'static
{
    /// The type's name at run time.
    const DTYPE: DType;
    /// Additive identity.
    const ZERO: Self;
    /// Multiplicative identity.
    const ONE: Self;
    /// Negative infinity, the identity of `max`.
    const NEG_INFINITY: Self;

    /// Nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// Exact for both types.
    fn to_f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Natural exponential.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Distribution function and density of the standard normal distribution.
    fn normal(self) -> (Self, Self);
    /// Whether the value is neither infinite nor NaN.
    fn is_finite(self) -> bool;
}

mod sealed {
    use std::sync::Arc;

    use crate::buffer::Buffer;
    use crate::tensor::Storage;

    /// Keeps the set of element types closed, and leads from a type to the storage that holds it.
    pub trait Sealed: Sized {
        fn wrap(buffer: Arc<Buffer<Self>>) -> Storage;
        fn buffer(storage: &Storage) -> Option<&Buffer<Self>>;
        fn buffer_mut(storage: &mut Storage) -> Option<&mut Arc<Buffer<Self>>>;
    }

    macro_rules! sealed {
        ($t:ty, $variant:ident) => {
            impl Sealed for $t {
                fn wrap(buffer: Arc<Buffer<Self>>) -> Storage {
                    Storage::$variant(buffer)
                }
                fn buffer(storage: &Storage) -> Option<&Buffer<Self>> {
                    if let Storage::$variant(buffer) = storage { Some(buffer) } else { None }
                }
                fn buffer_mut(storage: &mut Storage) -> Option<&mut Arc<Buffer<Self>>> {
                    if let Storage::$variant(buffer) = storage { Some(buffer) } else { None }
                }
            }
        };
    }

    sealed!(f32, F32);
    sealed!(f64, F64);
}

macro_rules! element {
    ($t:ty, $dtype:ident, $exp:path, $tanh:path, $normal:path) => {
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = <$t>::NEG_INFINITY;

            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                self.ln()
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn normal(self) -> (Self, Self) {
                $normal(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }
        }
    };
}

element!(f32, F32, crate::cpu::math::exp, crate::cpu::math::tanh, crate::cpu::math::normal);
element!(f64, F64, libm::exp, libm::tanh, crate::cpu::math::normal_f64);
