//! Sums and largest elements on the interpreter, against their references.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::reductions::{
    FINISH_SUMS_F32, MAX_BACKWARD_F32, PARTIAL_DOTS_F32, PARTIAL_SUMS_F32, ROW_MAX_F32,
    ROW_SUMS_F32,
};
use gpz_kernels::{Kernel, reference};
use proptest::prelude::*;
use ptx_sim::{Arg, Buffer, Device, Error, Launch, Module, Work};

/// Runs a kernel of a text with what `args` puts on the device.
fn launch(
    (kernel, text, seed): (&Kernel, &str, u64),
    grid: [u32; 2],
    args: impl Fn(&mut Device) -> (Vec<Arg>, Vec<Buffer>),
) -> Result<(Device, Vec<Buffer>, Work), Error> {
    let module = Module::parse(text)?;
    let mut device = Device::new();
    let (args, out) = args(&mut device);
    let launch = Launch::new([grid[0], grid[1], 1], kernel.block).seed(seed).at_most(20_000);
    let work = device.launch(&module, kernel.entry, &launch, &args)?;
    Ok((device, out, work))
}

/// Sums in another order: to 12 digits of the sum of magnitudes; `f32` results to one unit.
fn close(found: f64, want: f64, magnitude: f64, digits: f64) -> Result<(), String> {
    let slack = 1e-13 * magnitude + digits * want.abs();
    if (found - want).abs() <= slack || found == want || found.is_nan() && want.is_nan() {
        return Ok(());
    }
    Err(format!("{found} instead of {want}"))
}

/// What the rounding of a result to `f32` costs.
const ROUNDED: f64 = 1.0 / 16_777_216.0;

fn magnitude(x: &[f32]) -> f64 {
    x.iter().filter(|v| v.is_finite()).map(|&v| f64::from(v).abs()).sum()
}

fn check_row_sums(text: &str, x: &[f32], length: usize, seed: u64) -> Result<Work, String> {
    let (rows, kernel) = (x.len() / length, ROW_SUMS_F32);
    let (device, out, work) =
        launch((&kernel, text, seed), [(rows as u32).div_ceil(kernel.tile), 1], |device| {
            let (x, out) = (device.upload(x), device.unwritten::<f32>(rows));
            let sizes = [rows, length].map(|size| Arg::from(size as u32));
            ([x, out].map(Arg::from).into_iter().chain(sizes).collect(), vec![out])
        })
        .map_err(|error| error.to_string())?;
    let found = device.read::<f32>(out[0]).map_err(|error| error.to_string())?;
    for (&found, want) in found.iter().zip(reference::row_sums(x, length)) {
        close(f64::from(found), want, magnitude(x), ROUNDED)?;
    }
    Ok(work)
}

fn check_partial_sums(
    text: &str,
    x: &[f32],
    [length, chunk]: [usize; 2],
    seed: u64,
) -> Result<Work, String> {
    let (rows, chunks) = (x.len() / length, length.div_ceil(chunk));
    let (device, out, work) =
        launch((&PARTIAL_SUMS_F32, text, seed), [chunks as u32, rows as u32], |device| {
            let (x, out) = (device.upload(x), device.unwritten::<f64>(rows * chunks));
            let sizes = [length, chunk].map(|size| Arg::from(size as u32));
            ([x, out].map(Arg::from).into_iter().chain(sizes).collect(), vec![out])
        })
        .map_err(|error| error.to_string())?;
    let found = device.read::<f64>(out[0]).map_err(|error| error.to_string())?;
    for (&found, want) in found.iter().zip(reference::partial_sums(x, length, chunk)) {
        close(found, want, magnitude(x), 0.0)?;
    }
    Ok(work)
}

fn check_partial_dots(
    text: &str,
    x: &[f32],
    y: &[f32],
    chunk: usize,
    seed: u64,
) -> Result<Work, String> {
    let chunks = x.len().div_ceil(chunk);
    let (device, out, work) =
        launch((&PARTIAL_DOTS_F32, text, seed), [chunks as u32, 1], |device| {
            let (x_at, y) = (device.upload(x), device.upload(y));
            let out = device.unwritten::<f64>(chunks);
            let sizes = [x.len(), chunk].map(|size| Arg::from(size as u32));
            ([x_at, y, out].map(Arg::from).into_iter().chain(sizes).collect(), vec![out])
        })
        .map_err(|error| error.to_string())?;
    let found = device.read::<f64>(out[0]).map_err(|error| error.to_string())?;
    let products: Vec<f32> = x.iter().zip(y).map(|(x, y)| x * y).collect();
    for (&found, want) in found.iter().zip(reference::partial_dots(x, y, chunk)) {
        close(found, want, magnitude(&products), 0.0)?;
    }
    Ok(work)
}

fn check_finish(text: &str, partial: &[f64], chunks: usize, seed: u64) -> Result<Work, String> {
    let (rows, scale, kernel) = (partial.len() / chunks, 0.37, FINISH_SUMS_F32);
    let (device, out, work) =
        launch((&kernel, text, seed), [(rows as u32).div_ceil(kernel.tile), 1], |device| {
            let (partial, out) = (device.upload(partial), device.unwritten::<f32>(rows));
            let sizes = [rows, chunks].map(|size| Arg::from(size as u32));
            let args = [partial, out].map(Arg::from).into_iter().chain(sizes);
            (args.chain([Arg::from(scale)]).collect(), vec![out])
        })
        .map_err(|error| error.to_string())?;
    let found = device.read::<f32>(out[0]).map_err(|error| error.to_string())?;
    let magnitude = partial.iter().filter(|v| v.is_finite()).map(|v| v.abs()).sum();
    for (&found, want) in found.iter().zip(reference::finish_sums(partial, chunks, scale)) {
        close(f64::from(found), want, magnitude, ROUNDED)?;
    }
    Ok(work)
}

fn check_row_max(text: &str, x: &[f32], length: usize, seed: u64) -> Result<Work, String> {
    let (rows, kernel) = (x.len() / length, ROW_MAX_F32);
    let (device, out, work) =
        launch((&kernel, text, seed), [(rows as u32).div_ceil(kernel.tile), 1], |device| {
            let x = device.upload(x);
            let (out, index) = (device.unwritten::<f32>(rows), device.unwritten::<u32>(rows));
            let sizes = [rows, length].map(|size| Arg::from(size as u32));
            ([x, out, index].map(Arg::from).into_iter().chain(sizes).collect(), vec![out, index])
        })
        .map_err(|error| error.to_string())?;
    let found = device.read::<f32>(out[0]).map_err(|error| error.to_string())?;
    let index = device.read::<u32>(out[1]).map_err(|error| error.to_string())?;
    let (want, places) = reference::row_max(x, length);
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
    if index != places || !found.iter().zip(&want).all(same) {
        return Err(format!("{found:?} at {index:?} instead of {want:?} at {places:?}"));
    }
    Ok(work)
}

fn check_max_backward(
    text: &str,
    index: &[u32],
    dy: &[f32],
    length: usize,
    seed: u64,
) -> Result<Work, String> {
    let (n, kernel) = (dy.len() * length, MAX_BACKWARD_F32);
    let (device, out, work) =
        launch((&kernel, text, seed), [(n as u32).div_ceil(kernel.tile), 1], |device| {
            let buffers = [device.upload(index), device.upload(dy), device.unwritten::<f32>(n)];
            let sizes = [n, length].map(|size| Arg::from(size as u32));
            (buffers.map(Arg::from).into_iter().chain(sizes).collect(), vec![buffers[2]])
        })
        .map_err(|error| error.to_string())?;
    let found = device.read::<f32>(out[0]).map_err(|error| error.to_string())?;
    let want = reference::max_backward(index, dy, length);
    if found.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()) {
        return Ok(work);
    }
    Err(format!("{found:?} instead of {want:?}"))
}

/// Numbers with all their digits.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 2011) as f32 / 63.0 - 15.0).collect()
}

fn rows() -> impl Strategy<Value = (Vec<f32>, usize)> {
    let length = prop_oneof![1..10_usize, 30..35_usize, Just(128), Just(132), 126..300_usize];
    (prop_oneof![1..4_usize, 7..10_usize], length).prop_flat_map(|(rows, length)| {
        let some = prop_oneof![
            Just(0.0_f32),
            Just(-0.0),
            Just(2.0),
            Just(f32::NEG_INFINITY),
            Just(f32::INFINITY),
            Just(f32::NAN)
        ];
        let value = prop_oneof![40 => -4.0..4.0_f32, 2 => some];
        (proptest::collection::vec(value, rows * length), Just(length))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_are_summed_and_searched((x, length) in rows(), seed: u64) {
        check_row_sums(ROW_SUMS_F32.text, &x, length, seed).map_err(TestCaseError::fail)?;
        check_row_max(ROW_MAX_F32.text, &x, length, seed).map_err(TestCaseError::fail)?;
        let (dy, index) = reference::row_max(&x, length);
        check_max_backward(MAX_BACKWARD_F32.text, &index, &dy, length, seed).map_err(TestCaseError::fail)?;
        let partial: Vec<f64> = x.iter().map(|&v| f64::from(v) / 3.0).collect();
        check_finish(FINISH_SUMS_F32.text, &partial, length, seed).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn pieces_are_summed(
        rows in 1..3_usize,
        length in prop_oneof![1..10_usize, 1020..1030_usize, 1..4000_usize],
        chunk in prop_oneof![1..5_usize, 254..258_usize, Just(1024)],
        seed: u64,
    ) {
        let (x, chunk) = (numbers(rows * length), 4 * chunk);
        prop_assume!(length / chunk < 50);
        check_partial_sums(PARTIAL_SUMS_F32.text, &x, [length, chunk], seed).map_err(TestCaseError::fail)?;
        let y: Vec<f32> = x.iter().rev().map(|v| v / 3.0).collect();
        check_partial_dots(PARTIAL_DOTS_F32.text, &x, &y, chunk, seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn what_is_not_finite() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let x = [
        1.0, nan, 2.0, inf, -inf, nan, -inf, -inf, -inf, -0.0, 0.0, -0.0, 0.0, -0.0, -1.0, inf,
        3.0, inf,
    ];
    let (_, places) = reference::row_max(&x, 3);
    assert_eq!(places, [1, 2, 0, 0, 0, 0]);
    check_row_max(ROW_MAX_F32.text, &x, 3, 0).unwrap();
    check_row_sums(ROW_SUMS_F32.text, &x, 3, 0).unwrap();
    check_partial_sums(PARTIAL_SUMS_F32.text, &x, [3, 4], 0).unwrap();
    check_partial_dots(PARTIAL_DOTS_F32.text, &x, &[1.0; 18], 4, 0).unwrap();
    // A product beyond the range of `f32` is infinite, as on the CPU.
    check_partial_dots(PARTIAL_DOTS_F32.text, &[1e30; 5], &[1e30; 5], 4, 0).unwrap();
}

#[test]
fn the_same_bits_in_every_order() {
    let x: Vec<f32> = numbers(2 * 3001).iter().map(|v| v * 0.1).collect();
    let bits = |seed| {
        let sums = launch((&PARTIAL_SUMS_F32, PARTIAL_SUMS_F32.text, seed), [3, 2], |device| {
            let (x, out) = (device.upload(&x), device.unwritten::<f64>(6));
            (vec![x.into(), out.into(), 3001_u32.into(), 1024_u32.into()], vec![out])
        });
        let rows = launch((&ROW_SUMS_F32, ROW_SUMS_F32.text, seed), [1, 1], |device| {
            let (x, out) = (device.upload(&x), device.unwritten::<f32>(2));
            (vec![x.into(), out.into(), 2_u32.into(), 3001_u32.into()], vec![out])
        });
        let ((sums, sum, _), (rows, row, _)) = (sums.unwrap(), rows.unwrap());
        (sums.read::<f64>(sum[0]).unwrap(), rows.read::<f32>(row[0]).unwrap())
    };
    assert!((1..5).all(|seed| bits(seed) == bits(0)));
}

#[test]
fn every_element_is_read_once() {
    let x = numbers(9 * 200);
    let work = check_row_sums(ROW_SUMS_F32.text, &x, 200, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (4 * 1800, 4 * 9));
    let work = check_partial_sums(PARTIAL_SUMS_F32.text, &x, [900, 512], 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (4 * 1800, 8 * 4));
    let work = check_partial_dots(PARTIAL_DOTS_F32.text, &x, &x, 1024, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (8 * 1800, 8 * 2));
    let work = check_row_max(ROW_MAX_F32.text, &x, 200, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (4 * 1809, 8 * 9));
}

/// No mutant of a kernel passes every case.
fn assert_exact<C>(
    kernel: &Kernel,
    cases: &[C],
    check: impl Fn(&C, &str, u64) -> Result<Work, String>,
) {
    let check = &check;
    let checks: Vec<_> =
        cases.iter().map(|case| move |text: &str, seed| check(case, text, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(kernel, &checks);
}

#[test]
fn nothing_can_be_taken_away_from_rows() {
    let rows = [(1, 3), (2, 32), (1, 33), (9, 8), (3, 128), (2, 260), (2, 67), (1, 516)];
    let rows = rows.map(|(rows, length)| (numbers(rows * length), length));
    assert_exact(&ROW_SUMS_F32, &rows, |(x, length), text, seed| {
        check_row_sums(text, x, *length, seed)
    });
    assert_exact(&FINISH_SUMS_F32, &rows, |(x, length), text, seed| {
        let partial: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        check_finish(text, &partial, *length, seed)
    });
    assert_exact(&MAX_BACKWARD_F32, &rows, |(x, length), text, seed| {
        let (dy, index) = reference::row_max(x, *length);
        check_max_backward(text, &index, &dy, *length, seed)
    });
    // Rows below zero, of zeros, with zeros, with NaN, with nothing but the lowest, with the largest in the middle.
    let mut searched = rows.to_vec();
    let below = numbers(70).iter().map(|v| -v.abs() - 1.0).collect();
    let zeros = (0..70).map(|i| if i % 3 == 0 { -0.0 } else { 0.0 }).collect();
    let mut nan = numbers(70);
    nan[40] = -f32::NAN;
    nan[66] = f32::NAN;
    nan[20] = f32::INFINITY;
    let middle = (0..32).map(|i| if i == 16 { 1.0 } else { 0.0 }).collect();
    searched.extend([(below, 35), (zeros, 70), (nan, 70), (middle, 32)]);
    searched.push((vec![f32::NEG_INFINITY; 40], 40));
    assert_exact(&ROW_MAX_F32, &searched, |(x, length), text, seed| {
        check_row_max(text, x, *length, seed)
    });
}

#[test]
fn nothing_can_be_taken_away_from_pieces() {
    let cases = [
        (1, 5, 4),
        (2, 300, 256),
        (2, 1028, 1024),
        (1, 1025, 1024),
        (1, 2052, 2056),
        (1, 515, 516),
        (1, 4100, 4100),
    ];
    let cases = cases.map(|(rows, length, chunk)| (numbers(rows * length), length, chunk));
    assert_exact(&PARTIAL_SUMS_F32, &cases, |(x, length, chunk), text, seed| {
        check_partial_sums(text, x, [*length, *chunk], seed)
    });
    assert_exact(&PARTIAL_DOTS_F32, &cases, |(x, _, chunk), text, seed| {
        let y: Vec<f32> = x.iter().rev().map(|v| v * 0.7).collect();
        check_partial_dots(text, x, &y, *chunk, seed)
    });
}
