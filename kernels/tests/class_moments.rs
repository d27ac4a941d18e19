//! The class moments kernels on the interpreter, against their reference.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::statistics::{
    CLASS_MOMENTS_ANY_BF16, CLASS_MOMENTS_ANY_F16, CLASS_MOMENTS_ANY_F32, CLASS_MOMENTS_BF16,
    CLASS_MOMENTS_F16, CLASS_MOMENTS_F32,
};
use gpz_kernels::{Kernel, reference};
use half::{bf16, f16};
use proptest::prelude::*;
use ptx_sim::{Arg, Buffer, Device, Error, Launch, Module, Work};

/// A kernel and the features it takes.
#[derive(Debug, Clone, Copy)]
struct Format {
    kernel: Kernel,
    /// Columns that a thread loads at once.
    columns: usize,
    /// Bytes of a feature.
    bytes: usize,
    /// The nearest value that features can have.
    nearest: fn(f32) -> f32,
    upload: fn(&mut Device, &[f32]) -> Buffer,
}

const F32: Format = Format {
    kernel: CLASS_MOMENTS_F32,
    columns: 4,
    bytes: 4,
    nearest: |value| value,
    upload: |device, values| device.upload(values),
};
const F16: Format = Format {
    kernel: CLASS_MOMENTS_F16,
    columns: 8,
    bytes: 2,
    nearest: |value| f16::from_f32(value).to_f32(),
    upload: |device, values| {
        device.upload(&values.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>())
    },
};
const BF16: Format = Format {
    kernel: CLASS_MOMENTS_BF16,
    columns: 8,
    bytes: 2,
    nearest: |value| bf16::from_f32(value).to_f32(),
    upload: |device, values| {
        device.upload(&values.iter().map(|&value| bf16::from_f32(value)).collect::<Vec<_>>())
    },
};
const FORMATS: [Format; 6] = [
    F32,
    F16,
    BF16,
    Format { kernel: CLASS_MOMENTS_ANY_F32, columns: 1, ..F32 },
    Format { kernel: CLASS_MOMENTS_ANY_F16, columns: 1, ..F16 },
    Format { kernel: CLASS_MOMENTS_ANY_BF16, columns: 1, ..BF16 },
];

/// Features with labels, and where each class has its pivot.
#[derive(Debug, Clone)]
struct Case {
    format: Format,
    x: Vec<f32>,
    labels: Vec<usize>,
    classes: usize,
    d: usize,
    pivot: Vec<f32>,
}

impl Case {
    fn new(
        format: Format,
        labels: Vec<usize>,
        classes: usize,
        d: usize,
        value: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let x: Vec<f32> = (0..labels.len())
            .flat_map(|row| (0..d).map(move |column| (row, column)))
            .map(|(row, column)| (format.nearest)(value(row, column)))
            .collect();
        let mut pivot = vec![0.0; classes * d];
        for class in 0..classes {
            if let Some(first) = labels.iter().position(|&label| label == class) {
                pivot[class * d..][..d].copy_from_slice(&x[first * d..][..d]);
            }
        }
        Self { format, x, labels, classes, d, pivot }
    }

    /// Rows sorted by class, and where each class's begin.
    fn order(&self) -> (Vec<u32>, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.labels.len() as u32).collect();
        order.sort_by_key(|&row| self.labels[row as usize]);
        let start = |class| self.labels.iter().filter(|&&label| label < class).count() as u32;
        (order, (0..=self.classes).map(start).collect())
    }

    /// Sums and squares by the kernel, added to what is given.
    fn run(&self, text: &str, before: f64, seed: u64) -> Result<([Vec<f64>; 2], Work), Error> {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let (order, start) = self.order();
        let x = (self.format.upload)(&mut device, &self.x);
        let (order, start) = (device.upload(&order), device.upload(&start));
        let pivot = device.upload(&self.pivot);
        let running = vec![before; self.classes * self.d];
        let (sum, squares) = (device.upload_mutable(&running), device.upload_mutable(&running));
        let buffers = [x, order, start, pivot, sum, squares].map(Arg::from);
        let args: Vec<Arg> = buffers.into_iter().chain([Arg::from(self.d as u32)]).collect();
        let kernel = self.format.kernel;
        let grid = [(self.d as u32).div_ceil(kernel.tile), self.classes as u32, 1];
        let launch = Launch::new(grid, kernel.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, kernel.entry, &launch, &args)?;
        Ok(([device.read(sum)?, device.read(squares)?], work))
    }

    fn expected(&self, before: f64) -> [Vec<f64>; 2] {
        let mut out = [0, 1].map(|_| vec![before; self.classes * self.d]);
        let [sums, squares] = &mut out;
        reference::class_moments(&self.x, &self.labels, &self.pivot, sums, squares);
        out
    }

    /// What rounding of the deviations to `f32` and sums in another order may cost.
    fn check(&self, text: &str, before: f64, seed: u64) -> Result<Work, String> {
        let (found, work) = self.run(text, before, seed).map_err(|error| error.to_string())?;
        let want = self.expected(before);
        let finite = self.x.iter().filter(|value| value.is_finite());
        let largest = finite.fold(0.0_f64, |most, &v| most.max(f64::from(v).abs()));
        let n = self.labels.len() as f64;
        let slack = [n * largest * 2_f64.powi(-22), n * largest * largest * 2_f64.powi(-21)];
        for ((found, want), slack) in found.iter().zip(&want).zip(slack) {
            for (at, (found, want)) in found.iter().zip(want).enumerate() {
                let close = (found - want).abs() <= slack + 1e-12 * want.abs();
                if !(close || found == want || found.is_nan() && want.is_nan()) {
                    return Err(format!("value {at}: {found} instead of {want}"));
                }
            }
        }
        Ok(work)
    }
}

/// Rows of all numbers around those of slots and of several rows at a time, widths around those of a tile; classes without rows.
fn cases() -> impl Strategy<Value = Case> {
    let rows = prop_oneof![1..40_usize, Just(64), Just(65), 100..140_usize];
    let width = prop_oneof![1..9_usize, Just(32), Just(33)];
    (0..FORMATS.len(), rows, width, 1..5_usize).prop_flat_map(|(format, n, width, classes)| {
        let format = FORMATS[format];
        let d = format.columns * width;
        let values = proptest::collection::vec(-4.0..4.0_f32, n * d);
        let labels = proptest::collection::vec(0..classes, n);
        (values, labels).prop_map(move |(values, labels)| {
            Case::new(format, labels, classes, d, |row, column| values[row * d + column])
        })
    })
}

/// Every element is read once, and once more where it is a pivot; the order once for each lane.
#[test]
fn features_are_read_once() {
    for format in FORMATS {
        let (n, d, classes) = (64, format.kernel.tile as usize, 2);
        let labels = (0..n).map(|row| row % classes).collect();
        let case = Case::new(format, labels, classes, d, |_, _| 1.0);
        let work = case.check(format.kernel.text, 0.0, 0).unwrap();
        let (features, pivots, order) = (format.bytes * n * d, 8 * 4 * classes * d, 32 * 4 * n);
        let (starts, running) = (classes * 256 * 8, 2 * 8 * classes * d);
        assert_eq!(work.global_read, (features + pivots + order + starts + running) as u64);
        assert_eq!(work.global_written, running as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sums_are_those_of_the_reference(case in cases(), before in -3.0..3.0_f64, seed in any::<u64>()) {
        case.check(case.format.kernel.text, before, seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn the_same_bits_in_every_order() {
    for format in FORMATS {
        let labels = (0..90).map(|row| row % 3).collect();
        let case = Case::new(format, labels, 4, 33 * format.columns, |row, column| {
            ((row * 7919 + column * 104_729) % 1009) as f32 / 7.0
        });
        let first = case.run(format.kernel.text, 0.5, 0).unwrap();
        for seed in 1..6 {
            assert_eq!(case.run(format.kernel.text, 0.5, seed).unwrap(), first);
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_column() {
    for format in FORMATS {
        let case =
            Case::new(format, vec![0, 1, 0, 1, 0], 2, 8, |row, column| match (row, column) {
                (2, 1) => f32::NAN,
                (3, 6) => f32::INFINITY,
                (4, 3) => -0.0,
                _ => row as f32,
            });
        let ([sums, squares], _) = case.run(format.kernel.text, 0.0, 1).unwrap();
        for (at, (sum, square)) in sums.iter().zip(&squares).enumerate() {
            assert_eq!(sum.is_nan(), at == 1, "{at}");
            assert_eq!(square.is_infinite(), at == 14, "{at}");
        }
        case.check(format.kernel.text, 0.0, 2).unwrap();
    }
}

/// A hundred batches about a mean of 10⁶ with deviations of 1: the radius is right to 10⁻⁶.
#[test]
fn a_hundred_batches_far_from_zero() {
    let (n, d, format) = (16, 4, FORMATS[0]);
    let value = |batch: usize, row: usize, column: usize| {
        let noise = ((batch * 6007 + row * 7919 + column * 104_729) % 1013) as f32 / 1013.0 - 0.5;
        1e6 + 3.4 * noise
    };
    let labels: Vec<usize> = (0..n).map(|row| row % 2).collect();
    let of =
        |batch| Case::new(format, labels.clone(), 2, d, |row, column| value(batch, row, column));
    let pivot = of(0).pivot;
    let (mut sums, mut squares) = (vec![0.0; 2 * d], vec![0.0; 2 * d]);
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); 2 * d];
    for batch in 0..100 {
        let case = Case { pivot: pivot.clone(), ..of(batch) };
        let ([more, more_squares], _) = case.run(format.kernel.text, 0.0, batch as u64).unwrap();
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        squares.iter_mut().zip(more_squares).for_each(|(sum, more)| *sum += more);
        for (row, &label) in labels.iter().enumerate() {
            for column in 0..d {
                all[label * d + column].push(f64::from(value(batch, row, column)));
            }
        }
    }
    for (at, values) in all.iter().enumerate() {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let want: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let found = squares[at] - sums[at] * sums[at] / count;
        assert!((found / want - 1.0).abs() < 1e-6, "{found} {want}");
    }
}

/// No instruction, guard or number can be wrong unnoticed: some case fails, by a fault, by its values or by more work.
#[test]
fn nothing_can_be_taken_away() {
    // No two columns are alike.
    let value =
        |row: usize, column: usize| ((row * 7919 + column * row * 613) % 1009) as f32 / 64.0;
    for format in FORMATS {
        let case = |rows: usize, classes: usize, all: usize, columns: usize| {
            let labels = (0..rows).map(|row| row % classes).collect();
            Case::new(format, labels, all, format.columns * columns, value)
        };
        // More than a tile and a class without rows; many rows; fewer rows for a slot than are read at a time; and exactly as many.
        let cases = [
            case(70, 2, 3, 33),
            case(300, 1, 1, 1),
            case(21, 2, 2, 2),
            case(34, 2, 2, 1),
            case(28, 1, 1, 1),
            case(12, 1, 1, 1),
            case(60, 1, 1, 1),
        ];
        let checks: Vec<_> =
            cases.iter().map(|case| |text: &str, seed| case.check(text, 1.0, seed)).collect();
        let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
        assert_no_mutant_survives(&format.kernel, &checks);
    }
}
