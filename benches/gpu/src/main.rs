//! `gpu-figures`: medians of what the first GPU does, beside a copy measured in the same run, as one JSON object.
//!
//! ```text
//! gpu-figures [--simulate] [--tf32] [FILE]   to FILE, else to stdout; progress to stderr
//! gpu-figures [--simulate] --probe [FILE]    what the device is, and nothing else
//! ```
//!
//! `--tf32` measures what that changes: networks, decoder and product, whose factors are then rounded to 11 bits.
//! With `--simulate` everything runs on the simulated device with tiny sizes: the figures mean nothing then, and say so.

mod decoder;
mod measure;
mod moments;
mod networks;
mod operations;

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use gpz_tensor::cuda::{Options, Precision, open_driver};
use serde_json::{Value, json};

use measure::{Bench, Figure};

/// How large the operands are, and how often everything is measured.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Elements of an operand of an elementwise operation.
    elements: usize,
    /// Last axis of rows.
    row: usize,
    /// Channels, height and width of pictures.
    picture: [usize; 3],
    /// Side of a matrix.
    matrix: usize,
    /// Rows and columns of features.
    features: [usize; 2],
    /// Feature, picture and batch of the decoder.
    decoder: ([usize; 3], [usize; 3], usize),
    /// Steps of the decoder's training in one repetition.
    steps: usize,
    /// Networks that are trained and evaluated, the side of their pictures, and the pictures of a step.
    networks: (&'static [&'static str], usize, usize),
    /// Repetitions of which the median counts.
    repetitions: usize,
}

impl Sizes {
    /// Operands of 512 MiB, several times the cache of any card so far.
    const REAL: Sizes = Sizes {
        elements: 1 << 27,
        row: 1024,
        picture: [64, 32, 32],
        matrix: 4096,
        features: [65_536, 32_768],
        decoder: ([512, 4, 4], [64, 64, 64], 128),
        steps: 10,
        networks: (&["cnn4:width=64", "resnet18", "vgg19_bn", "ir152", "vit"], 64, 128),
        repetitions: 25,
    };
    const TINY: Sizes = Sizes {
        elements: 1 << 11,
        row: 64,
        picture: [4, 8, 8],
        matrix: 16,
        features: [64, 36],
        decoder: ([4, 1, 1], [2, 4, 4], 2),
        steps: 1,
        networks: (&["cnn4:width=1"], 16, 2),
        repetitions: 3,
    };

    /// Sizes that leave a device of so many bytes some room: half the rows, and half again.
    fn fitting(mut self, memory_bytes: u64) -> Self {
        while 4 * (self.features[0] * self.features[1]) as u64 > memory_bytes / 3 {
            self.features[0] /= 2;
        }
        while 4 * self.elements as u64 > memory_bytes / 10 {
            self.elements /= 2;
        }
        self
    }
}

fn main() -> Result<()> {
    let (mut simulate, mut probe, mut precision, mut file) = (false, false, Precision::F32, None);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--simulate" => simulate = true,
            "--probe" => probe = true,
            "--tf32" => precision = Precision::Tf32,
            other if !other.starts_with('-') && file.is_none() => file = Some(argument),
            other => bail!("{other}: the arguments are [--simulate] [--probe] [--tf32] [FILE]"),
        }
    }
    let bench = open(simulate, precision)?;
    let found = if probe { device(&bench) } else { figures(&bench, simulate, precision)? };
    let text = format!("{found:#}\n");
    match file {
        Some(file) => std::fs::write(&file, text).with_context(|| file),
        None => Ok(std::io::stdout().write_all(text.as_bytes())?),
    }
}

fn open(simulate: bool, precision: Precision) -> Result<Bench> {
    Ok(if simulate {
        Bench::new(Arc::new(gpz_cuda_sim::Simulator::new()), Sizes::TINY)
    } else {
        Bench::new(open_driver(0, Options { precision })?, Sizes::REAL)
    })
}

/// What the device is.
fn device(bench: &Bench) -> Value {
    let properties = bench.device.properties();
    let [major, minor] = properties.compute_capability;
    json!({
        "name": properties.name,
        "compute_capability": format!("{major}.{minor}"),
        "memory_bytes": properties.memory_bytes,
        "software": properties.software,
    })
}

/// Measures everything.
fn figures(bench: &Bench, simulate: bool, precision: Precision) -> Result<Value> {
    // Before and after: a fraction is one of the better copy.
    let before = bench.copy()?;
    let mut all: Vec<Figure> = Vec::new();
    // What fails is named, and takes nothing else with it.
    let mut moments_checked = Vec::new();
    let exact = precision == Precision::F32;
    if exact && let Err(reason) = moments::measure(bench, &mut all, &mut moments_checked) {
        all.push(Figure::missing("class moments", reason));
    }
    decoder::measure(bench, &mut all);
    for model in bench.sizes.networks.0 {
        networks::measure(bench, model, &mut all);
    }
    if let Err(reason) = operations::product(bench, &mut all) {
        all.push(Figure::missing("product", reason));
    }
    if exact && let Err(reason) = operations::measure(bench, &mut all) {
        all.push(Figure::missing("operations", reason));
    }
    let after = bench.copy()?;
    let copy_rate = before.rate().into_iter().chain(after.rate()).fold(0.0, f64::max);

    let copies = [before.named("copy, at the beginning"), after.named("copy, at the end")];
    let figures = copies.iter().chain(&all).map(|figure| figure.json(copy_rate));
    Ok(json!({
        "format": 1,
        "simulated": simulate,
        "device": device(bench),
        "clock": bench.device.clock(),
        "precision": if exact { "f32" } else { "tf32" },
        "copy_bytes_per_second": copy_rate,
        "moments_checked": moments_checked,
        "figures": figures.collect::<Vec<_>>(),
    }))
}
