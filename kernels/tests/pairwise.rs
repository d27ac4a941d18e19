//! What is made of pairwise distances on the interpreter, against their references.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::statistics::{PAIRWISE_GAUSSIAN_F32, PAIRWISE_NEAREST_F32};
use gpz_kernels::{Kernel, reference};
use proptest::prelude::*;
use ptx_sim::{Arg, Buffer, Device, Error, Launch, Module, Work};

#[derive(Debug, Clone)]
struct Case {
    x: Vec<f32>,
    /// None where it is `x` itself, and no row counts itself.
    y: Option<Vec<f32>>,
    d: usize,
    /// Parts of a sum, or neighbours.
    parts: usize,
}

const INVERSE: f64 = 0.07;

impl Case {
    /// Small whole numbers, whose distances are exact, and often equal.
    fn whole(rows: [usize; 2], d: usize, parts: usize, of_itself: bool, seed: usize) -> Self {
        let value = |kind: usize, i: usize| {
            ((seed + i * 7919 + i / 11 * 613 + kind * 104_729) % 1009 % 7) as f32 - 3.0
        };
        let all = |kind, n: usize| (0..n * d).map(|i| value(kind, i)).collect();
        Self { x: all(0, rows[0]), y: (!of_itself).then(|| all(1, rows[1])), d, parts }
    }

    fn y(&self) -> &[f32] {
        self.y.as_ref().unwrap_or(&self.x)
    }

    fn launch(
        &self,
        device: &mut Device,
        (kernel, text): (&Kernel, &str),
        seed: u64,
        out: &[Buffer],
        number: Arg,
        chunks: u32,
    ) -> Result<Work, Error> {
        let module = Module::parse(text)?;
        let (x, y) = (device.upload(&self.x), device.upload(self.y()));
        let [n, m] = [self.x.len(), self.y().len()].map(|length| (length / self.d) as u32);
        let args: Vec<Arg> = [Arg::from(x), Arg::from(y)]
            .into_iter()
            .chain(out.iter().copied().map(Arg::from))
            .chain([n, m, self.d as u32].map(Arg::from))
            .chain([number, Arg::from(u32::from(self.y.is_none()))])
            .collect();
        let grid = [n.div_ceil(kernel.tile), chunks, 1];
        // The most a tile can take, which is of rows that come nearer and nearer.
        let most = u64::from(m.div_ceil(64)) * (6_000 + 100 * self.d as u64);
        let launch = Launch::new(grid, kernel.block).seed(seed).at_most(most);
        device.launch(&module, kernel.entry, &launch, &args)
    }

    fn sums(&self, text: &str, seed: u64) -> Result<(Vec<f64>, Work), Error> {
        let mut device = Device::new();
        let out = device.unwritten::<f64>(self.x.len() / self.d * self.parts);
        let kernel = (&PAIRWISE_GAUSSIAN_F32, text);
        let chunks = self.parts as u32;
        let work = self.launch(&mut device, kernel, seed, &[out], Arg::from(INVERSE), chunks)?;
        let parts = device.read::<f64>(out)?;
        Ok((parts.chunks_exact(self.parts).map(|parts| parts.iter().sum()).collect(), work))
    }

    fn nearest(&self, text: &str, seed: u64) -> Result<(Vec<(f64, u32)>, Work), Error> {
        let mut device = Device::new();
        let n = self.x.len() / self.d * self.parts;
        let out = [device.unwritten::<f64>(n), device.unwritten::<u32>(n)];
        let kernel = (&PAIRWISE_NEAREST_F32, text);
        let number = Arg::from(self.parts as u32);
        let work = self.launch(&mut device, kernel, seed, &out, number, 1)?;
        let distances: Vec<f64> = device.read(out[0])?;
        Ok((distances.into_iter().zip(device.read(out[1])?).collect(), work))
    }

    fn check_sums(&self, text: &str, seed: u64) -> Result<Work, String> {
        let (found, work) = self.sums(text, seed).map_err(|error| error.to_string())?;
        let (y, itself) = (self.y(), self.y.is_none());
        let want = reference::pairwise_gaussian(&self.x, y, self.d, INVERSE, itself);
        // Each weight is right to a share of its exponent and of itself; the derivative by the exponent sums the former.
        let shifted = INVERSE * (1.0 - 1e-6);
        let moved = reference::pairwise_gaussian(&self.x, y, self.d, shifted, itself);
        for (at, ((found, want), moved)) in found.iter().zip(&want).zip(moved).enumerate() {
            let slack = 2.2 * (moved - want) + 3e-7 * want + 1e-300;
            if !((found - want).abs() <= slack || found == want || found.is_nan() && want.is_nan())
            {
                return Err(format!("row {at}: {found} instead of {want}"));
            }
        }
        Ok(work)
    }

    fn check_nearest(&self, text: &str, seed: u64) -> Result<Work, String> {
        let (found, work) = self.nearest(text, seed).map_err(|error| error.to_string())?;
        let itself = self.y.is_none();
        let want = reference::pairwise_nearest(&self.x, self.y(), self.d, self.parts, itself);
        match found.iter().zip(&want).position(|(found, want)| found != want) {
            Some(at) => Err(format!("{at}: {:?} instead of {:?}", found[at], want[at])),
            None => Ok(work),
        }
    }
}

fn sizes() -> impl Strategy<Value = [usize; 2]> {
    let rows = || prop_oneof![1..9_usize, 63..66_usize, 100..140_usize];
    [rows(), rows()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sums_are_those_of_the_reference(
        rows in sizes(),
        d in prop_oneof![1..9_usize, 31..34_usize, Just(70)],
        parts in 1..4_usize,
        of_itself: bool,
        seed in 0..1000_u64,
    ) {
        let mut case = Case::whole(rows, d, parts, of_itself, seed as usize);
        case.x.iter_mut().for_each(|x| *x *= 1.1);
        case.check_sums(PAIRWISE_GAUSSIAN_F32.text, seed).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn neighbours_are_those_of_the_reference(
        rows in sizes(),
        d in prop_oneof![1..9_usize, 31..34_usize, Just(70)],
        k in 1..17_usize,
        of_itself: bool,
        seed in 0..1000_u64,
    ) {
        let case = Case::whole(rows, d, k, of_itself, seed as usize);
        case.check_nearest(PAIRWISE_NEAREST_F32.text, seed).map_err(TestCaseError::fail)?;
    }
}

/// Distances of numbers that are not whole, to what the header allows.
#[test]
fn distances_are_right_to_the_last_bits() {
    let mut case = Case::whole([70, 90], 100, 16, false, 5);
    case.x.iter_mut().enumerate().for_each(|(i, x)| *x += (i % 101) as f32 / 37.0);
    let (found, _) = case.nearest(PAIRWISE_NEAREST_F32.text, 0).unwrap();
    let want = reference::pairwise_nearest(&case.x, case.y(), case.d, 16, false);
    for ((found, _), (want, _)) in found.iter().zip(&want) {
        assert!((found / want - 1.0).abs() < 2.1e-6, "{found} {want}");
    }
}

#[test]
fn what_is_not_finite_is_nobodys_neighbour() {
    let mut case = Case::whole([5, 6], 3, 4, false, 1);
    case.x[4] = f32::NAN;
    let y = case.y.as_mut().unwrap();
    (y[0], y[5], y[17]) = (f32::INFINITY, f32::NAN, -f32::INFINITY);
    case.check_nearest(PAIRWISE_NEAREST_F32.text, 0).unwrap();
    case.check_sums(PAIRWISE_GAUSSIAN_F32.text, 0).unwrap();
    let y = case.y.as_mut().unwrap();
    // Far away, but not infinitely: beyond what a weight can be, or a sum of squares.
    (y[0], y[5], y[17]) = (200.0, 1e19, 1e25);
    case.x[4] = 90.0;
    case.check_sums(PAIRWISE_GAUSSIAN_F32.text, 0).unwrap();
}

#[test]
fn the_same_bits_in_every_order() {
    let case = Case::whole([66, 130], 35, 2, false, 3);
    let sums = case.sums(PAIRWISE_GAUSSIAN_F32.text, 0).unwrap();
    let nearest = case.nearest(PAIRWISE_NEAREST_F32.text, 0).unwrap();
    for seed in 1..4 {
        // An approximation is off by another amount with another seed.
        let close = |(a, b): (&f64, &f64)| (a / b - 1.0).abs() < 1e-6;
        let again = case.sums(PAIRWISE_GAUSSIAN_F32.text, seed).unwrap();
        assert!(again.0.iter().zip(&sums.0).all(close) && again.1 == sums.1);
        assert_eq!(case.nearest(PAIRWISE_NEAREST_F32.text, seed).unwrap(), nearest);
    }
}

/// Elements are read once for each tile that they are in.
#[test]
fn elements_are_read_once_for_each_tile() {
    let case = Case::whole([128, 192], 40, 1, false, 0);
    let work = case.check_sums(PAIRWISE_GAUSSIAN_F32.text, 0).unwrap();
    assert_eq!(work.global_read, 2 * 3 * (64 + 64) * 40 * 4);
    assert_eq!(work.global_written, 128 * 8);
}

/// A full tile, which most that can be wrong shows in; rows that skip themselves, in two blocks; several tiles; several slices.
fn cases(parts: [usize; 4]) -> Vec<Case> {
    let mut several = Case::whole([2, 130], 2, parts[2], false, 3);
    // A tile's first column is the nearest of all.
    several.y.as_mut().unwrap()[128..130].copy_from_slice(&several.x[..2]);
    vec![
        Case::whole([64, 64], 2, parts[0], false, 3),
        Case::whole([66, 66], 1, parts[1], true, 3),
        several,
        Case::whole([3, 5], 35, parts[3], false, 3),
    ]
}

#[test]
fn nothing_of_the_sums_can_be_wrong_unnoticed() {
    let mut cases = cases([1, 1, 2, 2]);
    // Rows whose weights are nothing beside others.
    cases.push(Case {
        x: vec![0.0, 122.0, 1.0, 122.0, 122.0, 0.0, 122.0, 1.0],
        ..Case::whole([1, 9], 1, 1, false, 3)
    });
    let checks: Vec<_> =
        cases.iter().map(|case| |text: &str, seed| case.check_sums(text, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&PAIRWISE_GAUSSIAN_F32, &checks);
}

#[test]
fn nothing_of_the_neighbours_can_be_wrong_unnoticed() {
    let cases = cases([3, 4, 16, 7]);
    let checks: Vec<_> =
        cases.iter().map(|case| |text: &str, seed| case.check_nearest(text, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&PAIRWISE_NEAREST_F32, &checks);
}
