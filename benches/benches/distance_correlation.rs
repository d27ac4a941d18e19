//! Distance correlation, bias-corrected with its jackknife: all pairs in 16 dimensions, and by sorting in one.
//!
//! `cargo bench -p gpz-benches --bench distance_correlation`; rates are in pairs of rows and in rows. All threads, and one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpz_estimators::dependence::distance_correlation_sq;
use ndarray::Array2;

/// Two samples with something in common, from a fixed generator.
fn samples(rows: usize, width: usize) -> (Array2<f64>, Array2<f64>) {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let x = Array2::from_shape_simple_fn((rows, width), &mut next);
    let y = &x + &Array2::from_shape_simple_fn((rows, width), &mut next);
    (x, y)
}

fn distance_correlation(criterion: &mut Criterion) {
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let mut group = criterion.benchmark_group("estimators/distance_correlation");
    group.sample_size(10);
    for (rows, width) in [(5_000, 16), (5_000, 1), (100_000, 1)] {
        let (x, y) = samples(rows, width);
        let work = if width == 1 { rows } else { rows * rows };
        group.throughput(Throughput::Elements(work as u64));
        let run = || distance_correlation_sq(black_box(x.view()), black_box(y.view()));
        let name = format!("{rows}x{width}");
        group.bench_function(BenchmarkId::new("all", &name), |bencher| bencher.iter(run));
        group.bench_function(BenchmarkId::new("one", &name), |bencher| {
            bencher.iter(|| one.install(run));
        });
    }
    group.finish();
}

criterion_group!(benches, distance_correlation);
criterion_main!(benches);
