//! The inner loops, each for AVX-512, AVX2 with FMA, and plain Rust, chosen at run time.
//!
//! `accumulate` adds a few rows of one class to that class's sums: rows stay one column step in registers, so that the
//! `f64` sums are loaded and stored once per group of rows and not once per row. `distances` is its counterpart of the
//! second pass, and `dots` the one of products of rows with rows. Each column's arithmetic is the same wherever a block of columns begins or
//! ends, so cutting the columns changes no bit. `lanes` has vectors for searches among neighbours. The two x86 paths fuse multiply and add, the portable one rounds twice unless the target fuses.

mod lanes;

pub(crate) use lanes::{Lanes, Task, run};

/// Rows that one call of the inner loop takes together.
pub(crate) const GROUP: usize = 8;

/// The instruction set the inner loops run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Plain Rust, on any machine.
    Portable,
}

impl Isa {
    /// The widest instruction set of this machine.
    #[must_use]
    pub fn detect() -> Self {
        [Self::Avx512, Self::Avx2]
            .into_iter()
            .find(|isa| isa.is_available())
            .unwrap_or(Self::Portable)
    }

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::arch::is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// The set itself where the machine has it, else what [`Isa::detect`] finds.
    pub(crate) fn or_detected(self) -> Self {
        if self.is_available() { self } else { Self::detect() }
    }
}

/// What a feature may be made of: `f32` or `f64`. Sealed.
pub trait Element: private::Kernels {}
impl Element for f32 {}
impl Element for f64 {}

pub(crate) mod private {
    /// The inner loops of one element type, on `isa` where the machine has it.
    pub trait Kernels: Copy + Send + Sync + 'static {
        /// Whether a square or a sum of squares of finite values can overflow `f64`.
        const CAN_OVERFLOW: bool;

        fn widen(self) -> f64;

        /// `sum[j] += Σ_r (rows[r][j] − pivot[j])` and `squares[j] += Σ_r (rows[r][j] − pivot[j])²`, rows in order.
        /// `ahead` are the rows that come next; they are fetched into the second-level cache meanwhile.
        fn accumulate<const R: usize>(
            isa: super::Isa,
            rows: &[&[Self]; R],
            ahead: &[&[Self]; R],
            pivot: &[f64],
            sum: &mut [f64],
            squares: &mut [f64],
        );

        /// For each row `[‖row − a‖², ‖row − b‖²]`.
        fn distances<const R: usize>(
            isa: super::Isa,
            rows: &[&[Self]; R],
            ahead: &[&[Self]; R],
            a: &[f64],
            b: &[f64],
        ) -> [[f64; 2]; R];
    }
}

/// `a·b + c`, fused where the caller's target fuses.
#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Whether the portable path's target has a fused multiply-add instruction; without one `mul_add` is a library call.
const TARGET_FUSES: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// Some columns of `accumulate`, one at a time: the whole portable path, and both ends of the others.
#[inline(always)]
fn accumulate_columns<T: private::Kernels, const R: usize, const FUSED: bool>(
    columns: std::ops::Range<usize>,
    rows: &[&[T]; R],
    pivot: &[f64],
    sum: &mut [f64],
    squares: &mut [f64],
) {
    let rows = rows.map(|row| &row[columns.clone()]);
    let pivot = &pivot[columns.clone()];
    let (sum, squares) = (&mut sum[columns.clone()], &mut squares[columns]);
    for j in 0..pivot.len() {
        let (mut s, mut q) = (sum[j], squares[j]);
        for row in &rows {
            let deviation = row[j].widen() - pivot[j];
            s += deviation;
            q = multiply_add::<FUSED>(deviation, deviation, q);
        }
        (sum[j], squares[j]) = (s, q);
    }
}

/// Columns `from..` of `distances`, added to `out`.
#[inline(always)]
fn distance_columns<T: private::Kernels, const R: usize, const FUSED: bool>(
    from: usize,
    rows: &[&[T]; R],
    a: &[f64],
    b: &[f64],
    out: &mut [[f64; 2]; R],
) {
    for (row, out) in rows.iter().zip(out) {
        for ((value, a), b) in row[from..].iter().zip(&a[from..]).zip(&b[from..]) {
            let value = value.widen();
            out[0] = multiply_add::<FUSED>(value - a, value - a, out[0]);
            out[1] = multiply_add::<FUSED>(value - b, value - b, out[1]);
        }
    }
}

/// `distances` in plain Rust: eight independent sums per row, so that the compiler may use vectors.
fn distances_portable<T: private::Kernels, const R: usize>(
    rows: &[&[T]; R],
    a: &[f64],
    b: &[f64],
) -> [[f64; 2]; R] {
    const LANES: usize = 8;
    let whole = a.len() - a.len() % LANES;
    let mut out = [[0.0; 2]; R];
    for (row, out) in rows.iter().zip(&mut out) {
        let mut lanes = [[0.0; LANES]; 2];
        let steps =
            row[..whole].chunks_exact(LANES).zip(a.chunks_exact(LANES)).zip(b.chunks_exact(LANES));
        for ((x, a), b) in steps {
            for l in 0..LANES {
                let x = x[l].widen();
                lanes[0][l] = multiply_add::<TARGET_FUSES>(x - a[l], x - a[l], lanes[0][l]);
                lanes[1][l] = multiply_add::<TARGET_FUSES>(x - b[l], x - b[l], lanes[1][l]);
            }
        }
        *out = lanes.map(|lanes| lanes.iter().sum());
    }
    distance_columns::<T, R, TARGET_FUSES>(whole, rows, a, b, &mut out);
    out
}

/// Rows on either side of the products that one call of `dots` makes.
pub(crate) const DOTS: usize = 4;

/// `out[r][c] = Σ_j a[r][j]·b[c][j]`, on `isa` where the machine has it. All rows are equally long.
#[cfg_attr(not(feature = "lapack-base"), allow(dead_code))] // products are made for factorisations
pub(crate) fn dots(isa: Isa, a: [&[f64]; DOTS], b: [&[f64]; DOTS]) -> [[f64; DOTS]; DOTS] {
    match isa.or_detected() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions.
        Isa::Avx512 => unsafe { x86::dots_512(a, b) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above. Half of the sums at a time, as there are half as many registers.
        Isa::Avx2 => unsafe {
            let halves = [x86::dots_256(a, [b[0], b[1]]), x86::dots_256(a, [b[2], b[3]])];
            std::array::from_fn(|r| std::array::from_fn(|c| halves[c / 2][r][c % 2]))
        },
        _ => {
            let mut out = [[0.0; DOTS]; DOTS];
            dot_columns::<DOTS, TARGET_FUSES>(0, a, b, &mut out);
            out
        }
    }
}

/// Columns `from..` of `dots`, added to `out`: four independent sums each, so that the compiler may use vectors.
#[inline(always)]
fn dot_columns<const C: usize, const FUSED: bool>(
    from: usize,
    a: [&[f64]; DOTS],
    b: [&[f64]; C],
    out: &mut [[f64; C]; DOTS],
) {
    for (a, out) in a.iter().zip(out) {
        for (b, out) in b.iter().zip(out) {
            let (fours_a, rest_a) = a[from..].as_chunks::<4>();
            let (fours_b, rest_b) = b[from..].as_chunks::<4>();
            let mut lanes = [0.0; 4];
            for (a, b) in fours_a.iter().zip(fours_b) {
                for l in 0..4 {
                    lanes[l] = multiply_add::<FUSED>(a[l], b[l], lanes[l]);
                }
            }
            for (&a, &b) in rest_a.iter().zip(rest_b) {
                lanes[0] = multiply_add::<FUSED>(a, b, lanes[0]);
            }
            *out += lanes.iter().sum::<f64>();
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{DOTS, accumulate_columns, distance_columns, dot_columns};
    use std::arch::x86_64::*;

    /// A cache line in bytes.
    const LINE: usize = 64;

    macro_rules! widening_load {
        ($name:ident, $features:literal, $element:ty, $vector:ty, |$at:ident| $load:expr) => {
            /// One vector of elements as `f64`.
            ///
            /// # Safety
            /// As many elements as the vector has `f64` lanes must be readable at `$at`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn $name($at: *const $element) -> $vector {
                // SAFETY: the caller vouches for the elements; the load has no alignment requirement.
                unsafe { $load }
            }
        };
    }
    widening_load!(widen_f32_512, "avx512f", f32, __m512d, |at| _mm512_cvtps_pd(_mm256_loadu_ps(
        at
    )));
    widening_load!(widen_f64_512, "avx512f", f64, __m512d, |at| _mm512_loadu_pd(at));
    widening_load!(widen_f32_256, "avx2,fma", f32, __m256d, |at| _mm256_cvtps_pd(_mm_loadu_ps(at)));
    widening_load!(widen_f64_256, "avx2,fma", f64, __m256d, |at| _mm256_loadu_pd(at));

    /// Hints that the line at an address will be read soon.
    #[inline(always)]
    #[allow(unused_unsafe)] // a safe function only in newer compilers than the oldest supported one
    fn fetch<const HINT: i32>(line: *const i8) {
        // SAFETY: a prefetch reads nothing and faults at no address.
        unsafe { _mm_prefetch::<HINT>(line) };
    }

    /// At columns `j..j + step`, fetches the same columns of the rows that come next into the second-level cache, and those
    /// two lines ahead of the present rows into the first; each line once.
    macro_rules! fetch_ahead {
        ($rows:ident, $ahead:ident, $element:ty, $j:ident, $step:ident) => {
            let bytes = $step * size_of::<$element>();
            if bytes >= LINE || ($j * size_of::<$element>()) & bytes == 0 {
                for (row, next) in $rows.iter().zip($ahead) {
                    for offset in (0..bytes).step_by(LINE) {
                        fetch::<_MM_HINT_T1>(
                            next.as_ptr().wrapping_add($j).cast::<i8>().wrapping_add(offset),
                        );
                        let near = 2 * LINE.max(bytes) + offset;
                        fetch::<_MM_HINT_T0>(
                            row.as_ptr().wrapping_add($j).cast::<i8>().wrapping_add(near),
                        );
                    }
                }
            }
        };
    }

    macro_rules! kernels {
        ($accumulate:ident, $distances:ident, $features:literal, $element:ty, $lanes:literal, $widen:ident,
         $load:ident, $store:ident, $zero:ident, $add:ident, $sub:ident, $fma:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $accumulate<const R: usize>(
                rows: &[&[$element]; R],
                ahead: &[&[$element]; R],
                pivot: &[f64],
                sum: &mut [f64],
                squares: &mut [f64],
            ) {
                const STEP: usize = 2 * $lanes;
                let width = pivot.len();
                assert!(
                    sum.len() == width
                        && squares.len() == width
                        && rows.iter().all(|row| row.len() == width)
                );
                // Rows that begin in the middle of a cache line are the usual case, and loads across lines cost a tenth.
                let mut j = rows[0].as_ptr().align_offset(LINE).min(width);
                accumulate_columns::<$element, R, true>(0..j, rows, pivot, sum, squares);
                while j + STEP <= width {
                    fetch_ahead!(rows, ahead, $element, j, STEP);
                    // SAFETY: j + STEP <= width, and every slice was just checked to hold `width` elements; loads and
                    // stores are unaligned ones, and the two written slices are exclusive borrows.
                    unsafe {
                        let p0 = $load(pivot.as_ptr().add(j));
                        let p1 = $load(pivot.as_ptr().add(j + $lanes));
                        let mut s0 = $load(sum.as_ptr().add(j));
                        let mut s1 = $load(sum.as_ptr().add(j + $lanes));
                        let mut q0 = $load(squares.as_ptr().add(j));
                        let mut q1 = $load(squares.as_ptr().add(j + $lanes));
                        for row in rows {
                            let d0 = $sub($widen(row.as_ptr().add(j)), p0);
                            let d1 = $sub($widen(row.as_ptr().add(j + $lanes)), p1);
                            s0 = $add(s0, d0);
                            s1 = $add(s1, d1);
                            q0 = $fma(d0, d0, q0);
                            q1 = $fma(d1, d1, q1);
                        }
                        $store(sum.as_mut_ptr().add(j), s0);
                        $store(sum.as_mut_ptr().add(j + $lanes), s1);
                        $store(squares.as_mut_ptr().add(j), q0);
                        $store(squares.as_mut_ptr().add(j + $lanes), q1);
                    }
                    j += STEP;
                }
                accumulate_columns::<$element, R, true>(j..width, rows, pivot, sum, squares);
            }

            #[target_feature(enable = $features)]
            pub(super) fn $distances<const R: usize>(
                rows: &[&[$element]; R],
                ahead: &[&[$element]; R],
                a: &[f64],
                b: &[f64],
            ) -> [[f64; 2]; R] {
                const STEP: usize = $lanes;
                let width = a.len();
                assert!(b.len() == width && rows.iter().all(|row| row.len() == width));
                let mut sums = [[$zero(); 2]; R];
                let mut j = 0;
                while j + STEP <= width {
                    fetch_ahead!(rows, ahead, $element, j, STEP);
                    // SAFETY: j + STEP <= width, and every slice was just checked to hold `width` elements; the loads
                    // are unaligned ones.
                    unsafe {
                        let (at_a, at_b) = ($load(a.as_ptr().add(j)), $load(b.as_ptr().add(j)));
                        for (row, sums) in rows.iter().zip(&mut sums) {
                            let value = $widen(row.as_ptr().add(j));
                            let (from_a, from_b) = ($sub(value, at_a), $sub(value, at_b));
                            sums[0] = $fma(from_a, from_a, sums[0]);
                            sums[1] = $fma(from_b, from_b, sums[1]);
                        }
                    }
                    j += STEP;
                }
                let mut out = sums.map(|pair| {
                    pair.map(|vector| {
                        let mut lanes = [0.0; $lanes];
                        // SAFETY: the array holds as many f64 as the vector.
                        unsafe { $store(lanes.as_mut_ptr(), vector) };
                        lanes.iter().sum()
                    })
                });
                distance_columns::<$element, R, true>(j, rows, a, b, &mut out);
                out
            }
        };
    }

    macro_rules! dots {
        ($name:ident, $features:literal, $columns:literal, $lanes:literal, $load:ident, $store:ident, $zero:ident, $fma:ident) => {
            #[target_feature(enable = $features)]
            #[cfg_attr(not(feature = "lapack-base"), allow(dead_code))]
            pub(super) fn $name(
                a: [&[f64]; DOTS],
                b: [&[f64]; $columns],
            ) -> [[f64; $columns]; DOTS] {
                let width = a[0].len();
                assert!(a.iter().chain(&b).all(|row| row.len() == width));
                let mut sums = [[$zero(); $columns]; DOTS];
                let mut j = 0;
                while j + $lanes <= width {
                    // SAFETY: j + lanes <= width, and every slice was just checked to hold `width` elements; the loads are
                    // unaligned ones.
                    unsafe {
                        // Loops and not `map`, whose body would be compiled without the instructions.
                        let mut at_a = [$zero(); DOTS];
                        for r in 0..DOTS {
                            at_a[r] = $load(a[r].as_ptr().add(j));
                        }
                        for c in 0..$columns {
                            let at_b = $load(b[c].as_ptr().add(j));
                            for r in 0..DOTS {
                                sums[r][c] = $fma(at_a[r], at_b, sums[r][c]);
                            }
                        }
                    }
                    j += $lanes;
                }
                let mut out = [[0.0; $columns]; DOTS];
                for (out, sums) in out.iter_mut().zip(&sums) {
                    for (out, sum) in out.iter_mut().zip(sums) {
                        let mut lanes = [0.0; $lanes];
                        // SAFETY: the array holds as many f64 as the vector.
                        unsafe { $store(lanes.as_mut_ptr(), *sum) };
                        *out = lanes.iter().sum();
                    }
                }
                dot_columns::<$columns, true>(j, a, b, &mut out);
                out
            }
        };
    }
    dots!(
        dots_512,
        "avx512f",
        4,
        8,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_setzero_pd,
        _mm512_fmadd_pd
    );
    dots!(
        dots_256,
        "avx2,fma",
        2,
        4,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_setzero_pd,
        _mm256_fmadd_pd
    );

    macro_rules! kernels_of {
        (512, $accumulate:ident, $distances:ident, $element:ty, $widen:ident) => {
            kernels!(
                $accumulate,
                $distances,
                "avx512f",
                $element,
                8,
                $widen,
                _mm512_loadu_pd,
                _mm512_storeu_pd,
                _mm512_setzero_pd,
                _mm512_add_pd,
                _mm512_sub_pd,
                _mm512_fmadd_pd
            );
        };
        (256, $accumulate:ident, $distances:ident, $element:ty, $widen:ident) => {
            kernels!(
                $accumulate,
                $distances,
                "avx2,fma",
                $element,
                4,
                $widen,
                _mm256_loadu_pd,
                _mm256_storeu_pd,
                _mm256_setzero_pd,
                _mm256_add_pd,
                _mm256_sub_pd,
                _mm256_fmadd_pd
            );
        };
    }
    kernels_of!(512, accumulate_f32_512, distances_f32_512, f32, widen_f32_512);
    kernels_of!(512, accumulate_f64_512, distances_f64_512, f64, widen_f64_512);
    kernels_of!(256, accumulate_f32_256, distances_f32_256, f32, widen_f32_256);
    kernels_of!(256, accumulate_f64_256, distances_f64_256, f64, widen_f64_256);
}

macro_rules! element {
    ($element:ty, $can_overflow:literal, $accumulate_512:ident, $accumulate_256:ident, $distances_512:ident, $distances_256:ident) => {
        impl private::Kernels for $element {
            const CAN_OVERFLOW: bool = $can_overflow;

            #[inline(always)]
            #[allow(clippy::useless_conversion)]
            fn widen(self) -> f64 {
                f64::from(self)
            }

            fn accumulate<const R: usize>(
                isa: Isa,
                rows: &[&[Self]; R],
                ahead: &[&[Self]; R],
                pivot: &[f64],
                sum: &mut [f64],
                squares: &mut [f64],
            ) {
                match isa.or_detected() {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the machine has the instructions.
                    Isa::Avx512 => unsafe {
                        x86::$accumulate_512(rows, ahead, pivot, sum, squares)
                    },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Isa::Avx2 => unsafe { x86::$accumulate_256(rows, ahead, pivot, sum, squares) },
                    _ => accumulate_columns::<Self, R, TARGET_FUSES>(
                        0..pivot.len(),
                        rows,
                        pivot,
                        sum,
                        squares,
                    ),
                }
            }

            fn distances<const R: usize>(
                isa: Isa,
                rows: &[&[Self]; R],
                ahead: &[&[Self]; R],
                a: &[f64],
                b: &[f64],
            ) -> [[f64; 2]; R] {
                match isa.or_detected() {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the machine has the instructions.
                    Isa::Avx512 => unsafe { x86::$distances_512(rows, ahead, a, b) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Isa::Avx2 => unsafe { x86::$distances_256(rows, ahead, a, b) },
                    _ => distances_portable(rows, a, b),
                }
            }
        }
    };
}
element!(f32, false, accumulate_f32_512, accumulate_f32_256, distances_f32_512, distances_f32_256);
element!(f64, true, accumulate_f64_512, accumulate_f64_256, distances_f64_512, distances_f64_256);
