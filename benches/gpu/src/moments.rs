//! Class moments of features that fill gigabytes: the whole call, with what the processor does for it, and the kernel alone.

use anyhow::{Result, ensure};
use gpz_kernels::statistics::CLASS_MOMENTS_F32;
use gpz_tensor::Tensor;
use gpz_tensor::cuda::ClassSums;
use gpz_tensor::cuda::driver::Argument;
use serde_json::{Value, json};

use crate::measure::{Bench, Figure, Work, uniform};

const CLASSES: [usize; 2] = [10, 100];
/// Rows that are drawn; the features are these again and again.
const DRAWN: usize = 256;

/// Rows, and their labels, that are repeated.
struct Drawn {
    rows: usize,
    width: usize,
    times: usize,
    values: Vec<f32>,
}

impl Drawn {
    fn new([rows, width]: [usize; 2]) -> Self {
        let drawn = rows.min(DRAWN);
        let values = uniform(drawn * width, -1.0, 1.0, 7);
        Drawn { rows: drawn, width, times: rows / drawn, values }
    }

    fn labels(&self, classes: usize) -> Vec<usize> {
        let drawn = uniform(self.rows, 0.0, classes as f32, 8);
        let drawn: Vec<usize> = drawn.iter().map(|&v| (v as usize).min(classes - 1)).collect();
        drawn.repeat(self.times)
    }

    fn bytes(&self) -> usize {
        4 * self.times * self.values.len()
    }

    fn shape(&self) -> [usize; 2] {
        [self.times * self.rows, self.width]
    }
}

/// Adds its figures, and what was found out about the sums' values at that size.
pub(crate) fn measure(
    bench: &Bench,
    all: &mut Vec<Figure>,
    checked: &mut Vec<Value>,
) -> Result<()> {
    let drawn = Drawn::new(bench.sizes.features);
    let mut kernel_figures = kernel_alone(bench, &drawn)?;
    let part = bench.tensor(&drawn.values, &[drawn.rows, drawn.width])?;
    let features = Tensor::concat(&vec![&part; drawn.times], 0)?;
    for classes in CLASSES {
        let labels = drawn.labels(classes);
        let mut sums = ClassSums::new(&bench.device, classes, drawn.width)?;
        sums.update(&features, &labels)?;
        let name = format!("class moments, {classes} classes");
        match check(&drawn, &sums, &labels, classes) {
            Ok(found) => checked.push(found),
            Err(wrong) => all.push(Figure::missing(&format!("{name}, their values"), wrong)),
        }
        let bytes = Work::Bytes(drawn.bytes() as f64);
        all.push(
            bench.figure(&name, &drawn.shape(), bytes, || Ok(sums.update(&features, &labels)?)),
        );
    }
    all.append(&mut kernel_figures);
    Ok(())
}

/// The largest distance of the sums to those in f64 on the processor, and whether rounding of deviations explains it.
fn check(drawn: &Drawn, sums: &ClassSums, labels: &[usize], classes: usize) -> Result<Value> {
    let found = sums.read()?;
    let (d, times) = (drawn.width, drawn.times as f64);
    let mut want = [vec![0.0; classes * d], vec![0.0; classes * d]];
    let [want_sums, want_squares] = &mut want;
    gpz_kernels::reference::class_moments(
        &drawn.values,
        &labels[..drawn.rows],
        &found.pivot,
        want_sums,
        want_squares,
    );
    let off = |found: &[f64], want: &[f64]| {
        let pairs = found.iter().zip(want);
        pairs.map(|(found, want)| (found - times * want).abs()).fold(0.0, f64::max)
    };
    let (sum, square) = (off(&found.sums, want_sums), off(&found.squares, want_squares));
    let most = found.counts.iter().copied().max().unwrap_or(0) as f64;
    // A deviation is below 2 and rounded to f32 once, its square that of the rounded one.
    let right = sum <= most * 2_f64.powi(-23) && square <= most * 2_f64.powi(-21);
    ensure!(
        right,
        "class moments of {:?} in {classes} classes are wrong: sums by {sum}, squares by {square}",
        drawn.shape()
    );
    Ok(json!({ "classes": classes, "largest_error_of_sums": sum, "of_squares": square }))
}

/// The kernel on buffers that lie ready.
fn kernel_alone(bench: &Bench, drawn: &Drawn) -> Result<Vec<Figure>> {
    let kernel = &CLASS_MOMENTS_F32;
    let (driver, d) = (&bench.driver, drawn.width);
    let bytes =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let features = bench.block(drawn.bytes())?;
    let part = bytes(&drawn.values);
    for i in 0..drawn.times {
        // SAFETY: the block holds the part so many times.
        unsafe {
            if i == 0 {
                driver.upload(features.address, &part)?;
            } else {
                let to = features.address + (i * part.len()) as u64;
                driver.copy(features.address, to, part.len())?;
            }
        }
    }
    let mut figures = Vec::new();
    for classes in CLASSES {
        let labels = drawn.labels(classes);
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_by_key(|&row| labels[row as usize]);
        let mut start = vec![0_u32; classes + 1];
        labels.iter().for_each(|&label| start[label + 1] += 1);
        (0..classes).for_each(|class| start[class + 1] += start[class]);
        let words =
            |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let order = bench.block_of(&words(&order))?;
        let start = bench.block_of(&words(&start))?;
        let pivot = bench.block(4 * classes * d)?;
        let sums = [bench.block(8 * classes * d)?, bench.block(8 * classes * d)?];
        let arguments = [&features, &order, &start, &pivot, &sums[0], &sums[1]]
            .map(|block| Argument::Address(block.address))
            .into_iter()
            .chain([Argument::U32(d as u32)])
            .collect::<Vec<_>>();
        let grid = [d.div_ceil(kernel.tile as usize) as u32, classes as u32, 1];
        let name = format!("class moments, {classes} classes, kernel alone");
        let work = Work::Bytes(drawn.bytes() as f64);
        figures.push(bench.figure(&name, &drawn.shape(), work, || {
            // SAFETY: argument order and types as in the header of class_moments_f32.ptx, on blocks of the sizes it says.
            Ok(unsafe { driver.launch(kernel, grid, &arguments) }?)
        }));
    }
    Ok(figures)
}
