//! The measures of images on the interpreter, against their references.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::statistics::{SQUARED_ERRORS_F32, SSIM_F32, TOTAL_VARIATION_F32, ssim_taps};
use gpz_kernels::{Kernel, reference};
use proptest::prelude::*;
use ptx_sim::{Arg, Device, Error, Launch, Module, Work};

#[derive(Debug, Clone)]
struct Case {
    kernel: Kernel,
    images: usize,
    /// Height, width and channels.
    shape: [usize; 3],
    x: Vec<f32>,
    y: Vec<f32>,
}

const CONSTANTS: [f64; 2] = [1e-4, 9e-4];

impl Case {
    /// Two sets of images with values from 0 to 1, of which no two neighbours are alike.
    fn new(kernel: Kernel, images: usize, shape: [usize; 3], seed: usize) -> Self {
        let value = |kind: usize, i: usize| {
            ((seed + i * 7919 + i / 7 * 613 + kind * 104_729) % 1009) as f32 / 1008.0
        };
        let n = images * shape.iter().product::<usize>();
        let all = |kind| (0..n).map(|i| value(kind, i)).collect();
        Self { kernel, images, shape, x: all(0), y: all(1) }
    }

    fn run(&self, text: &str, seed: u64) -> Result<(Vec<f64>, Work), Error> {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let [h, w, c] = self.shape;
        let each = if self.kernel == SSIM_F32 { c } else { 1 };
        let out = device.unwritten::<f64>(self.images * each);
        let (x, y) = (device.upload(&self.x), device.upload(&self.y));
        let sizes = self.shape.map(|size| Arg::from(size as u32));
        let args: Vec<Arg> = match self.kernel {
            SQUARED_ERRORS_F32 => {
                vec![x.into(), y.into(), out.into(), Arg::from((h * w * c) as u32)]
            }
            TOTAL_VARIATION_F32 => [x.into(), out.into()].into_iter().chain(sizes).collect(),
            _ => {
                let taps: Vec<u8> = ssim_taps().into_iter().flat_map(f64::to_le_bytes).collect();
                [x.into(), y.into(), Arg::from(taps), out.into()]
                    .into_iter()
                    .chain(sizes)
                    .chain(CONSTANTS.map(Arg::from))
                    .collect()
            }
        };
        let grid = [self.images as u32, each as u32, 1];
        let launch = Launch::new(grid, self.kernel.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, self.kernel.entry, &launch, &args)?;
        Ok((device.read(out)?, work))
    }

    fn expected(&self) -> Vec<f64> {
        let pixels = self.shape.iter().product();
        match self.kernel {
            SQUARED_ERRORS_F32 => reference::squared_errors(&self.x, &self.y, pixels),
            TOTAL_VARIATION_F32 => reference::total_variation(&self.x, self.shape),
            _ => reference::ssim(&self.x, &self.y, self.shape, &ssim_taps(), CONSTANTS),
        }
    }

    /// Sums in another order, and for the similarity variances by another formula.
    fn check(&self, text: &str, seed: u64) -> Result<Work, String> {
        let (found, work) = self.run(text, seed).map_err(|error| error.to_string())?;
        for (at, (found, want)) in found.iter().zip(self.expected()).enumerate() {
            let close = (found - want).abs() <= 1e-11 * (1.0 + want.abs());
            if !(close || *found == want || found.is_nan() && want.is_nan()) {
                return Err(format!("value {at}: {found} instead of {want}"));
            }
        }
        Ok(work)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sums_are_those_of_the_references(
        kernel in prop_oneof![Just(SQUARED_ERRORS_F32), Just(TOTAL_VARIATION_F32)],
        images in 1..4_usize,
        shape in (1..34_usize, 1..34_usize, 1..5_usize),
        place in 0..100_usize,
        odd in prop_oneof![Just(0.5), Just(f32::NAN), Just(f32::INFINITY), Just(-0.0_f32)],
        seed in 0..1000_u64,
    ) {
        let mut case = Case::new(kernel, images, shape.into(), seed as usize);
        let place = place % case.x.len();
        case.x[place] = odd;
        case.check(kernel.text, seed).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn similarities_are_those_of_the_reference(
        images in 1..3_usize,
        shape in (11..24_usize, 11..40_usize, 1..4_usize),
        seed in 0..1000_u64,
    ) {
        let case = Case::new(SSIM_F32, images, shape.into(), seed as usize);
        case.check(SSIM_F32.text, seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn equal_images_are_exactly_alike() {
    let mut case = Case::new(SSIM_F32, 2, [13, 35, 2], 0);
    case.y.clone_from(&case.x);
    assert_eq!(case.run(SSIM_F32.text, 0).unwrap().0, [1.0; 4]);
    case.kernel = SQUARED_ERRORS_F32;
    assert_eq!(case.run(SQUARED_ERRORS_F32.text, 0).unwrap().0, [0.0; 2]);
    let mut flat = Case::new(TOTAL_VARIATION_F32, 2, [5, 5, 3], 0);
    flat.x.fill(0.3);
    assert_eq!(flat.run(TOTAL_VARIATION_F32.text, 0).unwrap().0, [0.0; 2]);
}

#[test]
fn the_same_bits_in_every_order() {
    for kernel in [SQUARED_ERRORS_F32, TOTAL_VARIATION_F32, SSIM_F32] {
        let case = Case::new(kernel, 2, [21, 34, 3], 5);
        let first = case.run(kernel.text, 0).unwrap();
        for seed in 1..5 {
            assert_eq!(case.run(kernel.text, seed).unwrap(), first);
        }
    }
}

#[test]
fn pixels_are_read_once() {
    let case = Case::new(SQUARED_ERRORS_F32, 2, [16, 20, 3], 0);
    let work = case.check(SQUARED_ERRORS_F32.text, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (8 * 2 * 960, 16));
}

#[test]
fn nothing_can_be_wrong_unnoticed() {
    let shapes: [(Kernel, &[[usize; 3]]); 3] = [
        (SQUARED_ERRORS_F32, &[[1, 1, 5], [1, 11, 1], [2, 67, 8], [1, 523, 1]]),
        (TOTAL_VARIATION_F32, &[[3, 4, 2], [1, 1, 1], [23, 11, 2], [2, 130, 1]]),
        (SSIM_F32, &[[12, 13, 2], [19, 11, 1], [11, 33, 1]]),
    ];
    for (kernel, shapes) in shapes {
        let cases: Vec<Case> = shapes.iter().map(|&shape| Case::new(kernel, 2, shape, 3)).collect();
        let checks: Vec<_> =
            cases.iter().map(|case| |text: &str, seed| case.check(text, seed)).collect();
        let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
        assert_no_mutant_survives(&kernel, &checks);
    }
}
