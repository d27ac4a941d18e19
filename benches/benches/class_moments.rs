//! Class moments beside the machine's read bandwidth: means, R_c² per class and variance per dimension of `f32` features.
//!
//! `cargo bench -p gpz-benches --bench class_moments` prints criterion's rates and then a table of the ratio to the bandwidth,
//! from interleaved repetitions, since a shared machine drifts; with `-- table` only the table.
#![allow(clippy::print_stdout)] // the table is the result

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use gpz_benches::bandwidth::read_bytes_per_second;
use gpz_estimators::{ClassMoments, Isa};
use ndarray::Array2;
use rayon::ThreadPool;

/// Rows, width, classes.
const SHAPES: [(usize, usize, usize); 2] = [(10_000, 8_192, 10), (50_000, 2_048, 100)];
/// Interleaved repetitions of the table.
const REPETITIONS: usize = 15;

/// Features and labels of one shape.
struct Case {
    name: String,
    classes: usize,
    features: Array2<f32>,
    labels: Vec<usize>,
}

impl Case {
    /// Uniform features and uniformly drawn labels from a fixed generator.
    fn new((rows, width, classes): (usize, usize, usize)) -> Self {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            state >> 40
        };
        Self {
            name: format!("{rows}x{width}/{classes}"),
            classes,
            features: Array2::from_shape_simple_fn((rows, width), || {
                next() as f32 / (1 << 24) as f32
            }),
            labels: (0..rows).map(|_| next() as usize % classes).collect(),
        }
    }

    fn bytes(&self) -> usize {
        self.features.len() * size_of::<f32>()
    }

    /// An empty state; its memory is touched by the first pass and then kept, as in a sweep over splits.
    fn state(&self, isa: Isa) -> ClassMoments {
        let mut state = ClassMoments::with_isa(self.classes, self.features.ncols(), isa)
            .expect("a small shape");
        self.run(&mut state);
        state
    }

    /// What is measured: one pass over all rows in one call on an empty state, then every result.
    fn run(&self, state: &mut ClassMoments) {
        state.clear();
        let result =
            state.update(self.features.view(), &self.labels).and_then(|()| state.geometry());
        assert!(black_box(result).is_ok());
    }
}

fn isas() -> Vec<Isa> {
    [Isa::Avx512, Isa::Avx2, Isa::Portable].into_iter().filter(|isa| isa.is_available()).collect()
}

fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("a thread pool of one or two threads")
}

fn rates(criterion: &mut Criterion, case: &Case) {
    let mut group =
        criterion.benchmark_group(format!("estimators/class_moments/cpu/{}", case.name));
    group.throughput(Throughput::Bytes(case.bytes() as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for threads in [1, 2] {
        let pool = pool(threads);
        for isa in isas() {
            group.bench_function(BenchmarkId::new(format!("{isa:?}"), threads), |bencher| {
                let mut state = case.state(isa);
                pool.install(|| bencher.iter(|| case.run(&mut state)));
            });
        }
    }
    group.finish();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One line per instruction set: rates as medians; the ratio as the median of interleaved pairs, and as best over best.
fn table(case: &Case) {
    let data = case.features.as_slice().expect("a standard layout");
    for threads in [1, 2] {
        let pool = pool(threads);
        let mut bandwidth = Vec::new();
        let mut states: Vec<_> =
            isas().into_iter().map(|isa| (case.state(isa), Vec::new(), Vec::new())).collect();
        for _ in 0..REPETITIONS {
            for (state, rates, ratios) in &mut states {
                let before = pool.install(|| read_bytes_per_second(data));
                let start = Instant::now();
                pool.install(|| case.run(state));
                let rate = case.bytes() as f64 / start.elapsed().as_secs_f64();
                bandwidth.push(before);
                rates.push(rate);
                ratios.push(rate / before);
            }
        }
        let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
        for (isa, (_, rates, ratios)) in isas().into_iter().zip(states) {
            println!(
                "{:<16} {threads:>7}  {:<9} {:5.1} {:6.1}  {:6.2}     {:.2}",
                case.name,
                format!("{isa:?}"),
                median(bandwidth.clone()) * 1e-9,
                median(rates.clone()) * 1e-9,
                median(ratios),
                best(&rates) / best(&bandwidth),
            );
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let cases = SHAPES.map(Case::new);
    for case in &cases {
        rates(&mut criterion, case);
    }
    criterion.final_summary();
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    println!("class moments, median of {REPETITIONS} interleaved repetitions (GB/s)");
    println!("rows x width/cl. threads  vectors    read   ours   ratio  best/best");
    for case in &cases {
        table(case);
    }
}
