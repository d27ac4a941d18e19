//! The distances to class means on the interpreter, against their reference.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::reference;
use gpz_kernels::statistics::CLASS_DISTANCES_F32;
use proptest::prelude::*;
use ptx_sim::{Arg, Device, Error, Launch, Module, Work};

#[derive(Debug, Clone)]
struct Case {
    x: Vec<f32>,
    labels: Vec<usize>,
    means: Vec<f64>,
    mean: Vec<f64>,
}

impl Case {
    /// Rows of width `d` of four classes by turns; no two numbers are alike.
    fn new(n: usize, d: usize, offset: f64) -> Self {
        let value = |i: usize| offset + ((i * 7919) % 1009) as f64 / 128.0;
        Case {
            x: (0..n * d).map(|i| value(i) as f32).collect(),
            labels: (0..n).map(|row| (3 * row + 1) % 4).collect(),
            means: (0..4 * d).map(|i| value(i + 5) + 0.3).collect(),
            mean: (0..d).map(|i| value(i + 11) - 0.7).collect(),
        }
    }

    fn run(&self, text: &str, seed: u64) -> Result<(Vec<f64>, Work), Error> {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let (n, d) = (self.labels.len(), self.mean.len());
        let class: Vec<u32> = self.labels.iter().map(|&label| label as u32).collect();
        let out = device.unwritten::<f64>(2 * n);
        let buffers = [
            device.upload(&self.x),
            device.upload(&class),
            device.upload(&self.means),
            device.upload(&self.mean),
            out,
        ];
        let args: Vec<Arg> =
            buffers.into_iter().map(Arg::from).chain([Arg::from(d as u32)]).collect();
        let kernel = CLASS_DISTANCES_F32;
        let launch = Launch::new([n as u32, 1, 1], kernel.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, kernel.entry, &launch, &args)?;
        Ok((device.read(out)?, work))
    }

    fn check(&self, text: &str, seed: u64) -> Result<Work, String> {
        let (found, work) = self.run(text, seed).map_err(|error| error.to_string())?;
        let want = reference::class_distances(&self.x, &self.labels, &self.means, &self.mean);
        for (at, (found, want)) in found.iter().zip(want.iter().flatten()).enumerate() {
            let close = (found - want).abs() <= 1e-13 * want;
            if !(close || found.is_nan() && want.is_nan() || found == want) {
                return Err(format!("value {at}: {found} instead of {want}"));
            }
        }
        Ok(work)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn distances_are_those_of_the_reference(
        n in 1..5_usize,
        d in prop_oneof![1..40_usize, 250..260_usize, 510..515_usize],
        offset in prop_oneof![Just(0.0), Just(1e6)],
        seed: u64,
    ) {
        Case::new(n, d, offset).check(CLASS_DISTANCES_F32.text, seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn the_same_bits_in_every_order() {
    let case = Case::new(3, 300, 0.0);
    let first = case.run(CLASS_DISTANCES_F32.text, 0).unwrap();
    for seed in 1..5 {
        assert_eq!(case.run(CLASS_DISTANCES_F32.text, seed).unwrap(), first);
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    let mut case = Case::new(3, 7, 0.0);
    case.x[9] = f32::NAN;
    case.x[20] = f32::INFINITY;
    case.check(CLASS_DISTANCES_F32.text, 1).unwrap();
    let (found, _) = case.run(CLASS_DISTANCES_F32.text, 1).unwrap();
    assert!(found[0].is_finite() && found[2].is_nan() && found[5] == f64::INFINITY);
}

#[test]
fn nothing_can_be_wrong_unnoticed() {
    let cases = [Case::new(3, 300, 0.0), Case::new(2, 5, 0.0), Case::new(1, 256, 0.0)];
    let checks: Vec<_> =
        cases.iter().map(|case| |text: &str, seed| case.check(text, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&CLASS_DISTANCES_F32, &checks);
}
