//! Convolutions and matrix products of gpz-tensor beside those of candle and burn, in one run.
//!
//! `cargo run --release` in this folder prints two tables in Markdown, for one thread and for two; `-- --repetitions N` changes how
//! often each call is timed (7), `-- --only TEXT` keeps the operations whose name contains TEXT. Before anything is timed, every
//! element of every result is compared between the libraries.
//!
//! All three libraries and crate `gemm` take their threads from rayon, whose pool is set for a process: the program therefore runs
//! itself once per number of threads with `RAYON_NUM_THREADS` and `CANDLE_NUM_THREADS` set, tied to as many cores by `taskset`
//! where there is one.

mod burn;
mod candle;
mod case;
// Clocks and limit are those of the product's own benchmarks; by path, because the crate around them brings criterion.
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/fma.rs"]
mod fma;
mod gemm_product;
mod library;
mod measure;
mod ours;
mod product;
mod table;

use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::burn::Burn;
use crate::candle::Candle;
use crate::case::{CASES, Case};
use crate::library::{Convolution, check_agreement};
use crate::measure::{Contender, interleaved};
use crate::ours::Ours;
use crate::product::Product;
use crate::table::Table;

/// Names of the results that are compared.
const RESULTS: [&str; 3] = ["output", "gradient of the input", "gradient of the weight"];

/// What the command line asks for.
struct Arguments {
    repetitions: usize,
    only: String,
    /// Given by the program to itself: measure in this process.
    threads: Option<usize>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut arguments = Arguments { repetitions: 7, only: String::new(), threads: None };
        let mut words = std::env::args().skip(1);
        while let Some(flag) = words.next() {
            let value = words.next().with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--repetitions" => {
                    arguments.repetitions = value.parse().context("--repetitions takes a number")?
                }
                "--only" => arguments.only = value,
                "--threads" => {
                    arguments.threads = Some(value.parse().context("--threads takes a number")?)
                }
                _ => bail!("{flag} is not known; there are --repetitions N and --only TEXT"),
            }
        }
        ensure!(arguments.repetitions > 0, "--repetitions must be at least 1");
        Ok(arguments)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    if let Some(threads) = arguments.threads {
        return measure_here(threads, &arguments);
    }
    table::print_circumstances(arguments.repetitions);
    for threads in [1, 2] {
        run_with(threads, &arguments)?;
    }
    println!("\nLoad at the end: {}", table::load());
    Ok(())
}

/// Runs this program again with that many threads, on that many cores.
fn run_with(threads: usize, arguments: &Arguments) -> Result<()> {
    let program = std::env::current_exe().context("where this program lies")?;
    let configure = |command: &mut Command| {
        command
            .args(["--threads", &threads.to_string()])
            .args(["--repetitions", &arguments.repetitions.to_string()])
            .args(["--only", &arguments.only])
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("CANDLE_NUM_THREADS", threads.to_string())
            .status()
    };
    let status = match configure(
        Command::new("taskset").args(["-c", &format!("0-{}", threads - 1)]).arg(&program),
    ) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("taskset is not installed: threads are limited, cores are not");
            configure(&mut Command::new(&program))
        }
        tied => tied,
    };
    let status = status.context("running with a limit on threads")?;
    ensure!(status.success(), "with {threads} threads: {status}");
    Ok(())
}

/// Measures in this process, whose environment limits the threads.
fn measure_here(threads: usize, arguments: &Arguments) -> Result<()> {
    let pool = rayon::current_num_threads();
    ensure!(pool == threads, "rayon has {pool} threads; set RAYON_NUM_THREADS={threads}");
    let wanted = |name: &str| name.contains(&arguments.only);
    let mut table = Table::new(threads);
    for case in CASES {
        if wanted(&case.name()) {
            measure_case(case, arguments.repetitions, &mut table)?;
        }
    }
    let product = Product::new(1024)?;
    if wanted(&product.name()) {
        // A product is a hundredth of a convolution's time: more of them cost little.
        let (limit, rates) =
            interleaved(&product.contenders(), product.flops(), 5 * arguments.repetitions)?;
        table.add(&product.name(), "forward", limit, rates);
    }
    table.print();
    Ok(())
}

/// Checks that the libraries agree on a convolution, then times them.
fn measure_case(case: Case, repetitions: usize, table: &mut Table) -> Result<()> {
    let libraries: [Box<dyn Convolution>; 3] =
        [Box::new(Ours::new(case)?), Box::new(Candle::new(case)?), Box::new(Burn::new(case))];
    let [ours, peers @ ..] = &libraries;
    let expected = ours.results()?;
    for peer in peers {
        for ((what, ours), theirs) in RESULTS.iter().zip(&expected).zip(peer.results()?) {
            check_agreement(&format!("{}, {what}", case.name()), peer.name(), ours, &theirs)?;
        }
    }
    let calls = |call: fn(&dyn Convolution) -> Result<()>| {
        libraries
            .iter()
            .map(|library| Contender::new(library.name(), move || call(library.as_ref())))
            .collect::<Vec<_>>()
    };
    let (limit, rates) =
        interleaved(&calls(|library| library.forward()), case.flops(), repetitions)?;
    table.add(&case.name(), "forward", limit, rates);
    let (limit, rates) =
        interleaved(&calls(|library| library.forward_backward()), 3.0 * case.flops(), repetitions)?;
    table.add(&case.name(), "forward + backward", limit, rates);
    Ok(())
}
