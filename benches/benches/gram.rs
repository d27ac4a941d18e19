//! Log-determinant of a shrunk covariance of far more dimensions than rows, by the Gram matrix, beside the machine's multiply-adds.
//!
//! `OPENBLAS_NUM_THREADS=1 cargo bench -p gpz-benches --features lapack --bench gram` prints criterion's rates and then a table from
//! interleaved repetitions, since a shared machine drifts; with `-- table` only the table. OpenBLAS is held to one thread, because its
//! threads are not those of the table.
#![allow(clippy::print_stdout)] // the table is the result

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use gpz_benches::clock::{Took, time};
use gpz_benches::fma::run_chains;
use gpz_estimators::gaussian;
use gpz_estimators::spectrum::Spectrum;
use ndarray::Array2;
use rayon::ThreadPool;

/// Rows and width.
const SHAPE: (usize, usize) = (500, 65_536);
/// Interleaved repetitions of the table.
const REPETITIONS: usize = 9;

/// Uniform features from a fixed generator.
fn features((rows, width): (usize, usize)) -> Array2<f32> {
    let mut state = 1_u64;
    Array2::from_shape_simple_fn((rows, width), || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f32 / (1 << 24) as f32
    })
}

/// Operations of the Gram matrix by its triangle, a multiply-add counting two.
fn operations(features: &Array2<f32>) -> f64 {
    let (rows, width) = features.dim();
    rows as f64 * (rows + 1) as f64 * width as f64
}

fn log_det(features: &Array2<f32>) {
    let shrunk = gaussian::ledoit_wolf(features.view());
    assert!(black_box(shrunk).is_ok_and(|shrunk| shrunk.is_ok()));
}

fn spectrum(features: &Array2<f32>) {
    assert!(black_box(Spectrum::of(features.view())).is_ok());
}

fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("a thread pool of one or two threads")
}

fn rates(criterion: &mut Criterion, features: &Array2<f32>) {
    let (rows, width) = features.dim();
    let mut group =
        criterion.benchmark_group(format!("estimators/gram_log_det/cpu/{rows}x{width}"));
    group.throughput(Throughput::Elements(features.len() as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for threads in [1, 2] {
        let pool = pool(threads);
        group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
            pool.install(|| bencher.iter(|| log_det(features)));
        });
    }
    group.finish();
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of the wall clock and of processor time, and the share of the machine's multiply-adds by processor time.
fn table(features: &Array2<f32>) {
    let (rows, width) = features.dim();
    for threads in [1, 2] {
        let pool = pool(threads);
        for (name, run) in [("ledoit_wolf", log_det as fn(&_)), ("Spectrum::of", spectrum)] {
            let mut runs: Vec<(Took, f64)> = Vec::new();
            for _ in 0..REPETITIONS {
                let mut chains = 0.0;
                let limit = pool.install(|| time(|| chains = run_chains()));
                let took = pool.install(|| time(|| run(features)));
                let rate = operations(features) / took.processor;
                runs.push((took, rate / (chains / limit.processor)));
            }
            println!(
                "{:<12} {threads:>7}  {name:<13} {:6.3} {:6.3} {:10.3}  {:5.2}",
                format!("{rows}x{width}"),
                median(runs.iter().map(|(took, _)| took.wall)),
                runs.iter().map(|(took, _)| took.wall).fold(f64::INFINITY, f64::min),
                median(runs.iter().map(|(took, _)| took.processor)),
                median(runs.iter().map(|(_, share)| *share)),
            );
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let features = features(SHAPE);
    rates(&mut criterion, &features);
    criterion.final_summary();
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    println!("log-determinant by the Gram matrix, {REPETITIONS} interleaved repetitions (seconds)");
    println!("rows x width threads  what            wall   best  processor  share");
    table(&features);
}
