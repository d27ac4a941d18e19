//! Gradients held against central differences in f64.

#![allow(dead_code)] // each test file uses its part

use std::sync::OnceLock;

use gpz_nn::{Entry, Module, Result, Tape, Var};
use gpz_tensor::{DType, Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Step of the difference quotients: their error is a few 1e-10 for functions of curvature 1.
const STEP: f64 = 1e-5;
/// Error an analytic gradient may have, relative to the largest element.
const TOLERANCE: f64 = 1e-7;
/// The same in f32.
const TOLERANCE_F32: f64 = 2e-4;

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Uniform in a range, f64, each value one that f32 holds as well.
pub(crate) fn uniform(
    rng: &mut ChaCha8Rng,
    shape: &[usize],
    range: std::ops::Range<f64>,
) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product::<usize>())
        .map(|_| f64::from(rng.random_range(range.clone()) as f32))
        .collect();
    Tensor::from_slice(&values, shape).unwrap()
}

/// Of random sign and a magnitude in a range: no closer to a kink at 0 than the range says.
pub(crate) fn signed(rng: &mut ChaCha8Rng, shape: &[usize], range: std::ops::Range<f64>) -> Tensor {
    let magnitude = uniform(rng, shape, range);
    let signs: Vec<f64> =
        (0..magnitude.numel()).map(|_| if rng.random() { 1.0 } else { -1.0 }).collect();
    magnitude.mul(&Tensor::from_slice(&signs, shape).unwrap()).unwrap()
}

/// All different, a tenth apart, in random order: no two elements of a window compete.
pub(crate) fn distinct(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let mut values: Vec<f64> =
        (0..count).map(|i| f64::from((0.1 * (i as f64 - 0.4 * count as f64)) as f32)).collect();
    for i in (1..count).rev() {
        values.swap(i, rng.random_range(0..=i));
    }
    Tensor::from_slice(&values, shape).unwrap()
}

/// The same pictures, channels-last in memory.
pub(crate) fn channels_last(tensor: &Tensor) -> Tensor {
    tensor.channels_last().unwrap()
}

/// The same elements with the first and last axis exchanged in memory.
pub(crate) fn swapped(tensor: &Tensor) -> Tensor {
    let last = tensor.rank() - 1;
    tensor.transpose(0, last).unwrap().row_major().unwrap().transpose(0, last).unwrap()
}

/// A number that weighs every element of `y` differently, so that no permutation of a gradient passes for it.
fn weighted_sum(y: &Var, weighing: u64) -> Result<Var> {
    let weights = beside(&uniform(&mut rng(weighing), y.shape(), 0.2..2.0), y);
    let axes: Vec<usize> = (0..y.shape().len()).collect();
    y.mul(&Var::constant(weights))?.sum(&axes)
}

/// The same with element `i` moved.
fn moved(tensor: &Tensor, i: usize, by: f64) -> Tensor {
    let mut values = tensor.to_vec::<f64>().unwrap();
    values[i] += by;
    Tensor::from_slice(&values, tensor.shape()).unwrap()
}

/// Difference quotients of `loss`, which is given each element moved forth and back.
fn differences(tensor: &Tensor, mut loss: impl FnMut(Tensor) -> f64) -> Vec<f64> {
    (0..tensor.numel())
        .map(|i| (loss(moved(tensor, i, STEP)) - loss(moved(tensor, i, -STEP))) / (2.0 * STEP))
        .collect()
}

/// Calls `differences_of` with weighings until every operand's derivative is large somewhere: where terms happen to cancel, a rule that
/// returns 0 would pass. Returns the weighing with the differences.
fn large_differences(
    name: &str,
    mut differences_of: impl FnMut(u64) -> Vec<Vec<f64>>,
) -> (u64, Vec<Vec<f64>>) {
    for weighing in 0..8 {
        let differences = differences_of(weighing);
        if differences.iter().all(|operand| largest(operand) > 0.1) {
            return (weighing, differences);
        }
    }
    panic!("{name}: an operand has no derivative to speak of, a rule that returns 0 would pass");
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |best, v| v.abs().max(best))
}

fn compare(what: &str, got: &Tensor, want: &[f64], tolerance: f64) {
    let got = got.to_vec::<f64>().unwrap();
    assert_eq!(got.len(), want.len(), "{what}: another number of elements");
    let largest = largest(want);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= tolerance * largest.max(1.0),
            "{what}, element {i}: {got} instead of {want}"
        );
    }
}

/// A constant in the dtype and on the device of a value.
pub(crate) fn beside(constant: &Tensor, value: &Var) -> Tensor {
    let constant = constant.to_dtype(value.value().dtype()).unwrap();
    constant.to_device(&value.value().device()).unwrap()
}

/// One CUDA device for all tests of a process.
pub(crate) fn cuda() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(gpz_cuda_sim::device_of_tests).clone()
}

/// Checks the gradient of every operand of `f`: against differences, in f32 on the processor and on a CUDA device against f64, and alone
/// against together with the others.
pub(crate) fn check(name: &str, operands: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) {
    let constants =
        |operands: &[Tensor]| operands.iter().cloned().map(Var::constant).collect::<Vec<_>>();
    let (weighing, differences) = large_differences(name, |weighing| {
        let value = |operands: &[Tensor]| {
            let y = f(&constants(operands)).unwrap();
            weighted_sum(&y, weighing).unwrap().value().item().unwrap()
        };
        let of = |i: usize| {
            let mut all = operands.to_vec();
            differences(&operands[i], |moved| {
                all[i] = moved;
                value(&all)
            })
        };
        (0..operands.len()).map(of).collect()
    });
    // Gradients of the operands that are wanted; the others are constants.
    let gradients = |operands: &[Tensor], wanted: &dyn Fn(usize) -> bool| {
        let tape = Tape::train(0);
        let entries: Vec<Entry> = operands.iter().cloned().map(Entry::parameter).collect();
        let operand = |(i, entry)| {
            if wanted(i) { tape.parameter(entry) } else { Var::constant(entry.value().clone()) }
        };
        let vars: Vec<Var> = entries.iter().enumerate().map(operand).collect();
        let step = tape.backward(&weighted_sum(&f(&vars).unwrap(), weighing).unwrap()).unwrap();
        entries.iter().map(|entry| step.gradient(entry).cloned()).collect::<Vec<_>>()
    };
    let together = gradients(operands, &|_| true);
    let single: Vec<Tensor> = operands.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
    let together_f32 = gradients(&single, &|_| true);
    let there: Vec<Tensor> = single.iter().map(|t| t.to_device(&cuda()).unwrap()).collect();
    let together_cuda = gradients(&there, &|_| true);
    for (i, operand) in operands.iter().enumerate() {
        let what = format!("{name}, operand {i}");
        let gradient = together[i].as_ref().unwrap_or_else(|| panic!("{what} has no gradient"));
        assert_eq!(gradient.shape(), operand.shape(), "{what}");
        compare(&what, gradient, &differences[i], TOLERANCE);
        let narrow = together_f32[i].as_ref().unwrap_or_else(|| panic!("{what} has none in f32"));
        assert_eq!(narrow.dtype(), DType::F32, "{what}");
        compare(&format!("{what}, f32"), narrow, &gradient.to_vec::<f64>().unwrap(), TOLERANCE_F32);
        let there =
            together_cuda[i].as_ref().unwrap_or_else(|| panic!("{what} has none on a device"));
        assert_eq!(there.device(), cuda(), "{what}");
        compare(&format!("{what}, cuda"), there, &gradient.to_vec::<f64>().unwrap(), TOLERANCE_F32);
        let alone = gradients(operands, &|wanted| wanted == i);
        for (j, other) in alone.iter().enumerate() {
            match other {
                Some(own) if i == j => {
                    assert_eq!(
                        own.to_vec::<f64>().unwrap(),
                        gradient.to_vec::<f64>().unwrap(),
                        "{what}"
                    )
                }
                Some(_) => panic!("{what}: operand {j} did not want a gradient and has one"),
                None => assert_ne!(i, j, "{what}, alone"),
            }
        }
    }
    assert!(tape_free(&f(&constants(operands)).unwrap()), "{name}: constants leave a trace");
}

/// Whether nothing was recorded on the way to a value.
pub(crate) fn tape_free(y: &Var) -> bool {
    let loss = weighted_sum(y, 0).unwrap();
    matches!(Tape::train(0).backward(&loss), Err(gpz_nn::Error::NoGradient))
}

/// Checks the gradients of a layer's parameters, which are drawn anew, and of its input; in training.
pub(crate) fn check_layer<M: Module>(
    name: &str,
    mut layer: M,
    input: &Tensor,
    forward: impl Fn(&M, &Tape, &Var) -> Result<Var>,
) {
    let rng = &mut rng(99);
    layer.convert(DType::F64).unwrap();
    for (_, entry) in layer.entries_mut() {
        if entry.kind() == gpz_nn::Kind::Parameter {
            *entry.value_mut() = signed(rng, entry.value().shape(), 0.3..1.2);
        }
    }
    let input = Entry::parameter(input.clone());
    let is_learnt = |entry: &Entry| entry.kind() == gpz_nn::Kind::Parameter;
    let entries = layer.entries();
    let learnt: Vec<usize> = (0..entries.len()).filter(|&i| is_learnt(entries[i].1)).collect();
    let (weighing, differences) = large_differences(name, |weighing| {
        let value = |layer: &M, input: Tensor| {
            let y = forward(layer, &Tape::train(5), &Var::constant(input)).unwrap();
            weighted_sum(&y, weighing).unwrap().value().item().unwrap()
        };
        let mut all = vec![differences(input.value(), |moved| value(&layer, moved))];
        for &i in &learnt {
            let original = layer.entries()[i].1.value().clone();
            all.push(differences(&original, |moved| {
                *layer.entries_mut()[i].1.value_mut() = moved;
                value(&layer, input.value().clone())
            }));
            *layer.entries_mut()[i].1.value_mut() = original;
        }
        all
    });
    let tape = Tape::train(5);
    let y = forward(&layer, &tape, &tape.parameter(&input)).unwrap();
    let step = tape.backward(&weighted_sum(&y, weighing).unwrap()).unwrap();
    let gradient = step.gradient(&input).unwrap();
    compare(&format!("{name}, input"), gradient, &differences[0], TOLERANCE);
    for (i, (key, entry)) in layer.entries().into_iter().enumerate() {
        let (what, gradient) = (format!("{name}, {key}"), step.gradient(entry));
        match learnt.iter().position(|&own| own == i) {
            Some(place) => {
                let gradient = gradient.unwrap();
                assert_eq!(gradient.shape(), entry.value().shape(), "{what}");
                compare(&what, gradient, &differences[place + 1], TOLERANCE);
            }
            None => assert!(gradient.is_none(), "{what} is not learnt"),
        }
    }
    // The same in f32 on a CUDA device.
    let wanted: Vec<Vec<f64>> = std::iter::once(step.gradient(&input))
        .chain(learnt.iter().map(|&i| step.gradient(layer.entries()[i].1)))
        .map(|gradient| gradient.unwrap().to_vec().unwrap())
        .collect();
    let trace =
        tape_free(&forward(&layer, &Tape::eval(), &Var::constant(input.value().clone())).unwrap());
    layer.convert(DType::F32).unwrap();
    layer.to_device(&cuda()).unwrap();
    let there = input.value().to_dtype(DType::F32).unwrap().to_device(&cuda()).unwrap();
    let there = Entry::parameter(there);
    let tape = Tape::train(5);
    let y = forward(&layer, &tape, &tape.parameter(&there)).unwrap();
    let step = tape.backward(&weighted_sum(&y, weighing).unwrap()).unwrap();
    let gradients = std::iter::once(step.gradient(&there))
        .chain(learnt.iter().map(|&i| step.gradient(layer.entries()[i].1)));
    for (place, (gradient, want)) in gradients.zip(&wanted).enumerate() {
        compare(&format!("{name}, gradient {place}, cuda"), gradient.unwrap(), want, TOLERANCE_F32);
    }
    // In evaluation nothing is recorded.
    assert!(trace, "{name}: evaluation leaves a trace");
}
