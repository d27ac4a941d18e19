//! How close pictures come to each other, on the simulated CUDA device.

mod common;

use common::{Array, Place, assert_close, cuda, rng};
use gpz_kernels::reference;
use gpz_kernels::statistics::ssim_taps;
use gpz_tensor::cuda::{squared_errors, ssim, total_variation};
use gpz_tensor::{DType, Tensor};

/// Pictures `[n, c, h, w]`, and the same as the references take them: channels-last.
fn pictures(seed: u64, shape: [usize; 4]) -> (Array, Vec<f32>) {
    let x = Array::uniform(&mut rng(seed), &shape, 0.0..1.0);
    let last = x.permuted(&[0, 2, 3, 1]).data.iter().map(|&x| x as f32).collect();
    (x, last)
}

/// One pixel, odd ones, those of a block of 256 and one more or less, several pictures.
const SHAPES: [[usize; 4]; 7] = [
    [1, 1, 1, 1],
    [3, 3, 5, 7],
    [2, 1, 16, 16],
    [1, 1, 17, 15],
    [1, 1, 1, 257],
    [2, 4, 9, 1],
    [5, 3, 32, 32],
];

#[test]
fn errors_and_variations_are_those_of_the_references() {
    for shape in SHAPES {
        let [n, c, h, w] = shape;
        let ((x, from), (y, to)) = (pictures(1, shape), pictures(2, shape));
        let (x, y) = (x.tensor(Place::Cuda), y.tensor(Place::Cuda));
        let what = format!("{shape:?}");
        let got = squared_errors(&x, &y).unwrap();
        assert_eq!(got.len(), n);
        assert_close(&what, &got, &reference::squared_errors(&from, &to, c * h * w), 1e-12);
        assert_eq!(squared_errors(&x, &x).unwrap(), vec![0.0; n]);
        let got = total_variation(&x).unwrap();
        assert_close(&what, &got, &reference::total_variation(&from, [h, w, c]), 1e-12);
    }
}

/// From the window's own size on, around a block of 32 by 8 windows, and at a range other than 1.
#[test]
fn similarities_are_those_of_the_reference() {
    for shape in [[1, 1, 11, 11], [3, 3, 12, 13], [1, 2, 19, 43], [2, 1, 18, 42], [1, 1, 17, 41]] {
        let [n, c, h, w] = shape;
        let ((x, from), (y, to)) = (pictures(1, shape), pictures(2, shape));
        let (x, y) = (x.tensor(Place::Cuda), y.tensor(Place::Cuda));
        for range in [1.0, 255.0] {
            let constants = [(0.01_f64 * range).powi(2), (0.03_f64 * range).powi(2)];
            let channels = reference::ssim(&from, &to, [h, w, c], &ssim_taps(), constants);
            let want: Vec<f64> =
                channels.chunks_exact(c).map(|one| one.iter().sum::<f64>() / c as f64).collect();
            let got = ssim(&x, &y, range).unwrap();
            assert_close(&format!("{shape:?} at {range}"), &got, &want, 1e-11);
        }
        assert_eq!(ssim(&x, &x, 1.0).unwrap(), vec![1.0; n]);
    }
}

#[test]
fn every_memory_order_gives_the_same_bits() {
    let shape = [2, 3, 12, 13];
    let (x, y) = (pictures(1, shape).0, pictures(2, shape).0);
    let all = |x: &Tensor, y: &Tensor| {
        [squared_errors(x, y), ssim(x, y, 1.0), total_variation(x)].map(Result::unwrap)
    };
    let want = all(&x.tensor(Place::Cuda), &y.tensor(Place::Cuda));
    for ((layout, x), (_, y)) in x.layouts(Place::Cuda).iter().zip(y.layouts(Place::Cuda)) {
        assert_eq!(all(x, &y), want, "{layout}");
    }
}

#[test]
fn no_pictures_and_pictures_of_nothing() {
    let on =
        |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap().to_device(&cuda()).unwrap();
    let none = on(&[0, 3, 12, 12]);
    assert_eq!(squared_errors(&none, &none).unwrap(), []);
    assert_eq!(ssim(&none, &none, 1.0).unwrap(), []);
    assert_eq!(total_variation(&none).unwrap(), []);
    let flat = on(&[2, 3, 0, 5]);
    assert_eq!(squared_errors(&flat, &flat).unwrap(), [0.0; 2]);
    assert_eq!(total_variation(&flat).unwrap(), [0.0; 2]);
}

#[test]
fn what_does_not_fit_is_named_with_the_mend() {
    let cpu = |shape: &[usize]| Tensor::zeros(shape, DType::F32).unwrap();
    let on = |shape: &[usize]| cpu(shape).to_device(&cuda()).unwrap();
    let text = |result: gpz_tensor::Result<Vec<f64>>| result.unwrap_err().to_string();
    let x = on(&[1, 1, 12, 12]);
    let cases = [
        (
            text(squared_errors(&x, &on(&[1, 1, 12, 11]))),
            "squared_errors: shapes [1, 1, 12, 12] and [1, 1, 12, 11] do not match: they must be equal",
        ),
        (
            text(squared_errors(&on(&[4, 4]), &on(&[4, 4]))),
            "squared_errors: shape [4, 4] does not fit: pictures [n, c, h, w] are needed",
        ),
        (
            text(squared_errors(&cpu(&[1, 1, 2, 2]), &cpu(&[1, 1, 2, 2]))),
            "squared_errors: the tensor lies on the cpu, where this is not computed; move it with `to_device`",
        ),
        (
            text(ssim(&on(&[1, 1, 10, 30]), &on(&[1, 1, 10, 30]), 1.0)),
            "ssim: shape [1, 1, 10, 30] does not fit: pictures of at least 11 by 11 pixels, the window, and 1 to 65535 channels \
             are needed",
        ),
        (
            text(ssim(&x, &x, 0.0)),
            "ssim: range = 0 is not possible: the distance between black and white is finite and positive",
        ),
        (
            text(total_variation(&on(&[3]))),
            "total_variation: shape [3] does not fit: pictures [n, c, h, w] are needed",
        ),
        (
            text(total_variation(&cpu(&[1, 1, 1, 1]))),
            "total_variation: the tensor lies on the cpu, where this is not computed; move it with `to_device`",
        ),
    ];
    for (got, want) in cases {
        assert_eq!(got, want);
    }
    assert_eq!(
        text(ssim(&x, &cpu(&[1, 1, 12, 12]), 1.0)),
        format!("ssim: one operand lies on {}, another on cpu; move one with `to_device`", cuda()),
    );
}
