//! Eight numbers at a time, on each instruction set, with the same bits on all.

use super::Isa;

/// Eight numbers side by side.
pub(crate) trait Lanes: Copy {
    fn load(values: &[f64; 8]) -> Self;
    fn store(self) -> [f64; 8];
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// The larger of two; there must be no NaN.
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// A bit for each lane that is below the other's.
    fn below(self, other: Self) -> u32;

    #[inline(always)]
    fn splat(value: f64) -> Self {
        Self::load(&[value; 8])
    }
}

/// Work on [`Lanes`], in functions that are all `#[inline(always)]`, so that it is compiled for each instruction set.
pub(crate) trait Task {
    fn run<L: Lanes>(self);
}

/// Runs a task with the widest vectors of this machine. None of the operations fuses or reorders, so the bits are those of any
/// other machine.
pub(crate) fn run(task: impl Task) {
    run_on(Isa::detect(), task);
}

/// Runs a task with the vectors of an instruction set, or the widest where the machine has not got it.
fn run_on(isa: Isa, task: impl Task) {
    match isa.or_detected() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the machine has the instructions.
        Isa::Avx512 => unsafe { x86::avx512(task) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::avx2(task) },
        _ => task.run::<[f64; 8]>(),
    }
}

impl Lanes for [f64; 8] {
    #[inline(always)]
    fn load(values: &[f64; 8]) -> Self {
        *values
    }
    #[inline(always)]
    fn store(self) -> [f64; 8] {
        self
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] - other[lane])
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        std::array::from_fn(|lane| if self[lane] > other[lane] { self[lane] } else { other[lane] })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f64::abs)
    }
    #[inline(always)]
    fn below(self, other: Self) -> u32 {
        (0..8).fold(0, |bits, lane| bits | u32::from(self[lane] < other[lane]) << lane)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, Task};
    use std::arch::x86_64::*;

    /// One vector. Private, and only [`avx512`] names it, so that no value exists on a machine without the instructions.
    #[derive(Clone, Copy)]
    struct Wide(__m512d);

    /// Two vectors; as above, with [`avx2`].
    #[derive(Clone, Copy)]
    struct Half(__m256d, __m256d);

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(task: impl Task) {
        task.run::<Wide>();
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(task: impl Task) {
        task.run::<Half>();
    }

    macro_rules! binary {
        (Wide, $($name:ident: $instruction:ident),*) => {$(
            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                // SAFETY: the instructions exist where the type is used.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        )*};
        (Half, $($name:ident: $instruction:ident),*) => {$(
            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                // SAFETY: the instructions exist where the type is used.
                unsafe { Self($instruction(self.0, other.0), $instruction(self.1, other.1)) }
            }
        )*};
    }

    impl Lanes for Wide {
        #[inline(always)]
        fn load(values: &[f64; 8]) -> Self {
            // SAFETY: eight numbers are readable, at any alignment; the instructions exist where the type is used.
            Self(unsafe { _mm512_loadu_pd(values.as_ptr()) })
        }
        #[inline(always)]
        fn store(self) -> [f64; 8] {
            let mut out = [0.0; 8];
            // SAFETY: eight numbers are writable, at any alignment; the instructions exist where the type is used.
            unsafe { _mm512_storeu_pd(out.as_mut_ptr(), self.0) };
            out
        }
        binary!(Wide, add: _mm512_add_pd, sub: _mm512_sub_pd, mul: _mm512_mul_pd, max: _mm512_max_pd);
        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: the instructions exist where the type is used.
            Self(unsafe { _mm512_abs_pd(self.0) })
        }
        #[inline(always)]
        fn below(self, other: Self) -> u32 {
            // SAFETY: as above.
            u32::from(unsafe { _mm512_cmp_pd_mask::<_CMP_LT_OQ>(self.0, other.0) })
        }
    }

    impl Lanes for Half {
        #[inline(always)]
        fn load(values: &[f64; 8]) -> Self {
            let at = values.as_ptr();
            // SAFETY: eight numbers are readable, at any alignment; the instructions exist where the type is used.
            unsafe { Self(_mm256_loadu_pd(at), _mm256_loadu_pd(at.add(4))) }
        }
        #[inline(always)]
        fn store(self) -> [f64; 8] {
            let mut out = [0.0; 8];
            let at = out.as_mut_ptr();
            // SAFETY: eight numbers are writable, at any alignment; the instructions exist where the type is used.
            unsafe {
                _mm256_storeu_pd(at, self.0);
                _mm256_storeu_pd(at.add(4), self.1);
            }
            out
        }
        binary!(Half, add: _mm256_add_pd, sub: _mm256_sub_pd, mul: _mm256_mul_pd, max: _mm256_max_pd);
        #[inline(always)]
        fn abs(self) -> Self {
            // SAFETY: the instructions exist where the type is used.
            unsafe {
                let sign = _mm256_set1_pd(-0.0);
                Self(_mm256_andnot_pd(sign, self.0), _mm256_andnot_pd(sign, self.1))
            }
        }
        #[inline(always)]
        fn below(self, other: Self) -> u32 {
            // SAFETY: as above.
            let bits = unsafe {
                let low = _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_LT_OQ>(self.0, other.0));
                let high = _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_LT_OQ>(self.1, other.1));
                low | high << 4
            };
            bits as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on two vectors.
    struct Every<'a>([f64; 8], [f64; 8], &'a mut Vec<[f64; 8]>);

    impl Task for Every<'_> {
        #[inline(always)]
        fn run<L: Lanes>(self) {
            let (a, b) = (L::load(&self.0), L::load(&self.1));
            let bits = f64::from(a.below(b));
            let vectors = [a.add(b), a.sub(b), a.mul(b), a.max(b), a.abs(), L::splat(bits)];
            self.2.extend(vectors.map(L::store));
        }
    }

    #[test]
    fn vectors_of_any_width_give_the_same_bits() {
        let a = [0.1, -2.0, 3.5, f64::INFINITY, 0.0, -7.25, 1e300, 1e-300];
        let b = [0.3, -2.0, 1.5, 4.0, -1.0, 7.25, 1e300, f64::INFINITY];
        let on = |isa| {
            let mut out = Vec::new();
            run_on(isa, Every(a, b, &mut out));
            out
        };
        let portable = on(Isa::Portable);
        assert_eq!(portable[5], [161.0; 8]);
        assert_eq!(on(Isa::Avx512), portable);
        assert_eq!(on(Isa::Avx2), portable);
    }
}
