//! Arrays in f64 with nothing but loops, to hold the tensors against, and the same values in every memory layout.

#![allow(dead_code)] // each test file uses its part

use std::fmt;
use std::sync::OnceLock;

use gpz_tensor::{DType, Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Where, and in which dtype, a test computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Cpu(DType),
    /// The simulated CUDA device; a real one if the environment has `GPZ_TEST_CUDA=real`.
    Cuda,
}

/// Every place, with the relative error that results may have there.
pub(crate) const PLACES: [(Place, f64); 3] =
    [(Place::Cpu(DType::F64), 1e-12), (Place::Cpu(DType::F32), 2e-6), (Place::Cuda, 2e-6)];

impl From<DType> for Place {
    fn from(dtype: DType) -> Self {
        Place::Cpu(dtype)
    }
}

impl Place {
    pub(crate) fn dtype(self) -> DType {
        match self {
            Place::Cpu(dtype) => dtype,
            Place::Cuda => DType::F32,
        }
    }

    pub(crate) fn device(self) -> Device {
        match self {
            Place::Cpu(_) => Device::Cpu,
            Place::Cuda => cuda(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu(dtype) => write!(f, "{dtype}"),
            Place::Cuda => f.write_str("cuda"),
        }
    }
}

/// One device for all tests of a process.
pub(crate) fn cuda() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(gpz_cuda_sim::device_of_tests).clone()
}

/// Numbers of a test's own seed, and others for each `GPZ_TEST_SEED`.
pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    let drawn = gpz_cuda_sim::seed_of_tests().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ChaCha8Rng::seed_from_u64(seed ^ drawn)
}

/// A row-major array.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

impl Array {
    pub(crate) fn new(shape: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(data.len(), shape.iter().product::<usize>());
        Array { shape: shape.to_vec(), data }
    }

    /// Uniform in a range, rounded to f32 so that both dtypes hold the same numbers.
    pub(crate) fn uniform(
        rng: &mut ChaCha8Rng,
        shape: &[usize],
        range: std::ops::Range<f64>,
    ) -> Self {
        let count = shape.iter().product();
        let data = (0..count).map(|_| f64::from(rng.random_range(range.clone()) as f32)).collect();
        Array::new(shape, data)
    }

    /// Element `i` is `f(i)`, its index.
    pub(crate) fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Self {
        let mut index = vec![0; shape.len()];
        let count = shape.iter().product();
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            data.push(f(&index));
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Array::new(shape, data)
    }

    pub(crate) fn at(&self, index: &[usize]) -> f64 {
        assert_eq!(index.len(), self.shape.len());
        let flat = index.iter().zip(&self.shape).fold(0, |flat, (i, extent)| {
            assert!(i < extent);
            flat * extent + i
        });
        self.data[flat]
    }

    /// The element an index of a larger shape refers to, if this array is stretched to it.
    pub(crate) fn at_stretched(&self, index: &[usize]) -> f64 {
        let own = &index[index.len() - self.shape.len()..];
        let own: Vec<usize> = own
            .iter()
            .zip(&self.shape)
            .map(|(&i, &extent)| if extent == 1 { 0 } else { i })
            .collect();
        self.at(&own)
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Array::new(&self.shape, self.data.iter().map(|&v| f(v)).collect())
    }

    pub(crate) fn permuted(&self, axes: &[usize]) -> Self {
        let shape: Vec<usize> = axes.iter().map(|&a| self.shape[a]).collect();
        Array::from_fn(&shape, |index| {
            let mut own = vec![0; index.len()];
            for (i, &axis) in axes.iter().enumerate() {
                own[axis] = index[i];
            }
            self.at(&own)
        })
    }

    pub(crate) fn narrowed(&self, axis: usize, start: usize, len: usize) -> Self {
        let mut shape = self.shape.clone();
        shape[axis] = len;
        Array::from_fn(&shape, |index| {
            let mut own = index.to_vec();
            own[axis] += start;
            self.at(&own)
        })
    }

    /// What `fold` makes of the elements along the axes, which the result no longer has.
    pub(crate) fn reduced(&self, axes: &[usize], fold: impl Fn(&[f64]) -> f64) -> Self {
        let kept: Vec<usize> = (0..self.shape.len()).filter(|a| !axes.contains(a)).collect();
        let gone: Vec<usize> = (0..self.shape.len()).filter(|a| axes.contains(a)).collect();
        let of = |axes: &[usize]| axes.iter().map(|&a| self.shape[a]).collect::<Vec<_>>();
        Array::from_fn(&of(&kept), |outer| {
            let inner = Array::from_fn(&of(&gone), |inner| {
                let mut own = vec![0; self.shape.len()];
                kept.iter().zip(outer).for_each(|(&axis, &i)| own[axis] = i);
                gone.iter().zip(inner).for_each(|(&axis, &i)| own[axis] = i);
                self.at(&own)
            });
            fold(&inner.data)
        })
    }

    /// Row-major in memory.
    pub(crate) fn tensor(&self, place: impl Into<Place>) -> Tensor {
        put(&Tensor::from_slice(&self.data, &self.shape).unwrap(), place.into())
    }

    /// In the dtype and on the device of another tensor.
    pub(crate) fn beside(&self, other: &Tensor) -> Tensor {
        self.tensor(other.dtype()).to_device(&other.device()).unwrap()
    }

    /// The same tensor in every kind of memory layout it can have. Memory that is not its own holds NaN.
    pub(crate) fn layouts(&self, place: impl Into<Place>) -> Vec<(String, Tensor)> {
        let place = place.into();
        let mut layouts = vec![("row-major".to_owned(), self.tensor(place))];
        let rank = self.shape.len();
        if let &[n, c, h, w] = &self.shape[..] {
            let pixels = self.permuted(&[0, 2, 3, 1]);
            let tensor = Tensor::from_channels_last(&pixels.data, [n, c, h, w]).unwrap();
            layouts.push(("channels-last".to_owned(), put(&tensor, place)));
        }
        if rank > 1 {
            // Axes in reverse order in memory.
            let reverse: Vec<usize> = (0..rank).rev().collect();
            let tensor = self.permuted(&reverse).tensor(place).permute(&reverse).unwrap();
            layouts.push(("reversed".to_owned(), tensor));
        }
        for axis in 0..rank {
            let padded = |t: &Array| {
                let mut shape = t.shape.clone();
                shape[axis] += 3;
                Array::from_fn(&shape, |index| {
                    let mut own = index.to_vec();
                    own[axis] = own[axis].wrapping_sub(1);
                    if own[axis] < t.shape[axis] { t.at(&own) } else { f64::NAN }
                })
            };
            let tensor = padded(self).tensor(place).narrow(axis, 1, self.shape[axis]).unwrap();
            layouts.push((format!("narrowed along {axis}"), tensor));
        }
        for (name, tensor) in &layouts {
            assert_eq!(tensor.shape(), &self.shape[..], "{name}");
        }
        layouts
    }
}

/// A tensor in a place.
pub(crate) fn put(tensor: &Tensor, place: Place) -> Tensor {
    tensor.to_dtype(place.dtype()).unwrap().to_device(&place.device()).unwrap()
}

/// Equal within `tolerance · (1 + |want|)`; NaN where NaN is wanted and nowhere else; infinities exactly.
pub(crate) fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: another number of elements");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let right = if want.is_finite() {
            (got - want).abs() <= tolerance * (1.0 + want.abs())
        } else {
            got == want || (got.is_nan() && want.is_nan())
        };
        assert!(right, "{what}, element {i}: {got:e} instead of {want:e}");
    }
}

/// Shape and elements of a tensor are those of an array.
pub(crate) fn assert_is(what: &str, got: &Tensor, want: &Array, tolerance: f64) {
    assert_eq!(got.shape(), &want.shape[..], "{what}: shape");
    assert_close(what, &got.to_vec::<f64>().unwrap(), &want.data, tolerance);
}

/// Bits of a tensor's elements in row-major order.
pub(crate) fn bits(tensor: &Tensor) -> Vec<u64> {
    tensor.to_vec::<f64>().unwrap().iter().map(|v| v.to_bits()).collect()
}

/// Every subset of the axes of a tensor of a rank.
pub(crate) fn axis_subsets(rank: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..1usize << rank).map(move |bits| (0..rank).filter(|a| bits >> a & 1 == 1).collect())
}
