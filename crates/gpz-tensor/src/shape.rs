//! Shapes and strides: small, copied by value, never on the heap.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::{Error, Result};

/// Most axes a tensor can have.
pub const MAX_RANK: usize = 6;

/// Extents (or strides, in elements) of up to [`MAX_RANK`] axes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dims {
    values: [usize; MAX_RANK],
    rank: u8,
}

impl Dims {
    /// Takes the values of a slice.
    ///
    /// # Errors
    /// [`Error::Shape`] for more than [`MAX_RANK`] axes, or extents whose product does not fit the address space.
    pub fn new(dims: &[usize]) -> Result<Self> {
        let fits = dims.len() <= MAX_RANK
            && dims
                .iter()
                .try_fold(1usize, |acc, &d| acc.checked_mul(d.max(1)))
                .is_some_and(|n| n <= isize::MAX as usize / 8);
        if !fits {
            return Err(Error::shape("shape", dims, "at most 6 axes that fit in memory"));
        }
        Ok(Self::from_short(dims))
    }

    /// For slices that come from a valid tensor.
    pub(crate) fn from_short(dims: &[usize]) -> Self {
        let mut values = [0; MAX_RANK];
        values[..dims.len()].copy_from_slice(dims);
        Dims { values, rank: dims.len() as u8 }
    }

    /// Number of elements of a tensor of this shape.
    pub fn numel(&self) -> usize {
        self.iter().product()
    }

    /// Row-major strides of this shape: the last axis is adjacent in memory.
    pub(crate) fn row_major(&self) -> Self {
        let mut strides = *self;
        let mut step = 1;
        for axis in (0..self.len()).rev() {
            strides[axis] = step;
            step *= self[axis].max(1);
        }
        strides
    }

    /// Channels-last strides of an `[n, c, h, w]` shape: the channel axis is adjacent in memory.
    pub(crate) fn channels_last(&self) -> Self {
        debug_assert_eq!(self.len(), 4);
        let (c, h, w) = (self[1].max(1), self[2].max(1), self[3].max(1));
        Self::from_short(&[c * h * w, 1, w * c, c])
    }

    /// The same values without one axis.
    pub(crate) fn without(&self, axis: usize) -> Self {
        let mut out = Dims { values: [0; MAX_RANK], rank: 0 };
        for (i, &v) in self.iter().enumerate() {
            if i != axis {
                out.push(v);
            }
        }
        out
    }

    pub(crate) fn push(&mut self, value: usize) {
        self.values[self.rank as usize] = value;
        self.rank += 1;
    }

    pub(crate) fn insert(&mut self, axis: usize, value: usize) {
        self.rank += 1;
        self.values[axis..self.rank as usize].rotate_right(1);
        self.values[axis] = value;
    }
}

impl Deref for Dims {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.values[..self.rank as usize]
    }
}

impl DerefMut for Dims {
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.values[..self.rank as usize]
    }
}

impl fmt::Debug for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Shape two operands broadcast to: axes are aligned at the right, an extent of one stretches.
///
/// # Errors
/// [`Error::ShapeMismatch`] names both shapes.
pub fn broadcast_shape(op: &'static str, lhs: &[usize], rhs: &[usize]) -> Result<Dims> {
    let rank = lhs.len().max(rhs.len());
    let too_large = || Error::mismatch(op, lhs, rhs, "at most 6 axes that fit in memory");
    if rank > MAX_RANK {
        return Err(too_large());
    }
    let at =
        |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let mut out = Dims::from_short(&[1; MAX_RANK][..rank]);
    for axis in 0..rank {
        out[axis] = match (at(lhs, axis), at(rhs, axis)) {
            (a, b) if a == b => a,
            (1, b) => b,
            (a, 1) => a,
            _ => {
                return Err(Error::mismatch(
                    op,
                    lhs,
                    rhs,
                    "aligned at the right, extents must be equal or one of them 1",
                ));
            }
        };
    }
    Dims::new(&out).map_err(|_| too_large())
}
