//! The kernels that deal with layouts, on the interpreter, against their references.

mod common;

use common::{Check, assert_no_mutant_survives};
use gpz_kernels::elementwise::{COPY_STRIDED_F32, TRANSPOSE_F32, binary_strided};
use gpz_kernels::reference;
use proptest::prelude::*;
use ptx_sim::{Arg, Device, Error, Launch, Module, Work};

const OPS: [&str; 4] = ["add", "sub", "mul", "div"];

/// The axes of a tensor, the fastest first, in a memory layout.
#[derive(Debug, Clone)]
struct Layout {
    dims: Vec<usize>,
    strides: Vec<usize>,
    /// Elements of the memory.
    len: usize,
}

impl Layout {
    /// The axes in an order of memory, those that are marked stretched by a stride of zero.
    fn new(dims: &[usize], order: &[usize], stretched: &[bool]) -> Self {
        let mut strides = vec![0; dims.len()];
        let mut len = 1;
        for &axis in order {
            if !stretched[axis] {
                strides[axis] = len;
                len *= dims[axis];
            }
        }
        Self { dims: dims.to_vec(), strides, len }
    }

    fn dense(dims: &[usize]) -> Self {
        let order: Vec<usize> = (0..dims.len()).collect();
        Self::new(dims, &order, &vec![false; dims.len()])
    }

    fn values(&self, factor: usize) -> Vec<f32> {
        (0..self.len).map(|at| ((at + 1) * factor % 509) as f32 / 16.0 - 15.7).collect()
    }

    fn numel(&self) -> usize {
        self.dims.iter().product()
    }

    /// Length, rank, sizes and both strides; what lies beyond the rank is nothing that could be used.
    fn args(&self, other: &Layout) -> Vec<Arg> {
        let six = |list: &[usize]| {
            (0..6).map(|at| Arg::from(list.get(at).map_or(0, |&v| v as u32))).collect::<Vec<_>>()
        };
        let head = [self.numel() as u32, self.dims.len() as u32].map(Arg::from);
        let lists = [&self.dims, &self.strides, &other.strides];
        head.into_iter().chain(lists.into_iter().flat_map(|list| six(list))).collect()
    }
}

fn compare(found: &[f32], want: &[f32]) -> Result<(), String> {
    match found.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits()) {
        Some(at) => Err(format!("element {at}: {} instead of {}", found[at], want[at])),
        None => Ok(()),
    }
}

fn check_binary(op: &str, text: &str, x: &Layout, y: &Layout, seed: u64) -> Result<Work, String> {
    let (xs, ys) = (x.values(7919), y.values(104_729));
    let run = || {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let buffers = [device.upload(&xs), device.upload(&ys)];
        let out = device.unwritten::<f32>(x.numel());
        let mut args: Vec<Arg> = buffers.into_iter().chain([out]).map(Arg::from).collect();
        args.extend(x.args(y));
        let kernel = binary_strided(op).unwrap();
        let grid = [(x.numel() as u32).div_ceil(kernel.tile), 1, 1];
        let launch = Launch::new(grid, kernel.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, kernel.entry, &launch, &args)?;
        Ok::<_, Error>((device.read::<f32>(out)?, work))
    };
    let (found, work) = run().map_err(|error| error.to_string())?;
    let want = reference::binary_strided(op, &x.dims, (&xs, &x.strides), (&ys, &y.strides));
    compare(&found, &want)?;
    Ok(work)
}

/// `out` begins with numbers, of which those must stay that no element comes to.
fn check_copy(text: &str, x: &Layout, out: &Layout, seed: u64) -> Result<Work, String> {
    let (from, mut want) = (x.values(7919), out.values(31));
    let run = || {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let (source, to) = (device.upload(&from), device.upload_mutable(&want));
        let mut args = vec![Arg::from(source), Arg::from(to)];
        args.extend(x.args(out));
        let grid = [(x.numel() as u32).div_ceil(COPY_STRIDED_F32.tile), 1, 1];
        let launch = Launch::new(grid, COPY_STRIDED_F32.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, COPY_STRIDED_F32.entry, &launch, &args)?;
        Ok::<_, Error>((device.read::<f32>(to)?, work))
    };
    let (found, work) = run().map_err(|error| error.to_string())?;
    reference::copy_strided(&x.dims, &from, &x.strides, &mut want, &out.strides);
    compare(&found, &want)?;
    Ok(work)
}

fn check_transpose(
    text: &str,
    [batch, rows, columns]: [usize; 3],
    most: [u32; 2],
    seed: u64,
) -> Result<Work, String> {
    let x: Vec<f32> = (0..batch * rows * columns).map(|at| at as f32).collect();
    let run = || {
        let module = Module::parse(text)?;
        let mut device = Device::new();
        let (from, to) = (device.upload(&x), device.unwritten::<f32>(x.len()));
        let sizes = [batch, rows, columns].map(|size| Arg::from(size as u32));
        let args: Vec<Arg> = [from, to].map(Arg::from).into_iter().chain(sizes).collect();
        let tiles = [columns, rows].map(|size| (size as u32).div_ceil(TRANSPOSE_F32.tile));
        let grid = [tiles[0], tiles[1].min(most[0]), (batch as u32).min(most[1])];
        let launch = Launch::new(grid, TRANSPOSE_F32.block).seed(seed).at_most(20_000);
        let work = device.launch(&module, TRANSPOSE_F32.entry, &launch, &args)?;
        Ok::<_, Error>((device.read::<f32>(to)?, work))
    };
    let (found, work) = run().map_err(|error| error.to_string())?;
    compare(&found, &reference::transpose(&x, rows, columns))?;
    Ok(work)
}

/// Sizes, two orders of memory and two choices of axes to stretch.
type Axes = (Vec<usize>, [Vec<usize>; 2], [Vec<bool>; 2]);

fn axes() -> impl Strategy<Value = Axes> {
    (1..=6_usize).prop_flat_map(|rank| {
        let order = || Just((0..rank).collect::<Vec<_>>()).prop_shuffle();
        let stretched = || proptest::collection::vec(prop::bool::weighted(0.3), rank);
        let most = [0_usize, 700, 30, 9, 6, 5, 4][rank];
        let dims = proptest::collection::vec(1..=most, rank);
        (dims, [order(), order()], [stretched(), stretched()])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_operands_of_any_layout((dims, orders, stretched) in axes(), op in 0..4_usize, seed: u64) {
        let [x, y] = [0, 1].map(|at| Layout::new(&dims, &orders[at], &stretched[at]));
        let text = binary_strided(OPS[op]).unwrap().text;
        check_binary(OPS[op], text, &x, &y, seed).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn copies((dims, orders, stretched) in axes(), gap in 0..3_usize, seed: u64) {
        let x = Layout::new(&dims, &orders[0], &stretched[0]);
        let mut out = Layout::new(&dims, &orders[1], &vec![false; dims.len()]);
        // A slice of something larger.
        let last = *orders[1].last().unwrap();
        out.strides[last] += gap;
        out.len += gap * dims[last];
        check_copy(COPY_STRIDED_F32.text, &x, &out, seed).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn transposes(
        batch in 1..4_usize,
        rows in prop_oneof![1..4_usize, 31..34_usize, 60..100_usize],
        columns in prop_oneof![1..4_usize, 31..34_usize, 60..100_usize],
        most in [1..4_u32, 1..4_u32],
        seed: u64,
    ) {
        check_transpose(TRANSPOSE_F32.text, [batch, rows, columns], most, seed).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn every_element_is_read_and_written_once() {
    let work = check_transpose(TRANSPOSE_F32.text, [2, 33, 70], [9, 9], 0).unwrap();
    let bytes = 4 * 2 * 33 * 70;
    assert_eq!((work.global_read, work.global_written), (bytes, bytes));
    let x = Layout::dense(&[7, 50]);
    let work = check_binary("add", binary_strided("add").unwrap().text, &x, &x, 0).unwrap();
    assert_eq!((work.global_read, work.global_written), (2 * 4 * 350, 4 * 350));
}

#[test]
fn nothing_can_be_taken_away() {
    // Every rank, in another order of memory and stretched; more than a block.
    let sizes: [&[usize]; 7] =
        [&[3], &[2, 3], &[2, 3, 2], &[2, 3, 2, 3], &[2, 3, 2, 3, 2], &[2, 3, 2, 1, 2, 3], &[257]];
    let layouts: Vec<[Layout; 2]> = sizes
        .iter()
        .map(|dims| {
            let order: Vec<usize> = (0..dims.len()).rev().collect();
            [Layout::new(dims, &order, &vec![false; dims.len()]), Layout::dense(dims)]
        })
        .collect();
    for op in OPS {
        let checks: Vec<_> = layouts
            .iter()
            .map(|[x, y]| move |text: &str, seed| check_binary(op, text, x, y, seed))
            .collect();
        let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
        assert_no_mutant_survives(&binary_strided(op).unwrap(), &checks);
    }
    let checks: Vec<_> =
        layouts.iter().map(|[x, y]| move |text: &str, seed| check_copy(text, x, y, seed)).collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&COPY_STRIDED_F32, &checks);
    // Blocks that go on in both directions; tiles that end within each quarter, and at its end.
    let cases = [
        ([3, 33, 31], [2, 1]),
        ([1, 70, 40], [2, 2]),
        ([1, 48, 12], [9, 9]),
        ([1, 24, 20], [9, 9]),
        ([1, 12, 48], [9, 9]),
        ([1, 20, 24], [9, 9]),
        ([1, 32, 32], [9, 9]),
    ];
    let checks: Vec<_> = cases
        .iter()
        .map(|&(sizes, most)| move |text: &str, seed| check_transpose(text, sizes, most, seed))
        .collect();
    let checks: Vec<Check<'_>> = checks.iter().map(|check| check as Check<'_>).collect();
    assert_no_mutant_survives(&TRANSPOSE_F32, &checks);
}
