//! Arithmetic on bits.

use std::cmp::Ordering;

use crate::error::FaultKind;
use crate::float;
use crate::instruction::{Binary, Comparison, Half, Precision, Rounding, Type, Unary};

type Computed = Result<u64, FaultKind>;

fn other<T>(what: String) -> Result<T, FaultKind> {
    Err(FaultKind::Other { what })
}

/// A float's bits after the clamping and flushing that were asked for.
fn finished(ty: Type, precision: Precision, bits: u64) -> u64 {
    let bits = if precision.flush { float::flushed(ty, bits) } else { bits };
    if !precision.saturate {
        return bits;
    }
    let value = float::value(ty, bits);
    // NaN becomes zero.
    float::nearest(ty, if value > 0.0 { value.min(1.0) } else { 0.0 })
}

fn operand(ty: Type, precision: Precision, bits: u64) -> f64 {
    float::value(ty, if precision.flush { float::flushed(ty, bits) } else { bits })
}

fn arithmetic(ty: Type) -> Result<(), FaultKind> {
    match ty {
        Type::F32 | Type::F64 => Ok(()),
        _ => other(format!("arithmetic of {ty:?} is not known: convert to f32")),
    }
}

pub(crate) fn unary(of: Unary, ty: Type, precision: Precision, bits: u64, seed: u64) -> Computed {
    if ty.is_float() {
        let sign = 1 << (ty.bits() - 1);
        let from = if precision.flush { float::flushed(ty, bits) } else { bits };
        return match of {
            Unary::Neg => Ok(finished(ty, precision, from ^ sign)),
            Unary::Abs => Ok(finished(ty, precision, from & !sign)),
            Unary::Not | Unary::Popc | Unary::Clz | Unary::Brev => {
                other(format!("{of:?} is of integers"))
            }
            _ => {
                arithmetic(ty)?;
                let x = float::value(ty, from);
                // Only square root and reciprocal are rounded correctly by the hardware.
                let exact = matches!(of, Unary::Sqrt | Unary::Rcp) && !precision.approximate;
                if exact && ty == Type::F32 {
                    let x = f32::from_bits(from as u32);
                    let found = if of == Unary::Sqrt { x.sqrt() } else { 1.0 / x };
                    return Ok(finished(ty, precision, float::nearest(ty, f64::from(found))));
                }
                if exact {
                    return Ok(float::nearest(ty, float::function(of, x)));
                }
                if ty != Type::F32 {
                    return other(format!("{of:?} of f64 is not known"));
                }
                let found = float::approximated(of, x, seed);
                Ok(finished(ty, precision, float::nearest(ty, found)))
            }
        };
    }
    let bits = bits & ty.mask();
    Ok(ty.mask()
        & match of {
            Unary::Neg => bits.wrapping_neg(),
            Unary::Abs => ty.integer(bits).unsigned_abs() as u64,
            Unary::Not => !bits,
            Unary::Popc => u64::from(bits.count_ones()),
            Unary::Clz => u64::from(bits.leading_zeros() - (64 - ty.bits())),
            Unary::Brev => bits.reverse_bits() >> (64 - ty.bits()),
            _ => return other(format!("{of:?} is of floating-point numbers")),
        })
}

pub(crate) fn binary(
    of: Binary,
    ty: Type,
    precision: Precision,
    [a, b]: [u64; 2],
    seed: u64,
) -> Computed {
    if ty.is_float() {
        float_binary(of, ty, precision, a, b, seed)
    } else {
        integer_binary(of, ty, precision, a, b)
    }
}

fn float_binary(of: Binary, ty: Type, precision: Precision, a: u64, b: u64, seed: u64) -> Computed {
    let (x, y) = (operand(ty, precision, a), operand(ty, precision, b));
    let bits = match of {
        Binary::Min => extreme(ty, precision, x, y, Ordering::Less),
        Binary::Max => extreme(ty, precision, x, y, Ordering::Greater),
        Binary::CopySign => {
            let sign = 1 << (ty.bits() - 1);
            b & !sign | a & sign
        }
        Binary::Div if precision.approximate => {
            arithmetic(ty)?;
            float::nearest(ty, float::approximate_quotient(x, y, seed))
        }
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => {
            arithmetic(ty)?;
            if ty == Type::F32 {
                let (x, y) = (x as f32, y as f32);
                float::nearest(
                    ty,
                    f64::from(match of {
                        Binary::Add => x + y,
                        Binary::Sub => x - y,
                        Binary::Mul => x * y,
                        _ => x / y,
                    }),
                )
            } else {
                float::nearest(
                    ty,
                    match of {
                        Binary::Add => x + y,
                        Binary::Sub => x - y,
                        Binary::Mul => x * y,
                        _ => x / y,
                    },
                )
            }
        }
        _ => return other(format!("{of:?} is of integers")),
    };
    Ok(finished(ty, precision, bits))
}

/// Minimum or maximum: of a number and NaN the number, unless asked otherwise; −0 lies below +0.
fn extreme(ty: Type, precision: Precision, x: f64, y: f64, wanted: Ordering) -> u64 {
    let found = match (x.is_nan(), y.is_nan()) {
        (true, true) => f64::NAN,
        (true, false) | (false, true) if precision.nan => f64::NAN,
        (true, false) => y,
        (false, true) => x,
        (false, false) => {
            if x.total_cmp(&y) == wanted {
                x
            } else {
                y
            }
        }
    };
    float::nearest(ty, found)
}

fn integer_binary(of: Binary, ty: Type, precision: Precision, a: u64, b: u64) -> Computed {
    let (x, y) = (ty.integer(a), ty.integer(b));
    // A distance is always a 32-bit number without a sign.
    let distance = (b & 0xFFFF_FFFF) as u32;
    let found = match of {
        Binary::Add | Binary::Sub if precision.saturate => {
            let exact = if of == Binary::Add { x + y } else { x - y };
            let most = i128::from(ty.mask() >> 1);
            return Ok(exact.clamp(-most - 1, most) as u64 & ty.mask());
        }
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::MulHigh => high(ty, x, y),
        Binary::Div | Binary::Rem if y == 0 => return Err(FaultKind::DivisionByZero),
        Binary::Div => (x / y) as u64,
        Binary::Rem => (x % y) as u64,
        Binary::Min => x.min(y) as u64,
        Binary::Max => x.max(y) as u64,
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
        Binary::Shl if distance >= ty.bits() => 0,
        Binary::Shl => a << distance,
        Binary::Shr => (x >> distance.min(127)) as u64,
        Binary::CopySign => return other("copysign is of floating-point numbers".into()),
    };
    Ok(found & ty.mask())
}

/// A product: its upper half for 64-bit factors, all of it for narrower ones.
fn product(ty: Type, x: i128, y: i128) -> u64 {
    let whole = if ty.is_signed() { (x * y) as u128 } else { (x as u128) * (y as u128) };
    if ty.bits() == 64 { (whole >> 64) as u64 } else { whole as u64 }
}

pub(crate) fn multiply_wide(ty: Type, [a, b]: [u64; 2]) -> u64 {
    (ty.integer(a) * ty.integer(b)) as u64
}

pub(crate) fn multiply_add(half: Half, ty: Type, [a, b, c]: [u64; 3]) -> u64 {
    let (x, y) = (ty.integer(a), ty.integer(b));
    match half {
        Half::Low => a.wrapping_mul(b).wrapping_add(c) & ty.mask(),
        Half::High => high(ty, x, y).wrapping_add(c) & ty.mask(),
        Half::Wide => ((x * y) as u64).wrapping_add(c),
    }
}

fn high(ty: Type, x: i128, y: i128) -> u64 {
    let product = product(ty, x, y);
    if ty.bits() == 64 { product } else { product >> ty.bits() }
}

pub(crate) fn fma(ty: Type, precision: Precision, [a, b, c]: [u64; 3]) -> Computed {
    arithmetic(ty)?;
    let [x, y, z] = [a, b, c].map(|bits| operand(ty, precision, bits));
    let found = if ty == Type::F32 {
        f64::from((x as f32).mul_add(y as f32, z as f32))
    } else {
        x.mul_add(y, z)
    };
    Ok(finished(ty, precision, float::nearest(ty, found)))
}

/// `bfe`: `length` bits from `position` on, their sign extended for signed types.
pub(crate) fn extract(ty: Type, [from, position, length]: [u64; 3]) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    let bits = from & ty.mask();
    if length == 0 {
        return 0;
    }
    let last = (position + length - 1).min(u64::from(ty.bits()) - 1);
    let sign = if ty.is_signed() && (bits >> last) & 1 == 1 { u64::MAX } else { 0 };
    let bit = |at: u64| {
        if position + at < u64::from(ty.bits()) && at < length {
            (bits >> (position + at)) & 1
        } else {
            sign & 1
        }
    };
    (0..u64::from(ty.bits())).fold(0, |out, at| out | bit(at) << at)
}

/// `bfi`: the low `length` bits of the first put at `position` of the second.
pub(crate) fn insert(ty: Type, [field, into, position, length]: [u64; 4]) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    (0..length).take_while(|at| position + at < u64::from(ty.bits())).fold(
        into & ty.mask(),
        |out, at| {
            let place = position + at;
            out & !(1 << place) | ((field >> at) & 1) << place
        },
    )
}

/// `lop3.b32`: bit by bit by a table over the three operands.
pub(crate) fn lookup([a, b, c]: [u64; 3], table: u8) -> u64 {
    (0..32).fold(0, |out, at| {
        let index = ((a >> at) & 1) << 2 | ((b >> at) & 1) << 1 | (c >> at) & 1;
        out | u64::from((table >> index) & 1) << at
    })
}

/// `prmt.b32`: four bytes out of eight, with the sign of a byte where bit 3 of its selector is set.
pub(crate) fn permute([a, b, selector]: [u64; 3]) -> u64 {
    let bytes = a & 0xFFFF_FFFF | b << 32;
    (0..4).fold(0, |out, at| {
        let select = (selector >> (4 * at)) & 0xF;
        let byte = (bytes >> (8 * (select & 7))) & 0xFF;
        let byte = if select & 8 == 0 { byte } else { (byte >> 7) * 0xFF };
        out | byte << (8 * at)
    })
}

pub(crate) fn convert(
    [to, from]: [Type; 2],
    rounding: Rounding,
    whole: bool,
    precision: Precision,
    bits: u64,
) -> Computed {
    let to_whole = |value: f64| match rounding {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    };
    Ok(match (to.is_float(), from.is_float()) {
        (true, true) => {
            let value = operand(from, precision, bits);
            let found = if whole {
                float::nearest(to, to_whole(value))
            } else {
                float::rounded(to, value, rounding)
            };
            finished(to, precision, found)
        }
        (true, false) => {
            let value = from.integer(bits);
            if rounding != Rounding::Nearest {
                return other("integers are converted by .rn only".into());
            }
            match to {
                Type::F32 => u64::from((value as f32).to_bits()),
                Type::F64 => (value as f64).to_bits(),
                // Whole numbers of 53 bits are exact on the way; larger ones are infinite in the end, or far from a tie.
                _ => float::nearest(to, value as f64),
            }
        }
        (false, true) => {
            let value = to_whole(operand(from, precision, bits));
            if value.is_nan() {
                // Zero between numbers of 32 bits and less, else the highest bit alone.
                let wide = from.bits() == 64 || to.bits() == 64;
                return Ok(if wide { 1 << (to.bits() - 1) } else { 0 });
            }
            let most = if to.is_signed() { to.mask() >> 1 } else { to.mask() };
            let least = if to.is_signed() { -i128::from(most) - 1 } else { 0 };
            // Beyond the range the nearest end.
            (value as i128).clamp(least, i128::from(most)) as u64 & to.mask()
        }
        (false, false) => {
            let value = from.integer(bits);
            if precision.saturate {
                let most = i128::from(if to.is_signed() { to.mask() >> 1 } else { to.mask() });
                let least = if to.is_signed() { -most - 1 } else { 0 };
                value.clamp(least, most) as u64 & to.mask()
            } else {
                value as u64 & to.mask()
            }
        }
    })
}

pub(crate) fn compare(of: Comparison, ty: Type, flush: bool, [a, b]: [u64; 2]) -> bool {
    let order = if ty.is_float() {
        let precision = Precision { flush, ..Precision::default() };
        operand(ty, precision, a).partial_cmp(&operand(ty, precision, b))
    } else {
        Some(ty.integer(a).cmp(&ty.integer(b)))
    };
    use Ordering::{Equal, Greater, Less};
    match of {
        Comparison::Eq => order == Some(Equal),
        Comparison::Ne => matches!(order, Some(Less | Greater)),
        Comparison::Lt => order == Some(Less),
        Comparison::Le => matches!(order, Some(Less | Equal)),
        Comparison::Gt => order == Some(Greater),
        Comparison::Ge => matches!(order, Some(Greater | Equal)),
        Comparison::Equ => matches!(order, None | Some(Equal)),
        Comparison::Neu => order != Some(Equal),
        Comparison::Ltu => matches!(order, None | Some(Less)),
        Comparison::Leu => order != Some(Greater),
        Comparison::Gtu => matches!(order, None | Some(Greater)),
        Comparison::Geu => order != Some(Less),
        Comparison::Num => order.is_some(),
        Comparison::Nan => order.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Precision =
        Precision { approximate: false, flush: false, saturate: false, nan: false };

    fn f(value: f32) -> u64 {
        u64::from(value.to_bits())
    }

    #[test]
    fn integers() {
        let of = |of, ty, a: i64, b: i64| {
            binary(of, ty, PLAIN, [a as u64, b as u64], 0).map(|bits| ty.integer(bits))
        };
        assert_eq!(of(Binary::Sub, Type::U(32), 3, 5), Ok(i128::from(u32::MAX) - 1));
        assert_eq!(of(Binary::Div, Type::S(32), -7, 2), Ok(-3));
        assert_eq!(of(Binary::Shr, Type::S(32), -8, 40), Ok(-1));
        assert_eq!(of(Binary::Shr, Type::U(32), -8, 32), Ok(0));
        assert_eq!(of(Binary::Shl, Type::B(32), 1, 33), Ok(0));
        assert_eq!(of(Binary::MulHigh, Type::U(32), -1, -1), Ok(i128::from(u32::MAX) - 1));
        assert_eq!(of(Binary::MulHigh, Type::S(64), -1, 1), Ok(-1));
        assert_eq!(of(Binary::Rem, Type::U(32), 1, 0), Err(FaultKind::DivisionByZero));
        assert_eq!(multiply_wide(Type::S(32), [u64::from(u32::MAX), 2]) as i64, -2);
        assert_eq!(multiply_add(Half::High, Type::U(64), [1 << 63, 4, 1]), 3);
    }

    #[test]
    fn zeros_and_nan() {
        let of = |of, a, b| binary(of, Type::F32, PLAIN, [f(a), f(b)], 0).unwrap();
        assert_eq!(of(Binary::Min, 0.0, -0.0), f(-0.0));
        assert_eq!(of(Binary::Max, -0.0, 0.0), f(0.0));
        assert_eq!(of(Binary::Max, f32::NAN, 1.0), f(1.0));
        assert_eq!(of(Binary::Add, f32::INFINITY, -f32::INFINITY), 0x7FFF_FFFF);
        let nan = Precision { nan: true, ..PLAIN };
        assert_eq!(binary(Binary::Max, Type::F32, nan, [f(f32::NAN), f(1.0)], 0), Ok(0x7FFF_FFFF));
        assert!(!compare(Comparison::Ne, Type::F32, false, [f(f32::NAN), f(1.0)]));
        assert!(compare(Comparison::Neu, Type::F32, false, [f(f32::NAN), f(1.0)]));
        assert!(compare(Comparison::Eq, Type::F32, false, [f(-0.0), f(0.0)]));
    }

    #[test]
    fn conversions() {
        let of = |to, from, rounding, bits| {
            convert([to, from], rounding, !matches!((to, from), (Type::F32, _)), PLAIN, bits)
                .unwrap()
        };
        assert_eq!(of(Type::S(32), Type::F32, Rounding::Zero, f(-2.9)) as i32, -2);
        assert_eq!(of(Type::S(32), Type::F32, Rounding::Nearest, f(2.5)) as i32, 2);
        assert_eq!(of(Type::U(8), Type::F32, Rounding::Zero, f(300.0)), 255);
        assert_eq!(of(Type::U(32), Type::F32, Rounding::Zero, f(f32::NAN)), 0);
        assert_eq!(of(Type::F32, Type::S(32), Rounding::Nearest, -3_i64 as u64), f(-3.0));
        let half =
            convert([Type::F16, Type::F32], Rounding::Nearest, false, PLAIN, f(1.0 + 1.0 / 2048.0));
        assert_eq!(half, Ok(0x3C00));
    }

    #[test]
    fn fields() {
        assert_eq!(extract(Type::U(32), [0xABCD, 4, 8]), 0xBC);
        assert_eq!(extract(Type::S(32), [0xABCD, 4, 8]) as u32 as i32, 0xBC_u8 as i8 as i32);
        assert_eq!(insert(Type::B(32), [0xF, 0, 28, 8]), 0xF000_0000);
        assert_eq!(lookup([0b1100, 0b1010, 0b0110], 0x96) & 0xF, 0b1100 ^ 0b1010 ^ 0b0110);
        assert_eq!(permute([0x3322_1100, 0x7766_5544, 0x0123]), 0x0011_2233);
        assert_eq!(permute([0x0000_0080, 0, 0x8888]), 0xFFFF_FFFF);
    }
}
