//! Convolutions and matrix products beside the machine's multiply-add limit.
//!
//! `cargo bench -p gpz-benches --bench conv` prints criterion's rates and then a table of ratios to the limit, from interleaved
//! repetitions, since a shared machine drifts; `-- table` only the table, `-- table 64@` only rows whose name contains that.
//! Floating point operations are nominal: `2·n·co·ci·k²·h·w` with the output's `h` and `w` (the input's, for a transposed
//! convolution), three times that with both gradients; border taps that are skipped count as done.
#![allow(clippy::print_stdout)] // the table is the result

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use gpz_benches::clock::{Took, time};
use gpz_benches::fma::run_chains;
use gpz_tensor::bench_api::{
    Epilogue, Geometry, Isa, Operand, Window, forward, input_gradient, matmul, weight_gradient,
    with_isa,
};
use rayon::ThreadPool;

/// Interleaved repetitions of the table.
const REPETITIONS: usize = 9;

/// Uniform values in [-0.5, 0.5) from a fixed generator.
fn values(len: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

/// One shape with its operands and results.
struct Case {
    name: String,
    flops: f64,
    geometry: Geometry,
    x: Vec<f32>,
    w: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
}

impl Case {
    fn new(name: String, flops: usize, geometry: Geometry) -> Self {
        Case {
            name,
            flops: flops as f64,
            x: values(geometry.input_len()),
            w: values(geometry.weight_len()),
            y: vec![0.0; geometry.output_len()],
            dx: vec![0.0; geometry.input_len()],
            dw: vec![0.0; geometry.weight_len()],
            geometry,
        }
    }

    /// 3×3, stride 1, padding 1.
    fn conv(batch: usize, [ci, co]: [usize; 2], side: usize) -> Self {
        let geometry = Geometry::conv2d(batch, [side; 2], [ci, co], Window::square(3, 1, 1));
        let flops = 2 * batch * co * ci * 9 * side * side;
        Self::new(
            format!("conv3x3 {ci}>{co}@{side} n{batch}"),
            flops,
            geometry.expect("a valid shape"),
        )
    }

    /// 4×4, stride 2, padding 1; `side` is the input's.
    fn transposed(batch: usize, [ci, co]: [usize; 2], side: usize) -> Self {
        let geometry =
            Geometry::conv_transpose2d(batch, [side; 2], [ci, co], Window::square(4, 2, 1), [0; 2]);
        let flops = 2 * batch * co * ci * 16 * side * side;
        Self::new(
            format!("convT4x4/2 {ci}>{co}@{side} n{batch}"),
            flops,
            geometry.expect("a valid shape"),
        )
    }

    fn forward(&mut self) {
        forward(&self.geometry, &self.x, &self.w, &Epilogue::default(), black_box(&mut self.y));
    }

    /// The output stands in for its own gradient.
    fn input_gradient(&mut self) {
        input_gradient(&self.geometry, &self.y, &self.w, black_box(&mut self.dx));
    }

    fn weight_gradient(&mut self) {
        weight_gradient(&self.geometry, &self.x, &self.y, black_box(&mut self.dw));
    }
}

/// The shapes of record, then those of the small network and its decoders.
fn shapes() -> Vec<fn() -> Case> {
    vec![
        || Case::conv(32, [64, 64], 64),
        || Case::conv(32, [128, 128], 32),
        || Case::conv(32, [256, 256], 16),
        || Case::conv(32, [512, 512], 8),
        || Case::transposed(32, [512, 256], 4),
        || Case::transposed(32, [128, 64], 16),
        || Case::conv(128, [1, 16], 64),
        || Case::conv(128, [16, 32], 32),
        || Case::conv(128, [32, 64], 16),
        || Case::conv(128, [64, 128], 8),
        || Case::transposed(128, [128, 64], 4),
        || Case::transposed(128, [64, 32], 8),
        || Case::transposed(128, [32, 16], 16),
        || Case::transposed(128, [16, 1], 32),
    ]
}

fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("a thread pool of one or two threads")
}

fn rates(criterion: &mut Criterion, case: &mut Case) {
    let mut group = criterion.benchmark_group(format!("tensor/{}/cpu", case.name));
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    for threads in [1, 2] {
        let pool = pool(threads);
        group.throughput(Throughput::Elements(case.flops as u64));
        group.bench_function(BenchmarkId::new("forward", threads), |bencher| {
            pool.install(|| bencher.iter(|| case.forward()));
        });
        group.throughput(Throughput::Elements(3 * case.flops as u64));
        group.bench_function(BenchmarkId::new("forward+backward", threads), |bencher| {
            pool.install(|| {
                bencher.iter(|| {
                    case.forward();
                    case.input_gradient();
                    case.weight_gradient();
                });
            });
        });
    }
    group.finish();
}

/// Median with the first and third quartile.
fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|q| values[values.len() * q / 4])
}

/// Rates of one computation as parts of the limit.
#[derive(Default)]
struct Ratios {
    /// By the time the threads were running.
    processor: Vec<f64>,
    /// By the clock on the wall.
    wall: Vec<f64>,
}

impl Ratios {
    fn cell(&self) -> String {
        let ([low, median, high], [_, wall, _]) =
            (quartiles(&self.processor), quartiles(&self.wall));
        format!("{median:4.2} ({low:.2}-{high:.2}) {wall:4.2}")
    }
}

/// Runs `measure` with the limit before and after it; it returns operations and times for each of `ratios`. The first run warms up.
/// Returns the median limit in GFLOP/s per thread.
fn interleaved<const N: usize>(
    ratios: &mut [Ratios; N],
    mut measure: impl FnMut() -> [(f64, Took); N],
) -> f64 {
    let mut limits = Vec::new();
    for repetition in 0..=REPETITIONS {
        let mut flops = 0.0;
        let before = time(|| flops += run_chains());
        let measured = measure();
        let after = time(|| flops += run_chains());
        if repetition == 0 {
            continue;
        }
        let limit = sum(&[before, after]);
        limits.push(flops / limit.processor * 1e-9);
        for (ratios, (done, took)) in ratios.iter_mut().zip(measured) {
            ratios.processor.push(done / took.processor * limit.processor / flops);
            ratios.wall.push(done / took.wall * limit.wall / flops);
        }
    }
    quartiles(&limits)[1]
}

fn sum(times: &[Took]) -> Took {
    times.iter().fold(Took { wall: 0.0, processor: 0.0 }, |all, t| Took {
        wall: all.wall + t.wall,
        processor: all.processor + t.processor,
    })
}

/// One row per number of threads and instruction set: the limit, then forward, forward+backward and either gradient as parts of it.
fn table(case: &mut Case, sets: &[Isa]) {
    for threads in [1, 2] {
        for &set in sets {
            let mut ratios: [Ratios; 4] = Default::default();
            let run = || {
                interleaved(&mut ratios, || {
                    let forward = time(|| case.forward());
                    let input = time(|| case.input_gradient());
                    let weight = time(|| case.weight_gradient());
                    let all = sum(&[forward, input, weight]);
                    [(1.0, forward), (3.0, all), (1.0, input), (1.0, weight)]
                        .map(|(n, t)| (n * case.flops, t))
                })
            };
            let limit = pool(threads).install(|| with_isa(set, run)).unwrap_or(f64::NAN);
            let cells = ratios.each_ref().map(Ratios::cell).join("  ");
            println!("{:<26} {threads}  {:<7} {limit:6.1}  {cells}", case.name, set.name());
        }
    }
}

/// `n³` product, ours beside crate `gemm`'s.
fn matmul_table(n: usize) {
    let (a, b, mut c) = (values(n * n), values(n * n), vec![0.0_f32; n * n]);
    let flops = 2.0 * (n as f64).powi(3);
    for threads in [1, 2] {
        let mut ratios: [Ratios; 2] = Default::default();
        let run = || {
            interleaved(&mut ratios, || {
                let operand = |data| Operand { data, row: n, column: 1, batch: 0 };
                let ours = time(|| {
                    matmul(1, [n; 3], operand(&a), operand(&b), None, false, black_box(&mut c))
                });
                let theirs = time(|| gemm_product(n, &a, &b, black_box(&mut c)));
                [(flops, ours), (flops, theirs)]
            })
        };
        let limit = pool(threads).install(run);
        let [ours, theirs] = ratios.each_ref().map(Ratios::cell);
        println!(
            "matmul {n}^3              {threads}  best    {limit:6.1}  {ours}   crate gemm {theirs}"
        );
    }
}

/// `c = a · b` by crate `gemm`, row-major.
fn gemm_product(n: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() == n * n && b.len() == n * n && c.len() == n * n);
    let (row, threads) = (n as isize, rayon::current_num_threads());
    let parallelism =
        if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    // SAFETY: each matrix has n rows of n elements, `row` apart, in a slice of its own.
    unsafe {
        gemm::gemm(
            n,
            n,
            n,
            c.as_mut_ptr(),
            1,
            row,
            false,
            a.as_ptr(),
            1,
            row,
            b.as_ptr(),
            1,
            row,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let only_table = arguments.first().is_some_and(|argument| argument == "table");
    let wanted =
        |name: &str| !only_table || arguments[1..].iter().all(|part| name.contains(part.as_str()));
    if !only_table {
        let mut criterion = Criterion::default().configure_from_args();
        for shape in shapes() {
            rates(&mut criterion, &mut shape());
        }
        criterion.final_summary();
        if arguments.iter().any(|argument| argument == "--test" || argument == "--list") {
            return;
        }
    }
    println!(
        "parts of the multiply-add limit (GFLOP/s of one thread), medians of {REPETITIONS} repetitions:"
    );
    println!(
        "by the time the threads ran (quartiles), then by the clock on the wall, which other processes disturb"
    );
    println!(
        "shape             threads  set      limit  forward                forward+backward       d input                d weight"
    );
    let sets: Vec<Isa> =
        [Isa::Avx512, Isa::Avx2].into_iter().filter(|isa| isa.is_supported()).collect();
    for shape in shapes() {
        let mut case = shape();
        if wanted(&case.name) {
            table(&mut case, &sets);
        }
    }
    if wanted("matmul") {
        matmul_table(1024);
    }
}
