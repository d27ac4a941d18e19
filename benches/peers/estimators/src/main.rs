//! Estimators of nearest neighbours beside those of infomeasure, in one run on the same data.
//!
//! `cargo run --release --locked -p gpz-peers-estimators` in `benches/peers` prints a table in Markdown for one thread and one for
//! two; `-- --repetitions N` changes how often each call is timed (9). Before anything is timed, the values are compared.
//!
//! infomeasure brings ndarray-linalg, hence OpenBLAS: the system's is taken, as a static library, which asks for gfortran's.
//!
//! Both libraries take their threads from rayon, whose pool is set for a process: the program therefore runs itself once per
//! number of threads with `RAYON_NUM_THREADS` set, tied to as many cores by `taskset` where there is one.

// By path, because the crate around it brings criterion.
#[path = "../../../src/clock.rs"]
mod clock;

use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clock::time;
use gpz_estimators::information::ksg::ksg1_nats;
use gpz_estimators::{Metric, Neighbours, entropy::kozachenko_leonenko_nats};
use infomeasure::estimators::GlobalValue;
use infomeasure::estimators::entropy::Entropy;
use infomeasure::estimators::mutual_information::MutualInformation;
use ndarray::Array2;

const SIZES: [usize; 2] = [5_000, 10_000];

/// Relative difference of two values that are the same sum in another order.
const AGREEMENT: f64 = 1e-11;

/// One estimate by each library.
struct Case {
    name: String,
    rows: usize,
    ours: Box<dyn Fn(Neighbours) -> Result<f64>>,
    theirs: Box<dyn Fn() -> f64>,
}

fn main() -> Result<()> {
    let mut repetitions = 9;
    let mut here = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{flag} takes a value"))?;
        match flag.as_str() {
            "--repetitions" => {
                repetitions = value.parse().context("--repetitions takes a number")?
            }
            "--threads" => here = Some(value.parse().context("--threads takes a number")?),
            _ => bail!("{flag} is not known; there is --repetitions N"),
        }
    }
    ensure!(repetitions > 0, "--repetitions must be at least 1");
    if let Some(threads) = here {
        return measure(threads, repetitions);
    }
    println!(
        "- A cell: milliseconds by the clock on the wall, median (quartiles) of {repetitions} interleaved repetitions; in bold the median time the threads ran, all together"
    );
    println!(
        "- gpz: the estimate alone, and with its standard error and, for information, the look at growth"
    );
    println!("- Load before the start: {}", load());
    for threads in [1, 2] {
        run_with(threads, repetitions)?;
    }
    println!("\nLoad at the end: {}", load());
    Ok(())
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .map_or_else(|_| "unknown".into(), |load| load.trim().to_owned())
}

/// Runs this program again with that many threads, on that many cores.
fn run_with(threads: usize, repetitions: usize) -> Result<()> {
    let program = std::env::current_exe().context("where this program lies")?;
    let configure = |command: &mut Command| {
        command
            .args(["--threads", &threads.to_string()])
            .args(["--repetitions", &repetitions.to_string()])
            .env("RAYON_NUM_THREADS", threads.to_string())
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
fn measure(threads: usize, repetitions: usize) -> Result<()> {
    let pool = rayon::current_num_threads();
    ensure!(pool == threads, "rayon has {pool} threads; set RAYON_NUM_THREADS={threads}");
    println!("\n## {threads} thread{}\n", if threads == 1 { "" } else { "s" });
    println!(
        "| estimate | rows | value, nats | gpz | gpz with error | infomeasure | infomeasure over gpz |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for case in SIZES.into_iter().flat_map(cases) {
        let alone = Neighbours::nth(3).without_std_err();
        let (ours, theirs) = ((case.ours)(alone)?, (case.theirs)());
        let apart = (ours - theirs).abs() / (1.0 + ours.abs());
        ensure!(apart <= AGREEMENT, "{}: {ours} here, {theirs} there", case.name);
        let calls: [&dyn Fn() -> Result<f64>; 3] =
            [&|| (case.ours)(alone), &|| (case.ours)(Neighbours::nth(3)), &|| Ok((case.theirs)())];
        let mut wall = [const { Vec::new() }; 3];
        let mut processor = [const { Vec::new() }; 3];
        for repetition in 0..repetitions {
            for turn in 0..calls.len() {
                let at = (turn + repetition) % calls.len();
                let mut value = Ok(0.0);
                let took = time(|| value = calls[at]());
                ensure!(value? == if at < 2 { ours } else { theirs });
                wall[at].push(took.wall * 1e3);
                processor[at].push(took.processor * 1e3);
            }
        }
        let (wall, processor) = (wall.map(quartiles), processor.map(quartiles));
        let cell = |at: usize| {
            let [low, median, high] = wall[at];
            format!("{median:.2} ({low:.2}–{high:.2}), **{:.2}**", processor[at][1])
        };
        println!(
            "| {} | {} | {ours:.4} | {} | {} | {} | {:.1}, **{:.1}** |",
            case.name,
            case.rows,
            cell(0),
            cell(1),
            cell(2),
            wall[2][1] / wall[0][1],
            processor[2][1] / processor[0][1],
        );
    }
    Ok(())
}

/// First quartile, median and third quartile, each the nearest sample.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[((values.len() - 1) * quarter + 2) / 4])
}

fn cases(n: usize) -> Vec<Case> {
    vec![
        information::<2, 1>(n),
        information::<6, 3>(n),
        information::<16, 8>(n),
        entropy::<1>(n),
        entropy::<3>(n),
        entropy::<8>(n),
    ]
}

/// KSG 1 of `D + D` Gaussian dimensions, each pair of correlation 0.6.
fn information<const JOINT: usize, const D: usize>(n: usize) -> Case {
    let (x, noise) = (normal(n, D, 1), normal(n, D, 2));
    let y = 0.6 * &x + 0.8 * noise;
    let series = [x.clone(), y.clone()];
    Case {
        name: format!("KSG 1, {D} + {D} dimensions"),
        rows: n,
        ours: Box::new(move |options| Ok(ksg1_nats(x.view(), y.view(), options)??.value)),
        theirs: Box::new(move || {
            MutualInformation::nd_ksg::<JOINT, D, D>(&series, 3, 0.0).global_value()
        }),
    }
}

/// Kozachenko and Leonenko's entropy of Gaussian rows, Euclidean.
fn entropy<const D: usize>(n: usize) -> Case {
    let z = normal(n, D, 3);
    let data = z.clone();
    Case {
        name: format!("entropy, {D} dimension{}", if D == 1 { "" } else { "s" }),
        rows: n,
        ours: Box::new(move |options| {
            Ok(kozachenko_leonenko_nats(z.view(), Metric::Euclidean, options)??.value)
        }),
        theirs: Box::new(move || {
            Entropy::kl_nd::<D>(data.clone(), 3, 0.0).with_chebyshev(false).global_value()
        }),
    }
}

/// Standard normal numbers by a seed.
fn normal(n: usize, d: usize, seed: u64) -> Array2<f64> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut s = state;
        s = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        s = (s ^ (s >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((s ^ (s >> 31)) >> 11) as f64 + 1.0) * 2.0_f64.powi(-53)
    };
    Array2::from_shape_simple_fn((n, d), || {
        (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
    })
}
