//! The quantiser on the interpreter, against its reference.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::reference;
use gpz_kernels::statistics::QUANTISE_F32;
use proptest::prelude::*;
use ptx_sim::{Arg, Device, Error, Launch, Module, Work};

#[derive(Debug, Clone)]
struct Case {
    x: Vec<f32>,
    low: f64,
    step: f64,
    cells: f64,
}

impl Case {
    fn run(&self, text: &str, in_place: bool, seed: u64) -> Result<(Vec<f32>, Work), Error> {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let n = self.x.len();
        let x = if in_place { device.upload_mutable(&self.x) } else { device.upload(&self.x) };
        let out = if in_place { x } else { device.unwritten::<f32>(n) };
        let numbers = [self.low, self.step, self.cells - 1.0].map(Arg::from);
        let args: Vec<Arg> = [Arg::from(x), Arg::from(out), Arg::from(n as u32)]
            .into_iter()
            .chain(numbers)
            .collect();
        let grid = [(n as u32).div_ceil(QUANTISE_F32.tile), 1, 1];
        let launch = Launch::new(grid, QUANTISE_F32.block).seed(seed);
        let work = device.launch(&module, QUANTISE_F32.entry, &launch, &args)?;
        Ok((device.read(out)?, work))
    }

    fn check(&self, text: &str, in_place: bool, seed: u64) -> Result<Work, String> {
        let (found, work) = self.run(text, in_place, seed).map_err(|error| error.to_string())?;
        let mut want = self.x.clone();
        reference::quantise(&mut want, self.low, self.step, self.cells - 1.0);
        match found.iter().zip(&want).position(|(a, b)| a.to_bits() != b.to_bits()) {
            Some(at) => Err(format!("element {at}: {} instead of {}", found[at], want[at])),
            None => Ok(work),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cells_are_those_of_the_reference(
        x in prop_oneof![1..20_usize, 1020..1030_usize, Just(2048)]
            .prop_flat_map(|n| proptest::collection::vec(-9.0..9.0_f32, n)),
        low in -5.0..5.0_f64,
        step in 1e-3..4.0_f64,
        bits in 1..16,
        in_place: bool,
        seed: u64,
    ) {
        let case = Case { x, low, step, cells: f64::from(bits).exp2() };
        case.check(QUANTISE_F32.text, in_place, seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn ends_and_what_is_not_finite() {
    let x = vec![
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        0.0,
        1.0,
        3.999_999_8,
        4.0,
        f32::MAX,
        1e-45,
        -1e-45,
    ];
    let case = Case { x, low: 0.0, step: 1.0, cells: 4.0 };
    let (found, work) = case.run(QUANTISE_F32.text, false, 0).unwrap();
    assert_eq!(found, [0.5, 3.5, 0.5, 0.5, 0.5, 1.5, 3.5, 3.5, 3.5, 0.5, 0.5]);
    assert_eq!((work.global_read, work.global_written), (44, 44));
    case.check(QUANTISE_F32.text, true, 1).unwrap();
}

#[test]
fn nothing_can_be_wrong_unnoticed() {
    // Below, within and above the cells by turns, so that the last few elements have each.
    let value = |i: usize| [-7.5, (i * 7919 % 1009) as f32 / 101.0 - 3.0, 12.5][i % 3];
    let case =
        |n: usize| Case { x: (0..n).map(value).collect(), low: -3.7, step: 0.83, cells: 16.0 };
    let cases = [case(1), case(4), case(7), case(1029)];
    let checks: Vec<_> =
        cases.iter().map(|case| |text: &str, seed| case.check(text, false, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&QUANTISE_F32, &checks);
}
