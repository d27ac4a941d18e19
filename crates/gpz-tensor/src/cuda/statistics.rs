//! Class moments of features where they lie: no feature leaves the device.

use std::ops::Range;

use gpz_kernels::{Kernel, statistics as kernels};

use super::driver::Argument;
use super::halves::{Format, HalfMatrix};
use super::{CudaDevice, DeviceBuffer, at, count, device_of};
use crate::error::{Error, Result};
use crate::{DType, Device, Tensor};

/// What errors of the sums name.
const OP: &str = "class_moments";

/// Sums about a pivot per class, accumulated on a CUDA device over batches of features.
///
/// The pivot of a class is its first row. Sums are in f64, in a fixed order: the same batches give the same bits.
pub struct ClassSums {
    device: CudaDevice,
    width: usize,
    counts: Vec<u64>,
    /// `[k, width]`, f32; rows of classes that were not seen yet are zero.
    pivot: DeviceBuffer,
    /// `[k, width]`, f64.
    sums: DeviceBuffer,
    squares: DeviceBuffer,
}

/// What [`ClassSums::read`] gives: with `p` the pivot and `N` the count of a class, its mean is `p + Σ/N` and the sum of its squared
/// deviations `Q − Σ²/N`.
#[derive(Debug, Clone, PartialEq)]
pub struct PivotedSums {
    /// Rows of each of `k` classes.
    pub counts: Vec<u64>,
    /// `[k, width]`.
    pub pivot: Vec<f32>,
    /// `[k, width]`, sums of the deviations from the pivot.
    pub sums: Vec<f64>,
    /// `[k, width]`, sums of their squares.
    pub squares: Vec<f64>,
}

impl ClassSums {
    /// Sums over no rows.
    ///
    /// # Errors
    /// [`Error::DeviceMemory`]; [`Error::Shape`] without classes or columns, or for more cells than kernels count.
    pub fn new(device: &CudaDevice, classes: usize, width: usize) -> Result<Self> {
        let cells = classes.checked_mul(width).filter(|&cells| u32::try_from(cells).is_ok());
        // Classes are blocks along an axis of the grid that ends there; a row's bytes are counted in 32 bits.
        let fits =
            |&cells: &usize| cells > 0 && classes <= usize::from(u16::MAX) && width < 1 << 30;
        let Some(cells) = cells.filter(fits) else {
            let rule = "from 1 to 65535 classes, a width below 2^30 and less than 2^32 cells of both are needed";
            return Err(Error::shape(OP, &[classes, width], rule));
        };
        Ok(ClassSums {
            device: device.clone(),
            width,
            counts: vec![0; classes],
            pivot: device.zeroed(4 * cells)?,
            sums: device.zeroed(8 * cells)?,
            squares: device.zeroed(8 * cells)?,
        })
    }

    /// Adds the rows of a batch.
    ///
    /// - `features`: `[n, width]` on the sums' device; `labels`: `n` classes
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::DeviceMismatch`] for other features; [`Error::Value`] for a label that names no class.
    pub fn update(&mut self, features: &Tensor, labels: &[usize]) -> Result<()> {
        let features = rows_on(OP, features, labels.len(), self.width, &self.device)?;
        check_labels(OP, labels, self.counts.len())?;
        for (class, row) in self.new_classes(labels) {
            self.copy_pivot(&features, row, class)?;
        }
        let kernel = if self.width.is_multiple_of(4) {
            &kernels::CLASS_MOMENTS_F32
        } else {
            &kernels::CLASS_MOMENTS_ANY_F32
        };
        // SAFETY: the features are f32 and as many rows as there are labels, all of them classes.
        unsafe { self.add(kernel, at(&features), labels) }?;
        self.count(labels);
        Ok(())
    }

    /// Adds the rows of a batch of 16-bit features. Batches of several formats may follow one another.
    ///
    /// - `features`: `[n, width]` on the sums' device; `labels`: `n` classes
    ///
    /// Waits for the device where a class is seen for the first time, to make its first row, as `f32`, the pivot.
    ///
    /// # Errors
    /// As [`ClassSums::update`].
    pub fn update_halves(&mut self, features: &HalfMatrix, labels: &[usize]) -> Result<()> {
        check_rows(OP, &features.shape(), labels.len(), self.width)?;
        if *features.device() != self.device {
            let name = |device: &CudaDevice| Device::Cuda(device.clone()).to_string();
            let (lhs, rhs) = (name(features.device()), name(&self.device));
            return Err(Error::DeviceMismatch { op: OP, lhs, rhs });
        }
        check_labels(OP, labels, self.counts.len())?;
        for (class, row) in self.new_classes(labels) {
            self.pivot.write(4 * class * self.width, &features.row(row)?)?;
        }
        let by_eight = self.width.is_multiple_of(8);
        let kernel = match features.format() {
            Format::F16 if by_eight => &kernels::CLASS_MOMENTS_F16,
            Format::F16 => &kernels::CLASS_MOMENTS_ANY_F16,
            Format::Bf16 if by_eight => &kernels::CLASS_MOMENTS_BF16,
            Format::Bf16 => &kernels::CLASS_MOMENTS_ANY_BF16,
        };
        // SAFETY: the features are of the kernel's format and as many rows as there are labels, all of them classes.
        unsafe { self.add(kernel, features.at(), labels) }?;
        self.count(labels);
        Ok(())
    }

    /// Counts the rows of a batch.
    fn count(&mut self, labels: &[usize]) {
        labels.iter().for_each(|&label| self.counts[label] += 1);
    }

    /// Classes without rows so far that have some now, each with its first.
    fn new_classes(&self, labels: &[usize]) -> Vec<(usize, usize)> {
        if self.counts.iter().all(|&count| count > 0) {
            return Vec::new();
        }
        let mut new: Vec<(usize, usize)> = Vec::new();
        for (row, &label) in labels.iter().enumerate() {
            if self.counts[label] == 0 && !new.iter().any(|(class, _)| *class == label) {
                new.push((label, row));
            }
        }
        new
    }

    /// Adds rows to the sums about the pivots.
    ///
    /// # Safety
    /// The kernel is one of the six for class moments, with features `[labels.len(), width]` of its format at the address, at a multiple of
    /// 16 bytes; every label is below the number of classes.
    unsafe fn add(
        &self,
        kernel: &Kernel,
        features: Argument<'static>,
        labels: &[usize],
    ) -> Result<()> {
        let classes = self.counts.len();
        let first = first_part(labels.len(), classes);
        for rows in [0..first, first..labels.len()] {
            if rows.is_empty() {
                continue;
            }
            let (order, start) = sorted(labels, rows, classes);
            let (order, start) = (self.device.upload(&order)?, self.device.upload(&start)?);
            let address = |buffer: &DeviceBuffer| Argument::Address(buffer.address());
            let arguments = [
                features,
                address(&order),
                address(&start),
                address(&self.pivot),
                address(&self.sums),
                address(&self.squares),
                count(self.width),
            ];
            let grid = [self.width.div_ceil(kernel.tile as usize), classes, 1];
            // SAFETY: argument order and types as in the headers of class_moments_f32.ptx and of its five kin; order names each row of the
            // part once, start has one more entry than there are classes, and the cells are those of classes by width.
            unsafe { self.device.launch(kernel, grid, &arguments) }?;
        }
        Ok(())
    }

    /// Makes a row the pivot of its class.
    fn copy_pivot(&self, features: &Tensor, row: usize, class: usize) -> Result<()> {
        let source = features.narrow(0, row, 1)?;
        let to = self.pivot.address() + 4 * (class * self.width) as u64;
        super::copy::copy_to(&self.device, &source, Argument::Address(to), &features.strides())
    }

    /// The sums so far. Waits for the device.
    ///
    /// # Errors
    /// A device that is lost.
    pub fn read(&self) -> Result<PivotedSums> {
        let cells = self.counts.len() * self.width;
        Ok(PivotedSums {
            counts: self.counts.clone(),
            pivot: self.pivot.read(0, cells)?,
            sums: self.sums.read(0, cells)?,
            squares: self.squares.read(0, cells)?,
        })
    }
}

/// Means that distances are taken to, on a CUDA device.
pub struct ClassMeans {
    device: CudaDevice,
    classes: usize,
    width: usize,
    means: DeviceBuffer,
    mean: DeviceBuffer,
}

impl ClassMeans {
    /// - `means`: `[k, width]`, row-major; `mean`: that of all rows, `[width]`
    ///
    /// # Errors
    /// [`Error::Length`] if the one is no multiple of the other; [`Error::DeviceMemory`].
    pub fn new(device: &CudaDevice, means: &[f64], mean: &[f64]) -> Result<Self> {
        let (len, width) = (means.len(), mean.len());
        if width == 0 || !len.is_multiple_of(width) || len == 0 {
            return Err(Error::Length {
                op: "class_distances",
                len,
                want: width,
                shape: [width].into(),
            });
        }
        let (means, mean) = (device.upload(means)?, device.upload(mean)?);
        Ok(ClassMeans { device: device.clone(), classes: len / width, width, means, mean })
    }

    /// Squared distance of each row to the mean of its class and to that of all. Waits for the device.
    ///
    /// - `features`: `[n, width]` on the means' device; `labels`: `n` classes
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::DeviceMismatch`] for other features; [`Error::Value`] for a label that names no class.
    pub fn distances(&self, features: &Tensor, labels: &[usize]) -> Result<Vec<[f64; 2]>> {
        const OP: &str = "class_distances";
        let features = rows_on(OP, features, labels.len(), self.width, &self.device)?;
        check_labels(OP, labels, self.classes)?;
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        let class: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let class = self.device.upload(&class)?;
        let out = self.device.allocate(16 * labels.len())?;
        let address = |buffer: &DeviceBuffer| Argument::Address(buffer.address());
        let arguments = [
            at(&features),
            address(&class),
            address(&self.means),
            address(&self.mean),
            address(&out),
            count(self.width),
        ];
        let grid = [labels.len(), 1, 1];
        // SAFETY: argument order and types as in the header of class_distances_f32.ptx; every class is below that of the means, and out
        // holds two f64 a row.
        unsafe { self.device.launch(&kernels::CLASS_DISTANCES_F32, grid, &arguments) }?;
        out.read(0, labels.len())
    }
}

/// Features `[n, width]` in row-major order, if they are that and lie on the device.
fn rows_on(
    op: &'static str,
    features: &Tensor,
    n: usize,
    width: usize,
    device: &CudaDevice,
) -> Result<Tensor> {
    check_rows(op, features.shape(), n, width)?;
    if features.dtype() != DType::F32 {
        return Err(Error::DTypeMismatch { op, lhs: features.dtype(), rhs: DType::F32 });
    }
    features.check_device(op, device)?;
    debug_assert_eq!(device_of(features), device);
    features.row_major()
}

fn check_rows(op: &'static str, shape: &[usize], n: usize, width: usize) -> Result<()> {
    if shape != [n, width] {
        let rule = "features [n, width] with a label for each row are needed";
        return Err(Error::mismatch(op, shape, &[n, width], rule));
    }
    Ok(())
}

fn check_labels(op: &'static str, labels: &[usize], classes: usize) -> Result<()> {
    // The largest label, without a branch for each: the device waits for this.
    match labels.iter().copied().max() {
        Some(label) if label >= classes => Err(Error::Value {
            op,
            name: "label",
            value: label as f64,
            rule: "labels name classes from 0 on, below their number",
        }),
        _ => Ok(()),
    }
}

/// How many of the first rows are sorted, and added up, by themselves, so that the device is at work while the processor sorts the others.
///
/// Each part reads and writes all sums once more: not where that is much beside the features.
fn first_part(rows: usize, classes: usize) -> usize {
    const PARTS: usize = 16;
    const LEAST_ROWS: usize = 1 << 13;
    if rows >= LEAST_ROWS.max(512 * classes) { rows / PARTS } else { 0 }
}

/// Some of the rows sorted by class, in their order within each, and where each class begins.
fn sorted(labels: &[usize], rows: Range<usize>, classes: usize) -> (Vec<u32>, Vec<u32>) {
    let mut start = vec![0_u32; classes + 1];
    for &label in &labels[rows.clone()] {
        start[label + 1] += 1;
    }
    for class in 0..classes {
        start[class + 1] += start[class];
    }
    let mut next = start.clone();
    let mut order = vec![0; rows.len()];
    for (row, &label) in rows.clone().zip(&labels[rows]) {
        order[next[label] as usize] = row as u32;
        next[label] += 1;
    }
    (order, start)
}
