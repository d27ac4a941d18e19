//! The call of crate `gemm`, whose interface is pointers.

/// The product of two row-major `n × n` matrices on the current rayon pool.
///
/// # Panics
/// If a slice does not hold `n²` elements.
#[rustfmt::skip] // a line of the call for each matrix
pub fn gemm_product(n: usize, a: &[f32], b: &[f32]) -> Vec<f32> {
    assert!(a.len() == n * n && b.len() == n * n, "two matrices of {n} × {n} are needed");
    let mut c = vec![0.0_f32; n * n];
    let (row, threads) = (n as isize, rayon::current_num_threads());
    let parallelism =
        if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    // SAFETY: each pointer leads to n rows of n elements, `row` apart, and `c` overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            n, n, n,
            c.as_mut_ptr(), 1, row, false,
            a.as_ptr(), 1, row,
            b.as_ptr(), 1, row,
            0.0, 1.0, false, false, false, parallelism,
        );
    }
    c
}
