//! Gradients on a CUDA device against the processor's in f64, which finite differences check elsewhere.

mod common;

use common::{Array, Place, assert_close, cuda, rng};
use gpz_tensor::{DType, Device, Tensor, UnaryOp};
use rand_chacha::ChaCha8Rng;

const TOLERANCE: f64 = 4e-6;

/// Runs `compute` in f64 on the processor and on the device, on the same values, and compares everything it returns.
fn compare(what: &str, arrays: &[&Array], compute: impl Fn(&[Tensor]) -> Vec<Tensor>) {
    let run = |place: Place| {
        let tensors: Vec<Tensor> = arrays.iter().map(|array| array.tensor(place)).collect();
        compute(&tensors)
    };
    let (found, want) = (run(Place::Cuda), run(Place::Cpu(DType::F64)));
    assert_eq!(found.len(), want.len(), "{what}");
    for (at, (found, want)) in found.iter().zip(&want).enumerate() {
        assert_eq!(found.shape(), want.shape(), "{what}, {at}: shape");
        assert!(found.device() != Device::Cpu, "{what}, {at}: not on the device");
        let [found, want] = [found, want].map(|tensor| tensor.to_vec::<f64>().unwrap());
        assert_close(&format!("{what}, {at}"), &found, &want, TOLERANCE);
    }
}

fn drawn<const N: usize>(rng: &mut ChaCha8Rng, shape: &[usize]) -> [Array; N] {
    std::array::from_fn(|_| Array::uniform(rng, shape, -2.0..2.0))
}

#[test]
fn of_functions_of_one_operand() {
    let rng = &mut rng(80);
    for &op in UnaryOp::ALL {
        for n in [1, 4, 1023, 1025] {
            let [dy] = drawn(rng, &[n]);
            // Where every input and every output of the table may lie, and then on either side of zero.
            let mut ranges = vec![0.2..0.9];
            if !matches!(op, UnaryOp::Sqrt | UnaryOp::Recip | UnaryOp::Ln) {
                ranges.push(-3.0..3.0);
            }
            for range in ranges {
                let saved = Array::uniform(rng, &[n], range);
                compare(op.name(), &[&saved, &dy], |t| {
                    vec![Tensor::unary_backward(op, &t[0], &t[1]).unwrap()]
                });
            }
        }
    }
}

#[test]
fn of_channels() {
    let rng = &mut rng(81);
    // Of two values per channel nearly all of the gradient cancels, and rounding in between would be all that is left.
    for shape in [&[2, 65][..], &[7, 5], &[3, 4, 5, 6], &[2, 33, 7, 9], &[70, 8, 3, 3]] {
        let c = shape[1];
        let [x, dy] = drawn(rng, shape);
        let scale = Array::uniform(rng, &[c], 0.5..1.5);
        compare(&format!("batch norm {shape:?}"), &[&x, &dy, &scale], |t| {
            let normal = t[0].batch_norm(&t[2], &t[2], 1e-5).unwrap();
            let statistics = (&normal.mean, &normal.variance);
            let back = Tensor::batch_norm_backward(&t[0], &t[1], &t[2], statistics, 1e-5).unwrap();
            vec![back.input, back.scale, back.shift]
        });
        for slopes in [1, c] {
            let slope = Array::uniform(rng, &[slopes], 0.1..0.4);
            compare(&format!("prelu {shape:?}, {slopes} slopes"), &[&x, &slope, &dy], |t| {
                let (input, slope) = Tensor::prelu_backward(&t[0], &t[1], &t[2]).unwrap();
                vec![input, slope]
            });
        }
    }
}

#[test]
fn of_rows() {
    let rng = &mut rng(82);
    for shape in [[1, 1], [3, 7], [5, 32], [33, 100], [4, 1025]] {
        let [x, dy] = drawn(rng, &shape);
        let scale = Array::uniform(rng, &shape[1..], 0.5..1.5);
        compare(&format!("softmax {shape:?}"), &[&x, &dy], |t| {
            vec![Tensor::softmax_backward(&t[0].softmax().unwrap(), &t[1]).unwrap()]
        });
        compare(&format!("log softmax {shape:?}"), &[&x, &dy], |t| {
            vec![Tensor::log_softmax_backward(&t[0].log_softmax().unwrap(), &t[1]).unwrap()]
        });
        let targets = dy.map(f64::abs);
        compare(&format!("soft cross-entropy {shape:?}"), &[&x, &targets], |t| {
            let (loss, gradient) = t[0].soft_cross_entropy(&t[1], 0.25).unwrap();
            vec![loss, gradient]
        });
        if shape[1] > 1 {
            compare(&format!("layer norm {shape:?}"), &[&x, &dy, &scale], |t| {
                let back = Tensor::layer_norm_backward(&t[0], &t[1], &t[2], 1e-5).unwrap();
                vec![back.input, back.scale, back.shift]
            });
        }
    }
}

/// Of the same bits, since a mask is nothing but its key.
#[test]
fn masks_are_those_of_the_processor() {
    for (n, p, key) in [(1, 0.5, 1), (1023, 0.1, 7), (4097, 0.9, u64::MAX), (5, 0.0, 3)] {
        let on = |device: &Device| {
            let mask = Tensor::dropout_mask_on(&[n], p, key, DType::F32, device).unwrap();
            mask.to_vec::<f32>().unwrap()
        };
        assert_eq!(on(&cuda()), on(&Device::Cpu), "{n} elements, p = {p}");
    }
}
