//! Floating-point numbers of all widths as bits, their rounding, and the errors that approximations may have.

use half::{bf16, f16};

use crate::instruction::{Rounding, Type, Unary};

/// The value of the bits; exact, whatever the type.
pub(crate) fn value(ty: Type, bits: u64) -> f64 {
    match ty {
        Type::F16 => f16::from_bits(bits as u16).to_f64(),
        Type::Bf16 => bf16::from_bits(bits as u16).to_f64(),
        Type::F32 => f64::from(f32::from_bits(bits as u32)),
        _ => f64::from_bits(bits),
    }
}

/// The bits of the nearest number of the type, ties to even. Every NaN becomes the one that the hardware makes.
pub(crate) fn nearest(ty: Type, value: f64) -> u64 {
    if value.is_nan() {
        return match ty {
            Type::F16 | Type::Bf16 => 0x7FFF,
            Type::F32 => 0x7FFF_FFFF,
            _ => 0x7FF8_0000_0000_0000,
        };
    }
    match ty {
        Type::F16 => u64::from(f16::from_f64(value).to_bits()),
        Type::Bf16 => u64::from(bf16::from_f64(value).to_bits()),
        Type::F32 => u64::from((value as f32).to_bits()),
        _ => value.to_bits(),
    }
}

/// The bits of a neighbour of the type in the rounding's direction.
pub(crate) fn rounded(ty: Type, exact: f64, rounding: Rounding) -> u64 {
    let bits = nearest(ty, exact);
    let found = value(ty, bits);
    let wrong = match rounding {
        Rounding::Nearest => false,
        Rounding::Zero => found.abs() > exact.abs(),
        Rounding::Down => found > exact,
        Rounding::Up => found < exact,
    };
    if !wrong || exact.is_nan() {
        return bits;
    }
    let towards_zero = match rounding {
        Rounding::Down => found > 0.0,
        Rounding::Up => found < 0.0,
        _ => true,
    };
    let sign = 1 << (ty.bits() - 1);
    match (towards_zero, bits & !sign) {
        // From zero to the smallest number on the rounding's side.
        (false, 0) if rounding == Rounding::Up => 1,
        (false, 0) => sign | 1,
        (false, _) => bits + 1,
        (true, _) => bits - 1,
    }
}

/// Subnormal numbers of `f32` as zeros of their sign.
pub(crate) fn flushed(ty: Type, bits: u64) -> u64 {
    let subnormal = ty == Type::F32 && bits & 0x7F80_0000 == 0;
    if subnormal { bits & 0x8000_0000 } else { bits }
}

/// What an approximation may be off by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Allowed {
    Relative(f64),
    Absolute(f64),
}

/// The documented error of `.approx.f32`: PTX ISA, chapter on floating-point instructions.
fn allowed(of: Unary, from: f64) -> Allowed {
    match of {
        Unary::Rcp | Unary::Sqrt => Allowed::Relative(2_f64.powi(-23)),
        Unary::Rsqrt => Allowed::Relative(2_f64.powf(-22.9)),
        Unary::Ex2 => Allowed::Relative(2_f64.powi(-22)),
        Unary::Lg2 if (0.5..2.0).contains(&from) => Allowed::Absolute(2_f64.powi(-22)),
        Unary::Lg2 => Allowed::Relative(2_f64.powi(-22)),
        Unary::Tanh => Allowed::Relative(2_f64.powi(-11)),
        Unary::Sin | Unary::Cos => Allowed::Absolute(2_f64.powf(-20.5)),
        _ => Allowed::Relative(0.0),
    }
}

/// The exact result of a function.
pub(crate) fn function(of: Unary, x: f64) -> f64 {
    match of {
        Unary::Sqrt => x.sqrt(),
        Unary::Rcp => 1.0 / x,
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Ex2 => x.exp2(),
        Unary::Lg2 => x.log2(),
        Unary::Tanh => x.tanh(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        _ => f64::NAN,
    }
}

/// The result of `.approx.f32`, moved within what is allowed by a draw from seed and operand.
pub(crate) fn approximated(of: Unary, x: f64, seed: u64) -> f64 {
    moved(function(of, x), allowed(of, x), draw(seed, x.to_bits(), of as u64))
}

/// `div.approx.f32` and `div.full.f32`: two units in the last place.
pub(crate) fn approximate_quotient(a: f64, b: f64, seed: u64) -> f64 {
    moved(a / b, Allowed::Relative(2_f64.powi(-22)), draw(seed, a.to_bits(), b.to_bits()))
}

fn moved(exact: f64, allowed: Allowed, share: f64) -> f64 {
    match allowed {
        // What is exact in every documented case stays so.
        _ if !exact.is_finite() || exact == 0.0 => exact,
        Allowed::Relative(bound) => exact * (1.0 + bound * share),
        Allowed::Absolute(bound) => exact + bound * share,
    }
}

/// A number from −1 to 1, the ends more often than what lies between.
fn draw(seed: u64, a: u64, b: u64) -> f64 {
    let bits = mix(seed ^ mix(a ^ mix(b)));
    match bits % 4 {
        0 => -1.0,
        1 => 1.0,
        _ => (bits >> 11) as f64 * 2_f64.powi(-52) - 1.0,
    }
}

/// A permutation of 64 bits that looks random (SplitMix64).
pub(crate) fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directed_rounding_brackets_the_value() {
        for exact in [0.1, -0.1, 1e-9, -1e-9, 70_000.0, -3.3e38, 1.0, 0.0] {
            for ty in [Type::F16, Type::Bf16, Type::F32] {
                let at = |rounding| value(ty, rounded(ty, exact, rounding));
                let (down, up) = (at(Rounding::Down), at(Rounding::Up));
                assert!(down <= exact && exact <= up, "{exact} {ty:?}: {down} {up}");
                assert!(at(Rounding::Zero).abs() <= exact.abs());
                let near = at(Rounding::Nearest);
                assert!(near == down || near == up, "{exact} {ty:?}");
            }
        }
    }

    #[test]
    fn approximations_stay_within_their_error_and_differ_by_seed() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let found = approximated(Unary::Ex2, 0.3, seed);
            let exact = 0.3_f64.exp2();
            assert!((found / exact - 1.0).abs() <= 2_f64.powi(-22) * (1.0 + 1e-9));
            seen.insert(found.to_bits());
        }
        assert!(seen.len() > 20);
        assert_eq!(approximated(Unary::Rcp, 0.0, 7), f64::INFINITY);
    }
}
