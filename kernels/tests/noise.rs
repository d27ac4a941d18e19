//! Gaussian noise on the interpreter, against its reference and what is published of its random numbers.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::reference;
use gpz_kernels::statistics::NOISE_F32;
use proptest::prelude::*;
use ptx_sim::{Arg, Device, Error, Launch, Module, Work};

#[derive(Debug, Clone)]
struct Case {
    x: Vec<f32>,
    sigma: f32,
    key: u64,
    offset: u64,
}

impl Case {
    fn run(&self, text: &str, in_place: bool, seed: u64) -> Result<(Vec<f32>, Work), Error> {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let n = self.x.len();
        let x = if in_place { device.upload_mutable(&self.x) } else { device.upload(&self.x) };
        let out = if in_place { x } else { device.unwritten::<f32>(n) };
        let args = [
            Arg::from(x),
            Arg::from(out),
            Arg::from(n as u32),
            Arg::from(self.sigma),
            Arg::from(self.key),
            Arg::from(self.offset),
        ];
        let grid = [(n as u32).div_ceil(NOISE_F32.tile), 1, 1];
        let launch = Launch::new(grid, NOISE_F32.block).seed(seed).at_most(10_000);
        let work = device.launch(&module, NOISE_F32.entry, &launch, &args)?;
        Ok((device.read(out)?, work))
    }

    fn check(&self, text: &str, in_place: bool, seed: u64) -> Result<Work, String> {
        let (found, work) = self.run(text, in_place, seed).map_err(|error| error.to_string())?;
        let want = reference::noise(&self.x, self.sigma, self.key, self.offset);
        for (at, (&found, want)) in found.iter().zip(want).enumerate() {
            let normals = reference::normals(self.offset.wrapping_add(at as u64 / 4), self.key);
            let [a, b] = [0, 1].map(|side| normals[at % 4 / 2 * 2 + side]);
            let slack = 2.5e-7 * a.hypot(b) * f64::from(self.sigma) + want.abs() * 2_f64.powi(-24);
            let found = f64::from(found);
            if !((found - want).abs() <= slack || found == want || found.is_nan() && want.is_nan())
            {
                return Err(format!("element {at}: {found} instead of {want}"));
            }
        }
        Ok(work)
    }
}

/// The known answers that come with the authors' Random123.
#[test]
fn random_numbers_are_the_published_ones() {
    assert_eq!(
        reference::philox([0; 4], [0; 2]),
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
    );
    assert_eq!(
        reference::philox([u32::MAX; 4], [u32::MAX; 2]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    assert_eq!(
        reference::philox(pi, [0xa409_3822, 0x299f_31d0]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn noise_is_that_of_the_reference(
        x in prop_oneof![1..20_usize, 1020..1030_usize, Just(2048)]
            .prop_flat_map(|n| proptest::collection::vec(-9.0..9.0_f32, n)),
        sigma in prop_oneof![Just(0.0_f32), 1e-3..1e3_f32],
        key: u64,
        offset in prop_oneof![any::<u64>(), 0..9_u64, Just(u64::from(u32::MAX)), Just(u64::MAX)],
        in_place: bool,
        seed: u64,
    ) {
        let case = Case { x, sigma, key, offset };
        case.check(NOISE_F32.text, in_place, seed).map_err(TestCaseError::fail)?;
    }
}

/// What was added to elements stays the same however they are divided among launches, and whatever the order of threads.
#[test]
fn noise_depends_on_key_and_place_alone() {
    let all = Case { x: vec![0.5; 40], sigma: 1.0, key: 7, offset: 100 };
    let (whole, work) = all.run(NOISE_F32.text, false, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (160, 160));
    assert_eq!(all.run(NOISE_F32.text, true, 3).unwrap().0, whole);
    let rest = Case { x: vec![0.5; 20], offset: 105, ..all };
    assert_eq!(rest.run(NOISE_F32.text, false, 1).unwrap().0, whole[20..]);
}

#[test]
fn moments_are_those_of_a_normal_number() {
    let n = 20_000;
    let case = Case { x: vec![0.0; n], sigma: 1.0, key: 3, offset: 0 };
    case.check(NOISE_F32.text, false, 0).unwrap();
    let (found, _) = case.run(NOISE_F32.text, false, 0).unwrap();
    let mean = |power| found.iter().map(|&g| f64::from(g).powi(power)).sum::<f64>() / n as f64;
    // Four standard errors.
    let root = (n as f64).sqrt();
    for (power, want, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let (found, slack) = (mean(power), 4.0 * f64::sqrt(variance) / root);
        assert!((found - want).abs() < slack, "{power}: {found}");
    }
}

#[test]
fn what_is_not_finite_stays() {
    let x = vec![f32::NAN, f32::INFINITY, -f32::INFINITY, 1.0, f32::NAN, f32::MAX];
    Case { x, sigma: 1.0, key: 1, offset: 2 }.check(NOISE_F32.text, false, 0).unwrap();
    let (found, _) = Case { x: vec![-0.0, 1e-45], sigma: 0.0, key: 1, offset: 2 }
        .run(NOISE_F32.text, false, 0)
        .unwrap();
    assert_eq!(found, [0.0, 1e-45]);
}

#[test]
fn nothing_can_be_wrong_unnoticed() {
    let case = |n: usize, offset| Case {
        x: (0..n).map(|i| i as f32 * 1e-3).collect(),
        sigma: 0.83,
        key: 0x1234_5678_9ABC_DEF0,
        offset,
    };
    let cases = [case(7, 0xFFFF_FFFF), case(1, 3), case(160, 0), case(1029, 1 << 40)];
    let checks: Vec<_> =
        cases.iter().map(|case| |text: &str, seed| case.check(text, false, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&NOISE_F32, &checks);
}
