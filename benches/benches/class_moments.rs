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
            features: Array2::from_shape_simple_fn((rows, width), || next() as f32 / (1 << 24) as f32),
            labels: (0..rows).map(|_| next() as usize % classes).collect(),
        }
    }

    fn bytes(&self) -> usize {
        self.features.len() * size_of::<f32>()
    }

    /// What is measured: one pass over all rows in one call, then every result.
    fn run(&self, isa: Isa) {
        let result = ClassMoments::with_isa(self.classes, self.features.ncols(), isa)
            .and_then(|mut moments| moments.update(self.features.view(), &self.labels).map(|()| moments))
            .and_then(|moments| moments.geometry());
        assert!(black_box(result).is_ok());
    }
}

fn isas() -> Vec<Isa> {
    [Isa::Avx512, Isa::Avx2, Isa::Portable].into_iter().filter(|isa| isa.is_available()).collect()
}

fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool of one or two threads")
}

fn rates(criterion: &mut Criterion, case: &Case) {
    let mut group = criterion.benchmark_group(format!("estimators/class_moments/cpu/{}", case.name));
    group.throughput(Throughput::Bytes(case.bytes() as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for threads in [1, 2] {
        let pool = pool(threads);
        for isa in isas() {
            group.bench_function(BenchmarkId::new(format!("{isa:?}"), threads), |bencher| {
                pool.install(|| bencher.iter(|| case.run(isa)));
            });
        }
    }
    group.finish();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(case: &Case) {
    let data = case.features.as_slice().expect("a standard layout");
    for threads in [1, 2] {
        let pool = pool(threads);
        let mut bandwidth = Vec::new();
        let mut ours = vec![Vec::new(); isas().len()];
        let mut ratios = ours.clone();
        for _ in 0..REPETITIONS {
            for (at, isa) in isas().into_iter().enumerate() {
                let limit = pool.install(|| read_bytes_per_second(data));
                let start = Instant::now();
                pool.install(|| case.run(isa));
                let rate = case.bytes() as f64 / start.elapsed().as_secs_f64();
                bandwidth.push(limit);
                ours[at].push(rate);
                ratios[at].push(rate / limit);
            }
        }
        let bandwidth = median(bandwidth) * 1e-9;
        for ((isa, rate), ratio) in isas().into_iter().zip(ours).zip(ratios) {
            println!(
                "{:<16} {threads}  {:<9} {bandwidth:6.1} {:6.1}   {:.2}",
                case.name,
                format!("{isa:?}"),
                median(rate) * 1e-9,
                median(ratio)
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
    println!("rows x width/cl. threads    read   ours  ratio");
    for case in &cases {
        table(case);
    }
}
