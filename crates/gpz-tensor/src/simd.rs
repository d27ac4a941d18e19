//! Vector instructions, chosen at run time: AVX-512, AVX2 with FMA, or what every machine has.
//!
//! Each instruction set has a token that only its detection hands out, so that whoever holds one may use the instructions: the
//! methods of [`Lanes`] are safe. [`Token::vectorised`] runs a closure compiled for the set; what is called in it must be
//! `#[inline(always)]` to be compiled for the set as well. This file holds all `unsafe` code of the crate.

use std::cell::Cell;

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as arch;

/// An instruction set loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// What the target always has; no fused multiply-add on x86-64.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// All, best first.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// Whether this machine has it.
    pub fn is_supported(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::detect().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The one loops started on this thread run on: the best there is, unless [`with_isa`] says otherwise.
    pub(crate) fn current() -> Isa {
        let best = || Isa::ALL.into_iter().find(|isa| isa.is_supported());
        FORCED.get().or_else(best).unwrap_or(Isa::Portable)
    }

    /// Runs `f` compiled for this set, or for [`Isa::Portable`] where the machine lacks it.
    ///
    /// `f` has to be `#[inline(always)]` and so has all it calls, or they stay compiled for the baseline.
    #[inline(always)]
    pub(crate) fn vectorised<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        match self {
            Isa::Avx512 => {
                if let Some(token) = Avx512::detect() {
                    return token.vectorised(f);
                }
            }
            Isa::Avx2 => {
                if let Some(token) = Avx2::detect() {
                    return token.vectorised(f);
                }
            }
            Isa::Portable => {}
        }
        f()
    }

    /// Name as `gpz devices` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
}

/// Runs `f` with every convolution and product that this thread starts on `isa`: for tests and benchmarks of a path that is not the best.
///
/// `None` if the machine lacks it.
pub fn with_isa<R>(isa: Isa, f: impl FnOnce() -> R) -> Option<R> {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    if !isa.is_supported() {
        return None;
    }
    let _restore = Restore(FORCED.replace(Some(isa)));
    Some(f())
}

/// Name of the instruction set in use: `avx512`, `avx2` or `portable`.
pub fn isa_name() -> &'static str {
    Isa::current().name()
}

/// Runs `f` compiled for the best instruction set, so that plain loops in it become its vector instructions.
///
/// `f` has to be `#[inline(always)]` and so has all it calls. Nothing is reassociated or fused: results are the same bits on every set.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    Isa::current().vectorised(f)
}

/// Leave to use an instruction set.
pub trait Token: Copy + Send + Sync + 'static {
    /// Vector registers.
    const REGISTERS: usize;

    /// Runs `f` compiled for the set; `f` has to be `#[inline(always)]` and so has all it calls.
    fn vectorised<R>(self, f: impl FnOnce() -> R) -> R;

    /// Asks for the memory of a slice that will be written soon, where the set can; changes nothing but the time it takes.
    fn expect_write<T>(self, to: &mut [T]);
}

/// Vectors of `T` under an instruction set.
pub trait Lanes<T>: Token {
    /// A vector register's contents.
    type Vector: Copy;
    /// Elements in a vector.
    const LANES: usize;

    /// All lanes `value`.
    fn splat(self, value: T) -> Self::Vector;
    /// The first [`Lanes::LANES`] elements.
    fn load(self, from: &[T]) -> Self::Vector;
    /// Writes the first [`Lanes::LANES`] elements.
    fn store(self, value: Self::Vector, to: &mut [T]);
    /// `a · b + c`, rounded once where the set can, else twice.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b`.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `if a < 0 { 0 } else { a }`: NaN stays NaN, -0 stays -0.
    fn relu(self, a: Self::Vector) -> Self::Vector;
}

/// A computation written once for all instruction sets.
pub trait Kernel<T> {
    /// What it returns.
    type Output;
    /// The computation; it enters [`Token::vectorised`] around its loops.
    fn run<I: Lanes<T>>(self, isa: I) -> Self::Output;
}

/// An element type there are vectors of.
pub trait SimdElement: Sized {
    /// Runs `kernel` with the token of `isa`, or of [`Isa::Portable`] where the machine lacks it.
    fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output;
    /// Elements in a vector of `isa`.
    fn lanes(isa: Isa) -> usize;
}

macro_rules! simd_element {
    ($t:ty) => {
        impl SimdElement for $t {
            fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output {
                #[cfg(target_arch = "x86_64")]
                match isa {
                    Isa::Avx512 => {
                        if let Some(token) = Avx512::detect() {
                            return kernel.run(token);
                        }
                    }
                    Isa::Avx2 => {
                        if let Some(token) = Avx2::detect() {
                            return kernel.run(token);
                        }
                    }
                    Isa::Portable => {}
                }
                kernel.run(Portable)
            }

            fn lanes(isa: Isa) -> usize {
                struct Count;
                impl Kernel<$t> for Count {
                    type Output = usize;
                    fn run<I: Lanes<$t>>(self, _: I) -> usize {
                        I::LANES
                    }
                }
                Self::dispatch(isa, Count)
            }
        }
    };
}

simd_element!(f32);
simd_element!(f64);

/// Token of [`Isa::Portable`].
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Token for Portable {
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn vectorised<R>(self, f: impl FnOnce() -> R) -> R {
        f()
    }

    #[inline(always)]
    fn expect_write<T>(self, _: &mut [T]) {}
}

macro_rules! portable {
    ($t:ty, $lanes:literal) => {
        impl Lanes<$t> for Portable {
            type Vector = [$t; $lanes];
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(self, value: $t) -> Self::Vector {
                [value; $lanes]
            }
            #[inline(always)]
            fn load(self, from: &[$t]) -> Self::Vector {
                let mut to = [0.0; $lanes];
                to.copy_from_slice(&from[..$lanes]);
                to
            }
            #[inline(always)]
            fn store(self, value: Self::Vector, to: &mut [$t]) {
                to[..$lanes].copy_from_slice(&value);
            }
            #[inline(always)]
            fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // Without the instruction `f32::mul_add` is a library call of a hundred cycles.
                if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                    std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
                } else {
                    std::array::from_fn(|i| a[i] * b[i] + c[i])
                }
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                std::array::from_fn(|i| a[i] + b[i])
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                std::array::from_fn(|i| a[i] * b[i])
            }
            #[inline(always)]
            fn relu(self, a: Self::Vector) -> Self::Vector {
                a.map(|v| if v < 0.0 { 0.0 } else { v })
            }
        }
    };
}

portable!(f32, 4);
portable!(f64, 2);

/// Defines the token of an x86-64 instruction set, its detection and the function that is compiled for it.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_token {
    ($token:ident, $isa:literal, $registers:literal, [$first:tt $(, $feature:tt)*], $enable:literal) => {
        #[doc = concat!("Token of ", $isa, ": exists only where the instructions were detected.")]
        #[derive(Clone, Copy)]
        pub(crate) struct $token(());

        impl $token {
            #[inline(always)]
            fn detect() -> Option<Self> {
                (std::is_x86_feature_detected!($first) $(&& std::is_x86_feature_detected!($feature))*)
                    .then_some($token(()))
            }
        }

        impl Token for $token {
            const REGISTERS: usize = $registers;

            #[inline(always)]
            fn vectorised<R>(self, f: impl FnOnce() -> R) -> R {
                #[target_feature(enable = $enable)]
                fn inner<R>(f: impl FnOnce() -> R) -> R {
                    f()
                }
                // SAFETY: only `detect` makes a token, and only where the processor has every feature `inner` enables.
                unsafe { inner(f) }
            }

            #[inline(always)]
            fn expect_write<T>(self, to: &mut [T]) {
                let line = (64 / size_of::<T>().max(1)).max(1);
                for to in to.chunks_mut(line) {
                    // SAFETY: a prefetch reads and writes nothing, whatever the address; every x86-64 processor takes the instruction.
                    unsafe { arch::_mm_prefetch::<{ arch::_MM_HINT_ET0 }>(to.as_ptr().cast()) };
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
x86_token!(Avx2, "AVX2 and FMA", 16, ["avx2", "fma"], "avx2,fma");
#[cfg(target_arch = "x86_64")]
x86_token!(
    Avx512,
    "AVX-512",
    32,
    ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"],
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
);

/// Implements [`Lanes`] by intrinsics.
#[cfg(target_arch = "x86_64")]
macro_rules! x86_lanes {
    ($token:ident, $t:ty, $vector:ident, $lanes:literal, $splat:ident, $load:ident, $store:ident, $mul_add:ident, $add:ident, $mul:ident, $max:ident) => {
        impl Lanes<$t> for $token {
            type Vector = arch::$vector;
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(self, value: $t) -> Self::Vector {
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { arch::$splat(value) }
            }
            #[inline(always)]
            fn load(self, from: &[$t]) -> Self::Vector {
                assert!(from.len() >= $lanes);
                // SAFETY: the token proves that the processor has the instruction; it reads `$lanes` elements, which the slice
                // holds, and asks for no alignment.
                unsafe { arch::$load(from.as_ptr()) }
            }
            #[inline(always)]
            fn store(self, value: Self::Vector, to: &mut [$t]) {
                assert!(to.len() >= $lanes);
                // SAFETY: the token proves that the processor has the instruction; it writes `$lanes` elements, which the slice
                // holds, and asks for no alignment.
                unsafe { arch::$store(to.as_mut_ptr(), value) }
            }
            #[inline(always)]
            fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { arch::$mul_add(a, b, c) }
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { arch::$add(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { arch::$mul(a, b) }
            }
            #[inline(always)]
            fn relu(self, a: Self::Vector) -> Self::Vector {
                // The instruction returns its second operand when one is NaN or both are zero.
                // SAFETY: the token proves that the processor has the instruction.
                unsafe { arch::$max(arch::$splat(0.0), a) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
mod x86 {
    use super::*;
    x86_lanes!(Avx2, f32, __m256, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_add_ps, _mm256_mul_ps, _mm256_max_ps);
    x86_lanes!(Avx2, f64, __m256d, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd, _mm256_add_pd, _mm256_mul_pd, _mm256_max_pd);
    x86_lanes!(Avx512, f32, __m512, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_add_ps, _mm512_mul_ps, _mm512_max_ps);
    x86_lanes!(Avx512, f64, __m512d, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd, _mm512_add_pd, _mm512_mul_pd, _mm512_max_pd);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Element;

    /// Each operation against the scalar one, special values included.
    struct Laws<T>(std::marker::PhantomData<T>);

    impl<T: Element> Kernel<T> for Laws<T> {
        type Output = ();
        fn run<I: Lanes<T>>(self, isa: I) {
            let of = |i: usize, salt: f64| match i % 7 {
                5 => T::from_f64(f64::NAN),
                6 => -T::ZERO,
                _ => T::from_f64((i as f64 * 1.37 + salt).sin() * 3.0),
            };
            let make = |salt| (0..I::LANES).map(|i| of(i, salt)).collect::<Vec<T>>();
            let (a, b, c) = (make(0.1), make(0.7), make(1.9));
            let get = |v: I::Vector| {
                let mut out = vec![T::ZERO; I::LANES];
                isa.store(v, &mut out);
                out
            };
            let same = |got: Vec<T>, want: &dyn Fn(usize) -> T, exact: bool| {
                for (i, &got) in got.iter().enumerate() {
                    let (g, w) = (got.to_f64(), want(i).to_f64());
                    let close =
                        if exact { g.to_bits() == w.to_bits() } else { (g - w).abs() <= 1e-6 };
                    assert!(close || (g.is_nan() && w.is_nan()), "lane {i}: {g} instead of {w}");
                }
            };
            let (va, vb, vc) = (isa.load(&a), isa.load(&b), isa.load(&c));
            same(get(va), &|i| a[i], true);
            same(get(isa.splat(a[1])), &|_| a[1], true);
            same(get(isa.add(va, vb)), &|i| a[i] + b[i], true);
            same(get(isa.mul(va, vb)), &|i| a[i] * b[i], true);
            same(get(isa.mul_add(va, vb, vc)), &|i| a[i] * b[i] + c[i], false);
            same(get(isa.relu(va)), &|i| if a[i] < T::ZERO { T::ZERO } else { a[i] }, true);
        }
    }

    #[test]
    fn lanes_agree_with_scalars_on_every_set() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
            f32::dispatch(isa, Laws(std::marker::PhantomData));
            f64::dispatch(isa, Laws(std::marker::PhantomData));
        }
    }

    /// Loads or stores with one element too few.
    struct TooShort {
        load: bool,
    }

    impl Kernel<f32> for TooShort {
        type Output = ();
        fn run<I: Lanes<f32>>(self, isa: I) {
            let mut short = vec![1.0; I::LANES - 1];
            if self.load {
                isa.load(&short);
            } else {
                isa.store(isa.splat(1.0), &mut short);
            }
        }
    }

    #[test]
    fn a_slice_shorter_than_a_vector_is_refused() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_supported()) {
            for load in [true, false] {
                let run = std::panic::catch_unwind(|| f32::dispatch(isa, TooShort { load }));
                assert!(run.is_err(), "{} reads or writes out of bounds", isa.name());
            }
        }
    }

    #[test]
    fn a_forced_set_ends_with_its_scope() {
        let before = isa_name();
        assert_eq!(with_isa(Isa::Portable, isa_name), Some("portable"));
        assert_eq!(isa_name(), before);
        assert_eq!(
            vectorised(
                #[inline(always)]
                || 3
            ),
            3
        );
    }
}
