//! The elementwise kernels that give four adjacent elements to a thread, on the interpreter, against their references.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::{Kernel, elementwise, reference};
use proptest::prelude::*;
use ptx_sim::{Arg, Device, Error, Launch, Module, Work};

/// How far a function and its gradient may be off: units in the last place, and for the gradient a share of `dy` besides. Zero is for
/// the very bits.
struct Op {
    name: &'static str,
    ulps: f64,
    backward_ulps: f64,
    share_of_dy: f64,
}

const fn op(name: &'static str, ulps: f64, backward_ulps: f64, share_of_dy: f64) -> Op {
    Op { name, ulps, backward_ulps, share_of_dy }
}

/// Differences such as `1 − y²` lose digits on the CPU as well.
const CANCELS: f64 = 1.0 / 8_388_608.0;

const OPS: [Op; 11] = [
    op("neg", 0.0, 0.0, 0.0),
    op("abs", 0.0, 0.0, 0.0),
    op("square", 0.0, 0.0, 0.0),
    op("sqrt", 0.0, 2.0, 0.0),
    op("recip", 0.0, 3.0, 0.0),
    op("exp", 2.0, 0.0, 0.0),
    op("ln", 2.0, 2.0, 0.0),
    op("relu", 0.0, 0.0, 0.0),
    op("tanh", 3.0, 3.0, CANCELS),
    op("sigmoid", 3.0, 3.0, CANCELS),
    op("gelu", 5.0, 4.0, 2.0 * CANCELS),
];

/// A kernel with arguments: inputs, output, their length, numbers.
#[derive(Debug, Clone)]
struct Case {
    kernel: Kernel,
    inputs: Vec<Vec<f32>>,
    n: usize,
    numbers: Vec<Arg>,
    /// Which input the output is, if one.
    in_place: Option<usize>,
}

impl Case {
    fn new(kernel: Kernel, inputs: &[Vec<f32>]) -> Self {
        let n = inputs.first().map_or(0, Vec::len);
        Self { kernel, inputs: inputs.to_vec(), n, numbers: Vec::new(), in_place: None }
    }

    fn run(&self, text: &str, seed: u64) -> Result<(Vec<f32>, Work), Error> {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let mut buffers = Vec::new();
        for (at, input) in self.inputs.iter().enumerate() {
            buffers.push(if self.in_place == Some(at) {
                device.upload_mutable(input)
            } else {
                device.upload(input)
            });
        }
        let out = self.in_place.map_or_else(|| device.unwritten::<f32>(self.n), |at| buffers[at]);
        let mut args: Vec<Arg> = buffers.into_iter().chain([out]).map(Arg::from).collect();
        args.push(Arg::from(self.n as u32));
        args.extend(self.numbers.iter().cloned());
        let grid = [(self.n as u32).div_ceil(self.kernel.tile), 1, 1];
        let launch = Launch::new(grid, self.kernel.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, self.kernel.entry, &launch, &args)?;
        Ok((device.read(out)?, work))
    }

    /// Runs a text and asks of each element whether it will do.
    fn check(
        &self,
        text: &str,
        seed: u64,
        right: &dyn Fn(usize, f32) -> Result<(), String>,
    ) -> Result<Work, String> {
        let (found, work) = self.run(text, seed).map_err(|error| error.to_string())?;
        for (at, &found) in found.iter().enumerate() {
            right(at, found).map_err(|why| {
                let from: Vec<f32> = self.inputs.iter().map(|input| input[at]).collect();
                format!("{}, element {at}, of {from:?}: {why}", self.kernel.entry)
            })?;
        }
        Ok(work)
    }
}

fn same_bits(found: f32, want: f32) -> Result<(), String> {
    if found.to_bits() == want.to_bits() || found.is_nan() && want.is_nan() {
        return Ok(());
    }
    Err(format!("{found:e} instead of {want:e}"))
}

/// Within so many units in the last place and an absolute error; zeros have the right sign.
fn near(found: f32, want: f64, ulps: f64, absolute: f64) -> Result<(), String> {
    let nearest = want as f32;
    if ulps == 0.0 || want == 0.0 && absolute == 0.0 || !nearest.is_finite() {
        return same_bits(found, nearest);
    }
    let ulp = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
    let off = (f64::from(found) - want).abs();
    // Next to the largest number an error of one unit is infinity.
    let largest = nearest.abs() == f32::MAX && found.is_infinite();
    if off <= ulps * ulp + absolute || largest {
        return Ok(());
    }
    Err(format!("{found:e} instead of {want:e}, {} ulp", off / ulp))
}

fn unary_case(op: &Op, x: &[f32]) -> Case {
    Case::new(elementwise::unary(op.name).unwrap(), &[x.to_vec()])
}

fn check_unary(op: &Op, case: &Case, text: &str, seed: u64) -> Result<Work, String> {
    // The smallest results of GELU are products of subnormal numbers.
    let absolute = if op.name == "gelu" { 2_f64.powi(-145) } else { 0.0 };
    case.check(text, seed, &|at, found| {
        let want = reference::unary(op.name, f64::from(case.inputs[0][at]));
        near(found, want, op.ulps, absolute)
    })
}

fn backward_case(op: &Op, saved: &[f32], dy: &[f32]) -> Case {
    let inputs = [saved.to_vec(), dy.to_vec()];
    Case::new(elementwise::unary_backward(op.name).unwrap(), &inputs)
}

fn check_backward(op: &Op, case: &Case, text: &str, seed: u64) -> Result<Work, String> {
    case.check(text, seed, &|at, found| {
        let [saved, dy] = [0, 1].map(|input: usize| f64::from(case.inputs[input][at]));
        let want = reference::unary_backward(op.name, saved, dy);
        let mut share = op.share_of_dy;
        if op.name == "gelu" && saved < 0.0 {
            // Both terms vanish with the normal density.
            share *= (-0.5 * saved * saved).exp() * (1.0 - saved);
            share += 2_f64.powi(-145);
        }
        near(found, want, op.backward_ulps, share * dy.abs())
    })
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1..20_usize, 1020..1030_usize, Just(2048)]
}

/// Numbers near zero, and any that there are.
fn numbers(n: usize) -> impl Strategy<Value = Vec<f32>> {
    let any = any::<u32>().prop_map(f32::from_bits);
    proptest::collection::vec(prop_oneof![4 => -9.0..9.0_f32, 2 => -110.0..110.0_f32, 1 => any], n)
}

fn moderate(n: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(prop_oneof![2 => -2.0..2.0_f32, 1 => -20.0..20.0_f32], n)
}

/// Every tenth is peculiar, the others lie in the range.
fn mixed(n: usize, range: f32) -> Vec<f32> {
    const PECULIAR: [f32; 16] = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        0.0,
        1.0,
        -1.0,
        1e-40,
        -1e-45,
        88.5,
        -90.0,
        -13.6,
        -150.0,
        30.0,
        -20.0,
        1e-5,
    ];
    (0..n)
        .map(|i| {
            if i % 10 == 9 {
                PECULIAR[i / 10 % 16]
            } else {
                (((i * 7919 + 1500) % 2003) as f32 / 1001.5 - 1.0) * range
            }
        })
        .collect()
}

/// The same without subnormal numbers, whose gradients overflow on the way.
fn coarse(n: usize, range: f32) -> Vec<f32> {
    mixed(n, range).into_iter().map(|v| if v.is_subnormal() { 0.25 } else { v }).collect()
}

/// What comes first, last and alone in a thread, and several blocks.
const LENGTHS: [usize; 5] = [1, 2, 3, 4, 1031];

fn assert_exact(kernel: Kernel, check: &dyn Fn(usize, &str, u64) -> Result<Work, String>) {
    let checks: Vec<_> =
        LENGTHS.iter().map(|&n| move |text: &str, seed| check(n, text, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&kernel, &checks);
}

#[test]
fn the_table_is_complete() {
    for op in &OPS {
        assert!(elementwise::unary(op.name).is_some() && elementwise::binary(op.name).is_none());
        assert!(elementwise::unary_backward(op.name).is_some());
    }
    for name in ["add", "sub", "mul", "div"] {
        assert!(elementwise::binary(name).is_some() && elementwise::unary(name).is_none());
        assert!(elementwise::binary_strided(name).is_some());
    }
    assert!(elementwise::unary("neg_backward").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn functions_are_those_of_the_reference(x in length().prop_flat_map(numbers), in_place: bool, seed: u64) {
        for op in &OPS {
            let mut case = unary_case(op, &x);
            case.in_place = in_place.then_some(0);
            check_unary(op, &case, case.kernel.text, seed).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn gradients_are_those_of_the_reference(
        (saved, dy) in length().prop_flat_map(|n| (moderate(n), moderate(n))),
        in_place in 0..3_usize,
        seed: u64,
    ) {
        for op in &OPS {
            let mut case = backward_case(op, &saved, &dy);
            case.in_place = [None, Some(0), Some(1)][in_place];
            check_backward(op, &case, case.kernel.text, seed).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn two_operands(
        (x, y) in length().prop_flat_map(|n| (numbers(n), numbers(n))),
        in_place in 0..3_usize,
        seed: u64,
    ) {
        for name in ["add", "sub", "mul", "div"] {
            let mut case = Case::new(elementwise::binary(name).unwrap(), &[x.clone(), y.clone()]);
            case.in_place = [None, Some(0), Some(1)][in_place];
            let right = |at: usize, found| same_bits(found, reference::binary(name, x[at], y[at]));
            case.check(case.kernel.text, seed, &right).map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn affine_functions_and_masks(
        x in length().prop_flat_map(numbers),
        scale in -3.0..3.0_f32,
        shift in -3.0..3.0_f32,
        threshold in 0..=1_u64 << 32,
        key: u64,
        seed: u64,
    ) {
        let mut case = Case::new(elementwise::AFFINE_F32, std::slice::from_ref(&x));
        case.numbers = vec![Arg::from(scale), Arg::from(shift)];
        let right = |at: usize, found| same_bits(found, reference::affine(x[at], scale, shift));
        case.check(case.kernel.text, seed, &right).map_err(TestCaseError::fail)?;

        let mut case = Case { n: x.len(), ..Case::new(elementwise::DROPOUT_MASK_F32, &[]) };
        case.numbers = vec![Arg::from(threshold), Arg::from(scale), Arg::from(key)];
        let want = reference::dropout_mask(x.len(), threshold, scale, key);
        case.check(case.kernel.text, seed, &|at, found| same_bits(found, want[at])).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn what_is_not_finite_and_the_ends() {
    let x = mixed(800, 100.0);
    for op in &OPS {
        let case = unary_case(op, &x);
        check_unary(op, &case, case.kernel.text, 3).unwrap();
        let mut dy = coarse(800, 4.0);
        dy.rotate_left(17);
        for dy in [dy, coarse(800, 4.0)] {
            let case = backward_case(op, &coarse(800, 4.0), &dy);
            check_backward(op, &case, case.kernel.text, 3).unwrap();
        }
    }
}

#[test]
fn the_same_bits_in_every_order() {
    let (x, dy) = (mixed(2050, 8.0), mixed(2050, 3.0));
    for op in &OPS {
        for case in [backward_case(op, &x, &dy), unary_case(op, &x)] {
            let bits = |seed| {
                let (found, _) = case.run(case.kernel.text, seed).unwrap();
                found.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert!((1..4).all(|seed| bits(seed) == bits(0)), "{}", case.kernel.entry);
        }
    }
}

#[test]
fn every_element_is_read_and_written_once() {
    let x = mixed(1030, 1.0);
    let (_, work) =
        unary_case(&OPS[10], &x).run(elementwise::unary("gelu").unwrap().text, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (4 * 1030, 4 * 1030));
    let case = backward_case(&OPS[8], &x, &x);
    let (_, work) = case.run(case.kernel.text, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (8 * 1030, 4 * 1030));
}

/// No instruction, guard or number can be wrong unnoticed.
#[test]
fn nothing_can_be_taken_away_from_functions() {
    for op in &OPS {
        let kernel = elementwise::unary(op.name).unwrap();
        // Not so wide that all of it were saturated.
        assert_exact(kernel, &|n, text, seed| {
            check_unary(op, &unary_case(op, &mixed(n, 12.0)), text, seed)
        });
    }
}

#[test]
fn nothing_can_be_taken_away_from_gradients() {
    for op in &OPS {
        let kernel = elementwise::unary_backward(op.name).unwrap();
        assert_exact(kernel, &|n, text, seed| {
            let mut dy = coarse(n, 4.0);
            dy.reverse();
            check_backward(op, &backward_case(op, &coarse(n, 4.0), &dy), text, seed)
        });
    }
}

#[test]
fn nothing_can_be_taken_away_from_the_others() {
    /// One above the third number for key 7: the lowest bit decides, which only the last step of the mixture sets.
    const THRESHOLD: u64 = 3_868_737_665;
    for name in ["add", "sub", "mul", "div"] {
        let kernel = elementwise::binary(name).unwrap();
        assert_exact(kernel, &|n, text, seed| {
            let (x, mut y) = (mixed(n, 9.0), mixed(n, 5.0));
            y.reverse();
            let case = Case::new(kernel, &[x.clone(), y.clone()]);
            let right = |at: usize, found| same_bits(found, reference::binary(name, x[at], y[at]));
            case.check(text, seed, &right)
        });
    }
    assert_exact(elementwise::AFFINE_F32, &|n, text, seed| {
        let x = mixed(n, 9.0);
        let mut case = Case::new(elementwise::AFFINE_F32, std::slice::from_ref(&x));
        case.numbers = vec![Arg::from(1.7_f32), Arg::from(0.3_f32)];
        let right = |at: usize, found| same_bits(found, reference::affine(x[at], 1.7, 0.3));
        case.check(text, seed, &right)
    });
    assert_exact(elementwise::FILL_F32, &|n, text, seed| {
        let mut case = Case { n, ..Case::new(elementwise::FILL_F32, &[]) };
        case.numbers = vec![Arg::from(-1.5_f32)];
        let mut want = vec![0.0; n];
        reference::fill(&mut want, -1.5);
        case.check(text, seed, &|at, found| same_bits(found, want[at]))
    });
    assert_exact(elementwise::DROPOUT_MASK_F32, &|n, text, seed| {
        let mut case = Case { n, ..Case::new(elementwise::DROPOUT_MASK_F32, &[]) };
        case.numbers = vec![Arg::from(THRESHOLD), Arg::from(2.0_f32), Arg::from(7_u64)];
        let want = reference::dropout_mask(n, THRESHOLD, 2.0, 7);
        case.check(text, seed, &|at, found| same_bits(found, want[at]))
    });
}
