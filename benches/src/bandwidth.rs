//! How fast this machine reads memory: the sum of a long `f32` array, by the best of several loops.
//!
//! More independent sums hide more latency up to a point that differs by machine, and so does the cut between threads, so a
//! probe tries several and keeps the best. The array should be far larger than the last cache (300 MiB or more).

use std::time::Instant;

use rayon::prelude::*;

/// Elements of a piece where threads take pieces alternately: 4 MiB.
const PIECE: usize = 1 << 20;

/// The loops tried: sums of 16 lanes side by side.
const LOOPS: [fn(&[f32]) -> f32; 4] = [sum::<2>, sum::<4>, sum::<8>, sum::<16>];

/// Reads `data` once by each loop on the current rayon pool and returns the best rate in bytes per second.
#[must_use]
pub fn read_bytes_per_second(data: &[f32]) -> f64 {
    let threads = rayon::current_num_threads();
    let share = data.len().div_ceil(threads).max(1);
    let pieces: &[usize] = if threads == 1 { &[share] } else { &[share, PIECE] };
    let mut best = f64::INFINITY;
    for sum in LOOPS {
        for &piece in pieces {
            let start = Instant::now();
            let total: f32 =
                if threads == 1 { sum(data) } else { data.par_chunks(piece).map(sum).sum() };
            std::hint::black_box(total);
            best = best.min(start.elapsed().as_secs_f64());
        }
    }
    std::mem::size_of_val(data) as f64 / best
}

/// The sum by `K` vectors of 16 lanes, on the widest registers of the machine.
fn sum<const K: usize>(data: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has the instructions.
            return unsafe { sum_512::<K>(data) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has the instructions.
            return unsafe { sum_256::<K>(data) };
        }
    }
    lanes::<K>(data)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_512<const K: usize>(data: &[f32]) -> f32 {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_loadu_ps, _mm512_reduce_add_ps, _mm512_setzero_ps,
    };
    let mut sums = [_mm512_setzero_ps(); K];
    for step in data.as_chunks::<16>().0.as_chunks::<K>().0 {
        for (sum, lanes) in sums.iter_mut().zip(step) {
            // SAFETY: `lanes` are 16 readable floats; the load needs no alignment.
            *sum = _mm512_add_ps(*sum, unsafe { _mm512_loadu_ps(lanes.as_ptr()) });
        }
    }
    sums.iter().map(|&sum| _mm512_reduce_add_ps(sum)).sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_256<const K: usize>(data: &[f32]) -> f32 {
    lanes::<K>(data)
}

/// The same in plain Rust; inlined, it takes the vectors of the function around it.
#[inline(always)]
fn lanes<const K: usize>(data: &[f32]) -> f32 {
    let mut sums = [[0.0_f32; 16]; K];
    for step in data.as_chunks::<16>().0.as_chunks::<K>().0 {
        for (sums, lanes) in sums.iter_mut().zip(step) {
            for (sum, value) in sums.iter_mut().zip(lanes) {
                *sum += value;
            }
        }
    }
    sums.iter().flatten().sum()
}
