//! Convolutions and matrix products beside the machine's multiply-add limit.
//!
//! `cargo bench -p gpz-benches --bench conv` prints criterion's rates and then a table of ratios to the limit, from interleaved
//! repetitions, since a shared machine drifts; `-- table` only the table, `-- table 64@` only rows whose name contains that.
//! Floating point operations are nominal: `2·n·co·ci·k²·h·w` with the output's `h` and `w` (the input's, for a transposed
//! convolution), three times that with both gradients; border taps that are skipped count as done.
#![allow(clippy::print_stdout)] // the table is the result

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use gpz_benches::fma::flops_per_second;
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

    /// Both gradients; the output stands in for its own gradient.
    fn backward(&mut self) {
        input_gradient(&self.geometry, &self.y, &self.w, black_box(&mut self.dx));
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
                    case.backward();
                });
            });
        });
    }
    group.finish();
}

/// Median with the first and third quartile.
fn quartiles(values: &mut [f64]) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|q| values[values.len() * q / 4])
}

fn cell(values: &mut [f64]) -> String {
    let [low, median, high] = quartiles(values);
    format!("{median:5.2} ({low:.2}-{high:.2})")
}

fn seconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

/// One row per number of threads: the limit, then forward and forward+backward as fractions of it, on each instruction set.
fn table(case: &mut Case, sets: &[Isa]) {
    for threads in [1, 2] {
        let pool = pool(threads);
        pool.install(|| {
            let mut limits = Vec::new();
            let mut ratios = vec![[Vec::new(), Vec::new(), Vec::new(), Vec::new()]; sets.len()];
            for repetition in 0..=REPETITIONS {
                for (set, ratios) in sets.iter().zip(&mut ratios) {
                    let limit = flops_per_second();
                    with_isa(*set, || {
                        let forward = seconds(|| case.forward());
                        let input = seconds(|| {
                            input_gradient(
                                &case.geometry,
                                &case.y,
                                &case.w,
                                black_box(&mut case.dx),
                            )
                        });
                        let weight = seconds(|| {
                            weight_gradient(
                                &case.geometry,
                                &case.x,
                                &case.y,
                                black_box(&mut case.dw),
                            )
                        });
                        let limit = 0.5 * (limit + flops_per_second());
                        if repetition > 0 {
                            limits.push(limit * 1e-9);
                            ratios[0].push(case.flops / forward / limit);
                            ratios[1].push(3.0 * case.flops / (forward + input + weight) / limit);
                            ratios[2].push(case.flops / input / limit);
                            ratios[3].push(case.flops / weight / limit);
                        }
                    });
                }
            }
            let limit = quartiles(&mut limits)[1];
            for (set, [forward, all, input, weight]) in sets.iter().zip(&mut ratios) {
                println!(
                    "{:<26} {threads}  {:<8} {limit:6.1}  {}  {}  {:5.2}  {:5.2}",
                    case.name,
                    set.name(),
                    cell(forward),
                    cell(all),
                    quartiles(input)[1],
                    quartiles(weight)[1],
                );
            }
        });
    }
}

/// `n³` product, ours beside crate `gemm`'s.
fn matmul_table(n: usize) {
    let (a, b, mut c) = (values(n * n), values(n * n), vec![0.0_f32; n * n]);
    let flops = 2.0 * (n as f64).powi(3);
    for threads in [1, 2] {
        pool(threads).install(|| {
            let (mut limits, mut ours, mut peer) = (Vec::new(), Vec::new(), Vec::new());
            for repetition in 0..=REPETITIONS {
                let limit = flops_per_second();
                let mine = seconds(|| {
                    let operand = |data| Operand { data, row: n, column: 1, batch: 0 };
                    matmul(1, [n; 3], operand(&a), operand(&b), None, false, black_box(&mut c));
                });
                let theirs = seconds(|| gemm_product(n, &a, &b, black_box(&mut c)));
                let limit = 0.5 * (limit + flops_per_second());
                if repetition > 0 {
                    limits.push(limit * 1e-9);
                    ours.push(flops / mine / limit);
                    peer.push(flops / theirs / limit);
                }
            }
            let limit = quartiles(&mut limits)[1];
            println!(
                "matmul {n}^3                {threads}  ours     {limit:6.1}  {}",
                cell(&mut ours)
            );
            println!(
                "matmul {n}^3                {threads}  gemm     {limit:6.1}  {}",
                cell(&mut peer)
            );
        });
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
        "median (quartiles) of {REPETITIONS} interleaved repetitions, as fractions of the multiply-add limit (GFLOP/s)"
    );
    println!(
        "shape              threads  set       limit  forward            forward+backward   d input  d weight"
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
