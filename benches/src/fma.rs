//! How fast this machine multiplies and adds: independent chains of fused multiply-adds that touch no memory.

/// Steps of a chain in one measurement: about 5 ms.
const STEPS: usize = 700_000;

/// Runs the chains on every thread of the current rayon pool; the floating point operations done, a multiply-add counting two.
///
/// Measure it in turn with what is compared to it: the clock of a shared machine drifts.
#[must_use]
pub fn run_chains() -> f64 {
    rayon::broadcast(|_| chains()).iter().sum::<usize>() as f64
}

/// Runs the chains on the widest registers of the machine; the floating point operations done.
fn chains() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has the instructions.
            return unsafe { chains_512() };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            // SAFETY: the machine has the instructions.
            return unsafe { chains_256() };
        }
    }
    chains_of_lanes()
}

/// Chains side by side: enough to hide the latency, few enough to stay in registers.
#[cfg(target_arch = "x86_64")]
const CHAINS: usize = 12;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn chains_512() -> usize {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps};
    let factor = _mm512_set1_ps(std::hint::black_box(0.999));
    let mut sums = [factor; CHAINS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, factor);
        }
    }
    std::hint::black_box(sums);
    STEPS * CHAINS * 16 * 2
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn chains_256() -> usize {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};
    let factor = _mm256_set1_ps(std::hint::black_box(0.999));
    let mut sums = [factor; CHAINS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, factor);
        }
    }
    std::hint::black_box(sums);
    STEPS * CHAINS * 8 * 2
}

/// A product and a sum for each of 32 lanes, in whatever instructions the target has.
fn chains_of_lanes() -> usize {
    let factor = std::hint::black_box(0.999_f32);
    let mut sums = [factor; 32];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = *sum * factor + factor;
        }
    }
    std::hint::black_box(sums);
    STEPS * 32 * 2
}
