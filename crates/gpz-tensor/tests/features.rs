//! What is made of features where they lie, on the simulated CUDA device: class moments, pairwise distances, noise and cells.

mod common;

use common::{Array, assert_close, bits, cuda, rng};
use gpz_kernels::reference;
use gpz_tensor::cuda::{self, ClassMeans, ClassSums, HalfMatrix, PivotedSums};
use gpz_tensor::{CudaDevice, DType, Tensor};
use half::{bf16, f16};

fn device() -> CudaDevice {
    cuda().as_cuda().expect("a CUDA device was asked for").clone()
}

/// A matrix, as `f32`.
fn features(seed: u64, n: usize, d: usize) -> Array {
    Array::uniform(&mut rng(seed), &[n, d], -3.0..3.0)
}

fn narrow(x: &Array) -> Vec<f32> {
    x.data.iter().map(|&x| x as f32).collect()
}

fn on_device(x: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(x, shape).unwrap().to_device(&cuda()).unwrap()
}

/// The formats that features come in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    F32,
    F16,
    Bf16,
}

const FORMATS: [Format; 3] = [Format::F32, Format::F16, Format::Bf16];

impl Format {
    fn nearest(self, x: f32) -> f32 {
        match self {
            Format::F32 => x,
            Format::F16 => f16::from_f32(x).to_f32(),
            Format::Bf16 => bf16::from_f32(x).to_f32(),
        }
    }

    fn add(self, sums: &mut ClassSums, x: &[f32], labels: &[usize], d: usize) {
        let shape = [labels.len(), d];
        match self {
            Format::F32 => sums.update(&on_device(x, &shape), labels),
            Format::F16 => {
                let x: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
                let x = HalfMatrix::from_f16(&device(), &x, shape).unwrap();
                assert_eq!((x.shape(), x.device()), (shape, &device()));
                sums.update_halves(&x, labels)
            }
            Format::Bf16 => {
                let x: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
                sums.update_halves(&HalfMatrix::from_bf16(&device(), &x, shape).unwrap(), labels)
            }
        }
        .unwrap();
    }
}

/// Batches of rows with their labels, of a format each, and what comes of them.
fn assert_moments(batches: &[(Format, Vec<f32>, Vec<usize>)], classes: usize, d: usize) {
    let mut sums = ClassSums::new(&device(), classes, d).unwrap();
    let mut counts = vec![0; classes];
    let mut pivot = vec![0.0_f32; classes * d];
    let (mut want_sums, mut want_squares) = (vec![0.0; classes * d], vec![0.0; classes * d]);
    for (format, x, labels) in batches {
        let x: Vec<f32> = x.iter().map(|&x| format.nearest(x)).collect();
        for (row, &label) in x.chunks_exact(d).zip(labels) {
            if counts[label] == 0 {
                pivot[label * d..][..d].copy_from_slice(row);
            }
            counts[label] += 1;
        }
        reference::class_moments(&x, labels, &pivot, &mut want_sums, &mut want_squares);
        format.add(&mut sums, &x, labels, d);
    }
    let got = sums.read().unwrap();
    let what = format!("{d} columns, {classes} classes");
    assert_eq!((&got.counts, &got.pivot), (&counts, &pivot), "{what}");
    // A deviation is rounded to f32.
    assert_close(&what, &got.sums, &want_sums, 1e-6);
    assert_close(&what, &got.squares, &want_squares, 1e-6);
}

#[test]
fn class_moments_of_every_format_and_width() {
    // Around the columns of a thread, of a warp and of a block of each kernel.
    for d in [1, 3, 4, 7, 8, 9, 31, 32, 33, 127, 128, 132, 255, 256, 264] {
        for format in FORMATS {
            let n = if d < 40 { 37 } else { 11 };
            let labels = (0..n).map(|row| row * row % 5 % 4).collect();
            assert_moments(&[(format, narrow(&features(d as u64, n, d)), labels)], 5, d);
        }
    }
}

/// Pivots stay those of the first batch that had the class, and the formats of the batches may differ.
#[test]
fn class_moments_over_batches() {
    for d in [5, 16] {
        let batch = |format, seed, labels: &[usize]| {
            (format, narrow(&features(seed, labels.len(), d)), labels.to_vec())
        };
        assert_moments(
            &[
                batch(Format::F16, 1, &[2, 0, 2]),
                batch(Format::Bf16, 2, &[]),
                batch(Format::F32, 3, &[1, 1, 0, 2, 1]),
                batch(Format::Bf16, 4, &[3]),
                batch(Format::F16, 5, &[3, 3, 0, 1]),
            ],
            4,
            d,
        );
    }
}

/// So many rows that the first of them are added up by themselves; the last class comes among the others only.
#[test]
fn class_moments_in_parts() {
    let (n, d) = (8192, 4);
    let labels: Vec<usize> =
        (0..n).map(|row| if row < n / 2 { row % 2 } else { row % 3 }).collect();
    for format in FORMATS {
        assert_moments(&[(format, narrow(&features(6, n, d)), labels.clone())], 3, d);
    }
}

/// Far from zero, where sums of squares of the features themselves would have no digit of the spread.
#[test]
fn class_moments_far_from_zero() {
    let (n, d) = (64, 8);
    let x: Vec<f32> = narrow(&features(1, n, d)).iter().map(|x| 3e4 + x.trunc() * 32.0).collect();
    assert_moments(&[(Format::F16, x, vec![0; n])], 1, d);
}

#[test]
fn class_moments_of_many_rows_are_the_same_bits_again() {
    let (n, d) = (300, 12);
    let x = narrow(&features(9, n, d));
    let labels: Vec<usize> = (0..n).map(|row| row % 3).collect();
    let sums = |format: Format| -> PivotedSums {
        let mut sums = ClassSums::new(&device(), 3, d).unwrap();
        format.add(&mut sums, &x, &labels, d);
        sums.read().unwrap()
    };
    for format in FORMATS {
        assert_eq!(sums(format), sums(format), "{format:?}");
    }
}

#[test]
fn class_distances_are_those_of_the_reference() {
    for (n, d) in [(1, 1), (5, 3), (9, 257)] {
        let x = narrow(&features(3, n, d));
        let (means, mean) = (features(4, 3, d).data, features(5, 1, d).data);
        let labels: Vec<usize> = (0..n).map(|row| row % 3).collect();
        let of = ClassMeans::new(&device(), &means, &mean).unwrap();
        let got = of.distances(&on_device(&x, &[n, d]), &labels).unwrap();
        let want = reference::class_distances(&x, &labels, &means, &mean);
        assert_close("distances", got.as_flattened(), want.as_flattened(), 1e-9);
    }
}

/// Rows of both sides around a tile of 64, and of several.
const ROWS: [(usize, usize, usize); 7] =
    [(1, 1, 1), (3, 2, 5), (63, 65, 3), (64, 64, 2), (65, 63, 33), (2, 200, 4), (130, 3, 1)];

#[test]
fn pairwise_sums_are_those_of_the_reference() {
    for (n, m, d) in ROWS {
        let (x, y) = (narrow(&features(1, n, d)), narrow(&features(2, m, d)));
        let (on_x, on_y) = (on_device(&x, &[n, d]), on_device(&y, &[m, d]));
        for bandwidth in [0.7, 4.0] {
            let inverse = 0.5 / (bandwidth * bandwidth);
            let got = cuda::pairwise_gaussian(&on_x, &on_y, bandwidth, false).unwrap();
            let want = reference::pairwise_gaussian(&x, &y, d, inverse, false);
            assert_close(&format!("{n} x {m}, {d} columns"), &got, &want, 2e-6);
            let got = cuda::pairwise_gaussian(&on_x, &on_x, bandwidth, true).unwrap();
            let want = reference::pairwise_gaussian(&x, &x, d, inverse, true);
            assert_close(&format!("{n} rows among themselves"), &got, &want, 2e-6);
        }
    }
}

#[test]
fn neighbours_are_those_of_the_reference() {
    // Whole numbers: distances are exact, and many of them equal.
    let whole = |seed, n, d| narrow(&features(seed, n, d).map(f64::trunc));
    for ((n, m, d), k) in ROWS.into_iter().zip([1, 3, 16, 5, 2, 16, 4]) {
        let (x, y) = (whole(1, n, d), whole(2, m, d));
        let (on_x, on_y) = (on_device(&x, &[n, d]), on_device(&y, &[m, d]));
        for (on, of, skip_self) in [(&on_y, &y, false), (&on_x, &x, true)] {
            let got = cuda::pairwise_nearest(&on_x, on, k, skip_self).unwrap();
            let (distances, indices): (Vec<_>, Vec<_>) =
                reference::pairwise_nearest(&x, of, d, k, skip_self).into_iter().unzip();
            assert_eq!((got.squared_distances, got.indices), (distances, indices), "{n} x {m}");
        }
    }
}

/// A transposed view, and one that begins where no 16 bytes do.
#[test]
fn pairwise_of_views() {
    let (n, d) = (6, 5);
    let x = features(1, n, d);
    let turned = x.permuted(&[1, 0]).tensor(common::Place::Cuda).transpose(0, 1).unwrap();
    let inner = features(2, n, d + 2).tensor(common::Place::Cuda).narrow(1, 1, d).unwrap();
    let y: Vec<f32> = inner.to_vec().unwrap();
    let want = reference::pairwise_gaussian(&narrow(&x), &y, d, 0.5, false);
    let got = cuda::pairwise_gaussian(&turned, &inner, 1.0, false).unwrap();
    assert_close("views", &got, &want, 2e-6);
}

#[test]
fn nothing_has_no_neighbours() {
    let (none, one) = (on_device(&[], &[0, 3]), on_device(&[1.0; 3], &[1, 3]));
    assert_eq!(cuda::pairwise_gaussian(&none, &one, 1.0, false).unwrap(), []);
    assert_eq!(cuda::pairwise_gaussian(&one, &none, 1.0, false).unwrap(), [0.0]);
    let found = cuda::pairwise_nearest(&one, &none, 2, false).unwrap();
    assert_eq!(found.squared_distances, [f64::INFINITY; 2]);
    assert_eq!(found.indices, [u32::MAX; 2]);
    assert_eq!(cuda::pairwise_nearest(&none, &none, 2, true).unwrap().indices, []);
}

const LENGTHS: [usize; 8] = [0, 1, 3, 4, 1023, 1024, 1025, 3001];

#[test]
fn noise_is_that_of_the_reference() {
    for n in LENGTHS {
        let x = narrow(&features(1, n, 1));
        let (sigma, key, offset) = (0.75, 0x1234_5678_9abc_def0, 1 << 33);
        let got = cuda::noise(&on_device(&x, &[n]), sigma, key, offset).unwrap();
        let want = reference::noise(&x, sigma, key, offset);
        assert_close(&format!("{n}"), &got.to_vec::<f64>().unwrap(), &want, 3e-6);
    }
}

/// The noise of an element goes with its place in the shape, not in memory; a later part of a sequence is had by its offset.
#[test]
fn noise_goes_with_the_place() {
    let x = Array::uniform(&mut rng(1), &[2, 4, 3, 3], -1.0..1.0);
    let want = cuda::noise(&x.tensor(common::Place::Cuda), 1.0, 7, 3).unwrap();
    for (layout, tensor) in x.layouts(common::Place::Cuda) {
        let got = cuda::noise(&tensor, 1.0, 7, 3).unwrap();
        // An approximation is off by another amount at each launch of the simulated device.
        assert_close(&layout, &got.to_vec().unwrap(), &want.to_vec::<f64>().unwrap(), 2e-6);
    }
    let second = x.tensor(common::Place::Cuda).narrow(0, 1, 1).unwrap();
    let got = cuda::noise(&second, 1.0, 7, 3 + 36 / 4).unwrap();
    assert_close("part", &got.to_vec().unwrap(), &want.to_vec::<f64>().unwrap()[36..], 2e-6);
    let still = cuda::noise(&second, 0.0, 7, 0).unwrap();
    assert_eq!(still.to_vec::<f32>().unwrap(), second.to_vec::<f32>().unwrap());
}

#[test]
fn cells_are_those_of_the_reference() {
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0];
    for n in LENGTHS {
        let mut x = narrow(&features(1, n, 1));
        x.iter_mut().zip(special).for_each(|(x, value)| *x = value);
        for (low, step, cells) in [(-1.0, 0.3, 7), (0.0, 1e-3, 1), (-3.0, 6.0 / 4096.0, 4096)] {
            let got = cuda::quantise(&on_device(&x, &[n]), low, step, cells).unwrap();
            let mut want = x.clone();
            reference::quantise(&mut want, low, step, f64::from(cells - 1));
            assert_eq!(got.to_vec::<f32>().unwrap(), want);
        }
    }
    let x = Array::uniform(&mut rng(1), &[2, 3, 2, 2], -1.0..1.0);
    let want = cuda::quantise(&x.tensor(common::Place::Cuda), -1.0, 0.1, 20).unwrap();
    for (layout, tensor) in x.layouts(common::Place::Cuda) {
        let got = cuda::quantise(&tensor, -1.0, 0.1, 20).unwrap();
        assert_eq!(bits(&got), bits(&want), "{layout}");
    }
}

/// The text of the error an operation must end in.
fn text<T>(result: gpz_tensor::Result<T>) -> String {
    match result {
        Ok(_) => panic!("an error was expected"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_does_not_fit_is_named_with_the_mend() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap();
    let on = |shape: &[usize]| zeros(shape).to_device(&cuda()).unwrap();
    let mut sums = ClassSums::new(&device(), 2, 3).unwrap();
    let half = |shape: [usize; 2]| HalfMatrix::from_f16(&device(), &[f16::ONE; 6], shape);
    let x = on(&[4, 3]);
    let cases = [
        (text(half([2, 4])), "half_matrix: 6 elements cannot have shape [2, 4], which holds 8"),
        (
            text(half([1 << 16, 1 << 16])),
            "half_matrix: shape [65536, 65536] does not fit: a tensor on a CUDA device has less than 2^32 elements; a smaller \
             batch helps",
        ),
        (
            text(ClassSums::new(&device(), 70_000, 1)),
            "class_moments: shape [70000, 1] does not fit: from 1 to 65535 classes, a width below 2^30 and less than \
             2^32 cells of both are needed",
        ),
        (
            text(sums.update_halves(&half([3, 2]).unwrap(), &[0, 1, 0])),
            "class_moments: shapes [3, 2] and [3, 3] do not match: features [n, width] with a label for each row are needed",
        ),
        (
            text(sums.update_halves(&half([2, 3]).unwrap(), &[0, 2])),
            "class_moments: label = 2 is not possible: labels name classes from 0 on, below their number",
        ),
        (
            text(cuda::pairwise_gaussian(&zeros(&[4, 3]), &x, 1.0, false)),
            "pairwise_gaussian: the tensor lies on the cpu, where this is not computed; move it with `to_device`",
        ),
        (
            text(cuda::pairwise_gaussian(&x, &on(&[4, 2]), 1.0, false)),
            "pairwise_gaussian: shapes [4, 3] and [4, 2] do not match: their rows must be of one width",
        ),
        (
            text(cuda::pairwise_gaussian(&x, &on(&[5, 3]), 1.0, true)),
            "pairwise_gaussian: shapes [4, 3] and [5, 3] do not match: `skip_self` leaves each row's own number out, so both \
             must be the same rows",
        ),
        (
            text(cuda::pairwise_gaussian(&x, &x, -1.0, true)),
            "pairwise_gaussian: bandwidth = -1 is not possible: a bandwidth h is positive, and 1/(2 h^2) neither 0 nor infinite \
             in f64",
        ),
        (
            text(cuda::pairwise_nearest(&x, &on(&[4]), 1, false)),
            "pairwise_nearest: shapes [4, 3] and [4] do not match: both must be matrices of rows, [n, d] and [m, d]",
        ),
        (
            text(cuda::pairwise_nearest(&on(&[4, 0]), &on(&[4, 0]), 1, false)),
            "pairwise_nearest: shapes [4, 0] and [4, 0] do not match: less than 2^31 rows of 1 to 2^30 - 1 elements are needed; \
             fewer rows at a time help",
        ),
        (
            text(cuda::pairwise_nearest(&x, &x, 17, false)),
            "pairwise_nearest: k = 17 is not possible: from 1 to 16 neighbours can be asked for",
        ),
        (
            text(cuda::noise(&x, -1.0, 0, 0)),
            "noise: sigma = -1 is not possible: a standard deviation is finite and not negative",
        ),
        (
            text(cuda::noise(&zeros(&[1]), 1.0, 0, 0)),
            "noise: the tensor lies on the cpu, where this is not computed; move it with `to_device`",
        ),
        (
            text(cuda::quantise(&x, 0.0, 0.0, 2)),
            "quantise: step = 0 is not possible: a cell's width is finite and positive",
        ),
        (
            text(cuda::quantise(&x, f64::INFINITY, 1.0, 2)),
            "quantise: low = inf is not possible: the first cell begins at a finite number",
        ),
        (
            text(cuda::quantise(&x, 0.0, 1.0, 0)),
            "quantise: cells = 0 is not possible: at least one cell is needed",
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
    let another = gpz_cuda_sim::device();
    let elsewhere = another.as_cuda().unwrap();
    let elsewhere = HalfMatrix::from_bf16(elsewhere, &[bf16::ONE; 6], [2, 3]).unwrap();
    assert_eq!(
        text(sums.update_halves(&elsewhere, &[0, 1])),
        format!(
            "class_moments: one operand lies on {another}, another on {}; move one with `to_device`",
            cuda()
        ),
    );
    for value in [f64::NAN, 0.0, 1e-200, 1e200, f64::INFINITY] {
        let got = text(cuda::pairwise_gaussian(&x, &x, value, false));
        assert!(got.starts_with("pairwise_gaussian: bandwidth"), "{got}");
    }
    // What was refused left no trace.
    assert_eq!(sums.read().unwrap().counts, [0, 0]);
}
